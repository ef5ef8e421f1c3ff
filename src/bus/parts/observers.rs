//! Who sees the events of a bus without handling them: subscriptions and waiting finds. Lives inside the bus's inlet lock.

use crate::event::AnyEvent;
use crate::sync::Bell;
use crate::sys::unwind;
use smallvec::SmallVec;
use std::any::TypeId;
use std::ptr;
use std::sync::Arc;

/// Sees events in the order of the bus, under the inlet's lock: it must not block, run user code, or drop what users gave.
pub(crate) trait Observer: Send + Sync {
    /// False if it wants no more.
    fn see(&self, event: &AnyEvent, seen: &mut Seen) -> bool;

    /// Of one that cares for no payload's type: whether it may care for an event of that name.
    fn cares_for(&self, _event_type: &str) -> bool {
        true
    }

    /// True if it may ever be full.
    fn is_bounded(&self) -> bool {
        false
    }

    /// False if an emitter that may wait has to; then `bell` rings when another try may succeed.
    fn has_room(&self, _bell: &Arc<Bell>) -> bool {
        true
    }

    /// Its capacity, if an emitter that may wait would have to.
    fn full(&self) -> Option<usize> {
        None
    }

    /// How many events nobody has read yet.
    fn unread(&self) -> usize {
        0
    }

    /// The bus takes nothing more. Outside all locks.
    fn close(&self);
}

/// What observers leave to be done once the inlet is unlocked. Apart from what the history and a parent leave, since few events are observed,
/// and one value for all of that costs every emit thirty instructions.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) rings: SmallVec<[Arc<Bell>; 2]>,
    pub(crate) let_go: Vec<AnyEvent>,
}

impl Seen {
    pub(crate) fn settle(self) {
        for bell in &self.rings {
            bell.ring();
        }
        for event in self.let_go {
            unwind::drop_quietly(event);
        }
    }
}

/// All observers of a bus, each with the payload type it cares for; `None`: every event.
#[derive(Default)]
pub(crate) struct Observers {
    list: Vec<(Option<TypeId>, Arc<dyn Observer>)>,
    bounded: usize,
}

impl Observers {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn add(&mut self, payload: Option<TypeId>, observer: Arc<dyn Observer>) {
        self.bounded += usize::from(observer.is_bounded());
        self.list.push((payload, observer));
    }

    /// Takes one out; it is dropped by the caller, outside the lock.
    pub(crate) fn remove(&mut self, observer: *const ()) -> Option<Arc<dyn Observer>> {
        let at = self.list.iter().position(|(_, other)| ptr::addr_eq(Arc::as_ptr(other), observer))?;
        let (_, gone) = self.list.swap_remove(at);
        self.bounded -= usize::from(gone.is_bounded());
        Some(gone)
    }

    /// Shows an event to whoever cares for its type.
    pub(crate) fn show(&mut self, event: &AnyEvent, seen: &mut Seen) {
        let payload = event.body().payload_type();
        let bounded = &mut self.bounded;
        self.list.retain(|(kind, observer)| {
            let stays = kind.is_some_and(|kind| Some(kind) != payload) || observer.see(event, seen);
            if !stays {
                *bounded -= usize::from(observer.is_bounded());
            }
            stays
        });
    }

    /// Whether all that care for the event have room, or never need any. If not, `bell` rings when another try may succeed.
    pub(crate) fn have_room(&self, event: &AnyEvent, bell: &Arc<Bell>) -> bool {
        let payload = event.body().payload_type();
        let cares = |kind: &Option<TypeId>| kind.is_none_or(|kind| Some(kind) == payload);
        self.list.iter().all(|(kind, observer)| !cares(kind) || observer.has_room(bell))
    }

    /// The capacity of one that cares for the event and has no room for it.
    pub(crate) fn full_for(&self, event: &AnyEvent) -> Option<usize> {
        let payload = event.body().payload_type();
        let cares = |kind: &Option<TypeId>| kind.is_none_or(|kind| Some(kind) == payload);
        self.list.iter().filter(|(kind, _)| cares(kind)).find_map(|(_, observer)| observer.full())
    }

    /// Whether one cares for events of that name whatever their payload is.
    pub(crate) fn take_any_payload(&self, event_type: &str) -> bool {
        self.list.iter().any(|(kind, observer)| kind.is_none() && observer.cares_for(event_type))
    }

    /// True if some may be full.
    pub(crate) fn any_bounded(&self) -> bool {
        self.bounded > 0
    }

    pub(crate) fn unread(&self) -> usize {
        self.list.iter().map(|(_, observer)| observer.unread()).sum()
    }

    /// The bus takes nothing more; outside the inlet lock.
    pub(crate) fn close(&self) {
        for (_, observer) in &self.list {
            observer.close();
        }
    }
}
