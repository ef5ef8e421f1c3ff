//! From a payload to an event that everybody can see (`runtime/README.md`, 3.1).

use crate::bus::core::slow_emit::{Obstacle, Stand};
use crate::bus::core::submit::{USUAL, stands_for};
use crate::bus::core::type_memo::{self, Kind};
use crate::bus::core::{BusCore, Doors, Entry, Inlet, NOWHERE};
use crate::bus::emit::queue::{Room, needs_lanes};
use crate::bus::emit::run_now::{self, Depth};
use crate::bus::middleware::ask;
use crate::bus::middleware::tell;
use crate::bus::parts::counters::Until;
use crate::bus::parts::history::Evicted;
use crate::bus::parts::observers::Seen;
use crate::bus::thread::frame::{self, Emitter, Surroundings};
use crate::event::{
    AnyEvent, Birth, ContextMap, DeliveryPhase, EmitError, Event, EventId, EventOptions, Fresh, LetGo, Manner, OnFull,
    ParentLink, Payload, Priority, Rare, TurnKind, TypeSlot, described, marked,
};
use crate::rules::TokenBucket;
use crate::runtime::{Needs, Worker};
use crate::sync::refused;
use crate::sys::clock::{self, NEVER};
use crate::sys::sync::MutexGuard;
use crate::sys::sync::atomic::Ordering;
use crate::sys::{planted, thread, unwind};
use std::sync::Arc;

/// So many events may an emitter be ahead, before it lets others run on the only core.
const LEAD: u64 = 256;

/// What becomes of an event that is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    Queue,
    /// As `Queue`, and waits for no room.
    Try,
    /// Claimed at birth, to be run by the caller.
    Claimed,
}

/// A new event before it is let in.
struct Candidate {
    /// Put in before it is let in, gone once it is in the queue.
    event: Option<AnyEvent>,
    turn: TurnKind,
    born: Entrance,
    /// The handler that emits it.
    emitter: Option<Emitter>,
    /// Its event is the parent, unless another one is given.
    below_emitter: bool,
    given_parent: Option<AnyEvent>,
    unhandled: bool,
    explicit_id: bool,
    /// It has the token that the bus's rate asks of it.
    has_token: bool,
    /// It waits for no room.
    tries: bool,
}

impl BusCore {
    pub(crate) fn emit<P: Payload>(
        self: &Arc<Self>,
        payload: P,
        own: &mut Option<EventOptions>,
        entrance: Entrance,
    ) -> Result<Event<P>, (Fresh<P>, EmitError)> {
        // A middleware may be called while its bus's permits are held below it on the stack: there is no waiting for them.
        let depth = if entrance == Entrance::Claimed { Depth::here() } else { Depth::Shallow };
        let only_queues = || tell::is_inside() || depth == Depth::Deep && self.lacks_stack_here();
        let tries = entrance == Entrance::Try;
        let entrance = if tries || entrance == Entrance::Claimed && only_queues() { Entrance::Queue } else { entrance };
        if own.as_ref().is_none_or(|own| own.label.is_none())
            && let Some(label) = described(&payload)
        {
            own.get_or_insert_default().label = Some(label);
        }
        let kind = match own {
            None => type_memo::of::<P>(self),
            Some(own) => type_memo::with::<P>(self, own),
        };
        let unhandled = self.options.require_handler && self.slot_of::<P>().handlers.is_empty();
        let (fresh, mut candidate) =
            self.put_together(kind, own, entrance, unhandled, |birth| Fresh::new(birth, payload));
        candidate.event = Some(fresh.any());
        candidate.tries = tries;
        match self.let_in(&mut candidate, entrance) {
            Ok(entered) => {
                let event = fresh.into_event();
                if entered == Entered::ToRun {
                    drop(candidate);
                    let depth = if entrance == Entrance::Claimed { depth } else { Depth::here() };
                    run_now::run_claimed(self, event.any(), 0, depth);
                }
                Ok(event)
            }
            Err(error) => {
                self.recorder.rejected();
                if !candidate.explicit_id {
                    self.note_refused(fresh.head());
                }
                Err((fresh, error))
            }
        }
    }

