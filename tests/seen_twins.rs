//! Two events of one id on one bus: the second one does not run, and where the first is still there, what it says is compared.

mod common;

use common::{Log, PATIENCE, done, eventually, idle, within};
use serde::{Deserialize, Serialize};
use serde_json::json;
use threadbus::{
    AnyEvent, Codec, EmitError, Event, EventBus, EventConcurrency, EventOptions, HandlerFailure, Json, JsonError,
    Payload, WaitError, event,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    customer: String,
    total: f64,
    #[serde(default)]
    note: Option<String>,
}
event!(Order);

/// No codec: what it says nobody can compare.
struct Tick;
impl Payload for Tick {
    type Output = ();
}

/// Has `Order`'s name, in a later shape.
#[derive(Serialize, Deserialize)]
struct Later {
    customers: Vec<String>,
}
impl Payload for Later {
    type Output = ();
    fn event_type() -> &'static str {
        "Order"
    }
    fn version() -> &'static str {
        "2"
    }
    fn codec() -> Option<Codec<Self>> {
        Some(Codec::serde())
    }
}

fn order() -> Order {
    Order { customer: "ann".to_owned(), total: 2.0, note: None }
}

fn counting(bus: &EventBus) -> Log {
    let log = Log::new();
    let runs = log.clone();
    bus.on_any(move |event| runs.push(event.event_type()));
    log
}

fn with(event: &Json, change: &[(&str, Json)]) -> Json {
    let mut event = event.clone();
    change.iter().for_each(|(field, value)| event[*field] = value.clone());
    event
}

#[test]
fn another_content_under_an_id_of_the_history_is_an_error() {
    let bus = EventBus::new("Differs");
    let runs = counting(&bus);
    let own = done(&bus.emit(order())).to_json().unwrap();
    let foreign = json!({ "event_type": "Order", "event_id": "018f8e40-1234-7000-8000-000000001234", "customer": "ann", "total": 2 });
    done(&bus.emit_json(&foreign).unwrap());
    for event in [own, foreign] {
        let cases = [
            (with(&event, &[("customer", json!("bob"))]), "customer"),
            (with(&event, &[("total", json!(2.5))]), "total"),
            (with(&event, &[("note", json!("soon"))]), "note"),
            (with(&event, &[("unknown", json!([]))]), "unknown"),
            (with(&event, &[("event_type", json!("Bill"))]), "event_type"),
        ];
        for (other, field) in cases {
            let error = bus.emit_json(&other).unwrap_err();
            let id = event["event_id"].as_str().unwrap();
            assert_eq!(error.to_string(), format!("an event {id} with another {field} is there already"));
            assert!(matches!(error, JsonError::OtherContent { field: of, .. } if of == field));
            assert!(matches!(bus.emit_json_str(&other.to_string()), Err(JsonError::OtherContent { .. })));
        }
    }
    assert_eq!(runs.len(), 2);
}

#[test]
fn what_says_the_same_in_other_words_is_the_same_event() {
    let bus = EventBus::new("Same");
    let runs = counting(&bus);
    let first = done(&bus.emit(order()));
    let event = first.to_json().unwrap();
    assert_eq!((&event["total"], &event["note"]), (&json!(2.0), &Json::Null));
    let mut without = event.clone();
    without.as_object_mut().unwrap().remove("note");
    let same = [
        with(&event, &[("total", json!(2))]),
        with(&event, &[("unknown", Json::Null)]),
        // How far it came, and how it is to run, is no content.
        with(&event, &[("event_status", json!("pending")), ("event_path", json!(["Elsewhere#1234"]))]),
        with(&event, &[("event_priority", json!(9)), ("event_timeout", json!(7)), ("event_results", json!([]))]),
        with(&event, &[("event_created_at", json!("2025-01-02T03:04:05.678901234Z"))]),
        without,
    ];
    for event in same {
        let again = bus.emit_json(&event).unwrap();
        assert_eq!((again.id(), again.results().len()), (first.id(), 1));
    }
    assert_eq!(runs.len(), 1);
}

