//! Counters of the whole process.

use std::sync::atomic::{AtomicU64, Ordering};

/// Not modelled: whoever sees it unchanged is spared a look at what it counts, which is guarded by itself.
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) const fn new() -> Self {
        Count(AtomicU64::new(0))
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}