    /// Emits an event whose type is not known at compile time. What is refused comes back as it is.
    pub(crate) fn emit_made(
        self: &Arc<Self>,
        slot: &TypeSlot,
        own: EventOptions,
        make: impl FnOnce(Birth) -> AnyEvent,
    ) -> Result<AnyEvent, (AnyEvent, EmitError)> {
        let kind = type_memo::given(self, &own, slot);
        let unhandled = self.options.require_handler && slot.handlers.is_empty();
        let (event, mut candidate) = self.put_together(kind, &mut Some(own), Entrance::Queue, unhandled, make);
        candidate.event = Some(event.clone());
        match self.let_in(&mut candidate, Entrance::Queue) {
            Ok(entered) => {
                if entered == Entered::ToRun {
                    drop(candidate);
                    run_now::run_claimed(self, &event, 0, Depth::here());
                }
                Ok(event)
            }
            Err(error) => {
                self.recorder.rejected();
                if !candidate.explicit_id {
                    self.note_refused(event.head());
                }
                Err((event, error))
            }
        }
    }

    #[inline(always)]
    fn put_together<T>(
        &self,
        kind: Kind,
        own: &mut Option<EventOptions>,
        entrance: Entrance,
        unhandled: bool,
        make: impl FnOnce(Birth) -> T,
    ) -> (T, Candidate) {
        let Surroundings { emitter, link, context } = frame::surroundings();
        let explicit_id = own.as_ref().is_some_and(|own| own.id.is_some());
        // The parent is linked weakly: the event's options keep no second, strong link to it.
        let given_parent = own.as_mut().and_then(|own| own.parent.take());
        let context = match &given_parent {
            // What comes of a logger's own event is one, wherever it is emitted.
            Some(parent) if parent.head().is_from_logger() => Some(marked(context.as_ref())),
            _ => context,
        };
        let below_emitter = given_parent.is_none() && !kind.detached && emitter.is_some();
        let candidate = Candidate {
            event: None,
            turn: kind.plan.turn,
            born: entrance,
            emitter,
            below_emitter,
            given_parent,
            unhandled,
            explicit_id,
            has_token: false,
            tries: false,
        };
        let parent = candidate.parent();
        let phase = if entrance == Entrance::Queue { DeliveryPhase::Queued } else { DeliveryPhase::Active };
        let stamp = clock::unique_stamp(clock::now());
        let id = own.as_ref().and_then(|own| own.id).unwrap_or_else(|| EventId(self.identity.ids.make(stamp)));
        let link = match link {
            Some(link) if candidate.below_emitter => Some(link),
            link => parent.map(|parent| ParentLink::to(parent, link.and_then(|link| link.handler))),
        };
        let rare = rare(own, parent, context);
        let birth = Birth {
            id,
            stamp,
            priority: kind.priority,
            link,
            rare,
            bus: Arc::clone(&self.identity),
            phase,
            manner: Manner::of(kind.plan),
            parent: parent.cloned(),
        };
        (make(birth), candidate)
    }

    pub(crate) fn slot_of<P: Payload>(&self) -> Arc<TypeSlot> {
        self.registry.slot_of_type::<P>(&self.defaults)
    }

    fn let_in(self: &Arc<Self>, candidate: &mut Candidate, entrance: Entrance) -> Result<Entered, EmitError> {
        if let Some(event) = &candidate.event {
            ask::ask(self, event, candidate.emitter.as_ref())?;
        }
        match self.insert(candidate, entrance) {
            Ok(()) if entrance == Entrance::Claimed => Ok(Entered::ToRun),
            Ok(()) => Ok(Entered::Queued),
            Err(error) => self.met_refusal(candidate, entrance, error),
        }
    }

    #[cold]
    fn met_refusal(
        self: &Arc<Self>,
        candidate: &mut Candidate,
        entrance: Entrance,
        error: EmitError,
    ) -> Result<Entered, EmitError> {
        let entered = match error {
            EmitError::QueueFull { .. } | EmitError::RateLimited { .. } if entrance == Entrance::Queue => {
                self.meet_full_queue(candidate, error)
            }
            error => Err(error),
        };
        if let (Err(error), Some(event)) = (&entered, &candidate.event) {
            ask::tell_refused(self, event, error);
        }
        entered
    }

