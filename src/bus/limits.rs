//! Places under a [`Limit`]: taken before the handler's permit, held across attempts, lent to what their holder waits for.
//!
//! Who stands in line occupies no thread: the turn puts the invocation back among those that may start, and submits a job. While all that a
//! delivery has left stands in line, it sets down the permits of its bus, so that whoever waits for an event further back is let through.
//!
//! *Race: a holder parks for an event just when that gets into the line.* The holder is entered among the parked, the other one stands in
//! line, and then each has all who are parked lend anew. Whichever comes second sees the other.

use crate::bus::core::BusCore;
use crate::bus::drive::{Driver, Wanted};
use crate::bus::ending;
use crate::bus::frame::{self, Frame};
use crate::bus::graph;
use crate::bus::hand;
use crate::bus::permit::attempt_token;
use crate::bus::set_down::set_down_in_line;
use crate::bus::tell;
use crate::bus::turn::submit_resume;
use crate::event::{
    AnyEvent, AttemptKey, DeliveryPhase, HandlerFailure, Limit, LimitGroup, LimitTurn, Outcome, Placed, RecordPhase,
    State,
};
use crate::runtime::{Needs, ParkedWait, RuntimeCore, Serves, Slot, Worker};
use crate::sync::{Granted, Token};
use crate::sys::clock::{self, NEVER, Timer};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{planted, unwind};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Now,
    InLine,
    TooLate,
    Dead,
}

/// What a turn in line needs to know.
#[derive(Clone)]
struct Claim {
    bus: Arc<BusCore>,
    event: AnyEvent,
    delivery: usize,
    invocation: usize,
    attempt: u32,
    group: Arc<LimitGroup>,
    until_returned: bool,
}

/// Gets the place of an invocation that was set aside for it. True if the calling thread goes on driving.
pub(crate) fn take(driver: &mut Driver<'_>, wanted: Wanted) -> bool {
    let entry = &driver.slot.handlers[wanted.invocation].entry;
    let (Some(group), Some(limit)) = (&entry.limit, &entry.options.limit) else { return true };
    let claim = Claim {
        bus: Arc::clone(driver.bus),
        event: driver.event.clone(),
        delivery: driver.delivery,
        invocation: wanted.invocation,
        attempt: wanted.attempt,
        group: Arc::clone(group),
        until_returned: limit.until_returned,
    };
    let token = claim.token();
    let at_once = limit.acquire_timeout == Some(Duration::ZERO);
    let lenders = claim.lenders();
    let taken = group.step(|cap| {
        let mut state = claim.event.state().lock();
        if !claim.is_waiting(&state) {
            return (Taken::Dead, Granted::new());
        }
        // Its own place is taken by its attempt before, for as long as that is inside.
        let occupied = state.wants_returned(claim.delivery, claim.invocation);
        if !occupied && cap.try_take(token, &lenders) {
            claim.place(&mut state);
            return (Taken::Now, Granted::new());
        }
        claim.note(&mut state);
        claim.bus.wait_begins(&mut state, &claim.event, claim.delivery, None);
        if let Some(delivery) = state.deliveries.get_mut(claim.delivery) {
            // The thread that drives it leaves it to the turn.
            delivery.leave_stack();
        }
        drop(state);
        if occupied {
            return (Taken::InLine, Granted::new());
        }
        let turn: LimitTurn = Box::new({
            let claim = claim.clone();
            move || claim.has_come()
        });
        let granted = cap.stand(token, claim.bus.rank(&claim.event), &lenders, turn);
        (if at_once { Taken::TooLate } else { Taken::InLine }, granted)
    });
    match taken {
        Taken::Now => return true,
        Taken::Dead => return false,
        Taken::TooLate => claim.time_is_up(Duration::ZERO, limit.lax),
        Taken::InLine => {
            lend(&driver.bus.runtime);
            if let Some(after) = limit.acquire_timeout {
                claim.watch(after, limit.lax);
            }
        }
    }
    driver.bus.note_set_aside(driver.event, driver.delivery);
    if wanted.attempt == 0 && !entry.info.is_registered() && !planted("off_unseen_in_line") {
        driver.bus.leaves_lines_of(driver.event);
    }
    set_down_in_line(driver.bus, driver.event, driver.delivery);
    // It may be what somebody waits for, or what stands before that, and only now do they find it in line.
    driver.bus.runtime.ring_parked(|_| true);
    // Parallel handlers may still be there to be run.
    driver.fixed.manner.parallel
}

