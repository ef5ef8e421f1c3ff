//! The bus as users hold it.

use crate::bus::builder::BusBuilder;
use crate::bus::core::{Doors, EventBus, WeakBus};
use crate::bus::emit::emit::Entrance;
use crate::bus::middleware::tell;
use crate::bus::parts::pattern::never_matches;
use crate::bus::parts::registry::{Answers, WILDCARD};
use crate::bus::parts::settings::BusOptions;
use crate::bus::read::worker_local;
use crate::bus::thread::forbid::may_block_or_log;
use crate::event::{
    AnyEvent, AnyOutput, BusId, BusIdentity, EmitError, Event, EventId, EventOptions, Fresh, Handler, HandlerEntry,
    HandlerError, HandlerId, HandlerInfo, HandlerOptions, IntoAnyOutcome, KnownType, OnFull, Outcome, Payload,
    TryEmitError, short_type_name,
};
use crate::runtime::Runtime;
use crate::sync::refused;
use crate::sys::clock;
use crate::sys::{logging, random, unwind};
use std::any::TypeId;
use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

impl EventBus {
    /// A closed stand-in for a bus that is gone.
    pub(crate) fn stand_in(identity: Option<&BusIdentity>, refused: Option<&EmitError>) -> EventBus {
        let refusing = match refused {
            Some(
                EmitError::QueueFull { bus, .. }
                | EmitError::SubscriptionFull { bus, .. }
                | EmitError::RateLimited { bus }
                | EmitError::HistoryFull { bus, .. }
                | EmitError::NoHandler { bus, .. },
            )
            | Some(
                EmitError::Closed { bus }
                | EmitError::DuplicateId { bus, .. }
                | EmitError::NilId { bus }
                | EmitError::Refused { bus, .. },
            ) => bus.rsplit_once('#').map(|(name, _)| name),
            _ => None,
        };
        let name = identity.map(|identity| identity.name.as_str()).or(refusing);
        let mut builder = BusBuilder::new(name.unwrap_or("none"));
        if let Some(identity) = identity {
            builder = builder.id(identity.id).refusals(&identity.refusals);
        }
        builder.make(&Runtime::global(), Doors::Closed)
    }

    /// A bus with all defaults, on the global runtime. Two buses may have the same name; their labels differ.
    ///
    /// An empty name becomes `EventBus`.
    pub fn new(name: &str) -> EventBus {
        let name = if name.is_empty() { "EventBus" } else { name };
        BusBuilder::new(name).make(&Runtime::global(), Doors::Open)
    }

    /// Settles the options first.
    pub fn builder(name: &str) -> BusBuilder {
        BusBuilder::new(name)
    }

    /// Its id, a UUIDv7 unless the builder was given one.
    pub fn id(&self) -> BusId {
        self.core().identity.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.core().identity.name
    }

    /// `Name#last4`, where the last four are those of the id.
    pub fn label(&self) -> &str {
        self.core().label()
    }

    /// What a handler closure should capture, to keep the bus from keeping itself alive.
    pub fn downgrade(&self) -> WeakBus {
        WeakBus::of(self.core())
    }

    /// Whose threads run its handlers.
    pub fn runtime(&self) -> Runtime {
        Runtime { core: Arc::clone(&self.core().runtime) }
    }

    /// What the builder settled on.
    pub fn options(&self) -> &BusOptions {
        &self.core().options
    }

    // Handlers.

    /// Registers a handler for events whose payload is a `P`; it runs for every event that is claimed from now on.
    ///
    /// Handlers of the exact type run first, in registration order, then wildcard ones. On a closed bus nothing is registered; the
    /// log says so, and [`HandlerInfo::is_registered`] is false. See [`Handler`] for what may be registered.
    #[track_caller]
    pub fn on<P: Payload, M>(&self, handler: impl Handler<P, M>) -> HandlerInfo {
        self.on_with(HandlerOptions::new(), handler)
    }

