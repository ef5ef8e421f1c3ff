//! Random programs: handlers that emit, wait in any of the ways, forward, fail, panic, overstay and cancel, on buses of random modes.
//!
//! Each program is made from a seed. One that fails is made smaller as long as it still does, now and then; what is printed then runs it again:
//! `THREADBUS_SEED=17 THREADBUS_BOUNDS="buses=2 depth=1" THREADBUS_PROGRAMS=1 cargo test --test random_programs`.
#![cfg(not(threadbus_shuttle))]

#[path = "common/random.rs"]
mod random;

use chrono::{DateTime, Utc};
use random::{Bounds, Emit, Random, from_outside, is_mixed, own_mode};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use threadbus::*;

/// One event of a program: what its handlers do follows from the seed.
struct Node {
    seed: u64,
    depth: u32,
}
impl Payload for Node {
    type Output = u64;
}

/// What all handlers of one bus share.
struct Bus {
    serial: bool,
    /// Live handlers that are not inside a wait.
    running: Mutex<Vec<Running>>,
    overlap: Mutex<Option<String>>,
}

impl Bus {
    fn leave(&self, own: &Running) {
        let mut running = self.running.lock().unwrap();
        let at = running.iter().position(|other| other == own).expect("it is inside");
        running.swap_remove(at);
    }
}

/// A live handler: its event, which of the bus's it is, and which attempt.
#[derive(Clone, Debug, PartialEq)]
struct Running(EventId, u64, u32);

struct Program {
    /// Nothing is ever given up: no deadlines, cancels, losers or shutdowns.
    calm: bool,
    bounds: Bounds,
    buses: Vec<WeakBus>,
    sides: Vec<Bus>,
    events: Mutex<Vec<Event<Node>>>,
    /// Registered by handlers.
    extra: Mutex<Vec<HandlerInfo>>,
}

impl Program {
    /// The body of every handler.
    fn handle(self: &Arc<Self>, at: usize, salt: u64, event: &Event<Node>) -> Result<Option<u64>, HandlerError> {
        let mut random = Random::new(event.seed ^ salt.rotate_left(40));
        let side = &self.sides[at];
        let context = HandlerContext::current().expect("inside a handler");
        let own = Running(event.id(), salt, context.attempt());
        self.enter(side, &own, &context);
        let actions = self.bounds.cut("actions", random.below(4));
        let mut result = Ok(Some(event.seed));
        for _ in 0..actions {
            if context.is_cancelled() {
                break;
            }
            match random.below(15) {
                0..=4 if event.depth > 0 => {
                    let Some(bus) = self.any_bus(&mut random).1.upgrade() else { break };
                    let child = self.emit(EventBus::emit_with, &bus, &mut random, event.depth - 1);
                    if random.one_in(3) {
                        let (_, other) = self.any_bus(&mut random);
                        if let Some(other) = other.upgrade() {
                            let _ = other.forward(&child);
                        }
                    }
                    side.leave(&own);
                    let _ = match random.below(8) {
                        0 => Ok(child.clone()),
                        1 if !self.calm => child.wait_timeout(Duration::from_micros(random.below(3000))),
                        2 => child.wait_in_order(),
                        3 if !self.calm => {
                            child.cancel();
                            child.wait()
                        }
                        4 if !self.calm => child.first().map(|_| child.clone()).map_err(|_| WaitError::Aborted),
                        _ => child.wait(),
                    };
                    self.enter(side, &own, &context);
                }
                5 => {
                    result = Err("a business error".into());
                    break;
                }
                6 if random.one_in(3) => {
                    side.leave(&own);
                    panic!("a panic on purpose");
                }
                7 => {
                    let _ = context.sleep(Duration::from_micros(random.below(2500)));
                }
                8 if random.one_in(4) => {
                    // Deaf: overstays whatever the deadline is.
                    std::thread::sleep(Duration::from_micros(1000 + random.below(3000)));
                }
                9 if event.depth > 0 => {
                    let Some(bus) = self.buses[at].upgrade() else { break };
                    side.leave(&own);
                    let payload = Node { seed: random.next(), depth: event.depth - 1 };
                    let now = bus.emit_now(payload);
                    self.events.lock().unwrap().push(now);
                    self.enter(side, &own, &context);
                }
                // A few: each of them may register the next.
                10 if self.extra.lock().unwrap().len() < 16 => {
                    let Some(bus) = self.buses[at].upgrade() else { break };
                    let info = self.register(&bus, at, random.below(1000), HandlerOptions::new());
                    self.extra.lock().unwrap().push(info);
                }
                11 => {
                    let Some(info) = self.extra.lock().unwrap().pop() else { continue };
                    for bus in self.buses.iter().filter_map(WeakBus::upgrade) {
                        bus.off(&info);
                    }
                }
                12 if !self.calm && random.one_in(60) => {
                    let Some(bus) = self.buses[at].upgrade() else { break };
                    let mode = if random.one_in(2) { Shutdown::Now } else { Shutdown::Drain };
                    side.leave(&own);
                    bus.shutdown(mode, Duration::from_millis(random.below(3)));
                    self.enter(side, &own, &context);
                }
                _ => {}
            }
        }
        side.leave(&own);
        result
    }

