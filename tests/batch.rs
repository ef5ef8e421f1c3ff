//! Conformance, tasks.md BF-80 to BF-84, and what else a batch promises.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, lock, payload, tracked, within};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use threadbus::{
    Batch, Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerOptions, OnFull, Payload,
    Progress, Retry, Runtime, Shutdown, WaitError,
};

payload!(Job { n: usize });
payload!(Fails);
payload!(Starts);

const SOON: Duration = Duration::from_millis(50);

struct Heavy;
impl Payload for Heavy {
    type Output = ();
    fn options() -> EventOptions {
        EventOptions::new().steps(7)
    }
}

fn completed(seen: &Mutex<Vec<Progress>>) -> Vec<usize> {
    lock(seen).iter().map(|progress| progress.completed).collect()
}

#[track_caller]
fn finish(batch: &Batch) -> (usize, usize, usize) {
    let progress = batch.wait_timeout(PATIENCE).unwrap();
    (progress.completed, progress.total, progress.failed)
}

#[test]
fn bf_81_an_event_counts_once_however_often_it_is_tried() {
    let bus = EventBus::new("Attempts");
    let tried = Arc::new(AtomicUsize::new(0));
    let tries = Arc::clone(&tried);
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(3)), move |_: &Event<Fails>| -> Result<(), &'static str> {
        tries.fetch_add(1, Ordering::SeqCst);
        Err("again")
    });
    let batch = bus.batch();
    let seen = tracked(&batch);
    batch.emit(Fails);
    batch.emit(Job { n: 1 });
    assert_eq!(finish(&batch), (2, 2, 1));
    assert_eq!((tried.load(Ordering::SeqCst), completed(&seen)), (3, vec![1, 2]));
}

#[test]
fn bf_82_steps_weigh() {
    let bus = EventBus::new("Steps");
    let batch = bus.batch();
    let seen = tracked(&batch);
    batch.emit_with(Job { n: 1 }, EventOptions::new().steps(10));
    batch.emit(Job { n: 2 });
    assert_eq!(finish(&batch), (11, 11, 0));
    assert_eq!(completed(&seen), [10, 11]);
}

#[test]
fn bf_82b_no_steps_no_report() {
    let bus = EventBus::new("NoSteps");
    let batch = bus.batch();
    let seen = tracked(&batch);
    for n in 0..5 {
        batch.emit_with(Job { n }, EventOptions::new().steps(usize::from(n == 2)));
    }
    assert_eq!(finish(&batch), (1, 1, 0));
    assert_eq!(completed(&seen), [1]);
}

#[test]
fn bf_82c_a_type_may_have_steps_of_its_own() {
    let bus = EventBus::new("TypeSteps");
    let batch = bus.batch();
    batch.emit(Heavy);
    batch.emit_with(Heavy, EventOptions::new().steps(2));
    assert_eq!(finish(&batch), (9, 9, 0));
}

#[test]
fn bf_84_a_tracker_that_panics_hurts_nobody() {
    let bus = EventBus::new("Panics");
    let batch = bus.batch();
    let calls = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&calls);
    batch.on_progress(move |_| {
        counts.fetch_add(1, Ordering::SeqCst);
        panic!("in the tracker");
    });
    let seen = tracked(&batch);
    let events = batch.extend((0..3).map(|n| Job { n }));
    assert_eq!(finish(&batch), (3, 3, 0));
    events.iter().for_each(|event| drop(done(event)));
    done(&bus.emit(Job { n: 9 }));
    assert_eq!((calls.load(Ordering::SeqCst), completed(&seen)), (3, vec![1, 2, 3]));
}

#[test]
fn an_empty_batch_is_complete() {
    assert_eq!(finish(&EventBus::new("Empty").batch()), (0, 0, 0));
}

#[test]
fn only_the_batch_is_waited_for() {
    let bus = EventBus::builder("Only")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .unwrap();
    let gate = Gate::new();
    let _open = gate.opener();
    let stands = gate.clone();
    bus.on(move |_: &Event<Starts>| stands.wait());
    let other = bus.emit(Starts);
    let batch = bus.batch();
    batch.extend((0..10).map(|n| Job { n }));
    assert_eq!(finish(&batch), (10, 10, 0));
    assert!(!other.is_completed());
}

