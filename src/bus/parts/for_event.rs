//! What holds for one event on a bus: its own options over its type's, those of a handler, and the bus's.

use crate::event::{AnyEvent, EventOptions, HandlerMode, Plan, Retry, Timing, TypeSlot};
use crate::rules::{self, BusDefaults};

/// An event's options on this bus: its own over its type's.
pub(crate) fn plan_for(event: &AnyEvent, slot: &TypeSlot, defaults: &BusDefaults) -> Plan {
    match event.head().options() {
        None => slot.plan,
        own => {
            let modes = (0..slot.handlers.len()).map(|at| mode_for(own, slot, at, defaults));
            rules::plan(own, &slot.options, defaults).with_handlers(modes)
        }
    }
}

/// The mode of one of its handlers, by the same rule.
pub(crate) fn mode_for(own: Option<&EventOptions>, slot: &TypeSlot, at: usize, defaults: &BusDefaults) -> HandlerMode {
    let handler = &slot.handlers[at];
    match own {
        Some(_) => rules::handler_mode(own, &slot.options, &handler.entry.options, defaults),
        None => handler.mode,
    }
}

/// How one of its handlers is tried again.
pub(crate) fn retry_for<'a>(
    event: &'a AnyEvent,
    slot: &'a TypeSlot,
    at: usize,
    defaults: &'a BusDefaults,
) -> Option<&'a Retry> {
    let own = event.head().options().and_then(|own| own.retry.as_ref());
    let handler = slot.handlers.get(at).and_then(|handler| handler.entry.options.retry.as_ref());
    own.or(slot.options.retry.as_ref()).or(handler).or(defaults.retry.as_ref())
}

/// How long one of its handlers may take.
#[inline]
pub(crate) fn timing_for(own: Option<&EventOptions>, slot: &TypeSlot, at: usize, defaults: &BusDefaults) -> Timing {
    let handler = &slot.handlers[at];
    match own {
        Some(_) => rules::timing(own, &slot.options, &handler.entry.options, defaults),
        None => handler.timing,
    }
}
