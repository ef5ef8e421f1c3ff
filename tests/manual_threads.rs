//! Manual and threaded buses together: who waits for whom, and that none of it hangs.

#[macro_use]
mod common;
#[path = "common/random.rs"]
mod random;

use common::{Gate, Log, PATIENCE, within};
use random::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use threadbus::*;

payload!(Ask { n: u32 } => u32);
payload!(Frame { n: u32 } => u32);
payload!(Deep { n: u32 } => u32);

type Anything = Result<(), Box<dyn std::error::Error>>;

/// A manual bus, a threaded one, and the thread that pumps: the test's own.
struct Pair {
    ui: EventBus,
    work: EventBus,
}

impl Pair {
    fn new() -> Pair {
        let runtime = Runtime::builder().max_threads(8).build().expect("a runtime");
        let ui = EventBus::builder("ui").manual().runtime(&runtime).build().expect("a bus");
        let work = EventBus::builder("work").runtime(&runtime).build().expect("a bus");
        Pair { ui, work }
    }
}

/// On a thread of its own, so that what hangs fails.
fn bounded(body: impl FnOnce() -> Anything + Send + 'static) -> Anything {
    within(PATIENCE, move || body().map_err(|error| error.to_string())).map_err(Into::into)
}

#[test]
fn a_wait_elsewhere_waits_for_the_pump() -> Anything {
    bounded(|| {
        let Pair { ui, .. } = Pair::new();
        ui.on(|ask: &Event<Ask>| ask.n + 1);
        let (emitter, emitted) = (ui.clone(), Gate::new());
        let open = emitted.clone();
        let waiter = thread::spawn(move || {
            let ask = emitter.emit(Ask { n: 1 });
            open.open();
            ask.result()
        });
        emitted.wait();
        assert_eq!(ui.run_pending(), 1);
        assert_eq!(waiter.join().expect("no panic")?, 2);
        Ok(())
    })
}

#[test]
fn a_threaded_handler_waits_for_what_only_the_waiting_pump_can_run() -> Anything {
    bounded(|| {
        let Pair { ui, work } = Pair::new();
        let pump = thread::current().id();
        ui.on(move |frame: &Event<Frame>| {
            assert_eq!(thread::current().id(), pump);
            frame.n * 2
        });
        let to = ui.downgrade();
        work.on(move |ask: &Event<Ask>| -> Result<u32, HandlerError> {
            let ui = to.upgrade().ok_or("gone")?;
            Ok(ui.emit(Frame { n: ask.n }).result()? + ui.emit(Frame { n: ask.n }).wait_timeout(PATIENCE)?.n)
        });
        // Outside of handlers, in each of the waits.
        assert_eq!(work.emit(Ask { n: 1 }).result()?, 3);
        assert_eq!(work.emit(Ask { n: 2 }).wait_timeout(PATIENCE)?.n, 2);
        assert_eq!(work.emit(Ask { n: 3 }).wait_in_order()?.n, 3);
        assert_eq!(work.emit(Ask { n: 4 }).first()?, Some(12));
        work.emit(Ask { n: 5 });
        work.wait_until_idle()?;
        let batch = work.batch();
        batch.extend((0..4).map(|n| Ask { n }));
        assert_eq!(batch.wait()?.completed, 4);
        work.emit(Ask { n: 6 });
        let mut frames = ui.subscribe::<Frame>();
        work.emit(Ask { n: 7 });
        frames.recv()?;
        work.emit(Ask { n: 8 });
        let found = work.find::<Ask>().status(EventStatus::Completed).filter(|ask| ask.n == 8).future(PATIENCE);
        assert!(found.first().is_some());
        work.emit(Ask { n: 9 });
        assert_eq!(work.shutdown(Shutdown::Drain, PATIENCE).cancelled, 0);
        Ok(())
    })
}

