//! Handlers that wait: herds, chains, and what stands beside them.

use crate::measure::{elapsed_each, processor_time_each};
use crate::row::{Row, point};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use threadbus::{
    Event, EventBus, EventConcurrency, HandlerContext, HandlerError, HandlerOptions, Limit, Payload, ResultError,
    Runtime,
};

pub static ROWS: &[Row] = &[
    // Among many each has a thread whose stack is in no cache.
    Row::new(
        "herd",
        "a handler that waits for one event with all others, and then for a place under a limit; processor time",
        &[point("50", || herd(50)), point("1,000", || herd(1_000))],
    )
    .times(3.0)
    .at_most(200e3)
    .runs(3),
    Row::new(
        "elsewhere",
        "a no-op under a limit, while elsewhere stands",
        &[
            point("nothing", || beside(Elsewhere::Nothing)),
            point("100 waits", || beside(Elsewhere::Waits(100))),
            point("a chain of 1,000 waits", || beside(Elsewhere::Chain(1_000))),
        ],
    )
    .times(1.5),
    // Most of what a level costs among many is memory that no cache has: 4 KB of stack.
    Row::new(
        "nested",
        "a level of nested waits; processor time",
        &[point("200", || nested(200)), point("5,000", || nested(5_000)), point("20,000", || nested(20_000))],
    )
    .times(4.0),
    Row::new(
        "late",
        "by how much the latest of 100 timeouts of 30 ms is late, beside a chain of waits and 20,000 events for two places",
        &[point("200", || late(200)), point("20,000", || late(20_000))],
    )
    .at_most(5e6)
    .runs(2),
];

struct Held;
impl Payload for Held {
    type Output = ();
}
struct Waits(Event<Held>);
impl Payload for Waits {
    type Output = ();
}
struct Leaf;
impl Payload for Leaf {
    type Output = ();
}
struct Level(u64);
impl Payload for Level {
    type Output = u64;
}

/// So many threads may wait.
fn runtime(threads: usize) -> Runtime {
    let runtime = Runtime::builder().max_threads(threads).hard_limit(threads + 64).stack_size(512 << 10);
    runtime.max_wait_depth(1_000_000).build().expect("a runtime")
}

fn bus(runtime: &Runtime, name: &str, events: EventConcurrency) -> EventBus {
    let bus = EventBus::builder(name).runtime(runtime).event_concurrency(events).handler_timeout(None);
    bus.max_history(Some(10)).build().expect("a bus")
}

