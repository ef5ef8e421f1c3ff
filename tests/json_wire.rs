//! Conformance, section SER: whole events and buses in JSON, and the files of two other implementations (`data/wire`).

mod common;

use common::{done, idle};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use threadbus::{
    AnyEvent, AnyOutput, BusId, Event, EventBus, EventConcurrency, EventOptions, Fairness, HandlerCompletion,
    HandlerConcurrency, HandlerError, HistoryPolicy, Json, OnFull, Payload, Priority, ResultStatus, event,
};

#[derive(Serialize, Deserialize)]
struct UserLogin {
    username: String,
    is_admin: bool,
}
event!(UserLogin => String);
#[derive(Serialize, Deserialize)]
struct FetchPage {
    url: String,
    headers: BTreeMap<String, String>,
    retries: Vec<u32>,
}
event!(FetchPage => Json);
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tick {
    n: u64,
}
event!(Tick);

const EVENTS: &[(&str, &str)] = &[
    ("py-0-UserLogin", include_str!("data/wire/py-0-UserLogin.json")),
    ("py-1-Tick", include_str!("data/wire/py-1-Tick.json")),
    ("py-4-Tick", include_str!("data/wire/py-4-Tick.json")),
    ("ts-0-UserLogin", include_str!("data/wire/ts-0-UserLogin.json")),
    ("ts-2-FetchPage", include_str!("data/wire/ts-2-FetchPage.json")),
    ("ts-4-Tick", include_str!("data/wire/ts-4-Tick.json")),
];
const BUS: &str = include_str!("data/wire/py-bus-MainBus.json");

/// What tells of the run there; here is another.
const OF_ITS_RUN: &[&str] =
    &["event_status", "event_started_at", "event_completed_at", "event_pending_bus_count", "event_results"];

/// That `after` has every field of `before`: the same, but for its run, and for the path, which goes on.
#[track_caller]
fn came_back(name: &str, before: &Json, after: &Json, bus: &EventBus) {
    for (field, value) in before.as_object().unwrap() {
        let now = after.get(field).unwrap_or_else(|| panic!("{name} lost {field}"));
        match field.as_str() {
            "event_path" => {
                let mut path = value.as_array().unwrap().clone();
                path.push(json!(bus.label()));
                assert_eq!(now, &json!(path), "{name}");
            }
            field if OF_ITS_RUN.contains(&field) => {}
            field => assert_eq!(now, value, "{name}: {field}"),
        }
    }
}

/// Each event of the files with its name.
fn all_events() -> Vec<(String, Json)> {
    let mut events: Vec<(String, Json)> =
        EVENTS.iter().map(|(name, text)| (name.to_string(), serde_json::from_str(text).unwrap())).collect();
    let bus: Json = serde_json::from_str(BUS).unwrap();
    for (id, event) in bus["event_history"].as_object().unwrap() {
        events.push((format!("py-bus {id}"), event.clone()));
    }
    events
}

fn typed_bus() -> EventBus {
    let bus = EventBus::new("Typed");
    bus.on(|login: &Event<UserLogin>| format!("hello {}", login.username));
    bus.on(
        |page: &Event<FetchPage>| json!({ "url": page.url, "retries": page.retries, "headers": page.headers.len() }),
    );
    bus.on(|_: &Event<Tick>| {});
    bus
}

#[test]
fn ser_006_every_event_of_the_files_comes_back_with_every_field() {
    for (name, before) in all_events() {
        let (untyped, typed) = (EventBus::new("Untyped"), typed_bus());
        untyped.on_any(|event| event.payload_json().map(AnyOutput::json));
        for bus in [&untyped, &typed] {
            let event = done(&bus.emit_json(&before).unwrap_or_else(|error| panic!("{name}: {error}")));
            came_back(&name, &before, &event.to_json().unwrap(), bus);
            assert!(event.errors().is_empty(), "{name}");
            let is_typed = event.is::<UserLogin>() || event.is::<FetchPage>() || event.is::<Tick>();
            assert_eq!(is_typed, bus.id() == typed.id(), "{name}");
        }
    }
}

