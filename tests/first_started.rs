//! `first()` of an event that has started: it gives up what is left, however far the event is.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, payload, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use threadbus::{
    CauseKind, Event, EventBus, EventConcurrency, EventStatus, HandlerConcurrency, HandlerContext, HandlerError,
    HandlerFailure, HandlerOptions, Limit, ResultStatus, Retry,
};

payload!(Ask => &'static str);
payload!(Sub => ());
payload!(Outer => &'static str);

const LONG: Duration = Duration::from_secs(3600);

fn bus(name: &str, handlers: HandlerConcurrency) -> EventBus {
    let builder = EventBus::builder(name).event_concurrency(EventConcurrency::Parallel);
    builder.handler_concurrency(handlers).build().expect("a bus")
}

fn parallel(name: &str) -> EventBus {
    bus(name, HandlerConcurrency::Parallel)
}

/// Cooperates, and would sleep for an hour. The gate opens when it runs.
fn sleeper() -> (Gate, impl Fn(&Event<Ask>) -> Result<&'static str, HandlerError>) {
    let started = Gate::new();
    let at_work = started.clone();
    (started, move |_: &Event<Ask>| {
        at_work.open();
        HandlerContext::current().ok_or("outside")?.sleep(LONG)?;
        Ok("slow")
    })
}

#[track_caller]
fn first<P: threadbus::Payload<Output = &'static str>>(event: &Event<P>) -> Option<&'static str> {
    let event = event.clone();
    within(PATIENCE, move || event.first()).expect("a winner")
}

#[track_caller]
fn lost(event: &Event<Ask>, at: usize) {
    let result = &event.results()[at];
    let kind = match result.error.as_deref() {
        Some(HandlerFailure::Aborted { cause } | HandlerFailure::Cancelled { cause }) => Some(cause.kind),
        _ => None,
    };
    assert_eq!((result.status, kind), (ResultStatus::Error, Some(CauseKind::LostFirst)), "{result:?}");
}

/// The value is there before anybody asks, and nobody but the caller can end the rest.
#[test]
fn a_value_that_was_there_before() {
    for handlers in [HandlerConcurrency::Parallel, HandlerConcurrency::BusSerial] {
        let bus = bus("Before", handlers);
        bus.on(|_: &Event<Ask>| "quick");
        let (started, slow) = sleeper();
        bus.on(slow);
        bus.on(sleeper().1);
        let event = bus.emit(Ask);
        started.wait();
        eventually(|| event.results()[0].value.is_some());
        assert_eq!(first(&event), Some("quick"), "{handlers:?}");
        (1..3).for_each(|at| lost(&done(&event), at));
        // Its permits are free again.
        let quick = bus.emit(Sub);
        done(&quick);
        idle(&bus);
    }
}

#[test]
fn it_is_ended_when_first_returns() {
    for _ in 0..50 {
        let bus = parallel("Ended");
        bus.on(|_: &Event<Ask>| "quick");
        bus.on(sleeper().1);
        let event = bus.emit(Ask);
        assert_eq!(first(&event), Some("quick"));
        assert!(
            event.results().iter().all(|result| matches!(result.status, ResultStatus::Completed | ResultStatus::Error))
        );
        assert_eq!(done(&event).status(), EventStatus::Completed);
    }
}

/// The example of the README, in a race with the bus: whoever is faster, no slow one comes to its end.
#[test]
fn whoever_is_faster_no_slow_one_comes_to_its_end() {
    for handlers in [HandlerConcurrency::Parallel, HandlerConcurrency::BusSerial] {
        let bus = bus("Readme", handlers);
        bus.on(|_: &Event<Ask>| "quick");
        let ended = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ended);
        let (_, slow) = sleeper();
        bus.on(move |ask: &Event<Ask>| slow(ask).inspect(|_| _ = count.fetch_add(1, SeqCst)));
        for n in 0..200 {
            let event = bus.emit(Ask);
            if n % 2 == 0 {
                eventually(|| event.status() != EventStatus::Pending);
            }
            assert_eq!(first(&event), Some("quick"));
        }
        idle(&bus);
        assert_eq!(ended.load(SeqCst), 0);
    }
}

#[test]
fn several_callers_get_one_winner() {
    let bus = parallel("Callers");
    let go = Gate::new();
    let (started, slow) = sleeper();
    bus.on(slow);
    let gate = go.clone();
    bus.on(move |_: &Event<Ask>| {
        gate.wait();
        "quick"
    });
    let event = bus.emit(Ask);
    started.wait();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let event = event.clone();
            std::thread::spawn(move || event.first().unwrap())
        })
        .collect();
    go.open();
    assert!(within(PATIENCE, move || callers.into_iter().all(|caller| caller.join().unwrap() == Some("quick"))));
    lost(&done(&event), 0);
}