#[test]
fn descendants_belong_to_their_event() {
    let bus = EventBus::new("Family");
    let ran = Arc::new(AtomicUsize::new(0));
    let runs = Arc::clone(&ran);
    bus.on(|event: &Event<Starts>| drop(event.bus().emit(Job { n: 1 })));
    bus.on(move |_: &Event<Job>| {
        runs.fetch_add(1, Ordering::SeqCst);
    });
    let batch = bus.batch();
    batch.extend([Starts, Starts]);
    assert_eq!(finish(&batch), (2, 2, 0));
    assert_eq!(ran.load(Ordering::SeqCst), 2);
}

#[test]
fn events_from_elsewhere_can_be_added_complete_or_not() {
    let (bus, other) = (EventBus::new("Adds"), EventBus::new("Elsewhere"));
    let complete = done(&other.emit(Job { n: 1 }));
    other.pause();
    let queued = other.emit(Job { n: 2 });
    let batch = bus.batch();
    let seen = tracked(&batch);
    batch.add(&complete);
    batch.add(&queued);
    batch.add(&queued);
    assert_eq!((batch.progress().completed, batch.progress().total), (1, 2));
    assert_eq!(batch.wait_timeout(SOON), Err(WaitError::Timeout(SOON)));
    other.resume();
    assert_eq!(finish(&batch), (2, 2, 0));
    assert_eq!(completed(&seen), [1, 2]);
}

#[test]
fn what_is_refused_or_cancelled_is_complete() {
    let bus = EventBus::new("Refused");
    let batch = bus.batch();
    bus.pause();
    let cancelled = batch.emit(Job { n: 1 });
    let kept = batch.emit(Job { n: 2 });
    assert!(cancelled.cancel());
    bus.resume();
    done(&kept);
    bus.shutdown(Shutdown::Drain, PATIENCE);
    batch.emit(Job { n: 3 });
    let (completed, total, _) = finish(&batch);
    assert_eq!((completed, total), (3, 3));
    assert_eq!(cancelled.wait().err(), Some(WaitError::Cancelled));
}

#[test]
fn values_never_decrease_and_the_last_comes_before_the_wait_returns() {
    let bus = EventBus::builder("Monotone")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .max_history(Some(0))
        .build()
        .unwrap();
    bus.on(|job: &Event<Job>| -> Result<(), &'static str> {
        if job.n.is_multiple_of(10) { Err("tenth") } else { Ok(()) }
    });
    for _ in 0..20 {
        let batch = bus.batch();
        let seen = tracked(&batch);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..100).for_each(|n| drop(batch.emit(Job { n }))));
            }
        });
        assert_eq!(finish(&batch), (200, 200, 20));
        let seen = lock(&seen);
        assert_eq!(seen.len(), 200);
        assert!(
            seen.windows(2)
                .all(|w| w[0].completed < w[1].completed && w[0].total <= w[1].total && w[0].failed <= w[1].failed)
        );
        assert!(seen.iter().all(|progress| progress.completed <= progress.total));
        assert_eq!((seen[199].completed, seen[199].total, seen[199].failed), (200, 200, 20));
    }
}

#[test]
fn a_tracker_added_late_hears_of_later_ones() {
    let bus = EventBus::new("LateTracker");
    let batch = bus.batch();
    batch.emit(Job { n: 1 });
    assert_eq!(finish(&batch), (1, 1, 0));
    let seen = tracked(&batch);
    batch.emit(Job { n: 2 });
    assert_eq!(finish(&batch), (2, 2, 0));
    assert_eq!(completed(&seen), [2]);
}

