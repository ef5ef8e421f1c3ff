//! What handlers are parked for that is no event: a bus that is to be idle, a find, a message (`wait/README.md`, *Circles*).

use crate::bus::core::BusCore;
use crate::bus::core::permit::is_queued;
use crate::bus::thread::frame::Frame;
use crate::event::{AnyEvent, BusIdentity, DeliveryPhase, TurnKind};
use crate::runtime::{RuntimeCore, Sit, SitFor, Worker};
use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;

/// A handler on this thread is parked for something that is no event, until this goes.
pub(crate) struct Sitting<'a> {
    worker: &'a Arc<Worker>,
    runtime: &'a Arc<RuntimeCore>,
    /// What a handler further down on this thread is parked for, which runs this one in its park.
    below: Option<Sit>,
}

impl<'a> Sitting<'a> {
    pub(crate) fn enter(worker: &'a Arc<Worker>, frame: &'a Frame, what: SitFor) -> Self {
        let runtime = &frame.bus.runtime;
        runtime.sits_count.fetch_add(1, Ordering::SeqCst);
        let below = runtime.sits.lock().insert(worker.id, Sit { what, bell: Arc::clone(&worker.bell) });
        Sitting { worker, runtime, below }
    }
}

impl Drop for Sitting<'_> {
    fn drop(&mut self) {
        let gone = {
            let mut sits = self.runtime.sits.lock();
            match self.below.take() {
                Some(below) => sits.insert(self.worker.id, below),
                None => sits.remove(&self.worker.id),
            }
        };
        self.runtime.sits_count.fetch_sub(1, Ordering::SeqCst);
        drop(gone);
    }
}

/// The bus that a handler on that thread waits for to be idle, if it is parked for that.
pub(crate) fn idle_wait(runtime: &RuntimeCore, worker: u64) -> Option<Arc<BusIdentity>> {
    if runtime.sits_count.load(Ordering::SeqCst) == 0 {
        return None;
    }
    match &runtime.sits.lock().get(&worker)?.what {
        SitFor::Idle(bus) => Some(Arc::clone(bus)),
        _ => None,
    }
}

/// The threads with a handler that waits for a bus to be idle, and those buses.
pub(crate) fn idle_waits(runtime: &RuntimeCore) -> Vec<(u64, Arc<BusIdentity>)> {
    if runtime.sits_count.load(Ordering::SeqCst) == 0 {
        return Vec::new();
    }
    let sits = runtime.sits.lock();
    let waits = sits.iter().filter_map(|(worker, sit)| match &sit.what {
        SitFor::Idle(bus) => Some((*worker, Arc::clone(bus))),
        _ => None,
    });
    waits.collect()
}

/// What keeps a bus from being idle: deliveries that have started, and the first queued one of each kind of turn, for the others wait as
/// long.
pub(crate) fn unfinished(identity: &BusIdentity) -> Vec<(AnyEvent, usize)> {
    let Some(bus) = BusCore::of(identity) else { return Vec::new() };
    let mut events = bus.set_aside();
    for worker in bus.runtime.pool.all_workers() {
        events.extend(worker.slots().into_iter().map(|slot| slot.event));
    }
    let mut found: Vec<(AnyEvent, usize)> = Vec::new();
    for event in events {
        if found.iter().any(|(other, _)| other.same(&event)) {
            continue;
        }
        let index = {
            let state = event.state().lock();
            state.deliveries.iter().position(|d| d.bus.id == identity.id && d.phase == DeliveryPhase::Active)
        };
        found.extend(index.map(|index| (event, index)));
    }
    let mut run = bus.run.lock();
    bus.fetch(&mut run);
    for turn in [TurnKind::Bus, TurnKind::Global] {
        let waits =
            |entry: &&crate::bus::core::Entry| entry.turn == turn && is_queued(&entry.event, entry.delivery as usize);
        let first = run.lanes.iter_from_lowest().find(waits);
        found.extend(first.map(|entry| (entry.event.clone(), entry.delivery as usize)));
    }
    drop(run);
    found
}

/// While `body` waits for a process that ends with the handler: its warnings say so.
#[cfg(all(feature = "process", unix))]
pub(crate) fn at_process<R>(words: impl FnOnce() -> String, body: impl FnOnce() -> R) -> R {
    at_process_that_says(|| Arc::new(words()), body)
}

/// While `body` waits for a process whose words may change meanwhile: they are read when somebody needs them.
#[cfg(feature = "process")]
pub(crate) fn at_process_that_says<R>(
    words: impl FnOnce() -> Arc<dyn std::fmt::Display + Send + Sync>,
    body: impl FnOnce() -> R,
) -> R {
    let (worker, frame) = (Worker::current(), crate::bus::thread::frame::top());
    let (Some(worker), Some(frame)) = (&worker, &frame) else { return body() };
    let _sitting = Sitting::enter(worker, frame, SitFor::Process(words()));
    body()
}
