//! The events a bus remembers, oldest first. Lives inside the bus's inlet lock.

use crate::event::{AnyEvent, EventId, HistoryPolicy};
use crate::sys::clock::Stamp;
use std::collections::VecDeque;

pub(crate) struct History {
    events: VecDeque<AnyEvent>,
    limit: Option<usize>,
    policy: HistoryPolicy,
    /// So that a long backlog is worth one warning, not one an event.
    warned: bool,
}

/// What a push threw out; to be dropped outside the lock.
#[derive(Default)]
pub(crate) struct Evicted {
    pub(crate) event: Option<AnyEvent>,
    /// Nothing had completed, and this is the first time: worth a warning.
    pub(crate) warn: bool,
}

impl History {
    pub(crate) fn new(limit: Option<usize>, policy: HistoryPolicy) -> Self {
        History { events: VecDeque::new(), limit, policy, warned: false }
    }

    /// True if a push must be refused.
    pub(crate) fn is_full(&mut self) -> bool {
        match (self.policy, self.limit) {
            (HistoryPolicy::Reject, Some(limit)) if limit > 0 => self.events.len() >= limit,
            _ => false,
        }
    }

    /// `latest_claim` is the stamp of the newest event that has been claimed: what is younger cannot be complete.
    pub(crate) fn push(&mut self, event: AnyEvent, latest_claim: Stamp) -> Evicted {
        self.events.push_back(event);
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
        let event = self.events.pop_front();
        Evicted { event, warn: !std::mem::replace(&mut self.warned, true) }
    }

    fn oldest_complete(&mut self, latest_claim: Stamp) -> Option<AnyEvent> {
        let at = self.events.iter().take_while(|e| e.head().stamp <= latest_claim).position(AnyEvent::is_completed)?;
        self.events.remove(at)
    }

    /// An event is complete. With a limit of 0 it goes.
    pub(crate) fn forgets_completed(&self) -> bool {
        self.limit == Some(0)
    }

    pub(crate) fn remove(&mut self, id: EventId) -> Option<AnyEvent> {
        let at = self.events.iter().rposition(|e| e.head().id == id)?;
        self.events.remove(at)
    }

    pub(crate) fn get(&self, id: EventId) -> Option<&AnyEvent> {
        self.events.iter().rev().find(|e| e.head().id == id)
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &AnyEvent> {
        self.events.iter()
    }

    pub(crate) fn clear(&mut self) -> VecDeque<AnyEvent> {
        std::mem::take(&mut self.events)
    }
}
