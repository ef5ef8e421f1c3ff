//! What writers of tomorrow add to an event, readers of today keep; what does not fit a type goes to those who need none.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, lock, within};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use threadbus::{
    AnyEvent, AnyOutput, Codec, Event, EventBus, EventOptions, HandlerCompletion, HandlerError, HandlerFailure,
    HandlerOptions, Json, JsonError, JsonLimits, Payload, Priority, ResultStatus, Retry, event,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    customer: String,
    lines: Vec<u32>,
}
event!(Order => usize, priority = Priority::HIGH);

fn order() -> Json {
    json!({ "event_type": "Order", "customer": "ann", "lines": [1, 2] })
}

/// No customer of ours.
fn misfit() -> Json {
    json!({ "event_type": "Order", "customer": { "name": "ann" }, "lines": [1] })
}

fn with(event: &Json, field: &str, value: Json) -> Json {
    let mut event = event.clone();
    event[field] = value;
    event
}

fn ways(bus: &EventBus, event: &Json) -> [Result<AnyEvent, JsonError>; 3] {
    let text = event.to_string();
    [bus.emit_json(event), bus.emit_json_str(&text), bus.emit_json_slice(text.as_bytes())]
}

#[test]
fn unknown_fields_of_an_event_are_kept_and_passed_on() {
    let [a, b] = ["A", "B"].map(EventBus::new);
    b.on(|order: &Event<Order>| order.lines.len());
    for value in [json!("x"), json!(7), json!([{ "a": null }]), json!({ "event_id": 1 }), json!(false), Json::Null] {
        for event in ways(&a, &with(&order(), "event_trace_state", value.clone())) {
            let event = done(&event.unwrap());
            assert_eq!(event.payload_json().unwrap(), json!({ "customer": "ann", "lines": [1, 2] }));
            let on = event.to_json().unwrap();
            assert_eq!(on["event_trace_state"], value);
            let further = done(&b.emit_json(&on).unwrap());
            assert!(further.is::<Order>());
            assert_eq!(further.to_json().unwrap()["event_trace_state"], value);
        }
    }
    // What the event has of its own nobody sets by a name that is close.
    let close = with(&with(&order(), "event_Type", json!("Bill")), "event_", json!(1));
    let event = done(&b.emit_json(&close).unwrap());
    assert_eq!((event.event_type(), &event.to_json().unwrap()["event_Type"]), ("Order", &json!("Bill")));
}

#[test]
fn the_writer_still_refuses_them_in_payloads() {
    #[derive(Serialize, Deserialize)]
    struct Bad {
        event_trace: u8,
    }
    event!(Bad);
    let bus = EventBus::new("Writer");
    let bad = bus.emit(Bad { event_trace: 1 });
    assert!(matches!(bad.to_json(), Err(JsonError::ReservedField { field }) if field == "event_trace"));
    // It is the event's, so the payload has none.
    assert!(bus.emit_json(&json!({ "event_type": "Bad", "event_trace": 1 })).is_err());
    for event in ways(&bus, &with(&order(), "model_config", json!({}))) {
        assert!(matches!(event, Err(JsonError::ReservedField { field }) if field == "model_config"));
    }
    let long = format!("event_{}", "x".repeat(300));
    for event in ways(&bus, &with(&order(), &long, json!(1))) {
        assert!(matches!(event, Err(JsonError::NameTooLong { limit: 256, .. })));
    }
    let small = EventBus::builder("Small").json_limits(JsonLimits::new().event_bytes(200)).build().unwrap();
    for event in ways(&small, &with(&order(), "event_more", json!("x".repeat(200)))) {
        assert!(matches!(event, Err(JsonError::TooLarge { limit: 200 })));
    }
}

