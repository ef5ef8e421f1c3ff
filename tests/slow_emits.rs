//! An emitter that stands still for longer than the bus's slow-warning time is told in the log, once, and by what it stands before.

#[macro_use]
mod common;

use common::{Gate, PATIENCE, done, eventually, idle, linger, warnings_naming, within};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use threadbus::{
    BusBuilder, EmitError, Event, EventBus, EventConcurrency, EventOptions, OnFull, OnLag, RecvError, Runtime,
    TryEmitError, WaitError,
};

payload!(Job { n: usize });

const SLOW: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(3600);

fn builder(name: &str) -> BusBuilder {
    EventBus::builder(name).handler_slow_after(Some(SLOW)).event_slow_after(None)
}

/// Warnings about emitters that stand before `bus`.
fn told(bus: &EventBus) -> impl Fn() -> Vec<String> + use<> {
    let warnings = warnings_naming(bus.label());
    move || warnings().into_iter().filter(|warning| warning.starts_with("slow emit: ")).collect()
}

fn emits(bus: &EventBus, n: usize) -> JoinHandle<Event<Job>> {
    let bus = bus.clone();
    thread::spawn(move || bus.emit_with(Job { n }, EventOptions::new().label(format!("number {n}"))))
}

fn of_number(n: usize) -> String {
    format!("slow emit: Job (number {n}) has been waiting for ")
}

/// The one emitter that stands is told once, in these words; `make_room` lets it go on.
#[track_caller]
fn one_is_told(bus: &EventBus, before: &str, make_room: impl FnOnce()) -> Event<Job> {
    let told = told(bus);
    let emitter = emits(bus, 1);
    eventually(|| !told().is_empty());
    linger();
    assert!(!emitter.is_finished(), "it stands on");
    make_room();
    let event = within(PATIENCE, || emitter.join().unwrap());
    let warnings = told();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with(&of_number(1)), "{warnings:?}");
    assert!(warnings[0].ends_with(&format!("before {before} of {}", bus.label())), "{warnings:?}");
    event
}

#[test]
fn before_a_full_queue() {
    for on_full in [OnFull::Block, OnFull::BlockFor(LONG)] {
        let bus = builder("Queue").queue_capacity(1, on_full).build().unwrap();
        bus.pause();
        bus.emit(Job { n: 0 });
        done(&one_is_told(&bus, "the full queue (queue_capacity 1)", || bus.resume()));
    }
}

#[test]
fn before_a_parallel_bus_that_is_full() {
    let bus = builder("Parallel").event_concurrency(EventConcurrency::Parallel).queue_capacity(1, OnFull::Block);
    let bus = bus.max_in_flight(1).build().unwrap();
    let gate = Gate::new();
    let (_opener, stays) = (gate.opener(), gate.clone());
    bus.on(move |job: &Event<Job>| {
        if job.n == 0 {
            stays.wait();
        }
    });
    let first = bus.emit(Job { n: 0 });
    eventually(|| first.started_at().is_some());
    bus.emit(Job { n: 2 });
    done(&one_is_told(&bus, "the full queue (queue_capacity 1)", || gate.open()));
}

#[test]
fn before_the_rate() {
    let bus = builder("Rate").max_emit_rate(2.0, 1).build().unwrap();
    bus.emit(Job { n: 0 });
    let told = told(&bus);
    within(PATIENCE, {
        let bus = bus.clone();
        move || done(&bus.emit(Job { n: 1 }))
    });
    eventually(|| !told().is_empty());
    assert!(told()[0].ends_with(&format!("before the rate (max_emit_rate) of {}", bus.label())), "{:?}", told());
}

#[test]
fn before_an_unread_subscription() {
    let bus = builder("Typed").build().unwrap();
    let mut jobs = bus.subscribe_bounded::<Job>(1, OnLag::Block);
    bus.emit(Job { n: 0 });
    done(&one_is_told(&bus, "an unread subscription (capacity 1, OnLag::Block)", || drop(jobs.try_recv().unwrap())));

    let bus = builder("Any").build().unwrap();
    let any = bus.subscribe_any_bounded(2, OnLag::Block);
    bus.emit(Job { n: 0 });
    bus.emit(Job { n: 0 });
    done(&one_is_told(&bus, "an unread subscription (capacity 2, OnLag::Block)", || drop(any)));
}

