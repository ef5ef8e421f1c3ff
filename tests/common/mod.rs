//! What the integration tests share. Nothing here sleeps to be right, and a wait that takes too long fails the test.
//!
//! | helper | asserts | waits at most |
//! | --- | --- | --- |
//! | [`done`] | that the event completes; not how its handlers ended | [`PATIENCE`] |
//! | [`clean`] | that it completes, and none of its handlers failed | [`PATIENCE`] |
//! | [`idle`] | that the bus becomes idle | [`PATIENCE`] |
//! | [`eventually`] | that a condition comes true; looks every millisecond | [`PATIENCE`] |
//! | [`within`] | that a closure returns, on a thread of its own | what it is given |
//! | [`Gate::wait`] | that the gate is opened | [`PATIENCE`] |
//! | [`works_on`] | that the bus becomes idle, and a new handler runs on it and does not fail | twice [`PATIENCE`] |
//! | [`works_on_beside`] | that it does so beside handlers that stand at a gate, and when they have returned | five times [`PATIENCE`] |
//! | [`in_order`], [`Log::position`] | that entries are in a log, and in which order | nothing |
//! | [`linger`] | nothing: lets other threads run, so that what must not happen has the chance to | 2 ms |
//! | [`in_a_process_of_its_own`] | that the test passes in a process without other tests | three times [`PATIENCE`] |
//!
//! [`stands`], [`stands_with`], [`logs`] and [`logs_around`] register handlers. [`parallel`], [`limited`], [`capped`] and [`ms`] are shorter words for options, and
//! [`payload!`] for types of events.
#![allow(dead_code, unused_macros, unused_imports, reason = "every test file uses its own part of this module")]

use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use threadbus::{
    AnyEvent, Batch, Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerContext, HandlerError,
    HandlerOptions, Limit, Payload, Progress, WaitError,
};

/// How long any wait of a test may take before the test fails. Far above what any line needs.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Declares payloads without JSON, each `Clone + Debug` with public fields: `payload!(Ping);`
/// `payload!(Ask => String);` (unit structs), `payload!(Order { n: u32 });` `payload!(Sum { a: i64, b: i64 } => i64);`
macro_rules! payload {
    ($name:ident) => { payload!($name => ()); };
    ($name:ident => $out:ty) => {
        #[derive(Clone, Debug)]
        pub(crate) struct $name;
        payload!(@impl $name, $out);
    };
    ($name:ident { $($field:ident : $ty:ty),* $(,)? }) => { payload!($name { $($field: $ty),* } => ()); };
    ($name:ident { $($field:ident : $ty:ty),* $(,)? } => $out:ty) => {
        #[derive(Clone, Debug)]
        #[allow(dead_code, reason = "a test's payload; some fields are there to be shown")]
        pub(crate) struct $name { $(pub(crate) $field: $ty),* }
        payload!(@impl $name, $out);
    };
    (@impl $name:ident, $out:ty) => {
        impl ::threadbus::Payload for $name {
            type Output = $out;
            fn event_type() -> &'static str { stringify!($name) }
        }
    };
}
pub(crate) use payload;

/// A latch, closed at first. Clones share it. A handler stands in `wait()` until the test calls `open()`.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the gate for good: everyone in `wait`, and everyone to come, passes.
    pub fn open(&self) {
        *lock(&self.0.open) = true;
        self.0.changed.notify_all();
    }

    /// True once somebody has opened it.
    pub fn is_open(&self) -> bool {
        *lock(&self.0.open)
    }

    /// Stands here until the gate is open. Panics after [`PATIENCE`].
    #[track_caller]
    pub fn wait(&self) {
        assert!(self.wait_for(PATIENCE), "gate was not opened within {PATIENCE:?}");
    }

    /// Stands here until the gate is open or `limit` is over; whether it is open.
    pub fn wait_for(&self, limit: Duration) -> bool {
        let guard = lock(&self.0.open);
        let waited = self.0.changed.wait_timeout_while(guard, limit, |open| !*open);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// A guard that opens the gate when dropped, so that a failing assertion does not leave handlers standing.
    pub fn opener(&self) -> GateOpener {
        GateOpener(self.clone())
    }
}

/// Opens its gate on drop: see [`Gate::opener`].
#[derive(Debug)]
pub struct GateOpener(Gate);

impl Drop for GateOpener {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// What happened, in the order in which it did. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one entry.
    pub fn push(&self, entry: impl fmt::Display) {
        lock(&self.0).push(entry.to_string());
    }

    /// A copy of all entries so far.
    pub fn entries(&self) -> Vec<String> {
        lock(&self.0).clone()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }

    /// True before the first entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries equal `entry`.
    pub fn count(&self, entry: &str) -> usize {
        lock(&self.0).iter().filter(|e| *e == entry).count()
    }

