//! Places under a [`Limit`]: taken before the handler's permit, held across attempts, lent to what their holder waits for.
//!
//! Who stands in line occupies no thread: the turn puts the invocation back among those that may start, and submits a job. While all that a
//! delivery has left stands in line, it sets down the permits of its bus, so that whoever waits for an event further back is let through.
//!
//! *Race: a holder parks for an event just when that gets into the line.* The holder is entered among the parked, the other one stands in
//! line, and then each has all who are parked lend anew. Whichever comes second sees the other.

use crate::bus::core::BusCore;
use crate::bus::core::permit::attempt_token;
use crate::bus::thread::ancestry::is_below;
use crate::bus::thread::frame::{self, Frame};
use crate::event::{AnyEvent, AttemptKey, Limit, LimitGroup, Placed, RecordPhase, State};
use crate::runtime::{ParkedWait, RuntimeCore, Slot};
use crate::sync::{Granted, Token};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{planted, unwind};
use std::collections::{HashMap, HashSet};
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

/// The threads whose handlers have places in a group.
pub(crate) fn holders(runtime: &RuntimeCore, group: &Arc<LimitGroup>) -> Vec<u64> {
    let holds = |slot: Slot| Place::of_slot(slot).is_in(group);
    let workers = runtime.pool.all_workers().into_iter();
    workers.filter(|worker| worker.slots().into_iter().any(holds)).map(|worker| worker.id).collect()
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

/// Whether a handler on that thread has a place that nobody shares.
pub(crate) fn can_lend(runtime: &RuntimeCore, group: &Arc<LimitGroup>, worker: u64) -> bool {
    let slots = runtime.pool.worker(worker).map(|worker| worker.slots()).unwrap_or_default();
    let mut tokens = slots.into_iter().map(|slot| Place::of_slot(slot).token());
    group.step(|cap| (tokens.any(|token| cap.lends(token)), Granted::new()))
}

/// False if an invocation has a place and no thread: between two attempts, or in line for a permit.
pub(crate) fn all_on_threads(runtime: &RuntimeCore, group: &Arc<LimitGroup>) -> bool {
    let slots = runtime.pool.all_workers().into_iter().flat_map(|worker| worker.slots());
    let on_threads = slots.filter(|slot| Place::of_slot(slot.clone()).is_in(group)).count();
    group.step(|cap| (cap.inside(), Granted::new())) <= on_threads
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
        let (turn, others) = group.step(|cap| {
            let turn = cap.leave_line(token);
            let granted = if planted("ended_keeps_place") { Granted::new() } else { cap.release(token) };
            ((turn, cap.has_line()), granted)
        });
        if others {
            // A search for a circle took this place for one that may come free.
            runtime.ring_parked(|_| true);
        }
        unwind::drop_quietly(turn);
    }
}

/// Whoever is parked lends what it holds to what stands in line of all that it waits for.
///
/// A new wait anywhere may make a handler's wait elsewhere reach further, so all of them look again.
pub(crate) fn lend(runtime: &RuntimeCore) {
    if runtime.parked_count.load(Ordering::SeqCst) == 0 {
        // Who is about to park lends by itself.
        return;
    }
    let workers = runtime.pool.all_workers();
    let parked = runtime.parked.lock();
    let mut loans = Vec::new();
    for worker in workers {
        let Some(wait) = parked.get(&worker.id) else { continue };
        let stack: Vec<Place> = worker.slots().into_iter().map(Place::of_slot).collect();
        each_with_what_it_waits_for(&stack, Some(&wait.event), &mut |place, waits_for| {
            let groups = place.groups();
            if let (false, Some(waits_for)) = (groups.is_empty(), waits_for) {
                loans.push((groups, place.token(), all_needed(&parked, waits_for)));
            }
        });
    }
    drop(parked);
    loans.retain(|_| !planted("waiter_lends_nothing"));
    for (groups, token, needed) in loans {
        for group in groups {
            group.step(|cap| ((), cap.lend(token, |t| needed.contains(&t.stamp))));
        }
    }
}

/// The stamps of an event, of what is below it, and of what running handlers among those wait for, to any depth.
fn all_needed(parked: &HashMap<u64, ParkedWait>, event: &AnyEvent) -> HashSet<u64> {
    let mut needed = HashSet::new();
    let mut pending = vec![event.clone()];
    while let Some(event) = pending.pop() {
        if event.is_complete() || !needed.insert(event.head().stamp()) {
            continue;
        }
        let state = event.state().lock();
        pending.extend(state.children().map(|child| child.event.clone()));
        let running = state.deliveries.iter().flat_map(|d| &d.records).filter(|r| r.phase == RecordPhase::Started);
        pending.extend(running.filter_map(|r| parked.get(&r.worker)).map(|wait| wait.event.clone()));
    }
    needed
}

/// Whether a wait for `awaited` is also one for `event`.
pub(crate) fn needs(parked: &HashMap<u64, ParkedWait>, awaited: &AnyEvent, event: &AnyEvent) -> bool {
    is_below(event, awaited) || all_needed(parked, awaited).contains(&event.head().stamp())
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

/// Bottom first.
pub(crate) fn places_of_this_thread() -> Vec<Place> {
    frame::local(|local| {
        let place = |f: &Frame| Place { event: f.event.clone(), delivery: f.delivery, invocation: f.invocation };
        local.frames.iter().map(place).collect()
    })
    .unwrap_or_default()
}

/// Each handler of a stack waits for the event that the one above it handles; the top one for `awaited`, if it waits.
pub(crate) fn each_with_what_it_waits_for(
    stack: &[Place],
    awaited: Option<&AnyEvent>,
    what: &mut impl FnMut(&Place, Option<&AnyEvent>),
) {
    for (at, place) in stack.iter().enumerate() {
        what(place, stack.get(at + 1).map(|above| &above.event).or(awaited));
    }
}
