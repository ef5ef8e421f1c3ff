//! The events a bus remembers, oldest first. Lives inside the bus's inlet lock.

use crate::bus::parts::catalogue::{Catalogue, NameOf, Sought};
use crate::bus::parts::shelf::Shelf;
use crate::event::{AnyEvent, EventId, HistoryPolicy, all_ripe_are_told};
use crate::sys::clock::Stamp;
use rustc_hash::FxHashMap;
use std::any::TypeId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub(crate) struct History {
    shelf: Shelf,
    /// Every event below this number was looked at, and is not complete, or is among the ripe, or about to be told of.
    looked_to: u64,
    /// Numbers below that of events that have completed since, and of some that are not here any more.
    ripe: BinaryHeap<Reverse<u64>>,
    /// For finds, if there are any.
    catalogue: Option<Box<Catalogue>>,
    limit: Option<usize>,
    policy: HistoryPolicy,
    /// A long backlog is worth one warning a minute: by the stamps of what comes, not before this one.
    next_warning: Stamp,
    /// How many unfinished ones had to go since the last warning.
    unwarned: u64,
    /// See [`History::take_back`].
    spent: Vec<AnyEvent>,
}

/// What a push threw out; to be dropped outside the lock.
#[derive(Default)]
pub(crate) struct Evicted {
    pub(crate) event: Option<AnyEvent>,
    /// Nothing had completed, and it is time for a warning; so many went before it since the last one.
    pub(crate) warn: Option<u64>,
}

/// Between two warnings.
const APART: Stamp = 60_000_000_000;

/// A history from this length on has a catalogue, when a find looks for something in it.
const LONG: usize = 64;
/// So many places are entered in it in one section.
const PIECE: usize = 4096;

/// So many spent events make a batch.
pub(crate) const SPENT: usize = 32;

impl History {
    pub(crate) fn new(limit: Option<usize>, policy: HistoryPolicy) -> Self {
        History {
            shelf: Shelf::default(),
            looked_to: 0,
            ripe: BinaryHeap::new(),
            catalogue: None,
            limit,
            policy,
            next_warning: 0,
            unwarned: 0,
            spent: Vec::new(),
        }
    }

    /// Spent events, which left the history before they had run and which nobody else keeps: whoever emits the next ones frees them.
    /// Memory goes back to the thread that asked for it, under that thread's lock in most allocators, and two threads at one lock cost a
    /// bus with a backlog a quarter of its speed. A batch that finds no room stays with the caller.
    pub(crate) fn take_back(&mut self, spent: &mut Vec<AnyEvent>) {
        if self.spent.is_empty() {
            std::mem::swap(&mut self.spent, spent);
        }
    }

    /// One of them.
    pub(crate) fn pop_spent(&mut self) -> Option<AnyEvent> {
        self.spent.pop()
    }

    pub(crate) fn clear_spent(&mut self) -> Vec<AnyEvent> {
        std::mem::take(&mut self.spent)
    }

    /// True if a push must be refused: it has room for no more, and all that it has is unfinished. `latest_claim` as in [`push`](Self::push).
    pub(crate) fn is_full(&mut self, latest_claim: impl FnOnce() -> Stamp) -> bool {
        match (self.policy, self.limit) {
            (HistoryPolicy::Reject, Some(limit)) if limit > 0 && self.shelf.len() >= limit => {
                self.first_complete(latest_claim).is_none()
            }
            _ => false,
        }
    }

    /// `latest_claim` gives the stamp of the newest event that has been claimed: what is younger cannot be complete. `foreign`: the event's
    /// id need not come from this process's clock.
    pub(crate) fn push(&mut self, event: AnyEvent, foreign: bool, latest_claim: impl Fn() -> Stamp) -> Evicted {
        let number = self.shelf.push(event, foreign);
        if self.catalogue.is_some() {
            self.enter(number);
        }
        let Some(limit) = self.limit else { return Evicted::default() };
        if limit == 0 {
            // Only what is unfinished stays; each push sweeps a little, so the sweep keeps up.
            return Evicted { event: self.oldest_complete(latest_claim), warn: None };
        }
        if self.shelf.len() <= limit {
            return Evicted::default();
        }
        if let Some(event) = self.oldest_complete(&latest_claim) {
            if self.policy == HistoryPolicy::KeepUnfinished && self.shelf.len() > limit {
                // What completed on another bus left nobody to trim it here.
                let another = self.oldest_complete(latest_claim);
                self.spent.extend(another);
            }
            return Evicted { event: Some(event), warn: None };
        }
        if self.policy == HistoryPolicy::KeepUnfinished {
            return Evicted::default();
        }
        let stamp = self.shelf.last().map_or(0, |event| event.head().stamp());
        let event = self.take_first();
        Evicted { event, warn: self.warns_at(stamp) }
    }

