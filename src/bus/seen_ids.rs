//! Ids that did not come from our own generator, so that the same event is not taken twice. Lives inside the bus's inlet lock.

use crate::event::EventId;
use std::collections::{HashSet, VecDeque};

/// How many are remembered: those of an endless stream must not fill the memory.
const KEPT: usize = 1 << 16;

#[derive(Default)]
pub(crate) struct SeenIds {
    ids: HashSet<EventId>,
    /// Oldest first.
    order: VecDeque<EventId>,
}

impl SeenIds {
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn the_newest_are_remembered() {
        let id = |n: usize| EventId(Uuid::from_u128(n as u128));
        let mut seen = SeenIds::default();
        (0..KEPT).for_each(|n| seen.insert(id(n)));
        assert!(seen.contains(&id(0)));
        seen.insert(id(0));
        assert_eq!((seen.ids.len(), seen.order.len()), (KEPT, KEPT));
        seen.insert(id(KEPT));
        assert!(!seen.contains(&id(0)) && seen.contains(&id(1)) && seen.contains(&id(KEPT)));
        assert_eq!((seen.ids.len(), seen.order.len()), (KEPT, KEPT));
    }
}
