//! `off`: once it has answered true, no invocation of the handler starts, on any thread; one that has started goes on with its attempts.

#[macro_use]
mod common;

use common::{Gate, Log, PATIENCE, clean, eventually, within};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::Duration;
use threadbus::*;

payload!(Outer { n: u32 } => u32);
payload!(Blocker);

type Slot = Arc<OnceLock<HandlerInfo>>;

const HANDLERS: [HandlerConcurrency; 4] = [
    HandlerConcurrency::EventSerial,
    HandlerConcurrency::BusSerial,
    HandlerConcurrency::GlobalSerial,
    HandlerConcurrency::Parallel,
];

fn skipped(event: &Event<Outer>, handler: &HandlerInfo) -> bool {
    let result = event.results().into_iter().find(|result| result.handler.id() == handler.id()).unwrap();
    let error = result.error.as_deref();
    result.attempts == 0
        && matches!(error, Some(HandlerFailure::Cancelled { cause }) if cause.kind == CauseKind::Off)
        && error.unwrap().to_string().contains("removal of")
}

fn parallel(name: &str, handlers: HandlerConcurrency) -> EventBus {
    let builder = EventBus::builder(name).event_concurrency(EventConcurrency::Parallel);
    builder.handler_concurrency(handlers).build().unwrap()
}

/// A handler of the nested event takes another off; that one is next of the outer event, and is not called.
#[test]
fn the_outer_event_of_a_nested_one_goes_on_without_it() {
    for mode in HANDLERS {
        for by_permit in [false, true] {
            within(PATIENCE, move || {
                let bus = EventBus::builder("app").handler_concurrency(mode).build().unwrap();
                let (slot, log) = (Slot::default(), Log::new());
                let (victim, off) = (Arc::clone(&slot), Arc::new(AtomicBool::new(false)));
                let set = Arc::clone(&off);
                bus.on_with(
                    HandlerOptions::new().concurrency(HandlerConcurrency::EventSerial),
                    move |outer: &Event<Outer>| -> Result<u32, HandlerError> {
                        if outer.n == 0 {
                            return Ok(outer.bus().emit(Outer { n: 1 }).result()?);
                        }
                        if outer.bus().off(victim.get().unwrap()) {
                            set.store(true, Ordering::SeqCst);
                        }
                        Ok(outer.n)
                    },
                );
                let seen = log.clone();
                let options =
                    HandlerOptions::new().concurrency(if by_permit { mode } else { HandlerConcurrency::EventSerial });
                let info = bus.on_with(options, move |outer: &Event<Outer>| {
                    if off.load(Ordering::SeqCst) {
                        seen.push("called after off");
                    }
                    outer.n
                });
                let _ = slot.set(info.clone());
                let outer = bus.emit(Outer { n: 0 });
                // The one value that there is.
                assert_eq!(outer.result().unwrap(), 1, "{mode:?}");
                assert!(log.is_empty(), "{mode:?}");
                if mode != HandlerConcurrency::Parallel {
                    assert!(skipped(&outer, &info), "{mode:?} {:?}", outer.results());
                    assert_eq!(bus.metrics().failed, 0, "{mode:?}");
                }
            });
        }
    }
}

#[test]
fn what_was_queued_or_in_line_skips_it_and_leaves_nothing_behind() {
    for mode in HANDLERS {
        within(PATIENCE, move || {
            let bus = EventBus::builder("app")
                .event_concurrency(EventConcurrency::Parallel)
                .handler_concurrency(mode)
                .build()
                .unwrap();
            let limit = Limit::new(1);
            let (entered, go) = (Gate::new(), Gate::new());
            let _opener = go.opener();
            let (inside, gone) = (entered.clone(), go.clone());
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&calls);
            let options = HandlerOptions::new().limit(limit.clone());
            let info = bus.on_with(options, move |outer: &Event<Outer>| {
                counted.fetch_add(1, Ordering::SeqCst);
                inside.open();
                gone.wait();
                outer.n
            });
            let events: Vec<_> = (0..20).map(|n| bus.emit(Outer { n })).collect();
            entered.wait();
            assert!(bus.off(&info) && !bus.off(&info));
            go.open();
            events.iter().for_each(|event| drop(event.wait_timeout(PATIENCE).unwrap()));
            bus.wait_until_idle_timeout(PATIENCE).unwrap();
            assert_eq!(calls.load(Ordering::SeqCst), 1, "{mode:?}");
            // Whoever was skipped gave its place, its permit and its turn back.
            bus.on_with(HandlerOptions::new().limit(limit), |outer: &Event<Outer>| outer.n);
            clean(&bus.emit(Outer { n: 3 }));
            assert_eq!(bus.metrics().failed, 0);
        });
    }
}

