//! Many handlers that wait: with few threads they end in time or are told, they cost nothing while they stand, and who comes beside them does not pay.

#![cfg(target_os = "linux")]

mod common;

use common::{Gate, PATIENCE, eventually, idle, in_a_process_of_its_own, lock, ms, payload, within};
use nix::sys::resource::{UsageWho, getrusage};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threadbus::{
    Event, EventBus, EventConcurrency, HandlerConcurrency, HandlerError, HandlerOptions, Limit, Runtime, WaitError,
};

payload!(Held);
payload!(Leaf);
payload!(Kept);
payload!(Herd { awaits: Event<Held> });

const MANY: usize = 10_000;

fn bus(runtime: &Runtime, name: &str, events: EventConcurrency) -> EventBus {
    let handlers = match events {
        EventConcurrency::Parallel => HandlerConcurrency::Parallel,
        _ => HandlerConcurrency::BusSerial,
    };
    let builder = EventBus::builder(name).event_concurrency(events).handler_concurrency(handlers);
    builder.runtime(runtime).handler_timeout(None).max_history(Some(10)).build().unwrap()
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let time = |t: nix::sys::time::TimeVal| ms(t.tv_sec() as u64 * 1_000 + t.tv_usec() as u64 / 1_000);
    time(usage.user_time()) + time(usage.system_time())
}

/// So many handlers come through that wait for one event and then do `next`: in time, and without a core while they stand.
fn a_herd(
    many: usize,
    on: EventConcurrency,
    next: impl Fn(&EventBus) -> Result<(), WaitError> + Send + Sync + 'static,
) {
    within(2 * PATIENCE, move || {
        let runtime = Runtime::builder().max_threads(16).hard_limit(64).keep_alive(ms(100)).build().unwrap();
        let (free, after) = (bus(&runtime, "Free", EventConcurrency::Parallel), bus(&runtime, "After", on));
        let (gate, started) = (Gate::new(), Gate::new());
        let _open = gate.opener();
        let (closed, at_it) = (gate.clone(), started.clone());
        free.on(move |_: &Event<Held>| {
            at_it.open();
            closed.wait();
        });
        after.on_with(HandlerOptions::new().limit(Limit::new(1)), |_: &Event<Leaf>| ());
        after.on(|_: &Event<Kept>| ());
        let ended = Arc::new(Mutex::new((0, 0, Vec::new())));
        let (of, onto) = (Arc::clone(&ended), after.clone());
        free.on(move |herd: &Event<Herd>| {
            let waited = herd.awaits.wait().map(drop).and_then(|()| next(&onto));
            let mut of = lock(&of);
            match waited {
                Ok(()) => of.0 += 1,
                Err(WaitError::NoThread(_)) => of.1 += 1,
                Err(other) => of.2.push(other.to_string()),
            }
        });
        let held = free.emit(Held);
        started.wait();
        for _ in 0..many {
            free.emit(Herd { awaits: held.clone() });
        }
        eventually(|| runtime.stats().waiting == 63);
        let before = cpu();
        std::thread::sleep(ms(500));
        let stood = cpu() - before;
        assert!(stood < ms(100), "{stood:?} of a core in half a second, while all stand");
        gate.open();
        idle(&free);
        idle(&after);
        let ended = lock(&ended);
        assert!(ended.2.is_empty(), "{:?}", ended.2.first());
        assert_eq!(ended.0 + ended.1, many);
        assert_eq!(ended.1, 0, "told that there is no thread, though there were");
        assert!(runtime.stats().peak_threads <= 64);
    });
}

#[test]
fn ten_thousand_that_wait_on_few_threads_all_end() {
    in_a_process_of_its_own("ten_thousand_that_wait_on_few_threads_all_end", || {
        a_herd(MANY, EventConcurrency::Parallel, |_| Ok(()));
    });
}

/// All threads that there may be stand still at times, and each turn that comes has all of them look whether it is theirs.
#[test]
fn many_that_stand_in_a_limits_line_after_their_wait_all_end() {
    in_a_process_of_its_own("many_that_stand_in_a_limits_line_after_their_wait_all_end", || {
        a_herd(MANY / 5, EventConcurrency::Parallel, |after| after.emit(Leaf).wait().map(drop));
    });
}

#[test]
fn ten_thousand_that_wait_in_order_after_their_wait_all_end() {
    in_a_process_of_its_own("ten_thousand_that_wait_in_order_after_their_wait_all_end", || {
        a_herd(MANY, EventConcurrency::BusSerial, |after| after.emit(Kept).wait_in_order().map(drop));
    });
}

#[test]
fn ten_thousand_that_wait_in_order_for_a_place_all_end() {
    in_a_process_of_its_own("ten_thousand_that_wait_in_order_for_a_place_all_end", || {
        a_herd(MANY, EventConcurrency::BusSerial, |after| after.emit(Leaf).wait_in_order().map(drop));
    });
}

/// Counted, not timed: what a limited event does on its thread and what it wakes, whatever else stands.
#[test]
fn nobody_that_waits_elsewhere_is_woken_by_a_limits_line() {
    in_a_process_of_its_own("nobody_that_waits_elsewhere_is_woken_by_a_limits_line", || {
        const STAND: usize = 40;
        let runtime = Runtime::builder().max_threads(64).hard_limit(128).build().unwrap();
        let free = bus(&runtime, "Free", EventConcurrency::Parallel);
        let (gate, started) = (Gate::new(), Gate::new());
        let _open = gate.opener();
        let (closed, at_it) = (gate.clone(), started.clone());
        free.on(move |_: &Event<Held>| {
            at_it.open();
            closed.wait();
        });
        let stands = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&stands);
        free.on(move |herd: &Event<Herd>| -> Result<(), HandlerError> {
            count.fetch_add(1, Ordering::SeqCst);
            herd.awaits.wait()?;
            Ok(())
        });
        free.on_with(HandlerOptions::new().limit(Limit::new(1)), |_: &Event<Leaf>| ());
        let held = free.emit(Held);
        started.wait();
        let herd: Vec<_> = (0..STAND).map(|_| free.emit(Herd { awaits: held.clone() })).collect();
        eventually(|| runtime.stats().waiting == STAND);
        // Every thread that is woken switches in and out.
        let switches = || {
            let of = |task: std::path::PathBuf| std::fs::read_to_string(task.join("status")).unwrap_or_default();
            let number = |line: &str| line.rsplit('\t').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
            let tasks =
                std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok).map(|task| of(task.path()));
            let voluntary =
                tasks.map(|status| status.lines().find(|line| line.starts_with("voluntary_ctxt")).map_or(0, number));
            voluntary.sum::<usize>()
        };
        eventually(|| {
            let before = switches();
            std::thread::sleep(ms(20));
            switches() < before + 10
        });
        let before = switches();
        const LINE: usize = 500;
        for _ in 0..LINE {
            free.emit(Leaf);
        }
        eventually(|| free.pending() == 0 && free.metrics().waiting == 0);
        let woken = switches() - before;
        assert!(woken < STAND * LINE / 2, "{woken} times some thread was woken by {LINE} events in line");
        gate.open();
        herd.iter().for_each(|event| event.result().unwrap());
        idle(&free);
    });
}
