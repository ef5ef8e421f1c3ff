//! Events whose payload's type is not known at compile time: what came as JSON, and which types a bus can make of it.

use crate::bus::core::BusCore;
use crate::bus::handle::reject;
use crate::event::{AnyEvent, Body, EmitError, EventOptions, Kind, MakeEvent, Payload};
use crate::sys::unwind;
use std::sync::Arc;

impl BusCore {
    /// The type's own options, on its first appearance here: from now on the bus knows the type.
    pub(crate) fn meet<P: Payload>(&self) -> EventOptions {
        self.registry.know(Kind::of::<P>());
        P::options()
    }

    /// Lets in an event of a type that this bus knows. One that it has already is the answer, and does not run again; one that it
    /// refuses comes back complete.
    pub(crate) fn emit_typed(self: &Arc<Self>, kind: Kind, options: EventOptions, make: MakeEvent) -> AnyEvent {
        let name = (kind.name)();
        let slot = self.registry.slot_of_type(kind.payload, name, kind.options, &self.defaults);
        let entered = self.emit_made(&slot, options, make);
        self.settle(entered)
    }

    /// The same for an event without a type of ours.
    pub(crate) fn emit_dynamic(self: &Arc<Self>, options: EventOptions, body: impl Body) -> AnyEvent {
        let slot = self.registry.slot(&body, &self.defaults);
        let entered = self.emit_made(&slot, options, |head| AnyEvent::new(head, body));
        self.settle(entered)
    }

    fn settle(&self, entered: Result<AnyEvent, (AnyEvent, EmitError)>) -> AnyEvent {
        let (refused, error) = match entered {
            Ok(event) => return event,
            Err(refused) => refused,
        };
        let known = match &error {
            EmitError::DuplicateId { id, .. } => self.inlet.lock().history.get(*id).cloned(),
            _ => None,
        };
        match known {
            Some(known) => {
                unwind::drop_quietly(refused);
                known
            }
            None => {
                reject(&refused, error);
                refused
            }
        }
    }
}
