//! What an event is made of, on one page: these types name each other. An event keeps its parent, its children and its handlers, and a handler takes an event.
//!
//! ```text
//! AnyEvent ─ Envelope ┬ Head ┬ Rare: options, context, correlation
//!                     │      ├ ParentLink
//!                     │      └ State (under the event's lock)
//!                     │          ├ Delivery, one for each bus ┬ Record, one for each handler
//!                     │          │                            └ TypeSlot ─ SlotEntry ─ HandlerEntry ─ Call
//!                     │          └ Links: children, watchers, hooks, delays, places
//!                     └ Body: the payload
//! ```
//!
//! Definitions only. What each can do is in the file that is named after it: `any_event`, `head`, `state` with `links`, `children` and
//! `completion`, `delivery`, `slot`, `options`, `body`.

use crate::event::context_map::ContextMap;
use crate::event::record::Extras;
use crate::event::state::delays::{Delays, Wait};
use crate::event::state::deliveries::Deliveries;
use crate::event::state::given_up::{GivenUp, Hooks};
use crate::event::{
    AnyOutput, BusIdentity, Cause, DeliveryPhase, EmitError, EventConcurrency, EventId, HandlerCompletion,
    HandlerConcurrency, HandlerError, HandlerFailure, HandlerId, HandlerInfo, HandlerMode, HandlerOptions, Json,
    JsonError, Knob, LimitGroup, Manner, Origin, Outcome, Pace, Pause, Placed, Plan, Priority, Record, Retry, Timing,
    Unrun,
};
use crate::sync::Bell;
use crate::sys::clock::{Stamp, Tick};
use crate::sys::count::{Early, Marks};
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicBool, AtomicU32};
use smallvec::SmallVec;
use std::any::{Any, TypeId};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};

/// An event of any type: what wildcard and by-name handlers get.
///
/// ```
/// use threadbus::{EventBus, Payload};
/// struct Tick(u32);
/// impl Payload for Tick { type Output = (); }
///
/// let bus = EventBus::new("clock");
/// bus.on_any(|event| assert_eq!(event.payload::<Tick>().map(|t| t.0), Some(7)));
/// bus.emit(Tick(7)).wait()?;
/// # Ok::<(), threadbus::WaitError>(())
/// ```
#[derive(Clone)]
pub struct AnyEvent(pub(super) Arc<Envelope<dyn Body>>);

/// A reference that does not keep the event.
#[derive(Clone)]
pub(crate) struct WeakEvent(pub(super) Weak<Envelope<dyn Body>>);

/// Head and payload in one allocation, which all handles of the event share. The payload comes last so that its size may be unknown.
pub(crate) struct Envelope<B: ?Sized> {
    pub(super) head: Head,
    pub(super) body: B,
}

/// What an event can do whatever its payload is.
pub(crate) trait Body: Any + Send + Sync {
    fn event_type(&self) -> &str;
    fn version(&self) -> &str;
    /// Of the payload; `None` for a dynamic event.
    fn payload_type(&self) -> Option<TypeId>;
    /// Of the type by which it has its handlers.
    fn handled_as(&self) -> Option<TypeId> {
        self.payload_type()
    }
    /// All that a bus keeps of that type.
    fn known_type(&self) -> Option<KnownType>;
    /// Why it is no payload of that type, though it is called so: its JSON did not fit.
    fn misfit(&self) -> Option<&str> {
        None
    }
    fn default_options(&self) -> EventOptions;
    fn payload_json(&self) -> Result<Json, JsonError>;
    /// What an untyped handler returned, as the event's own output.
    fn accept(&self, output: AnyOutput) -> Result<AnyOutput, HandlerFailure>;
}

/// What holds for an event on all its buses.
pub(crate) struct Head {
    pub(super) id: [Early; 2],
    pub(super) stamp: Early,
    pub(crate) priority: Priority,
    pub(crate) parent: Option<Arc<ParentLink>>,
    pub(super) rare: OnceLock<Box<Rare>>,
    /// Mirrors `State::complete`, so that looking needs no lock.
    pub(super) complete: AtomicBool,
    pub(super) marks: Marks,
    /// See [`wait_depth`](Head::wait_depth).
    pub(super) wait_depth: AtomicU32,
    pub(super) state: Mutex<State>,
}

/// What few events have.
#[derive(Default)]
pub(crate) struct Rare {
    /// Set at the emit, or inherited from an event above whose emitter set it.
    pub(super) correlation: Option<Arc<str>>,
    /// The root's id as text, made when it is first asked for.
    pub(super) rendered: OnceLock<Box<str>>,
    pub(super) context: Option<Arc<ContextMap>>,
    /// Given at the emit; those of the type are kept by its buses.
    pub(super) options: Option<EventOptions>,
}

/// The event and the handler that emitted this one. All that one attempt emits shares one link.
pub(crate) struct ParentLink {
    pub(crate) id: EventId,
    /// The id of the topmost event.
    pub(crate) root: EventId,
    pub(crate) event: WeakEvent,
    pub(crate) handler: Option<HandlerId>,
}

