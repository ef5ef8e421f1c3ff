//! What the buses of one runtime share, and the public `Runtime`.

use crate::event::{AnyEvent, BuildError, BusId, BusIdentity, LimitNames};
use crate::runtime::crew::Crew;
use crate::runtime::job::Job;
use crate::runtime::pool::{Limits, Pool};
use crate::runtime::readers::Readers;
use crate::runtime::watch::Watch;
use crate::runtime::worker::Worker;
use crate::sync::{Bell, Semaphore};
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sys::{planted, thread, unwind};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Which of the two permits of a bus, or of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PermitKind {
    Event,
    Handler,
}

/// What happens when a turn in line comes.
pub(crate) enum Turn {
    /// A thread stands there.
    Ring(Arc<Bell>),
    /// Nobody does yet.
    Job(Job),
}

/// The permits of the global-serial modes.
pub(crate) struct Global {
    pub(crate) event: Semaphore<Turn>,
    pub(crate) handler: Semaphore<Turn>,
}

impl Global {
    pub(crate) fn semaphore(&mut self, kind: PermitKind) -> &mut Semaphore<Turn> {
        match kind {
            PermitKind::Event => &mut self.event,
            PermitKind::Handler => &mut self.handler,
        }
    }
}

/// A thread parked in a wait inside a handler, and what for.
pub(crate) struct ParkedWait {
    pub(crate) event: AnyEvent,
    pub(crate) in_order: bool,
    pub(crate) bell: Arc<Bell>,
}

/// A thread parked inside a handler for something that is no event.
pub(crate) struct Sit {
    pub(crate) what: SitFor,
    pub(crate) bell: Arc<Bell>,
}

pub(crate) enum SitFor {
    /// That bus is idle.
    Idle(Arc<BusIdentity>),
    /// In words: `receives from …`.
    Other(Arc<str>),
    /// The same for a process that ends with the handler's attempt. Read with `sits` locked.
    #[cfg(feature = "process")]
    Process(Arc<dyn fmt::Display + Send + Sync>),
}

impl SitFor {
    pub(crate) fn other(words: String) -> SitFor {
        SitFor::Other(words.into())
    }

    pub(crate) fn is_process(&self) -> bool {
        #[cfg(feature = "process")]
        if let SitFor::Process(_) = self {
            return true;
        }
        false
    }
}

impl fmt::Display for SitFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SitFor::Idle(bus) => write!(f, "waits for {} to be idle", bus.label),
            SitFor::Other(what) => f.write_str(what),
            #[cfg(feature = "process")]
            SitFor::Process(what) => what.fmt(f),
        }
    }
}

pub(crate) struct RuntimeCore {
    pub(crate) crew: Arc<Crew>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) global: Mutex<Global>,
    /// By worker id. Handlers that wait, parked: the wait graph's edges.
    pub(crate) parked: Mutex<HashMap<u64, ParkedWait>>,
    /// How many there are, so that an emit reads one atomic to know that nobody cares.
    pub(crate) parked_count: AtomicUsize,
    /// The same for what is no event.
    pub(crate) sits: Mutex<HashMap<u64, Sit>>,
    pub(crate) sits_count: AtomicUsize,
    /// Those that are neither gone nor shut down.
    pub(crate) buses: Mutex<HashMap<BusId, Arc<BusIdentity>>>,
    /// Of subscriptions to its buses.
    pub(crate) readers: Mutex<Readers>,
    pub(crate) limits: LimitNames,
    /// Some handler has had a limit: waits have to look at them.
    pub(crate) has_limits: AtomicBool,
    /// See [`RuntimeBuilder::max_wait_depth`].
    pub(crate) max_wait_depth: u32,
}

impl RuntimeCore {
    /// Those that wait look again: at what they may claim, or whether their wait can ever end.
    pub(crate) fn ring_parked(&self, which: impl Fn(&ParkedWait) -> bool) {
        let bells: Vec<Arc<Bell>> = {
            let parked = self.parked.lock();
            parked.values().filter(|wait| which(wait)).map(|wait| Arc::clone(&wait.bell)).collect()
        };
        bells.iter().for_each(|bell| bell.ring());
        self.ring_sits();
    }

    /// Handlers that wait for a bus to be idle look again whether that can ever be.
    pub(crate) fn ring_sits(&self) {
        if self.sits_count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let bells: Vec<Arc<Bell>> = {
            let sits = self.sits.lock();
            let idle = sits.values().filter(|sit| matches!(sit.what, SitFor::Idle(_)));
            idle.map(|sit| Arc::clone(&sit.bell)).collect()
        };
        bells.iter().for_each(|bell| bell.ring());
    }

    /// A bus is there: threads may wait for work again.
    pub(crate) fn add_bus(&self, bus: &Arc<BusIdentity>) {
        let mut buses = self.buses.lock();
        buses.insert(bus.id, Arc::clone(bus));
        self.crew.flow();
    }

