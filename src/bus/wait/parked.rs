//! A handler that waits, entered in the wait graph.

use crate::bus::permits::in_flight::OutOfFlight;
use crate::bus::thread::ancestry::is_below;
use crate::bus::thread::frame::{self, Frame};
use crate::bus::wait::deadlock::{Search, Way};
use crate::bus::wait::standing::Standing;
use crate::event::AnyEvent;
use crate::runtime::{ParkedWait, Worker};
use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;

/// A wait of this worker, while it is parked.
pub(crate) struct Parked<'a> {
    worker: &'a Arc<Worker>,
    frame: &'a Frame,
    event: AnyEvent,
    in_order: bool,
    /// What a handler further down on this thread is parked for, which runs this one in its park.
    below: Option<ParkedWait>,
    /// In order: the queue must go on without its handlers.
    _out: Option<OutOfFlight>,
}

impl<'a> Parked<'a> {
    pub(crate) fn enter(worker: &'a Arc<Worker>, frame: &'a Frame, event: &AnyEvent, in_order: bool) -> Self {
        let runtime = &frame.bus.runtime;
        runtime.parked_count.fetch_add(1, Ordering::SeqCst);
        let wait = ParkedWait { event: event.clone(), in_order, bell: Arc::clone(&worker.bell) };
        let below = runtime.parked.lock().insert(worker.id, wait);
        if in_order {
            // A jump above claims what this one would wait for in vain; or one that waits for what stands in line behind this handler.
            // No others: waits in order that rang each other would never both stay parked, nor be found by a search.
            let events: Vec<AnyEvent> =
                frame::local(|local| local.frames.iter().map(|f| f.event.clone()).collect()).unwrap_or_default();
            let limited = frame.bus.has_limits();
            runtime.ring_parked(|wait| {
                !wait.in_order && (limited || events.iter().any(|event| is_below(event, &wait.event)))
            });
        }
        let _out = in_order.then(OutOfFlight::begin);
        Parked { worker, frame, event: event.clone(), in_order, below, _out }
    }

    /// Why this wait can never end, if that is so.
    pub(crate) fn find_cycle(&self) -> Option<String> {
        let runtime = &self.frame.bus.runtime;
        let parked = runtime.parked.lock();
        let (me, own) = (self.worker.id, Standing::of_this_thread());
        let search = Search { parked: &parked, runtime, me, own, awaited: Some(&self.event) };
        let chain = search.run(&self.event, Way::of(self.in_order), &mut Vec::new())?;
        Some(format!("{} on {} waits for {}{chain}", self.frame.label(), self.frame.event, self.event))
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let runtime = &self.frame.bus.runtime;
        let gone = {
            let mut parked = runtime.parked.lock();
            match self.below.take() {
                Some(below) => parked.insert(self.worker.id, below),
                None => parked.remove(&self.worker.id),
            }
        };
        runtime.parked_count.fetch_sub(1, Ordering::SeqCst);
        drop(gone);
    }
}
