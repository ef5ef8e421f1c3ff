//! What middlewares are told of random programs, against a specification that knows nothing of how it comes about.
//!
//! All that a bus's middlewares are told of an event follows from its results and their times ([`expected`]). On manual buses, where one
//! thread does everything, that is the very list; on threads it is the same calls, in an order that makes sense.
//! `THREADBUS_SEED=17 THREADBUS_PROGRAMS=1 THREADBUS_SHOW=1 cargo test --test middleware_programs -- --nocapture` shows one.
#![cfg(not(threadbus_shuttle))]

mod common;
#[path = "common/random.rs"]
mod random;
#[path = "common/recorder.rs"]
mod recorder;

use chrono::{DateTime, Utc};
use common::{Gate, PATIENCE, eventually, idle, lock};
use random::Random;
use recorder::{Recorder, Told};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threadbus::*;

struct Node {
    seed: u64,
    depth: u32,
}
impl Payload for Node {
    type Output = u64;
}

type Outcome = HandlerResult<AnyOutput>;

/// A bus of a program. All its recorders hear the same.
struct Side {
    bus: WeakBus,
    label: String,
    recorders: Vec<Recorder>,
    /// The outcomes that a redrive has replaced, by event.
    replaced: Mutex<Vec<(EventId, Outcome)>>,
}

struct Program {
    on_threads: bool,
    sides: Vec<Side>,
    events: Mutex<Vec<AnyEvent>>,
    /// Registered by handlers.
    extra: Mutex<Vec<HandlerInfo>>,
    names: AtomicUsize,
}

/// Emits on its own bus, and panics, now and then.
struct Meddler;

impl Middleware for Meddler {
    fn on_event_change(&self, bus: &EventBus, event: &AnyEvent, status: EventStatus) {
        let Some(node) = event.payload::<Node>() else { return };
        if status == EventStatus::Started && node.depth > 0 && node.seed % 7 == 3 {
            bus.emit(Node { seed: node.seed / 3, depth: 0 });
        }
        assert!(node.seed % 11 != 2, "on purpose");
    }
}

impl Program {
    fn any(&self, random: &mut Random) -> Option<EventBus> {
        self.sides[random.below(self.sides.len() as u64) as usize].bus.upgrade()
    }

    fn emit(&self, bus: &EventBus, random: &mut Random, depth: u32) -> AnyEvent {
        let mut options = EventOptions::new();
        if random.one_in(6) {
            options = options.completion(HandlerCompletion::First);
        }
        if random.one_in(6) {
            options = options.priority(Priority::new(random.below(11) as u8).unwrap());
        }
        match random.below(12) {
            0 => options = options.timeout(Duration::ZERO),
            1 => options = options.handler_timeout(Duration::ZERO),
            2 | 3 if self.on_threads => options = options.timeout(Duration::from_micros(random.below(2000))),
            4 | 5 if self.on_threads => options = options.handler_timeout(Duration::from_micros(random.below(2000))),
            _ => {}
        }
        let node = Node { seed: random.next(), depth };
        let now = random.one_in(5) && !(self.on_threads && HandlerContext::current().is_some());
        let event = if now { bus.emit_now_with(node, options) } else { bus.emit_with(node, options) };
        let event: &AnyEvent = event.as_ref();
        let event = event.clone();
        lock(&self.events).push(event.clone());
        event
    }