#[test]
fn and_so_while_the_pump_waits_inside_of_a_handler() -> Anything {
    bounded(|| {
        let Pair { ui, work } = Pair::new();
        let to = work.downgrade();
        ui.on(move |frame: &Event<Frame>| -> Result<u32, HandlerError> {
            let work = to.upgrade().ok_or("gone")?;
            let ask = work.emit_with(Ask { n: frame.n }, EventOptions::new().detached());
            match frame.n % 4 {
                0 => Ok(ask.result()?),
                1 => Ok(ask.wait_in_order()?.result()?),
                2 => Ok(ask.wait_timeout(PATIENCE)?.result()?),
                _ => {
                    work.wait_until_idle()?;
                    Ok(ask.result()?)
                }
            }
        });
        ui.on(|deep: &Event<Deep>| deep.n + 100);
        let to = ui.downgrade();
        work.on(move |ask: &Event<Ask>| -> Result<u32, HandlerError> {
            Ok(to.upgrade().ok_or("gone")?.emit(Deep { n: ask.n }).result()?)
        });
        let frames: Vec<_> = (0..8).map(|n| ui.emit(Frame { n })).collect();
        assert_eq!(ui.run_pending(), 16);
        for (n, frame) in (0..).zip(frames) {
            assert_eq!(frame.result()?, n + 100);
        }
        Ok(())
    })
}

#[test]
fn in_order_waits_of_a_threaded_handler_are_met_too() -> Anything {
    bounded(|| {
        let Pair { ui, work } = Pair::new();
        ui.on(|deep: &Event<Deep>| deep.n + 1);
        let to = ui.downgrade();
        work.on(move |ask: &Event<Ask>| -> Result<u32, HandlerError> {
            let ui = to.upgrade().ok_or("gone")?;
            ui.emit(Deep { n: 0 });
            Ok(ui.emit(Deep { n: ask.n }).wait_in_order()?.result()?)
        });
        assert_eq!(work.emit(Ask { n: 1 }).result()?, 2);
        let to = work.downgrade();
        ui.on(move |frame: &Event<Frame>| -> Result<u32, HandlerError> {
            let detached = EventOptions::new().detached();
            Ok(to.upgrade().ok_or("gone")?.emit_with(Ask { n: frame.n }, detached).result()?)
        });
        let frame = ui.emit(Frame { n: 5 });
        ui.run_pending();
        assert_eq!(frame.result()?, 6);
        Ok(())
    })
}

#[test]
fn forwards_in_both_directions() -> Anything {
    bounded(|| {
        let Pair { ui, work } = Pair::new();
        let log = Log::new();
        let l = log.clone();
        ui.on(move |ask: &Event<Ask>| {
            l.push(format!("ui {}", ask.n));
            1
        });
        let l = log.clone();
        work.on(move |ask: &Event<Ask>| {
            l.push(format!("work {}", ask.n));
            10
        });
        ui.forward_all_to(&work);
        work.forward_all_to(&ui);
        let out = ui.emit(Ask { n: 1 });
        assert_eq!(out.result_list()?, [1, 10]);
        assert_eq!(out.path().len(), 2);
        let back = work.emit(Ask { n: 2 });
        assert_eq!(back.wait()?.results().len(), 4);
        assert_eq!(log.len(), 4);
        // A handler elsewhere waits for what is forwarded here.
        let third = EventBus::builder("third").runtime(&work.runtime()).build()?;
        let to = work.downgrade();
        third.on(move |frame: &Event<Frame>| -> Result<u32, HandlerError> {
            Ok(to.upgrade().ok_or("gone")?.emit(Ask { n: frame.n }).result_list()?.into_iter().sum())
        });
        assert_eq!(third.emit(Frame { n: 3 }).result()?, 11);
        assert!(ui.is_idle() && work.is_idle());
        Ok(())
    })
}

#[test]
fn a_real_cycle_is_still_found() -> Anything {
    bounded(|| {
        let Pair { ui, work } = Pair::new();
        let log = Log::new();
        let slot = Arc::new(std::sync::OnceLock::<Event<Ask>>::new());
        let (l, awaited) = (log.clone(), Arc::clone(&slot));
        ui.on(move |_: &Event<Deep>| -> Result<u32, HandlerError> {
            let ask = awaited.get().ok_or("not yet")?;
            match ask.wait() {
                Err(WaitError::Deadlock(chain)) => {
                    assert!(chain.contains("Deep") || chain.contains("Ask"), "{chain}");
                    l.push("found");
                    Ok(1)
                }
                // The other one was told, and has ended.
                Ok(_) => Ok(1),
                other => Err(format!("{other:?}").into()),
            }
        });
        let (to, ready, l) = (ui.downgrade(), Gate::new(), log.clone());
        let set = ready.clone();
        work.on(move |_: &Event<Ask>| -> Result<u32, HandlerError> {
            set.wait();
            let deep = to.upgrade().ok_or("gone")?.emit_with(Deep { n: 0 }, EventOptions::new().detached());
            // Whichever of the two comes second to its wait.
            match deep.wait() {
                Err(WaitError::Deadlock(_)) => {
                    l.push("found");
                    Ok(1)
                }
                other => Ok(other?.result()?),
            }
        });
        let ask = work.emit(Ask { n: 1 });
        drop(slot.set(ask.clone()));
        ready.open();
        assert_eq!(ask.result()?, 1);
        // Both, if they come at the same time.
        assert!(!log.entries().is_empty());
        Ok(())
    })
}

