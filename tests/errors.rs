//! Conformance, section ERR: a failing handler harms nobody but itself, and every failure says what it was.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, payload, within};
use std::sync::Arc;
use threadbus::{
    AnyOutput, CauseKind, Event, EventBus, EventStatus, HandlerCompletion, HandlerConcurrency, HandlerFailure,
    HandlerOptions, ResultError, ResultStatus, Runtime,
};

payload!(Risky => String);
payload!(Safe => String);

/// An error of the application, with something to look at.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
struct Blown {
    message: &'static str,
    code: u8,
}

fn blown(message: &'static str) -> Result<String, Blown> {
    Err(Blown { message, code: 7 })
}

fn statuses(event: &Event<Risky>) -> Vec<ResultStatus> {
    event.results().iter().map(|result| result.status).collect()
}

fn messages(event: &Event<Risky>) -> Vec<String> {
    event.errors().iter().map(|failure| failure.to_string()).collect()
}

#[test]
fn err_001_the_next_serial_handler_runs_though_the_first_fails() {
    let bus = EventBus::new("Isolation");
    let log = Log::new();
    let ran = log.clone();
    bus.on(|_: &Event<Risky>| blown("Expected to fail in isolation"));
    bus.on(move |_: &Event<Risky>| {
        ran.push("second");
        "worked".to_owned()
    });
    let event = done(&bus.emit(Risky));
    assert_eq!(statuses(&event), [ResultStatus::Error, ResultStatus::Completed]);
    let results = event.results();
    assert!(results[0].error.as_ref().unwrap().to_string().contains("Expected to fail"));
    assert_eq!((&results[0].value, results[1].value.as_deref()), (&None, Some("worked")));
    assert_eq!(log.entries(), ["second"]);
}

#[test]
fn err_002_parallel_neighbours_of_a_failing_handler_finish() {
    let bus = EventBus::builder("Parallel").handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
    let log = Log::new();
    let (first, third) = (log.clone(), log.clone());
    bus.on(move |_: &Event<Risky>| {
        first.push("h1");
        "h1".to_owned()
    });
    bus.on(|_: &Event<Risky>| -> String { panic!("h2 throws") });
    bus.on(move |_: &Event<Risky>| {
        third.push("h3");
        "h3".to_owned()
    });
    let event = done(&bus.emit(Risky));
    assert_eq!((log.count("h1"), log.count("h3")), (1, 1));
    assert_eq!(statuses(&event), [ResultStatus::Completed, ResultStatus::Error, ResultStatus::Completed]);
    assert_eq!(event.status(), EventStatus::Completed);
}

#[test]
fn err_003_a_failure_is_recorded_on_the_event_and_in_its_result() {
    let bus = EventBus::new("Recorded");
    bus.on(|_: &Event<Risky>| blown("handler blew up"));
    let event = done(&bus.emit(Risky));
    assert_eq!(event.status(), EventStatus::Completed);
    assert_eq!(messages(&event), ["handler blew up"]);
    assert_eq!(statuses(&event), [ResultStatus::Error]);
    assert!(Arc::ptr_eq(event.results()[0].error.as_ref().unwrap(), &event.errors()[0]));
}

#[test]
fn err_006_the_next_event_of_the_queue_is_unharmed() {
    let bus = EventBus::new("Queue");
    bus.on(|_: &Event<Risky>| -> String { panic!("event1 fails") });
    bus.on(|_: &Event<Safe>| "event2 ok".to_owned());
    let (risky, safe) = (bus.emit(Risky), bus.emit(Safe));
    idle(&bus);
    assert!(risky.is_completed() && safe.is_completed());
    assert_eq!((risky.errors().len(), safe.errors().len()), (1, 0));
    assert_eq!(safe.results()[0].value.as_deref(), Some("event2 ok"));
}

