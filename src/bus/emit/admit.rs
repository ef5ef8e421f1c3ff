//! Whether a bus lets an event in, and what an emitter does that meets a full queue, a rate or a reader that has no room.

use crate::bus::core::slow_emit::{Obstacle, Stand};
use crate::bus::core::{BusCore, Doors, Inlet};
use crate::bus::emit::candidate::{Candidate, Entered, Entrance, Whence};
use crate::bus::emit::queue::Room;
use crate::bus::middleware::ask;
use crate::bus::middleware::tell;
use crate::bus::parts::counters::Until;
use crate::bus::thread::frame;
use crate::event::{AnyEvent, EmitError, OnFull};
use crate::rules::TokenBucket;
use crate::runtime::{Needs, Worker};
use crate::sys::clock::{self, NEVER};
use crate::sys::sync::MutexGuard;
use crate::sys::thread;
use std::sync::Arc;

impl BusCore {
    pub(crate) fn let_in(
        self: &Arc<Self>,
        candidate: &mut Candidate,
        entrance: Entrance,
    ) -> Result<Entered, EmitError> {
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
            OnFull::RunInline if tell::is_inside() || candidate.is_held() => return Err(error),
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
            worker.park_and_look(&self.runtime, until.min(token), stand.slow, || Needs::bus(self.lane));
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

    pub(crate) fn refuse(
        &self,
        inlet: &mut Inlet,
        candidate: &Candidate,
        event: &AnyEvent,
        entrance: Entrance,
    ) -> Result<(), EmitError> {
        let whence = Whence::of(candidate.emitter.as_ref());
        self.refuse_all_but_full(inlet, whence, candidate.unhandled.then_some(event))?;
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
        let has_room = whence == Whence::Handler || entrance == Entrance::Claimed || candidate.is_held();
        if has_room { Ok(()) } else { self.refuse_full() }
    }

    /// Why a bus takes no event that is emitted or forwarded, whether its queue has room or not. `unhandled`: the event, if the bus requires a
    /// handler and has none for it.
    #[inline]
    pub(crate) fn refuse_all_but_full(
        &self,
        inlet: &mut Inlet,
        whence: Whence,
        unhandled: Option<&AnyEvent>,
    ) -> Result<(), EmitError> {
        let bus = || self.label().to_owned();
        if inlet.doors == Doors::Closed || inlet.doors == Doors::Draining && whence == Whence::Outside {
            return Err(EmitError::Closed { bus: bus() });
        }
        if let Some(event) = unhandled {
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

    /// Locks the inlet for an event that `refuse` lets pass; outside of handlers not before every subscription that blocks its
    /// emitters has room for it.
    pub(crate) fn enter<E>(
        &self,
        event: &AnyEvent,
        whence: Whence,
        refuse: impl Fn(&mut Inlet) -> Result<(), E>,
    ) -> Result<MutexGuard<'_, Inlet>, E> {
        let mut stand = None;
        loop {
            let mut inlet = self.inlet.lock();
            refuse(&mut inlet)?;
            if whence == Whence::Handler || !inlet.observers.any_bounded() || frame::barred().is_some() {
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
        worker.park_and_look(&self.runtime, NEVER, stand.slow, Needs::default);
        worker.ends_wait();
        None
    }

    /// Where an `emit` would wait for readers, a `try_emit` is refused.
    #[cold]
    pub(crate) fn refuse_unread(
        &self,
        inlet: &Inlet,
        candidate: &Candidate,
        event: &AnyEvent,
    ) -> Result<(), EmitError> {
        let waits = candidate.emitter.is_none() && frame::barred().is_none();
        let unread = if waits { self.lacks_room_to_read(inlet, event) } else { None };
        unread.map_or(Ok(()), Err)
    }

    fn lacks_room_to_read(&self, inlet: &Inlet, event: &AnyEvent) -> Option<EmitError> {
        let capacity = inlet.observers.full_for(event)?;
        Some(EmitError::SubscriptionFull { bus: self.label().to_owned(), capacity })
    }
}
