//! Manual buses on one thread: what runs, in which order, and when the application is told.

#[macro_use]
mod common;

use common::{Gate, Log, PATIENCE, stands, warnings_naming, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use threadbus::*;

payload!(Ping { n: u32 } => u32);
payload!(Outer { n: u32 } => u32);
payload!(Inner { n: u32 } => u32);
payload!(Other);

type Anything = Result<(), Box<dyn std::error::Error>>;

fn manual(name: &str) -> EventBus {
    EventBus::builder(name).manual().build().expect("a manual bus")
}

#[test]
fn nothing_runs_until_the_application_says_so() -> Anything {
    let bus = manual("patient");
    assert!(bus.options().manual && !EventBus::new("threaded").options().manual);
    bus.on(|ping: &Event<Ping>| ping.n);
    let events: Vec<_> = (0..3).map(|n| bus.emit(Ping { n })).collect();
    assert_eq!((bus.pending(), bus.is_idle()), (3, false));
    assert!(events.iter().all(|event| event.status() == EventStatus::Pending));
    assert_eq!(bus.run_pending(), 3);
    assert_eq!((bus.pending(), bus.is_idle()), (0, true));
    assert_eq!(events.iter().map(Event::result).collect::<Result<Vec<_>, _>>()?, [0, 1, 2]);
    assert_eq!(bus.run_pending(), 0);
    Ok(())
}

#[test]
fn everything_runs_on_the_pump_thread() -> Anything {
    let bus = EventBus::builder("here").manual().handler_concurrency(HandlerConcurrency::Parallel).build()?;
    let threads = Arc::new(std::sync::Mutex::new(Vec::<ThreadId>::new()));
    for _ in 0..3 {
        let threads = Arc::clone(&threads);
        bus.on(move |_: &Event<Ping>| {
            common::lock(&threads).push(thread::current().id());
            0
        });
    }
    for concurrency in [EventConcurrency::Parallel, EventConcurrency::BusSerial, EventConcurrency::GlobalSerial] {
        for n in 0..4 {
            bus.emit_with(Ping { n }, EventOptions::new().concurrency(concurrency));
        }
    }
    assert_eq!(bus.run_pending(), 12);
    let threads = common::lock(&threads);
    assert_eq!(threads.len(), 36);
    assert!(threads.iter().all(|id| *id == thread::current().id()));
    Ok(())
}

/// Handlers that emit, wait, retry and fail, with priorities and in all modes; what happened, in order.
fn program() -> Vec<String> {
    let log = Log::new();
    let bus = manual("deterministic");
    let second = EventBus::builder("second")
        .manual()
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .expect("a manual bus");
    let (l, to) = (log.clone(), second.downgrade());
    bus.on(move |outer: &Event<Outer>| -> Result<u32, HandlerError> {
        l.push(format!("outer {}", outer.n));
        let later = outer.bus().emit(Inner { n: outer.n * 10 });
        let now = outer.bus().emit(Inner { n: outer.n * 10 + 1 }).result()?;
        if let Some(second) = to.upgrade().filter(|_| outer.n.is_multiple_of(2)) {
            second.forward(outer)?;
            second.emit(Ping { n: outer.n });
        }
        drop(later);
        l.push(format!("outer {} got {now}", outer.n));
        Ok(now)
    });
    let l = log.clone();
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(2)), move |inner: &Event<Inner>| {
        let attempt = HandlerContext::current().map_or(0, |context| context.attempt());
        l.push(format!("inner {} attempt {attempt}", inner.n));
        if inner.n.is_multiple_of(3) && attempt < 2 { Err("again") } else { Ok(inner.n) }
    });
    for name in ["a", "b", "c"] {
        let l = log.clone();
        second.on_any(move |event| l.push(format!("second {name} {}", event.event_type())));
    }
    for n in 0..12 {
        let priority = Priority::new((n % 4) as u8 * 3).unwrap_or(Priority::NORMAL);
        bus.emit_with(Outer { n }, EventOptions::new().priority(priority));
    }
    while !(bus.is_idle() && second.is_idle()) {
        bus.run_pending();
        second.run_pending();
    }
    log.entries()
}

