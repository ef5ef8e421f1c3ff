//! JSON that is not an event: refused by an error that names what is wrong, in bounded time and memory, and without a trace.

mod common;

use common::{done, within};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use std::time::Duration;
use threadbus::{AnyEvent, Event, EventBus, Json, JsonError, JsonLimits, event};

/// What is wrong with it, whether it comes parsed or as text; and that nothing of it is left.
#[track_caller]
fn refusal(event: &Json) -> String {
    let bus = EventBus::new("Hostile");
    let parsed = bus.emit_json(event).map(drop).unwrap_err().to_string();
    let text = bus.emit_json_str(&event.to_string()).map(drop).unwrap_err().to_string();
    assert_eq!(parsed, text);
    assert_eq!((bus.history_len(), bus.pending()), (0, 0));
    parsed
}

fn refused_text(text: &[u8]) -> JsonError {
    let bus = EventBus::new("Hostile");
    let error = bus.emit_json_slice(text).map(drop).unwrap_err();
    assert_eq!((bus.history_len(), bus.pending()), (0, 0));
    error
}

fn accepted(event: &Json) -> AnyEvent {
    let bus = EventBus::new("Friendly");
    done(&bus.emit_json_str(&event.to_string()).unwrap())
}

#[test]
fn what_is_no_event_says_what_is_missing() {
    for event in [json!([]), json!("event"), json!(7), Json::Null, json!([{ "event_type": "Any" }])] {
        assert_eq!(refusal(&event), "field event_type: missing: an event is an object");
    }
    for event in [json!({}), json!({ "type": "Any" }), json!({ "event_type": null })] {
        assert_eq!(refusal(&event), "field event_type: missing");
    }
}

#[test]
fn malformed_fields_are_refused_by_name() {
    let cases = [
        ("event_type", json!(7), "expected string, found a number"),
        ("event_type", json!(""), "empty"),
        ("event_type", json!("a\nb"), "a name has no control characters"),
        ("event_type", json!("*"), "* is no type, but means all of them"),
        ("event_version", json!(1), "expected string, found a number"),
        ("event_id", json!("7"), "not a UUID with hyphens"),
        ("event_id", json!("018f8e40123470008000000000001234"), "not a UUID with hyphens"),
        ("event_id", json!("018f8e40-1234-7000-8000-00000000123g"), "not a UUID with hyphens"),
        ("event_id", json!(["018f8e40-1234-7000-8000-000000001234"]), "expected string, found an array"),
        ("event_parent_id", json!(true), "expected string, found a truth value"),
        ("event_emitted_by_handler_id", json!("greet"), "not a UUID with hyphens"),
        ("event_created_at", json!("yesterday"), "not a time like 2025-01-02T03:04:05.678901234Z"),
        ("event_created_at", json!(1_735_787_045), "expected string, found a number"),
        ("event_timeout", json!("5"), "expected number, found a string"),
        ("event_timeout", json!(-1), "-1 is no number of seconds to wait"),
        ("event_slow_timeout", json!(1e300), "1e+300 is no number of seconds to wait"),
        ("event_handler_timeout", json!([1]), "expected number, found an array"),
        ("event_handler_slow_timeout", json!(-0.5), "-0.5 is no number of seconds to wait"),
        ("event_concurrency", json!("serial"), "not one of global-serial, bus-serial, parallel"),
        ("event_handler_concurrency", json!("sometimes"), "not one of global-serial, bus-serial, serial, parallel"),
        ("event_handler_completion", json!("none"), "not one of all, first"),
        ("event_priority", json!(11), "11 is no priority from 0 to 10"),
        ("event_priority", json!(-1), "-1 is no priority from 0 to 10"),
        ("event_priority", json!(5.5), "5.5 is no priority from 0 to 10"),
        ("event_priority", json!("high"), "expected number, found a string"),
        ("event_correlation_id", json!({}), "expected string, found an object"),
        ("event_path", json!("Main#1234"), "expected array, found a string"),
        ("event_path", json!(["Main#1234", 7]), "expected array of strings, found a number"),
        ("event_path", json!([""]), "empty"),
        ("event_result_type", json!(7), "expected schema, found a number"),
    ];
    for (field, value, reason) in cases {
        let mut event = json!({ "event_type": "Any" });
        event[field] = value;
        assert_eq!(refusal(&event), format!("field {field}: {reason}"));
    }
    for field in ["model_", "model_config"] {
        let mut event = json!({ "event_type": "Any" });
        event[field] = Json::Null;
        assert_eq!(refusal(&event), format!("field {field} is reserved"));
    }
    let id = "018f8e40-1234-7000-8000-000000001234";
    let own = json!({ "event_type": "Any", "event_id": id, "event_parent_id": id });
    assert_eq!(refusal(&own), "field event_parent_id: an event is not its own parent");
}

