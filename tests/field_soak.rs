//! What a program meets in the field, all of it at once, for as long as one likes: a logger that emits, stalls (10 to 1000 ms) and panics; a
//! system that refuses threads for short phases; buses, forwards, timers and runtimes that come and go; commands and limits, retries with
//! delays, handlers that are given up and come back, manual buses, cancels, `First`, finds, floods on two threads. Files, threads and memory
//! stay as they are, and an event on an idle bus is served at once.
//!
//! `THREADBUS_SOAK_SECONDS=3600 cargo test --release --features process --test field_soak -- --nocapture`; without it, a few seconds, which
//! show that nothing hangs and that all of it ends, but not growth: that is compared from 20 seconds on. `THREADBUS_SOAK_SEED` is the seed of
//! all that is random, 1 unless set. A row of the table is a tenth of the time, a minute at most.
//!
//! It fails
//! - if open files or threads (medians) grew from the second fifth to the last by more than 8, which is what commands and pools sway by;
//! - if anonymous memory (median) grew by more than [`ALLOWANCE`], a fixed amount, whatever the length;
//! - if 1 in 100 events on the idle bus took longer than [`BOUND`] outside of refusals, in the whole time or in its last fifth;
//! - if a worker of the soak does not come round for [`STANDSTILL`], or a wait takes longer than [`LONG`];
//! - if threads and files are not back to what they were once all runtimes are shut down.
//!
//! `THREADBUS_SOAK_PLANT` makes it fail: `files`, `threads` and `memory` leak, `latency` keeps the idle bus for 100 ms now and then, and
//! `hang` stands still.
//!
//! `THREADBUS_SOAK_ONLY=tasks,waits` runs those workers and no others (see `soak`), to find out whose doing something is.
//!
//! It runs in a process of its own, as a user without other processes, so that the limit on threads has an effect.
#![cfg(target_os = "linux")]

mod common;

use common::{lock, payload, process_status};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};
use threadbus::process::{Command, run_command};
use threadbus::{
    Event, EventBus, EventConcurrency, EventOptions, HandlerCompletion, HandlerConcurrency, HandlerOptions, Limit,
    Retry, Runtime, Shutdown,
};

const CHILD: &str = "THREADBUS_FIELD_SOAK";
/// How the soak's own process ends if all is well: a process of no tests at all would end with 0.
const PASSED: i32 = 42;
const ON_PURPOSE: &str = "on purpose";

const MS: Duration = Duration::from_millis(1);
/// No wait takes longer. A logger that stalls for a second, under a refusal, on a busy machine, is far below it.
const LONG: Duration = Duration::from_secs(30);
/// Every worker of the soak comes round within it: its longest round has several waits.
const STANDSTILL: Duration = Duration::from_secs(60);
/// Of the idle bus. What is measured is microseconds; the rest is for a machine whose two cores are busy with something else.
const BOUND: Duration = Duration::from_millis(50);
/// kB. What is bounded and fills slowly: the arenas of the allocator, one for each few threads, each with its largest moment; histories (100
/// events for each bus); 4 MB of records that wait for a logger that stalls. An hour has more than ten million events: a leak
/// of two bytes for each is beyond it.
const ALLOWANCE: usize = 24 * 1024;

payload!(Job { n: u64 } => u64);
payload!(Probe);
payload!(Line { text: String });
payload!(Nested { left: u32 } => u32);
payload!(Many);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn length() -> Duration {
    Duration::from_secs(number("THREADBUS_SOAK_SECONDS").unwrap_or(4))
}

fn planted(what: &str) -> bool {
    std::env::var("THREADBUS_SOAK_PLANT").is_ok_and(|planted| planted == what)
}

