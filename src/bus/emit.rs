//! From a payload to an event that everybody can see (`runtime/README.md`, 3.1).

use crate::bus::core::{BusCore, Doors, Entry, Inlet};
use crate::bus::frame::{self, Frame};
use crate::bus::jump;
use crate::bus::observers::Seen;
use crate::bus::registry::{TypeSlot, plan_for};
use crate::event::{
    AnyEvent, Delivery, DeliveryPhase, EmitError, Event, EventId, EventOptions, Fresh, Head, OnFull, ParentLink,
    Payload, Priority, TurnKind, Watcher,
};
use crate::rules::Plan;
use crate::runtime::{Job, Worker};
use crate::sys::clock::{self, NEVER};
use crate::sys::sync::MutexGuard;
use crate::sys::sync::atomic::Ordering;
use crate::sys::{random, unwind};
use std::any::TypeId;
use std::sync::Arc;

/// What becomes of an event that is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    Queue,
    /// Claimed at birth, to be run by the caller.
    Claimed,
}

/// A new event before it is let in.
pub(crate) struct Candidate {
    pub(crate) event: AnyEvent,
    pub(crate) plan: Plan,
    parent: Option<AnyEvent>,
    /// The handler that emits it.
    frame: Option<Frame>,
    unhandled: bool,
    explicit_id: bool,
}

impl BusCore {
    pub(crate) fn emit<P: Payload>(
        self: &Arc<Self>,
        payload: P,
        own: Option<EventOptions>,
        entrance: Entrance,
    ) -> Result<Event<P>, (Fresh<P>, EmitError)> {
        let slot = self.registry.slot_of_type(TypeId::of::<P>(), P::event_type(), || self.meet::<P>(), &self.defaults);
        let frame = frame::top();
        let (head, parent, explicit_id) = make_head(own, &slot, frame.as_ref());
        let fresh = Fresh::new(head, payload);
        let event = fresh.any();
        let plan = plan_for(&event, &slot, &self.defaults);
        let candidate = Candidate { event, plan, parent, frame, unhandled: slot.handlers.is_empty(), explicit_id };
        match self.let_in(&candidate, entrance) {
            Ok(entered) => {
                drop(candidate);
                let event = fresh.into_event();
                if entered == Entered::ToRun {
                    jump::run_claimed(self, event.any());
                }
                Ok(event)
            }
            Err(error) => Err((fresh, error)),
        }
    }

    /// The same for an event that `make` puts together. What is refused comes back as it is.
    pub(crate) fn emit_made(
        self: &Arc<Self>,
        slot: &TypeSlot,
        own: EventOptions,
        make: impl FnOnce(Head) -> AnyEvent,
    ) -> Result<AnyEvent, (AnyEvent, EmitError)> {
        let frame = frame::top();
        let (head, parent, explicit_id) = make_head(Some(own), slot, frame.as_ref());
        let event = make(head);
        let plan = plan_for(&event, slot, &self.defaults);
        let unhandled = slot.handlers.is_empty();
        let candidate = Candidate { event: event.clone(), plan, parent, frame, unhandled, explicit_id };
        match self.let_in(&candidate, Entrance::Queue) {
            Ok(Entered::Queued) => Ok(event),
            Ok(Entered::ToRun) => {
                drop(candidate);
                jump::run_claimed(self, &event);
                Ok(event)
            }
            Err(error) => Err((event, error)),
        }
    }

    fn let_in(self: &Arc<Self>, candidate: &Candidate, entrance: Entrance) -> Result<Entered, EmitError> {
        if entrance == Entrance::Claimed {
            return self.insert(candidate, entrance).map(|()| Entered::ToRun);
        }
        match self.insert(candidate, entrance) {
            Err(EmitError::QueueFull { .. }) => self.meet_full_queue(candidate),
            other => other.map(|()| Entered::Queued),
        }
    }

