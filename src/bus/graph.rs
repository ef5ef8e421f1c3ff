//! Who waits for whom: what a jump may claim, and waits that can never end (`runtime/README.md`, 3.7).

use crate::bus::core::BusCore;
use crate::bus::frame::{self, Frame};
use crate::event::{AnyEvent, BusIdentity, DeliveryPhase, RecordPhase, TurnKind};
use crate::runtime::{ParkedWait, RuntimeCore, Worker};
use crate::sys::sync::atomic::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// True if `event` is `ancestor`, or below it, by links that completion waits for.
pub(crate) fn is_below(event: &AnyEvent, ancestor: &AnyEvent) -> bool {
    let mut at = Some(event.clone());
    while let Some(event) = at {
        if event.same(ancestor) {
            return true;
        }
        // Parents are older than their children.
        if event.head().stamp < ancestor.head().stamp {
            return false;
        }
        at = event.state().lock().parent.clone();
    }
    false
}

/// If this handler is inside `event`: why a wait for it can never end.
pub(crate) fn is_above(event: &AnyEvent, frame: &Frame) -> Option<String> {
    let handler = frame.entry.info.label();
    if frame.event.same(event) {
        return Some(format!("{handler} waits for its own event {event}"));
    }
    let mut chain = format!("{handler} on {} waits for {event}", frame.event);
    let mut at = Some(frame.event.clone());
    while let Some(below) = at {
        if below.head().stamp < event.head().stamp {
            break;
        }
        at = below.state().lock().parent.clone();
        if let Some(above) = &at {
            if chain.len() < 400 {
                chain.push_str(&format!(", {above} waits for its child {below}"));
            }
            if above.same(event) {
                return Some(chain);
            }
        }
    }
    let on_stack = frame::local(|local| local.frames.iter().any(|f| f.event.same(event))).unwrap_or(false);
    on_stack.then(|| format!("{handler} on {} waits for {event}, which is below it on its own thread", frame.event))
}

/// Queued deliveries that `event` needs: its own in path order, then those below in emit order; and what running handlers among them wait
/// for in their turn.
pub(crate) fn claimable(event: &AnyEvent, runtime: &RuntimeCore) -> Vec<(AnyEvent, usize)> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut pending = vec![event.clone()];
    while let Some(event) = pending.pop() {
        if event.is_completed() || !seen.insert(event.head().stamp) {
            continue;
        }
        let mut workers = Vec::new();
        let mut below = Vec::new();
        {
            let state = event.state().lock();
            for (index, delivery) in state.deliveries.iter().enumerate() {
                match delivery.phase {
                    DeliveryPhase::Queued => found.push((event.clone(), index)),
                    DeliveryPhase::Active => {
                        let running = delivery.records.iter().filter(|r| r.phase == RecordPhase::Started);
                        workers.extend(running.map(|r| r.worker));
                    }
                    DeliveryPhase::Done => {}
                }
            }
            below.extend(state.children().iter().map(|c| c.event.clone()).filter(|e| !e.is_completed()));
        }
        if !workers.is_empty() && runtime.parked_count.load(Ordering::SeqCst) > 0 {
            let parked = runtime.parked.lock();
            // A jump among them claims for itself; only who waits in order needs help.
            let waits = workers.iter().filter_map(|w| parked.get(w)).filter(|p| p.in_order);
            below.extend(waits.map(|p| p.event.clone()));
        }
        pending.extend(below.into_iter().rev());
    }
    found
}

/// A wait of this worker, while it is parked.
pub(crate) struct Parked<'a> {
    worker: &'a Arc<Worker>,
    frame: &'a Frame,
    event: AnyEvent,
    in_order: bool,
}

impl<'a> Parked<'a> {
    pub(crate) fn enter(worker: &'a Arc<Worker>, frame: &'a Frame, event: &AnyEvent, in_order: bool) -> Self {
        let runtime = &frame.bus.runtime;
        runtime.parked_count.fetch_add(1, Ordering::SeqCst);
        let wait = ParkedWait { event: event.clone(), in_order, bell: Arc::clone(&worker.bell) };
        runtime.parked.lock().insert(worker.id, wait);
        if in_order {
            // A jump above may have to claim what this one waits for in vain.
            frame.bus.ring_above(&frame.event);
        }
        Parked { worker, frame, event: event.clone(), in_order }
    }

