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
    /// So that a long backlog is worth one warning, not one an event.
    warned: bool,
    /// See [`History::take_back`].
    spent: Vec<AnyEvent>,
}

/// What a push threw out; to be dropped outside the lock.
#[derive(Default)]
pub(crate) struct Evicted {
    pub(crate) event: Option<AnyEvent>,
    /// Nothing had completed, and this is the first time: worth a warning.
    pub(crate) warn: bool,
}

/// So many spent events make a batch.
pub(crate) const SPENT: usize = 32;

impl History {
    pub(crate) fn new(limit: Option<usize>, policy: HistoryPolicy) -> Self {
        History { events: VecDeque::new(), next: 0, limit, policy, warned: false, spent: Vec::new() }
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

    /// True if a push must be refused.
    pub(crate) fn is_full(&mut self) -> bool {
        match (self.policy, self.limit) {
            (HistoryPolicy::Reject, Some(limit)) if limit > 0 => self.events.len() >= limit,
            _ => false,
        }
    }

    /// `latest_claim` gives the stamp of the newest event that has been claimed: what is younger cannot be complete.
    pub(crate) fn push(&mut self, event: AnyEvent, latest_claim: impl FnOnce() -> Stamp) -> Evicted {
        self.events.push_back((self.next, event));
        self.next += 1;
        let Some(limit) = self.limit else { return Evicted::default() };
        if limit == 0 {
            // Only what is unfinished stays; each push sweeps a little, so the sweep keeps up.
            return Evicted { event: self.oldest_complete(latest_claim), warn: false };
        }
        if self.events.len() <= limit {
            return Evicted::default();
        }
        if let Some(event) = self.oldest_complete(latest_claim) {
            self.warned = false;
            return Evicted { event: Some(event), warn: false };
        }
        let event = self.events.pop_front().map(|(_, event)| event);
        Evicted { event, warn: !std::mem::replace(&mut self.warned, true) }
    }

    fn oldest_complete(&mut self, latest_claim: impl FnOnce() -> Stamp) -> Option<AnyEvent> {
        if self.events.front().is_some_and(|(_, event)| event.is_complete()) {
            return self.events.pop_front().map(|(_, event)| event);
        }
        let latest_claim = latest_claim();
        let at = self.iter().take_while(|e| e.head().stamp() <= latest_claim).position(AnyEvent::is_completed)?;
        self.events.remove(at).map(|(_, event)| event)
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
