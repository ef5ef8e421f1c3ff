//! What a thread that waits needs of the jobs that no thread has taken.

use crate::runtime::job::Job;
use crate::runtime::lane::{Half, Lane};
use smallvec::SmallVec;
use std::collections::HashSet;

/// The jobs without which a thread's wait cannot end: when no other thread can, it runs these itself, and no others.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Jobs that go on with these events, by stamp.
    pub(crate) events: HashSet<u64>,
    /// All jobs of these buses: the event that it waits for is in their order.
    pub(crate) buses: SmallVec<[Lane; 2]>,
    /// Jobs of these buses that hold a turn or a permit: the event that it waits for stands in line for that.
    pub(crate) holders: SmallVec<[Lane; 2]>,
    /// Jobs of all buses that hold a turn or a permit.
    pub(crate) all_holders: bool,
    /// The wait cannot end before these have run, so they are run on the last of the stack.
    pub(crate) last_resort: bool,
    /// The wait can end with the news that no thread can ever run them.
    pub(crate) can_fail: bool,
}

impl Needs {
    /// All jobs of this bus.
    pub(crate) fn bus(lane: Lane) -> Needs {
        Needs { buses: SmallVec::from_slice(&[lane]), ..Needs::default() }
    }

    /// `half`: the one in which the job stands.
    pub(super) fn wants(&self, job: &Job, half: Half) -> bool {
        let lane = job.lane();
        if self.buses.contains(&lane) {
            return true;
        }
        let Some(event) = job.event() else { return false };
        let is_holder = half == Half::Granted && (self.all_holders || self.holders.contains(&lane));
        is_holder || self.events.contains(&event.head().stamp())
    }
}
