//! Ending deliveries from outside: cancellation, a full queue, a shutdown, the end of a bus.
//!
//! First the word under the event's lock, then what follows from it (`README.md`, *Cancelling*).

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::bus::end::complete::complete;
use crate::bus::end::duties::{Duties, GivenUp, Leaves};
use crate::bus::end::finish::finish;
use crate::bus::end::in_words;
use crate::bus::parts::counters::End;
use crate::bus::parts::for_event::mode_for;
use crate::bus::parts::recorder::Keeps;
use crate::event::{
    AnyEvent, AttemptKey, Cause, CauseKind, Delivery, DeliveryPhase, HandlerFailure, Outcome, RecordPhase, State,
    TypeSlot, Unrun, note_given_up,
};
use crate::sys::clock::{self, Stamp};
use crate::sys::planted;
use std::sync::Arc;
use std::time::Duration;

/// A delivery that was ended from outside, with what its ender owes.
pub(crate) struct Ended {
    event: AnyEvent,
    delivery: usize,
    /// `None`: it is gone, and nothing is owed to it.
    bus: Option<Arc<BusCore>>,
    pub(crate) duties: Duties,
}

impl Ended {
    /// With nothing locked.
    pub(crate) fn carry_out(self) {
        let Ended { event, delivery, bus, duties } = self;
        if let Some(bus) = bus {
            return duties.carry_out(bus.delivery(&event, delivery));
        }
        if let Some(completion) = duties.finish.and_then(|finish| finish.completion) {
            complete(&event, completion);
        }
    }
}

fn cancel_all(mut pending: Vec<AnyEvent>, cause: &Cause) {
    pending.reverse();
    let mut ended = Vec::new();
    while let Some(event) = pending.pop() {
        end_event(&event, cause, &mut ended, |state| {
            pending.extend(state.children().rev().map(|c| c.event.clone()).filter(|e| !e.is_complete()));
        });
    }
    // Only now: what follows from one end could start a sibling that is to end too.
    for ended in ended {
        ended.carry_out();
    }
}

/// Ends whatever of the event is not done, without what it emitted, which `below` sees to under its lock. Nothing if it is complete.
pub(crate) fn end_event(event: &AnyEvent, cause: &Cause, ended: &mut Vec<Ended>, below: impl FnOnce(&State)) {
    let at = clock::now();
    let slots = slots_of(event);
    let mut state = event.state().lock();
    if state.complete {
        return;
    }
    state.ended = true;
    for delivery in 0..state.deliveries.len() {
        ended.extend(end_delivery(&mut state, event, delivery, &slots, Ending { cause, at }));
    }
    below(&state);
}

/// Cancels what one invocation, or one delivery, has emitted.
pub(crate) fn cascade(event: &AnyEvent, delivery: usize, invocation: Option<usize>, cause: &Cause) {
    let theirs: Vec<AnyEvent> = {
        let state = event.state().lock();
        let of = |by: Option<(u32, u32)>| {
            by.is_some_and(|(d, i)| d as usize == delivery && invocation.is_none_or(|own| own == i as usize))
        };
        state.children().filter(|c| of(c.by) && !c.event.is_complete()).map(|c| c.event.clone()).collect()
    };
    cancel_all(theirs, cause);
}

/// The handlers of deliveries that were not claimed yet. Looked up outside of the event's lock: the type's options are the user's code.
pub(crate) type Slots = Vec<(usize, Arc<BusCore>, Arc<TypeSlot>)>;

fn slots_of(event: &AnyEvent) -> Slots {
    let unclaimed: Vec<_> = {
        let state = event.state().lock();
        let unclaimed = |d: &&Delivery| !d.is_fixed() && d.phase != DeliveryPhase::Done;
        let numbered = state.deliveries.iter().enumerate();
        numbered.filter(|(_, d)| unclaimed(d)).map(|(index, d)| (index, Arc::clone(&d.bus))).collect()
    };
    unclaimed
        .into_iter()
        .filter_map(|(index, identity)| {
            let bus = BusCore::of(&identity)?;
            let slot = bus.registry.slot(event.body(), &bus.defaults);
            Some((index, bus, slot))
        })
        .collect()
}

/// Why the records of a delivery end, and when.
#[derive(Clone, Copy)]
pub(crate) struct Ending<'a> {
    pub(crate) cause: &'a Cause,
    pub(crate) at: Stamp,
}

/// Under the event's lock: every record that has not ended does. What was running is answered, each attempt with the worker that it is on.
/// `unstarted`: the failure of what has never run.
pub(crate) fn end_records(
    delivery: &mut Delivery,
    index: usize,
    bus: Option<&Arc<BusCore>>,
    ending: Ending<'_>,
    unstarted: impl Fn() -> HandlerFailure,
) -> Vec<(AttemptKey, u64)> {
    let Ending { cause, at } = ending;
    let mut running = Vec::new();
    for invocation in 0..delivery.records.len() {
        let record = &delivery.records[invocation];
        let failure = match record.phase {
            RecordPhase::Ended => continue,
            RecordPhase::Started => {
                note_given_up();
                running.push((AttemptKey { delivery: index, invocation, attempt: record.attempt }, record.worker));
                let detail = bus.and_then(|bus| in_words::which_process(&bus.runtime, record.worker));
                HandlerFailure::Aborted { cause: cause.clone().with_detail(detail) }
            }
            // Between two attempts it has run, so it was not cancelled before it started.
            _ if record.started != 0 => HandlerFailure::Aborted { cause: cause.clone() },
            _ => unstarted(),
        };
        delivery.end_record(invocation, Outcome::Failed(Arc::new(failure)), at);
    }
    running
}