fn mixed(mut n: u64) -> u64 {
    n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

fn seed() -> u64 {
    number("THREADBUS_SOAK_SEED").unwrap_or(1)
}

/// Numbers at random, which seed and name settle.
struct Random(u64);

impl Random {
    fn new(name: &str) -> Random {
        Random(name.bytes().fold(seed(), |sum, byte| mixed(sum ^ u64::from(byte))))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = mixed(self.0);
        self.0 % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn in_ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

// The logger.

static PANEL: Mutex<Option<EventBus>> = Mutex::new(None);

/// Calls of the logger, and those that emitted, stalled and panicked.
static LOGGED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

struct Unruly;

impl log::Log for Unruly {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if !record.target().starts_with("threadbus") {
            return;
        }
        let chance = mixed(seed() ^ LOGGED[0].fetch_add(1, SeqCst));
        if chance.is_multiple_of(5) {
            let panel = lock(&PANEL).clone();
            if let Some(panel) = panel {
                LOGGED[1].fetch_add(1, SeqCst);
                drop(panel.emit(Line { text: record.args().to_string() }));
            }
        }
        if (chance >> 8).is_multiple_of(97) {
            LOGGED[2].fetch_add(1, SeqCst);
            // Short ones are more often than long ones.
            let most = [50, 100, 200, 1000][(chance >> 24) as usize % 4];
            sleep(MS * (10 + (chance >> 32) as u32 % (most - 9)));
        }
        if (chance >> 16).is_multiple_of(7) {
            LOGGED[3].fetch_add(1, SeqCst);
            panic!("a logger, {ON_PURPOSE}");
        }
    }

    fn flush(&self) {}
}

// Refusals.

static REFUSED: AtomicBool = AtomicBool::new(false);
/// Phases so far.
static REFUSALS: AtomicU64 = AtomicU64::new(0);

fn limit(threads: u64) {
    let (_, most) = getrlimit(Resource::RLIMIT_NPROC).expect("a limit");
    setrlimit(Resource::RLIMIT_NPROC, threads.min(most), most).expect("it may be lowered, and raised again");
}

fn refuse(round: &mut Round<'_>) {
    let often = if length() < Duration::from_secs(20) { (300, 900) } else { (2000, 8000) };
    let pause = round.random.in_ms(often.0, often.1);
    round.pause(pause);
    let phase = round.random.in_ms(20, 400);
    REFUSALS.fetch_add(1, SeqCst);
    REFUSED.store(true, SeqCst);
    limit(1);
    sleep(phase);
    limit(4000);
    // Whoever was refused asks again by time: that is still the refusal's.
    sleep(100 * MS);
    REFUSED.store(false, SeqCst);
}

// Workers.

static OVER: AtomicBool = AtomicBool::new(false);
static EVENTS: AtomicU64 = AtomicU64::new(0);
static FAULTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn fault(text: String) {
    println!("FAULT: {text}");
    lock(&FAULTS).push(text);
}

/// What a worker of the soak has in one round.
struct Round<'a> {
    name: &'static str,
    random: &'a mut Random,
}

impl Round<'_> {
    fn emit<P: threadbus::Payload>(&self, bus: &EventBus, payload: P) -> Event<P> {
        self.emit_with(bus, payload, EventOptions::new())
    }

    fn emit_with<P: threadbus::Payload>(&self, bus: &EventBus, payload: P, options: EventOptions) -> Event<P> {
        EVENTS.fetch_add(1, SeqCst);
        bus.emit_with(payload, options)
    }

    /// It completes; with what, does not matter here.
    fn completes<P: threadbus::Payload>(&self, event: &Event<P>) {
        if event.wait_timeout(LONG).is_err() && !event.is_completed() {
            fault(format!("{}: {event} did not complete within {LONG:?}", self.name));
        }
    }

    fn idle(&self, bus: &EventBus) {
        if let Err(error) = bus.wait_until_idle_timeout(LONG) {
            fault(format!("{}: {} is not idle: {error}", self.name, bus.label()));
        }
    }

    fn holds(&self, what: bool, why: &str) {
        if !what {
            fault(format!("{}: {why}", self.name));
        }
    }

    fn rest(&mut self, from: u64, to: u64) {
        let length = self.random.in_ms(from, to);
        self.pause(length);
    }

    fn pause(&self, length: Duration) {
        let until = Instant::now() + length;
        while Instant::now() < until && !OVER.load(SeqCst) {
            sleep((until - Instant::now()).min(100 * MS));
        }
    }
}

/// Its name, and when it came round last.
struct Worker {
    name: &'static str,
    alive: Mutex<Option<Instant>>,
}