#[test]
fn what_is_thrown_away_is_not_checked() {
    let bus = EventBus::new("Past");
    bus.on(|order: &Event<Order>| order.lines.len());
    let past = ["event_started_at", "event_completed_at", "event_status", "event_pending_bus_count", "event_results"];
    let strange = [json!("paused"), json!(-7), json!({ "h": {} }), json!([1, "a"]), json!(true), Json::Null, json!("")];
    for value in strange {
        for field in past {
            for event in ways(&bus, &with(&order(), field, value.clone())) {
                let json = done(&event.unwrap()).to_json().unwrap();
                assert_eq!(
                    (&json["event_status"], &json["event_results"][0]["result"]),
                    (&json!("completed"), &json!(2))
                );
                assert!(json["event_started_at"].is_string() && json["event_pending_bus_count"] == 0, "{json}");
            }
        }
    }
}

/// What refuses it where nobody else is, in words.
fn refusal() -> String {
    let bus = EventBus::new("Refusal");
    bus.on(|order: &Event<Order>| order.lines.len());
    let [parsed, text, bytes] = ways(&bus, &misfit()).map(|refused| refused.unwrap_err().to_string());
    assert_eq!((&text, &bytes, bus.history_len()), (&parsed, &parsed, 0));
    parsed
}

#[track_caller]
fn is_wrong_type(failure: &HandlerFailure) {
    let HandlerFailure::WrongType { expected, found } = failure else { panic!("{failure:?}") };
    assert_eq!((&**expected, &**found), ("Order", &*format!("JSON that does not fit: {}", refusal())));
    assert_eq!(failure.to_string(), format!("wrong type: expected {expected}, found {found}"));
}

#[test]
fn what_does_not_fit_its_type_goes_to_those_who_need_none() {
    let bus = EventBus::new("Audit");
    let (typed, audit) = (Log::new(), Log::new());
    let log = typed.clone();
    let first = bus.on(move |order: &Event<Order>| {
        log.push(&order.customer);
        order.lines.len()
    });
    let log = audit.clone();
    bus.on_any(move |event| log.push(event.payload_json().unwrap()["customer"].clone()));
    bus.on_named("Order", |event| event.payload_json().map(|payload| AnyOutput::json(payload["lines"].clone())));
    bus.on_per_worker(HandlerOptions::new(), || Ok(|order: &Event<Order>| Ok(Some(order.lines.len()))));
    for event in [order(), misfit(), order()] {
        for event in ways(&bus, &event) {
            done(&event.unwrap());
        }
    }
    assert_eq!((audit.len(), typed.entries().len()), (9, 6));
    let event = done(&bus.emit_json(&misfit()).unwrap());
    assert!(!event.is::<Order>() && event.downcast::<Order>().is_none() && event.event_type() == "Order");
    let results = event.results();
    let status: Vec<_> = results.iter().map(|result| result.status).collect();
    use ResultStatus::{Completed, Error};
    assert_eq!(status, [Error, Completed, Error, Completed]);
    assert_eq!(results[0].handler.id(), first.id());
    event.errors().iter().for_each(|error| is_wrong_type(error));
    let json = event.to_json().unwrap();
    assert_eq!((&json["customer"]["name"], &json["event_results"][1]["result"]), (&json!("ann"), &json!([1])));
    assert_eq!(json["event_results"][0]["error"]["type"], "WrongType");
    assert!(bus.log_tree().contains("wrong type: expected Order"), "{}", bus.log_tree());
    // Its type's options hold.
    assert_eq!(event.priority(), Priority::HIGH);
    // Where that type is another, it fits.
    #[derive(Serialize, Deserialize)]
    struct Name {
        name: String,
    }
    #[derive(Serialize, Deserialize)]
    struct Later {
        customer: Name,
    }
    impl Payload for Later {
        type Output = ();
        fn event_type() -> &'static str {
            "Order"
        }
        fn codec() -> Option<Codec<Self>> {
            Some(Codec::serde())
        }
    }
    let later = EventBus::new("Later");
    later.on(|order: &Event<Later>| assert_eq!(order.customer.name, "ann"));
    assert!(done(&later.emit_json(&json).unwrap()).errors().is_empty());
}

