//! How the fields of an event are spelled, for reading and for writing.

use crate::event::{EventConcurrency, EventStatus, HandlerCompletion, HandlerConcurrency, Json, Knob, ResultStatus};
use crate::sys::one_line::on_one_line;
use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use std::time::Duration;

/// The values of an option, each with its name in JSON.
pub(crate) type Names<T> = &'static [(T, &'static str)];

pub(crate) const STATUS: Names<EventStatus> =
    &[(EventStatus::Pending, "pending"), (EventStatus::Started, "started"), (EventStatus::Completed, "completed")];
pub(crate) const RESULT_STATUS: Names<ResultStatus> = &[
    (ResultStatus::Pending, "pending"),
    (ResultStatus::Started, "started"),
    (ResultStatus::Completed, "completed"),
    (ResultStatus::Error, "error"),
];
pub(crate) const EVENT_CONCURRENCY: Names<EventConcurrency> = &[
    (EventConcurrency::GlobalSerial, "global-serial"),
    (EventConcurrency::BusSerial, "bus-serial"),
    (EventConcurrency::Parallel, "parallel"),
];
/// Other implementations write `serial`, by which they mean one at a time within an event, and `parallel`; their older versions write the
/// other two.
pub(crate) const HANDLER_CONCURRENCY: Names<HandlerConcurrency> = &[
    (HandlerConcurrency::GlobalSerial, "global-serial"),
    (HandlerConcurrency::BusSerial, "bus-serial"),
    (HandlerConcurrency::EventSerial, "serial"),
    (HandlerConcurrency::Parallel, "parallel"),
];
pub(crate) const COMPLETION: Names<HandlerCompletion> =
    &[(HandlerCompletion::All, "all"), (HandlerCompletion::First, "first")];

pub(crate) fn name<T: PartialEq>(names: Names<T>, value: T) -> Json {
    names.iter().find(|(known, _)| *known == value).map_or(Json::Null, |(_, name)| Json::from(*name))
}

pub(crate) fn value<T: Copy>(names: Names<T>, name: &str) -> Option<T> {
    names.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
}

/// A time in UTC, with nine fractional digits and `Z`.
pub(crate) fn time(time: DateTime<Utc>) -> Json {
    Json::from(time.to_rfc3339_opts(SecondsFormat::Nanos, true))
}

/// Reads a time by RFC 3339, up to nanoseconds, in the years that four digits can write.
pub(crate) fn read_time(text: &str) -> Option<DateTime<Utc>> {
    let digits = text.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    let time = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    (digits <= 9 && (0..=9999).contains(&time.year())).then_some(time)
}

/// A timeout in seconds. Null if it is turned off or not set.
pub(crate) fn seconds(limit: Knob) -> Json {
    duration(limit.get())
}

pub(crate) fn duration(limit: Option<Duration>) -> Json {
    limit.map_or(Json::Null, |limit| Json::from(limit.as_secs_f64()))
}

pub(crate) fn optional(value: Option<impl Into<Json>>) -> Json {
    value.map_or(Json::Null, Into::into)
}

/// Enough of a name to recognise it in a message: another process chose how long it is, and what is in it.
pub(crate) fn shortened(name: &str) -> String {
    const ENOUGH: usize = 80;
    let name = &*on_one_line(name);
    match name.char_indices().nth(ENOUGH) {
        None => name.to_owned(),
        Some((end, _)) => format!("{}…", &name[..end]),
    }
}

/// Whether a payload's field would be mistaken for one of the event's own.
pub(crate) fn is_reserved(field: &str) -> bool {
    is_of_event(field) || field.starts_with("model_")
}

/// Whether a field says something of the event, be it known to this version or not.
pub(crate) fn is_of_event(field: &str) -> bool {
    field.starts_with("event_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_nanoseconds() {
        let text = "2025-01-02T03:04:05.678901234Z";
        assert_eq!(read_time(text).map(time), Some(Json::from(text)));
        assert_eq!(
            read_time("2025-01-02T04:04:05+01:00").map(time),
            Some(Json::from("2025-01-02T03:04:05.000000000Z"))
        );
        let wrong =
            ["", "2025-01-02", "2025-01-02T03:04:05", "2025-01-02T03:04:05.6789012345Z", "0000-01-01T00:00:00+23:00"];
        assert_eq!(wrong.map(read_time), [None; 5]);
    }

    #[test]
    fn every_name_leads_back_to_its_value() {
        for (mode, name) in HANDLER_CONCURRENCY {
            assert_eq!(value(HANDLER_CONCURRENCY, name), Some(*mode));
            assert_eq!(super::name(HANDLER_CONCURRENCY, *mode), **name);
        }
        assert_eq!(value(COMPLETION, "All"), None);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(shortened("event_type"), "event_type");
        assert_eq!(shortened(&"é".repeat(100)), format!("{}…", "é".repeat(80)));
    }
}
