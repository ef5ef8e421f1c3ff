//! Threads and thread-locals.

use crate::sys::clock;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

#[cfg(not(threadbus_shuttle))]
pub(crate) use std::thread_local as local;

#[cfg(threadbus_shuttle)]
pub(crate) use shuttle::thread_local as local;

/// Starts a detached thread. That the system may refuse is a value.
pub(crate) fn spawn(name: String, stack_size: usize, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    spawn_kept(name, stack_size, body).map(drop)
}

/// Starts a thread and returns its handle, which detaches it when dropped.
#[cfg(not(threadbus_shuttle))]
pub(crate) fn spawn_kept(
    name: String,
    stack_size: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    #[cfg(test)]
    if unit::is_refused(&name) {
        return Err(io::Error::other("the test says so"));
    }
    std::thread::Builder::new().name(name).stack_size(stack_size).spawn(body)
}

/// For unit tests: the system refuses threads by their names.
#[cfg(all(test, not(threadbus_shuttle)))]
#[allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests")]
pub(crate) mod unit {
    use std::sync::Mutex;

    static REFUSED: Mutex<Vec<String>> = Mutex::new(Vec::new());

    /// From now on every thread of that name is refused, or none.
    pub(crate) fn refuse(name: &str, refused: bool) {
        let mut all = REFUSED.lock().unwrap();
        all.retain(|other| other != name);
        if refused {
            all.push(name.to_owned());
        }
    }

    pub(super) fn is_refused(name: &str) -> bool {
        REFUSED.lock().unwrap().iter().any(|refused| refused == name)
    }
}

#[cfg(threadbus_shuttle)]
pub(crate) fn spawn_kept(
    name: String,
    _stack_size: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    if REFUSED.get() {
        return Err(io::Error::other("the model says so"));
    }
    shuttle::thread::Builder::new().name(name).spawn(body)
}

#[cfg(not(threadbus_shuttle))]
pub(crate) use std::thread::JoinHandle;

#[cfg(threadbus_shuttle)]
pub(crate) use shuttle::thread::JoinHandle;

// Of the whole model: it runs on one thread of the system.
#[cfg(threadbus_shuttle)]
std::thread_local! {
    static REFUSED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// From now on every thread is refused, or none.
#[cfg(threadbus_shuttle)]
pub(crate) fn refuse(all: bool) {
    REFUSED.set(all);
}

/// Starts a thread of the user's. Panics if the system refuses it, since the handle cannot say so.
pub(crate) fn spawn_joinable<R: Send + 'static>(
    name: Option<String>,
    body: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    #[cfg(not(threadbus_shuttle))]
    let mut builder = std::thread::Builder::new();
    #[cfg(threadbus_shuttle)]
    let mut builder = shuttle::thread::Builder::new();
    if let Some(name) = name {
        builder = builder.name(name);
    }
    match builder.spawn(body) {
        Ok(handle) => handle,
        Err(error) => panic!("the system refuses a thread: {error}"),
    }
}

/// True if a model has failed: what it leaves is dropped when there are no locks any more. False in programs.
pub(crate) fn is_model_over() -> bool {
    cfg!(threadbus_shuttle) && std::thread::panicking()
}

/// How many threads can run at once; 1 if the system does not say. Asked once, since the answer costs as much as many events.
pub(crate) fn cores() -> usize {
    #[cfg(not(threadbus_shuttle))]
    {
        static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get))
    }
    #[cfg(threadbus_shuttle)]
    return 2;
}

/// Lets other threads run.
#[cfg(not(threadbus_shuttle))]
fn yield_now() {
    std::thread::yield_now();
}

#[cfg(threadbus_shuttle)]
fn yield_now() {
    shuttle::thread::yield_now();
}

/// How long the loops of all buses have run.
static OURS: AtomicU64 = AtomicU64::new(0);

/// A loop has run events for so long.
pub(crate) fn has_worked(time: clock::Tick) {
    OURS.fetch_add(time, Relaxed);
}

/// Lets another thread have this core. False, and nothing is done, for a while after a foreign thread kept the core for long.
///
/// Such a thread computes, and takes a whole time slice whenever it is offered one: the oftener that happens, the longer nothing is offered.
pub(crate) fn give_way() -> bool {
    const LONG: clock::Tick = 500_000;
    const PAUSES: std::ops::RangeInclusive<u32> = 16..=2_000;
    static PAUSE: AtomicU32 = AtomicU32::new(*PAUSES.start());
    static LEFT_OUT: AtomicU32 = AtomicU32::new(0);
    let left_out = LEFT_OUT.load(Relaxed);
    if left_out > 0 {
        LEFT_OUT.store(left_out - 1, Relaxed);
        return false;
    }
    let (before, ours) = (clock::now(), OURS.load(Relaxed));
    yield_now();
    let theirs = (clock::now() - before).saturating_sub(OURS.load(Relaxed) - ours);
    let pause = PAUSE.load(Relaxed);
    if theirs > LONG {
        LEFT_OUT.store(pause, Relaxed);
        PAUSE.store((2 * pause).min(*PAUSES.end()), Relaxed);
    } else if pause > *PAUSES.start() {
        PAUSE.store(pause - pause / 16, Relaxed);
    }
    true
}

/// The name of the calling thread, for diagnostics.
pub(crate) fn name() -> String {
    let thread = std::thread::current();
    thread.name().map_or_else(|| format!("{:?}", thread.id()), str::to_owned)
}

/// A number that nothing of the process has had: of threads, pools, buses and batches. Never 0.
///
/// A thread for each connection uses 32 bits up in weeks; in tests they are nearly used up from the start.
pub(crate) fn next_number() -> u64 {
    const FIRST: u64 = if cfg!(any(test, threadbus_shuttle)) { u32::MAX as u64 - 2 } else { 1 };
    static NEXT: AtomicU64 = AtomicU64::new(FIRST);
    NEXT.fetch_add(1, Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_beyond_32_bits() {
        let numbers: Vec<u64> = (0..100).map(|_| next_number()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
        assert!(numbers[99] > u64::from(u32::MAX));
    }
}
