//! What changes on an event, all under its one lock: its deliveries, children, completion, and who waits for it.
//!
//! Pure transitions. Each says whether it was this call that made it; who made it owes what follows (`runtime/README.md`, section 2).

use crate::event::delivery::{Delivery, DeliveryPhase, Manner, RecordPhase, Unrun};
use crate::event::envelope::AnyEvent;
use crate::event::{BusId, EmitError, HandlerFailure, LimitGroup, Notices, Outcome};
use crate::sync::Bell;
use crate::sys::clock::{Stamp, Tick, Timer};
use crate::sys::planted;
use crate::sys::random::IdMaker;
use crate::sys::sync::atomic::AtomicU64;
use crate::sys::thread;
use smallvec::SmallVec;
use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ptr;
use std::sync::{Arc, Weak};

/// Completed children beyond this many are kept only as long as somebody else keeps them.
pub(crate) const CHILDREN_KEPT: usize = 1000;

/// A bus as its events know it: weakly.
#[derive(Debug)]
pub(crate) struct BusIdentity {
    pub(crate) id: BusId,
    pub(crate) name: String,
    pub(crate) label: Arc<str>,
    pub(crate) link: Weak<dyn Any + Send + Sync>,
    /// Of the events that are emitted there.
    pub(crate) ids: IdMaker,
    /// Of a bus with middlewares.
    pub(crate) notices: Option<Notices>,
    /// A bit for each reason for which a refused emit was told of. A stand-in for a bus that is gone has that bus's.
    pub(crate) refusals: Arc<AtomicU64>,
}

/// In the order in which buses took the event; nearly always one, built where it stays.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "few events are forwarded, and every event has this field")]
pub(crate) struct Deliveries {
    first: Option<Delivery>,
    more: Option<Box<Vec<Forwarded>>>,
}

#[derive(Debug)]
struct Forwarded {
    delivery: Delivery,
    arrived: Tick,
}

impl Deliveries {
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&Delivery> {
        if at == 0 { self.first.as_ref() } else { Some(&self.more.as_ref()?.get(at - 1)?.delivery) }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut Delivery> {
        if at == 0 { self.first.as_mut() } else { Some(&mut self.more.as_mut()?.get_mut(at - 1)?.delivery) }
    }

    pub(crate) fn first(&self) -> Option<&Delivery> {
        self.first.as_ref()
    }

    pub(crate) fn first_mut(&mut self) -> Option<&mut Delivery> {
        self.first.as_mut()
    }

    /// The first if it is the only one.
    pub(crate) fn only_mut(&mut self) -> Option<&mut Delivery> {
        self.first.as_mut().filter(|_| self.more.is_none())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Delivery> {
        self.first.iter().chain(self.forwarded().map(|more| &more.delivery))
    }

    fn forwarded(&self) -> impl Iterator<Item = &Forwarded> {
        self.more.iter().flat_map(|more| more.iter())
    }

    /// It was forwarded.
    #[inline]
    pub(crate) fn are_many(&self) -> bool {
        self.more.is_some()
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.as_ref().map_or(0, |more| more.len())
    }

    /// Its number.
    fn push(&mut self, delivery: Delivery, arrived: Tick) -> usize {
        if self.first.is_none() {
            self.first = Some(delivery);
            return 0;
        }
        let more = self.more.get_or_insert_default();
        more.push(Forwarded { delivery, arrived });
        more.len()
    }

    fn clear(&mut self) {
        self.first = None;
        self.more = None;
    }
}

/// Who wants to know of an event's end.
pub(crate) enum Watcher {
    /// A thread that waits; it looks again after every ring.
    Bell(Arc<Bell>),
    /// Called once, outside all locks, when the event is complete.
    Hook(Arc<dyn CompletionHook>),
}

/// A batch, for one. Must not panic.
pub(crate) trait CompletionHook: Send + Sync {
    fn completed(&self, event: &AnyEvent);
}

/// Children that are let go, to be dropped outside the lock.
pub(crate) type LetGo = SmallVec<[AnyEvent; 1]>;

/// A child, and the invocation that emitted it.
pub(crate) struct Child {
    pub(crate) event: AnyEvent,
    pub(crate) by: Option<(u32, u32)>,
}

/// To run if that attempt is given up. Gone with its end, however that comes.
pub(crate) struct Hook {
    pub(crate) of: AttemptKey,
    /// Unique among those of its event.
    number: u64,
    pub(crate) run: Box<dyn FnOnce() + Send>,
}

/// Another bus that an attempt's jump keeps from starting queued events.
pub(crate) struct Pause {
    pub(crate) of: AttemptKey,
    pub(crate) bus: Arc<BusIdentity>,
}

/// An invocation that is inside a limit, or in its line.
pub(crate) struct Placed {
    pub(crate) delivery: usize,
    pub(crate) invocation: usize,
    pub(crate) group: Arc<LimitGroup>,
    /// When it has waited long enough.
    pub(crate) timer: Option<Timer>,
    /// The place stays taken while a thread is inside: [`Limit::until_returned`](crate::Limit::until_returned).
    pub(crate) until_returned: bool,
    /// Then: the attempt that was given up, and whose thread is inside.
    inside: Option<u32>,
    /// The last attempt whose thread came back too late.
    returned: u32,
    /// The next attempt waits for it.
    wanted: bool,
}

impl Placed {
    pub(crate) fn new(delivery: usize, invocation: usize, group: Arc<LimitGroup>, until_returned: bool) -> Self {
        Placed { delivery, invocation, group, timer: None, until_returned, inside: None, returned: 0, wanted: false }
    }

    /// A thread that was given up is inside.
    pub(crate) fn is_in_use(&self) -> bool {
        self.inside.is_some()
    }
}

/// A delay between two attempts.
pub(crate) struct Delay {
    /// The attempt that has failed.
    pub(crate) of: AttemptKey,
    /// The invocation's result, should there be no other attempt.
    pub(crate) failure: Arc<HandlerFailure>,
    /// The attempt was ended by its deadline; else by its own thread, which has left the delivery to the next job.
    pub(crate) timed_out: bool,
    pub(crate) timer: Option<Timer>,
    /// The next attempt is due. Kept until the delivery ends or another delay comes, since the timer's thread drops nothing of the user's.
    over: bool,
}

impl Delay {
    pub(crate) fn new(of: AttemptKey, failure: Arc<HandlerFailure>, timed_out: bool) -> Self {
        Delay { of, failure, timed_out, timer: None, over: false }
    }
}

/// A delivery that has been claimed, and of which nothing runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) delivery: usize,
    /// How long it was queued, until the first start of a handler, when that is recorded.
    pub(crate) queued: Option<Tick>,
    /// A handler of it has started before.
    pub(crate) tried: bool,
}

/// Which delivery, which invocation of it, which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttemptKey {
    pub(crate) delivery: usize,
    pub(crate) invocation: usize,
    pub(crate) attempt: u32,
}

