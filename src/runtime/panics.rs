//! When the last panic on a thread began, and when it had been told.

use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
pub(super) struct LastPanic {
    /// 0: there was none.
    begun: AtomicU64,
    /// `NEVER`: the panic is being told.
    told: AtomicU64,
}

impl LastPanic {
    pub(super) fn begins(&self) {
        self.told.store(NEVER, Ordering::SeqCst);
        self.begun.store(clock::now(), Ordering::SeqCst);
    }

    pub(super) fn is_told(&self) {
        self.told.store(clock::now(), Ordering::SeqCst);
    }

    /// `Some` while a panic that began after `since` may still be on its way to end its handler: when to look again. Not for ever, since a
    /// panic hook may stand still, and a handler may have caught the panic.
    pub(super) fn look_again(&self, since: Tick) -> Option<Tick> {
        const LONGEST: Tick = 10_000_000_000;
        const UNWINDS: Tick = 100_000_000;
        const SOON: Tick = 5_000_000;
        let (begun, told) = (self.begun.load(Ordering::SeqCst), self.told.load(Ordering::SeqCst));
        if begun == 0 || begun < since {
            return None;
        }
        let until = if told == NEVER { begun.saturating_add(LONGEST) } else { told.saturating_add(UNWINDS) };
        let now = clock::now();
        (now < until).then(|| now.saturating_add(SOON))
    }
}
