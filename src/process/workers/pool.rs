//! A pool of worker processes, as users hold it.

use super::slots::{PoolStats, Slots};
use crate::event::{BuildError, Limit};
use crate::sys::sync::atomic::{AtomicBool, Ordering};
use crate::sys::{logging, thread};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
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
/// | the program has no handler for the type | `Worker`, which says so | lives on |
/// | payload or output cannot be JSON, or are larger than `max_frame` | `Worker`, which names the type | lives on |
/// | the handler times out, its event is cancelled | as with any handler | is terminated, and killed after `kill_grace` |
///
/// All of it at once, and retried like any other failure. One that was idle and died costs nothing: another is started. The end of a worker
/// is the end of its process group, so of what it had started and left there. While it is being ended it counts against `max_processes`.
///
/// Nothing of it outlives its purpose: idle workers end when the last handler that uses the pool is gone (`off`, `shutdown` of the bus),
/// all of them when the pool's last clone is dropped too, or with [`shutdown`](ProcessPool::shutdown); and when this process dies, by
/// whatever, each sees the end of its socket and ends. What a worker prints and logs is in the log over here: records under their own
/// target, lines of its output as `info` and of its error output (so panics) as `warn`, target `threadbus::worker`.
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

/// Settles a [`ProcessPool`].
#[derive(Clone, Debug)]
pub struct PoolBuilder {
    config: Config,
}

#[derive(Clone)]
pub(crate) struct Config {
    program: Option<PathBuf>,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) max_processes: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) kill_grace: Duration,
    pub(crate) max_frame: usize,
    pub(crate) niceness: u8,
}

/// Without the environment, which may hold secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("program", &self.name())
            .field("args", &self.args)
            .field("max_processes", &self.max_processes)
            .field("idle_timeout", &self.idle_timeout)
            .field("kill_grace", &self.kill_grace)
            .field("max_frame", &self.max_frame)
            .field("niceness", &self.niceness)
            .finish_non_exhaustive()
    }
}

impl Config {
    pub(crate) fn executable(&self) -> io::Result<PathBuf> {
        /// Of this very build, though the file may have been replaced by a newer one.
        const OWN: &str = "/proc/self/exe";
        match &self.program {
            Some(program) => Ok(program.clone()),
            None if cfg!(target_os = "linux") && Path::new(OWN).exists() => Ok(OWN.into()),
            None => std::env::current_exe(),
        }
    }

    /// The program, for messages.
    pub(crate) fn name(&self) -> String {
        let program = self.program.clone().or_else(|| std::env::current_exe().ok());
        let name = program.as_ref().and_then(|program| program.file_name());
        name.map_or_else(|| "the worker".to_owned(), |name| name.to_string_lossy().into_owned())
    }
}

impl PoolBuilder {
    /// What the workers run. Default: the current executable.
    ///
    /// Another program is built with this crate in the same version, and with the same event types.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.config.program = Some(program.into());
        self
    }

    /// Arguments for it. Default: none.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.config.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable in its environment. It inherits the others.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.config.env.push((name.into(), value.into()));
        self
    }

    /// How many there may be at once. At least 1; default: as many as threads can run at once here.
    pub fn max_processes(mut self, processes: usize) -> Self {
        self.config.max_processes = processes;
        self
    }

    /// After which a worker without work ends. Default 600 s.
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.config.idle_timeout = idle;
        self
    }

    /// How long a worker may take to end once it was asked to (`SIGTERM`), before it is killed. Default 1 s.
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.config.kill_grace = grace;
        self
    }

    /// The largest event, and the largest answer, as bytes of JSON. From 1 to 4 GiB - 1; default 16 MiB.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.config.max_frame = bytes;
        self
    }

    /// By how much workers stand back for other programs, from 0 to 19, as `nice` has it. Default 0: not at all.
    pub fn niceness(mut self, steps: u8) -> Self {
        self.config.niceness = steps;
        self
    }

    /// The pool. No process is started yet.
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
    /// Settles the options first.
    pub fn builder() -> PoolBuilder {
        let config = Config {
            program: None,
            args: Vec::new(),
            env: Vec::new(),
            max_processes: thread::cores(),
            idle_timeout: Duration::from_secs(600),
            kill_grace: Duration::from_secs(1),
            max_frame: 16 << 20,
            niceness: 0,
        };
        PoolBuilder { config }
    }

    /// How many workers there are, were and may be used at once.
    pub fn stats(&self) -> PoolStats {
        self.0.slots.stats()
    }

    /// The workers there are.
    pub fn pids(&self) -> Vec<u32> {
        self.0.slots.pids()
    }

    /// Ends all workers: idle ones by themselves, others terminated, and killed after `kill_grace`. Idempotent; later events fail with
    /// [`HandlerFailure::Worker`](crate::HandlerFailure::Worker).
    ///
    /// **Blocking**: until all are gone and reaped, and their last words are in the log, for `kill_grace` and a few seconds at most. Whether
    /// they are gone.
    pub fn shutdown(&self) -> bool {
        self.0.slots.close();
        let gone = self.0.slots.wait_until_gone();
        // Their last words.
        logging::settle(Duration::from_secs(1));
        gone
    }

    pub(crate) fn user(&self) -> Arc<User> {
        self.0.slots.user_came();
        Arc::new(User { pool: self.clone(), left: AtomicBool::new(false) })
    }

    pub(crate) fn slots(&self) -> &Arc<Slots> {
        &self.0.slots
    }

    /// As many invocations at once as there are processes: what waits for a process occupies no thread, and its timeout does not run.
    pub(crate) fn limit(&self) -> Limit {
        self.0.limit.clone()
    }
}

/// A registered handler. With the last one the idle workers go.
pub(crate) struct User {
    pub(crate) pool: ProcessPool,
    left: AtomicBool,
}

impl User {
    /// The registration is over.
    pub(crate) fn leave(&self) {
        if !self.left.swap(true, Ordering::SeqCst) {
            self.pool.0.slots.user_left();
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
