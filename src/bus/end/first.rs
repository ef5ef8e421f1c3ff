//! The first value of an event ends what is left of it, whenever somebody asks for that.

use crate::bus::core::BusCore;
use crate::bus::end::cancel::cascade;
use crate::bus::end::duties::{Duties, GivenUp};
use crate::bus::end::in_words;
use crate::bus::end::next_attempt::drive_on;
use crate::event::{
    AnyEvent, AttemptKey, BusIdentity, Cause, CauseKind, Delivery, DeliveryPhase, HandlerFailure, Outcome, RecordPhase,
    note_given_up,
};
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

/// `First` has its winner: the rest is cancelled or abandoned.
pub(crate) fn end_losers(bus: &Arc<BusCore>, event: &AnyEvent, index: usize, winner: usize, kind: CauseKind) {
    let at = clock::now();
    let mut losers = Vec::new();
    let cause;
    let given_up;
    {
        let mut state = event.state().lock();
        let Some(delivery) = state.deliveries.get_mut(index) else { return };
        if delivery.phase != DeliveryPhase::Active {
            return;
        }
        let Some(handler) = delivery.handler(winner).cloned() else { return };
        cause =
            Cause::new(kind, event.head().id(), event.body().event_type()).with_handler(handler.id(), handler.label());
        for invocation in 0..delivery.records.len() {
            let record = &delivery.records[invocation];
            let failure = match record.phase {
                RecordPhase::Ended => continue,
                RecordPhase::Pending if record.started == 0 => HandlerFailure::Cancelled { cause: cause.clone() },
                RecordPhase::Delayed if record.started == 0 => HandlerFailure::Cancelled { cause: cause.clone() },
                RecordPhase::Started => {
                    let detail = in_words::which_process(&bus.runtime, record.worker);
                    HandlerFailure::Aborted { cause: cause.clone().with_detail(detail) }
                }
                _ => HandlerFailure::Aborted { cause: cause.clone() },
            };
            if record.phase == RecordPhase::Started {
                note_given_up();
                losers.push((AttemptKey { delivery: index, invocation, attempt: record.attempt }, record.worker));
            }
            delivery.end_record(invocation, Outcome::Failed(Arc::new(failure)), at);
        }
        given_up = GivenUp::of(&mut state, losers);
    }
    for (key, _) in given_up.iter().flat_map(|given_up| &given_up.attempts) {
        cascade(event, index, Some(key.invocation), &cause);
    }
    Duties { given_up, limits: true, ..Duties::default() }.carry_out(bus, event, index);
}