/// Under the event's lock: the delivery is done, with every record ended. `None` if it was already.
pub(crate) fn end_delivery(
    state: &mut State,
    event: &AnyEvent,
    index: usize,
    slots: &Slots,
    ending: Ending<'_>,
) -> Option<Ended> {
    let Ending { cause, at } = ending;
    let delivery = state.deliveries.get_mut(index)?;
    if delivery.phase == DeliveryPhase::Done {
        return None;
    }
    let leaves = match delivery.phase {
        DeliveryPhase::Held => Leaves::Hold,
        DeliveryPhase::Queued => Leaves::Queue,
        _ => Leaves::Lines(delivery.manner.turn),
    };
    if !delivery.is_fixed()
        && let Some((_, bus, slot)) = slots.iter().find(|(of, ..)| *of == index)
    {
        // A result each, for the handlers that would have run.
        let own = event.head().options();
        delivery.fix_handlers(Arc::clone(slot), |slot, at| mode_for(own, slot, at, &bus.defaults));
    }
    let bus = BusCore::of(&delivery.bus);
    let no_time = cause.kind == CauseKind::EventTimeout
        && cause.event == event.head().id()
        && cause.after == Some(Duration::ZERO);
    let running = end_records(delivery, index, bus.as_ref(), ending, || match no_time {
        // As where a driver comes to it.
        true => HandlerFailure::TimedOut { after: Duration::ZERO, detail: None },
        false => HandlerFailure::Cancelled { cause: cause.clone() },
    });
    if !delivery.anything_started() && !no_time {
        delivery.unrun = if cause.kind == CauseKind::Dropped { Unrun::Dropped } else { Unrun::Cancelled };
    }
    let given_up = GivenUp::of(state, running);
    let keeps = bus.as_ref().map_or(Keeps::NOTHING, |bus| bus.recorder.keeps());
    let finish = finish(state, event, index, at, keeps);
    let duties = Duties { finish, given_up, leaves, ..Duties::default() };
    Some(Ended { event: event.clone(), delivery: index, bus, duties })
}

/// A delivery that is queued, or waits and has had no attempt, falls out of a full queue.
pub(crate) fn end_unstarted(delivery: DeliveryRef<'_>) {
    let DeliveryRef { bus, event, index } = delivery;
    let at = clock::now();
    let cause = Cause::new(CauseKind::Dropped, event.head().id(), event.body().event_type())
        .with_place(format!("from the full queue of {}", bus.label()));
    let slots = slots_of(event);
    let ended = {
        let mut state = event.state().lock();
        match delivery.in_state(&state) {
            Some(d)
                if d.phase == DeliveryPhase::Queued || !d.anything_started() || planted("drops_what_has_started") =>
            {
                end_delivery(&mut state, event, index, &slots, Ending { cause: &cause, at })
            }
            _ => None,
        }
    };
    if let Some(mut ended) = ended {
        if let Some(finish) = &mut ended.duties.finish {
            finish.end = End::Dropped;
        }
        ended.carry_out();
        bus.tell_dropped(event);
    }
}

/// Went with the last handle of its bus.
fn gone(event: &AnyEvent, label: &str) -> Cause {
    Cause::new(CauseKind::Dropped, event.head().id(), event.body().event_type())
        .with_place(format!("with the last handle of {label}"))
}

/// The bus is gone, and took what it never claimed with it. False if it was over.
pub(crate) fn end_unclaimed(event: &AnyEvent, index: usize, label: &str) -> bool {
    let at = clock::now();
    let cause = gone(event, label);
    let mut state = event.state().lock();
    let ended = end_delivery(&mut state, event, index, &Slots::new(), Ending { cause: &cause, at });
    drop(state);
    ended.map(Ended::carry_out).is_some()
}

/// Ends one delivery for a shutdown; running handlers are aborted.
pub(crate) fn shut_down_delivery(event: &AnyEvent, index: usize) -> bool {
    give_up_delivery(event, index, &Cause::new(CauseKind::Shutdown, event.head().id(), event.body().event_type()))
}

/// Ends one delivery with the last handle of a bus that only its application could run.
pub(crate) fn drop_delivery(event: &AnyEvent, index: usize, label: &str) -> bool {
    give_up_delivery(event, index, &gone(event, label))
}

fn give_up_delivery(event: &AnyEvent, index: usize, cause: &Cause) -> bool {
    let at = clock::now();
    let slots = slots_of(event);
    let ended = end_delivery(&mut event.state().lock(), event, index, &slots, Ending { cause, at });
    let Some(ended) = ended else { return false };
    cascade(event, index, None, cause);
    ended.carry_out();
    true
}
