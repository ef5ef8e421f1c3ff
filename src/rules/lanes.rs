//! Eleven first-in-first-out lanes, one a priority, and a bitmap that finds the highest occupied one.
//!
//! Weighted, three bands of lanes take turns ([`Shares`]).

use crate::event::{Fairness, Priority};
use crate::sync::{BANDS, Shares};
use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Lanes<T> {
    lanes: [VecDeque<T>; 11],
    occupied: u16,
    len: usize,
    /// None: strict.
    shares: Option<Box<Shares>>,
}

/// How many entries an empty lane keeps memory for.
const KEPT: usize = 4096;

impl<T> Lanes<T> {
    pub(crate) fn new(fairness: Fairness) -> Self {
        let shares = fairness.weights().map(|weights| Box::new(Shares::new(weights)));
        Lanes { lanes: std::array::from_fn(|_| VecDeque::new()), occupied: 0, len: 0, shares }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push_back(&mut self, priority: Priority, value: T) {
        let lane = usize::from(priority.level()).min(10);
        self.lanes[lane].push_back(value);
        self.occupied |= 1 << lane;
        self.len += 1;
    }

    /// Puts the entry back that was popped last.
    pub(crate) fn push_front(&mut self, priority: Priority, value: T) {
        if let Some(shares) = &mut self.shares {
            shares.undo();
        }
        let lane = usize::from(priority.level()).min(10);
        self.lanes[lane].push_front(value);
        self.occupied |= 1 << lane;
        self.len += 1;
    }

    /// Takes the oldest entry of the highest priority, in the band whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.occupied == 0 {
            return None;
        }
        let among = match &mut self.shares {
            None => self.occupied,
            Some(shares) => shares.turn(self.occupied),
        };
        let lane = 15 - among.leading_zeros() as usize;
        let value = self.lanes[lane].pop_front()?;
        if self.lanes[lane].is_empty() {
            self.occupied &= !(1 << lane);
            if self.lanes[lane].capacity() > KEPT {
                // The memory that a long backlog took is not kept for the next one.
                self.lanes[lane] = VecDeque::new();
            }
        }
        self.len -= 1;
        if self.occupied == 0
            && let Some(shares) = &mut self.shares
        {
            // With nothing left that waits, no band is owed a turn.
            shares.forget();
        }
        Some(value)
    }

    /// The entry that [`pop`](Lanes::pop) would take.
    pub(crate) fn peek(&self) -> Option<&T> {
        let among = match &self.shares {
            None => self.occupied,
            Some(shares) => shares.next(self.occupied),
        };
        let lane = 15usize.checked_sub(among.leading_zeros() as usize)?;
        self.lanes[lane].front()
    }

    /// The entry that was popped last does not run after all: its band has not had its turn.
    pub(crate) fn refund(&mut self) {
        if let Some(shares) = &mut self.shares {
            if self.occupied == 0 { shares.forget() } else { shares.undo() }
        }
    }

    /// The highest priority of any entry.
    pub(crate) fn highest(&self) -> Option<Priority> {
        self.occupied.checked_ilog2().and_then(|level| Priority::new(level as u8))
    }

    /// Takes the first entry that is wanted, of the highest priority first.
    pub(crate) fn take_first(&mut self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let (level, at) = self.lanes.iter().enumerate().rev().find_map(|(level, lane)| {
            let at = lane.iter().position(&wanted)?;
            Some((level, at))
        })?;
        let value = self.lanes[level].remove(at)?;
        if self.lanes[level].is_empty() {
            self.occupied &= !(1 << level);
        }
        self.len -= 1;
        Some(value)
    }

    /// How many entries there are in each band: high, normal, low; only those that `counts` picks.
    pub(crate) fn len_by_band(&self, counts: impl Fn(&T) -> bool) -> [usize; 3] {
        BANDS.map(|band| {
            let lanes = self.lanes.iter().enumerate().filter(|(lane, _)| band & 1 << lane != 0);
            lanes.map(|(_, lane)| lane.iter().filter(|value| counts(value)).count()).sum()
        })
    }

    /// All entries, highest priority first, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.lanes.iter().rev().flatten()
    }

    /// All entries, lowest priority first, oldest first: in the order in which a full queue drops.
    pub(crate) fn iter_from_lowest(&self) -> impl Iterator<Item = &T> {
        self.lanes.iter().flatten()
    }

    /// The first entry that is wanted, lowest priority first, oldest first: the one that a full queue drops. Whatever lies before it comes out.
    pub(crate) fn lowest(&mut self, wanted: impl Fn(&T) -> bool, out: &mut Vec<T>) -> Option<&T> {
        let mut found = None;
        for (level, lane) in self.lanes.iter_mut().enumerate() {
            while lane.front().is_some_and(|value| !wanted(value)) {
                out.extend(lane.pop_front());
                self.len -= 1;
            }
            if !lane.is_empty() {
                found = Some(level);
                break;
            }
            self.occupied &= !(1 << level);
        }
        self.lanes[found?].front()
    }

    /// Takes out the entries that `keep` does not want.
    pub(crate) fn sift(&mut self, mut keep: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut out = Vec::new();
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            if lane.iter().all(&mut keep) {
                continue;
            }
            for value in std::mem::take(lane) {
                if keep(&value) {
                    lane.push_back(value);
                } else {
                    out.push(value);
                }
            }
            if lane.is_empty() {
                self.occupied &= !(1 << number);
            }
        }
        self.len -= out.len();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(n: u8) -> Priority {
        Priority::new(n).unwrap_or(Priority::NORMAL)
    }

    fn band(priority: Priority) -> usize {
        BANDS.iter().position(|lanes| lanes & 1 << priority.level() != 0).unwrap_or(3)
    }

    fn strict<T>() -> Lanes<T> {
        Lanes::new(Fairness::Strict)
    }

    fn weighted<T>(high: u32, normal: u32, low: u32) -> Lanes<T> {
        Lanes::new(Fairness::Weighted { high, normal, low })
    }

    /// `count` each of the levels 9, 5 and 1, which stand for their bands, numbered.
    fn fill(lanes: &mut Lanes<(u8, u32)>, count: u32) {
        for n in 0..count {
            for p in [1, 5, 9] {
                lanes.push_back(level(p), (p, n));
            }
        }
    }

    /// How many of the next `count` are of level 9, 5 and 1.
    fn shares(lanes: &mut Lanes<(u8, u32)>, count: usize) -> [usize; 3] {
        let next: Vec<u8> = std::iter::from_fn(|| lanes.pop()).take(count).map(|(p, _)| p).collect();
        [9, 5, 1].map(|p| next.iter().filter(|n| **n == p).count())
    }

    #[test]
    fn weights_share_exactly_and_evenly() {
        let mut lanes = weighted(3, 2, 1);
        fill(&mut lanes, 60);
        assert_eq!(shares(&mut lanes, 60), [30, 20, 10]);
        for _ in 0..10 {
            assert_eq!(shares(&mut lanes, 6), [3, 2, 1]);
        }
        // The high band is used up: its share is the others'.
        assert_eq!(shares(&mut lanes, 30), [0, 20, 10]);
    }

    #[test]
    fn the_order_is_always_the_same() {
        let order = || {
            let mut lanes = weighted(3, 2, 1);
            fill(&mut lanes, 4);
            std::iter::from_fn(move || lanes.pop()).map(|(p, _)| p).collect::<Vec<_>>()
        };
        assert_eq!(order(), [9, 5, 9, 1, 5, 9, 9, 5, 5, 1, 1, 1]);
        assert_eq!(order(), order());
    }

    #[test]
    fn within_a_band_priority_and_then_emit_order_decide() {
        let mut lanes = weighted(1, 1, 1);
        for (n, p) in [8, 10, 9, 10, 8, 4, 7, 4, 0, 3].into_iter().enumerate() {
            lanes.push_back(level(p), (p, n));
        }
        let order: Vec<_> = std::iter::from_fn(|| lanes.pop()).collect();
        let of = |levels: std::ops::RangeInclusive<u8>| {
            order.iter().copied().filter(|(p, _)| levels.contains(p)).collect::<Vec<_>>()
        };
        assert_eq!(of(8..=10), [(10, 1), (10, 3), (9, 2), (8, 0), (8, 4)]);
        assert_eq!(of(4..=7), [(7, 6), (4, 5), (4, 7)]);
        assert_eq!(of(0..=3), [(3, 9), (0, 8)]);
    }

    #[test]
    fn an_endless_stream_of_high_ones_starves_nobody() {
        for (high, low) in [(3, 1), (1, 1), (1, 3), (100, 1)] {
            let mut lanes = weighted(high, 2, low);
            lanes.push_back(level(9), 'h');
            for _ in 0..1000 {
                assert_eq!(lanes.pop(), Some('h'));
                lanes.push_back(level(9), 'h');
            }
            lanes.push_back(level(1), 'l');
            let mut waited = 0;
            // One at a time, so that the high band is empty whenever its event has been taken.
            while lanes.pop() == Some('h') {
                waited += 1;
                lanes.push_back(level(9), 'h');
            }
            assert!(waited <= high.div_ceil(low), "{waited} before it with {high} to {low}");
        }
    }

    #[test]
    fn nobody_waits_longer_than_the_weights_allow() {
        let mut seed = 3_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for weights in [[3, 2, 1], [1, 1, 1], [1, 5, 2], [7, 0, 3]] {
            let mut lanes = weighted(weights[0], weights[1], weights[2]);
            let total: u32 = weights.iter().sum();
            let mut waited = [0; 3];
            for _ in 0..50_000 {
                for _ in 0..random(3) {
                    let p = level(random(11) as u8);
                    lanes.push_back(p, band(p));
                }
                let waiting = lanes.len_by_band(|_| true);
                let popped = lanes.pop();
                for band in 0..3 {
                    waited[band] = if waiting[band] == 0 || popped == Some(band) { 0 } else { waited[band] + 1 };
                    let bound = if weights[band] == 0 { u32::MAX } else { 2 * total.div_ceil(weights[band]) };
                    assert!(waited[band] <= bound, "{weights:?}: band {band} waited {}", waited[band]);
                }
            }
        }
    }

    #[test]
    fn a_band_of_weight_0_runs_when_the_others_are_empty() {
        let mut lanes = weighted(0, 2, 0);
        fill(&mut lanes, 3);
        assert_eq!(shares(&mut lanes, 3), [0, 3, 0]);
        assert_eq!(shares(&mut lanes, 3), [3, 0, 0], "of two such bands the higher goes first");
        lanes.push_back(level(5), (5, 9));
        assert_eq!(lanes.pop(), Some((5, 9)));
        assert_eq!(shares(&mut lanes, 9), [0, 0, 3]);
    }

    #[test]
    fn the_greatest_weights_do_not_overflow() {
        let mut lanes = weighted(u32::MAX, u32::MAX, 1);
        fill(&mut lanes, 1000);
        assert_eq!(shares(&mut lanes, 2000), [1000, 1000, 0]);
        assert_eq!(shares(&mut lanes, 2000), [0, 0, 1000]);
    }

    #[test]
    fn a_look_shows_what_comes_and_changes_nothing() {
        for mut lanes in [strict(), weighted(3, 2, 1), weighted(0, 1, 0)] {
            assert!(lanes.peek().is_none());
            fill(&mut lanes, 10);
            while let Some(next) = lanes.peek().copied() {
                assert_eq!(lanes.peek(), Some(&next));
                assert_eq!(lanes.pop(), Some(next));
            }
            assert_eq!(lanes.len(), 0);
        }
    }

    #[test]
    fn a_turn_that_was_not_used_is_no_turn() {
        let mut lanes = weighted(3, 2, 1);
        fill(&mut lanes, 20);
        for _ in 0..5 {
            // Popped and put back over and over, as for a permit that is not free; then skipped, and so not counted.
            for _ in 0..7 {
                if let Some((p, n)) = lanes.pop() {
                    lanes.push_front(level(p), (p, n));
                }
            }
            assert!(lanes.pop().is_some());
            lanes.refund();
            assert_eq!(shares(&mut lanes, 6), [3, 2, 1]);
        }
    }

    #[test]
    fn strict_is_the_highest_first_whatever_waits() {
        let mut lanes = strict();
        fill(&mut lanes, 5);
        assert_eq!(shares(&mut lanes, 5), [5, 0, 0]);
        assert_eq!(shares(&mut lanes, 5), [0, 5, 0]);
    }

    #[test]
    fn bands_are_counted() {
        let mut lanes = strict();
        for n in 0..=10 {
            lanes.push_back(level(n), n);
        }
        assert_eq!(lanes.len_by_band(|_| true), [3, 4, 4]);
        assert_eq!(lanes.len_by_band(|n| n % 2 == 0), [2, 2, 2]);
        assert_eq!([10, 8, 7, 4, 3, 0].map(|n| band(level(n))), [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn highest_first_then_oldest_first() {
        let mut lanes = strict();
        for (n, p) in [5, 0, 10, 5, 10, 0].into_iter().enumerate() {
            lanes.push_back(level(p), (p, n));
        }
        assert_eq!(lanes.len(), 6);
        let order: Vec<_> = std::iter::from_fn(|| lanes.pop()).collect();
        assert_eq!(order, [(10, 2), (10, 4), (5, 0), (5, 3), (0, 1), (0, 5)]);
        assert_eq!(lanes.len(), 0);
        assert!(lanes.pop().is_none());
    }

    #[test]
    fn sifting_keeps_order_and_counts() {
        let mut lanes = strict();
        for n in 0..10 {
            lanes.push_back(level(n % 3), n);
        }
        let mut out = lanes.sift(|n| n % 2 == 0);
        out.sort_unstable();
        assert_eq!(out, [1, 3, 5, 7, 9]);
        assert_eq!(lanes.len(), 5);
        assert_eq!(lanes.iter_from_lowest().copied().collect::<Vec<_>>(), [0, 6, 4, 2, 8]);
        assert_eq!(std::iter::from_fn(|| lanes.pop()).collect::<Vec<_>>(), [2, 8, 4, 0, 6]);
    }

    #[test]
    fn the_lowest_that_is_wanted_is_shown_and_what_is_before_it_comes_out() {
        let mut lanes = strict();
        for (n, p) in [5, 0, 3, 0, 5, 3].into_iter().enumerate() {
            lanes.push_back(level(p), n);
        }
        let mut out = Vec::new();
        assert_eq!(lanes.lowest(|n| [0, 4, 5].contains(n), &mut out), Some(&5));
        assert_eq!((out, lanes.len(), lanes.highest()), (vec![1, 3, 2], 3, Some(level(5))));
        let mut out = Vec::new();
        assert_eq!(lanes.lowest(|n| *n == 4, &mut out), Some(&4));
        assert_eq!((out, lanes.len()), (vec![5, 0], 1));
        assert_eq!(lanes.lowest(|_| false, &mut Vec::new()), None);
        assert_eq!((lanes.len(), lanes.highest(), lanes.pop()), (0, None, None));
    }

    #[test]
    fn what_is_put_back_comes_first() {
        let mut lanes = strict();
        lanes.push_back(level(5), 1);
        lanes.push_back(level(5), 2);
        let head = lanes.pop();
        assert_eq!(head, Some(1));
        lanes.push_front(level(5), 1);
        assert_eq!(lanes.iter().copied().collect::<Vec<_>>(), [1, 2]);
    }
}
