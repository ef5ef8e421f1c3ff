//! The commonest wait inside a handler, without detours: for a child that this handler emitted on its own serial bus, and that nobody has
//! touched since. Everything else is `jump`'s, which this one only anticipates.

use crate::bus::core::type_memo;
use crate::bus::parts::for_event::{mode_for, plan_for, timing_for};
use crate::bus::parts::recorder::By;
use crate::bus::run::drive::drive_begun;
use crate::bus::run::driver::After;
use crate::bus::run::start::{Permits, Start};
use crate::bus::thread::frame::{self, Lent, Under};
use crate::bus::wait::told;
use crate::event::{AnyEvent, DeliveryPhase, HandlerMode, TypeSlot};
use crate::runtime::Worker;
use crate::sys::clock;
use crate::sys::unwind;
use std::sync::Arc;

/// True if the event has run to its end, and the handler that waits for it may go on. False: nothing was done, or not all.
pub(crate) fn run(event: &AnyEvent) -> bool {
    let Some(link) = &event.head().parent else { return false };
    let Some(lent) = frame::lend_all(link.id) else { return false };
    let Some(worker) = Worker::current().filter(|worker| !worker.is_deep()) else { return false };
    let bus = &lent.bus;
    let slot = type_memo::slot(bus, event);
    let depth = event.head().wait_depth().max(lent.wait_depth.saturating_add(1));
    if depth > bus.runtime.max_wait_depth {
        return false;
    }
    event.head().set_wait_depth(depth);
    let done = run_under(&lent, &worker, event, &slot);
    // It may be the last to know a handler that was removed meanwhile.
    unwind::drop_quietly(slot);
    if done {
        told::wait_told_by(bus, event);
    }
    done && frame::still_holds(&lent)
}

fn run_under(lent: &Lent, worker: &Arc<Worker>, event: &AnyEvent, slot: &Arc<TypeSlot>) -> bool {
    let bus = &lent.bus;
    let now = clock::now();
    let own = event.head().options();
    let ends_early = |at| now.saturating_add(timing_for(own, slot, at, &bus.defaults).timeout) < lent.deadline;
    let handlers = 0..slot.handlers.len();
    let parallel = handlers.len() > 1
        && handlers.clone().any(|at| mode_for(own, slot, at, &bus.defaults) == HandlerMode::Parallel);
    let plan = plan_for(event, slot, &bus.defaults);
    if plan.event_timeout.is_some() || parallel || handlers.into_iter().any(ends_early) {
        return false;
    }
    let start = Start { delivery: bus.delivery(event, 0), worker, slot, now };
    let begun = start.claim(
        || Arc::clone(slot),
        By::Anybody,
        |state| {
            let wants_first = state.wants_first;
            let delivery = state.deliveries.only_mut()?;
            let manner = &mut delivery.manner;
            let same = manner.turn == lent.holding.turn && plan.bus_handler == lent.holding.bus_handler;
            let plain = same && !manner.first && !wants_first;
            if delivery.phase != DeliveryPhase::Queued || !plain || !Arc::ptr_eq(&delivery.bus, &bus.identity) {
                return None;
            }
            manner.bus_handler = plan.bus_handler;
            manner.jumped = true;
            manner.inline = true;
            delivery.phase = DeliveryPhase::Active;
            delivery.set_lender(lent.lender);
            Some(Permits::Held)
        },
    );
    let Some(begun) = begun else { return false };
    start.delivery.leaves_queue();
    let after = drive_begun(start, &begun, Under::Hand(lent.grips.clone()));
    matches!(after, After::Done(_)) && event.is_complete()
}
