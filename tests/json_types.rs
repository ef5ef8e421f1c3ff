//! Events from elsewhere: when they are typed, what handlers get of them, and which are the same.

mod common;

use common::{Log, PATIENCE, done, eventually, within};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use threadbus::{
    AnyOutput, EmitError, Event, EventBus, EventId, EventOptions, HandlerError, HandlerOptions, Json, JsonError,
    WaitError, event,
};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    text: String,
    #[serde(default)]
    pages: u32,
}
event!(Note => usize);

fn note() -> Json {
    json!({ "event_type": "Note", "text": "hi", "colour": "red" })
}

fn is_known(bus: &EventBus) -> bool {
    bus.emit_json(&note()).unwrap().is::<Note>()
}

#[test]
fn a_bus_knows_the_types_it_has_met() {
    let target = EventBus::new("Target");
    type Meet = fn(&EventBus, &EventBus);
    let ways: [(&str, Meet); 7] = [
        ("on", |bus, _| drop(bus.on(|_: &Event<Note>| 1))),
        ("on_per_worker", |bus, _| {
            bus.on_per_worker(HandlerOptions::new(), || Ok(|_: &Event<Note>| Ok::<_, HandlerError>(None)));
        }),
        ("forward_to", |bus, target| drop(bus.forward_to::<Note>(target))),
        ("emit", |bus, _| drop(bus.emit(Note { text: "a".into(), pages: 1 }))),
        ("subscribe", |bus, _| drop(bus.subscribe::<Note>())),
        ("subscribe_bounded", |bus, _| drop(bus.subscribe_bounded::<Note>(1, threadbus::OnLag::DropOldest))),
        ("forward", |bus, _| {
            let other = EventBus::new("Other").emit(Note { text: "a".into(), pages: 1 });
            bus.forward(other).unwrap();
        }),
    ];
    for (way, meet) in ways {
        let bus = EventBus::new("Meets");
        assert!(!is_known(&bus), "{way}: a new bus knows nothing");
        bus.on_any(|_| {});
        bus.on_named("Note", |_| {});
        assert!(bus.find::<Note>().first().is_none() && !is_known(&bus), "{way}: names and looks back tell no type");
        meet(&bus, &target);
        assert!(is_known(&bus), "{way}");
        bus.off_all::<Note>();
        assert!(is_known(&bus), "{way}: it does not forget");
    }
}

#[test]
fn a_type_that_was_forwarded_first_and_emitted_later_is_known() {
    let bus = EventBus::builder("Both").max_history(Some(0)).build().unwrap();
    let other = done(&EventBus::new("Other").emit(Note { text: "a".into(), pages: 1 }));
    bus.forward(&other).unwrap();
    done(&bus.emit(Note { text: "b".into(), pages: 1 }));
    assert!(is_known(&bus));
}

#[test]
fn an_id_that_came_by_forward_is_seen_too() {
    let [one, two] = ["One", "Two"].map(|name| EventBus::builder(name).max_history(Some(0)).build().unwrap());
    one.forward_all_to(&two);
    let json = json!({ "event_type": "Note", "event_id": "018f8e40-1234-7000-8000-000000001234" });
    let first = done(&one.emit_json(&json).unwrap());
    eventually(|| {
        done(&two.emit_json(&json!({ "event_type": "Next" })).unwrap());
        two.event(first.id()).is_none()
    });
    let again = two.emit_json(&json).unwrap().wait();
    assert!(matches!(again, Err(WaitError::Rejected(EmitError::DuplicateId { .. }))));
}

#[test]
fn a_find_that_waits_gets_its_type() {
    let bus = EventBus::new("Finds");
    let found = within(PATIENCE, move || {
        std::thread::scope(|scope| {
            let find = scope.spawn(|| bus.find::<Note>().future(PATIENCE).first());
            eventually(|| bus.emit_json(&note()).unwrap().is::<Note>());
            find.join().unwrap()
        })
    });
    assert_eq!(found.unwrap().text, "hi");
}