#[derive(Default)]
pub(crate) struct Links {
    pub(crate) children: VecDeque<Child>,
    hooks: Vec<Hook>,
    /// How many hooks there have been.
    hooked: u64,
    /// Of each invocation the newest attempt that somebody else than its own thread ended.
    given_up: Vec<AttemptKey>,
    pub(crate) pauses: Vec<Pause>,
    /// Delays of retries, at most one of each invocation.
    delays: Vec<Delay>,
    /// Places under limits, had or waited for.
    pub(crate) limits: Vec<Placed>,
    waits: SmallVec<[Wait; 1]>,
    watchers: Vec<Watcher>,
    /// By their numbers, the batches that it is counted in.
    batches: SmallVec<[u64; 1]>,
    /// Somebody waits for the first value.
    pub(crate) value_wanted: bool,
    pub(crate) rejected: Option<EmitError>,
    /// The length of `children` at which completed ones are looked through again.
    prune_at: usize,
}

pub(crate) struct State {
    /// Counted deliveries not done, plus counted children not complete.
    open: u32,
    pub(crate) complete: bool,
    pub(crate) started: Stamp,
    pub(crate) completed: Stamp,
    /// Somebody called `first()`: buses that claim it from now on end with their first value.
    pub(crate) wants_first: bool,
    /// Cancelled as a whole: a bus that it reaches later does not run it.
    pub(crate) ended: bool,
    pub(crate) deliveries: Deliveries,
    /// Strong until completion, which counts it down.
    pub(crate) parent: Option<AnyEvent>,
    /// The first thread that waits: mostly there is no other, and it costs no allocation.
    bell: Option<Arc<Bell>>,
    links: Option<Box<Links>>,
}

/// What completing an event leaves to do, outside its lock.
pub(crate) struct Completion {
    bell: Option<Arc<Bell>>,
    #[expect(clippy::box_collection, reason = "few events have some, and every end moves this")]
    watchers: Option<Box<Vec<Watcher>>>,
    pub(crate) parent: Option<AnyEvent>,
    /// When.
    pub(crate) at: Stamp,
}

