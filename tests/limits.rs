//! Conformance, section RETRY, lines about semaphores: here a `Limit` on a handler. And issue 6: lent within a call chain.

mod common;

use common::{
    Gate, Gauge, Log, PATIENCE, done, eventually, idle, limited, linger, parallel, payload, stands_with, within,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use threadbus::{
    Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerFailure, HandlerOptions, Limit,
    LimitTimeout, Payload, ResultError, Retry, Runtime, Shutdown, WaitError,
};

payload!(Work => String);
payload!(Other => String);
payload!(Inner => String);
payload!(Innermost => String);

const MS: Duration = Duration::from_millis(1);

/// A handler that is counted by `gauge`: it stays until `most` have been inside at once, and then a little longer, so that more can come.
fn measured<P: Payload<Output = String>>(bus: &EventBus, options: HandlerOptions, gauge: &Gauge, most: usize) {
    let gauge = gauge.clone();
    bus.on_with(options, move |_: &Event<P>| {
        gauge.enter();
        eventually(|| gauge.peak() >= most);
        linger();
        gauge.leave();
        "ok".to_owned()
    });
}

#[test]
fn retry_017_two_of_six_run_at_once() {
    let (bus, gauge) = (parallel("Free"), Gauge::new());
    measured::<Work>(&bus, limited(&Limit::new(2)), &gauge, 2);
    (0..6).for_each(|_| drop(bus.emit(Work)));
    idle(&bus);
    assert_eq!(gauge.peak(), 2);
}

#[test]
fn retry_018_a_place_is_handed_over() {
    let (bus, gauge, limit) = (parallel("Free"), Gauge::new(), Limit::new(1));
    let (gate, started) = stands_with::<Other>(&bus, limited(&limit), "ok".to_owned());
    measured::<Work>(&bus, limited(&limit), &gauge, 1);
    let first = bus.emit(Other);
    started.wait();
    let second = bus.emit(Work);
    gate.open();
    let third = bus.emit(Work);
    for event in [&second, &third] {
        assert_eq!(event.result().unwrap(), "ok");
    }
    done(&first);
    assert_eq!(gauge.peak(), 1);
}

#[test]
fn retry_019_strict_fails_when_no_place_comes_free() {
    let bus = parallel("Free");
    let limit = Limit::named("retry_019", 1).acquire_timeout(50 * MS);
    let (gate, started) = stands_with::<Other>(&bus, limited(&limit), "ok".to_owned());
    bus.on_with(limited(&limit).retry(Retry::attempts(3)), |_: &Event<Work>| "ran".to_owned());
    let first = bus.emit(Other);
    started.wait();
    let second = done(&bus.emit(Work));
    let Err(ResultError::Handler { failure, .. }) = second.result() else { panic!("it ran") };
    let timeout = failure.downcast_ref::<LimitTimeout>().unwrap();
    assert_eq!((timeout.name.as_deref(), timeout.max_concurrent), (Some("retry_019"), 1));
    let result = &second.results()[0];
    assert_eq!((result.attempts, result.started_at), (0, None), "its handler never started, and is not retried");
    gate.open();
    assert_eq!(first.result().unwrap(), "ok");
    assert_eq!(bus.emit(Work).result().unwrap(), "ran", "no place was lost");
}

#[test]
fn retry_020_lax_runs_without_a_place() {
    let bus = parallel("Free");
    let limit = Limit::new(1).acquire_timeout(50 * MS).lax(true);
    let (gate, started) = stands_with::<Other>(&bus, limited(&limit), "ok".to_owned());
    let calls = Arc::new(AtomicUsize::new(0));
    let of = Arc::clone(&calls);
    bus.on_with(limited(&limit).retry(Retry::attempts(2)), move |_: &Event<Work>| {
        if of.fetch_add(1, SeqCst) == 0 { Err("once") } else { Ok("anyway".to_owned()) }
    });
    let first = bus.emit(Other);
    started.wait();
    assert_eq!(bus.emit(Work).result().unwrap(), "anyway");
    assert_eq!(calls.load(SeqCst), 2);
    gate.open();
    assert_eq!(first.result().unwrap(), "ok");
}

#[test]
fn retry_025_a_place_is_held_across_attempts() {
    let (bus, gauge, calls) = (parallel("Free"), Gauge::new(), Arc::new(AtomicUsize::new(0)));
    let (inside, of) = (gauge.clone(), Arc::clone(&calls));
    let order = Log::new();
    let to = order.clone();
    let options = limited(&Limit::new(1)).retry(Retry::attempts(3).delay(10 * MS));
    bus.on_with(options, move |event: &Event<Work>| {
        inside.enter();
        to.push(event.id());
        linger();
        inside.leave();
        if of.fetch_add(1, SeqCst) % 2 == 0 { Err("odd") } else { Ok("ok".to_owned()) }
    });
    let events: Vec<_> = (0..3).map(|_| bus.emit(Work)).collect();
    assert!(events.iter().all(|event| event.result().is_ok()));
    assert_eq!((gauge.peak(), calls.load(SeqCst)), (1, 6));
    let order = order.entries();
    assert!(order.chunks(2).all(|pair| pair[0] == pair[1]), "nobody came in between two attempts: {order:?}");
}

#[test]
fn retry_026_a_place_is_free_after_all_attempts_failed() {
    let bus = parallel("Free");
    bus.on_with(limited(&Limit::new(1)).retry(Retry::attempts(2)), |_: &Event<Work>| -> Result<String, &'static str> {
        Err("always")
    });
    for _ in 0..3 {
        assert!(matches!(done(&bus.emit(Work)).result(), Err(ResultError::Handler { .. })));
    }
}