    /// Why this wait can never end, if that is so.
    pub(crate) fn find_cycle(&self) -> Option<String> {
        let runtime = &self.frame.bus.runtime;
        let parked = runtime.parked.lock();
        let search = Search { parked: &parked, runtime, me: self.worker.id, bound: self.bound_buses() };
        let chain = search.run(&self.event, self.in_order)?;
        Some(format!("{} on {} waits for {}{chain}", self.frame.entry.info.label(), self.frame.event, self.event))
    }

    /// Serial buses on which nothing queued starts before this thread's handlers end.
    fn bound_buses(&self) -> Vec<Arc<BusIdentity>> {
        let frames = frame::local(|local| local.frames.clone()).unwrap_or_default();
        frames.iter().filter(|f| is_serial(&f.event, f.delivery)).map(|f| Arc::clone(&f.bus.identity)).collect()
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let runtime = &self.frame.bus.runtime;
        let gone = runtime.parked.lock().remove(&self.worker.id);
        runtime.parked_count.fetch_sub(1, Ordering::SeqCst);
        drop(gone);
    }
}

fn is_serial(event: &AnyEvent, delivery: usize) -> bool {
    event.state().lock().deliveries.get(delivery).is_some_and(|d| d.manner.turn != TurnKind::Free)
}

struct Search<'a> {
    parked: &'a HashMap<u32, ParkedWait>,
    runtime: &'a RuntimeCore,
    me: u32,
    bound: Vec<Arc<BusIdentity>>,
}

impl Search<'_> {
    /// From an event along what it needs, until that is this worker.
    fn run(&self, start: &AnyEvent, in_order: bool) -> Option<String> {
        let mut seen = HashSet::new();
        let mut pending = vec![(start.clone(), String::new(), in_order)];
        while let Some((event, chain, in_order)) = pending.pop() {
            if event.is_completed() || !seen.insert(event.head().stamp) {
                continue;
            }
            let (mut workers, mut queued, mut children) = (Vec::new(), Vec::new(), Vec::new());
            {
                let state = event.state().lock();
                for delivery in &state.deliveries {
                    let running = delivery.records.iter().filter(|r| r.phase == RecordPhase::Started);
                    workers.extend(running.map(|r| (r.worker, r.handler.label())));
                    if delivery.phase == DeliveryPhase::Queued {
                        queued.push(Arc::clone(&delivery.bus));
                    }
                }
                children.extend(state.children().iter().map(|c| c.event.clone()).filter(|e| !e.is_completed()));
            }
            for (worker, handler) in workers {
                if worker == self.me {
                    return Some(format!("{chain}, which {handler} on this very thread must end"));
                }
                if let Some(wait) = self.parked.get(&worker) {
                    let chain = format!("{chain}, where {handler} waits for {}", wait.event);
                    pending.push((wait.event.clone(), chain, wait.in_order));
                }
            }
            // Who jumps claims what is queued; only an in-order wait depends on the queue.
            for bus in queued.iter().filter(|_| in_order) {
                if self.bound.iter().any(|own| own.id == bus.id) {
                    return Some(format!("{chain}, which is queued on {} behind this very handler", bus.label));
                }
                pending.extend(self.parked_on(bus).into_iter().map(|(waits_for, in_order)| {
                    let label = &bus.label;
                    let chain = format!("{chain}, queued on {label} behind a handler that waits for {waits_for}");
                    (waits_for, chain, in_order)
                }));
            }
            let below = |child: AnyEvent| {
                let chain = format!("{chain}, which needs its child {child}");
                (child, chain, in_order)
            };
            pending.extend(children.into_iter().map(below));
        }
        None
    }

    /// What parked handlers of a serial bus wait for: nothing queued there starts before they end.
    fn parked_on(&self, bus: &BusIdentity) -> Vec<(AnyEvent, bool)> {
        let pausing: Vec<u64> =
            BusCore::of(bus).map(|bus| bus.run.lock().jumps.iter().map(|t| t.stamp).collect()).unwrap_or_default();
        self.parked
            .iter()
            .filter(|(id, _)| {
                self.runtime.pool.worker(**id).is_some_and(|worker| {
                    worker.slots().iter().any(|slot| {
                        let state = slot.event.state().lock();
                        state.deliveries.get(slot.delivery).is_some_and(|d| {
                            d.bus.id == bus.id && d.manner.turn != TurnKind::Free && d.phase == DeliveryPhase::Active
                        }) || pausing.contains(&slot.event.head().stamp)
                    })
                })
            })
            .map(|(_, wait)| (wait.event.clone(), wait.in_order))
            .collect()
    }
}
