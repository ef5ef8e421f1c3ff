//! Handlers that are not registered any more leave the lines of their limits: nothing of them would start, however long the line is.
//!
//! *Race: a handler gets into a line just when its registration ends.* Whoever ends it does that first, and then looks at all that was set
//! aside; whoever stands in line notes the event as set aside first, and then looks whether the handler is still registered.

use crate::bus::core::BusCore;
use crate::bus::permits::limits::{in_line, token_of};
use crate::event::{AnyEvent, DeliveryPhase, Placed, State};
use crate::sync::Granted;
use crate::sys::unwind;
use std::sync::Arc;

impl BusCore {
    /// With nothing locked, after a registration with a limit has ended.
    pub(crate) fn leaves_lines(self: &Arc<Self>) {
        for event in self.set_aside() {
            self.leaves_lines_of(&event);
            unwind::drop_quietly(event);
        }
    }

    /// Invocations that stand in line in vain are put back among those that may start: whoever comes to them there skips them.
    pub(crate) fn leaves_lines_of(self: &Arc<Self>, event: &AnyEvent) {
        let in_vain: Vec<_> = {
            let state = event.state().lock();
            let of = in_line(&state).filter(|placed| self.is_in_vain(&state, placed));
            of.map(|placed| (placed.delivery, placed.invocation, Arc::clone(&placed.group))).collect()
        };
        for (delivery, invocation, group) in in_vain {
            let token = token_of(event, delivery, invocation);
            // None: its turn has come just now, and it is skipped there.
            let Some(turn) = group.step(|cap| (cap.leave_line(token), Granted::new())) else { continue };
            let timer = {
                let mut state = event.state().lock();
                if let Some(delivery) = state.deliveries.get_mut(delivery) {
                    delivery.retry(invocation, 0);
                }
                let mut limits = state.links().limits.iter_mut();
                let own = limits.find(|placed| placed.delivery == delivery && placed.invocation == invocation);
                own.and_then(|placed| placed.timer.take())
            };
            if let Some(timer) = timer {
                self.runtime.watch.cancel(timer);
            }
            unwind::drop_quietly(turn);
            self.delivery(event, delivery).submit_resume();
        }
    }

    fn is_in_vain(&self, state: &State, placed: &Placed) -> bool {
        state.deliveries.get(placed.delivery).is_some_and(|delivery| {
            let Some(slot) = delivery.slot() else { return false };
            let is_off = slot.handlers.get(placed.invocation).is_some_and(|h| !h.entry.info.is_registered());
            let untried = delivery.records.get(placed.invocation).is_some_and(|record| record.attempt == 0);
            delivery.bus.id == self.identity.id && delivery.phase == DeliveryPhase::Active && is_off && untried
        })
    }
}
