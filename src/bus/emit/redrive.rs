//! One handler again, on an event of which it failed for good.
//!
//! The event gets another delivery on the same bus, with that handler alone. It runs on the calling thread, ahead of the queue.

use crate::bus::core::BusCore;
use crate::bus::emit::run_now::{self, Depth};
use crate::bus::end::duties::Duties;
use crate::bus::parts::for_event::plan_for;
use crate::bus::parts::verdict::is_own;
use crate::bus::run::start::{self, Fixed};
use crate::event::{
    AnyEvent, Delivery, DeliveryPhase, HandlerId, HandlerInfo, Manner, Outcome, Pace, Roster, TypeSlot,
};
use crate::sys::{clock, unwind};
use std::sync::Arc;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redriven {
    Succeeded,
    Failed,
    /// Given up for a reason outside of it, or the handler is not registered any more.
    Left,
}

impl BusCore {
    /// That handler while it is registered, else the one that was registered since under the same name for the same pattern, if there is
    /// exactly one.
    pub(crate) fn handler_in_place_of(&self, event: &AnyEvent, handler: &HandlerInfo) -> Option<HandlerInfo> {
        let slot = self.registry.slot(event.body(), &self.defaults);
        let infos = || slot.handlers.iter().map(|handler| &handler.entry.info);
        let own = infos().find(|info| info.id() == handler.id()).cloned();
        let found = own.or_else(|| {
            let mut same = infos().filter(|info| info.name() == handler.name() && info.pattern() == handler.pattern());
            same.next().filter(|_| same.next().is_none()).cloned()
        });
        unwind::drop_quietly(slot);
        found
    }

    /// **Blocking**: until the handler has ended, with all its attempts.
    pub(crate) fn run_again(self: &Arc<Self>, event: &AnyEvent, handler: &HandlerInfo) -> Redriven {
        let all = self.registry.slot(event.body(), &self.defaults);
        let Some(slot) = only(&all, handler.id()).map(Arc::new) else { return Redriven::Left };
        let plan = plan_for(event, &slot, &self.defaults);
        let (index, cap) = {
            let now = clock::now();
            let mut delivery = Delivery::new(Arc::clone(&self.identity), DeliveryPhase::Active, Manner::of(plan));
            delivery.redrive = true;
            let mut state = event.state().lock();
            let index = state.add_delivery(delivery, now);
            let Some(delivery) = state.deliveries.get_mut(index) else { return Redriven::Left };
            start::fix(self.delivery(event, index), delivery, Arc::clone(&slot), now);
            (index, Fixed::of(delivery).cap_ahead())
        };
        Duties { cap, ..Duties::default() }.carry_out(self.delivery(event, index));
        self.note_arrival(false);
        run_now::run_claimed(self.delivery(event, index), Depth::here());
        let state = event.state().lock();
        match state.deliveries.get(index).and_then(|d| d.records.first()).map(|record| &record.outcome) {
            Some(Outcome::Value(_)) => Redriven::Succeeded,
            Some(Outcome::None) if state.deliveries.get(index).is_some_and(|d| d.left == 0) => Redriven::Succeeded,
            Some(Outcome::Failed(failure)) if is_own(event.head().id(), failure) => Redriven::Failed,
            _ => Redriven::Left,
        }
    }
}

/// The slot with one of its handlers only.
fn only(all: &TypeSlot, handler: HandlerId) -> Option<TypeSlot> {
    let entry = all.handlers.iter().find(|other| other.id == handler)?;
    let handlers = Box::new([entry.clone()]);
    Some(TypeSlot {
        options: Arc::clone(&all.options),
        priority: all.priority,
        plan: all.plan,
        slow_event: all.slow_event,
        pace: Pace::of(&*handlers),
        roster: Arc::new(Roster(Box::new([entry.entry.info.clone()]))),
        handlers,
    })
}
