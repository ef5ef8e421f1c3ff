//! The ids that a bus remembers, as a set of the newest.

use crate::event::EventId;
use std::collections::{HashSet, VecDeque};

/// How many are remembered: those of an endless stream must not fill the memory.
const KEPT: usize = 1 << 16;

/// Lives inside the bus's inlet lock.
#[derive(Default)]
pub(crate) struct SeenIds {
    /// Made elsewhere.
    pub(crate) foreign: Newest,
    /// Made here, of events that were refused.
    pub(crate) refused: Newest,
}

#[derive(Default)]
pub(crate) struct Newest {
    ids: HashSet<EventId>,
    /// Oldest first.
    order: VecDeque<EventId>,
    has_forgotten: bool,
}

impl Newest {
    /// Some that it knew are not among them any more.
    pub(crate) fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }

    #[cfg(test)]
    pub(crate) fn memory(&self) -> (usize, usize) {
        (self.ids.capacity(), self.order.capacity())
    }

    pub(crate) fn contains(&self, id: &EventId) -> bool {
        self.ids.contains(id)
    }

    pub(crate) fn insert(&mut self, id: EventId) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
            self.has_forgotten = true;
        }
    }

    /// It keeps its place among them, and does not come again.
    pub(crate) fn remove(&mut self, id: &EventId) {
        self.ids.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn the_newest_are_remembered() {
        let id = |n: usize| EventId(Uuid::from_u128(n as u128));
        let mut seen = Newest::default();
        (0..KEPT).for_each(|n| seen.insert(id(n)));
        assert!(seen.contains(&id(0)) && !seen.has_forgotten);
        seen.insert(id(0));
        assert_eq!((seen.ids.len(), seen.order.len()), (KEPT, KEPT));
        seen.insert(id(KEPT));
        assert!(!seen.contains(&id(0)) && seen.contains(&id(1)) && seen.contains(&id(KEPT)) && seen.has_forgotten);
        assert_eq!((seen.ids.len(), seen.order.len()), (KEPT, KEPT));
        seen.remove(&id(1));
        assert!(!seen.contains(&id(1)) && seen.contains(&id(2)));
        seen.insert(id(KEPT + 1));
        assert!(seen.contains(&id(2)));
    }
}
