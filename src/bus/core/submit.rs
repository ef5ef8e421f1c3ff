//! What a bus has the pool do: its loop, and runners of parallel events. Each stands among the jobs by the
//! priority of the event that it is for.

use crate::bus::core::{BusCore, NOWHERE};
use crate::event::Priority;
use crate::runtime::{Lane, RuntimeCore};
use crate::sync::Token;
use crate::sys::sync::atomic::Ordering;
use smallvec::SmallVec;
use std::sync::Arc;

/// It stands for an event of normal priority, or of a higher one, or no emit needs to know.
pub(crate) const USUAL: u8 = Priority::NORMAL.0 + 1;

/// The loop stands for an event of that priority: emits of a higher one, but no higher than normal, see to its place among the jobs. Those above
/// normal do so in any case.
pub(crate) fn stands_for(priority: Priority) -> u8 {
    (priority.level() + 1).min(USUAL)
}

impl BusCore {
    pub(crate) fn submit_loop(self: &Arc<Self>) {
        let sorted = self.is_sorted.load(Ordering::Acquire) && self.is_pooled();
        let priority = if sorted { self.priority_of_next() } else { Priority::NORMAL };
        self.submit_loop_at(priority);
    }

    /// Somebody takes the queued events, of which the next has that priority.
    pub(crate) fn submit_loop_at(self: &Arc<Self>, priority: Priority) {
        self.runtime.pool.submit(self.loop_job(priority));
    }

    /// Of the event that the loop would start; emits know from here on that it stands for that.
    #[cold]
    fn priority_of_next(&self) -> Priority {
        let mut run = self.run.lock();
        let mut inlet = self.inlet.lock();
        self.fetch(&mut run);
        let priority = run.lanes.peek().map_or(Priority::NORMAL, |next| next.event.head().priority);
        if inlet.active != NOWHERE {
            inlet.active = stands_for(priority);
        }
        priority
    }

    /// Somebody takes events that need no turn.
    pub(crate) fn submit_free(self: &Arc<Self>) {
        self.submit_free_at(Priority::NORMAL);
    }

    /// Somebody takes events that need no turn, of which the next has that priority.
    pub(crate) fn submit_free_at(self: &Arc<Self>, priority: Priority) {
        self.runtime.pool.submit(self.free_job(priority));
    }

    /// The buses whose loops have been granted the runtime's event permit.
    pub(crate) fn loops_among(holders: &[Token], runtime: &RuntimeCore) -> SmallVec<[Lane; 2]> {
        let buses = BusCore::all_of(runtime);
        buses.iter().filter(|bus| holders.contains(&bus.loop_token())).map(|bus| bus.lane).collect()
    }
}
