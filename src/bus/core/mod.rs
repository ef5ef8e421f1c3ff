//! A bus from the inside: its locks, its counters, and who keeps it alive.

pub(crate) mod delivery;
pub(crate) mod helpers;
pub(crate) mod hold;
pub(crate) mod idlers;
pub(crate) mod letters;
pub(crate) mod permit;
pub(crate) mod seen;
pub(crate) mod seldom;
pub(crate) mod slow_emit;
pub(crate) mod submit;
pub(crate) mod threads;
pub(crate) mod type_memo;

use crate::bus::parts::counters::{Counters, Until};
use crate::bus::parts::forwards::Forwards;
use crate::bus::parts::held::Held;
use crate::bus::parts::history::{History, SPENT};
use crate::bus::parts::listener::Middlewares;
use crate::bus::parts::manual::Manual;
use crate::bus::parts::observers::Observers;
use crate::bus::parts::outbox::Outbox;
use crate::bus::parts::recorder::Recorder;
use crate::bus::parts::registry::Registry;
use crate::bus::parts::seen_ids::SeenIds;
use crate::bus::parts::set_aside::{Lingering, SetAside, Waiting};
use crate::bus::parts::settings::BusOptions;
use crate::bus::parts::tree::Tree;
use crate::bus::parts::upcasters::Upcasters;
use crate::bus::parts::usher::Usher;
use crate::event::{AnyEvent, BusIdentity, HistoryPolicy, HomeBus, Journal, TurnKind};
use crate::rules::{BusDefaults, DeadLetters, Lanes, Rarely, TokenBucket};
use crate::runtime::{Lane, PermitKind, RuntimeCore, Wakeup};
use crate::sync::{Bell, Rank, Semaphore, Spin, Token, WhileSetDown};
use crate::sys::channel::{Receiver, Sender};
use crate::sys::clock::Stamp;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicBool, AtomicUsize};
use crate::sys::{thread, unwind};
use smallvec::SmallVec;
use std::any::Any;
use std::sync::{Arc, OnceLock, Weak};

/// A queued delivery.
pub(crate) struct Entry {
    pub(crate) event: AnyEvent,
    pub(crate) delivery: u32,
    pub(crate) turn: TurnKind,
}

/// The loop is nowhere.
pub(crate) const NOWHERE: u8 = 0;

/// What a bus still takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doors {
    Open,
    /// Only what handlers emit: the last handle is gone, or a shutdown drains.
    Draining,
    Closed,
}

/// The order of the bus: who is inserted here comes in that order, to everybody.
pub(crate) struct Inlet {
    pub(crate) queue: Sender<Entry>,
    pub(crate) history: History,
    pub(crate) seen: SeenIds,
    pub(crate) doors: Doors,
    /// Subscriptions and waiting finds.
    pub(crate) observers: Observers,
    /// Whether the loop is somewhere, see `run/README.md`, *Where the loop is*; and, while it may wait for a thread, for what: see [`stands_for`](crate::bus::core::submit::stands_for).
    pub(crate) active: u8,
    pub(crate) rate: Option<TokenBucket>,
    /// The stamp of the last event that was emitted here.
    pub(crate) latest: Stamp,
}

/// What decides whether a queued event may start.
pub(crate) struct Run {
    /// What has come through the channel and is not started yet.
    pub(crate) lanes: Lanes<Entry>,
    /// Events that need no turn; runners take them.
    pub(crate) free: Lanes<Entry>,
    pub(crate) event: Semaphore<Wakeup>,
    pub(crate) handler: Semaphore<Wakeup>,
    /// By `pause()`.
    pub(crate) paused: usize,
    /// Attempts of other buses' handlers that are in a jump onto this one.
    pub(crate) jumps: SmallVec<[Token; 2]>,
    /// The loop found something in its way, and waits here.
    pub(crate) loop_set_aside: bool,
    /// The loop stands in the line of the runtime's event permit.
    pub(crate) loop_in_global_line: bool,
    /// One round of a manual bus: how many more it may take out of the lanes. What is emitted meanwhile stays in the channel.
    pub(crate) round: Option<usize>,
}

