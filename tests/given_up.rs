//! Handlers that were given up, cooperative or not (BF): what they see, their hooks, their late results and late emits.

mod common;
#[path = "common/overtime.rs"]
mod overtime;

use common::{Gate, Log, PATIENCE, capped, clean, context, done, eventually, linger, ms, payload, within};
use overtime::{builder, no_thread_is_lost, runtime, serial, stubborn};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};
use threadbus::{
    EmitError, Event, EventBus, EventConcurrency, HandlerConcurrency, HandlerContext, HandlerError, HandlerFailure,
    HandlerOptions, HandlerResult, Retry, Runtime, Shutdown, WaitError,
};

payload!(Ask => String);
payload!(Work);
payload!(Quick);
payload!(Child);
payload!(Numbered { n: usize });

fn is_timeout<T>(result: &HandlerResult<T>) -> bool {
    matches!(result.error.as_deref(), Some(HandlerFailure::TimedOut { .. }))
}

#[test]
fn bf_024_a_hundred_panics_cost_no_worker() {
    let runtime = Runtime::builder().max_threads(2).build().expect("a runtime");
    let bus = EventBus::builder("Bf024").runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
    let bus = bus.handler_concurrency(HandlerConcurrency::Parallel).build().expect("a bus");
    bus.on(|event: &Event<Numbered>| {
        assert!(event.n >= 100, "the panic of {}", event.n);
    });
    let events: Vec<_> = (0..100).map(|n| bus.emit(Numbered { n })).collect();
    for event in &events {
        match done(event).results()[0].error.as_deref() {
            Some(HandlerFailure::Panicked(text)) => assert_eq!(*text, format!("the panic of {}", event.n)),
            other => panic!("{other:?}"),
        }
    }
    let stats = runtime.stats();
    assert!(stats.peak_threads <= 2 && stats.abandoned == 0 && stats.max_threads == 2, "{stats:?}");
    clean(&bus.emit(Numbered { n: 100 }));
}

#[test]
fn bf_040_a_cooperative_handler_sees_its_timeout() {
    let (bus, log) = (serial("Bf040"), Log::new());
    bus.on({
        let log = log.clone();
        move |_: &Event<Work>| {
            assert!(!context().is_cancelled() && context().check().is_ok());
            while !context().is_cancelled() {
                thread::yield_now();
            }
            log.push(format_args!("{:?}", context().check()));
        }
    });
    let start = Instant::now();
    let event = done(&bus.emit_with(Work, capped(100)));
    let took = start.elapsed();
    assert!(is_timeout(&event.results()[0]));
    assert!(took >= ms(100) && took < ms(1000), "{took:?}");
    eventually(|| log.entries() == ["Err(Aborted)"]);
    no_thread_is_lost(&bus);
}

#[test]
fn bf_040b_sleep_ends_early_and_only_then() {
    let (bus, log) = (serial("Bf040b"), Log::new());
    bus.on({
        let log = log.clone();
        move |_: &Event<Work>| {
            log.push(format_args!("{:?}", context().sleep(ms(1))));
            log.push(format_args!("{:?}", context().sleep(Duration::MAX)));
            log.push(format_args!("{:?}", context().sleep(Duration::MAX)));
        }
    });
    let event = done(&bus.emit_with(Work, capped(100)));
    assert!(is_timeout(&event.results()[0]));
    eventually(|| log.entries() == ["Ok(())", "Err(Aborted)", "Err(Aborted)"]);
    no_thread_is_lost(&bus);
}

#[test]
fn bf_041_an_uncooperative_handler_does_not_cost_the_only_worker() {
    let runtime = Runtime::builder().max_threads(1).build().expect("a runtime");
    let bus = EventBus::builder("Bf041").runtime(&runtime).build().expect("a bus");
    let gate = Gate::new();
    let _opener = gate.opener();
    stubborn::<Work>(&bus, &gate);
    bus.on(|_: &Event<Quick>| {});
    let start = Instant::now();
    let (stuck, quick) = (bus.emit_with(Work, capped(100)), bus.emit(Quick));
    assert!(is_timeout(&done(&stuck).results()[0]));
    clean(&quick);
    assert!(start.elapsed() < ms(1500), "{:?}", start.elapsed());
    eventually(|| runtime.stats().abandoned == 1);
    gate.open();
    no_thread_is_lost(&bus);
    assert!(is_timeout(&stuck.results()[0]), "the late value counts for nothing");
    eventually(|| runtime.stats().abandoned == 0);
}