impl State {
    /// Of a new event on its first bus.
    #[inline(always)]
    pub(crate) fn on(bus: Arc<BusIdentity>, phase: DeliveryPhase, manner: Manner, parent: Option<AnyEvent>) -> Self {
        State {
            open: 1,
            complete: false,
            started: 0,
            completed: 0,
            wants_first: false,
            ended: false,
            deliveries: Deliveries { first: Some(Delivery::new(bus, phase, manner)), more: None },
            parent,
            bell: None,
            links: None,
        }
    }

    pub(crate) fn links(&mut self) -> &mut Links {
        self.links.get_or_insert_with(Box::default)
    }

    pub(crate) fn links_if_any(&mut self) -> Option<&mut Links> {
        self.links.as_deref_mut()
    }

    /// In the order in which they were emitted.
    pub(crate) fn children(&self) -> impl DoubleEndedIterator<Item = &Child> {
        self.links.iter().flat_map(|links| &links.children)
    }

    /// Somebody waits for the first value; and whether that attempt, which ends by itself, has left hooks.
    #[inline]
    pub(crate) fn wanted_and_hooked(&self, of: AttemptKey) -> (bool, bool) {
        let Some(links) = &self.links else { return (false, false) };
        (links.value_wanted, !planted("ended_keeps_hooks") && links.hooks.iter().any(|hook| hook.of == of))
    }

    /// Runs if that attempt, which is live, is given up. Its number takes it back.
    pub(crate) fn hook(&mut self, of: AttemptKey, run: Box<dyn FnOnce() + Send>) -> u64 {
        let links = self.links();
        links.hooked += 1;
        let number = links.hooked;
        links.hooks.push(Hook { of, number, run });
        number
    }

    /// To be dropped outside of the lock.
    pub(crate) fn unhook(&mut self, number: u64) -> Option<Hook> {
        let hooks = &mut self.links.as_mut()?.hooks;
        let at = hooks.iter().rposition(|hook| hook.number == number)?;
        Some(hooks.remove(at))
    }

    /// The hooks of an attempt that has ended by itself, to be dropped outside of the lock.
    pub(crate) fn unhook_all(&mut self, of: AttemptKey) -> Vec<Hook> {
        self.links.as_mut().map_or_else(Vec::new, |links| links.hooks.extract_if(.., |hook| hook.of == of).collect())
    }

    /// Somebody else than its own thread ends that attempt: what it leaves behind.
    pub(crate) fn give_up(&mut self, of: AttemptKey) -> (Vec<Hook>, Vec<Pause>) {
        let links = self.links();
        match links.given_up.iter_mut().find(|old| (old.delivery, old.invocation) == (of.delivery, of.invocation)) {
            Some(newest) => newest.attempt = of.attempt,
            None => links.given_up.push(of),
        }
        let here = |placed: &&mut Placed| (placed.delivery, placed.invocation) == (of.delivery, of.invocation);
        if let Some(placed) = links.limits.iter_mut().find(here)
            && placed.until_returned
            && placed.returned != of.attempt
        {
            placed.inside = Some(of.attempt);
        }
        let pauses = links.pauses.extract_if(.., |pause| pause.of == of).collect();
        (self.unhook_all(of), pauses)
    }

    /// Whether that attempt, which has ended, was given up. One that was not counts as such if a later one of its invocation was: who asks
    /// is nearly always a thread that is still inside.
    pub(crate) fn was_given_up(&self, of: AttemptKey) -> bool {
        let before = |key: &AttemptKey| {
            (key.delivery, key.invocation) == (of.delivery, of.invocation) && of.attempt <= key.attempt
        };
        self.links.as_ref().is_some_and(|links| links.given_up.iter().any(before))
    }

    /// A thread that was given up is still in that invocation's place.
    pub(crate) fn place_is_in_use(&self, delivery: usize, invocation: usize) -> bool {
        let here = |placed: &&Placed| (placed.delivery, placed.invocation) == (delivery, invocation);
        self.limits().iter().find(here).is_some_and(Placed::is_in_use)
    }

    /// Its next attempt waits for that thread. False if it is back.
    pub(crate) fn wants_returned(&mut self, delivery: usize, invocation: usize) -> bool {
        let here = |placed: &&mut Placed| (placed.delivery, placed.invocation) == (delivery, invocation);
        let placed = self.links.as_mut().and_then(|links| links.limits.iter_mut().find(here));
        placed.is_some_and(|placed| {
            placed.wanted = placed.is_in_use();
            placed.wanted
        })
    }