    fn warns_at(&mut self, stamp: Stamp) -> Option<u64> {
        // Further off it is only because the clock was set back.
        if stamp < self.next_warning && self.next_warning - stamp <= APART {
            self.unwarned += 1;
            return None;
        }
        self.next_warning = stamp.saturating_add(APART);
        Some(self.rest())
    }

    /// How many unfinished ones had to go, and nobody was told; nothing of that is told later.
    pub(crate) fn rest(&mut self) -> u64 {
        std::mem::take(&mut self.unwarned)
    }

    /// An event has completed: one that is beyond the limit, and was kept because nothing had, may go.
    pub(crate) fn trim(&mut self, latest_claim: impl FnOnce() -> Stamp) -> Option<AnyEvent> {
        let over = self.limit.is_some_and(|limit| self.shelf.len() > limit);
        if over { self.oldest_complete(latest_claim) } else { None }
    }

    #[inline(always)]
    fn oldest_complete(&mut self, latest_claim: impl FnOnce() -> Stamp) -> Option<AnyEvent> {
        let (_, first) = self.shelf.first()?;
        if first.is_complete() {
            return self.take_first();
        }
        let latest_claim = latest_claim();
        if first.head().stamp() > latest_claim {
            return None;
        }
        // By far the commonest after that: all but the first was emitted while that one runs.
        let (ripe, looked_to) = (self.ripe.is_empty(), self.looked_to);
        let unseen = |(number, event): &(u64, &AnyEvent)| *number >= looked_to && event.is_complete();
        if ripe && self.shelf.second().filter(unseen).is_some() {
            return self.shelf.pop_second();
        }
        let number = self.first_complete(|| latest_claim)?;
        self.take(number)
    }

    /// The number of the oldest complete one. Each unfinished one is looked at once, and tells of its completion itself.
    #[inline(never)]
    fn first_complete(&mut self, latest_claim: impl FnOnce() -> Stamp) -> Option<u64> {
        match self.shelf.first() {
            Some((oldest, event)) if event.is_complete() => return Some(oldest),
            _ => {}
        }
        self.forget_ripe();
        if let Some(Reverse(ripe)) = self.ripe.peek() {
            return Some(*ripe);
        }
        // Before the look: what completes after it may be found by the next.
        if !all_ripe_are_told() {
            let below = self.looked_to;
            let late = self.shelf.iter_from(0).take_while(|(number, _)| *number < below);
            if let Some((number, _)) = late.into_iter().find(|(_, event)| event.is_complete()) {
                return Some(number);
            }
        }
        let latest_claim = latest_claim();
        for (number, event) in self.shelf.iter_from(self.looked_to) {
            if event.head().stamp() > latest_claim {
                return None;
            }
            if !event.tells_when_complete() {
                return Some(number);
            }
            self.looked_to = number + 1;
        }
        None
    }

    /// An event is complete that was looked at before.
    pub(crate) fn ripens(&mut self, event: &AnyEvent) {
        if let Some(number) = self.shelf.number_of(event.head().id())
            && number < self.looked_to
        {
            self.ripe.push(Reverse(number));
        }
    }

    #[inline(always)]
    fn take_first(&mut self) -> Option<AnyEvent> {
        let gone = self.shelf.pop_first();
        if !self.ripe.is_empty() {
            self.forget_ripe();
        }
        gone
    }

    fn take(&mut self, number: u64) -> Option<AnyEvent> {
        let gone = self.shelf.remove(number);
        self.forget_ripe();
        gone
    }