/// `outer` waits for `Inner`, under whatever limits.
fn chain(bus: &EventBus, outer: HandlerOptions, inner: HandlerOptions, gauge: &Gauge) {
    bus.on_with(outer, |work: &Event<Work>| work.bus().emit(Inner).result());
    measured::<Inner>(bus, inner, gauge, 1);
}

#[test]
fn retry_027_an_inner_call_under_the_same_name_returns() {
    for bus in [parallel("Free"), EventBus::new("Serial")] {
        within(PATIENCE, move || {
            let options = || limited(&Limit::named("retry_027", 1));
            chain(&bus, options(), options(), &Gauge::new());
            assert_eq!(bus.emit(Work).result().unwrap(), "ok");
            idle(&bus);
        });
    }
}

#[test]
fn retry_029_different_names_are_different_limits() {
    within(PATIENCE, || {
        let (bus, gauge) = (parallel("Free"), Gauge::new());
        chain(&bus, limited(&Limit::new(2)), limited(&Limit::new(1)), &gauge);
        let events: Vec<_> = (0..3).map(|_| bus.emit(Work)).collect();
        assert!(events.iter().all(|event| event.result().unwrap() == "ok"));
        assert_eq!(gauge.peak(), 1);
    });
}

#[test]
fn retry_030_three_levels_on_one_limit() {
    within(PATIENCE, || {
        let (bus, limit) = (parallel("Free"), Limit::new(1));
        bus.on_with(limited(&limit), |work: &Event<Work>| {
            work.bus().emit(Inner).result().map(|below| format!("level1>{below}"))
        });
        bus.on_with(limited(&limit), |inner: &Event<Inner>| {
            inner.bus().emit(Innermost).result().map(|below| format!("level2>{below}"))
        });
        bus.on_with(limited(&limit), |_: &Event<Innermost>| "level3".to_owned());
        let events: Vec<_> = (0..4).map(|_| bus.emit(Work)).collect();
        for event in events {
            assert_eq!(event.result().unwrap(), "level1>level2>level3");
        }
    });
}

#[test]
fn retry_034_two_at_once_in_their_order() {
    let (bus, log) = (parallel("Free"), Log::new());
    let (gate, to) = (Gate::new(), log.clone());
    let closed = gate.clone();
    bus.on_with(limited(&Limit::new(2)), move |work: &Event<Work>| {
        to.push(work.correlation_id());
        closed.wait();
        String::new()
    });
    for n in 0..4 {
        bus.emit_with(Work, EventOptions::new().correlation_id(n.to_string()));
        eventually(|| log.len() == (n + 1).min(2));
    }
    linger();
    assert_eq!(log.len(), 2);
    gate.open();
    idle(&bus);
    assert_eq!(log.entries()[..2], ["0", "1"]);
    assert_eq!(log.len(), 4);
}

#[test]
fn retry_042_one_limit_for_all_or_one_each() {
    let run = |limits: [&Limit; 2]| {
        let (bus, gauge) = (parallel("Free"), Gauge::new());
        let both = Arc::new(std::sync::Barrier::new(2));
        for limit in limits {
            let (inside, both, apart) = (gauge.clone(), Arc::clone(&both), !std::ptr::eq(limits[0], limits[1]));
            bus.on_with(limited(limit), move |_: &Event<Work>| {
                inside.enter();
                if apart {
                    both.wait();
                }
                linger();
                inside.leave();
                String::new()
            });
        }
        within(PATIENCE, move || done(&bus.emit(Work)));
        gauge.peak()
    };
    let (one, other) = (Limit::new(1), Limit::new(1));
    assert_eq!(run([&one, &one]), 1);
    assert_eq!(run([&one, &other]), 2);
}

