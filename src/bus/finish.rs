//! The end of a delivery: the word under the lock, and what follows from it outside.

use crate::bus::core::BusCore;
use crate::bus::counters::End;
use crate::bus::ending;
use crate::bus::frame;
use crate::bus::letters::{self, Failure};
use crate::bus::limits;
use crate::bus::recorder::{Keeps, Verdict, is_drop, is_own};
use crate::bus::tell;
use crate::bus::waits_for::lingers_until;
use crate::event::{AnyEvent, Completion, Delay, Delivery, Outcome, Record, State, TypeSlot, Unrun, Wait};
use crate::runtime::{Job, is_service_thread};
use crate::sys::clock::{NEVER, Stamp, Tick, Timer};
use crate::sys::unwind;
use std::sync::Arc;

/// A delivery has ended; what the one who ended it still owes.
pub(crate) struct Finish {
    pub(crate) completion: Option<Completion>,
    pub(crate) slot: Option<Arc<TypeSlot>>,
    pub(crate) carries_loop: bool,
    pub(crate) watched: bool,
    /// How it is counted.
    pub(crate) end: End,
    /// `None` if it was cancelled before a handler started, and for a redrive.
    verdict: Option<Verdict>,
    redrive: bool,
    limited: bool,
    /// Other buses have it, too.
    forwarded: bool,
    rare: Option<Box<Rare>>,
    /// Its handlers have ended, and it is not complete: when to warn.
    lingers: Tick,
}

/// What few deliveries leave.
struct Rare {
    /// To be taken back.
    timer: Option<Timer>,
    delays: Vec<Delay>,
    /// Nothing of it ran.
    wait: Option<Wait>,
    /// To be kept.
    letters: Vec<Failure>,
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
    let mut keeps_letters = false;
    if keeps != Keeps::NOTHING {
        keeps_letters = keeps.letters() && (d.unrun == Unrun::Dropped || verdict.is_some_and(|v| v.failed));
        verdict = verdict.map(|verdict| Verdict { judged: keeps.health(), ..verdict });
    }
    let (redrive, limited, verdict) = (d.redrive, d.limited, verdict.filter(|_| !d.redrive));
    let leaves_more = delayed || keeps_letters || d.has_cap_timer();
    let (slot, carries_loop, counted) = (d.retire_handlers(), d.manner.carries_loop, d.counted);
    let rare = if leaves_more { rare(state, event, delivery, keeps_letters) } else { None };
    let completion = if counted { state.count_down(at) } else { None };
    if completion.is_some() {
        event.publish_complete();
    }
    let forwarded = state.deliveries.are_many();
    let lingers = match &slot {
        Some(slot) if completion.is_none() && counted => lingers_until(state, event, delivery, slot),
        _ => NEVER,
    };
    Some(Finish { completion, slot, carries_loop, watched, end, verdict, redrive, limited, forwarded, rare, lingers })
}

#[cold]
fn rare(state: &mut State, event: &AnyEvent, delivery: usize, keeps_letters: bool) -> Option<Box<Rare>> {
    let (delays, wait) = state.take_delays(delivery);
    let d = state.deliveries.get_mut(delivery)?;
    let letters = if keeps_letters { failures(event, d) } else { Vec::new() };
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

#[cold]
fn settle(bus: &Arc<BusCore>, event: &AnyEvent, rare: Rare) {
    for timer in rare.timer.into_iter().chain(rare.delays.iter().filter_map(|delay| delay.timer)) {
        bus.runtime.watch.cancel(timer);
    }
    drop_failures(bus, rare.delays);
    if let Some(wait) = rare.wait {
        bus.wait_is_over(event, wait, None);
    }
    for failure in rare.letters {
        // It lets go of what a letter before it kept.
        let _ = frame::callback(|| letters::note(bus, event, failure));
    }
}

/// Delays are over, and what failed before them is the user's to drop: not on a thread that runs nothing of the user's.
pub(crate) fn drop_failures(bus: &Arc<BusCore>, delays: Vec<Delay>) {
    if !delays.is_empty() && is_service_thread() {
        bus.runtime.pool.submit_granted(Job::new(bus.lane, move |_| unwind::drop_each(delays)));
    } else {
        let _ = frame::callback(|| unwind::drop_each(delays));
    }
}

/// What follows from the end of a delivery, but for its permits and the loop.
pub(crate) fn conclude(bus: &Arc<BusCore>, event: &AnyEvent, finish: Finish) {
    if let Some(rare) = finish.rare {
        settle(bus, event, *rare);
    }
    if finish.limited {
        limits::settle(&bus.runtime, event);
    }
    match finish.verdict {
        Some(verdict) if verdict != Verdict::default() => {
            bus.recorder.completed(verdict, bus.counters.ended(End::Completed));
        }
        _ => {}
    }
    if finish.forwarded {
        tell::deliver_everywhere(event);
    } else {
        tell::deliver(bus, event);
    }
    match finish.completion {
        Some(completion) => ending::complete(event, completion),
        None => {
            if finish.watched {
                ending::ring_watchers(event);
            }
            // What its handlers emitted and nobody waited for may jump from now on.
            bus.ring_above(event);
            if finish.lingers != NEVER {
                bus.note_lingering(event, finish.lingers);
            }
        }
    }
    if bus.trims && event.is_complete() {
        bus.forget_completed(event);
    }
    if finish.redrive {
        bus.ring_idlers();
    } else {
        bus.note_done(finish.end);
    }
    // Handlers that were removed meanwhile end here, before the permits are given back.
    if finish.slot.as_ref().is_some_and(|slot| Arc::strong_count(slot) == 1) {
        frame::let_go(finish.slot);
    } else {
        unwind::drop_quietly(finish.slot);
    }
}