fn work(worker: &Worker, mut round: impl FnMut(&mut Round<'_>)) {
    let mut random = Random::new(worker.name);
    while !OVER.load(SeqCst) {
        *lock(&worker.alive) = Some(Instant::now());
        round(&mut Round { name: worker.name, random: &mut random });
    }
    *lock(&worker.alive) = None;
}

fn parallel(runtime: &Runtime, name: &str) -> EventBus {
    let bus = EventBus::builder(name).runtime(runtime).event_concurrency(EventConcurrency::Parallel);
    bus.handler_concurrency(HandlerConcurrency::Parallel).build().expect("a bus")
}

fn serial(runtime: &Runtime, name: &str) -> EventBus {
    EventBus::builder(name).runtime(runtime).build().expect("a bus")
}

// What comes and goes.

/// Forwards to buses that go, one before its events are done, one after.
fn forwards(runtime: &Runtime) -> impl FnMut(&mut Round<'_>) + use<> {
    let runtime = runtime.clone();
    let hub = parallel(&runtime, "Hub");
    hub.on(|job: &Event<Job>| job.n);
    move |round| {
        let mut targets = Vec::new();
        for n in 0..1 + round.random.below(4) {
            let target = if n % 2 == 0 { serial(&runtime, "Target") } else { parallel(&runtime, "Target") };
            target.on(|job: &Event<Job>| job.n + 1);
            if round.random.one_in(2) {
                hub.forward_to::<Job>(&target);
            } else {
                hub.forward_all_to(&target);
            }
            targets.push(target);
        }
        let jobs: Vec<_> = (0..10).map(|n| round.emit(&hub, Job { n })).collect();
        if round.random.one_in(2) {
            targets.pop();
        }
        jobs.iter().for_each(|job| round.completes(job));
        drop(targets);
        let left = hub.handlers().len();
        round.holds(left == 1, &format!("{left} handlers on the hub, once the targets are gone"));
        round.rest(0, 20);
    }
}

/// Timers far away that are cancelled, and near ones; handlers with a limit of ten minutes.
fn timers(runtime: &Runtime) -> impl FnMut(&mut Round<'_>) + use<> {
    let bus = parallel(runtime, "Timers");
    bus.on_with(HandlerOptions::new().timeout(Duration::from_secs(600)), |job: &Event<Job>| job.n);
    move |round| {
        let far: Vec<_> = (0..20).map(|n| bus.emit_after(Duration::from_secs(3600 + n), Job { n })).collect();
        let ticking = bus.emit_every(round.random.in_ms(1, 10), Job { n: 1 });
        let near = bus.emit_after(round.random.in_ms(0, 10), Job { n: 0 });
        let job = round.emit(&bus, Job { n: 3 });
        round.completes(&job);
        round.rest(5, 40);
        ticking.cancel();
        near.cancel();
        round.holds(far.iter().all(threadbus::Scheduled::cancel), "a timer of an hour was gone");
    }
}

/// Runtimes with far timers and long limits, shut down or just dropped.
fn runtimes(round: &mut Round<'_>) {
    let runtime = Runtime::builder().max_threads(4).build().expect("a runtime");
    let buses = [serial(&runtime, "Brief"), parallel(&runtime, "Brief")];
    for bus in &buses {
        bus.on_with(HandlerOptions::new().timeout(Duration::from_secs(600)), |job: &Event<Job>| job.n);
        drop(bus.emit_after(Duration::from_secs(3600), Job { n: 9 }));
    }
    let jobs: Vec<_> = (0..6).map(|n| round.emit(&buses[n as usize % 2], Job { n })).collect();
    let how = round.random.below(3);
    if how == 0 {
        jobs.iter().for_each(|job| round.completes(job));
    } else {
        let mode = if how == 1 { Shutdown::Drain } else { Shutdown::Now };
        runtime.shutdown(mode, LONG);
        round.holds(jobs.iter().all(Event::is_completed), &format!("something is left after a shutdown, {mode:?}"));
    }
    drop((buses, runtime));
    round.rest(10, 60);
}

/// Commands that end, fail, are not there, and are given up; one handler with several.
fn commands(runtime: &Runtime) -> impl FnMut(&mut Round<'_>) + use<> {
    let bus = parallel(runtime, "Commands");
    bus.on_with(HandlerOptions::new().limit(Limit::named("commands", 3)), run_command);
    bus.on(|_: &Event<Many>| {
        (0..3).filter(|_| Command::new("true").run().is_ok()).count();
    });
    move |round| {
        let late = EventOptions::new().timeout(round.random.in_ms(5, 40));
        let sleeps = Command::new("sleep").arg("60").kill_grace(100 * MS);
        let commands = [
            round.emit(&bus, Command::new("true")),
            round.emit(&bus, Command::new("false")),
            round.emit(&bus, Command::new("no-such-program")),
            round.emit(&bus, Command::new("echo").arg("a line")),
            round.emit_with(&bus, sleeps.clone(), late),
            round.emit(&bus, sleeps),
        ];
        let many = round.emit(&bus, Many);
        round.pause(20 * MS);
        commands[5].cancel();
        commands.iter().for_each(|command| round.completes(command));
        round.completes(&many);
        round.rest(30, 150);
    }
}

/// Limits whose names come and go, retries with delays, and handlers that are given up and come back.
fn tasks(runtime: &Runtime) -> impl FnMut(&mut Round<'_>) + use<> {
    let runtime = runtime.clone();
    let bus = EventBus::builder("Tasks").runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
    let bus = bus.handler_concurrency(HandlerConcurrency::Parallel).handler_timeout(Some(20 * MS)).dead_letters(50);
    let bus = bus.retry(Retry::attempts(3).exponential(2 * MS, 2.0).jitter(0.5)).build().expect("a bus");
    let shared = HandlerOptions::new().limit(Limit::named("shared", 4).acquire_timeout(200 * MS));
    bus.on_with(shared, |job: &Event<Job>| match job.n % 23 {
        0 => Err("it fails"),
        1 => panic!("a handler, {ON_PURPOSE}"),
        2 => {
            sleep(35 * MS);
            Ok(job.n)
        }
        _ => Ok(job.n),
    });
    let mut name = 0;
    move |round| {
        name += 1;
        let mine = Limit::named(&format!("name {name}"), 2);
        let handler = bus.on_with(HandlerOptions::new().limit(mine), |job: &Event<Job>| job.n);
        let jobs: Vec<_> = (0..30).map(|_| round.emit(&bus, Job { n: round.random.0 % 1000 + name })).collect();
        for job in &jobs {
            if round.random.one_in(10) {
                job.cancel();
            }
        }
        jobs.iter().for_each(|job| round.completes(job));
        bus.off(&handler);
        if round.random.one_in(50) {
            bus.redrive(5);
        }
        round.rest(5, 50);
    }
}

/// Manual buses that come and go, pumped here, beside a hub that others' threads run.
fn manual(runtime: &Runtime) -> impl FnMut(&mut Round<'_>) + use<> {
    let runtime = runtime.clone();
    let hub = serial(&runtime, "Manual hub");
    hub.on(|job: &Event<Job>| job.n);
    move |round| {
        let bus = EventBus::builder("Manual").runtime(&runtime).manual().build().expect("a bus");
        let to = hub.downgrade();
        bus.on(move |nested: &Event<Nested>| match to.upgrade() {
            Some(hub) => hub.emit(Job { n: nested.left.into() }).wait_timeout(LONG).map(|_| 1).unwrap_or(0),
            None => 0,
        });
        bus.on(|job: &Event<Job>| job.n);
        hub.forward_to::<Job>(&bus);
        let far = round.emit(&hub, Job { n: 1 });
        let jobs: Vec<_> = (0..5).map(|left| round.emit(&bus, Nested { left })).collect();
        let until = Instant::now() + LONG;
        while !(far.is_completed() && jobs.iter().all(Event::is_completed)) && Instant::now() < until {
            match round.random.below(3) {
                0 => bus.run_pending(),
                1 => bus.run_pending_once(),
                _ => bus.run_pending_for(MS),
            };
            sleep(MS / 2);
        }
        round.holds(far.is_completed(), "what was forwarded to a manual bus did not complete");
        jobs.iter().for_each(|job| round.completes(job));
        // Some are left when it goes.
        drop(round.emit(&bus, Nested { left: 0 }));
        drop(bus);
        round.idle(&hub);
        round.rest(5, 50);
    }
}

/// `First`, cancels, finds, subscriptions, and waits in waits.
fn waits(runtime: &Runtime) -> impl FnMut(&mut Round<'_>) + use<> {
    let races = EventBus::builder("Races").runtime(runtime).handler_concurrency(HandlerConcurrency::Parallel);
    let races = races.handler_completion(HandlerCompletion::First).build().expect("a bus");
    for n in 0..3 {
        races.on(move |job: &Event<Job>| {
            sleep(MS * ((job.n + n) % 3) as u32);
            job.n
        });
    }
    let chain = [serial(runtime, "Chain"), serial(runtime, "Chain")];
    for (at, bus) in chain.iter().enumerate() {
        let next = chain[1 - at].downgrade();
        bus.on(move |nested: &Event<Nested>| match next.upgrade().filter(|_| nested.left > 0) {
            Some(next) => {
                let below = next.emit(Nested { left: nested.left - 1 });
                below.wait_timeout(LONG).ok().and_then(|below| below.result().ok()).unwrap_or(0) + 1
            }
            None => 0,
        });
    }
    move |round| {
        let mut seen = races.subscribe_bounded::<Job>(8, threadbus::OnLag::DropOldest);
        let jobs: Vec<_> = (0..6).map(|n| round.emit(&races, Job { n })).collect();
        let nested = round.emit(&chain[0], Nested { left: 8 });
        if round.random.one_in(2) {
            jobs[4].cancel();
        }
        if round.random.one_in(5) {
            nested.cancel();
        }
        drop(races.find::<Job>().past(true).filter(|job| job.n == 5).future(2 * MS).first());
        drop(chain[1].find::<Job>().future(MS).first());
        jobs.iter().for_each(|job| round.completes(job));
        round.completes(&nested);
        round.holds(seen.recv_timeout(LONG).is_ok(), "a subscription saw nothing");
        let batch = races.batch();
        batch.extend((0..4).map(|n| Job { n }));
        round.holds(batch.wait_timeout(LONG).is_ok(), "a batch did not end");
        round.rest(5, 40);
    }
}

/// A thousand parallel events at once, again and again, on two threads.
fn floods(runtime: &Runtime) -> impl FnMut(&mut Round<'_>) + use<> {
    let bus = parallel(runtime, "Flood");
    bus.on(|job: &Event<Job>| {
        if job.n.is_multiple_of(8) {
            sleep(MS / 5);
        }
        job.n
    });
    move |round| {
        let jobs: Vec<_> = (0..1000).map(|n| round.emit(&bus, Job { n })).collect();
        jobs.iter().for_each(|job| round.completes(job));
        round.rest(50, 300);
    }
}

// What is measured.

/// Latencies: outside of refusals, and in them.
#[derive(Default)]
struct Latencies {
    all: Mutex<[Vec<(Instant, Duration)>; 2]>,
}

impl Latencies {
    fn note(&self, began: Instant, refused: bool) {
        lock(&self.all)[usize::from(refused)].push((began, began.elapsed()));
    }

    /// Median, 99th percentile and largest of those since then.
    fn since(&self, then: Instant, refused: bool) -> [Duration; 3] {
        let all = lock(&self.all);
        let late = all[usize::from(refused)].iter().rev().take_while(|(began, _)| *began >= then);
        let mut sorted: Vec<_> = late.map(|(_, took)| *took).collect();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)));
        [at(50), at(99), sorted.last()].map(|took| took.copied().unwrap_or_default())
    }

    fn count_since(&self, then: Instant) -> usize {
        lock(&self.all)[0].iter().filter(|(began, _)| *began >= then).count()
    }
}

