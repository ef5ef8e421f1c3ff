//! Whether one thread is enough for the parallel handlers of a type, by how long they took the last time.

use crate::event::{Pace, SlotEntry, TypeSlot};
use crate::sys::clock::Tick;
use crate::sys::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// So long may one thread that runs the parallel handlers of an event alone be at one of them.
pub(crate) const ALONE: Tick = 1_000_000;

/// Where handlers end as fast as this, on average, a second thread comes too late, and only holds up the first.
pub(crate) const QUICK: Tick = 500;

impl Pace {
    pub(crate) fn of(handlers: &[SlotEntry]) -> Self {
        let plain = |handler: &SlotEntry| !handler.limited && handler.timing.timeout >= 10 * ALONE;
        Pace { plain: handlers.iter().all(plain), quick: AtomicBool::new(false) }
    }
}

impl TypeSlot {
    /// One thread is enough for its parallel handlers, for now.
    pub(crate) fn is_quick(&self) -> bool {
        self.pace.quick.load(Relaxed)
    }

    /// All handlers of an event together took so long.
    pub(crate) fn took(&self, time: Tick) {
        let quick = self.pace.plain && time <= QUICK * self.handlers.len() as Tick;
        if quick != self.is_quick() {
            // No model has clocks: there one thread is never enough.
            self.pace.quick.store(quick && !cfg!(threadbus_shuttle), Relaxed);
        }
    }
}
