//! What an emit needs to know of an event type on a bus. It never changes, so each thread remembers the last few: what depends on the
//! handlers, `Plan::bus_handler`, is settled by whoever claims the event.
//!
//! And the handlers themselves, as long as nobody registers or removes one: not for long, since what a thread remembers keeps no handler.

use crate::bus::core::BusCore;
use crate::event::{AnyEvent, EventOptions, Payload, Plan, Priority, TypeSlot};
use crate::rules;
use crate::sys::thread;
use std::any::TypeId;
use std::cell::RefCell;
use std::sync::{Arc, Weak};

#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) plan: Plan,
    pub(crate) priority: Priority,
    pub(crate) detached: bool,
}

const KEPT: usize = 4;

/// What a thread has seen last, by bus and type.
struct Recent<T> {
    /// With the bus's serial number; ids of payload types are unique.
    seen: [Option<(u64, TypeId, T)>; KEPT],
    next: usize,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Recent { seen: [const { None }; KEPT], next: 0 }
    }
}

impl<T> Recent<T> {
    fn find(&self, bus: &BusCore, payload: TypeId) -> Option<&T> {
        self.seen.iter().flatten().find(|(of, p, _)| *of == bus.serial && *p == payload).map(|(_, _, seen)| seen)
    }

    /// In place of what there was of that bus and type, or of the oldest.
    fn put(&mut self, bus: &BusCore, payload: TypeId, seen: T) {
        let same =
            |known: &Option<(u64, TypeId, T)>| known.as_ref().is_some_and(|k| k.0 == bus.serial && k.1 == payload);
        let at = self.seen.iter().position(same).unwrap_or_else(|| {
            let oldest = self.next;
            self.next = (oldest + 1) % KEPT;
            oldest
        });
        self.seen[at] = Some((bus.serial, payload, seen));
    }
}

thread::local! {
    static KINDS: RefCell<Recent<Kind>> = RefCell::new(Recent::default());
    /// Each with the generation of its bus's registry.
    static SLOTS: RefCell<Recent<(u64, Weak<TypeSlot>)>> = RefCell::new(Recent::default());
}

/// For an event without options of its own.
pub(crate) fn of<P: Payload>(bus: &BusCore) -> Kind {
    let payload = TypeId::of::<P>();
    // Saves the registry's lock and its hash of a type id.
    if let Ok(Some(kind)) = KINDS.try_with(|kinds| kinds.borrow().find(bus, payload).copied()) {
        return kind;
    }
    let slot = bus.slot_of::<P>();
    let kind = Kind { plan: slot.plan, priority: slot.priority, detached: slot.options.detached };
    let _ = KINDS.try_with(|kinds| kinds.borrow_mut().put(bus, payload, kind));
    kind
}

/// The handlers of an event's type, past the registry's lock where this thread has seen them lately.
pub(crate) fn slot(bus: &BusCore, event: &AnyEvent) -> Arc<TypeSlot> {
    let Some(payload) = event.body().payload_type() else { return bus.registry.slot(event.body(), &bus.defaults) };
    let generation = bus.registry.generation();
    let known = SLOTS.try_with(|slots| {
        let slots = slots.borrow();
        // Nothing of the user's is dropped here: what is up to date goes to the caller.
        let (_, slot) = slots.find(bus, payload).filter(|(of, _)| *of == generation)?;
        slot.upgrade()
    });
    if let Ok(Some(slot)) = known {
        return slot;
    }
    let slot = bus.registry.slot(event.body(), &bus.defaults);
    let seen = (generation, Arc::downgrade(&slot));
    let _ = SLOTS.try_with(|slots| slots.borrow_mut().put(bus, payload, seen));
    slot
}

/// For one with options of its own.
pub(crate) fn with<P: Payload>(bus: &BusCore, own: &EventOptions) -> Kind {
    given(bus, own, &bus.slot_of::<P>())
}

/// What holds for an event whose type is not known at compile time.
pub(crate) fn given(bus: &BusCore, own: &EventOptions, slot: &TypeSlot) -> Kind {
    Kind {
        plan: rules::plan(Some(own), &slot.options, &bus.defaults),
        priority: own.priority.unwrap_or(slot.priority),
        detached: own.detached || slot.options.detached,
    }
}
