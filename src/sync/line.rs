//! A line of entries that wait for one thing: by priority, between buses by turns, inside a bus by its own fairness. As pure data.
//!
//! Among the buses that have entries here, those go first whose best entry has the highest priority, and these take turns, one each. A bus
//! gives its turn to the entry that its own queue would start next: the first of its highest priority, or of the band whose turn it is.
//! Entering, taking the next and leaving touch neighbours only, whatever the length of the line; with many buses there is a tree of these.

use crate::sync::{Shares, Sweep};
use crate::sys::planted;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// What decides where in a line an entry stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rank {
    /// Buses of different numbers take turns.
    pub(crate) bus: u64,
    /// The event's priority, 0 to 10.
    pub(crate) level: u8,
    /// How the bus shares itself among high, normal and low; `None`: the highest first.
    pub(crate) weights: Option<[u32; 3]>,
}

impl Rank {
    /// For tickets that come back: those stand in order of arrival.
    pub(crate) const NONE: Rank = Rank { bus: 0, level: 5, weights: None };
}

/// Where an entry is kept: leaving the line needs no search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    at: usize,
    /// No other entry of the line ever has this number; earlier entries have smaller ones.
    pub(crate) number: u64,
}

const LEVELS: usize = 11;
/// How many entries an empty line keeps memory for.
const KEPT: usize = 1024;

#[derive(Debug)]
struct Node<T> {
    value: T,
    number: u64,
    bus: u64,
    level: usize,
    before: Option<usize>,
    after: Option<usize>,
}

/// A bus among the others: highest level first, then the bus with fewer turns there, then the one that came first.
type Standing = (Reverse<usize>, u64, u64, u64);

/// The entries of one bus.
#[derive(Debug)]
struct Own {
    /// First and last of each level.
    ends: [Option<(usize, usize)>; LEVELS],
    occupied: u16,
    /// The number of its last turn at each level.
    had: [u64; LEVELS],
    shares: Option<Box<Shares>>,
    /// Its entry among the buses, while it has any here.
    stands: Option<Standing>,
}

#[derive(Debug)]
pub(crate) struct Line<T> {
    /// The entries; those that have left are `None`, to be used again.
    nodes: Vec<Option<Node<T>>>,
    empty: Vec<usize>,
    buses: FxHashMap<u64, Own>,
    order: BTreeSet<Standing>,
    /// The number of the last turn at each level.
    turns: [u64; LEVELS],
    entered: u64,
    /// A bus leaves `buses` some time after its last entry, so that one which comes back at once has no more than its turns.
    sweep: Sweep,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Line {
            nodes: Vec::new(),
            empty: Vec::new(),
            buses: FxHashMap::default(),
            order: BTreeSet::new(),
            turns: [0; LEVELS],
            entered: 0,
            sweep: Sweep::default(),
        }
    }
}

