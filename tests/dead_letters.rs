//! Conformance, buffered.md BJ-24 and BJ-30 to BJ-38: failures that are kept. Redriving them is tested where the verb is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests"
)]

mod common;

use common::{done, idle, payload};
use threadbus::{Event, EventBus, EventConcurrency, HandlerConcurrency, HandlerOptions, OnFull, Retry};

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
#[ignore = "failures are not kept yet"]
fn bj_030_a_letter_holds_all_there_is_to_know() {
    let bus = bus_with(10);
    fails(&bus, HandlerOptions::new().name("worker").retry(Retry::attempts(3)));
    let event = done(&bus.emit(bad(7)));
    idle(&bus);
    let letters = bus.dead_letters();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    // The same event, not a copy.
    assert!(std::ptr::eq(letter.event.payload::<Job>().unwrap(), event.payload()));
    assert_eq!((letter.handler.name(), letter.attempts, letter.error.to_string().as_str()), ("worker", 3, "x"));
    assert!(letter.first_failed_at <= letter.last_failed_at && letter.first_failed_at >= event.created_at());
}

#[test]
#[ignore = "failures are not kept yet"]
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
#[ignore = "failures are not kept yet"]
fn bj_032_successes_are_not_kept() {
    let bus = bus_with(100);
    fails(&bus, HandlerOptions::new());
    (0..12).for_each(|n| drop(bus.emit(Job { n, good: n < 10 })));
    idle(&bus);
    assert_eq!(bus.dead_letters().len(), 2);
}

#[test]
#[ignore = "failures are not kept yet"]
fn bj_024_one_attempt_one_letter() {
    let bus = bus_with(100);
    fails(&bus, HandlerOptions::new().retry(Retry::attempts(5).only_if(|failure| failure.to_string() != "x")));
    done(&bus.emit(bad(0)));
    idle(&bus);
    assert_eq!(bus.dead_letters().iter().map(|letter| letter.attempts).collect::<Vec<_>>(), [1]);
}

#[test]
#[ignore = "failures are not kept yet"]
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
#[ignore = "failures are not kept yet"]
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
#[ignore = "failures are not kept yet"]
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