    fn handle(self: &Arc<Self>, at: usize, salt: u64, event: &Event<Node>) -> Result<Option<u64>, HandlerError> {
        let context = HandlerContext::current().ok_or("outside")?;
        let mut random = Random::new(event.seed ^ salt.rotate_left(40) ^ u64::from(context.attempt()));
        for _ in 0..random.below(4) {
            if context.is_cancelled() {
                break;
            }
            match random.below(16) {
                0..=3 if event.depth > 0 => {
                    let Some(bus) = self.any(&mut random) else { continue };
                    let child = self.emit(&bus, &mut random, event.depth - 1);
                    if random.one_in(3)
                        && let Some(other) = self.any(&mut random)
                    {
                        let _ = other.forward(&child);
                    }
                    match random.below(6) {
                        0 => drop(child.cancel()),
                        1 | 2 => {}
                        // Its bus may stand still, by this very thread.
                        3 if self.on_threads => drop(child.wait_in_order()),
                        _ => drop(child.wait()),
                    }
                }
                4 => return Err("no".into()),
                5 if random.one_in(2) => panic!("on purpose"),
                6 => {
                    if let Some(other) = self.any(&mut random) {
                        let _ = other.forward(event);
                    }
                }
                7 if random.one_in(4) => drop(event.cancel()),
                8 if lock(&self.extra).len() < 8 => {
                    let Some(bus) = self.sides[at].bus.upgrade() else { continue };
                    // Of one name is one handler: a redrive runs whoever has it.
                    let name = format!("extra{}", self.names.fetch_add(1, SeqCst));
                    let info = self.register(&bus, at, random.below(1000), HandlerOptions::new().name(name));
                    lock(&self.extra).push(info);
                }
                9 => {
                    let Some(info) = lock(&self.extra).pop() else { continue };
                    for bus in self.sides.iter().filter_map(|side| side.bus.upgrade()) {
                        bus.off(&info);
                    }
                }
                10 if random.one_in(3) => drop(event.first()),
                11 if self.on_threads => drop(context.sleep(Duration::from_micros(random.below(1500)))),
                12 if random.one_in(2) => return Ok(None),
                _ => {}
            }
        }
        Ok(Some(event.seed))
    }

    fn register(self: &Arc<Self>, bus: &EventBus, at: usize, salt: u64, options: HandlerOptions) -> HandlerInfo {
        let program = Arc::downgrade(self);
        bus.on_with(options, move |event: &Event<Node>| -> Result<Option<u64>, HandlerError> {
            program.upgrade().ok_or("the program is over")?.handle(at, salt, event)
        })
    }

    /// Runs what is queued, or waits until it has run.
    fn settle(&self, buses: &[EventBus], paused: &mut Vec<EventBus>) {
        // Nothing is idle that stands still; on one thread what is left there is left.
        if self.on_threads {
            paused.drain(..).for_each(|bus| bus.resume());
        }
        loop {
            let ran: usize = buses.iter().filter(|_| !self.on_threads).map(EventBus::run_pending).sum();
            if ran == 0 {
                break;
            }
        }
        for bus in buses.iter().filter(|_| self.on_threads) {
            idle(bus);
        }
    }

    /// Each letter once.
    fn redrive(&self, at: usize, bus: &EventBus) {
        for letter in bus.dead_letters() {
            let before = results_on(&letter.event, bus.label());
            bus.redrive_letter(&letter);
            let after = results_on(&letter.event, bus.label());
            let stands =
                |old: &Outcome| after.iter().any(|new| key(new) == key(old) && new.completed_at == old.completed_at);
            let replaced = before.into_iter().filter(|old| !stands(old)).map(|old| (letter.event.id(), old));
            lock(&self.sides[at].replaced).extend(replaced);
        }
    }
}

fn key(result: &Outcome) -> HandlerId {
    result.handler.id()
}

fn results_on(event: &AnyEvent, label: &str) -> Vec<Outcome> {
    event.results().into_iter().filter(|result| result.handler.bus_label() == label).collect()
}

/// Without what differs from run to run.
fn line_of_result(result: &Outcome) -> String {
    let error = result.error.as_ref().map(|error| format!("{error:?}"));
    let error = error.as_deref().and_then(|error| error.split(['(', ' ', '{']).next());
    let value = result.value.as_ref().and_then(|value| value.downcast::<u64>());
    let (handler, status, attempts) = (result.handler.name().replace(' ', "-"), result.status, result.attempts);
    let (children, times) = (result.children.len(), (result.started_at.is_some(), result.completed_at.is_some()));
    format!("{handler} {status:?}, tried {attempts}: {value:?} {error:?} {children} {times:?}")
}

