//! One event on several buses: at most once on each, complete when all are done.

use crate::bus::core::EventBus;
use crate::bus::core::hold::hold_of;
use crate::bus::core::{BusCore, Entry};
use crate::bus::emit::candidate::Whence;
use crate::bus::emit::insert::Sent;
use crate::bus::middleware::ask;
use crate::bus::middleware::tell;
use crate::bus::parts::for_event::plan_for;
use crate::bus::parts::handled::{Answers, Handled};
use crate::bus::parts::observers::Seen;
use crate::bus::parts::registry::WILDCARD;
use crate::bus::thread::frame;
use crate::event::{
    AnyEvent, Delivery, DeliveryPhase, EmitError, HandlerInfo, HandlerOptions, KnownType, Manner, Payload, TurnKind,
};
use crate::sys::{clock, unwind};
use std::sync::Arc;

impl EventBus {
    /// Puts an event that another bus took on this one too. It completes when all of them are done.
    ///
    /// An event that this bus has taken already is left as it is, and so is another one of an id that it [has seen](EventBus::emit_json). A completed event may be forwarded too: its results grow, it stays
    /// completed. Inside a handler the queue's capacity does not matter.
    ///
    /// # Errors
    /// [`EmitError`] as for `emit`: closed, queue or history full, above the rate, no handler, or the forwarding handler was given up; and
    /// [`DuplicateId`](EmitError::DuplicateId), if the history has an event of this id with another type or payload.
    pub fn forward(&self, event: impl AsRef<AnyEvent>) -> Result<(), EmitError> {
        self.core().take_in(event.as_ref())
    }

    /// Forwards every event of this bus to `target`: a handler named `forward to Target#last4`, seen in `results()` without a value.
    /// It holds the target weakly, and is removed, as by [`off`](EventBus::off), with the target's last handle.
    ///
    /// As every handler's emit, it does not ask for the capacity and the rate of the target. Bound the bus where the events come from.
    #[track_caller]
    pub fn forward_all_to(&self, target: &EventBus) -> HandlerInfo {
        self.register_forward(WILDCARD, None, target)
    }

    /// Forwards every event whose payload is a `P` to the target, until that registration ends. One of that name that came as JSON and does not fit goes along, if this bus
    /// [takes it](EventBus::emit_json).
    #[track_caller]
    pub fn forward_to<P: Payload>(&self, target: &EventBus) -> HandlerInfo {
        self.register_forward(crate::event::name_of::<P>(), Some(KnownType::of::<P>()), target)
    }

    #[track_caller]
    fn register_forward(&self, pattern: &'static str, known: Option<KnownType>, target: &EventBus) -> HandlerInfo {
        let options = HandlerOptions::new().name(format!("forward to {}", target.label()));
        let weak = target.downgrade();
        let call = move |event: &AnyEvent| {
            if let Some(target) = weak.upgrade() {
                target.forward(event)?;
            }
            Ok(None)
        };
        let handled = Handled { pattern: pattern.into(), known, answers: Answers::Nothing };
        let info = self.register(handled, options, "forward", call);
        if target.core().alive().is_none() {
            // In a handler of a bus whose last handle is gone: that has ended its forwards, and nobody will end this one.
            self.off(&info);
        } else if info.is_registered() {
            target.core().forwards.lock().note(self.core(), &info);
        }
        info
    }
}

/// Why a forwarded event does not come.
enum Forwarded {
    /// It is here.
    Before,
    /// Another one of its id is, or was.
    AsTwin,
    Refused(EmitError),
}

impl BusCore {
    /// With the last handle: whoever forwards here stops.
    pub(crate) fn end_forwards(&self) {
        let forwards = std::mem::take(&mut *self.forwards.lock());
        for (source, info) in forwards.into_list() {
            let Some(source) = source.upgrade() else { continue };
            let ended = source.registry.remove(info.id());
            unwind::drop_quietly(ended);
            tell::deliver_handlers_elsewhere(&source);
            unwind::drop_quietly(source);
        }
    }

    fn take_in(self: &Arc<Self>, event: &AnyEvent) -> Result<(), EmitError> {
        self.take_in_or_refuse(event).inspect_err(|_| self.recorder.rejected())
    }

