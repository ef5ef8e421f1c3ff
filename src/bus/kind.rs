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

#[derive(Default)]
struct Known {
    /// With the bus's serial number; ids of payload types are unique.
    kinds: [Option<(u64, TypeId, Kind)>; KEPT],
    next: usize,
}

/// A slot, of which bus and type, and at which generation of that bus's registry.
struct Seen {
    bus: u64,
    payload: TypeId,
    generation: u64,
    slot: Weak<TypeSlot>,
}

#[derive(Default)]
struct Slots {
    seen: [Option<Seen>; KEPT],
    next: usize,
}

thread::local! {
    static SLOTS: RefCell<Slots> = RefCell::new(Slots::default());
    static KNOWN: RefCell<Known> = RefCell::new(Known::default());
}

/// For an event without options of its own.
pub(crate) fn of<P: Payload>(bus: &BusCore) -> Kind {
    let (serial, payload) = (bus.serial, TypeId::of::<P>());
    // Saves the registry's lock and its hash of a type id.
    let known = KNOWN.try_with(|known| {
        let known = known.borrow();
        let found = known.kinds.iter().flatten().find(|(s, p, _)| *s == serial && *p == payload);
        found.map(|(_, _, kind)| *kind)
    });
    if let Ok(Some(kind)) = known {
        return kind;
    }
    let slot = bus.slot_of::<P>();
    let kind = Kind { plan: slot.plan, priority: slot.priority, detached: slot.options.detached };
    let _ = KNOWN.try_with(|known| {
        let mut known = known.borrow_mut();
        let at = known.next;
        known.kinds[at] = Some((serial, payload, kind));
        known.next = (at + 1) % KEPT;
    });
    kind
}

/// The handlers of an event's type, past the registry's lock where this thread has seen them lately.
pub(crate) fn slot(bus: &BusCore, event: &AnyEvent) -> Arc<TypeSlot> {
    let Some(payload) = event.body().payload_type() else { return bus.registry.slot(event.body(), &bus.defaults) };
    let generation = bus.registry.generation();
    let is = |seen: &&mut Seen| seen.bus == bus.serial && seen.payload == payload;
    let seen = SLOTS.try_with(|slots| {
        let mut slots = slots.borrow_mut();
        let seen = slots.seen.iter_mut().flatten().find(is)?;
        // Nothing of the user's is dropped here: what is up to date goes to the caller.
        if seen.generation == generation { seen.slot.upgrade() } else { None }
    });
    if let Ok(Some(slot)) = seen {
        return slot;
    }
    let slot = bus.registry.slot(event.body(), &bus.defaults);
    let seen = Seen { bus: bus.serial, payload, generation, slot: Arc::downgrade(&slot) };
    let _ = SLOTS.try_with(|slots| {
        let mut slots = slots.borrow_mut();
        if let Some(old) = slots.seen.iter_mut().flatten().find(is) {
            *old = seen;
            return;
        }
        let at = slots.next;
        slots.seen[at] = Some(seen);
        slots.next = (at + 1) % KEPT;
    });
    slot
}

/// For one with options of its own.
pub(crate) fn with<P: Payload>(bus: &BusCore, own: &EventOptions) -> Kind {
    given(bus, own, &bus.slot_of::<P>())
}

/// The same where the type is not known at compile time.
pub(crate) fn given(bus: &BusCore, own: &EventOptions, slot: &TypeSlot) -> Kind {
    Kind {
        plan: rules::plan(Some(own), &slot.options, &bus.defaults),
        priority: own.priority.unwrap_or(slot.priority),
        detached: own.detached || slot.options.detached,
    }
}
