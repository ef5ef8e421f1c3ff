//! An emitter that stands still for long, outside of handlers: told in the log, as a slow handler is.

use crate::bus::core::BusCore;
use crate::event::AnyEvent;
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::logging;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What an emitter waits for.
pub(crate) enum Obstacle {
    /// A full queue, with its capacity.
    Queue(usize),
    /// A token of the bus's rate.
    Rate,
    /// The reader of a full subscription, with its capacity.
    Reader(Option<usize>),
}

/// One emitter's stand before a bus.
pub(crate) struct Stand {
    since: Tick,
    /// When it is worth a warning; [`NEVER`] once that was told.
    pub(crate) slow: Tick,
}

impl Stand {
    pub(crate) fn begin(bus: &BusCore) -> Stand {
        let since = clock::now();
        Stand { since, slow: bus.options.handler_slow_after.map_or(NEVER, |after| clock::after(since, after)) }
    }

    /// Told once. With nothing locked.
    pub(crate) fn tell_if_slow(&mut self, bus: &BusCore, event: &AnyEvent, obstacle: impl FnOnce() -> Obstacle) {
        let now = clock::now();
        if now < self.slow {
            return;
        }
        self.slow = NEVER;
        let (age, obstacle) = (Duration::from_nanos(now.saturating_sub(self.since)), obstacle());
        // Without its id, which may still become another one.
        let (of, label) = (event.without_id().to_string(), Arc::clone(&bus.identity.label));
        logging::later!(Warn, of event; move || {
            format!("slow emit: {of} has been waiting for {age:.1?}, before {obstacle} of {label}")
        });
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Queue(capacity) => write!(f, "the full queue (queue_capacity {capacity})"),
            Obstacle::Rate => f.write_str("the rate (max_emit_rate)"),
            Obstacle::Reader(Some(capacity)) => {
                write!(f, "an unread subscription (capacity {capacity}, OnLag::Block)")
            }
            // Read meanwhile.
            Obstacle::Reader(None) => f.write_str("an unread subscription (OnLag::Block)"),
        }
    }
}
