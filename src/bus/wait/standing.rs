//! What the handlers of a thread keep from starting, and what a queue waits for.

use crate::bus::core::BusCore;
use crate::bus::core::permit::delivery_token;
use crate::bus::permits::limits;
use crate::bus::thread::frame;
use crate::event::{AnyEvent, BusId, BusIdentity, Delivery, DeliveryPhase, Placed, TurnKind};
use crate::runtime::RuntimeCore;
use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;

/// What a thread's handlers keep from starting until they end.
#[derive(Default)]
pub(crate) struct Standing {
    /// Buses whose loop, or turn, is with one of them.
    buses: Vec<BusId>,
    /// The events they handle; jumps of these may keep other buses waiting.
    stamps: Vec<u64>,
    /// One of them has the runtime's event permit, or will take it back.
    global: bool,
}

impl Standing {
    pub(crate) fn of_this_thread() -> Standing {
        let frames = frame::local(|local| local.frames.clone()).unwrap_or_default();
        Standing::of(frames.iter().map(|f| (&f.event, f.delivery)))
    }

    pub(crate) fn of<'a>(handled: impl Iterator<Item = (&'a AnyEvent, usize)>) -> Standing {
        let mut standing = Standing::default();
        for (event, delivery) in handled {
            standing.stamps.push(event.head().stamp());
            let state = event.state().lock();
            let Some(delivery) = state.deliveries.get(delivery).filter(|d| d.phase == DeliveryPhase::Active) else {
                continue;
            };
            match delivery.manner.turn {
                TurnKind::Free => {}
                TurnKind::Bus => standing.buses.push(delivery.bus.id),
                TurnKind::Global => {
                    standing.buses.push(delivery.bus.id);
                    standing.global = true;
                }
            }
        }
        standing
    }

    pub(crate) fn keeps(&self, queue: &Queue) -> bool {
        self.buses.contains(&queue.bus.id)
            || self.global && queue.global
            || queue.jumps.iter().any(|stamp| self.stamps.contains(stamp))
    }
}

/// What a queued delivery depends on.
pub(crate) struct Queue {
    pub(crate) bus: Arc<BusIdentity>,
    /// It, or what is before it, needs the runtime's event permit.
    global: bool,
    jumps: Vec<u64>,
}

impl Queue {
    pub(crate) fn of(bus: &Arc<BusIdentity>, turn: TurnKind) -> Queue {
        let (mut global, mut jumps) = (turn == TurnKind::Global, Vec::new());
        if let Some(core) = BusCore::of(bus) {
            let run = core.run.lock();
            global |= run.loop_in_global_line;
            jumps.extend(run.jumps.iter().map(|t| t.stamp));
        }
        Queue { bus: Arc::clone(bus), global, jumps }
    }

    /// The deliveries that have started and keep it waiting, standing in line for a place under a limit. Global turns keep all buses waiting.
    pub(crate) fn in_line(&self, runtime: &RuntimeCore) -> Vec<(AnyEvent, usize)> {
        if !runtime.has_limits.load(Ordering::Relaxed) {
            return Vec::new();
        }
        // Let go of after the locks: one may be the last hold of its bus.
        let cores: Vec<Arc<BusCore>> =
            if self.global { BusCore::all_of(runtime) } else { BusCore::of(&self.bus).into_iter().collect() };
        let mut found = Vec::new();
        for core in &cores {
            for event in core.set_aside() {
                let stand: Vec<(usize, bool)> = {
                    let state = event.state().lock();
                    let here = |d: &&Delivery| d.phase == DeliveryPhase::Active && d.bus.id == core.identity.id;
                    let delivery = |placed: &Placed| {
                        let delivery = state.deliveries.get(placed.delivery).filter(here)?;
                        Some((placed.delivery, delivery.manner.carries_loop))
                    };
                    limits::in_line(&state).filter_map(delivery).collect()
                };
                for (delivery, carries_loop) in stand {
                    // One that was lent its turn may have none by now.
                    let token = delivery_token(&event, delivery);
                    let keeps = core.identity.id == self.bus.id && (carries_loop || core.run.lock().event.keeps(token));
                    if keeps || self.global && runtime.global.lock().event.keeps(token) {
                        found.push((event.clone(), delivery));
                    }
                }
            }
        }
        found
    }
}