#[test]
fn fields_that_are_odd_but_right_are_taken() {
    let event = accepted(&json!({
        "event_type": "Wrapper<Option<Thing>>", "event_path": ["a", "b c#1234"], "event_created_at": "2025-01-02T04:04:05+01:00",
        "event_id": "018F8E40-1234-7000-8000-00000000123A", "event_timeout": 20, "event_result_type": true, "": 1, "Event_": 2, "event": 3,
    }));
    let json = event.to_json().unwrap();
    assert_eq!(json["event_id"], "018f8e40-1234-7000-8000-00000000123a");
    assert_eq!(json["event_created_at"], "2025-01-02T03:04:05.000000000Z");
    assert_eq!((&json["event_timeout"], &json["event_result_type"]), (&json!(20), &json!(true)));
    assert_eq!((&json[""], &json["Event_"], &json["event"]), (&json!(1), &json!(2), &json!(3)));
}

fn nested(levels: usize) -> Json {
    (0..levels).fold(json!(1), |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({ "in": inner }) })
}

#[test]
fn nesting_has_120_levels_the_event_included() {
    assert_eq!(accepted(&json!({ "event_type": "Deep", "in": nested(119) })).to_json().unwrap()["in"], nested(119));
    let too_deep = json!({ "event_type": "Deep", "in": nested(120) });
    assert_eq!(refusal(&too_deep), "an event is nested deeper than 120 levels");
    assert!(matches!(EventBus::new("x").emit_json(&too_deep), Err(JsonError::TooDeep { limit: 120 })));
}

#[test]
fn a_million_levels_are_refused_on_a_small_stack() {
    let refused = within(common::PATIENCE, || {
        let small = std::thread::Builder::new().stack_size(256 << 10);
        let body = || {
            for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]"), ("[", ""), ("{\"a\":", "")] {
                let text =
                    format!("{{\"event_type\":\"Deep\",\"in\":{}1{}}}", open.repeat(50_000), close.repeat(50_000));
                assert!(matches!(refused_text(text.as_bytes()), JsonError::TooDeep { limit: 120 }), "{open}");
            }
            // Built by hand, and too deep to be dropped by anybody who recurses.
            let mut tower = Json::Null;
            for _ in 0..1_000_000 {
                tower = Json::Array(vec![tower]);
            }
            let event = json!({ "event_type": "Deep" });
            let Json::Object(mut fields) = event else { panic!("it is an object") };
            fields.insert("in".into(), tower);
            let event = Json::Object(fields);
            assert!(matches!(EventBus::new("x").emit_json(&event), Err(JsonError::TooDeep { limit: 120 })));
            // Level by level, for the same reason.
            let Json::Object(mut fields) = event else { panic!("it is an object") };
            let mut tower = fields.remove("in").unwrap();
            while let Json::Array(mut inner) = tower {
                tower = inner.remove(0);
            }
        };
        small.spawn(body).unwrap().join().is_ok()
    });
    assert!(refused);
}

#[test]
fn an_event_has_16_mebibytes() {
    let large = format!("{{\"event_type\":\"Large\",\"text\":\"{}\"}}", "x".repeat(16 << 20));
    assert!(matches!(refused_text(large.as_bytes()), JsonError::TooLarge { limit: 16_777_216 }));
    let many: Json = json!({ "event_type": "Large", "list": vec![Json::Null; 4_000_000] });
    assert!(matches!(EventBus::new("x").emit_json(&many), Err(JsonError::TooLarge { limit: 16_777_216 })));
}

#[test]
fn the_length_is_exact() {
    let bus = EventBus::builder("Exact").json_limits(JsonLimits::new().event_bytes(1 << 20)).build().unwrap();
    let frame = json!({ "event_type": "Large", "text": "" }).to_string().len();
    for character in ["x", "\u{7}", "é"] {
        let written = json!(character).to_string().len() - 2;
        let fits = json!({ "event_type": "Large", "text": character.repeat(((1 << 20) - frame) / written) });
        let more = (1 << 20) - fits.to_string().len() + 1;
        assert!(bus.emit_json(&fits).is_ok() && bus.emit_json_str(&fits.to_string()).is_ok());
        let large = format!("{}{}", fits["text"].as_str().unwrap(), "x".repeat(more));
        let large = json!({ "event_type": "Large", "text": large });
        assert_eq!(large.to_string().len(), (1 << 20) + 1);
        assert!(matches!(bus.emit_json(&large), Err(JsonError::TooLarge { limit: 1_048_576 })));
        assert!(matches!(bus.emit_json_str(&large.to_string()), Err(JsonError::TooLarge { limit: 1_048_576 })));
    }
}

