//! `first()`: what is left after a value is given up, whenever somebody asks for that.

use crate::bus::core::BusCore;
use crate::bus::ending::{drive_on, end_losers};
use crate::event::{AnyEvent, BusIdentity, CauseKind, Delivery, DeliveryPhase, Outcome};
use crate::sys::planted;
use smallvec::SmallVec;
use std::sync::Arc;

/// From now on the first value on each of its buses ends what is left there; where there is one already, this does.
pub(crate) fn ends_with_first_value(event: &AnyEvent) {
    let mut won: SmallVec<[(Arc<BusIdentity>, usize, usize); 1]> = SmallVec::new();
    {
        let mut state = event.state().lock();
        // For the buses that have not claimed it, or have just done so.
        state.wants_first = true;
        let mut at = 0;
        while let Some(delivery) = state.deliveries.get_mut(at) {
            if delivery.phase == DeliveryPhase::Active && !planted("first_spares_what_started") {
                delivery.manner.first = true;
                let late = delivery.left > 0 && !planted("first_comes_after_the_value");
                let winner = if late { winner_of(delivery) } else { None };
                won.extend(winner.map(|winner| (Arc::clone(&delivery.bus), at, winner)));
            }
            at += 1;
        }
    }
    for (identity, delivery, winner) in won {
        // What a bus that is gone had, its end has ended.
        let Some(bus) = BusCore::of(&identity) else { continue };
        end_losers(&bus, event, delivery, winner, CauseKind::LostFirst);
        // No thread may be at it, or only one of a loser's.
        drive_on(&bus, event, delivery);
    }
}

/// The handler with the earliest value.
fn winner_of(delivery: &Delivery) -> Option<usize> {
    let values = delivery.records.iter().enumerate().filter(|(_, r)| matches!(r.outcome, Outcome::Value(_)));
    values.min_by_key(|(_, record)| record.ended).map(|(at, _)| at)
}