    fn any_bus(&self, random: &mut Random) -> (usize, &WeakBus) {
        let at = random.below(self.buses.len() as u64) as usize;
        (at, &self.buses[at])
    }

    fn register(self: &Arc<Self>, bus: &EventBus, at: usize, salt: u64, options: HandlerOptions) -> HandlerInfo {
        // Weakly: a handler that keeps the program would keep itself.
        let program = Arc::downgrade(self);
        bus.on_with(options, move |event: &Event<Node>| -> Result<Option<u64>, HandlerError> {
            program.upgrade().ok_or("the program is over")?.handle(at, salt + 1, event)
        })
    }

    fn enter(&self, side: &Bus, own: &Running, context: &HandlerContext) {
        let mut running = side.running.lock().unwrap();
        // Who was given up is not live; it may overlap.
        if side.serial && !running.is_empty() && !context.is_cancelled() {
            side.overlap.lock().unwrap().get_or_insert(format!("{own:?} came to {running:?}"));
        }
        running.push(own.clone());
    }

    fn emit(&self, emit: Emit<Node>, bus: &EventBus, random: &mut Random, depth: u32) -> Event<Node> {
        let mut options = EventOptions::new();
        if random.one_in(8) {
            options = options.priority(Priority::new(random.below(11) as u8).unwrap());
        }
        if random.one_in(8) {
            let delay = Duration::from_micros(random.below(500));
            options = options.retry(Retry::attempts(2).delay(delay));
        }
        if self.calm {
            return self.keep(emit(bus, Node { seed: random.next(), depth }, options));
        }
        if random.one_in(4) {
            options = options.handler_timeout(Duration::from_micros(200 + random.below(3000)));
        }
        if random.one_in(8) {
            options = options.timeout(Duration::from_micros(200 + random.below(5000)));
        }
        if random.one_in(8) {
            options = options.no_timeout();
        }
        if random.one_in(10) {
            options = options.completion(HandlerCompletion::First);
        }
        self.keep(emit(bus, Node { seed: random.next(), depth }, options))
    }

    /// What is not over, for people.
    fn open(&self) -> Vec<String> {
        let events = self.events.lock().unwrap().clone();
        events.iter().filter(|e| !e.is_completed()).map(explain).take(20).collect()
    }

    fn keep(&self, event: Event<Node>) -> Event<Node> {
        self.events.lock().unwrap().push(event.clone());
        event
    }
}

