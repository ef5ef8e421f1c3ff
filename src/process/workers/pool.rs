//! A pool of worker processes, as users hold it.

use super::config::Config;
use super::slots::{PoolStats, Slots};
use crate::event::{BuildError, Limit};
use crate::sys::logging;
use crate::sys::sync::atomic::{AtomicBool, Ordering};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Worker processes in which handlers run that may crash, hang or eat memory. Cheap clone.
///
/// A worker is started when an event needs it and none is idle, up to [`max_processes`](PoolBuilder::max_processes); it handles one event
/// at a time, and is kept for the next until it was idle for [`idle_timeout`](PoolBuilder::idle_timeout). It runs the current executable
/// again, or [another program](PoolBuilder::program), which calls [`serve`](crate::process::serve) as the first line of its `main`.
/// [`EventBus::on_process`](crate::EventBus::on_process) makes a bus use it.
///
/// | what happens | the attempt fails with | the worker |
/// | --- | --- | --- |
/// | the handler returns an error | [`Failed`](crate::HandlerFailure::Failed) and its text, permanent if it was | lives on |
/// | the handler panics | [`Panicked`](crate::HandlerFailure::Panicked) and its text | lives on |
/// | the process exits, crashes or is killed | [`Worker`](crate::HandlerFailure::Worker): `app (pid 4711) was killed by signal 6 (SIGABRT)` | is gone |
/// | the process ends before it serves, or takes longer than `start_timeout` for it | [`WorkerStart`](crate::HandlerFailure::WorkerStart), with the last lines of its error output | is gone; the next start is delayed, by 0.1 s and twice that each time, to 3.2 s |
/// | the program has no handler for the type, or one for another type of that name | `Worker`, permanent, which says so | lives on |
/// | payload or output cannot be sent, or are larger than `max_frame` | `Worker`, permanent, which names type and field | lives on |
/// | the handler times out, its event is cancelled | as with any handler | is terminated, and killed after `kill_grace` |
///
/// All of it at once, and what is not permanent is retried like any other failure. One that was idle and died costs nothing: another is started. The
/// end of a worker is the end of its process group, so of what it had started and left there. While it is being ended it counts against
/// `max_processes`.
///
/// Nothing of it outlives its purpose: idle workers end when the last handler that uses the pool is gone (`off`, `shutdown` of the bus),
/// all of them when the pool's last clone is dropped too, or with [`shutdown`](ProcessPool::shutdown); and when this process dies, by
/// whatever, each sees the end of its socket and ends. What a worker prints and logs is in this process's log: records under their own
/// target, lines of its output as `info` and of its error output (so panics) as `warn`, target `threadbus::worker`.
///
/// On a `SIGTERM` from another process a worker finishes its event, and then it ends. On one from the pool, which tells it first that the event is
/// given up, it ends at once.
///
/// Each live worker costs a thread of 512 KiB of stack, mostly untouched, and six file descriptors.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use threadbus::process::{self, ProcessPool};
/// use threadbus::{Event, EventBus, event};
///
/// #[derive(Serialize, Deserialize)]
/// struct Decode { path: String }
/// event!(Decode => usize);
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     process::serve(|worker| {
///         worker.on(|decode: &Event<Decode>| std::fs::read(&decode.path).map(|bytes| bytes.len()));
///     });
///     let pool = ProcessPool::builder().max_processes(2).build()?;
///     let bus = EventBus::new("app");
///     bus.on_process::<Decode>(&pool);
///     println!("{} bytes", bus.emit(Decode { path: "photo.raw".into() }).result()?);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct ProcessPool(Arc<Owner>);

struct Owner {
    slots: Arc<Slots>,
    limit: Limit,
}

/// The options of a [`ProcessPool`] that is to be built.
#[derive(Clone, Debug)]
pub struct PoolBuilder {
    config: Config,
}

impl PoolBuilder {
    /// Sets the program that the workers run. Default: the current executable.
    ///
    /// Another program is built with this crate in the same version, and with the same event types.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.config.program = Some(program.into());
        self
    }

    /// Adds arguments for the workers' program. Default: none.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.config.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable in the workers' environment. They inherit the others from this process.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.config.env.push((name.into(), value.into()));
        self
    }

    /// Sets how many workers there may be at once. At least 1; default: as many as threads can run at once on this computer.
    pub fn max_processes(mut self, processes: usize) -> Self {
        self.config.max_processes = processes;
        self
    }

    /// Sets how many workers there are at least while a handler uses the pool. They are started when the first handler is registered, without
    /// waiting for them, kept though they are idle, and replaced when they end. At most `max_processes`; default 0: none is started before it is
    /// needed.
    pub fn min_processes(mut self, processes: usize) -> Self {
        self.config.min_processes = processes;
        self
    }

    /// Sets after how many events a worker ends, so that what it has leaked goes with it. Another takes its place when one is needed. At least 1;
    /// default: never.
    ///
    /// ```
    /// use threadbus::process::ProcessPool;
    ///
    /// // For a library that leaks: a new process every 500 images, or beyond 2 GiB.
    /// let pool = ProcessPool::builder().max_events(500).max_memory(2 << 30).build()?;
    /// assert_eq!(pool.stats().recycled, 0);
    /// # Ok::<(), threadbus::BuildError>(())
    /// ```
    pub fn max_events(mut self, events: u64) -> Self {
        self.config.max_events = Some(events);
        self
    }

    /// Sets beyond how many bytes of resident memory a worker ends after its event. Looked at after each event, so what one event takes is not
    /// limited by it. At least 1; default: never. On Linux only: elsewhere [`build`](Self::build) refuses it.
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.config.max_memory = Some(bytes);
        self
    }

    /// Sets how long a worker may take from its start until it serves. One that takes longer is ended, and the event that waits for it fails with
    /// [`HandlerFailure::WorkerStart`](crate::HandlerFailure::WorkerStart). More than 0; default 10 s.
    ///
    /// A handler's own timeout does not run before its handler begins in the worker, so a slow start costs no attempt. Until then an attempt may take
    /// its timeout and this together.
    pub fn start_timeout(mut self, after: Duration) -> Self {
        self.config.start_timeout = after;
        self
    }

    /// Sets how long a worker without work is kept. Default 600 s.
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.config.idle_timeout = idle;
        self
    }

    /// Sets how long a worker may take to end once it was asked to (`SIGTERM`), before it is killed. Default 1 s.
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.config.kill_grace = grace;
        self
    }

    /// Sets how long the largest event and the largest answer may be, in bytes as they travel: a list of bytes takes up to twice its length there,
    /// text its own. From 1 to 4 GiB - 1; default 16 MiB.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.config.max_frame = bytes;
        self
    }

    /// Sets by how much workers stand back for other programs, from 0 to 19, as `nice` has it. Default 0: not at all.
    pub fn niceness(mut self, steps: u8) -> Self {
        self.config.niceness = steps;
        self
    }

    /// Builds the pool. No process is started yet.
    ///
    /// ```
    /// use threadbus::process::ProcessPool;
    ///
    /// let error = ProcessPool::builder().max_processes(0).build().unwrap_err();
    /// assert_eq!(error.to_string(), "invalid max_processes: 0, must be at least 1");
    /// ```
    ///
    /// # Errors
    /// [`BuildError`], which names the option and its value.
    pub fn build(self) -> Result<ProcessPool, BuildError> {
        let config = self.config;
        let wrong = |option, reason: String| Err(BuildError { option, reason });
        if config.max_processes == 0 {
            return wrong("max_processes", "0, must be at least 1".to_owned());
        }
        if config.min_processes > config.max_processes {
            let reason = format!("{}, must be at most max_processes, {}", config.min_processes, config.max_processes);
            return wrong("min_processes", reason);
        }
        if config.max_events == Some(0) {
            return wrong("max_events", "0, must be at least 1".to_owned());
        }
        match config.max_memory {
            Some(0) => return wrong("max_memory", "0 bytes, must be at least 1".to_owned()),
            Some(_) if !cfg!(target_os = "linux") => {
                return wrong("max_memory", "this system does not say what a process has in memory".to_owned());
            }
            _ => {}
        }
        if config.start_timeout.is_zero() {
            return wrong("start_timeout", "0ns, must be more".to_owned());
        }
        if config.max_frame == 0 || u32::try_from(config.max_frame).is_err() {
            return wrong("max_frame", format!("{} bytes, must be from 1 to {}", config.max_frame, u32::MAX));
        }
        if config.niceness > 19 {
            return wrong("niceness", format!("{}, must be from 0 to 19", config.niceness));
        }
        if config.program.as_ref().is_some_and(|program| program.as_os_str().is_empty()) {
            return wrong("program", "is empty".to_owned());
        }
        let limit = Limit::new(config.max_processes);
        Ok(ProcessPool(Arc::new(Owner { slots: Arc::new(Slots::new(config)), limit })))
    }
}

