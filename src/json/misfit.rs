//! An event whose payload does not fit the type that its bus knows by that name: handlers and subscriptions that need no type take it.

use super::dynamic::Dynamic;
use crate::event::{AnyOutput, Body, EventOptions, HandlerFailure, Json, JsonError, KnownType};
use std::any::TypeId;

/// The body of such an event. It has the options of its type, and handlers that want a payload of that type fail with why there is none.
pub(crate) struct Misfit {
    dynamic: Dynamic,
    known: KnownType,
    reason: String,
}

impl Misfit {
    pub(crate) fn new(known: KnownType, event_type: String, error: &JsonError) -> Self {
        let reason = format!("JSON that does not fit: {error}");
        Misfit { dynamic: Dynamic::new(event_type), known, reason }
    }
}

impl Body for Misfit {
    fn event_type(&self) -> &str {
        self.dynamic.event_type()
    }

    fn version(&self) -> &str {
        self.dynamic.version()
    }

    fn payload_type(&self) -> Option<TypeId> {
        None
    }

    fn handled_as(&self) -> Option<TypeId> {
        Some(self.known.payload)
    }

    fn known_type(&self) -> Option<KnownType> {
        Some(self.known)
    }

    fn misfit(&self) -> Option<&str> {
        Some(&self.reason)
    }

    fn default_options(&self) -> EventOptions {
        (self.known.options)()
    }

    fn payload_json(&self) -> Result<Json, JsonError> {
        self.dynamic.payload_json()
    }

    fn accept(&self, output: AnyOutput) -> Result<AnyOutput, HandlerFailure> {
        self.dynamic.accept(output)
    }
}