impl<T> Line<T> {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - self.empty.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Puts an entry behind all others of its bus and level.
    pub(crate) fn enter(&mut self, rank: Rank, value: T) -> Key {
        let level = usize::from(rank.level).min(LEVELS - 1);
        self.entered += 1;
        let number = self.entered;
        let at = self.empty.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            self.nodes.len() - 1
        });
        if !self.buses.contains_key(&rank.bus) && self.sweep.is_due(self.buses.len()) {
            self.buses.retain(|_, own| own.occupied != 0);
            self.sweep.has_left(self.buses.len());
        }
        let own = self.buses.entry(rank.bus).or_insert_with(|| Own {
            ends: [None; LEVELS],
            occupied: 0,
            had: [0; LEVELS],
            shares: rank.weights.map(|weights| Box::new(Shares::new(weights))),
            stands: None,
        });
        let before = own.ends[level].map(|(_, last)| last);
        own.ends[level] = Some((own.ends[level].map_or(at, |(first, _)| first), at));
        own.occupied |= 1 << level;
        self.nodes[at] = Some(Node { value, number, bus: rank.bus, level, before, after: None });
        if let Some(before) = before.and_then(|before| self.nodes[before].as_mut()) {
            before.after = Some(at);
        }
        self.stand(rank.bus, number);
        Key { at, number }
    }

    /// Takes the next entry out of the line, with the key that it had.
    pub(crate) fn next(&mut self) -> Option<(Key, T)> {
        let (Reverse(level), turn, _, bus) = *self.order.first()?;
        let own = self.buses.get_mut(&bus)?;
        own.had[level] = turn;
        self.turns[level] = self.turns[level].max(turn);
        let among = match &mut own.shares {
            None => own.occupied,
            Some(shares) => shares.turn(own.occupied),
        };
        let (at, _) = own.ends[highest(among)?]?;
        let number = self.nodes[at].as_ref()?.number;
        Some((Key { at, number }, self.take(at)?))
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        self.nodes.get(key.at)?.as_ref().filter(|node| node.number == key.number).map(|node| &node.value)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.nodes.get_mut(key.at)?.as_mut().filter(|node| node.number == key.number).map(|node| &mut node.value)
    }

    /// Takes an entry out of the line before its turn. `None`: it is not there any more.
    pub(crate) fn leave(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.take(key.at)
    }

    /// All entries with their keys; those of each bus in its order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let ends = self.order.iter().filter_map(|(.., bus)| self.buses.get(bus)).flat_map(|own| own.ends.iter().rev());
        let firsts = ends.filter_map(|ends| ends.map(|(first, _)| first));
        firsts.flat_map(|first| {
            let node = |at: usize| self.nodes[at].as_ref().map(|node| (at, node));
            std::iter::successors(node(first), move |(_, before)| before.after.and_then(node))
                .map(|(at, node)| (Key { at, number: node.number }, &node.value))
        })
    }

    fn take(&mut self, at: usize) -> Option<T> {
        let node = self.nodes.get_mut(at)?.take()?;
        self.empty.push(at);
        if let Some(before) = node.before.and_then(|before| self.nodes[before].as_mut()) {
            before.after = node.after;
        }
        if let Some(after) = node.after.and_then(|after| self.nodes[after].as_mut())
            && !planted("leaver_cuts_the_line")
        {
            after.before = node.before;
        }
        if let Some(own) = self.buses.get_mut(&node.bus) {
            own.ends[node.level] = match (own.ends[node.level], node.before, node.after) {
                (_, None, None) | (None, ..) => None,
                (Some((_, last)), None, Some(after)) => Some((after, last)),
                (Some((first, _)), Some(before), None) => Some((first, before)),
                (ends, Some(_), Some(_)) => ends,
            };
            if own.ends[node.level].is_none() {
                own.occupied &= !(1 << node.level);
            }
            if own.occupied == 0
                && let Some(shares) = &mut own.shares
            {
                shares.forget();
            }
        }
        self.entered += 1;
        self.stand(node.bus, self.entered);
        if self.is_empty() {
            self.nodes.clear();
            self.empty.clear();
            // The memory that a long line took is not kept for the next one.
            self.nodes.shrink_to(KEPT);
            self.empty.shrink_to(KEPT);
        }
        Some(node.value)
    }

    /// Brings a bus to where it belongs among the others. `came`: the number of the entry or the turn that changed it.
    fn stand(&mut self, bus: u64, came: u64) {
        let Some(own) = self.buses.get_mut(&bus) else { return };
        let stands = highest(own.occupied).map(|level| {
            let turn = self.turns[level].max(own.had[level] + 1);
            match own.stands {
                // The bus waits for that turn already.
                Some(old @ (Reverse(before), its, ..)) if before == level && its > own.had[level] => old,
                _ => (Reverse(level), turn, came, bus),
            }
        });
        if stands == own.stands {
            return;
        }
        if let Some(old) = std::mem::replace(&mut own.stands, stands) {
            self.order.remove(&old);
        }
        self.order.extend(stands);
    }
}

