//! A bus's handlers of one type, in the order in which they run.

use crate::event::{HandlerEntry, HandlerMode, SlotEntry, Timing};
use std::fmt;
use std::sync::Arc;

impl SlotEntry {
    pub(crate) fn new(entry: &Arc<HandlerEntry>, mode: HandlerMode, timing: Timing) -> Self {
        let HandlerEntry { info, limit, call, typed, .. } = &**entry;
        let (call, limited) = (Arc::clone(call), limit.is_some());
        SlotEntry { entry: Arc::clone(entry), call, id: info.id(), typed: *typed, limited, mode, timing }
    }
}

impl fmt::Debug for SlotEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}

impl HandlerEntry {
    /// Called when its registration is over, with nothing locked.
    pub(crate) fn has_ended(&self) {
        if let Some(hook) = &self.options.on_end {
            (hook.0)();
        }
    }
}

impl fmt::Debug for HandlerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)
    }
}
