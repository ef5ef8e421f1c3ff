//! Workers that are killed at any moment: of their start, while they handle something, while they end.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/random.rs"]
mod random;
mod workers;

use common::{open_files, parallel};
use random::Random;
use rustix::process::{Pid, Signal};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use threadbus::{HandlerFailure, HandlerOptions, Retry};
use workers::{Do, with_command_line};

/// With which the workers of this program are told from those of others.
const MARK: &str = "killed_at_any_moment_worker";

#[test]
fn worker_main() {
    workers::serve();
}

#[test]
fn sums_are_exact_and_nothing_is_left() {
    let files = open_files();
    let kills: u64 = std::env::var("THREADBUS_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(200);
    let pool = workers::pool().args([MARK]).max_processes(4).max_events(20).build().expect("it can be built");
    let bus = parallel("parallel");
    // A kill is no permanent failure, of whichever kind it is.
    let retry = Retry::attempts(10_000)
        .only_if(|failure| matches!(failure, HandlerFailure::Worker(_) | HandlerFailure::WorkerStart(_)));
    bus.on_process_with::<Do>(HandlerOptions::new().retry(retry), &pool);
    let (killed, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (mut sum, mut rounds) = (0, 0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(20_261_130);
            while !over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_micros(random.below(8_000)));
                let pids = pool.pids();
                if pids.is_empty() {
                    continue;
                }
                let pid = pids[random.below(pids.len() as u64) as usize];
                let pid = Pid::from_raw(pid.cast_signed()).expect("no zero");
                let signal = if random.one_in(4) { Signal::TERM } else { Signal::KILL };
                killed.fetch_add(u64::from(rustix::process::kill_process(pid, signal).is_ok()), Ordering::SeqCst);
            }
        });
        while killed.load(Ordering::SeqCst) < kills && began.elapsed() < Duration::from_secs(100) {
            let events: Vec<_> = (1..=100).map(|number| bus.emit(Do { what: "echo".to_owned(), number })).collect();
            let number = |answer: String| answer.parse::<u64>().expect("a number");
            sum += events.iter().map(|event| number(event.result().expect("a value"))).sum::<u64>();
            rounds += 1;
        }
        over.store(true, Ordering::SeqCst);
    });
    println!("{} killed, {rounds} rounds, {:?}, {:?}", killed.load(Ordering::SeqCst), pool.stats(), began.elapsed());
    assert_eq!(sum, rounds * 5_050);
    assert!(killed.load(Ordering::SeqCst) >= kills, "{killed:?}");
    assert!(pool.shutdown());
    assert_eq!(pool.stats().live, 0);
    assert_eq!(with_command_line(MARK), Vec::<u32>::new());
    assert!(workers::zombies().is_empty());
    drop((bus, pool));
    common::eventually(|| open_files() <= files);
}