/// One event on a bus that has nothing else to do, a few times a second.
fn probes(runtime: &Runtime, latencies: &'static Latencies) -> impl FnMut(&mut Round<'_>) + use<> {
    let bus = serial(runtime, "Idle");
    let n = AtomicU64::new(0);
    bus.on(move |_: &Event<Probe>| {
        if planted("latency") && n.fetch_add(1, SeqCst).is_multiple_of(20) {
            sleep(100 * MS);
        }
    });
    move |round| {
        let (before, began) = ((REFUSALS.load(SeqCst), REFUSED.load(SeqCst)), Instant::now());
        let probe = round.emit(&bus, Probe);
        round.completes(&probe);
        let after = (REFUSALS.load(SeqCst), REFUSED.load(SeqCst));
        latencies.note(began, before.1 || after != before);
        round.rest(60, 140);
    }
}

/// What the process holds at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    files: usize,
    threads: usize,
    kilobytes: usize,
}

impl Held {
    fn now() -> Held {
        let files = std::fs::read_dir("/proc/self/fd").expect("a /proc").count();
        Held { files, threads: process_status("Threads:"), kilobytes: process_status("RssAnon:") }
    }

    /// Of each number the middle one.
    fn median(of: &[Held]) -> Held {
        let middle = |number: fn(&Held) -> usize| {
            let mut sorted: Vec<usize> = of.iter().map(number).collect();
            sorted.sort_unstable();
            sorted[sorted.len() / 2]
        };
        Held { files: middle(|h| h.files), threads: middle(|h| h.threads), kilobytes: middle(|h| h.kilobytes) }
    }
}

