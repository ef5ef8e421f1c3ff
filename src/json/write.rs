//! An event as one flat object.

use super::spelling::{self, is_reserved, name, optional, seconds, shortened, time};
use super::style::JsonStyle;
use super::{measure, read};
use crate::bus::{Look, callback, json_limits};
use crate::event::{
    AnyEvent, AnyOutput, BusIdentity, Fields, HandlerFailure, HandlerInfo, HandlerResult, Json, JsonError, JsonLimits,
};
use serde_json::json;
use std::sync::Arc;

const RESULTS: &str = "event_results";

/// Refuses what would be refused when it is read again, by a bus with default limits and by the event's own, which may take more.
pub(crate) fn check(json: &Json, event: &AnyEvent) -> Result<(), JsonError> {
    let limits = json_limits(event).or_larger(JsonLimits::new());
    measure::check(json, &limits)?;
    read::envelope(read::object(json)?, &limits).map(drop)
}

/// The event's fields in the style of this crate.
pub(crate) fn event(event: &AnyEvent, style: JsonStyle) -> Result<Fields, JsonError> {
    let mut fields = payload(event)?;
    let look = Look::at(event);
    own_fields(event, &look, &mut fields);
    if style.results {
        let results = look.results.iter().map(|(bus, shown)| {
            let value = shown.value.as_ref().map(AnyOutput::to_json).transpose()?;
            Ok(Json::Object(result(event, bus, shown, optional(value))))
        });
        let results: Result<Vec<_>, JsonError> = results.collect();
        fields.insert(RESULTS.to_owned(), Json::Array(results?));
    }
    Ok(fields)
}

/// The event for a snapshot. One that cannot be JSON must not keep the others from being shown, so it has the reason in `json_error`.
pub(crate) fn event_or_reason(event: &AnyEvent) -> Json {
    let payload = payload(event);
    let is_whole = payload.is_ok();
    let mut fields = payload.unwrap_or_else(|error| reason(&error));
    let look = Look::at(event);
    let results = look.results.iter().map(|(bus, shown)| {
        let value = shown.value.as_ref().map(AnyOutput::to_json).transpose();
        let (value, mut why) = value.map_or_else(|error| (None, reason(&error)), |value| (value, Fields::new()));
        why.append(&mut result(event, bus, shown, optional(value)));
        Json::Object(why)
    });
    let results = results.collect();
    own_fields(event, &look, &mut fields);
    fields.insert(RESULTS.to_owned(), Json::Array(results));
    let mut json = Json::Object(fields);
    if is_whole && let (Err(error), Json::Object(fields)) = (check(&json, event), &mut json) {
        fields.append(&mut reason(&error));
    }
    json
}

fn reason(error: &JsonError) -> Fields {
    Fields::from_iter([("json_error".to_owned(), Json::from(error.to_string()))])
}

pub(crate) fn payload(event: &AnyEvent) -> Result<Fields, JsonError> {
    let Json::Object(fields) = event.payload_json()? else {
        return Err(JsonError::NotAnObject { event_type: event.event_type().to_owned() });
    };
    match fields.keys().find(|field| is_reserved(field)) {
        Some(field) => Err(JsonError::ReservedField { field: shortened(field) }),
        None => Ok(fields),
    }
}

/// Adds the event's own fields, but for the results.
pub(crate) fn own_fields(event: &AnyEvent, look: &Look, fields: &mut Fields) {
    let options = &look.options;
    let own = [
        ("event_id", Json::from(event.id().to_string())),
        ("event_type", Json::from(event.event_type())),
        ("event_version", Json::from(event.version())),
        ("event_created_at", time(event.created_at())),
        ("event_started_at", optional(look.started_at.map(time))),
        ("event_completed_at", optional(look.completed_at.map(time))),
        ("event_status", name(spelling::STATUS, look.status)),
        ("event_parent_id", optional(event.parent_id().map(|id| id.to_string()))),
        ("event_emitted_by_handler_id", optional(event.emitted_by().map(|id| id.to_string()))),
        ("event_path", Json::from(look.path.as_slice())),
        ("event_timeout", seconds(options.timeout)),
        ("event_slow_timeout", seconds(options.slow_after)),
        ("event_handler_timeout", seconds(options.handler_timeout)),
        ("event_handler_slow_timeout", seconds(options.handler_slow_after)),
        ("event_concurrency", optional(options.concurrency.map(|mode| name(spelling::EVENT_CONCURRENCY, mode)))),
        (
            "event_handler_concurrency",
            optional(options.handler_concurrency.map(|mode| name(spelling::HANDLER_CONCURRENCY, mode))),
        ),
        ("event_handler_completion", optional(options.completion.map(|mode| name(spelling::COMPLETION, mode)))),
        ("event_priority", Json::from(event.priority().level())),
        ("event_correlation_id", Json::from(event.correlation_id())),
        ("event_pending_bus_count", Json::from(look.pending)),
        ("event_result_type", Json::Null),
    ];
    fields.extend(own.map(|(name, value)| (name.to_owned(), value)));
    if let Some(origin) = event.head().origin() {
        fields.extend(origin.kept.clone());
    }
}

fn result(event: &AnyEvent, bus: &Arc<BusIdentity>, shown: &HandlerResult<AnyOutput>, value: Json) -> Fields {
    let children: Vec<_> = shown.children.iter().map(ToString::to_string).collect();
    let mut fields = Fields::from_iter(
        [
            ("id", Json::from(shown.id.to_string())),
            ("status", name(spelling::RESULT_STATUS, shown.status)),
            ("event_id", Json::from(event.id().to_string())),
            ("handler_id", Json::from(shown.handler.id().to_string())),
            ("handler_event_pattern", Json::from(shown.handler.pattern())),
            ("started_at", optional(shown.started_at.map(time))),
            ("completed_at", optional(shown.completed_at.map(time))),
            ("result", value),
            ("error", optional(shown.error.as_deref().map(failure))),
            ("event_children", Json::from(children)),
            ("attempts", Json::from(shown.attempts)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    fields.extend(handler(&shown.handler, bus));
    fields
}

/// The fields of a handler, for a result and for a bus's list of handlers.
pub(crate) fn handler(handler: &HandlerInfo, bus: &BusIdentity) -> Fields {
    let place = handler.location();
    let fields = [
        ("handler_name", Json::from(handler.name())),
        ("handler_file_path", Json::from(format!("{}:{}", place.file(), place.line()))),
        ("handler_registered_at", time(handler.registered_at())),
        ("eventbus_name", Json::from(bus.name.as_str())),
        ("eventbus_id", Json::from(bus.id.to_string())),
    ];
    Fields::from_iter(fields.map(|(name, value)| (name.to_owned(), value)))
}

fn failure(failure: &HandlerFailure) -> Json {
    let kind = match failure {
        HandlerFailure::Failed(_) => "Failed",
        HandlerFailure::Panicked(_) => "Panicked",
        HandlerFailure::TimedOut { .. } => "TimedOut",
        HandlerFailure::Cancelled { .. } => "Cancelled",
        HandlerFailure::Aborted { .. } => "Aborted",
        HandlerFailure::WrongType { .. } => "WrongType",
        HandlerFailure::Worker(_) => "Worker",
        HandlerFailure::WorkerStart(_) => "WorkerStart",
    };
    // The failure's text may be written by the user's code.
    let message = callback(|| failure.to_string()).unwrap_or_else(|panic| format!("its Display panicked: {panic}"));
    json!({ "type": kind, "message": message })
}