fn run(seed: u64, bounds: Bounds, runtime: &Runtime) {
    let calm = seed.is_multiple_of(4);
    let limited = seed % 3 == 2;
    let mut random = Random::new(seed);
    let mut buses = Vec::new();
    let mut sides = Vec::new();
    let mut in_order = Vec::new();
    for n in 0..1 + bounds.cut("buses", random.below(3)) {
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
        let serial_events = events == EventConcurrency::BusSerial;
        let serial_handlers =
            handlers == HandlerConcurrency::BusSerial || serial_events && handlers == HandlerConcurrency::EventSerial;
        // An abandoned handler may overlap, so exclusion is checked where nothing is ever given up.
        let serial = calm && serial_events && serial_handlers && !is_mixed(seed);
        buses.push(
            EventBus::builder(&format!("bus{n}"))
                .runtime(runtime)
                .event_concurrency(events)
                .handler_concurrency(handlers)
                .handler_timeout(Some(Duration::from_millis(if random.one_in(2) || calm { 60_000 } else { 20 })))
                .max_history(if random.one_in(4) { Some(0) } else { Some(50) })
                .build()
                .unwrap(),
        );
        in_order.push(serial_events);
        sides.push(Bus { serial, running: Mutex::default(), overlap: Mutex::default() });
    }
    let limit = Limit::new(1 + random.below(2) as usize);
    let program = Arc::new(Program {
        buses: buses.iter().map(EventBus::downgrade).collect(),
        calm,
        bounds,
        sides,
        events: Mutex::new(Vec::new()),
        extra: Mutex::new(Vec::new()),
    });
    for (at, bus) in buses.iter().enumerate() {
        for salt in 0..1 + bounds.cut("handlers", random.below(3)) {
            // One limit a program: two of them, held one inside the other in both orders, are a deadlock of the program's own.
            let options = own_mode(seed, at as u64 + salt);
            let options = if limited && random.one_in(5) { options.limit(limit.clone()) } else { options };
            program.register(bus, at, salt, options);
        }
        if random.one_in(3) {
            bus.forward_all_to(&buses[random.below(buses.len() as u64) as usize]);
        }
    }
    let emitters: Vec<_> = (0..1 + bounds.cut("emitters", random.below(3)))
        .map(|n| {
            let (program, buses, mut random) = (Arc::clone(&program), buses.clone(), Random::new(seed ^ (n + 7) << 20));
            std::thread::spawn(move || {
                let mut emitted = Vec::new();
                for _ in 0..1 + program.bounds.cut("emits", random.below(6)) {
                    let (at, _) = program.any_bus(&mut random);
                    let event = program.emit(
                        from_outside(seed),
                        &buses[at],
                        &mut random,
                        program.bounds.cut("depth", 3) as u32,
                    );
                    emitted.push((at, event.clone()));
                    match random.below(5) {
                        0 => drop(event.wait_timeout(Duration::from_millis(1))),
                        1 if !program.calm => {
                            event.cancel();
                        }
                        2 => drop(event.wait_timeout(patience()).map_err(|e| {
                            assert!(
                                !matches!(e, WaitError::Timeout(_)),
                                "seed {seed}: stuck waiting for {event}: {:#?} {buses:#?} {:?}",
                                program.open(),
                                buses[0].runtime()
                            )
                        })),
                        _ => {}
                    }
                }
                emitted
            })
        })
        .collect();
    let emitted: Vec<_> = emitters.into_iter().map(|emitter| emitter.join().unwrap()).collect();
    for bus in &buses {
        if let Err(error) = bus.wait_until_idle_timeout(patience()) {
            let open = program.open();
            panic!("seed {seed}: {} is not idle: {error}; open: {open:#?}; {buses:#?} {:#?}", bus.label(), runtime);
        }
    }
    let mut checked = 0;
    loop {
        // Events may still emit others while these are waited for.
        let all = program.events.lock().unwrap().clone();
        if all.len() == checked {
            break;
        }
        for event in &all[checked..] {
            check(seed, event, &|| format!("{buses:#?} {runtime:#?}"));
        }
        checked = all.len();
    }
    for emitted in &emitted {
        check_order(seed, emitted, &in_order);
    }
    for (side, bus) in program.sides.iter().zip(&buses) {
        if let Some(overlap) = &*side.overlap.lock().unwrap() {
            let events: Vec<_> = program.events.lock().unwrap().iter().map(describe).collect();
            panic!("seed {seed}: two live handlers on {}: {overlap}; {events:#?}", bus.label());
        }
        // Nothing of the program is left in its way.
        let after = bus.emit_with(Node { seed: 0, depth: 0 }, EventOptions::new().no_timeout());
        match after.wait_timeout(patience()) {
            Ok(_) | Err(WaitError::Rejected(EmitError::Closed { .. })) => {}
            Err(error) => panic!("seed {seed}: {} is stuck afterwards: {error}", bus.label()),
        }
        if let Err(error) = bus.wait_until_idle_timeout(patience()) {
            panic!("seed {seed}: {} is not idle afterwards: {error}", bus.label());
        }
        check_books(seed, bus);
    }
    let deadline = Instant::now() + patience();
    loop {
        let stats = runtime.stats();
        if stats.abandoned == 0 && stats.busy == 0 && stats.waiting == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "seed {seed}: threads are left: {stats:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How long nothing may take; far more than anything does. Less while a failing program is made smaller.
fn patience() -> Duration {
    Duration::from_secs(PATIENCE.load(SeqCst))
}

static PATIENCE: AtomicU64 = AtomicU64::new(30);

/// What one thread emits on a serial bus starts in that order, priority by priority; nobody waits for these inside a handler.
fn check_order(seed: u64, emitted: &[(usize, Event<Node>)], in_order: &[bool]) {
    for (n, (at, event)) in emitted.iter().enumerate().filter(|(_, (at, _))| in_order[*at]) {
        let later = emitted[n + 1..].iter().find(|(bus, other)| bus == at && other.priority() == event.priority());
        // Who was cancelled in the queue has never started.
        let started = |event: &Event<Node>| event.results().iter().any(|r| r.attempts > 0);
        if let Some((_, later)) = later.filter(|(_, later)| started(later) && started(event)) {
            assert!(event.started_at() < later.started_at(), "seed {seed}: {later} overtook {event}");
        }
    }
}

/// Each delivery is counted in, and out in one way.
fn check_books(seed: u64, bus: &EventBus) {
    let m = bus.metrics();
    assert_eq!(m.emitted, m.completed + m.cancelled + m.dropped, "seed {seed}: {m:?}");
}

fn check(seed: u64, event: &Event<Node>, scene: &dyn Fn() -> String) {
    if let Err(WaitError::Timeout(_)) = event.wait_timeout(patience()) {
        panic!("seed {seed}: {} never completes; {}", explain(event), scene());
    }
    // A completed event may have been forwarded: then its results still grow.
    let is_final = |r: &HandlerResult<u64>| matches!(r.status, ResultStatus::Completed | ResultStatus::Error);
    let deadline = Instant::now() + patience();
    while !event.results().iter().all(is_final) {
        assert!(Instant::now() < deadline, "seed {seed}: {:?} of a completed event", event.results());
        std::thread::sleep(Duration::from_millis(1));
    }
    for result in event.results() {
        assert!(result.error.is_none() || result.value.is_none(), "seed {seed}: both value and error");
    }
}

fn explain(event: &Event<Node>) -> String {
    let open: Vec<_> = event
        .descendants()
        .iter()
        .chain([event.as_ref()])
        .filter(|e| !e.is_completed())
        .map(|e| {
            let results: Vec<_> = e.results().iter().map(|r| format!("{:?}/{}", r.status, r.attempts)).collect();
            format!(
                "{e} {:x} {:?} {results:?} on {:?}",
                e.created_at().timestamp_nanos_opt().unwrap(),
                e.status(),
                e.path()
            )
        })
        .collect();
    format!("{event}: {open:?}")
}

/// How an event ran.
fn describe(event: &Event<Node>) -> String {
    let time = |at: Option<DateTime<Utc>>| at.map_or(0, |at| (at - event.created_at()).num_microseconds().unwrap_or(0));
    let ran = |r: &HandlerResult<u64>| {
        format!("{:?} {} attempts {}..{} µs", r.status, r.attempts, time(r.started_at), time(r.completed_at))
    };
    let results: Vec<_> = event.results().iter().map(ran).collect();
    let (id, parent, path) = (event.id(), event.parent_id(), event.path());
    format!("{id} child of {parent:?} on {path:?} at {}: {results:?}", event.created_at())
}

#[test]
fn random_programs_end_well() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if !text.contains("on purpose") {
            eprintln!("{text}");
        }
    }));
    PATIENCE.store(number("THREADBUS_PATIENCE", 30), SeqCst);
    let (first, bounds) = (number("THREADBUS_SEED", 1), Bounds::chosen());
    let last = first + number("THREADBUS_PROGRAMS", 300);
    let until = Instant::now() + Duration::from_secs(number("THREADBUS_SECONDS", 60));
    let runtime = runtime();
    for seed in first..last {
        if Instant::now() >= until {
            println!("{} of {} programs in that time", seed - first, last - first);
            break;
        }
        // Most find threads of the ones before; some start their own, and see them end.
        let own = (seed % 8 == 0).then(self::runtime);
        let failure = catch_unwind(AssertUnwindSafe(|| run(seed, bounds, own.as_ref().unwrap_or(&runtime))));
        if let Err(failure) = failure {
            println!("{}", smaller(seed, bounds));
            resume_unwind(failure);
        }
    }
}

fn runtime() -> Runtime {
    Runtime::builder().keep_alive(Duration::from_millis(20)).build().unwrap()
}

/// How to run a smaller program that still fails, in one of some tries.
fn smaller(seed: u64, bounds: Bounds) -> String {
    PATIENCE.store(5, SeqCst);
    let until = Instant::now() + Duration::from_secs(300);
    let mut tries = 0;
    let bounds = bounds.shrink(|bounds| {
        let fails = |_| catch_unwind(AssertUnwindSafe(|| run(seed, bounds, &runtime()))).is_err();
        (0..50).take_while(|_| Instant::now() < until).inspect(|_| tries += 1).any(fails)
    });
    format!(
        "after {tries} tries to make it smaller: THREADBUS_SEED={seed} THREADBUS_BOUNDS=\"{bounds}\" THREADBUS_PROGRAMS=1"
    )
}
