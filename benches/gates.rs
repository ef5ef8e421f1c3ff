//! What noise cannot move: allocations, memory and context switches per event. Part of `cargo bench --bench headline -- --check`.
//!
//! A program of its own, since an allocator that counts is one that costs: its shared counters would be in every time measured beside it.
//! `headline` runs it and judges what it prints: a figure per line, with its value.
#![allow(dead_code, reason = "modules of the headline benchmark, of which a part is used")]

#[path = "headline/machine.rs"]
mod machine;
#[path = "headline/measure.rs"]
mod measure;

use machine::Mode;
use measure::print_value;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;
use std::time::Duration;
use threadbus::{Event, EventBus, Payload};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// 64 bytes, as everywhere in these benchmarks.
struct Tick([u64; 8]);
impl Payload for Tick {
    type Output = ();
}

/// One whose result is too large to lie in the event.
struct Ask([u64; 8]);
impl Payload for Ask {
    type Output = [u64; 8];
}

/// Waits for children; returns what one of them cost.
struct Parent;
impl Payload for Parent {
    type Output = Cost;
}

const EVENTS: usize = 50_000;
const WAITED: usize = 2_000;
const CHILDREN: usize = 1_000;

fn main() {
    if std::env::args().len() == 1 {
        return; // from `cargo test --all-targets`
    }
    let mode = if std::env::args().any(|argument| argument == Mode::Pinned.name()) { Mode::Pinned } else { Mode::Free };
    machine::enter(mode);

    let bus = EventBus::new("gates");
    bus.on(|tick: &Event<Tick>| {
        black_box(tick.0[0]);
    });
    bus.on(|ask: &Event<Ask>| ask.0);
    bus.on(|parent: &Event<Parent>| {
        let bus = parent.bus();
        // The emitter parks in its wait first: that is no switch of a child's.
        std::thread::sleep(Duration::from_millis(20));
        Cost::of_each(CHILDREN, || {
            for n in 0..CHILDREN {
                bus.emit(tick(n)).wait().expect("a child of a live handler");
            }
        })
    });

    print("S1", 1, &bus, || (0..EVENTS).for_each(|n| drop(bus.emit(tick(n)))), EVENTS);
    print("S2", 1, &bus, || (0..WAITED).for_each(|n| drop(bus.emit(tick(n)).wait())), WAITED);
    print("boxed", 1, &bus, || (0..WAITED).for_each(|n| drop(bus.emit(Ask([n as u64; 8])).wait())), WAITED);
    bus.emit(Parent).wait().expect("a live bus");
    let child = bus.emit(Parent).result().expect("one handler that succeeds");
    child.print("S3");

    print_value("S9", live_heap_per_completed_event());
}

fn tick(n: usize) -> Tick {
    Tick([n as u64; 8])
}

/// Measures what `body` and the idle bus after it cost per event, after having done it `before` times.
fn print(name: &str, before: usize, bus: &EventBus, body: impl Fn(), events: usize) {
    let to_the_end = || {
        body();
        bus.wait_until_idle().expect("outside of handlers");
    };
    (0..before).for_each(|_| to_the_end());
    Cost::of_each(events, to_the_end).print(name);
}

/// Per event.
#[derive(Clone, Copy)]
struct Cost {
    allocations: f64,
    switches: f64,
}

impl Cost {
    fn of_each(events: usize, body: impl FnOnce()) -> Cost {
        let region = Region::new(ALLOCATOR);
        let switches = machine::voluntary_switches();
        body();
        let switches = machine::voluntary_switches() - switches;
        let Stats { allocations, reallocations, .. } = region.change();
        Cost {
            allocations: (allocations + reallocations) as f64 / events as f64,
            switches: switches as f64 / events as f64,
        }
    }

    fn print(self, name: &str) {
        print_value(&format!("allocations {name}"), self.allocations);
        print_value(&format!("switches {name}"), self.switches);
    }
}

/// Bytes, with the history's own place for the event.
fn live_heap_per_completed_event() -> f64 {
    const KEPT: usize = 10_000;
    let bus = EventBus::builder("S9").max_history(Some(KEPT)).build().expect("valid options");
    bus.on(|tick: &Event<Tick>| {
        black_box(tick.0[0]);
    });
    bus.emit(tick(0)).wait().expect("a live bus");
    let region = Region::new(ALLOCATOR);
    for n in 1..KEPT {
        bus.emit(tick(n));
        // What a long queue leaves behind is not the history's.
        if n % 100 == 0 || n + 1 == KEPT {
            bus.wait_until_idle().expect("outside of handlers");
        }
    }
    let Stats { bytes_allocated, bytes_deallocated, .. } = region.change();
    assert_eq!(bus.history_len(), KEPT, "all of them are kept");
    (bytes_allocated - bytes_deallocated) as f64 / (KEPT - 1) as f64
}
