//! Places under a [`Limit`]: taken before the handler's permit, held across attempts, lent to what their holder waits for.
//!
//! Who stands in line occupies no thread: the turn puts the invocation back among those that may start, and submits a job. While all that a
//! delivery has left stands in line, it sets down the permits of its bus, so that whoever waits for an event further back is let through.
//!
//! Who waits, and lends: `asleep.rs`.

use crate::bus::core::BusCore;
use crate::bus::core::permit::attempt_token;
use crate::bus::permits::asleep;
use crate::event::{AnyEvent, AttemptKey, Limit, LimitGroup, Placed, RecordPhase, State};
use crate::runtime::{RuntimeCore, Slot};
use crate::sync::{Granted, Token};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{planted, unwind};
use std::collections::HashSet;
use std::sync::Arc;

impl BusCore {
    /// The group that a handler's limit belongs to in this runtime.
    pub(crate) fn limit_group(&self, limit: &Limit) -> Arc<LimitGroup> {
        self.runtime.has_limits.store(true, Ordering::SeqCst);
        self.runtime.limits.group_of(limit)
    }

    pub(crate) fn has_limits(&self) -> bool {
        self.runtime.has_limits.load(Ordering::Relaxed)
    }
}

/// The token of an invocation, whatever its attempt.
pub(crate) fn token_of(event: &AnyEvent, delivery: usize, invocation: usize) -> Token {
    attempt_token(event, delivery, invocation, 0)
}

/// The groups in whose lines handlers of an event stand.
pub(crate) fn lines_of(state: &State) -> Vec<Arc<LimitGroup>> {
    in_line(state).map(|placed| Arc::clone(&placed.group)).collect()
}

/// The invocations of an event that stand in line.
pub(crate) fn in_line(state: &State) -> impl Iterator<Item = &Placed> {
    state.limits().iter().filter(|placed| {
        let record = state.deliveries.get(placed.delivery).and_then(|d| d.records.get(placed.invocation));
        record.is_some_and(|record| record.phase == RecordPhase::Delayed && !record.placed)
    })
}

/// A limit and who has its places: `the limit printer (1), which print#1a2b on Page#3c4d has`.
pub(crate) fn in_words(runtime: &RuntimeCore, group: &Arc<LimitGroup>) -> String {
    const SHOWN: usize = 4;
    let mut holders = Vec::new();
    for worker in runtime.pool.all_workers() {
        for slot in worker.slots() {
            let place = Place::of_slot(slot);
            if place.is_in(group) {
                let state = place.event.state().lock();
                let handler = state.deliveries.get(place.delivery).and_then(|d| d.handler(place.invocation)).cloned();
                drop(state);
                let handler = handler.map_or_else(|| "a handler".to_owned(), |handler| handler.label());
                holders.push(format!("{handler} on {}", place.event));
            }
        }
    }
    let more = holders.len().saturating_sub(SHOWN);
    holders.truncate(SHOWN);
    let limit = group.label();
    match (holders.join(", "), more) {
        (shown, _) if shown.is_empty() => limit,
        (shown, 0) => format!("{limit}, which {shown} has"),
        (shown, more) => format!("{limit}, which {shown} and {more} more have"),
    }
}

/// The thread of an attempt that was given up is back from its handler: its place is free, where that was waited for.
#[cold]
pub(crate) fn has_returned(bus: &Arc<BusCore>, event: &AnyEvent, of: AttemptKey) {
    let goes_on = event.state().lock().has_returned(of);
    if goes_on {
        bus.delivery(event, of.delivery).submit_resume();
    }
    settle(&bus.runtime, event);
}

/// What has ended gives its place back, or leaves the line; but where a place is kept until its thread returns, that does so.
pub(crate) fn settle(runtime: &RuntimeCore, event: &AnyEvent) {
    let due: Vec<Placed> = {
        let mut state = event.state().lock();
        let ended: HashSet<(usize, usize)> = state
            .limits()
            .iter()
            .filter(|placed| !placed.is_in_use())
            .map(|placed| (placed.delivery, placed.invocation))
            .filter(|(d, i)| {
                let record = state.deliveries.get(*d).and_then(|d| d.records.get(*i));
                record.is_none_or(|record| record.phase == RecordPhase::Ended)
            })
            .collect();
        if ended.is_empty() {
            return;
        }
        state.links().limits.extract_if(.., |p| ended.contains(&(p.delivery, p.invocation))).collect()
    };
    for Placed { delivery, invocation, group, timer, .. } in due {
        if let Some(timer) = timer {
            runtime.watch.cancel(timer);
        }
        let token = token_of(event, delivery, invocation);
        let turn = group.step(|cap| {
            let turn = cap.leave_line(token);
            let granted = if planted("ended_keeps_place") { Granted::new() } else { cap.release(token) };
            (turn, granted)
        });
        if asleep::is_stalled(runtime, &group) && !planted("leaver_looks_for_no_circle") {
            // A search for a circle took this place for one that may come free.
            runtime.ring_parked(|_| true);
        }
        unwind::drop_quietly(turn);
    }
}

/// A handler on a stack.
pub(crate) struct Place {
    pub(crate) event: AnyEvent,
    pub(crate) delivery: usize,
    pub(crate) invocation: usize,
}

impl Place {
    pub(crate) fn of_slot(slot: Slot) -> Place {
        Place { event: slot.event, delivery: slot.delivery, invocation: slot.running.invocation }
    }

    pub(crate) fn token(&self) -> Token {
        token_of(&self.event, self.delivery, self.invocation)
    }

    pub(crate) fn groups(&self) -> Vec<Arc<LimitGroup>> {
        let state = self.event.state().lock();
        let of = |p: &&Placed| p.delivery == self.delivery && p.invocation == self.invocation;
        state.limits().iter().filter(of).map(|placed| Arc::clone(&placed.group)).collect()
    }

    pub(crate) fn is_in(&self, group: &Arc<LimitGroup>) -> bool {
        self.groups().iter().any(|own| Arc::ptr_eq(own, group))
    }
}
