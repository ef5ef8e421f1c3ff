//! What shows only over time: ten million events on one bus, and ten seconds without any.

use crate::floor::Runner;
use crate::machine;
use crate::measure::{Rounds, print_value};
use crate::stream::{Tick, emit_and_idle, run_and_idle, ticking_bus};
use std::time::Duration;
use threadbus::EventBus;

/// Between two waits for an idle bus, so that what is measured is not how long a backlog gets.
const CHUNK: usize = 250;
const LAST: usize = 10_000_000;
const IDLE_BUSES: usize = 10;
const IDLE_FOR: Duration = Duration::from_secs(10);

/// `--flat`, as CSV: the cost of an event, and the memory held, after so many events on one bus.
///
/// The cost is the median of the chunks since the line before, so that the first lines tell of the bus and not of what else the machine did
/// for a moment; the mean, where nothing rare can hide, is in the last column.
pub fn flat(_: &Rounds) {
    let bus = ticking_bus("flat");
    let runner = Runner::new();
    let chunk = || (emit_and_idle(&bus, CHUNK), run_and_idle(&runner, CHUNK));
    chunk();
    // All the memory that this function takes, so that what grows is the bus.
    let mut chunks = vec![(1.0, 1.0); LAST / CHUNK];
    println!("events,ns_per_event,floor_ns,ratio,resident_kib,mean_ns");
    let mut done = 0;
    for until in (3..=6).flat_map(|power| [1, 2, 5].map(|step| step * 10_usize.pow(power))).chain([LAST]) {
        chunks.clear();
        chunks.extend((done..until).step_by(CHUNK).map(|_| chunk()));
        let middle = chunks.len() / 2;
        let mean = chunks.iter().map(|chunk| chunk.0).sum::<f64>() / chunks.len() as f64;
        chunks.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
        let floor = chunks[middle].1;
        chunks.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let ours = chunks[middle].0;
        let (ratio, resident) = (ours / floor, machine::resident() / 1024.0);
        println!("{until},{ours:.1},{floor:.1},{ratio:.3},{resident:.0},{mean:.1}");
        done = until;
    }
}

/// `--idle`: processor time of buses that have nothing to do. They have been used just before.
pub fn idle(_: &Rounds) {
    let buses: Vec<EventBus> = (0..IDLE_BUSES).map(|_| ticking_bus("idle")).collect();
    for bus in &buses {
        bus.emit(Tick([1; 8])).wait().expect("a live bus");
    }
    let before = (machine::processor_time(), machine::voluntary_switches());
    std::thread::sleep(IDLE_FOR);
    let spent = machine::processor_time() - before.0;
    print_value("idle", spent.as_secs_f64() * 1000.0);
    print_value("idle switches", (machine::voluntary_switches() - before.1) as f64);
}
