//! Who brings the events of a bus to the lines of their limits: one worker at a time, or a job that has yet to come to one.

use crate::event::Priority;
use crate::sys::sync::atomic::{AtomicU16, AtomicU64, Ordering};

/// No worker has it.
const NOBODY: u64 = 0;
const ON_ITS_WAY: u64 = u64::MAX;

/// Written with the bus's `inlet` locked.
#[derive(Default)]
pub(crate) struct Usher {
    /// A worker's id; read by that worker.
    who: AtomicU64,
    /// The priorities of the jobs that have been submitted and have no thread yet, a bit each.
    jobs: AtomicU16,
}

impl Usher {
    /// An event of that priority has been sent. True if the caller submits a job.
    pub(crate) fn is_called(&self, priority: Priority) -> bool {
        let who = self.who.load(Ordering::Relaxed);
        (who == NOBODY || who == ON_ITS_WAY) && self.sets_out(priority)
    }

    /// A job is the next usher. True if the caller submits it: there is none, or only one of a lower priority.
    pub(crate) fn sets_out(&self, priority: Priority) -> bool {
        self.who.store(ON_ITS_WAY, Ordering::Relaxed);
        let (jobs, own) = (self.jobs.load(Ordering::Relaxed), 1 << priority.level());
        self.jobs.store(jobs | own, Ordering::Relaxed);
        jobs < own
    }

    /// A job of that priority has come to that worker. False if it is not needed: another one was first.
    pub(crate) fn has_come(&self, worker: u64, priority: Priority) -> bool {
        let jobs = self.jobs.load(Ordering::Relaxed);
        self.jobs.store(jobs & !(1 << priority.level()), Ordering::Relaxed);
        self.goes_on(worker)
    }

    /// That worker is the usher, if none is yet where one is needed.
    pub(crate) fn goes_on(&self, worker: u64) -> bool {
        let on_its_way = self.who.load(Ordering::Relaxed) == ON_ITS_WAY;
        if on_its_way {
            self.who.store(worker, Ordering::Relaxed);
        }
        on_its_way
    }

    #[inline]
    pub(crate) fn is(&self, worker: u64) -> bool {
        self.who.load(Ordering::Relaxed) == worker
    }

    pub(crate) fn is_gone(&self) {
        self.who.store(NOBODY, Ordering::Relaxed);
    }
}
