//! Random programs under shuttle: another program on every schedule, with forwards, retries, deadlines, cancels and waits of all kinds.
//! `RUSTFLAGS="--cfg threadbus_shuttle" THREADBUS_SCHEDULES=100000 cargo test --release --test model_programs`,
//! and two of three with limits on some handlers. Every second one is disturbed: its buses are paused, shut down, have a short queue, a short
//! history, a middleware or a pump, handlers come and go, and so do threads; what is in flight is cancelled and forwarded from outside.
//!
//! A failure prints the program's seed, and how it was made smaller: `THREADBUS_SEED=17 THREADBUS_BOUNDS="buses=1"` runs that one on every
//! schedule.
#![cfg(threadbus_shuttle)]

#[path = "common/random.rs"]
mod random;
#[path = "common/schedules.rs"]
mod schedules;

use random::{Bounds, Emit, Random, from_outside, own_mode};
use schedules::{at_rest, check, quiet_panic, settled};
use shuttle::thread;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use threadbus::*;

struct Node {
    seed: u64,
    depth: u32,
}
impl Payload for Node {
    type Output = u64;
}

/// Rounds of the clock after which nothing moves any more. It keeps the model checker from seeing a deadlock by itself.
const PATIENCE: u32 = 2_000;

fn explain(event: &Event<Node>) -> String {
    let results: Vec<_> = event.results().iter().map(|r| format!("{:?}/{}", r.status, r.attempts)).collect();
    let (stamp, parent) = (event.created_at().timestamp_nanos_opt().unwrap_or(0), event.parent_id());
    format!("{event} {stamp:x} {:?} on {:?}, child of {parent:?}: {results:?}", event.status(), event.path())
}

struct Program {
    bounds: Bounds,
    buses: Vec<WeakBus>,
    events: Mutex<Vec<Event<Node>>>,
}

impl Program {
    fn handle(&self, at: usize, salt: u64, event: &Event<Node>) -> Result<Option<u64>, HandlerError> {
        let mut random = Random::new(event.seed ^ salt.rotate_left(40));
        let context = HandlerContext::current().ok_or("outside")?;
        for _ in 0..self.bounds.cut("actions", random.below(3)) {
            if context.is_cancelled() {
                break;
            }
            match random.below(8) {
                0..=4 if event.depth > 0 => {
                    let child = self.emit(EventBus::emit_with, &mut random, event.depth - 1)?;
                    if random.one_in(4)
                        && let Some(bus) = self.bus(random.below(3))
                    {
                        let _ = bus.forward(&child);
                    }
                    let _ = match random.below(8) {
                        0 => Ok(child.clone()),
                        1 => child.wait_timeout(Duration::ZERO),
                        2 | 3 => child.wait_in_order(),
                        4 => {
                            child.cancel();
                            child.wait()
                        }
                        _ => child.wait(),
                    };
                }
                5 => return Err("a business error".into()),
                6 if random.one_in(3) => quiet_panic(),
                7 if event.depth > 0 => {
                    let Some(bus) = self.buses[at].upgrade() else { break };
                    let now = bus.emit_now(Node { seed: random.next(), depth: event.depth - 1 });
                    self.events.lock().unwrap().push(now);
                }
                _ => thread::yield_now(),
            }
        }
        Ok(Some(event.seed))
    }

    fn register(self: &Arc<Self>, bus: &EventBus, at: usize, salt: u64, options: HandlerOptions) {
        let own: Weak<Program> = Arc::downgrade(self);
        bus.on_with(options, move |event: &Event<Node>| -> Result<Option<u64>, HandlerError> {
            own.upgrade().ok_or("over")?.handle(at, salt, event)
        });
    }

    fn bus(&self, n: u64) -> Option<EventBus> {
        self.buses[n as usize % self.buses.len()].upgrade()
    }