#[test]
fn a_hundred_mebibytes_are_refused_unread() {
    let large = vec![b'"'; 100 << 20];
    assert!(within(common::PATIENCE, move || matches!(refused_text(&large), JsonError::TooLarge { .. })));
    let parsed = json!({ "event_type": "Large", "text": "\u{7}".repeat(100 << 20) });
    let refused = move || matches!(EventBus::new("x").emit_json(&parsed), Err(JsonError::TooLarge { .. }));
    assert!(within(common::PATIENCE, refused));
}

#[test]
fn names_have_256_bytes() {
    let (fits, long) = ("é".repeat(128), format!("{}x", "é".repeat(128)));
    let with = |field: &str, value: Json| {
        let mut event = json!({ "event_type": "Any" });
        event[field] = value;
        event
    };
    for field in ["event_type", "event_version", "event_correlation_id"] {
        accepted(&with(field, json!(fits)));
        assert_eq!(refusal(&with(field, json!(long))), format!("a name in {field} has more than 256 bytes"));
    }
    accepted(&with("event_path", json!([fits])));
    assert_eq!(refusal(&with("event_path", json!(["a", long]))), "a name in event_path has more than 256 bytes");
    accepted(&with(&fits, json!(1)));
    let shown = format!("{}…", "é".repeat(80));
    assert_eq!(refusal(&with(&long, json!(1))), format!("a name in {shown} has more than 256 bytes"));
    // What is deeper is data: a map may have any keys.
    accepted(&with("map", json!({ &long: 1 })));
}

#[test]
fn a_path_has_1024_buses() {
    let path = |buses: usize| json!({ "event_type": "Any", "event_path": vec!["Bus#1234"; buses] });
    assert_eq!(accepted(&path(1024)).path().len(), 1025);
    assert_eq!(refusal(&path(1025)), "event_path names more than 1024 buses");
    assert!(matches!(EventBus::new("x").emit_json(&path(1025)), Err(JsonError::PathTooLong { limit: 1024 })));
}

#[test]
fn limits_are_the_buses_own() {
    let limits = JsonLimits::new().event_bytes(200).depth(3).name_bytes(8).path_buses(1);
    let bus = EventBus::builder("Strict").json_limits(limits).build().unwrap();
    assert_eq!(bus.options().json_limits, limits);
    let refusal = |event: Json| bus.emit_json(&event).map(drop).unwrap_err().to_string();
    assert_eq!(refusal(json!({ "event_type": "Any", "text": "x".repeat(200) })), "an event has more than 200 bytes");
    assert_eq!(refusal(json!({ "event_type": "Any", "in": [[[1]]] })), "an event is nested deeper than 3 levels");
    assert_eq!(refusal(json!({ "event_type": "LongName!" })), "a name in event_type has more than 8 bytes");
    assert_eq!(refusal(json!({ "event_type": "Any", "event_path": ["a", "b"] })), "event_path names more than 1 buses");

    let deep = EventBus::builder("Deep").json_limits(JsonLimits::new().depth(usize::MAX)).build().unwrap();
    let text = |levels| json!({ "event_type": "Deep", "in": nested(levels) }).to_string();
    assert!(deep.emit_json_str(&text(119)).is_ok());
    assert!(matches!(deep.emit_json_str(&text(120)), Err(JsonError::TooDeep { limit: 120 })));
}

#[test]
fn text_that_is_no_json_is_a_serde_error() {
    let texts: [&[u8]; 12] = [
        b"",
        b"   ",
        b"{",
        b"}",
        b"{\"event_type\": \"Any\"",
        b"{\"event_type\": \"Any\"} {}",
        b"{\"event_type\": \"Any\",}",
        b"{'event_type': 'Any'}",
        b"{\"event_type\": \"\xff\xfe\"}",
        b"{\"event_type\": \"\\ud800\"}",
        b"{\"event_type\": \"Any\", \"n\": 1e999}",
        b"{\"event_type\": \"Any\", \"n\": NaN}",
    ];
    for text in texts {
        let error = refused_text(text);
        assert!(matches!(error, JsonError::Serde(_)), "{}: {error}", String::from_utf8_lossy(text));
    }
}

