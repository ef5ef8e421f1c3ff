//! What starting a handler takes: the handlers of a delivery, fixed once, and one locked step for each start.

use crate::bus::core::delivery::DeliveryRef;
use crate::bus::core::helpers::starts_alone;
use crate::bus::parts::for_event::{mode_for, plan_for, timing_for};
use crate::bus::parts::recorder::By;
use crate::event::{AnyEvent, Delivery, DeliveryPhase, HandlerMode, Manner, RecordPhase, State, TypeSlot, given_up};
use crate::rules::{self, ALONE};
use crate::runtime::{Running, Slot, Stack, Worker};
use crate::sys::clock::{self, NEVER, Stamp, Tick};
use crate::sys::planted;
use std::sync::Arc;

/// A delivery whose handlers are fixed.
#[derive(Clone, Copy)]
pub(crate) struct Fixed {
    pub(crate) manner: Manner,
    pub(crate) cap: Tick,
    pub(crate) begun: Tick,
}

/// A started attempt: `number` is its lease.
#[derive(Clone, Copy, Default)]
pub(crate) struct Attempt {
    pub(crate) invocation: usize,
    pub(crate) number: u32,
    pub(crate) since: Tick,
    /// 0: there is no time at all, so the handler is not called.
    pub(crate) deadline: Tick,
    /// See [`given_up`].
    pub(crate) given_up: u64,
}

/// What starting a handler takes.
#[derive(Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) delivery: DeliveryRef<'a>,
    pub(crate) worker: &'a Arc<Worker>,
    pub(crate) slot: &'a TypeSlot,
    pub(crate) now: Tick,
}

/// The invocation that starts, the phase in which it must be, and when it does.
#[derive(Clone, Copy)]
pub(crate) struct Invoked {
    pub(crate) invocation: usize,
    pub(crate) from: RecordPhase,
    pub(crate) at: Stamp,
}

/// What its handlers run under, when a delivery is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permits {
    Held,
    /// A job goes on when the last of them is there.
    InLine,
}

/// A claimed delivery whose handlers are fixed, and whose first one is started, if it needs nothing that the delivery does not hold. Its driver
/// takes over what that leaves to do.
pub(crate) struct Begun {
    pub(crate) fixed: Fixed,
    /// With when the watch must look at it.
    pub(crate) started: Option<(Attempt, Option<Tick>)>,
    /// No thread has it before it comes to a line.
    pub(crate) lines_up: bool,
}

impl Start<'_> {
    /// Claims a delivery and begins it, in one step, under the lock of its event and of this worker's stack. `claim` has the delivery become this
    /// thread's, with what it runs under; `None` if it cannot. It is not asked about a doomed event. `slot`: for the delivery to keep.
    #[inline(always)]
    pub(crate) fn claim(
        &self,
        slot: impl FnOnce() -> Arc<TypeSlot>,
        by: By,
        claim: impl FnOnce(&mut State) -> Option<Permits>,
    ) -> Option<Begun> {
        // The one lock before the other.
        let mut stack = self.worker.stack();
        let mut state = self.delivery.event.state().lock();
        if self.delivery.event.is_doomed() && !planted("doomed_is_claimed") {
            return None;
        }
        let permits = claim(&mut state)?;
        self.begin(slot(), &mut stack, &mut state, by, permits)
    }

    /// Under those locks, when it is claimed.
    #[inline]
    fn begin(
        &self,
        slot: Arc<TypeSlot>,
        stack: &mut Stack,
        state: &mut State,
        by: By,
        permits: Permits,
    ) -> Option<Begun> {
        let wants_first = state.wants_first;
        let delivery = self.delivery.in_state_mut(state)?;
        let queued = queued_for(self.delivery.event, delivery, self.now);
        fix(self.delivery, delivery, slot, self.now);
        delivery.manner.first |= wants_first;
        let fixed = Fixed::of(delivery);
        let started = if permits == Permits::Held { self.first(stack, state, fixed) } else { None };
        let waits = started.is_none() && self.waits(state, permits);
        if !waits {
            self.delivery.bus.recorder.queued_for(queued, by, || self.delivery.bus.counters.claimed());
        } else {
            self.delivery.wait_begins(state, Some(queued));
        }
        let lines_up =
            waits && (permits == Permits::InLine || self.slot.handlers.iter().any(|handler| handler.limited));
        Some(Begun { fixed, started, lines_up })
    }

    /// Its first handler needs what the delivery does not hold; or each of them does, if they run beside each other.
    #[cold]
    fn waits(&self, state: &State, permits: Permits) -> bool {
        let Some(delivery) = self.delivery.in_state(state) else { return false };
        let mut needs = delivery
            .records
            .iter()
            .zip(self.slot.handlers.iter())
            .map(|(record, handler)| handler.limited || needs_permit(record.mode, delivery.manner));
        match delivery.manner.parallel {
            _ if permits == Permits::InLine => true,
            true => needs.all(|needs| needs),
            false => needs.next().unwrap_or(false),
        }
    }

    #[inline]
    fn first(&self, stack: &mut Stack, state: &mut State, fixed: Fixed) -> Option<(Attempt, Option<Tick>)> {
        let at = self.now.max(self.delivery.event.head().stamp() + 1);
        let delivery = self.delivery.in_state_mut(state)?;
        let mode = delivery.records.first()?.mode;
        let first = self.slot.handlers.first()?;
        let limited = first.limited;
        if fixed.is_up()
            || fixed.manner.parallel
            || limited
            || !first.entry.info.is_registered()
            || needs_permit(mode, fixed.manner)
        {
            return None;
        }
        let started =
            self.start(Some(stack), delivery, fixed, Invoked { invocation: 0, from: RecordPhase::Pending, at })?;
        if state.started == 0 {
            state.started = at;
        }
        Some(started)
    }

    /// Starts an attempt and shows it to the watch, in one step, so that whoever ends it finds it on this stack.
    /// `stack`: unless its delivery is on top of it already.
    #[inline(always)]
    pub(crate) fn start(
        &self,
        stack: Option<&mut Stack>,
        delivery: &mut Delivery,
        fixed: Fixed,
        Invoked { invocation, from, at }: Invoked,
    ) -> Option<(Attempt, Option<Tick>)> {
        let number = delivery.start(invocation, from, self.worker.id, at)?;
        let own = self.delivery.event.head().options();
        let timing = timing_for(own, self.slot, invocation, &self.delivery.bus.defaults);
        let since = self.now;
        // With no time at all it is up by then, and the watch has no part in that.
        let (deadline, shown) = match timing.timeout {
            0 => (0, NEVER),
            timeout => {
                let deadline = since.saturating_add(timeout).min(fixed.cap);
                (deadline, deadline)
            }
        };
        let running = Running { invocation, attempt: number, since, deadline: shown, slow: timing.slow_at(since) };
        let look = if let Some(stack) = stack {
            let slow_after = match own {
                Some(_) => rules::slow_event(own, &self.slot.options, &self.delivery.bus.defaults),
                None => self.slot.slow_event,
            };
            let slow_event = fixed.begun.saturating_add(slow_after);
            let slot = Slot {
                event: self.delivery.event.clone(),
                delivery: self.delivery.index,
                running,
                slow_event: if slow_event <= since { NEVER } else { slow_event },
                help: if fixed.manner.parallel && starts_alone(self.delivery.bus, self.delivery.event, self.slot) {
                    since.saturating_add(ALONE)
                } else {
                    NEVER
                },
            };
            self.worker.push(stack, slot)
        } else {
            self.worker.change(running)
        };
        if number > 1 && !delivery.redrive {
            self.delivery.bus.recorder.retried();
        }
        Some((Attempt { invocation, number, since, deadline, given_up: given_up() }, look))
    }
}

