//! The end of a delivery, under its event's lock: what that leaves to do.

use crate::bus::core::letters::Failure;
use crate::bus::end::in_words::lingers_until;
use crate::bus::parts::counters::End;
use crate::bus::parts::recorder::Keeps;
use crate::bus::parts::verdict::{Verdict, is_drop, is_own};
use crate::event::{AnyEvent, Completion, Delay, Delivery, Outcome, Record, State, TypeSlot, Unrun, Wait};
use crate::sys::clock::{NEVER, Stamp, Tick, Timer};
use std::sync::Arc;

/// A delivery has ended: of the duties of the thread that ended it, what comes with the end.
pub(crate) struct Finish {
    pub(crate) completion: Option<Completion>,
    pub(crate) slot: Option<Arc<TypeSlot>>,
    pub(crate) carries_loop: bool,
    pub(crate) watched: bool,
    /// How it is counted.
    pub(crate) end: End,
    /// `None` if it was cancelled before a handler started, and for a redrive.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) redrive: bool,
    pub(crate) limited: bool,
    pub(crate) rare: Option<Box<Rare>>,
    /// Its handlers have ended, and it is not complete: when to warn.
    pub(crate) lingers: Tick,
}

/// What few deliveries leave.
pub(crate) struct Rare {
    /// To be taken back.
    pub(crate) timer: Option<Timer>,
    pub(crate) delays: Vec<Delay>,
    /// Nothing of it ran.
    pub(crate) wait: Option<Wait>,
    /// To be kept.
    pub(crate) letters: Vec<Failure>,
}

/// What is kept of the failures of a delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Letters {
    None,
    Kept,
}

/// Marks a delivery done, under the event's lock. `None` if it was already.
pub(crate) fn finish(state: &mut State, event: &AnyEvent, delivery: usize, at: Stamp, keeps: Keeps) -> Option<Finish> {
    if !state.finish_delivery(delivery) {
        return None;
    }
    let (watched, delayed) = (state.has_watchers(), state.has_waits());
    let d = state.deliveries.get_mut(delivery)?;
    let end = if d.unrun == Unrun::No { End::Completed } else { End::Cancelled };
    let mut verdict = (d.unrun == Unrun::No).then(|| verdict(event, d));
    let mut letters = Letters::None;
    if keeps != Keeps::NOTHING {
        if keeps.letters() && (d.unrun == Unrun::Dropped || verdict.is_some_and(|v| v.failed)) {
            letters = Letters::Kept;
        }
        verdict = verdict.map(|verdict| Verdict { judged: keeps.health(), ..verdict });
    }
    let (redrive, limited, verdict) = (d.redrive, d.limited, verdict.filter(|_| !d.redrive));
    let leaves_more = delayed || letters == Letters::Kept || d.has_cap_timer();
    let (slot, carries_loop, counted) = (d.retire_handlers(), d.manner.carries_loop, d.counted);
    let rare = if leaves_more { rare(state, event, delivery, letters) } else { None };
    let completion = if counted { state.count_down(at) } else { None };
    if completion.is_some() {
        event.publish_complete();
    }
    let lingers = match &slot {
        Some(slot) if completion.is_none() && counted => lingers_until(state, event, delivery, slot),
        _ => NEVER,
    };
    Some(Finish { completion, slot, carries_loop, watched, end, verdict, redrive, limited, rare, lingers })
}

#[cold]
fn rare(state: &mut State, event: &AnyEvent, delivery: usize, letters: Letters) -> Option<Box<Rare>> {
    let (delays, wait) = state.take_delays(delivery);
    let d = state.deliveries.get_mut(delivery)?;
    let letters = if letters == Letters::Kept { failures(event, d) } else { Vec::new() };
    Some(Box::new(Rare { timer: d.take_cap_timer(), delays, wait, letters }))
}

fn verdict(event: &AnyEvent, delivery: &Delivery) -> Verdict {
    if delivery.any_failed || delivery.records.is_empty() {
        let id = event.head().id();
        let mut verdict = Verdict::of(id, delivery.records.iter().map(|record| &record.outcome));
        let passing =
            |record: &Record| matches!(&record.outcome, Outcome::Failed(f) if is_own(id, f)) && !record.permanent;
        verdict.permanent = verdict.failed && !delivery.records.iter().any(passing);
        return verdict;
    }
    Verdict::default()
}

fn failures(event: &AnyEvent, delivery: &Delivery) -> Vec<Failure> {
    let failed = |(at, record): (usize, &Record)| match &record.outcome {
        Outcome::Failed(error) if is_own(event.head().id(), error) || is_drop(error) => {
            let (handler, error) = (delivery.handler(at)?.clone(), Arc::clone(error));
            let Record { attempt, permanent, ended, .. } = *record;
            Some(Failure { handler, attempts: attempt, error, permanent, at: ended })
        }
        _ => None,
    };
    delivery.records.iter().enumerate().filter_map(failed).collect()
}
