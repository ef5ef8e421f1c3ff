//! Events for the Python package `bubus` as it is released, and from it: by a recorded file, by what its reader takes, and with the
//! package itself where Python and the package are to be had.

mod common;
mod python;

use common::done;
use python::Python;
use serde::{Deserialize, Serialize};
use serde_json::json;
use threadbus::{AnyOutput, Event, EventBus, EventOptions, Json, JsonError, JsonStyle, Payload, Priority, event};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct UserLogin {
    user: String,
    n: i64,
    f: f64,
    tags: Vec<String>,
    opt: Option<u8>,
}
event!(UserLogin => String);
#[derive(Serialize, Deserialize)]
struct Untyped {
    text: String,
}
event!(Untyped => Json);

#[derive(Serialize, Deserialize)]
struct Measured {
    value: u32,
}
event!(Measured => u32);

const RECORDED: &str = include_str!("data/wire/py-released-1.5.6-UserLogin.json");

fn ann() -> UserLogin {
    UserLogin { user: "ann".into(), n: 41, f: 1.0, tags: vec!["ü".into()], opt: Some(3) }
}

fn main_bus() -> EventBus {
    let bus = EventBus::new("Main-Bus");
    bus.on(|login: &Event<UserLogin>| format!("hello {} {}", login.user, login.n));
    bus.on(|text: &Event<Untyped>| json!({ "length": text.text.len() }));
    bus
}