    /// `OnFull`, outside of handlers.
    fn meet_full_queue(self: &Arc<Self>, candidate: &Candidate) -> Result<Entered, EmitError> {
        let until = match self.options.on_full {
            OnFull::Reject => return self.insert(candidate, Entrance::Queue).map(|()| Entered::Queued),
            OnFull::RunInline => return self.insert(candidate, Entrance::Claimed).map(|()| Entered::ToRun),
            OnFull::DropOldest => loop {
                if !self.drop_oldest(candidate.event.head().priority) {
                    return self.insert(candidate, Entrance::Queue).map(|()| Entered::Queued);
                }
                match self.insert(candidate, Entrance::Queue) {
                    Err(EmitError::QueueFull { .. }) => {}
                    other => return other.map(|()| Entered::Queued),
                }
            },
            OnFull::Block => NEVER,
            OnFull::BlockFor(limit) => clock::after(clock::now(), limit),
        };
        let Some(worker) = Worker::current() else {
            return self.insert(candidate, Entrance::Queue).map(|()| Entered::Queued);
        };
        let _watch = self.watch_idle(&worker.bell);
        loop {
            match self.insert(candidate, Entrance::Queue) {
                Err(error @ EmitError::QueueFull { .. }) => {
                    if frame::in_callback() || clock::now() >= until {
                        return Err(error);
                    }
                    worker.bell.wait(until);
                }
                other => return other.map(|()| Entered::Queued),
            }
        }
    }

    /// Everything in one section, so that history, observers and queue agree on one order; refusals come before any trace.
    fn insert(self: &Arc<Self>, candidate: &Candidate, entrance: Entrance) -> Result<(), EmitError> {
        let event = &candidate.event;
        let bus = || self.label().to_owned();
        let mut dropped = Vec::new();
        let mut seen = Seen::default();
        let mut inlet = self.enter(event, candidate.frame.is_some(), |inlet| {
            if inlet.doors == Doors::Closed || inlet.doors == Doors::Draining && candidate.frame.is_none() {
                return Err(EmitError::Closed { bus: bus() });
            }
            if self.options.require_handler && candidate.unhandled {
                return Err(EmitError::NoHandler { bus: bus(), event_type: event.event_type().to_owned() });
            }
            if inlet.history.is_full() {
                return Err(EmitError::HistoryFull {
                    bus: bus(),
                    limit: self.options.max_history.unwrap_or(usize::MAX),
                });
            }
            if candidate.explicit_id {
                let id = event.head().id;
                if inlet.foreign_ids.contains(&id) || inlet.history.get(id).is_some() {
                    return Err(EmitError::DuplicateId { bus: bus(), id });
                }
            }
            if let (Entrance::Queue, None, Some(capacity)) = (entrance, &candidate.frame, self.options.queue_capacity)
                && self.pending() >= capacity
            {
                return Err(EmitError::QueueFull { bus: bus(), capacity });
            }
            Ok(())
        })?;
        let awaited = candidate.link_to_parent(&mut dropped)?;

        // Nobody can refuse it any more.
        let phase = if entrance == Entrance::Queue { DeliveryPhase::Queued } else { DeliveryPhase::Active };
        {
            let mut state = event.state().lock();
            if awaited {
                state.parent = candidate.parent.clone();
            }
            let mut delivery = Delivery::new(Arc::clone(&self.identity), phase);
            delivery.manner.turn = candidate.plan.turn;
            state.add_delivery(delivery);
        }
        if candidate.explicit_id {
            inlet.foreign_ids.insert(event.head().id);
        }
        let evicted = inlet.history.push(event.clone(), self.counters.latest_claim.load(Ordering::Relaxed));
        if !inlet.observers.is_empty() {
            inlet.observers.show(event, &mut seen);
        }
        self.counters.emitted.fetch_add(1, Ordering::SeqCst);
        let mut start = false;
        if entrance == Entrance::Queue {
            let entry = Entry { event: event.clone(), delivery: 0, plan: candidate.plan };
            start = self.send(&mut inlet, entry);
        } else {
            self.note_claim(event.head().stamp);
        }
        drop(inlet);

        self.wake_up(start, candidate.plan.turn);
        if let (true, Some(oldest)) = (evicted.warn, &evicted.event) {
            log::warn!(
                target: "threadbus",
                "{oldest} leaves the full history of {} before it completed; it still runs, and so do those that follow it out",
                self.label()
            );
        }
        seen.settle();
        unwind::drop_quietly(evicted);
        unwind::drop_each(dropped);
        if let Some(parent) = &candidate.parent {
            self.ring_above(parent);
        }
        Ok(())
    }

