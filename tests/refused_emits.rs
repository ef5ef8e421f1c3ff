//! An `emit` that a bus refuses, and whose answer nobody looks at: the log says so, once for each reason.

mod common;

use common::{Gate, PATIENCE, done, eventually, payload, warnings_naming, within};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use threadbus::*;

payload!(Job { n: usize });

#[derive(Serialize, Deserialize)]
struct Note {
    n: u32,
}
event!(Note);

fn refusals(bus: &EventBus) -> impl Fn() -> Vec<String> + use<> {
    let warned = warnings_naming(bus.label());
    move || warned().into_iter().filter(|line| line.contains(" was refused: ")).collect()
}

#[test]
fn each_reason_is_told_once_and_try_emit_tells_its_caller() {
    let builder = EventBus::builder("Reasons").queue_capacity(2, OnFull::Reject).max_emit_rate(0.001, 4);
    let bus = builder.require_handler(false).build().unwrap();
    let refused = refusals(&bus);
    bus.pause();
    let id = EventId(uuid::Uuid::from_u128(77));
    bus.emit_with(Job { n: 0 }, EventOptions::new().id(id));
    let (queued, _) = (bus.emit(Job { n: 1 }), bus.try_emit(Job { n: 2 }).unwrap_err());
    assert!(refused().is_empty(), "its caller knows: {:?}", refused());

    let first = bus.emit(Job { n: 3 });
    (0..100).for_each(|n| drop(bus.emit(Job { n })));
    assert_eq!(refused().len(), 1, "{:?}", refused());
    assert!(refused()[0].contains(&first.to_string()) && refused()[0].contains("is full (2)"), "{:?}", refused());

    queued.cancel();
    (0..10).for_each(|_| drop(bus.emit_with(Job { n: 4 }, EventOptions::new().id(id))));
    assert_eq!(refused().len(), 2, "{:?}", refused());
    assert!(refused()[1].contains("already has an event"), "{:?}", refused());

    bus.resume();
    eventually(|| bus.is_idle());
    // Two tokens are left.
    (0..10).for_each(|n| {
        bus.emit(Job { n });
        eventually(|| bus.is_idle());
    });
    assert_eq!(refused().len(), 3, "{:?}", refused());
    assert!(refused()[2].contains("too fast"), "{:?}", refused());

    bus.shutdown(Shutdown::Drain, PATIENCE);
    (0..10).for_each(|n| drop((bus.emit(Job { n }), bus.emit_now(Job { n }))));
    assert_eq!(refused().len(), 4, "{:?}", refused());
    assert!(refused()[3].contains("is shut down"), "{:?}", refused());

    // Another bus has reasons of its own.
    let other = EventBus::builder("Others").require_handler(true).build().unwrap();
    let refused = refusals(&other);
    (0..5).for_each(|n| drop(other.emit(Job { n })));
    assert_eq!(refused().len(), 1, "{:?}", refused());
    assert!(refused()[0].contains("no handler for Job"), "{:?}", refused());
}

#[test]
fn a_full_history_a_batch_and_a_middleware() {
    struct Never;
    impl Middleware for Never {
        fn on_emit(&self, _: &EventBus, _: &AnyEvent) -> Result<(), BoxError> {
            Err("not today".into())
        }
    }
    let builder = EventBus::builder("Full").max_history(Some(1)).history_policy(HistoryPolicy::Reject);
    let bus = builder.build().unwrap();
    let refused = refusals(&bus);
    bus.pause();
    let batch = bus.batch();
    batch.extend((0..5).map(|n| Job { n }));
    assert_eq!((batch.progress().never_ran, refused().len()), (4, 1), "{:?}", refused());
    bus.resume();

    let bus = EventBus::builder("Asks").middleware(Never).build().unwrap();
    let (refused, by_middleware) = (refusals(&bus), warnings_naming("not today"));
    (0..3).for_each(|n| drop(bus.emit(Job { n })));
    assert_eq!((refused().len(), by_middleware().len()), (0, 3), "that is told each time, as before");
}

#[test]
fn what_came_as_json_is_told_as_well() {
    let bus = EventBus::new("Json");
    let refused = refusals(&bus);
    let json = bus.emit(Note { n: 1 }).to_json().unwrap().to_string();
    bus.shutdown(Shutdown::Drain, PATIENCE);
    let fresh = json.replace("event_id", "event_was");
    for text in [&json, &fresh, &json] {
        let event = bus.emit_json_str(text);
        assert!(event.is_err() || event.unwrap().is_completed());
    }
    let other = EventBus::new("Elsewhere");
    let refused_there = refusals(&other);
    other.shutdown(Shutdown::Drain, PATIENCE);
    for _ in 0..3 {
        let event = other.emit_json_str(&json).unwrap();
        assert!(matches!(event.wait(), Err(WaitError::Rejected(EmitError::Closed { .. }))));
    }
    assert_eq!(refused_there().len(), 1, "{:?}", refused_there());
    assert!(refused().len() <= 1);
}

#[test]
fn a_bus_that_is_gone_tells_once_whoever_asks_for_it() {
    within(PATIENCE, || {
        let bus = EventBus::new("Gone");
        let refused = refusals(&bus);
        let event = done(&bus.emit(Job { n: 0 }));
        drop(bus);
        eventually(|| event.bus().emit(Job { n: 1 }).is_completed());
        eventually(|| {
            event.bus().emit(Job { n: 2 });
            !refused().is_empty()
        });
        (0..10).for_each(|n| drop(event.bus().emit(Job { n })));
        assert_eq!(refused().len(), 1, "{:?}", refused());
    });
}

#[test]
fn outside_of_a_scope_it_is_told_once() {
    let warned = warnings_naming("outside of any scope");
    (0..5).for_each(|n| assert!(scope::emit(Job { n }).wait().is_err()));
    assert_eq!(warned().len(), 1, "{:?}", warned());
    let all = warnings_naming("none#");
    assert!(all().is_empty(), "{:?}", all());
    let bus = EventBus::new("Scoped");
    assert!(scope::enter(&bus, || scope::emit(Job { n: 9 })).wait().is_ok());
}

#[test]
fn a_handler_that_was_given_up_is_told_once() {
    within(PATIENCE, || {
        let bus = EventBus::builder("GivenUp").handler_timeout(Some(Duration::from_millis(20))).build().unwrap();
        let refused = refusals(&bus);
        let (gate, emitted) = (Gate::new(), Arc::new(Mutex::new(0)));
        let (closed, count, weak) = (gate.clone(), Arc::clone(&emitted), bus.downgrade());
        bus.on(move |job: &Event<Job>| {
            if job.n == 0 {
                closed.wait();
                let Some(bus) = weak.upgrade() else { return };
                (1..5).for_each(|n| drop(bus.emit(Job { n })));
                *common::lock(&count) = 4;
            }
        });
        done(&bus.emit(Job { n: 0 }));
        gate.open();
        eventually(|| *common::lock(&emitted) == 4);
        assert_eq!(refused().len(), 1, "{:?}", refused());
        assert!(refused()[0].contains("abandoned"), "{:?}", refused());
    });
}

#[test]
fn of_many_threads_one_tells() {
    let bus = EventBus::new("Crowd");
    let refused = refusals(&bus);
    bus.shutdown(Shutdown::Drain, PATIENCE);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..50).for_each(|n| drop(bus.emit(Job { n }))));
        }
    });
    assert_eq!(refused().len(), 1, "{:?}", refused());
}