    /// `OnFull`, outside of handlers.
    fn meet_full_queue(self: &Arc<Self>, candidate: &mut Candidate, error: EmitError) -> Result<Entered, EmitError> {
        if let (true, Some(event)) = (candidate.tries, &candidate.event) {
            // Before anything makes room for it in the queue.
            let full = self.lacks_room_to_read(&self.inlet.lock(), event);
            full.map_or(Ok(()), Err)?;
        }
        let until = match self.options.on_full {
            OnFull::Block | OnFull::BlockFor(_) if candidate.tries => return Err(error),
            OnFull::Reject => return Err(error),
            OnFull::RunInline if tell::is_inside() => return Err(error),
            OnFull::RunInline => {
                self.insert(candidate, Entrance::Claimed)?;
                self.recorder.ran_inline();
                return Ok(Entered::ToRun);
            }
            OnFull::DropOldest => return self.take_a_place(candidate, error).map(|()| Entered::Queued),
            OnFull::Block => NEVER,
            OnFull::BlockFor(limit) => clock::after(clock::now(), limit),
        };
        let Some(worker) = Worker::current() else { return Err(error) };
        let _watch = self.watch(&worker.bell, Until::Change);
        let mut stand = Stand::begin(self);
        loop {
            let error = match self.insert(candidate, Entrance::Queue) {
                Err(error @ (EmitError::QueueFull { .. } | EmitError::RateLimited { .. })) => error,
                other => {
                    worker.ends_wait();
                    return other.map(|()| Entered::Queued);
                }
            };
            if frame::barred().is_some() || clock::now() >= until || self.is_stuck(&worker) {
                worker.ends_wait();
                return Err(error);
            }
            let (token, obstacle) = match error {
                EmitError::QueueFull { capacity, .. } => (NEVER, Obstacle::Queue(capacity)),
                _ => (self.inlet.lock().rate.as_ref().map_or(NEVER, TokenBucket::ready_at), Obstacle::Rate),
            };
            if let Some(event) = &candidate.event {
                stand.tell_if_slow(self, event, || obstacle);
            }
            worker.sit_and_look(&self.runtime, until.min(token), stand.slow, || Needs::bus(self.lane));
        }
    }

    /// The oldest event of a full queue goes for it. Not before it has its token: nobody loses a place to what is refused.
    fn take_a_place(self: &Arc<Self>, candidate: &mut Candidate, full: EmitError) -> Result<(), EmitError> {
        let Some(arriving) = candidate.event.as_ref().map(|event| event.head().priority) else { return Ok(()) };
        if matches!(full, EmitError::RateLimited { .. }) {
            return Err(full);
        }
        self.ask_for_token(&mut self.inlet.lock())?;
        candidate.has_token = true;
        let refused = loop {
            let room = self.drop_oldest(arriving);
            if room == Room::None {
                break full;
            }
            match self.insert(candidate, Entrance::Queue) {
                // What takes the room is about to start, or to be gone.
                Err(EmitError::QueueFull { .. }) if room == Room::Empty => {
                    thread::give_way();
                }
                // Others came first.
                Err(EmitError::QueueFull { .. }) => {}
                Err(error) => break error,
                Ok(()) => return Ok(()),
            }
        };
        if let Some(rate) = &mut self.inlet.lock().rate {
            rate.give_back();
        }
        Err(refused)
    }