    /// Locks the inlet for an event that `refuse` lets pass; outside of handlers not before every subscription that blocks its
    /// emitters has room for it.
    pub(crate) fn enter<E>(
        &self,
        event: &AnyEvent,
        in_handler: bool,
        refuse: impl Fn(&mut Inlet) -> Result<(), E>,
    ) -> Result<MutexGuard<'_, Inlet>, E> {
        loop {
            let mut inlet = self.inlet.lock();
            refuse(&mut inlet)?;
            if in_handler || !inlet.observers.any_bounded() || frame::in_callback() {
                return Ok(inlet);
            }
            let Some(worker) = Worker::current() else { return Ok(inlet) };
            if inlet.observers.have_room(event, &worker.bell) {
                return Ok(inlet);
            }
            drop(inlet);
            worker.bell.wait(NEVER);
        }
    }

    /// Queues an entry; true if the loop must be started after unlocking.
    pub(crate) fn send(&self, inlet: &mut Inlet, entry: Entry) -> bool {
        let turn = entry.plan.turn;
        // The receiver lives as long as this bus.
        let _ = inlet.queue.send(entry);
        turn != TurnKind::Free && !std::mem::replace(&mut inlet.active, true)
    }

    pub(crate) fn wake_up(self: &Arc<Self>, start: bool, turn: TurnKind) {
        if start {
            self.submit_loop();
        }
        if turn == TurnKind::Free {
            let bus = Arc::clone(self);
            self.runtime.pool.submit(Job::new(move |worker| bus.run_free(worker)));
        }
    }

    /// Something below `event` was queued: parked waits above it look again.
    pub(crate) fn ring_above(&self, event: &AnyEvent) {
        if self.runtime.parked_count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut at = Some(event.clone());
        while let Some(event) = at {
            let state = event.state().lock();
            for watcher in state.watchers() {
                if let Watcher::Bell(bell) = watcher {
                    bell.ring();
                }
            }
            at = state.parent.clone();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entered {
    Queued,
    ToRun,
}

impl Candidate {
    /// True if the parent waits for the child. The emitting handler must still be live; both under the parent's lock.
    fn link_to_parent(&self, dropped: &mut Vec<AnyEvent>) -> Result<bool, EmitError> {
        if let Some(frame) = &self.frame {
            let own_parent = self.parent.as_ref().is_some_and(|parent| parent.same(&frame.event));
            if !own_parent && !frame.is_live() {
                return Err(EmitError::Aborted);
            }
        }
        let Some(parent) = &self.parent else { return Ok(false) };
        let by = self.frame.as_ref().filter(|frame| frame.event.same(parent));
        let mut state = parent.state().lock();
        if let Some(frame) = by {
            let live = state.deliveries.get(frame.delivery).is_some_and(|d| d.is_live(frame.invocation, frame.attempt));
            if !live {
                return Err(EmitError::Aborted);
            }
        }
        let by = by.map(|frame| (frame.delivery as u32, frame.invocation as u32));
        Ok(state.add_child(self.event.clone(), by, dropped))
    }
}

fn make_head(own: Option<EventOptions>, slot: &TypeSlot, frame: Option<&Frame>) -> (Head, Option<AnyEvent>, bool) {
    let tick = clock::now();
    let stamp = clock::unique_stamp(tick);
    let explicit_id = own.as_ref().and_then(|own| own.id);
    let id = explicit_id.unwrap_or_else(|| EventId(random::uuid_v7(stamp)));
    let priority = own.as_ref().and_then(|own| own.priority).or(slot.options.priority).unwrap_or(Priority::NORMAL);
    let mut head = Head::new(id, stamp, priority);
    head.context = frame::local(|local| local.context.clone()).flatten();

    let detached = own.as_ref().is_some_and(|own| own.detached) || slot.options.detached;
    let parent = match own.as_ref().and_then(|own| own.parent.clone()) {
        Some(parent) => Some(parent),
        None if detached => None,
        None => frame.map(|frame| frame.event.clone()),
    };
    if let Some(parent) = &parent {
        head.root = parent.head().root;
        head.correlation.clone_from(&parent.head().correlation);
    }
    if let Some(set) = own.as_ref().and_then(|own| own.correlation_id.clone()) {
        head.correlation = Some(set);
    }
    head.parent = parent.as_ref().map(|parent| ParentLink {
        id: parent.head().id,
        event: parent.downgrade(),
        handler: frame.map(|frame| frame.entry.info.id()),
    });
    // The parent is linked weakly; the options keep no second, strong link to it.
    head.options = own.map(|own| Box::new(EventOptions { parent: None, ..own }));
    (head, parent, explicit_id.is_some())
}
