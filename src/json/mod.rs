//! Events as JSON: what another process, in another language, writes and reads.
//!
//! The way in: text is looked over (`scan`) before it is parsed, parsed JSON is measured (`measure`), then its fields are read (`read`), an older
//! payload is made one of the current version (`upcast`), and the event is emitted: typed if the bus knows the type, else as a [`Dynamic`], and as a
//! [`Misfit`] if it does not fit its type and a handler, subscription, forward or find needs none. The way out: `write` for events, `bubus` for those
//! that the Python package reads (`style` says which), `snapshot` for buses. How a field is spelled is in `spelling`, for both ways. What `measure`
//! and `read` refuse is not written either: the way out goes through them.
//!
//! Nothing here runs under a lock, and nothing recurses deeper than `JsonLimits::depth`.
//!
//! Imports `event` and `bus`. Hangs `emit_json`, its forms for text, `to_json` and `to_json_with` on [`EventBus`] and on both event types from above.

mod bubus;
mod dynamic;
mod measure;
mod misfit;
mod read;
mod scan;
mod snapshot;
mod spelling;
mod style;
mod upcast;
mod write;

pub use style::JsonStyle;

use crate::bus::EventBus;
use crate::event::{AnyEvent, Event, Fields, Json, JsonError, Origin, Payload};
use crate::sys::logging;
use dynamic::Dynamic;
use misfit::Misfit;
use std::sync::Arc;
use style::Reader;

impl EventBus {
    /// Emits an event as another process wrote it, by [`to_json`](Event::to_json) or in another language.
    ///
    /// Events that the Python package `bubus` wrote are taken, too; for the way there see [`JsonStyle`](crate::JsonStyle::bubus).
    ///
    /// It needs `event_type`. Kept are id, creation time, version, parent id, emitting handler's id, path, options, and the payload
    /// as it was written, with fields that its type does not know; so is any other field `event_*`, which a later writer may have added.
    /// Status, times and results are dropped, whatever they are: it runs here as new, and its results are those of this bus. What is absent or
    /// `null` is not set, so an event without an id gets one.
    ///
    /// It is **typed if this bus knows the type**: once a typed handler, subscription, forward or waiting find was registered here for a payload of
    /// that name, or an event of it was on this bus. Once it has met two types of that name, none of them is meant: the event is refused. Else it is
    /// *dynamic*: by-name and wildcard handlers get it, [`payload_json`](AnyEvent::payload_json) has its payload, and what its handlers return is
    /// JSON. [Upcasters](EventBus::upcast) make older payloads those of today first.
    ///
    /// A payload that **does not fit its type** is an error, unless a wildcard or by-name handler, subscription, forward or waiting find takes such
    /// an event whatever its payload is. Then it is dynamic, though with its type's options: those get it, and the typed handlers are not called but
    /// fail with [`HandlerFailure::WrongType`](crate::HandlerFailure::WrongType), which says what the error would have said.
    ///
    /// An **id this bus has seen** is not run again, whichever process gave it: the answer is the event that has it, or, if that has left the
    /// history, one that is refused with [`EmitError::DuplicateId`](crate::EmitError::DuplicateId). The ids that a bus gives it knows for as long as
    /// it is there; of those that were given elsewhere, and came as JSON, by [`forward`](EventBus::forward) or were [set](crate::EventOptions::id),
    /// it remembers the last 65,536, and those in the history. Seen is what was taken, also if it was dropped or cancelled then; what was refused may
    /// come again (of ids of the bus's own, the last 65,536). A bus that is made anew has seen nothing. While the first event is in the history, one
    /// of its id with another type or payload is an error; null is the same as absent there, 2 as 2.0, and payloads of different versions are not
    /// compared.
    ///
    /// Inside a handler it is a child of that handler's event if it brings no parent id; a parent that the history has is linked as such and
    /// waits for it.
    ///
    /// **Numbers** are those of [`Json`](crate::Json): integers up to 64 bits and floating point, exactly. In [text](EventBus::emit_json_str)
    /// a larger integer is refused; in a parsed `Json` it is too late to tell, for parsing has rounded it. Where a type wants an integer, a whole
    /// number below 2⁵³ may be written as a float, as other languages do: 7.0 for 7. The payload stays as it was written.
    ///
    /// **Blocking**: as [`emit`](EventBus::emit). A bus that refuses it (closed, full) answers as there: with an event that is
    /// complete, and whose `wait()` says why.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use serde_json::json;
    /// use threadbus::{AnyOutput, Event, EventBus, event};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Login { user: String }
    /// event!(Login => String);
    ///
    /// let bus = EventBus::new("app");
    /// bus.on(|login: &Event<Login>| format!("hello {}", login.user)); // now the bus knows the type
    /// bus.on_named("Logout", |event| event.payload_json().map(AnyOutput::json)); // nobody here does
    ///
    /// let login = bus.emit_json(&json!({ "event_type": "Login", "user": "ann", "colour": "red" }))?;
    /// assert_eq!(login.downcast::<Login>().ok_or("typed")?.result()?, "hello ann");
    /// assert_eq!(login.to_json()?["colour"], "red"); // unknown to the type, and kept
    ///
    /// let logout = bus.emit_json(&json!({ "event_type": "Logout", "user": "ann" }))?.wait()?;
    /// assert_eq!(logout.to_json()?["event_results"][0]["result"], json!({ "user": "ann" }));
    ///
    /// let error = bus.emit_json(&json!({ "event_type": "Login", "event_priority": 11 })).unwrap_err();
    /// assert_eq!(error.to_string(), "field event_priority: 11 is no priority from 0 to 10");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// - [`JsonError::InvalidField`], for a field of the event that is not what it should be, or not there;
    /// - [`JsonError::ReservedField`], for a field `model_*`;
    /// - [`TooLarge`](JsonError::TooLarge), [`TooDeep`](JsonError::TooDeep), [`NameTooLong`](JsonError::NameTooLong) and
    ///   [`PathTooLong`](JsonError::PathTooLong), beyond the bus's [limits](crate::JsonLimits);
    /// - [`JsonError::OtherContent`], if the history has an event of this id with another type or payload;
    /// - [`JsonError::NoCodec`], if the bus knows the type, and that has none;
    /// - [`JsonError::Upcast`], if an upcaster failed, and [`JsonError::Serde`], if the payload does not fit its type: the text names type, field and
    ///   index. Both only if no handler, subscription, forward or find takes the event whatever its payload is.
    ///
    /// After an error nothing of the event is left.
    pub fn emit_json(&self, event: &Json) -> Result<AnyEvent, JsonError> {
        let limits = &self.options().json_limits;
        measure::check(event, limits)?;
        self.arrive(read::object(event)?.clone())
    }

