//! The permits of a whole delivery: getting them back, giving them up, and the jobs that go on with it.

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::bus::core::permit::{Home, Permit, Request, Taken};
use crate::bus::thread::frame::Holding;
use crate::event::{Delivery, DeliveryPhase, RecordPhase, TurnKind};
use crate::runtime::{GoOn, Needs, PermitKind, RuntimeCore, hand_over};
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
            bus.delivery(&event, delivery).release(turn);
        }
    }
}

impl DeliveryRef<'_> {
    /// Releases its own permits, of which one may be a turn of that kind.
    pub(crate) fn release(self, turn: TurnKind) {
        release_delivery(self.bus, self.token(), turn);
    }

    /// A job drives it on.
    pub(crate) fn submit_resume(self) {
        if !self.bus.is_pooled() {
            // It may be long before its pump thread comes.
            self.note_set_aside();
        }
        self.bus.runtime.pool.submit_granted(self.job(GoOn::Resume));
    }

    /// So does this thread, if it is about to be through with its own delivery.
    pub(crate) fn submit_resume_next(self) {
        if !self.bus.is_pooled() {
            return self.submit_resume();
        }
        self.bus.runtime.pool.submit_next(self.job(GoOn::Resume));
    }

    /// True if it holds all that its handlers run under. False: it is in line, and a job drives on when its turn comes; or it is over.
    pub(crate) fn ensure_turn(self, position: Position) -> bool {
        let active = |d: &Delivery| (d.phase == DeliveryPhase::Active).then(|| (d.manner, d.lender()));
        let Some((manner, under)) = self.read(active).flatten() else { return false };
        let token = self.token();
        let permits: SmallVec<[Permit; 2]> = Holding::of(manner).permits(self.bus).collect();
        if let [turn, handler] = &permits[..]
            && !turn.step(|s| (s.holds(token), Granted::new()))
        {
            // Its handler was given up between setting down the one and the other. Nobody stands in line for a turn with a handler permit.
            handler.step(|s| ((), s.set_down(token)));
        }
        for permit in permits {
            let request = Request { position, token, under, rank: self.bus.rank(self.event) };
            match permit.take_or_queue(request, || self.is_active(), || self.job(GoOn::Resume)) {
                Taken::Now => {}
                Taken::Later => {
                    self.note_set_aside();
                    return false;
                }
                Taken::Dead => {
                    // Its end may have come between two permits, when there was nothing to release.
                    self.release(manner.turn);
                    return false;
                }
            }
        }
        true
    }
}