#[test]
fn the_same_input_gives_the_same_order_a_hundred_times() {
    let first = program();
    assert_eq!(first.iter().filter(|line| line.starts_with("outer") && line.contains("got")).count(), 12);
    assert_eq!(first.iter().filter(|line| line.starts_with("second")).count(), 36);
    for run in 1..100 {
        assert_eq!(program(), first, "run {run}");
    }
}

#[test]
fn priorities_come_first_and_equal_ones_in_emit_order() {
    for concurrency in [EventConcurrency::BusSerial, EventConcurrency::Parallel] {
        let bus = EventBus::builder("ordered").manual().event_concurrency(concurrency).build().expect("a bus");
        let log = Log::new();
        let l = log.clone();
        bus.on(move |ping: &Event<Ping>| {
            l.push(ping.n);
            0
        });
        for (n, level) in [(0, 5), (1, 2), (2, 8), (3, 5), (4, 10), (5, 2)] {
            bus.emit_with(Ping { n }, EventOptions::new().priority(Priority::new(level).expect("in range")));
        }
        assert_eq!(bus.run_pending(), 6);
        assert_eq!(log.entries(), ["4", "2", "0", "3", "1", "5"]);
    }
}

#[test]
fn what_handlers_emit_runs_in_the_same_call() -> Anything {
    let bus = manual("chain");
    bus.on(|outer: &Event<Outer>| {
        outer.bus().emit(Inner { n: outer.n });
        outer.n
    });
    bus.on(|inner: &Event<Inner>| {
        if inner.n > 0 {
            inner.bus().emit(Inner { n: inner.n - 1 });
        }
        inner.n
    });
    let outer = bus.emit(Outer { n: 4 });
    assert_eq!(bus.run_pending(), 6);
    assert!(outer.is_completed());
    assert_eq!(outer.descendants().len(), 5);
    Ok(())
}

#[test]
fn a_budget_stops_between_events() -> Anything {
    let bus = manual("budget");
    bus.on(|_: &Event<Other>| {
        let end = Instant::now() + Duration::from_millis(2);
        while Instant::now() < end {}
    });
    for _ in 0..50 {
        bus.emit(Other);
    }
    assert_eq!(bus.run_pending_for(Duration::ZERO), 0, "a budget of nothing starts nothing");
    let ran = bus.run_pending_for(Duration::from_millis(5));
    assert!((1..50).contains(&ran), "{ran} ran");
    assert_eq!(bus.pending(), 50 - ran);
    assert_eq!(bus.run_pending_for(PATIENCE), 50 - ran);
    assert!(bus.is_idle());
    Ok(())
}

#[test]
fn a_wait_on_the_pump_thread_runs_what_is_queued_up_to_it() -> Anything {
    let bus = manual("inline");
    let log = Log::new();
    let l = log.clone();
    bus.on(move |ping: &Event<Ping>| {
        l.push(ping.n);
        ping.n
    });
    bus.emit(Ping { n: 1 });
    let second = bus.emit(Ping { n: 2 });
    let third = bus.emit(Ping { n: 3 });
    assert_eq!(second.result()?, 2);
    assert_eq!(log.entries(), ["1", "2"], "in order, and no further");
    assert_eq!(bus.pending(), 1);
    assert_eq!(third.wait_in_order()?.n, 3);
    assert_eq!(bus.emit(Ping { n: 4 }).wait_timeout(PATIENCE)?.n, 4);
    let batch = bus.batch();
    batch.extend((5..8).map(|n| Ping { n }));
    assert_eq!(batch.wait()?.completed, 3);
    assert_eq!(bus.emit(Ping { n: 8 }).first()?, Some(8));
    bus.emit(Ping { n: 9 });
    bus.wait_until_idle()?;
    assert_eq!(log.len(), 9);
    Ok(())
}