#[test]
fn err_007_errors_and_panics_are_recorded_alike_however_late() {
    let bus = EventBus::builder("Late").handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
    let gate = Gate::new();
    let _opener = gate.opener();
    let (error, text, owned) = (gate.clone(), gate.clone(), gate.clone());
    bus.on(move |_: &Event<Risky>| {
        error.wait();
        blown("async rejection")
    });
    bus.on(move |_: &Event<Risky>| -> String {
        text.wait();
        panic!("a literal")
    });
    bus.on(move |_: &Event<Risky>| -> String {
        owned.wait();
        panic!("number {}", 3)
    });
    bus.on(|_: &Event<Risky>| -> String { std::panic::panic_any(5_u8) });
    let event = bus.emit(Risky);
    eventually(|| event.errors().len() == 1);
    gate.open();
    done(&event);
    assert_eq!(statuses(&event), [ResultStatus::Error; 4]);
    let failures: Vec<_> = event.results().into_iter().map(|result| result.error.unwrap()).collect();
    assert!(matches!(&*failures[0], HandlerFailure::Failed(_)), "{:?}", failures[0]);
    assert_eq!(failures[0].to_string(), "async rejection");
    assert!(matches!(&*failures[1], HandlerFailure::Panicked(message) if message == "a literal"), "{:?}", failures[1]);
    assert!(matches!(&*failures[2], HandlerFailure::Panicked(message) if message == "number 3"), "{:?}", failures[2]);
    assert!(matches!(&*failures[3], HandlerFailure::Panicked(_)), "{:?}", failures[3]);
}

#[test]
fn err_008_a_failure_on_the_target_leaves_the_source_alone() {
    let (a, b) = (EventBus::new("bus_a"), EventBus::new("bus_b"));
    a.on(|_: &Event<Risky>| "bus_a ok".to_owned());
    a.forward_all_to(&b);
    b.on(|_: &Event<Risky>| blown("bus_b fails"));
    let event = done(&a.emit(Risky));
    let of = |bus: &EventBus| {
        let mut results = event.results();
        results.retain(|result| result.handler.bus_label() == bus.label());
        results
    };
    assert_eq!(of(&a)[0].value.as_deref(), Some("bus_a ok"));
    assert!(of(&a).iter().all(|result| result.status == ResultStatus::Completed));
    assert_eq!((of(&b).len(), of(&b)[0].status), (1, ResultStatus::Error));
    assert_eq!(messages(&event), ["bus_b fails"]);
}

#[test]
fn err_009_without_handlers_there_is_nothing_to_fail() {
    let bus = EventBus::new("None");
    let event = bus.emit(Risky);
    let waiting = event.clone();
    within(PATIENCE, move || waiting.wait()).unwrap();
    assert_eq!(event.status(), EventStatus::Completed);
    assert!(event.results().is_empty() && event.errors().is_empty());
}

#[test]
fn err_010_an_error_result_names_handler_bus_and_original_error() {
    let bus = EventBus::new("ErrorFieldsBus");
    bus.on_with(HandlerOptions::new().name("my_handler"), |_: &Event<Risky>| blown("out of range"));
    let event = done(&bus.emit(Risky));
    let result = &event.results()[0];
    assert_eq!((result.handler.name(), result.handler.bus_label()), ("my_handler", bus.label()));
    let failure = result.error.as_ref().unwrap();
    assert_eq!(failure.downcast_ref::<Blown>(), Some(&Blown { message: "out of range", code: 7 }));
    assert!(failure.downcast_ref::<std::fmt::Error>().is_none());
    let source = std::error::Error::source(&**failure);
    assert!(source.is_none(), "it stands for the original error, which has no source");
    assert!(result.started_at.unwrap() < result.completed_at.unwrap());
}

