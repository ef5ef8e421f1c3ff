//! What a loop remembers of the registry from one event to the next.

use crate::bus::core::BusCore;
use crate::event::{AnyEvent, TypeSlot};
use crate::sys::unwind;
use std::any::TypeId;
use std::sync::Arc;

/// The slot of the type last seen, while the registry stays as it is.
#[derive(Default)]
pub(super) struct Snapshot {
    generation: u64,
    /// `None` for dynamic events, whose slots are looked up each time.
    payload: Option<TypeId>,
    pub(super) slot: Option<Arc<TypeSlot>>,
    /// One more hold of it: what the last delivery had, for the next one.
    pub(super) spare: Option<Arc<TypeSlot>>,
    /// Replaced ones. They may be the last to keep a handler, so they are dropped outside the lock.
    pub(super) old: Vec<Arc<TypeSlot>>,
}

impl Snapshot {
    pub(super) fn look_up(&mut self, bus: &BusCore, event: &AnyEvent) {
        let generation = bus.registry.generation();
        let payload = event.body().payload_type();
        if self.generation == generation && payload.is_some() && payload == self.payload && self.slot.is_some() {
            return;
        }
        self.forget();
        // The type's options were asked at the emit, so nothing of the user's runs here.
        self.slot = Some(bus.registry.slot(event.body(), &bus.defaults));
        self.payload = payload;
        self.generation = generation;
    }

    pub(super) fn forget(&mut self) {
        self.old.extend(self.slot.take());
        self.old.extend(self.spare.take());
    }

    pub(super) fn take_back(&mut self, held: Option<Arc<TypeSlot>>) {
        match (held, &self.slot) {
            (Some(held), Some(slot)) if Arc::ptr_eq(&held, slot) => self.spare = Some(held),
            // Handlers that were removed meanwhile end here.
            (held, _) => unwind::drop_quietly(held),
        }
    }
}
