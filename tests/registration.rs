//! Conformance, section REG: registering handlers by type, by name and for everything, and taking them off again.

mod common;

use common::{Log, done, idle, payload};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use threadbus::{AnyEvent, AnyOutput, Event, EventBus, Handler, HandlerError, HandlerOptions, ResultStatus};

payload!(UserAction { action: String });
payload!(SystemEvent { name: String });
payload!(Work { action: String } => String);
payload!(RegistryEvent => String);

#[test]
fn reg_001_handlers_by_name_by_type_and_for_everything() {
    let bus = EventBus::new("Matching");
    let (named, typed, any) = (Log::new(), Log::new(), Log::new());
    let (to_named, to_typed, to_any) = (named.clone(), typed.clone(), any.clone());
    bus.on_named("UserAction", move |event| to_named.push(&event.payload::<UserAction>().unwrap().action));
    bus.on(move |event: &Event<SystemEvent>| to_typed.push(&event.name));
    bus.on_named("*", move |event| to_any.push(event.event_type()));
    bus.emit(UserAction { action: "login".into() });
    bus.emit(SystemEvent { name: "startup".into() });
    idle(&bus);
    assert_eq!(named.entries(), ["login"]);
    assert_eq!(typed.entries(), ["startup"]);
    assert_eq!(any.entries(), ["UserAction", "SystemEvent"]);
}

/// A handler with state of its own.
struct Processor {
    name: &'static str,
    value: u32,
}

impl Processor {
    fn describe(&self, value: u32, event: &Event<Work>) -> String {
        format!("{}/{value} {}", self.name, event.action)
    }
}

impl Handler<Work> for Processor {
    fn handle(&self, event: &Event<Work>) -> Result<Option<String>, HandlerError> {
        Ok(Some(self.describe(self.value, event)))
    }
}

fn static_a(event: &Event<Work>) -> String {
    format!("static a {}", event.action)
}

fn static_b(event: &Event<Work>) -> Result<String, std::fmt::Error> {
    Ok(format!("static b {}", event.action))
}

#[test]
fn reg_006_methods_of_shared_objects_and_plain_functions() {
    let bus = EventBus::new("Methods");
    let first = Arc::new(Processor { name: "Processor1", value: 10 });
    let doubled = first.clone();
    bus.on(first);
    bus.on(move |event: &Event<Work>| doubled.describe(doubled.value * 2, event));
    bus.on(Processor { name: "Processor2", value: 20 });
    bus.on(static_a);
    bus.on(static_b);
    let event = done(&bus.emit(Work { action: "test_methods".into() }));
    let expected = [
        "Processor1/10 test_methods",
        "Processor1/20 test_methods",
        "Processor2/20 test_methods",
        "static a test_methods",
        "static b test_methods",
    ];
    assert_eq!(event.result_list().unwrap(), expected);
}

#[test]
fn reg_007_a_registration_is_listed_and_its_results_carry_its_id() {
    let bus = EventBus::new("Registry");
    let info = bus.on(|_: &Event<RegistryEvent>| "ok".to_owned());
    let listed = bus.handlers();
    let [entry] = &listed[..] else { panic!("one handler is listed: {listed:?}") };
    assert_eq!((entry.id(), entry.pattern()), (info.id(), "RegistryEvent"));
    assert!(info.is_registered() && entry.is_registered());
    assert!(bus.has_handler::<RegistryEvent>() && !bus.has_handler::<Work>());
    let event = done(&bus.emit(RegistryEvent));
    assert_eq!(event.results()[0].handler.id(), info.id());
}

#[test]
fn reg_009_a_handler_can_be_called_directly_too() {
    struct Normalizer(AtomicUsize);
    impl Handler<RegistryEvent> for Normalizer {
        fn handle(&self, _: &Event<RegistryEvent>) -> Result<Option<String>, HandlerError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(Some("normalized".to_owned()))
        }
    }
    let (bus, elsewhere) = (EventBus::new("Direct"), EventBus::new("Elsewhere"));
    let handler = Arc::new(Normalizer(AtomicUsize::new(0)));
    bus.on(handler.clone());
    let direct = handler.handle(&elsewhere.emit(RegistryEvent)).unwrap();
    assert_eq!(direct.as_deref(), Some("normalized"));
    let event = done(&bus.emit(RegistryEvent));
    assert_eq!(event.results()[0].status, ResultStatus::Completed);
    assert_eq!(event.results()[0].value.as_deref(), Some("normalized"));
    assert_eq!(handler.0.load(Ordering::SeqCst), 2);
}

#[test]
fn reg_011_off_removes_exactly_what_it_names() {
    let bus = EventBus::new("Off");
    let answer = |text: &'static str| move |_: &Event<RegistryEvent>| text.to_owned();
    let [a, b, c] = ["a", "b", "c"].map(|text| bus.on(answer(text)));
    let left = |bus: &EventBus| bus.handlers().iter().map(|info| info.id()).collect::<Vec<_>>();
    assert_eq!(left(&bus), [a.id(), b.id(), c.id()]);

    assert!(bus.off(&a));
    assert_eq!(left(&bus), [b.id(), c.id()]);
    assert!(!a.is_registered() && b.is_registered());
    assert!(!bus.off(&a), "a second time there is nothing to remove");
    assert_eq!(done(&bus.emit(RegistryEvent)).result_list().unwrap(), ["b", "c"]);
    assert!(bus.off_id(b.id()) && !bus.off_id(b.id()));
    assert_eq!(left(&bus), [c.id()]);
    assert!(bus.off(&c.clone()));
    assert!(left(&bus).is_empty() && !bus.has_handler::<RegistryEvent>());

    bus.on(answer("a"));
    bus.on(answer("b"));
    assert!(bus.has_handler::<RegistryEvent>());
    assert_eq!(bus.off_all::<RegistryEvent>(), 2);
    assert!(!bus.has_handler::<RegistryEvent>());
    assert!(done(&bus.emit(RegistryEvent)).results().is_empty());
}