    /// Everything in one section, so that history, observers and queue agree on one order; refusals come before any trace.
    fn insert(self: &Arc<Self>, candidate: &mut Candidate, entrance: Entrance) -> Result<(), EmitError> {
        let Some(event) = &candidate.event else { return Ok(()) };
        let in_handler = candidate.emitter.is_some();
        let mut dropped = LetGo::new();
        let mut seen = None;
        let mut inlet = self.enter(event, in_handler, |inlet| {
            self.refuse(inlet, candidate, event, entrance)?;
            if candidate.tries { self.refuse_unread(inlet, candidate, event) } else { Ok(()) }
        })?;
        if !in_handler && entrance == Entrance::Queue && !candidate.has_token {
            self.ask_for_token(&mut inlet)?;
        }
        if entrance != candidate.born
            && let Some(delivery) = event.state().lock().deliveries.first_mut()
        {
            // Before its parent knows it: from then on whoever ends that ends this.
            delivery.phase = DeliveryPhase::Active;
        }
        self.keep_order(&mut inlet, event, candidate.explicit_id);
        let has_parent = candidate.has_parent();
        let mut emitted = 0;
        let mut count = || emitted = self.counters.count_emit();
        let awaited = if in_handler || has_parent {
            candidate.link_to_parent(event, &mut dropped, count)?
        } else {
            count();
            false
        };

        // Nobody can refuse it any more.
        if has_parent && !awaited {
            event.state().lock().parent = None;
        }
        let watched = tell::enter_new(self, event);
        if candidate.explicit_id {
            self.note_seen(&mut inlet, event.head().id());
        }
        let evicted = inlet.history.push(event.clone(), || self.counters.latest_claim());
        if !inlet.observers.is_empty() {
            inlet.observers.show(event, seen.get_or_insert_with(Seen::default));
        }
        let mut sent = Sent::NOTHING;
        if entrance == Entrance::Claimed {
            self.note_claim(event.head().stamp());
            self.note_arrival(false);
        } else if let Some(event) = candidate.event.take() {
            sent = self.send(&mut inlet, Entry { event, delivery: 0, turn: candidate.turn });
        }
        let spent = inlet.history.pop_spent();
        drop(inlet);

        self.wake_up(sent);
        if emitted.is_multiple_of(LEAD) && !in_handler && thread::cores() < 2 && self.pending() as u64 >= LEAD {
            // The bus has no core of its own. Far ahead of it, events would leave the caches before they run.
            thread::give_way();
        }
        unwind::drop_quietly(spent);
        if let Some(seen) = seen {
            seen.settle();
        }
        if let Some(event) = watched {
            tell::deliver(self, &event);
            unwind::drop_quietly(event);
        }
        if !dropped.is_empty() {
            unwind::drop_each(dropped);
        }
        if has_parent && let Some(parent) = candidate.parent() {
            self.ring_above(parent);
        }
        self.after_push(evicted);
        Ok(())
    }

    /// Events that are emitted at the same time get their ids in the order in which the bus takes them.
    #[inline]
    fn keep_order(&self, inlet: &mut Inlet, event: &AnyEvent, explicit_id: bool) {
        let head = event.head();
        if head.stamp() < inlet.latest {
            // A middleware has seen its id.
            if explicit_id || self.is_watched() || planted("ids_of_the_emitters_order") {
                return;
            }
            let stamp = clock::unique_stamp(clock::now());
            head.rename(stamp, self.identity.ids.make(stamp));
        }
        inlet.latest = head.stamp();
    }

    fn refuse(
        &self,
        inlet: &mut Inlet,
        candidate: &Candidate,
        event: &AnyEvent,
        entrance: Entrance,
    ) -> Result<(), EmitError> {
        let in_handler = candidate.emitter.is_some();
        self.refuse_all_but_full(inlet, event, in_handler, candidate.unhandled)?;
        if candidate.explicit_id {
            let id = event.head().id();
            if id.0.is_nil() {
                return Err(EmitError::NilId { bus: self.label().to_owned() });
            }
            if self.has_seen(inlet, id) {
                return Err(EmitError::DuplicateId { bus: self.label().to_owned(), id });
            }
        }
        if entrance == Entrance::Claimed
            && let Some(emitter) = &candidate.emitter
            && emitter.event.head().wait_depth() >= self.runtime.max_wait_depth
        {
            return Err(EmitError::TooDeep { limit: self.runtime.max_wait_depth as usize });
        }
        if in_handler || entrance == Entrance::Claimed { Ok(()) } else { self.refuse_full() }
    }

    /// Why a bus takes no event that is emitted or forwarded, whether its queue has room or not.
    #[inline]
    pub(crate) fn refuse_all_but_full(
        &self,
        inlet: &mut Inlet,
        event: &AnyEvent,
        in_handler: bool,
        unhandled: bool,
    ) -> Result<(), EmitError> {
        let bus = || self.label().to_owned();
        if inlet.doors == Doors::Closed || inlet.doors == Doors::Draining && !in_handler {
            return Err(EmitError::Closed { bus: bus() });
        }
        if unhandled {
            return Err(EmitError::NoHandler { bus: bus(), event_type: event.event_type().to_owned() });
        }
        if inlet.history.is_full(|| self.counters.latest_claim()) {
            return Err(EmitError::HistoryFull { bus: bus(), limit: self.options.max_history.unwrap_or(usize::MAX) });
        }
        Ok(())
    }

