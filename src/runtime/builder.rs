//! Settling a runtime.

use crate::event::BuildError;
use crate::runtime::handle::{Runtime, check_threads};
use crate::runtime::pool::PoolSettings;
use std::sync::OnceLock;
use std::time::Duration;

impl Runtime {
    /// The runtime of the process: 512 threads at most that run user code, started when needed.
    pub fn global() -> Runtime {
        static GLOBAL: OnceLock<Runtime> = OnceLock::new();
        GLOBAL.get_or_init(|| Runtime::new(RuntimeBuilder::new().settings, MAX_WAIT_DEPTH)).clone()
    }

    /// Options of a runtime with threads of its own.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::new()
    }
}

/// Options of a [`Runtime`] with threads of its own.
#[derive(Clone, Debug)]
pub struct RuntimeBuilder {
    settings: PoolSettings,
    hard_limit: Option<usize>,
    max_wait_depth: usize,
}

/// A level takes 5 to 13 KiB of some thread's stack, and there are chains of 10,000 that end.
const MAX_WAIT_DEPTH: usize = 12_000;

impl RuntimeBuilder {
    fn new() -> Self {
        let settings = PoolSettings {
            max_threads: 512,
            hard_limit: 2048,
            stack_size: 8 << 20,
            thread_name: "threadbus".to_owned(),
            keep_alive: Duration::from_secs(10),
        };
        RuntimeBuilder { settings, hard_limit: None, max_wait_depth: MAX_WAIT_DEPTH }
    }

    /// How many threads run user code at once; suspended waits and abandoned handlers do not count. Default 512.
    ///
    /// Where there is more to do than threads, buses take turns: after a millisecond, and the handler that it is in, each leaves its thread
    /// to the next one, and a bus that was idle goes first.
    pub fn max_threads(mut self, max: usize) -> Self {
        self.settings.max_threads = max;
        self
    }

    /// How many threads the pool has, whatever they do. Default four times `max_threads`.
    ///
    /// At this limit, a thread that waits runs what it waits for on its own stack, and nothing else. A thread that the system refuses is asked
    /// for again, by time and with every emit and wait.
    pub fn hard_limit(mut self, threads: usize) -> Self {
        self.hard_limit = Some(threads);
        self
    }

    /// Stack size of each pool thread. Default 8 MiB (virtual; only what is touched is paid).
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.settings.stack_size = bytes;
        self
    }

    /// What the threads are called: this and a number, `threadbus-1` by default, which no other thread of the runtime gets. Linux shows 15
    /// bytes of a name, so a longer prefix is cut until the number fits.
    pub fn thread_name(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.settings.thread_name);
        self
    }

    /// Idle threads end after this. Default 10 s; [`Duration::MAX`]: not before a [`shutdown`](Runtime::shutdown), or the end of the runtime.
    pub fn keep_alive(mut self, idle: Duration) -> Self {
        self.settings.keep_alive = idle;
        self
    }

    /// How many handlers may wait at once, each for the event of the next one. Default 12,000.
    ///
    /// One more is answered [`WaitError::TooDeep`](crate::WaitError::TooDeep) at once, so an event that waits for its own kind without end,
    /// or two kinds that wait for each other, fail soon, with the kinds in words. With 0 no handler may wait for an event at all; outside of
    /// handlers a wait is no level. What the handler that would wait has emitted, and is not complete, is cancelled. On buses with parallel
    /// events a level that starts before it is waited for may go uncounted. An [`emit_now`](crate::EventBus::emit_now) that deep is refused,
    /// with [`EmitError::TooDeep`](crate::EmitError::TooDeep).
    ///
    /// ```
    /// use threadbus::{Event, EventBus, Payload, ResultError, Runtime};
    /// struct Resize;
    /// impl Payload for Resize { type Output = (); }
    ///
    /// let runtime = Runtime::builder().max_wait_depth(100).build()?;
    /// let bus = EventBus::builder("layout").runtime(&runtime).build()?;
    /// // Lays out its parent, which lays out its parent …
    /// bus.on(|resize: &Event<Resize>| -> Result<(), ResultError> { resize.bus().emit(Resize).result() });
    /// let error = bus.emit(Resize).result().unwrap_err();
    /// assert!(error.to_string().contains("more than 100 handlers would wait"));
    /// # Ok::<(), threadbus::BuildError>(())
    /// ```
    pub fn max_wait_depth(mut self, handlers: usize) -> Self {
        self.max_wait_depth = handlers;
        self
    }

    /// Makes the runtime, which starts no thread yet.
    ///
    /// # Errors
    /// [`BuildError`] naming the option: no threads at all, a hard limit below `max_threads`, a stack below 64 KiB, a name with a
    /// zero byte.
    pub fn build(self) -> Result<Runtime, BuildError> {
        let mut settings = self.settings;
        settings.hard_limit = self.hard_limit.unwrap_or(settings.max_threads.saturating_mul(4));
        check_threads(settings.max_threads, settings.hard_limit)?;
        if settings.stack_size < 64 << 10 {
            return Err(BuildError {
                option: "stack_size",
                reason: format!("{} bytes are too few, 65536 is the least", settings.stack_size),
            });
        }
        if settings.thread_name.contains('\0') {
            return Err(BuildError {
                option: "thread_name",
                reason: format!("{:?} holds a zero byte", settings.thread_name),
            });
        }
        Ok(Runtime::new(settings, self.max_wait_depth))
    }
}