impl Run {
    pub(crate) fn semaphore(&mut self, kind: PermitKind) -> &mut Semaphore<Wakeup> {
        match kind {
            PermitKind::Event => &mut self.event,
            PermitKind::Handler => &mut self.handler,
        }
    }

    /// Nobody but the delivery that has just ended has to do with the bus's permits, and nothing keeps the next from starting.
    #[inline]
    pub(crate) fn passes_on(&self, token: Token) -> bool {
        let handler = self.handler.is_alone(token) || self.handler.is_quiet();
        self.paused == 0 && self.jumps.is_empty() && self.event.is_alone(token) && handler
    }

    /// May a queued event start?
    pub(crate) fn is_startable(&self) -> bool {
        self.paused == 0 && self.jumps.is_empty() && self.event.is_quiet()
    }

    /// True if the loop was set aside and can go on; the caller submits it after unlocking.
    pub(crate) fn takes_loop_up(&mut self) -> bool {
        let up = self.loop_set_aside && self.is_startable();
        self.loop_set_aside &= !up;
        up
    }
}

pub(crate) struct BusCore {
    /// No other bus of the process has it.
    pub(crate) serial: u64,
    /// Where its jobs wait for threads.
    pub(crate) lane: Lane,
    pub(crate) identity: Arc<BusIdentity>,
    pub(crate) options: BusOptions,
    pub(crate) defaults: BusDefaults,
    pub(crate) runtime: Arc<RuntimeCore>,
    pub(crate) registry: Registry,
    pub(crate) middlewares: Middlewares<EventBus>,
    pub(crate) inlet: Mutex<Inlet>,
    pub(crate) run: Mutex<Run>,
    /// Read by whoever holds `run`.
    pub(crate) arrivals: Receiver<Entry>,
    pub(crate) usher: Usher,
    /// Something has been sent that does not simply go after the one before it.
    pub(crate) is_sorted: AtomicBool,
    pub(crate) counters: Counters,
    pub(crate) recorder: Recorder,
    pub(crate) dead_letters: Mutex<DeadLetters>,
    /// Events that fell out of the full queue, of which the log is still to be told.
    pub(crate) told_of_drops: Mutex<Rarely>,
    /// What the history had when the bus was shut down, as people read it.
    pub(crate) last_tree: OnceLock<Tree>,
    /// What is to be emitted later.
    pub(crate) outbox: Arc<Outbox<BusCore>>,
    pub(crate) spin: Spin,
    /// What has completed may have to leave the history at once.
    pub(crate) trims: bool,
    /// The loop gives spent events back to the emitters: those are other threads on other cores, and the history is no shorter than a batch.
    pub(crate) gives_back: bool,
    /// Of a manual bus: what waits for its pump thread.
    pub(crate) manual: Option<Box<Manual>>,
    /// Slots that threads keep for handlers of this bus.
    pub(crate) locals: AtomicUsize,
    /// Of other buses, to this one.
    pub(crate) forwards: Mutex<Forwards<BusCore>>,
    pub(crate) upcasters: Upcasters,
    /// A shutdown drains: no delay between two attempts is waited for any more.
    pub(crate) hurries: AtomicBool,
    /// Started deliveries that no thread runs at the moment: in line for a permit, or between two attempts.
    pub(crate) set_aside: Mutex<SetAside>,
    /// Events that are to come after others.
    pub(crate) held: Mutex<Held<BusCore>>,
    /// Those of which nothing runs.
    pub(crate) waiting: Waiting,
    /// Deliveries whose handlers wait for what only the queue of this bus can start.
    pub(crate) out_of_flight: AtomicUsize,
    /// Who waits for the bus to be idle, or for a delivery to move on.
    pub(crate) idlers: Mutex<Vec<(Arc<Bell>, Until)>>,
    pub(crate) idlers_count: AtomicUsize,
    /// Events of which only children run.
    pub(crate) lingering: Mutex<Lingering>,
    /// What the user's handles share; gone with the last of them.
    pub(crate) alive: OnceLock<Weak<Alive>>,
}