#[test]
fn a_wait_that_the_stack_of_the_pump_thread_makes_endless_is_found() -> Anything {
    bounded(|| {
        // The pump thread waits in Frame for Ask; Ask waits for Deep, which runs on top; Deep waits for Frame's own event.
        let Pair { ui, work } = Pair::new();
        let slot = Arc::new(std::sync::OnceLock::<Event<Frame>>::new());
        let awaited = Arc::clone(&slot);
        ui.on(move |_: &Event<Deep>| -> Result<u32, HandlerError> {
            match awaited.get().ok_or("not yet")?.wait() {
                Err(WaitError::Deadlock(_)) => Ok(7),
                other => Err(format!("{other:?}").into()),
            }
        });
        let to = ui.downgrade();
        work.on(move |_: &Event<Ask>| -> Result<u32, HandlerError> {
            let detached = EventOptions::new().detached();
            Ok(to.upgrade().ok_or("gone")?.emit_with(Deep { n: 0 }, detached).result()?)
        });
        let to = work.downgrade();
        ui.on(move |_: &Event<Frame>| -> Result<u32, HandlerError> {
            let detached = EventOptions::new().detached();
            Ok(to.upgrade().ok_or("gone")?.emit_with(Ask { n: 0 }, detached).result()?)
        });
        let frame = ui.emit(Frame { n: 0 });
        drop(slot.set(frame.clone()));
        ui.run_pending();
        assert_eq!(frame.result()?, 7);
        Ok(())
    })
}

#[test]
fn emit_now_from_elsewhere_goes_to_the_front() -> Anything {
    bounded(|| {
        let Pair { ui, work } = Pair::new();
        let (log, pump) = (Log::new(), thread::current().id());
        let l = log.clone();
        ui.on(move |ask: &Event<Ask>| {
            assert_eq!(thread::current().id(), pump);
            l.push(ask.n);
            ask.n
        });
        ui.emit(Ask { n: 1 });
        let (emitter, done) = (ui.clone(), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&done);
        let other = thread::spawn(move || {
            let event = emitter.emit_now(Ask { n: 2 });
            flag.store(true, Ordering::SeqCst);
            event.is_completed()
        });
        common::eventually(|| ui.metrics().in_flight == 1);
        assert!(!done.load(Ordering::SeqCst));
        assert_eq!(ui.run_pending(), 2);
        assert!(other.join().expect("no panic"));
        assert_eq!(log.entries(), ["2", "1"]);
        assert!(ui.emit_now(Ask { n: 3 }).is_completed(), "here, the pump thread runs it at once");
        // From a threaded handler, while this thread waits.
        let to = ui.downgrade();
        work.on(move |frame: &Event<Frame>| -> Result<u32, HandlerError> {
            Ok(to.upgrade().ok_or("gone")?.emit_now(Ask { n: frame.n }).result()?)
        });
        assert_eq!(work.emit(Frame { n: 4 }).result()?, 4);
        Ok(())
    })
}

#[test]
fn an_attached_thread_is_told_that_it_would_wait_for_ever() -> Anything {
    bounded(|| {
        let Pair { ui, work } = Pair::new();
        ui.on(|deep: &Event<Deep>| deep.n);
        let to = work.downgrade();
        ui.on(move |frame: &Event<Frame>| -> Result<u32, HandlerError> {
            let context = HandlerContext::current().ok_or("outside")?;
            let work = to.upgrade().ok_or("gone")?;
            thread::scope(|scope| {
                let helper = scope.spawn(|| {
                    context.attach(|| {
                        let own = frame.bus().emit(Deep { n: 1 }).wait();
                        assert!(matches!(own, Err(WaitError::Deadlock(_))), "{own:?}");
                        work.emit(Ask { n: frame.n }).result()
                    })
                });
                Ok(helper.join().map_err(|_| "panicked")??)
            })
        });
        work.on(|ask: &Event<Ask>| ask.n);
        let frame = ui.emit(Frame { n: 3 });
        ui.run_pending();
        assert_eq!(frame.result()?, 3);
        Ok(())
    })
}

