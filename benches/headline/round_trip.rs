//! S2: an event and its completion, from a thread that is no handler.

use crate::floor::{Latch, Runner};
use crate::machine::{self, Mode};
use crate::measure::{Rounds, median, print_round, quantile};
use crate::stream::{Tick, ticking_bus};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use threadbus::{Event, EventBus, Payload};

/// Round trips of one round.
const TRIPS: usize = 1_000;

/// S2: median and 99th percentile of a round, each against the same of the floor.
///
/// Free, the scheduler puts the two threads on one core or on two, of which one may sleep; that changes a round trip tenfold, and lasts for
/// many rounds.
pub fn emit_and_wait(rounds: &Rounds) {
    let bus = ticking_bus("S2");
    let by_hand = ByHand { runner: Runner::new(), reply: Latch::new() };
    if rounds.mode == Mode::Apart {
        pin_apart(&bus, &by_hand.runner);
    }
    let ours = |n| drop(bus.emit(Tick([n; 8])).wait().expect("a live bus"));
    let floor = |n| by_hand.call(Tick([n; 8]));
    for round in 0..=rounds.count {
        let (ours, floor) = if round % 2 == 0 {
            let floor = times(floor);
            (times(ours), floor)
        } else {
            (times(ours), times(floor))
        };
        // The first one warms up.
        if round > 0 {
            print_round("S2", (median(&ours), median(&floor)));
            print_round("S2 p99", (quantile(&ours, 0.99), quantile(&floor, 0.99)));
        }
    }
}

/// The floor: one Condvar serves all round trips, since there is one at a time. No spinning of ours; that `recv` in the other thread looks a
/// few times before it parks is crossbeam's, and what a user would get.
struct ByHand {
    runner: Runner,
    reply: Arc<Latch>,
}

impl ByHand {
    fn call(&self, tick: Tick) {
        let reply = Arc::clone(&self.reply);
        self.runner.run(move || {
            black_box(tick.0[0]);
            reply.open();
        });
        self.reply.pass();
    }
}

/// Nanoseconds of each round trip.
fn times(trip: impl Fn(u64)) -> Vec<f64> {
    let time = |n| {
        let start = Instant::now();
        trip(n);
        start.elapsed().as_nanos() as f64
    };
    (0..TRIPS as u64).map(time).collect()
}

/// Run by the bus's worker, to pin it to a core.
struct Move(usize);
impl Payload for Move {
    type Output = ();
}

/// The caller to one core; the bus's thread, and that of the floor, to another.
fn pin_apart(bus: &EventBus, runner: &Runner) {
    let cores = machine::cores();
    let (Some(&here), Some(&there)) = (cores.first(), cores.last()) else { return };
    bus.on(|to: &Event<Move>| machine::pin_this_thread(Some(to.0)));
    bus.emit(Move(there)).wait().expect("a live bus");
    runner.run(move || machine::pin_this_thread(Some(there)));
    machine::pin_this_thread(Some(here));
}