#[test]
fn a_started_invocation_keeps_its_attempts() {
    for delay in [Duration::ZERO, Duration::from_millis(5)] {
        within(PATIENCE, move || {
            let bus = EventBus::new("app");
            let options = HandlerOptions::new().retry(Retry::attempts(4).delay(delay));
            bus.on_with(options, |outer: &Event<Outer>| {
                let context = HandlerContext::current().ok_or("not in a handler")?;
                context.bus().off(&context.handler());
                if context.attempt() < 3 { Err(HandlerError::from("not yet")) } else { Ok(outer.n) }
            });
            assert_eq!(bus.emit(Outer { n: 9 }).result().unwrap(), 9);
            assert!(!bus.has_handler::<Outer>());
        });
    }
}

/// The way to run something once, on however many threads.
#[test]
fn its_answer_runs_what_follows_once() {
    for _round in 0..50 {
        within(PATIENCE, || {
            let bus = EventBus::builder("app")
                .event_concurrency(EventConcurrency::Parallel)
                .handler_concurrency(HandlerConcurrency::Parallel)
                .build()
                .unwrap();
            let (once, meet) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(4)));
            let (count, met) = (Arc::clone(&once), Arc::clone(&meet));
            bus.on(move |outer: &Event<Outer>| -> Result<u32, HandlerError> {
                let me = HandlerContext::current().ok_or("not in a handler")?.handler();
                met.wait();
                if outer.bus().off(&me) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                Ok(outer.n)
            });
            let events: Vec<_> = (0..4).map(|n| bus.emit(Outer { n })).collect();
            events.iter().for_each(clean);
            assert_eq!(once.load(Ordering::SeqCst), 1);
        });
    }
}

/// `off` on one thread, events on another: what starts afterwards has started before.
#[test]
fn nothing_starts_on_any_thread_once_it_has_answered() {
    for concurrency in [EventConcurrency::BusSerial, EventConcurrency::Parallel] {
        for _round in 0..100 {
            within(PATIENCE, move || {
                let bus = EventBus::builder("app").event_concurrency(concurrency).build().unwrap();
                let started = Arc::new(AtomicUsize::new(0));
                let count = Arc::clone(&started);
                let info = bus.on(move |outer: &Event<Outer>| {
                    count.fetch_add(1, Ordering::SeqCst);
                    outer.n
                });
                let emitter = bus.clone();
                let thread = thread::spawn(move || (0..50).map(|n| emitter.emit(Outer { n })).collect::<Vec<_>>());
                assert!(bus.off(&info));
                let events = thread.join().unwrap();
                events.iter().for_each(|event| drop(event.wait()));
                let results = || events.iter().flat_map(Event::results);
                let ran = results().filter(|result| result.value.is_some()).count();
                assert_eq!(started.load(Ordering::SeqCst), ran);
                assert!(results().all(|result| result.value.is_some() || result.attempts == 0));
            });
        }
    }
}

