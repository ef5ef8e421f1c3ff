//! Property: whatever a logger emits, and whatever comes of that, on whichever thread, is never heard of in the log.
//!
//! Each program is made from a seed: `THREADBUS_SEED=17 THREADBUS_SEEDS=1 cargo test --test logger_marks`.
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
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use threadbus::middleware::LogEvents;
use threadbus::*;

const MS: Duration = Duration::from_millis(1);
/// The ways from an event to what comes of it.
const WAYS: u64 = 14;

/// The program's own, of which the log speaks.
#[derive(Clone)]
struct Node(u64);
impl Payload for Node {
    type Output = ();
}

/// What the logger emits, and all that comes of it.
#[derive(Clone, Serialize, Deserialize)]
struct Echo {
    seed: u64,
    depth: u32,
}
event!(Echo => u32);

/// One program's buses and the threads that its code has started.
#[derive(Clone, Default)]
struct World {
    buses: Arc<Mutex<Vec<WeakBus>>>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// How often each way was gone.
    ways: Arc<[AtomicUsize; WAYS as usize]>,
}

impl World {
    fn any(&self, random: &mut Random) -> Option<EventBus> {
        let buses = lock(&self.buses);
        buses[random.below(buses.len() as u64) as usize].upgrade()
    }

    fn keep(&self, thread: JoinHandle<()>) {
        lock(&self.threads).push(thread);
    }

    /// Emits below `parent`: in its handler, or in the logger, where there is none.
    fn go_on(&self, parent: Option<&Event<Echo>>, random: &mut Random, depth: u32) {
        let Some(bus) = self.any(random) else { return };
        let echo = Echo { seed: random.next(), depth };
        let way = random.below(WAYS);
        self.ways[way as usize].fetch_add(1, SeqCst);
        match (way, parent, HandlerContext::current().filter(|_| parent.is_some())) {
            (0, ..) => self.keep(scope::spawn(move || drop(bus.emit(echo)))),
            (1, _, Some(context)) => self.keep(thread::spawn(move || context.attach(|| drop(bus.emit(echo))))),
            (2, Some(parent), _) => {
                // A plain thread, which has nothing but the event.
                let options = EventOptions::new().parent(parent);
                self.keep(thread::spawn(move || drop(bus.emit_with(echo, options))));
            }
            (3, ..) => drop(bus.emit_after(random.below(3) as u32 * MS, echo)),
            (4, ..) => {
                let beats = bus.emit_every_with(MS, echo, EventOptions::new(), Overlap::Queue);
                let until = MS * (1 + random.below(4) as u32);
                self.keep(thread::spawn(move || {
                    thread::sleep(until);
                    beats.cancel();
                }));
            }
            (5, _, Some(context)) => context.on_cancel(move || drop(bus.emit(echo))),
            (6, ..) => {
                drop(bus.batch().on_progress(move |_| drop(bus.emit(echo.clone()))).emit(Echo { seed: 0, depth: 0 }))
            }
            (7, ..) => _ = bus.emit(echo).cancel(),
            (8, ..) => context::without(|| drop(bus.emit(echo))),
            (9, ..) => drop(context::with(7_u8, || bus.emit_with(echo, EventOptions::new().detached()))),
            (10, ..) => {
                let json = json!({ "event_type": "Echo", "seed": echo.seed, "depth": echo.depth, "event_priority": 9 });
                drop(bus.emit_json(&json));
            }
            (11, Some(parent), _) => {
                // By its handle alone, from a thread that knows of nothing: what is emitted there is the child of a child.
                let (parent, seed) = (parent.clone(), random.next());
                self.keep(thread::spawn(move || {
                    let child = bus.emit_with(echo, EventOptions::new().parent(&parent));
                    drop(bus.emit_with(Echo { seed, depth: 0 }, EventOptions::new().parent(&child)));
                }));
            }
            (12, ..) => drop(bus.try_emit(echo)),
            (13, ..) => drop(bus.emit_now(echo)),
            _ => drop(bus.emit(echo)),
        }
    }
}

/// Whatever the log has something to say about.
fn misbehave(random: &mut Random) -> Result<u32, HandlerError> {
    match random.below(8) {
        0 => panic!("on purpose"),
        1 | 2 => Err("failed")?,
        // Past its time.
        3 => thread::sleep(12 * MS),
        _ => {}
    }
    Ok(1)
}

struct Refuses(Mutex<Random>);
impl Middleware for Refuses {
    fn on_emit(&self, _: &EventBus, _: &AnyEvent) -> Result<(), BoxError> {
        let drawn = lock(&self.0).below(12);
        match drawn {
            0 => Err("not now".into()),
            1 => panic!("on purpose"),
            _ => Ok(()),
        }
    }
}