#[test]
fn bf_042_the_hook_runs_once_per_attempt() {
    let (bus, log, attempts) = (serial("Bf042"), Log::new(), Log::new());
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(2)), {
        let (log, attempts) = (log.clone(), attempts.clone());
        move |_: &Event<Work>| -> Result<(), WaitError> {
            let (log, attempt) = (log.clone(), context().attempt());
            attempts.push(attempt);
            context().on_cancel(move || {
                assert!(HandlerContext::current().is_none(), "not inside of a handler");
                log.push(format_args!("hook of {attempt}"));
            });
            context().sleep(Duration::from_secs(3600))
        }
    });
    let event = done(&bus.emit_with(Work, capped(100)));
    assert!(is_timeout(&event.results()[0]));
    assert_eq!(event.results()[0].attempts, 2);
    no_thread_is_lost(&bus);
    eventually(|| log.len() >= 2);
    linger();
    assert_eq!(log.entries(), ["hook of 1", "hook of 2"]);
    assert_eq!(attempts.entries(), ["1", "2"]);
}

#[test]
fn bf_043_a_panic_in_a_hook_is_only_its_own() {
    let (bus, log) = (serial("Bf043"), Log::new());
    bus.on({
        let log = log.clone();
        move |_: &Event<Work>| -> Result<(), WaitError> {
            for n in 0..3 {
                let log = log.clone();
                context().on_cancel(move || {
                    log.push(n);
                    assert_eq!(n, 2, "the panic of a hook");
                });
            }
            context().sleep(Duration::from_secs(3600))
        }
    });
    for round in 1..=2 {
        let event = done(&bus.emit_with(Work, capped(100)));
        assert!(is_timeout(&event.results()[0]));
        eventually(|| log.len() == 3 * round);
    }
    no_thread_is_lost(&bus);
}

#[test]
fn bf_044_hooks_of_handlers_that_return_are_silent() {
    let (bus, log) = (serial("Bf044"), Log::new());
    bus.on({
        let log = log.clone();
        move |event: &Event<Numbered>| -> Result<(), HandlerError> {
            let log = log.clone();
            context().on_cancel(move || log.push("hook"));
            match event.n {
                0 => Ok(()),
                1 => Err("an error".into()),
                _ => panic!("a panic"),
            }
        }
    });
    for n in 0..3 {
        let event = done(&bus.emit_with(Numbered { n }, capped(5000)));
        assert!(!event.cancel(), "it is complete");
    }
    bus.shutdown(Shutdown::Now, PATIENCE);
    linger();
    assert!(log.is_empty());
}

/// A hook is not a handler: it may emit, but a blocking call in it could never be right.
#[test]
fn bf_044b_a_hook_cannot_wait() {
    let (bus, log) = (serial("Bf044b"), Log::new());
    let other = bus.emit(Quick);
    bus.on({
        let log = log.clone();
        move |event: &Event<Work>| -> Result<(), WaitError> {
            let (log, bus) = (log.clone(), event.bus());
            context().on_cancel(move || {
                let waited = bus.emit(Quick).wait();
                log.push(matches!(waited, Err(WaitError::Deadlock(_)) | Ok(_)));
                log.push(matches!(bus.wait_until_idle(), Err(WaitError::Deadlock(_))));
            });
            context().sleep(Duration::from_secs(3600))
        }
    });
    done(&bus.emit_with(Work, capped(50)));
    eventually(|| log.entries() == ["true", "true"]);
    done(&other);
    no_thread_is_lost(&bus);
}

#[test]
fn bf_047_time_in_the_queue_is_not_the_handlers() {
    let modes = [
        (EventConcurrency::BusSerial, HandlerConcurrency::BusSerial),
        (EventConcurrency::Parallel, HandlerConcurrency::BusSerial),
        (EventConcurrency::Parallel, HandlerConcurrency::GlobalSerial),
        (EventConcurrency::GlobalSerial, HandlerConcurrency::EventSerial),
    ];
    let gate = Gate::new();
    let _opener = gate.opener();
    let events = modes.map(|(events, handlers)| {
        let bus = builder(&runtime(), "Bf047")
            .event_concurrency(events)
            .handler_concurrency(handlers)
            .build()
            .expect("a bus");
        let started = stubborn::<Work>(&bus, &gate);
        bus.on(|_: &Event<Quick>| {});
        let blocker = bus.emit(Work);
        started.wait();
        let quick = bus.emit_with(Quick, capped(500));
        (bus, blocker, quick)
    });
    thread::sleep(ms(750));
    assert!(events.iter().all(|(_, _, quick)| !quick.is_completed()));
    gate.open();
    for (_, blocker, quick) in &events {
        clean(blocker);
        clean(quick);
    }
}

