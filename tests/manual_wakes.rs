//! `on_ready`: a loop that sleeps until it is woken handles all, whatever it calls and whatever others do meanwhile.
//!
//! `THREADBUS_SOAK_SECONDS=30 cargo test --release --test manual_wakes` runs the loop for longer; without it, for a second.

#[macro_use]
mod common;
#[path = "common/random.rs"]
mod random;

use common::{PATIENCE, within};
use random::Random;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use threadbus::*;

payload!(Step { n: u64 } => u64);
payload!(Spawns { n: u64 });

const MODES: [EventConcurrency; 3] =
    [EventConcurrency::BusSerial, EventConcurrency::Parallel, EventConcurrency::GlobalSerial];

/// A manual bus that counts its wake-ups, and knows the thread of the last.
#[derive(Clone)]
struct Ui {
    bus: EventBus,
    calls: Arc<AtomicUsize>,
    last: Arc<Mutex<Option<ThreadId>>>,
}

impl Ui {
    fn new(runtime: &Runtime, concurrency: EventConcurrency) -> Ui {
        let (calls, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
        let (count, by) = (Arc::clone(&calls), Arc::clone(&last));
        let builder = EventBus::builder("ui").runtime(runtime).manual().event_concurrency(concurrency);
        let bus = builder
            .on_ready(move || {
                *by.lock().unwrap() = Some(thread::current().id());
                count.fetch_add(1, Ordering::SeqCst);
            })
            .build()
            .unwrap();
        bus.on(|step: &Event<Step>| step.n);
        Ui { bus, calls, last }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn emit_elsewhere(&self, priority: Priority) -> Event<Step> {
        let bus = self.bus.clone();
        let emit = move || bus.emit_with(Step { n: 1 }, EventOptions::new().priority(priority));
        thread::spawn(emit).join().unwrap()
    }

    fn sleeps(&self) -> bool {
        self.bus.pending() == 0 && self.bus.is_idle()
    }

    /// Whoever sleeps now is woken by the next emit.
    #[track_caller]
    fn wakes_for_the_next(&self, after: &str) {
        assert!(self.sleeps(), "{after}: {:?}", self.bus);
        let before = self.calls();
        let step = self.emit_elsewhere(Priority::NORMAL);
        assert!(self.calls() > before, "{after}: nobody wakes the loop, {:?}", self.bus);
        self.bus.run_pending();
        assert!(step.is_completed());
    }
}

fn runtime() -> Runtime {
    Runtime::builder().build().unwrap()
}

#[test]
fn the_next_emit_wakes_whoever_sees_nothing_pending_whatever_was_called_before() {
    within(PATIENCE, || {
        for concurrency in MODES {
            let runtime = runtime();
            let ui = Ui::new(&runtime, concurrency);
            let bus = &ui.bus;
            bus.on(|_: &Event<Spawns>| thread::sleep(Duration::from_micros(200)));
            bus.emit(Spawns { n: 0 });
            assert_eq!(bus.run_pending_for(Duration::from_micros(100)), 1);
            ui.wakes_for_the_next("a budget that ended with the last event");
            bus.emit(Step { n: 1 }).wait().unwrap();
            ui.wakes_for_the_next("a wait on the pump thread");
            bus.emit(Step { n: 1 });
            bus.wait_until_idle().unwrap();
            ui.wakes_for_the_next("a wait for idleness");
            let step = bus.emit(Step { n: 1 });
            step.cancel();
            ui.wakes_for_the_next("a cancel of the only event");
            bus.pause();
            let step = bus.emit(Step { n: 1 });
            bus.run_pending();
            step.cancel();
            bus.resume();
            ui.wakes_for_the_next("a cancel under a pause");
            bus.emit(Step { n: 1 });
            bus.run_pending_once();
            ui.wakes_for_the_next("a round");
            bus.emit_now(Step { n: 1 });
            ui.wakes_for_the_next("an event that ran at once");
            let other = EventBus::builder("other").runtime(&runtime).build().unwrap();
            other.on(|step: &Event<Step>| step.n);
            other.forward_all_to(bus);
            let step = other.emit(Step { n: 1 });
            step.wait().unwrap();
            ui.wakes_for_the_next("a wait for what came from another bus");
            let mut steps = bus.subscribe::<Step>();
            bus.emit(Step { n: 1 });
            assert!(steps.recv_timeout(PATIENCE).is_ok());
            bus.run_pending();
            ui.wakes_for_the_next("a subscription");
        }
    });
}

#[test]
fn an_emit_from_elsewhere_onto_a_cancelled_queue_that_runs_at_once_wakes_too() {
    within(PATIENCE, || {
        for concurrency in MODES {
            let runtime = runtime();
            let ui = Ui::new(&runtime, concurrency);
            ui.bus.emit(Step { n: 1 }).cancel();
            assert!(ui.sleeps());
            let before = ui.calls();
            let bus = ui.bus.clone();
            let emitter = thread::spawn(move || bus.emit_now(Step { n: 2 }).result());
            while ui.calls() == before {
                thread::yield_now();
            }
            while !emitter.is_finished() {
                ui.bus.run_pending();
            }
            assert_eq!(emitter.join().unwrap().unwrap(), 2);
        }
    });
}

#[test]
fn what_a_call_of_the_pump_thread_leaves_wakes_it_again_from_there() {
    within(PATIENCE, || {
        for concurrency in MODES {
            let runtime = runtime();
            let ui = Ui::new(&runtime, concurrency);
            let bus = &ui.bus;
            bus.on(|spawns: &Event<Spawns>| drop(spawns.bus().emit(Spawns { n: spawns.n + 1 })));
            let told = |what: &str, call: &mut dyn FnMut()| {
                let before = ui.calls();
                *ui.last.lock().unwrap() = None;
                call();
                assert!(bus.pending() > 0, "{concurrency:?} {what}");
                assert_eq!(ui.calls(), before + 1, "{concurrency:?} {what}");
                assert_eq!(*ui.last.lock().unwrap(), Some(thread::current().id()), "{concurrency:?} {what}");
            };
            bus.emit(Spawns { n: 0 });
            told("a budget", &mut || assert!(bus.run_pending_for(Duration::from_micros(300)) < 1_000));
            told("a budget of nothing", &mut || assert!(bus.run_pending_for(Duration::ZERO) < 1_000));
            told("a round", &mut || assert!(bus.run_pending_once() < 1_000));
            let (first, _behind) = (bus.emit(Step { n: 1 }), bus.emit(Step { n: 2 }));
            told("a wait", &mut || assert_eq!(first.result().unwrap(), 1));
            let later = bus.emit_with(Step { n: 3 }, EventOptions::new().priority(Priority::LOW));
            told("a wait of no time", &mut || assert!(later.wait_timeout(Duration::ZERO).is_err()));
            let mut steps = bus.subscribe::<Step>();
            told("a subscription", &mut || assert!(steps.recv_timeout(Duration::from_millis(1)).is_err()));
            later.cancel();
            let _report = bus.shutdown(Shutdown::Now, Duration::ZERO);
        }
    });
}

#[test]
fn what_is_emitted_inside_of_a_nested_pump_wakes_nobody_before_the_outer_one_returns() {
    within(PATIENCE, || {
        let runtime = runtime();
        let ui = Ui::new(&runtime, EventConcurrency::Parallel);
        let inner = ui.clone();
        ui.bus.on(move |spawns: &Event<Spawns>| {
            let before = inner.calls();
            (0..3).for_each(|n| drop(spawns.bus().emit(Step { n })));
            spawns.bus().run_pending_for(Duration::ZERO);
            assert_eq!(inner.calls(), before);
        });
        let spawns = ui.bus.emit(Spawns { n: 0 });
        assert_eq!((ui.calls(), ui.bus.run_pending_once()), (1, 1));
        assert!(spawns.errors().is_empty(), "{spawns:?}");
        assert_eq!(ui.calls(), 2);
    });
}

/// Sleeps until it is woken, and then makes one call, whichever comes by chance.
fn sleeping_loop(ui: &Ui, woken: &Receiver<()>, random: &mut Random, end: impl Fn() -> bool) {
    let mut waited: Option<Event<Step>> = None;
    while !end() {
        if woken.recv_timeout(PATIENCE).is_err() {
            assert!(end(), "the loop sleeps for ever: {:?}", ui.bus);
            return;
        }
        if let Some(step) = waited.take() {
            step.cancel();
        }
        match random.below(8) {
            0 => _ = ui.bus.run_pending_once(),
            1 => _ = ui.bus.run_pending(),
            2 => {
                let urgent = EventOptions::new().priority(Priority::CRITICAL);
                ui.bus.emit_with(Step { n: 0 }, urgent).wait().unwrap();
            }
            3 => {
                let step = ui.bus.emit_with(Step { n: 0 }, EventOptions::new().priority(Priority::LOW));
                // In vain, or not.
                waited = step.wait_timeout(Duration::from_micros(random.below(300))).is_err().then_some(step);
            }
            _ => _ = ui.bus.run_pending_for(Duration::from_micros(10 + random.below(5_990))),
        }
    }
}

#[test]
fn a_loop_that_sleeps_until_it_is_woken_handles_all() {
    let seconds = std::env::var("THREADBUS_SOAK_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for concurrency in MODES {
        let emits = Duration::from_millis(seconds * 1_000 / MODES.len() as u64);
        within(emits + 3 * PATIENCE, move || {
            let (wake, woken) = channel();
            let bus = EventBus::builder("ui")
                .manual()
                .event_concurrency(concurrency)
                .max_history(Some(10))
                .on_ready(move || wake.send(()).unwrap_or(()))
                .build()
                .unwrap();
            let handled = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&handled);
            bus.on(move |step: &Event<Step>| {
                if step.n > 0 {
                    count.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_micros(step.n));
                }
                step.n
            });
            let ui = Ui { bus: bus.clone(), calls: Arc::default(), last: Arc::default() };
            let emitted = Arc::new(AtomicUsize::new(0));
            let emitters: Vec<_> = (0..2)
                .map(|seed| {
                    let (bus, emitted) = (bus.clone(), Arc::clone(&emitted));
                    thread::spawn(move || {
                        let (mut random, end) = (Random::new(seed + 1), Instant::now() + emits);
                        while Instant::now() < end {
                            for _ in 0..random.below(6) {
                                emitted.fetch_add(1, Ordering::SeqCst);
                                bus.emit(Step { n: 1 + random.below(400) });
                            }
                            thread::sleep(Duration::from_micros(random.below(2_000)));
                        }
                    })
                })
                .collect();
            let over = || {
                emitters.iter().all(thread::JoinHandle::is_finished)
                    && handled.load(Ordering::SeqCst) == emitted.load(Ordering::SeqCst)
            };
            sleeping_loop(&ui, &woken, &mut Random::new(7), over);
            assert_eq!(handled.load(Ordering::SeqCst), emitted.load(Ordering::SeqCst));
        });
    }
}
