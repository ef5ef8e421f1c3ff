//! The transitions of an event as a whole, all under its lock: deliveries come, end, and with the last of them and of its children it is complete.
//!
//! Pure: each says whether it was this call that made the transition. The caller that made it owes what follows (`bus/end/README.md`).

mod children;
mod completion;
pub(super) mod delays;
pub(super) mod deliveries;
pub(super) mod given_up;
mod links;
mod places;
mod told;

pub(crate) use children::{LetGo, Looked};
pub(crate) use completion::Completion;
pub(crate) use delays::{Delay, Wait};
pub(crate) use given_up::{AttemptKey, Hook, Pause, given_up, note_given_up};
pub(crate) use places::Placed;

use crate::event::state::deliveries::Deliveries;
use crate::event::{AnyEvent, BusId, BusIdentity, Delivery, DeliveryPhase, EmitError, Manner, State, Unrun};
use crate::sys::clock::{Stamp, Tick};
use crate::sys::planted;
use std::sync::Arc;

impl State {
    /// Of a new event on its first bus.
    #[inline(always)]
    pub(crate) fn on(bus: Arc<BusIdentity>, phase: DeliveryPhase, manner: Manner, parent: Option<AnyEvent>) -> Self {
        State {
            open: 1,
            complete: false,
            started: 0,
            completed: 0,
            wants_first: false,
            ended: false,
            is_watched: false,
            deliveries: Deliveries::of(Delivery::new(bus, phase, manner)),
            parent,
            bell: None,
            hook: None,
            links: None,
        }
    }

    /// No bus took the event: it is complete, with the reason.
    pub(crate) fn reject(&mut self, error: EmitError) {
        self.deliveries.clear();
        self.open = 0;
        self.parent = None;
        self.complete = true;
        self.links().rejected = Some(error);
    }

    pub(crate) fn rejected(&self) -> Option<&EmitError> {
        self.links.as_ref().and_then(|links| links.rejected.as_ref())
    }

    /// When a bus that the event was forwarded to took it. `None`: it was emitted there.
    pub(crate) fn forwarded_at(&self, bus: BusId) -> Option<Tick> {
        let mut forwarded = self.deliveries.forwarded();
        let first = self.deliveries.first()?;
        if first.bus.id == bus { None } else { Some(forwarded.find(|more| more.delivery.bus.id == bus)?.arrived) }
    }

    /// Adds a delivery, which comes now; returns its number.
    pub(crate) fn add_delivery(&mut self, mut delivery: Delivery, now: Tick) -> usize {
        delivery.counted = !self.complete;
        if delivery.counted {
            self.open += 1;
        }
        if delivery.bus.untold.is_some() {
            self.enter_journal(&mut delivery);
        }
        self.deliveries.push(delivery, now)
    }

    /// A delivery of it has been claimed and is not over: what it has emitted is its handlers' to wait for.
    pub(crate) fn is_active(&self) -> bool {
        self.deliveries.iter().any(|d| d.phase == DeliveryPhase::Active)
    }

    /// Marks a delivery done. True if it was this call.
    pub(crate) fn finish_delivery(&mut self, delivery: usize) -> bool {
        let Some(ended) = self.deliveries.get_mut(delivery) else { return false };
        if ended.phase == DeliveryPhase::Done {
            return false;
        }
        ended.phase = DeliveryPhase::Done;
        if self.is_watched {
            self.note_done(delivery);
        }
        true
    }

    /// A delivery or a child that counted has ended. `Some` for the call that completed the event.
    pub(crate) fn count_down(&mut self, at: Stamp) -> Option<Completion> {
        self.open = self.open.saturating_sub(1);
        if self.open > 0 || self.complete {
            return None;
        }
        if planted("ring_before_status") {
            self.ring();
            self.bell = None;
        }
        self.complete = true;
        if self.started == 0 {
            self.started = at;
        }
        self.completed = at.max(self.started);
        if self.is_watched {
            self.note_complete();
        }
        let watchers = self.links.as_mut().filter(|links| !links.watchers.is_empty());
        let watchers = watchers.map(|links| Box::new(std::mem::take(&mut links.watchers)));
        let (bell, hook, parent) = (self.bell.take(), self.hook.take(), self.parent.take());
        Some(Completion { bell, hook, watchers, parent, at: self.completed, is_watched: self.is_watched })
    }

    /// Whether the event ended before any handler started on any bus, and how: on the first bus that cut it short.
    pub(crate) fn unrun(&self) -> Unrun {
        let unrun = self.deliveries.iter().map(|d| d.unrun).find(|unrun| *unrun != Unrun::No);
        let started = unrun.is_some() && self.deliveries.iter().any(Delivery::anything_started);
        unrun.filter(|_| !started).unwrap_or_default()
    }
}