/// Of all threads.
fn names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a /proc").flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect()
}

fn check_flat(samples: &[Held]) {
    let fifth = samples.len() / 5;
    let (first, last) = (Held::median(&samples[fifth..2 * fifth]), Held::median(&samples[4 * fifth..]));
    println!("held in the second fifth: {first:?}, in the last: {last:?}, {} samples", samples.len());
    if length() < Duration::from_secs(20) {
        return;
    }
    if last.files > first.files + 8 || last.threads > first.threads + 8 || last.kilobytes > first.kilobytes + ALLOWANCE
    {
        fault(format!("it grew: {first:?}, then {last:?}: {:?}", names()));
    }
}

fn leak() {
    if planted("files") {
        std::mem::forget(std::fs::File::open("/dev/null"));
    }
    if planted("threads") {
        drop(std::thread::Builder::new().spawn(std::thread::park));
    }
    if planted("memory") {
        std::mem::forget(std::hint::black_box(vec![1_u8; 256 << 10]));
    }
}

/// Fails the process at once if somebody stands still; for a debugger it stays for a while, if asked to.
fn check_alive(workers: &[Worker]) {
    for worker in workers {
        let alive = *lock(&worker.alive);
        if let Some(alive) = alive.filter(|alive| alive.elapsed() > STANDSTILL) {
            println!("FAULT: {} stands still since {:?}, process {}", worker.name, alive.elapsed(), std::process::id());
            sleep(Duration::from_secs(number("THREADBUS_SOAK_HOLD").unwrap_or(0)));
            std::process::exit(3);
        }
    }
}

