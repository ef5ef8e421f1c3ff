//! News that is told at first, and then at most once a minute with a count.

use crate::sys::clock::{self, Tick};
use std::time::Duration;

/// How long nothing is told after it was.
const APART: Duration = Duration::from_secs(60);

/// One kind of news. The caller brings the time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rarely {
    /// Not told again before then; 0 at first.
    next: Tick,
    untold: u64,
}

impl Rarely {
    /// Notes that it has happened again. `Some` if it is to be told now, with how often it has happened since it was told last, this time not counted.
    pub(crate) fn note(&mut self, now: Tick) -> Option<u64> {
        if now < self.next {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.next = clock::after(now, APART);
        Some(self.rest())
    }

    /// How often it has happened untold; nothing of that is told later.
    pub(crate) fn rest(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Tick = 60_000_000_000;

    #[test]
    fn the_first_is_told_at_once_and_the_others_once_a_minute() {
        let mut rarely = Rarely::default();
        assert_eq!(rarely.note(5), Some(0));
        assert!((6..106).all(|now| rarely.note(now).is_none()));
        assert_eq!(rarely.note(4 + MINUTE), None);
        assert_eq!(rarely.note(5 + MINUTE), Some(101));
        assert_eq!(rarely.note(6 + MINUTE), None);
        assert_eq!(rarely.note(9 * MINUTE), Some(1));
        assert_eq!(rarely.note(90 * MINUTE), Some(0));
    }

    #[test]
    fn what_is_left_is_told_once() {
        let mut rarely = Rarely::default();
        assert_eq!(rarely.rest(), 0);
        assert_eq!((0..4).filter_map(|now| rarely.note(now)).count(), 1);
        assert_eq!((rarely.rest(), rarely.rest()), (3, 0));
        assert_eq!(rarely.note(MINUTE), Some(0));
    }
}