    fn emit(&self, emit: Emit<Node>, random: &mut Random, depth: u32) -> Result<Event<Node>, HandlerError> {
        let mut options = EventOptions::new();
        if random.one_in(4) {
            options = options.handler_timeout(Duration::from_secs(1 + random.below(3)));
        }
        if random.one_in(8) {
            options = options.timeout(Duration::from_secs(1 + random.below(3)));
        }
        if random.one_in(8) {
            options = options.no_timeout();
        }
        if random.one_in(6) {
            options = options.retry(Retry::attempts(2).delay(Duration::from_millis(random.below(2))));
        }
        if random.one_in(10) {
            options = options.completion(HandlerCompletion::First);
        }
        let bus = self.bus(random.below(3)).ok_or("gone")?;
        let event = emit(&bus, Node { seed: random.next(), depth }, options);
        self.events.lock().unwrap().push(event.clone());
        Ok(event)
    }
}

struct Onlooker;
impl Middleware for Onlooker {
    fn on_emit(&self, _: &EventBus, _: &AnyEvent) -> Result<(), BoxError> {
        thread::yield_now();
        Ok(())
    }
}

/// What only disturbed programs have.
struct Disturbance {
    random: Random,
    actions: u64,
}

impl Disturbance {
    fn of(seed: u64, bounds: Bounds) -> Option<Self> {
        let mut random = Random::new(seed ^ 0xD157_0BED);
        let actions = bounds.cut("disturbances", 1 + random.below(4));
        (seed % 2 == 1 && actions > 0).then_some(Disturbance { random, actions })
    }

    /// Some buses have something of their own.
    fn build(&mut self, bus: BusBuilder) -> (EventBus, bool) {
        let random = &mut self.random;
        let few = Duration::from_millis(random.below(2));
        let on_full = [OnFull::Block, OnFull::BlockFor(few), OnFull::Reject, OnFull::DropOldest, OnFull::RunInline];
        let (capacity, full) = (1 + random.below(3) as usize, on_full[random.below(5) as usize]);
        let own = random.below(8);
        let bus = match own {
            0 | 1 => bus.queue_capacity(capacity, full),
            2 => bus.max_history(Some(capacity - 1)),
            3 => bus.middleware(Onlooker),
            4 => bus.manual(),
            5 => bus.dead_letters(capacity),
            _ => bus,
        };
        (bus.build().unwrap(), own == 4)
    }

    fn act(&mut self, program: &Arc<Program>, runtime: &Runtime) {
        for _ in 0..self.actions {
            let random = &mut self.random;
            (0..random.below(60)).for_each(|_| thread::yield_now());
            let at = random.below(3) as usize % program.buses.len();
            let Some(bus) = program.buses[at].upgrade() else { return };
            let event = {
                let events = program.events.lock().unwrap();
                let count = events.len().max(1) as u64;
                events.get(random.below(count) as usize).cloned()
            };
            match random.below(8) {
                0 | 1 => {
                    bus.pause();
                    (0..random.below(100)).for_each(|_| thread::yield_now());
                    bus.resume();
                }
                2 => runtime.set_max_threads(1 + random.below(6) as usize).unwrap(),
                3 => {
                    bus.off_all::<Node>();
                    program.register(&bus, at, random.below(3), HandlerOptions::new());
                }
                4 => {
                    let mode = if random.one_in(2) { Shutdown::Drain } else { Shutdown::Now };
                    bus.shutdown(mode, Duration::from_secs(random.below(2)));
                }
                5 => drop(bus.redrive(2)),
                6 => drop(event.map(|event| bus.forward(&event))),
                _ => drop(event.map(|event| event.cancel())),
            }
        }
    }
}