#[test]
fn nothing_is_there_twice() {
    let error = refused_text(br#"{"event_type": "Any", "a": {"b": [{"c": 1, "d": 2, "\u0063": 3}]}}"#);
    assert!(matches!(error, JsonError::DuplicateField { field } if field == "c"));
    let error = refused_text(br#"{"event_type": "Any", "event_type": "Other"}"#);
    assert!(matches!(error, JsonError::DuplicateField { field } if field == "event_type"));
}

#[test]
fn integers_beyond_64_bits_are_refused_not_rounded() {
    for number in ["18446744073709551616", "-9223372036854775809", &"9".repeat(100_000)] {
        let error = refused_text(format!(r#"{{"event_type": "Any", "n": [{number}]}}"#).as_bytes());
        assert_eq!(error.to_string(), "field n: an integer beyond 64 bits");
    }
    // Fractions are what they always are: the nearest floating-point number.
    let fraction = br#"{"event_type": "Any", "n": 18446744073709551616.0}"#;
    let event = EventBus::new("x").emit_json_slice(fraction).unwrap();
    assert_eq!(event.to_json().unwrap()["n"], 18_446_744_073_709_551_616.0);
}

#[test]
fn many_names_and_many_objects_take_no_longer() {
    let names: Vec<_> = (0..60_000).map(|n| format!("\"{n}\":0")).collect();
    let wide = format!(r#"{{"event_type":"Wide",{}}}"#, names.join(","));
    let small = format!(r#"{{"event_type":"Wide","list":[{}]}}"#, vec![r#"{"a":1}"#; 100_000].join(","));
    for text in [wide, small] {
        assert!(text.len() < 1 << 20);
        let event = within(common::PATIENCE, move || EventBus::new("x").emit_json_str(&text).map(|event| event.id()));
        assert!(event.is_ok());
    }
}

#[test]
fn a_stream_of_types_and_ids_does_not_stay() {
    let bus = EventBus::builder("Stream").max_history(Some(10)).build().unwrap();
    for n in 0..3000 {
        done(&bus.emit_json(&json!({ "event_type": format!("Type{n}") })).unwrap());
    }
    assert_eq!(bus.history_len(), 10);
    // Handlers by name come and go unharmed by it.
    let seen = common::Log::new();
    let log = seen.clone();
    bus.on_named("Type0", move |event| log.push(event.event_type()));
    done(&bus.emit_json(&json!({ "event_type": "Type0" })).unwrap());
    assert_eq!(seen.entries(), ["Type0"]);
}

/// Panics when it is written or read.
#[derive(Debug)]
struct Touchy;
impl Serialize for Touchy {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("do not write")
    }
}
impl<'de> Deserialize<'de> for Touchy {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("do not read")
    }
}
event!(Touchy);

#[test]
fn a_panic_in_the_users_serialization_is_an_error() {
    let bus = EventBus::new("Touchy");
    let event = bus.emit(Touchy);
    assert_eq!(event.to_json().unwrap_err().to_string(), "Touchy: it panicked: do not write");
    let read = bus.emit_json(&json!({ "event_type": "Touchy" }));
    assert_eq!(read.unwrap_err().to_string(), "Touchy: it panicked: do not read");
    let shown = &bus.to_json().unwrap()["event_history"][event.id().to_string()];
    assert_eq!(shown["json_error"], "Touchy: it panicked: do not write");
}

#[test]
fn a_refused_payload_names_what_its_type_misses() {
    #[derive(Serialize, Deserialize)]
    struct Login {
        user: String,
    }
    event!(Login);
    let bus = EventBus::new("Typed");
    bus.on(|login: &Event<Login>| assert!(!login.user.is_empty()));
    let refusal = |event: Json| bus.emit_json(&event).map(drop).unwrap_err().to_string();
    assert_eq!(refusal(json!({ "event_type": "Login" })), "Login: missing field `user`");
    let wrong = refusal(json!({ "event_type": "Login", "user": 7 }));
    assert_eq!(wrong, "Login.user: invalid type: integer `7`, expected a string");
    assert_eq!(bus.history_len(), 0);
}

#[test]
fn what_a_closed_or_full_bus_refuses_comes_back_and_says_why() {
    let bus = EventBus::builder("Full").queue_capacity(1, threadbus::OnFull::Reject).build().unwrap();
    bus.pause();
    let event = json!({ "event_type": "Any" });
    assert!(!bus.emit_json(&event).unwrap().is_completed());
    let refused = bus.emit_json(&event).unwrap();
    assert!(refused.is_completed());
    assert!(matches!(refused.wait(), Err(threadbus::WaitError::Rejected(threadbus::EmitError::QueueFull { .. }))));
    assert_eq!(refused.to_json().unwrap()["event_path"], json!([]));
    bus.resume();
    bus.shutdown(threadbus::Shutdown::Drain, Duration::from_secs(5));
    let refused = bus.emit_json(&event).unwrap().wait();
    assert!(matches!(refused, Err(threadbus::WaitError::Rejected(threadbus::EmitError::Closed { .. }))));
}
