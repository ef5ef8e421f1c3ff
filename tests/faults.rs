//! Panics in every place where user code is called, durations of zero and for ever, and waits from strange threads. What other files
//! have of it: middlewares in `middleware_own.rs`, hooks in `given_up.rs`, trackers in `batch.rs`, retry filters in `retry_delays.rs`,
//! payloads in subscriptions in `streams.rs`, clones in `schedule.rs`, threads that cannot be had in `short_of_threads.rs`.
#![cfg(not(threadbus_shuttle))]

#[path = "common/mod.rs"]
mod common;

use common::*;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use threadbus::*;

/// Panics wherever it can: when it is dropped, cloned, shown. Not when it is dropped by another panic, which would end the process.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(thread::panicking(), "Drop on purpose");
    }
}
impl Clone for Bomb {
    fn clone(&self) -> Bomb {
        panic!("Clone on purpose")
    }
}
impl fmt::Debug for Bomb {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("Debug on purpose")
    }
}
impl fmt::Display for Bomb {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("Display on purpose")
    }
}
impl std::error::Error for Bomb {}

/// A payload that is one, with a value that is one.
struct Fuse {
    _bomb: Bomb,
    n: u32,
}
impl Fuse {
    fn new(n: u32) -> Fuse {
        Fuse { _bomb: Bomb, n }
    }
}
impl Payload for Fuse {
    type Output = Arc<Bomb>;
}
payload!(Ping { n: u32 } => u32);

/// Whatever happens in `body` on this thread, its panic is the caller's own.
fn shrug<R>(body: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(body)).ok()
}

/// Lets go of a handle, which may be the last.
fn let_go<T>(value: T) {
    shrug(|| drop(value));
}

fn works(bus: &EventBus) {
    let ping = bus.on(|ping: &Event<Ping>| ping.n + 1);
    assert_eq!(done(&bus.emit(Ping { n: 1 })).result().unwrap(), 2);
    assert!(bus.off(&ping));
    idle(bus);
    let m = bus.metrics();
    assert_eq!(m.emitted, m.completed + m.cancelled + m.dropped, "{m:?}");
}

/// Formats everything, so that no Display is spared.
fn log_all() {
    struct Formats;
    impl log::Log for Formats {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            drop(record.args().to_string());
        }
        fn flush(&self) {}
    }
    drop(log::set_logger(&Formats));
    log::set_max_level(log::LevelFilter::Trace);
}

#[test]
fn payloads_and_values_that_panic_when_dropped() {
    log_all();
    for history in [Some(0), Some(2), None] {
        let bus = EventBus::builder("bombs").max_history(history).dead_letters(2).build().unwrap();
        bus.on(|fuse: &Event<Fuse>| -> Result<Arc<Bomb>, HandlerError> {
            match fuse.n % 4 {
                0 => Err(HandlerError::permanent(Bomb)),
                1 => std::panic::panic_any(Bomb),
                _ => Ok(Arc::new(Bomb)),
            }
        });
        for n in 0..20 {
            let event = bus.emit(Fuse::new(n));
            if n % 5 == 4 {
                event.cancel();
            }
            let_go(event);
        }
        idle(&bus);
        works(&bus);
        bus.clear_dead_letters();
        let runtime = bus.runtime();
        bus.shutdown(Shutdown::Now, PATIENCE);
        let_go(bus);
        works(&EventBus::builder("after").runtime(&runtime).build().unwrap());
    }
}

#[test]
fn a_late_value_and_a_loser_that_panic_when_dropped() {
    let bus = EventBus::builder("late").handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
    let gate = Gate::new();
    for _ in 0..2 {
        let gate = gate.clone();
        bus.on(move |fuse: &Event<Fuse>| {
            if fuse.n > 0 {
                gate.wait();
            }
            Arc::new(Bomb)
        });
    }
    let late = bus.emit_with(Fuse::new(1), EventOptions::new().handler_timeout(Duration::from_millis(5)));
    assert!(late.wait_timeout(PATIENCE).is_ok());
    let first = bus.emit_with(Fuse::new(0), EventOptions::new().completion(HandlerCompletion::First));
    assert!(first.wait_timeout(PATIENCE).is_ok());
    gate.open();
    eventually(|| bus.runtime().stats().abandoned == 0);
    let_go((late, first));
    works(&bus);
}