#[test]
fn retry_043_four_parallel_handlers_share_two_places() {
    let (bus, gauge) = (parallel("Free"), Gauge::new());
    for _ in 0..4 {
        measured::<Work>(&bus, limited(&Limit::named("retry_043", 2)), &gauge, 2);
    }
    let event = done(&bus.emit(Work));
    assert_eq!(gauge.peak(), 2);
    assert!(event.results().iter().all(|result| result.started_at.is_some() && result.completed_at.is_some()));
}

#[test]
fn a_name_is_shared_by_buses_of_one_runtime_and_by_no_other() {
    let bus_in = |runtime: &Runtime| {
        let builder = EventBus::builder("Runtimes").runtime(runtime);
        builder.event_concurrency(EventConcurrency::Parallel).build().unwrap()
    };
    let (one, other) = (Runtime::builder().build().unwrap(), Runtime::builder().build().unwrap());
    let options = |max| limited(&Limit::named("shared", max));
    let (a, b, elsewhere) = (bus_in(&one), bus_in(&one), bus_in(&other));
    let (gate, started) = stands_with::<Work>(&a, options(1), "ok".to_owned());
    let _open = gate.opener();
    // The first maximum stands.
    b.on_with(options(5), |_: &Event<Work>| "b".to_owned());
    elsewhere.on_with(options(1), |_: &Event<Work>| "elsewhere".to_owned());
    let first = a.emit(Work);
    started.wait();
    let second = b.emit(Work);
    assert_eq!(elsewhere.emit(Work).result().unwrap(), "elsewhere");
    assert!(!second.is_completed());
    gate.open();
    assert_eq!((first.result().unwrap(), second.result().unwrap()), ("ok".to_owned(), "b".to_owned()));
}

#[test]
fn waiting_for_a_place_occupies_no_thread() {
    within(PATIENCE, || {
        let runtime = Runtime::builder().max_threads(2).hard_limit(2).build().unwrap();
        let bus = EventBus::builder("Threads")
            .runtime(&runtime)
            .event_concurrency(EventConcurrency::Parallel)
            .handler_concurrency(HandlerConcurrency::Parallel)
            .build()
            .unwrap();
        let limit = Limit::new(1);
        let (gate, started) = stands_with::<Work>(&bus, limited(&limit), "ok".to_owned());
        let _open = gate.opener();
        bus.on(|_: &Event<Other>| "free".to_owned());
        (0..20).for_each(|_| drop(bus.emit(Work)));
        started.wait();
        assert_eq!(bus.emit(Other).result().unwrap(), "free");
        gate.open();
        idle(&bus);
    });
}

#[test]
fn a_holder_that_waits_for_a_bus_behind_the_limit_is_let_through() {
    // On the serial bus the event at the head of the queue waits for the place that a handler elsewhere holds, while that handler
    // waits for an event further back.
    within(PATIENCE, || {
        let (serial, elsewhere, limit) = (EventBus::new("Serial"), parallel("Free"), Limit::new(1));
        let blocked = serial.clone();
        serial.on_with(limited(&limit), |_: &Event<Other>| "head".to_owned());
        serial.on(|_: &Event<Inner>| "behind".to_owned());
        let (gate, started) = (Gate::new(), Gate::new());
        let (closed, at_it) = (gate.clone(), started.clone());
        elsewhere.on_with(limited(&limit), move |_: &Event<Work>| {
            at_it.open();
            closed.wait();
            blocked.emit(Inner).result()
        });
        let holder = elsewhere.emit(Work);
        started.wait();
        let head = serial.emit(Other);
        eventually(|| serial.pending() == 0);
        gate.open();
        assert_eq!((holder.result().unwrap(), head.result().unwrap()), ("behind".to_owned(), "head".to_owned()));
    });
}

#[test]
fn what_already_stands_in_line_is_lent_the_place_of_who_waits_for_it() {
    within(PATIENCE, || {
        let (bus, limit) = (parallel("Free"), Limit::new(1));
        bus.on_with(limited(&limit), |_: &Event<Inner>| "inner".to_owned());
        bus.on_with(limited(&limit), move |work: &Event<Work>| -> Result<String, ResultError> {
            let inner = work.bus().emit(Inner);
            // Its runner finds the place taken, and puts it in line.
            eventually(|| work.bus().pending() == 0);
            linger();
            inner.result()
        });
        assert_eq!(bus.emit(Work).result().unwrap(), "inner");
        idle(&bus);
    });
}