#[test]
fn what_cannot_be_compared_is_a_plain_duplicate() {
    let bus = EventBus::new("Compare");
    let runs = counting(&bus);
    let tick = done(&bus.emit(Tick));
    // A bus that has no codec for a type takes none of it.
    let event = json!({ "event_type": "Tick", "event_id": tick.id().to_string() });
    assert!(matches!(bus.emit_json(&event), Err(JsonError::NoCodec { .. })));
    let order = done(&bus.emit(order()));
    // Elsewhere it was made another version's.
    let later = with(&order.to_json().unwrap(), &[("event_version", json!("2")), ("customers", json!(["ann"]))]);
    assert_eq!(bus.emit_json(&later).unwrap().id(), order.id());
    assert_eq!(runs.len(), 2);
}

#[test]
fn once_the_first_has_left_the_history_a_known_id_is_a_duplicate_whatever_it_says() {
    let bus = EventBus::builder("Gone").max_history(Some(1)).build().unwrap();
    let runs = counting(&bus);
    let event = done(&bus.emit(order())).to_json().unwrap();
    done(&bus.emit(order()));
    for event in [with(&event, &[("customer", json!("bob"))]), event] {
        let came = bus.emit_json(&event).unwrap().wait_timeout(PATIENCE);
        assert!(matches!(came, Err(WaitError::Rejected(EmitError::DuplicateId { .. }))), "{came:?}");
    }
    assert_eq!(runs.len(), 2);
}

#[test]
fn a_twin_that_is_forwarded_does_not_run() {
    let names = ["From", "To", "Copy"];
    for history in [Some(1), Some(100)] {
        let [from, to, copy] = names.map(|name| EventBus::builder(name).max_history(history).build().unwrap());
        let runs = counting(&to);
        let event = done(&from.emit(order()));
        to.forward(&event).unwrap();
        idle(&to);
        // That event by another way.
        let twin = done(&copy.emit_json(&event.to_json().unwrap()).unwrap());
        assert_eq!(twin.id(), event.id());
        for n in 0..3 {
            to.forward(&twin).unwrap();
            from.forward(&twin).unwrap();
            let _ = (idle(&to), idle(&from));
            assert_eq!((runs.len(), twin.results().len()), (1 + n, 0), "{history:?}");
            done(&to.emit_json(&json!({ "event_type": "Other" })).unwrap());
        }
    }
}

#[test]
fn a_forwarded_twin_with_another_content_is_an_error_while_the_first_is_there() {
    let [from, to, copy] = ["From", "To", "Copy"].map(EventBus::new);
    let runs = counting(&to);
    copy.forward_all_to(&to);
    let event = done(&from.emit(order()));
    to.forward(&event).unwrap();
    idle(&to);
    let other = with(&event.to_json().unwrap(), &[("customer", json!("bob"))]);
    let twin = done(&copy.emit_json(&other).unwrap());
    let id = event.id();
    assert_eq!(to.forward(&twin).unwrap_err(), EmitError::DuplicateId { bus: to.label().to_owned(), id });
    // The handler that forwards fails by it.
    let errors = twin.errors();
    let [HandlerFailure::Failed(error)] = errors.iter().map(|error| &**error).collect::<Vec<_>>()[..] else {
        panic!("{errors:?}")
    };
    assert!(error.to_string().ends_with(&format!("already has an event {id}")), "{error}");
    assert_eq!(runs.len(), 1);
}

