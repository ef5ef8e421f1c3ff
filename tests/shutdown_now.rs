//! `Shutdown::Now`: what has not started does not start meanwhile, whatever kept it: a pause, the queue, a limit, a permit, a delay.

mod common;

use common::{Gate, PATIENCE, eventually, payload, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use threadbus::*;

payload!(Job { n: usize } => usize);

const MODES: [EventConcurrency; 3] =
    [EventConcurrency::BusSerial, EventConcurrency::GlobalSerial, EventConcurrency::Parallel];

/// A handler that counts its calls.
fn counts(bus: &EventBus) -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    bus.on(move |job: &Event<Job>| {
        count.fetch_add(1, SeqCst);
        job.n
    });
    calls
}

/// One that counts, and stays until the gate opens.
fn stays(bus: &EventBus, options: HandlerOptions, gate: &Gate) -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let (count, gate) = (Arc::clone(&calls), gate.clone());
    bus.on_with(options, move |job: &Event<Job>| {
        count.fetch_add(1, SeqCst);
        gate.wait();
        job.n
    });
    calls
}

fn emit(bus: &EventBus, jobs: usize) -> Vec<Event<Job>> {
    (0..jobs).map(|n| bus.emit(Job { n })).collect()
}

fn are_cancelled(events: &[Event<Job>]) {
    for event in events {
        assert_eq!(event.wait_timeout(PATIENCE).map(drop), Err(WaitError::Cancelled), "{event}");
        let results = event.results();
        let Some(HandlerFailure::Cancelled { cause }) = results[0].error.as_deref() else {
            panic!("{:?}", results[0].error)
        };
        assert_eq!((cause.kind, results[0].attempts), (CauseKind::Shutdown, 0));
    }
}

#[test]
fn nothing_of_a_paused_bus_runs_any_more() {
    within(PATIENCE, || {
        for concurrency in MODES {
            for round in 0..30 {
                let bus = EventBus::builder("Paused").event_concurrency(concurrency).build().unwrap();
                let calls = counts(&bus);
                // A pause that nests is one.
                (0..=round % 3).for_each(|_| bus.pause());
                let events = emit(&bus, 40);
                let report = bus.shutdown(Shutdown::Now, PATIENCE);
                are_cancelled(&events);
                assert_eq!((report.cancelled, report.completed, calls.load(SeqCst)), (40, 0, 0), "{concurrency:?}");
                bus.resume();
                assert_eq!((bus.pending(), bus.is_idle(), calls.load(SeqCst)), (0, true, 0));
            }
        }
    });
}

#[test]
fn nor_of_all_the_paused_buses_of_a_runtime() {
    within(PATIENCE, || {
        for _round in 0..30 {
            let runtime = Runtime::builder().build().unwrap();
            let build = |mode| EventBus::builder("Paused").runtime(&runtime).event_concurrency(mode).build().unwrap();
            let buses = MODES.map(build);
            let calls = buses.each_ref().map(counts);
            buses.iter().for_each(EventBus::pause);
            let events = buses.each_ref().map(|bus| emit(bus, 20));
            assert_eq!(runtime.shutdown(Shutdown::Now, PATIENCE).cancelled, 60);
            events.iter().for_each(|events| are_cancelled(events));
            assert_eq!(calls.map(|calls| calls.load(SeqCst)), [0, 0, 0]);
        }
    });
}

#[test]
fn nor_of_a_paused_manual_bus_when_it_is_pumped_afterwards() {
    let bus = EventBus::builder("Window").manual().build().unwrap();
    let calls = counts(&bus);
    bus.pause();
    let events = emit(&bus, 10);
    bus.shutdown(Shutdown::Now, PATIENCE);
    are_cancelled(&events);
    bus.run_pending();
    assert_eq!((calls.load(SeqCst), bus.pending()), (0, 0));
}

#[test]
fn what_is_behind_a_running_handler_does_not_start_when_that_is_given_up() {
    within(PATIENCE, || {
        for concurrency in [EventConcurrency::BusSerial, EventConcurrency::GlobalSerial] {
            let (bus, gate) = (EventBus::builder("Busy").event_concurrency(concurrency).build().unwrap(), Gate::new());
            let calls = stays(&bus, HandlerOptions::new(), &gate);
            let events = emit(&bus, 40);
            eventually(|| calls.load(SeqCst) == 1);
            bus.shutdown(Shutdown::Now, Duration::ZERO);
            are_cancelled(&events[1..]);
            assert!(events[0].wait().is_ok());
            gate.open();
            eventually(|| bus.runtime().stats().abandoned == 0);
            assert_eq!(calls.load(SeqCst), 1, "{concurrency:?}");
        }
    });
}

#[test]
fn a_drain_that_is_over_starts_nothing_more() {
    within(PATIENCE, || {
        for concurrency in [EventConcurrency::BusSerial, EventConcurrency::GlobalSerial] {
            let (bus, gate) = (EventBus::builder("Busy").event_concurrency(concurrency).build().unwrap(), Gate::new());
            let calls = stays(&bus, HandlerOptions::new(), &gate);
            bus.pause();
            let events = emit(&bus, 40);
            bus.shutdown(Shutdown::Drain, Duration::from_millis(50));
            are_cancelled(&events[1..]);
            gate.open();
            eventually(|| bus.runtime().stats().abandoned == 0);
            assert!(calls.load(SeqCst) <= 1, "{concurrency:?}");
        }
    });
}

