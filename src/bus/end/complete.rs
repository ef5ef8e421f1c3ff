//! An event is complete, and with it perhaps its parent.

use crate::bus::core::BusCore;
use crate::bus::middleware::tell::deliver_everywhere;
use crate::bus::thread::frame;
use crate::event::{AnyEvent, Completion, note_ripe_told};
use crate::sys::clock::Stamp;
use crate::sys::planted;
use crate::sys::sync::atomic::Ordering;
use crate::sys::unwind;
use std::sync::Arc;

/// The event is complete: tell middlewares, wake the threads that wait, and count its parent down. A loop, since chains are long.
pub(crate) fn complete(event: &AnyEvent, completion: Completion) {
    // What it was the last open child of completes with it.
    let at = completion.at;
    if completion.is_watched {
        deliver_everywhere(event);
    }
    if event.is_told_of() {
        // Before anybody is woken who may emit the next.
        tell_histories(event);
    }
    let mut above = completion.tell(event);
    while let Some(parent) = above.take() {
        above = count_down(&parent, at);
        // It may be the last hold of it, and its payload may panic when it goes; and whoever came here owes more than this.
        if parent.is_kept_once() {
            frame::let_go(parent);
        } else {
            unwind::drop_quietly(parent);
        }
    }
}

/// One open child less; if it was the last, the event's parent.
fn count_down(event: &AnyEvent, at: Stamp) -> Option<AnyEvent> {
    let mut state = event.state().lock();
    let completion = state.count_down(at)?;
    event.publish_complete();
    let identity = state.deliveries.first().map(|d| Arc::clone(&d.bus));
    drop(state);
    if completion.is_watched {
        deliver_everywhere(event);
    }
    if event.is_told_of() {
        tell_histories(event);
    }
    if let Some(bus) = identity.and_then(|identity| BusCore::of(&identity)) {
        bus.forget_completed(event);
    }
    completion.tell(event)
}

/// Histories that have passed it by, since it was unfinished, may let go of it.
#[cold]
fn tell_histories(event: &AnyEvent) {
    let buses: Vec<_> = event.state().lock().deliveries.iter().map(|d| Arc::clone(&d.bus)).collect();
    for bus in buses.iter().filter_map(|identity| BusCore::of(identity)) {
        bus.inlet.lock().history.ripens(event);
    }
    note_ripe_told();
}

/// A delivery is over, or something was queued below: parked waits look again.
pub(crate) fn ring_watchers(event: &AnyEvent) {
    event.state().lock().ring();
}

impl BusCore {
    /// The event itself was queued once more.
    pub(crate) fn ring_at(&self, event: &AnyEvent) {
        if self.runtime.parked_count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let state = event.state().lock();
        state.ring();
        let above = state.parent.clone();
        drop(state);
        if let Some(above) = above {
            self.ring_above(&above);
        }
    }

    /// Something below `event` was queued, or may be claimed: parked waits above it look again, as far up as they see it.
    ///
    /// While a handler of an event runs, nobody looks at what that event has emitted; its end rings. And whoever waits in order for what is
    /// below it rings those above itself when it parks again.
    pub(crate) fn ring_above(&self, event: &AnyEvent) {
        if self.runtime.parked_count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut at = Some(event.clone());
        while let Some(event) = at {
            let state = event.state().lock();
            if state.is_active() || planted("nobody_above_is_rung") {
                return;
            }
            state.ring();
            at = state.parent.clone();
        }
    }
}
