//! From a payload to an event that everybody can see (`bus/README.md`, *How an event comes in*).

use crate::bus::core::BusCore;
use crate::bus::core::type_memo::{self, Kind};
use crate::bus::emit::candidate::{After, Candidate, Entered, Entrance};
use crate::bus::emit::held;
use crate::bus::emit::run_now::{self, Depth};
use crate::bus::middleware::tell;
use crate::bus::thread::frame::{self, Surroundings};
use crate::event::{
    AnyEvent, Birth, ContextMap, DeliveryPhase, EmitError, Event, EventId, EventOptions, Fresh, Manner, ParentLink,
    Payload, Rare, TypeSlot, described, marked,
};
use crate::sys::clock;
use std::sync::Arc;

/// How an event comes that is to be made.
struct Coming {
    kind: Kind,
    entrance: Entrance,
    unhandled: bool,
    after: After,
}

impl BusCore {
    pub(crate) fn emit<P: Payload>(
        self: &Arc<Self>,
        payload: P,
        own: &mut Option<EventOptions>,
        entrance: Entrance,
    ) -> Result<Event<P>, (Fresh<P>, EmitError)> {
        // A middleware may be called while its bus's permits are held below it on the stack: there is no waiting for them.
        let depth = if entrance == Entrance::Claimed { Depth::here() } else { Depth::Shallow };
        let only_queues = || tell::is_inside() || depth == Depth::Deep && self.lacks_stack_here();
        let tries = entrance == Entrance::Try;
        let entrance = if tries || entrance == Entrance::Claimed && only_queues() { Entrance::Queue } else { entrance };
        let after = if own.is_some() { held::take_prerequisites(own) } else { None };
        if own.as_ref().is_none_or(|own| own.label.is_none())
            && let Some(label) = described(&payload)
        {
            own.get_or_insert_default().label = Some(label);
        }
        let kind = match own {
            None => type_memo::of::<P>(self),
            Some(own) => type_memo::with::<P>(self, own),
        };
        let unhandled = self.options.require_handler && self.slot_of::<P>().handlers.is_empty();
        let coming = Coming { kind, entrance, unhandled, after };
        let (fresh, mut candidate) = self.put_together(own, coming, |birth| Fresh::new(birth, payload));
        candidate.event = Some(fresh.any());
        candidate.tries = tries;
        match self.let_in(&mut candidate, entrance) {
            Ok(entered) => {
                let event = fresh.into_event();
                if entered == Entered::ToRun {
                    drop(candidate);
                    let depth = if entrance == Entrance::Claimed { depth } else { Depth::here() };
                    run_now::run_claimed(self.delivery(event.any(), 0), depth);
                }
                Ok(event)
            }
            Err(error) => {
                self.recorder.rejected();
                if !candidate.explicit_id {
                    self.note_refused(fresh.head());
                }
                Err((fresh, error))
            }
        }
    }

    /// Emits an event whose type is not known at compile time. What is refused comes back as it is.
    pub(crate) fn emit_made(
        self: &Arc<Self>,
        slot: &TypeSlot,
        own: EventOptions,
        make: impl FnOnce(Birth) -> AnyEvent,
    ) -> Result<AnyEvent, (AnyEvent, EmitError)> {
        let kind = type_memo::given(self, &own, slot);
        let unhandled = self.options.require_handler && slot.handlers.is_empty();
        let mut own = Some(own);
        let after = held::take_prerequisites(&mut own);
        let coming = Coming { kind, entrance: Entrance::Queue, unhandled, after };
        let (event, mut candidate) = self.put_together(&mut own, coming, make);
        candidate.event = Some(event.clone());
        match self.let_in(&mut candidate, Entrance::Queue) {
            Ok(entered) => {
                if entered == Entered::ToRun {
                    drop(candidate);
                    run_now::run_claimed(self.delivery(&event, 0), Depth::here());
                }
                Ok(event)
            }
            Err(error) => {
                self.recorder.rejected();
                if !candidate.explicit_id {
                    self.note_refused(event.head());
                }
                Err((event, error))
            }
        }
    }

    #[inline(always)]
    fn put_together<T>(
        &self,
        own: &mut Option<EventOptions>,
        coming: Coming,
        make: impl FnOnce(Birth) -> T,
    ) -> (T, Candidate) {
        let Coming { kind, entrance, unhandled, after } = coming;
        let Surroundings { emitter, link, context } = frame::surroundings();
        let explicit_id = own.as_ref().is_some_and(|own| own.id.is_some());
        // The parent is linked weakly: the event's options keep no second, strong link to it.
        let given_parent = own.as_mut().and_then(|own| own.parent.take());
        let context = match &given_parent {
            // What comes of a logger's own event is one, wherever it is emitted.
            Some(parent) if parent.head().is_from_logger() => Some(marked(context.as_ref())),
            _ => context,
        };
        let below_emitter = given_parent.is_none() && !kind.detached && emitter.is_some();
        let candidate = Candidate {
            event: None,
            turn: kind.plan.turn,
            born: entrance,
            emitter,
            below_emitter,
            given_parent,
            unhandled,
            explicit_id,
            has_token: false,
            tries: false,
            after,
        };
        let parent = candidate.parent();
        let phase = match entrance {
            Entrance::Queue if candidate.is_held() => DeliveryPhase::Held,
            Entrance::Queue => DeliveryPhase::Queued,
            _ => DeliveryPhase::Active,
        };
        let stamp = clock::unique_stamp(clock::now());
        let id = own.as_ref().and_then(|own| own.id).unwrap_or_else(|| EventId(self.identity.ids.make(stamp)));
        let link = match link {
            Some(link) if candidate.below_emitter => Some(link),
            link => parent.map(|parent| ParentLink::to(parent, link.and_then(|link| link.handler))),
        };
        let rare = rare(own, parent, context);
        let birth = Birth {
            id,
            stamp,
            priority: kind.priority,
            link,
            rare,
            bus: Arc::clone(&self.identity),
            phase,
            manner: Manner::of(kind.plan),
            parent: parent.cloned(),
        };
        (make(birth), candidate)
    }

    pub(crate) fn slot_of<P: Payload>(&self) -> Arc<TypeSlot> {
        self.registry.slot_of_type::<P>(&self.defaults)
    }
}

/// Options of its own, a context, a correlation id that was set: most events have none of them.
fn rare(
    own: &mut Option<EventOptions>,
    parent: Option<&AnyEvent>,
    context: Option<Arc<ContextMap>>,
) -> Option<Box<Rare>> {
    let inherited = parent.and_then(|parent| parent.head().own_correlation().cloned());
    if own.is_none() && context.is_none() && inherited.is_none() {
        return None;
    }
    let correlation = own.as_ref().and_then(|own| own.correlation_id.clone()).or(inherited);
    Some(Box::new(Rare::new(correlation, context, own.take())))
}
