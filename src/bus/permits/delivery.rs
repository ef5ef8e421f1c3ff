//! The permits of a whole delivery: getting them back, giving them up, and the jobs that go on with it.

use crate::bus::core::BusCore;
use crate::bus::core::permit::{Home, Permit, Taken, delivery_token, is_active};
use crate::bus::thread::frame::Holding;
use crate::event::{AnyEvent, Delivery, DeliveryPhase, RecordPhase, TurnKind};
use crate::runtime::{GoOn, Job, Needs, PermitKind, RuntimeCore, hand_over};
use crate::sync::{Granted, Position, Token};
use smallvec::SmallVec;
use std::sync::Arc;

/// Releases a delivery's own permits.
pub(crate) fn release_delivery(bus: &Arc<BusCore>, token: Token, turn: TurnKind) {
    let mut run = bus.run.lock();
    let mut granted = run.handler.release(token);
    granted.extend(run.event.release(token));
    let wake = run.takes_loop_up();
    drop(run);
    hand_over(&bus.runtime.pool, granted);
    if wake {
        bus.submit_loop();
    }
    if turn == TurnKind::Global {
        Permit { home: Home::Runtime(Arc::clone(&bus.runtime)), kind: PermitKind::Event }.release(token);
    }
}

/// A job that drives a delivery on.
pub(crate) fn resume_job(bus: &Arc<BusCore>, event: &AnyEvent, delivery: usize) -> Job {
    bus.job(event, delivery, GoOn::Resume)
}

pub(crate) fn submit_resume(bus: &Arc<BusCore>, event: &AnyEvent, delivery: usize) {
    if bus.manual.is_some() {
        // It may be long before its pump thread comes.
        bus.note_set_aside(event, delivery);
    }
    bus.runtime.pool.submit_granted(resume_job(bus, event, delivery));
}

/// The turns of deliveries that have not begun, and for which no thread comes, go back to whoever waited for them and goes on without. Their
/// jobs ask again.
pub(crate) fn give_back_grants(runtime: &RuntimeCore, needs: &Needs) {
    for (event, delivery) in runtime.pool.granted_deliveries(needs) {
        let granted = {
            let state = event.state().lock();
            let unbegun = |d: &&Delivery| {
                d.phase == DeliveryPhase::Active && d.records.iter().all(|r| r.phase == RecordPhase::Pending)
            };
            state.deliveries.get(delivery).filter(unbegun).map(|d| (Arc::clone(&d.bus), d.manner.turn))
        };
        if let Some((identity, turn)) = granted
            && let Some(bus) = BusCore::of(&identity)
        {
            release_delivery(&bus, delivery_token(&event, delivery), turn);
        }
    }
}

/// True if the delivery holds all that its handlers run under. False: it is in line, and a job drives on when its turn comes; or it is over.
pub(crate) fn ensure_turn(bus: &Arc<BusCore>, event: &AnyEvent, delivery: usize, position: Position) -> bool {
    let (manner, under) = match event.state().lock().deliveries.get(delivery) {
        Some(d) if d.phase == DeliveryPhase::Active => (d.manner, d.lender()),
        _ => return false,
    };
    let token = delivery_token(event, delivery);
    let permits: SmallVec<[Permit; 2]> = Holding::of(manner).permits(bus).collect();
    if let [turn, handler] = &permits[..]
        && !turn.step(|s| (s.holds(token), Granted::new()))
    {
        // Its handler was given up between setting down the one and the other. Nobody stands in line for a turn with a handler permit.
        handler.step(|s| ((), s.set_down(token)));
    }
    for permit in permits {
        let job = || resume_job(bus, event, delivery);
        match permit.take_or_queue(position, token, under, bus.rank(event), || is_active(event, delivery), job) {
            Taken::Now => {}
            Taken::Later => {
                bus.note_set_aside(event, delivery);
                return false;
            }
            Taken::Dead => {
                // Its end may have come between two permits, when there was nothing to release.
                release_delivery(bus, token, manner.turn);
                return false;
            }
        }
    }
    true
}