    /// The place of the first entry that equals `entry`.
    #[track_caller]
    pub fn position(&self, entry: &str) -> usize {
        let entries = self.entries();
        entries.iter().position(|e| e == entry).unwrap_or_else(|| panic!("no entry {entry:?} in {entries:?}"))
    }
}

/// Asserts that the condition comes true; looks every millisecond, for [`PATIENCE`] at most. For states that nothing announces.
#[track_caller]
pub fn eventually(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "condition did not come true within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Asserts that `body` returns within `limit`, on a thread of its own, and returns its value. The thread is left behind if it takes longer; a
/// panic is passed on.
#[track_caller]
pub fn within<R: Send + 'static>(limit: Duration, body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, finished) = channel();
    let thread = thread::spawn(move || done.send(body()).is_ok());
    match finished.recv_timeout(limit) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("not finished within {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(_) => panic!("the body ended without a value"),
        },
    }
}

/// An event with or without its type, for [`done`].
pub trait Awaited: fmt::Display + Sized {
    /// Its `wait_timeout`.
    fn wait_at_most(&self, limit: Duration) -> Result<Self, WaitError>;
}

impl<P: Payload> Awaited for Event<P> {
    fn wait_at_most(&self, limit: Duration) -> Result<Self, WaitError> {
        self.wait_timeout(limit)
    }
}

impl Awaited for AnyEvent {
    fn wait_at_most(&self, limit: Duration) -> Result<Self, WaitError> {
        self.wait_timeout(limit)
    }
}

/// Asserts that the event completes, however its handlers end; waits for [`PATIENCE`] at most. From the test's own thread, not in handlers.
#[track_caller]
pub fn done<E: Awaited>(event: &E) -> E {
    match event.wait_at_most(PATIENCE) {
        Ok(event) => event,
        Err(error) => panic!("{event} did not complete: {error}"),
    }
}

/// Asserts that the event completes and none of its handlers failed; waits for [`PATIENCE`] at most.
#[track_caller]
pub fn clean<P: Payload>(event: &Event<P>) {
    let event = done(event);
    assert!(event.errors().is_empty(), "{event}: {:?}", event.errors());
}

/// Asserts that the bus becomes idle; waits for [`PATIENCE`] at most.
#[track_caller]
pub fn idle(bus: &EventBus) {
    if let Err(error) = bus.wait_until_idle_timeout(PATIENCE) {
        panic!("{} did not become idle: {error}", bus.label());
    }
}

/// From now on keeps the warnings of the crate; the returned closure yields those that name `what` (a bus label, an
/// event, a handler). Log records arrive on whichever thread wrote them: look `eventually`.
pub fn warnings_naming(what: &str) -> impl Fn() -> Vec<String> + use<> {
    static CAPTURED: Captured = Captured(Mutex::new(Vec::new()));
    struct Captured(Mutex<Vec<String>>);
    impl log::Log for Captured {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.level() <= log::Level::Warn && metadata.target().starts_with("threadbus")
        }
        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                lock(&self.0).push(record.args().to_string());
            }
        }
        fn flush(&self) {}
    }
    // A second call in one process finds the logger set; it is the same one.
    drop(log::set_logger(&CAPTURED));
    log::set_max_level(log::LevelFilter::Warn);
    let what = what.to_owned();
    move || lock(&CAPTURED.0).iter().filter(|message| message.contains(&what)).cloned().collect()
}

/// The lock, whether or not somebody panicked while holding it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asserts that all of `entries` are in `log`, each after the one before it. Does not wait.
#[track_caller]
pub fn in_order(log: &Log, entries: &[&str]) {
    for pair in entries.windows(2) {
        let (first, second) = (log.position(pair[0]), log.position(pair[1]));
        assert!(first < second, "{:?} should come before {:?} in {:?}", pair[0], pair[1], log.entries());
    }
}

/// Registers a handler that logs `{name}_start`, [lingers](linger), and logs `{name}_end`.
pub fn logs<P: Payload<Output = ()>>(bus: &EventBus, log: &Log, name: &'static str) {
    let log = log.clone();
    bus.on(move |_: &Event<P>| {
        log.push(format_args!("{name}_start"));
        linger();
        log.push(format_args!("{name}_end"));
    });
}

/// Registers a handler that logs `{name}_start`, runs `body`, and logs `{name}_end`.
pub fn logs_around<P: Payload<Output = ()>>(
    bus: &EventBus,
    log: &Log,
    name: &'static str,
    body: impl Fn(&Event<P>) -> Result<(), WaitError> + Send + Sync + 'static,
) {
    let log = log.clone();
    bus.on(move |event: &Event<P>| -> Result<(), WaitError> {
        log.push(format_args!("{name}_start"));
        body(event)?;
        log.push(format_args!("{name}_end"));
        Ok(())
    });
}

