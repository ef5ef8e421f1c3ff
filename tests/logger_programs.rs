//! Property: with a logger that emits on any bus, waits, stands still or panics, and middlewares that refuse, every program ends, and the log
//! falls silent.
//!
//! Each program is made from a seed: `THREADBUS_SEED=17 THREADBUS_SEEDS=1 cargo test --test logger_programs`.
#![cfg(not(threadbus_shuttle))]

mod common;
#[path = "common/logger.rs"]
mod logger;
#[path = "common/random.rs"]
mod random;

use common::{PATIENCE, eventually, lock, within};
use log::LevelFilter;
use logger::Logger;
use random::Random;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use threadbus::middleware::LogEvents;
use threadbus::*;

const MS: Duration = Duration::from_millis(1);

struct Node {
    seed: u64,
    depth: u32,
}
impl Payload for Node {
    type Output = u32;
}

/// Of no family: whoever lets it go has one panic.
struct Bomb;
impl Payload for Bomb {
    type Output = ();
}
impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb, on purpose");
    }
}

/// Refuses one in so many, or panics instead.
struct Refuses(u64, Mutex<Random>);
impl Middleware for Refuses {
    fn on_emit(&self, _: &EventBus, _: &AnyEvent) -> Result<(), BoxError> {
        let (refuses, panics) = {
            let mut random = lock(&self.1);
            (random.one_in(self.0), random.one_in(5))
        };
        assert!(!(refuses && panics), "on purpose");
        if refuses { Err("not now".into()) } else { Ok(()) }
    }
}

type Buses = Arc<Mutex<Vec<WeakBus>>>;

fn any(buses: &Buses, random: &mut Random) -> Option<EventBus> {
    let buses = lock(buses);
    let at = usize::try_from(random.below(buses.len() as u64)).unwrap();
    buses[at].upgrade()
}

/// Payloads may panic where they go: here, that is the caller's own.
fn shrug(body: impl FnOnce()) {
    drop(catch_unwind(AssertUnwindSafe(body)));
}

fn emit(bus: &EventBus, random: &mut Random, depth: u32) {
    let node = Node { seed: random.next(), depth };
    let options =
        EventOptions::new().retry(Retry::attempts(1 + random.below(2) as u32).delay(random.below(3) as u32 * MS));
    shrug(|| match random.below(9) {
        0 => drop(bus.emit_after(MS, node)),
        1 => drop(bus.emit_now(node)),
        2 => drop(bus.emit_with(node, options.detached())),
        3 => {
            bus.emit_with(node, options).cancel();
        }
        4 => drop(bus.emit(node).wait_timeout(20 * MS)),
        5 => drop(bus.batch().on_progress(|_| panic!("on purpose")).emit(node)),
        6 => drop(bus.emit_with(Bomb, EventOptions::new().detached())),
        _ => drop(bus.emit_with(node, options)),
    });
}

fn handle(node: &Event<Node>, buses: &Buses, log: Option<()>) -> Result<u32, HandlerError> {
    let mut random = Random::new(node.seed);
    if random.one_in(4)
        && let Some(context) = HandlerContext::current()
    {
        let (buses, mut random) = (Arc::clone(buses), random.clone());
        context.on_cancel(move || {
            if let Some(bus) = any(&buses, &mut random) {
                emit(&bus, &mut random, 0);
            }
            assert!(!random.one_in(2), "on purpose");
        });
    }
    for _ in 0..random.below(3) {
        if let (Some(bus), true) = (any(buses, &mut random), node.depth > 0) {
            emit(&bus, &mut random, node.depth - 1);
        }
    }
    match random.below(30) {
        0..3 => panic!("on purpose"),
        3..6 => Err("failed")?,
        6 if log.is_none() => thread::sleep(25 * MS),
        7..10 => drop(Limit::new(0)),
        10 => drop(node.bus().subscribe_any()),
        _ => {}
    }
    Ok(1)
}