#[test]
fn queued_payloads_that_panic_when_thrown_out() {
    let bus = EventBus::builder("full").queue_capacity(2, OnFull::DropOldest).max_history(Some(0)).build().unwrap();
    bus.pause();
    for n in 0..10 {
        let_go(bus.emit(Fuse::new(n)));
    }
    bus.resume();
    works(&bus);
    bus.pause();
    let_go(bus.emit(Fuse::new(0)));
    let_go(bus.emit_after(PATIENCE, Fuse::new(1)));
    let_go(bus);
}

#[test]
fn errors_that_panic_when_shown() {
    log_all();
    let bus = EventBus::builder("shown").dead_letters(10).build().unwrap();
    let retry = Retry::attempts(2).only_if(|failure| !failure.to_string().is_empty());
    bus.on_with(HandlerOptions::new().retry(retry), |_: &Event<Ping>| -> Result<u32, HandlerError> {
        Err(HandlerError::from(Bomb))
    });
    let event = done(&bus.emit(Ping { n: 1 }));
    assert_eq!(event.errors().len(), 1);
    shrug(|| event.result().map_err(|error| error.to_string()));
    shrug(|| format!("{event:?} {:?}", event.results()));
    shrug(|| (event.log_tree(), bus.log_tree()));
    shrug(|| (event.to_json().is_ok(), bus.to_json().is_ok()));
    shrug(|| format!("{bus:?} {:?} {:?}", bus.runtime(), bus.dead_letters()));
    bus.redrive(10);
    bus.off_all::<Ping>();
    let_go(event);
    bus.clear_dead_letters();
    works(&bus);
}

/// What a factory makes.
type Kept = fn(&Event<Ping>) -> Result<Option<u32>, HandlerError>;

#[test]
fn what_handlers_capture_and_keep_panics_when_dropped() {
    let bus = EventBus::new("kept");
    let bomb = Bomb;
    let captured = bus.on(move |_: &Event<Ping>| {
        let _ = &bomb;
        1
    });
    let worker = bus.on_per_worker(HandlerOptions::new(), || {
        let bomb = Bomb;
        Ok(move |_: &Event<Ping>| {
            let _ = &bomb;
            Ok(Some(2))
        })
    });
    let broken =
        bus.on_per_worker(HandlerOptions::new(), || -> Result<Kept, HandlerError> { panic!("a factory, on purpose") });
    let local = bus.on(|_: &Event<Ping>| HandlerContext::current().unwrap().local(|| Bomb, |_| 3));
    let event = done(&bus.emit(Ping { n: 0 }));
    assert_eq!(event.select().allow_errors().list().unwrap(), [1, 2, 3]);
    assert_eq!(event.errors().len(), 1);
    for handler in [captured, worker, broken, local] {
        assert!(shrug(|| bus.off(&handler)).unwrap_or(true));
    }
    works(&bus);
    let bomb = Bomb;
    bus.on(move |_: &Event<Ping>| {
        let _ = &bomb;
        1
    });
    bus.shutdown(Shutdown::Drain, PATIENCE);
    let_go(bus);
}

#[test]
fn filters_that_panic_pick_nothing() {
    let bus = EventBus::new("filters");
    bus.on(|ping: &Event<Ping>| ping.n);
    let event = done(&bus.emit(Ping { n: 7 }));
    assert!(event.select().include(|_| panic!("a filter, on purpose")).list().is_err());
    assert!(bus.find::<Ping>().filter(|_| panic!("a filter, on purpose")).first().is_none());
    let inside = event.clone();
    bus.on(move |_: &Event<Fuse>| -> Arc<Bomb> {
        drop(inside.select().include(|_| panic!("a filter, on purpose")).list());
        Arc::new(Bomb)
    });
    let fuse = bus.emit(Fuse::new(0));
    assert!(fuse.wait_timeout(PATIENCE).is_ok());
    assert_eq!(fuse.errors().len(), 0);
    let_go(fuse);
    bus.off_all::<Ping>();
    works(&bus);
}

/// A type whose own answers panic.
struct Rude;
impl Payload for Rude {
    type Output = ();
    fn options() -> EventOptions {
        panic!("options, on purpose")
    }
}

