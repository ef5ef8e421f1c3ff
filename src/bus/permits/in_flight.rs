//! How many parallel events of a bus may be in flight: what is above that stays in the queue, in its order.
//!
//! Runners ask before each event. Whoever ends a delivery calls one if that has made room, and so does a handler that begins to wait for its
//! own bus to start something: it counts no more until it goes on. *Race: a runner finds no room and leaves just when a delivery ends.* The
//! runner looks under `run`; whoever ends the delivery counts first, and then looks under `run` whether something is queued.

use crate::bus::core::BusCore;
use crate::bus::thread::frame;
use crate::sys::planted;
use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;

impl BusCore {
    /// Under `run`: another parallel event may start.
    pub(crate) fn has_room_in_flight(&self) -> bool {
        self.options.max_in_flight.is_none_or(|max| self.running_count() < max)
    }

    fn running_count(&self) -> usize {
        // In this order what ends meanwhile is counted rather too often: who ends it looks again.
        let waiting = self.out_of_flight.load(Ordering::SeqCst);
        let done = self.counters.done();
        let in_flight = usize::try_from(self.counters.claimed().saturating_sub(done)).unwrap_or(usize::MAX);
        in_flight.saturating_sub(waiting)
    }

    /// With nothing locked: there may be room for what is queued.
    #[cold]
    pub(crate) fn start_more(&self) {
        if self.options.max_in_flight.is_none() || planted("room_in_flight_unseen") {
            return;
        }
        let startable = {
            let mut run = self.run.lock();
            self.fetch(&mut run);
            run.paused == 0 && run.free.len() > 0 && self.has_room_in_flight()
        };
        if startable && let Some(bus) = BusCore::of(&self.identity) {
            bus.submit_free();
        }
    }
}

/// The handlers of the calling thread wait for something that is queued, until this goes.
pub(crate) struct OutOfFlight(Vec<Arc<BusCore>>);

impl OutOfFlight {
    pub(crate) fn begin() -> OutOfFlight {
        let bounded = |local: &mut frame::Local| {
            let buses = local.frames.iter().map(|frame| &frame.bus);
            buses.filter(|bus| bus.options.max_in_flight.is_some()).cloned().collect()
        };
        let buses: Vec<Arc<BusCore>> = frame::local(bounded).unwrap_or_default();
        for bus in &buses {
            bus.out_of_flight.fetch_add(1, Ordering::SeqCst);
        }
        buses.iter().for_each(|bus| bus.start_more());
        OutOfFlight(buses)
    }
}

impl Drop for OutOfFlight {
    fn drop(&mut self) {
        for bus in &self.0 {
            bus.out_of_flight.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
