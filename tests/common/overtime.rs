//! Handlers that overstay on serial buses, and what became of them.
#![allow(dead_code, reason = "each test file uses its own part of this module")]

use crate::common::{Gate, Log, clean, eventually, idle, payload};
use std::time::{Duration, Instant};
use threadbus::{
    AnyEvent, BusBuilder, Cause, Event, EventBus, EventOptions, HandlerFailure, HandlerResult, Payload, Runtime,
};

payload!(Tail);

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub fn within(milliseconds: u64) -> EventOptions {
    EventOptions::new().handler_timeout(ms(milliseconds))
}

pub fn runtime() -> Runtime {
    Runtime::builder().thread_name("nested").build().expect("a runtime")
}

pub fn builder(runtime: &Runtime, name: &str) -> BusBuilder {
    EventBus::builder(name).runtime(runtime).handler_timeout(None)
}

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

pub fn notes<P: Payload<Output = ()>>(bus: &EventBus, log: &Log, name: &'static str) {
    let log = log.clone();
    bus.on(move |_: &Event<P>| log.push(name));
}

pub fn failure<T>(result: &HandlerResult<T>) -> &HandlerFailure {
    result.error.as_deref().expect("it failed")
}

#[track_caller]
pub fn timed_out<T>(result: &HandlerResult<T>, cap: u64) {
    match failure(result) {
        HandlerFailure::TimedOut { after, .. } => assert_eq!(*after, ms(cap)),
        other => panic!("not timed out: {other:?}"),
    }
}

#[track_caller]
pub fn aborted<T>(result: &HandlerResult<T>) -> Cause {
    match failure(result) {
        HandlerFailure::Aborted { cause } => cause.clone(),
        other => panic!("not aborted: {other:?}"),
    }
}

#[track_caller]
pub fn cancelled<T>(result: &HandlerResult<T>) -> Cause {
    assert!(result.started_at.is_none());
    match failure(result) {
        HandlerFailure::Cancelled { cause } => cause.clone(),
        other => panic!("not cancelled: {other:?}"),
    }
}

/// The one child of that type.
#[track_caller]
pub fn child<P: Payload>(of: impl AsRef<AnyEvent>) -> Event<P> {
    let found: Vec<_> = of.as_ref().children().iter().filter_map(AnyEvent::downcast::<P>).collect();
    assert_eq!(found.len(), 1, "children of type {}", P::event_type());
    found[0].clone()
}

/// The bus is idle though handlers still stand; a follow-up runs within a second; the threads come back when the gate opens.
#[track_caller]
pub fn works_on(bus: &EventBus, gate: &Gate) {
    idle(bus);
    assert!(!gate.is_open(), "nobody opened the gate: nothing waited for it");
    follow_up(bus);
    gate.open();
    eventually(|| bus.runtime().stats().abandoned == 0);
    follow_up(bus);
}

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
