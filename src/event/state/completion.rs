//! Threads and hooks that wait for an event's end, and how they are told of it.

use crate::event::{AnyEvent, CompletionHook, State, Watcher};
use crate::sync::Bell;
use crate::sys::clock::Stamp;
use std::ptr;
use std::sync::Arc;

/// What completing an event leaves to do, outside its lock: the part of a bus's duties that the event knows by itself.
pub(crate) struct Completion {
    pub(in crate::event) bell: Option<Arc<Bell>>,
    pub(in crate::event) hook: Option<Arc<dyn CompletionHook>>,
    #[expect(clippy::box_collection, reason = "few events have some, and every end moves this")]
    pub(in crate::event) watchers: Option<Box<Vec<Watcher>>>,
    pub(crate) parent: Option<AnyEvent>,
    /// When it completed.
    pub(crate) at: Stamp,
    /// Middlewares are to be told.
    pub(crate) is_watched: bool,
}

impl Completion {
    /// Wakes the threads that wait for the event and calls its hooks, with nothing locked. Returns the event's parent, which has one child less to wait for.
    pub(crate) fn tell(self, event: &AnyEvent) -> Option<AnyEvent> {
        if let Some(bell) = self.bell {
            bell.ring();
        }
        if let Some(hook) = self.hook {
            hook.completed(event);
        }
        if let Some(watchers) = self.watchers {
            for watcher in *watchers {
                match watcher {
                    Watcher::Bell(bell) => bell.ring(),
                    Watcher::Hook(hook) => hook.completed(event),
                }
            }
        }
        self.parent
    }
}

impl State {
    pub(crate) fn has_watchers(&self) -> bool {
        self.bell.is_some()
            || self.hook.is_some()
            || self.links.as_ref().is_some_and(|links| !links.watchers.is_empty())
    }

    pub(crate) fn watch(&mut self, watcher: Watcher) {
        match watcher {
            Watcher::Bell(bell) if self.bell.is_none() => self.bell = Some(bell),
            Watcher::Hook(hook) if self.hook.is_none() => self.hook = Some(hook),
            watcher => {
                let watchers = &mut self.links().watchers;
                if watchers.len() == watchers.capacity() {
                    // Hooks that are over stay until the list would grow: an event may live for ever, and hooks come and go.
                    watchers.retain(|watcher| !matches!(watcher, Watcher::Hook(hook) if hook.is_over()));
                }
                watchers.push(watcher);
            }
        }
    }

    /// Removes the bell once, however often it was added.
    pub(crate) fn unwatch(&mut self, bell: &Arc<Bell>) {
        if self.bell.as_ref().is_some_and(|own| Arc::ptr_eq(own, bell)) {
            self.bell = None;
        } else if let Some(links) = &mut self.links {
            let ours = |w: &Watcher| matches!(w, Watcher::Bell(other) if Arc::ptr_eq(other, bell));
            if let Some(at) = links.watchers.iter().position(ours) {
                links.watchers.swap_remove(at);
            }
        }
    }

    /// Removes a hook, which is told nothing from now on. The caller keeps the hook, so that it is not dropped under the lock.
    pub(crate) fn unwatch_hook(&mut self, hook: *const ()) {
        if self.hook.as_ref().is_some_and(|own| ptr::addr_eq(Arc::as_ptr(own), hook)) {
            self.hook = None;
            return;
        }
        let Some(links) = &mut self.links else { return };
        let ours = |w: &Watcher| matches!(w, Watcher::Hook(other) if ptr::addr_eq(Arc::as_ptr(other), hook));
        if let Some(at) = links.watchers.iter().position(ours) {
            links.watchers.swap_remove(at);
        }
    }

    #[cfg(test)]
    pub(crate) fn watchers(&self) -> usize {
        usize::from(self.bell.is_some())
            + usize::from(self.hook.is_some())
            + self.links.as_ref().map_or(0, |links| links.watchers.len())
    }

    /// The threads that wait look again.
    pub(crate) fn ring(&self) {
        let more = self.links.iter().flat_map(|links| &links.watchers);
        let bells = more.filter_map(|watcher| if let Watcher::Bell(bell) = watcher { Some(bell) } else { None });
        self.bell.iter().chain(bells).for_each(|bell| bell.ring());
    }
}