#[test]
fn a_ring_of_forwards_and_bridges_runs_each_event_once_on_each_bus() {
    within(3 * PATIENCE, || {
        let buses = ["A", "B", "C"].map(|name| {
            let bus = EventBus::builder(name).max_history(Some(3)).event_concurrency(EventConcurrency::Parallel);
            bus.build().unwrap()
        });
        let [a, b, c] = &buses;
        let runs = buses.each_ref().map(counting);
        a.forward_all_to(b);
        b.forward_all_to(c);
        c.forward_all_to(a);
        // And each as text to each.
        for from in &buses {
            let others = buses.each_ref().map(EventBus::downgrade);
            from.on_any(move |event: &AnyEvent| {
                let text = event.to_json().unwrap().to_string();
                for bus in others.iter().filter_map(|bus| bus.upgrade()) {
                    drop(bus.emit_json_str(&text));
                }
            });
        }
        (0..200).for_each(|n| drop(buses[n % 3].emit(Order { total: n as f64, ..order() })));
        eventually(|| {
            buses.iter().for_each(idle);
            runs.iter().all(|runs| runs.len() >= 200)
        });
        buses.iter().for_each(idle);
        assert_eq!(runs.map(|runs| runs.len()), [200; 3]);
    });
}

#[test]
fn a_later_shape_of_a_type_is_compared_by_its_version() {
    let bus = EventBus::new("Versions");
    bus.on(|_: &Event<Later>| {});
    let first = done(&bus.emit(Later { customers: vec!["ann".to_owned()] }));
    let older =
        json!({ "event_type": "Order", "event_id": first.id().to_string(), "event_version": "1", "customers": [] });
    assert_eq!(bus.emit_json(&older).unwrap().id(), first.id());
    let same =
        json!({ "event_type": "Order", "event_id": first.id().to_string(), "event_version": "2", "customers": [] });
    assert!(matches!(bus.emit_json(&same), Err(JsonError::OtherContent { field, .. }) if field == "customers"));
    let options = EventOptions::new().id(first.id());
    assert!(bus.try_emit_with(Later { customers: Vec::new() }, options).is_err());
}

#[test]
fn of_many_twins_at_once_by_all_ways_one_runs() {
    let to =
        EventBus::builder("To").event_concurrency(EventConcurrency::Parallel).max_history(Some(5)).build().unwrap();
    let runs = counting(&to);
    let from = ["A", "B", "C"].map(EventBus::new);
    for n in 0..100_u128 {
        let id = uuid::Uuid::from_u128(0x018f_8e40_1234_7000_8000_0000_0000_0000 | n);
        let event = json!({ "event_type": "Order", "event_id": id.to_string(), "customer": "ann", "total": n as u64 });
        let twins = from.each_ref().map(|bus| done(&bus.emit_json(&event).unwrap()));
        let (to, event) = (&to, &event);
        std::thread::scope(|scope| {
            for twin in &twins {
                scope.spawn(move || to.forward(twin).unwrap());
                scope.spawn(move || to.emit_json(event).unwrap());
            }
        });
        idle(to);
        assert_eq!(runs.len() as u128, n + 1);
    }
}

#[test]
fn batches_that_overlap_run_what_is_new_in_them() {
    let bus = EventBus::builder("Batches").max_history(Some(2)).build().unwrap();
    let seen = Log::new();
    let log = seen.clone();
    bus.on_any(move |event| log.push(event.payload_json().unwrap()["n"].clone()));
    for batch in [[1_u128, 3, 7], [2, 7, 14], [1, 2, 3]] {
        for n in batch {
            let id = uuid::Uuid::from_u128(0x018f_8e40_1234_7000_8000_0000_0000_0000 | n);
            let event = json!({ "event_type": "Line", "event_id": id.to_string(), "n": n as u64 });
            drop(bus.emit_json(&event).unwrap().wait_timeout(PATIENCE));
        }
    }
    assert_eq!(seen.entries(), ["1", "3", "7", "2", "14"]);
}

#[test]
fn what_says_the_same_under_another_id_runs() {
    let bus = EventBus::new("Switch");
    let runs = counting(&bus);
    for _ in 0..3 {
        done(&bus.emit(order()));
        done(&bus.emit_json(&json!({ "event_type": "Order", "customer": "ann", "total": 2 })).unwrap());
    }
    assert_eq!(runs.len(), 6);
}