/// An event whose handler stands until it is let go.
struct Stands {
    event: Event<Held>,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Stands {
    fn on(runtime: &Runtime) -> Stands {
        // Its own bus, since it keeps all permits.
        let bus = bus(runtime, "stands", EventConcurrency::BusSerial);
        let open = Arc::new((Mutex::new(false), Condvar::new()));
        let gate = Arc::clone(&open);
        bus.on(move |_: &Event<Held>| {
            let closed = gate.0.lock().expect("the gate");
            drop(gate.1.wait_while(closed, |open| !*open).expect("the gate"));
        });
        Stands { event: bus.emit(Held), open }
    }

    fn let_go(&self) {
        *self.open.0.lock().expect("the gate") = true;
        self.open.1.notify_all();
    }
}

fn until(happened: impl Fn() -> bool) {
    while !happened() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn herd(count: usize) -> f64 {
    let runtime = runtime(count + 8);
    let free = bus(&runtime, "free", EventConcurrency::Parallel);
    let stands = Stands::on(&runtime);
    free.on_with(HandlerOptions::new().limit(Limit::new(1)), |_: &Event<Leaf>| {});
    free.on(|waits: &Event<Waits>| -> Result<(), HandlerError> {
        waits.0.wait()?;
        waits.bus().emit(Leaf).wait()?;
        Ok(())
    });
    let herd: Vec<_> = (0..count).map(|_| free.emit(Waits(stands.event.clone()))).collect();
    until(|| runtime.stats().waiting == count);
    processor_time_each(count, || {
        stands.let_go();
        herd.iter().for_each(|event| event.result().expect("no error"));
    })
}

/// What waits while a limit on another bus is used.
#[derive(Clone, Copy)]
enum Elsewhere {
    Nothing,
    Waits(usize),
    Chain(u64),
}

fn beside(elsewhere: Elsewhere) -> f64 {
    const COUNT: usize = 2_000;
    let runtime = runtime(256);
    let free = bus(&runtime, "free", EventConcurrency::Parallel);
    let serial = bus(&runtime, "chain", EventConcurrency::BusSerial);
    let stands = Stands::on(&runtime);
    free.on(|waits: &Event<Waits>| waits.0.wait().map(drop));
    let (reached, awaited) = (Arc::new(AtomicUsize::new(0)), stands.event.clone());
    let at_the_end = Arc::clone(&reached);
    serial.on(move |level: &Event<Level>| -> Result<u64, HandlerError> {
        if level.0 == 0 {
            at_the_end.store(1, Ordering::SeqCst);
            awaited.wait()?;
            return Ok(0);
        }
        Ok(level.bus().emit(Level(level.0 - 1)).result()? + 1)
    });
    match elsewhere {
        Elsewhere::Nothing => {}
        Elsewhere::Waits(count) => {
            (0..count).for_each(|_| drop(free.emit(Waits(stands.event.clone()))));
            until(|| runtime.stats().waiting == count);
        }
        Elsewhere::Chain(levels) => {
            serial.emit(Level(levels));
            until(|| reached.load(Ordering::SeqCst) == 1);
        }
    }
    let own = bus(&runtime, "own", EventConcurrency::BusSerial);
    own.on_with(HandlerOptions::new().limit(Limit::new(1)), |_: &Event<Leaf>| {});
    let spent = elapsed_each(COUNT, || {
        (0..COUNT).for_each(|_| drop(own.emit(Leaf)));
        own.wait_until_idle().expect("idle");
    });
    stands.let_go();
    free.wait_until_idle().expect("idle");
    serial.wait_until_idle().expect("idle");
    spent
}

fn nested(levels: u64) -> f64 {
    let runtime = runtime(1_000);
    let bus = bus(&runtime, "deep", EventConcurrency::BusSerial);
    bus.on(|level: &Event<Level>| -> Result<u64, ResultError> {
        match level.0 {
            0 => Ok(0),
            left => Ok(level.bus().emit(Level(left - 1)).result()? + 1),
        }
    });
    let run = || assert_eq!(bus.emit(Level(levels)).result().ok(), Some(levels));
    // The threads are started, and their stacks used.
    run();
    processor_time_each(levels as usize, run)
}

fn late(levels: u64) -> f64 {
    const TIMEOUT: Duration = Duration::from_millis(30);
    let runtime = runtime(1_000);
    let deep = bus(&runtime, "deep", EventConcurrency::BusSerial);
    let free = bus(&runtime, "free", EventConcurrency::Parallel);
    let stands = Stands::on(&runtime);
    let (reached, awaited) = (Arc::new(AtomicUsize::new(0)), stands.event.clone());
    let at_the_end = Arc::clone(&reached);
    deep.on(move |level: &Event<Level>| -> Result<u64, HandlerError> {
        if level.0 == 0 {
            at_the_end.store(1, Ordering::SeqCst);
            awaited.wait()?;
            return Ok(0);
        }
        Ok(level.bus().emit(Level(level.0 - 1)).result()? + 1)
    });
    let chain = deep.emit(Level(levels));
    until(|| reached.load(Ordering::SeqCst) == 1);
    free.on_with(HandlerOptions::new().limit(Limit::new(2)), |_: &Event<Leaf>| {
        std::thread::sleep(Duration::from_micros(300));
    });
    (0..20_000).for_each(|_| drop(free.emit(Leaf)));
    let third = EventBus::builder("third").runtime(&runtime).event_timeout(Some(TIMEOUT)).build().expect("a bus");
    third.on(|_: &Event<Held>| -> Result<(), HandlerError> {
        HandlerContext::current().ok_or("no handler")?.sleep(Duration::from_secs(60))?;
        Ok(())
    });
    let late = |_| {
        let start = Instant::now();
        drop(third.emit(Held).wait());
        start.elapsed().saturating_sub(TIMEOUT).as_nanos() as f64
    };
    let latest = (0..100).map(late).fold(0.0, f64::max);
    stands.let_go();
    chain.result().expect("no error");
    runtime.shutdown(threadbus::Shutdown::Now, Duration::from_secs(10));
    latest
}