#[test]
fn a_type_whose_options_panic_has_none() {
    let bus = EventBus::new("rude");
    bus.on(|_: &Event<Rude>| {});
    let event = bus.emit(Rude);
    assert!(event.wait_timeout(PATIENCE).is_ok());
    assert_eq!(event.results().len(), 1);
    works(&bus);
}

#[test]
fn a_context_value_that_panics_when_dropped() {
    let bus = EventBus::builder("context").max_history(Some(0)).build().unwrap();
    bus.on(|ping: &Event<Ping>| ping.n);
    shrug(|| context::with(Bomb, || let_go(bus.emit(Ping { n: 1 }))));
    idle(&bus);
    bus.off_all::<Ping>();
    works(&bus);
}

#[test]
fn no_time_and_for_ever() {
    for time in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let runtime = Runtime::builder().keep_alive(time).build().unwrap();
        let bus = EventBus::builder("time")
            .runtime(&runtime)
            .handler_timeout(Some(time))
            .event_timeout(Some(time))
            .handler_slow_after(Some(time))
            .event_slow_after(Some(time))
            .retry(Retry::attempts(2).delays([Duration::ZERO, time]).max_delay(Duration::from_millis(1)).jitter(1.0))
            .queue_capacity(1, OnFull::BlockFor(Duration::from_millis(1).min(time)))
            .build()
            .unwrap();
        let limit = Limit::new(1).acquire_timeout(time).lax(time.is_zero());
        let options = HandlerOptions::new().timeout(time).slow_after(time).limit(limit);
        bus.on_with(options, move |ping: &Event<Ping>| -> Result<u32, HandlerError> {
            HandlerContext::current().ok_or("outside")?.sleep(time.min(Duration::from_millis(2)))?;
            Ok(ping.n)
        });
        let own = EventOptions::new().timeout(time).handler_timeout(time).slow_after(time).handler_slow_after(time);
        let schedule = Retry::attempts(3).exponential(time, f64::MAX).max_delay(Duration::from_millis(1));
        let events = [bus.emit(Ping { n: 1 }), bus.emit_with(Ping { n: 2 }, own.retry(schedule))];
        for event in &events {
            drop(event.wait_timeout(time.min(PATIENCE)));
            drop(event.wait_timeout(PATIENCE));
            assert!(event.is_completed());
            drop(event.select().timeout(time).list());
        }
        bus.wait_until_idle_timeout(PATIENCE).unwrap();
        drop(bus.wait_until_idle_timeout(time));
        assert!(bus.find::<Ping>().past_within(time).future(Duration::ZERO).all().len() <= 2);
        drop(bus.find::<Ping>().past_within(time).future(time).first());
        let mut subscription = bus.subscribe::<Ping>();
        bus.emit(Ping { n: 3 });
        drop(subscription.recv_timeout(time));
        let batch = bus.batch();
        drop(batch.wait_timeout(time));
        bus.emit_after(time, Ping { n: 4 });
        let again = bus.emit_every(time.max(Duration::from_millis(1)), Ping { n: 5 });
        again.cancel();
        within(PATIENCE, move || bus.shutdown(Shutdown::Now, time));
    }
}

#[test]
fn waits_in_rayon_jobs_end() {
    let bus = EventBus::new("rayon");
    bus.on(|ping: &Event<Ping>| ping.n);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let emitting = bus.clone();
    let sum: u32 = within(PATIENCE, move || {
        use rayon::prelude::*;
        pool.install(|| (0..64_u32).into_par_iter().map(|n| emitting.emit(Ping { n }).result().unwrap()).sum())
    });
    assert_eq!(sum, 63 * 64 / 2);
    // Inside a handler, whose bus waits for it: each job belongs to the handler.
    struct Both;
    impl Payload for Both {
        type Output = u32;
    }
    let inner = bus.downgrade();
    bus.on(move |_: &Event<Both>| -> Result<u32, HandlerError> {
        let (bus, context) = (inner.upgrade().ok_or("gone")?, HandlerContext::current().ok_or("outside")?);
        let ask = |n| context.attach(|| bus.emit(Ping { n }).result());
        let (one, two) = rayon::join(|| ask(1), || ask(2));
        Ok(one? + two?)
    });
    for _ in 0..100 {
        let both = bus.emit(Both);
        assert_eq!(within(PATIENCE, move || both.result().unwrap()), 3);
    }
}

thread_local! {
    static LAST_WORDS: RefCell<Option<LastWords>> = const { RefCell::new(None) };
}

