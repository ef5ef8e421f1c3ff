//! What is written is read: `to_json` refuses exactly what `emit_json` refuses, by field.
//!
//! A second of the property test by default, and a hundred rounds; `THREADBUS_FUZZ_SECONDS` says how long, `THREADBUS_SEED` where to begin. The same check under libFuzzer:
//! `fuzz/README.md`.

mod common;
#[path = "common/json_written.rs"]
mod json_written;
#[path = "common/random.rs"]
mod random;

use common::{Log, done, eventually, payload, warnings_naming};
use random::Random;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::{Duration, Instant};
use threadbus::{
    AnyOutput, Codec, Event, EventBus, EventId, EventOptions, HandlerError, Json, JsonError, JsonLimits, Payload, event,
};

#[derive(Serialize, Deserialize)]
struct Note {
    text: Json,
}
event!(Note => u32);
payload!(Plain);

fn note(text: impl Into<Json>) -> Note {
    Note { text: text.into() }
}

/// What both ways say of it.
#[track_caller]
fn refusal<P: Payload>(event: &Event<P>) -> String {
    let error = event.to_json().unwrap_err();
    let shown = event.bus().to_json().unwrap();
    let shown = &shown["event_history"][event.id().to_string()];
    assert_eq!(shown["json_error"], error.to_string(), "a snapshot shows it, with the reason");
    assert_eq!(shown["event_id"], event.id().to_string());
    error.to_string()
}

#[test]
fn any_event_is_written_and_read_or_refused_by_both() {
    let seed = std::env::var("THREADBUS_SEED").ok().and_then(|text| text.parse().ok());
    let seconds = std::env::var("THREADBUS_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut seed: u64 = seed.unwrap_or(1);
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut tried, mut written) = (0_u64, 0_u64);
    while tried < 100 || Instant::now() < until {
        let mut random = Random::new(seed);
        let bytes: Vec<u8> = (0..random.below(2000)).map(|_| random.below(256) as u8).collect();
        let Ok(taken) = std::panic::catch_unwind(|| json_written::check(&bytes)) else {
            panic!("THREADBUS_SEED={seed} fails")
        };
        (tried, written, seed) = (tried + 1, written + u64::from(taken), seed.wrapping_add(1));
    }
    eprintln!("{tried} tried, {written} of them written, last seed {}", seed - 1);
    assert!(written > 0 && written < tried);
}

#[test]
fn names_are_carried_as_given_and_refused_by_field() {
    let bus = EventBus::new("app");
    bus.on(|note: &Event<Note>| u32::from(note.correlation_id() == "a\tb"));
    let event = done(&bus.emit_with(note("x"), EventOptions::new().correlation_id("a\tb")));
    assert_eq!((event.result().unwrap(), event.correlation_id()), (1, "a\tb"), "whoever runs here sees what was given");
    assert_eq!(refusal(&event), "field event_correlation_id: a name has no control characters");
    for (id, why) in [
        ("".to_owned(), "field event_correlation_id: empty"),
        ("x".repeat(257), "a name in event_correlation_id has more than 256 bytes"),
    ] {
        assert_eq!(refusal(&bus.emit_with(note("x"), EventOptions::new().correlation_id(id))), why);
    }
    let odd = EventBus::new("two\nlines");
    assert_eq!(odd.name(), "two\nlines");
    assert_eq!(refusal(&done(&odd.emit(note("x")))), "field event_path: a name has no control characters");
    let long = EventBus::new(&"x".repeat(300));
    assert_eq!(refusal(&done(&long.emit(note("x")))), "a name in event_path has more than 256 bytes");
}

#[test]
fn times_that_cannot_be_read_are_refused_by_field() {
    let bus = EventBus::new("app");
    let why = |field: &str| format!("field {field}: 1.8446744073709552e+19 is no number of seconds to wait");
    let with = |options: EventOptions| refusal(&bus.emit_with(note("x"), options));
    assert_eq!(with(EventOptions::new().timeout(Duration::MAX)), why("event_timeout"));
    assert_eq!(with(EventOptions::new().handler_timeout(Duration::MAX)), why("event_handler_timeout"));
    assert_eq!(with(EventOptions::new().slow_after(Duration::MAX)), why("event_slow_timeout"));
    assert_eq!(with(EventOptions::new().handler_slow_after(Duration::MAX)), why("event_handler_slow_timeout"));
    let years = bus.emit_with(note("x"), EventOptions::new().timeout(Duration::from_secs(1 << 60)));
    assert!(EventBus::new("other").emit_json(&years.to_json().unwrap()).is_ok());
}