#[test]
fn a_tracker_may_emit_and_add_but_not_wait() {
    let bus = EventBus::new("InTracker");
    let batch = bus.batch();
    let (log, logs) = (Log::new(), Log::new());
    let (mut inner, writes) = (Some(batch.clone()), logs.clone());
    let more = log.clone();
    batch.on_progress(move |progress| {
        let Some(batch) = &inner else { panic!("two jobs were enough") };
        if progress.completed == 1 {
            batch.emit(Job { n: 2 });
            more.push("added");
        }
        writes.push(matches!(batch.wait(), Err(WaitError::Deadlock(_))));
        if progress.completed == 2 {
            // A batch has its trackers: one that has its batch keeps both.
            inner = None;
        }
    });
    batch.emit(Job { n: 1 });
    eventually(|| log.len() == 1);
    assert_eq!(finish(&batch), (2, 2, 0));
    assert_eq!(logs.entries(), ["true", "true"]);
}

#[test]
fn a_slow_tracker_holds_no_more_than_its_own_batch_up() {
    let bus = EventBus::new("SlowTracker");
    let gate = Gate::new();
    let _open = gate.opener();
    let batch = bus.batch();
    let stands = gate.clone();
    batch.on_progress(move |_| stands.wait());
    bus.pause();
    let event = batch.emit(Job { n: 1 });
    // Completed by this thread, which is none of the pool's: the tracker runs elsewhere.
    assert!(event.cancel());
    assert_eq!(batch.wait_timeout(SOON), Err(WaitError::Timeout(SOON)));
    gate.open();
    assert_eq!(batch.wait_timeout(PATIENCE).map(|progress| progress.completed), Ok(1));
}

#[test]
fn inside_a_handler_a_batch_jumps_the_queue() {
    let runtime = Runtime::builder().max_threads(2).build().unwrap();
    let bus = EventBus::builder("Jumps").runtime(&runtime).build().unwrap();
    let log = Log::new();
    let logs = log.clone();
    bus.on(move |event: &Event<Starts>| -> Result<(), WaitError> {
        let batch = event.bus().batch();
        let events = batch.extend((0..3).map(|n| Job { n }));
        let progress = batch.wait()?;
        logs.push(format_args!("waited {} {}", progress.completed, events.iter().all(|event| event.is_completed())));
        let again = batch.emit(Job { n: 3 });
        batch.wait_timeout(PATIENCE)?;
        logs.push(again.is_completed());
        Ok(())
    });
    let logs = log.clone();
    bus.on(move |job: &Event<Job>| logs.push(job.n));
    bus.pause();
    let starts = bus.emit(Starts);
    bus.emit(Job { n: 99 });
    bus.resume();
    assert!(done(&starts).errors().is_empty());
    idle(&bus);
    assert_eq!(log.entries(), ["0", "1", "2", "waited 3 true", "3", "true", "99"]);
}

#[test]
fn inside_a_handler_what_others_add_jumps_too() {
    // The handler waits for a batch that somebody else adds to, on the serial bus that it occupies.
    let bus = EventBus::new("AddedMeanwhile");
    let batch = bus.batch();
    let waits = batch.clone();
    let other = EventBus::new("Feeds");
    let gate = Gate::new();
    let _open = gate.opener();
    let stands = gate.clone();
    other.on(move |_: &Event<Starts>| stands.wait());
    batch.add(other.emit(Starts));
    bus.on(move |_: &Event<Starts>| -> Result<(), WaitError> { waits.wait().map(drop) });
    let starts = bus.emit(Starts);
    eventually(|| starts.started_at().is_some());
    let added = batch.emit(Job { n: 1 });
    gate.open();
    assert!(done(&starts).errors().is_empty());
    done(&added);
}

#[test]
fn a_wait_inside_a_handler_ends_when_that_is_given_up() {
    let bus = EventBus::new("GivenUp");
    let other = EventBus::new("Never");
    let gate = Gate::new();
    let _open = gate.opener();
    let stands = gate.clone();
    other.on(move |_: &Event<Job>| stands.wait());
    let log = Log::new();
    let (logs, stuck) = (log.clone(), other.downgrade());
    bus.on(move |_: &Event<Starts>| {
        let batch = stuck.upgrade().unwrap().batch();
        other_emits(&batch);
        logs.push(matches!(batch.wait(), Err(WaitError::Aborted)));
    });
    let starts = bus.emit(Starts);
    eventually(|| starts.started_at().is_some());
    starts.cancel();
    eventually(|| log.entries() == ["true"]);
}