/// What changes on an event, all under its one lock: its deliveries, its children, its completion, and the threads that wait for it.
pub(crate) struct State {
    /// Counted deliveries not done, plus counted children not complete.
    pub(super) open: u32,
    pub(crate) complete: bool,
    pub(crate) started: Stamp,
    pub(crate) completed: Stamp,
    /// A waiter called `first()`: a bus that claims the event from now on ends it with its first value.
    pub(crate) wants_first: bool,
    /// Cancelled as a whole: a bus that it reaches later does not run it.
    pub(crate) ended: bool,
    /// A bus that it is on has middlewares.
    pub(super) is_watched: bool,
    pub(crate) deliveries: Deliveries<Delivery>,
    /// Kept until this event completes, which counts it down there.
    pub(crate) parent: Option<AnyEvent>,
    /// Of the first thread that waits: mostly there is no other, and this one costs no allocation.
    pub(super) bell: Option<Arc<Bell>>,
    /// Likewise of the first hook.
    pub(super) hook: Option<Arc<dyn CompletionHook>>,
    pub(super) links: Option<Box<Links>>,
}

/// What few events have in their state.
#[derive(Default)]
pub(crate) struct Links {
    pub(crate) children: VecDeque<Child>,
    pub(super) hooks: Hooks,
    pub(super) given_up: GivenUp,
    pub(crate) pauses: Vec<Pause>,
    pub(super) delays: Delays,
    /// Places under limits, had or waited for.
    pub(crate) limits: Vec<Placed>,
    pub(super) waits: SmallVec<[Wait; 1]>,
    pub(super) watchers: Vec<Watcher>,
    /// By their numbers, the batches that it is counted in.
    pub(super) batches: SmallVec<[u64; 1]>,
    /// A thread waits for the first value.
    pub(crate) value_wanted: bool,
    pub(crate) rejected: Option<EmitError>,
    /// The length of `children` at which completed ones are looked through again.
    pub(super) prune_at: usize,
    /// How many children are not among them any more.
    pub(super) let_go: usize,
    /// Why all that is below it ends.
    pub(super) doom: Option<Cause>,
}

/// A child, and the invocation that emitted it.
pub(crate) struct Child {
    pub(crate) event: AnyEvent,
    pub(crate) by: Option<(u32, u32)>,
}

/// A thread or a hook that wants to know of an event's end.
pub(crate) enum Watcher {
    /// A thread that waits; it looks again after every ring.
    Bell(Arc<Bell>),
    /// Called once, outside all locks, when the event is complete.
    Hook(Arc<dyn CompletionHook>),
}

/// Told of an event's completion: a batch, for one. Must not panic.
pub(crate) trait CompletionHook: Send + Sync {
    fn completed(&self, event: &AnyEvent);
    /// Nothing would follow from the call any more. Asked under the event's lock.
    fn is_over(&self) -> bool {
        false
    }
}

/// An event on one bus.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) bus: Arc<BusIdentity>,
    pub(crate) phase: DeliveryPhase,
    /// The event's completion waits for it; not so if it was added after that.
    pub(crate) counted: bool,
    pub(crate) manner: Manner,
    pub(crate) unrun: Unrun,
    /// Index of the first record that may be `Pending`.
    pub(crate) next: u32,
    /// Records not ended.
    pub(crate) left: u32,
    /// A serial handler is running, or waits for its permit or its next attempt.
    pub(crate) serial_busy: bool,
    /// A handler of it has sat in a wait, so that the thread that ends one of its handlers looks whether all others sit.
    pub(crate) has_set_down: bool,
    /// A record has ended in failure.
    pub(crate) any_failed: bool,
    /// One handler again, of an event that this bus had already: no number counts it.
    pub(crate) redrive: bool,
    /// A handler of it has or waits for a place under a limit, to be given back when it ends.
    pub(crate) limited: bool,
    /// The bus's list of what has no thread has it.
    pub(crate) noted: bool,
    /// Threads that were called to help with parallel handlers, and are on their way.
    pub(crate) helpers: u32,
    /// The delivery that lends the turn, whose handler waits for this one, while it holds that: the stamp of its event, 0 for none, and its number there.
    pub(super) lender: Stamp,
    pub(super) lender_delivery: u16,
    pub(super) extras: Option<Box<Extras>>,
    pub(crate) begun: Tick,
    pub(crate) handlers: Handlers,
    pub(crate) records: SmallVec<[Record; 1]>,
}

/// Which handlers a delivery has.
#[derive(Debug)]
pub(crate) enum Handlers {
    /// Not claimed yet.
    Unknown,
    /// Kept while the delivery runs, so that a handler that is removed meanwhile still runs.
    Live(Arc<TypeSlot>),
    /// Only the names, for results.
    Past(Arc<Roster>),
}

/// The registrations of a delivery, kept after it let go of the handlers themselves.
#[derive(Debug)]
pub(crate) struct Roster(pub(crate) Box<[HandlerInfo]>);