/// One call, without its event.
fn line(told: &Told) -> String {
    match told {
        Told::Emit(_) => "asked".to_owned(),
        Told::Event(_, status) => format!("{status:?}"),
        Told::Result(_, result) => line_of_result(result),
        Told::Handler(info, registered) => format!("{} {registered}", info.name()),
    }
}

/// The call that a result led to when it came so far.
fn as_it_was(result: &Outcome, status: ResultStatus) -> String {
    let mut was = result.clone();
    was.status = status;
    was.started_at = result.started_at.filter(|_| status != ResultStatus::Pending);
    was.attempts = u32::from(was.started_at.is_some());
    (was.completed_at, was.value, was.error) = (None, None, None);
    was.children.clear();
    line_of_result(&was)
}

/// What is told of an event on one bus: each change at its time. Where two are of one time, starts are told before ends.
fn expected(event: &AnyEvent, results: &[Outcome], replaced: &[Outcome]) -> Vec<String> {
    type At = (Option<DateTime<Utc>>, u8, bool, Option<HandlerId>, usize);
    let bare = |time, rank| (time, rank, false, None, 0);
    let runs: Vec<_> = replaced.iter().chain(results).collect();
    let is_again = |at: usize| runs[..at].iter().any(|before| key(before) == key(runs[at]));
    // Where it came when it was complete already, it ends when it is done.
    let first = (0..runs.len()).filter(|at| !is_again(*at)).map(|at| runs[at].completed_at);
    let completed = first.max().flatten().max(event.completed_at());
    let mut changes: Vec<(At, String)> =
        vec![(bare(None, 0), "Pending".to_owned()), (bare(completed, 5), "Completed".to_owned())];
    let (mut started, mut starts) = (None, results.is_empty());
    for (at, result) in runs.iter().enumerate() {
        // What a redrive runs is told from its start on.
        let began = if is_again(at) { result.started_at.or(result.completed_at) } else { None };
        // Handlers of every type come last.
        let place = |time, rank| (time, rank, result.handler.pattern() == "*", Some(key(result)), at);
        changes.push((place(began, 1), as_it_was(result, ResultStatus::Pending)));
        if let Some(time) = result.started_at {
            changes.push((place(Some(time), 3), as_it_was(result, ResultStatus::Started)));
            started = Some(started.map_or(time, |first: DateTime<Utc>| first.min(time)));
            // Whoever ends it may have looked at the clock before it started.
            starts |= !is_again(at) || Some(time) < completed;
        }
        changes.push((place(result.completed_at, 4), line_of_result(result)));
    }
    if starts {
        changes.push((bare(started, 2), "Started".to_owned()));
    }
    changes.sort();
    changes.into_iter().map(|(_, line)| line).collect()
}