#[test]
fn who_takes_any_payload_decides() {
    let refused = refusal();
    type Add = fn(&EventBus, &EventBus);
    let takers: [(&str, bool, Add); 8] = [
        ("wildcard handler", true, |bus, _| drop(bus.on_any(|_| {}))),
        ("handler by name", true, |bus, _| drop(bus.on_named("Order", |_| {}))),
        ("forward of all", true, |bus, other| drop(bus.forward_all_to(other))),
        ("handler of another name", false, |bus, _| drop(bus.on_named("Bill", |_| {}))),
        ("forward of the type", false, |bus, other| drop(bus.forward_to::<Order>(other))),
        ("another handler of the type", false, |bus, _| drop(bus.on(|order: &Event<Order>| order.lines.len()))),
        ("gone", false, |bus, _| assert!(bus.off(&bus.on_any(|_| {})))),
        ("nobody", false, |_, _| {}),
    ];
    for (name, takes, add) in takers {
        let [bus, other] = ["Bus", "Other"].map(EventBus::new);
        bus.on(|order: &Event<Order>| order.lines.len());
        add(&bus, &other);
        match bus.emit_json(&misfit()) {
            Ok(event) => {
                is_wrong_type(&done(&event).errors()[0]);
                assert!(takes, "{name}");
            }
            Err(error) => assert_eq!((error.to_string(), takes), (refused.clone(), false), "{name}"),
        }
    }
    let bus = EventBus::new("Readers");
    bus.on(|order: &Event<Order>| order.lines.len());
    let typed = bus.subscribe::<Order>();
    assert_eq!(bus.emit_json(&misfit()).unwrap_err().to_string(), refused);
    let mut any = bus.subscribe_any();
    done(&bus.emit_json(&misfit()).unwrap());
    assert_eq!(any.recv_timeout(PATIENCE).unwrap().payload_json().unwrap()["customer"]["name"], "ann");
    drop(any);
    eventually(|| bus.emit_json(&misfit()).is_err());
    let mut typed = typed;
    assert!(typed.recv_timeout(Duration::ZERO).is_err(), "it is no Order");
}

#[test]
fn a_find_by_name_that_waits_takes_it_and_one_for_another_name_or_type_does_not() {
    let refused = refusal();
    let finds: [(&str, bool); 3] = [("Order", true), ("*", true), ("Bill", false)];
    for (name, takes) in finds {
        let bus = EventBus::new("Finds");
        bus.on(|order: &Event<Order>| order.lines.len());
        let (sender, found) = std::sync::mpsc::channel();
        let finder = bus.clone();
        let thread = thread::spawn(move || {
            let found = finder.find_named(name).past(false).future(PATIENCE).first();
            drop(sender.send(found.map(|event| event.event_type().to_owned())));
        });
        if takes {
            eventually(|| bus.emit_json(&misfit()).is_ok());
            assert_eq!(found.recv_timeout(PATIENCE).unwrap().as_deref(), Some("Order"));
        } else {
            // It is waiting when it gets what it waits for.
            let mut tries = 0;
            eventually(|| {
                assert_eq!(bus.emit_json(&misfit()).unwrap_err().to_string(), refused);
                tries += 1;
                tries > 50 && bus.emit_json(&json!({ "event_type": name })).is_ok() && found.try_recv().is_ok()
            });
        }
        thread.join().unwrap();
    }
}

#[test]
fn a_forward_takes_it_along_with_what_handlers_there_say() {
    let [from, to, third] = ["From", "To", "Third"].map(EventBus::new);
    from.on(|order: &Event<Order>| order.lines.len());
    let seen = Log::new();
    let log = seen.clone();
    to.on_named("Order", move |event| log.push(event.payload_json().unwrap()["lines"][0].clone()));
    to.on(|order: &Event<Order>| order.lines.len());
    // `Third` has never heard of the type.
    let log = seen.clone();
    third.on_any(move |event| log.push(event.event_type()));
    from.forward_all_to(&to);
    to.forward_to::<Order>(&third);
    let event = done(&from.emit_json(&misfit()).unwrap());
    assert_eq!(seen.len(), 2, "{:?}", seen.entries());
    let errors = event.errors();
    assert_eq!(errors.len(), 2);
    errors.iter().for_each(|error| is_wrong_type(error));
    assert_eq!(third.history().len(), 1);
}

