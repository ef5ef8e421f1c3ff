//! Jobs that no thread has taken yet. Buses take turns.
//!
//! Each bus has a *lane*. A lane that gets its first job after having been empty goes before those that have had a turn, so an idle bus does
//! not wait behind a flood on another one. After its turn it goes to the back, and stays there until it is found empty: a bus that empties
//! and fills its lane again and again gets no more than its share.

use crate::event::AnyEvent;
use crate::runtime::drive::{Drive, Pumped, Work};
use crate::runtime::worker::Worker;
use smallvec::SmallVec;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Whose turn a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane(usize);

impl Lane {
    /// Of what belongs to no bus.
    pub(crate) const SHARED: Lane = Lane(0);
}

pub(crate) enum Job {
    /// The loop of a bus.
    Loop(Arc<dyn Drive>),
    Work(Errand),
    /// Not for a thread of the pool: the bus's pump thread runs it.
    Pumped(Arc<dyn Drive>, Pumped),
}

pub(crate) struct Errand {
    lane: Lane,
    /// What it goes on with. A thread that waits for this event may run it when no other thread can.
    of: Option<AnyEvent>,
    work: Box<Work>,
}

impl Job {
    pub(crate) fn new(lane: Lane, work: impl FnOnce(&Arc<Worker>) + Send + 'static) -> Job {
        Job::Work(Errand { lane, of: None, work: Box::new(work) })
    }

    /// One that goes on with an event.
    pub(crate) fn of(event: &AnyEvent, lane: Lane, work: Box<Work>) -> Job {
        Job::Work(Errand { lane, of: Some(event.clone()), work })
    }

    pub(crate) fn run(self, worker: &Arc<Worker>) {
        match self {
            Job::Loop(bus) => bus.drive(worker),
            Job::Work(errand) => (errand.work)(worker),
            Job::Pumped(bus, work) => bus.keep(work),
        }
    }

    fn lane(&self) -> Lane {
        match self {
            Job::Loop(bus) | Job::Pumped(bus, _) => bus.lane(),
            Job::Work(errand) => errand.lane,
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
    /// The wait can end with the news that no thread can ever run them.
    pub(crate) can_fail: bool,
}

impl Needs {
    /// What is done in the order of this bus.
    pub(crate) fn bus(lane: Lane) -> Needs {
        Needs { buses: SmallVec::from_slice(&[lane]), ..Needs::default() }
    }

    fn wants(&self, job: &Job, granted: bool) -> bool {
        let lane = job.lane();
        if self.buses.contains(&lane) {
            return true;
        }
        let Job::Work(Errand { of: Some(event), .. }) = job else { return false };
        self.events.contains(&event.head().stamp) || granted && (self.all_holders || self.holders.contains(&lane))
    }
}

#[derive(Default)]
struct Waiting {
    /// Loops, and jobs whose turn or permit has come.
    granted: VecDeque<Job>,
    others: VecDeque<Job>,
    /// The last one taken was granted: if both have some, the next one is not.
    others_are_next: bool,
    stands: Stands,
    /// Its bus is gone.
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stands {
    #[default]
    Nowhere,
    /// Among those that come before whoever has had a turn.
    New,
    /// Among those that take turns.
    InTurn,
}

impl Waiting {
    fn take(&mut self) -> Option<Job> {
        let job = match self.others_are_next {
            true => self.others.pop_front().or_else(|| self.granted.pop_front()),
            false => self.granted.pop_front().or_else(|| self.others.pop_front()),
        };
        self.others_are_next = !self.others_are_next;
        job
    }
}

pub(crate) struct Jobs {
    lanes: Vec<Waiting>,
    /// Lanes of buses that are gone.
    unused: Vec<usize>,
    new: VecDeque<usize>,
    in_turn: VecDeque<usize>,
    count: usize,
    /// How many new lanes have gone before the others, since one of these was served.
    ahead: usize,
}

impl Default for Jobs {
    fn default() -> Self {
        Jobs {
            lanes: vec![Waiting::default()],
            unused: Vec::new(),
            new: VecDeque::new(),
            in_turn: VecDeque::new(),
            count: 0,
            ahead: 0,
        }
    }
}

impl Jobs {
    /// So many new lanes go before the others at most: a crowd of buses with one event each does not keep the others from their turns.
    const AHEAD: usize = 8;

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn open(&mut self) -> Lane {
        let at = self.unused.pop().unwrap_or_else(|| {
            self.lanes.push(Waiting::default());
            self.lanes.len() - 1
        });
        self.lanes[at].closed = false;
        Lane(at)
    }

    /// Its bus is gone. What is left in the lane is still run.
    pub(crate) fn close(&mut self, Lane(at): Lane) {
        let lane = &mut self.lanes[at];
        lane.closed = true;
        if lane.stands == Stands::Nowhere {
            self.unused.push(at);
        }
    }

    /// `granted`: it holds what others wait for.
    pub(crate) fn push(&mut self, job: Job, granted: bool) {
        let Lane(at) = job.lane();
        let lane = &mut self.lanes[at];
        if granted {
            lane.granted.push_back(job);
        } else {
            lane.others.push_back(job);
        }
        self.count += 1;
        if lane.stands == Stands::Nowhere {
            lane.stands = Stands::New;
            self.new.push_back(at);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Job> {
        while self.count > 0 {
            let others_first = self.ahead >= Self::AHEAD && !self.in_turn.is_empty();
            let at = if !others_first && let Some(at) = self.new.pop_front() {
                self.ahead += 1;
                at
            } else {
                self.ahead = 0;
                self.in_turn.pop_front()?
            };
            let lane = &mut self.lanes[at];
            if let Some(job) = lane.take() {
                lane.stands = Stands::InTurn;
                self.in_turn.push_back(at);
                self.count -= 1;
                return Some(job);
            }
            lane.stands = Stands::Nowhere;
            if lane.closed {
                self.unused.push(at);
            }
        }
        None
    }

    pub(crate) fn has(&self, needs: &Needs) -> bool {
        self.position(needs).is_some()
    }

    /// The first job that is needed, wherever it stands.
    pub(crate) fn take(&mut self, needs: &Needs) -> Option<Job> {
        let (lane, granted, at) = self.position(needs)?;
        self.count -= 1;
        let lane = &mut self.lanes[lane];
        if granted { lane.granted.remove(at) } else { lane.others.remove(at) }
    }

    fn position(&self, needs: &Needs) -> Option<(usize, bool, usize)> {
        self.lanes.iter().enumerate().find_map(|(lane, waiting)| {
            let find = |jobs: &VecDeque<Job>, granted| jobs.iter().position(|job| needs.wants(job, granted));
            let granted = find(&waiting.granted, true).map(|at| (lane, true, at));
            granted.or_else(|| find(&waiting.others, false).map(|at| (lane, false, at)))
        })
    }
}