/// Dropped with the last handle of a bus.
pub(crate) struct Alive {
    pub(crate) core: Weak<BusCore>,
}

impl Alive {
    pub(crate) fn new(core: &Arc<BusCore>) -> Arc<Alive> {
        Arc::new(Alive { core: Arc::downgrade(core) })
    }
}

impl HomeBus for BusCore {
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A bus: takes events, keeps their order, runs their handlers. Cheap clone.
///
/// When the last clone is dropped the bus takes nothing new, finishes what is queued in the background, and ends; a
/// [manual](crate::BusBuilder::manual) one, which nobody can pump any more, cancels it. What is still
/// queued when `main` returns is lost: [`Runtime::shutdown`](crate::Runtime::shutdown) first. A handler that needs its bus asks the event
/// ([`Event::bus`](crate::Event::bus)) or captures a [`WeakBus`], so that the bus does not keep itself alive.
///
/// ```
/// use threadbus::{Event, EventBus, Payload};
///
/// struct Greet { name: String }
/// impl Payload for Greet { type Output = String; }
///
/// let bus = EventBus::new("hello");
/// bus.on(|greet: &Event<Greet>| format!("hello {}", greet.name));
/// assert_eq!(bus.emit(Greet { name: "you".into() }).result()?, "hello you");
/// # Ok::<(), threadbus::ResultError>(())
/// ```
#[derive(Clone)]
pub struct EventBus {
    /// None for what a handler of a bus gets whose last handle is gone. Goes before `core`: its end needs the bus, which nobody else may
    /// hold while the loop is set aside.
    _alive: Option<Arc<Alive>>,
    core: Arc<BusCore>,
}

/// A handle that does not keep its bus alive.
///
/// For whatever the bus keeps itself: handler closures, and payloads. A payload or a value with an [`EventBus`] in it is kept by the history,
/// and keeps the bus in turn: neither ever goes, nor do the bus's threads and timers. Put a `WeakBus` in, or take the bus from
/// [`Event::bus`](crate::Event::bus); [`take`](EventBus::take) breaks the circle from outside.
#[derive(Clone)]
pub struct WeakBus {
    core: Weak<BusCore>,
    label: Arc<str>,
}

impl WeakBus {
    /// The bus, unless its last handle is gone.
    pub fn upgrade(&self) -> Option<EventBus> {
        let core = self.core.upgrade()?;
        let alive = core.alive()?;
        Some(EventBus::of(core, Some(alive)))
    }

    /// `Name#last4`
    pub fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn of(core: &Arc<BusCore>) -> WeakBus {
        WeakBus { core: Arc::downgrade(core), label: Arc::clone(&core.identity.label) }
    }
}

impl EventBus {
    pub(crate) fn of(core: Arc<BusCore>, alive: Option<Arc<Alive>>) -> EventBus {
        EventBus { core, _alive: alive }
    }

    pub(crate) fn core(&self) -> &Arc<BusCore> {
        &self.core
    }