impl ProcessPool {
    /// The options of a pool, each at its default.
    pub fn builder() -> PoolBuilder {
        PoolBuilder { config: Config::default() }
    }

    /// Numbers of the pool at this moment: how many workers there are, and were.
    pub fn stats(&self) -> PoolStats {
        self.0.slots.stats()
    }

    /// The process ids of the workers that there are.
    pub fn pids(&self) -> Vec<u32> {
        self.0.slots.pids()
    }

    /// Ends all workers: idle ones by themselves, others terminated, and killed after `kill_grace`. Idempotent; later events fail with
    /// [`HandlerFailure::Worker`](crate::HandlerFailure::Worker).
    ///
    /// Returns whether all are gone.
    ///
    /// **Blocking**: until all are gone and reaped, and their last words are in the log, for `kill_grace` and a few seconds at most.
    pub fn shutdown(&self) -> bool {
        self.0.slots.close();
        let gone = self.0.slots.wait_until_gone();
        // The workers' last words are to be in the log.
        logging::settle(Duration::from_secs(1));
        gone
    }

    /// Registers a user of the pool: a handler of events of that type. Also returns what another type of that name is called, if there is one.
    pub(crate) fn user(&self, name: &'static str, rust_type: &'static str) -> (Arc<User>, Option<&'static str>) {
        let clash = self.0.slots.user_came(name, rust_type);
        (Arc::new(User { pool: self.clone(), of: (name, rust_type), left: AtomicBool::new(false) }), clash)
    }

    pub(crate) fn slots(&self) -> &Arc<Slots> {
        &self.0.slots
    }

    /// A limit of as many invocations at once as there may be processes: one that waits for its place occupies no thread, and its timeout does
    /// not run.
    pub(crate) fn limit(&self) -> Limit {
        self.0.limit.clone()
    }
}

/// A registered handler. With the pool's last one the idle workers go.
pub(crate) struct User {
    pub(crate) pool: ProcessPool,
    of: (&'static str, &'static str),
    left: AtomicBool,
}

impl User {
    /// The registration is over.
    pub(crate) fn leave(&self) {
        if !self.left.swap(true, Ordering::SeqCst) {
            self.pool.0.slots.user_left(self.of.0, self.of.1);
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.slots.close();
        self.slots.wait_until_gone();
    }
}

impl fmt::Debug for ProcessPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPool").field("config", &self.0.slots.config).field("stats", &self.stats()).finish()
    }
}