impl Claim {
    fn token(&self) -> Token {
        token_of(&self.event, self.delivery, self.invocation)
    }

    fn is_waiting(&self, state: &State) -> bool {
        state.deliveries.get(self.delivery).is_some_and(|d| {
            let record = d.records.get(self.invocation);
            d.phase == DeliveryPhase::Active
                && record.is_some_and(|r| r.phase == RecordPhase::Delayed && !r.placed && r.attempt == self.attempt)
        })
    }

    /// Remembers whose place is to be given back.
    fn note(&self, state: &mut State) {
        if let Some(delivery) = state.deliveries.get_mut(self.delivery) {
            delivery.limited = true;
        }
        let (delivery, invocation) = (self.delivery, self.invocation);
        let limits = &mut state.links().limits;
        if !limits.iter().any(|placed| placed.delivery == delivery && placed.invocation == invocation) {
            limits.push(Placed::new(delivery, invocation, Arc::clone(&self.group), self.until_returned));
        }
    }

    fn placed<'a>(&self, state: &'a mut State) -> Option<&'a mut Placed> {
        let of = |placed: &&mut Placed| placed.delivery == self.delivery && placed.invocation == self.invocation;
        state.links().limits.iter_mut().find(of)
    }

    /// It may start. The timer of its wait is the caller's to take back.
    fn place(&self, state: &mut State) -> Option<Timer> {
        self.note(state);
        if let Some(delivery) = state.deliveries.get_mut(self.delivery) {
            delivery.records[self.invocation].placed = true;
            delivery.retry(self.invocation, self.attempt);
        }
        self.placed(state)?.timer.take()
    }

    /// Its turn in line: on whatever thread gave a place back.
    fn has_come(self) {
        let (waits, timer) = {
            let mut state = self.event.state().lock();
            let waits = self.is_waiting(&state);
            (waits, if waits { self.place(&mut state) } else { None })
        };
        if let Some(timer) = timer {
            self.bus.runtime.watch.cancel(timer);
        }
        if waits {
            submit_resume(&self.bus, &self.event, self.delivery);
        } else {
            let token = self.token();
            self.group.step(|cap| ((), cap.release(token)));
        }
    }

    /// Holders that wait for this one, here or on other threads.
    fn lenders(&self) -> Vec<Token> {
        let runtime = &self.bus.runtime;
        let mut lenders = Vec::new();
        let workers = runtime.pool.all_workers();
        let parked = runtime.parked.lock();
        let mut add = |place: &Place, waits_for: Option<&AnyEvent>| {
            let waits = waits_for.is_some_and(|awaited| needs(&parked, awaited, &self.event));
            if waits && place.is_in(&self.group) {
                lenders.push(place.token());
            }
        };
        // Whatever this thread has below is there for this event.
        let here = places_of_this_thread();
        each_with_what_it_waits_for(&here, Some(&self.event), &mut add);
        for worker in workers {
            let stack: Vec<Place> = worker.slots().into_iter().map(Place::of_slot).collect();
            let awaited = parked.get(&worker.id).map(|wait| &wait.event);
            each_with_what_it_waits_for(&stack, awaited, &mut add);
        }
        lenders
    }

    fn watch(&self, after: Duration, lax: bool) {
        let claim = self.clone();
        let runtime = &self.bus.runtime;
        let at = clock::after(clock::now(), after);
        let timer = runtime.watch.at(at, move || claim.time_is_up(after, lax));
        let stale = {
            let mut state = self.event.state().lock();
            let waits = self.is_waiting(&state);
            match self.placed(&mut state).filter(|_| waits) {
                Some(placed) => placed.timer.replace(timer),
                None => Some(timer),
            }
        };
        if let Some(timer) = stale {
            runtime.watch.cancel(timer);
        }
    }

    /// It has waited long enough: in without a place, or failed. Nothing if its turn has come.
    fn time_is_up(&self, after: Duration, lax: bool) {
        let token = self.token();
        if lax {
            if let Some(turn) = self.group.step(|cap| (cap.go_in_anyway(token), Granted::new())) {
                turn();
            }
            return;
        }
        let Some(turn) = self.group.step(|cap| (cap.leave_line(token), Granted::new())) else { return };
        unwind::drop_quietly(turn);
        let failure = HandlerFailure::Failed(Box::new(self.group.timeout(after)));
        {
            let mut state = self.event.state().lock();
            if !self.is_waiting(&state) {
                return;
            }
            if let Some(delivery) = state.deliveries.get_mut(self.delivery) {
                let at = clock::now();
                delivery.end_record(self.invocation, Outcome::Failed(Arc::new(failure)), at);
            }
        }
        settle(&self.bus.runtime, &self.event);
        ending::drive_on(&self.bus, &self.event, self.delivery);
        tell::deliver(&self.bus, &self.event);
    }
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
        submit_resume(bus, event, of.delivery);
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
    graph::is_below(event, awaited) || all_needed(parked, awaited).contains(&event.head().stamp())
}

