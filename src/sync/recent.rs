//! The last few of something that is counted: the number of each, when it was, and a value. Written without a lock, read seldom.
//!
//! Relaxed throughout: a reader that comes just as an entry is written may see it half, which moves a statistic by one.

use crate::sys::clock::Tick;
use crate::sys::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::OnceLock;

#[derive(Debug, Default)]
struct Slot {
    /// One more than its number; 0: empty.
    number: AtomicU64,
    at: AtomicU64,
    value: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Recent {
    size: usize,
    slots: OnceLock<Box<[Slot]>>,
    next: AtomicU64,
}

impl Recent {
    /// Keeps the last `size`; takes memory with the first.
    pub(crate) fn new(size: usize) -> Self {
        Recent { size: size.max(1), slots: OnceLock::new(), next: AtomicU64::new(0) }
    }

    #[cold]
    pub(crate) fn put(&self, number: u64, at: Tick, value: u64) {
        let slots = self.slots.get_or_init(|| (0..self.size).map(|_| Slot::default()).collect());
        let turn = self.next.fetch_add(1, Relaxed) % self.size as u64;
        let Some(slot) = usize::try_from(turn).ok().and_then(|turn| slots.get(turn)) else { return };
        slot.number.store(number.saturating_add(1), Relaxed);
        slot.at.store(at, Relaxed);
        slot.value.store(value, Relaxed);
    }

    /// Number and value of each entry from that number and that time on.
    pub(crate) fn since(&self, number: u64, at: Tick) -> impl Iterator<Item = (u64, u64)> + '_ {
        let slots = self.slots.get().map_or(&[][..], |slots| slots);
        slots.iter().filter_map(move |slot| {
            let own = slot.number.load(Relaxed).checked_sub(1)?;
            (own >= number && slot.at.load(Relaxed) >= at).then(|| (own, slot.value.load(Relaxed)))
        })
    }
}

#[cfg(all(test, not(threadbus_shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_there_from_a_number_and_a_time_on() {
        let recent = Recent::new(4);
        let since = |number, at| {
            let mut found: Vec<_> = recent.since(number, at).collect();
            found.sort_unstable();
            found
        };
        assert!(since(0, 0).is_empty());
        (0..6).for_each(|n| recent.put(n, 10 * n, 100 + n));
        assert_eq!(since(0, 0), [(2, 102), (3, 103), (4, 104), (5, 105)]);
        assert_eq!(since(4, 0), [(4, 104), (5, 105)]);
        assert_eq!(since(0, 45), [(5, 105)]);
        assert!(since(9, 0).is_empty());
    }
}
