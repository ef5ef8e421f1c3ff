//! A delivery gives its permits up while nothing of it runs.

use crate::bus::core::delivery::DeliveryRef;
use crate::bus::core::permit::Permit;
use crate::bus::thread::frame::Holding;
use crate::event::{DeliveryPhase, RecordPhase};
use crate::runtime::PermitKind;
use crate::sync::Granted;

impl DeliveryRef<'_> {
    /// When the last handler of a delivery that still ran beside suspended ones is gone, the delivery's permits are given up like theirs.
    pub(crate) fn set_down_if_all_wait(self) {
        let (bus, token) = (self.bus, self.token());
        let turn = self.read(|d| d.manner.turn);
        let home = turn.and_then(|turn| bus.turn_home(turn)).unwrap_or_else(|| bus.home());
        for permit in [Permit { home, kind: PermitKind::Event }, Permit { home: bus.home(), kind: PermitKind::Handler }]
        {
            permit.step(|s| {
                let all_wait = self.read(|d| {
                    d.phase == DeliveryPhase::Active
                        && d.records.iter().any(|r| r.phase == RecordPhase::Started)
                        && d.records.iter().all(|r| r.phase != RecordPhase::Started || r.has_set_down)
                });
                ((), if all_wait == Some(true) { s.set_down(token) } else { Granted::new() })
            });
        }
    }

    /// While nothing of a delivery runs but what waits, and some of it stands in a line, its permits are given up as in a wait.
    pub(crate) fn set_down_in_line(self) {
        let Some(manner) = self.read(|d| d.manner) else { return };
        let token = self.token();
        let permits: Vec<_> = Holding::of(manner).permits(self.bus).collect();
        for permit in permits.into_iter().rev() {
            permit.step(|s| {
                let in_line = {
                    let state = self.event.state().lock();
                    self.in_state(&state).is_some_and(|d| {
                        let waits = |at: usize| {
                            let placed =
                                d.records.get(at).is_some_and(|r| !r.placed && r.phase == RecordPhase::Delayed);
                            placed && state.limits().iter().any(|p| p.delivery == self.index && p.invocation == at)
                        };
                        d.phase == DeliveryPhase::Active
                            && d.records.iter().all(|r| r.phase != RecordPhase::Started || r.has_set_down)
                            && (0..d.records.len()).any(waits)
                    })
                };
                ((), if in_line { s.set_down(token) } else { Granted::new() })
            });
        }
    }
}