fn highest(levels: u16) -> Option<usize> {
    levels.checked_ilog2().map(|level| level as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(bus: u64, level: u8) -> Rank {
        Rank { bus, level, weights: None }
    }

    fn rest<T>(line: &mut Line<T>) -> Vec<T> {
        std::iter::from_fn(|| next(line)).collect()
    }

    fn next<T>(line: &mut Line<T>) -> Option<T> {
        line.next().map(|(_, value)| value)
    }

    fn random() -> impl FnMut(usize) -> usize {
        let mut seed = 11_u64;
        move |below| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        }
    }

    #[test]
    fn the_highest_first_and_of_these_the_oldest() {
        let mut line = Line::default();
        for (n, level) in [5, 0, 10, 5, 10, 0].into_iter().enumerate() {
            line.enter(rank(1, level), n);
        }
        assert_eq!((line.len(), line.iter().map(|(_, n)| *n).collect::<Vec<_>>()), (6, vec![2, 4, 0, 3, 1, 5]));
        assert_eq!(rest(&mut line), [2, 4, 0, 3, 1, 5]);
        assert!(line.is_empty());
    }

    #[test]
    fn buses_of_the_same_priority_take_turns() {
        let mut line = Line::default();
        for (bus, name, count) in [(1, 'a', 6), (2, 'b', 3), (3, 'c', 2)] {
            for _ in 0..count {
                line.enter(rank(bus, 5), name);
            }
        }
        assert_eq!(String::from_iter(rest(&mut line)), "abcabcabaaa");
    }

    #[test]
    fn a_bus_competes_with_its_best() {
        let mut line = Line::default();
        for (bus, level, name) in [(1, 5, 'a'), (1, 5, 'b'), (2, 2, 'x'), (2, 8, 'X'), (3, 9, 'T')] {
            line.enter(rank(bus, level), name);
        }
        assert_eq!(String::from_iter(rest(&mut line)), "TXabx");
    }

    #[test]
    fn one_that_comes_back_at_once_has_no_more_than_its_turns() {
        let mut line = Line::default();
        for _ in 0..20 {
            line.enter(rank(1, 5), 'a');
        }
        let mut ran = String::new();
        for _ in 0..10 {
            line.enter(rank(2, 5), 'b');
            ran.extend([next(&mut line), next(&mut line)].into_iter().flatten());
        }
        assert_eq!(ran.matches('b').count(), 10, "{ran}");
        assert_eq!(ran.matches('a').count(), 10, "{ran}");
        // And one that has waited for others' sake is not behind for ever.
        line.enter(rank(3, 5), 'c');
        assert!(String::from_iter([next(&mut line), next(&mut line)].into_iter().flatten()).contains('c'));
    }

    #[test]
    fn each_bus_shares_itself_as_it_likes() {
        let mut line = Line::default();
        let weights = Some([3, 2, 1]);
        for level in [9, 5, 1] {
            for _ in 0..12 {
                line.enter(Rank { bus: 1, level, weights }, (1, level));
                line.enter(rank(2, level), (2, level));
            }
        }
        let ran: Vec<_> = std::iter::from_fn(|| next(&mut line)).take(24).collect();
        let of = |bus, level| ran.iter().filter(|one| **one == (bus, level)).count();
        assert_eq!([of(1, 9), of(1, 5), of(1, 1)], [6, 4, 2]);
        assert_eq!([of(2, 9), of(2, 5), of(2, 1)], [12, 0, 0]);
    }

    #[test]
    fn who_leaves_is_missed_by_nobody() {
        let mut line = Line::default();
        let keys: Vec<_> = (0..6).map(|n| line.enter(rank(1, 5), n)).collect();
        for n in [0, 3, 5] {
            assert_eq!(line.leave(keys[n]), Some(n));
            assert_eq!(line.leave(keys[n]), None);
        }
        let late = line.enter(rank(1, 5), 6);
        assert_eq!((line.get(late), line.get(keys[5])), (Some(&6), None), "rooms are used again, keys are not");
        assert_eq!(rest(&mut line), [1, 2, 4, 6]);
    }

    /// Against the rule in its plainest form, on one bus.
    #[test]
    fn random_steps_keep_the_order() {
        let mut random = random();
        let (mut line, mut plain) = (Line::default(), Vec::new());
        for n in 0..50_000 {
            match random(5) {
                0..=2 => {
                    let level = random(11) as u8;
                    plain.push((Reverse(level), n, line.enter(rank(7, level), n)));
                }
                3 if !plain.is_empty() => {
                    let (_, n, key) = plain.remove(random(plain.len()));
                    assert_eq!(line.leave(key), Some(n));
                }
                _ => {
                    let best = plain.iter().enumerate().min_by_key(|(_, (level, n, _))| (*level, *n)).map(|(at, _)| at);
                    assert_eq!(next(&mut line), best.map(|at| plain.remove(at).1));
                }
            }
            assert_eq!((line.len(), line.is_empty()), (plain.len(), plain.is_empty()));
        }
    }

    /// A steady stream on many buses: none of one priority waits longer than all the others' turns.
    #[test]
    fn nobody_of_a_priority_is_passed_over() {
        let mut random = random();
        let mut line = Line::default();
        let mut passed = [0; 8];
        for _ in 0..20_000 {
            let bus = random(8);
            if random(2) == 0 || line.len() < 8 {
                line.enter(rank(bus as u64, 5), bus);
            }
            let waiting: Vec<_> = (0..8).filter(|bus| line.iter().any(|(_, other)| other == bus)).collect();
            let next = next(&mut line);
            for bus in waiting {
                passed[bus] = if next == Some(bus) { 0 } else { passed[bus] + 1 };
                assert!(passed[bus] < 16, "bus {bus} was passed over {} times", passed[bus]);
            }
        }
    }

    #[test]
    fn buses_that_come_and_go_leave_nothing() {
        let mut line = Line::default();
        for bus in 0..10_000 {
            line.enter(rank(bus, 5), bus);
            assert_eq!(next(&mut line), Some(bus));
            assert!(line.buses.len() < 100);
        }
    }
}
