//! Conformance, buffered.md BJ-10 to BJ-15 and what issue 6 says of full queues: all that `OnFull` can do, and who is exempt.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, lock, payload, stands, within};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use threadbus::{
    EmitError, Event, EventBus, EventConcurrency, EventOptions, EventStatus, HandlerConcurrency, OnFull, Priority,
    Shutdown, WaitError,
};

payload!(Job { n: usize });
payload!(Parent);

const MS: Duration = Duration::from_millis(1);

/// A bus that starts nothing until it is resumed, and the numbers of the jobs it has run.
fn full(capacity: usize, on_full: OnFull) -> (EventBus, Log) {
    let bus = EventBus::builder("Full").queue_capacity(capacity, on_full).max_history(Some(1000)).build().unwrap();
    let log = Log::new();
    let to = log.clone();
    bus.on(move |job: &Event<Job>| to.push(job.n));
    bus.pause();
    (bus, log)
}

fn fill(bus: &EventBus, jobs: usize) -> Vec<Event<Job>> {
    (1..=jobs).map(|n| bus.emit(Job { n })).collect()
}

fn at(priority: Priority) -> EventOptions {
    EventOptions::new().priority(priority)
}

#[track_caller]
fn is_full(error: &EmitError, bus: &EventBus, capacity: usize) {
    assert_eq!(*error, EmitError::QueueFull { bus: bus.label().to_owned(), capacity });
}

#[test]
fn bj_010_reject_refuses_and_hands_the_payload_back() {
    let (bus, log) = full(100, OnFull::Reject);
    fill(&bus, 100);
    let refused = bus.try_emit(Job { n: 101 }).unwrap_err();
    assert_eq!(refused.payload.n, 101);
    is_full(&refused.error, &bus, 100);
    let event = bus.emit(Job { n: 102 });
    assert_eq!(event.status(), EventStatus::Completed);
    let Err(WaitError::Rejected(error)) = event.wait() else { panic!("it was not refused") };
    is_full(&error, &bus, 100);
    assert_eq!((bus.pending(), bus.history_len()), (100, 100), "nothing is left of what was refused");
    bus.resume();
    idle(&bus);
    assert_eq!(log.len(), 100);
}

#[test]
fn bj_010b_what_runs_takes_no_room() {
    let bus = EventBus::builder("Runs").queue_capacity(2, OnFull::Reject).build().unwrap();
    let (gate, started) = stands::<Job>(&bus);
    let _open = gate.opener();
    bus.emit(Job { n: 0 });
    started.wait();
    assert!(bus.try_emit(Job { n: 1 }).is_ok() && bus.try_emit(Job { n: 2 }).is_ok());
    assert!(bus.try_emit(Job { n: 3 }).is_err());
}

#[test]
fn bj_010c_a_forward_meets_it_too() {
    let (bus, _) = full(1, OnFull::Reject);
    fill(&bus, 1);
    let elsewhere = EventBus::new("Elsewhere").emit(Job { n: 9 });
    is_full(&bus.forward(&elsewhere).unwrap_err(), &bus, 1);
}

#[test]
fn bj_011_run_inline_runs_it_on_the_calling_thread() {
    let bus = EventBus::builder("Inline")
        .queue_capacity(100, OnFull::RunInline)
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .unwrap();
    let ran = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&ran);
    bus.on(move |job: &Event<Job>| lock(&to).push((job.n, thread::current().id())));
    bus.pause();
    fill(&bus, 100);
    assert!(lock(&ran).is_empty());
    let event = bus.emit(Job { n: 101 });
    assert!(event.is_completed());
    assert_eq!(*lock(&ran), [(101, thread::current().id())]);
    bus.resume();
    idle(&bus);
    assert_eq!(lock(&ran).len(), 101);
}

