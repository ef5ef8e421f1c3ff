//! Running a delivery on the stack of the thread that claimed it for itself: of a handler that waits, or of a caller of `emit_now`.

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::bus::core::permit::Permit;
use crate::bus::parts::for_event::mode_for;
use crate::bus::permits::hand;
use crate::bus::run::drive::advance_inline;
use crate::bus::thread::frame::{self, Grip};
use crate::event::{AnyEvent, HandlerMode, Manner, Plan, TypeSlot};
use crate::runtime::{PermitKind, Worker};
use crate::sync::{Position, Token};
use smallvec::SmallVec;
use std::sync::Arc;

pub(crate) fn manner(plan: Plan, inline: bool) -> Manner {
    let bus_handler = plan.bus_handler;
    Manner { turn: plan.turn, bus_handler, first: plan.first, jumped: true, inline, ..Manner::PLAIN }
}

/// Which delivery on this thread's stack could lend the turn.
pub(crate) fn lender(bus: &Arc<BusCore>, plan: Plan) -> Option<Token> {
    let home = bus.turn_home(plan.turn)?;
    hand::lender(&Permit { home, kind: PermitKind::Event })
}

/// Some of its handlers may run on other threads at the same time.
pub(crate) fn is_parallel(bus: &BusCore, event: &AnyEvent, slot: &TypeSlot) -> bool {
    let own = event.head().options();
    let count = slot.handlers.len();
    count > 1 && (0..count).any(|at| mode_for(own, slot, at, &bus.defaults) == HandlerMode::Parallel)
}

/// Runs a claimed delivery on this stack, under lent permits where they are in hand, else under its own.
pub(crate) fn run_here(delivery: DeliveryRef<'_>, worker: &Arc<Worker>, plan: Plan, parallel: bool) {
    let hand = hand::hand_len();
    let (bus, token) = (delivery.bus, delivery.token());
    let turn = bus.turn_home(plan.turn).map(|home| Permit { home, kind: PermitKind::Event });
    let handler = plan.bus_handler.then(|| Permit { home: bus.home(), kind: PermitKind::Handler });
    let needed: SmallVec<[Permit; 2]> = turn.into_iter().chain(handler).collect();
    let lent: Option<SmallVec<[usize; 2]>> = if parallel { None } else { needed.iter().map(hand::lendable).collect() };
    let same_bus = frame::top().is_none_or(|frame| Arc::ptr_eq(&frame.bus, bus));
    match lent {
        Some(lent) if same_bus || needed.is_empty() => {
            if !same_bus {
                hand::set_down_all();
            }
            advance_inline(delivery, worker, lent);
        }
        _ => {
            // What it borrows must stay where it is; with nothing to borrow, nothing is kept while in line.
            let borrows = delivery.read(|d| d.lender().is_some()) == Some(true);
            let lent_from: SmallVec<[usize; 2]> = needed.iter().filter_map(hand::held).collect();
            hand::set_down_all_but(if borrows { &lent_from } else { &[] });
            let mut grips = SmallVec::new();
            for permit in needed {
                let live = || delivery.is_active();
                let under = hand::lender(&permit);
                if !permit.stand(worker, Position::Front, token, under, live) {
                    hand::cut_hand(hand);
                    return delivery.release(plan.turn);
                }
                grips.push(hand::put_in_hand(Grip { shared: parallel, ..delivery.hold_by(permit, token) }));
            }
            advance_inline(delivery, worker, grips);
        }
    }
    hand::cut_hand(hand);
    if !delivery.is_active() {
        delivery.release(plan.turn);
    }
}
