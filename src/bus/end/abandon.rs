//! A thread whose handler was given up: it is rung, and where it stands still, the pool goes on without it.

use crate::bus::core::BusCore;
use crate::bus::end::in_words;
use crate::event::HandlerInfo;
use crate::runtime::Slot;
use crate::sys::clock::{self, Tick};
use crate::sys::logging;
use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// The worker is rung; and if the handler at the bottom of its stack was given up, the pool has room for another.
pub(crate) fn give_up_worker(bus: &Arc<BusCore>, id: u64) {
    let Some(worker) = bus.runtime.pool.worker(id) else { return };
    let pool = &bus.runtime.pool;
    let mut abandoned = false;
    let slots = worker.slots();
    // Nothing is logged about what a logger has emitted; not that the worker comes back, either.
    // And a thread that waits for a process comes back as soon as that is ended, which happens now.
    let at_process = in_words::is_at_a_process(&bus.runtime, id);
    let tells = !at_process && slots.first().is_none_or(|slot| !slot.event.head().is_from_logger());
    worker.if_bottom_is_dead(|| {
        abandoned = pool.abandon(&worker);
        worker.tells_return.store(abandoned && tells, Ordering::Relaxed);
    });
    worker.bell.ring();
    if abandoned && tells {
        let now = clock::now();
        logging::later!(Warn, move || {
            format!("worker {} ({id}) is abandoned: {}", worker.name, describe_stack(&slots, now))
        });
    }
}

pub(crate) fn handler_of(slot: &Slot) -> Option<HandlerInfo> {
    let state = slot.event.state().lock();
    state.deliveries.get(slot.delivery)?.handler(slot.running.invocation).cloned()
}

/// The handlers on a worker's stack, bottom first, in words.
fn describe_stack(slots: &[Slot], now: Tick) -> String {
    let mut text: Vec<String> = Vec::new();
    for slot in slots.iter().take(8) {
        let handler = handler_of(slot).map_or_else(|| "?".to_owned(), |info| info.label());
        let age = Duration::from_nanos(now.saturating_sub(slot.running.since));
        text.push(format!("{handler} on {} for {age:.1?}", slot.event));
    }
    if slots.len() > 8 {
        text.push(format!("and {} more above", slots.len() - 8));
    }
    text.join(", above it ")
}
