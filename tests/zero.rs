//! Times of zero, one rule: a wait looks once, a limit is up at once. And types that cannot say what they are called.

#[macro_use]
mod common;

use common::{Gate, PATIENCE, eventually, idle, warnings_naming, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use threadbus::*;

payload!(Job => u32);
payload!(Other);

const NOTHING: Duration = Duration::ZERO;

const MODES: [EventConcurrency; 3] =
    [EventConcurrency::BusSerial, EventConcurrency::Parallel, EventConcurrency::GlobalSerial];
const HANDLERS: [HandlerConcurrency; 4] = [
    HandlerConcurrency::EventSerial,
    HandlerConcurrency::BusSerial,
    HandlerConcurrency::GlobalSerial,
    HandlerConcurrency::Parallel,
];

fn build(events: EventConcurrency, handlers: HandlerConcurrency) -> EventBus {
    EventBus::builder("zero").event_concurrency(events).handler_concurrency(handlers).build().unwrap()
}

fn is_up(failure: &HandlerFailure) -> bool {
    matches!(failure, HandlerFailure::TimedOut { after: NOTHING, detail: None, .. })
}

/// Of a handler, by any of the options that set it.
#[test]
fn a_handler_without_time_is_not_called_and_its_filter_asked_once_for_each_retry() {
    for events in MODES {
        for handlers in HANDLERS {
            for attempts in [1, 3] {
                within(PATIENCE, move || {
                    for by in ["handler", "event", "bus"] {
                        let bus = match by {
                            "bus" => {
                                let builder = EventBus::builder("zero").handler_timeout(Some(NOTHING));
                                builder.event_concurrency(events).handler_concurrency(handlers).build().unwrap()
                            }
                            _ => build(events, handlers),
                        };
                        let (called, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
                        let (calls, asks) = (Arc::clone(&called), Arc::clone(&asked));
                        let retry = Retry::attempts(attempts).only_if(move |failure| {
                            assert!(is_up(failure));
                            asks.fetch_add(1, Ordering::SeqCst);
                            true
                        });
                        let options = HandlerOptions::new().retry(retry);
                        let options = if by == "handler" { options.timeout(NOTHING) } else { options };
                        bus.on_with(options, move |_: &Event<Job>| {
                            calls.fetch_add(1, Ordering::SeqCst);
                            1
                        });
                        let own = EventOptions::new();
                        let own = if by == "event" { own.handler_timeout(NOTHING) } else { own };
                        let jobs: Vec<_> = (0..5).map(|_| bus.emit_with(Job, own.clone())).collect();
                        for job in &jobs {
                            job.wait().unwrap();
                            let result = job.results().remove(0);
                            assert!(is_up(result.error.as_deref().unwrap()), "{by} {events:?} {handlers:?} {result:?}");
                            assert_eq!(result.attempts, attempts, "{by} {events:?} {handlers:?}");
                        }
                        idle(&bus);
                        let asked = asked.load(Ordering::SeqCst);
                        assert_eq!((called.load(Ordering::SeqCst), asked), (0, 5 * (attempts as usize - 1)), "{by}");
                        let (failed, timeouts) = (bus.metrics().failed, bus.metrics().timed_out);
                        assert_eq!((failed, timeouts), (5, 5), "{by} {events:?} {handlers:?}");
                        assert_eq!(bus.runtime().stats().abandoned, 0);
                    }
                });
            }
        }
    }
}

#[test]
fn an_event_without_time_calls_no_handler() {
    for events in MODES {
        for handlers in HANDLERS {
            within(PATIENCE, move || {
                for nested in [false, true] {
                    let bus = build(events, handlers);
                    let called = Arc::new(AtomicUsize::new(0));
                    for _ in 0..3 {
                        let calls = Arc::clone(&called);
                        let options = HandlerOptions::new().retry(Retry::attempts(3)).limit(Limit::new(1));
                        bus.on_with(options, move |_: &Event<Job>| {
                            calls.fetch_add(1, Ordering::SeqCst);
                            1
                        });
                    }
                    bus.on(move |other: &Event<Other>| {
                        other.bus().emit_with(Job, EventOptions::new().timeout(NOTHING)).wait().map(drop)
                    });
                    let job = if nested {
                        let other = bus.emit(Other).wait().unwrap();
                        assert!(other.errors().is_empty(), "{:?}", other.errors());
                        other.children()[0].downcast::<Job>().unwrap()
                    } else {
                        bus.emit_with(Job, EventOptions::new().timeout(NOTHING)).wait().unwrap()
                    };
                    let errors = job.errors();
                    assert!(errors.len() == 3 && errors.iter().all(|e| is_up(e)), "{events:?} {handlers:?} {errors:?}");
                    assert_eq!(called.load(Ordering::SeqCst), 0, "{events:?} {handlers:?}");
                    idle(&bus);
                    // Its turn, its permits and its places are free.
                    assert_eq!(bus.emit(Job).result_list().unwrap().len(), 3);
                }
            });
        }
    }
}

#[test]
fn an_acquire_time_of_zero_stands_in_no_line() {
    within(PATIENCE, || {
        let bus = build(EventConcurrency::Parallel, HandlerConcurrency::Parallel);
        let (entered, go) = (Gate::new(), Gate::new());
        let (inside, gone) = (entered.clone(), go.clone());
        let limit = Limit::new(1).acquire_timeout(NOTHING);
        bus.on_with(HandlerOptions::new().limit(limit), move |_: &Event<Job>| {
            inside.open();
            gone.wait();
            1
        });
        let first = bus.emit(Job);
        entered.wait();
        let second = bus.emit(Job).wait().unwrap();
        assert!(second.errors()[0].downcast_ref::<LimitTimeout>().is_some(), "{:?}", second.errors());
        go.open();
        assert_eq!(first.result().unwrap(), 1, "where there is a place, it is had without waiting");
    });
}

#[test]
fn a_wait_of_zero_looks_once() {
    within(PATIENCE, || {
        let bus = build(EventConcurrency::BusSerial, HandlerConcurrency::EventSerial);
        let (entered, go) = (Gate::new(), Gate::new());
        let (inside, gone) = (entered.clone(), go.clone());
        bus.on(move |_: &Event<Job>| {
            inside.open();
            gone.wait();
            1
        });
        let mut jobs = bus.subscribe::<Job>();
        let (job, batch) = (bus.emit(Job), bus.batch());
        entered.wait();
        assert!(jobs.recv_timeout(NOTHING).is_ok(), "it is there");
        assert_eq!(jobs.recv_timeout(NOTHING).err(), Some(RecvError::Timeout));
        assert_eq!(job.wait_timeout(NOTHING).err(), Some(WaitError::Timeout(NOTHING)));
        assert_eq!(bus.wait_until_idle_timeout(NOTHING).err(), Some(WaitError::Timeout(NOTHING)));
        assert!(bus.find::<Job>().future(NOTHING).first().is_some(), "it is there");
        assert!(bus.find::<Other>().future(NOTHING).first().is_none());
        let queued = batch.emit(Other);
        assert_eq!(batch.wait_timeout(NOTHING).err(), Some(WaitError::Timeout(NOTHING)));
        go.open();
        job.wait().unwrap();
        queued.wait().unwrap();
        assert!(job.wait_timeout(NOTHING).is_ok() && bus.wait_until_idle_timeout(PATIENCE).is_ok());
        assert!(batch.wait_timeout(PATIENCE).is_ok() && batch.wait_timeout(NOTHING).is_ok());
        assert!(bus.wait_until_idle_timeout(NOTHING).is_ok());
        let full = EventBus::builder("full").queue_capacity(1, OnFull::BlockFor(NOTHING)).build().unwrap();
        full.pause();
        full.emit(Other);
        assert!(matches!(full.emit(Other).wait(), Err(WaitError::Rejected(EmitError::QueueFull { .. }))));
        let manual = EventBus::builder("manual").manual().build().unwrap();
        manual.on(|_: &Event<Other>| {});
        manual.emit(Other);
        assert_eq!((manual.run_pending_for(NOTHING), manual.pending()), (0, 1), "a budget of nothing starts nothing");
        assert_eq!(manual.run_pending(), 1);
    });
}

struct Rude;
impl Payload for Rude {
    type Output = u32;
    fn event_type() -> &'static str {
        panic!("what a name")
    }
    fn version() -> &'static str {
        panic!("what a version")
    }
    fn options() -> EventOptions {
        panic!("what options")
    }
}

