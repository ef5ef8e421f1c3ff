//! Handlers that wait, each for the event of the next: a chain without end is told, soon and in words; and what such errors look like on their way up.

#[macro_use]
mod common;

use common::{PATIENCE, within};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use threadbus::*;

payload!(Ping { left: u64 } => u64);
payload!(Pong { left: u64 } => u64);
payload!(Plain);

const LIMIT: usize = 50;

fn runtime() -> Runtime {
    Runtime::builder().max_wait_depth(LIMIT).build().unwrap()
}

fn build(runtime: &Runtime, concurrency: EventConcurrency) -> EventBus {
    let handlers = match concurrency {
        EventConcurrency::Parallel => HandlerConcurrency::Parallel,
        _ => HandlerConcurrency::EventSerial,
    };
    let builder =
        EventBus::builder("app").runtime(runtime).event_concurrency(concurrency).handler_concurrency(handlers);
    builder.build().unwrap()
}

type Result<T> = std::result::Result<T, HandlerError>;

/// How a handler waits for what it has emitted.
type Waits = fn(&Event<Ping>, Event<Ping>) -> Result<u64>;

const WAYS: [(&str, Waits); 5] = [
    ("result", |_, next| Ok(next.result()?)),
    ("first", |_, next| Ok(next.first()?.unwrap_or_default())),
    ("a short wait", |_, next| Ok(next.wait_timeout(Duration::from_secs(60)).map(|next| next.result())??)),
    ("wait, later", |event, next| {
        event.bus().emit(Plain).wait()?;
        Ok(next.wait()?.result()?)
    }),
    ("wait_in_order", |_, next| Ok(next.wait_in_order()?.result()?)),
];

const MODES: [EventConcurrency; 3] =
    [EventConcurrency::BusSerial, EventConcurrency::Parallel, EventConcurrency::GlobalSerial];

#[test]
fn an_event_that_waits_for_its_own_kind_is_told() {
    for concurrency in MODES {
        for (way, waits) in WAYS {
            if way == "wait_in_order" && concurrency != EventConcurrency::Parallel {
                continue;
            }
            within(3 * PATIENCE, move || {
                let runtime = runtime();
                let bus = build(&runtime, concurrency);
                bus.on(|_: &Event<Plain>| {});
                let called = Arc::new(AtomicUsize::new(0));
                let calls = Arc::clone(&called);
                bus.on(move |ping: &Event<Ping>| {
                    calls.fetch_add(1, Ordering::SeqCst);
                    waits(ping, ping.bus().emit(Ping { left: 0 }))
                });
                let ping = bus.emit(Ping { left: 0 });
                ping.wait_timeout(2 * PATIENCE).unwrap_or_else(|error| panic!("{concurrency:?} {way}: {error}"));
                let error = ping.errors().pop().unwrap();
                let told = error.to_string();
                assert!(told.contains("more than 50 handlers would wait"), "{concurrency:?} {way}: {told}");
                assert!(told.contains("Ping for Ping"), "{told}");
                assert!(
                    matches!(error.downcast_ref(), Some(WaitError::TooDeep { limit: LIMIT, .. })),
                    "{concurrency:?} {way}"
                );
                bus.wait_until_idle_timeout(PATIENCE).unwrap();
                // A level of a parallel bus may start before it is waited for, and is given up with the one above.
                assert!(called.load(Ordering::SeqCst) >= LIMIT, "{concurrency:?} {way}");
                assert_eq!(bus.emit(Plain).wait().map(|_| ()), Ok(()));
            });
        }
    }
}

