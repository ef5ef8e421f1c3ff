//! Holders of places that wait: who lends to whom, and whether anybody can leave a limit (`LIMITS.md`).
//!
//! *Race: a holder falls asleep just when what it needs gets into the line.* The holder is entered among those asleep, the other one stands in
//! line, and then each looks for the other. Whichever comes second sees it.

use crate::bus::core::BusCore;
use crate::bus::core::permit::attempt_token;
use crate::bus::thread::ancestry::is_below;
use crate::bus::thread::frame::{self, Frame};
use crate::event::{AnyEvent, LimitGroup, Placed, RecordPhase};
use crate::runtime::{ParkedWait, RuntimeCore, Sleeper, Sleepers, Worker};
use crate::sync::{Granted, Token};
use crate::sys::planted;
use crate::sys::sync::atomic::Ordering;
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A handler counts among the sleepers of its limits, until this goes.
pub(crate) struct Sleeps {
    runtime: Arc<RuntimeCore>,
    entries: SmallVec<[(Arc<LimitGroup>, u64); 1]>,
}

impl Drop for Sleeps {
    fn drop(&mut self) {
        for (group, number) in &self.entries {
            self.runtime.asleep.leave(group, *number);
        }
    }
}

/// A handler that has a limit, and runs on this thread.
pub(crate) struct Holder {
    bus: Arc<BusCore>,
    event: AnyEvent,
    delivery: usize,
    invocation: usize,
}

impl Holder {
    /// `None` if it has no limit. A thread that is only attached to it waits without it.
    pub(crate) fn of(frame: &Frame) -> Option<Holder> {
        frame.limited.then(|| Holder::new(frame))
    }

    fn new(frame: &Frame) -> Holder {
        let Frame { event, bus, delivery, invocation, .. } = frame;
        Holder { bus: Arc::clone(bus), event: event.clone(), delivery: *delivery, invocation: *invocation }
    }

    /// It waits from now on, for an event or for something else. `None` if it has no place.
    #[cold]
    pub(crate) fn sleeps(&self, worker: &Worker, awaited: Option<&AnyEvent>) -> Option<Box<Sleeps>> {
        let groups = self.groups();
        if groups.is_empty() {
            return None;
        }
        let runtime = Arc::clone(&self.bus.runtime);
        let sleeper = |token| Sleeper {
            event: self.event.clone(),
            delivery: self.delivery,
            invocation: self.invocation,
            token,
            worker: worker.id,
            awaited: awaited.cloned(),
        };
        let enter = |group: Arc<LimitGroup>| {
            let number = runtime.asleep.enter(&group, sleeper(self.token()));
            (group, number)
        };
        let entries = groups.into_iter().map(enter).collect();
        Some(Box::new(Sleeps { runtime, entries }))
    }

    fn token(&self) -> Token {
        // Its place is the same for all attempts.
        attempt_token(&self.event, self.delivery, self.invocation, 0)
    }

    /// The limits under which it has a place.
    fn groups(&self) -> SmallVec<[Arc<LimitGroup>; 1]> {
        let state = self.event.state().lock();
        let of = |p: &&Placed| p.delivery == self.delivery && p.invocation == self.invocation;
        state.limits().iter().filter(of).map(|placed| Arc::clone(&placed.group)).collect()
    }
}

/// The threads on which all holders of a limit sleep; `None` if one may leave by itself, or nobody is inside.
pub(crate) fn all_asleep(runtime: &RuntimeCore, group: &Arc<LimitGroup>) -> Option<Vec<u64>> {
    let workers = runtime.asleep.of(group, |sleepers| {
        // On a thread that runs it, on its way to one, or between two attempts.
        let inside = group.step(|cap| (cap.inside(), Granted::new()));
        (inside <= sleepers.len() && sleepers.iter().all(|sleeper| is_there(sleepers, sleeper)))
            .then(|| workers(sleepers))
    });
    workers.flatten()
}