fn run(seed: u64, bounds: Bounds) {
    let mut random = Random::new(seed);
    let mut disturbance = Disturbance::of(seed, bounds);
    let mut pumped = Vec::new();
    let runtime = Runtime::builder().max_threads(4 + random.below(4) as usize).hard_limit(64).build().unwrap();
    let buses: Vec<EventBus> = (0..1 + bounds.cut("buses", random.below(3)))
        .map(|n| {
            let events = match random.below(6) {
                0 => EventConcurrency::Parallel,
                1 => EventConcurrency::GlobalSerial,
                _ => EventConcurrency::BusSerial,
            };
            let handlers = match random.below(6) {
                0 => HandlerConcurrency::Parallel,
                1 => HandlerConcurrency::GlobalSerial,
                2 => HandlerConcurrency::EventSerial,
                _ => HandlerConcurrency::BusSerial,
            };
            let bus = EventBus::builder(&format!("bus{n}")).runtime(&runtime);
            let bus = bus.event_concurrency(events).handler_concurrency(handlers);
            let Some(disturbance) = &mut disturbance else { return bus.build().unwrap() };
            let (bus, is_manual) = disturbance.build(bus);
            if is_manual {
                pumped.push(bus.clone());
            }
            bus
        })
        .collect();
    let limited = !seed.is_multiple_of(3);
    let limit = Limit::new(1 + random.below(2) as usize);
    let events = Mutex::new(Vec::new());
    let program = Arc::new(Program { bounds, buses: buses.iter().map(EventBus::downgrade).collect(), events });
    for (at, bus) in buses.iter().enumerate() {
        for salt in 0..1 + bounds.cut("handlers", random.below(2)) {
            let options = own_mode(seed, at as u64 + salt);
            let options = if random.one_in(3) && limited { options.limit(limit.clone()) } else { options };
            program.register(bus, at, salt + 1, options);
        }
    }
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clock = {
        let (runtime, over, deadlines) = (runtime.clone(), Arc::clone(&over), random.below(4));
        let (program, buses) = (Arc::clone(&program), buses.clone());
        thread::spawn(move || {
            let mut passed = 0;
            for round in 0.. {
                if over.load(Relaxed) {
                    break;
                }
                if round == PATIENCE {
                    let events = program.events.lock().unwrap().clone();
                    let open: Vec<_> = events.iter().filter(|event| !event.is_completed()).map(explain).collect();
                    let scene = format!("{open:#?} {buses:#?} {runtime:#?}");
                    panic!("seed {seed} does not end: {scene}");
                }
                (0..20).for_each(|_| thread::yield_now());
                if passed < deadlines {
                    runtime.model_deadlines_pass();
                    passed += 1;
                }
                runtime.model_timers_fire();
            }
        })
    };
    let pumps = pumped.into_iter().map(|bus| {
        let over = Arc::clone(&over);
        thread::spawn(move || {
            while !over.load(Relaxed) {
                bus.run_pending();
                thread::yield_now();
            }
        })
    });
    let pumps: Vec<_> = pumps.collect();
    let disturber = disturbance.map(|mut disturbance| {
        let (program, runtime) = (Arc::clone(&program), runtime.clone());
        thread::spawn(move || disturbance.act(&program, &runtime))
    });
    for _ in 0..1 + bounds.cut("emits", random.below(3)) {
        let event = program.emit(from_outside(seed), &mut random, bounds.cut("depth", 2) as u32).ok().unwrap();
        match random.below(4) {
            0 => drop(event.cancel()),
            1 => drop(event.wait()),
            _ => {}
        }
    }
    if let Some(disturber) = disturber {
        disturber.join().unwrap();
    }
    let mut checked = 0;
    loop {
        buses.iter().for_each(|bus| bus.wait_until_idle().unwrap());
        let all = program.events.lock().unwrap().clone();
        if all.len() == checked {
            break;
        }
        for event in &all[checked..] {
            let _ = event.wait();
        }
        checked = all.len();
    }
    buses.iter().for_each(at_rest);
    program.events.lock().unwrap().iter().for_each(settled);
    over.store(true, Relaxed);
    clock.join().unwrap();
    pumps.into_iter().for_each(|pump| pump.join().unwrap());
}

#[test]
fn random_programs_end_on_every_schedule() {
    static SEED: AtomicU64 = AtomicU64::new(0);
    let chosen = std::env::var("THREADBUS_SEED").ok().and_then(|n| n.parse().ok());
    let bounds = Bounds::chosen();
    let failed = std::panic::catch_unwind(|| {
        check(move || {
            let next = SEED.fetch_add(1, Relaxed);
            run(chosen.unwrap_or(next), bounds);
        })
    });
    if let Err(failure) = failed {
        let seed = chosen.unwrap_or(SEED.load(Relaxed).saturating_sub(1));
        println!("THREADBUS_SEED={seed}");
        let smaller = bounds.shrink(|bounds| std::panic::catch_unwind(|| check(move || run(seed, bounds))).is_err());
        println!("made smaller: THREADBUS_SEED={seed} THREADBUS_BOUNDS=\"{smaller}\"");
        std::panic::resume_unwind(failure);
    }
}
