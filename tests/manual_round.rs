//! `run_pending_once`: a round ends, whatever its handlers emit.

#[macro_use]
mod common;

use common::{Log, PATIENCE, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use threadbus::*;

payload!(Step { n: u32 } => u32);
payload!(Ask { n: u32 } => u32);

fn manual(concurrency: EventConcurrency) -> EventBus {
    EventBus::builder("game").manual().event_concurrency(concurrency).build().expect("a manual bus")
}

const MODES: [EventConcurrency; 3] =
    [EventConcurrency::BusSerial, EventConcurrency::Parallel, EventConcurrency::GlobalSerial];

#[test]
fn a_round_runs_what_was_queued_and_not_what_that_emits() {
    for concurrency in MODES {
        within(PATIENCE, move || {
            let (bus, log) = (manual(concurrency), Log::new());
            let seen = log.clone();
            bus.on(move |step: &Event<Step>| -> u32 {
                seen.push(step.n);
                // Above everything that is queued, and yet not before it.
                let urgent = EventOptions::new().priority(Priority::new(10).expect("a priority"));
                step.bus().emit_with(Step { n: step.n + 100 }, urgent);
                step.n
            });
            for n in 0..3 {
                bus.emit(Step { n });
            }
            for round in 0..4 {
                assert_eq!(bus.run_pending_once(), 3, "{concurrency:?} {round}");
                assert_eq!(bus.pending(), 3);
            }
            let expected: Vec<String> =
                (0..4).flat_map(|round| (0..3).map(move |n| (round * 100 + n).to_string())).collect();
            assert_eq!(log.entries(), expected, "{concurrency:?}");
        });
    }
}

#[test]
fn a_round_with_nothing_left_leaves_the_bus_as_it_was() {
    for concurrency in MODES {
        let ready = Arc::new(AtomicUsize::new(0));
        let calls = Arc::clone(&ready);
        let bus = EventBus::builder("ui")
            .manual()
            .event_concurrency(concurrency)
            .on_ready(move || {
                calls.fetch_add(1, Ordering::SeqCst);
            })
            .build()
            .expect("a manual bus");
        bus.on(|step: &Event<Step>| step.n);
        for round in 1..=5 {
            assert_eq!(bus.run_pending_once(), 0);
            bus.emit(Step { n: 1 });
            bus.emit(Step { n: 2 });
            assert_eq!(ready.load(Ordering::SeqCst), round, "{concurrency:?}: told once of each time");
            assert_eq!((bus.run_pending_once(), bus.is_idle(), bus.pending()), (2, true, 0), "{concurrency:?}");
        }
    }
}

#[test]
fn what_a_round_waits_for_runs_in_it() {
    for concurrency in MODES {
        within(PATIENCE, move || {
            let (bus, other) = (manual(concurrency), manual(EventConcurrency::BusSerial));
            other.on(|ask: &Event<Ask>| ask.n);
            bus.on(|ask: &Event<Ask>| ask.n);
            let to = other.downgrade();
            bus.on(move |step: &Event<Step>| -> Result<u32, ResultError> {
                step.bus().emit(Ask { n: 1000 });
                let here = step.bus().emit(Ask { n: 1 }).result()?;
                let there = to.upgrade().expect("a bus").emit(Ask { n: 10 });
                Ok(here + there.result()? + step.bus().emit_now(Ask { n: 100 }).result()?)
            });
            let steps = [1, 2].map(|n| bus.emit(Step { n }));
            assert_eq!(bus.run_pending_once(), 6, "two, and two each that they wait for here");
            assert_eq!(steps.map(|step| step.results().len()), [1, 1]);
            assert_eq!((bus.pending(), bus.run_pending_once(), bus.run_pending_once()), (2, 2, 0));
            assert!(bus.is_idle() && other.is_idle());
        });
    }
}

#[test]
fn a_round_in_a_round_ends_as_well() {
    within(PATIENCE, || {
        let bus = EventBus::builder("game")
            .manual()
            .event_concurrency(EventConcurrency::Parallel)
            .handler_concurrency(HandlerConcurrency::Parallel)
            .build()
            .expect("a manual bus");
        bus.on(|step: &Event<Step>| {
            let next = step.bus().emit(Step { n: step.n + 1 });
            drop(next);
            if step.n == 0 { step.bus().run_pending_once() as u32 } else { step.n }
        });
        bus.emit(Step { n: 0 });
        assert_eq!(bus.run_pending_once(), 2);
        assert_eq!(bus.pending(), 1);
        // And with a budget, or none.
        assert_eq!(bus.run_pending_for(Duration::ZERO), 0);
        assert_eq!((bus.run_pending_once(), bus.pending()), (1, 1));
    });
}

#[test]
fn a_retry_that_is_due_waits_for_the_next_round() {
    within(PATIENCE, || {
        let bus = manual(EventConcurrency::Parallel);
        bus.on_with(
            HandlerOptions::new().retry(Retry::attempts(1000).delay(Duration::from_micros(10))),
            |step: &Event<Step>| -> Result<u32, &str> { if step.n == 0 { Err("again") } else { Ok(step.n) } },
        );
        bus.emit(Step { n: 0 });
        bus.emit(Step { n: 1 });
        for _ in 0..5 {
            // Whether the delay of nothing is over before or after this round, it ends.
            bus.run_pending_once();
        }
        assert!(!bus.is_idle());
    });
}

#[test]
fn what_is_paused_stays_and_what_is_not_manual_is_not_pumped() {
    let bus = manual(EventConcurrency::BusSerial);
    bus.on(|step: &Event<Step>| step.n);
    bus.emit(Step { n: 1 });
    bus.pause();
    assert_eq!((bus.run_pending_once(), bus.pending()), (0, 1));
    bus.resume();
    assert_eq!((bus.run_pending_once(), bus.pending()), (1, 0));
    assert_eq!(EventBus::new("threaded").run_pending_once(), 0);
}

#[test]
fn what_is_emitted_elsewhere_in_a_round_is_not_lost() {
    for concurrency in MODES {
        within(PATIENCE, move || {
            let bus = manual(concurrency);
            bus.on(|step: &Event<Step>| step.n);
            let emitter = bus.clone();
            let thread = std::thread::spawn(move || (0..5000).for_each(|n| drop(emitter.emit(Step { n }))));
            let mut ran = 0;
            while !thread.is_finished() {
                ran += bus.run_pending_once();
            }
            thread.join().expect("no panic");
            ran += bus.run_pending_once() + bus.run_pending_once();
            assert_eq!((ran, bus.pending(), bus.is_idle()), (5000, 0, true), "{concurrency:?}");
        });
    }
}