/// The threads on which holders of a limit sleep.
pub(crate) fn sleepers(runtime: &RuntimeCore, group: &Arc<LimitGroup>) -> Vec<u64> {
    runtime.asleep.of(group, workers).unwrap_or_default()
}

fn workers(sleepers: &Sleepers) -> Vec<u64> {
    let mut workers: Vec<u64> = sleepers.iter().map(|sleeper| sleeper.worker).collect();
    workers.sort_unstable();
    workers.dedup();
    workers
}

/// No later attempt of the invocation is awake on another thread.
fn is_there(sleepers: &Sleepers, sleeper: &Sleeper) -> bool {
    let runs_on = {
        let state = sleeper.event.state().lock();
        let record = state.deliveries.get(sleeper.delivery).and_then(|d| d.records.get(sleeper.invocation));
        record.filter(|record| record.phase == RecordPhase::Started).map(|record| record.worker)
    };
    let here = |worker| sleepers.iter().any(|other| other.token == sleeper.token && other.worker == worker);
    runs_on.is_none_or(|worker| worker == sleeper.worker || here(worker))
}

/// Somebody stands in the line of a limit, and all that have a place wait.
pub(crate) fn is_stalled(runtime: &RuntimeCore, group: &Arc<LimitGroup>) -> bool {
    group.step(|cap| (cap.has_line(), Granted::new())) && all_asleep(runtime, group).is_some()
}

/// What gets into the line of a limit now may be what somebody else has to see: a wait may have become one without an end, or there is something
/// for a jump to claim before a holder goes on.
pub(crate) fn concerns_others(runtime: &RuntimeCore, group: &Arc<LimitGroup>) -> bool {
    let sleeping = sleepers(runtime, group);
    if sleeping.is_empty() {
        return false;
    }
    let in_order = {
        let parked = runtime.parked.lock();
        sleeping.iter().any(|worker| parked.get(worker).is_some_and(|wait| wait.in_order))
    };
    in_order || is_stalled(runtime, group)
}

/// Whether that holder waits.
pub(crate) fn sleeps(runtime: &RuntimeCore, group: &Arc<LimitGroup>, holder: Token) -> bool {
    runtime.asleep.of(group, |sleepers| sleepers.has(holder)) == Some(true)
}

/// Whether a handler on that thread has a place that nobody shares.
pub(crate) fn can_lend(runtime: &RuntimeCore, group: &Arc<LimitGroup>, worker: u64) -> bool {
    let lends = runtime.asleep.of(group, |sleepers| {
        let mut tokens = sleepers.iter().filter(|sleeper| sleeper.worker == worker).map(|sleeper| sleeper.token);
        group.step(|cap| (tokens.any(|token| cap.lends(token)), Granted::new()))
    });
    lends == Some(true)
}

/// The places of the handler on top of this thread, and of those that it is attached to: what is driven on this stack is there for them.
fn held_here(group: &Arc<LimitGroup>) -> SmallVec<[Token; 1]> {
    let holders: SmallVec<[Holder; 1]> = frame::local(|local| {
        let top = local.frames.last().filter(|top| top.limited);
        local.frames.iter().filter(|frame| frame.lends).chain(top).map(Holder::new).collect()
    })
    .unwrap_or_default();
    let is_inside = |holder: &&Holder| holder.groups().iter().any(|own| Arc::ptr_eq(own, group));
    holders.iter().filter(is_inside).map(Holder::token).collect()
}