    /// Emits an event from JSON text, as [`emit_json`](EventBus::emit_json) does from parsed JSON. The length is checked before anything else is
    /// done, and duplicate fields are refused, where parsed JSON has lost one of them.
    ///
    /// Made for text from untrusted sources: whatever it is, this ends after time and memory in proportion to the limit.
    ///
    /// ```
    /// use threadbus::{EventBus, JsonError};
    ///
    /// let bus = EventBus::new("mirror");
    /// let note = bus.emit_json_str(r#"{"event_type": "Note", "n": 18446744073709551615}"#)?;
    /// assert_eq!(note.to_json()?["n"], u64::MAX);
    /// let twice = bus.emit_json_str(r#"{"event_type": "Note", "n": 1, "n": 2}"#);
    /// assert!(matches!(twice, Err(JsonError::DuplicateField { field }) if field == "n"));
    /// # Ok::<(), JsonError>(())
    /// ```
    ///
    /// # Errors
    /// As [`emit_json`](EventBus::emit_json), and [`JsonError::DuplicateField`]; [`JsonError::InvalidField`] for an integer beyond 64 bits,
    /// [`JsonError::Serde`] if it is not JSON.
    pub fn emit_json_str(&self, text: &str) -> Result<AnyEvent, JsonError> {
        self.emit_json_slice(text.as_bytes())
    }

    /// Emits an event from the bytes of JSON text, which should be UTF-8, as [`emit_json_str`](EventBus::emit_json_str) does.
    ///
    /// ```
    /// use threadbus::{EventBus, JsonError};
    ///
    /// let bus = EventBus::new("mirror");
    /// assert!(bus.emit_json_slice(br#"{"event_type": "Note"}"#).is_ok());
    /// assert!(matches!(bus.emit_json_slice(b"{\"event_type\": \"\xff\"}"), Err(JsonError::Serde(_))));
    /// ```
    ///
    /// # Errors
    /// As [`emit_json_str`](EventBus::emit_json_str); [`JsonError::Serde`] if it is not UTF-8.
    pub fn emit_json_slice(&self, text: &[u8]) -> Result<AnyEvent, JsonError> {
        scan::check(text, &self.options().json_limits)?;
        let event: Json = serde_json::from_slice(text)?;
        read::object(&event)?;
        match event {
            Json::Object(fields) => self.arrive(fields),
            _ => unreachable!("it was just looked at"),
        }
    }

