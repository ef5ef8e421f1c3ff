//! All that changes on an event, at one moment: for those who write it down as a whole.

use crate::bus::core::BusCore;
use crate::bus::parts::outcomes::{results_in, time};
use crate::bus::read::event;
use crate::event::{
    AnyEvent, AnyOutput, BusIdentity, DeliveryPhase, EventOptions, EventStatus, HandlerCompletion, HandlerResult,
    JsonLimits,
};
use crate::sys::unwind;
use chrono::{DateTime, Utc};
use std::sync::Arc;

pub(crate) struct Look {
    pub(crate) status: EventStatus,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) completed_at: Option<DateTime<Utc>>,
    pub(crate) path: Vec<String>,
    /// On how many buses it is not done.
    pub(crate) pending: usize,
    /// Each with the bus it ran on.
    pub(crate) results: Vec<(Arc<BusIdentity>, HandlerResult<AnyOutput>)>,
    /// Its own over its type's.
    pub(crate) options: EventOptions,
}

impl Look {
    pub(crate) fn at(event: &AnyEvent) -> Look {
        let mut options = options_of(event);
        let state = event.state().lock();
        if state.wants_first {
            options.completion = Some(HandlerCompletion::First);
        }
        Look {
            status: event::status_in(&state),
            started_at: time(event, state.started),
            completed_at: time(event, state.completed),
            path: event::path(event, &state),
            pending: state.deliveries.iter().filter(|d| d.phase != DeliveryPhase::Done).count(),
            results: results_in(event, &state, |bus, result| (Arc::clone(bus), result)),
            options,
        }
    }
}

/// What JSON the bus takes that took the event first; if that is gone, what any does.
pub(crate) fn json_limits(event: &AnyEvent) -> JsonLimits {
    first_bus(event).map_or_else(JsonLimits::new, |bus| bus.options.json_limits)
}

fn first_bus(event: &AnyEvent) -> Option<Arc<BusCore>> {
    let first = event.state().lock().deliveries.first().map(|d| Arc::clone(&d.bus));
    first.as_deref().and_then(BusCore::of)
}

fn options_of(event: &AnyEvent) -> EventOptions {
    let of_type = type_options(event);
    let none = EventOptions::new();
    let own = event.head().options().unwrap_or(&none);
    EventOptions {
        timeout: own.timeout.or(of_type.timeout),
        handler_timeout: own.handler_timeout.or(of_type.handler_timeout),
        slow_after: own.slow_after.or(of_type.slow_after),
        handler_slow_after: own.handler_slow_after.or(of_type.handler_slow_after),
        concurrency: own.concurrency.or(of_type.concurrency),
        handler_concurrency: own.handler_concurrency.or(of_type.handler_concurrency),
        completion: own.completion.or(of_type.completion),
        ..none
    }
}

/// As the bus asked for them that took the event first.
fn type_options(event: &AnyEvent) -> Arc<EventOptions> {
    match first_bus(event) {
        Some(bus) => Arc::clone(&bus.registry.slot(event.body(), &bus.defaults).options),
        None => Arc::new(unwind::catch(|| event.body().default_options()).unwrap_or_default()),
    }
}

/// Whether a bus has it in its queue.
pub(crate) fn is_queued(event: &AnyEvent, bus: &BusCore) -> bool {
    let queued = |d: &crate::event::Delivery| d.bus.id == bus.identity.id && d.phase == DeliveryPhase::Queued;
    event.state().lock().deliveries.iter().any(queued)
}
