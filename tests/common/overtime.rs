//! Handlers that are given up, and what became of them.
#![allow(dead_code, reason = "each test file uses its own part of this module")]

use crate::common::{Gate, Log, clean, eventually, idle, ms, payload, works_on};
use std::time::Instant;
use threadbus::{AnyEvent, BusBuilder, Cause, Event, EventBus, HandlerFailure, HandlerResult, Payload, Runtime};

payload!(Tail);

/// A runtime of the test's own.
pub fn runtime() -> Runtime {
    Runtime::builder().thread_name("overtime").build().expect("a runtime")
}

/// A bus without a timeout for handlers.
pub fn builder(runtime: &Runtime, name: &str) -> BusBuilder {
    EventBus::builder(name).runtime(runtime).handler_timeout(None)
}

/// A serial bus without a timeout for handlers, on a runtime of its own.
pub fn serial(name: &str) -> EventBus {
    builder(&runtime(), name).build().expect("a bus")
}

/// Registers a handler that logs `name`, stands at the gate, and logs `{name}_end`.
pub fn overstays<P: Payload<Output = ()>>(bus: &EventBus, log: &Log, gate: &Gate, name: &'static str) {
    let (log, gate) = (log.clone(), gate.clone());
    bus.on(move |_: &Event<P>| {
        log.push(name);
        gate.wait();
        log.push(format_args!("{name}_end"));
    });
}

/// Registers a handler that stands at the gate whatever happens. The returned gate opens when it has started.
pub fn stubborn<P: Payload<Output = ()>>(bus: &EventBus, gate: &Gate) -> Gate {
    let started = Gate::new();
    let (gate, opens) = (gate.clone(), started.clone());
    bus.on(move |_: &Event<P>| {
        opens.open();
        gate.wait();
    });
    started
}

/// Asserts that all abandoned threads come back and the bus works on; each waits for [`PATIENCE`](crate::common::PATIENCE) at most.
#[track_caller]
pub fn no_thread_is_lost(bus: &EventBus) {
    eventually(|| bus.runtime().stats().abandoned == 0);
    works_on(bus);
}

/// Registers a handler that logs `name`.
pub fn notes<P: Payload<Output = ()>>(bus: &EventBus, log: &Log, name: &'static str) {
    let log = log.clone();
    bus.on(move |_: &Event<P>| log.push(name));
}

/// Why the handler failed; panics if it did not.
pub fn failure<T>(result: &HandlerResult<T>) -> &HandlerFailure {
    result.error.as_deref().expect("it failed")
}

/// Asserts that the handler ran out of its time, which was `cap` milliseconds.
#[track_caller]
pub fn timed_out<T>(result: &HandlerResult<T>, cap: u64) {
    match failure(result) {
        HandlerFailure::TimedOut { after, .. } => assert_eq!(*after, ms(cap)),
        other => panic!("not timed out: {other:?}"),
    }
}

/// Asserts that the handler was given up while it ran, and returns why.
#[track_caller]
pub fn aborted<T>(result: &HandlerResult<T>) -> Cause {
    match failure(result) {
        HandlerFailure::Aborted { cause } => cause.clone(),
        other => panic!("not aborted: {other:?}"),
    }
}

/// Asserts that the handler was given up before it started, and returns why.
#[track_caller]
pub fn cancelled<T>(result: &HandlerResult<T>) -> Cause {
    assert!(result.started_at.is_none());
    match failure(result) {
        HandlerFailure::Cancelled { cause } => cause.clone(),
        other => panic!("not cancelled: {other:?}"),
    }
}

/// The one child of that type; asserts that there is just one.
#[track_caller]
pub fn child<P: Payload>(of: impl AsRef<AnyEvent>) -> Event<P> {
    let found: Vec<_> = of.as_ref().children().iter().filter_map(AnyEvent::downcast::<P>).collect();
    assert_eq!(found.len(), 1, "children of type {}", P::event_type());
    found[0].clone()
}

/// Asserts that the bus becomes idle though handlers still stand at the gate, that a follow-up runs within a second, before and after the gate is
/// opened, and that no thread is abandoned in the end. Each step waits for [`PATIENCE`](crate::common::PATIENCE) at most.
#[track_caller]
pub fn works_on_in_time(bus: &EventBus, gate: &Gate) {
    idle(bus);
    assert!(!gate.is_open(), "nobody opened the gate: nothing waited for it");
    follow_up(bus);
    gate.open();
    eventually(|| bus.runtime().stats().abandoned == 0);
    follow_up(bus);
}

/// Asserts that a new handler runs on the bus within a second, and does not fail.
#[track_caller]
pub fn follow_up(bus: &EventBus) {
    let log = Log::new();
    let info = bus.on({
        let log = log.clone();
        move |_: &Event<Tail>| log.push("tail")
    });
    let start = Instant::now();
    clean(&bus.emit(Tail));
    assert!(start.elapsed() < ms(1000), "the follow-up took {:?}", start.elapsed());
    assert_eq!(log.entries(), ["tail"]);
    bus.off(&info);
}