    /// The thread of an attempt is back that does not count any more. True if the next attempt has waited for that, and may start.
    pub(crate) fn has_returned(&mut self, of: AttemptKey) -> bool {
        let here = |placed: &&mut Placed| (placed.delivery, placed.invocation) == (of.delivery, of.invocation);
        let Some(placed) = self.links.as_mut().and_then(|links| links.limits.iter_mut().find(here)) else {
            return false;
        };
        placed.returned = of.attempt;
        if placed.inside != Some(of.attempt) {
            return false;
        }
        placed.inside = None;
        let wanted = std::mem::take(&mut placed.wanted);
        let Some(delivery) = self.deliveries.get_mut(of.delivery).filter(|_| wanted) else { return false };
        let Some(record) = delivery.records.get_mut(of.invocation) else { return false };
        if delivery.phase != DeliveryPhase::Active || record.phase != RecordPhase::Delayed || record.placed {
            return false;
        }
        record.placed = true;
        let attempt = record.attempt;
        delivery.retry(of.invocation, attempt)
    }

    pub(crate) fn has_watchers(&self) -> bool {
        self.bell.is_some() || self.links.as_ref().is_some_and(|links| !links.watchers.is_empty())
    }

    pub(crate) fn watch(&mut self, watcher: Watcher) {
        match watcher {
            Watcher::Bell(bell) if self.bell.is_none() => self.bell = Some(bell),
            watcher => self.links().watchers.push(watcher),
        }
    }

    /// Once, however often it was added.
    pub(crate) fn unwatch(&mut self, bell: &Arc<Bell>) {
        if self.bell.as_ref().is_some_and(|own| Arc::ptr_eq(own, bell)) {
            self.bell = None;
        } else if let Some(links) = &mut self.links {
            let ours = |w: &Watcher| matches!(w, Watcher::Bell(other) if Arc::ptr_eq(other, bell));
            if let Some(at) = links.watchers.iter().position(ours) {
                links.watchers.swap_remove(at);
            }
        }
    }

    /// It is counted in that batch from now on. False if it was already.
    pub(crate) fn enter_batch(&mut self, batch: u64) -> bool {
        let batches = &mut self.links().batches;
        let is_new = !batches.contains(&batch);
        if is_new {
            batches.push(batch);
        }
        is_new
    }

    /// Its completion means nothing to the hook any more. The caller keeps the hook, so that it is not dropped here.
    pub(crate) fn unwatch_hook(&mut self, hook: *const ()) {
        let Some(links) = &mut self.links else { return };
        let ours = |w: &Watcher| matches!(w, Watcher::Hook(other) if ptr::addr_eq(Arc::as_ptr(other), hook));
        if let Some(at) = links.watchers.iter().position(ours) {
            links.watchers.swap_remove(at);
        }
    }

    #[cfg(test)]
    pub(crate) fn watchers(&self) -> usize {
        usize::from(self.bell.is_some()) + self.links.as_ref().map_or(0, |links| links.watchers.len())
    }

    /// Threads that wait look again.
    pub(crate) fn ring(&self) {
        let more = self.links.iter().flat_map(|links| &links.watchers);
        let bells = more.filter_map(|watcher| if let Watcher::Bell(bell) = watcher { Some(bell) } else { None });
        self.bell.iter().chain(bells).for_each(|bell| bell.ring());
    }

    /// Nobody took it: complete, with the reason.
    pub(crate) fn reject(&mut self, error: EmitError) {
        self.deliveries.clear();
        self.open = 0;
        self.parent = None;
        self.complete = true;
        self.links().rejected = Some(error);
    }

    pub(crate) fn rejected(&self) -> Option<&EmitError> {
        self.links.as_ref().and_then(|links| links.rejected.as_ref())
    }

    /// When a bus that the event was forwarded to took it. `None`: it was emitted there.
    pub(crate) fn forwarded_at(&self, bus: BusId) -> Option<Tick> {
        let mut forwarded = self.deliveries.forwarded();
        let first = self.deliveries.first()?;
        if first.bus.id == bus { None } else { Some(forwarded.find(|more| more.delivery.bus.id == bus)?.arrived) }
    }

