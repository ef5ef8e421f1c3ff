//! An event as the Python package `bubus` reads it, in its released form.

use super::spelling::{self, name, optional, time};
use super::style::JsonStyle;
use super::write;
use crate::bus::Look;
use crate::event::{AnyEvent, AnyOutput, BusIdentity, Fields, HandlerResult, Json, JsonError, Knob};
use std::sync::Arc;
use uuid::Uuid;

/// Fields that tell of the run on this bus. Left out: the package would take each for an extra field, keep it through a run of its own, and write
/// it again.
const OF_THE_RUN: &[&str] = &["event_status", "event_started_at", "event_completed_at", "event_pending_bus_count"];
/// Left out: the package writes it as text, like `<class 'str'>`, and its handlers fail where it reads that.
const RESULT_TYPE: &str = "event_result_type";
const TYPE_CHARACTERS: usize = 64;

/// The event's fields in the style for the package.
pub(crate) fn event(event: &AnyEvent, style: JsonStyle) -> Result<Fields, JsonError> {
    check_type(event.event_type())?;
    let mut fields = write::payload(event)?;
    let look = Look::at(event);
    let mut own = Fields::new();
    write::own_fields(event, &look, &mut own);
    own.retain(|field, value| !value.is_null() && !OF_THE_RUN.contains(&field.as_str()) && field != RESULT_TYPE);
    let path: Vec<_> = look.path.iter().map(|label| bus_name(label)).collect();
    own.insert("event_path".to_owned(), Json::from(path));
    if look.options.timeout == Knob::Off {
        own.insert("event_timeout".to_owned(), Json::Null);
    }
    if style.results {
        own.insert("event_results".to_owned(), Json::Object(results(event, &look)?));
        own.insert("event_processed_at".to_owned(), optional(look.completed_at.map(time)));
    }
    fields.append(&mut own);
    Ok(fields)
}

fn results(event: &AnyEvent, look: &Look) -> Result<Fields, JsonError> {
    look.results.iter().map(|(bus, shown)| Ok((digits(shown.handler.id().0), result(event, bus, shown)?))).collect()
}

/// One result. The package refuses a result with a field that it does not know.
fn result(event: &AnyEvent, bus: &Arc<BusIdentity>, shown: &HandlerResult<AnyOutput>) -> Result<Json, JsonError> {
    let value = shown.value.as_ref().map(AnyOutput::to_json).transpose()?;
    let fields = [
        ("id", Json::from(shown.id.to_string())),
        ("status", name(spelling::RESULT_STATUS, shown.status)),
        ("event_id", Json::from(event.id().to_string())),
        ("handler_id", Json::from(digits(shown.handler.id().0))),
        ("handler_name", Json::from(shown.handler.name())),
        ("eventbus_id", Json::from(digits(bus.id.0))),
        ("eventbus_name", Json::from(bus_name(&bus.name))),
        ("started_at", optional(shown.started_at.map(time))),
        ("completed_at", optional(shown.completed_at.map(time))),
        ("result", optional(value)),
    ];
    Ok(Json::Object(Fields::from_iter(fields.map(|(name, value)| (name.to_owned(), value)))))
}

/// An id as the package writes those of handlers and buses: as a number.
fn digits(id: Uuid) -> String {
    id.as_u128().to_string()
}

/// A name as the package allows it, from a bus's label or name.
fn bus_name(label: &str) -> String {
    let name = without_suffix(label);
    let mended = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    let prefix = if name.starts_with(|first: char| first.is_ascii_alphabetic()) { "" } else { "bus" };
    prefix.chars().chain(mended).collect()
}

/// A label without `#17aa` at its end.
fn without_suffix(label: &str) -> &str {
    match label.rsplit_once('#') {
        Some((name, id)) if id.len() == 4 && id.bytes().all(|digit| digit.is_ascii_hexdigit()) => name,
        _ => label,
    }
}

/// Refuses what is an identifier in no version of Python. Which letters beyond ASCII are allowed depends on the version.
fn check_type(event_type: &str) -> Result<(), JsonError> {
    let refused = |reason: &str| {
        let shown = spelling::shortened(event_type);
        Err(JsonError::InvalidField { field: "event_type".to_owned(), reason: format!("{shown} {reason}") })
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii();
    if event_type.starts_with(|first: char| first == '_' || first.is_ascii_digit()) || !event_type.chars().all(allowed)
    {
        return refused("is no identifier of Python without _ at its beginning");
    }
    if event_type.chars().count() > TYPE_CHARACTERS {
        return refused("has more than 64 characters");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_has_a_name_that_is_an_identifier() {
        let names = [
            ("MainBus#17aa", "MainBus"),
            ("MainBus", "MainBus"),
            ("my-bus#0000", "my_bus"),
            ("a#b#17aa", "a_b"),
            ("a#17a", "a_17a"),
            ("a#zzzz", "a_zzzz"),
            ("_private#17aa", "bus_private"),
            ("7th#17aa", "bus7th"),
            ("#17aa", "bus"),
            ("Größe#17aa", "Gr__e"),
            ("é#17aa", "bus_"),
        ];
        for (label, expected) in names {
            assert_eq!(bus_name(label), expected);
        }
    }

    #[test]
    fn a_type_that_python_cannot_name_is_refused() {
        let taken = ["Login", "a_1", "Größe", &"x".repeat(64)].map(check_type);
        assert!(taken.iter().all(Result::is_ok), "{taken:?}");
        let refused = ["", "_Login", "1st", "a.b", "Page<String>", "a b", "a\n", &"x".repeat(65)].map(check_type);
        // An event with an empty type cannot be emitted, so `check_type` need not refuse it.
        assert!(refused[1..].iter().all(Result::is_err), "{refused:?}");
    }
}