#[test]
fn what_does_not_fit_is_not_tried_again_and_leaves_a_permanent_letter() {
    let bus = EventBus::builder("Letters").dead_letters(10).retry(Retry::attempts(5)).build().unwrap();
    let calls = Log::new();
    let log = calls.clone();
    bus.on(move |order: &Event<Order>| -> Result<usize, HandlerError> {
        log.push("called");
        Ok(order.lines.len())
    });
    bus.on_any(|_| {});
    let event = done(&bus.emit_json(&misfit()).unwrap());
    idle(&bus);
    assert_eq!((event.results()[0].attempts, calls.len()), (1, 0));
    let letters = bus.dead_letters();
    assert_eq!((letters.len(), letters[0].permanent, letters[0].attempts), (1, true, 1));
    is_wrong_type(&letters[0].error);
    let bus = within(PATIENCE, move || {
        bus.redrive_where(10, |_| true);
        bus
    });
    assert_eq!(bus.dead_letters().len(), 1);
}

#[test]
fn the_first_value_is_that_of_who_could_read_it() {
    let bus = EventBus::builder("First").handler_completion(HandlerCompletion::First).build().unwrap();
    bus.on(|order: &Event<Order>| order.lines.len());
    bus.on_named("Order", |_| AnyOutput::json(json!("read")));
    let event = done(&bus.emit_json(&misfit()).unwrap());
    let values: Vec<_> = event.results().iter().filter_map(|result| result.value.as_ref()?.to_json().ok()).collect();
    assert_eq!(values, [json!("read")]);
}

#[test]
fn a_type_without_a_codec_is_refused_as_ever() {
    struct Tick;
    impl Payload for Tick {
        type Output = ();
    }
    let bus = EventBus::new("NoCodec");
    bus.on(|_: &Event<Tick>| {});
    bus.on_any(|_| {});
    assert!(matches!(bus.emit_json(&json!({ "event_type": "Tick" })), Err(JsonError::NoCodec { .. })));
}

#[test]
fn a_parent_waits_for_a_child_that_does_not_fit() {
    let bus = EventBus::new("Parent");
    bus.on(|order: &Event<Order>| order.lines.len());
    let gate = Gate::new();
    let _open = gate.opener();
    let stands = gate.clone();
    bus.on_named("Order", move |_| stands.wait());
    let child = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&child);
    bus.on_named("Outer", move |outer| {
        *lock(&kept) = Some(outer.bus().emit_json(&misfit()).unwrap());
    });
    let outer = bus.emit_json(&json!({ "event_type": "Outer" })).unwrap();
    eventually(|| lock(&child).is_some());
    assert!(outer.wait_timeout(Duration::from_millis(5)).is_err());
    gate.open();
    done(&outer);
    assert!(lock(&child).as_ref().is_some_and(AnyEvent::is_completed));
}

#[test]
fn a_crowd_of_which_every_third_does_not_fit() {
    let bus = EventBus::builder("Crowd").max_history(Some(10)).build().unwrap();
    let (typed, audit) = (Log::new(), Log::new());
    let log = typed.clone();
    bus.on(move |order: &Event<Order>| {
        log.push("order");
        order.lines.len()
    });
    let log = audit.clone();
    bus.on_any(move |event| log.push(event.event_type()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..600 {
                    let event = if n % 3 == 0 { misfit() } else { order() };
                    bus.emit_json_str(&event.to_string()).unwrap();
                }
            });
        }
    });
    idle(&bus);
    assert_eq!((audit.len(), typed.len()), (2400, 1600));
    assert_eq!(
        bus.emit_with(Order { customer: "bob".to_owned(), lines: vec![] }, EventOptions::new()).result().unwrap(),
        0
    );
}
