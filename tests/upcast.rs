//! Older payloads become those of today on their way in.

mod common;

use common::{Log, PATIENCE, done, eventually, idle, warnings_naming, within};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use threadbus::{Codec, Event, EventBus, HandlerError, HandlerFailure, Json, JsonError, Payload};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Paid {
    cents: u64,
    currency: String,
}
impl Payload for Paid {
    type Output = String;
    fn version() -> &'static str {
        "3"
    }
    fn codec() -> Option<Codec<Self>> {
        Some(Codec::serde())
    }
}

fn add_currency(mut paid: Json) -> Result<Json, HandlerError> {
    paid["currency"] = json!("EUR");
    Ok(paid)
}

fn in_cents(mut paid: Json) -> Result<Json, HandlerError> {
    let amount = paid["amount"].as_u64().ok_or("no amount")?;
    let fields = paid.as_object_mut().ok_or("no object")?;
    fields.remove("amount");
    fields.insert("cents".to_owned(), json!(amount * 100));
    Ok(paid)
}

fn shop(name: &str) -> EventBus {
    let bus = EventBus::new(name);
    bus.upcast("Paid", "1", "2", add_currency).unwrap();
    bus.upcast("Paid", "2", "3", in_cents).unwrap();
    bus
}

fn paid(version: impl Into<Json>, amount: impl Into<Json>) -> Json {
    json!({ "event_type": "Paid", "event_version": version.into(), "amount": amount.into(), "note": "kept" })
}

fn typed(bus: &EventBus) {
    bus.on(|paid: &Event<Paid>| format!("{} {}", paid.cents, paid.currency));
}

#[test]
fn upcasters_chain_to_the_version_of_the_type() {
    let bus = shop("Chain");
    typed(&bus);
    let event = done(&bus.emit_json(&paid("1", 7)).unwrap());
    assert_eq!(event.downcast::<Paid>().unwrap().result().unwrap(), "700 EUR");
    let json = event.to_json().unwrap();
    assert_eq!(event.version(), "3");
    assert_eq!(event.payload_json().unwrap(), json!({ "cents": 700, "currency": "EUR", "note": "kept" }));
    assert_eq!((&json["event_version"], &json["cents"], &json["amount"]), (&json!("3"), &json!(700), &Json::Null));
    let mut second = paid("2", 8);
    second["currency"] = json!("USD");
    let event = done(&bus.emit_json_str(&second.to_string()).unwrap());
    assert_eq!(event.downcast::<Paid>().unwrap().result().unwrap(), "800 USD");
    // Passed on, it goes through none of them again.
    let other = shop("Other");
    typed(&other);
    let again = done(&other.emit_json(&event.to_json().unwrap()).unwrap());
    assert_eq!(again.downcast::<Paid>().unwrap().result().unwrap(), "800 USD");
}

#[test]
fn an_event_without_a_version_is_of_the_first() {
    let bus = EventBus::new("Unsaid");
    bus.upcast("Paid", "0.0.1", "3", |paid| add_currency(paid).and_then(in_cents)).unwrap();
    typed(&bus);
    for version in [Json::Null, json!("0.0.1")] {
        let event = done(&bus.emit_json(&paid(version, 1)).unwrap());
        assert_eq!(event.downcast::<Paid>().unwrap().result().unwrap(), "100 EUR");
    }
    assert!(bus.emit_json(&paid("1", 1)).is_err(), "nobody takes that version");
}