#[test]
fn a_typed_event_keeps_what_its_type_does_not_know() {
    let bus = EventBus::new("Typed");
    bus.on(|note: &Event<Note>| note.text.len() + note.pages as usize);
    let event = done(&bus.emit_json(&note()).unwrap());
    let typed = event.downcast::<Note>().unwrap();
    assert_eq!((*typed == Note { text: "hi".into(), pages: 0 }, typed.result().unwrap()), (true, 2));
    assert_eq!(event.payload_json().unwrap(), json!({ "text": "hi", "colour": "red" }), "as it was written");
    assert_eq!(typed.to_json().unwrap()["colour"], "red");
}

#[test]
fn a_dynamic_event_has_handlers_by_name_and_for_all() {
    let bus = EventBus::new("Dynamic");
    let log = Log::new();
    let (named, any, other) = (log.clone(), log.clone(), log.clone());
    bus.on_named("Note", move |event| {
        named.push(format!("named {}", event.payload_json()?["text"]));
        assert!(event.payload::<Note>().is_none());
        Ok::<_, HandlerError>(Some(AnyOutput::json(json!({ "seen": true }))))
    });
    bus.on_any(move |event| any.push(format!("any {}", event.event_type())));
    bus.on_named("Other", move |_| other.push("other"));
    bus.on_any(|_| AnyOutput::new(7_u8));
    let event = done(&bus.emit_json(&note()).unwrap());
    assert_eq!(log.entries(), ["named \"hi\"", "any Note"]);
    let results = event.results();
    assert_eq!(results[0].value.as_ref().unwrap().downcast::<Json>(), Some(json!({ "seen": true })));
    assert!(results[1].value.is_none());
    assert_eq!(results[2].value.as_ref().unwrap().downcast::<u8>(), Some(7));
    let json = event.to_json().unwrap();
    assert_eq!(json["event_results"][0]["result"], json!({ "seen": true }));
    assert_eq!(json["event_results"][2]["result"], 7);
}

#[test]
fn dynamic_events_are_found_subscribed_to_and_forwarded_like_others() {
    let [bus, target] = ["Dynamic", "Target"].map(EventBus::new);
    bus.forward_all_to(&target);
    target.on_named("Note", |event| event.payload_json().map(AnyOutput::json));
    let mut all = bus.subscribe_any();
    let event = done(&bus.emit_json(&note()).unwrap());
    assert_eq!(all.try_recv().unwrap().id(), event.id());
    assert_eq!(bus.find_named("Note").first().unwrap().id(), event.id());
    assert_eq!(target.find_named("Note").first().unwrap().path(), [bus.label(), target.label()]);
    let json = event.to_json().unwrap();
    assert_eq!(json["event_results"][1]["result"], json!({ "text": "hi", "colour": "red" }));
    assert_eq!(json["event_results"][1]["eventbus_name"], "Target");
    assert!(event.to_string().starts_with("Note#"));
    assert!(bus.log_tree().contains("Note"));
}

#[test]
fn an_id_is_run_once() {
    let bus = EventBus::builder("Once").max_history(Some(1)).build().unwrap();
    let log = Log::new();
    let runs = log.clone();
    bus.on_any(move |event| runs.push(event.id()));
    let id = "018f8e40-1234-7000-8000-000000001234";
    let json = json!({ "event_type": "Note", "event_id": id, "text": "hi" });
    let first = done(&bus.emit_json(&json).unwrap());
    let second = bus.emit_json(&json).unwrap();
    assert_eq!((second.id().to_string().as_str(), second.is_completed()), (id, true));
    assert!(second.wait().is_ok(), "it is the first one");
    assert_eq!(log.entries(), [id]);

    // Its own events are known as well.
    let own = done(&bus.emit(Note { text: "own".into(), pages: 0 }));
    assert_eq!(bus.emit_json(&own.to_json().unwrap()).unwrap().wait().unwrap().id(), own.id());
    assert_eq!(log.len(), 2);

    // The history is over it, but the id is not forgotten.
    assert!(bus.event(first.id()).is_none());
    let third = bus.emit_json(&json).unwrap();
    let refused = third.wait();
    assert!(matches!(refused, Err(WaitError::Rejected(EmitError::DuplicateId { id, .. })) if id == first.id()));
    assert_eq!(log.len(), 2);

    // Nor may it be given by hand.
    let by_hand = bus.try_emit_with(Note { text: "x".into(), pages: 0 }, EventOptions::new().id(first.id()));
    assert!(matches!(by_hand.unwrap_err().error, EmitError::DuplicateId { .. }));
}

