//! Numbers that carry no protocol of their own.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

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

/// How many there are of something rare: a thread that sees none need not look for one. Whoever begins one does so before it matters. Not modelled.
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) const fn new() -> Self {
        Gauge(AtomicU64::new(0))
    }

    #[inline]
    pub(crate) fn is_zero(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn end(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Eight marks, each set once and never cleared. Threads learn of one through a lock or a [`Gauge`]. Not modelled.
pub(crate) struct Marks(AtomicU8);

impl Marks {
    pub(crate) const fn new() -> Self {
        Marks(AtomicU8::new(0))
    }

    #[inline]
    pub(crate) fn has(&self, mark: u8) -> bool {
        self.0.load(Ordering::Acquire) & mark != 0
    }

    pub(crate) fn set(&self, mark: u8) {
        self.0.fetch_or(mark, Ordering::AcqRel);
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