    /// Adds a delivery, which comes now; returns its number.
    pub(crate) fn add_delivery(&mut self, mut delivery: Delivery, now: Tick) -> usize {
        delivery.counted = !self.complete;
        if delivery.counted {
            self.open += 1;
        }
        self.deliveries.push(delivery, now)
    }

    /// Links a child. True if this event now waits for it. `dropped` takes children that are let go, to be dropped outside the lock.
    pub(crate) fn add_child(&mut self, event: AnyEvent, by: Option<(u32, u32)>, dropped: &mut LetGo) -> bool {
        let counted = !self.complete;
        if counted {
            self.open += 1;
        }
        let links = self.links();
        links.children.push_back(Child { event, by });
        if links.children.len() > CHILDREN_KEPT {
            links.let_go(dropped);
        }
        counted
    }

    pub(crate) fn limits(&self) -> &[Placed] {
        self.links.as_ref().map_or(&[], |links| &links.limits)
    }

    /// The invocation of a failed attempt waits for its next one, unless its delivery is over. What is kept no longer comes back: the delay
    /// before, or this one.
    pub(crate) fn delay(&mut self, delay: Delay) -> (bool, Option<Delay>) {
        if !self.is_delayed(delay.of) {
            return (false, Some(delay));
        }
        let (delivery, invocation) = (delay.of.delivery, delay.of.invocation);
        let delays = &mut self.links().delays;
        match delays.iter_mut().find(|d| (d.of.delivery, d.of.invocation) == (delivery, invocation)) {
            Some(before) => (true, Some(std::mem::replace(before, delay))),
            None => {
                delays.push(delay);
                (true, None)
            }
        }
    }

    fn is_delayed(&self, of: AttemptKey) -> bool {
        self.deliveries.get(of.delivery).is_some_and(|d| d.is_delayed(of.invocation, of.attempt))
    }

    /// A delay's timer, to be taken back if its delivery ends first. False if the delay is over.
    pub(crate) fn keep_timer(&mut self, of: AttemptKey, timer: Timer) -> bool {
        let delay = self.links.as_mut().and_then(|links| links.delays.iter_mut().find(|d| d.of == of && !d.over));
        delay.map(|delay| delay.timer = Some(timer)).is_some()
    }

    /// A delay's time has come. True if the invocation may start again.
    pub(crate) fn end_delay(&mut self, of: AttemptKey) -> bool {
        if let Some(delay) = self.links.as_mut().and_then(|links| links.delays.iter_mut().find(|d| d.of == of)) {
            (delay.over, delay.timer) = (true, None);
        }
        self.deliveries.get_mut(of.delivery).is_some_and(|d| d.retry(of.invocation, of.attempt))
    }

    /// Makes no further attempt where one is delayed: the last failure is the result.
    pub(crate) fn cut_delays(&mut self, delivery: usize, at: Stamp) -> Vec<Delay> {
        let Some(links) = self.links.as_mut().filter(|links| !links.delays.is_empty()) else { return Vec::new() };
        let Some(d) = self.deliveries.get_mut(delivery).filter(|d| d.phase == DeliveryPhase::Active) else {
            return Vec::new();
        };
        let waits = |delay: &mut Delay| {
            let AttemptKey { invocation, attempt, .. } = delay.of;
            delay.of.delivery == delivery && !delay.over && d.is_delayed(invocation, attempt)
        };
        let cut: Vec<Delay> = links.delays.extract_if(.., waits).collect();
        for Delay { of, failure, .. } in &cut {
            d.end_record(of.invocation, Outcome::Failed(Arc::clone(failure)), at);
        }
        cut
    }

    /// Of retries, or in a line.
    pub(crate) fn has_waits(&self) -> bool {
        self.links.as_ref().is_some_and(|links| !links.delays.is_empty() || !links.waits.is_empty())
    }

    /// Of a delivery that ends.
    pub(crate) fn take_delays(&mut self, delivery: usize) -> (Vec<Delay>, Option<Wait>) {
        let Some(links) = self.links.as_deref_mut() else { return (Vec::new(), None) };
        let delays = links.delays.extract_if(.., |delay| delay.of.delivery == delivery).collect();
        (delays, self.end_wait(delivery))
    }

    /// False if it waits already.
    pub(crate) fn begin_wait(&mut self, wait: Wait) -> bool {
        let waits = &mut self.links().waits;
        let is_new = waits.iter().all(|other| other.delivery != wait.delivery);
        if is_new {
            waits.push(wait);
        }
        is_new
    }

