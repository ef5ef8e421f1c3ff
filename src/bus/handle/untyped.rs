//! Events whose payload's type is not known at compile time: what came as JSON, and which types a bus can make of it.

use crate::bus::core::BusCore;
use crate::bus::handle::emits::reject;
use crate::bus::parts::content;
use crate::event::{AnyEvent, Body, EmitError, EventOptions, JsonError, KnownType, MakeEvent};
use crate::sys::unwind;
use std::sync::Arc;

impl BusCore {
    /// Lets in an event of a type that this bus knows. One that it has already is the answer, and does not run again, unless the two differ; one
    /// that it refuses comes back complete.
    pub(crate) fn emit_typed(
        self: &Arc<Self>,
        known: KnownType,
        mut options: EventOptions,
        make: MakeEvent,
    ) -> Result<AnyEvent, JsonError> {
        let slot = self.registry.slot_of_known(known, &self.defaults);
        options.label = options.label.or(make.label);
        let entered = self.emit_made(&slot, options, make.make);
        self.settle(entered)
    }

    /// Emits an event without a type of ours.
    pub(crate) fn emit_dynamic(
        self: &Arc<Self>,
        options: EventOptions,
        body: impl Body,
    ) -> Result<AnyEvent, JsonError> {
        let slot = self.registry.slot(&body, &self.defaults);
        let entered = self.emit_made(&slot, options, |birth| AnyEvent::new(birth, body));
        self.settle(entered)
    }

    fn settle(&self, entered: Result<AnyEvent, (AnyEvent, EmitError)>) -> Result<AnyEvent, JsonError> {
        let (refused, error) = match entered {
            Ok(event) => return Ok(event),
            Err(refused) => refused,
        };
        let known = match &error {
            EmitError::DuplicateId { id, .. } => self.inlet.lock().history.get(*id).cloned(),
            _ => None,
        };
        match known {
            Some(known) => {
                let difference = content::difference(&known, &refused);
                unwind::drop_quietly(refused);
                match difference {
                    Some(field) => Err(JsonError::OtherContent { id: known.head().id(), field }),
                    None => Ok(known),
                }
            }
            None => {
                self.tell_refused(&refused, &error);
                reject(&refused, error);
                Ok(refused)
            }
        }
    }
}