#[test]
fn they_go_no_further_than_the_type_and_to_the_end_where_there_is_none() {
    let bus = shop("Further");
    let calls = Arc::new(AtomicUsize::new(0));
    let called = Arc::clone(&calls);
    bus.upcast("Paid", "3", "4", move |mut paid| {
        called.fetch_add(1, SeqCst);
        paid["cents"] = json!("700");
        Ok(paid)
    })
    .unwrap();
    let versions = Log::new();
    let log = versions.clone();
    bus.on_named("Paid", move |paid| {
        log.push(format_args!("{} {}", paid.version(), paid.payload_json().unwrap()["cents"]))
    });
    done(&bus.emit_json(&paid("1", 7)).unwrap());
    assert_eq!(calls.load(SeqCst), 1);
    // Now it knows the type, and its version.
    typed(&bus);
    for version in ["1", "2"] {
        let mut event = paid(version, 7);
        event["currency"] = json!("EUR");
        done(&bus.emit_json(&event).unwrap());
    }
    done(&bus.emit(Paid { cents: 7, currency: "EUR".to_owned() }));
    assert_eq!(versions.entries(), [r#"4 "700""#, "3 700", "3 700", "3 7"]);
    assert_eq!(calls.load(SeqCst), 1);
}

#[test]
fn one_for_each_version_and_no_circles() {
    let bus = shop("Circles");
    let error = |from, to| bus.upcast("Paid", from, to, Ok).unwrap_err().to_string();
    assert_eq!(error("1", "3"), "invalid upcast: Paid has one from version 1 already, to 2");
    assert_eq!(error("3", "1"), "invalid upcast: Paid would go in a circle from version 3 by 1");
    assert_eq!(error("3", "3"), "invalid upcast: Paid would go in a circle from version 3 by 3");
    // Other types have versions of their own.
    bus.upcast("Bill", "1", "2", Ok).unwrap();
    bus.upcast("Bill", "3", "1", Ok).unwrap();
    typed(&bus);
    assert!(done(&bus.emit_json(&paid("1", 7)).unwrap()).errors().is_empty());
}

#[test]
fn one_that_fails_says_so_or_leaves_the_event_to_who_needs_no_type() {
    let reasons = [
        "no amount",
        "it panicked: odd",
        "what came out is no object",
        "field event_id is reserved",
        "field model_x is reserved",
    ];
    for reason in reasons {
        let make = || {
            let bus = EventBus::new("Fails");
            bus.upcast("Paid", "1", "2", add_currency).unwrap();
            bus.upcast("Paid", "2", "3", move |mut paid| match reason {
                "no amount" => Err(reason.into()),
                "it panicked: odd" => panic!("odd"),
                "what came out is no object" => Ok(json!([1])),
                _ => {
                    paid[reason.split(' ').nth(1).unwrap()] = json!(1);
                    Ok(paid)
                }
            })
            .unwrap();
            typed(&bus);
            bus
        };
        let text = format!("Paid of version 2 cannot be made 3: {reason}");
        let bus = make();
        let error = bus.emit_json(&paid("1", 7)).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert!(matches!(error, JsonError::Upcast { from, to, .. } if from == "2" && to == "3"));
        assert_eq!(bus.history_len(), 0);

        let bus = make();
        bus.on_any(|event| assert_eq!((event.version(), &event.payload_json().unwrap()["amount"]), ("1", &json!(7))));
        let event = done(&bus.emit_json(&paid("1", 7)).unwrap());
        let errors = event.errors();
        let [HandlerFailure::WrongType { expected, found }] = errors.iter().map(|e| &**e).collect::<Vec<_>>()[..]
        else {
            panic!("{errors:?}")
        };
        assert_eq!((&**expected, &**found), ("Paid", &*format!("JSON that does not fit: {text}")));
        assert_eq!(event.to_json().unwrap()["event_version"], "1");

        // What fits is taken, whatever came before.
        let whole = json!({ "event_type": "Paid", "event_version": "3", "cents": 1, "currency": "EUR" });
        assert!(done(&bus.emit_json(&whole).unwrap()).is::<Paid>());
    }
}

#[test]
fn where_nobody_has_a_type_a_failure_is_told() {
    let bus = EventBus::new("NoType");
    let warnings = warnings_naming(bus.label());
    bus.upcast("Paid", "1", "2", |_| Err("not today".into())).unwrap();
    assert!(matches!(bus.emit_json(&paid("1", 7)), Err(JsonError::Upcast { .. })), "nobody takes it");
    bus.on_named("Paid", |paid| assert_eq!(paid.version(), "1"));
    let event = done(&bus.emit_json(&paid("1", 7)).unwrap());
    assert!(event.errors().is_empty());
    let told = format!("{} takes an event as it came: Paid of version 1 cannot be made 2: not today", bus.label());
    eventually(|| warnings() == [told.clone()]);
}

#[test]
fn what_is_upcast_is_the_same_event_when_it_comes_again() {
    let bus = shop("Again");
    typed(&bus);
    let mut event = paid("1", 7);
    event["event_id"] = json!("018f8e40-1234-7000-8000-000000001234");
    let first = done(&bus.emit_json(&event).unwrap());
    assert_eq!(bus.emit_json(&event).unwrap().id(), first.id());
    assert_eq!(bus.emit_json(&first.to_json().unwrap()).unwrap().id(), first.id());
    event["amount"] = json!(8);
    assert!(matches!(bus.emit_json(&event), Err(JsonError::OtherContent { field, .. }) if field == "cents"));
    // An older bus that gets it back sees that it was rewritten.
    let older = EventBus::new("Older");
    let own = done(&older.emit_json(&paid("1", 7)).unwrap());
    let rewritten = done(&shop("Newer").emit_json(&own.to_json().unwrap()).unwrap());
    assert_eq!(rewritten.version(), "3");
    assert_eq!(older.emit_json(&rewritten.to_json().unwrap()).unwrap().results().len(), own.results().len());
}

#[test]
fn a_version_that_is_newer_than_known_is_read_as_it_is() {
    let bus = shop("Newer");
    typed(&bus);
    let event = json!({ "event_type": "Paid", "event_version": "9", "cents": 5, "currency": "EUR", "tax": 1 });
    let event = done(&bus.emit_json(&event).unwrap());
    assert_eq!((event.version(), event.to_json().unwrap()["tax"].clone()), ("9", json!(1)));
    assert_eq!(event.downcast::<Paid>().unwrap().result().unwrap(), "5 EUR");
    assert!(bus.emit_json(&json!({ "event_type": "Paid", "event_version": "9", "euros": 5 })).is_err());
}

#[test]
fn an_upcaster_may_use_the_bus_and_comes_from_any_thread() {
    within(3 * PATIENCE, || {
        let bus = shop("Busy");
        typed(&bus);
        let weak = bus.downgrade();
        let seen = Log::new();
        let log = seen.clone();
        bus.on_named("Seen", move |_| log.push("seen"));
        bus.upcast("Paid", "0", "1", move |paid| {
            let bus = weak.upgrade().ok_or("gone")?;
            bus.emit_json(&json!({ "event_type": "Seen" }))?;
            let _ = bus.upcast("Paid", "0", "1", Ok);
            Ok(paid)
        })
        .unwrap();
        thread::scope(|scope| {
            for n in 0..4 {
                let bus = &bus;
                scope.spawn(move || {
                    for m in 0..100 {
                        let _ = bus.upcast(&format!("Other{n}"), &m.to_string(), &(m + 1).to_string(), Ok);
                        let event = bus.emit_json(&paid("0", m)).unwrap();
                        assert_eq!(event.downcast::<Paid>().unwrap().cents, m * 100);
                    }
                });
            }
        });
        idle(&bus);
        assert_eq!(seen.len(), 400);
    });
}

#[test]
fn upcasters_go_with_their_bus_also_where_that_panics() {
    struct Loud(Arc<AtomicUsize>);
    impl Drop for Loud {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
            panic!("on purpose");
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let bus = EventBus::new("Gone");
    for from in ["1", "2", "1"] {
        let loud = Loud(Arc::clone(&dropped));
        let _ = bus.upcast("Paid", from, "9", move |paid| {
            let _ = &loud;
            Ok(paid)
        });
    }
    assert_eq!(dropped.load(SeqCst), 1, "the one that was refused");
    drop(bus);
    eventually(|| dropped.load(SeqCst) == 3);
}

#[test]
fn a_long_chain_is_no_recursion() {
    let bus = EventBus::new("Long");
    for n in 0..3000 {
        bus.upcast("Count", &n.to_string(), &(n + 1).to_string(), |mut count| {
            count["n"] = json!(count["n"].as_u64().ok_or("no n")? + 1);
            Ok(count)
        })
        .unwrap();
    }
    bus.on_any(|_| {});
    let event = done(&bus.emit_json(&json!({ "event_type": "Count", "event_version": "0", "n": 0 })).unwrap());
    assert_eq!((event.version(), event.payload_json().unwrap()), ("3000", json!({ "n": 3000 })));
}
