//! Middlewares that come with the crate; what one is: [`Middleware`].
//!
//! Built on the public surface alone, as yours would be.
//!
//! ```
//! use threadbus::{EventBus, middleware::LogEvents};
//!
//! let bus = EventBus::builder("shop").middleware(LogEvents::new()).build()?;
//! # Ok::<(), threadbus::BuildError>(())
//! ```

use crate::bus::age;
use crate::sys::logging;
use crate::{
    AnyEvent, AnyOutput, CauseKind, EventBus, EventStatus, HandlerFailure, HandlerInfo, HandlerResult, Middleware,
    ResultStatus,
};
use log::Level;
use std::time::Duration;

/// Writes what happens on a bus to the log, target `threadbus::events`.
///
/// | what | level |
/// | --- | --- |
/// | a handler failed, panicked or timed out; was given up or never started because of a timeout | warn |
/// | an event came, started, is complete; a handler started, succeeded, was cancelled, lost to a first value, was shut down | debug |
/// | a handler was registered, or its registration ended | debug |
/// | a handler is about to start | trace |
///
/// So what is normal is not to be seen unless asked for (`RUST_LOG=threadbus::events=debug`), and what should worry somebody is. Every line
/// names the bus, the event (`Type#last4`) and the handler (`name#last4`), never the payload or a value. Refusals are not seen here: the bus
/// itself warns when a middleware refused an event, target `threadbus`; of other refusals the emitter hears. Nor are events that a
/// logger emitted when this crate called it, and what came of them: each line would make the next one.
///
/// ```text
/// DEBUG threadbus::events: Order#3f2a on shop#90c1: started
/// DEBUG threadbus::events: Order#3f2a on shop#90c1: accept#77d0 started
/// WARN  threadbus::events: Order#3f2a on shop#90c1: accept#77d0 failed after 1.2ms: no stock
/// DEBUG threadbus::events: Order#3f2a on shop#90c1: completed after 1.3ms, 1 of 1 handlers failed
/// ```
#[derive(Clone, Debug, Default)]
pub struct LogEvents {
    _room: (),
}

/// Where to.
const TARGET: &str = "threadbus::events";

impl LogEvents {
    /// With the levels above.
    pub fn new() -> Self {
        LogEvents::default()
    }
}

impl Middleware for LogEvents {
    fn on_event_change(&self, bus: &EventBus, event: &AnyEvent, status: EventStatus) {
        if !logging::is_enabled(Level::Debug, TARGET) {
            return;
        }
        let bus = bus.label();
        match status {
            EventStatus::Pending => logging::debug!(target: TARGET, "{event} on {bus}: emitted"),
            EventStatus::Started => logging::debug!(target: TARGET, "{event} on {bus}: started"),
            EventStatus::Completed => {
                let took = after(age(event));
                let results = event.results();
                let failed = results.iter().filter(|result| result.status == ResultStatus::Error).count();
                match (results.len(), failed) {
                    (0, _) => logging::debug!(target: TARGET, "{event} on {bus}: completed{took}, without a handler"),
                    (_, 0) => logging::debug!(target: TARGET, "{event} on {bus}: completed{took}"),
                    (all, failed) => {
                        logging::debug!(target: TARGET, "{event} on {bus}: completed{took}, {failed} of {all} handlers failed");
                    }
                }
            }
        }
    }

    fn on_result_change(&self, bus: &EventBus, event: &AnyEvent, result: &HandlerResult<AnyOutput>) {
        let level = level_of(result);
        if !logging::is_enabled(level, TARGET) {
            return;
        }
        let (bus, handler) = (bus.label(), result.handler.label());
        let took = result.started_at.zip(result.completed_at).and_then(|(from, to)| (to - from).to_std().ok());
        let took = took.map_or_else(String::new, after);
        let attempts = if result.attempts > 1 { format!(" at attempt {}", result.attempts) } else { String::new() };
        match (result.status, &result.error) {
            (ResultStatus::Pending, _) => logging::say!(level, target: TARGET, "{event} on {bus}: {handler} is to run"),
            (ResultStatus::Started, _) => logging::say!(level, target: TARGET, "{event} on {bus}: {handler} started"),
            (_, Some(error)) => {
                logging::say!(level, target: TARGET, "{event} on {bus}: {handler} failed{took}{attempts}: {error}");
            }
            (_, None) => logging::say!(level, target: TARGET, "{event} on {bus}: {handler} succeeded{took}{attempts}"),
        }
    }

    fn on_handlers_change(&self, bus: &EventBus, handler: &HandlerInfo, registered: bool) {
        let change = if registered { "registered" } else { "not registered any more" };
        logging::debug!(target: TARGET, "{} for {} on {}: {change}", handler.label(), handler.pattern(), bus.label());
    }
}

fn level_of(result: &HandlerResult<AnyOutput>) -> Level {
    match (result.status, result.error.as_deref()) {
        (ResultStatus::Pending, _) => Level::Trace,
        (_, Some(HandlerFailure::Cancelled { cause } | HandlerFailure::Aborted { cause })) => match cause.kind {
            CauseKind::Cancelled
            | CauseKind::LostFirst
            | CauseKind::Off
            | CauseKind::Shutdown
            | CauseKind::Prerequisite => Level::Debug,
            CauseKind::HandlerTimeout | CauseKind::EventTimeout | CauseKind::Dropped => Level::Warn,
        },
        (_, Some(_)) => Level::Warn,
        (_, None) => Level::Debug,
    }
}

fn after(took: Duration) -> String {
    format!(" after {took:.1?}")
}