/// Registers a handler that stands at a gate. The first gate lets it go on, for this event and all to come; the second opens when it has begun.
pub fn stands<P: Payload<Output = ()>>(bus: &EventBus) -> (Gate, Gate) {
    stands_with::<P>(bus, HandlerOptions::new(), ())
}

/// As [`stands`], with options, and a value that the handler returns.
pub fn stands_with<P: Payload>(bus: &EventBus, options: HandlerOptions, value: P::Output) -> (Gate, Gate)
where
    P::Output: Clone + Sync,
{
    let (gate, started) = (Gate::new(), Gate::new());
    let (closed, begins) = (gate.clone(), started.clone());
    bus.on_with(options, move |_: &Event<P>| -> Result<P::Output, HandlerError> {
        begins.open();
        closed.wait();
        Ok(value.clone())
    });
    (gate, started)
}

/// Asserts that the bus becomes idle, and that a new handler runs on it and does not fail; waits for twice [`PATIENCE`] at most.
#[track_caller]
pub fn works_on(bus: &EventBus) {
    payload!(FollowUp);
    idle(bus);
    let info = bus.on(|_: &Event<FollowUp>| {});
    clean(&bus.emit(FollowUp));
    bus.off(&info);
}

/// Asserts that the bus becomes idle and works on though the gate is closed, and again when it is opened, and that no thread is abandoned then;
/// each step waits for [`PATIENCE`] at most. Opens the gate.
#[track_caller]
pub fn works_on_beside(bus: &EventBus, gate: &Gate) {
    idle(bus);
    assert!(!gate.is_open(), "nobody opened the gate: the bus did not wait for it");
    works_on(bus);
    gate.open();
    eventually(|| bus.runtime().stats().abandoned == 0);
    works_on(bus);
}

/// A bus that runs as many events and handlers at once as it can.
pub fn parallel(name: &str) -> EventBus {
    let builder = EventBus::builder(name).event_concurrency(EventConcurrency::Parallel);
    builder.handler_concurrency(HandlerConcurrency::Parallel).build().expect("a bus")
}

/// Options of a handler under this limit.
pub fn limited(limit: &Limit) -> HandlerOptions {
    HandlerOptions::new().limit(limit.clone())
}

/// Options of an event whose handlers have so many milliseconds each.
pub fn capped(milliseconds: u64) -> EventOptions {
    EventOptions::new().handler_timeout(ms(milliseconds))
}

/// So many milliseconds.
pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The context of the handler that calls.
pub fn context() -> HandlerContext {
    HandlerContext::current().expect("inside of a handler")
}

/// All that the batch reports from now on.
pub fn tracked(batch: &Batch) -> Arc<Mutex<Vec<Progress>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    batch.on_progress(move |progress| lock(&keep).push(progress));
    seen
}

/// Gives other threads the chance to do what they must not do now, for 2 ms at most. Asserts nothing, and nothing relies on how long it takes: on
/// a busy machine a yield takes long, and is chance enough.
pub fn linger() {
    let until = Instant::now() + Duration::from_millis(2);
    for _ in 0..50 {
        thread::yield_now();
        if Instant::now() >= until {
            break;
        }
    }
}

/// How many are inside of something at once.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<Mutex<(usize, usize)>>);

impl Gauge {
    /// Nobody is inside.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more; returns how many are inside now.
    pub fn enter(&self) -> usize {
        let mut count = lock(&self.0);
        count.0 += 1;
        count.1 = count.1.max(count.0);
        count.0
    }

    /// One less.
    pub fn leave(&self) {
        lock(&self.0).0 -= 1;
    }

    /// The most that were ever inside at once.
    pub fn peak(&self) -> usize {
        lock(&self.0).1
    }
}

/// How many files this process has open. On Linux.
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a Linux /proc").count()
}

/// Bytes of anonymous memory that this process holds now. On Linux.
pub fn held_bytes() -> usize {
    process_status("RssAnon:") * 1024
}

/// A number of `/proc/self/status`: `RssAnon:` is the process's anonymous memory in kB.
pub fn process_status(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux /proc");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

/// Asserts that `body` passes in a process in which no other test runs, so that what it measures of the process is its own; waits for three
/// times [`PATIENCE`] at most. `test` is the calling test's name.
pub fn in_a_process_of_its_own(test: &str, body: impl FnOnce()) {
    const ALONE: &str = "THREADBUS_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let mut command = std::process::Command::new(std::env::current_exe().expect("a test is a file"));
    command.args(["--exact", test, "--test-threads=1"]).env(ALONE, "1");
    let output = within(3 * PATIENCE, move || command.output().expect("a process"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
