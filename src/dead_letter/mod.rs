//! Failures that a bus keeps, to be looked at and tried again.
//!
//! The store is in `rules`. Imports `sys`, `rules` and `bus`. Hangs its verbs on [`EventBus`] from above.

use crate::bus::EventBus;
use crate::rules::DeadLetter;
use crate::sys::unwind;

/// How a redrive went.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedriveReport {
    /// Handlers that succeeded this time; their letters are gone.
    pub succeeded: usize,
    /// Handlers that failed once more, after all their attempts; their letters stay.
    pub failed: usize,
}

impl EventBus {
    /// The failures that are kept, oldest first: a list that does not change when the bus's does.
    ///
    /// Empty unless the bus was built with [`dead_letters`](crate::BusBuilder::dead_letters).
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.core().dead_letters.lock().list()
    }

    /// Forgets all failures that are kept; how many there were.
    ///
    /// One that is just being redriven is forgotten too, and kept anew if it fails again.
    pub fn clear_dead_letters(&self) -> usize {
        let gone = self.core().dead_letters.lock().clear();
        let count = gone.len();
        unwind::drop_each(gone);
        count
    }
}