#[test]
fn several_values_that_were_there_stay() {
    let bus = parallel("Several");
    bus.on(|_: &Event<Ask>| "one");
    bus.on(|_: &Event<Ask>| "two");
    let (started, slow) = sleeper();
    bus.on(slow);
    let event = bus.emit(Ask);
    started.wait();
    eventually(|| event.results()[..2].iter().all(|result| result.value.is_some()));
    assert!(first(&event).is_some());
    let results = done(&event).results();
    assert_eq!((results[0].value, results[1].value), (Some("one"), Some("two")));
    lost(&event, 2);
}

/// What is left may be between two attempts, in line for a limit, or wait for a child.
#[test]
fn what_is_left_may_be_anywhere() {
    let bus = parallel("Anywhere");
    let limit = Limit::new(1);
    bus.on(|_: &Event<Ask>| "quick");
    let delayed = HandlerOptions::new().retry(Retry::attempts(2).delay(LONG));
    bus.on_with(delayed, |_: &Event<Ask>| Err::<&'static str, _>("once"));
    let (started, slow) = sleeper();
    // One of them runs, the other one stands in line.
    let slow = Arc::new(slow);
    for _ in 0..2 {
        let slow = Arc::clone(&slow);
        bus.on_with(HandlerOptions::new().limit(limit.clone()), move |ask: &Event<Ask>| slow(ask));
    }
    let below = Gate::new();
    let at_work = below.clone();
    bus.on(move |_: &Event<Sub>| -> Result<(), HandlerError> {
        at_work.open();
        Ok(HandlerContext::current().ok_or("outside")?.sleep(LONG)?)
    });
    bus.on(|ask: &Event<Ask>| -> Result<&'static str, HandlerError> {
        ask.bus().emit(Sub).wait()?;
        Ok("never")
    });
    let event = bus.emit(Ask);
    started.wait();
    below.wait();
    eventually(|| event.results()[0].value.is_some());
    assert_eq!(first(&event), Some("quick"));
    let event = done(&event);
    assert_eq!(event.results().iter().filter(|result| result.value.is_some()).count(), 1);
    (2..5).for_each(|at| lost(&event, at));
    idle(&bus);
    // The place under the limit is free.
    bus.on_with(HandlerOptions::new().limit(limit), |_: &Event<Outer>| "free");
    assert_eq!(first(&bus.emit(Outer)), Some("free"));
}

#[test]
fn from_a_handler_of_another_event() {
    let bus = parallel("Inside");
    bus.on(|_: &Event<Ask>| "quick");
    let (started, slow) = sleeper();
    bus.on(slow);
    let seen = started.clone();
    bus.on(move |outer: &Event<Outer>| -> Result<&'static str, HandlerError> {
        let ask = outer.bus().emit(Ask);
        seen.wait();
        Ok(ask.first()?.unwrap_or("none"))
    });
    let outer = bus.emit(Outer);
    assert_eq!(first(&outer), Some("quick"));
    done(&outer);
    idle(&bus);
}

/// It runs on the stack of a handler that waits for all of it, and goes on when that is over.
#[test]
fn of_an_event_that_another_handler_waits_for() {
    for handlers in [HandlerConcurrency::Parallel, HandlerConcurrency::BusSerial] {
        let bus = EventBus::builder("Waited").handler_concurrency(handlers).build().expect("a bus");
        bus.on(|_: &Event<Ask>| "quick");
        let (started, slow) = sleeper();
        bus.on(slow);
        bus.on(sleeper().1);
        let (tell, told) = std::sync::mpsc::channel();
        bus.on(move |outer: &Event<Outer>| -> Result<&'static str, HandlerError> {
            let ask = outer.bus().emit(Ask);
            tell.send(ask.clone()).map_err(|_| "nobody listens")?;
            Ok(ask.wait()?.results()[0].value.unwrap_or("none"))
        });
        let outer = bus.emit(Outer);
        let ask = told.recv_timeout(PATIENCE).unwrap();
        started.wait();
        assert_eq!(first(&ask), Some("quick"), "{handlers:?}");
        assert_eq!(done(&outer).result().unwrap(), "quick");
        (1..3).for_each(|at| lost(&ask, at));
        idle(&bus);
        done(&bus.emit(Sub));
    }
}

#[test]
fn if_none_has_a_value_it_waits_for_all() {
    let log = Log::new();
    let bus = parallel("None");
    let go = Gate::new();
    let (gate, entries, started) = (go.clone(), log.clone(), Gate::new());
    let at_work = started.clone();
    bus.on(|_: &Event<Ask>| Err::<&'static str, _>("failed"));
    bus.on(move |_: &Event<Ask>| {
        at_work.open();
        gate.wait();
        entries.push("ended");
        None::<&'static str>
    });
    let event = bus.emit(Ask);
    started.wait();
    let waiting = event.clone();
    let waiter = std::thread::spawn(move || waiting.first());
    go.open();
    assert!(within(PATIENCE, move || waiter.join().unwrap()).is_err());
    assert_eq!(log.entries(), ["ended"]);
    done(&event);
}