    /// All threads that are there leave as soon as they have no work, without waiting for more.
    pub(crate) fn let_go(&self) {
        if planted("let_go_before_ebb") {
            self.pool.let_go();
            self.watch.let_go();
        }
        {
            let buses = self.buses.lock();
            self.crew.ebb(!buses.is_empty());
        }
        if !planted("let_go_before_ebb") {
            self.pool.let_go();
            self.watch.let_go();
        }
    }
}

impl Drop for RuntimeCore {
    fn drop(&mut self) {
        if !thread::is_model_over() {
            self.let_go();
        }
    }
}

/// Carries out what a semaphore handed over. Outside all locks.
pub(crate) fn hand_over(pool: &Arc<Pool>, granted: impl IntoIterator<Item = Turn>) {
    for turn in granted {
        match turn {
            Turn::Ring(bell) => bell.ring(),
            Turn::Job(job) => pool.submit_granted(job),
        }
    }
}

/// The shared worker pool, the deadline watch and the global-serial locks. Buses of one runtime know each other.
///
/// [`Runtime::global`] is the one that [`EventBus::new`](crate::EventBus::new) uses. A runtime of one's own has its own threads. When its last
/// handle has gone, and the last of its buses, they leave as soon as they have no work, without their keep-alive; [`Runtime::shutdown`]
/// waits for that. What keeps deadlines and schedules are two threads beside those of the pool, which are there only while there are any.
///
/// A thread that the system refuses for those is asked for again, while it is needed: by every emit and every wait on any bus, and by
/// whoever is parked in one. Until then timeouts and schedules are late.
///
/// ```
/// use threadbus::{EventBus, Runtime};
///
/// let runtime = Runtime::builder().max_threads(4).thread_name("jobs").build()?;
/// let bus = EventBus::builder("jobs").runtime(&runtime).build()?;
/// assert_eq!(bus.runtime().stats().max_threads, 4);
/// # Ok::<(), threadbus::BuildError>(())
/// ```
#[derive(Clone)]
pub struct Runtime {
    pub(crate) core: Arc<RuntimeCore>,
}

impl Runtime {
    /// The process's own: 512 threads at most that run user code, started when needed.
    pub fn global() -> Runtime {
        static GLOBAL: OnceLock<Runtime> = OnceLock::new();
        GLOBAL.get_or_init(|| Runtime::with(RuntimeBuilder::new().limits, MAX_WAIT_DEPTH)).clone()
    }

    /// Another one, with threads of its own.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::new()
    }

    /// Changes how many threads may run user code at once. Lowering it ends no running handler; fewer are started from now on.
    ///
    /// # Errors
    /// [`BuildError`] naming `max_threads` if it is 0 or above the hard limit; nothing changes then.
    pub fn set_max_threads(&self, max: usize) -> Result<(), BuildError> {
        check_threads(max, self.core.pool.limits().hard_limit)?;
        self.core.pool.set_max_threads(max);
        Ok(())
    }

    /// What the threads do at this moment.
    pub fn stats(&self) -> RuntimeStats {
        let pool = self.core.pool.stats();
        RuntimeStats {
            threads: pool.threads,
            busy: pool.busy,
            waiting: pool.waiting,
            idle: pool.idle,
            abandoned: pool.abandoned,
            max_threads: pool.max_threads,
            peak_threads: pool.peak,
        }
    }

    fn with(limits: Limits, max_wait_depth: usize) -> Runtime {
        unwind::note_panics(Worker::note_panic);
        let crew = Arc::new(Crew::default());
        let watch = Watch::new(&limits.thread_name, &crew);
        Runtime {
            core: Arc::new(RuntimeCore {
                pool: Pool::new(limits, &watch, &crew),
                crew,
                watch,
                global: Mutex::new(Global { event: Semaphore::new(1, true), handler: Semaphore::new(1, false) }),
                parked: Mutex::new(HashMap::new()),
                parked_count: AtomicUsize::new(0),
                sits: Mutex::new(HashMap::new()),
                sits_count: AtomicUsize::new(0),
                max_wait_depth: u32::try_from(max_wait_depth).unwrap_or(u32::MAX),
                buses: Mutex::new(HashMap::new()),
                readers: Mutex::default(),
                limits: LimitNames::default(),
                has_limits: AtomicBool::new(false),
            }),
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |token: crate::sync::Token| format!("{:x}/{:x}", token.stamp, token.part);
        let (event, handler) = {
            let global = self.core.global.lock();
            (global.event.describe(&name), global.handler.describe(&name))
        };
        let parked: Vec<_> = self.core.parked.lock().iter().map(|(id, p)| (*id, p.event.clone(), p.in_order)).collect();
        let stack = |id| {
            let slots = self.core.pool.worker(id).map(|worker| worker.slots()).unwrap_or_default();
            slots
                .iter()
                .map(|slot| format!("{}/{}", slot.event, slot.running.invocation))
                .collect::<Vec<_>>()
                .join(" > ")
        };
        let wait = |(id, event, in_order): (u64, AnyEvent, bool)| {
            format!("{} waits {}for {event}", stack(id), if in_order { "in order " } else { "" })
        };
        f.debug_struct("Runtime")
            .field("stats", &self.stats())
            .field("waits", &parked.into_iter().map(wait).collect::<Vec<_>>())
            .field("event permit", &format_args!("{event}"))
            .field("handler permit", &format_args!("{handler}"))
            .finish_non_exhaustive()
    }
}

