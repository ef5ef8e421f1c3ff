//! What the integration tests share: gates, logs, bounded waits, payload shorthands. Nothing here sleeps to be right,
//! and every wait ends after [`PATIENCE`] by failing the test.
#![allow(dead_code, unused_macros, unused_imports, reason = "every test file uses its own part of this module")]

use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use threadbus::{AnyEvent, Event, EventBus, Payload, WaitError};

/// How long any wait of a test may take before the test fails. Far above what any line needs.
pub const PATIENCE: Duration = Duration::from_secs(10);

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

/// Looks again and again until `condition` holds; panics after [`PATIENCE`]. For states that nothing announces.
#[track_caller]
pub fn eventually(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "condition did not come true within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `body` on a thread of its own and returns its value; fails the test if it takes longer than `limit` (the thread
/// is left behind), and passes its panic on.
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

/// [`Event::wait_timeout`] with [`PATIENCE`], failing the test on any error. From the test's own thread, not in handlers.
#[track_caller]
pub fn done<P: Payload>(event: &Event<P>) -> Event<P> {
    match event.wait_timeout(PATIENCE) {
        Ok(event) => event,
        Err(error) => panic!("{event} did not complete: {error}"),
    }
}

/// The same for an event without its type.
#[track_caller]
pub fn done_any(event: &AnyEvent) -> AnyEvent {
    match event.wait_timeout(PATIENCE) {
        Ok(event) => event,
        Err(error) => panic!("{event} did not complete: {error}"),
    }
}

/// Waits until `bus` is idle, failing the test on any error.
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

/// Checks that all of `entries` are in `log`, each after the one before it.
#[track_caller]
pub fn in_order(log: &Log, entries: &[&str]) {
    for pair in entries.windows(2) {
        let (first, second) = (log.position(pair[0]), log.position(pair[1]));
        assert!(first < second, "{:?} should come before {:?} in {:?}", pair[0], pair[1], log.entries());
    }
}

/// Registers a handler that logs `{name}_start` and `{name}_end`.
pub fn logs<P: Payload<Output = ()>>(bus: &EventBus, log: &Log, name: &'static str) {
    let log = log.clone();
    bus.on(move |_: &Event<P>| {
        log.push(format_args!("{name}_start"));
        linger();
        log.push(format_args!("{name}_end"));
    });
}

/// Gives every other thread the chance to do what it should not do now. Nothing relies on how long it takes; on a busy machine a yield takes
/// long, and is chance enough.
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

/// Registers a handler which logs `{name}_start`, runs `body`, and logs `{name}_end`.
pub fn runs<P: Payload<Output = ()>>(
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

/// The event's completion, and that no handler of it failed.
#[track_caller]
pub fn clean<P: Payload>(event: &Event<P>) {
    let event = done(event);
    assert!(event.errors().is_empty(), "{event}: {:?}", event.errors());
}

/// A number of `/proc/self/status`: `RssAnon:` is the process's anonymous memory in kB.
pub fn process_status(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux /proc");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

/// Runs `body` in a process in which no other test runs: what it measures of the process is its own. `test` is the calling test's name.
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