#[test]
fn the_pump_moves_to_who_calls_run_pending() -> Anything {
    bounded(|| {
        let Pair { ui, work } = Pair::new();
        let log = Log::new();
        let l = log.clone();
        ui.on(move |ask: &Event<Ask>| {
            l.push(thread::current().name().unwrap_or("?").to_owned());
            ask.n
        });
        let stop = Arc::new(AtomicBool::new(false));
        let (bus, end) = (ui.clone(), Arc::clone(&stop));
        let pump = thread::Builder::new().name("the pump".into()).spawn(move || {
            while !end.load(Ordering::SeqCst) {
                bus.run_pending();
                thread::yield_now();
            }
        })?;
        common::eventually(|| {
            ui.emit(Ask { n: 0 });
            !log.is_empty()
        });
        let to = ui.downgrade();
        work.on(move |frame: &Event<Frame>| -> Result<u32, HandlerError> {
            Ok(to.upgrade().ok_or("gone")?.emit(Ask { n: frame.n }).result()?)
        });
        // This thread has built the bus, but does not run it any more.
        for n in 0..200 {
            assert_eq!(work.emit(Frame { n }).result()?, n);
            assert_eq!(ui.emit(Ask { n }).result()?, n);
        }
        stop.store(true, Ordering::SeqCst);
        pump.join().map_err(|_| "the pump panicked")?;
        assert!(log.entries().iter().all(|name| name == "the pump"));
        Ok(())
    })
}

#[test]
fn a_shutdown_elsewhere_waits_for_the_pump_until_its_timeout() -> Anything {
    bounded(|| {
        let Pair { ui, .. } = Pair::new();
        ui.on(|ask: &Event<Ask>| ask.n);
        let ask = ui.emit(Ask { n: 1 });
        let bus = ui.clone();
        let report =
            thread::spawn(move || bus.shutdown(Shutdown::Drain, Duration::from_millis(20))).join().expect("ends");
        assert_eq!((report.completed, report.cancelled), (0, 1));
        assert_eq!(ask.wait().map(drop), Err(WaitError::Cancelled));

        let Pair { ui, .. } = Pair::new();
        ui.on(|ask: &Event<Ask>| ask.n);
        // Until the shutdown has begun, which ends the pause.
        ui.pause();
        let ask = ui.emit(Ask { n: 2 });
        let bus = ui.clone();
        let report = thread::spawn(move || bus.shutdown(Shutdown::Drain, PATIENCE));
        common::eventually(|| {
            ui.run_pending();
            report.is_finished()
        });
        assert_eq!(report.join().expect("ends").completed, 1);
        assert_eq!(ask.result()?, 2);
        Ok(())
    })
}

#[test]
fn whoever_waits_is_told_when_the_last_handle_goes() -> Anything {
    bounded(|| {
        let Pair { ui, work } = Pair::new();
        ui.on(|deep: &Event<Deep>| deep.n);
        let (to, claimed) = (Arc::new(std::sync::Mutex::new(Some(ui))), Gate::new());
        let (slot, open) = (Arc::clone(&to), claimed.clone());
        work.on(move |_: &Event<Ask>| -> Result<u32, HandlerError> {
            let deep = common::lock(&slot).as_ref().ok_or("gone")?.emit(Deep { n: 1 });
            open.open();
            Ok(u32::from(deep.wait().is_err()))
        });
        let ask = work.emit(Ask { n: 0 });
        claimed.wait();
        // The thread that could pump goes on without the bus; it waits outside, and so serves nothing of it.
        let result = thread::spawn(move || {
            drop(common::lock(&to).take());
            ask.result()
        });
        assert_eq!(result.join().expect("no panic")?, 1);
        Ok(())
    })
}