fn fields(json: &Json) -> Vec<&str> {
    json.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_recorded_event_comes_in_typed_or_not_and_goes_on_with_its_schema() {
    let recorded: Json = serde_json::from_str(RECORDED).unwrap();
    let (typed, untyped) = (main_bus(), EventBus::new("Untyped"));
    untyped.on_any(|event| event.payload_json().map(AnyOutput::json));
    for bus in [&typed, &untyped] {
        let parsed = done(&bus.emit_json(&recorded).unwrap());
        assert!(parsed.errors().is_empty());
        assert_eq!(parsed.is::<UserLogin>(), bus.id() == typed.id());
        assert_eq!(parsed.path(), ["PyBus", bus.label()]);
        let json = parsed.to_json().unwrap();
        for field in ["event_id", "event_schema", "event_timeout", "event_result_type", "user", "n", "f", "tags", "opt"]
        {
            assert_eq!(json[field], recorded[field], "{field}");
        }
        // That instant, in nine digits.
        assert_eq!(json["event_created_at"], "2026-11-29T07:32:35.884195000Z");
        assert!(json.get("event_processed_at").is_none(), "what happened there is not told on");
        let back = parsed.to_json_with(JsonStyle::bubus()).unwrap();
        assert_eq!(back["event_schema"], recorded["event_schema"]);
        assert_eq!(back["event_path"], json!(["PyBus", bus.name().replace('-', "_")]));
        assert!(back.get("event_result_type").is_none() && back.get("event_processed_at").is_none());
    }
    let text = EventBus::new("Text");
    let event = done(&text.emit_json_str(RECORDED).unwrap());
    assert_eq!(event.payload_json().unwrap()["user"], "bob");
}

#[test]
fn what_the_package_calls_its_own_is_never_a_payload() {
    for field in ["event_schema", "event_processed_at"] {
        let bus = EventBus::new("Reader");
        let mut event = json!({ "event_type": "Note", "n": 1 });
        event[field] = Json::Null;
        assert_eq!(bus.emit_json(&event).unwrap().payload_json().unwrap(), json!({ "n": 1 }));
        event[field] = json!("2026-11-29T07:32:35.884775Z");
        assert_eq!(bus.emit_json(&event).unwrap().payload_json().unwrap(), json!({ "n": 1 }), "{field}");
    }
}

#[test]
fn results_are_taken_as_a_list_and_as_a_mapping() {
    let bus = EventBus::new("Reader");
    for results in [json!([]), json!([{ "status": "completed" }]), json!({}), json!({ "140.7": { "result": 7 } })] {
        let event = json!({ "event_type": "Note", "event_results": results });
        assert!(bus.emit_json(&event).is_ok(), "{event}");
    }
    for style in [JsonStyle::new(), JsonStyle::bubus().results(true)] {
        let login = done(&main_bus().emit(ann()));
        let copy = done(&bus.emit_json(&login.to_json_with(style).unwrap()).unwrap());
        assert_eq!(copy.id(), login.id());
        assert_eq!(bus.event(copy.id()).unwrap().payload_json().unwrap(), serde_json::to_value(ann()).unwrap());
    }
}

#[test]
fn what_is_written_for_python_is_what_its_reader_takes() {
    let bus = main_bus();
    let options = EventOptions::new().priority(Priority::HIGH).correlation_id("request-7").no_timeout();
    let login = done(&bus.emit_with(ann(), options));
    let json = login.to_json_with(JsonStyle::bubus()).unwrap();
    let expected = [
        "event_correlation_id",
        "event_created_at",
        "event_id",
        "event_path",
        "event_priority",
        "event_timeout",
        "event_type",
        "event_version",
        "f",
        "n",
        "opt",
        "tags",
        "user",
    ];
    assert_eq!(fields(&json), expected);
    assert_eq!((&json["event_timeout"], &json["event_path"]), (&Json::Null, &json!(["Main_Bus"])));
    // What is not set is absent, so that the Python class's default holds.
    let plain = done(&bus.emit(ann())).to_json_with(JsonStyle::bubus()).unwrap();
    assert!(plain.get("event_timeout").is_none() && plain.get("event_parent_id").is_none());

    let json = login.to_json_with(JsonStyle::bubus().results(true)).unwrap();
    let (handler, result) = json["event_results"].as_object().unwrap().iter().next().unwrap();
    assert!(handler.bytes().all(|digit| digit.is_ascii_digit()), "{handler}");
    let expected = [
        "completed_at",
        "event_id",
        "eventbus_id",
        "eventbus_name",
        "handler_id",
        "handler_name",
        "id",
        "result",
        "started_at",
        "status",
    ];
    assert_eq!(fields(result), expected);
    assert_eq!((&result["handler_id"], &result["eventbus_name"]), (&json!(handler), &json!("Main_Bus")));
    assert_eq!((&result["result"], &result["status"]), (&json!("hello ann 41"), &json!("completed")));
    assert_eq!(json["event_processed_at"], login.to_json().unwrap()["event_completed_at"]);
}

#[test]
fn the_plain_style_is_what_to_json_writes() {
    let main = main_bus();
    let login = done(&main.emit(ann()));
    let plain = login.to_json().unwrap();
    assert_eq!(login.to_json_with(JsonStyle::new()).unwrap(), plain);
    assert_eq!(main.event(login.id()).unwrap().to_json_with(JsonStyle::default()).unwrap(), plain);
    let mut without = plain.clone();
    without.as_object_mut().unwrap().remove("event_results");
    assert_eq!(login.to_json_with(JsonStyle::new().results(false)).unwrap(), without);
}

#[test]
fn what_the_package_could_not_read_is_refused_by_its_field() {
    #[derive(Serialize, Deserialize)]
    struct Page<T> {
        content: T,
    }
    impl Payload for Page<u8> {
        type Output = ();
        fn codec() -> Option<threadbus::Codec<Self>> {
            Some(threadbus::Codec::serde())
        }
    }
    let bus = EventBus::new("app");
    let page = bus.emit(Page { content: 7_u8 });
    assert!(page.to_json().is_ok());
    let refused = page.to_json_with(JsonStyle::bubus()).unwrap_err();
    assert!(matches!(&refused, JsonError::InvalidField { field, .. } if field == "event_type"), "{refused}");
    assert!(refused.to_string().contains("Page<u8>"), "{refused}");

    // Whatever `to_json` refuses, but for results that are not written.
    #[derive(Serialize, Deserialize)]
    struct Odd {
        event_colour: u8,
    }
    event!(Odd);
    let odd = bus.emit(Odd { event_colour: 1 }).to_json_with(JsonStyle::bubus());
    assert!(matches!(odd, Err(JsonError::ReservedField { field }) if field == "event_colour"));
}

/// A result that failed has no text there; a handler that returned nothing has no result.
#[test]
fn failures_are_written_without_a_text() {
    let bus = EventBus::new("app");
    bus.on(|_: &Event<UserLogin>| Err::<String, _>("no network"));
    let json = done(&bus.emit(ann())).to_json_with(JsonStyle::bubus().results(true)).unwrap();
    let result = json["event_results"].as_object().unwrap().values().next().unwrap();
    assert_eq!((&result["status"], &result["result"]), (&json!("error"), &Json::Null));
    assert!(result.get("error").is_none());
}

/// One process for all, since the package has to be there first.
#[test]
fn the_package_itself_takes_our_events_and_we_take_its() {
    let Some(mut python) = Python::with_the_package() else { return };
    let bus = main_bus();

    // From here, there and back: handlers run on both sides, and every field that the package does not know comes back.
    let parent = done(&bus.emit(Untyped { text: "before".into() }));
    let options = EventOptions::new().priority(Priority::HIGH).correlation_id("request-7").parent(&parent);
    let login = done(&bus.emit_with(ann(), options));
    for (style, came) in [(JsonStyle::bubus(), "pending"), (JsonStyle::bubus().results(true), "completed")] {
        let said = python.event(&login.to_json_with(style).unwrap());
        assert_eq!((&said["results"], &said["errors"]), (&json!(["hello ann 42"]), &json!([])), "{said}");
        assert_eq!(said["came"]["status"], came);
        let results = said["came"]["results"].as_object().unwrap().values().collect::<Vec<_>>();
        assert_eq!(results, if came == "pending" { vec![] } else { vec!["hello ann 41"] });
        assert_eq!(said["event"]["event_path"], json!(["Main_Bus", "PyBus"]));

        let there = main_bus();
        let copy = done(&there.emit_json(&said["event"]).unwrap()).downcast::<UserLogin>().unwrap();
        assert_eq!((&*copy, copy.result().unwrap()), (&ann(), "hello ann 41".to_owned()));
        assert_eq!((copy.id(), copy.parent_id()), (login.id(), Some(parent.id())));
        assert_eq!((copy.priority(), copy.correlation_id()), (Priority::HIGH, "request-7"));
        assert_eq!(copy.path(), ["Main_Bus", "PyBus", there.label()]);
        // On the bus where it comes from it does not run again.
        assert_eq!(bus.emit_json(&said["event"]).unwrap().id(), login.id());
        assert_eq!(login.results().len(), 1);
    }

    // A class without a result type, a type without a class, and one that failed here.
    let text = done(&bus.emit(Untyped { text: "ü€😀\u{0}".into() }));
    let said = python.event(&text.to_json_with(JsonStyle::bubus()).unwrap());
    assert_eq!(said["results"], json!([{ "type": "Untyped", "text": "ü€😀\u{0}" }]), "{said}");
    let elsewhere = done(&bus.emit_json(&json!({ "event_type": "Elsewhere", "text": "x" })).unwrap());
    let said = python.event(&elsewhere.to_json_with(JsonStyle::bubus().results(true)).unwrap());
    assert_eq!(said["results"], json!([{ "type": "Elsewhere", "text": "x" }]), "{said}");
    let failing = EventBus::new("7-failing");
    failing.on(|_: &Event<UserLogin>| Err::<String, _>("no network"));
    let failed = done(&failing.emit(ann()));
    let said = python.event(&failed.to_json_with(JsonStyle::bubus().results(true)).unwrap());
    assert_eq!(
        (&said["results"], &said["event"]["event_path"]),
        (&json!(["hello ann 42"]), &json!(["bus7_failing", "PyBus"])),
        "{said}"
    );

    // An integer here, a float there: 7 becomes 7.0, and is 7 again.
    let measured = done(&bus.emit(Measured { value: 7 }));
    let said = python.event(&measured.to_json_with(JsonStyle::bubus()).unwrap());
    assert_eq!((said["event"]["value"].to_string(), &said["results"]), ("7.0".to_owned(), &json!([14.0])));
    let there = EventBus::new("There");
    there.on(|measured: &Event<Measured>| measured.value);
    let back = there.emit_json(&said["event"]).unwrap().downcast::<Measured>().unwrap();
    assert_eq!(back.result().unwrap(), 7);

    // What `to_json` writes is for others.
    let said = python.event(&login.to_json().unwrap());
    assert!(said["refused"].as_str().unwrap().contains("event_path"), "{said}");

    // From there, here and back, with what the package itself makes of the time and of the result's type.
    let made = python.ask(&json!({ "make": "bob" }));
    let here = done(&bus.emit_json(&made["event"]).unwrap()).downcast::<UserLogin>().unwrap();
    assert_eq!(here.result().unwrap(), "hello bob 7");
    assert_eq!(here.to_json().unwrap()["event_schema"], made["event"]["event_schema"]);
    let said = python.event(&here.to_json_with(JsonStyle::bubus()).unwrap());
    assert_eq!((&said["results"], &said["errors"]), (&json!(["hello bob 8"]), &json!([])), "{said}");
    assert_eq!(said["event"]["event_schema"], made["event"]["event_schema"]);
    // Straight back, the package fails by its own text for the type.
    let straight = python.event(&made["event"]);
    assert_ne!(straight["errors"], json!([]), "the package has learnt to read its result types: write them");
}