/// From a queue that has room at last to a subscription that has none: each is one stand.
#[test]
fn before_one_and_then_the_other() {
    let bus = builder("Both").queue_capacity(1, OnFull::Block).build().unwrap();
    bus.pause();
    bus.emit(Job { n: 0 });
    let mut jobs = bus.subscribe_bounded::<Job>(1, OnLag::Block);
    let told = told(&bus);
    let emitter = emits(&bus, 1);
    eventually(|| told().len() == 1);
    bus.resume();
    done(&emitter.join().unwrap());
    let emitter = emits(&bus, 2);
    eventually(|| told().len() == 2);
    assert!(told()[0].contains("the full queue") && told()[1].contains("an unread subscription"), "{:?}", told());
    assert!(jobs.try_recv().is_ok());
    done(&emitter.join().unwrap());
}

#[test]
fn each_of_a_crowd_is_told() {
    let bus = builder("Crowd").queue_capacity(1, OnFull::Block).build().unwrap();
    bus.pause();
    bus.emit(Job { n: 0 });
    let told = told(&bus);
    let emitters: Vec<_> = (1..=20).map(|n| emits(&bus, n)).collect();
    eventually(|| told().len() == emitters.len());
    bus.resume();
    for emitter in emitters {
        let n = within(PATIENCE, || emitter.join().unwrap()).n;
        assert_eq!(told().iter().filter(|told| told.starts_with(&of_number(n))).count(), 1, "{n}");
    }
    idle(&bus);
}

/// The emitter is a thread of the pool, where a schedule is due.
#[test]
fn a_schedule_that_is_due_is_told_too() {
    let runtime = Runtime::builder().max_threads(1).build().unwrap();
    let bus = builder("Scheduled").runtime(&runtime).queue_capacity(1, OnFull::Block).build().unwrap();
    let told = told(&bus);
    bus.pause();
    bus.emit(Job { n: 0 });
    let _later = bus.emit_after(Duration::ZERO, Job { n: 1 });
    eventually(|| told().len() == 1);
    // It has kept no thread from the others.
    let other = EventBus::builder("Other").runtime(&runtime).build().unwrap();
    done(&other.emit(Job { n: 2 }));
    bus.resume();
    eventually(|| bus.history_len() == 2);
    idle(&bus);
    assert_eq!(told().len(), 1);
}

#[test]
fn nobody_is_told_of_what_does_not_stand_for_so_long() {
    // Off; refused before it is slow; refused at once; in a handler, where the queue grows.
    let off = builder("Off").handler_slow_after(None).queue_capacity(1, OnFull::Block).build().unwrap();
    let soon = builder("Soon").queue_capacity(1, OnFull::BlockFor(SLOW)).build().unwrap();
    let tries = builder("Tries").queue_capacity(1, OnFull::Block).build().unwrap();
    let inside = builder("Inside").queue_capacity(1, OnFull::Block).build().unwrap();
    let warned = [&off, &soon, &tries, &inside].map(told);
    inside.on(|job: &Event<Job>| {
        if job.n == 0 {
            (1..4).for_each(|n| drop(job.bus().emit(Job { n })));
        }
    });
    idle(&inside);
    done(&inside.emit(Job { n: 0 }));
    for bus in [&off, &soon, &tries] {
        bus.pause();
        bus.emit(Job { n: 0 });
    }
    assert!(matches!(tries.try_emit(Job { n: 1 }), Err(TryEmitError { error: EmitError::QueueFull { .. }, .. })));
    let refused = soon.emit(Job { n: 1 }).wait().unwrap_err();
    assert!(matches!(refused, WaitError::Rejected(EmitError::QueueFull { .. })), "{refused}");
    let stands = emits(&off, 1);
    thread::sleep(4 * SLOW);
    linger();
    off.resume();
    done(&within(PATIENCE, || stands.join().unwrap()));
    for warned in warned {
        assert!(warned().is_empty(), "{:?}", warned());
    }
    [soon, tries].iter().for_each(EventBus::resume);
}

#[test]
fn a_reader_that_is_slow_and_reads_in_the_end_loses_nothing() {
    let bus = builder("Reader").build().unwrap();
    let mut jobs = bus.subscribe_bounded::<Job>(1, OnLag::Block);
    let told = told(&bus);
    let emitters: Vec<_> = (0..5).map(|n| emits(&bus, n)).collect();
    eventually(|| told().len() >= 4);
    let mut read: Vec<_> = (0..5).map(|_| jobs.recv().unwrap().n).collect();
    read.sort_unstable();
    assert_eq!(read, [0, 1, 2, 3, 4]);
    assert!(matches!(jobs.try_recv(), Err(RecvError::Empty)));
    emitters.into_iter().for_each(|emitter| drop(emitter.join().unwrap()));
}
