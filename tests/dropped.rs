//! What falls out of a full queue, and what goes with a bus's last handle: its cause, its letter, its line in the log. And what is no drop.

mod common;

use common::{PATIENCE, done, eventually, idle, payload, warnings_naming, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use threadbus::*;

payload!(Job { n: usize } => usize);

fn drops(name: &str, capacity: usize) -> BusBuilder {
    EventBus::builder(name).queue_capacity(capacity, OnFull::DropOldest).max_history(Some(1000))
}

fn cause<T>(result: &HandlerResult<T>) -> &Cause {
    match result.error.as_deref() {
        Some(HandlerFailure::Cancelled { cause } | HandlerFailure::Aborted { cause }) => cause,
        other => panic!("given up by nobody: {other:?}"),
    }
}

#[test]
fn a_full_queue_leaves_a_letter_of_each_handler_and_says_what_it_was() {
    for concurrency in [EventConcurrency::BusSerial, EventConcurrency::GlobalSerial, EventConcurrency::Parallel] {
        let bus = drops("Uploads", 2).event_concurrency(concurrency).dead_letters(100).build().unwrap();
        bus.on_with(HandlerOptions::new().name("first"), |job: &Event<Job>| job.n);
        bus.on_with(HandlerOptions::new().name("second"), |job: &Event<Job>| job.n);
        bus.pause();
        let events: Vec<_> = (0..5).map(|n| bus.emit(Job { n })).collect();
        for event in &events[..3] {
            assert_eq!(event.wait().map(drop), Err(WaitError::Dropped));
            assert_eq!(event.result().map_err(|error| error.to_string()), Err(WaitError::Dropped.to_string()));
            for result in event.results() {
                let cause = cause(&result);
                assert_eq!((cause.kind, cause.event, result.attempts), (CauseKind::Dropped, event.id(), 0));
                assert_eq!(cause.to_string(), format!("drop of {event} from the full queue of {}", bus.label()));
            }
            assert!(event.log_tree().contains("dropped"), "{}", event.log_tree());
        }
        let letters: Vec<_> = bus.dead_letters();
        let told = |l: &DeadLetter| (l.event.payload::<Job>().unwrap().n, l.handler.name().to_owned(), l.attempts);
        let expected = |n, name: &str| (n, name.to_owned(), 0);
        let all: Vec<_> = (0..3).flat_map(|n| [expected(n, "first"), expected(n, "second")]).collect();
        assert_eq!(letters.iter().map(told).collect::<Vec<_>>(), all);
        let metrics = bus.metrics();
        assert_eq!((metrics.dropped, metrics.cancelled, metrics.failed), (3, 0, 0));
        bus.resume();
        idle(&bus);
        assert_eq!(bus.dead_letters().len(), 6, "what ran leaves none");
        assert_eq!(bus.redrive(100).succeeded, 6);
        assert!(bus.dead_letters().is_empty());
        assert_eq!(events[0].wait().unwrap().result_list().unwrap(), [0, 0], "it has run by now");
    }
}

#[test]
fn without_handlers_and_without_letters_it_is_a_drop_all_the_same() {
    let bus = drops("Empty", 1).build().unwrap();
    bus.pause();
    let (first, second) = (bus.emit(Job { n: 1 }), bus.emit(Job { n: 2 }));
    assert_eq!(first.wait().map(drop), Err(WaitError::Dropped));
    assert!(first.results().is_empty() && bus.dead_letters().is_empty());
    bus.resume();
    done(&second);
}

#[test]
fn what_another_bus_runs_is_not_dropped() {
    let (bus, there) = (drops("Here", 1).build().unwrap(), EventBus::new("There"));
    there.on(|job: &Event<Job>| job.n);
    bus.pause();
    there.forward_to::<Job>(&bus);
    let twice = there.emit(Job { n: 8 });
    eventually(|| bus.pending() == 1);
    bus.emit(Job { n: 9 });
    assert_eq!(done(&twice).result().unwrap(), 8);
    assert_eq!((bus.metrics().dropped, bus.pending()), (1, 1));
}

#[test]
fn a_thousand_drops_are_two_lines() {
    let bus = drops("Flooded", 1).build().unwrap();
    let warned = warnings_naming(bus.label());
    bus.on(|job: &Event<Job>| job.n);
    bus.pause();
    let first = bus.emit(Job { n: 0 });
    (1..1001).for_each(|n| drop(bus.emit(Job { n })));
    let others = EventBus::builder("Other").queue_capacity(1, OnFull::DropOldest).build().unwrap();
    let warned_there = warnings_naming(others.label());
    others.pause();
    (0..2).for_each(|n| drop(others.emit(Job { n })));
    eventually(|| warned().len() == 1 && warned_there().len() == 1);
    assert!(warned()[0].contains(&format!("{first} was dropped from the full queue")), "{warned:?}", warned = warned());
    assert!(warned()[0].contains("OnFull::DropOldest"), "{:?}", warned());
    bus.shutdown(Shutdown::Drain, PATIENCE);
    eventually(|| warned().len() == 2);
    assert!(warned()[1].contains("999 more were dropped"), "{:?}", warned());
    bus.shutdown(Shutdown::Drain, PATIENCE);
    drop(bus);
    assert_eq!(warned().len(), 2);
}

#[test]
fn a_refusal_a_cancel_and_a_shutdown_are_no_drops() {
    let bus = EventBus::builder("Refuses").queue_capacity(1, OnFull::Reject).dead_letters(10).build().unwrap();
    let warned = warnings_naming(bus.label());
    bus.on(|job: &Event<Job>| job.n);
    bus.pause();
    let queued = bus.emit(Job { n: 1 });
    let refused = bus.emit(Job { n: 2 });
    assert!(matches!(refused.wait(), Err(WaitError::Rejected(EmitError::QueueFull { .. }))));
    queued.cancel();
    assert_eq!(queued.wait().map(drop), Err(WaitError::Cancelled));
    let left = bus.emit(Job { n: 3 });
    bus.shutdown(Shutdown::Now, PATIENCE);
    assert_eq!(left.wait().map(drop), Err(WaitError::Cancelled));
    assert_eq!(cause(&left.results()[0]).kind, CauseKind::Shutdown);
    assert!(bus.dead_letters().is_empty());
    assert_eq!(bus.metrics().dropped, 0);
    assert!(!warned().iter().any(|line| line.contains("dropped")), "{:?}", warned());
}

#[test]
fn what_goes_with_the_last_handle_of_a_manual_bus_is_dropped_and_told_once() {
    let bus = EventBus::builder("Window").manual().build().unwrap();
    let label = bus.label().to_owned();
    let warned = warnings_naming(&label);
    bus.on(|job: &Event<Job>| job.n);
    let parallel = || EventOptions::new().concurrency(EventConcurrency::Parallel);
    let mut events: Vec<_> = (0..10).map(|n| bus.emit(Job { n })).collect();
    events.extend((0..3).map(|n| bus.emit_with(Job { n }, parallel())));
    drop(bus);
    for event in events {
        assert_eq!(event.wait_timeout(PATIENCE).map(drop), Err(WaitError::Dropped));
        let result = &event.results()[0];
        assert_eq!(cause(result).kind, CauseKind::Dropped);
        assert_eq!(cause(result).to_string(), format!("drop of {event} with the last handle of {label}"));
    }
    eventually(|| !warned().is_empty());
    assert_eq!(warned().len(), 1, "{:?}", warned());
    assert!(warned()[0].contains("13 unfinished events were dropped with the last handle"), "{:?}", warned());
}

#[test]
fn a_threaded_bus_that_goes_finishes_its_queue_and_drops_nothing() {
    let bus = EventBus::new("Going");
    let warned = warnings_naming(bus.label());
    let ran = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ran);
    bus.on(move |job: &Event<Job>| count.fetch_add(1, SeqCst) + job.n);
    let events: Vec<_> = (0..50).map(|n| bus.emit(Job { n })).collect();
    drop(bus);
    events.iter().for_each(|event| drop(done(event)));
    assert_eq!(ran.load(SeqCst), 50);
    assert!(warned().is_empty());
}

#[test]
fn whoever_waits_while_it_falls_out_is_told() {
    within(PATIENCE, || {
        let bus = drops("Waited", 1).build().unwrap();
        bus.on(|job: &Event<Job>| job.n);
        bus.pause();
        let first = bus.emit(Job { n: 1 });
        let waiter = std::thread::spawn({
            let first = first.clone();
            move || first.wait().map(drop)
        });
        // Whether or not it waits by now.
        let second = bus.emit(Job { n: 2 });
        assert_eq!(waiter.join().unwrap(), Err(WaitError::Dropped));
        bus.resume();
        done(&second);
    });
}