    /// Of those that are gone, all that are next.
    #[cold]
    fn forget_ripe(&mut self) {
        while self.ripe.peek().is_some_and(|Reverse(ripe)| self.shelf.get(*ripe).is_none()) {
            self.ripe.pop();
        }
    }

    pub(crate) fn remove(&mut self, id: EventId) -> Option<AnyEvent> {
        let number = self.shelf.number_of(id)?;
        self.take(number)
    }

    pub(crate) fn get(&self, id: EventId) -> Option<&AnyEvent> {
        self.shelf.get(self.shelf.number_of(id)?)
    }

    pub(crate) fn len(&self) -> usize {
        self.shelf.len()
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &AnyEvent> {
        self.shelf.iter()
    }

    /// Above the numbers of all events so far.
    pub(crate) fn next_number(&self) -> u64 {
        self.shelf.next_number()
    }

    /// Shows up to `few` events whose number is below `before`, newest first, and the lowest number shown; `None` if there are none.
    pub(crate) fn look_back(&self, before: u64, few: usize, mut show: impl FnMut(&AnyEvent)) -> Option<u64> {
        let mut lowest = None;
        for (number, event) in self.shelf.iter_below(before, few) {
            show(event);
            lowest = Some(number);
        }
        lowest
    }

    #[cold]
    fn enter(&mut self, number: u64) {
        let (Some(catalogue), Some(event)) = (&mut self.catalogue, self.shelf.last()) else { return };
        if !catalogue.note(number, event, &self.shelf) {
            self.catalogue = None;
        }
    }

    /// As [`look_back`](Self::look_back), of what is sought only, once the history is long; else of all.
    pub(crate) fn seek(
        &mut self,
        sought: &Sought<'_>,
        before: u64,
        few: usize,
        mut show: impl FnMut(&AnyEvent),
    ) -> Option<u64> {
        if self.shelf.len() < LONG {
            return self.look_back(before, few, show);
        }
        let catalogue =
            self.catalogue.get_or_insert_with(|| Box::new(Catalogue::beginning_at(self.shelf.next_number())));
        let oldest = self.shelf.first().map_or(u64::MAX, |(oldest, _)| oldest);
        let mut left = few;
        for number in catalogue.below(sought, before).take_while(|number| *number >= oldest) {
            if let Some(event) = self.shelf.get(number) {
                show(event);
                left -= 1;
            }
            if left == 0 {
                return Some(number);
            }
        }
        let seen = catalogue.first_number();
        let more = oldest < seen;
        if more {
            catalogue.extend(&self.shelf, few.min(PIECE));
        }
        more.then_some(before.min(seen))
    }

    /// Types in the catalogue of which a find by name has yet to ask the names.
    pub(crate) fn unknown(&self, types: &FxHashMap<TypeId, bool>) -> Vec<(TypeId, NameOf)> {
        self.catalogue.as_ref().map_or_else(Vec::new, |catalogue| catalogue.unknown(types))
    }

    /// The number of that event, if the history has it, and not another one of its id.
    pub(crate) fn number_of(&self, event: &AnyEvent) -> Option<u64> {
        let number = self.shelf.number_of(event.head().id())?;
        self.shelf.get(number).is_some_and(|own| own.same(event)).then_some(number)
    }

    pub(crate) fn clear(&mut self) -> Vec<AnyEvent> {
        self.catalogue = None;
        self.ripe.clear();
        self.shelf.clear()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Stamp = APART;

    #[test]
    fn a_backlog_is_worth_one_warning_a_minute() {
        let mut history = History::new(Some(1), HistoryPolicy::DropOldest);
        let start = 1_700_000_000_000_000_000;
        assert_eq!(history.warns_at(start), Some(0));
        assert!((1..=100).all(|n| history.warns_at(start + n).is_none()));
        assert_eq!(history.warns_at(start + MINUTE - 1), None);
        assert_eq!(history.warns_at(start + MINUTE), Some(101));
        assert_eq!(history.warns_at(start + MINUTE + 1), None);
        // The clock was set back by an hour.
        assert_eq!(history.warns_at(start - 60 * MINUTE), Some(1));
        assert_eq!(history.warns_at(start - 60 * MINUTE + 1), None);
        assert_eq!((history.rest(), history.rest()), (1, 0));
    }
}