#[test]
fn a_find_and_a_subscription_on_the_pump_thread_let_it_run() -> Anything {
    let bus = manual("finder");
    bus.on(|outer: &Event<Outer>| {
        outer.bus().emit(Inner { n: outer.n + 1 });
        outer.n
    });
    bus.emit(Outer { n: 1 });
    let found = bus.find::<Inner>().past(false).future(PATIENCE).first();
    assert_eq!(found.map(|inner| inner.n), Some(2));
    let mut inners = bus.subscribe::<Inner>();
    bus.emit(Outer { n: 5 });
    assert_eq!(inners.recv()?.n, 6);
    Ok(())
}

#[test]
fn jumps_inside_of_handlers_run_here() -> Anything {
    let bus = manual("jumps");
    let second = manual("jumps too");
    let to = second.downgrade();
    bus.on(move |outer: &Event<Outer>| -> Result<u32, HandlerError> {
        let own = outer.bus().emit(Inner { n: outer.n }).result()?;
        let other = to.upgrade().ok_or("gone")?.emit(Inner { n: outer.n }).result()?;
        let timed = outer.bus().emit(Inner { n: outer.n }).wait_timeout(PATIENCE)?.n;
        let early = EventOptions::new().handler_timeout(Duration::from_secs(30));
        let shorter = outer.bus().emit_with(Inner { n: outer.n }, early).result()?;
        Ok(own + other + timed + shorter)
    });
    bus.on(|inner: &Event<Inner>| inner.n);
    second.on(|inner: &Event<Inner>| inner.n * 100);
    let outer = bus.emit(Outer { n: 1 });
    assert_eq!(bus.run_pending(), 4, "the other bus counts its own");
    assert_eq!(outer.result()?, 103);
    Ok(())
}

