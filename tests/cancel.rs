//! `Event::cancel`: what is queued, what runs, what is below, and races. Timeouts are in `given_up.rs`.

mod common;
#[path = "common/overtime.rs"]
mod overtime;

use common::{Gate, Log, capped, clean, context, done, eventually, payload, works_on};
use overtime::{builder, no_thread_is_lost, runtime, serial, stubborn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use threadbus::{
    Cause, CauseKind, Event, EventBus, EventConcurrency, HandlerConcurrency, HandlerFailure, HandlerResult, Runtime,
    WaitError,
};

payload!(Ask => String);
payload!(Work);
payload!(Quick);
payload!(Numbered { n: usize });

#[track_caller]
fn aborted<T>(result: &HandlerResult<T>) -> Cause {
    match result.error.as_deref() {
        Some(HandlerFailure::Aborted { cause }) => cause.clone(),
        other => panic!("not aborted: {other:?}"),
    }
}

#[track_caller]
fn cancelled<T>(result: &HandlerResult<T>) -> Cause {
    match result.error.as_deref() {
        Some(HandlerFailure::Cancelled { cause }) => cause.clone(),
        other => panic!("not cancelled: {other:?}"),
    }
}

/// A handler that ends as soon as it is given up.
fn cooperative(bus: &EventBus) -> Gate {
    let started = Gate::new();
    let opens = started.clone();
    bus.on(move |_: &Event<Work>| -> Result<(), WaitError> {
        opens.open();
        context().sleep(Duration::from_secs(3600))
    });
    started
}

#[test]
fn cancel_what_is_queued_never_runs() {
    let (bus, gate, log) = (serial("CancelQueued"), Gate::new(), Log::new());
    let _opener = gate.opener();
    let started = stubborn::<Work>(&bus, &gate);
    for _ in 0..2 {
        let log = log.clone();
        bus.on(move |event: &Event<Numbered>| log.push(event.n));
    }
    let blocker = bus.emit(Work);
    started.wait();
    let events = [0, 1, 2].map(|n| bus.emit(Numbered { n }));
    assert!(events[1].cancel(), "it was not complete");
    assert!(events[1].is_completed() && !events[1].cancel());
    assert_eq!(events[1].wait().map(drop), Err(WaitError::Cancelled));
    assert_eq!(bus.pending(), 2);
    gate.open();
    [&events[0], &events[2]].into_iter().for_each(clean);
    clean(&blocker);
    assert_eq!(log.entries(), ["0", "0", "2", "2"]);
    works_on(&bus);
    assert_eq!(events[1].results().len(), 2, "a result for each handler that did not start");
    for result in events[1].results() {
        let cause = cancelled(&result);
        assert_eq!((cause.kind, cause.event), (CauseKind::Cancelled, events[1].id()));
    }
}

#[test]
fn cancel_what_runs_is_aborted_and_asked_to_stop() {
    for events in [EventConcurrency::GlobalSerial, EventConcurrency::BusSerial, EventConcurrency::Parallel] {
        let bus = builder(&runtime(), "CancelRunning").event_concurrency(events).build().expect("a bus");
        let log = Log::new();
        let started = cooperative(&bus);
        bus.on({
            let log = log.clone();
            move |_: &Event<Work>| log.push("second handler")
        });
        let event = bus.emit(Work);
        started.wait();
        assert!(event.cancel());
        assert!(event.wait().is_ok(), "a handler had started");
        assert_eq!(aborted(&event.results()[0]).kind, CauseKind::Cancelled);
        assert_eq!(cancelled(&event.results()[1]).event, event.id());
        assert!(!event.cancel() && log.is_empty());
        no_thread_is_lost(&bus);
    }
}

#[test]
fn cancel_runs_the_hooks_and_the_bus_goes_on_beside_a_stubborn_handler() {
    let (bus, gate, hooked) = (serial("CancelHook"), Gate::new(), Gate::new());
    let _opener = gate.opener();
    let started = Gate::new();
    bus.on({
        let (gate, hooked, started) = (gate.clone(), hooked.clone(), started.clone());
        move |_: &Event<Work>| {
            let hooked = hooked.clone();
            context().on_cancel(move || hooked.open());
            started.open();
            gate.wait();
        }
    });
    let event = bus.emit(Work);
    started.wait();
    assert!(event.cancel());
    hooked.wait();
    works_on(&bus);
    assert_eq!(bus.runtime().stats().abandoned, 1);
    gate.open();
    no_thread_is_lost(&bus);
}

/// Down the tree and over to other buses: running `Aborted`, queued `Cancelled`, finished untouched.
#[test]
fn cancel_reaches_everything_below() {
    let runtime = Runtime::builder().build().expect("a runtime");
    let [a, b] = ["CancelTreeA", "CancelTreeB"].map(|name| EventBus::builder(name).runtime(&runtime).build().unwrap());
    let (gate, log) = (Gate::new(), Log::new());
    let _opener = gate.opener();
    let running = stubborn::<Work>(&b, &gate);
    for bus in [&a, &b] {
        let log = log.clone();
        bus.on(move |event: &Event<Numbered>| log.push(event.n));
    }
    let (other, emitted) = (b.downgrade(), Gate::new());
    a.on({
        let (running, emitted) = (running.clone(), emitted.clone());
        move |event: &Event<Ask>| -> Result<String, WaitError> {
            let b = other.upgrade().expect("it lives");
            event.bus().emit(Numbered { n: 0 }).wait()?;
            b.emit(Work);
            running.wait();
            b.emit(Numbered { n: 1 });
            event.bus().emit(Numbered { n: 2 });
            emitted.open();
            context().sleep(Duration::from_secs(3600))?;
            Ok(String::new())
        }
    });
    let event = a.emit(Ask);
    emitted.wait();
    assert!(event.cancel());
    assert!(event.wait().is_ok());
    let children = event.children();
    assert_eq!(children.len(), 4);
    assert!(children.iter().all(threadbus::AnyEvent::is_completed));
    assert!(children[0].errors().is_empty());
    assert_eq!(aborted(&children[1].results()[0]).event, event.id());
    for queued in &children[2..] {
        assert_eq!(queued.wait().map(drop), Err(WaitError::Cancelled));
    }
    works_on(&a);
    works_on(&b);
    assert_eq!(log.entries(), ["0"]);
    gate.open();
    no_thread_is_lost(&a);
}

/// The parent waits on another thread for a child with a timeout of its own; somebody else cancels the child.
#[test]
fn cancel_wakes_a_handler_that_waits() {
    let (bus, gate, log) = (serial("CancelAwaited"), Gate::new(), Log::new());
    let _opener = gate.opener();
    let started = stubborn::<Work>(&bus, &gate);
    bus.on({
        let log = log.clone();
        move |event: &Event<Ask>| {
            let waited = event.bus().emit_with(Work, capped(60_000)).wait();
            log.push(format_args!("{:?}", waited.map(drop)));
            "went on".to_owned()
        }
    });
    let parent = bus.emit(Ask);
    started.wait();
    assert!(parent.children()[0].cancel());
    assert_eq!(done(&parent).result().expect("its own affair"), "went on");
    assert_eq!(log.entries(), ["Ok(())"]);
    assert!(!gate.is_open());
    works_on(&bus);
    gate.open();
    no_thread_is_lost(&bus);
}

#[test]
fn cancel_from_inside_ends_the_handler_that_does_it() {
    let (bus, log) = (serial("CancelSelf"), Log::new());
    bus.on({
        let log = log.clone();
        move |event: &Event<Ask>| {
            log.push(event.cancel());
            log.push(context().is_cancelled());
            log.push(format_args!("{:?}", event.bus().emit(Quick).wait().map(drop)));
            "too late".to_owned()
        }
    });
    let event = done(&bus.emit(Ask));
    eventually(|| log.len() == 3);
    assert_eq!(log.entries(), ["true", "true", "Err(Rejected(Aborted))"]);
    assert_eq!(aborted(&event.results()[0]).kind, CauseKind::Cancelled);
    no_thread_is_lost(&bus);
}

/// Whoever comes first: every event ends once, every handler's run is accounted for, and nothing hangs.
#[test]
fn cancel_races_with_everything() {
    for (events, handlers) in [
        (EventConcurrency::BusSerial, HandlerConcurrency::BusSerial),
        (EventConcurrency::Parallel, HandlerConcurrency::BusSerial),
        (EventConcurrency::GlobalSerial, HandlerConcurrency::Parallel),
        (EventConcurrency::Parallel, HandlerConcurrency::GlobalSerial),
    ] {
        let bus = builder(&runtime(), "CancelRace")
            .event_concurrency(events)
            .handler_concurrency(handlers)
            .build()
            .expect("a bus");
        let runs = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let runs = Arc::clone(&runs);
            bus.on(move |event: &Event<Numbered>| -> Result<(), WaitError> {
                runs.fetch_add(1, Ordering::SeqCst);
                if event.n.is_multiple_of(3) { event.bus().emit(Quick).wait().map(drop) } else { Ok(()) }
            });
        }
        bus.on(|_: &Event<Quick>| {});
        let events: Vec<_> = (0..500).map(|n| bus.emit(Numbered { n })).collect();
        let cancellers: Vec<_> = (0..2)
            .map(|_| {
                let events = events.clone();
                thread::spawn(move || events.iter().filter(|event| event.cancel()).count())
            })
            .collect();
        for canceller in cancellers {
            canceller.join().expect("no panic");
        }
        for event in &events {
            eventually(|| event.is_completed());
            let started = event.results().iter().any(|result| result.started_at.is_some());
            assert_eq!(event.wait().is_ok(), started, "{:?}", event.results());
        }
        no_thread_is_lost(&bus);
        // One that was given up at the moment of its start may not have been called any more; the others were, and once.
        let results: Vec<_> = events.iter().flat_map(Event::results).collect();
        let returned = results.iter().filter(|result| result.error.is_none()).count();
        let started = results.iter().filter(|result| result.started_at.is_some()).count();
        let called = runs.load(Ordering::SeqCst);
        assert!(returned <= called && called <= started, "{returned} returned, {called} called, {started} started");
    }
}

/// However early it comes: a handler that was given up keeps neither its place in the pool nor its bus.
#[test]
fn cancel_at_the_moment_of_the_start_frees_the_thread() {
    let runtime = Runtime::builder().max_threads(1).hard_limit(1000).build().expect("a runtime");
    let [bus, other] = ["CancelAtStart", "CancelAtStartB"]
        .map(|name| EventBus::builder(name).runtime(&runtime).handler_timeout(None).build().expect("a bus"));
    other.on(|_: &Event<Quick>| {});
    for round in 0..2000 {
        let gate = Gate::new();
        let _opener = gate.opener();
        let info = bus.on({
            let gate = gate.clone();
            move |_: &Event<Work>| gate.wait()
        });
        let event = bus.emit(Work);
        if round % 2 == 0 {
            while event.results().first().is_none_or(|result| result.started_at.is_none()) {
                std::hint::spin_loop();
            }
        }
        assert!(event.cancel());
        clean(&other.emit(Quick));
        assert!(!gate.is_open(), "whoever stands there has no place any more");
        gate.open();
        bus.off(&info);
    }
    no_thread_is_lost(&bus);
}