    pub(crate) fn end_wait(&mut self, delivery: usize) -> Option<Wait> {
        let waits = &mut self.links.as_deref_mut()?.waits;
        let at = waits.iter().position(|wait| wait.delivery == delivery)?;
        Some(waits.swap_remove(at))
    }

    /// Marks a delivery done. True if it was this call.
    pub(crate) fn finish_delivery(&mut self, delivery: usize) -> bool {
        let Some(delivery) = self.deliveries.get_mut(delivery) else { return false };
        if delivery.phase == DeliveryPhase::Done {
            return false;
        }
        delivery.phase = DeliveryPhase::Done;
        true
    }

    /// One thing less to wait for. `Some` for the call that completed the event.
    pub(crate) fn count_down(&mut self, at: Stamp) -> Option<Completion> {
        self.open = self.open.saturating_sub(1);
        if self.open > 0 || self.complete {
            return None;
        }
        if planted("ring_before_status") {
            self.ring();
            self.bell = None;
        }
        self.complete = true;
        if self.started == 0 {
            self.started = at;
        }
        self.completed = at.max(self.started);
        let watchers = self.links.as_mut().filter(|links| !links.watchers.is_empty());
        let watchers = watchers.map(|links| Box::new(std::mem::take(&mut links.watchers)));
        Some(Completion { bell: self.bell.take(), watchers, parent: self.parent.take(), at: self.completed })
    }

    /// Whether it ended before any handler started on any bus, and how: on the first of those that cut it short.
    pub(crate) fn unrun(&self) -> Unrun {
        let unrun = self.deliveries.iter().map(|d| d.unrun).find(|unrun| *unrun != Unrun::No);
        let started = unrun.is_some() && self.deliveries.iter().any(Delivery::anything_started);
        unrun.filter(|_| !started).unwrap_or_default()
    }
}

impl Links {
    /// Lets go of the oldest completed children, and keeps the newest.
    fn let_go(&mut self, dropped: &mut LetGo) {
        // One comes, one goes, where they complete in order.
        if self.children.front().is_some_and(|oldest| oldest.event.is_complete()) {
            dropped.extend(self.children.pop_front().map(|oldest| oldest.event));
        }
        if self.children.len() <= self.prune_at.max(2 * CHILDREN_KEPT) {
            return;
        }
        let complete = self.children.iter().filter(|c| c.event.is_complete()).count();
        let mut excess = complete.saturating_sub(CHILDREN_KEPT);
        self.children.retain_mut(|child| {
            if excess > 0 && child.event.is_complete() {
                excess -= 1;
                dropped.push(child.event.clone());
                return false;
            }
            true
        });
        self.prune_at = self.children.len() + CHILDREN_KEPT;
    }
}

thread::local! {
    /// What is to be dropped by the drop that is under way on this thread.
    static DROPPING: RefCell<Option<Vec<AnyEvent>>> = RefCell::new(None);
}

impl Drop for State {
    /// A long chain of parents and children must not recurse: the outermost drop takes the links one after another.
    fn drop(&mut self) {
        let mut links = Vec::new();
        self.give_up_links(&mut links);
        if links.is_empty() {
            return;
        }
        // While the thread ends there is no outermost one, and the chain is dropped as it is.
        let outermost = DROPPING.try_with(|dropping| {
            let mut dropping = dropping.borrow_mut();
            let outermost = dropping.is_none();
            dropping.get_or_insert_default().append(&mut links);
            outermost
        });
        if outermost != Ok(true) {
            return;
        }
        let next = || DROPPING.try_with(|dropping| dropping.borrow_mut().as_mut().and_then(Vec::pop)).ok().flatten();
        while let Some(event) = next() {
            drop(event);
        }
        let _ = DROPPING.try_with(|dropping| dropping.borrow_mut().take());
    }
}

impl Completion {
    /// Wakes whoever waits for the event; its parent. Outside all locks.
    pub(crate) fn tell(self, event: &AnyEvent) -> Option<AnyEvent> {
        if let Some(bell) = self.bell {
            bell.ring();
        }
        if let Some(watchers) = self.watchers {
            for watcher in *watchers {
                match watcher {
                    Watcher::Bell(bell) => bell.ring(),
                    Watcher::Hook(hook) => hook.completed(event),
                }
            }
        }
        self.parent
    }
}

impl State {
    fn give_up_links(&mut self, into: &mut Vec<AnyEvent>) {
        if let Some(links) = &mut self.links {
            into.extend(links.children.drain(..).map(|child| child.event));
        }
        into.extend(self.parent.take());
    }
}
