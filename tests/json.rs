//! Conformance, sections TYPE and RES on events in JSON, and the lines of CORE, REG, FIRST, PARENT and FIND that need an event from
//! elsewhere.

mod common;

use common::{done, idle, stands};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use threadbus::{
    AnyEvent, AnyOutput, Codec, Event, EventBus, EventOptions, EventStatus, HandlerFailure, HandlerOptions, Json,
    JsonError, Payload, ResultStatus, event,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Job {
    n: u32,
}
event!(Job);

#[derive(Serialize, Deserialize)]
struct Count {}
event!(Count => i64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Totals {
    items: Vec<i64>,
    meta: BTreeMap<String, bool>,
}
#[derive(Serialize, Deserialize)]
struct Summary {}
event!(Summary => Totals);

const SOME_ID: &str = "018f8e40-1234-7000-8000-000000001234";
const HANDLER_ID: &str = "018f8e40-1234-7000-8000-000000000301";

fn refusal(bus: &EventBus, event: &Json) -> String {
    let error = bus.emit_json(event).unwrap_err().to_string();
    assert_eq!(bus.history_len(), 0, "nothing is left of a refused event");
    error
}

#[test]
fn core_041_a_nested_payload_survives_json() {
    let bus = EventBus::new("Nested");
    let payload = json!({
        "rows": [{ "name": "a", "tags": ["x", null] }], "lists": { "even": [2, 4] }, "at": "2025-01-02T03:04:05Z", "nothing": null,
    });
    let mut event = payload.clone();
    event["event_type"] = json!("Nested");
    let event = done(&bus.emit_json(&event).unwrap());
    assert_eq!(event.payload_json().unwrap(), payload);
    assert_eq!(event.to_json().unwrap()["rows"][0]["tags"][0], "x");
}

#[test]
fn core_045_an_event_written_down_and_read_again_has_no_times_yet() {
    let (from, to) = (EventBus::new("From"), EventBus::new("To"));
    to.pause();
    let json = done(&from.emit(Job { n: 1 })).to_json().unwrap();
    assert_eq!(json["event_status"], "completed");
    let copy = to.emit_json(&json).unwrap();
    assert_eq!((copy.status(), copy.started_at(), copy.completed_at()), (EventStatus::Pending, None, None));
    assert_eq!(copy.to_json().unwrap()["event_started_at"], Json::Null);
    to.resume();
    assert_eq!(done(&copy).status(), EventStatus::Completed);
}

#[test]
fn core_046_the_start_in_json_is_the_events_own() {
    let bus = EventBus::new("Edited");
    bus.on(|_: &Event<Job>| {});
    let event = done(&bus.emit(Job { n: 1 }));
    let before = event.to_json().unwrap();
    event.results()[0].started_at = None;
    assert!(before["event_started_at"].is_string());
    assert_eq!(event.to_json().unwrap(), before);
}

#[test]
fn core_047_status_in_json_goes_from_pending_to_started_to_completed() {
    let bus = EventBus::new("Steps");
    let (gate, inside) = stands::<Job>(&bus);
    let _opener = gate.opener();
    bus.pause();
    let event = bus.emit(Job { n: 1 });
    let status = || {
        let json = event.to_json().unwrap();
        (json["event_status"].clone(), json["event_pending_bus_count"].clone())
    };
    assert_eq!(status(), (json!("pending"), json!(1)));
    bus.resume();
    inside.wait();
    assert_eq!(status(), (json!("started"), json!(1)));
    assert_eq!(event.to_json().unwrap()["event_results"][0]["status"], "started");
    gate.open();
    done(&event);
    assert_eq!(status(), (json!("completed"), json!(0)));
}

#[test]
fn type_005_a_version_survives_json() {
    let bus = EventBus::new("Versions");
    let event = bus.emit_json(&json!({ "event_type": "Any", "event_version": "9.9.9" })).unwrap();
    assert_eq!(done(&event).version(), "9.9.9");
    assert_eq!(event.to_json().unwrap()["event_version"], "9.9.9");
    assert_eq!(bus.emit_json(&json!({ "event_type": "Any" })).unwrap().version(), "0.0.1");

    bus.on(|_: &Event<Job>| {});
    let typed = bus.emit_json(&json!({ "event_type": "Job", "n": 1, "event_version": "9.9.9" })).unwrap();
    assert_eq!(typed.downcast::<Job>().unwrap().version(), "9.9.9");
    assert_eq!(bus.emit(Job { n: 1 }).to_json().unwrap()["event_version"], "0.0.1");
}

#[test]
fn type_007_fields_of_the_event_are_refused_in_payloads_and_options_are_in_json() {
    let bus = EventBus::new("Reserved");
    assert_eq!(refusal(&bus, &json!({ "event_type": "Any", "model_colour": 1 })), "field model_colour is reserved");

    #[derive(Serialize, Deserialize)]
    struct Own {
        event_colour: u8,
    }
    event!(Own);
    let own = bus.emit(Own { event_colour: 1 }).to_json();
    assert!(matches!(own, Err(JsonError::ReservedField { field }) if field == "event_colour"));

    #[derive(Serialize, Deserialize)]
    struct Slow {}
    event!(
        Slow,
        timeout = Duration::from_secs(123),
        slow_after = Duration::from_secs(9),
        handler_timeout = Duration::from_secs(45)
    );
    let limits = |event: &Event<Slow>| {
        let json = event.to_json().unwrap();
        ["event_timeout", "event_slow_timeout", "event_handler_timeout", "event_handler_slow_timeout"]
            .map(|f| json[f].as_f64())
    };
    assert_eq!(limits(&bus.emit(Slow {})), [Some(123.0), Some(9.0), Some(45.0), None]);
    let own = EventOptions::new().timeout(Duration::from_millis(1500));
    assert_eq!(limits(&bus.emit_with(Slow {}, own)), [Some(1.5), Some(9.0), Some(45.0), None]);
}

#[test]
fn type_008_fields_of_the_model_are_reserved() {
    let bus = EventBus::new("Reserved");
    assert_eq!(refusal(&bus, &json!({ "event_type": "Any", "model_config": {} })), "field model_config is reserved");

    #[derive(Serialize, Deserialize)]
    struct Model {
        model_year: u16,
    }
    event!(Model);
    let json = bus.emit(Model { model_year: 1990 }).to_json();
    assert!(matches!(json, Err(JsonError::ReservedField { field }) if field == "model_year"));
}

#[test]
fn type_010_what_an_event_brings_along_reads_back_unchanged() {
    let bus = EventBus::new("Brought");
    let json = json!({
        "event_type": "Any",
        "event_created_at": "2025-01-02T03:04:05.678901234Z",
        "event_started_at": "2025-01-02T03:04:06.100000000Z",
        "event_completed_at": "2025-01-02T03:04:07.200000000Z",
        "event_slow_timeout": 1.5,
        "event_emitted_by_handler_id": HANDLER_ID,
        "event_pending_bus_count": 2,
    });
    let event = done(&bus.emit_json(&json).unwrap());
    let created = event.created_at();
    assert_eq!((created.timestamp(), created.timestamp_subsec_nanos()), (1_735_787_045, 678_901_234));
    assert_eq!(event.emitted_by().unwrap().to_string(), HANDLER_ID);
    let again = event.to_json().unwrap();
    for field in ["event_created_at", "event_slow_timeout", "event_emitted_by_handler_id"] {
        assert_eq!(again[field], json[field], "{field}");
    }
    // These tell of its run, which is this one.
    assert_eq!(again["event_pending_bus_count"], 0);
    assert!(event.started_at().unwrap() > created);
    assert_ne!(again["event_completed_at"], json["event_completed_at"]);
}

#[test]
fn type_012_no_parent_is_null() {
    let bus = EventBus::new("Orphans");
    for json in [json!({ "event_type": "Any" }), json!({ "event_type": "Any", "event_parent_id": null })] {
        let event = bus.emit_json(&json).unwrap();
        assert_eq!(event.parent_id(), None);
        assert_eq!(event.to_json().unwrap()["event_parent_id"], Json::Null);
    }
}

#[test]
fn type_013_no_emitting_handler_is_null() {
    let bus = EventBus::new("Outside");
    let fresh = bus.emit(Job { n: 1 });
    assert_eq!(fresh.to_json().unwrap()["event_emitted_by_handler_id"], Json::Null);
    for json in [json!({ "event_type": "Any" }), json!({ "event_type": "Any", "event_emitted_by_handler_id": null })] {
        let event = bus.emit_json(&json).unwrap();
        assert_eq!(event.emitted_by(), None);
        assert_eq!(event.to_json().unwrap()["event_emitted_by_handler_id"], Json::Null);
    }
}

#[test]
fn type_014_a_schema_passes_through() {
    let bus = EventBus::new("Schemas");
    let schema = json!({ "type": "integer" });
    let event = bus.emit_json(&json!({ "event_type": "Any", "event_result_type": schema })).unwrap();
    assert_eq!(event.to_json().unwrap()["event_result_type"], schema);
    assert_eq!(bus.emit(Count {}).to_json().unwrap()["event_result_type"], Json::Null);
}

/// Emits it, with a handler that returns this JSON; how that result ended.
fn answered(event: &Json, answer: Json) -> (ResultStatus, AnyEvent) {
    let bus = EventBus::new("Answers");
    bus.subscribe::<Count>();
    bus.subscribe::<Summary>();
    bus.subscribe::<Job>();
    bus.on_named("*", move |_| AnyOutput::json(answer.clone()));
    let event = done(&bus.emit_json(event).unwrap());
    (event.results()[0].status, event)
}

#[test]
fn type_015_json_results_are_read_as_the_events_output() {
    let count = json!({ "event_type": "Count" });
    assert_eq!(answered(&count, json!(123)).0, ResultStatus::Completed);
    assert_eq!(answered(&count, json!(1.5)).0, ResultStatus::Error);
    assert_eq!(answered(&json!({ "event_type": "Job", "n": 1 }), Json::Null).0, ResultStatus::Completed);
}

#[test]
fn type_016_objects_too() {
    let summary = json!({ "event_type": "Summary" });
    let right = json!({ "items": [1, 2, 3], "meta": { "ok": true } });
    let (status, event) = answered(&summary, right.clone());
    assert_eq!(status, ResultStatus::Completed);
    assert_eq!(event.to_json().unwrap()["event_results"][0]["result"], right);
    let wrong = json!({ "items": ["bad"], "meta": { "ok": "yes" } });
    assert_eq!(answered(&summary, wrong).0, ResultStatus::Error);
}

#[test]
fn reg_017_a_registration_in_json() {
    let bus = EventBus::new("Metadata");
    let line = line!() + 1;
    let info = bus.on_with(HandlerOptions::new().name("count").timeout(Duration::from_secs(2)), |_: &Event<Job>| {});
    let json = bus.to_json().unwrap();
    let entry = &json["handlers"][info.id().to_string()];
    assert_eq!(entry["id"], info.id().to_string());
    assert_eq!(entry["event_pattern"], "Job");
    assert_eq!(entry["eventbus_name"], "Metadata");
    assert_eq!(entry["eventbus_id"], bus.id().to_string());
    assert_eq!(entry["handler_name"], "count");
    assert_eq!(entry["handler_file_path"], format!("{}:{line}", file!()));
    assert_eq!(entry["handler_timeout"], 2.0);
    assert_eq!(json["handlers_by_key"], json!({ "Job": [info.id().to_string()] }));
}

#[test]
fn res_009_types_hold_on_the_other_side() {
    let summary = EventBus::new("From").emit(Summary {}).to_json().unwrap();
    let right = json!({ "items": [7], "meta": { "from-json": true } });
    let (status, event) = answered(&summary, right);
    assert_eq!(status, ResultStatus::Completed);
    let totals = Totals { items: vec![7], meta: BTreeMap::from([("from-json".into(), true)]) };
    assert_eq!(event.downcast::<Summary>().unwrap().result().unwrap(), totals);
    assert_eq!(answered(&summary, json!(true)).0, ResultStatus::Error);
}

#[test]
fn res_011_json_becomes_the_typed_output() {
    let bus = EventBus::new("Cast");
    bus.on_named("Summary", |_| AnyOutput::json(json!({ "items": [1], "meta": {} })));
    bus.on_named("Summary", |_| AnyOutput::json(json!({ "items": 1 })));
    bus.on_named("Summary", |_| AnyOutput::new(Totals { items: vec![2], meta: BTreeMap::new() }));
    let event = done(&bus.emit(Summary {}));
    let results = event.results();
    assert_eq!(results[0].value.as_ref().unwrap().items, [1]);
    let wrong = results[1].error.as_deref().unwrap();
    assert!(matches!(wrong, HandlerFailure::WrongType { expected, .. } if expected.contains("Totals")), "{wrong}");
    let json = event.to_json().unwrap();
    assert_eq!(json["event_results"][2]["result"], json!({ "items": [2], "meta": {} }));
    assert_eq!(json["event_results"][1]["error"]["type"], "WrongType");
    assert_eq!(json["event_results"][1]["error"]["message"], wrong.to_string());
}

#[test]
fn res_012_a_result_names_its_handler_by_plain_fields() {
    let bus = EventBus::new("Results");
    let info = bus.on_with(HandlerOptions::new().name("emits"), |event: &Event<Count>| {
        event.bus().emit(Job { n: 1 });
        7
    });
    let event = done(&bus.emit(Count {}));
    let child = event.children()[0].id();
    let json = event.to_json().unwrap();
    let result = &json["event_results"][0];
    let mut fields: Vec<_> = result.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let expected = [
        "attempts",
        "completed_at",
        "error",
        "event_children",
        "event_id",
        "eventbus_id",
        "eventbus_name",
        "handler_event_pattern",
        "handler_file_path",
        "handler_id",
        "handler_name",
        "handler_registered_at",
        "id",
        "result",
        "started_at",
        "status",
    ];
    assert_eq!(fields, expected);
    assert_eq!(result["id"], event.results()[0].id.to_string());
    assert_eq!((&result["status"], &result["error"]), (&json!("completed"), &Json::Null));
    assert_eq!(result["event_id"], event.id().to_string());
    assert_eq!(result["handler_id"], info.id().to_string());
    assert_eq!((&result["handler_name"], &result["handler_event_pattern"]), (&json!("emits"), &json!("Count")));
    assert_eq!((&result["eventbus_name"], &result["eventbus_id"]), (&json!("Results"), &json!(bus.id().to_string())));
    assert_eq!((&result["result"], &result["attempts"]), (&json!(7), &json!(1)));
    assert_eq!(result["event_children"], json!([child.to_string()]));
    for time in ["handler_registered_at", "started_at", "completed_at"] {
        let text = result[time].as_str().unwrap();
        assert!(text.len() == "2025-01-02T03:04:05.678901234Z".len() && text.ends_with('Z'), "{time}: {text}");
    }
}

#[test]
fn first_019_completion_is_null_until_first_asks() {
    let bus = EventBus::new("First");
    bus.on(|_: &Event<Count>| 1);
    bus.pause();
    let event = bus.emit(Count {});
    let completion = || event.to_json().unwrap()["event_handler_completion"].clone();
    assert_eq!(completion(), Json::Null);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| event.first());
        common::eventually(|| completion() == "first");
        bus.resume();
        assert_eq!(first.join().unwrap().unwrap(), Some(1));
    });
    assert_eq!(completion(), "first");
}

