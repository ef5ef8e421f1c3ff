//! The fields of an event, one by one.

use super::spelling::{self, Names, is_of_event, is_reserved, shortened};
use crate::event::{
    EventId, EventOptions, Fields, HandlerId, Json, JsonError, JsonLimits, Knob, Origin, Priority, unsigned,
};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// An event as another process wrote it, before it is emitted.
pub(crate) struct Arrival {
    pub(crate) event_type: String,
    pub(crate) options: EventOptions,
    /// Where it comes from, without its payload.
    pub(crate) origin: Origin,
    pub(crate) payload: Json,
}

pub(crate) fn object(event: &Json) -> Result<&Fields, JsonError> {
    event.as_object().ok_or_else(|| invalid("event_type", "missing: an event is an object"))
}

pub(crate) fn arrival(mut fields: Fields, limits: &JsonLimits) -> Result<Arrival, JsonError> {
    let mut arrival = envelope(&fields, limits)?;
    // The fields that are left are the payload's.
    fields.retain(|name, _| !is_reserved(name));
    arrival.payload = Json::Object(fields);
    Ok(arrival)
}

/// Reads all of an event but its payload. The one function that says which JSON is an event, but for size and depth: reading and writing both
/// go through it.
pub(crate) fn envelope(fields: &Fields, limits: &JsonLimits) -> Result<Arrival, JsonError> {
    let mut fields = Reader { fields, looked_at: Vec::new(), kept: Fields::new(), limits };
    let event_type = match fields.name("event_type")? {
        None => return Err(invalid("event_type", "missing")),
        Some("*") => return Err(invalid("event_type", "* is no type, but means all of them")),
        Some(event_type) => event_type.to_owned(),
    };
    let id = fields.id("event_id")?.map(EventId);
    let parent = fields.id("event_parent_id")?.map(EventId);
    if parent.is_some() && parent == id {
        return Err(invalid("event_parent_id", "an event is not its own parent"));
    }
    let options = EventOptions {
        id,
        timeout: fields.seconds("event_timeout")?,
        handler_timeout: fields.seconds("event_handler_timeout")?,
        slow_after: fields.seconds("event_slow_timeout")?,
        handler_slow_after: fields.seconds("event_handler_slow_timeout")?,
        concurrency: fields.one_of("event_concurrency", spelling::EVENT_CONCURRENCY)?,
        handler_concurrency: fields.one_of("event_handler_concurrency", spelling::HANDLER_CONCURRENCY)?,
        completion: fields.one_of("event_handler_completion", spelling::COMPLETION)?,
        priority: fields.priority("event_priority")?,
        correlation_id: fields.name("event_correlation_id")?.map(Arc::from),
        ..EventOptions::new()
    };
    let version = fields.name("event_version")?.map(str::to_owned);
    let created_at = fields.time("event_created_at")?;
    let emitted_by = fields.id("event_emitted_by_handler_id")?.map(HandlerId);
    let path = fields.path("event_path")?;
    fields.keep_result_type("event_result_type")?;
    fields.skip_the_past();
    let kept = fields.rest()?;
    let origin = Origin { created_at, version, parent, emitted_by, path, payload: None, kept };
    Ok(Arrival { event_type, options, origin, payload: Json::Null })
}

struct Reader<'json> {
    fields: &'json Fields,
    /// The event's own fields that were read.
    looked_at: Vec<&'static str>,
    kept: Fields,
    limits: &'json JsonLimits,
}