#[test]
fn ser_006b_text_gives_the_same_as_parsed_json() {
    for (name, text) in EVENTS {
        let json: Json = serde_json::from_str(text).unwrap();
        let (one, two, three) = (EventBus::new("Here"), EventBus::new("Here"), EventBus::new("Here"));
        let same = |event: AnyEvent, bus: &EventBus| {
            let mut json = done(&event).to_json().unwrap();
            for field in OF_ITS_RUN {
                json[field] = Json::Null;
            }
            let path = json["event_path"].as_array_mut().unwrap();
            assert_eq!(path.pop(), Some(json!(bus.label())));
            json
        };
        let parsed = same(one.emit_json(&json).unwrap(), &one);
        assert_eq!(same(two.emit_json_str(text).unwrap(), &two), parsed, "{name}");
        assert_eq!(same(three.emit_json_slice(text.as_bytes()).unwrap(), &three), parsed, "{name}");
    }
}

#[test]
fn ser_006c_values_of_all_shapes_come_back_equal() {
    let picture = json!({ "image": "…", "region": { "x": 1.5, "w": [1, 2] }, "none": null, "on": true });
    let values =
        [json!(1.5), json!("ü€😀\u{0}"), json!(true), Json::Null, json!([1, "two", [3.5]]), json!({}), picture];
    let (there, back) = (EventBus::new("There"), EventBus::new("Back"));
    for value in values {
        let before = json!({ "event_type": "Shape", "value": value, "nested": { "value": value } });
        let event = there.emit_json(&before).unwrap();
        let text = done(&event).to_json().unwrap().to_string();
        let after = done(&back.emit_json_str(&text).unwrap()).to_json().unwrap();
        assert_eq!((&after["value"], &after["nested"]), (&before["value"], &before["nested"]));
        assert_eq!(after["event_id"], event.id().to_string());
    }
}

#[test]
fn ser_006d_numbers_survive_exactly() {
    let (there, back) = (EventBus::new("There"), EventBus::new("Back"));
    back.on(|tick: &Event<Tick>| assert_eq!(tick.n, u64::MAX));
    let tick = there.emit(Tick { n: u64::MAX }).to_json().unwrap();
    assert!(done(&back.emit_json_str(&tick.to_string()).unwrap()).errors().is_empty());

    let integers = [0, 1, (1 << 53) + 1, i64::MAX].map(|n| json!(n));
    let others = [json!(u64::MAX), json!(i64::MIN), json!(-1)];
    let floats =
        [0.1, 1.0, -0.0, f64::MIN_POSITIVE, 5e-324, f64::MAX, 0.1 + 0.2, 1.797_693_134_862_315_7e308].map(|f| json!(f));
    for number in integers.iter().chain(&others).chain(&floats) {
        let text = json!({ "event_type": "Number", "value": number }).to_string();
        let event = done(&there.emit_json_str(&text).unwrap());
        let again = done(&back.emit_json_str(&event.to_json().unwrap().to_string()).unwrap()).to_json().unwrap();
        assert_eq!(&again["value"], number);
        assert_eq!(again["value"].to_string(), number.to_string());
    }
}

#[test]
fn ser_007_results_keep_their_type_on_the_other_side() {
    let there = EventBus::new("There");
    let login = done(&there.emit(UserLogin { username: "ann".into(), is_admin: false })).to_json().unwrap();
    let here = EventBus::new("Here");
    let known = here.subscribe::<UserLogin>();
    here.on_named("UserLogin", |_| AnyOutput::json(json!("right")));
    here.on_named("UserLogin", |_| AnyOutput::json(json!({ "wrong": 1 })));
    let event = done(&here.emit_json(&login).unwrap()).downcast::<UserLogin>().unwrap();
    let results = event.results();
    assert_eq!((results[0].status, results[0].value.as_deref()), (ResultStatus::Completed, Some("right")));
    assert_eq!((results[1].status, results[1].value.as_deref()), (ResultStatus::Error, None));
    let json = event.to_json().unwrap();
    assert_eq!(json["event_results"][0]["result"], "right");
    assert_eq!(json["event_results"][1]["error"]["type"], "WrongType");
    drop(known);
}