#[test]
fn off_all_and_off_named_do_the_same() {
    for by_name in [false, true] {
        within(PATIENCE, move || {
            let bus = EventBus::new("app");
            bus.on(move |outer: &Event<Outer>| {
                let gone = if by_name { outer.bus().off_named("Outer") } else { outer.bus().off_all::<Outer>() };
                assert_eq!(gone, 3);
                outer.n
            });
            (0..2).for_each(|_| drop(bus.on(|_: &Event<Outer>| -> u32 { panic!("called after off") })));
            let outer = bus.emit(Outer { n: 5 });
            assert_eq!(outer.result().unwrap(), 5);
            assert_eq!(outer.results().len(), 3);
        });
    }
}

/// A handler that is gone has nothing to wait for: its events complete although the place is taken for long.
#[test]
fn what_stands_in_line_for_its_place_leaves_the_line_at_once() {
    for mode in HANDLERS {
        for patience in [None, Some(PATIENCE * 10)] {
            within(PATIENCE, move || {
                let (bus, there) = (parallel("app", mode), parallel("elsewhere", HandlerConcurrency::Parallel));
                let limit = Limit::new(1);
                let limit = patience.map_or(limit.clone(), |after| limit.acquire_timeout(after));
                let (entered, go) = (Gate::new(), Gate::new());
                let _opener = go.opener();
                let (inside, gone) = (entered.clone(), go.clone());
                // The place is taken on another bus, so that nothing but the line is in the way.
                there.on_with(HandlerOptions::new().limit(limit.clone()), move |outer: &Event<Outer>| {
                    inside.open();
                    gone.wait();
                    outer.n
                });
                let holder = there.emit(Outer { n: 99 });
                entered.wait();
                let info = bus.on_with(HandlerOptions::new().limit(limit.clone()), |outer: &Event<Outer>| outer.n);
                let other = bus.on(|outer: &Event<Outer>| outer.n + 100);
                let events: Vec<_> = (0..10).map(|n| bus.emit(Outer { n })).collect();
                // At least one is in line.
                eventually(|| bus.metrics().waiting > 0);
                assert!(bus.off(&info));
                for event in &events {
                    event.wait_timeout(PATIENCE).unwrap();
                    // Those that had not started have never heard of it.
                    let knows = event.results().iter().any(|result| result.handler.id() == info.id());
                    assert!(!knows || skipped(event, &info), "{mode:?} {:?}", event.results());
                    let ran = event.results().into_iter().find(|result| result.handler.id() == other.id()).unwrap();
                    assert_eq!(ran.value, Some(event.n + 100), "{mode:?}");
                }
                bus.wait_until_idle_timeout(PATIENCE).unwrap();
                let metrics = bus.metrics();
                assert_eq!((metrics.failed, metrics.waiting, metrics.in_flight), (0, 0, 0), "{mode:?}");
                // The line is intact: who comes next gets the place, and one at a time.
                bus.on_with(HandlerOptions::new().limit(limit), |outer: &Event<Outer>| outer.n);
                let next = bus.emit(Outer { n: 3 });
                eventually(|| bus.metrics().waiting == 1);
                go.open();
                clean(&next);
                clean(&holder);
            });
        }
    }
}

#[test]
fn whoever_waits_for_room_behind_it_goes_on() {
    within(PATIENCE, || {
        let bus = EventBus::builder("full")
            .event_concurrency(EventConcurrency::Parallel)
            .handler_concurrency(HandlerConcurrency::Parallel)
            .queue_capacity(2, OnFull::Block)
            .build()
            .unwrap();
        let (entered, go) = (Gate::new(), Gate::new());
        let _opener = go.opener();
        let (inside, gone) = (entered.clone(), go.clone());
        let info = bus.on_with(HandlerOptions::new().limit(Limit::new(1)), move |outer: &Event<Outer>| {
            inside.open();
            gone.wait();
            outer.n
        });
        let first = bus.emit(Outer { n: 0 });
        entered.wait();
        (1..3).for_each(|n| drop(bus.emit(Outer { n })));
        eventually(|| bus.metrics().waiting == 2);
        let emitter = bus.clone();
        let blocked = thread::spawn(move || emitter.emit(Outer { n: 3 }));
        assert!(bus.off(&info));
        assert!(blocked.join().unwrap().wait_timeout(PATIENCE).is_ok());
        assert!(!first.is_completed(), "what has started goes on");
    });
}