#[test]
fn err_011_result_fails_with_the_earliest_failure_once_all_are_done() {
    let bus = EventBus::builder("Earliest").handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
    let gate = Gate::new();
    let _opener = gate.opener();
    let held = gate.clone();
    bus.on(move |_: &Event<Risky>| {
        held.wait();
        blown("second failure")
    });
    bus.on(|_: &Event<Risky>| blown("first failure"));
    let event = bus.emit(Risky);
    eventually(|| event.errors().len() == 1);
    assert!(!event.is_completed());
    assert!(event.wait_timeout(std::time::Duration::ZERO).is_err(), "one handler still runs");
    gate.open();
    done(&event);
    assert_eq!(statuses(&event), [ResultStatus::Error; 2]);
    assert_eq!(messages(&event), ["first failure", "second failure"], "by completion, not by registration");
    let reading = event.clone();
    match within(PATIENCE, move || reading.result()) {
        Err(ResultError::Handler { failure, .. }) => assert_eq!(failure.to_string(), "first failure"),
        other => panic!("expected the first failure, got {other:?}"),
    }
}

#[test]
fn err_012_a_wrong_type_names_what_came_and_what_was_expected() {
    let bus = EventBus::new("Taxonomy");
    bus.on_named("Risky", |_| AnyOutput::new(12_u64));
    bus.on_named("Risky", |_| AnyOutput::new("a borrowed string"));
    let event = done(&bus.emit(Risky));
    for (failure, came) in event.errors().iter().zip(["u64", "str"]) {
        let HandlerFailure::WrongType { expected, found } = &**failure else { panic!("got {failure:?}") };
        assert!(expected.contains("String") && found.contains(came), "{failure}");
    }
    assert_eq!(event.errors().len(), 2);
}

#[test]
fn err_014_serial_first_cancels_what_has_not_started() {
    let bus = EventBus::builder("SerialFirst").handler_completion(HandlerCompletion::First).build().unwrap();
    let log = Log::new();
    let ran = log.clone();
    let winner = bus.on(|_: &Event<Risky>| "winner".to_owned());
    bus.on(move |_: &Event<Risky>| {
        ran.push("loser");
        "loser".to_owned()
    });
    let event = done(&bus.emit(Risky));
    idle(&bus);
    assert!(log.is_empty(), "the second never runs");
    assert_eq!(statuses(&event), [ResultStatus::Completed, ResultStatus::Error]);
    assert_eq!(event.results()[0].handler.id(), winner.id());
    let loser = &event.results()[1];
    assert_eq!((loser.started_at, &loser.value), (None, &None));
    match loser.error.as_deref() {
        Some(HandlerFailure::Cancelled { cause }) => {
            assert_eq!((cause.kind, cause.event), (CauseKind::LostFirst, event.id()));
        }
        other => panic!("expected Cancelled, got {other:?}"),
    }
}

#[test]
fn err_015_parallel_first_aborts_what_runs() {
    let runtime = Runtime::builder().build().unwrap();
    let bus = EventBus::builder("ParallelFirst")
        .runtime(&runtime)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .handler_completion(HandlerCompletion::First)
        .build()
        .unwrap();
    let (gate, inside) = (Gate::new(), Gate::new());
    let _opener = gate.opener();
    let (held, entered, after) = (gate.clone(), inside.clone(), inside.clone());
    bus.on(move |_: &Event<Risky>| {
        entered.open();
        held.wait();
        "too late".to_owned()
    });
    bus.on(move |_: &Event<Risky>| {
        after.wait();
        "winner".to_owned()
    });
    let event = done(&bus.emit(Risky));
    assert!(!gate.is_open(), "completed while the loser still stands");
    let loser = &event.results()[0];
    match loser.error.as_deref() {
        Some(HandlerFailure::Aborted { cause }) => assert_eq!(cause.kind, CauseKind::LostFirst),
        other => panic!("expected Aborted, got {other:?}"),
    }
    assert!(loser.started_at.is_some() && loser.completed_at.is_some());
    eventually(|| runtime.stats().abandoned == 1);
    gate.open();
    eventually(|| runtime.stats().abandoned == 0);
    assert_eq!(event.results()[0].value, None, "a late value changes nothing");
    assert_eq!(event.results()[1].value.as_deref(), Some("winner"));
}
