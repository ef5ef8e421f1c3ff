//! A payload type as a value: what a bus keeps of the types it has met, so that JSON becomes typed.

use crate::event::envelope::{AnyEvent, Birth, Fresh};
use crate::event::options::label_of;
use crate::event::{EventOptions, Json, JsonError, Payload};
use crate::sys::{logging, unwind};
use std::any::TypeId;
use std::sync::Arc;

/// Puts an event together with its payload; and what that says which one it is.
pub(crate) struct MakeEvent {
    pub(crate) make: Box<dyn FnOnce(Birth) -> AnyEvent>,
    pub(crate) label: Option<Arc<str>>,
}

#[derive(Clone, Copy)]
pub(crate) struct KnownType {
    pub(crate) payload: TypeId,
    pub(crate) name: fn() -> &'static str,
    /// As the compiler calls it.
    pub(crate) rust_type: fn() -> &'static str,
    /// The same as the type says it, which may panic.
    said: fn() -> &'static str,
    pub(crate) version: fn() -> &'static str,
    pub(crate) options: fn() -> EventOptions,
    /// Runs the user's code.
    pub(crate) read: fn(&Json) -> Result<MakeEvent, JsonError>,
}

impl KnownType {
    pub(crate) fn of<P: Payload>() -> Self {
        KnownType {
            payload: TypeId::of::<P>(),
            name: name_of::<P>,
            rust_type: std::any::type_name::<P>,
            said: P::event_type,
            version: version_of::<P>,
            options: P::options,
            read: read::<P>,
        }
    }
}

/// What a type says that its events are called. If that panics, its own name: nothing that asks may panic for it.
#[inline]
pub(crate) fn name_of<P: Payload>() -> &'static str {
    unwind::catch(P::event_type).unwrap_or_else(|_| std::any::type_name::<P>())
}

/// The same of the version of its payloads.
pub(crate) fn version_of<P: Payload>() -> &'static str {
    unwind::catch(P::version).unwrap_or("0.0.1")
}

impl KnownType {
    /// Where a bus meets the type first: says so if its name cannot be had.
    pub(crate) fn check_name(&self) {
        if let Err(panic) = unwind::catch(self.said) {
            let name = (self.name)();
            logging::later!(Error, move || format!("the event_type of {name} panicked, so it is called that: {panic}"));
        }
    }
}

fn read<P: Payload>(json: &Json) -> Result<MakeEvent, JsonError> {
    let codec = P::codec().ok_or_else(|| JsonError::NoCodec { event_type: name_of::<P>().to_owned() })?;
    Ok(MakeEvent::of(codec.payload_from_json(json)?))
}

impl MakeEvent {
    pub(crate) fn of<P: Payload>(payload: P) -> Self {
        let label = described(&payload);
        MakeEvent { make: Box::new(move |birth| Fresh::new(birth, payload).any()), label }
    }
}

/// What the payload says which one it is. Types that say nothing cost nothing.
#[inline(always)]
pub(crate) fn described<P: Payload>(payload: &P) -> Option<Arc<str>> {
    match unwind::catch(|| payload.describe()) {
        Ok(None) => None,
        Ok(Some(text)) => label_of(&text),
        Err(panic) => {
            logging::later!(Error, move || format!("the describe of a {} panicked: {panic}", name_of::<P>()));
            None
        }
    }
}