    /// The bus an event or a frame knows; works inside its handlers though no handle is left.
    pub(crate) fn from_core(core: Arc<BusCore>) -> EventBus {
        let alive = core.alive();
        EventBus::of(core, alive)
    }
}

/// What a new bus is made of, but for what it shares with its identity.
pub(crate) struct Parts {
    pub(crate) identity: Arc<BusIdentity>,
    pub(crate) options: BusOptions,
    pub(crate) defaults: BusDefaults,
    pub(crate) runtime: Arc<RuntimeCore>,
    pub(crate) doors: Doors,
    pub(crate) rate: Option<TokenBucket>,
    pub(crate) middlewares: Middlewares<EventBus>,
    pub(crate) manual: Option<Box<Manual>>,
}

impl BusCore {
    pub(crate) fn new(parts: Parts) -> BusCore {
        let (queue, arrivals) = crate::sys::channel::unbounded();
        let Parts { identity, options, defaults, runtime, doors, rate, middlewares, manual } = parts;
        let history = History::new(options.max_history, options.history_policy);
        let gives_back =
            manual.is_none() && thread::cores() > 1 && options.max_history.is_some_and(|limit| limit >= SPENT);
        let trims = options.max_history == Some(0) || options.history_policy == HistoryPolicy::KeepUnfinished;
        let journal = identity.untold.as_ref().map(Journal::of_registrations);
        BusCore {
            trims,
            serial: thread::next_number(),
            lane: runtime.pool.open_lane(options.fairness),
            identity,
            defaults,
            outbox: Outbox::new(&runtime.watch),
            runtime,
            registry: Registry::new(journal),
            middlewares,
            inlet: Mutex::new(Inlet {
                queue,
                history,
                seen: SeenIds::default(),
                doors,
                observers: Observers::default(),
                active: NOWHERE,
                rate,
                latest: 0,
            }),
            run: Mutex::new(Run {
                lanes: Lanes::new(options.fairness),
                free: Lanes::new(options.fairness),
                event: Semaphore::new(1, WhileSetDown::Kept),
                handler: Semaphore::new(1, WhileSetDown::Passed),
                paused: 0,
                jumps: SmallVec::new(),
                loop_set_aside: false,
                loop_in_global_line: false,
                round: None,
            }),
            arrivals,
            usher: Usher::default(),
            is_sorted: AtomicBool::new(false),
            counters: Counters::default(),
            recorder: Recorder::new(options.dead_letters, &options.health_window),
            dead_letters: Mutex::new(DeadLetters::new(options.dead_letters)),
            told_of_drops: Mutex::default(),
            last_tree: OnceLock::new(),
            spin: Spin::new(),
            gives_back,
            manual,
            locals: AtomicUsize::new(0),
            forwards: Mutex::default(),
            upcasters: Upcasters::default(),
            hurries: AtomicBool::new(false),
            set_aside: Mutex::default(),
            held: Mutex::default(),
            waiting: Waiting::default(),
            out_of_flight: AtomicUsize::new(0),
            idlers: Mutex::new(Vec::new()),
            // Each end of a delivery makes room, where that is bounded.
            idlers_count: AtomicUsize::new(usize::from(options.max_in_flight.is_some())),
            lingering: Mutex::default(),
            alive: OnceLock::new(),
            options,
        }
    }

    /// The bus that an event knows by its identity, if it is still there.
    pub(crate) fn of(identity: &BusIdentity) -> Option<Arc<BusCore>> {
        identity.link.upgrade()?.into_any().downcast().ok()
    }

    /// Those that are still there.
    pub(crate) fn all_of(runtime: &RuntimeCore) -> Vec<Arc<BusCore>> {
        let buses: Vec<_> = runtime.buses.lock().values().cloned().collect();
        buses.iter().filter_map(|identity| BusCore::of(identity)).collect()
    }

    /// Where an event stands in a line.
    pub(crate) fn rank(&self, event: &AnyEvent) -> Rank {
        let level = event.head().priority.level();
        Rank { bus: self.serial, level, weights: self.options.fairness.weights() }
    }

    pub(crate) fn label(&self) -> &str {
        &self.identity.label
    }

    /// The token under which the loop itself stands in the global line.
    pub(crate) fn loop_token(&self) -> Token {
        let (high, low) = self.identity.id.0.as_u64_pair();
        Token { stamp: high ^ low, part: u64::MAX }
    }

    pub(crate) fn pending(&self) -> usize {
        let left = self.counters.claimed() + self.counters.held();
        let emitted = self.counters.emitted();
        usize::try_from(emitted.saturating_sub(left)).unwrap_or(usize::MAX)
    }

    /// What the user's handles share, if there still is one.
    pub(crate) fn alive(&self) -> Option<Arc<Alive>> {
        self.alive.get()?.upgrade()
    }

    /// With a history of 0, a completed event does not stay; where unfinished ones are kept beyond the limit, the oldest completed one goes.
    pub(crate) fn forget_completed(&self, event: &AnyEvent) {
        if !self.trims {
            return;
        }
        let gone = {
            let mut inlet = self.inlet.lock();
            match self.options.max_history {
                Some(0) => inlet.history.remove(event.head().id()),
                _ => inlet.history.trim(|| self.counters.latest_claim()),
            }
        };
        unwind::drop_quietly(gone);
    }
}