/// Settles a [`Runtime`].
#[derive(Clone, Debug)]
pub struct RuntimeBuilder {
    limits: Limits,
    hard_limit: Option<usize>,
    max_wait_depth: usize,
}

/// A level takes 5 to 13 KiB of some thread's stack, and there are chains of 10,000 that end.
const MAX_WAIT_DEPTH: usize = 12_000;

impl RuntimeBuilder {
    fn new() -> Self {
        let limits = Limits {
            max_threads: 512,
            hard_limit: 2048,
            stack_size: 8 << 20,
            thread_name: "threadbus".to_owned(),
            keep_alive: Duration::from_secs(10),
        };
        RuntimeBuilder { limits, hard_limit: None, max_wait_depth: MAX_WAIT_DEPTH }
    }

    /// Threads that run user code at once; suspended waits and abandoned handlers do not count. Default 512.
    ///
    /// Where there is more to do than threads, buses take turns: after a millisecond, and the handler that it is in, each leaves its thread
    /// to the next one, and a bus that was idle goes first.
    pub fn max_threads(mut self, max: usize) -> Self {
        self.limits.max_threads = max;
        self
    }

    /// All threads of the pool, whatever they do. Default four times `max_threads`.
    ///
    /// At this limit, a thread that waits runs what it waits for on its own stack, and nothing else. A thread that the system refuses is asked
    /// for again, by time and with every emit and wait.
    pub fn hard_limit(mut self, threads: usize) -> Self {
        self.hard_limit = Some(threads);
        self
    }

    /// Of each pool thread. Default 8 MiB (virtual; only what is touched is paid).
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.limits.stack_size = bytes;
        self
    }

    /// What the threads are called: this and a number, `threadbus-1` by default, which no other thread of the runtime gets. Linux shows 15
    /// bytes of a name, so a longer prefix is cut until the number fits.
    pub fn thread_name(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.limits.thread_name);
        self
    }

    /// Idle threads end after this. Default 10 s; [`Duration::MAX`]: not before a [`shutdown`](Runtime::shutdown), or the end of the runtime.
    pub fn keep_alive(mut self, idle: Duration) -> Self {
        self.limits.keep_alive = idle;
        self
    }

    /// So many handlers may wait at once, each for the event of the next one. Default 12,000.
    ///
    /// One more is answered [`WaitError::TooDeep`](crate::WaitError::TooDeep) at once, so an event that waits for its own kind without end, or two kinds that wait for each other, fail
    /// soon, with the kinds in words. With 0 no handler may wait for an event at all; outside of handlers a wait is no level.
    /// What the handler that would wait has emitted, and is not complete, is cancelled. On buses with parallel events a level that starts before it is waited for
    /// may go uncounted. An [`emit_now`](crate::EventBus::emit_now) that deep is refused, with
    /// [`EmitError::TooDeep`](crate::EmitError::TooDeep).
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

    /// The runtime. It starts no thread yet.
    ///
    /// # Errors
    /// [`BuildError`] naming the option: no threads at all, a hard limit below `max_threads`, a stack below 64 KiB, a name with a
    /// zero byte.
    pub fn build(self) -> Result<Runtime, BuildError> {
        let mut limits = self.limits;
        limits.hard_limit = self.hard_limit.unwrap_or(limits.max_threads.saturating_mul(4));
        check_threads(limits.max_threads, limits.hard_limit)?;
        if limits.stack_size < 64 << 10 {
            return Err(BuildError {
                option: "stack_size",
                reason: format!("{} bytes are too few, 65536 is the least", limits.stack_size),
            });
        }
        if limits.thread_name.contains('\0') {
            return Err(BuildError {
                option: "thread_name",
                reason: format!("{:?} holds a zero byte", limits.thread_name),
            });
        }
        Ok(Runtime::with(limits, self.max_wait_depth))
    }
}

fn check_threads(max: usize, hard_limit: usize) -> Result<(), BuildError> {
    if max == 0 {
        return Err(BuildError { option: "max_threads", reason: "0 threads could run nothing".to_owned() });
    }
    if max > hard_limit {
        return Err(BuildError {
            option: "max_threads",
            reason: format!("{max} is above the hard limit of {hard_limit}"),
        });
    }
    Ok(())
}

/// What the threads of a [`Runtime`] do.
///
/// `waiting`: suspended in a wait of ours. `abandoned`: still inside a handler whose result was given up.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeStats {
    /// All threads of the pool.
    pub threads: usize,
    /// Running a bus or a handler.
    pub busy: usize,
    /// Suspended in a wait of ours.
    pub waiting: usize,
    /// Without work, to end after the keep-alive.
    pub idle: usize,
    /// Still inside a handler whose result was given up.
    pub abandoned: usize,
    /// The limit of `busy`.
    pub max_threads: usize,
    /// The most there have been at once.
    pub peak_threads: usize,
}
