//! The list of an event's deliveries: nearly always one, which is kept where the list is.

use crate::sys::clock::Tick;

/// In the order in which buses took the event. An event that was not forwarded has one.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "few events are forwarded, and every event has this field")]
pub(crate) struct Deliveries<D> {
    first: Option<D>,
    more: Option<Box<Vec<Forwarded<D>>>>,
}

/// A delivery to a bus that the event was forwarded to.
#[derive(Debug)]
pub(in crate::event) struct Forwarded<D> {
    pub(in crate::event) delivery: D,
    pub(in crate::event) arrived: Tick,
}

impl<D> Deliveries<D> {
    #[inline(always)]
    pub(in crate::event) fn of(first: D) -> Self {
        Deliveries { first: Some(first), more: None }
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&D> {
        if at == 0 { self.first.as_ref() } else { Some(&self.more.as_ref()?.get(at - 1)?.delivery) }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut D> {
        if at == 0 { self.first.as_mut() } else { Some(&mut self.more.as_mut()?.get_mut(at - 1)?.delivery) }
    }

    pub(crate) fn first(&self) -> Option<&D> {
        self.first.as_ref()
    }

    pub(crate) fn first_mut(&mut self) -> Option<&mut D> {
        self.first.as_mut()
    }

    /// The first if it is the only one.
    pub(crate) fn only_mut(&mut self) -> Option<&mut D> {
        self.first.as_mut().filter(|_| self.more.is_none())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &D> {
        self.first.iter().chain(self.forwarded().map(|more| &more.delivery))
    }

    pub(in crate::event) fn forwarded(&self) -> impl Iterator<Item = &Forwarded<D>> {
        self.more.iter().flat_map(|more| more.iter())
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.as_ref().map_or(0, |more| more.len())
    }

    /// Returns the delivery's number.
    pub(in crate::event) fn push(&mut self, delivery: D, arrived: Tick) -> usize {
        if self.first.is_none() {
            self.first = Some(delivery);
            return 0;
        }
        let more = self.more.get_or_insert_default();
        more.push(Forwarded { delivery, arrived });
        more.len()
    }

    pub(in crate::event) fn clear(&mut self) {
        self.first = None;
        self.more = None;
    }
}