#[test]
fn types_and_fields_that_cannot_be_read_are_refused_by_name() {
    #[derive(Serialize, Deserialize)]
    struct Star;
    impl Payload for Star {
        type Output = ();
        fn event_type() -> &'static str {
            "*"
        }
        fn codec() -> Option<Codec<Self>> {
            Some(Codec::serde())
        }
    }
    #[derive(Serialize, Deserialize)]
    struct Long {
        #[serde(
            rename = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\
            012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\
            0123456789012345678901234567890123456789"
        )]
        field: u8,
    }
    event!(Long);
    #[derive(Serialize, Deserialize)]
    struct Empty {}
    impl Payload for Empty {
        type Output = ();
        fn event_type() -> &'static str {
            "*"
        }
        fn codec() -> Option<Codec<Self>> {
            Some(Codec::serde())
        }
    }
    let bus = EventBus::new("app");
    assert_eq!(refusal(&bus.emit(Star)), "* does not serialize to a JSON object");
    assert_eq!(refusal(&bus.emit(Empty {})), "field event_type: * is no type, but means all of them");
    assert!(refusal(&bus.emit(Long { field: 1 })).ends_with("… has more than 256 bytes"));
    // Its own parent: an id that is used on two buses.
    let first = bus.emit(note("x"));
    let own = EventOptions::new().id(first.id()).parent(&first);
    assert_eq!(
        refusal(&EventBus::new("other").emit_with(note("x"), own)),
        "field event_parent_id: an event is not its own parent"
    );
}

