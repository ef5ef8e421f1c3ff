//! The ends of a bus: its last handle goes, and then the bus itself.

use crate::bus::core::letters::drop_gone;
use crate::bus::core::seldom::tell_gone;
use crate::bus::core::{Alive, BusCore, Doors, Entry};
use crate::bus::end::cancel::end_unclaimed;
use crate::bus::read::worker_local::forget_handlers;
use crate::sys::unwind;
use std::sync::Arc;

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.last_handle_is_gone();
        }
    }
}

impl BusCore {
    fn last_handle_is_gone(self: &Arc<Self>) {
        // Nobody can resume it any more.
        self.close_doors(Doors::Draining);
        self.ends_pause();
        self.end_forwards();
        self.tell_the_rest();
        self.cancel_what_nobody_pumps();
    }
}

impl Drop for BusCore {
    fn drop(&mut self) {
        self.runtime.remove_bus(&self.identity);
        self.runtime.pool.close_lane(self.lane);
        self.outbox.close();
        self.end_lingering();
        // Entries hold the event, not the bus: what is left here was never claimed.
        let mut left = Vec::new();
        let run = self.run.get_mut();
        while let Some(entry) = run.lanes.pop().or_else(|| run.free.pop()) {
            left.push(entry);
        }
        while let Ok(entry) = self.arrivals.try_recv() {
            left.push(entry);
        }
        let gone = left.iter().filter(|Entry { event, delivery, .. }| {
            end_unclaimed(event, *delivery as usize, &self.identity.label) && !event.head().is_from_logger()
        });
        tell_gone(&self.identity.label, gone.count());
        unwind::drop_each(left);
        std::mem::take(&mut self.inlet.get_mut().observers).close();
        unwind::drop_each(self.inlet.get_mut().history.clear());
        drop_gone(self.dead_letters.get_mut().clear());
        self.upcasters.clear();
        let handlers = self.registry.close();
        forget_handlers(self, &handlers);
        unwind::drop_each(handlers);
        unwind::drop_each(std::mem::take(&mut self.middlewares).0);
    }
}