#[test]
fn bj_011b_inline_on_a_serial_bus_waits_for_what_runs() {
    let bus = EventBus::builder("Serial").queue_capacity(1, OnFull::RunInline).build().unwrap();
    let (gate, started, log) = (Gate::new(), Gate::new(), Log::new());
    let (closed, at_it, to, _open) = (gate.clone(), started.clone(), log.clone(), gate.opener());
    bus.on(move |job: &Event<Job>| {
        at_it.open();
        closed.wait();
        to.push(job.n);
    });
    bus.emit(Job { n: 1 });
    started.wait();
    bus.emit(Job { n: 2 });
    let emitter = {
        let bus = bus.clone();
        thread::spawn(move || bus.emit(Job { n: 3 }).is_completed())
    };
    // In the history before it stands in front of the queue; only then may the handler go on.
    eventually(|| {
        let permits = format!("{bus:?}");
        permits.split_once("; handler permit").is_some_and(|(event, _)| !event.contains("in front []"))
    });
    gate.open();
    assert!(emitter.join().unwrap());
    idle(&bus);
    assert_eq!(log.entries(), ["1", "3", "2"], "ahead of the queue");
}

#[test]
fn bj_012_block_waits_for_room() {
    let (bus, log) = full(1, OnFull::Block);
    fill(&bus, 1);
    let returned = Gate::new();
    let emitter = {
        let (bus, returned) = (bus.clone(), returned.clone());
        thread::spawn(move || {
            let event = bus.emit(Job { n: 2 });
            returned.open();
            event
        })
    };
    assert!(!returned.wait_for(100 * MS), "there is no room");
    assert_eq!(bus.history_len(), 1, "and nothing to be seen of it");
    bus.resume();
    returned.wait();
    done(&emitter.join().unwrap());
    assert_eq!(log.entries(), ["1", "2"]);
}

#[test]
fn bj_012b_many_blocked_emitters_all_get_through() {
    within(PATIENCE, || {
        let (bus, log) = full(2, OnFull::Block);
        fill(&bus, 2);
        let emitters: Vec<_> = (0..8)
            .map(|_| {
                let bus = bus.clone();
                thread::spawn(move || (0..20).for_each(|n| drop(bus.emit(Job { n }))))
            })
            .collect();
        bus.resume();
        emitters.into_iter().for_each(|emitter| emitter.join().unwrap());
        idle(&bus);
        assert_eq!(log.len(), 162);
    });
}

#[test]
fn bj_012c_a_cancelled_event_makes_room() {
    let (bus, _) = full(1, OnFull::Block);
    let first = fill(&bus, 1).remove(0);
    let emitter = {
        let bus = bus.clone();
        thread::spawn(move || bus.emit(Job { n: 2 }).id())
    };
    assert!(first.cancel());
    let second = emitter.join().unwrap();
    eventually(|| bus.event(second).is_some());
}

#[test]
fn bj_012d_a_shutdown_ends_the_blocking() {
    for mode in [Shutdown::Now, Shutdown::Drain] {
        let (bus, _) = full(1, OnFull::Block);
        fill(&bus, 1);
        let (emitter, at_it) = {
            let (bus, at_it) = (bus.clone(), Gate::new());
            let started = at_it.clone();
            let emitter = thread::spawn(move || {
                started.open();
                bus.emit(Job { n: 2 })
            });
            (emitter, at_it)
        };
        at_it.wait();
        bus.shutdown(mode, PATIENCE);
        let event = within(PATIENCE, move || emitter.join().unwrap());
        // Let in before the doors closed, or refused by them; never left waiting.
        assert_ne!(event.wait_timeout(PATIENCE).err(), Some(WaitError::Timeout(PATIENCE)));
    }
}

#[test]
fn bj_013_block_for_gives_up() {
    let (bus, _) = full(1, OnFull::BlockFor(100 * MS));
    fill(&bus, 1);
    let start = Instant::now();
    let refused = bus.emit(Job { n: 2 });
    assert!(start.elapsed() >= 100 * MS);
    let Err(WaitError::Rejected(error)) = refused.wait() else { panic!("{refused} was not refused") };
    is_full(&error, &bus, 1);
}

#[test]
fn bj_014_drop_oldest_makes_room() {
    let (bus, log) = full(3, OnFull::DropOldest);
    let events = fill(&bus, 3);
    let fourth = bus.emit(Job { n: 4 });
    assert_eq!(events[0].wait().unwrap_err(), WaitError::Dropped);
    assert!(events[0].is_completed() && bus.pending() == 3);
    bus.resume();
    done(&fourth);
    idle(&bus);
    assert_eq!(log.entries(), ["2", "3", "4"]);
}

