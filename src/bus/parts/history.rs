//! The events a bus remembers, oldest first. Lives inside the bus's inlet lock.

use crate::event::{AnyEvent, EventId, HistoryPolicy};
use crate::sys::clock::Stamp;
use std::collections::VecDeque;

pub(crate) struct History {
    /// Each with its number, growing from the oldest to the newest.
    events: VecDeque<(u64, AnyEvent)>,
    /// The number of the next one.
    next: u64,
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

/// So many spent events make a batch.
pub(crate) const SPENT: usize = 32;

impl History {
    pub(crate) fn new(limit: Option<usize>, policy: HistoryPolicy) -> Self {
        History { events: VecDeque::new(), next: 0, limit, policy, next_warning: 0, unwarned: 0, spent: Vec::new() }
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
            (HistoryPolicy::Reject, Some(limit)) if limit > 0 && self.events.len() >= limit => {
                self.first_complete(latest_claim).is_none()
            }
            _ => false,
        }
    }

    /// `latest_claim` gives the stamp of the newest event that has been claimed: what is younger cannot be complete.
    pub(crate) fn push(&mut self, event: AnyEvent, latest_claim: impl Fn() -> Stamp) -> Evicted {
        self.events.push_back((self.next, event));
        self.next += 1;
        let Some(limit) = self.limit else { return Evicted::default() };
        if limit == 0 {
            // Only what is unfinished stays; each push sweeps a little, so the sweep keeps up.
            return Evicted { event: self.oldest_complete(latest_claim), warn: None };
        }
        if self.events.len() <= limit {
            return Evicted::default();
        }
        if let Some(event) = self.oldest_complete(&latest_claim) {
            if self.policy == HistoryPolicy::KeepUnfinished && self.events.len() > limit {
                // What completed on another bus left nobody to trim it here.
                let another = self.oldest_complete(latest_claim);
                self.spent.extend(another);
            }
            return Evicted { event: Some(event), warn: None };
        }
        if self.policy == HistoryPolicy::KeepUnfinished {
            return Evicted::default();
        }
        let stamp = self.events.back().map_or(0, |(_, event)| event.head().stamp());
        let event = self.events.pop_front().map(|(_, event)| event);
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
        let over = self.limit.is_some_and(|limit| self.events.len() > limit);
        if over { self.oldest_complete(latest_claim) } else { None }
    }

    fn oldest_complete(&mut self, latest_claim: impl FnOnce() -> Stamp) -> Option<AnyEvent> {
        let at = self.first_complete(latest_claim)?;
        let gone = if at == 0 { self.events.pop_front() } else { self.events.remove(at) };
        gone.map(|(_, event)| event)
    }

    fn first_complete(&self, latest_claim: impl FnOnce() -> Stamp) -> Option<usize> {
        if self.events.front().is_some_and(|(_, event)| event.is_complete()) {
            return Some(0);
        }
        let latest_claim = latest_claim();
        self.iter().take_while(|e| e.head().stamp() <= latest_claim).position(AnyEvent::is_completed)
    }

    pub(crate) fn remove(&mut self, id: EventId) -> Option<AnyEvent> {
        // What completes is mostly the oldest or the newest, and removing from the middle would cost as much as the search.
        let last = self.events.len().checked_sub(1)?;
        let is_at = |at: &usize| self.events.get(*at).is_some_and(|(_, e)| e.head().id() == id);
        let at = (0..=last / 2).flat_map(|at| [at, last - at]).find(is_at)?;
        self.events.remove(at).map(|(_, event)| event)
    }

    pub(crate) fn get(&self, id: EventId) -> Option<&AnyEvent> {
        self.iter().rev().find(|e| e.head().id() == id)
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &AnyEvent> {
        self.events.iter().map(|(_, event)| event)
    }

    /// The number that the next event will get.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// Shows up to `few` events whose number is below `before`, newest first, and the lowest number shown; `None` if there are none.
    pub(crate) fn look_back(&self, before: u64, few: usize, mut show: impl FnMut(&AnyEvent)) -> Option<u64> {
        let end = self.events.partition_point(|(number, _)| *number < before);
        let start = end.saturating_sub(few);
        for (_, event) in self.events.range(start..end).rev() {
            show(event);
        }
        self.events.get(start).filter(|_| start < end).map(|(number, _)| *number)
    }

    pub(crate) fn clear(&mut self) -> VecDeque<(u64, AnyEvent)> {
        std::mem::take(&mut self.events)
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