/// Makes a program of the seed, runs it, and compares what was told with what was to be told. Everything that was told, as text.
fn run(seed: u64, on_threads: bool, runtime: &Runtime) -> Vec<String> {
    let mut random = Random::new(seed);
    let (mut buses, mut sides) = (Vec::new(), Vec::new());
    for n in 0..1 + random.below(3) {
        let mut builder = EventBus::builder(&format!("bus{n}")).runtime(runtime).max_history(None).dead_letters(50);
        if on_threads {
            let events = [EventConcurrency::BusSerial, EventConcurrency::Parallel, EventConcurrency::GlobalSerial];
            let handlers =
                [HandlerConcurrency::EventSerial, HandlerConcurrency::Parallel, HandlerConcurrency::BusSerial];
            builder = builder.event_concurrency(events[random.below(3) as usize]);
            builder = builder.handler_concurrency(handlers[random.below(3) as usize]);
        } else {
            builder = builder.manual();
        }
        if random.one_in(4) {
            builder = builder.queue_capacity(2, OnFull::DropOldest);
        }
        let recorders: Vec<_> = (0..random.below(4).min(2)).map(|_| Recorder::new()).collect();
        for recorder in &recorders {
            builder = builder.middleware(recorder.clone());
        }
        if !recorders.is_empty() && random.one_in(3) {
            builder = builder.middleware(Meddler);
        }
        let bus = builder.build().unwrap();
        let label = bus.label().to_owned();
        sides.push(Side { bus: bus.downgrade(), label, recorders, replaced: Mutex::default() });
        buses.push(bus);
    }
    let program = Arc::new(Program {
        on_threads,
        sides,
        events: Mutex::default(),
        extra: Mutex::default(),
        names: AtomicUsize::new(0),
    });
    let limit = Limit::new(1);
    for (at, bus) in buses.iter().enumerate() {
        for salt in 0..random.below(4) {
            let mut options = HandlerOptions::new().name(format!("h{at}.{salt}"));
            if random.one_in(2) {
                let delay = if on_threads { random.below(500) } else { 0 };
                options = options.retry(Retry::attempts(2 + salt as u32).delay(Duration::from_micros(delay)));
            }
            if random.one_in(8) {
                options = options.limit(limit.clone());
            }
            program.register(bus, at, salt, options);
        }
        if random.one_in(4) {
            bus.forward_all_to(&buses[random.below(buses.len() as u64) as usize]);
        }
    }
    let mut paused: Vec<EventBus> = Vec::new();
    for _ in 0..1 + random.below(8) {
        let at = random.below(buses.len() as u64) as usize;
        let event = program.emit(&buses[at], &mut random, 2);
        match random.below(10) {
            0 => drop(event.cancel()),
            1 => drop(buses[random.below(buses.len() as u64) as usize].forward(&event)),
            2 => {
                buses[at].pause();
                paused.push(buses[at].clone());
            }
            3 => drop(paused.pop().map(|bus| bus.resume())),
            4 if !on_threads => drop(buses[at].run_pending()),
            4 => {
                drop(event.wait_timeout(Duration::from_millis(1)));
                if event.is_completed() {
                    check_told(seed, &program, &event);
                }
            }
            5 => program.settle(&buses, &mut paused),
            6 => {
                program.settle(&buses, &mut paused);
                program.redrive(at, &buses[at]);
            }
            7 => drop(lock(&program.extra).pop().map(|info| buses[at].off(&info))),
            8 if random.one_in(6) => drop(buses[at].shutdown(Shutdown::Now, Duration::ZERO)),
            _ => {}
        }
    }
    paused.drain(..).for_each(|bus| bus.resume());
    program.settle(&buses, &mut paused);
    for (at, bus) in buses.iter().enumerate() {
        program.redrive(at, bus);
    }
    program.settle(&buses, &mut paused);
    let events = lock(&program.events).clone();
    for event in events {
        let waited = event.wait_timeout(PATIENCE);
        assert!(
            !matches!(waited, Err(WaitError::Timeout(_))),
            "seed {seed}: {event}: {:#?} {buses:#?}",
            event.results()
        );
        let is_final = |r: &Outcome| matches!(r.status, ResultStatus::Completed | ResultStatus::Error);
        eventually(|| event.results().iter().all(is_final));
    }
    buses.iter().for_each(idle);
    program.sides.iter().flat_map(|side| check(seed, &program, side)).collect()
}

/// A wait has returned.
fn check_told(seed: u64, program: &Program, event: &AnyEvent) {
    if event.wait_timeout(PATIENCE).is_ok() {
        for side in program.sides.iter().filter(|side| event.path().contains(&side.label)) {
            for recorder in &side.recorders {
                let last = recorder.statuses(event).pop();
                assert_eq!(last, Some(EventStatus::Completed), "seed {seed}: {event} on {}", side.label);
            }
        }
    }
}