fn nested(levels: usize) -> Json {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

#[test]
fn what_is_too_deep_or_too_large_is_not_written() {
    let bus = EventBus::new("app");
    let other = EventBus::new("other");
    let deep = bus.emit(note(nested(119))).to_json().unwrap();
    assert!(other.emit_json_str(&deep.to_string()).is_ok());
    assert_eq!(refusal(&bus.emit(note(nested(120)))), "an event is nested deeper than 120 levels");
    // Results count, and are three levels further down.
    let results = EventBus::new("results");
    results.on_named("Deep", |event| event.payload_json().map(|json| AnyOutput::json(json["levels"].clone())));
    let returned =
        |levels| done(&results.emit_json(&json!({ "event_type": "Deep", "levels": nested(levels) })).unwrap());
    assert!(other.emit_json(&returned(117).to_json().unwrap()).is_ok());
    assert!(matches!(returned(118).to_json(), Err(JsonError::TooDeep { limit: 120 })));

    let large = EventBus::new("large").emit(note("x".repeat(16 << 20)));
    assert!(matches!(large.to_json(), Err(JsonError::TooLarge { limit: 16_777_216 })));
}

#[test]
fn a_bus_reads_what_it_wrote_whatever_its_limits_are() {
    let small = JsonLimits::new().event_bytes(300).depth(2).name_bytes(8).path_buses(1);
    let strict = EventBus::builder("strict-one").json_limits(small).build().unwrap();
    let event = strict.emit_with(note(nested(5)), EventOptions::new().correlation_id("longer than that"));
    let json = event.to_json().unwrap();
    assert!(EventBus::new("other").emit_json(&json).is_ok(), "any bus with default limits reads it");
    let large = JsonLimits::new().name_bytes(1000);
    let generous = EventBus::builder("generous").json_limits(large).build().unwrap();
    let json = generous.emit_with(note("x"), EventOptions::new().correlation_id("x".repeat(999))).to_json().unwrap();
    let again = EventBus::builder("again").json_limits(large).build().unwrap();
    assert!(again.emit_json(&json).is_ok());
    assert!(matches!(EventBus::new("other").emit_json(&json), Err(JsonError::NameTooLong { .. })));
}

#[test]
fn a_journal_reads_the_longest_way() {
    let buses: Vec<_> = (0..100).map(|n| EventBus::new(&format!("bus{n}"))).collect();
    buses.windows(2).for_each(|pair| drop(pair[0].forward_to::<Note>(&pair[1])));
    let event = done(&buses[0].emit(note("x")));
    assert_eq!(event.path().len(), 100);
    let text = event.to_json().unwrap().to_string();
    let again = EventBus::new("journal").emit_json_str(&text).unwrap();
    assert_eq!(again.path().len(), 101);
}

#[test]
fn a_snapshot_shows_those_that_cannot_be_written_beside_the_others() {
    let bus = EventBus::new("app");
    let good = bus.emit(note("good"));
    let bad = bus.emit_with(note("bad"), EventOptions::new().correlation_id("a\nb").timeout(Duration::MAX));
    done(&bad);
    let snapshot = bus.to_json().unwrap();
    let of = |id: EventId| &snapshot["event_history"][id.to_string()];
    assert!(of(good.id()).get("json_error").is_none());
    assert_eq!((&of(bad.id())["text"], &of(bad.id())["event_correlation_id"]), (&json!("bad"), &json!("a\nb")));
    assert_eq!(of(bad.id())["json_error"], bad.to_json().unwrap_err().to_string());
    // A field of that name says nothing.
    let own = bus.emit_json(&json!({ "event_type": "Own", "json_error": "mine" })).unwrap();
    assert_eq!(bus.to_json().unwrap()["event_history"][own.id().to_string()]["json_error"], "mine");
}

#[test]
fn a_pattern_that_matches_nothing_is_told() {
    let bus = EventBus::new("Patterns");
    for (pattern, why) in [
        ("Note*", "a pattern is a whole name"),
        ("*Note", "a pattern is a whole name"),
        ("", "it is blank"),
        ("  ", "it is blank"),
        ("Other ", "blanks around it"),
        ("Ot\nher", "control characters"),
    ] {
        let warned = warnings_naming(&format!("no event is called {pattern:?}"));
        let handler = bus.on_named(pattern, |_| {});
        eventually(|| warned().iter().any(|line| line.contains(why) && line.contains(&handler.label())));
    }
    // Those of types, and for all; also what a type here is called in earnest.
    struct Pointer;
    impl Payload for Pointer {
        type Output = ();
        fn event_type() -> &'static str {
            "Really*"
        }
    }
    let known = bus.subscribe::<Pointer>();
    let warned = warnings_naming("no event is called");
    let before = warned().len();
    for pattern in ["*", "Note", "Wrapper<A, B>", "Callback<fn(*const u8)>", "Really*"] {
        bus.on_named(pattern, |_| {});
    }
    let last = warnings_naming("no event is called \"end*\"");
    bus.on_named("end*", |_| {});
    eventually(|| last().len() == 1);
    assert_eq!(warned().len(), before + 1, "{:?}", warned());
    drop(known);
}

#[test]
fn what_a_by_name_handler_returns_does_not_depend_on_who_came_before() {
    let outcome = |known: bool, output: AnyOutput| {
        let bus = EventBus::new("app");
        if known {
            bus.on(|_: &Event<Plain>| {});
        }
        let subscription = known.then(|| bus.subscribe::<Note>());
        bus.on_named("Note", move |_| Ok::<_, HandlerError>(output.clone()));
        let event = done(&bus.emit_json(&json!({ "event_type": "Note", "text": "x" })).unwrap());
        assert_eq!(event.is::<Note>(), known);
        let failures = event.errors().iter().map(ToString::to_string).collect::<Vec<_>>();
        drop(subscription);
        (failures, event.to_json().unwrap()["event_results"][0]["result"].clone())
    };
    for output in [AnyOutput::new(7_u32), AnyOutput::json(json!(7))] {
        assert_eq!(outcome(true, output.clone()), (vec![], json!(7)));
        assert_eq!(outcome(true, output.clone()), outcome(false, output));
    }
    // What has no JSON is what it is, where nobody knows the type.
    #[derive(Clone)]
    struct Page;
    let (bus, seen) = (EventBus::new("app"), Log::new());
    bus.on_named("Note", |_| AnyOutput::new(Page));
    let event = done(&bus.emit_json(&json!({ "event_type": "Note" })).unwrap());
    seen.push(event.results()[0].value.as_ref().unwrap().downcast::<Page>().is_some());
    assert_eq!(seen.entries(), ["true"]);
    assert!(matches!(event.to_json(), Err(JsonError::NoCodec { event_type }) if event_type == "Page"));
}