/// A holder that would lend its place to this event at once, since it waits for it, directly or not.
pub(crate) fn lender(runtime: &RuntimeCore, group: &Arc<LimitGroup>, event: &AnyEvent) -> Option<Token> {
    let lends = |token: Token| group.step(|cap| (cap.lends(token), Granted::new()));
    if let Some(own) = held_here(group).into_iter().find(|own| lends(*own)) {
        return Some(own);
    }
    let last = |sleepers: &Sleepers| {
        let mut able = sleepers.iter().filter(|sleeper| lends(sleeper.token));
        able.find_map(|sleeper| Some((sleeper.token, sleeper.awaited.clone()?)))
    };
    let (token, awaited) = runtime.asleep.of(group, last).flatten()?;
    if is_below(event, &awaited) {
        return Some(token);
    }
    let above = all_above(runtime, &Edges::now(runtime), vec![event.clone()]);
    let of_all = |sleepers: &Sleepers| {
        let mut waiting = sleepers.iter().filter(|sleeper| waits_for_one(sleeper, &above));
        waiting.find(|sleeper| lends(sleeper.token)).map(|sleeper| sleeper.token)
    };
    runtime.asleep.of(group, of_all).flatten()
}

/// All holders that would lend their places to this event, now or later.
pub(crate) fn lenders(runtime: &RuntimeCore, group: &Arc<LimitGroup>, event: &AnyEvent) -> Vec<Token> {
    let mut lenders: Vec<Token> = held_here(group).into_iter().collect();
    if runtime.asleep.of(group, |_| ()).is_some() && !planted("ticket_asks_nobody") {
        let above = all_above(runtime, &Edges::now(runtime), vec![event.clone()]);
        let more = |sleepers: &Sleepers| {
            let waiting = sleepers.iter().filter(|sleeper| waits_for_one(sleeper, &above));
            lenders.extend(waiting.map(|sleeper| sleeper.token));
        };
        runtime.asleep.of(group, more);
    }
    lenders
}

fn waits_for_one(sleeper: &Sleeper, of: &HashSet<u64>) -> bool {
    sleeper.awaited.as_ref().is_some_and(|awaited| of.contains(&awaited.head().stamp()))
}

/// Waits of handlers for what is not below their own events: the threads that wait, by the stamp of what they wait for.
pub(crate) struct Edges(HashMap<u64, SmallVec<[u64; 1]>>);

impl Edges {
    pub(crate) fn of(parked: &HashMap<u64, ParkedWait>) -> Edges {
        let mut edges: HashMap<u64, SmallVec<[u64; 1]>> = HashMap::new();
        for (worker, wait) in parked.iter().filter(|(_, wait)| wait.foreign) {
            edges.entry(wait.event.head().stamp()).or_default().push(*worker);
        }
        Edges(edges)
    }

    fn now(runtime: &RuntimeCore) -> Edges {
        match runtime.foreign_count.load(Ordering::SeqCst) {
            0 => Edges(HashMap::new()),
            _ => Edges::of(&runtime.parked.lock()),
        }
    }
}

/// The stamps of these events, of what is above them, and of what handlers wait for that are above them, to any height: whoever waits for one of these
/// waits for the events.
pub(crate) fn all_above(runtime: &RuntimeCore, edges: &Edges, events: Vec<AnyEvent>) -> HashSet<u64> {
    let (mut above, mut pending) = (HashSet::new(), events);
    while let Some(event) = pending.pop() {
        if !above.insert(event.head().stamp()) {
            continue;
        }
        for worker in edges.0.get(&event.head().stamp()).into_iter().flatten() {
            let slots = runtime.pool.worker(*worker).map(|worker| worker.slots()).unwrap_or_default();
            pending.extend(slots.into_iter().filter(|slot| slot.is_live(&slot.event.state().lock())).map(|s| s.event));
        }
        let parent = event.state().lock().parent.clone();
        pending.extend(parent);
    }
    above
}

/// Whether a wait for `awaited` is also one for `event`.
pub(crate) fn needs(
    runtime: &RuntimeCore,
    parked: &HashMap<u64, ParkedWait>,
    awaited: &AnyEvent,
    event: &AnyEvent,
) -> bool {
    let far = || all_above(runtime, &Edges::of(parked), vec![event.clone()]).contains(&awaited.head().stamp());
    is_below(event, awaited) || runtime.foreign_count.load(Ordering::SeqCst) > 0 && far()
}

