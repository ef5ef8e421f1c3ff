//! Settling a bus.

use crate::bus::core::EventBus;
use crate::bus::middleware::Middleware;
use crate::bus::parts::listener::Middlewares;
use crate::bus::parts::manual::Wake;
use crate::bus::parts::settings::BusOptions;
use crate::event::{
    BusId, EventConcurrency, Fairness, HandlerCompletion, HandlerConcurrency, HistoryPolicy, JsonLimits, OnFull, Retry,
};
use crate::rules::HealthWindow;
use crate::runtime::Runtime;
use crate::sys::sync::atomic::AtomicU64;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Settles an [`EventBus`]; every option has a default.
///
/// ```
/// use std::time::Duration;
/// use threadbus::{EventBus, EventConcurrency};
///
/// let bus = EventBus::builder("orders")
///     .event_concurrency(EventConcurrency::Parallel)
///     .handler_timeout(Some(Duration::from_secs(5)))
///     .max_history(Some(1000))
///     .build()?;
/// assert_eq!(bus.name(), "orders");
/// # Ok::<(), threadbus::BuildError>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct BusBuilder {
    pub(crate) name: String,
    pub(crate) id: Option<BusId>,
    pub(crate) options: BusOptions,
    pub(crate) retry: Option<Retry>,
    pub(crate) max_emit_rate: Option<(f64, usize)>,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) middlewares: Middlewares<EventBus>,
    pub(crate) on_ready: OnReady,
    pub(crate) refusals: Arc<AtomicU64>,
    pub(crate) alone: bool,
}

/// With nothing to show.
#[derive(Default)]
pub(crate) struct OnReady(pub(crate) Option<Wake>);

impl fmt::Debug for OnReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a closure" } else { "nothing" })
    }
}

impl BusBuilder {
    pub(crate) fn new(name: &str) -> Self {
        let options = BusOptions {
            event_concurrency: EventConcurrency::BusSerial,
            handler_concurrency: HandlerConcurrency::BusSerial,
            handler_completion: HandlerCompletion::All,
            handler_timeout: Some(Duration::from_secs(60)),
            event_timeout: None,
            handler_slow_after: Some(Duration::from_secs(30)),
            event_slow_after: Some(Duration::from_secs(300)),
            max_history: Some(100),
            history_policy: HistoryPolicy::DropOldest,
            queue_capacity: None,
            max_in_flight: None,
            on_full: OnFull::Block,
            fairness: Fairness::Strict,
            require_handler: false,
            json_limits: JsonLimits::new(),
            dead_letters: 0,
            health_window: HealthWindow::new(),
            manual: false,
        };
        let name = name.to_owned();
        let middlewares = Middlewares::default();
        let on_ready = OnReady::default();
        let refusals = Arc::default();
        BusBuilder {
            name,
            id: None,
            options,
            retry: None,
            max_emit_rate: None,
            runtime: None,
            middlewares,
            on_ready,
            refusals,
            alone: false,
        }
    }

    /// The bus's id. Default: a new UUIDv7.
    pub fn id(mut self, id: BusId) -> Self {
        self.id = Some(id);
        self
    }

    /// How many events run at once. Default [`EventConcurrency::BusSerial`]: one after another.
    pub fn event_concurrency(mut self, mode: EventConcurrency) -> Self {
        self.options.event_concurrency = mode;
        self
    }

    /// How many handlers run at once. Default [`HandlerConcurrency::BusSerial`].
    pub fn handler_concurrency(mut self, mode: HandlerConcurrency) -> Self {
        self.options.handler_concurrency = mode;
        self
    }

    /// When an event is complete. Default [`HandlerCompletion::All`].
    pub fn handler_completion(mut self, mode: HandlerCompletion) -> Self {
        self.options.handler_completion = mode;
        self
    }