/// The wait of the top handler is over: its place is its own again, once whoever shares it has left.
pub(crate) fn take_back(worker: &Arc<Worker>, frame: &Frame, awaited: &AnyEvent) {
    let place = Place { event: frame.event.clone(), delivery: frame.delivery, invocation: frame.invocation };
    let runtime = &frame.bus.runtime;
    for group in place.groups() {
        // Who has the place must find this thread in its way, at any time: nobody asks it to look itself.
        let mut parked: Option<(Option<Token>, graph::Parked<'_>)> = None;
        loop {
            let turn = || -> LimitTurn {
                let bell = Arc::clone(&worker.bell);
                Box::new(move || bell.ring())
            };
            let (is_back, borrower) =
                group.step(|cap| ((cap.take_back(place.token(), turn), cap.borrower(place.token())), Granted::new()));
            if is_back || !frame.is_live() {
                break;
            }
            hand::set_down_all();
            // A borrower without a thread ends in any case.
            let of = borrower.and_then(|borrower| event_on_a_thread(runtime, borrower));
            let of = of.unwrap_or_else(|| awaited.clone());
            if parked.as_ref().is_none_or(|(before, _)| *before != borrower) {
                // The one before is entered no more first, since a thread has one wait.
                drop(parked.take());
                parked = Some((borrower, graph::Parked::enter(worker, frame, &of, true)));
                runtime.ring_parked(|_| true);
            }
            let needs = || Needs { all_holders: true, ..graph::needs_of(&of, true, runtime) };
            worker.suspended(runtime, NEVER, needs, || worker.rest(NEVER, Serves::Awaited));
        }
    }
}

/// What a handler that has a place is at.
fn event_on_a_thread(runtime: &RuntimeCore, token: Token) -> Option<AnyEvent> {
    let slots = runtime.pool.all_workers().into_iter().flat_map(|worker| worker.slots());
    slots.map(Place::of_slot).find(|place| place.token() == token).map(|place| place.event)
}

/// A handler on a stack.
struct Place {
    event: AnyEvent,
    delivery: usize,
    invocation: usize,
}

impl Place {
    fn of_slot(slot: Slot) -> Place {
        Place { event: slot.event, delivery: slot.delivery, invocation: slot.running.invocation }
    }

    fn token(&self) -> Token {
        token_of(&self.event, self.delivery, self.invocation)
    }

    fn groups(&self) -> Vec<Arc<LimitGroup>> {
        let state = self.event.state().lock();
        let of = |p: &&Placed| p.delivery == self.delivery && p.invocation == self.invocation;
        state.limits().iter().filter(of).map(|placed| Arc::clone(&placed.group)).collect()
    }

    fn is_in(&self, group: &Arc<LimitGroup>) -> bool {
        self.groups().iter().any(|own| Arc::ptr_eq(own, group))
    }
}

/// Bottom first.
fn places_of_this_thread() -> Vec<Place> {
    frame::local(|local| {
        let place = |f: &Frame| Place { event: f.event.clone(), delivery: f.delivery, invocation: f.invocation };
        local.frames.iter().map(place).collect()
    })
    .unwrap_or_default()
}

/// Each handler of a stack waits for the event that the one above it handles; the top one for `awaited`, if it waits.
fn each_with_what_it_waits_for(
    stack: &[Place],
    awaited: Option<&AnyEvent>,
    what: &mut impl FnMut(&Place, Option<&AnyEvent>),
) {
    for (at, place) in stack.iter().enumerate() {
        what(place, stack.get(at + 1).map(|above| &above.event).or(awaited));
    }
}