#[test]
fn a_place_is_lent_to_one_at_a_time() {
    within(PATIENCE, || {
        let (bus, limit, gauge) = (parallel("Free"), Limit::new(1), Gauge::new());
        measured::<Inner>(&bus, limited(&limit), &gauge, 1);
        measured::<Inner>(&bus, limited(&limit), &gauge, 1);
        bus.on_with(limited(&limit), |work: &Event<Work>| work.bus().emit(Inner).result_list().map(|all| all.concat()));
        assert_eq!(bus.emit(Work).result().unwrap(), "okok");
        assert_eq!(gauge.peak(), 1);
    });
}

#[test]
fn whatever_ends_an_invocation_gives_its_place_back() {
    within(2 * PATIENCE, || {
        let bus = parallel("Free");
        let limit = Limit::new(1);
        let (gate, _) = stands_with::<Work>(&bus, limited(&limit), "ok".to_owned());
        let _open = gate.opener();
        bus.on_with(limited(&limit), |_: &Event<Other>| "free".to_owned());
        let is_free = || bus.emit(Other).result().is_ok_and(|value| value == "free");
        // Its own timeout, the event's, and a cancellation: while it runs, and while it stands in line.
        done(&bus.emit_with(Work, EventOptions::new().handler_timeout(30 * MS)));
        assert!(is_free());
        done(&bus.emit_with(Work, EventOptions::new().timeout(30 * MS)));
        assert!(is_free());
        let running = bus.emit(Work);
        eventually(|| running.started_at().is_some());
        let waiting = bus.emit(Other);
        let capped = bus.emit_with(Other, EventOptions::new().timeout(30 * MS));
        assert_eq!(capped.wait_timeout(PATIENCE).unwrap_err(), WaitError::Cancelled);
        assert!(matches!(&*capped.errors()[0], HandlerFailure::Cancelled { .. }), "{:?}", capped.errors());
        eventually(|| bus.pending() == 0);
        waiting.cancel();
        assert_eq!(waiting.wait().unwrap_err(), WaitError::Cancelled);
        running.cancel();
        assert!(is_free());
        let in_delay =
            bus.emit_with(Work, EventOptions::new().handler_timeout(20 * MS).retry(Retry::attempts(2).delay(PATIENCE)));
        eventually(|| bus.runtime().stats().abandoned > 0 && in_delay.started_at().is_some());
        in_delay.cancel();
        assert!(is_free());
    });
}

#[test]
fn a_shutdown_leaves_nobody_in_line() {
    let runtime = Runtime::builder().build().unwrap();
    let bus =
        EventBus::builder("Shut").runtime(&runtime).event_concurrency(EventConcurrency::Parallel).build().unwrap();
    let other = EventBus::builder("Goes on").runtime(&runtime).build().unwrap();
    let options = || limited(&Limit::named("shut", 1));
    let (gate, started) = stands_with::<Work>(&bus, options(), "ok".to_owned());
    let _open = gate.opener();
    other.on_with(options(), |_: &Event<Other>| "free".to_owned());
    let events: Vec<_> = (0..5).map(|_| bus.emit(Work)).collect();
    started.wait();
    bus.shutdown(Shutdown::Now, 50 * MS);
    assert!(events.iter().all(|event| event.is_completed()));
    assert_eq!(other.emit(Other).result().unwrap(), "free");
}

#[test]
fn a_waiter_that_gives_up_gets_its_place_back_first() {
    within(PATIENCE, || {
        let (bus, limit, gauge) = (parallel("Free"), Limit::new(1), Gauge::new());
        let (gate, started) = (Gate::new(), Gate::new());
        let (closed, at_it, inside) = (gate.clone(), started.clone(), gauge.clone());
        bus.on_with(limited(&limit), move |_: &Event<Inner>| {
            inside.enter();
            at_it.open();
            closed.wait();
            inside.leave();
            String::new()
        });
        let inside = gauge.clone();
        bus.on_with(limited(&limit), move |work: &Event<Work>| {
            let gave_up = work.bus().emit(Inner).wait_timeout(30 * MS);
            inside.enter();
            linger();
            inside.leave();
            format!("{}", gave_up.is_err())
        });
        let event = bus.emit(Work);
        started.wait();
        assert!(event.wait_timeout(100 * MS).is_err(), "what it lent is not back");
        gate.open();
        done(&event);
        idle(&bus);
        assert_eq!(gauge.peak(), 1);
    });
}
