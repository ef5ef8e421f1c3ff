//! A delivery gives its permits up while nothing of it runs.

use crate::bus::core::BusCore;
use crate::bus::core::permit::{Permit, delivery_token};
use crate::bus::thread::frame::Holding;
use crate::event::{AnyEvent, DeliveryPhase, RecordPhase};
use crate::runtime::PermitKind;
use crate::sync::Granted;
use std::sync::Arc;

/// When the last handler of a delivery that still ran beside suspended ones is gone, the delivery's permits are given up like theirs.
pub(crate) fn give_up_if_all_sit(bus: &Arc<BusCore>, event: &AnyEvent, index: usize) {
    let token = delivery_token(event, index);
    let turn = event.state().lock().deliveries.get(index).map(|d| d.manner.turn);
    let home = turn.and_then(|turn| bus.turn_home(turn)).unwrap_or_else(|| bus.home());
    for permit in [Permit { home, kind: PermitKind::Event }, Permit { home: bus.home(), kind: PermitKind::Handler }] {
        permit.step(|s| {
            let state = event.state().lock();
            let all_sit = state.deliveries.get(index).is_some_and(|d| {
                d.phase == DeliveryPhase::Active
                    && d.records.iter().any(|r| r.phase == RecordPhase::Started)
                    && d.records.iter().all(|r| r.phase != RecordPhase::Started || r.sitting)
            });
            drop(state);
            ((), if all_sit { s.set_down(token) } else { Granted::new() })
        });
    }
}

/// While nothing of a delivery runs but what sits in a wait, and some of it stands in a line, its permits are given up as in a wait.
pub(crate) fn set_down_in_line(bus: &Arc<BusCore>, event: &AnyEvent, index: usize) {
    let Some(manner) = event.state().lock().deliveries.get(index).map(|d| d.manner) else { return };
    let token = delivery_token(event, index);
    let permits: Vec<_> = Holding::of(manner).permits(bus).collect();
    for permit in permits.into_iter().rev() {
        permit.step(|s| {
            let in_line = {
                let state = event.state().lock();
                state.deliveries.get(index).is_some_and(|d| {
                    let waits = |at: usize| {
                        let placed = d.records.get(at).is_some_and(|r| !r.placed && r.phase == RecordPhase::Delayed);
                        placed && state.limits().iter().any(|p| p.delivery == index && p.invocation == at)
                    };
                    d.phase == DeliveryPhase::Active
                        && d.records.iter().all(|r| r.phase != RecordPhase::Started || r.sitting)
                        && (0..d.records.len()).any(waits)
                })
            };
            ((), if in_line { s.set_down(token) } else { Granted::new() })
        });
    }
}