/// Events get into the line while the handler is taken off: none of them stays there.
#[test]
fn what_gets_into_the_line_meanwhile_leaves_it_too() {
    for _round in 0..50 {
        within(PATIENCE, || {
            let bus = parallel("app", HandlerConcurrency::Parallel);
            let (entered, go) = (Gate::new(), Gate::new());
            let _opener = go.opener();
            let (inside, gone) = (entered.clone(), go.clone());
            let info = bus.on_with(HandlerOptions::new().limit(Limit::new(1)), move |outer: &Event<Outer>| {
                inside.open();
                gone.wait();
                outer.n
            });
            let _first = bus.emit(Outer { n: 0 });
            entered.wait();
            let emitter = bus.clone();
            let thread = thread::spawn(move || (1..20).map(|n| emitter.emit(Outer { n })).collect::<Vec<_>>());
            assert!(bus.off(&info));
            for event in thread.join().unwrap() {
                event.wait_timeout(PATIENCE).unwrap();
            }
        });
    }
}

#[test]
fn many_are_taken_off_in_any_order_and_the_rest_run_in_theirs() {
    let bus = parallel("many", HandlerConcurrency::EventSerial);
    let handlers: Vec<HandlerInfo> = (0..300)
        .map(|n| match n % 3 {
            0 => bus.on(|outer: &Event<Outer>| outer.n),
            1 => bus.on_named("Outer", |_: &AnyEvent| {}),
            _ => bus.on_any(|_: &AnyEvent| {}),
        })
        .collect();
    // 7 and 300 have no common divisor: each once, far from the one before.
    let order: Vec<usize> = (0..300).map(|n| n * 7 % 300).collect();
    let (off, left) = order.split_at(200);
    for (n, at) in off.iter().enumerate() {
        assert!(bus.off(&handlers[*at]) && !bus.off(&handlers[*at]), "{n}");
    }
    let mut left = left.to_vec();
    left.sort_unstable();
    let listed: Vec<_> = bus.handlers().iter().map(HandlerInfo::id).collect();
    assert_eq!(listed, left.iter().map(|at| handlers[*at].id()).collect::<Vec<_>>());
    // Wildcards come after the others.
    left.sort_by_key(|at| (at % 3 == 2, *at));
    let ran = bus.emit(Outer { n: 0 }).wait().unwrap();
    let ran: Vec<_> = ran.results().iter().map(|result| result.handler.id()).collect();
    assert_eq!(ran, left.iter().map(|at| handlers[*at].id()).collect::<Vec<_>>());
}

#[test]
fn the_other_handlers_of_what_stands_in_line_go_on_without_it() {
    for mode in [HandlerConcurrency::EventSerial, HandlerConcurrency::Parallel] {
        let bus = parallel("beside", mode);
        let (limit, gate, started) = (Limit::new(1), Gate::new(), Gate::new());
        let _open = gate.opener();
        let (closed, begins) = (gate.clone(), started.clone());
        bus.on_with(HandlerOptions::new().limit(limit.clone()), move |_: &Event<Blocker>| {
            begins.open();
            closed.wait();
        });
        let stands = bus.on_with(HandlerOptions::new().limit(limit), |outer: &Event<Outer>| outer.n);
        bus.on(|outer: &Event<Outer>| outer.n + 1);
        bus.emit(Blocker);
        started.wait();
        let events: Vec<_> = (0..20).map(|n| bus.emit(Outer { n })).collect();
        eventually(|| bus.metrics().queued == 0);
        assert!(bus.off(&stands), "{mode:?}");
        for (n, event) in events.iter().enumerate() {
            let event = event.wait_timeout(PATIENCE).unwrap();
            assert!(skipped(&event, &stands), "{mode:?}");
            assert_eq!(event.result().unwrap(), n as u32 + 1);
        }
    }
}