#[test]
fn parent_008_a_parent_id_from_elsewhere_is_kept() {
    let bus = EventBus::new("Parents");
    let event = done(&bus.emit_json(&json!({ "event_type": "Any", "event_parent_id": SOME_ID })).unwrap());
    assert_eq!(event.parent_id().unwrap().to_string(), SOME_ID);
    assert!(event.parent().is_none(), "nobody here has it");
    assert_eq!(event.to_json().unwrap()["event_parent_id"], SOME_ID);

    // Once it comes, they are related.
    let parent = done(&bus.emit_json(&json!({ "event_type": "Any", "event_id": SOME_ID })).unwrap());
    assert!(event.is_child_of(&parent));
    assert_eq!(bus.find_named("*").child_of(&parent).first().unwrap().id(), event.id());
}

#[test]
fn parent_008b_a_parent_that_is_here_is_linked_and_waits() {
    let bus = EventBus::new("Parents");
    bus.on(|event: &Event<Job>| {
        let child = json!({ "event_type": "Child", "event_parent_id": event.id().to_string() });
        let stranger = json!({ "event_type": "Stranger", "event_parent_id": SOME_ID });
        let own = json!({ "event_type": "Own" });
        for json in [child, stranger, own] {
            event.bus().emit_json(&json).unwrap();
        }
    });
    let event = done(&bus.emit(Job { n: 1 }));
    let types: Vec<_> = event.children().iter().map(|child| child.event_type().to_owned()).collect();
    assert_eq!(types, ["Child", "Own"], "a handler's event is the parent unless another is named");
    assert!(event.children().iter().all(|child| child.is_completed() && child.emitted_by().is_some()));
    idle(&bus);
    let stranger = bus.find_named("Stranger").first().unwrap();
    assert_eq!((stranger.parent_id().unwrap().to_string().as_str(), stranger.emitted_by()), (SOME_ID, None));
}