/// Not a child of the handler that runs, so that its cancellation does not reach it.
fn other_emits(batch: &Batch) {
    batch.emit_with(Job { n: 1 }, EventOptions::new().detached());
}

#[test]
fn a_long_batch_keeps_nothing_of_what_is_complete() {
    let dropped = Arc::new(AtomicUsize::new(0));
    struct Counted(Arc<AtomicUsize>);
    impl Payload for Counted {
        type Output = ();
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let total = 100_000;
    let bus = EventBus::builder("Long").max_history(Some(0)).queue_capacity(100, OnFull::Block).build().unwrap();
    let batch = bus.batch();
    let seen = Arc::new(AtomicUsize::new(0));
    let sees = Arc::clone(&seen);
    batch.on_progress(move |_| {
        sees.fetch_add(1, Ordering::SeqCst);
    });
    let counts = Arc::clone(&dropped);
    let batch = within(6 * PATIENCE, move || {
        for n in 0..total {
            batch.emit(Counted(Arc::clone(&counts)));
            assert!(n < 1000 || counts.load(Ordering::SeqCst) > n - 1000);
        }
        batch
    });
    assert_eq!(finish(&batch), (total, total, 0));
    assert_eq!(seen.load(Ordering::SeqCst), total);
    eventually(|| dropped.load(Ordering::SeqCst) == total);
    drop(batch);
}

/// A batch whose one job is done, and whose tracker stands at the gate, so it is not settled.
fn told_of_one(bus: &EventBus, gate: &Gate) -> Batch {
    let (batch, begun) = (bus.batch(), Gate::new());
    let (stands, at_it) = (gate.clone(), begun.clone());
    batch.on_progress(move |_| {
        at_it.open();
        stands.wait();
    });
    // Not complete before it is added, or this thread would be the one to tell.
    bus.pause();
    batch.emit(Job { n: 1 });
    bus.resume();
    begun.wait();
    batch
}

#[test]
fn inside_a_handler_it_waits_for_the_trackers_and_for_what_comes_meanwhile() {
    let runtime = Runtime::builder().build().unwrap();
    let bus = EventBus::builder("Waits").runtime(&runtime).build().unwrap();
    let (other, gate) = (EventBus::new("Works"), Gate::new());
    let _open = gate.opener();
    let batch = told_of_one(&other, &gate);
    let waits = batch.clone();
    bus.on(move |_: &Event<Starts>| waits.wait().map(drop));
    let starts = bus.emit(Starts);
    eventually(|| runtime.stats().waiting == 1);
    batch.add(bus.emit(Job { n: 2 }));
    gate.open();
    assert!(done(&starts).errors().is_empty());
    assert_eq!(finish(&batch), (2, 2, 0));
}

#[test]
fn inside_a_handler_that_is_given_up_it_does_not_wait_for_trackers() {
    let (bus, other, gate) = (EventBus::new("Waits"), EventBus::new("Works"), Gate::new());
    let _open = gate.opener();
    let batch = told_of_one(&other, &gate);
    let (said, heard) = channel();
    bus.on(move |_: &Event<Starts>| said.send(batch.wait().map(drop)).unwrap());
    bus.emit_with(Starts, EventOptions::new().handler_timeout(SOON));
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(Err(WaitError::Aborted)));
}

#[test]
fn inside_a_handler_it_waits_no_longer_than_it_was_told() {
    let (bus, other, gate) = (EventBus::new("Waits"), EventBus::new("Works"), Gate::new());
    let _open = gate.opener();
    let stands = gate.clone();
    other.on(move |_: &Event<Job>| stands.wait());
    let batch = other.batch();
    let standing = batch.emit(Job { n: 1 });
    eventually(|| standing.started_at().is_some());
    let (said, heard) = channel();
    bus.on(move |_: &Event<Starts>| {
        said.send([SOON, Duration::ZERO].map(|limit| batch.wait_timeout(limit).err())).unwrap();
    });
    bus.emit(Starts);
    let expected = [SOON, Duration::ZERO].map(|limit| Some(WaitError::Timeout(limit)));
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(expected));
}
