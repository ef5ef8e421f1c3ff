//! Numbers that carry no protocol of their own.

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

/// Not modelled: written while one thread knows what holds it. Whoever gets that later gets it through a lock or a channel.
pub(crate) struct Early(AtomicU64);

impl Early {
    pub(crate) const fn new(value: u64) -> Self {
        Early(AtomicU64::new(value))
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}
