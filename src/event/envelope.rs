//! The event itself: payload and header in one allocation, shared by everyone who looks at it.

use crate::event::known_type::version_of;
use crate::event::state::{BusIdentity, State};
use crate::event::{
    AnyOutput, DeliveryPhase, EventId, EventOptions, HandlerError, HandlerFailure, HandlerId, Json, JsonError,
    KnownType, Manner, Origin, Payload, Priority,
};
use crate::sync::refused;
use crate::sys::clock::Stamp;
use crate::sys::count::Early;
use crate::sys::logging;
use crate::sys::one_line::on_one_line;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use ref_cast::{RefCastCustom, ref_cast_custom};
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, OnceLock, Weak};
use uuid::Uuid;

/// Values that travel with an event, by type.
pub(crate) type ContextMap = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// In the context of what a logger emits that this crate has called, and so of all that comes of it: nothing is logged about those events,
/// or each record would make the next one.
struct FromLogger;

/// The same context with the mark.
pub(crate) fn marked(context: Option<&Arc<ContextMap>>) -> Arc<ContextMap> {
    static NOTHING_ELSE: OnceLock<Arc<ContextMap>> = OnceLock::new();
    let with_mark = |mut map: ContextMap| {
        map.insert(TypeId::of::<FromLogger>(), Arc::new(FromLogger));
        Arc::new(map)
    };
    match context {
        None => Arc::clone(NOTHING_ELSE.get_or_init(|| with_mark(ContextMap::new()))),
        Some(context) if is_marked(context) => Arc::clone(context),
        Some(context) => with_mark((**context).clone()),
    }
}

pub(crate) fn is_marked(context: &ContextMap) -> bool {
    context.contains_key(&TypeId::of::<FromLogger>())
}

/// Cheap clone of one emitted event. Dereferences to the payload.
///
/// Never blocks except in `wait*`, `result*`, [`first`](Event::first) and [`select`](Event::select).
///
/// ```
/// use threadbus::{Event, EventBus, Payload};
/// struct Order { total: u32 }
/// impl Payload for Order { type Output = u32; }
///
/// let bus = EventBus::new("shop");
/// bus.on(|order: &Event<Order>| order.total * 2);
/// let order = bus.emit(Order { total: 21 });
/// assert_eq!(order.result()?, 42);
/// assert_eq!(order.total, 21);
/// # Ok::<(), threadbus::ResultError>(())
/// ```
#[derive(RefCastCustom)]
#[repr(transparent)]
pub struct Event<P: Payload> {
    any: AnyEvent,
    payload: PhantomData<fn() -> P>,
}

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
pub struct AnyEvent(Arc<Envelope<dyn Body>>);

/// A reference that does not keep the event.
#[derive(Clone)]
pub(crate) struct WeakEvent(Weak<Envelope<dyn Body>>);

/// Header and payload. The payload comes last so that its size may be unknown.
pub(crate) struct Envelope<B: ?Sized> {
    head: Head,
    body: B,
}

/// Who emitted an event. One for all that an attempt emits.
pub(crate) struct ParentLink {
    pub(crate) id: EventId,
    /// The topmost event's.
    pub(crate) root: EventId,
    pub(crate) event: WeakEvent,
    pub(crate) handler: Option<HandlerId>,
}

/// What few events have.
#[derive(Default)]
pub(crate) struct Rare {
    /// If one was set there or on the way.
    correlation: Option<Arc<str>>,
    /// The root's id as text, once somebody asked.
    rendered: OnceLock<Box<str>>,
    context: Option<Arc<ContextMap>>,
    /// Given at the emit; the type's own are the bus's business.
    options: Option<EventOptions>,
}

impl ParentLink {
    pub(crate) fn to(parent: &AnyEvent, handler: Option<HandlerId>) -> Arc<ParentLink> {
        let head = parent.head();
        Arc::new(ParentLink { id: head.id(), root: head.root(), event: parent.downgrade(), handler })
    }
}

impl Rare {
    pub(crate) fn new(
        correlation: Option<Arc<str>>,
        context: Option<Arc<ContextMap>>,
        options: Option<EventOptions>,
    ) -> Self {
        Rare { correlation, rendered: OnceLock::new(), context, options }
    }
}

impl Drop for Rare {
    fn drop(&mut self) {
        if self.context.as_ref().is_some_and(|context| is_marked(context)) {
            logging::note_let_go();
        }
    }
}

