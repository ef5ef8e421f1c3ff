//! The bell of one thread: another thread that changes something this one may be waiting for rings it.

use crate::sync::Spin;
use crate::sys::clock::{self, Tick};
use crate::sys::planted;
use crate::sys::sync::atomic::{AtomicU32, Ordering::SeqCst};
use crate::sys::sync::{Condvar, Mutex};

const SILENT: u32 = 0;
const RUNG: u32 = 1;
const PARKED: u32 = 2;

/// A ring is remembered until the next wait, and only one thread ever waits. A wait may return without cause, so every waiter
/// looks at its conditions again.
///
/// All accesses are sequentially consistent: a ringer stores its news, then swaps in `RUNG`; the waiter swaps in `PARKED`, and had
/// looked at the conditions after its registration. Whichever comes second sees the other.
#[derive(Debug)]
pub(crate) struct Bell {
    state: AtomicU32,
    lock: Mutex<()>,
    rung: Condvar,
    spin: Spin,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Bell { state: AtomicU32::new(SILENT), lock: Mutex::new(()), rung: Condvar::new(), spin: Spin::new() }
    }

    /// Wakes the thread, or keeps it from sleeping the next time.
    pub(crate) fn ring(&self) {
        if self.state.swap(RUNG, SeqCst) == PARKED {
            // The waiter holds the lock from its swap until it sleeps, so the notification cannot come between the two.
            if !planted("ring_without_lock") {
                drop(self.lock.lock());
            }
            self.rung.notify_one();
        }
    }

    /// Waits for a ring, or until `deadline`; true if rung. Takes the ring.
    pub(crate) fn wait(&self, deadline: Tick) -> bool {
        if self.take() || self.spin.until(deadline, || self.state.load(SeqCst) == RUNG) && self.take() {
            return true;
        }
        let mut guard = self.lock.lock();
        if self.state.compare_exchange(SILENT, PARKED, SeqCst, SeqCst).is_err() {
            self.forget();
            return true;
        }
        let limit = clock::instant(deadline);
        loop {
            let timed_out = match limit {
                None => {
                    self.rung.wait(&mut guard);
                    false
                }
                Some(limit) => self.rung.wait_until(&mut guard, limit).timed_out(),
            };
            if self.state.load(SeqCst) == RUNG {
                self.forget();
                return true;
            }
            if timed_out {
                // A ring between the load above and this swap is not lost: the swap shows it.
                return self.state.swap(SILENT, SeqCst) == RUNG;
            }
        }
    }

    /// A second ring may have come since the first was seen: the swap reads it, so that its news is seen too. A store would not.
    fn forget(&self) {
        if planted("ring_overwritten") {
            return self.state.store(SILENT, SeqCst);
        }
        self.state.swap(SILENT, SeqCst);
    }

    fn take(&self) -> bool {
        self.state.compare_exchange(RUNG, SILENT, SeqCst, SeqCst).is_ok()
    }
}

#[cfg(all(test, not(any(threadbus_loom, threadbus_shuttle))))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn a_ring_is_remembered_once() {
        let bell = Bell::new();
        bell.ring();
        bell.ring();
        assert!(bell.wait(clock::NEVER));
        assert!(!bell.wait(clock::after(clock::now(), Duration::from_millis(5))));
    }

    #[test]
    fn ping_pong_loses_nothing() {
        let bells = Arc::new((Bell::new(), Bell::new()));
        let other = Arc::clone(&bells);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..20_000 {
                    other.0.wait(clock::NEVER);
                    other.1.ring();
                }
            });
            for _ in 0..20_000 {
                bells.0.ring();
                bells.1.wait(clock::NEVER);
            }
        });
    }
}
