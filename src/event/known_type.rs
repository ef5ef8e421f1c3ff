//! A payload type as a value: what a bus keeps of the types it has met, so that JSON becomes typed.

use crate::event::envelope::{AnyEvent, Birth, Fresh};
use crate::event::{EventOptions, Json, JsonError, Payload};
use std::any::TypeId;

/// Puts an event together with its payload.
pub(crate) type MakeEvent = Box<dyn FnOnce(Birth) -> AnyEvent>;

#[derive(Clone, Copy)]
pub(crate) struct KnownType {
    pub(crate) payload: TypeId,
    pub(crate) name: fn() -> &'static str,
    pub(crate) options: fn() -> EventOptions,
    /// Runs the user's code.
    pub(crate) read: fn(&Json) -> Result<MakeEvent, JsonError>,
}

impl KnownType {
    pub(crate) fn of<P: Payload>() -> Self {
        KnownType { payload: TypeId::of::<P>(), name: P::event_type, options: P::options, read: read::<P> }
    }
}

fn read<P: Payload>(json: &Json) -> Result<MakeEvent, JsonError> {
    let codec = P::codec().ok_or_else(|| JsonError::NoCodec { event_type: P::event_type().to_owned() })?;
    let payload = codec.payload_from_json(json)?;
    Ok(Box::new(move |birth| Fresh::new(birth, payload).any()))
}