/// On every bus a handler that emits on others and waits in some way, by a seed; the pump thread pumps, waits and sleeps.
/// Both were queued, and one runner takes them one after the other: the second must not wait for it.
#[test]
fn what_is_queued_beside_a_waiting_handler_runs_in_its_park() -> Anything {
    bounded(|| {
        let runtime = Runtime::builder().build()?;
        let ui = EventBus::builder("ui").manual().event_concurrency(EventConcurrency::Parallel);
        let ui = ui.handler_concurrency(HandlerConcurrency::Parallel).runtime(&runtime).build()?;
        let work = EventBus::builder("work").runtime(&runtime).build()?;
        let to = work.clone();
        ui.on(move |deep: &Event<Deep>| -> Result<u32, HandlerError> {
            Ok(to.emit(Ask { n: deep.n }).wait_in_order()?.result()?)
        });
        ui.on(|frame: &Event<Frame>| frame.n);
        let first = ui.emit(Deep { n: 1 });
        let second = ui.emit(Frame { n: 2 });
        work.on(move |ask: &Event<Ask>| -> Result<u32, HandlerError> { Ok(ask.n + second.wait_in_order()?.result()?) });
        ui.run_pending();
        assert_eq!(first.result()?, 3);
        Ok(())
    })
}

fn stress(seed: u64, rounds: u32) {
    let runtime = Runtime::builder().max_threads(6).build().expect("a runtime");
    let manual = |name: &str, concurrency| {
        EventBus::builder(name).manual().event_concurrency(concurrency).runtime(&runtime).build().expect("a bus")
    };
    let buses = Arc::new([
        manual("m0", EventConcurrency::BusSerial),
        EventBus::builder("t0").runtime(&runtime).build().expect("a bus"),
        manual("m1", EventConcurrency::Parallel),
        EventBus::builder("t1").event_concurrency(EventConcurrency::Parallel).runtime(&runtime).build().expect("a bus"),
    ]);
    let weak: Arc<Vec<WeakBus>> = Arc::new(buses.iter().map(EventBus::downgrade).collect());
    let pump = thread::current().id();
    let ran = Arc::new(AtomicUsize::new(0));
    for (at, bus) in buses.iter().enumerate() {
        let (weak, ran) = (Arc::clone(&weak), Arc::clone(&ran));
        bus.on(move |deep: &Event<Deep>| -> Result<u32, HandlerError> {
            assert!(at % 2 == 1 || thread::current().id() == pump, "a manual bus ran elsewhere");
            ran.fetch_add(1, Ordering::SeqCst);
            let mut random = Random::new(u64::from(deep.n) ^ seed ^ ((at as u64) << 40));
            let depth = deep.n >> 24;
            if depth == 0 {
                return Ok(0);
            }
            let count = random.below(3);
            for _ in 0..count {
                let Some(bus) = weak[random.below(4) as usize].upgrade() else { continue };
                let child = bus.emit(Deep { n: ((depth - 1) << 24) | random.below(1 << 24) as u32 });
                // A real cycle is answered, and time is bounded; whatever else comes back is fine, as long as it does.
                let _ = match random.below(8) {
                    0 => Ok(child),
                    1 => child.wait_in_order(),
                    2 => child.wait_timeout(Duration::from_millis(random.below(20))),
                    3 => {
                        let _ = weak[random.below(4) as usize].upgrade().map(|bus| bus.forward(&child));
                        child.wait()
                    }
                    _ => child.wait(),
                };
            }
            Ok(1)
        });
    }
    let mut random = Random::new(seed);
    for _ in 0..rounds {
        let event = buses[random.below(4) as usize].emit(Deep { n: (4 << 24) | random.below(1 << 24) as u32 });
        match random.below(6) {
            0 => drop(event.wait()),
            1 => drop(event.wait_in_order()),
            2 => drop(event.wait_timeout(Duration::from_millis(3))),
            3 => drop(buses[random.below(4) as usize].wait_until_idle()),
            4 => drop(buses[0].run_pending_for(Duration::from_micros(50))),
            _ => drop(buses[2].run_pending()),
        }
    }
    let busy = || buses.iter().any(|bus| !bus.is_idle());
    while busy() {
        for bus in buses.iter() {
            bus.wait_until_idle().expect("outside of handlers");
        }
    }
    for bus in buses.iter() {
        let m = bus.metrics();
        assert_eq!(m.emitted, m.completed + m.cancelled + m.dropped, "{bus:?}");
    }
    assert!(ran.load(Ordering::SeqCst) >= rounds as usize);
}

#[test]
fn manual_and_threaded_buses_in_random_nesting() {
    let seeds: u64 = std::env::var("THREADBUS_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let first: u64 = std::env::var("THREADBUS_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for seed in first..first + seeds {
        eprintln!("seed {seed}");
        within(Duration::from_secs(30), move || stress(seed, 40));
    }
}
