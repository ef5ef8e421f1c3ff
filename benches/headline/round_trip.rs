//! S2: an event and its completion, from a thread that is no handler.

use crate::floor::{Latch, Runner};
use crate::measure::{Rounds, median, print_round, quantile};
use crate::stream::{Tick, ticking_bus};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

/// Round trips of one round.
const TRIPS: usize = 1_000;
/// Rounds for one of the others: where the scheduler puts the two threads (one core, or two of which one sleeps) changes a round trip
/// tenfold, and lasts for some rounds.
const ROUNDS: usize = 3;

/// S2: median and 99th percentile of a round, each against the same of the floor.
///
/// The floor reuses one Condvar for all its round trips, and does not spin. `crossbeam_channel::Receiver::recv` in its thread looks a
/// few times before it parks: that is crossbeam's own, and part of what a user would get.
pub fn emit_and_wait(rounds: &Rounds) {
    let bus = ticking_bus("S2");
    let runner = Runner::new();
    let reply = Latch::new();
    let mut ours = Vec::new();
    let mut floor = Vec::new();
    let mut trip = 0;
    let mut tick = || {
        trip += 1;
        Tick([trip; 8])
    };
    for round in 0..=rounds.count * ROUNDS {
        let mut measure_ours = || {
            times(&mut ours, || {
                bus.emit(tick()).wait().expect("a live bus");
            });
        };
        let mut measure_floor = || {
            let mut trip = 0;
            times(&mut floor, || {
                trip += 1;
                let tick = Tick([trip; 8]);
                let answer = Arc::clone(&reply);
                runner.run(move || {
                    black_box(tick.0[0]);
                    answer.open();
                });
                reply.pass();
            });
        };
        if round % 2 == 0 {
            measure_floor();
            measure_ours();
        } else {
            measure_ours();
            measure_floor();
        }
        // The first one warms up.
        if round > 0 {
            print_round("S2", (median(&ours), median(&floor)));
            print_round("S2 p99", (quantile(&ours, 0.99), quantile(&floor, 0.99)));
        }
    }
}

fn times(into: &mut Vec<f64>, mut trip: impl FnMut()) {
    into.clear();
    for _ in 0..TRIPS {
        let start = Instant::now();
        trip();
        into.push(start.elapsed().as_nanos() as f64);
    }
}