    /// Outside of handlers.
    #[inline]
    pub(crate) fn refuse_full(&self) -> Result<(), EmitError> {
        match self.options.queue_capacity {
            Some(capacity) if self.occupied() >= capacity => {
                Err(EmitError::QueueFull { bus: self.label().to_owned(), capacity })
            }
            _ => Ok(()),
        }
    }

    /// Outside of handlers an emit takes a token, where the rate is bounded. After all other reasons to refuse it and once, however often it waited, so that none is lost.
    pub(crate) fn ask_for_token(&self, inlet: &mut Inlet) -> Result<(), EmitError> {
        let Some(rate) = &mut inlet.rate else { return Ok(()) };
        if rate.try_take(clock::now()) {
            return Ok(());
        }
        Err(EmitError::RateLimited { bus: self.label().to_owned() })
    }

    /// What a push threw out of the history. With nothing locked, and nothing owed: it has something to say.
    pub(crate) fn after_push(&self, evicted: Evicted) {
        let Some(oldest) = evicted.event else { return };
        if let Some(before) = evicted.warn {
            self.tell_evicted(&oldest, before);
        }
        unwind::drop_quietly(oldest);
    }

    /// Locks the inlet for an event that `refuse` lets pass; outside of handlers not before every subscription that blocks its
    /// emitters has room for it.
    pub(crate) fn enter<E>(
        &self,
        event: &AnyEvent,
        in_handler: bool,
        refuse: impl Fn(&mut Inlet) -> Result<(), E>,
    ) -> Result<MutexGuard<'_, Inlet>, E> {
        let mut stand = None;
        loop {
            let mut inlet = self.inlet.lock();
            refuse(&mut inlet)?;
            if in_handler || !inlet.observers.any_bounded() || frame::barred().is_some() {
                return Ok(inlet);
            }
            if let Some(inlet) = self.room_to_read(inlet, event, &mut stand) {
                return Ok(inlet);
            }
        }
    }

    /// The inlet, if every subscription has room; else some may have after this.
    #[inline(never)]
    fn room_to_read<'a>(
        &self,
        inlet: MutexGuard<'a, Inlet>,
        event: &AnyEvent,
        stand: &mut Option<Stand>,
    ) -> Option<MutexGuard<'a, Inlet>> {
        let Some(worker) = Worker::current() else { return Some(inlet) };
        if inlet.observers.have_room(event, &worker.bell) {
            return Some(inlet);
        }
        let capacity = inlet.observers.full_for(event);
        drop(inlet);
        let stand = stand.get_or_insert_with(|| Stand::begin(self));
        stand.tell_if_slow(self, event, || Obstacle::Reader(capacity));
        worker.sit_and_look(&self.runtime, NEVER, stand.slow, Needs::default);
        worker.ends_wait();
        None
    }

    /// Where an `emit` would wait for readers, a `try_emit` is refused.
    #[cold]
    fn refuse_unread(&self, inlet: &Inlet, candidate: &Candidate, event: &AnyEvent) -> Result<(), EmitError> {
        let waits = candidate.emitter.is_none() && frame::barred().is_none();
        let unread = if waits { self.lacks_room_to_read(inlet, event) } else { None };
        unread.map_or(Ok(()), Err)
    }

    fn lacks_room_to_read(&self, inlet: &Inlet, event: &AnyEvent) -> Option<EmitError> {
        let capacity = inlet.observers.full_for(event)?;
        Some(EmitError::SubscriptionFull { bus: self.label().to_owned(), capacity })
    }

    /// Queues an entry, and says what that leaves to do after unlocking.
    pub(crate) fn send(&self, inlet: &mut Inlet, entry: Entry) -> Sent {
        let (turn, priority) = (entry.turn, entry.event.head().priority);
        if needs_lanes(&entry) {
            self.is_sorted.store(true, Ordering::Release);
        }
        // The receiver lives as long as this bus.
        let _ = inlet.queue.send(entry);
        if self.manual.is_some() {
            self.note_arrival(true);
        }
        let loops = if turn == TurnKind::Free || inlet.active >= USUAL {
            Loops::On
        } else {
            let was = inlet.active;
            inlet.active = was.max(stands_for(priority));
            if was == NOWHERE { Loops::Starts } else { Loops::Lags }
        };
        Sent { loops, turn, priority }
    }

    pub(crate) fn wake_up(self: &Arc<Self>, sent: Sent) {
        let Sent { loops, turn, priority } = sent;
        match (turn, loops) {
            (TurnKind::Free, _) => self.submit_free_at(priority),
            (_, Loops::Starts) => self.submit_loop_at(priority),
            (TurnKind::Bus, Loops::On) if priority <= Priority::NORMAL => {}
            (turn, _) => {
                if turn == TurnKind::Global {
                    self.raise_in_global_line();
                }
                if self.manual.is_none() {
                    self.runtime.pool.raise(self.lane, priority);
                }
            }
        }
        if self.manual.is_some() {
            self.tell_of_arrival();
        }
        refused::ask_again();
    }

    /// Something below `event` was queued: parked waits above it look again.
    pub(crate) fn ring_above(&self, event: &AnyEvent) {
        if self.runtime.parked_count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut at = Some(event.clone());
        while let Some(event) = at {
            let state = event.state().lock();
            state.ring();
            at = state.parent.clone();
        }
    }
}