    /// Registers a handler as [`on`](EventBus::on) does, with options of its own.
    #[track_caller]
    pub fn on_with<P: Payload, M>(&self, options: HandlerOptions, handler: impl Handler<P, M>) -> HandlerInfo {
        fn named<T>(_: &T) -> &'static str {
            short_type_name::<T>()
        }
        let type_name = named(&handler);
        let call = move |event: &AnyEvent| match event.as_typed::<P>() {
            Some(event) => handler.handle(event).map(|output| output.map(AnyOutput::of::<P>)),
            None => Ok(None),
        };
        self.register(
            crate::event::name_of::<P>(),
            Some(KnownType::of::<P>()),
            options,
            type_name,
            Answers::Output,
            call,
        )
    }

    /// Registers an untyped handler: `pattern` is an event type's name, or `*` for all. Shares one table with [`on`](EventBus::on).
    ///
    /// Names are compared as a whole, so a handler for `Note*`, or for a name with blanks around it, waits in vain unless a type is called that: the
    /// log warns of it.
    ///
    /// What it returns, if anything, is the event's output or JSON that its codec reads. Where the bus does not know the event's type (see
    /// [`emit_json`](EventBus::emit_json)), nobody can tell, and any value is taken as it is; so a handler that returns the right thing does so
    /// whoever else is registered.
    #[track_caller]
    pub fn on_named<R: IntoAnyOutcome>(
        &self,
        pattern: &str,
        handler: impl Fn(&AnyEvent) -> R + Send + Sync + 'static,
    ) -> HandlerInfo {
        self.on_named_with(pattern, HandlerOptions::new(), handler)
    }

    /// Registers a handler as [`on_named`](EventBus::on_named) does, with options of its own.
    #[track_caller]
    pub fn on_named_with<R: IntoAnyOutcome>(
        &self,
        pattern: &str,
        options: HandlerOptions,
        handler: impl Fn(&AnyEvent) -> R + Send + Sync + 'static,
    ) -> HandlerInfo {
        fn named<T>(_: &T) -> &'static str {
            short_type_name::<T>()
        }
        let type_name = named(&handler);
        let call = move |event: &AnyEvent| handler(event).into_any_outcome();
        let info = self.register(pattern.to_owned(), None, options, type_name, Answers::Anything, call);
        if let Some(why) = never_matches(pattern)
            && matches!(self.core().registry.known(pattern), Ok(None))
        {
            logging::warn!(
                "no event is called {pattern:?}, for which {} handles on {}: {why}",
                info.label(),
                self.label()
            );
        }
        info
    }

    /// Registers a handler for every event.
    #[track_caller]
    pub fn on_any<R: IntoAnyOutcome>(&self, handler: impl Fn(&AnyEvent) -> R + Send + Sync + 'static) -> HandlerInfo {
        self.on_named(WILDCARD, handler)
    }

    #[track_caller]
    pub(crate) fn register(
        &self,
        pattern: impl Into<Cow<'static, str>>,
        known: Option<KnownType>,
        options: HandlerOptions,
        type_name: &'static str,
        answers: Answers,
        call: impl Fn(&AnyEvent) -> Result<Option<AnyOutput>, HandlerError> + Send + Sync + 'static,
    ) -> HandlerInfo {
        let location = Location::caller();
        let name = match &options.name {
            Some(name) => Some(name.to_string().into()),
            // Most end so, and a look at the end takes a fraction of a search.
            None if type_name.ends_with("{{closure}}") || type_name.contains("{{closure}}") => None,
            None => Some(type_name.into()),
        };
        let stamp = clock::unique_stamp(clock::now());
        let id = HandlerId(random::uuid_v7(stamp));
        let bus = Arc::clone(&self.core().identity.label);
        let info = HandlerInfo::new(id, name, pattern.into(), bus, location, stamp);
        let limit = options.limit.as_ref().map(|limit| self.core().limit_group(limit));
        let (typed, fits) = match answers {
            Answers::Output => (true, known.map(|known| known.name)),
            Answers::Nothing => (true, None),
            Answers::Anything => (false, None),
        };
        // Into its place, since a result that is handed on takes longer than most handlers.
        let call = move |event: &AnyEvent, outcome: &mut Outcome| {
            let Some(output) = call(event)? else { return fits.map_or(Ok(()), |name| event.fits(name)) };
            *outcome = Outcome::Value(output);
            Ok(())
        };
        let entry = Arc::new(HandlerEntry { info: info.clone(), options, limit, call: Arc::new(call), typed });
        let added = self.core().registry.add(entry, known);
        if !added {
            info.end();
        }
        tell::deliver_handlers(self.core());
        if !added {
            logging::warn!(
                "{} is closed: handler {} for {} was not registered",
                self.label(),
                info.label(),
                info.pattern()
            );
        }
        info
    }

    /// Ends a registration. False if it was not registered (any more).
    ///
    /// From then on no invocation of it starts, on any thread: an event that has started, too, goes on without it, and shows
    /// [`HandlerFailure::Cancelled`](crate::HandlerFailure::Cancelled) with [`CauseKind::Off`](crate::CauseKind::Off) for it, which is no failure of the event. What
    /// stands in line for a place under its [`Limit`](crate::Limit) does so at once. An invocation that has started goes on, with all its attempts.
    ///
    /// True for one caller only, so a handler that asks first runs what follows once, whatever runs beside it:
    ///
    /// ```
    /// use threadbus::{Event, EventBus, HandlerContext, HandlerError, Payload};
    /// struct Login;
    /// impl Payload for Login { type Output = &'static str; }
    ///
    /// let bus = EventBus::new("app");
    /// bus.on(|login: &Event<Login>| -> Result<Option<&'static str>, HandlerError> {
    ///     let me = HandlerContext::current().ok_or("not in a handler")?.handler();
    ///     Ok(login.bus().off(&me).then_some("the first login"))
    /// });
    /// assert_eq!(bus.emit(Login).result()?, "the first login");
    /// assert!(!bus.has_handler::<Login>());
    /// # Ok::<(), threadbus::ResultError>(())
    /// ```
    pub fn off(&self, handler: &HandlerInfo) -> bool {
        self.off_id(handler.id())
    }

    /// Ends the registration that has this id; false if it has ended before.
    pub fn off_id(&self, handler: HandlerId) -> bool {
        self.let_go(self.core().registry.remove(handler).into_iter().collect()) > 0
    }

    /// Ends all registrations for the type `P`, by-name ones included; how many.
    pub fn off_all<P: Payload>(&self) -> usize {
        self.let_go(self.core().registry.remove_all(crate::event::name_of::<P>(), Some(TypeId::of::<P>())))
    }

    /// Ends all registrations under a name; `*` means the wildcard ones only. How many.
    pub fn off_named(&self, pattern: &str) -> usize {
        self.let_go(self.core().registry.remove_all(pattern, None))
    }

    fn let_go(&self, gone: Vec<Arc<HandlerEntry>>) -> usize {
        let count = gone.len();
        worker_local::forget_handlers(self.core(), &gone);
        gone.iter().for_each(|handler| handler.has_ended());
        if gone.iter().any(|handler| handler.limit.is_some()) {
            self.core().leaves_lines();
        }
        unwind::drop_each(gone);
        tell::deliver_handlers(self.core());
        count
    }

    /// All registrations, in their order.
    pub fn handlers(&self) -> Vec<HandlerInfo> {
        self.core().registry.infos()
    }

    /// Whether an event of type `P` would find a handler now.
    pub fn has_handler<P: Payload>(&self) -> bool {
        !self.core().slot_of::<P>().handlers.is_empty()
    }

    // Emitting.

    /// Puts an event on its way. Never waits for handlers, never panics; a refused event comes back completed, and its `wait()` says
    /// why. So that it is not lost in silence where nobody waits, the log tells of the first one that a bus refuses for each reason;
    /// [`try_emit`](Self::try_emit) tells its caller instead.
    ///
    /// **Blocking**: only outside of handlers, on a bus whose queue is full under [`OnFull::Block`](crate::OnFull::Block) or
    /// [`BlockFor`](crate::OnFull::BlockFor), or that has a full subscription whose emitters wait for its reader
    /// ([`OnLag::Block`](crate::OnLag::Block)): until there is room. What stands still for longer than
    /// [`handler_slow_after`](crate::BusBuilder::handler_slow_after) is told in the log.
    #[track_caller]
    pub fn emit<P: Payload>(&self, payload: P) -> Event<P> {
        self.emit_or_reject(payload, None, Entrance::Queue)
    }

    /// Emits as [`emit`](EventBus::emit) does, with options for this one event.
    #[track_caller]
    pub fn emit_with<P: Payload>(&self, payload: P, options: EventOptions) -> Event<P> {
        self.emit_or_reject(payload, Some(options), Entrance::Queue)
    }

    /// Emits without waiting for room; a payload that is refused comes back.
    ///
    /// Where [`emit`](Self::emit) would wait it refuses at once: with [`EmitError::QueueFull`] or [`EmitError::RateLimited`] also under
    /// [`OnFull::Block`](crate::OnFull::Block) and [`BlockFor`](crate::OnFull::BlockFor), with [`EmitError::SubscriptionFull`] for a full subscription
    /// whose emitters wait. [`RunInline`](crate::OnFull::RunInline) and [`DropOldest`](crate::OnFull::DropOldest) mean the same as ever.
    ///
    /// **Blocking**: never, but for the handlers of an event that is run inline.
    ///
    /// # Errors
    /// [`TryEmitError`] with the payload and the reason.
    ///
    /// ```
    /// use threadbus::{EmitError, EventBus, OnFull, Payload};
    /// struct Frame(u32);
    /// impl Payload for Frame { type Output = (); }
    ///
    /// let bus = EventBus::builder("camera").queue_capacity(1, OnFull::Block).build()?;
    /// bus.pause();
    /// assert!(bus.try_emit(Frame(1)).is_ok());
    /// let refused = bus.try_emit(Frame(2)).unwrap_err();
    /// assert_eq!(refused.payload.0, 2);
    /// assert!(matches!(refused.error, EmitError::QueueFull { capacity: 1, .. }));
    /// # Ok::<(), threadbus::BuildError>(())
    /// ```
    #[track_caller]
    pub fn try_emit<P: Payload>(&self, payload: P) -> Result<Event<P>, TryEmitError<P>> {
        self.try_emit_inner(payload, None)
    }

    /// Emits as [`try_emit`](EventBus::try_emit) does, with options for this one event.
    ///
    /// # Errors
    /// [`TryEmitError`] with the payload and the reason.
    #[track_caller]
    pub fn try_emit_with<P: Payload>(&self, payload: P, options: EventOptions) -> Result<Event<P>, TryEmitError<P>> {
        self.try_emit_inner(payload, Some(options))
    }

    /// Runs the event on the calling thread, ahead of the queue, before returning; on a serial bus once the running event is through.
    ///
    /// Where little of the thread's stack is left it runs on another thread, and this one waits for that; where there is none, as on the pump
    /// thread of a manual bus, it is only queued. See [`assume_stack`](crate::assume_stack).
    ///
    /// Timeouts mark it but cannot unblock this thread. It needs no waiter: what the event emitted and did not wait for still runs
    /// on the bus's own threads.
    ///
    /// A [paused](EventBus::pause) bus runs it, too; what its handlers emit and do not wait for is queued there until the pause ends.
    ///
    /// On a [manual](crate::BusBuilder::manual) bus it runs on the pump thread and no other: from elsewhere it goes to the front there.
    ///
    /// **Blocking**: until the event has run; elsewhere than on the pump thread of a manual bus until that has run it.
    #[track_caller]
    pub fn emit_now<P: Payload>(&self, payload: P) -> Event<P> {
        self.emit_or_reject(payload, None, Entrance::Claimed)
    }

    /// Runs the event as [`emit_now`](EventBus::emit_now) does, with options for this one event.
    #[track_caller]
    pub fn emit_now_with<P: Payload>(&self, payload: P, options: EventOptions) -> Event<P> {
        self.emit_or_reject(payload, Some(options), Entrance::Claimed)
    }

    #[track_caller]
    fn emit_or_reject<P: Payload>(&self, payload: P, mut own: Option<EventOptions>, entrance: Entrance) -> Event<P> {
        match self.core().emit(payload, &mut own, entrance) {
            Ok(event) => {
                if entrance == Entrance::Claimed && !event.any().is_complete() {
                    may_block_or_log("runs an event now that must wait for its turn");
                }
                event
            }
            Err((fresh, error)) => {
                self.note_full(&error);
                self.core().tell_refused(&fresh.any(), &error);
                rejected(fresh, error)
            }
        }
    }

    /// A refused payload comes back.
    #[track_caller]
    pub(crate) fn emit_or_return<P: Payload>(
        &self,
        payload: P,
        mut own: Option<EventOptions>,
    ) -> Result<Event<P>, TryEmitError<P>> {
        self.core().emit(payload, &mut own, Entrance::Queue).or_else(|(fresh, error)| {
            self.note_full(&error);
            returned(fresh, error)
        })
    }

    fn try_emit_inner<P: Payload>(
        &self,
        payload: P,
        mut own: Option<EventOptions>,
    ) -> Result<Event<P>, TryEmitError<P>> {
        self.core().emit(payload, &mut own, Entrance::Try).or_else(|(fresh, error)| returned(fresh, error))
    }

    /// A thread that must not block did not wait for room.
    #[cold]
    #[track_caller]
    fn note_full(&self, error: &EmitError) {
        let what = match error {
            EmitError::QueueFull { .. } => "emits into a full queue",
            EmitError::RateLimited { .. } => "emits above the rate of its bus",
            _ => return,
        };
        if matches!(self.core().options.on_full, OnFull::Block | OnFull::BlockFor(_)) {
            may_block_or_log(what);
        }
    }

    // Looking things up.

    /// The event with this id, if the history still has it.
    pub fn event(&self, id: EventId) -> Option<AnyEvent> {
        self.core().inlet.lock().history.get(id).cloned()
    }

    /// Takes an event out of the history; if it is not done, it goes on.
    pub fn take(&self, id: EventId) -> Option<AnyEvent> {
        self.core().inlet.lock().history.remove(id)
    }

    /// What the history has, in the order in which the bus took it.
    ///
    /// That is the order of the ids, and without priorities of a serial bus's runs, also where several threads emit at once. Ids that were set or came from another bus have
    /// an order of their own, and so have all on a bus with a middleware, which learns the id before the event is taken.
    pub fn history(&self) -> Vec<AnyEvent> {
        self.core().inlet.lock().history.iter().cloned().collect()
    }

    /// How many events the history has.
    pub fn history_len(&self) -> usize {
        self.core().inlet.lock().history.len()
    }

    /// Events queued and not started.
    pub fn pending(&self) -> usize {
        refused::ask_again();
        self.core().pending()
    }
}

fn rejected<P: Payload>(fresh: Fresh<P>, error: EmitError) -> Event<P> {
    let event = fresh.into_event();
    reject(event.any(), error);
    event
}

/// Makes it a refused event: complete, with the reason.
pub(crate) fn reject(event: &AnyEvent, error: EmitError) {
    {
        let mut state = event.state().lock();
        state.reject(error);
    }
    event.publish_complete();
}

impl fmt::Debug for EventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBus")
            .field("label", &self.label())
            .field("pending", &self.pending())
            .field("permits", &format_args!("{}", self.core().describe_permits()))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WeakBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakBus").field("label", &self.label()).finish_non_exhaustive()
    }
}

/// Nobody has seen a refused event but a middleware, which may have kept it.
fn returned<P: Payload>(fresh: Fresh<P>, error: EmitError) -> Result<Event<P>, TryEmitError<P>> {
    match fresh.into_payload() {
        Ok(payload) => Err(TryEmitError { payload, error }),
        Err(fresh) => Ok(rejected(fresh, error)),
    }
}
