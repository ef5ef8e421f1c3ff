//! A payload type as a value, and a payload as an event's body.

use crate::event::payload::version_of;
use crate::event::structure::{Birth, Body, Envelope, Head};
use crate::event::{
    AnyEvent, AnyOutput, EventOptions, HandlerFailure, Json, JsonError, KnownType, MakeEvent, Payload, described,
    name_of,
};
use crate::sys::{logging, unwind};
use std::any::{Any, TypeId};
use std::sync::Arc;

/// A payload as a [`Body`].
pub(crate) struct Typed<P>(pub(crate) P);

impl<P: Payload> Body for Typed<P> {
    fn event_type(&self) -> &str {
        name_of::<P>()
    }

    fn version(&self) -> &str {
        version_of::<P>()
    }

    fn payload_type(&self) -> Option<TypeId> {
        Some(TypeId::of::<P>())
    }

    fn known_type(&self) -> Option<KnownType> {
        Some(KnownType::of::<P>())
    }

    fn default_options(&self) -> EventOptions {
        P::options()
    }

    fn payload_json(&self) -> Result<Json, JsonError> {
        match P::codec() {
            Some(codec) => Ok(codec.payload_to_json(&self.0)?),
            None => Err(JsonError::NoCodec { event_type: name_of::<P>().to_owned() }),
        }
    }

    fn accept(&self, output: AnyOutput) -> Result<AnyOutput, HandlerFailure> {
        if output.downcast_ref::<P::Output>().is_some() {
            return Ok(output.known_as::<P>());
        }
        let wrong = |found: String| HandlerFailure::WrongType {
            expected: std::any::type_name::<P::Output>().to_owned(),
            found,
        };
        match (output.as_json(), P::codec()) {
            (Some(json), Some(codec)) => match codec.output_from_json(json) {
                Ok(value) => Ok(AnyOutput::of::<P>(value)),
                Err(error) => Err(wrong(format!("JSON that does not fit: {error}"))),
            },
            _ => Err(wrong(output.type_name().to_owned())),
        }
    }
}

impl AnyOutput {
    /// The output of an event of a known type: its codec, if there is one, gives the JSON.
    pub(crate) fn of<P: Payload>(output: P::Output) -> Self {
        Self::holding(output).known_as::<P>()
    }

    /// A value of such an event's output type, whatever made it.
    pub(crate) fn known_as<P: Payload>(self) -> Self {
        self.encoded_by(encode_output::<P>)
    }
}

fn encode_output<P: Payload>(output: &dyn Any) -> Result<Json, JsonError> {
    let no_codec = || JsonError::NoCodec { event_type: name_of::<P>().to_owned() };
    let codec = P::codec().ok_or_else(no_codec)?;
    let output = output.downcast_ref::<P::Output>().ok_or_else(no_codec)?;
    Ok(codec.output_to_json(output)?)
}

/// An event that only its emitter knows yet: an emitter that is refused gets the payload back.
pub(crate) struct Fresh<P: Payload>(pub(super) Arc<Envelope<Typed<P>>>);

impl<P: Payload> Fresh<P> {
    #[inline(always)]
    pub(crate) fn new(birth: Birth, payload: P) -> Self {
        Fresh(Arc::new(Envelope { head: Head::new(birth), body: Typed(payload) }))
    }

    pub(crate) fn any(&self) -> AnyEvent {
        AnyEvent(Arc::clone(&self.0) as Arc<Envelope<dyn Body>>)
    }

    pub(crate) fn head(&self) -> &Head {
        &self.0.head
    }

    /// The payload, unless the event is kept elsewhere.
    pub(crate) fn into_payload(self) -> Result<P, Self> {
        Arc::try_unwrap(self.0).map(|envelope| envelope.body.0).map_err(Fresh)
    }
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