/// What the loop of a bus makes of an event that was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loops {
    /// It comes to it, if it needs one.
    On,
    /// It was nowhere.
    Starts,
    /// It stands for one of a lower priority.
    Lags,
}

/// What queuing an event leaves to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    loops: Loops,
    turn: TurnKind,
    priority: Priority,
}

impl Sent {
    pub(crate) const NOTHING: Sent = Sent { loops: Loops::On, turn: TurnKind::Bus, priority: Priority::NORMAL };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entered {
    Queued,
    ToRun,
}

impl Candidate {
    fn has_parent(&self) -> bool {
        self.below_emitter || self.given_parent.is_some()
    }

    fn parent(&self) -> Option<&AnyEvent> {
        match &self.emitter {
            Some(emitter) if self.below_emitter => Some(&emitter.event),
            _ => self.given_parent.as_ref(),
        }
    }

    /// True if the parent waits for the child. The emitting handler must still be live; both under the parent's lock. `count`: before
    /// the parent knows it, since from then on whoever ends the parent ends and counts this.
    fn link_to_parent(&self, event: &AnyEvent, dropped: &mut LetGo, count: impl FnOnce()) -> Result<bool, EmitError> {
        let by = self.emitter.as_ref();
        let own_parent = |by: &&Emitter| self.parent().is_some_and(|parent| parent.same(&by.event));
        if let Some(by) = by.filter(|by| !own_parent(by)) {
            by.is_live(&by.event.state().lock()).then_some(()).ok_or(EmitError::Aborted)?;
        }
        let Some(parent) = self.parent() else {
            count();
            return Ok(false);
        };
        let by = by.filter(own_parent);
        let mut state = parent.state().lock();
        if by.is_some_and(|by| !by.is_live(&state)) && !planted("emit_after_the_end") {
            return Err(EmitError::Aborted);
        }
        let by = by.map(|by| (by.delivery as u32, by.invocation as u32));
        count();
        Ok(state.add_child(event.clone(), by, dropped))
    }
}

/// Options of its own, a context, a correlation id that was set: most events have none of them.
fn rare(
    own: &mut Option<EventOptions>,
    parent: Option<&AnyEvent>,
    context: Option<Arc<ContextMap>>,
) -> Option<Box<Rare>> {
    let inherited = parent.and_then(|parent| parent.head().own_correlation().cloned());
    if own.is_none() && context.is_none() && inherited.is_none() {
        return None;
    }
    let correlation = own.as_ref().and_then(|own| own.correlation_id.clone()).or(inherited);
    Some(Box::new(Rare::new(correlation, context, own.take())))
}
