//! What a batch's numbers mean: what failed, what never ran, each event once; and when its reports come.

mod common;

use common::{Gate, PATIENCE, done, eventually, idle, lock, payload, tracked, within};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use threadbus::*;

payload!(Job { n: usize } => usize);
payload!(Outer);
payload!(Shown { n: usize });

fn numbers(progress: Progress) -> (usize, usize, usize, usize) {
    (progress.completed, progress.total, progress.failed, progress.never_ran)
}

#[track_caller]
fn finish(batch: &Batch) -> (usize, usize, usize, usize) {
    numbers(batch.wait_timeout(PATIENCE).unwrap())
}

#[test]
fn what_never_ran_is_counted_whatever_kept_it() {
    for on_full in [OnFull::Reject, OnFull::DropOldest] {
        let bus = EventBus::builder("Small").queue_capacity(2, on_full).build().unwrap();
        bus.on(|job: &Event<Job>| job.n);
        bus.pause();
        let batch = bus.batch();
        let seen = tracked(&batch);
        let events = batch.extend((0..10).map(|n| Job { n }));
        assert_eq!(numbers(batch.progress()), (8, 10, 0, 8), "{on_full:?}");
        let queued = events.iter().find(|event| !event.is_completed()).unwrap();
        assert!(queued.cancel());
        bus.resume();
        assert_eq!(finish(&batch), (10, 10, 0, 9));
        assert_eq!(lock(&seen).last().copied().map(numbers), Some((10, 10, 0, 9)));
        assert_eq!(lock(&seen).len(), 10);
    }
}

#[test]
fn what_a_shutdown_leaves_never_ran() {
    within(PATIENCE, || {
        let bus = EventBus::new("Ends");
        let (gate, at_it) = (Gate::new(), Gate::new());
        let (closed, here, _open) = (gate.clone(), at_it.clone(), gate.opener());
        bus.on(move |job: &Event<Job>| {
            here.open();
            closed.wait();
            job.n
        });
        let batch = bus.batch();
        batch.extend((0..4).map(|n| Job { n }));
        at_it.wait();
        bus.shutdown(Shutdown::Now, Duration::ZERO);
        batch.emit(Job { n: 4 });
        assert_eq!(finish(&batch), (5, 5, 0, 4), "the first one was at it");
    });
}

#[test]
fn being_given_up_is_no_failure_and_a_failure_is_one() {
    within(PATIENCE, || {
        let parallel = EventBus::builder("Parallel").event_concurrency(EventConcurrency::Parallel);
        let bus = parallel.handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
        let (gate, at_it) = (Gate::new(), Gate::new());
        let (closed, here, _open) = (gate.clone(), at_it.clone(), gate.opener());
        bus.on(move |job: &Event<Job>| -> Result<usize, &'static str> {
            match job.n {
                0 => Ok(0),
                1 => Err("x"),
                2 => panic!("on purpose"),
                _ => {
                    here.open();
                    closed.wait();
                    Ok(job.n)
                }
            }
        });
        let batch = bus.batch();
        batch.extend((0..3).map(|n| Job { n }));
        let running = batch.emit(Job { n: 3 });
        let timed_out = Duration::from_millis(20);
        batch.emit_with(Job { n: 4 }, EventOptions::new().handler_timeout(timed_out));
        batch.emit_with(Job { n: 5 }, EventOptions::new().timeout(timed_out));
        at_it.wait();
        running.cancel();
        // The error, the panic, and both timeouts of their own; not the one that was cancelled while it ran.
        assert_eq!(finish(&batch), (6, 6, 4, 0));
    });
}

#[test]
fn who_lost_to_the_first_has_not_failed() {
    let bus = EventBus::builder("Firsts").handler_completion(HandlerCompletion::First).build().unwrap();
    bus.on(|job: &Event<Job>| job.n);
    bus.on(|job: &Event<Job>| job.n + 1);
    let batch = bus.batch();
    let event = batch.emit(Job { n: 1 });
    assert_eq!(finish(&batch), (1, 1, 0, 0));
    assert_eq!(event.errors().len(), 1, "the loser's");
}

