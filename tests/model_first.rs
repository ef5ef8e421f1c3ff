//! `first()` whenever it is asked, under shuttle: before the event starts, while its handlers run, after the first value, when all is over, by
//! several threads at once. It gives up what is left, always.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_first`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::sync::mpsc::channel;
use shuttle::thread;
use std::time::Duration;
use threadbus::*;

fn racing(runtime: &Runtime, name: &str, concurrency: HandlerConcurrency) -> EventBus {
    EventBus::builder(name).runtime(runtime).handler_concurrency(concurrency).build().unwrap()
}

/// A handler that stays until it is given up; if nobody does that, it is a deadlock.
fn blocks() {
    let (gives_up, given_up) = channel();
    HandlerContext::current().unwrap().on_cancel(move || drop(gives_up.send(())));
    drop(given_up.recv());
}

/// How many handlers of the event have a value; all have ended.
#[track_caller]
fn values(event: &Event<Job>) -> usize {
    settled(event);
    let results = event.results();
    assert!(results.iter().all(|result| matches!(result.status, ResultStatus::Completed | ResultStatus::Error)));
    results.iter().filter(|result| result.value.is_some()).count()
}

/// One that never returns on its own is left when the value comes, or was left when somebody asks.
#[test]
fn what_runs_beside_the_value_is_given_up() {
    check(|| {
        let runtime = runtime();
        let bus = racing(&runtime, "a", HandlerConcurrency::Parallel);
        bus.on(|job: &Event<Job>| {
            blocks();
            job.0
        });
        bus.on(|job: &Event<Job>| job.0 + 1);
        let event = bus.emit(Job(1));
        assert_eq!(event.first().unwrap(), Some(2));
        event.wait().unwrap();
        assert_eq!(values(&event), 1);
        at_rest(&bus);
        until(|| runtime.stats().abandoned == 0);
    });
}

/// The value is there for certain, and nobody but the caller can end the rest.
#[test]
fn what_is_left_after_the_value_is_given_up_by_the_caller() {
    check(|| {
        let runtime = runtime();
        let bus = racing(&runtime, "a", HandlerConcurrency::Parallel);
        bus.on(|job: &Event<Job>| {
            stay();
            job.0
        });
        bus.on(|job: &Event<Job>| job.0 + 1);
        let event = bus.emit(Job(1));
        until(|| event.results().iter().any(|result| result.value.is_some()));
        assert_eq!(event.first().unwrap(), Some(2));
        event.wait().unwrap();
        assert_eq!(values(&event), 1);
        at_rest(&bus);
    });
}

/// One after another: the line behind the value ends, whether its next one has started or not.
#[test]
fn what_stands_in_line_behind_the_value_is_given_up() {
    check(|| {
        let runtime = runtime();
        let bus = racing(&runtime, "a", HandlerConcurrency::EventSerial);
        bus.on(|_: &Event<Job>| -> Option<u32> { None });
        bus.on(|job: &Event<Job>| job.0);
        for _ in 0..2 {
            bus.on(|job: &Event<Job>| {
                stay();
                job.0 + 1
            });
        }
        let event = bus.emit(Job(1));
        assert_eq!(event.first().unwrap(), Some(1));
        event.wait().unwrap();
        assert_eq!(values(&event), 1);
        assert_eq!(bus.emit_with(Child(2), free()).wait().unwrap().results().len(), 0);
        at_rest(&bus);
    });
}

/// Each bus has its own first value; a retry that waits for its time is left, too.
#[test]
fn on_each_of_its_buses_and_between_two_attempts() {
    check(|| {
        let runtime = runtime();
        let (a, b) =
            (racing(&runtime, "a", HandlerConcurrency::Parallel), racing(&runtime, "b", HandlerConcurrency::Parallel));
        let later = HandlerOptions::new().retry(Retry::attempts(2).delay(Duration::from_secs(3600)));
        for bus in [&a, &b] {
            bus.on_with(later.clone(), |_: &Event<Job>| -> Result<u32, HandlerError> { Err("again".into()) });
            bus.on(|job: &Event<Job>| job.0);
            bus.on(|job: &Event<Job>| {
                stay();
                job.0 + 1
            });
        }
        a.forward_to::<Job>(&b);
        let event = a.emit(Job(1));
        assert_eq!(event.first().unwrap(), Some(1));
        event.wait().unwrap();
        // The forward itself may have been left.
        let buses = event.path().len();
        assert!(values(&event) <= buses && values(&event) > 0, "{:?}", event.results());
        at_rest(&a);
        at_rest(&b);
    });
}

/// They get one value, and it stays.
#[test]
fn several_callers_and_a_cancel() {
    check(|| {
        let runtime = runtime();
        let bus = racing(&runtime, "a", HandlerConcurrency::Parallel);
        for n in 0..2 {
            bus.on(move |job: &Event<Job>| job.0 + n);
        }
        let event = bus.emit(Job(1));
        let asks = |event: &Event<Job>| {
            let event = event.clone();
            thread::spawn(move || event.first().ok().flatten())
        };
        let callers = [asks(&event), asks(&event)];
        let cancels = {
            let event = event.clone();
            thread::spawn(move || event.cancel())
        };
        let found: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        cancels.join().unwrap();
        let values = values(&event);
        let said: Vec<_> = found.iter().flatten().collect();
        assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "{found:?}");
        assert!(said.is_empty() || values > 0, "{found:?}");
        assert_eq!(values == 0, event.first().ok().flatten().is_none());
        at_rest(&bus);
    });
}

/// From a handler, for a child that has begun on another thread or runs on this one.
#[test]
fn by_a_handler_that_waits_for_its_child() {
    check(|| {
        let runtime = runtime();
        let bus = racing(&runtime, "a", HandlerConcurrency::Parallel);
        bus.on(|job: &Event<Job>| {
            stay();
            job.0
        });
        bus.on(|job: &Event<Job>| job.0 + 1);
        bus.on(|child: &Event<Child>| -> Result<u32, HandlerError> {
            let job = child.bus().emit_with(Job(child.0), free());
            thread::yield_now();
            Ok(job.first()?.unwrap_or(0))
        });
        assert_eq!(bus.emit(Child(6)).result().unwrap(), 7);
        at_rest(&bus);
    });
}
