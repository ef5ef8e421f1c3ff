//! A bus as people and tools look at it.

use super::spelling::{self, duration, name, optional};
use super::write;
use crate::bus::{EventBus, is_queued};
use crate::event::{Fairness, Fields, HistoryPolicy, Json, OnFull};
use serde_json::json;

pub(crate) fn bus(bus: &EventBus) -> Json {
    let core = bus.core();
    let options = bus.options();
    let history = bus.history();
    let queue: Vec<_> =
        history.iter().filter(|event| is_queued(event, core)).map(|event| event.id().to_string()).collect();
    let events: Fields = history.iter().map(|event| (event.id().to_string(), write::event_or_reason(event))).collect();
    let (handlers, by_key) = handlers(bus);
    json!({
        "id": bus.id().to_string(),
        "name": bus.name(),
        "label": bus.label(),
        "max_history_size": options.max_history,
        "max_history_drop": options.history_policy != HistoryPolicy::Reject,
        "event_concurrency": name(spelling::EVENT_CONCURRENCY, options.event_concurrency),
        "event_timeout": duration(options.event_timeout),
        "event_slow_timeout": duration(options.event_slow_after),
        "event_handler_concurrency": name(spelling::HANDLER_CONCURRENCY, options.handler_concurrency),
        "event_handler_completion": name(spelling::COMPLETION, options.handler_completion),
        "event_handler_timeout": duration(options.handler_timeout),
        "event_handler_slow_timeout": duration(options.handler_slow_after),
        "event_handler_detect_file_paths": true,
        "queue_capacity": options.queue_capacity,
        "on_full": on_full(options.on_full),
        "fairness": fairness(options.fairness),
        "require_handler": options.require_handler,
        "dead_letters": options.dead_letters,
        "handlers": handlers,
        "handlers_by_key": by_key,
        "event_history": events,
        "pending_event_queue": queue,
    })
}

/// The handlers by id, and the ids by pattern, each in the order of registration.
fn handlers(bus: &EventBus) -> (Fields, Fields) {
    let (mut handlers, mut by_key) = (Fields::new(), Fields::new());
    for entry in bus.core().registry.entries() {
        let id = entry.info.id().to_string();
        let mut fields = write::handler(&entry.info, &bus.core().identity);
        let own = [
            ("id", Json::from(id.as_str())),
            ("event_pattern", Json::from(entry.info.pattern())),
            ("handler_timeout", spelling::seconds(entry.options.timeout)),
            ("handler_slow_timeout", spelling::seconds(entry.options.slow_after)),
            (
                "handler_concurrency",
                optional(entry.options.concurrency.map(|mode| name(spelling::HANDLER_CONCURRENCY, mode))),
            ),
        ];
        fields.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let ids = by_key.entry(entry.info.pattern()).or_insert_with(|| json!([]));
        if let Json::Array(ids) = ids {
            ids.push(Json::from(id.as_str()));
        }
        handlers.insert(id, Json::Object(fields));
    }
    (handlers, by_key)
}

fn on_full(on_full: OnFull) -> Json {
    match on_full {
        OnFull::Block => json!("block"),
        OnFull::BlockFor(limit) => json!({ "block_for": limit.as_secs_f64() }),
        OnFull::Reject => json!("reject"),
        OnFull::DropOldest => json!("drop-oldest"),
        OnFull::RunInline => json!("run-inline"),
    }
}

fn fairness(fairness: Fairness) -> Json {
    match fairness {
        Fairness::Strict => json!("strict"),
        Fairness::Weighted { high, normal, low } => json!({ "high": high, "normal": normal, "low": low }),
    }
}
