//! Events that start when others are complete: one after the other, all after one, one after all.

use crate::measure::processor_time_each;
use crate::row::{Row, point};
use threadbus::{Event, EventBus, EventOptions, Payload};

pub static ROWS: &[Row] = &[
    Row::new(
        "after a chain",
        "an event that comes after the one before it, from its emit to its end",
        &[point("1,000", || chain(1000)), point("100,000", || chain(100_000))],
    )
    .times(3.0),
    Row::new(
        "after one",
        "an event that comes after one that all come after",
        &[point("1,000", || fan(1000)), point("100,000", || fan(100_000))],
    )
    .times(3.0),
    Row::new(
        "after all",
        "one of the events that the last one comes after",
        &[point("1,000", || join(1000)), point("100,000", || join(100_000))],
    )
    .times(3.0),
    Row::new("after bytes", "bytes of an event in a chain, with 8 of payload", &[point("100,000", chained_bytes)])
        .counted()
        .runs(1)
        .at_most(508.0),
];

struct Task(#[allow(dead_code, reason = "as large as an id")] u64);
impl Payload for Task {
    type Output = ();
}

/// A paused bus that keeps all events.
fn bus() -> EventBus {
    let bus = EventBus::builder("Tasks").max_history(None).build().expect("a bus");
    bus.on(|_: &Event<Task>| {});
    bus.pause();
    bus
}

fn finish(bus: &EventBus) {
    bus.resume();
    bus.wait_until_idle().expect("outside of handlers");
}

fn emit_chain(bus: &EventBus, events: usize) {
    let mut last = bus.emit(Task(0));
    for n in 1..events {
        last = bus.emit_with(Task(n as u64), EventOptions::new().after_ok(&last));
    }
}

fn chain(events: usize) -> f64 {
    let bus = bus();
    processor_time_each(events, || {
        emit_chain(&bus, events);
        finish(&bus);
    })
}

fn fan(events: usize) -> f64 {
    let bus = bus();
    processor_time_each(events, || {
        let first = bus.emit(Task(0));
        for n in 1..events {
            bus.emit_with(Task(n as u64), EventOptions::new().after(&first));
        }
        finish(&bus);
    })
}

fn join(events: usize) -> f64 {
    let bus = bus();
    processor_time_each(events, || {
        let mut options = EventOptions::new();
        for n in 0..events {
            options = options.after(bus.emit(Task(n as u64)));
        }
        bus.emit_with(Task(0), options);
        finish(&bus);
    })
}

/// Of the memory that the process has from the system.
fn chained_bytes() -> f64 {
    const EVENTS: usize = 100_000;
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").ok();
        let pages = pages.and_then(|pages| pages.split(' ').nth(1)?.parse::<f64>().ok());
        pages.map_or(f64::NAN, |pages| pages * 4096.0)
    };
    let bus = bus();
    emit_chain(&bus, 100);
    let before = resident();
    emit_chain(&bus, EVENTS);
    (resident() - before) / EVENTS as f64
}
