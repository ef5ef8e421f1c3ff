//! Which events a bus has taken, so that it takes none of them twice.
//!
//! What it emits itself needs no memory: such an id shows which bus has made it ([`IdMaker`](crate::sys::random::IdMaker)). Remembered are the ids
//! that were made elsewhere, and those of its own that were refused after a middleware had seen them, and may come yet. Any other event that is
//! refused gets an id that is nobody's.

use crate::bus::core::{BusCore, Inlet};
use crate::bus::parts::content;
use crate::event::{AnyEvent, EmitError, EventId, Head};
use crate::sys::random;

impl BusCore {
    /// Whether it has taken an event of that id, as far as it remembers.
    pub(crate) fn has_seen(&self, inlet: &Inlet, id: EventId) -> bool {
        let ids = &inlet.seen;
        if self.identity.ids.has_made(id.0) {
            return !ids.refused.contains(&id);
        }
        ids.foreign.contains(&id) || ids.foreign.has_forgotten() && inlet.history.get(id).is_some()
    }

    /// It takes one whose id was set, or given by another bus.
    pub(crate) fn note_seen(&self, inlet: &mut Inlet, id: EventId) {
        if self.identity.ids.has_made(id.0) {
            inlet.seen.refused.remove(&id);
        } else {
            inlet.seen.foreign.insert(id);
        }
    }

    /// An event did not come, to which it has given the id: others may send that later, and then it has to run.
    #[cold]
    pub(crate) fn note_refused(&self, head: &Head) {
        if self.is_watched() {
            self.inlet.lock().seen.refused.insert(head.id());
        } else {
            head.rename(head.stamp(), random::uuid_v7(head.stamp()));
        }
    }

    /// Another event of that id is here already, and this one does not run. An error if they are known to differ.
    #[cold]
    pub(crate) fn meet_twin(&self, twin: &AnyEvent) -> Result<(), EmitError> {
        let id = twin.head().id();
        let known = self.inlet.lock().history.get(id).cloned();
        match known.and_then(|known| content::difference(&known, twin)) {
            Some(_) => Err(EmitError::DuplicateId { bus: self.label().to_owned(), id }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::bus::EventBus;
    use crate::bus::parts::seen_ids::Newest;
    use crate::event::{Event, Payload};

    struct Tick;
    impl Payload for Tick {
        type Output = ();
    }

    #[test]
    fn what_a_bus_emits_itself_is_known_and_not_remembered() {
        let bus = EventBus::new("Own");
        bus.on(|tick: &Event<Tick>| {
            if tick.parent_id().is_none() {
                tick.bus().emit(Tick);
            }
        });
        let events: Vec<_> = (0..300).flat_map(|_| [bus.emit(Tick), bus.emit_now(Tick)]).collect();
        assert!(events.iter().all(|event| event.wait().is_ok()));
        let core = bus.core();
        let inlet = core.inlet.lock();
        assert!(events.iter().all(|event| core.has_seen(&inlet, event.id())));
        assert_eq!([&inlet.seen.foreign, &inlet.seen.refused].map(Newest::memory), [(0, 0); 2]);
    }
}