/// What events of one type need on one bus, worked out once for all of them. Copy-on-write: a delivery keeps the slot that it found when it was
/// claimed.
#[derive(Debug)]
pub(crate) struct TypeSlot {
    /// The type's own options, asked once.
    pub(crate) options: Arc<EventOptions>,
    pub(crate) priority: Priority,
    /// What holds for an event without options of its own.
    pub(crate) plan: Plan,
    pub(crate) slow_event: Tick,
    pub(crate) pace: Pace,
    /// In the order in which they run.
    pub(crate) handlers: Box<[SlotEntry]>,
    pub(crate) roster: Arc<Roster>,
}

/// One handler, and how it runs for events without options of their own. What every call needs is here, so that a list of handlers is read
/// from one end to the other.
#[derive(Clone)]
pub(crate) struct SlotEntry {
    pub(crate) entry: Arc<HandlerEntry>,
    pub(crate) call: Arc<Call>,
    pub(crate) id: HandlerId,
    pub(crate) typed: bool,
    pub(crate) limited: bool,
    pub(crate) mode: HandlerMode,
    pub(crate) timing: Timing,
}

/// One registered handler.
pub(crate) struct HandlerEntry {
    pub(crate) info: HandlerInfo,
    pub(crate) options: HandlerOptions,
    /// All handlers that share its limit within the runtime.
    pub(crate) limit: Option<Arc<LimitGroup>>,
    pub(crate) call: Arc<Call>,
    /// Its outputs are of the event's type by construction.
    pub(crate) typed: bool,
}

/// What a handler's closure looks like to the bus, whatever it was registered as.
pub(crate) type Call = dyn Fn(&AnyEvent, &mut Outcome) -> Result<(), HandlerError> + Send + Sync;

/// What is special about one event, or about every event of one type.
///
/// Unset fields fall through: `emit_with`, then [`Payload::options`](crate::Payload::options), then the handler's
/// [`HandlerOptions`] (where it has such a setting), then the bus.
///
/// ```
/// use std::time::Duration;
/// use threadbus::*;
///
/// let urgent = EventOptions::new()
///     .priority(Priority::CRITICAL)
///     .timeout(Duration::from_secs(5))
///     .retry(Retry::attempts(3).delay(Duration::from_millis(100)))
///     .correlation_id("request-17");
/// # let _ = urgent;
/// ```
#[derive(Clone, Debug, Default)]
pub struct EventOptions {
    pub(crate) timeout: Knob,
    pub(crate) handler_timeout: Knob,
    pub(crate) slow_after: Knob,
    pub(crate) handler_slow_after: Knob,
    pub(crate) concurrency: Option<EventConcurrency>,
    pub(crate) handler_concurrency: Option<HandlerConcurrency>,
    pub(crate) completion: Option<HandlerCompletion>,
    pub(crate) priority: Option<Priority>,
    pub(crate) retry: Option<Retry>,
    pub(crate) detached: bool,
    pub(crate) parent: Option<AnyEvent>,
    pub(crate) id: Option<EventId>,
    pub(crate) correlation_id: Option<Arc<str>>,
    pub(crate) steps: Option<usize>,
    pub(crate) label: Option<Arc<str>>,
    /// Of an event that came as JSON.
    pub(crate) origin: Option<Arc<Origin>>,
    /// The events it is to come after. Taken out at the emit: it does not keep them.
    pub(crate) after: Vec<Prerequisite>,
}

/// An event that another one is to come after.
#[derive(Clone, Debug)]
pub(crate) struct Prerequisite {
    pub(crate) event: AnyEvent,
    /// If this one fails, the other one is cancelled.
    pub(crate) must_succeed: bool,
}

/// A payload type as a value: what a bus keeps of the types it has met, so that JSON becomes typed.
#[derive(Clone, Copy)]
pub(crate) struct KnownType {
    pub(crate) payload: TypeId,
    pub(crate) name: fn() -> &'static str,
    /// As the compiler calls it.
    pub(crate) rust_type: fn() -> &'static str,
    /// The name as the type says it, which may panic.
    pub(super) said: fn() -> &'static str,
    pub(crate) version: fn() -> &'static str,
    pub(crate) options: fn() -> EventOptions,
    /// Runs the user's code.
    pub(crate) read: fn(&Json) -> Result<MakeEvent, JsonError>,
}

/// Makes an event of a payload that it holds.
pub(crate) struct MakeEvent {
    pub(crate) make: Box<dyn FnOnce(Birth) -> AnyEvent>,
    /// What the payload says which one it is.
    pub(crate) label: Option<Arc<str>>,
}

/// What a new event is put together from. Its state is built where it stays: passed on by value, it would be moved four times.
pub(crate) struct Birth {
    pub(crate) id: EventId,
    pub(crate) stamp: Stamp,
    pub(crate) priority: Priority,
    pub(crate) link: Option<Arc<ParentLink>>,
    pub(crate) rare: Option<Box<Rare>>,
    pub(crate) bus: Arc<BusIdentity>,
    pub(crate) phase: DeliveryPhase,
    pub(crate) manner: Manner,
    pub(crate) parent: Option<AnyEvent>,
}
