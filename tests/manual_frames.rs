//! How manual buses keep time. What is measured is ignored by default, since a busy machine keeps no time:
//! `cargo test --release --test manual_frames -- --ignored --test-threads=1`.

#[macro_use]
mod common;

use common::PATIENCE;
use std::time::{Duration, Instant};
use threadbus::*;

payload!(Spark { n: u32 });

fn game() -> EventBus {
    EventBus::builder("game").manual().handler_timeout(None).handler_slow_after(None).build().expect("a bus")
}

#[test]
fn a_frame_runs_all_of_its_thousand_events() {
    let bus = game();
    bus.on(|spark: &Event<Spark>| {
        std::hint::black_box(spark.n);
    });
    for _ in 0..20 {
        for n in 0..1000 {
            bus.emit(Spark { n });
        }
        assert_eq!(bus.run_pending_for(PATIENCE), 1000);
    }
    assert!(bus.is_idle());
}

#[test]
#[ignore = "measures"]
fn six_hundred_ticks_a_second_of_a_thousand_events_miss_none() {
    let bus = game();
    bus.on(|spark: &Event<Spark>| {
        std::hint::black_box(spark.n);
    });
    let period = Duration::from_secs(1) / 600;
    let (began, mut missed, mut worst) = (Instant::now(), 0, Duration::ZERO);
    for tick in 0..1800 {
        let due = began + period * tick;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let start = Instant::now();
        for n in 0..1000 {
            bus.emit(Spark { n });
        }
        assert_eq!(bus.run_pending(), 1000);
        worst = worst.max(start.elapsed());
        missed += u32::from(Instant::now() > due + period);
    }
    eprintln!("{missed} missed, worst frame {worst:.1?}");
    assert_eq!(missed, 0);
}

#[test]
#[ignore = "measures"]
fn a_budget_is_kept_within_a_millisecond() {
    let bus = game();
    bus.on(|_: &Event<Spark>| {
        let end = Instant::now() + Duration::from_micros(20);
        while Instant::now() < end {}
    });
    let budget = Duration::from_millis(3);
    let mut over = Vec::new();
    for n in 0..200 {
        for _ in 0..300 {
            bus.emit(Spark { n });
        }
        let start = Instant::now();
        let ran = bus.run_pending_for(budget);
        over.push(start.elapsed().saturating_sub(budget));
        assert!(ran > 0);
    }
    over.sort_unstable();
    eprintln!("over by {:.1?} at p99, {:.1?} at worst", over[198], over[199]);
    assert!(over[198] < Duration::from_millis(1), "{:?}", over[198]);
}