    fn take_in_or_refuse(self: &Arc<Self>, event: &AnyEvent) -> Result<(), EmitError> {
        let is_new = || !self.has_taken(event) && !self.has_seen(&self.inlet.lock(), event.head().id());
        let asks = self.is_watched() && is_new();
        if asks {
            ask::ask(self, event, frame::surroundings().emitter.as_ref())?;
        }
        let entered = self.take_in_asked(event);
        if let (true, Err(error)) = (asks, &entered) {
            ask::tell_refused(self, event, error);
        }
        entered
    }

    fn has_taken(&self, event: &AnyEvent) -> bool {
        event.state().lock().deliveries.iter().any(|d| d.bus.id == self.identity.id)
    }

    fn take_in_asked(self: &Arc<Self>, event: &AnyEvent) -> Result<(), EmitError> {
        let frame = frame::top();
        let slot = self.registry.slot(event.body(), &self.defaults);
        let plan = plan_for(event, &slot, &self.defaults);
        let for_usher = plan.turn == TurnKind::Free && self.is_for_usher(event);
        let whence = Whence::of(frame.as_ref());
        let entered = self.enter(event, whence, |inlet| {
            if self.has_taken(event) {
                return Err(Forwarded::Before);
            }
            if self.has_seen(inlet, event.head().id()) {
                return Err(Forwarded::AsTwin);
            }
            let unhandled = self.options.require_handler && slot.handlers.is_empty();
            let refused = self.refuse_all_but_full(inlet, whence, unhandled.then_some(event));
            refused.and_then(|()| if frame.is_some() { Ok(()) } else { self.refuse_full() }).map_err(Forwarded::Refused)
        });
        let mut inlet = match entered {
            Ok(inlet) => inlet,
            Err(Forwarded::Before) => return Ok(()),
            Err(Forwarded::AsTwin) => return self.meet_twin(event),
            Err(Forwarded::Refused(error)) => return Err(error),
        };
        if frame.is_none() {
            self.ask_for_token(&mut inlet)?;
        }
        if frame.as_ref().is_some_and(|frame| !frame.event.same(event) && !frame.is_live()) {
            return Err(EmitError::Aborted);
        }
        let hold = hold_of(event);
        let (delivery, held) = {
            let mut state = event.state().lock();
            // The forwarding handler is this event's own: under its lock, as for a child.
            if let Some(frame) = frame.as_ref().filter(|frame| frame.event.same(event)) {
                let own = state.deliveries.get(frame.delivery);
                if !own.is_some_and(|d| d.is_live(frame.invocation, frame.attempt)) {
                    return Err(EmitError::Aborted);
                }
            }
            if let Some(error) = state.rejected() {
                return Err(error.clone());
            }
            if state.ended {
                // Cancelled as a whole; what comes later does not run.
                return Ok(());
            }
            let is_held = state.deliveries.first().is_some_and(|first| first.phase == DeliveryPhase::Held);
            let hold = hold.filter(|_| is_held);
            let phase = if hold.is_some() { DeliveryPhase::Held } else { DeliveryPhase::Queued };
            let mut delivery = Delivery::new(Arc::clone(&self.identity), phase, Manner::of(plan));
            let now = clock::now();
            delivery.begun = now;
            if let Some(hold) = &hold {
                self.holds(event, hold);
            }
            // Before anybody can end it, which is counted as well.
            self.counters.count_emit();
            (state.add_delivery(delivery, now), hold.is_some())
        };
        self.note_seen(&mut inlet, event.head().id());
        let evicted = inlet.history.push(event.clone(), true, || self.counters.latest_claim());
        let mut seen = Seen::default();
        if !inlet.observers.is_empty() {
            inlet.observers.show(event, &mut seen);
        }
        let entry = Entry { event: event.clone(), delivery: delivery as u32, turn: plan.turn };
        let sent = if held { Sent::NOTHING } else { self.send_later(&mut inlet, entry, for_usher) };
        drop(inlet);
        self.wake_up_later(sent);
        seen.settle();
        tell::deliver(self, event);
        self.ring_at(event);
        self.after_push(evicted);
        Ok(())
    }
}