#[test]
fn reg_011b_a_handler_of_another_bus_is_not_removed() {
    let (bus, other) = (EventBus::new("Mine"), EventBus::new("Theirs"));
    let info = other.on(|_: &Event<RegistryEvent>| "theirs".to_owned());
    assert!(!bus.off(&info) && !bus.off_id(info.id()));
    assert!(info.is_registered());
    assert_eq!(done(&other.emit(RegistryEvent)).result_list().unwrap(), ["theirs"]);
}

#[test]
fn reg_012_off_star_removes_wildcards_only() {
    let bus = EventBus::new("Star");
    let log = Log::new();
    let (typed, any, star) = (log.clone(), log.clone(), log.clone());
    bus.on(move |_: &Event<UserAction>| typed.push("typed"));
    bus.on_any(move |_| any.push("any"));
    bus.on_named("*", move |_| star.push("star"));
    assert_eq!(bus.off_named("*"), 2);
    done(&bus.emit(UserAction { action: String::new() }));
    assert_eq!(log.entries(), ["typed"]);
    assert_eq!(bus.handlers().len(), 1);
}

#[test]
fn reg_013_off_by_the_id_in_a_result_and_off_by_type() {
    let bus = EventBus::new("ById");
    let log = Log::new();
    let (first, second, other) = (log.clone(), log.clone(), log.clone());
    let user = || UserAction { action: String::new() };
    bus.on(move |_: &Event<UserAction>| first.push("first"));
    bus.on_named("UserAction", move |_| second.push("second"));
    bus.on(move |_: &Event<SystemEvent>| other.push("other"));
    let event = done(&bus.emit(user()));
    assert!(bus.off_id(event.results()[0].handler.id()));
    done(&bus.emit(user()));
    assert_eq!((log.count("first"), log.count("second")), (1, 2));

    bus.on(|_: &Event<UserAction>| panic!("removed before anything is emitted"));
    assert_eq!(bus.off_all::<UserAction>(), 2, "by type and by name share one table");
    let unheard = done(&bus.emit(user()));
    done(&bus.emit(SystemEvent { name: String::new() }));
    assert!(unheard.results().is_empty());
    assert_eq!((log.count("first"), log.count("second"), log.count("other")), (1, 2, 1));
}

#[test]
fn reg_017_a_registration_and_its_results_carry_the_same_metadata() {
    let bus = EventBus::new("Metadata");
    let line = line!() + 1;
    let info = bus.on_with(HandlerOptions::new().name("greeter"), |_: &Event<RegistryEvent>| "hi".to_owned());
    let wildcard = bus.on_any(|_| {});
    assert_eq!((info.name(), info.pattern(), info.bus_label()), ("greeter", "RegistryEvent", bus.label()));
    let id = info.id().to_string();
    assert_eq!(info.label(), format!("greeter#{}", &id[id.len() - 4..]));
    assert_eq!((info.location().file(), info.location().line()), (file!(), line));
    assert_eq!((wildcard.pattern(), wildcard.location().line()), ("*", line + 1));
    assert!(wildcard.name().contains("registration.rs"), "closures are named by their place: {}", wildcard.name());
    assert!(info.registered_at() < wildcard.registered_at());
    let event = done(&bus.emit(RegistryEvent));
    for (result, info) in event.results().iter().zip([&info, &wildcard]) {
        let kept = &result.handler;
        assert_eq!((kept.id(), kept.name(), kept.pattern()), (info.id(), info.name(), info.pattern()));
        assert_eq!((kept.bus_label(), kept.registered_at()), (info.bus_label(), info.registered_at()));
        assert_eq!(kept.location(), info.location());
    }
    assert_eq!(event.results().len(), 2);
}

#[test]
fn reg_018_handlers_of_one_name_all_run() {
    let bus = EventBus::new("SameName");
    let named = |name: &str| HandlerOptions::new().name(name);
    bus.on_with(named("process"), |_: &Event<RegistryEvent>| "version1".to_owned());
    bus.on_with(named("process"), |_: &Event<RegistryEvent>| "version2".to_owned());
    bus.on_with(named("unique"), |_: &Event<RegistryEvent>| "third".to_owned());
    let event = done(&bus.emit(RegistryEvent));
    assert_eq!(event.result_list().unwrap(), ["version1", "version2", "third"]);
    let ids: BTreeSet<_> = event.results().iter().map(|result| result.handler.id()).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn reg_019_a_type_whose_handlers_are_gone_completes_with_no_results() {
    let bus = EventBus::new("Emptied");
    let info = bus.on_named("RegistryEvent", |_: &AnyEvent| AnyOutput::new("never".to_owned()));
    assert!(bus.off(&info));
    assert_eq!(bus.off_named("RegistryEvent"), 0);
    let event = done(&bus.emit(RegistryEvent));
    assert!(event.is_completed() && event.results().is_empty());
}