/// What was told on one bus, as text; it is what it was to be.
fn check(seed: u64, program: &Program, side: &Side) -> Vec<String> {
    let Some(recorder) = side.recorders.first() else { return Vec::new() };
    let told = recorder.all();
    let mut by_event: BTreeMap<EventId, (AnyEvent, Vec<&Told>)> = BTreeMap::new();
    let mut text = Vec::new();
    let of = |told: &Told| match told {
        Told::Emit(event) | Told::Event(event, _) | Told::Result(event, _) => Some(event.clone()),
        Told::Handler(..) => None,
    };
    for told in &told {
        if let Some(event) = of(told) {
            by_event.entry(event.id()).or_insert_with(|| (event, Vec::new())).1.push(told);
        }
    }
    let numbers: BTreeMap<_, _> = by_event.keys().enumerate().map(|(n, id)| (*id, n)).collect();
    for told in &told {
        let number = of(told).map(|event| numbers[&event.id()]);
        text.push(format!("{} {number:?} {}", side.label.split('#').next().unwrap_or_default(), line(told)));
    }
    for other in &side.recorders[1..] {
        let others: Vec<_> = other.all();
        for (id, (_, told)) in &by_event {
            let theirs = others.iter().filter(|told| of(told).is_some_and(|event| event.id() == *id)).map(line);
            let ours: Vec<_> = told.iter().map(|told| line(told)).collect();
            assert_eq!(theirs.collect::<Vec<_>>(), ours, "seed {seed}: two middlewares of {}", side.label);
        }
    }
    for (id, (event, told)) in &by_event {
        let told: Vec<_> = told.iter().copied().filter(|told| !matches!(told, Told::Emit(_))).collect();
        let lines: Vec<_> = told.iter().map(|told| line(told)).collect();
        if !event.path().contains(&side.label) {
            assert!(lines.is_empty(), "seed {seed}: told of a refused event: {lines:?}");
            continue;
        }
        let replaced = lock(&side.replaced).clone().into_iter().filter(|(of, _)| of == id).map(|(_, old)| old);
        let (results, replaced) = (results_on(event, &side.label), replaced.collect::<Vec<_>>());
        let mut expected = expected(event, &results, &replaced);
        if results.is_empty() && !lines.iter().any(|line| line == "Started") {
            // It was ended before its turn; on another bus it may have run.
            assert!(
                event.path().len() > 1 || event.wait().is_err(),
                "seed {seed}: {event} was not told to have started"
            );
            expected.retain(|line| line != "Started");
        }
        let ordered = starts_first(&told);
        let scene = || format!("seed {seed}: {event} on {}: {ordered:#?}, but due {expected:#?}", side.label);
        if program.on_threads {
            check_order(seed, event, &lines);
            assert!(sorted(&lines) == sorted(&expected), "{}", scene());
        } else {
            assert!(ordered == expected, "{}", scene());
        }
    }
    text
}

/// A start and an end of one time may be told in either order.
fn starts_first(told: &[&Told]) -> Vec<String> {
    let mut told = told.to_vec();
    let mut at = 1;
    while at < told.len() {
        let started = told[at..].iter().take(2).find_map(|told| match told {
            Told::Result(_, result) if result.status == ResultStatus::Started => result.started_at,
            _ => None,
        });
        let ended = match (told[at - 1], told[at]) {
            (Told::Result(_, result), Told::Result(_, start)) if start.status == ResultStatus::Started => {
                result.completed_at
            }
            (Told::Result(_, result), Told::Event(_, EventStatus::Started)) => result.completed_at,
            _ => None,
        };
        if ended.is_some() && ended == started {
            told.swap(at - 1, at);
            at = at.saturating_sub(2);
        }
        at += 1;
    }
    told.into_iter().map(line).collect()
}

fn sorted(lines: &[String]) -> Vec<String> {
    let mut sorted = lines.to_vec();
    sorted.sort();
    sorted
}

