//! Short, adaptive spinning before a thread parks.

use crate::sys::sync::atomic::{AtomicU32, Ordering::Relaxed};
use crate::sys::thread;

/// About 3 µs of looking. Longer spins pay only on an otherwise empty machine, and cost dearly on a busy one.
const LOOKS: u32 = 400;
/// Misses in a row after which spinning stops, until one look in `RETRY` tries again.
const MISSES: u32 = 8;
const RETRY: u32 = 64;

/// How often to let others run first, where only one thread can run: whoever is to make it ready may be one of them.
const YIELDS: u32 = 8;

/// Remembers whether spinning has been worth it lately. Where only one thread can run it yields instead.
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
        if cfg!(threadbus_shuttle) {
            return false;
        }
        let misses = self.misses.load(Relaxed);
        if misses >= MISSES && !misses.is_multiple_of(RETRY) {
            self.misses.store(misses.wrapping_add(1).max(MISSES), Relaxed);
            return false;
        }
        let (looks, between): (u32, fn() -> bool) =
            if thread::cores() < 2 { (YIELDS, thread::give_way) } else { (LOOKS, look_on) };
        for _ in 0..looks {
            if ready() {
                self.misses.store(0, Relaxed);
                return true;
            }
            if !between() {
                break;
            }
        }
        self.misses.store(misses.wrapping_add(1).max(1), Relaxed);
        false
    }
}

fn look_on() -> bool {
    std::hint::spin_loop();
    true
}