#[test]
fn ser_001_a_bus_in_json_has_options_handlers_history_and_queue() {
    let id = BusId("018f8e40-1234-7000-8000-000000001234".parse().unwrap());
    let bus = EventBus::builder("Snapshot")
        .id(id)
        .max_history(Some(500))
        .history_policy(HistoryPolicy::Reject)
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .handler_completion(HandlerCompletion::First)
        .handler_timeout(None)
        .handler_slow_after(Some(Duration::from_secs(12)))
        .event_slow_after(Some(Duration::from_millis(34_500)))
        .queue_capacity(7, OnFull::BlockFor(Duration::from_millis(250)))
        .build()
        .unwrap();
    let info = bus.on(|_: &Event<Tick>| {});
    bus.pause();
    let event = bus.emit(Tick { n: 7 });
    let json = bus.to_json().unwrap();
    let options = json!({
        "id": id.to_string(), "name": "Snapshot", "label": "Snapshot#1234", "max_history_size": 500, "max_history_drop": false,
        "event_concurrency": "parallel", "event_handler_concurrency": "parallel", "event_handler_completion": "first",
        "event_timeout": null, "event_handler_timeout": null, "event_handler_slow_timeout": 12.0, "event_slow_timeout": 34.5,
        "queue_capacity": 7, "on_full": { "block_for": 0.25 }, "fairness": "strict", "require_handler": false, "dead_letters": 0,
    });
    for (field, value) in options.as_object().unwrap() {
        assert_eq!(&json[field], value, "{field}");
    }
    let (handler, id) = (info.id().to_string(), event.id().to_string());
    assert_eq!(json["handlers"].as_object().unwrap().keys().collect::<Vec<_>>(), [&handler]);
    assert_eq!(json["handlers_by_key"], json!({ "Tick": [handler] }));
    assert_eq!(json["event_history"].as_object().unwrap().keys().collect::<Vec<_>>(), [&id]);
    assert_eq!(
        (&json["event_history"][&id]["n"], &json["event_history"][&id]["event_status"]),
        (&json!(7), &json!("pending"))
    );
    assert_eq!(json["pending_event_queue"], json!([id]));
    bus.resume();
    done(&event);
    assert_eq!(bus.to_json().unwrap()["pending_event_queue"], json!([]));

    // A tool that reads the other implementations' buses finds what it looks for.
    let theirs: Json = serde_json::from_str(BUS).unwrap();
    let missing: Vec<_> = theirs.as_object().unwrap().keys().filter(|field| json.get(field).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let handlers = theirs["handlers"].as_object().unwrap().values();
    for field in handlers.flat_map(|handler| handler.as_object().unwrap().keys()) {
        assert!(json["handlers"][&handler].get(field).is_some(), "{field}");
    }
}

#[test]
fn ser_001b_a_bus_shows_what_cannot_be_json() {
    struct Raw;
    impl Payload for Raw {
        type Output = u8;
    }
    let bus = EventBus::new("Snapshot");
    bus.on(|_: &Event<Raw>| 7);
    let (raw, tick) = (done(&bus.emit(Raw)), done(&bus.emit(Tick { n: 1 })));
    let history = bus.to_json().unwrap()["event_history"].clone();
    let shown = &history[raw.id().to_string()];
    assert_eq!((&shown["event_type"], &shown["event_status"]), (&json!("Raw"), &json!("completed")));
    assert_eq!(shown["json_error"], "Raw has no codec");
    assert_eq!(shown["event_results"][0]["json_error"], "Raw has no codec");
    assert_eq!(history[tick.id().to_string()], tick.to_json().unwrap());
}

#[test]
fn every_option_of_an_event_is_in_json_and_holds_there() {
    let there = EventBus::new("There");
    let parent = there.emit(Tick { n: 0 });
    let options = EventOptions::new()
        .timeout(Duration::from_millis(1500))
        .handler_timeout(Duration::from_secs(2))
        .slow_after(Duration::from_secs(3))
        .handler_slow_after(Duration::from_millis(1))
        .concurrency(EventConcurrency::GlobalSerial)
        .handler_concurrency(HandlerConcurrency::EventSerial)
        .completion(HandlerCompletion::First)
        .priority(Priority::HIGH)
        .parent(&parent)
        .correlation_id("request-7");
    let event = done(&there.emit_with(Tick { n: 1 }, options));
    let json = event.to_json().unwrap();
    let expected = json!({
        "event_id": event.id().to_string(), "event_type": "Tick", "event_version": "0.0.1", "event_timeout": 1.5,
        "event_handler_timeout": 2.0, "event_slow_timeout": 3.0, "event_handler_slow_timeout": 0.001,
        "event_concurrency": "global-serial", "event_handler_concurrency": "serial", "event_handler_completion": "first",
        "event_priority": 8, "event_parent_id": parent.id().to_string(), "event_emitted_by_handler_id": null,
        "event_correlation_id": "request-7", "event_path": [], "event_result_type": null, "n": 1,
    });
    came_back("ours", &expected, &json, &there);
    let here = EventBus::new("Here");
    let copy = done(&here.emit_json(&json).unwrap());
    came_back("ours", &json, &copy.to_json().unwrap(), &here);
    assert_eq!((copy.priority(), copy.correlation_id()), (Priority::HIGH, "request-7"));
    assert_eq!(copy.path(), [there.label(), here.label()]);

    // It is the first value that completes it, and its timeout that ends it.
    let slow = json!({ "event_type": "Slow", "event_handler_timeout": 0.02, "event_handler_concurrency": "parallel" });
    here.on_named("Slow", |_| {
        threadbus::HandlerContext::current().map(|c| c.sleep(common::PATIENCE)).map_or(Ok(()), |slept| slept)
    });
    let ended = done(&here.emit_json(&slow).unwrap());
    assert_eq!(ended.to_json().unwrap()["event_results"][0]["error"]["type"], "TimedOut");
}

#[test]
fn every_way_to_meet_a_full_queue_and_to_be_fair_is_in_json() {
    let shown = |on_full, fairness| {
        let bus = EventBus::builder("Shown").queue_capacity(1, on_full).fairness(fairness).build().unwrap();
        let json = bus.to_json().unwrap();
        (json["on_full"].clone(), json["fairness"].clone())
    };
    for (on_full, expected) in [
        (OnFull::Block, "block"),
        (OnFull::Reject, "reject"),
        (OnFull::DropOldest, "drop-oldest"),
        (OnFull::RunInline, "run-inline"),
    ] {
        assert_eq!(shown(on_full, Fairness::Strict), (json!(expected), json!("strict")));
    }
    let weighted = Fairness::Weighted { high: 3, normal: 2, low: 1 };
    assert_eq!(shown(OnFull::Block, weighted).1, json!({ "high": 3, "normal": 2, "low": 1 }));
}

#[test]
fn who_ended_a_handler_is_in_json() {
    let bus = EventBus::new("Ended");
    let gate = common::Gate::new();
    let _open = gate.opener();
    let stands = gate.clone();
    bus.on(move |_: &Event<Tick>| stands.wait());
    bus.on(|_: &Event<Tick>| {});
    let tick = bus.emit(Tick { n: 1 });
    common::eventually(|| tick.started_at().is_some());
    assert!(tick.cancel());
    let json = done(&tick).to_json().unwrap();
    let kinds = [0, 1].map(|at| json["event_results"][at]["error"]["type"].clone());
    assert_eq!(kinds, [json!("Aborted"), json!("Cancelled")]);
}

#[test]
fn failures_and_attempts_are_in_json() {
    let bus = EventBus::new("Failures");
    bus.on(|_: &Event<Tick>| Err::<(), _>("no network"));
    bus.on(|_: &Event<Tick>| panic!("oh"));
    bus.on(|_: &Event<Tick>| -> Result<(), HandlerError> { Err(Unprintable)? });
    let json = done(&bus.emit(Tick { n: 1 })).to_json().unwrap();
    let error = |at: usize| json["event_results"][at]["error"].clone();
    assert_eq!(error(0), json!({ "type": "Failed", "message": "no network" }));
    assert_eq!(error(1), json!({ "type": "Panicked", "message": "handler panicked: oh" }));
    assert_eq!(error(2), json!({ "type": "Failed", "message": "its Display panicked: again" }));
    assert_eq!(
        (&json["event_results"][0]["status"], &json["event_results"][0]["attempts"]),
        (&json!("error"), &json!(1))
    );
}

#[derive(Debug)]
struct Unprintable;
impl std::error::Error for Unprintable {}
impl std::fmt::Display for Unprintable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("again")
    }
}

#[test]
fn an_event_goes_around_by_json_and_stays_one() {
    let (here, there) = (EventBus::new("Here"), EventBus::new("There"));
    let runs = common::Log::new();
    for (bus, other) in [(&here, &there), (&there, &here)] {
        let (runs, label, other) = (runs.clone(), bus.label().to_owned(), other.downgrade());
        bus.on_any(move |event| {
            runs.push(&label);
            let text = event.to_json()?.to_string();
            if let Some(other) = other.upgrade() {
                other.emit_json_str(&text)?;
            }
            Ok::<_, HandlerError>(())
        });
    }
    let event = here.emit(Tick { n: 3 });
    done(&event);
    idle(&there);
    idle(&here);
    assert_eq!(runs.entries(), [here.label(), there.label()]);
    let copy = there.event(event.id()).unwrap();
    assert_eq!(copy.payload_json().unwrap(), json!({ "n": 3 }));
    assert_eq!(copy.path(), [here.label(), there.label()]);
}