impl<'json> Reader<'json> {
    /// A field's value; none if it is absent or null.
    fn look(&mut self, field: &'static str) -> Option<&'json Json> {
        self.looked_at.push(field);
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn text(&mut self, field: &'static str) -> Result<Option<&'json str>, JsonError> {
        match self.look(field) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(other) => Err(not_a(field, "string", other)),
        }
    }

    fn name(&mut self, field: &'static str) -> Result<Option<&'json str>, JsonError> {
        let Some(name) = self.text(field)? else { return Ok(None) };
        self.check_name(field, name)?;
        Ok(Some(name))
    }

    /// Refuses a name that would spoil a log: names from other processes end up there.
    fn check_name(&self, field: &str, name: &str) -> Result<(), JsonError> {
        if name.len() > self.limits.name_bytes {
            return Err(JsonError::NameTooLong { field: field.to_owned(), limit: self.limits.name_bytes });
        }
        if name.is_empty() {
            return Err(invalid(field, "empty"));
        }
        if name.chars().any(char::is_control) {
            return Err(invalid(field, "a name has no control characters"));
        }
        Ok(())
    }

    fn id(&mut self, field: &'static str) -> Result<Option<Uuid>, JsonError> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        // Only the way to write an id with hyphens has 36 characters.
        match Uuid::try_parse(text).ok().filter(|_| text.len() == 36) {
            Some(id) if id.is_nil() => Err(invalid(field, "the nil UUID is no id")),
            Some(id) => Ok(Some(id)),
            None => Err(invalid(field, "not a UUID with hyphens")),
        }
    }

    fn time(&mut self, field: &'static str) -> Result<Option<chrono::DateTime<chrono::Utc>>, JsonError> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        let time = spelling::read_time(text);
        time.map(Some).ok_or_else(|| invalid(field, "not a time like 2025-01-02T03:04:05.678901234Z"))
    }

    /// Reads a timeout, and keeps it as it was written, 20 or 20.0, so that it comes out as it came.
    fn seconds(&mut self, field: &'static str) -> Result<Knob, JsonError> {
        let Some(value) = self.look(field) else { return Ok(Knob::Unset) };
        let Some(seconds) = value.as_f64() else { return Err(not_a(field, "number", value)) };
        match Duration::try_from_secs_f64(seconds) {
            Ok(after) => {
                self.kept.insert(field.to_owned(), value.clone());
                Ok(Knob::After(after))
            }
            Err(_) => Err(invalid(field, &format!("{value} is no number of seconds to wait"))),
        }
    }

    fn one_of<T: Copy>(&mut self, field: &'static str, names: Names<T>) -> Result<Option<T>, JsonError> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        spelling::value(names, text).map(Some).ok_or_else(|| {
            let names: Vec<_> = names.iter().map(|(_, name)| *name).collect();
            invalid(field, &format!("not one of {}", names.join(", ")))
        })
    }

    fn priority(&mut self, field: &'static str) -> Result<Option<Priority>, JsonError> {
        let Some(value) = self.look(field) else { return Ok(None) };
        if !value.is_number() {
            return Err(not_a(field, "number", value));
        }
        let priority = unsigned(value).and_then(|level| u8::try_from(level).ok()).and_then(Priority::new);
        priority.map(Some).ok_or_else(|| invalid(field, &format!("{value} is no priority from 0 to 10")))
    }

    fn path(&mut self, field: &'static str) -> Result<Vec<String>, JsonError> {
        let path = match self.look(field) {
            None => return Ok(Vec::new()),
            Some(Json::Array(path)) => path,
            Some(other) => return Err(not_a(field, "array", other)),
        };
        if path.len() > self.limits.path_buses {
            return Err(JsonError::PathTooLong { limit: self.limits.path_buses });
        }
        let label = |label: &Json| match label {
            Json::String(label) => self.check_name(field, label).map(|()| label.clone()),
            other => Err(not_a(field, "array of strings", other)),
        };
        path.iter().map(label).collect()
    }

    /// Keeps the schema by which other processes check results. On this bus types do that.
    fn keep_result_type(&mut self, field: &'static str) -> Result<(), JsonError> {
        match self.look(field) {
            None => {}
            Some(schema @ (Json::Object(_) | Json::String(_) | Json::Bool(_))) => {
                self.kept.insert(field.to_owned(), schema.clone());
            }
            Some(other) => return Err(not_a(field, "schema", other)),
        }
        Ok(())
    }

    /// Skips how far the event had come elsewhere, whatever is said there: a later writer may use other words.
    fn skip_the_past(&mut self) {
        const PAST: [&str; 6] = [
            "event_started_at",
            "event_completed_at",
            "event_processed_at",
            "event_status",
            "event_pending_bus_count",
            "event_results",
        ];
        self.looked_at.extend(PAST);
    }

    /// Checks the names of all fields, and returns the event's own that come out as they came, those that later writers may have added among
    /// them. All others are the payload's.
    fn rest(mut self) -> Result<Fields, JsonError> {
        for (name, value) in self.fields {
            if is_of_event(name) && !self.looked_at.contains(&name.as_str()) {
                self.kept.insert(name.clone(), value.clone());
            }
            if is_reserved(name) && !is_of_event(name) {
                return Err(JsonError::ReservedField { field: shortened(name) });
            }
            if name.len() > self.limits.name_bytes {
                return Err(JsonError::NameTooLong { field: shortened(name), limit: self.limits.name_bytes });
            }
        }
        Ok(self.kept)
    }
}

fn invalid(field: &str, reason: &str) -> JsonError {
    JsonError::InvalidField { field: field.to_owned(), reason: reason.to_owned() }
}

fn not_a(field: &str, expected: &str, found: &Json) -> JsonError {
    let found = match found {
        Json::Null => "null",
        Json::Bool(_) => "a truth value",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    };
    invalid(field, &format!("expected {expected}, found {found}"))
}