fn in_ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

fn watch(workers: &[Worker], began: Instant, [idle, flooded]: [&Latencies; 2]) -> Vec<Held> {
    let (pause, row) = ((length() / 2000).max(25 * MS), (length() / 10).min(Duration::from_secs(60)));
    let (mut samples, mut since) = (Vec::new(), began);
    println!(
        "{:>6} {:>10} {:>6} {:>8} {:>8} {:>9} | idle bus, ms: {:>6} {:>7} {:>7} | refused: {:>7} | beside floods: {:>6} {:>7} {:>7}",
        "s", "events", "files", "threads", "anon kB", "refusals", "p50", "p99", "max", "max", "p50", "p99", "max"
    );
    while began.elapsed() < length() {
        leak();
        samples.push(Held::now());
        check_alive(workers);
        sleep(pause);
        if since.elapsed() >= row || began.elapsed() >= length() {
            let held = Held::now();
            let ([p50, p99, max], [.., refused]) = (idle.since(since, false), idle.since(since, true));
            let beside = flooded.since(since, false);
            println!(
                "{:>6} {:>10} {:>6} {:>8} {:>8} {:>9} |               {:>6.2} {:>7.2} {:>7.2} |          {:>7.2} |                {:>6.2} {:>7.2} {:>7.2}",
                began.elapsed().as_secs(),
                EVENTS.load(SeqCst),
                held.files,
                held.threads,
                held.kilobytes,
                REFUSALS.load(SeqCst),
                in_ms(p50),
                in_ms(p99),
                in_ms(max),
                in_ms(refused),
                in_ms(beside[0]),
                in_ms(beside[1]),
                in_ms(beside[2]),
            );
            since = Instant::now();
        }
    }
    samples
}

fn check_latency(idle: &Latencies, began: Instant) {
    for since in [began, began + length() / 5 * 4] {
        // Of fewer, one that the machine was late for would decide.
        if idle.count_since(since) < 150 {
            continue;
        }
        let [p50, p99, max] = idle.since(since, false);
        if p99 > BOUND {
            fault(format!("an idle bus took {p50:?}, {p99:?} (99 of 100), at most {max:?}"));
        }
    }
}