#[test]
fn on_ready_is_called_when_an_idle_bus_gets_work() -> Anything {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let bus = EventBus::builder("ready")
        .manual()
        .on_ready(move || {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .build()?;
    let calls = || calls.load(Ordering::SeqCst);
    bus.on(|outer: &Event<Outer>| {
        outer.bus().emit(Inner { n: outer.n });
        outer.n
    });
    assert_eq!(calls(), 0);
    bus.emit(Outer { n: 1 });
    bus.emit(Outer { n: 2 });
    assert_eq!(calls(), 1, "once, until it has been idle");
    bus.run_pending();
    assert_eq!(calls(), 1, "not for what the pump thread emits while it runs the bus");
    bus.emit(Other);
    assert_eq!(calls(), 2);
    let emitter = bus.clone();
    thread::spawn(move || drop(emitter.emit(Other))).join().expect("emits");
    assert_eq!(calls(), 2);
    bus.run_pending();
    bus.pause();
    bus.emit(Other);
    bus.run_pending();
    let before = calls();
    bus.resume();
    assert_eq!(calls(), before + 1, "a resumed bus has work again");
    assert_eq!(bus.run_pending(), 1);
    bus.emit_now(Outer { n: 3 });
    assert_eq!((calls(), bus.pending()), (before + 2, 1), "what an emit_now leaves behind is work too");
    Ok(())
}

#[test]
fn on_ready_may_do_whatever_a_callback_may() -> Anything {
    let told = Log::new();
    let (l, bus_slot) = (told.clone(), Arc::new(std::sync::OnceLock::<WeakBus>::new()));
    let slot = Arc::clone(&bus_slot);
    let bus = EventBus::builder("wakes")
        .manual()
        .on_ready(move || {
            if let Some(bus) = slot.get().and_then(WeakBus::upgrade) {
                l.push(format!("ran {}", bus.run_pending()));
                l.push(format!("{:?}", matches!(bus.emit(Other).wait(), Err(WaitError::Deadlock(_)))));
            }
            panic!("on purpose");
        })
        .build()?;
    drop(bus_slot.set(bus.downgrade()));
    bus.emit(Other);
    assert_eq!(told.entries(), ["ran 0", "true"]);
    assert_eq!(bus.run_pending(), 2);
    assert!(EventBus::builder("no").on_ready(|| {}).build().is_err_and(|error| error.option == "on_ready"));
    Ok(())
}

#[test]
fn a_retry_that_is_due_comes_back_and_says_so() -> Anything {
    let ready = Gate::new();
    let wake = ready.clone();
    let armed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&armed);
    let bus = EventBus::builder("retries")
        .manual()
        .on_ready(move || {
            if counted.fetch_add(1, Ordering::SeqCst) == 1 {
                wake.open();
            }
        })
        .build()?;
    bus.on_with(
        HandlerOptions::new().retry(Retry::attempts(2).delay(Duration::from_millis(30))),
        |ping: &Event<Ping>| match HandlerContext::current().map(|context| context.attempt()) {
            Some(2) => Ok(ping.n),
            _ => Err("not yet"),
        },
    );
    let ping = bus.emit(Ping { n: 7 });
    let behind = bus.emit(Ping { n: 8 });
    assert_eq!(bus.run_pending(), 1);
    assert!(!ping.is_completed() && !bus.is_idle());
    ready.wait();
    bus.run_pending();
    assert_eq!(ping.result()?, 7);
    assert_eq!(behind.result()?, 8, "a wait runs retries that come due meanwhile");
    assert!(bus.is_idle());
    Ok(())
}

#[test]
fn schedules_put_events_into_the_queue() -> Anything {
    let bus = manual("schedule");
    bus.on(|ping: &Event<Ping>| ping.n);
    bus.emit_after(Duration::from_millis(5), Ping { n: 1 });
    let found = bus.find::<Ping>().future(PATIENCE).first().expect("it comes");
    assert_eq!(found.result()?, 1);
    let every = bus.emit_every(Duration::from_millis(3), Ping { n: 2 });
    let seen = |n| bus.history().iter().filter(|event| event.payload::<Ping>().is_some_and(|p| p.n == n)).count();
    common::eventually(|| {
        bus.run_pending();
        seen(2) >= 3
    });
    assert!(every.cancel());
    Ok(())
}

#[test]
fn a_timeout_marks_the_event_and_the_rest_runs_later() -> Anything {
    let bus = manual("late");
    let (entered, go_on) = (Gate::new(), Gate::new());
    let _opener = go_on.opener();
    let log = Log::new();
    let (l, e, g) = (log.clone(), entered.clone(), go_on.clone());
    bus.on_with(HandlerOptions::new().timeout(Duration::from_millis(20)), move |_: &Event<Ping>| {
        e.open();
        g.wait();
        l.push("first");
        0
    });
    let (l, pump) = (log.clone(), thread::current().id());
    bus.on(move |_: &Event<Ping>| {
        l.push(format!("second {}", thread::current().id() == pump));
        1
    });
    let ping = bus.emit(Ping { n: 1 });
    let after = bus.emit(Ping { n: 2 });
    let seen = ping.clone();
    // Another thread sees the failure while the pump thread still stands in the handler.
    let watcher = thread::spawn(move || {
        entered.wait();
        common::eventually(|| !seen.errors().is_empty());
        go_on.open();
        seen.errors().len()
    });
    bus.run_pending();
    assert_eq!(watcher.join().expect("no panic"), 1);
    // The next handler may have been put by after the pump thread had looked.
    bus.wait_until_idle()?;
    assert_eq!(log.entries()[..2], ["first", "second true"], "the pump thread went on with the next handler");
    let kinds: Vec<_> = ping.results().iter().map(|r| r.error.is_some()).collect();
    assert_eq!(kinds, [true, false]);
    assert!(after.is_completed() && bus.is_idle());
    Ok(())
}

#[test]
fn an_event_cap_ends_the_event_and_nothing_is_left() -> Anything {
    let bus = EventBus::builder("capped").manual().build()?;
    let log = Log::new();
    let l = log.clone();
    bus.on(move |ping: &Event<Ping>| {
        if ping.n == 0 {
            common::eventually(|| ping.is_completed());
        }
        l.push(format!("first {}", ping.n));
        ping.n
    });
    let l = log.clone();
    bus.on(move |ping: &Event<Ping>| {
        l.push(format!("second {}", ping.n));
        ping.n
    });
    let ping = bus.emit_with(Ping { n: 0 }, EventOptions::new().timeout(Duration::from_millis(20)));
    let next = bus.emit(Ping { n: 1 });
    bus.run_pending();
    // The event is complete a moment before its turn is free, and the pump thread may have looked in that moment.
    bus.wait_until_idle()?;
    assert_eq!(log.entries(), ["first 0", "first 1", "second 1"]);
    assert_eq!(ping.results().iter().filter(|r| r.error.is_some()).count(), 2);
    assert_eq!(next.result_list()?, [1, 1]);
    assert!(bus.is_idle());
    Ok(())
}

#[test]
fn limits_dead_letters_and_redrive() -> Anything {
    let bus = EventBus::builder("letters").manual().dead_letters(10).build()?;
    let broken = Arc::new(AtomicUsize::new(1));
    let state = Arc::clone(&broken);
    bus.on_with(HandlerOptions::new().limit(Limit::new(1)), move |ping: &Event<Ping>| {
        if state.load(Ordering::SeqCst) == 1 { Err("broken") } else { Ok(ping.n) }
    });
    for n in 0..3 {
        bus.emit(Ping { n });
    }
    assert_eq!(bus.run_pending(), 3);
    assert_eq!(bus.dead_letters().len(), 3);
    broken.store(0, Ordering::SeqCst);
    let report = bus.redrive(10);
    assert_eq!((report.succeeded, report.failed), (3, 0));
    assert!(bus.dead_letters().is_empty() && bus.is_idle());
    let metrics = bus.metrics();
    assert_eq!((metrics.emitted, metrics.completed, metrics.failed), (3, 3, 3));
    Ok(())
}

#[test]
fn pausing_a_manual_bus() -> Anything {
    let bus = manual("paused");
    bus.on(|ping: &Event<Ping>| ping.n);
    bus.pause();
    let ping = bus.emit(Ping { n: 1 });
    assert_eq!(bus.run_pending(), 0);
    let soon = Duration::from_millis(5);
    assert_eq!(ping.wait_timeout(soon).map(|_| ()), Err(WaitError::Timeout(soon)));
    bus.resume();
    assert_eq!(bus.run_pending(), 1);
    Ok(())
}

#[test]
fn a_full_queue_makes_the_pump_thread_run_it() -> Anything {
    let log = Log::new();
    for on_full in [OnFull::Block, OnFull::BlockFor(PATIENCE), OnFull::RunInline] {
        let bus = EventBus::builder("full").manual().queue_capacity(2, on_full).build()?;
        let l = log.clone();
        bus.on(move |ping: &Event<Ping>| {
            l.push(ping.n);
            ping.n
        });
        for n in 0..10 {
            bus.emit(Ping { n });
            assert!(bus.pending() <= 2);
        }
        bus.run_pending();
        assert!(bus.is_idle());
        assert_eq!(bus.metrics().rejected, 0);
    }
    assert_eq!(log.len(), 30);
    Ok(())
}

#[test]
fn shutdown_on_the_pump_thread_drains() -> Anything {
    let bus = manual("drained");
    bus.on(|ping: &Event<Ping>| {
        if ping.n > 0 {
            ping.bus().emit(Ping { n: ping.n - 1 });
        }
        ping.n
    });
    let ping = bus.emit(Ping { n: 5 });
    let report = bus.shutdown(Shutdown::Drain, PATIENCE);
    assert_eq!((report.completed, report.cancelled), (6, 0));
    assert!(ping.is_completed() && bus.is_idle());

    let bus = manual("cut off");
    let events: Vec<_> = (0..3).map(|n| bus.emit(Ping { n })).collect();
    let report = bus.shutdown(Shutdown::Now, PATIENCE);
    assert_eq!((report.completed, report.cancelled), (0, 3));
    assert!(events.iter().all(|event| event.wait().is_err_and(|e| e == WaitError::Cancelled)));
    assert_eq!(bus.run_pending(), 0);
    Ok(())
}

#[test]
fn the_last_handle_drops_what_nobody_can_pump_any_more() {
    let bus = manual("dropped");
    bus.on_with(
        HandlerOptions::new().retry(Retry::attempts(2).delay(Duration::from_secs(3600))),
        |ping: &Event<Ping>| if ping.n == 0 { Err("again") } else { Ok(ping.n) },
    );
    let waits_for_retry = bus.emit(Ping { n: 0 });
    bus.run_pending();
    let queued = bus.emit(Ping { n: 1 });
    assert!(!waits_for_retry.is_completed());
    drop(bus);
    assert_eq!(queued.wait().map(|_| ()), Err(WaitError::Dropped));
    assert!(waits_for_retry.is_completed());
}

#[test]
fn nothing_is_kept_by_a_bus_that_is_gone() {
    let payload = Arc::new(());
    struct Held(#[expect(dead_code, reason = "counted")] Arc<()>);
    impl Payload for Held {
        type Output = ();
    }
    for _ in 0..20 {
        let bus = manual("leaks");
        let captured = Arc::clone(&payload);
        bus.on(move |_: &Event<Held>| drop(Arc::clone(&captured)));
        bus.emit(Held(Arc::clone(&payload)));
        bus.run_pending();
        bus.emit(Held(Arc::clone(&payload)));
        drop(bus);
    }
    common::eventually(|| Arc::strong_count(&payload) == 1);
}

#[test]
fn run_pending_where_it_makes_no_sense_runs_nothing() -> Anything {
    let threaded = EventBus::new("threaded one");
    let warnings = warnings_naming(threaded.label());
    assert_eq!(threaded.run_pending(), 0);
    assert!(!warnings().is_empty());

    // In a handler of a threaded bus, which is no pump thread.
    let bus = manual("foreign");
    bus.on(|ping: &Event<Ping>| ping.n);
    bus.emit(Ping { n: 1 });
    let inside = bus.clone();
    threaded.on(move |_: &Event<Ping>| u32::try_from(inside.run_pending()).unwrap_or(99));
    // Asked by another thread, since this one would run the bus while it waits.
    assert_eq!(thread::spawn(move || threaded.emit(Ping { n: 0 }).result()).join().expect("no panic")?, 0);

    // In a handler of its own.
    bus.on(|outer: &Event<Outer>| {
        outer.bus().emit(Ping { n: 2 });
        u32::try_from(outer.bus().run_pending()).unwrap_or(99)
    });
    let outer = bus.emit(Outer { n: 0 });
    assert_eq!(bus.run_pending(), 3);
    assert_eq!(outer.result()?, 0, "the bus is serial, and busy with this very handler");

    // While another thread pumps.
    let (go_on, entered) = stands::<Other>(&bus);
    let _opener = go_on.opener();
    bus.emit(Other);
    let pump = bus.clone();
    let pumping = thread::spawn(move || pump.run_pending());
    entered.wait();
    assert_eq!(bus.run_pending(), 0);
    go_on.open();
    assert_eq!(pumping.join().expect("no panic"), 1);
    bus.emit(Ping { n: 3 });
    assert_eq!(bus.run_pending(), 1, "and this thread is the pump thread again");
    Ok(())
}

#[test]
fn a_handler_of_one_manual_bus_pumps_another() -> Anything {
    let (bus, second) = (manual("one"), manual("two"));
    second.on(|ping: &Event<Ping>| -> Result<u32, HandlerError> { Ok(ping.bus().emit(Inner { n: ping.n }).result()?) });
    second.on(|inner: &Event<Inner>| inner.n + 1);
    let to = second.downgrade();
    bus.on(move |outer: &Event<Outer>| -> Result<u32, HandlerError> {
        let second = to.upgrade().ok_or("gone")?;
        let ping = second.emit_with(Ping { n: outer.n }, EventOptions::new().detached());
        second.run_pending();
        let own = outer.bus().emit(Inner { n: 0 });
        own.wait()?;
        Ok(ping.result()?)
    });
    bus.on(|inner: &Event<Inner>| inner.n);
    let outer = bus.emit(Outer { n: 5 });
    bus.run_pending();
    assert_eq!(outer.result()?, 6);
    assert!(bus.is_idle() && second.is_idle());
    Ok(())
}

#[test]
fn a_chain_that_is_too_deep_for_one_stack_ends_with_an_error() {
    within(PATIENCE, || {
        let bus = manual("deep");
        bus.on(|ping: &Event<Ping>| -> Result<u32, HandlerError> {
            // So that a few hundred are enough.
            let room = std::hint::black_box([0_u8; 8192]);
            if ping.n == u32::from(room[0]) {
                return Ok(0);
            }
            Ok(ping.bus().emit(Ping { n: ping.n - 1 }).result()? + 1)
        });
        let deep = bus.emit(Ping { n: 400 });
        bus.run_pending();
        assert!(deep.result().is_err());
        let shallow = bus.emit(Ping { n: 20 });
        bus.run_pending();
        assert_eq!(shallow.result().ok(), Some(20));
    });
}

#[test]
fn values_per_thread_live_on_the_pump_thread() -> Anything {
    let bus = manual("locals");
    bus.on_per_worker(HandlerOptions::new(), || {
        let seen = std::rc::Rc::new(std::cell::Cell::new(0));
        Ok(move |_: &Event<Ping>| {
            seen.set(seen.get() + 1);
            Ok(Some(seen.get()))
        })
    });
    let events: Vec<_> = (0..5).map(|n| bus.emit(Ping { n })).collect();
    bus.run_pending();
    assert_eq!(events[4].result()?, 5);
    assert_eq!(bus.shutdown(Shutdown::Drain, PATIENCE).abandoned, 0);
    Ok(())
}

#[test]
fn middlewares_are_told_on_the_pump_thread() -> Anything {
    struct Tell(Log, ThreadId);
    impl Middleware for Tell {
        fn on_event_change(&self, _: &EventBus, event: &AnyEvent, status: EventStatus) {
            self.0.push(format!("{} {status:?} {}", event.event_type(), thread::current().id() == self.1));
        }
    }
    let log = Log::new();
    let tell = Tell(log.clone(), thread::current().id());
    let bus = EventBus::builder("told").manual().middleware(tell).build()?;
    bus.on(|ping: &Event<Ping>| ping.n);
    bus.emit(Ping { n: 1 });
    assert_eq!(log.entries(), ["Ping Pending true"]);
    bus.run_pending();
    assert_eq!(log.entries()[1..], ["Ping Started true", "Ping Completed true"]);
    assert!(bus.is_idle());
    Ok(())
}

#[test]
fn a_global_turn_comes_back_to_the_pump() -> Anything {
    let runtime = Runtime::builder().max_threads(2).build()?;
    let ready = Gate::new();
    let (wake, first) = (ready.clone(), AtomicUsize::new(0));
    let bus = EventBus::builder("global")
        .manual()
        .runtime(&runtime)
        .on_ready(move || {
            if first.fetch_add(1, Ordering::SeqCst) == 1 {
                wake.open();
            }
        })
        .build()?;
    let work = EventBus::builder("work").runtime(&runtime).build()?;
    let (go_on, entered) = stands::<Other>(&work);
    let _opener = go_on.opener();
    bus.on(|ping: &Event<Ping>| ping.n);
    let global = EventOptions::new().concurrency(EventConcurrency::GlobalSerial);
    let other = work.emit_with(Other, global.clone());
    entered.wait();
    let ping = bus.emit_with(Ping { n: 4 }, global);
    assert_eq!(bus.run_pending(), 0, "somebody else's turn");
    go_on.open();
    ready.wait();
    assert_eq!(bus.run_pending(), 1);
    assert_eq!(ping.result()?, 4);
    other.wait()?;
    Ok(())
}
