//! What timers leave that were taken back before their time: nothing. A test binary of its own, since it measures memory. Linux.
#![cfg(target_os = "linux")]

mod common;

use common::{done, idle, payload, process_status};
use std::time::{Duration, Instant};
use threadbus::{Event, EventBus, EventOptions, HandlerOptions, Limit, Scheduled};

payload!(Job);

const HOUR: Duration = Duration::from_secs(3600);
const ROUNDS: usize = 50_000;

/// In kB of anonymous memory, once warm.
fn grows(mut round: impl FnMut(usize)) -> usize {
    (0..2_000).for_each(&mut round);
    let before = process_status("RssAnon:");
    (0..ROUNDS).for_each(round);
    process_status("RssAnon:").saturating_sub(before)
}

/// One after another, since each measures the whole process.
#[test]
fn cancelled_timers_leave_nothing() {
    let bus = EventBus::builder("timers").max_history(Some(0)).build().unwrap();
    bus.on(|_: &Event<Job>| {});
    // Some are there all the time, before and after those that go.
    let stay: Vec<Scheduled> = (0..1000).map(|n| bus.emit_after(HOUR + Duration::from_secs(n % 50), Job)).collect();

    let near_and_far = |n: usize| bus.emit_after(HOUR + Duration::from_millis((n * 7919 % 100_000) as u64), Job);
    let set_and_cancelled = grows(|n| assert!(near_and_far(n).cancel()));
    let mut window: std::collections::VecDeque<Scheduled> = (0..500).map(near_and_far).collect();
    let in_order = grows(|n| {
        window.push_back(near_and_far(n));
        assert!(window.pop_front().is_some_and(|oldest| oldest.cancel()));
    });
    let caps = grows(|n| {
        let event = bus.emit_with(Job, EventOptions::new().timeout(HOUR));
        if n.is_multiple_of(64) {
            done(&event);
        }
    });
    idle(&bus);
    let limited = EventBus::builder("limited").max_history(Some(0)).build().unwrap();
    limited.on_with(HandlerOptions::new().limit(Limit::new(1).acquire_timeout(HOUR)), |_: &Event<Job>| {});
    let waits = grows(|n| {
        let event = limited.emit(Job);
        if n.is_multiple_of(64) {
            done(&event);
        }
    });
    idle(&limited);
    println!("kB: {set_and_cancelled} set and cancelled, {in_order} in order, {caps} caps, {waits} waits for a limit");
    for grown in [set_and_cancelled, in_order, caps, waits] {
        // 16 bytes each were more than 800.
        assert!(grown < 500, "{grown} kB");
    }
    assert!(stay.iter().all(|scheduled| scheduled.cancel()));
}

/// A hundred thousand others make a timer hardly dearer.
#[test]
#[ignore = "measures"]
fn the_cost_of_a_timer_among_many() {
    let bus = EventBus::new("timers");
    let cost = |bus: &EventBus| {
        let start = Instant::now();
        (0..ROUNDS).for_each(|n| assert!(bus.emit_after(HOUR + Duration::from_nanos(n as u64), Job).cancel()));
        start.elapsed().as_nanos() as usize / ROUNDS
    };
    let alone = cost(&bus);
    let many: Vec<_> = (0..1_000_000).map(|n| bus.emit_after(HOUR + Duration::from_micros(n), Job)).collect();
    let among = cost(&bus);
    println!("{alone} ns alone, {among} ns among a million");
    let start = Instant::now();
    assert!(many.iter().all(|scheduled| scheduled.cancel()));
    println!("{} ns to take back each of a million", start.elapsed().as_nanos() / 1_000_000);
}