/// Which handlers run, and until when; settled the first time. From here on the event's cap counts, also while it stands in line.
/// `None` if the delivery is over. Last in the answer: the cap, which the watch must watch from now on.
pub(crate) fn fix_handlers(of: DeliveryRef<'_>, now: Tick) -> Option<(Arc<TypeSlot>, Fixed, Option<Tick>)> {
    let DeliveryRef { bus, event, .. } = of;
    {
        let state = event.state().lock();
        let delivery = of.in_state(&state).filter(|d| d.phase == DeliveryPhase::Active)?;
        if let Some(slot) = delivery.slot() {
            return Some((Arc::clone(slot), Fixed::of(delivery), None));
        }
    }
    // The type's options are the user's code: asked outside of the lock.
    let slot = bus.registry.slot(event.body(), &bus.defaults);
    let mut state = event.state().lock();
    let wants_first = state.wants_first;
    let delivery = of.in_state_mut(&mut state).filter(|d| d.phase == DeliveryPhase::Active)?;
    let fixes = !delivery.is_fixed();
    if fixes {
        fix(of, delivery, Arc::clone(&slot), now);
    }
    delivery.manner.first |= fixes && wants_first;
    let fixed = Fixed::of(delivery);
    Some((Arc::clone(delivery.slot()?), fixed, fixed.cap_ahead().filter(|_| fixes)))
}

/// How long a delivery that is just claimed was in the queue: since its event was made, or since it was forwarded.
pub(crate) fn queued_for(event: &AnyEvent, delivery: &Delivery, now: Tick) -> Tick {
    match delivery.begun {
        0 => now.saturating_sub(event.head().stamp()),
        forwarded => now.saturating_sub(forwarded),
    }
}

/// Under the event's lock: which handlers run is settled, and the event's cap counts from now on, which the caller has the watch watch.
pub(crate) fn fix(of: DeliveryRef<'_>, delivery: &mut Delivery, slot: Arc<TypeSlot>, now: Tick) {
    let DeliveryRef { bus, event, .. } = of;
    let own = event.head().options();
    bus.count_start();
    let timeout = plan_for(event, &slot, &bus.defaults).event_timeout;
    delivery.fix_handlers(slot, |slot, at| mode_for(own, slot, at, &bus.defaults));
    delivery.begun = now;
    if let Some(after) = timeout {
        delivery.set_cap(clock::after(now, after));
    }
}

impl Fixed {
    /// Its event has no time at all: its handlers are not called.
    #[inline]
    pub(crate) fn is_up(&self) -> bool {
        self.cap <= self.begun
    }

    /// The event's cap, if it has one and there is time until then.
    #[inline]
    pub(crate) fn cap_ahead(&self) -> Option<Tick> {
        (self.cap != NEVER && !self.is_up()).then_some(self.cap)
    }

    pub(crate) fn of(delivery: &Delivery) -> Fixed {
        Fixed { manner: delivery.manner, cap: delivery.cap(), begun: delivery.begun }
    }
}

/// A delivery of that manner does not hold all that such a handler runs under.
pub(crate) fn needs_permit(mode: HandlerMode, manner: Manner) -> bool {
    match mode {
        HandlerMode::GlobalSerial => true,
        HandlerMode::BusSerial => !manner.bus_handler,
        HandlerMode::EventSerial | HandlerMode::Parallel => false,
    }
}