pub(crate) struct Head {
    id: [Early; 2],
    stamp: Early,
    pub(crate) priority: Priority,
    pub(crate) parent: Option<Arc<ParentLink>>,
    rare: OnceLock<Box<Rare>>,
    /// Mirrors `State::complete`, so that looking needs no lock.
    complete: AtomicBool,
    /// See [`wait_depth`](Head::wait_depth).
    wait_depth: AtomicU32,
    state: Mutex<State>,
}

/// What a new event is put together from, where it stays: a state that was passed on by value would be moved four times.
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

/// Of the bytes as they lie in memory.
#[inline]
fn halves(id: Uuid) -> [u64; 2] {
    let bytes = id.to_u128_le();
    [bytes as u64, (bytes >> 64) as u64]
}

impl Head {
    #[inline(always)]
    fn new(birth: Birth) -> Self {
        let Birth { id, stamp, priority, link, rare, bus, phase, manner, parent } = birth;
        let wait_depth = parent.as_ref().map_or(0, |parent| parent.head().wait_depth());
        let [first, second] = halves(id.0);
        Head {
            id: [Early::new(first), Early::new(second)],
            stamp: Early::new(stamp),
            priority,
            parent: link,
            rare: rare.map_or_else(OnceLock::new, OnceLock::from),
            complete: AtomicBool::new(false),
            wait_depth: AtomicU32::new(wait_depth),
            state: Mutex::new(State::on(bus, phase, manner, parent)),
        }
    }

    #[inline]
    pub(crate) fn id(&self) -> EventId {
        let (first, second) = (self.id[0].get(), self.id[1].get());
        EventId(Uuid::from_u128_le(u128::from(first) | u128::from(second) << 64))
    }

    /// Unique in this process and growing: the creation time, unless the event came from elsewhere.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp.get()
    }

    /// Another id of its own, while only its emitter knows it.
    #[cold]
    pub(crate) fn rename(&self, stamp: Stamp, id: Uuid) {
        let [first, second] = halves(id);
        self.id[0].set(first);
        self.id[1].set(second);
        self.stamp.set(stamp);
    }

    /// So many handlers wait, each for the event of the next and the last of them for this one, or for one that this is below; as far as is known.
    #[inline]
    pub(crate) fn wait_depth(&self) -> u32 {
        self.wait_depth.load(Ordering::Relaxed)
    }

    /// A handler waits for it, or has given that up.
    #[inline]
    pub(crate) fn set_wait_depth(&self, depth: u32) {
        self.wait_depth.store(depth, Ordering::Relaxed);
    }

    pub(crate) fn root(&self) -> EventId {
        self.parent.as_ref().map_or_else(|| self.id(), |parent| parent.root)
    }

    pub(crate) fn own_correlation(&self) -> Option<&Arc<str>> {
        self.rare.get()?.correlation.as_ref()
    }

    pub(crate) fn correlation(&self) -> &str {
        let rare = self.rare.get_or_init(Box::default);
        match &rare.correlation {
            Some(id) => id,
            None => rare.rendered.get_or_init(|| self.root().to_string().into_boxed_str()),
        }
    }

    pub(crate) fn context(&self) -> Option<&Arc<ContextMap>> {
        self.rare.get()?.context.as_ref()
    }

    /// Emitted inside a logger that this crate has called, or below such an event.
    pub(crate) fn is_from_logger(&self) -> bool {
        self.context().is_some_and(|context| is_marked(context))
    }

    pub(crate) fn options(&self) -> Option<&EventOptions> {
        self.rare.get()?.options.as_ref()
    }

    /// What it brought along, if it came as JSON.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.options()?.origin.as_deref()
    }
}

/// What an event can do whatever its payload is.
pub(crate) trait Body: Any + Send + Sync {
    fn event_type(&self) -> &str;
    fn version(&self) -> &str;
    /// Of the payload; `None` for a dynamic event.
    fn payload_type(&self) -> Option<TypeId>;
    /// The same of the type by which it has its handlers.
    fn handled_as(&self) -> Option<TypeId> {
        self.payload_type()
    }
    /// The same with all that a bus keeps of it.
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

/// A payload as a [`Body`].
pub(crate) struct Typed<P>(pub(crate) P);

impl<P: Payload> Body for Typed<P> {
    fn event_type(&self) -> &str {
        crate::event::name_of::<P>()
    }

    fn version(&self) -> &str {
        version_of::<P>()
    }

