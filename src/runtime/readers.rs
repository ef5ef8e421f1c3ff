//! The readers of subscriptions to a runtime's buses: a shutdown waits for those that have threads of their own, and says what is unread.

use crate::sync::{Bell, Sweep};
use std::sync::{Arc, Weak};

/// One subscription, as a shutdown sees it.
pub(crate) trait Reader: Send + Sync {
    /// Events that are not read, and the one that its own thread is at.
    fn unread(&self) -> usize;

    /// Another thread than the calling one, its own, reads it and has not ended. If so, `bell` rings when that thread ends.
    fn is_awaited(&self, bell: &Arc<Bell>) -> bool;
}

/// All readers. One that is gone leaves the list some time later.
#[derive(Default)]
pub(crate) struct Readers {
    list: Vec<Weak<dyn Reader>>,
    sweep: Sweep,
}

impl Readers {
    pub(crate) fn add(&mut self, reader: Weak<dyn Reader>) {
        if self.sweep.is_due(self.list.len()) {
            self.list.retain(|reader| reader.strong_count() > 0);
            self.sweep.has_left(self.list.len());
        }
        self.list.push(reader);
    }

    pub(crate) fn all(&self) -> Vec<Arc<dyn Reader>> {
        self.list.iter().filter_map(Weak::upgrade).collect()
    }
}