    fn arrive(&self, fields: Fields) -> Result<AnyEvent, JsonError> {
        let core = self.core();
        let mut arrival = read::arrival(fields, &self.options().json_limits)?;
        let known = core.registry.known(&arrival.event_type)?;
        let upcast = self.upcast_arrival(&mut arrival, known.as_ref());
        let make = upcast.and_then(|()| known.map(|known| (known.read)(&arrival.payload)).transpose());
        let make = match make {
            Err(error) if !self.takes_misfit(&arrival.event_type, &error) => return Err(error),
            make => make,
        };

        let mut options = arrival.options;
        if let Some(id) = arrival.origin.parent {
            // The event belongs to the parent that it names, be it known on this bus or not, and not to the handler that emits it.
            options.detached = true;
            options.parent = self.event(id);
        }
        options.origin = Some(Arc::new(Origin { payload: Some(arrival.payload), ..arrival.origin }));
        match (known, make) {
            (Some(known), Ok(Some(make))) => core.emit_typed(known, options, make),
            (Some(known), Err(error)) => core.emit_dynamic(options, Misfit::new(known, arrival.event_type, &error)),
            (None, Err(error)) => {
                let label = self.label();
                logging::warn!("{label} takes an event as it came: {error}");
                core.emit_dynamic(options, Dynamic::new(arrival.event_type))
            }
            (_, Ok(_)) => core.emit_dynamic(options, Dynamic::new(arrival.event_type)),
        }
    }

    /// Whether a handler, subscription, forward or find of this bus takes the event though its payload does not fit its type.
    fn takes_misfit(&self, event_type: &str, error: &JsonError) -> bool {
        let core = self.core();
        !matches!(error, JsonError::NoCodec { .. })
            && (core.registry.takes_any_payload(event_type) || core.inlet.lock().observers.take_any_payload(event_type))
    }

    /// A snapshot for people and tools: options, handlers, history, queue.
    ///
    /// `event_history` has what [`history`](EventBus::history) has, by id; `pending_event_queue` the ids of those that have not started. An event
    /// that [`to_json`](Event::to_json) refuses is there with the reason in `json_error`, and without its payload if that cannot be JSON; so is a
    /// result. It is not one moment: each event is looked at for itself.
    ///
    /// ```
    /// use threadbus::{Event, EventBus, Payload};
    /// struct Tick;
    /// impl Payload for Tick { type Output = (); }
    ///
    /// let bus = EventBus::new("clock");
    /// bus.on(|_: &Event<Tick>| {});
    /// let tick = bus.emit(Tick).wait()?;
    /// let snapshot = bus.to_json()?;
    /// assert_eq!(snapshot["name"], "clock");
    /// assert_eq!(snapshot["event_history"][tick.id().to_string()]["event_status"], "completed");
    /// assert_eq!(snapshot["event_history"][tick.id().to_string()]["json_error"], "Tick has no codec");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// None so far.
    pub fn to_json(&self) -> Result<Json, JsonError> {
        Ok(snapshot::bus(self))
    }
}

