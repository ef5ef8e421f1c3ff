//! Issue 6: `max_emit_rate`. The bucket itself is tested where it is; here, that emits meet it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests"
)]

mod common;

use common::{PATIENCE, done, idle, payload, within};
use std::time::{Duration, Instant};
use threadbus::{EmitError, Event, EventBus, EventConcurrency, OnFull};

payload!(Job);

const MS: Duration = Duration::from_millis(1);
/// So slow that a token within a test would be a mistake.
const NEVER: f64 = 1e-6;

#[test]
fn above_the_rate_reject_refuses() {
    let bus = EventBus::builder("Reject").max_emit_rate(NEVER, 3).queue_capacity(100, OnFull::Reject).build().unwrap();
    let taken = (0..10).filter(|_| bus.try_emit(Job).is_ok()).count();
    assert_eq!(taken, 3, "the burst");
    assert!(matches!(bus.try_emit(Job).unwrap_err().error, EmitError::QueueFull { .. }));
    idle(&bus);
    assert!(bus.try_emit(Job).is_err(), "an empty queue is no token");
    let metrics = bus.metrics();
    assert_eq!((metrics.emitted, metrics.rejected), (3, 9));
}

#[test]
fn block_waits_for_its_token() {
    within(PATIENCE, || {
        let bus = EventBus::builder("Block").max_emit_rate(50.0, 1).build().unwrap();
        let start = Instant::now();
        (0..4).for_each(|_| drop(bus.emit(Job)));
        // The first is free, the others come 20 ms apart.
        assert!(start.elapsed() >= 60 * MS);
        idle(&bus);
        assert_eq!(bus.history_len(), 4);
    });
}

#[test]
fn block_for_gives_up_when_no_token_comes_in_time() {
    let bus =
        EventBus::builder("For").max_emit_rate(NEVER, 1).queue_capacity(9, OnFull::BlockFor(50 * MS)).build().unwrap();
    bus.emit(Job);
    let start = Instant::now();
    assert!(bus.try_emit(Job).is_err());
    assert!(start.elapsed() >= 50 * MS);
}

#[test]
fn a_dropped_event_leaves_its_token() {
    let bus = EventBus::builder("Drop").max_emit_rate(NEVER, 2).queue_capacity(9, OnFull::DropOldest).build().unwrap();
    bus.pause();
    let events: Vec<_> = (0..3).map(|_| bus.emit(Job)).collect();
    let dropped: Vec<_> = events.iter().map(|event| event.is_completed()).collect();
    assert_eq!(dropped, [true, false, false]);
}

#[test]
fn run_inline_takes_no_token() {
    let bus = EventBus::builder("Inline")
        .max_emit_rate(NEVER, 1)
        .queue_capacity(9, OnFull::RunInline)
        .event_concurrency(EventConcurrency::Parallel)
        .build()
        .unwrap();
    bus.pause();
    assert!(!bus.emit(Job).is_completed());
    assert!(bus.emit(Job).is_completed() && bus.emit(Job).is_completed());
}

#[test]
fn what_is_refused_for_another_reason_takes_no_token() {
    let bus = EventBus::builder("Full").max_emit_rate(NEVER, 3).queue_capacity(1, OnFull::Reject).build().unwrap();
    bus.pause();
    let taken = (0..10).filter(|_| bus.try_emit(Job).is_ok()).count();
    assert_eq!(taken, 1);
    bus.resume();
    idle(&bus);
    assert!(bus.try_emit(Job).is_ok(), "two tokens are left");
}

#[test]
fn handlers_are_exempt_and_take_no_token() {
    payload!(Parent);
    within(PATIENCE, || {
        let bus = EventBus::builder("Exempt").max_emit_rate(NEVER, 2).build().unwrap();
        bus.on(|parent: &Event<Parent>| (0..20).for_each(|_| drop(parent.bus().emit(Job))));
        assert_eq!(done(&bus.emit(Parent)).children().len(), 20);
        done(&bus.emit(Job));
    });
}
