//! Numbers that carry no protocol of their own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A count that spares a look: a thread that sees it unchanged need not look at what is counted, which a lock guards. Not modelled.
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

/// Is set under a lock, once, and never cleared; whoever asks has held that lock since, or has none to meet. Not modelled.
pub(crate) struct Mark(AtomicBool);

impl Mark {
    pub(crate) const fn new() -> Self {
        Mark(AtomicBool::new(false))
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A number that is written while one thread only knows of it. Other threads get what holds it through a lock or a channel. Not modelled.
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