fn program(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let threads = 1 + random.below(4) as usize;
    let runtime = Runtime::builder().max_threads(threads).hard_limit(threads + 6).build().unwrap();
    let buses: Buses = Arc::default();
    let mut kept = Vec::new();
    for n in 0..2 + random.below(3) {
        let mut builder = EventBus::builder(&format!("bus{n}")).runtime(&runtime).handler_timeout(Some(15 * MS));
        builder = builder.event_concurrency(match random.below(4) {
            0 => EventConcurrency::Parallel,
            1 => EventConcurrency::GlobalSerial,
            _ => EventConcurrency::BusSerial,
        });
        builder =
            builder.handler_slow_after(Some(5 * MS)).max_history([Some(0), Some(3), None][random.below(3) as usize]);
        if random.one_in(3) {
            let full = [OnFull::Reject, OnFull::DropOldest, OnFull::RunInline, OnFull::Block][random.below(4) as usize];
            builder = builder.queue_capacity(1 + random.below(6) as usize, full);
        }
        if random.one_in(2) {
            builder = builder.middleware(LogEvents::new());
        }
        if random.one_in(3) {
            builder = builder.middleware(Refuses(1 + random.below(4), Mutex::new(Random::new(random.next()))));
        }
        let manual = random.one_in(4);
        if manual {
            builder = builder.manual().on_ready(|| panic!("on purpose"));
        }
        kept.push((builder.build().unwrap(), manual));
    }
    lock(&buses).extend(kept.iter().map(|(bus, _)| bus.downgrade()));
    for (bus, manual) in &kept {
        for _ in 0..1 + random.below(2) {
            let (all, log) = (Arc::clone(&buses), manual.then_some(()));
            let retry = Retry::attempts(2).only_if(|_| panic!("on purpose"));
            let options = HandlerOptions::new();
            let options = if random.one_in(3) { options.retry(retry) } else { options };
            bus.on_with(options, move |node: &Event<Node>| handle(node, &all, log));
        }
    }
    let (of_logger, all) = (Mutex::new(Random::new(random.next())), Arc::clone(&buses));
    let level = [LevelFilter::Info, LevelFilter::Debug, LevelFilter::Trace][random.below(3) as usize];
    let stands = Arc::new(AtomicUsize::new(0));
    let log = Logger::new(level, move |_, _| {
        let mut random = {
            let mut shared = lock(&of_logger);
            Random::new(shared.next())
        };
        let Some(bus) = any(&all, &mut random) else { return };
        match random.below(12) {
            0 => panic!("the log, on purpose"),
            1 if stands.fetch_add(1, SeqCst) < 20 => thread::sleep(5 * MS),
            2 => {
                let info = bus.on(|_: &Event<Node>| 2);
                bus.off(&info);
            }
            3 => drop(bus.run_pending()),
            4 => drop(bus.find::<Node>().past(true).future(20 * MS).first()),
            5 => drop(bus.wait_until_idle_timeout(20 * MS)),
            6 => {
                bus.pause();
                bus.resume();
            }
            7 => {
                bus.emit_every(MS, Twin).cancel();
            }
            _ => {
                for _ in 0..1 + random.below(2) {
                    let depth = u32::from(random.one_in(4));
                    emit(&bus, &mut random, depth);
                }
            }
        }
    });
    let outside = {
        let (all, mut random) = (Arc::clone(&buses), Random::new(random.next()));
        thread::spawn(move || {
            for _ in 0..6 {
                if let Some(bus) = any(&all, &mut random) {
                    emit(&bus, &mut random, 2);
                }
            }
        })
    };
    let pump = || {
        for (bus, manual) in &kept {
            if *manual {
                bus.run_pending();
            }
        }
    };
    for _ in 0..6 {
        if let Some(bus) = any(&buses, &mut random) {
            emit(&bus, &mut random, 2);
        }
        pump();
    }
    // What blocks on a full queue of a manual bus goes on when that is pumped.
    eventually(|| {
        pump();
        outside.is_finished()
    });
    outside.join().unwrap();
    let (mut calm, since) = (0, std::time::Instant::now());
    eventually(|| {
        pump();
        if since.elapsed() > PATIENCE - PATIENCE / 10 {
            let heard = log.heard();
            eprintln!(
                "{:#?} {:#?} {} records, the last: {:#?}",
                kept,
                runtime,
                heard.len(),
                &heard[heard.len().saturating_sub(12)..]
            );
            std::process::exit(1);
        }
        let idle = kept.iter().all(|(bus, _)| bus.is_idle()) && runtime.stats().abandoned == 0;
        calm = if idle { calm + 1 } else { 0 };
        calm > 30
    });
    log.falls_silent();
    log.heard().len()
}

#[derive(Clone)]
struct Twin;
impl Payload for Twin {
    type Output = ();
}

#[test]
fn every_program_ends_whatever_its_logger_does() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (first, seeds) = (number("THREADBUS_SEED", 1), number("THREADBUS_SEEDS", 30));
    let mut heard = 0;
    for seed in first..first + seeds {
        let ended = catch_unwind(|| within(4 * PATIENCE, move || program(seed)));
        heard += ended.unwrap_or_else(|panic| {
            eprintln!("THREADBUS_SEED={seed}");
            std::panic::resume_unwind(panic)
        });
    }
    assert!(heard > 0 || seeds < 10);
}
