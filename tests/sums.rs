//! Sums of numbers that the program gives: they saturate, and nothing else comes of numbers beyond all measure.

mod common;

use common::{PATIENCE, done, idle, lock, payload, tracked, within};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threadbus::{
    Batch, Event, EventBus, EventOptions, HandlerOptions, Limit, OnFull, OnLag, Payload, Progress, Retry, Shutdown,
    TreeStyle,
};

payload!(Job { n: usize });
payload!(Fails);

/// Has all the steps there are.
#[derive(Clone)]
struct Huge;
impl Payload for Huge {
    type Output = ();
    fn options() -> EventOptions {
        EventOptions::new().steps(usize::MAX)
    }
}

fn steps(steps: usize) -> EventOptions {
    EventOptions::new().steps(steps)
}

#[track_caller]
fn all_there_is(batch: &Batch, seen: &Mutex<Vec<Progress>>) {
    let batch = batch.clone();
    let progress = within(PATIENCE, move || batch.wait()).unwrap();
    assert_eq!((progress.completed, progress.total), (usize::MAX, usize::MAX));
    let seen = lock(seen);
    assert_eq!(seen.last(), Some(&progress));
    assert!(seen.windows(2).all(|pair| pair[0].completed <= pair[1].completed && pair[0].total <= pair[1].total));
    assert!(seen.iter().all(|progress| progress.completed <= progress.total));
}

#[test]
fn steps_by_option_by_type_and_of_events_from_elsewhere() {
    let bus = EventBus::new("Steps");
    let batch = bus.batch();
    let seen = tracked(&batch);
    batch.emit_with(Job { n: 1 }, steps(usize::MAX));
    batch.emit_with(Job { n: 2 }, steps(usize::MAX));
    batch.emit_with(Job { n: 3 }, steps(1));
    all_there_is(&batch, &seen);

    let batch = bus.batch();
    let seen = tracked(&batch);
    batch.extend([Huge, Huge, Huge]);
    all_there_is(&batch, &seen);

    let batch = bus.batch();
    let seen = tracked(&batch);
    bus.pause();
    let open = bus.emit(Huge);
    batch.add(&open);
    bus.resume();
    batch.add(done(&bus.emit(Huge)));
    batch.emit(Job { n: 1 });
    all_there_is(&batch, &seen);
}

#[test]
fn steps_of_what_fails_and_of_what_is_refused() {
    let bus = EventBus::new("Failing");
    bus.on(|_: &Event<Fails>| Err::<(), _>("on purpose"));
    let batch = bus.batch();
    let seen = tracked(&batch);
    (0..3).for_each(|_| drop(batch.emit_with(Fails, steps(usize::MAX / 2 + 1))));
    all_there_is(&batch, &seen);
    assert_eq!(batch.progress().failed, 3);

    let bus = EventBus::builder("Refusing").require_handler(true).build().unwrap();
    let batch = bus.batch();
    batch.extend([Huge, Huge]);
    let progress = within(PATIENCE, move || batch.wait()).unwrap();
    assert_eq!((progress.completed, progress.total, progress.never_ran), (usize::MAX, usize::MAX, 2));
}

#[test]
fn a_slow_tracker_is_told_of_sums_that_saturate() {
    let bus = EventBus::new("Slow");
    let batch = bus.batch();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (keep, gate) = (Arc::clone(&seen), common::Gate::new());
    let wait = gate.clone();
    batch.on_progress(move |progress| {
        wait.wait();
        lock(&keep).push(progress);
    });
    // So that none completes on this thread, which opens the gate.
    bus.pause();
    let last = batch.emit_with(Job { n: 0 }, steps(usize::MAX - 1));
    (0..10).for_each(|n| drop(batch.emit_with(Job { n }, steps(usize::MAX / 3))));
    bus.resume();
    gate.open();
    done(&last);
    all_there_is(&batch, &seen);
    assert_eq!(lock(&seen).len(), 11);
}

/// Each is taken as what it says, or as no bound at all.
#[test]
fn bounds_beyond_all_measure() {
    within(3 * PATIENCE, || {
        let bus = EventBus::builder("Bounds")
            .queue_capacity(usize::MAX, OnFull::BlockFor(Duration::MAX))
            .max_history(Some(usize::MAX))
            .max_in_flight(usize::MAX)
            .max_emit_rate(f64::MAX, usize::MAX)
            .dead_letters(usize::MAX)
            .handler_timeout(Some(Duration::MAX))
            .event_timeout(Some(Duration::MAX))
            .handler_slow_after(Some(Duration::MAX))
            .event_slow_after(Some(Duration::MAX))
            .retry(Retry::attempts(2).delays([Duration::from_millis(1)]).jitter(1.0).max_delay(Duration::MAX))
            .build()
            .unwrap();
        let limit = Limit::new(usize::MAX).acquire_timeout(Duration::MAX);
        bus.on_with(HandlerOptions::new().limit(limit), |_: &Event<Job>| {});
        bus.on(|_: &Event<Fails>| Err::<(), _>("on purpose"));
        let mut jobs = bus.subscribe_bounded::<Job>(usize::MAX, OnLag::Block);
        let plans = [bus.emit_after(Duration::MAX, Job { n: 0 }), bus.emit_every(Duration::MAX, Job { n: 0 })];
        (0..10).for_each(|n| drop(bus.emit(Job { n })));
        done(&bus.emit_with(Fails, EventOptions::new().timeout(Duration::MAX).handler_timeout(Duration::MAX)));
        idle(&bus);
        assert_eq!(std::iter::from_fn(|| jobs.try_recv().ok()).count(), 10);
        assert_eq!(bus.redrive(usize::MAX).succeeded, 0);
        assert!(bus.log_tree_with(&TreeStyle::new().width(usize::MAX)).contains("Job"));
        assert!(plans.iter().all(threadbus::Scheduled::cancel));
        assert_eq!(bus.find::<Job>().past_within(Duration::MAX).all().len(), 10);
        let metrics = bus.metrics();
        assert_eq!((metrics.emitted, metrics.queued, metrics.retries), (11, 0, 1));
        bus.shutdown(Shutdown::Drain, Duration::MAX);
    });
}