    fn payload_type(&self) -> Option<TypeId> {
        Some(TypeId::of::<P>())
    }

    fn known_type(&self) -> Option<KnownType> {
        Some(KnownType::of::<P>())
    }

    fn default_options(&self) -> EventOptions {
        P::options()
    }

    fn payload_json(&self) -> Result<Json, JsonError> {
        match P::codec() {
            Some(codec) => Ok(codec.payload_to_json(&self.0)?),
            None => Err(JsonError::NoCodec { event_type: crate::event::name_of::<P>().to_owned() }),
        }
    }

    fn accept(&self, output: AnyOutput) -> Result<AnyOutput, HandlerFailure> {
        if output.downcast_ref::<P::Output>().is_some() {
            return Ok(output.known_as::<P>());
        }
        let wrong = |found: String| HandlerFailure::WrongType {
            expected: std::any::type_name::<P::Output>().to_owned(),
            found,
        };
        match (output.as_json(), P::codec()) {
            (Some(json), Some(codec)) => match codec.output_from_json(json) {
                Ok(value) => Ok(AnyOutput::of::<P>(value)),
                Err(error) => Err(wrong(format!("JSON that does not fit: {error}"))),
            },
            _ => Err(wrong(output.type_name().to_owned())),
        }
    }
}

impl AnyEvent {
    pub(crate) fn new(birth: Birth, body: impl Body) -> AnyEvent {
        AnyEvent(Arc::new(Envelope { head: Head::new(birth), body }))
    }

    /// By the caller.
    pub(crate) fn is_kept_once(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    pub(crate) fn head(&self) -> &Head {
        &self.0.head
    }

    pub(crate) fn body(&self) -> &dyn Body {
        &self.0.body
    }

    pub(crate) fn state(&self) -> &Mutex<State> {
        &self.0.head.state
    }

    pub(crate) fn same(&self, other: &AnyEvent) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn downgrade(&self) -> WeakEvent {
        WeakEvent(Arc::downgrade(&self.0))
    }

    /// To be called under the state's lock, after `State::complete` was set.
    pub(crate) fn publish_complete(&self) {
        self.0.head.complete.store(true, Ordering::Release);
    }

    /// True once every handler on every bus and every descendant is done, or the event was refused.
    pub fn is_completed(&self) -> bool {
        let complete = self.is_complete();
        if !complete {
            // Whoever only looks may be the last to come by.
            refused::ask_again();
        }
        complete
    }

    /// As [`is_completed`](AnyEvent::is_completed), also under a lock.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.head.complete.load(Ordering::Acquire)
    }

    /// True if the payload is a `P`.
    pub fn is<P: Payload>(&self) -> bool {
        self.0.body.payload_type() == Some(TypeId::of::<P>())
    }

    /// The same event with its payload's type, if that is `P`.
    pub fn downcast<P: Payload>(&self) -> Option<Event<P>> {
        self.is::<P>().then(|| Event { any: self.clone(), payload: PhantomData })
    }

    /// What a typed handler without a value answers: it may not have had the payload, which is not of its type of that name.
    #[inline(never)]
    pub(crate) fn fits(&self, name: fn() -> &'static str) -> Result<(), HandlerError> {
        let Some(reason) = self.0.body.misfit() else { return Ok(()) };
        let (expected, found) = (name().to_owned(), reason.to_owned());
        Err(HandlerError::permanent(HandlerFailure::WrongType { expected, found }))
    }

    /// The same without another hold of it.
    #[inline]
    pub(crate) fn as_typed<P: Payload>(&self) -> Option<&Event<P>> {
        self.is::<P>().then(|| Event::of_its_type(self))
    }

    /// The payload, if it is a `P`.
    pub fn payload<P: Payload>(&self) -> Option<&P> {
        let body: &dyn Any = &self.0.body;
        body.downcast_ref::<Typed<P>>().map(|typed| &typed.0)
    }