#[test]
fn bj_014b_the_oldest_of_the_lowest_priority_goes() {
    let (bus, log) = full(4, OnFull::DropOldest);
    let high = bus.emit_with(Job { n: 1 }, at(Priority::HIGH));
    let low: Vec<_> = (2..=3).map(|n| bus.emit_with(Job { n }, at(Priority::LOW))).collect();
    bus.emit(Job { n: 4 });
    bus.emit(Job { n: 5 });
    assert!(low[0].is_completed() && !low[1].is_completed() && !high.is_completed());
    bus.emit_with(Job { n: 6 }, at(Priority::LOW));
    assert!(low[1].is_completed(), "its own level is not above it");
    bus.resume();
    idle(&bus);
    assert_eq!(log.entries(), ["1", "4", "5", "6"]);
}

#[test]
fn bj_014c_an_arrival_below_all_is_refused() {
    let (bus, log) = full(2, OnFull::DropOldest);
    fill(&bus, 2);
    let refused = bus.try_emit_with(Job { n: 3 }, at(Priority::LOWEST)).unwrap_err();
    is_full(&refused.error, &bus, 2);
    bus.resume();
    idle(&bus);
    assert_eq!(log.entries(), ["1", "2"]);
}

#[test]
fn bj_014d_parallel_events_are_dropped_as_well() {
    let bus = EventBus::builder("Parallel")
        .queue_capacity(2, OnFull::DropOldest)
        .event_concurrency(EventConcurrency::Parallel)
        .build()
        .unwrap();
    bus.pause();
    let events = fill(&bus, 4);
    let dropped: Vec<_> = events.iter().map(|event| event.is_completed()).collect();
    assert_eq!(dropped, [true, true, false, false]);
}

#[test]
fn bj_014e_of_serial_and_parallel_events_the_lowest_and_then_the_oldest_goes() {
    let (bus, _) = full(4, OnFull::DropOldest);
    let parallel = || EventOptions::new().concurrency(EventConcurrency::Parallel);
    let events = [
        bus.emit(Job { n: 1 }),
        bus.emit_with(Job { n: 2 }, parallel()),
        bus.emit_with(Job { n: 3 }, parallel().priority(Priority::LOW)),
        bus.emit(Job { n: 4 }),
    ];
    let dropped = || events.each_ref().map(|event| event.is_completed());
    for expected in [[false, false, true, false], [true, false, true, false], [true, true, true, false]] {
        bus.emit_with(Job { n: 5 }, at(Priority::HIGH));
        assert_eq!(dropped(), expected);
    }
}

#[test]
fn bj_015_a_handler_is_neither_blocked_nor_refused() {
    for on_full in [
        OnFull::Block,
        OnFull::BlockFor(Duration::from_secs(3600)),
        OnFull::Reject,
        OnFull::DropOldest,
        OnFull::RunInline,
    ] {
        within(PATIENCE, move || {
            let bus = EventBus::builder("Nested").queue_capacity(1, on_full).build().unwrap();
            let log = Log::new();
            let to = log.clone();
            bus.on(move |job: &Event<Job>| to.push(job.n));
            let to = log.clone();
            bus.on(move |parent: &Event<Parent>| {
                for n in 1..=5 {
                    parent.bus().emit(Job { n });
                }
                to.push(format_args!("emitted, {} pending", parent.bus().pending()));
            });
            let parent = done(&bus.emit(Parent));
            assert_eq!(parent.children().len(), 5);
            assert_eq!(log.entries(), ["emitted, 5 pending", "1", "2", "3", "4", "5"], "{on_full:?}");
        });
    }
}

#[test]
fn bf_150_a_drain_runs_all_by_priority() {
    let (bus, log) = full(10, OnFull::Reject);
    for n in 0..10 {
        bus.emit_with(Job { n: usize::from(n) }, at(Priority::new(n).unwrap()));
    }
    let report = bus.shutdown(Shutdown::Drain, PATIENCE);
    assert_eq!((report.completed, report.cancelled), (10, 0));
    assert_eq!(log.entries(), (0..10).rev().map(|n| n.to_string()).collect::<Vec<_>>());
}