fn build(n: u64, runtime: &Runtime, random: &mut Random) -> EventBus {
    let mut builder = EventBus::builder(&format!("bus{n}")).runtime(runtime).handler_timeout(Some(8 * MS));
    builder = builder.handler_slow_after(Some(3 * MS)).max_history([Some(0), Some(3), None][random.below(3) as usize]);
    builder = match random.below(3) {
        0 => builder.event_concurrency(EventConcurrency::Parallel),
        1 => builder.event_concurrency(EventConcurrency::GlobalSerial),
        _ => builder,
    };
    if random.one_in(3) {
        let full = [OnFull::Reject, OnFull::DropOldest, OnFull::RunInline][random.below(3) as usize];
        builder = builder.queue_capacity(2, full);
    }
    if random.one_in(2) {
        builder = builder.middleware(LogEvents::new());
    }
    if random.one_in(3) {
        builder = builder.middleware(Refuses(Mutex::new(Random::new(random.next()))));
    }
    if random.one_in(3) {
        builder = builder.dead_letters(5);
    }
    builder.build().unwrap()
}

/// How many records there were, and what was heard of what the logger emitted.
fn program(seed: u64, ways: &Arc<[AtomicUsize; WAYS as usize]>) -> (usize, Vec<String>) {
    let mut random = Random::new(seed);
    let threads = 1 + random.below(4) as usize;
    let runtime = Runtime::builder().max_threads(threads).hard_limit(threads + 6).build().unwrap();
    let world = World { ways: Arc::clone(ways), ..World::default() };
    let buses: Vec<_> = (0..2 + random.below(2)).map(|n| build(n, &runtime, &mut random)).collect();
    lock(&world.buses).extend(buses.iter().map(EventBus::downgrade));
    let mut readers = Vec::new();
    for bus in &buses {
        let all = world.clone();
        let options = if random.one_in(3) {
            HandlerOptions::new().retry(Retry::attempts(2).delay(MS))
        } else {
            HandlerOptions::new()
        };
        bus.on_with(options, move |echo: &Event<Echo>| {
            let mut random = Random::new(echo.seed);
            for _ in 0..random.below(3) {
                if echo.depth > 0 {
                    all.go_on(Some(echo), &mut random, echo.depth - 1);
                }
            }
            misbehave(&mut random)
        });
        bus.on(|node: &Event<Node>| misbehave(&mut Random::new(node.0)).map(drop));
        if random.one_in(3) {
            // A thread that reads, and answers what it read.
            let answers = bus.downgrade();
            readers.push(bus.subscribe().spawn("reader", move |echo: Event<Echo>| {
                if let (Some(bus), true) = (answers.upgrade(), echo.depth > 0) {
                    let options = EventOptions::new().parent(&echo);
                    drop(bus.emit_with(Echo { seed: echo.seed ^ 1, depth: 0 }, options));
                }
            }));
        }
    }
    if random.one_in(2) {
        buses[0].forward_to::<Echo>(&buses[1]);
    }
    let (of_logger, all) = (Mutex::new(Random::new(random.next())), world.clone());
    let level = [LevelFilter::Info, LevelFilter::Debug, LevelFilter::Trace][random.below(3) as usize];
    let log = Logger::new(level, move |_, _| {
        let mut random = Random::new(lock(&of_logger).next());
        all.go_on(None, &mut random, 2);
    });
    for _ in 0..8 {
        if let Some(bus) = world.any(&mut random) {
            drop(bus.emit(Node(random.next())));
        }
    }
    let mut calm = 0;
    eventually(|| {
        let started = std::mem::take(&mut *lock(&world.threads));
        let none = started.is_empty();
        started.into_iter().for_each(|thread| _ = thread.join());
        let idle = none && buses.iter().all(EventBus::is_idle) && runtime.stats().abandoned == 0;
        calm = if idle { calm + 1 } else { 0 };
        calm > 30
    });
    // Their letters run once more, by the program itself.
    for bus in &buses {
        let _ = bus.redrive(5);
    }
    eventually(|| {
        let started = std::mem::take(&mut *lock(&world.threads));
        let none = started.is_empty();
        started.into_iter().for_each(|thread| _ = thread.join());
        none && buses.iter().all(EventBus::is_idle)
    });
    drop(buses);
    readers.into_iter().for_each(|reader| _ = reader.join());
    log.falls_silent();
    let mut of_echoes = log.naming("Echo");
    // The forward, which the program registered, ends with its target.
    of_echoes.retain(|text| !(text.starts_with("forward to ") && text.ends_with(": not registered any more")));
    (log.heard().len(), of_echoes)
}

#[test]
fn nothing_is_heard_of_what_a_logger_emits_and_of_what_comes_of_it() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (first, seeds) = (number("THREADBUS_SEED", 1), number("THREADBUS_SEEDS", 30));
    let ways: Arc<[AtomicUsize; WAYS as usize]> = Arc::default();
    let mut heard = 0;
    for seed in first..first + seeds {
        let count = Arc::clone(&ways);
        let ended = catch_unwind(AssertUnwindSafe(|| within(4 * PATIENCE, move || program(seed, &count))));
        let (records, of_echoes) = ended.unwrap_or_else(|panic| {
            eprintln!("THREADBUS_SEED={seed}");
            std::panic::resume_unwind(panic)
        });
        assert!(of_echoes.is_empty(), "THREADBUS_SEED={seed}: {of_echoes:#?}");
        heard += records;
    }
    let ways: Vec<_> = ways.iter().map(|way| way.load(SeqCst)).collect();
    assert!(seeds < 10 || heard > 0 && ways.iter().all(|gone| *gone > 0), "{heard} records, ways {ways:?}");
}