    /// The payload as JSON, without the event's own fields: by the payload's codec, or as it was written if the event came as JSON.
    ///
    /// Need not be an object: a payload `struct Metres(f64)` is a number. [`to_json`](AnyEvent::to_json) is stricter.
    ///
    /// ```
    /// use threadbus::EventBus;
    ///
    /// let bus = EventBus::new("mirror");
    /// bus.on_named("Note", |note| assert_eq!(note.payload_json().ok(), Some(serde_json::json!({ "text": "hi" }))));
    /// let note = bus.emit_json(&serde_json::json!({ "event_type": "Note", "text": "hi" }))?;
    /// assert!(note.wait()?.errors().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`JsonError::NoCodec`] if its type has none, [`JsonError::Serde`] if it does not serialize.
    pub fn payload_json(&self) -> Result<Json, JsonError> {
        match self.0.head.origin().and_then(|origin| origin.payload.as_ref()) {
            Some(payload) => Ok(payload.clone()),
            None => self.0.body.payload_json(),
        }
    }
}

impl WeakEvent {
    pub(crate) fn upgrade(&self) -> Option<AnyEvent> {
        self.0.upgrade().map(AnyEvent)
    }
}

/// An event before anybody has seen it: whoever is refused gets the payload back.
pub(crate) struct Fresh<P: Payload>(Arc<Envelope<Typed<P>>>);

impl<P: Payload> Fresh<P> {
    #[inline(always)]
    pub(crate) fn new(birth: Birth, payload: P) -> Self {
        Fresh(Arc::new(Envelope { head: Head::new(birth), body: Typed(payload) }))
    }

    pub(crate) fn any(&self) -> AnyEvent {
        AnyEvent(Arc::clone(&self.0) as Arc<Envelope<dyn Body>>)
    }

    pub(crate) fn head(&self) -> &Head {
        &self.0.head
    }

    pub(crate) fn into_event(self) -> Event<P> {
        Event { any: AnyEvent(self.0), payload: PhantomData }
    }

    /// The payload, unless somebody kept the event.
    pub(crate) fn into_payload(self) -> Result<P, Self> {
        Arc::try_unwrap(self.0).map(|envelope| envelope.body.0).map_err(Fresh)
    }
}

impl<P: Payload> Event<P> {
    /// Whoever calls it has asked whether the payload is a `P`.
    #[ref_cast_custom]
    fn of_its_type(any: &AnyEvent) -> &Self;

    /// The payload; the same as dereferencing.
    pub fn payload(&self) -> &P {
        match self.any.payload::<P>() {
            Some(payload) => payload,
            None => unreachable!("an Event<P> is only made of an event whose payload is a P"),
        }
    }

    /// True once every handler on every bus and every descendant is done, or the event was refused.
    pub fn is_completed(&self) -> bool {
        self.any.is_completed()
    }

    pub(crate) fn any(&self) -> &AnyEvent {
        &self.any
    }
}

impl<P: Payload> Clone for Event<P> {
    fn clone(&self) -> Self {
        Event { any: self.any.clone(), payload: PhantomData }
    }
}

impl<P: Payload> Deref for Event<P> {
    type Target = P;

    fn deref(&self) -> &P {
        self.payload()
    }
}

impl<P: Payload> AsRef<AnyEvent> for Event<P> {
    fn as_ref(&self) -> &AnyEvent {
        &self.any
    }
}

impl AsRef<AnyEvent> for AnyEvent {
    fn as_ref(&self) -> &AnyEvent {
        self
    }
}

impl<P: Payload> From<Event<P>> for AnyEvent {
    fn from(event: Event<P>) -> AnyEvent {
        event.any
    }
}

impl AnyEvent {
    /// Which one it is, in the words of who emitted it.
    pub(crate) fn label(&self) -> Option<&str> {
        self.0.head.options()?.label.as_deref()
    }

    /// With its label, and its id if wanted.
    pub(crate) fn named(&self, with_id: bool) -> Named<'_> {
        Named { event: self, with_id }
    }
}

/// How an event is named wherever people read of it.
pub(crate) struct Named<'a> {
    event: &'a AnyEvent,
    with_id: bool,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&on_one_line(self.event.0.body.event_type()))?;
        if self.with_id {
            write!(f, "#{}", self.event.0.head.id().last4())?;
        }
        self.event.label().map_or(Ok(()), |label| write!(f, " ({label})"))
    }
}

/// `Type#last4ofid`, and ` (label)` if it has one.
impl fmt::Display for AnyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named(true).fmt(f)
    }
}

impl fmt::Debug for AnyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("type", &self.0.body.event_type())
            .field("id", &self.0.head.id())
            .field("completed", &self.is_completed())
            .finish_non_exhaustive()
    }
}

/// `Type#last4ofid`, and ` (label)` if it has one.
impl<P: Payload> fmt::Display for Event<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.any, f)
    }
}

impl<P: Payload> fmt::Debug for Event<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.any, f)
    }
}