fn soak() {
    let before = Held::now();
    let (main, few) = (
        Runtime::builder().max_threads(48).thread_name("soak").build().expect("a runtime"),
        Runtime::builder().max_threads(2).thread_name("few").build().expect("a runtime"),
    );
    let panel = serial(&main, "Panel");
    panel.on(|line: &Event<Line>| {
        // What a logger emitted may fail as well.
        assert!(!line.text.len().is_multiple_of(5), "a panel, {ON_PURPOSE}");
    });
    *lock(&PANEL) = Some(panel);
    log::set_logger(&Unruly).expect("the first one");
    log::set_max_level(log::LevelFilter::Debug);

    static IDLE: OnceLock<Latencies> = OnceLock::new();
    static FLOODED: OnceLock<Latencies> = OnceLock::new();
    let (idle, flooded) = (IDLE.get_or_init(Latencies::default), FLOODED.get_or_init(Latencies::default));
    type Rounds = Vec<(&'static str, Box<dyn FnMut(&mut Round<'_>) + Send>)>;
    let mut rounds: Rounds = vec![
        ("refusals", Box::new(refuse)),
        ("forwards", Box::new(forwards(&main))),
        ("timers", Box::new(timers(&main))),
        ("runtimes", Box::new(runtimes)),
        ("commands", Box::new(commands(&main))),
        ("tasks", Box::new(tasks(&main))),
        ("manual", Box::new(manual(&main))),
        ("waits", Box::new(waits(&main))),
        ("floods", Box::new(floods(&few))),
        ("probes", Box::new(probes(&main, idle))),
        ("probes beside floods", Box::new(probes(&few, flooded))),
    ];
    if let Ok(only) = std::env::var("THREADBUS_SOAK_ONLY") {
        rounds.retain(|(name, _)| only.split(',').any(|only| only == *name));
    }
    if planted("hang") {
        rounds.push(("hang", Box::new(|_| sleep(Duration::from_secs(100_000)))));
    }
    let workers: Vec<_> =
        rounds.iter().map(|(name, _)| Worker { name, alive: Mutex::new(Some(Instant::now())) }).collect();
    let began = Instant::now();
    let samples = std::thread::scope(|scope| {
        for (worker, (_, round)) in workers.iter().zip(rounds) {
            scope.spawn(move || work(worker, round));
        }
        let samples = watch(&workers, began, [idle, flooded]);
        OVER.store(true, SeqCst);
        while workers.iter().any(|worker| lock(&worker.alive).is_some()) {
            check_alive(&workers);
            sleep(10 * MS);
        }
        samples
    });
    check_flat(&samples);
    check_latency(idle, began);

    lock(&PANEL).take();
    for (name, runtime) in [("main", main), ("few", few)] {
        let left = Instant::now();
        let report = runtime.shutdown(Shutdown::Drain, LONG);
        println!("{name}: {report:?} in {:?}, {:?}", left.elapsed(), runtime.stats());
        if left.elapsed() > LONG + LONG / 2 {
            fault(format!("the shutdown of {name} took {:?}", left.elapsed()));
        }
    }
    let until = Instant::now() + LONG;
    loop {
        let after = Held::now();
        if after.threads <= before.threads && after.files <= before.files {
            println!("before: {before:?}, after: {after:?}");
            break;
        }
        if Instant::now() > until {
            fault(format!("{before:?} before, {after:?} after all of it: {:?}", names()));
            break;
        }
        sleep(50 * MS);
    }
    let logged = LOGGED.each_ref().map(|count| count.load(SeqCst));
    println!("{} records, {} emitted, {} stalled, {} panicked", logged[0], logged[1], logged[2], logged[3]);
    let faults = lock(&FAULTS);
    assert!(faults.is_empty(), "seed {}: {faults:#?}", seed());
    let all = std::env::var_os("THREADBUS_SOAK_ONLY").is_none();
    let much = logged.iter().all(|count| *count > 0) && REFUSALS.load(SeqCst) > 0;
    assert!(much || !all, "the soak itself did too little");
}

#[test]
fn all_that_the_field_has_at_once() {
    if std::env::var_os(CHILD).is_some() {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|text| text.contains(ON_PURPOSE)) {
                tell(info);
            }
        }));
        soak();
        std::process::exit(PASSED);
    }
    let mut command = std::process::Command::new(std::env::current_exe().expect("a test is a file"));
    command.args(["--exact", "all_that_the_field_has_at_once", "--nocapture"]).env(CHILD, "1").current_dir("/");
    if nix::unistd::Uid::effective().is_root() {
        // The superuser has no such limit.
        command.uid(40_000 + std::process::id() % 20_000);
    }
    let mut child = command.spawn().expect("a process");
    let until = Instant::now() + length() + 3 * STANDSTILL;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is ours") {
            break status;
        }
        if Instant::now() > until {
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
            panic!("the soak did not end");
        }
        sleep(20 * MS);
    };
    assert_eq!(status.code(), Some(PASSED), "{status:?}");
}
