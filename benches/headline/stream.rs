//! S1: events in a row.

use crate::floor::{Latch, Runner};
use crate::machine::{self, Mode};
use crate::measure::{Rounds, nanos_each};
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use threadbus::{Event, EventBus, EventConcurrency, HandlerConcurrency, Payload};

/// 64 bytes.
pub struct Tick(pub [u64; 8]);
impl Payload for Tick {
    type Output = ();
}

pub const EVENTS: usize = 50_000;
const BATCH: usize = 512;

/// S1. Its end is an idle bus; that of the floor, a last job that opens a latch.
pub fn one_by_one(rounds: &Rounds) {
    let bus = ticking_bus("S1");
    let runner = Runner::new();
    rounds.in_turns("S1", || emit_and_idle(&bus, EVENTS), || run_and_idle(&runner, EVENTS));
}

/// S1b. The emitter waits for an idle bus after each batch, in the floor for the batch's last closure.
pub fn in_batches(rounds: &Rounds) {
    let bus = ticking_bus("S1b");
    let runner = Runner::new();
    pin_if_apart(rounds, &runner);
    let batches = EVENTS / BATCH;
    let each_batch = |batch: &dyn Fn() -> f64| (0..batches).map(|_| batch()).sum::<f64>() / batches as f64;
    rounds.in_turns(
        "S1b",
        || each_batch(&|| emit_and_idle(&bus, BATCH)),
        || each_batch(&|| run_and_idle(&runner, BATCH)),
    );
}

/// A bus with defaults and one trivial handler.
pub fn ticking_bus(name: &str) -> EventBus {
    let bus = EventBus::new(name);
    bus.on(handle_tick);
    bus
}

pub fn handle_tick(tick: &Event<Tick>) {
    black_box(tick.0[0]);
}

/// Nanoseconds per event.
pub fn emit_and_idle(bus: &EventBus, events: usize) -> f64 {
    nanos_each(events, || {
        for n in 0..events {
            bus.emit(Tick([n as u64; 8]));
        }
        bus.wait_until_idle().expect("outside of handlers");
    })
}

/// Nanoseconds per closure.
pub fn run_and_idle(runner: &Runner, closures: usize) -> f64 {
    nanos_each(closures, || {
        for n in 0..closures {
            let tick = Tick([n as u64; 8]);
            runner.run(move || {
                black_box(tick.0[0]);
            });
        }
        let done = Latch::new();
        let last = Arc::clone(&done);
        runner.run(move || last.open());
        done.pass();
    })
}

const WORKERS: usize = 8;

/// Run by a worker, to pin it to a core.
struct Move(usize);
impl Payload for Move {
    type Output = ();
}

/// In that mode: the caller to one core; every thread that the bus may run on, and that of the floor, to another.
pub fn pin_if_apart(rounds: &Rounds, runner: &Runner) {
    if rounds.mode != Mode::Apart {
        return;
    }
    let cores = machine::cores();
    let (Some(&here), Some(&there)) = (cores.first(), cores.last()) else { return };
    // The loop of a bus is where a worker of the pool is: all are moved, and there are more than will be needed.
    let workers = Arc::new(Barrier::new(WORKERS));
    let all = EventBus::builder("all")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::EventSerial)
        .build()
        .expect("a bus");
    all.on(move |to: &Event<Move>| {
        workers.wait();
        machine::pin_this_thread(Some(to.0));
    });
    (0..WORKERS).for_each(|_| drop(all.emit(Move(there))));
    all.wait_until_idle().expect("outside of handlers");
    runner.run(move || machine::pin_this_thread(Some(there)));
    machine::pin_this_thread(Some(here));
}
