//! What a thread of the pool does next: the loop of a bus, a delivery of one, or some other work.

use crate::event::{AnyEvent, Priority};
use crate::runtime::lane::Lane;
use crate::runtime::work::{Claimed, GoOn, Pumped};
use crate::runtime::worker::{Bus, Worker};
use std::sync::Arc;

/// What a job does once it has a thread.
type Work = dyn FnOnce(&Arc<Worker>) + Send;

pub(crate) enum Job {
    /// The loop of a bus, and the priority of its next event.
    Loop(Arc<dyn Bus>, Priority),
    /// A claimed delivery of a bus.
    Delivery(Arc<dyn Bus>, Claimed),
    Work(Errand),
    /// Not for a thread of the pool: the bus's pump thread runs it.
    Pumped(Arc<dyn Bus>, Pumped),
}

/// A closure for a thread of the pool.
pub(crate) struct Errand {
    lane: Lane,
    priority: Priority,
    /// The event with which it goes on. A thread that waits for this event may run it when no other thread can.
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

    /// A closure that goes on with an event.
    pub(crate) fn of(event: &AnyEvent, lane: Lane, work: Box<Work>) -> Job {
        Job::Work(Errand { lane, priority: event.head().priority, of: Some(event.clone()), work })
    }

    /// A job that drives a claimed delivery on.
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

    /// The event with which it goes on, if it goes on with one.
    pub(super) fn event(&self) -> Option<&AnyEvent> {
        match self {
            Job::Delivery(_, claimed) => Some(&claimed.event),
            Job::Work(errand) => errand.of.as_ref(),
            Job::Loop(..) | Job::Pumped(..) => None,
        }
    }

    /// The delivery that it drives on, if it does.
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