#[test]
fn bf_155_shutdown_inside_a_handler_of_the_bus_returns() {
    for mode in [Shutdown::Drain, Shutdown::Now] {
        let (bus, log) = (serial("Bf155"), Log::new());
        bus.on({
            let log = log.clone();
            move |event: &Event<Work>| {
                event.bus().shutdown(mode, PATIENCE);
                log.push("returned");
                let refused = event.bus().emit(Quick).wait();
                // An emit from inside a handler is not refused while the bus drains.
                log.push(refused.is_err() || mode == Shutdown::Drain);
            }
        });
        let event = bus.emit(Work);
        eventually(|| event.is_completed() && log.len() == 2);
        assert_eq!(log.entries(), ["returned", "true"]);
        let refused = within(PATIENCE, move || bus.emit(Quick).wait());
        assert!(matches!(refused, Err(WaitError::Rejected(EmitError::Closed { .. }))), "{refused:?}");
    }
}

/// The late emit is refused and leaves no trace; whatever the body does then, its event is over.
#[test]
fn edge_012_a_handler_that_was_given_up_emits_nothing_more() {
    let (bus, gate, log) = (serial("Edge012"), Gate::new(), Log::new());
    let _opener = gate.opener();
    bus.on({
        let log = log.clone();
        move |_: &Event<Child>| log.push("child ran")
    });
    bus.on({
        let (gate, log) = (gate.clone(), log.clone());
        move |event: &Event<Ask>| {
            gate.wait();
            log.push(format_args!("{:?}", event.bus().try_emit(Child).map(drop).map_err(|refused| refused.error)));
            log.push(format_args!("{:?}", event.bus().emit(Child).wait().map(drop)));
            log.push(format_args!("{:?}", event.bus().wait_until_idle()));
            log.push(format_args!("{:?}", context().sleep(Duration::MAX)));
            "late".to_owned()
        }
    });
    let event = done(&bus.emit_with(Ask, capped(100)));
    let before = event.results().remove(0);
    gate.open();
    eventually(|| log.len() == 4);
    let refused = "Err(Rejected(Aborted))";
    assert_eq!(log.entries(), ["Err(Aborted)", refused, "Err(Aborted)", "Err(Aborted)"]);
    no_thread_is_lost(&bus);
    let after = event.results().remove(0);
    assert!(is_timeout(&after) && after.value.is_none() && after.completed_at == before.completed_at);
    assert!(event.children().is_empty() && bus.history().iter().all(|event| !event.is::<Child>()));
}

#[test]
fn tmo_042_a_late_result_changes_nothing() {
    for fails in [false, true] {
        let (bus, gate, log) = (serial("Tmo042"), Gate::new(), Log::new());
        let _opener = gate.opener();
        bus.on({
            let (gate, log) = (gate.clone(), log.clone());
            move |_: &Event<Ask>| -> Result<String, HandlerError> {
                gate.wait();
                log.push("returns");
                if fails { Err("late failure".into()) } else { Ok("late value".to_owned()) }
            }
        });
        let event = done(&bus.emit_with(Ask, capped(50)));
        let before = event.results().remove(0);
        assert!(is_timeout(&before));
        let completed_at = event.completed_at();
        gate.open();
        eventually(|| log.len() == 1 && bus.runtime().stats().abandoned == 0);
        let after = event.results().remove(0);
        assert!(is_timeout(&after));
        assert_eq!((after.value, after.attempts, event.errors().len()), (None, 1, 1));
        assert_eq!((after.started_at, after.completed_at), (before.started_at, before.completed_at));
        assert_eq!(event.completed_at(), completed_at);
    }
}

#[test]
fn a_wait_until_a_bus_is_idle_ends_when_its_handler_is_given_up() {
    let (bus, busy, gate) = (serial("Waits"), serial("Busy"), Gate::new());
    let _open = gate.opener();
    let stands = gate.clone();
    busy.on(move |_: &Event<Work>| stands.wait());
    busy.emit(Work);
    let (said, heard) = channel();
    bus.on(move |_: &Event<Quick>| said.send(busy.wait_until_idle()).unwrap());
    bus.emit_with(Quick, capped(50));
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(Err(WaitError::Aborted)));
}

#[test]
fn a_hook_that_comes_too_late_and_panics_ends_nothing_else() {
    let (bus, log) = (serial("Late"), Log::new());
    let (gate, to) = (Gate::new(), log.clone());
    let _open = gate.opener();
    let stands = gate.clone();
    bus.on(move |_: &Event<Quick>| {
        stands.wait();
        context().on_cancel(|| panic!("a hook's own"));
        to.push("went on");
    });
    let late = done(&bus.emit_with(Quick, capped(20)));
    assert!(is_timeout(&late.results()[0]));
    gate.open();
    eventually(|| log.count("went on") == 1);
}
