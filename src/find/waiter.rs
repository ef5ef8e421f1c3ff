//! A find that waits, as its bus and the events it waits for see it.

use crate::bus::{Observer, Seen};
use crate::event::{AnyEvent, CompletionHook, Watcher, WeakEvent};
use crate::sync::{Bell, Sweep};
use crate::sys::sync::Mutex;
use crate::sys::unwind;
use std::collections::VecDeque;
use std::sync::Arc;

/// Collects the events that a find has to look at, and rings the finding thread.
pub(crate) struct Waiter {
    bell: Arc<Bell>,
    /// The find waits for events of that name.
    named: Option<Box<str>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The find has not looked at these yet.
    events: VecDeque<AnyEvent>,
    /// The events that have this waiter for a hook; complete ones leave the list some time later.
    watched: Vec<WeakEvent>,
    sweep: Sweep,
    /// The bus takes no more events.
    closed: bool,
    /// The find is over.
    ended: bool,
}

impl Waiter {
    pub(crate) fn new(bell: &Arc<Bell>, named: Option<Box<str>>) -> Arc<Waiter> {
        Arc::new(Waiter { bell: Arc::clone(bell), named, state: Mutex::default() })
    }

    /// The events that have come since the last call, in order.
    pub(crate) fn take(&self) -> VecDeque<AnyEvent> {
        std::mem::take(&mut self.state.lock().events)
    }

    pub(crate) fn is_ready(&self) -> bool {
        let state = self.state.lock();
        !state.events.is_empty() || state.is_over()
    }

    /// Whether no event is there, and none will come.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().is_over()
    }

    /// Has the event come back as soon as it is complete. The event keeps no more than this small waiter for that.
    pub(crate) fn await_completion(self: &Arc<Self>, event: &AnyEvent) {
        let registered = {
            let mut state = event.state().lock();
            if !state.complete {
                state.watch(Watcher::Hook(Arc::clone(self) as Arc<dyn CompletionHook>));
            }
            !state.complete
        };
        if !registered {
            return self.completed(event);
        }
        // Each may be its event's last owner by now, so it is dropped with nothing locked.
        let mut held = Vec::new();
        {
            let mut state = self.state.lock();
            let State { watched, sweep, .. } = &mut *state;
            if sweep.is_due(watched.len()) {
                watched.retain(|weak| {
                    let Some(event) = weak.upgrade() else { return false };
                    let open = !event.is_completed();
                    held.push(event);
                    open
                });
                sweep.has_left(watched.len());
            }
            watched.push(event.downgrade());
        }
        held.into_iter().for_each(unwind::drop_quietly);
    }

    /// Takes no more events, and lets go of those it has. Called by the finding thread.
    pub(crate) fn end(self: &Arc<Self>) {
        let (left, watched) = {
            let mut state = self.state.lock();
            state.ended = true;
            (std::mem::take(&mut state.events), std::mem::take(&mut state.watched))
        };
        for event in watched.iter().filter_map(WeakEvent::upgrade) {
            event.state().lock().unwatch_hook(Arc::as_ptr(self).cast());
            unwind::drop_quietly(event);
        }
        left.into_iter().for_each(unwind::drop_quietly);
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.closed && self.events.is_empty()
    }
}

impl Observer for Waiter {
    fn see(&self, event: &AnyEvent, seen: &mut Seen) -> bool {
        let mut state = self.state.lock();
        if state.ended {
            return false;
        }
        state.events.push_back(event.clone());
        seen.rings.push(Arc::clone(&self.bell));
        true
    }

    fn cares_for(&self, event_type: &str) -> bool {
        self.named.as_deref().is_none_or(|named| named == event_type)
    }

    fn close(&self) {
        self.state.lock().closed = true;
        self.bell.ring();
    }
}

impl CompletionHook for Waiter {
    fn completed(&self, event: &AnyEvent) {
        let mut state = self.state.lock();
        if !state.ended {
            state.events.push_back(event.clone());
            drop(state);
            self.bell.ring();
        }
    }
}
