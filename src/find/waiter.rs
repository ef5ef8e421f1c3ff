//! A find that waits, as its bus and the events it waits for see it.

use crate::bus::{Observer, Seen};
use crate::event::{AnyEvent, CompletionHook, Watcher, WeakEvent};
use crate::sync::{Bell, Sweep};
use crate::sys::sync::Mutex;
use crate::sys::unwind;
use std::collections::VecDeque;
use std::sync::Arc;

pub(crate) struct Waiter {
    bell: Arc<Bell>,
    /// It waits for events of that name.
    named: Option<Box<str>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Not looked at yet.
    events: VecDeque<AnyEvent>,
    /// Those that have it for a hook; complete ones leave some time later.
    watched: Vec<WeakEvent>,
    sweep: Sweep,
    /// The bus takes nothing more.
    closed: bool,
    /// Nobody waits any more.
    ended: bool,
}

impl Waiter {
    pub(crate) fn new(bell: &Arc<Bell>, named: Option<Box<str>>) -> Arc<Waiter> {
        Arc::new(Waiter { bell: Arc::clone(bell), named, state: Mutex::default() })
    }

    /// What has come since, in order.
    pub(crate) fn take(&self) -> VecDeque<AnyEvent> {
        std::mem::take(&mut self.state.lock().events)
    }

    pub(crate) fn is_ready(&self) -> bool {
        let state = self.state.lock();
        !state.events.is_empty() || state.is_over()
    }

    /// Nothing is there, and nothing will come.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().is_over()
    }

    /// Comes back as soon as it is complete; the event does not keep anything but this small waiter for it.
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
        // Each may be the last hold of its event by now.
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

    /// Takes nothing more, and lets go of what it has; by who has waited with it.
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