#[test]
fn two_kinds_on_two_buses_are_told_which_they_are() {
    within(3 * PATIENCE, || {
        let runtime = runtime();
        let (a, b) = (build(&runtime, EventConcurrency::BusSerial), build(&runtime, EventConcurrency::BusSerial));
        let (to_a, to_b) = (a.downgrade(), b.downgrade());
        a.on(move |ping: &Event<Ping>| -> Result<u64> {
            Ok(to_b.upgrade().ok_or("gone")?.emit(Pong { left: ping.left }).result()?)
        });
        b.on(move |pong: &Event<Pong>| -> Result<u64> {
            Ok(to_a.upgrade().ok_or("gone")?.emit(Ping { left: pong.left }).result()?)
        });
        let told = a.emit(Ping { left: 0 }).result().unwrap_err().to_string();
        assert!(
            told.contains("Ping for Pong") && told.contains("Pong for Ping") && told.contains(" levels up to Ping"),
            "{told}"
        );
        // One end of it, and the other, and how much is between.
        assert!(told.contains("more …") && told.matches(" failed: ").count() == 6, "{told}");
        [a, b].iter().for_each(|bus| bus.wait_until_idle_timeout(PATIENCE).unwrap());
    });
}

#[test]
fn an_emit_now_inside_of_its_own_kind_is_refused_in_the_end() {
    within(3 * PATIENCE, || {
        let runtime = runtime();
        let bus = build(&runtime, EventConcurrency::BusSerial);
        let (called, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (calls, told) = (Arc::clone(&called), Arc::clone(&refused));
        bus.on(move |ping: &Event<Ping>| {
            calls.fetch_add(1, Ordering::SeqCst);
            let next = ping.bus().emit_now(Ping { left: 0 });
            if let Err(WaitError::Rejected(EmitError::TooDeep { limit, .. })) = next.wait() {
                told.fetch_add(limit, Ordering::SeqCst);
            }
            ping.left
        });
        bus.emit(Ping { left: 0 }).wait().unwrap();
        assert_eq!((called.load(Ordering::SeqCst), refused.load(Ordering::SeqCst)), (LIMIT + 1, LIMIT));
    });
}

#[test]
fn a_chain_that_ends_at_the_limit_is_legal_and_one_more_is_not() {
    within(3 * PATIENCE, || {
        for concurrency in MODES {
            let runtime = runtime();
            let bus = build(&runtime, concurrency);
            bus.on(|ping: &Event<Ping>| -> Result<u64> {
                match ping.left {
                    0 => Ok(0),
                    left => Ok(ping.bus().emit(Ping { left: left - 1 }).result()? + 1),
                }
            });
            let limit = LIMIT as u64;
            for _again in 0..3 {
                assert_eq!(bus.emit(Ping { left: limit }).result().unwrap(), limit, "{concurrency:?}");
                // A parallel level may start before it is waited for, and is not counted then.
                let more = if concurrency == EventConcurrency::Parallel { 10 * limit } else { limit + 1 };
                assert!(bus.emit(Ping { left: more }).result().is_err(), "{concurrency:?}");
            }
        }
    });
}

/// What emits its next without waiting, and waits for others meanwhile, is no chain of waits.
#[test]
fn waits_that_end_add_up_to_nothing() {
    within(3 * PATIENCE, || {
        let runtime = runtime();
        let bus = build(&runtime, EventConcurrency::BusSerial);
        bus.on(|_: &Event<Plain>| {});
        bus.on(|pong: &Event<Pong>| pong.left);
        bus.on(|ping: &Event<Ping>| -> Result<u64> {
            for n in 0..3 {
                ping.bus().emit(Pong { left: n }).result()?;
            }
            if ping.left > 0 {
                let next = ping.bus().emit(Ping { left: ping.left - 1 });
                // In vain: it is on the bus that this handler keeps.
                drop(next.wait_timeout(Duration::ZERO));
            }
            ping.bus().emit(Plain).wait()?;
            Ok(0)
        });
        let ping = bus.emit(Ping { left: 10 * LIMIT as u64 });
        ping.wait().unwrap();
        let failed: Vec<_> = ping.descendants().iter().flat_map(AnyEvent::errors).collect();
        assert!(failed.is_empty() && ping.errors().is_empty(), "{failed:?}");
    });
}

#[test]
fn with_a_depth_of_none_no_handler_waits() {
    within(PATIENCE, || {
        let runtime = Runtime::builder().max_wait_depth(0).build().unwrap();
        let bus = build(&runtime, EventConcurrency::BusSerial);
        bus.on(|_: &Event<Plain>| {});
        bus.on(|ping: &Event<Ping>| -> Result<u64> { Ok(ping.bus().emit(Plain).wait().map(|_| 1)?) });
        assert!(bus.emit(Ping { left: 0 }).result().is_err());
        assert!(bus.emit(Plain).wait().is_ok(), "outside of handlers it is no level");
    });
}

fn sources(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts
}

#[derive(Debug, thiserror::Error)]
#[error("no network")]
struct NoNetwork(#[source] std::num::ParseIntError);

fn no_network() -> NoNetwork {
    NoNetwork("x".parse::<u8>().unwrap_err())
}

/// An error of a user's that shows what it carries, and one that does not.
#[derive(Debug, thiserror::Error)]
#[error("step: {0}")]
struct Shows(ResultError);
#[derive(Debug, thiserror::Error)]
#[error("a step failed")]
struct Hides(#[source] ResultError);

fn descends(bus: &EventBus, wrap: fn(ResultError) -> HandlerError) {
    bus.on_with(HandlerOptions::new().name("step").no_timeout(), move |ping: &Event<Ping>| -> Result<u64> {
        match ping.left {
            0 => Err(no_network())?,
            left => ping.bus().emit(Ping { left: left - 1 }).result().map_err(wrap),
        }
    });
}

#[test]
fn a_chain_says_each_thing_once_and_keeps_every_type() {
    for depth in [0, 1, 2, 20] {
        let bus = EventBus::new("app");
        descends(&bus, HandlerError::from);
        let ping = bus.emit(Ping { left: depth });
        let error = ping.result().unwrap_err();
        let texts = sources(&error);
        // The whole chain, and then what that has not said: the source of the last.
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert_eq!(texts[0].matches("no network").count(), 1, "{texts:?}");
        assert_eq!(texts[0].matches(" failed: ").count() as u64, depth + 1, "{texts:?}");
        assert_eq!(texts[1], "invalid digit found in string");
        let ResultError::Handler { failure, .. } = &error else { panic!("{error}") };
        assert!(failure.downcast_ref::<NoNetwork>().is_some());
        assert!(failure.downcast_ref::<std::num::ParseIntError>().is_some());
        assert_eq!(failure.downcast_ref::<ResultError>().is_some(), depth > 0);
        assert!(failure.downcast_ref::<std::fmt::Error>().is_none());
        assert_eq!(sources(&**failure).len(), 2);
        let shown = ping.errors()[0].to_string();
        assert!(texts[0].ends_with(&shown), "{shown}");
    }
}

#[test]
fn what_a_user_puts_around_is_kept_and_its_text_comes_once() {
    let bus = EventBus::new("app");
    descends(&bus, |error| Hides(error).into());
    let error = bus.emit(Ping { left: 2 }).result().unwrap_err();
    let texts = sources(&error);
    let step = |text: &str| texts.iter().filter(|line| line.ends_with(text)).count();
    assert_eq!((step("a step failed"), step("no network"), texts.len()), (2, 1, 4), "{texts:#?}");
    let ResultError::Handler { failure, .. } = &error else { panic!("{error}") };
    assert!(failure.downcast_ref::<Hides>().is_some() && failure.downcast_ref::<NoNetwork>().is_some());
}

#[test]
fn a_refusal_is_said_once_too() {
    let bus = EventBus::new("app");
    let closed = bus.clone();
    assert_eq!(closed.shutdown(Shutdown::Now, Duration::from_secs(1)).completed, 0);
    let error = bus.emit(Ping { left: 0 }).result().unwrap_err();
    assert_eq!(sources(&error).len(), 1, "{:?}", sources(&error));
    assert!(error.to_string().starts_with("event was rejected: app#"), "{error}");
}

/// Shown, walked and dropped on a small stack, whoever holds it.
fn on_a_small_stack(error: ResultError) -> (String, String, bool, usize) {
    let body = move || {
        let found = match &error {
            ResultError::Handler { failure, .. } => failure.downcast_ref::<NoNetwork>().is_some(),
            _ => false,
        };
        let shown = (error.to_string(), format!("{error:?}"), found, sources(&error).len());
        drop(error);
        shown
    };
    std::thread::Builder::new().stack_size(128 << 10).spawn(body).unwrap().join().unwrap()
}

type Wrap = fn(ResultError) -> HandlerError;

const WRAPS: [(&str, Wrap); 3] =
    [("plain", HandlerError::from), ("shows", |error| Shows(error).into()), ("hides", |error| Hides(error).into())];

fn check_long(which: &str, error: ResultError, levels: usize) {
    let (display, debug, found, count) = on_a_small_stack(error);
    assert!(display.len() < 6_000 && debug.len() < 40_000, "{which}: {} {}", display.len(), debug.len());
    // One that shows ours, and does not say that it is its source, hides it.
    assert_eq!(found, which != "shows");
    match which {
        "plain" => {
            let more = format!("… {} more …", levels + 1 - 6);
            assert!(display.contains(&more) && display.ends_with("failed: no network"), "{display}");
            assert_eq!(count, 2);
        }
        "hides" => assert_eq!(count, levels + 2),
        _ => {}
    }
}

#[test]
fn a_chain_of_thousands_is_shown_and_dropped_without_recursion() {
    const LEVELS: usize = 500;
    for (which, wrap) in WRAPS {
        within(6 * PATIENCE, move || {
            let bus = EventBus::builder("deep").handler_timeout(None).max_history(Some(0)).build().unwrap();
            descends(&bus, wrap);
            let error = bus.emit(Ping { left: LEVELS as u64 }).result().unwrap_err();
            drop(bus);
            check_long(which, error, LEVELS);
        });
    }
}

/// A chain as it comes up, without the handlers.
#[test]
fn a_chain_of_a_hundred_thousand_is_too() {
    const LEVELS: usize = 100_000;
    #[derive(Debug, thiserror::Error)]
    #[error("a step failed")]
    struct Deep(#[source] ResultError);
    for which in ["plain", "hides"] {
        within(6 * PATIENCE, move || {
            let failed = |error: Box<dyn Error + Send + Sync>| ResultError::Handler {
                handler: "step#0000".to_owned(),
                failure: Arc::new(HandlerFailure::Failed(error)),
            };
            let mut error = failed(no_network().into());
            for _ in 0..LEVELS {
                error = failed(if which == "plain" { error.into() } else { Deep(error).into() });
            }
            check_long(which, error, LEVELS);
        });
    }
}

#[test]
fn an_error_that_panics_when_it_goes_or_is_shown_harms_nobody() {
    #[derive(Debug)]
    struct Rude;
    impl std::fmt::Display for Rude {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("rude")
        }
    }
    impl Error for Rude {}
    impl Drop for Rude {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    within(PATIENCE, || {
        let bus = EventBus::builder("app").max_history(Some(0)).build().unwrap();
        bus.on(|ping: &Event<Ping>| -> Result<u64> {
            match ping.left {
                0 => Err(Rude.into()),
                left => Ok(ping.bus().emit(Ping { left: left - 1 }).result()?),
            }
        });
        for depth in [0, 1, 5] {
            // Nobody but the bus keeps it, so nobody else lets it go.
            bus.pause();
            bus.emit(Ping { left: depth });
            bus.resume();
            bus.wait_until_idle().unwrap();
        }
        bus.on(|_: &Event<Plain>| {});
        bus.emit(Plain).wait().unwrap();
    });
}
