//! What a thread of the pool does next: the loop of a bus, or some other work of one; and what a thread that waits needs of that.

use crate::event::{AnyEvent, Priority};
use crate::runtime::lane::Lane;
use crate::runtime::work::{Claimed, GoOn, Pumped};
use crate::runtime::worker::{Bus, Worker};
use smallvec::SmallVec;
use std::collections::HashSet;
use std::sync::Arc;

/// What a job does once it has a thread.
type Work = dyn FnOnce(&Arc<Worker>) + Send;

pub(crate) enum Job {
    /// The loop of a bus, and the priority of its next event.
    Loop(Arc<dyn Bus>, Priority),
    /// A delivery of a bus goes on.
    Delivery(Arc<dyn Bus>, Claimed),
    Work(Errand),
    /// Not for a thread of the pool: the bus's pump thread runs it.
    Pumped(Arc<dyn Bus>, Pumped),
}

pub(crate) struct Errand {
    lane: Lane,
    priority: Priority,
    /// What it goes on with. A thread that waits for this event may run it when no other thread can.
    of: Option<AnyEvent>,
    work: Box<Work>,
}

impl Job {
    pub(crate) fn new(lane: Lane, work: impl FnOnce(&Arc<Worker>) + Send + 'static) -> Job {
        Job::at(Priority::NORMAL, lane, work)
    }

    pub(crate) fn at(priority: Priority, lane: Lane, work: impl FnOnce(&Arc<Worker>) + Send + 'static) -> Job {
        Job::Work(Errand { lane, priority, of: None, work: Box::new(work) })
    }

    /// One that goes on with an event.
    pub(crate) fn of(event: &AnyEvent, lane: Lane, work: Box<Work>) -> Job {
        Job::Work(Errand { lane, priority: event.head().priority, of: Some(event.clone()), work })
    }

    /// One that drives a delivery.
    pub(crate) fn drives(bus: Arc<dyn Bus>, event: &AnyEvent, delivery: usize, how: GoOn) -> Job {
        Job::Delivery(bus, Claimed { event: event.clone(), delivery, how })
    }

    pub(crate) fn run(self, worker: &Arc<Worker>) {
        match self {
            Job::Loop(bus, _) => bus.run_loop_on(worker),
            Job::Delivery(bus, claimed) => bus.resume_on(worker, claimed),
            Job::Work(errand) => (errand.work)(worker),
            Job::Pumped(bus, work) => bus.keep(work),
        }
    }

    /// What it drives.
    pub(super) fn delivery(&self) -> Option<(AnyEvent, usize)> {
        match self {
            Job::Delivery(_, claimed) => Some((claimed.event.clone(), claimed.delivery)),
            _ => None,
        }
    }

    pub(super) fn lane(&self) -> Lane {
        match self {
            Job::Loop(bus, _) | Job::Delivery(bus, _) | Job::Pumped(bus, _) => bus.lane(),
            Job::Work(errand) => errand.lane,
        }
    }

    pub(super) fn priority(&self) -> Priority {
        match self {
            Job::Loop(_, priority) => *priority,
            Job::Delivery(_, claimed) => claimed.event.head().priority,
            Job::Work(errand) => errand.priority,
            Job::Pumped(..) => Priority::NORMAL,
        }
    }
}

/// What a thread waits for, in terms of jobs: when no other thread can, it runs these itself, and no others.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Jobs that go on with these events, by stamp.
    pub(crate) events: HashSet<u64>,
    /// All jobs of these buses: what it waits for is in their order.
    pub(crate) buses: SmallVec<[Lane; 2]>,
    /// Jobs of these buses that hold a turn or a permit: what it waits for stands in line for that.
    pub(crate) holders: SmallVec<[Lane; 2]>,
    /// Such jobs of all buses.
    pub(crate) all_holders: bool,
    /// It cannot end before these have run, so they are run on the last of the stack.
    pub(crate) last_resort: bool,
    /// The wait can end with the news that no thread can ever run them.
    pub(crate) can_fail: bool,
}

impl Needs {
    /// What is done in the order of this bus.
    pub(crate) fn bus(lane: Lane) -> Needs {
        Needs { buses: SmallVec::from_slice(&[lane]), ..Needs::default() }
    }

    pub(super) fn wants(&self, job: &Job, granted: bool) -> bool {
        let lane = job.lane();
        if self.buses.contains(&lane) {
            return true;
        }
        let (Job::Work(Errand { of: Some(event), .. }) | Job::Delivery(_, Claimed { event, .. })) = job else {
            return false;
        };
        self.events.contains(&event.head().stamp()) || granted && (self.all_holders || self.holders.contains(&lane))
    }
}