/// Whatever threads do: the event comes first, then its results, each on its way; starts once the event has started; and the event ends when
/// all have ended but for those of a redrive.
fn check_order(seed: u64, event: &AnyEvent, lines: &[String]) {
    let scene = || format!("seed {seed}: {event}: {lines:#?}");
    let place = |what: &str| lines.iter().position(|line| line == what);
    assert_eq!(place("Pending"), Some(0), "{}", scene());
    let completed = place("Completed").unwrap_or_else(|| panic!("{}", scene()));
    let mut results: BTreeMap<&str, &str> = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((handler, rest)) = line.split_once(' ') else { continue };
        let status = rest.split(',').next().unwrap_or_default();
        let before = results.insert(handler, status);
        let good = match (before, status) {
            (None | Some("Completed" | "Error"), "Pending") => true,
            (Some("Pending"), "Started") => at > completed || place("Started").is_some_and(|started| started < at),
            (Some("Started"), "Completed") => true,
            (Some("Pending" | "Started"), "Error") => true,
            _ => false,
        };
        let late = at > completed && !matches!(before, Some("Completed" | "Error")) && status == "Pending";
        assert!(good && !late, "{line}: {}", scene());
    }
    assert!(place("Started").is_none_or(|started| started < completed), "{}", scene());
    assert!(results.values().all(|status| matches!(*status, "Completed" | "Error")), "{}", scene());
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn programs(default: u64, on_threads: bool) {
    let first = number("THREADBUS_SEED", 0);
    let runtime = Runtime::builder().build().unwrap();
    for seed in first..first + number("THREADBUS_PROGRAMS", default) {
        let kept = runtime.clone();
        let (done, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(run(seed, on_threads, &kept)).is_ok());
        let told = told.recv_timeout(3 * PATIENCE);
        assert!(told.is_ok(), "program {seed} failed: {told:?}");
        if number("THREADBUS_SHOW", 0) > 0 {
            println!("program {seed}");
            told.iter().flatten().for_each(|line| println!("{line}"));
        }
    }
}

#[test]
fn one_thread_tells_all_in_order() {
    programs(300, false);
}

#[test]
fn threads_tell_all_once() {
    programs(100, true);
}

/// Has all that comes after `Pending` wait for it, until the event is complete; the gate opens once it stands there.
struct Slow(Gate);

impl Middleware for Slow {
    fn on_event_change(&self, _: &EventBus, event: &AnyEvent, status: EventStatus) {
        if status == EventStatus::Pending {
            self.0.open();
            eventually(|| event.is_completed());
        }
    }
}

/// One step ends a handler and starts the next; where something has to be done in between, they are two.
#[test]
fn what_one_step_starts_is_told_before_what_it_ends() {
    let told = |slow: bool, options: fn() -> HandlerOptions| {
        let (recorder, mut bus) = Recorder::on("steps");
        let stands = Gate::new();
        if slow {
            bus = bus.middleware(Slow(stands.clone()));
        }
        let bus = bus.build().unwrap();
        for name in ["a", "b", "c"] {
            bus.on_with(options().name(name), |node: &Event<Node>| node.seed);
        }
        // Nothing starts before its emitter tells.
        bus.pause();
        let emitter = bus.clone();
        let emitter = std::thread::spawn(move || emitter.emit(Node { seed: 1, depth: 0 }));
        if slow {
            stands.wait();
        }
        bus.resume();
        let node = common::done(&emitter.join().unwrap());
        let results = recorder.results(&node).into_iter().skip(3);
        results.map(|result| format!("{} {:?}", result.handler.name(), result.status)).collect::<Vec<_>>()
    };
    let in_one = ["a Started", "b Started", "a Completed", "c Started", "b Completed", "c Completed"];
    let in_two = ["a Started", "a Completed", "b Started", "b Completed", "c Started", "c Completed"];
    // Told at once, and after all of it.
    for slow in [false, true] {
        assert_eq!(told(slow, HandlerOptions::new), in_one, "{slow}");
        assert_eq!(told(slow, || HandlerOptions::new().limit(Limit::new(1))), in_two, "{slow}");
        let serial = || HandlerOptions::new().concurrency(HandlerConcurrency::GlobalSerial);
        assert_eq!(told(slow, serial), in_two, "{slow}");
    }
}
