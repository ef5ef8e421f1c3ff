//! Asking middlewares about an event before it comes, and telling those that agreed if it does not come after all.

use crate::bus::core::EventBus;
use crate::bus::core::{BusCore, Doors};
use crate::bus::middleware::tell::{call, is_inside_of};
use crate::bus::thread::frame::Emitter;
use crate::event::{AnyEvent, EmitError};
use crate::sys::logging;
use std::sync::Arc;

/// Whether all middlewares let the event pass; nothing is locked.
pub(crate) fn ask(bus: &Arc<BusCore>, event: &AnyEvent, emitter: Option<&Emitter>) -> Result<(), EmitError> {
    if bus.is_watched() { ask_all(bus, event, emitter) } else { Ok(()) }
}

#[cold]
fn ask_all(bus: &Arc<BusCore>, event: &AnyEvent, emitter: Option<&Emitter>) -> Result<(), EmitError> {
    if bus.inlet.lock().doors == Doors::Closed {
        return Err(EmitError::Closed { bus: bus.label().to_owned() });
    }
    if emitter.is_some_and(|by| !by.is_live(&by.event.state().lock())) {
        return Err(EmitError::Aborted);
    }
    // Before anybody sees it.
    event.state().lock().begin_journal(&bus.identity);
    let handle = EventBus::from_core(Arc::clone(bus));
    for (at, middleware) in bus.middlewares.0.iter().enumerate() {
        // What a middleware emits in its own call it need not be asked about, and must not, without end.
        if is_inside_of(bus, at) {
            continue;
        }
        // The error's text is the user's code as well.
        let asked = call(bus, at, Some(event), "on_emit", || {
            middleware.asked(&handle, event).map_err(|error| error.to_string())
        });
        let reason = match asked {
            Ok(Ok(())) => continue,
            Ok(Err(reason)) => reason,
            // Nobody knows what it would have said: a policy that fails lets nothing pass.
            Err(panic) => format!("it panicked: {panic}"),
        };
        logging::warn!(of event; "{event} was refused by a middleware of {}: {reason}", bus.label());
        let error = EmitError::Refused { bus: bus.label().to_owned(), reason };
        tell_refused_up_to(bus, event, &error, at);
        return Err(error);
    }
    Ok(())
}

/// An event that all middlewares let pass does not come; nothing is locked.
#[cold]
pub(crate) fn tell_refused(bus: &Arc<BusCore>, event: &AnyEvent, error: &EmitError) {
    tell_refused_up_to(bus, event, error, usize::MAX);
}

/// Those before `end` have been asked, and said yes.
fn tell_refused_up_to(bus: &Arc<BusCore>, event: &AnyEvent, error: &EmitError, end: usize) {
    if !bus.is_watched() {
        return;
    }
    let handle = EventBus::from_core(Arc::clone(bus));
    for (at, middleware) in bus.middlewares.0.iter().enumerate().take(end) {
        if !is_inside_of(bus, at) {
            // Its panic is told, and changes nothing.
            let _ = call(bus, at, Some(event), "on_refused", || middleware.refused(&handle, event, error));
        }
    }
}