    /// Cap on each attempt of each handler. Default 60 s; `None`: no cap. Zero is up at once: the handler is not called.
    ///
    /// Time goes on while the process is stopped (a debugger, `SIGSTOP`, a paused container; on a suspended machine it depends on the
    /// system's monotonic clock): when it goes on, every timeout that has passed meanwhile ends its attempt at once, though the handler had no chance. A
    /// program that is stopped on purpose takes long caps, or [`Retry`] on its handlers.
    pub fn handler_timeout(mut self, after: Option<Duration>) -> Self {
        self.options.handler_timeout = after;
        self
    }

    /// Cap on each event, from the start of its processing. Default none. Zero is up at once: no handler is called.
    pub fn event_timeout(mut self, after: Option<Duration>) -> Self {
        self.options.event_timeout = after;
        self
    }

    /// A handler that runs longer is worth a warning in the log, and so is an [`emit`](EventBus::emit) that waits longer for room: in a full
    /// queue, in an unread subscription, under the rate. Default 30 s.
    pub fn handler_slow_after(mut self, after: Option<Duration>) -> Self {
        self.options.handler_slow_after = after;
        self
    }

    /// An event that runs longer is worth a warning in the log. Default 300 s.
    pub fn event_slow_after(mut self, after: Option<Duration>) -> Self {
        self.options.event_slow_after = after;
        self
    }

    /// How failed handlers are tried again. Default: not at all.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// How many events the history keeps. Default 100; `None` keeps all; `Some(0)` keeps only unfinished ones.
    ///
    /// A payload is dropped when its event has run, has left the history and is held by nobody else. Behind a backlog, where events leave a
    /// history of 32 or more before they run, up to 100 that have run may be dropped later: by the emits that follow, or when the bus has
    /// nothing more to do.
    pub fn max_history(mut self, events: Option<usize>) -> Self {
        self.options.max_history = events;
        self
    }

    /// What happens when the history is full. Default [`HistoryPolicy::DropOldest`]: the oldest completed event leaves it, or the
    /// oldest of all, with a warning at most once a minute; it still runs. [`HistoryPolicy::KeepUnfinished`] keeps what runs, for those who look
    /// events up by id; [`HistoryPolicy::Reject`] refuses while all of it is unfinished.
    pub fn history_policy(mut self, policy: HistoryPolicy) -> Self {
        self.options.history_policy = policy;
        self
    }

    /// How many events may be queued, and what `emit` does beyond that. Default: any number. Emits from inside handlers are exempt.
    ///
    /// What [`OnFull::DropOldest`] drops is not lost in silence: its `wait` answers [`WaitError::Dropped`](crate::WaitError::Dropped), the log
    /// says so at first and then once a minute with a count, and where [`dead_letters`](Self::dead_letters) are kept there is one for each
    /// handler that would have run, with 0 attempts.
    ///
    /// Events that the bus has taken out of its queue and of which nothing runs count too ([`BusMetrics::waiting`](crate::BusMetrics::waiting)): those
    /// in line for a place under a [`Limit`](crate::Limit), for a worker process or for a handler's permit, and those between two attempts.
    pub fn queue_capacity(mut self, events: usize, on_full: OnFull) -> Self {
        self.options.queue_capacity = Some(events);
        self.options.on_full = on_full;
        self
    }

