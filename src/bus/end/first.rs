//! The first value of an event ends what is left of it, whenever somebody asks for that.

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::bus::end::cancel::{Ending, cascade, end_records};
use crate::bus::end::duties::{Duties, GivenUp};
use crate::event::{AnyEvent, BusIdentity, Cause, CauseKind, Delivery, DeliveryPhase, HandlerFailure, Outcome};
use crate::sys::{clock, planted};
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
    for (identity, index, winner) in won {
        // What a bus that is gone had, its end has ended.
        let Some(bus) = BusCore::of(&identity) else { continue };
        let delivery = bus.delivery(event, index);
        delivery.end_losers(winner);
        // No thread may be at it, or only one of a loser's.
        delivery.drive_on();
    }
}

/// The handler with the earliest value.
fn winner_of(delivery: &Delivery) -> Option<usize> {
    let values = delivery.records.iter().enumerate().filter(|(_, r)| matches!(r.outcome, Outcome::Value(_)));
    values.min_by_key(|(_, record)| record.ended).map(|(at, _)| at)
}

impl DeliveryRef<'_> {
    /// `First` has its winner: the rest is cancelled or abandoned.
    pub(crate) fn end_losers(self, winner: usize) {
        let DeliveryRef { bus, event, index } = self;
        let at = clock::now();
        let cause;
        let given_up;
        {
            let mut state = event.state().lock();
            let Some(delivery) = self.in_state_mut(&mut state) else { return };
            if delivery.phase != DeliveryPhase::Active {
                return;
            }
            let Some(handler) = delivery.handler(winner).cloned() else { return };
            cause = Cause::new(CauseKind::LostFirst, event.head().id(), event.body().event_type())
                .with_handler(handler.id(), handler.label());
            let ending = Ending { cause: &cause, at };
            let losers =
                end_records(delivery, index, Some(bus), ending, || HandlerFailure::Cancelled { cause: cause.clone() });
            given_up = GivenUp::of(&mut state, losers);
        }
        for (key, _) in given_up.iter().flat_map(|given_up| &given_up.attempts) {
            cascade(event, index, Some(key.invocation), &cause);
        }
        Duties { given_up, limits: true, ..Duties::default() }.carry_out(self);
    }
}
