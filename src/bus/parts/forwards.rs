//! Who forwards to a bus.

use crate::event::HandlerInfo;
use crate::sync::Sweep;
use std::sync::{Arc, Weak};

/// The registrations that forward to a bus, each with the bus it is on.
pub(crate) struct Forwards<B> {
    list: Vec<(Weak<B>, HandlerInfo)>,
    sweep: Sweep,
}

impl<B> Default for Forwards<B> {
    fn default() -> Self {
        Forwards { list: Vec::new(), sweep: Sweep::default() }
    }
}

impl<B> Forwards<B> {
    /// Ended ones, and those of buses that are gone, leave some time later.
    pub(crate) fn note(&mut self, source: &Arc<B>, info: &HandlerInfo) {
        if self.sweep.is_due(self.list.len()) {
            self.list.retain(|(_, info)| info.is_registered());
            self.sweep.has_left(self.list.len());
        }
        self.list.push((Arc::downgrade(source), info.clone()));
    }

    pub(crate) fn into_list(self) -> Vec<(Weak<B>, HandlerInfo)> {
        self.list
    }
}
