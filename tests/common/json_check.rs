//! What must hold for any bytes that are offered as an event. Shared by `json_fuzz.rs` and the fuzz target in `fuzz/`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use threadbus::{AnyEvent, EventBus, Json, JsonError, JsonLimits, event};

/// A type that the bus knows, of all kinds of fields.
#[derive(Serialize, Deserialize)]
pub struct UserLogin {
    username: String,
    is_admin: bool,
}
event!(UserLogin => String);
/// Another one.
#[derive(Serialize, Deserialize)]
pub struct FetchPage {
    url: String,
    headers: BTreeMap<String, String>,
    retries: Vec<u32>,
}
event!(FetchPage => Json);
/// And one more.
#[derive(Serialize, Deserialize)]
pub struct Tick {
    n: u64,
}
event!(Tick);

/// What tells of a run, and of where it was.
const OF_A_RUN: [&str; 7] = [
    "event_status",
    "event_started_at",
    "event_completed_at",
    "event_pending_bus_count",
    "event_results",
    "event_path",
    "event_processed_at",
];
/// What is given if it is missing, or written in one way though it may be read in several.
const SETTLED: [&str; 4] = ["event_id", "event_parent_id", "event_created_at", "event_emitted_by_handler_id"];

/// Takes nothing for want of handlers, so it starts no thread; what it would have taken comes back all the same.
fn bus(limits: JsonLimits) -> EventBus {
    let bus = EventBus::builder("Fuzzed").require_handler(true).json_limits(limits).build().unwrap();
    bus.subscribe::<UserLogin>();
    bus.subscribe::<FetchPage>();
    bus.subscribe::<Tick>();
    bus
}

/// Panics if something does not hold; true if it was an event.
pub fn check(bytes: &[u8]) -> bool {
    let here = bus(JsonLimits::new());
    let parsed = serde_json::from_slice::<Json>(bytes);
    match here.emit_json_slice(bytes) {
        Ok(event) => {
            let parsed = parsed.expect("what is an event is JSON");
            comes_back(&event, &parsed);
            let again = here.emit_json(&parsed).expect("what is an event as text is one when parsed");
            assert_eq!(again.payload_json().unwrap(), event.payload_json().unwrap());
            true
        }
        Err(error) => {
            assert!(error.to_string().len() < 2000, "{error}");
            if let Ok(parsed) = parsed {
                agrees(&error, &here.emit_json(&parsed));
            }
            false
        }
    }
}

/// It can be written, has every field that it had, and is the same when it is read again.
fn comes_back(event: &AnyEvent, before: &Json) {
    let json = match event.to_json() {
        Ok(json) => json,
        // Longer than it was by what was not set, and by one bus.
        Err(JsonError::TooLarge { .. } | JsonError::PathTooLong { .. }) => return,
        Err(error) => panic!("what was read can be written: {error}"),
    };
    for (field, value) in before.as_object().unwrap() {
        let now = &json[field];
        // Our own null becomes a default or a fresh value.
        let unset = value.is_null() && field.starts_with("event_");
        let settled = OF_A_RUN.contains(&field.as_str()) || SETTLED.contains(&field.as_str());
        if !settled && !unset {
            assert_eq!(now, value, "{field}");
        }
    }
    let there = bus(JsonLimits::new());
    let second = there.emit_json_str(&json.to_string()).expect("what was written can be read");
    let without_run = |event: &AnyEvent| {
        let mut json = event.to_json().unwrap();
        OF_A_RUN.iter().for_each(|field| json[*field] = Json::Null);
        json
    };
    assert_eq!(without_run(&second), without_run(event));
    assert_eq!(second.is::<UserLogin>(), event.is::<UserLogin>());
}

/// Parsed JSON is refused for the same reasons as text, but for what parsing loses.
fn agrees(error: &JsonError, parsed: &Result<AnyEvent, JsonError>) {
    match (error, parsed) {
        (JsonError::DuplicateField { .. } | JsonError::TooLarge { .. }, _) => {}
        (JsonError::InvalidField { reason, .. }, _) if reason.contains("64 bits") => {}
        (_, Ok(_)) => panic!("refused as text, and taken when parsed: {error}"),
        (_, Err(_)) => {}
    }
}
