//! Who watches, and who leaves, under shuttle: sweeps of the watch against starts, shutdowns and last handles against emits.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_threads`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::sync::atomic::Ordering::SeqCst;
use shuttle::thread;
use std::time::Duration;
use threadbus::*;

/// Idle threads stay until they are sent away: one that is forgotten is a deadlock when the model ends.
fn patient() -> Runtime {
    Runtime::builder().max_threads(8).keep_alive(Duration::MAX).build().unwrap()
}

/// A start needs to tell the watch nothing if that has promised to look in time. The watch that finds no alarm takes the promise back.
#[test]
fn what_starts_while_the_watch_sweeps_is_watched() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let (inside, enters) = flag();
        // Its promise covers the deadline of the one after it.
        bus.on_with(HandlerOptions::new().timeout(SHORT), |_: &Event<Next>| {});
        bus.on_with(HandlerOptions::new().timeout(2 * SHORT), move |job: &Event<Job>| {
            enters.store(1, SeqCst);
            stay();
            job.0
        });
        bus.emit(Next);
        let event = bus.emit(Job(1));
        let sweeps = runtime.clone();
        let sweeper = thread::spawn(move || {
            sweeps.model_watch_sweeps();
            sweeps.model_watch_sweeps();
        });
        until(|| inside.load(SeqCst) == 1);
        sweeper.join().unwrap();
        runtime.model_watch_looks();
        let timed_out = matches!(event.errors().first().map(|e| &**e), Some(HandlerFailure::TimedOut { .. }));
        event.cancel();
        assert!(timed_out, "the watch was promised, and did not look");
        event.wait().unwrap();
        at_rest(&bus);
    });
}

/// Two threads, whose looks come and go side by side.
#[test]
fn what_starts_beside_others_is_watched() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let (inside, enters) = flag();
        let beside = |timeout| HandlerOptions::new().concurrency(HandlerConcurrency::Parallel).timeout(timeout);
        bus.on_with(beside(SHORT), |_: &Event<Next>| {});
        bus.on_with(beside(2 * SHORT), move |job: &Event<Job>| {
            enters.fetch_add(1, SeqCst);
            stay();
            job.0
        });
        let events: Vec<_> = (0..2)
            .map(|n| {
                bus.emit_with(Next, free());
                bus.emit_with(Job(n), free())
            })
            .collect();
        let sweeps = runtime.clone();
        let sweeper = thread::spawn(move || sweeps.model_watch_sweeps());
        until(|| inside.load(SeqCst) == 2);
        sweeper.join().unwrap();
        runtime.model_watch_looks();
        let failed = |event: &Event<Job>| !event.errors().is_empty();
        let all = events.iter().all(failed);
        for event in &events {
            event.cancel();
        }
        assert!(all, "the watch was promised, and did not look");
        events.iter().for_each(|event| drop(event.wait().unwrap()));
        at_rest(&bus);
    });
}

#[test]
fn a_shutdown_leaves_no_thread_whoever_emits_meanwhile() {
    check(|| {
        let runtime = patient();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        a.on(|job: &Event<Job>| job.0);
        let other = b.downgrade();
        a.on(move |_: &Event<Next>| drop(other.upgrade().map(|b| b.emit(Child(1)))));
        b.on(|child: &Event<Child>| child.0);
        // Threads that wait for work when it begins.
        a.emit(Job(0)).wait().unwrap();
        let emitter = thread::spawn(move || {
            let next = a.emit(Next);
            let last = a.emit_with(Job(1), free());
            (next, last)
        });
        let report = runtime.shutdown(Shutdown::Drain, Duration::from_secs(1000));
        assert_eq!(report.abandoned, 0);
        let (next, last) = emitter.join().unwrap();
        assert!(next.is_completed() && last.is_completed());
        // The emitter itself may have been about to start one, which leaves at once.
        nothing_left(&runtime);
    });
}

#[test]
fn two_shutdowns_both_come_back() {
    check(|| {
        let runtime = patient();
        let bus = bus(&runtime, "a");
        bus.on(|job: &Event<Job>| job.0);
        let event = bus.emit(Job(0));
        let other = runtime.clone();
        let second = thread::spawn(move || {
            other.shutdown(Shutdown::Now, Duration::from_secs(1000));
        });
        runtime.shutdown(Shutdown::Drain, Duration::from_secs(1000));
        second.join().unwrap();
        assert!(event.is_completed());
        nothing_left(&runtime);
    });
}

/// With nobody else inside of ours, nothing is left the moment it returns.
#[test]
fn a_shutdown_that_is_alone_leaves_nothing_when_it_returns() {
    check(|| {
        let runtime = patient();
        let bus = bus(&runtime, "a");
        bus.on(|job: &Event<Job>| job.0);
        bus.on(|next: &Event<Next>| drop(next.bus().emit_with(Child(1), free())));
        bus.on(|child: &Event<Child>| child.0);
        (bus.emit(Job(0)), bus.emit(Next), bus.emit_with(Job(1), free()));
        runtime.shutdown(Shutdown::Drain, Duration::from_secs(1000));
        assert_eq!(runtime.model_left(), "");
    });
}

/// A deadlock if a thread stays.
#[test]
fn the_last_handle_sends_everybody_away_wherever_it_goes() {
    check(|| {
        let runtime = patient();
        let bus = bus(&runtime, "a");
        let held = std::sync::Mutex::new(Some((runtime.clone(), bus.clone())));
        bus.on(move |_: &Event<Next>| drop(held.lock().unwrap().take()));
        bus.on(|job: &Event<Job>| job.0);
        let events = (bus.emit(Next), bus.emit_with(Job(1), free()), bus.emit(Job(2)));
        let dropper = thread::spawn(move || drop(runtime));
        drop(bus);
        assert_eq!((events.1.result().unwrap(), events.2.result().unwrap()), (1, 2));
        drop(events);
        dropper.join().unwrap();
    });
}

/// One that is built while another thread shuts down is served, and its threads go with it.
#[test]
fn a_bus_that_is_built_during_a_shutdown_is_served() {
    check(|| {
        let runtime = patient();
        let old = bus(&runtime, "a");
        old.on(|job: &Event<Job>| job.0);
        old.emit(Job(0)).wait().unwrap();
        let builds = runtime.clone();
        let builder = thread::spawn(move || {
            let new = bus(&builds, "b");
            new.on(|job: &Event<Job>| job.0);
            // It may be one that the shutdown finds.
            drop(new.emit(Job(1)).result());
            drop(new.emit(Job(2)).result());
        });
        runtime.shutdown(Shutdown::Drain, Duration::from_secs(1000));
        builder.join().unwrap();
        runtime.shutdown(Shutdown::Drain, Duration::from_secs(1000));
        assert_eq!(runtime.model_left(), "");
    });
}
