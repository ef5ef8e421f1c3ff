//! The same work by threadbus and by what else one might take, in one run: `cargo run --release` here.
//!
//! Streaming: 50,000 events with a 64-byte payload to one handler, then idle. Round trip: one event, and waiting until it was
//! handled. Both as ratios to crossbeam by hand, pinned to one core and free. See README.md for what each one was asked to do.
#![allow(clippy::disallowed_methods, reason = "the parent's clippy.toml is about its own sources")]

// Of these modules of the headline benchmark a part is used.
#[allow(dead_code)]
#[path = "../../headline/floor.rs"]
mod floor;
#[allow(dead_code)]
#[path = "../../headline/machine.rs"]
mod machine;
#[allow(dead_code)]
#[path = "../../headline/measure.rs"]
mod measure;
mod peers;

use machine::Mode;
use measure::{median, nanos_each, quantile};
use peers::Peer;
use std::process::Command;
use std::time::Instant;

const EVENTS: usize = 50_000;
const TRIPS: usize = 1_000;
const ROUNDS: usize = 11;

fn main() {
    if let Some(mode) = std::env::args().nth(1).and_then(|name| Mode::named(&name)) {
        machine::enter(mode);
        return measure(mode);
    }
    // Pinning goes before the first thread, so each mode is a process.
    for mode in [Mode::Pinned, Mode::Free] {
        let program = std::env::current_exe().expect("the path of this program");
        let status = Command::new(program).arg(mode.name()).status().expect("a process of this program");
        assert!(status.success(), "{}: {status}", mode.name());
    }
}

fn measure(mode: Mode) {
    let peers = peers::all();
    let mut streams = vec![Vec::new(); peers.len()];
    let mut trips = vec![Vec::new(); peers.len()];
    for round in 0..=ROUNDS {
        for turn in 0..peers.len() {
            // Each is first, and each is last, now and then.
            let at = (round + turn) % peers.len();
            let streamed = nanos_each(EVENTS, || (peers[at].stream)(EVENTS));
            let there_and_back = median(&times(&peers[at]));
            // The first round warms up.
            if round > 0 {
                streams[at].push(streamed);
                trips[at].push(there_and_back);
            }
        }
    }
    println!("{:<10} {:<30} {:>46}   {:>46}", mode.name(), "", "streaming, per event", "round trip, median");
    println!(
        "{:<41} {:>9} {:>17} {:>18}   {:>9} {:>17} {:>18}",
        "", "ratio", "quartiles", "ns", "ratio", "quartiles", "ns"
    );
    for (at, peer) in peers.iter().enumerate() {
        println!("{:<41} {}   {}", peer.name, columns(&streams[at], &streams[0]), columns(&trips[at], &trips[0]));
    }
    println!();
}

fn times(peer: &Peer) -> Vec<f64> {
    let time = |n| {
        let start = Instant::now();
        (peer.round_trip)(n);
        start.elapsed().as_nanos() as f64
    };
    (0..TRIPS as u64).map(time).collect()
}

/// Ratios of the rounds to those of the floor, and nanoseconds.
fn columns(nanos: &[f64], floor: &[f64]) -> String {
    let ratios: Vec<f64> = nanos.iter().zip(floor).map(|(ours, floor)| ours / floor).collect();
    let quartiles = format!("{:.2}..{:.2}", quantile(&ratios, 0.25), quantile(&ratios, 0.75));
    format!("{:>9.2} {quartiles:>17} {:>18.0}", median(&ratios), median(nanos))
}