/// Uses the bus when its thread ends.
struct LastWords(EventBus, Log);

impl Drop for LastWords {
    fn drop(&mut self) {
        let LastWords(bus, log) = self;
        log.push(format_args!("{:?}", bus.emit(Ping { n: 1 }).result().ok()));
        log.push(format_args!("{:?}", bus.emit(Ping { n: 2 }).wait_timeout(PATIENCE).is_ok()));
        log.push(format_args!("{:?}", bus.emit(Ping { n: 3 }).wait_in_order().is_ok()));
        drop(bus.emit_now(Ping { n: 4 }).wait());
        drop(bus.find::<Ping>().future(Duration::from_millis(1)).first());
        drop(bus.subscribe::<Ping>().recv_timeout(Duration::from_millis(1)));
        drop(bus.batch().wait());
        drop(bus.wait_until_idle_timeout(PATIENCE));
        assert!(HandlerContext::current().is_none());
        drop((context::get::<u32>(), scope::current()));
        log.push("end");
    }
}

#[test]
fn a_thread_may_use_the_bus_while_it_ends() {
    let bus = EventBus::new("last words");
    bus.on(|ping: &Event<Ping>| ping.n);
    // Thread-locals are dropped in some order: ours before and after the one that uses them.
    for first in [true, false] {
        let (log, own) = (Log::new(), bus.clone());
        let last = LastWords(bus.clone(), log.clone());
        let thread = thread::spawn(move || {
            let keep = |last| LAST_WORDS.with(|words| *words.borrow_mut() = Some(last));
            if first {
                keep(last);
                own.emit(Ping { n: 0 }).wait().unwrap();
            } else {
                own.emit(Ping { n: 0 }).wait().unwrap();
                keep(last);
            }
        });
        within(PATIENCE, move || thread.join().unwrap());
        assert_eq!(log.entries(), ["Some(1)", "true", "true", "end"]);
    }
    bus.off_all::<Ping>();
    works(&bus);
}

#[test]
fn a_worker_may_use_the_bus_while_it_ends() {
    let runtime = Runtime::builder().keep_alive(Duration::from_millis(1)).build().unwrap();
    let bus = EventBus::builder("last worker").runtime(&runtime).build().unwrap();
    let (log, weak) = (Log::new(), bus.downgrade());
    let words = log.clone();
    bus.on(move |_: &Event<Fuse>| -> Result<Arc<Bomb>, HandlerError> {
        let last = LastWords(weak.upgrade().ok_or("gone")?, words.clone());
        LAST_WORDS.with(|words| *words.borrow_mut() = Some(last));
        Err("nothing to return".into())
    });
    bus.on(|ping: &Event<Ping>| ping.n);
    let_go(bus.emit(Fuse::new(0)));
    eventually(|| log.entries().last().is_some_and(|last| last == "end"));
    bus.off_all::<Ping>();
    works(&bus);
}

/// The last that keeps a parent is the child that completes last: its drop is ours to contain, on whatever thread that is.
#[test]
fn a_parent_that_goes_with_its_last_child_panics_when_dropped() {
    struct Family {
        _bomb: Bomb,
    }
    impl Payload for Family {
        type Output = ();
    }
    struct Kid;
    impl Payload for Kid {
        type Output = u32;
    }
    for ends in ["returns", "fails", "panics", "is cancelled"] {
        let bus = EventBus::builder("families").max_history(Some(0)).build().unwrap();
        let (held, gate) = (Gate::new(), Gate::new());
        let _opener = gate.opener();
        bus.on(|family: &Event<Family>| drop(family.bus().emit(Kid)));
        bus.on({
            let (held, gate) = (held.clone(), gate.clone());
            move |_: &Event<Kid>| -> Result<u32, &'static str> {
                held.open();
                gate.wait();
                match ends {
                    "fails" => Err("on purpose"),
                    "panics" => panic!("on purpose"),
                    _ => Ok(0),
                }
            }
        });
        let family = bus.emit(Family { _bomb: Bomb });
        held.wait();
        let child = family.children().remove(0);
        let_go(family);
        if ends == "is cancelled" {
            assert!(child.cancel());
        }
        gate.open();
        assert!(done(&child).is_completed());
        drop(child);
        idle(&bus);
        works(&bus);
    }
}
