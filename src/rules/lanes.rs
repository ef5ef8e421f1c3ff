//! Eleven first-in-first-out lanes, one a priority, and a bitmap that finds the highest occupied one.

use crate::event::Priority;
use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Lanes<T> {
    lanes: [VecDeque<T>; 11],
    occupied: u16,
    len: usize,
}

impl<T> Lanes<T> {
    pub(crate) fn new() -> Self {
        Lanes { lanes: std::array::from_fn(|_| VecDeque::new()), occupied: 0, len: 0 }
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

    /// Puts back what was popped.
    pub(crate) fn push_front(&mut self, priority: Priority, value: T) {
        let lane = usize::from(priority.level()).min(10);
        self.lanes[lane].push_front(value);
        self.occupied |= 1 << lane;
        self.len += 1;
    }

    /// The oldest of the highest priority.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.occupied == 0 {
            return None;
        }
        let lane = 15 - self.occupied.leading_zeros() as usize;
        let value = self.lanes[lane].pop_front()?;
        if self.lanes[lane].is_empty() {
            self.occupied &= !(1 << lane);
        }
        self.len -= 1;
        Some(value)
    }

    /// What `pop` would give.
    pub(crate) fn peek(&self) -> Option<&T> {
        let lane = 15usize.checked_sub(self.occupied.leading_zeros() as usize)?;
        self.lanes[lane].front()
    }

    /// Highest priority first, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.lanes.iter().rev().flatten()
    }

    /// Lowest priority first, oldest first: in the order in which a full queue drops.
    pub(crate) fn iter_from_lowest(&self) -> impl Iterator<Item = &T> {
        self.lanes.iter().flatten()
    }

    /// Takes out what `keep` does not want.
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

    #[test]
    fn highest_first_then_oldest_first() {
        let mut lanes = Lanes::new();
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
        let mut lanes = Lanes::new();
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
    fn what_is_put_back_comes_first() {
        let mut lanes = Lanes::new();
        lanes.push_back(level(5), 1);
        lanes.push_back(level(5), 2);
        let head = lanes.pop();
        assert_eq!(head, Some(1));
        lanes.push_front(level(5), 1);
        assert_eq!(lanes.iter().copied().collect::<Vec<_>>(), [1, 2]);
    }
}
