//! What a bus tells of at most once a minute, so that a bus that is overrun does not overrun the log as well.

use crate::bus::core::BusCore;
use crate::event::{AnyEvent, EmitError};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{clock, logging};
use std::sync::Arc;

impl BusCore {
    /// An event has fallen out of the full queue. With nothing locked, and nothing owed.
    pub(crate) fn tell_dropped(&self, event: &AnyEvent) {
        if event.head().is_from_logger() || !logging::takes(log::Level::Warn) {
            return;
        }
        let Some(before) = self.told_of_drops.lock().note(clock::now()) else { return };
        let (of, label) = (event.clone(), Arc::clone(&self.identity.label));
        let capacity = self.options.queue_capacity.unwrap_or(usize::MAX);
        logging::later!(Warn, of event; move || match before {
            0 => format!(
                "{of} was dropped from the full queue of {label} (queue_capacity {capacity}, OnFull::DropOldest); more are told once a minute"
            ),
            before => format!("{of} and {before} before it were dropped from the full queue of {label} (queue_capacity {capacity})"),
        });
    }

    /// An unfinished event has left the full history, and `before` others since that was told last. With nothing locked.
    #[cold]
    pub(crate) fn tell_evicted(&self, event: &AnyEvent, before: u64) {
        let (label, limit) = (self.label(), self.options.max_history.unwrap_or(usize::MAX));
        let why = format_args!(
            "unfinished (max_history {limit}, HistoryPolicy::DropOldest; HistoryPolicy::KeepUnfinished keeps such)"
        );
        match before {
            0 => {
                logging::warn!(of event; "{event} leaves the full history of {label} {why}; it still runs, and more are told once a minute")
            }
            before => {
                logging::warn!(of event; "{event} and {before} before it left the full history of {label} {why}; they still run")
            }
        }
    }

    /// An `emit` was refused, whose answer nobody may ever look at: told once for each reason.
    #[cold]
    pub(crate) fn tell_refused(&self, event: &AnyEvent, error: &EmitError) {
        let reason = match error {
            // That is told whenever it happens, with the middleware's own reason.
            EmitError::Refused { .. } => return,
            EmitError::QueueFull { .. } => 1,
            EmitError::RateLimited { .. } => 2,
            EmitError::HistoryFull { .. } => 4,
            EmitError::NoHandler { .. } => 8,
            EmitError::Closed { .. } => 16,
            EmitError::DuplicateId { .. } => 32,
            EmitError::Aborted => 64,
            EmitError::TooDeep { .. } => 128,
            EmitError::SubscriptionFull { .. } => 256,
            EmitError::NilId { .. } => 512,
            EmitError::Circle { .. } => 1024,
        };
        if event.head().is_from_logger() || !logging::takes(log::Level::Warn) {
            return;
        }
        if self.identity.refusals.fetch_or(reason, Ordering::Relaxed) & reason == 0 {
            let label = self.label();
            logging::warn!(of event; "{event} was refused: {error} (emit on {label}; told once for this reason, try_emit says so each time)");
        }
    }

    /// The bus ends: what would have been told in the next minute.
    pub(crate) fn tell_the_rest(&self) {
        let evicted = self.inlet.lock().history.rest();
        if evicted > 0 {
            let label = Arc::clone(&self.identity.label);
            logging::later!(Warn, move || format!("{evicted} more left the full history of {label} unfinished"));
        }
        let dropped = self.told_of_drops.lock().rest();
        if dropped > 0 {
            let label = Arc::clone(&self.identity.label);
            logging::later!(Warn, move || format!("{dropped} more were dropped from the full queue of {label}"));
        }
    }
}

/// What nobody can run any more went with the last handle of a bus.
pub(crate) fn tell_gone(label: &Arc<str>, count: usize) {
    if count > 0 {
        let label = Arc::clone(label);
        logging::later!(Warn, move || format!(
            "{count} unfinished events were dropped with the last handle of {label}"
        ));
    }
}
