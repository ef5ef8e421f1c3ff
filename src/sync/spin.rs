//! Short, adaptive spinning before a thread parks.

use crate::sys::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// About 3 µs of looking. Longer spins pay only on an otherwise empty machine, and cost dearly on a busy one.
const LOOKS: u32 = 400;
/// Misses in a row after which spinning stops, until one look in `RETRY` tries again.
const MISSES: u32 = 8;
const RETRY: u32 = 64;

/// Remembers whether spinning has been worth it lately. Never spins where only one thread can run.
#[derive(Debug)]
pub(crate) struct Spin {
    misses: AtomicU32,
}

impl Spin {
    pub(crate) fn new() -> Self {
        Spin { misses: AtomicU32::new(0) }
    }

    /// True as soon as `ready` is; false when it is time to park.
    pub(crate) fn until(&self, ready: impl Fn() -> bool) -> bool {
        if cfg!(threadbus_shuttle) || one_core() {
            return false;
        }
        let misses = self.misses.load(Relaxed);
        if misses >= MISSES && !misses.is_multiple_of(RETRY) {
            self.misses.store(misses.wrapping_add(1).max(MISSES), Relaxed);
            return false;
        }
        for _ in 0..LOOKS {
            if ready() {
                self.misses.store(0, Relaxed);
                return true;
            }
            std::hint::spin_loop();
        }
        self.misses.store(misses.wrapping_add(1).max(1), Relaxed);
        false
    }
}

fn one_core() -> bool {
    use std::sync::OnceLock;
    static ONE: OnceLock<bool> = OnceLock::new();
    *ONE.get_or_init(|| crate::sys::thread::cores() < 2)
}
