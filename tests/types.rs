//! Conformance, section TYPE: what a payload type says about its events. Its JSON lines are elsewhere.

mod common;

use common::{Log, done, payload};
use std::collections::BTreeMap;
use std::sync::Arc;
use threadbus::{AnyOutput, Event, EventBus, EventOptions, HandlerFailure, Payload, Priority, ResultStatus};

payload!(Plain { n: u32 });
payload!(Count => i64);
payload!(Summary => Totals);

/// An output with two required fields.
#[derive(Clone, Debug, PartialEq)]
struct Totals {
    items: Vec<i64>,
    meta: BTreeMap<String, bool>,
}

/// Names itself.
struct Renamed;
impl Payload for Renamed {
    type Output = ();
    fn event_type() -> &'static str {
        "OverriddenType"
    }
}

/// Takes its name from its type: without the path, also that of its parameter.
struct Wrapper<T>(T);
impl<T: Send + Sync + 'static> Payload for Wrapper<T> {
    type Output = ();
}

mod inner {
    pub(crate) struct Thing;
}

#[test]
fn type_002_an_explicit_name_wins_over_the_type_name() {
    let bus = EventBus::new("Names");
    let log = Log::new();
    let (by_name, by_type, other) = (log.clone(), log.clone(), log.clone());
    bus.on_named("OverriddenType", move |event| by_name.push(format!("name {}", event.event_type())));
    bus.on(move |_: &Event<Renamed>| by_type.push("type"));
    bus.on_named("Renamed", move |_| other.push("the type's own name"));
    let event = done(&bus.emit(Renamed));
    assert_eq!(event.event_type(), "OverriddenType");
    assert_eq!(log.entries(), ["name OverriddenType", "type"]);
    assert_eq!(done(&bus.emit(Wrapper(inner::Thing))).event_type(), "Wrapper<Thing>");
    assert_eq!(done(&bus.emit(Wrapper(Some(inner::Thing)))).event_type(), "Wrapper<Option<Thing>>");
}

#[test]
fn type_005_version_has_a_default_and_the_type_may_set_it() {
    struct Versioned;
    impl Payload for Versioned {
        type Output = ();
        fn version() -> &'static str {
            "4.5.6"
        }
    }
    let bus = EventBus::new("Versions");
    assert_eq!(bus.emit(Plain { n: 1 }).version(), "0.0.1");
    let event = bus.emit(Versioned);
    assert_eq!(event.version(), "4.5.6");
    assert_eq!(done(&event).version(), "4.5.6");
    assert_eq!(bus.event(event.id()).unwrap().version(), "4.5.6");
}

#[test]
fn type_007_options_declared_on_the_type_read_back_and_yield_to_emit_with() {
    struct Urgent;
    impl Payload for Urgent {
        type Output = ();
        fn options() -> EventOptions {
            EventOptions::new().priority(Priority::HIGH).correlation_id("not inherited by the type")
        }
    }
    let bus = EventBus::new("Options");
    assert_eq!(bus.emit(Plain { n: 1 }).priority(), Priority::NORMAL);
    let event = bus.emit(Urgent);
    assert_eq!(event.priority(), Priority::HIGH);
    assert_eq!(event.correlation_id(), event.id().to_string(), "identity set on the type is ignored");
    let lowered = bus.emit_with(Urgent, EventOptions::new().priority(Priority::LOW));
    assert_eq!(lowered.priority(), Priority::LOW);
}

#[test]
fn type_013_a_fresh_event_was_emitted_by_no_handler() {
    let bus = EventBus::new("Fresh");
    let (seen, inside) = (Log::new(), bus.downgrade());
    let log = seen.clone();
    let info = bus.on(move |_: &Event<Count>| {
        let child = inside.upgrade().unwrap().emit(Plain { n: 1 });
        log.push(child.emitted_by().unwrap());
        1
    });
    let event = done(&bus.emit(Count));
    assert_eq!((event.emitted_by(), event.parent_id()), (None, None));
    assert!(event.parent().is_none());
    assert_eq!(seen.entries(), [info.id().to_string()], "and a child was emitted by its parent's handler");
}

#[test]
fn type_015_an_integer_type_takes_integers_only_and_unit_takes_nothing() {
    let bus = EventBus::new("Integers");
    bus.on_named("Count", |_| AnyOutput::new(123_i64));
    bus.on_named("Count", |_| AnyOutput::new(1.5_f64));
    bus.on_named("Plain", |_| AnyOutput::new(()));
    let event = done(&bus.emit(Count));
    let [whole, broken] = &event.results()[..] else { panic!("two handlers, two results") };
    assert_eq!((whole.status, whole.value), (ResultStatus::Completed, Some(123)));
    assert_eq!((broken.status, broken.value), (ResultStatus::Error, None));
    assert!(matches!(broken.error.as_deref(), Some(HandlerFailure::WrongType { .. })), "{:?}", broken.error);
    let event = done(&bus.emit(Plain { n: 1 }));
    assert_eq!(event.results()[0].status, ResultStatus::Completed);
    assert_eq!(event.results()[0].value, Some(()));
}

#[test]
fn type_016_an_object_type_takes_its_own_kind_only() {
    let bus = EventBus::new("Objects");
    let totals = Totals { items: vec![1, 2, 3], meta: BTreeMap::from([("ok".to_owned(), true)]) };
    let returned = totals.clone();
    bus.on_named("Summary", move |_| AnyOutput::new(returned.clone()));
    bus.on_named("Summary", |_| AnyOutput::new((vec!["bad"], BTreeMap::from([("ok", "yes")]))));
    bus.on_named("Summary", |_| AnyOutput::new(Arc::new(1)));
    let event = done(&bus.emit(Summary));
    let statuses: Vec<_> = event.results().iter().map(|result| result.status).collect();
    assert_eq!(statuses, [ResultStatus::Completed, ResultStatus::Error, ResultStatus::Error]);
    assert_eq!(event.results()[0].value, Some(totals));
    let wrong = |failure: &Arc<HandlerFailure>| matches!(**failure, HandlerFailure::WrongType { .. });
    assert_eq!(event.errors().len(), 2);
    assert!(event.errors().iter().all(wrong), "{:?}", event.errors());
}