    /// How many events of a bus whose events run in parallel may be in flight: it starts no more, and refuses nothing. What is above that stays
    /// queued, where priority and fairness decide what is next. Default: any number.
    ///
    /// An event is in flight from its start until its handlers have ended, so also while it is in line for a place under a
    /// [`Limit`](crate::Limit) or between two attempts. What a handler waits for runs at once, as always, and so does
    /// [`emit_now`](EventBus::emit_now); a handler in [`wait_in_order`](crate::Event::wait_in_order) does not count meanwhile, so that the bus can come to what
    /// it waits for. One in a [`find`](EventBus::find) or a [`recv`](crate::Subscription::recv) counts, since that may come from anywhere: where all places
    /// are taken by such, an event of this bus that they look for does not start. Wait for the event itself. Where events run one at a time it changes nothing.
    ///
    /// ```
    /// use threadbus::{Event, EventBus, EventConcurrency, HandlerConcurrency, Payload};
    /// struct Thumbnail(u32);
    /// impl Payload for Thumbnail { type Output = (); }
    ///
    /// let bus = EventBus::builder("thumbnails")
    ///     .event_concurrency(EventConcurrency::Parallel)
    ///     .handler_concurrency(HandlerConcurrency::Parallel)
    ///     .max_in_flight(4)
    ///     .build()?;
    /// bus.on(|_: &Event<Thumbnail>| {});
    /// for n in 0..100 {
    ///     bus.emit(Thumbnail(n));
    ///     assert!(bus.metrics().in_flight <= 4);
    /// }
    /// bus.wait_until_idle()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_in_flight(mut self, events: usize) -> Self {
        self.options.max_in_flight = Some(events);
        self
    }

    /// A token bucket in front of the queue: `burst` events at once, and `events_per_second` over time. Emits above it meet the
    /// [`OnFull`] of [`queue_capacity`](Self::queue_capacity), or wait ([`OnFull::Block`]) if none was set; emits from inside
    /// handlers are exempt, and take no token. Default: no limit.
    ///
    /// What is refused for the rate says [`EmitError::RateLimited`](crate::EmitError::RateLimited), which is also what
    /// [`OnFull::DropOldest`] does: no event is dropped for one that comes too early.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbus::{EventBus, OnFull};
    ///
    /// let bus = EventBus::builder("mail")
    ///     .max_emit_rate(10.0, 50)
    ///     .queue_capacity(1000, OnFull::BlockFor(Duration::from_secs(1)))
    ///     .build()?;
    /// assert!(EventBus::builder("mail").max_emit_rate(f64::NAN, 50).build().is_err());
    /// # drop(bus);
    /// # Ok::<(), threadbus::BuildError>(())
    /// ```
    pub fn max_emit_rate(mut self, events_per_second: f64, burst: usize) -> Self {
        self.max_emit_rate = Some((events_per_second, burst));
        self
    }

    /// How the priorities of queued events share the bus. Default [`Fairness::Strict`]: always the highest.
    pub fn fairness(mut self, fairness: Fairness) -> Self {
        self.options.fairness = fairness;
        self
    }

    /// Refuse events that no handler is registered for. Default false.
    pub fn require_handler(mut self, required: bool) -> Self {
        self.options.require_handler = required;
        self
    }

    /// How much JSON [`emit_json`](EventBus::emit_json) takes for an event. Default [`JsonLimits::new`]: 16 MiB, 120 levels, names of 256
    /// bytes, 1,024 buses.
    pub fn json_limits(mut self, limits: JsonLimits) -> Self {
        self.options.json_limits = limits;
        self
    }

    /// Keeps the last `capacity` failures of handlers that were final, for [`EventBus::dead_letters`]. Default 0: none. It is a bound, not
    /// a reservation: any number makes sense.
    pub fn dead_letters(mut self, capacity: usize) -> Self {
        self.options.dead_letters = capacity;
        self
    }

    /// By which deliveries [`EventBus::health`] judges failures and times in the queue. Default [`HealthWindow::new`]: the last 100, none older than
    /// five minutes, with no alert on failures below 20 of them.
    ///
    /// ```
    /// use threadbus::{EventBus, HealthWindow};
    ///
    /// // Orders that nobody can carry out say nothing about the shop.
    /// let bus = EventBus::builder("orders").health_window(HealthWindow::new().leave_out_permanent()).build()?;
    /// # Ok::<(), threadbus::BuildError>(())
    /// ```
    pub fn health_window(mut self, window: HealthWindow) -> Self {
        self.options.health_window = window;
        self
    }

    /// Adds a [`Middleware`]: it may refuse events, and is told of everything that happens on the bus, after those added before it. Default:
    /// none, which costs nothing.
    ///
    /// ```
    /// use threadbus::{EventBus, middleware::LogEvents};
    ///
    /// let bus = EventBus::builder("orders").middleware(LogEvents::new()).build()?;
    /// # Ok::<(), threadbus::BuildError>(())
    /// ```
    pub fn middleware(mut self, middleware: impl Middleware) -> Self {
        self.middlewares.0.push(Box::new(middleware));
        self
    }

    /// Whose threads run the handlers. Default [`Runtime::global`].
    pub fn runtime(mut self, runtime: &Runtime) -> Self {
        self.runtime = Some(runtime.clone());
        self
    }

    /// No thread runs the bus: the application does, with [`EventBus::run_pending`] in its own loop. Default: a thread of the runtime.
    ///
    /// Its handlers run on its *pump thread* and nowhere else, one after another: the thread that builds the bus, until another calls
    /// `run_pending`. [`HandlerConcurrency::Parallel`] is `EventSerial` here, and parallel events come one after another too. While the
    /// pump thread blocks in a call of ours, it serves those who wait for the bus: a handler elsewhere that waits for an event of it gets
    /// it at once; outside of handlers it runs what is queued, too. Elsewhere a wait for an event of this bus waits for the pump thread.
    ///
    /// A pump thread has one stack: a chain of events that wait for each other on manual buses ends with
    /// [`WaitError::NoThread`](crate::WaitError::NoThread) when about three quarters of it are used, of a small stack half.
    /// [`assume_stack`](crate::assume_stack) says how much there is where the system does not know.
    ///
    /// **Hold no lock** over a call of this crate that waits on the pump thread, [`run_pending`](EventBus::run_pending) included: handlers run
    /// inside it, on the same thread, and one that wants that lock deadlocks. Copy what you need and let go of the lock first.
    ///
    /// ```
    /// use threadbus::{Event, EventBus, Payload};
    /// struct Paint(&'static str);
    /// impl Payload for Paint { type Output = usize; }
    ///
    /// let ui = EventBus::builder("ui").manual().build()?;
    /// ui.on(|paint: &Event<Paint>| paint.0.len());
    /// let painted = ui.emit(Paint("window"));
    /// assert_eq!(ui.run_pending(), 1);
    /// assert_eq!(painted.result()?, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn manual(mut self) -> Self {
        self.options.manual = true;
        self
    }

    /// Nobody but the pump thread of a manual bus has to do with it: what would wait there for another thread for ever does not wait.
    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Called when an idle [manual](Self::manual) bus gets work, from the thread that gives it: wake the program's own loop here. Default:
    /// nothing.
    ///
    /// A loop that sleeps until it is woken, and then makes any call that runs the bus, handles all. Whenever
    /// [`pending`](crate::EventBus::pending) is 0 and [`is_idle`](crate::EventBus::is_idle) true, the next emit calls it, whatever came before; further
    /// ones do not until the pump thread has looked. A [`run_pending_for`](crate::EventBus::run_pending_for), a
    /// [`run_pending_once`](crate::EventBus::run_pending_once) and a wait on the pump thread that leave something to run call it again, from there, each once at its end.
    /// Not for what the pump thread emits while it runs the bus. It may be called once more than needed.
    ///
    /// With nothing locked; it must not block, and a wait in it answers `Deadlock`. A panic in it is logged, but not one in a call for what
    /// was left.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use threadbus::{EventBus, Payload};
    /// struct Resized;
    /// impl Payload for Resized { type Output = (); }
    ///
    /// let (wake, woken) = channel();
    /// let bus = EventBus::builder("ui").manual().on_ready(move || drop(wake.send(()))).build()?;
    /// let emitter = bus.clone();
    /// let thread = std::thread::spawn(move || { emitter.emit(Resized); emitter.emit(Resized); });
    /// woken.recv()?; // the program's own loop sleeps in its system's call
    /// # thread.join().unwrap();
    /// assert_eq!(bus.run_pending(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_ready(mut self, wake: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_ready = OnReady(Some(Box::new(wake)));
        self
    }

    /// For a stand-in: what was told of another bus is told.
    pub(crate) fn refusals(mut self, refusals: &Arc<AtomicU64>) -> Self {
        self.refusals = Arc::clone(refusals);
        self
    }
}