#[test]
fn what_stands_in_line_for_a_place_does_not_get_the_place_of_what_is_given_up() {
    within(PATIENCE, || {
        for round in 0..10 {
            let (runtime, gate) = (Runtime::builder().build().unwrap(), Gate::new());
            let bus = EventBus::builder("Limited")
                .runtime(&runtime)
                .event_concurrency(EventConcurrency::Parallel)
                .handler_concurrency(HandlerConcurrency::Parallel)
                .build()
                .unwrap();
            let calls = stays(&bus, HandlerOptions::new().limit(Limit::new(2)), &gate);
            let events = emit(&bus, 30);
            eventually(|| calls.load(SeqCst) == 2 && bus.metrics().waiting == 28);
            if round % 2 == 0 {
                bus.shutdown(Shutdown::Now, Duration::ZERO);
            } else {
                runtime.shutdown(Shutdown::Now, Duration::ZERO);
            }
            gate.open();
            eventually(|| runtime.stats().abandoned == 0);
            assert_eq!(calls.load(SeqCst), 2);
            let cancelled = events.iter().filter(|event| event.wait().is_err()).count();
            assert_eq!(cancelled, 28);
        }
    });
}

#[test]
fn nor_does_what_stands_in_line_for_it_on_another_bus_of_the_runtime() {
    within(PATIENCE, || {
        let (runtime, gate, limit) = (Runtime::builder().build().unwrap(), Gate::new(), Limit::new(1));
        let build = || EventBus::builder("Limited").runtime(&runtime).build().unwrap();
        let (one, two) = (build(), build());
        let calls = stays(&one, HandlerOptions::new().limit(limit.clone()), &gate);
        let others = stays(&two, HandlerOptions::new().limit(limit), &gate);
        let first = one.emit(Job { n: 0 });
        eventually(|| calls.load(SeqCst) == 1);
        let behind = emit(&two, 5);
        eventually(|| two.metrics().waiting == 1);
        runtime.shutdown(Shutdown::Now, Duration::ZERO);
        are_cancelled(&behind);
        assert!(first.wait().is_ok());
        gate.open();
        eventually(|| runtime.stats().abandoned == 0);
        assert_eq!((calls.load(SeqCst), others.load(SeqCst)), (1, 0));
    });
}

#[test]
fn nor_the_turn_of_it_where_handlers_are_serial() {
    within(PATIENCE, || {
        for serial in [HandlerConcurrency::BusSerial, HandlerConcurrency::GlobalSerial] {
            let (runtime, gate) = (Runtime::builder().build().unwrap(), Gate::new());
            let bus = EventBus::builder("Turns")
                .runtime(&runtime)
                .event_concurrency(EventConcurrency::Parallel)
                .handler_concurrency(serial)
                .build()
                .unwrap();
            let calls = stays(&bus, HandlerOptions::new(), &gate);
            let events = emit(&bus, 30);
            eventually(|| calls.load(SeqCst) == 1 && bus.metrics().waiting == 29);
            bus.shutdown(Shutdown::Now, Duration::ZERO);
            gate.open();
            eventually(|| runtime.stats().abandoned == 0);
            assert_eq!(calls.load(SeqCst), 1, "{serial:?}");
            assert_eq!(events.iter().filter(|event| event.wait().is_err()).count(), 29);
        }
    });
}

#[test]
fn what_a_bus_gives_up_does_not_start_what_is_queued_on_another() {
    within(PATIENCE, || {
        let (runtime, gate) = (Runtime::builder().build().unwrap(), Gate::new());
        let build = || {
            let builder = EventBus::builder("Global").runtime(&runtime);
            builder.event_concurrency(EventConcurrency::GlobalSerial).build().unwrap()
        };
        let (one, two) = (build(), build());
        let (calls, others) = (stays(&one, HandlerOptions::new(), &gate), counts(&two));
        let first = one.emit(Job { n: 0 });
        eventually(|| calls.load(SeqCst) == 1);
        let behind = emit(&two, 30);
        // The turn of the first is free when that is given up.
        runtime.shutdown(Shutdown::Now, Duration::ZERO);
        are_cancelled(&behind);
        assert!(first.wait().is_ok());
        gate.open();
        eventually(|| runtime.stats().abandoned == 0);
        assert_eq!((calls.load(SeqCst), others.load(SeqCst)), (1, 0));
    });
}

#[test]
fn a_drain_beside_it_leaves_the_queue_held_and_returns() {
    within(PATIENCE, || {
        for _round in 0..30 {
            let bus = EventBus::new("Both");
            let calls = counts(&bus);
            bus.pause();
            let events = emit(&bus, 100);
            let beside = bus.clone();
            let draining = thread::spawn(move || beside.shutdown(Shutdown::Drain, PATIENCE));
            bus.shutdown(Shutdown::Now, PATIENCE);
            draining.join().unwrap();
            // Each ran or was given up, whoever came first.
            let ran = events.iter().filter(|event| event.wait_timeout(PATIENCE).is_ok()).count();
            assert!(calls.load(SeqCst) <= 100 && ran >= calls.load(SeqCst), "{ran}");
            assert!(bus.is_idle());
        }
    });
}