/// Whether a handler on this thread is not above the event, as far as limits have to know: else its place reaches all that the wait needs.
pub(crate) fn is_foreign(bus: &BusCore, awaited: &AnyEvent) -> bool {
    if !bus.has_limits() {
        return true;
    }
    let mut below = awaited.clone();
    // From the top down, since each handler's event is most often just above the next one.
    for event in events_here().into_iter().rev() {
        if !is_below(&below, &event) {
            return true;
        }
        below = event;
    }
    false
}

/// Whether others stand in line for a limit under which some handler on this thread has a place.
pub(crate) fn keeps_a_line(runtime: &RuntimeCore) -> bool {
    let worker = Worker::current().map(|worker| worker.id);
    runtime.asleep.groups().into_iter().any(|group| {
        let here = |sleepers: &Sleepers| sleepers.iter().any(|sleeper| Some(sleeper.worker) == worker);
        group.step(|cap| (cap.has_line(), Granted::new())) && runtime.asleep.of(&group, here) == Some(true)
    })
}

/// The events that the handlers on this thread handle, bottom first.
pub(crate) fn events_here() -> Vec<AnyEvent> {
    frame::local(|local| local.frames.iter().map(|frame| frame.event.clone()).collect()).unwrap_or_default()
}

/// The handler on top of this thread is entered among those that wait: the places of this thread are lent to what stands in line below, and
/// those of all others that the new wait lets reach further.
pub(crate) fn lend(runtime: &RuntimeCore, awaited: &AnyEvent, foreign: bool) {
    if planted("waiter_lends_nothing") {
        return;
    }
    let worker = Worker::current().map(|worker| worker.id);
    let groups = runtime.asleep.groups().into_iter();
    let groups: Vec<_> = groups.filter(|group| group.step(|cap| (cap.has_line(), Granted::new()))).collect();
    if groups.is_empty() {
        return;
    }
    let reaches_further = match foreign && !planted("far_wait_lends_nothing") {
        true => all_above(runtime, &Edges::now(runtime), events_here()),
        false => HashSet::new(),
    };
    for group in groups {
        let wanting = |sleepers: &Sleepers| {
            let concerned = |s: &&Sleeper| Some(s.worker) == worker || waits_for_one(s, &reaches_further);
            // Also those who lend already: the next one is theirs to lend to. Of what others need only that is new which lies behind this wait.
            let behind = |s: &Sleeper| if Some(s.worker) == worker { s.awaited.clone() } else { Some(awaited.clone()) };
            sleepers.iter().filter(concerned).filter_map(|s| Some((s.token, behind(s)?))).collect::<Vec<_>>()
        };
        for (token, waits_for) in runtime.asleep.of(&group, wanting).unwrap_or_default() {
            let needed = all_needed(runtime, &waits_for);
            group.step(|cap| ((), cap.lend(token, |t| needed.contains(&t.stamp))));
        }
    }
}

/// The stamps of an event, of what is below it, and of what running handlers among those wait for, to any depth.
fn all_needed(runtime: &RuntimeCore, event: &AnyEvent) -> HashSet<u64> {
    let mut needed = HashSet::new();
    let mut pending = vec![event.clone()];
    while let Some(event) = pending.pop() {
        if event.is_complete() || !needed.insert(event.head().stamp()) {
            continue;
        }
        let workers: SmallVec<[u64; 4]> = {
            let state = event.state().lock();
            pending.extend(state.children().map(|child| child.event.clone()));
            let records = state.deliveries.iter().flat_map(|d| &d.records);
            records.filter(|r| r.phase == RecordPhase::Started).map(|r| r.worker).collect()
        };
        if !workers.is_empty() {
            let parked = runtime.parked.lock();
            pending.extend(workers.iter().filter_map(|worker| parked.get(worker)).map(|wait| wait.event.clone()));
        }
    }
    needed
}