#[test]
fn without_a_codec_or_an_object_only_json_is_missing() {
    struct Raw;
    impl Payload for Raw {
        type Output = u8;
    }
    #[derive(Serialize, Deserialize)]
    struct Metres(f64);
    impl Payload for Metres {
        type Output = ();
        fn codec() -> Option<Codec<Self>> {
            Some(Codec::serde())
        }
    }
    let bus = EventBus::new("Plain");
    bus.on(|_: &Event<Raw>| 7);
    let raw = done(&bus.emit(Raw));
    assert_eq!(raw.result().unwrap(), 7);
    assert_eq!(raw.to_json().unwrap_err().to_string(), "Raw has no codec");
    assert!(matches!(raw.as_ref().payload_json(), Err(JsonError::NoCodec { event_type }) if event_type == "Raw"));
    assert_eq!(bus.emit_json(&json!({ "event_type": "Raw" })).unwrap_err().to_string(), "Raw has no codec");

    #[derive(Serialize, Deserialize)]
    struct Ping;
    event!(Ping);
    assert_eq!(bus.emit(Ping).to_json().unwrap_err().to_string(), "Ping does not serialize to a JSON object");
    let metres = done(&bus.emit(Metres(1.5)));
    assert!(matches!(metres.to_json(), Err(JsonError::NotAnObject { event_type }) if event_type == "Metres"));
    assert_eq!(AnyEvent::from(metres).payload_json().unwrap(), json!(1.5));
    assert!(matches!(bus.emit_json(&json!({ "event_type": "Metres" })), Err(JsonError::Serde(_))));
}
