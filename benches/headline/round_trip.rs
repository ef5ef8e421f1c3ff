//! S2: an event and its completion, from a thread that is no handler.

use crate::floor::{Latch, Runner};
use crate::measure::{Rounds, median, print_round, quantile};
use crate::stream::{Tick, pin_if_apart, ticking_bus};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

/// Round trips of one round.
const TRIPS: usize = 1_000;

/// S2: median and 99th percentile of a round, each against the same of the floor.
///
/// Free, the scheduler puts the two threads on one core or on two, of which one may sleep; that changes a round trip tenfold, and lasts for
/// many rounds.
pub fn emit_and_wait(rounds: &Rounds) {
    let bus = ticking_bus("S2");
    let by_hand = ByHand { runner: Runner::new(), reply: Latch::new() };
    pin_if_apart(rounds, &by_hand.runner);
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
