//! How long a wait lasts, and what rings it.

use crate::event::{AnyEvent, Outcome, Watcher};
use crate::sync::Bell;
use std::sync::Arc;
use std::time::Duration;

/// How to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) in_order: bool,
    pub(crate) timeout: Option<Duration>,
    /// The first value is enough.
    pub(crate) first_value: bool,
}

impl Waiting {
    pub(crate) const JUMP: Waiting = Waiting { in_order: false, timeout: None, first_value: false };

    pub(super) fn is_over(&self, event: &AnyEvent) -> bool {
        event.is_complete() || self.first_value && has_value(event)
    }
}

fn has_value(event: &AnyEvent) -> bool {
    let state = event.state().lock();
    state.deliveries.iter().flat_map(|d| &d.records).any(|r| matches!(r.outcome, Outcome::Value(_)))
}

/// The bell rings when the event completes, or something happens below it. False if it is complete.
pub(super) fn register(event: &AnyEvent, bell: &Arc<Bell>) -> bool {
    let mut state = event.state().lock();
    if !state.complete {
        state.watch(Watcher::Bell(Arc::clone(bell)));
    }
    !state.complete
}

pub(super) fn deregister(event: &AnyEvent, bell: &Arc<Bell>) {
    event.state().lock().unwatch(bell);
}