#[test]
fn a_type_that_cannot_say_its_name_is_called_by_that_of_its_type() {
    within(PATIENCE, || {
        let errors = warnings_naming("zero::Rude");
        let bus = EventBus::builder("rude").dead_letters(10).build().unwrap();
        let info = bus.on(|_: &Event<Rude>| 7);
        let mut seen = bus.subscribe::<Rude>();
        let other = EventBus::new("other");
        bus.forward_to::<Rude>(&other);
        let rude = bus.emit(Rude);
        assert_eq!(rude.result().unwrap(), 7);
        assert!(bus.try_emit(Rude).is_ok() && bus.emit_now(Rude).wait().is_ok());
        assert!(rude.to_string().starts_with("zero::Rude#") && info.pattern() == "zero::Rude", "{rude} {info:?}");
        assert!(seen.recv_timeout(PATIENCE).is_ok());
        assert!(bus.find::<Rude>().first().is_some() && bus.has_handler::<Rude>());
        assert!(!rude.log_tree().is_empty() && rude.to_json().is_err());
        bus.emit_after(Duration::from_millis(1), Rude);
        assert_eq!(bus.off_all::<Rude>(), 2);
        idle(&bus);
        eventually(|| !errors().is_empty());
        assert!(errors()[0].contains("event_type") && errors()[0].contains("what a name"), "{:?}", errors());
    });
}
