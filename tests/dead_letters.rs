//! Conformance, buffered.md BJ-24 and BJ-30 to BJ-38: failures that are kept, and their redrive.

mod common;

use common::{Gate, PATIENCE, done, idle, payload, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use threadbus::{Event, EventBus, EventConcurrency, HandlerConcurrency, HandlerOptions, OnFull, Retry, Shutdown};

payload!(Job { n: usize, good: bool });

fn bus_with(capacity: usize) -> EventBus {
    EventBus::builder("Letters").dead_letters(capacity).max_history(Some(0)).build().unwrap()
}

fn fails(bus: &EventBus, options: HandlerOptions) {
    bus.on_with(options, |job: &Event<Job>| if job.good { Ok(()) } else { Err("x") });
}

fn bad(n: usize) -> Job {
    Job { n, good: false }
}

#[test]
fn bj_032b_off_is_the_default() {
    let bus = EventBus::new("Off");
    fails(&bus, HandlerOptions::new());
    done(&bus.emit(bad(1)));
    idle(&bus);
    assert!(bus.dead_letters().is_empty() && bus.options().dead_letters == 0);
    assert_eq!(bus.clear_dead_letters(), 0);
}

#[test]
fn bj_030_a_letter_holds_all_there_is_to_know() {
    let bus = bus_with(10);
    fails(&bus, HandlerOptions::new().name("worker").retry(Retry::attempts(3)));
    let event = done(&bus.emit(bad(7)));
    idle(&bus);
    let letters = bus.dead_letters();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    // It is that event itself, not a copy.
    assert!(std::ptr::eq(letter.event.payload::<Job>().unwrap(), event.payload()));
    assert_eq!((letter.handler.name(), letter.attempts, letter.error.to_string().as_str()), ("worker", 3, "x"));
    assert!(letter.first_failed_at <= letter.last_failed_at && letter.first_failed_at >= event.created_at());
}

#[test]
fn bj_031_the_oldest_makes_room() {
    let bus = bus_with(1000);
    fails(&bus, HandlerOptions::new());
    (0..=1000).for_each(|n| drop(bus.emit(bad(n))));
    idle(&bus);
    let numbers: Vec<_> = bus.dead_letters().iter().map(|letter| letter.event.payload::<Job>().unwrap().n).collect();
    assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
    let metrics = bus.metrics();
    assert_eq!((metrics.dead_letters, metrics.dead_letters_evicted), (1000, 1));
}

#[test]
fn bj_032_successes_are_not_kept() {
    let bus = bus_with(100);
    fails(&bus, HandlerOptions::new());
    (0..12).for_each(|n| drop(bus.emit(Job { n, good: n < 10 })));
    idle(&bus);
    assert_eq!(bus.dead_letters().len(), 2);
}

#[test]
fn bj_024_one_attempt_one_letter() {
    let bus = bus_with(100);
    fails(&bus, HandlerOptions::new().retry(Retry::attempts(5).only_if(|failure| failure.to_string() != "x")));
    done(&bus.emit(bad(0)));
    idle(&bus);
    assert_eq!(bus.dead_letters().iter().map(|letter| letter.attempts).collect::<Vec<_>>(), [1]);
}

#[test]
fn one_letter_for_each_handler_and_none_for_what_was_given_up() {
    let bus = bus_with(100);
    fails(&bus, HandlerOptions::new().name("one"));
    fails(&bus, HandlerOptions::new().name("two"));
    done(&bus.emit(bad(0)));
    bus.pause();
    bus.emit(bad(1)).cancel();
    bus.resume();
    idle(&bus);
    let names: Vec<_> = bus.dead_letters().iter().map(|letter| letter.handler.name().to_owned()).collect();
    assert_eq!(names, ["one", "two"]);
}

#[test]
fn bj_037_a_list_outlives_the_store() {
    let bus = bus_with(10);
    fails(&bus, HandlerOptions::new());
    (0..3).for_each(|n| drop(bus.emit(bad(n))));
    idle(&bus);
    let list = bus.dead_letters();
    assert_eq!(bus.clear_dead_letters(), 3);
    assert!(bus.dead_letters().is_empty() && list.len() == 3);
    assert_eq!(bus.metrics().dead_letters_evicted, 0);
}

#[test]
fn bj_038_what_runs_inline_fails_like_everything_else() {
    let bus = EventBus::builder("Inline")
        .dead_letters(10)
        .queue_capacity(1, OnFull::RunInline)
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .unwrap();
    fails(&bus, HandlerOptions::new().retry(Retry::attempts(2)));
    bus.pause();
    bus.emit(Job { n: 0, good: true });
    let inline = bus.emit(bad(1));
    assert!(inline.is_completed());
    assert_eq!(bus.dead_letters().iter().map(|letter| letter.attempts).collect::<Vec<_>>(), [2]);
}

/// A bus whose handler fails until it is mended, and counts its runs.
fn mendable(capacity: usize) -> (EventBus, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let bus = bus_with(capacity);
    let (good, runs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (is_good, count) = (Arc::clone(&good), Arc::clone(&runs));
    bus.on_with(HandlerOptions::new().name("mendable"), move |_: &Event<Job>| {
        count.fetch_add(1, SeqCst);
        if is_good.load(SeqCst) { Ok(()) } else { Err("x") }
    });
    (bus, good, runs)
}

#[test]
fn bj_033_a_redrive_that_succeeds_empties_the_store() {
    let (bus, good, runs) = mendable(10);
    let others = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&others);
    bus.on(move |_: &Event<Job>| {
        count.fetch_add(1, SeqCst);
    });
    let event = done(&bus.emit(bad(1)));
    idle(&bus);
    let before = bus.metrics();
    good.store(true, SeqCst);
    let report = within(PATIENCE, {
        let bus = bus.clone();
        move || bus.redrive(10)
    });
    assert_eq!((report.succeeded, report.failed), (1, 0));
    assert_eq!((runs.load(SeqCst), others.load(SeqCst)), (2, 1), "that handler, and only that one");
    assert!(bus.dead_letters().is_empty());
    // The newest outcome is the one that shows, under the same id and in the same place; nothing else about the event changes.
    let results = event.results();
    assert_eq!(results.len(), 2);
    assert!(
        event.errors().is_empty()
            || event.results().iter().any(|r| r.handler.name() == "mendable" && r.error.is_none())
    );
    assert_eq!(event.path().len(), 1);
    let after = bus.metrics();
    assert_eq!((after.emitted, after.completed, after.failed), (before.emitted, before.completed, before.failed));
    assert_eq!((after.queued, after.in_flight), (0, 0));
}

#[test]
fn bj_035_a_redrive_takes_the_oldest() {
    let (bus, good, runs) = mendable(100);
    (0..15).for_each(|n| drop(bus.emit(bad(n))));
    idle(&bus);
    good.store(true, SeqCst);
    let report = bus.redrive(10);
    assert_eq!((report.succeeded, report.failed, runs.load(SeqCst)), (10, 0, 25));
    let left: Vec<_> = bus.dead_letters().iter().map(|letter| letter.event.payload::<Job>().unwrap().n).collect();
    assert_eq!(left, [10, 11, 12, 13, 14]);
}

#[test]
fn a_redrive_that_fails_keeps_one_letter_with_more_attempts() {
    let (bus, _, _) = mendable(100);
    done(&bus.emit(bad(0)));
    idle(&bus);
    let first = bus.dead_letters()[0].clone();
    assert_eq!(bus.redrive(10), bus.redrive(10), "each runs it once");
    let letters = bus.dead_letters();
    assert_eq!((letters.len(), letters[0].attempts), (1, 3));
    assert!(letters[0].first_failed_at == first.first_failed_at && letters[0].last_failed_at > first.last_failed_at);
}

#[test]
fn a_handler_that_is_gone_is_left_out() {
    let (bus, _, runs) = mendable(100);
    done(&bus.emit(bad(0)));
    idle(&bus);
    bus.off_all::<Job>();
    let report = bus.redrive(10);
    assert_eq!((report.succeeded, report.failed, runs.load(SeqCst), bus.dead_letters().len()), (0, 0, 1, 1));
}

#[test]
fn two_redrives_at_once_run_each_letter_once() {
    within(PATIENCE, || {
        let (bus, good, runs) = mendable(1000);
        (0..200).for_each(|n| drop(bus.emit(bad(n))));
        idle(&bus);
        good.store(true, SeqCst);
        let succeeded: usize = std::thread::scope(|scope| {
            let redrives: Vec<_> = (0..4).map(|_| scope.spawn(|| bus.redrive(1000).succeeded)).collect();
            redrives.into_iter().map(|redrive| redrive.join().unwrap()).sum()
        });
        assert_eq!((succeeded, runs.load(SeqCst), bus.dead_letters().len()), (200, 400, 0));
    });
}

#[test]
fn a_handler_may_redrive_its_own_bus() {
    payload!(Repair);
    within(PATIENCE, || {
        let (bus, good, _) = mendable(100);
        done(&bus.emit(bad(0)));
        idle(&bus);
        good.store(true, SeqCst);
        bus.on(|repair: &Event<Repair>| assert_eq!(repair.bus().redrive(10).succeeded, 1));
        assert!(done(&bus.emit(Repair)).errors().is_empty());
        assert!(bus.dead_letters().is_empty());
    });
}

#[test]
fn a_redrive_without_a_value_is_a_success() {
    let bus = bus_with(10);
    let fails = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&fails);
    bus.on(move |_: &Event<Job>| -> Result<Option<()>, &'static str> {
        if still.load(SeqCst) { Err("x") } else { Ok(None) }
    });
    done(&bus.emit(bad(1)));
    idle(&bus);
    fails.store(false, SeqCst);
    let report = bus.redrive(10);
    assert_eq!((report.succeeded, report.failed, bus.dead_letters().len()), (1, 0, 0));
}

#[test]
fn a_redrive_that_is_given_up_from_outside_leaves_its_letter() {
    let bus = bus_with(10);
    let (again, gate) = (Gate::new(), Gate::new());
    let _open = gate.opener();
    let (at_it, stands, first) = (again.clone(), gate.clone(), AtomicBool::new(true));
    bus.on(move |_: &Event<Job>| -> Result<(), &'static str> {
        if !first.swap(false, SeqCst) {
            at_it.open();
            stands.wait();
        }
        Err("x")
    });
    done(&bus.emit(bad(1)));
    idle(&bus);
    let redrives = bus.clone();
    let report = thread::scope(|scope| {
        let report = scope.spawn(move || redrives.redrive(10));
        again.wait();
        bus.shutdown(Shutdown::Now, Duration::ZERO);
        gate.open();
        report.join().unwrap()
    });
    assert_eq!((report.succeeded, report.failed), (0, 0));
    let letters = bus.dead_letters();
    assert_eq!((letters.len(), letters[0].attempts), (1, 1));
}
