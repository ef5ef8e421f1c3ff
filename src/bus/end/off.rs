//! Handlers that are not registered any more leave the lines of their limits: nothing of them would start, however long the line is.
//!
//! *Race: a handler gets into a line just when its registration ends.* Whoever ends it does that first, and then looks at all that was set
//! aside; whoever stands in line notes the event as set aside first, and then looks whether the handler is still registered.

use crate::bus::core::BusCore;
use crate::bus::middleware::tell;
use crate::bus::permits::limits::{in_line, settle, token_of};
use crate::event::{
    AnyEvent, Cause, CauseKind, Delivery, DeliveryPhase, HandlerEntry, HandlerFailure, HandlerInfo, Outcome, Placed,
    RecordPhase, State,
};
use crate::sync::Granted;
use crate::sys::{clock, unwind};
use std::sync::Arc;

/// What becomes of an invocation whose handler was taken off before it started.
pub(crate) fn off(event: &AnyEvent, handler: &HandlerInfo) -> HandlerFailure {
    let cause = Cause::new(CauseKind::Off, event.head().id(), event.event_type());
    HandlerFailure::Cancelled { cause: cause.with_handler(handler.id(), handler.label()) }
}

impl BusCore {
    /// With nothing locked, after these registrations have ended.
    pub(crate) fn leave_lines(self: &Arc<Self>, gone: &[Arc<HandlerEntry>]) {
        let has_line = |handler: &Arc<HandlerEntry>| {
            handler.limit.as_ref().is_some_and(|group| group.step(|cap| (cap.has_line(), Granted::new())))
        };
        // Whoever stands there after this look finds that the handler is off.
        if !gone.iter().any(has_line) {
            return;
        }
        for event in self.set_aside() {
            self.leaves_lines_of(&event);
            unwind::drop_quietly(event);
        }
    }

    /// Invocations that stand in line in vain end.
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
            unwind::drop_quietly(turn);
            let left = {
                let mut state = event.state().lock();
                let waits = |d: &&mut Delivery| {
                    d.phase == DeliveryPhase::Active && d.records[invocation].phase == RecordPhase::Delayed
                };
                let Some(delivery) = state.deliveries.get_mut(delivery).filter(waits) else { continue };
                let Some(failure) = delivery.handler(invocation).map(|handler| off(event, handler)) else { continue };
                delivery.end_record(invocation, Outcome::Failed(Arc::new(failure)), clock::now());
                delivery.left
            };
            settle(&self.runtime, event);
            if left == 0 {
                self.delivery(event, delivery).drive_on();
                tell::deliver(self, event);
            } else {
                self.delivery(event, delivery).submit_resume();
            }
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
