//! A thread comes to a delivery that was claimed: with its turn, or as a helper.

use crate::bus::core::delivery::DeliveryRef;
use crate::bus::run::drive::advance;
use crate::bus::run::driver::Via;
use crate::bus::run::start::needs_permit;
use crate::event::{Delivery, DeliveryPhase, TurnKind};
use crate::runtime::Worker;
use crate::sync::Position;
use crate::sys::clock::{self, Tick};
use crate::sys::thread;
use std::sync::Arc;

/// Drives a delivery on, with its turn, or queues for that.
pub(crate) fn resume(delivery: DeliveryRef<'_>, worker: &Arc<Worker>) {
    let (has_work, waits_on) = {
        let mut state = delivery.event.state().lock();
        delivery.in_state_mut(&mut state).map_or((false, false), |d| {
            let next = d.startable();
            let has_work = d.phase == DeliveryPhase::Active && (!d.is_fixed() || d.left == 0 || next.is_some());
            (has_work, next.is_none_or(|next| needs_more(d, next)))
        })
    };
    if has_work && delivery.ensure_turn(Position::Front) {
        if !waits_on {
            delivery.wait_ends();
        }
        advance(delivery, worker, Via::Job);
    }
    if delivery.is_active() {
        // The turn may have come while all its handlers wait for what needs it set down.
        delivery.set_down_if_all_wait();
        if delivery.bus.has_limits() {
            delivery.set_down_in_line();
        }
    } else {
        // Or after the delivery's end, which found nothing to release.
        let turn = delivery.read(|d| d.manner.turn).unwrap_or(TurnKind::Free);
        delivery.release(turn);
    }
}

/// A place under a limit, or a permit of its own.
fn needs_more(delivery: &Delivery, invocation: usize) -> bool {
    let Some(handler) = delivery.slot().and_then(|slot| slot.handlers.get(invocation)) else { return true };
    let record = &delivery.records[invocation];
    handler.limited && !record.placed || needs_permit(record.mode, delivery.manner)
}

/// One more thread comes to the parallel handlers of a delivery.
pub(crate) fn help(delivery: DeliveryRef<'_>, worker: &Arc<Worker>) {
    if delivery.bus.is_pooled() {
        stay_out_of_the_way(delivery);
    }
    if let Some(d) = delivery.in_state_mut(&mut delivery.event.state().lock()) {
        d.helpers = d.helpers.saturating_sub(1);
    }
    resume(delivery, worker);
}

/// While handlers end faster than two threads can take turns in claiming them, a second one only holds up the first. One that blocks or
/// computes is noticed with the next look.
fn stay_out_of_the_way(delivery: DeliveryRef<'_>) {
    const APART: Tick = 2_000;
    const QUICK: u32 = 5;
    if thread::cores() < 2 || cfg!(threadbus_shuttle) {
        return;
    }
    let left = || {
        let mut state = delivery.event.state().lock();
        let delivery = delivery.in_state_mut(&mut state)?;
        delivery.startable().map(|_| delivery.left)
    };
    let mut before = left();
    loop {
        let until = clock::now() + APART;
        while clock::now() < until {
            std::hint::spin_loop();
        }
        let now = left();
        match (before, now) {
            (Some(before), Some(now))
                if before.saturating_sub(now) >= QUICK && !delivery.bus.runtime.pool.is_pressed() => {}
            _ => return,
        }
        before = now;
    }
}