#[test]
fn a_parents_timeout_is_no_failure_of_its_children() {
    within(PATIENCE, || {
        let bus = EventBus::new("Above");
        let (gate, child) = (Gate::new(), Arc::new(Mutex::new(None)));
        let (closed, _open) = (gate.clone(), gate.opener());
        bus.on(move |_: &Event<Job>| {
            closed.wait();
            0
        });
        let batch = bus.batch();
        let (within_it, kept) = (batch.clone(), Arc::clone(&child));
        bus.on(move |outer: &Event<Outer>| {
            let child = outer.bus().emit(Job { n: 1 });
            within_it.add(&child);
            *lock(&kept) = Some(child.clone());
            let _ = child.wait();
        });
        bus.emit_with(Outer, EventOptions::new().handler_timeout(Duration::from_millis(30))).wait().unwrap();
        assert_eq!(finish(&batch), (1, 1, 0, 0));
        assert!(lock(&child).as_ref().unwrap().errors().len() == 1);
    });
}

#[test]
fn an_event_counts_once_however_often_and_whenever_it_is_added() {
    within(PATIENCE, || {
        let bus = EventBus::new("Once");
        bus.on(|job: &Event<Job>| job.n);
        let batch = bus.batch();
        let events: Vec<_> = (0..20).map(|n| bus.emit(Job { n })).collect();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    events.iter().for_each(|event| batch.add(event));
                    events.iter().for_each(|event| drop(done(event)));
                    events.iter().for_each(|event| batch.add(event));
                });
            }
        });
        assert_eq!(finish(&batch), (20, 20, 0, 0));
        batch.add(&events[3]);
        let refused = {
            bus.shutdown(Shutdown::Drain, PATIENCE);
            batch.emit(Job { n: 20 })
        };
        batch.add(&refused);
        batch.add(&refused);
        assert_eq!(finish(&batch), (21, 21, 0, 1));
        // Another batch counts for itself.
        let other = bus.batch();
        events.iter().for_each(|event| other.add(event));
        assert_eq!((finish(&other), finish(&batch.clone())), ((20, 20, 0, 0), (21, 21, 0, 1)));
    });
}

#[test]
fn reports_come_while_the_last_child_waits_for_a_busy_manual_bus() {
    within(PATIENCE, || {
        let window = EventBus::builder("Window").manual().build().unwrap();
        let bus = EventBus::new("Work");
        let seen_inside = Arc::new(Mutex::new(Vec::new()));
        let (shows, there) = (Arc::clone(&seen_inside), window.downgrade());
        bus.on(move |job: &Event<Job>| {
            if let (9, Some(window)) = (job.n, there.upgrade()) {
                // Nobody waits for it but the event.
                window.emit(Shown { n: job.n });
            }
            job.n
        });
        window.on(|shown: &Event<Shown>| assert_eq!(shown.n, 9));
        let batch = bus.batch();
        let seen = tracked(&batch);
        let inside = batch.clone();
        // The pump thread is busy from here on: in a handler, in which all but the last are reported.
        window.on(move |_: &Event<Outer>| {
            inside.extend((0..10).map(|n| Job { n }));
            eventually(|| inside.progress().completed == 9);
            eventually(|| lock(&seen).len() == 9);
            lock(&shows).extend(lock(&seen).iter().map(|progress| progress.completed));
        });
        let outer = window.emit(Outer);
        window.run_pending();
        assert!(outer.errors().is_empty(), "{:?}", outer.errors());
        assert_eq!(*lock(&seen_inside), (1..=9).collect::<Vec<_>>());
        assert_eq!(finish(&batch), (10, 10, 0, 0));
    });
}

#[test]
fn reports_of_what_the_pump_thread_completes_come_while_it_is_busy_with_the_next() {
    within(PATIENCE, || {
        let window = EventBus::builder("Window").manual().build().unwrap();
        let bus = EventBus::new("Work");
        let there = window.downgrade();
        bus.on(move |job: &Event<Job>| {
            there.upgrade().into_iter().for_each(|window| drop(window.emit(Shown { n: job.n })));
            job.n
        });
        let batch = bus.batch();
        let seen = tracked(&batch);
        let told = Arc::clone(&seen);
        window.on(move |shown: &Event<Shown>| {
            // All before it are reported by now, or soon.
            eventually(|| lock(&told).len() == shown.n);
        });
        batch.extend((0..5).map(|n| Job { n }));
        idle(&bus);
        window.run_pending();
        assert_eq!(finish(&batch), (5, 5, 0, 0));
    });
}
