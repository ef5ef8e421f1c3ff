//! An event of a type that its bus does not know.

use crate::event::{AnyOutput, Body, EventOptions, HandlerFailure, Json, JsonError, KnownType};
use std::any::TypeId;

/// The body of an event whose type is known by name only. Version and payload are in the event's origin, as for every event that came as JSON.
pub(crate) struct Dynamic {
    event_type: String,
}

impl Dynamic {
    pub(crate) fn new(event_type: String) -> Self {
        Dynamic { event_type }
    }
}

impl Body for Dynamic {
    fn event_type(&self) -> &str {
        &self.event_type
    }

    fn version(&self) -> &str {
        "0.0.1"
    }

    fn payload_type(&self) -> Option<TypeId> {
        None
    }

    fn known_type(&self) -> Option<KnownType> {
        None
    }

    fn default_options(&self) -> EventOptions {
        EventOptions::new()
    }

    fn payload_json(&self) -> Result<Json, JsonError> {
        Err(JsonError::NoCodec { event_type: self.event_type.clone() })
    }

    /// No type says what the handlers return, so they may return anything.
    fn accept(&self, output: AnyOutput) -> Result<AnyOutput, HandlerFailure> {
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use crate::bus::EventBus;
    use serde_json::json;

    #[test]
    fn a_bus_does_not_keep_every_type_name_it_was_told() {
        let bus = EventBus::builder("names").require_handler(true).build();
        let Ok(bus) = bus else { panic!("it can be built") };
        for n in 0..3000 {
            assert!(bus.emit_json(&json!({ "event_type": format!("Type{n}") })).is_ok());
            assert!(bus.core().registry.slots() <= 1024);
        }
    }
}
