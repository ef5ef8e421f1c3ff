//! A thread comes to a delivery that was claimed: with its turn, or as a helper.

use crate::bus::core::BusCore;
use crate::bus::core::permit::{delivery_token, is_active};
use crate::bus::permits::delivery::{ensure_turn, release_delivery};
use crate::bus::permits::set_down::{give_up_if_all_sit, set_down_in_line};
use crate::bus::run::drive::advance;
use crate::bus::run::driver::Via;
use crate::bus::run::start::needs_permit;
use crate::event::{AnyEvent, Delivery, DeliveryPhase, TurnKind};
use crate::runtime::Worker;
use crate::sync::Position;
use crate::sys::clock::{self, Tick};
use crate::sys::thread;
use std::sync::Arc;

/// Drives a delivery on, with its turn, or queues for that.
pub(crate) fn resume(bus: &Arc<BusCore>, worker: &Arc<Worker>, event: &AnyEvent, delivery: usize) {
    let (has_work, waits_on) = {
        let mut state = event.state().lock();
        state.deliveries.get_mut(delivery).map_or((false, false), |d| {
            let next = d.startable();
            let has_work = d.phase == DeliveryPhase::Active && (!d.is_fixed() || d.left == 0 || next.is_some());
            (has_work, next.is_none_or(|next| needs_more(d, next)))
        })
    };
    if has_work && ensure_turn(bus, event, delivery, Position::Front) {
        if !waits_on {
            bus.wait_ends(event, delivery);
        }
        advance(bus, worker, event, delivery, Via::Job);
    }
    if is_active(event, delivery) {
        // The turn may have come while all its handlers sit in waits that need it given up.
        give_up_if_all_sit(bus, event, delivery);
        if bus.has_limits() {
            set_down_in_line(bus, event, delivery);
        }
    } else {
        // Or after the delivery's end, which found nothing to release.
        let turn = event.state().lock().deliveries.get(delivery).map_or(TurnKind::Free, |d| d.manner.turn);
        release_delivery(bus, delivery_token(event, delivery), turn);
    }
}

/// A place under a limit, or a permit of its own.
fn needs_more(delivery: &Delivery, invocation: usize) -> bool {
    let Some(handler) = delivery.slot().and_then(|slot| slot.handlers.get(invocation)) else { return true };
    let record = &delivery.records[invocation];
    handler.limited && !record.placed || needs_permit(record.mode, delivery.manner.bus_handler)
}

/// One more thread comes to the parallel handlers of a delivery.
pub(crate) fn help(bus: &Arc<BusCore>, worker: &Arc<Worker>, event: &AnyEvent, delivery: usize) {
    if bus.manual.is_none() {
        stay_out_of_the_way(bus, event, delivery);
    }
    if let Some(d) = event.state().lock().deliveries.get_mut(delivery) {
        d.helpers = d.helpers.saturating_sub(1);
    }
    resume(bus, worker, event, delivery);
}

/// While handlers end faster than two threads can take turns in claiming them, a second one only holds up the first. One that blocks or
/// computes is noticed with the next look.
fn stay_out_of_the_way(bus: &BusCore, event: &AnyEvent, delivery: usize) {
    const APART: Tick = 2_000;
    const QUICK: u32 = 5;
    if thread::cores() < 2 || cfg!(threadbus_shuttle) {
        return;
    }
    let left = || {
        let mut state = event.state().lock();
        let delivery = state.deliveries.get_mut(delivery)?;
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
            (Some(before), Some(now)) if before.saturating_sub(now) >= QUICK && !bus.runtime.pool.is_pressed() => {}
            _ => return,
        }
        before = now;
    }
}