#[test]
fn of_two_at_once_with_one_id_one_runs() {
    let bus = EventBus::new("Race");
    let log = Log::new();
    let runs = log.clone();
    bus.on_any(move |event| runs.push(event.id()));
    for n in 0..50_u128 {
        let json = json!({ "event_type": "Note", "event_id": EventId(uuid(n)).to_string(), "text": "hi" });
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| done(&bus.emit_json(&json).unwrap()));
            }
        });
    }
    assert_eq!(log.len(), 50);
}

fn uuid(n: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(n + 1)
}

#[test]
fn a_handler_waits_for_what_it_reads() {
    let bus = EventBus::new("Waits");
    bus.on_named("Ask", |event| {
        let answer = event.bus().emit_json(&json!({ "event_type": "Note", "text": "four" }))?.wait()?;
        let note = answer.downcast::<Note>().ok_or("typed")?;
        Ok::<_, HandlerError>(Some(AnyOutput::json(json!(note.result()?))))
    });
    bus.on(|note: &Event<Note>| note.text.len());
    let ask =
        within(PATIENCE, move || done(&bus.emit_json(&json!({ "event_type": "Ask" })).unwrap()).to_json().unwrap());
    assert_eq!(ask["event_results"][0]["result"], 4);
}

#[test]
fn of_two_types_with_one_name_none_is_meant() {
    mod other {
        #[derive(serde::Serialize, serde::Deserialize)]
        pub(crate) struct Note {}
        threadbus::event!(Note);
    }
    let bus = EventBus::new("Names");
    bus.on(|_: &Event<other::Note>| {});
    assert!(bus.emit_json(&note()).unwrap().is::<other::Note>());
    bus.on(|_: &Event<Note>| 1);
    let error = bus.emit_json(&note()).unwrap_err().to_string();
    assert!(error.starts_with("field event_type: two types are called Note here: "), "{error}");
    assert!(error.contains("::other::Note and ") && error.ends_with("json_types::Note"), "{error}");
    // In the process each is what it is.
    assert_eq!(bus.emit(Note { text: "a".into(), pages: 1 }).result().unwrap(), 1);
    assert!(bus.emit(other::Note {}).result().is_ok());
    // And elsewhere one of them may be known.
    let elsewhere = EventBus::new("Names");
    elsewhere.on(|_: &Event<Note>| 1);
    assert!(elsewhere.emit_json(&note()).unwrap().is::<Note>());
}

#[test]
fn the_limits_of_a_type_hold_where_the_event_says_nothing() {
    #[derive(Serialize, Deserialize)]
    struct Quick {}
    event!(Quick, timeout = Duration::from_secs(3), priority = threadbus::Priority::HIGH);
    let bus = EventBus::new("Options");
    bus.on(|_: &Event<Quick>| {});
    let plain = bus.emit_json(&json!({ "event_type": "Quick", "event_timeout": null })).unwrap().to_json().unwrap();
    assert_eq!((&plain["event_timeout"], &plain["event_priority"]), (&json!(3.0), &json!(8)));
    let own = json!({ "event_type": "Quick", "event_timeout": 1, "event_priority": 2 });
    let own = bus.emit_json(&own).unwrap().to_json().unwrap();
    assert_eq!((&own["event_timeout"], &own["event_priority"]), (&json!(1), &json!(2)));
}

#[test]
fn an_error_is_a_handlers_too() {
    let bus = EventBus::new("Errors");
    bus.on_named("Relay", |event| event.bus().emit_json(&json!({ "event_type": 7 })).map(drop));
    let event = done(&bus.emit_json(&json!({ "event_type": "Relay" })).unwrap());
    let errors = event.errors();
    assert!(matches!(errors[0].downcast_ref(), Some(JsonError::InvalidField { field, .. }) if field == "event_type"));
}
