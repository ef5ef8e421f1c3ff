//! A handler that waits, entered in the wait graph, and among the sleepers of its limits.

use crate::bus::permits::asleep::{Edges, Holder, Sleeps, all_above, events_here, is_foreign, keeps_a_line};
use crate::bus::permits::in_flight::OutOfFlight;
use crate::bus::thread::ancestry::is_below;
use crate::bus::thread::frame::Frame;
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
    pub(crate) foreign: bool,
    /// What a handler further down on this thread is parked for, which runs this one in its park.
    below: Option<ParkedWait>,
    /// In order: the queue must go on without its handlers.
    _out: Option<OutOfFlight>,
    _sleeps: Option<Box<Sleeps>>,
}

impl<'a> Parked<'a> {
    pub(crate) fn enter(worker: &'a Arc<Worker>, frame: &'a Frame, event: &AnyEvent, in_order: bool) -> Self {
        Self::entered(worker, frame, event, in_order, true)
    }

    /// The wait is over, and the handler waits for the borrower of its place, which handles this event. It lends to nobody else.
    pub(crate) fn come_back(worker: &'a Arc<Worker>, frame: &'a Frame, borrower: &AnyEvent) -> Self {
        Self::entered(worker, frame, borrower, true, false)
    }

    fn entered(worker: &'a Arc<Worker>, frame: &'a Frame, event: &AnyEvent, in_order: bool, lends: bool) -> Self {
        let runtime = &frame.bus.runtime;
        let foreign = is_foreign(&frame.bus, event);
        runtime.parked_count.fetch_add(1, Ordering::SeqCst);
        runtime.foreign_count.fetch_add(usize::from(foreign), Ordering::SeqCst);
        let wait = ParkedWait { event: event.clone(), in_order, foreign, bell: Arc::clone(&worker.bell) };
        let below = runtime.parked.lock().insert(worker.id, wait);
        let _sleeps = Holder::of(frame).and_then(|holder| holder.sleeps(worker, lends.then_some(event)));
        if in_order {
            ring_jumps(frame);
        }
        let _out = in_order.then(OutOfFlight::begin);
        Parked { worker, frame, event: event.clone(), in_order, foreign, below, _out, _sleeps }
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

/// A jump above claims what an in-order wait of this thread would wait for in vain; or one that waits for what stands in line behind a handler
/// of it. No others: waits in order that rang each other would never both stay parked, nor be found by a search.
fn ring_jumps(frame: &Frame) {
    let (runtime, events) = (&frame.bus.runtime, events_here());
    if !frame.bus.has_limits() {
        return runtime.ring_parked(|wait| !wait.in_order && events.iter().any(|event| is_below(event, &wait.event)));
    }
    let all = keeps_a_line(runtime);
    let edges = Edges::of(&runtime.parked.lock());
    let above = if all { Default::default() } else { all_above(runtime, &edges, events) };
    runtime.ring_parked(|wait| !wait.in_order && (all || above.contains(&wait.event.head().stamp())));
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
        runtime.foreign_count.fetch_sub(usize::from(self.foreign), Ordering::SeqCst);
        drop(gone);
    }
}
