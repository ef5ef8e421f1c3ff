//! Finding what a held event waits for, for those that wait for it in turn.

use crate::bus::core::BusCore;
use crate::bus::parts::held::Hold;
use crate::event::{AnyEvent, DeliveryPhase};
use crate::sys::count::Count;
use crate::sys::sync::atomic::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

/// How many events of the process were held.
static HELD: Count = Count::new();

/// So many of the events that a held one is to come after are looked at in one step.
pub(crate) const LOOK: usize = 32;

/// The hold of an event that is held.
pub(crate) fn hold_of(event: &AnyEvent) -> Option<Arc<Hold>> {
    if HELD.read() == 0 {
        return None;
    }
    let identity = {
        let state = event.state().lock();
        let held = state.deliveries.iter().find(|delivery| delivery.phase == DeliveryPhase::Held)?;
        Arc::clone(&held.bus)
    };
    let bus = BusCore::of(&identity)?;
    bus.held.lock().get(event.head().stamp()).cloned()
}

/// What a held event still waits for, as far as one step looks.
pub(crate) fn held_for(event: &AnyEvent) -> Vec<AnyEvent> {
    let Some(hold) = hold_of(event) else { return Vec::new() };
    hold.open(LOOK)
}

/// What has to be complete before what is held at or below `event` can start: the first for each. A thread that waits for the event watches these, too: what is
/// queued below them is below what it waits for.
pub(crate) fn beside(event: &AnyEvent) -> Vec<AnyEvent> {
    let mut found = Vec::new();
    if HELD.read() == 0 {
        return found;
    }
    let mut seen = HashSet::new();
    let mut pending = vec![event.clone()];
    while let Some(event) = pending.pop() {
        if event.is_complete() || !seen.insert(event.head().stamp()) {
            continue;
        }
        if let Some(before) = hold_of(&event).and_then(|hold| hold.first_open()) {
            found.push(before.clone());
            pending.push(before);
        }
        pending.extend(event.state().lock().children().map(|child| child.event.clone()));
    }
    found
}

impl BusCore {
    /// An event comes that is to start after others. Before anybody can end it.
    pub(crate) fn holds(self: &Arc<Self>, event: &AnyEvent, hold: &Arc<Hold>) {
        HELD.add_one();
        self.counters.held.fetch_add(1, Ordering::SeqCst);
        self.held.lock().add(event.head().stamp(), Arc::clone(hold), self);
    }
}