impl AnyEvent {
    /// The event as one flat JSON object, as [`emit_json`](EventBus::emit_json) reads it: the payload's fields beside the event's own, whose
    /// names begin with `event_`.
    ///
    /// | field | what |
    /// | --- | --- |
    /// | `event_id`, `event_type`, `event_version` | |
    /// | `event_created_at`, `event_started_at`, `event_completed_at` | UTC, nine fractional digits, `Z` |
    /// | `event_status` | `pending`, `started`, `completed` |
    /// | `event_parent_id`, `event_emitted_by_handler_id`, `event_correlation_id` | |
    /// | `event_path` | labels of the buses it was on |
    /// | `event_timeout`, `event_slow_timeout`, `event_handler_timeout`, `event_handler_slow_timeout` | seconds; `null` also if turned off |
    /// | `event_concurrency` | `global-serial`, `bus-serial`, `parallel` |
    /// | `event_handler_concurrency` | the same, and `serial` for one at a time within the event |
    /// | `event_handler_completion` | `all`, `first` |
    /// | `event_priority` | 0 to 10 |
    /// | `event_pending_bus_count` | buses that are not done with it |
    /// | `event_result_type` | `null`; what an event from elsewhere brought comes out as it was |
    /// | `event_results` | one object for each handler, as in [`results`](AnyEvent::results) |
    ///
    /// Options are the event's own and its type's; what is unset there is `null`, whatever bus and handlers say. An event that came as
    /// JSON has the payload that was written, with all its fields.
    ///
    /// What is written is read: what [`emit_json`](EventBus::emit_json) would refuse is refused here, by the same error. Inside the process a name
    /// may be any text and a timeout `Duration::MAX`; in JSON they may not.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use threadbus::{EventBus, EventOptions, event};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Note { text: String }
    /// event!(Note);
    ///
    /// let bus = EventBus::new("app");
    /// let note = bus.emit_with(Note { text: "hi".into() }, EventOptions::new().correlation_id("one\ttwo"));
    /// assert_eq!(note.correlation_id(), "one\ttwo");
    /// let error = note.to_json().unwrap_err();
    /// assert_eq!(error.to_string(), "field event_correlation_id: a name has no control characters");
    /// ```
    ///
    /// # Errors
    /// - [`JsonError::NoCodec`], if the payload's type has none;
    /// - [`JsonError::NotAnObject`], if the payload is no JSON object, so that there are no fields to stand beside the event's: serde writes
    ///   `struct Ping {}` as an object, but `struct Ping;` as `null`, and `struct Metres(f64)` as a number;
    /// - [`JsonError::ReservedField`], if a field of the payload begins with `event_` or `model_`;
    /// - [`JsonError::Serde`], if payload or output do not serialize: the text names type, field and index;
    /// - what [`emit_json`](EventBus::emit_json) says of such an event, by the [limits](crate::JsonLimits) of its bus, or the default ones where
    ///   those are larger.
    pub fn to_json(&self) -> Result<Json, JsonError> {
        self.to_json_with(JsonStyle::new())
    }

    /// The event as one flat JSON object for another reader: see [`Event::to_json_with`].
    ///
    /// # Errors
    /// As [`AnyEvent::to_json`], and what the [style](JsonStyle) refuses.
    pub fn to_json_with(&self, style: JsonStyle) -> Result<Json, JsonError> {
        let fields = match style.reader {
            Reader::Threadbus => write::event(self, style),
            Reader::Bubus => bubus::event(self, style),
        };
        let json = Json::Object(fields?);
        write::check(&json, self)?;
        Ok(json)
    }
}

impl<P: Payload> Event<P> {
    /// The event as one flat JSON object: the payload's fields beside the event's own. See [`AnyEvent::to_json`] for the fields.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use threadbus::{Event, EventBus, event};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Login { user: String }
    /// event!(Login => String);
    ///
    /// let bus = EventBus::new("app");
    /// bus.on(|login: &Event<Login>| format!("hello {}", login.user));
    /// let json = bus.emit(Login { user: "ann".into() }).wait()?.to_json()?;
    /// assert_eq!(json["event_type"], "Login");
    /// assert_eq!(json["user"], "ann");
    /// assert_eq!(json["event_results"][0]["result"], "hello ann");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`AnyEvent::to_json`].
    pub fn to_json(&self) -> Result<Json, JsonError> {
        self.any().to_json()
    }

    /// The event as one flat JSON object for another reader, like the Python package `bubus`.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use threadbus::{EventBus, JsonStyle, event};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Tick { n: u32 }
    /// event!(Tick);
    ///
    /// let bus = EventBus::new("clock");
    /// let line = bus.emit(Tick { n: 7 }).to_json_with(JsonStyle::bubus())?.to_string();
    /// // In Python: `await bus.dispatch(Tick.model_validate_json(line))`.
    /// # Ok::<(), threadbus::JsonError>(())
    /// ```
    ///
    /// # Errors
    /// As [`AnyEvent::to_json`], and what the [style](JsonStyle) refuses.
    pub fn to_json_with(&self, style: JsonStyle) -> Result<Json, JsonError> {
        self.any().to_json_with(style)
    }
}
