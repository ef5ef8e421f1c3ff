//! What changes on an event, all under its one lock: deliveries, invocations, children, completion.
//!
//! Pure transitions. Each says whether it was this call that made it; who made it owes what follows (`runtime/README.md`, section 2).

use crate::event::envelope::AnyEvent;
use crate::event::info::{HandlerEntry, HandlerInfo};
use crate::event::slot::{Plan, Roster, TypeSlot};
use crate::event::{AnyOutput, BusId, EmitError, HandlerFailure, LimitGroup, Notices};
use crate::sync::{Bell, Token};
use crate::sys::clock::{NEVER, Stamp, Tick};
use crate::sys::thread;
use smallvec::SmallVec;
use std::any::Any;
use std::cell::RefCell;
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
    /// Of a bus with middlewares.
    pub(crate) notices: Option<Notices>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryPhase {
    Queued,
    Active,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordPhase {
    Pending,
    Started,
    /// Between two attempts.
    Delayed,
    Ended,
}

/// How an invocation ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    None,
    Value(AnyOutput),
    Failed(Arc<HandlerFailure>),
}

/// One handler on one delivery.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) mode: HandlerMode,
    pub(crate) phase: RecordPhase,
    /// Counts the starts; the lease of the thread that runs it.
    pub(crate) attempt: u32,
    /// Which worker runs it, for diagnostics and the wait graph.
    pub(crate) worker: u32,
    /// Its thread sits in a wait, and has given up what it holds.
    pub(crate) sitting: bool,
    /// It has its place under the handler's limit, until it ends.
    pub(crate) placed: bool,
    pub(crate) started: Stamp,
    pub(crate) ended: Stamp,
    pub(crate) outcome: Outcome,
}

/// Which event permit a delivery needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnKind {
    Free,
    Bus,
    Global,
}

/// How one handler runs beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerMode {
    GlobalSerial,
    BusSerial,
    EventSerial,
    Parallel,
}

/// How a delivery runs, settled when it is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    pub(crate) turn: TurnKind,
    /// The bus's handler permit belongs to the delivery, not to its invocations.
    pub(crate) bus_handler: bool,
    /// Some handlers may run beside others.
    pub(crate) parallel: bool,
    pub(crate) first: bool,
    /// Whoever ends the delivery goes on as the bus's loop.
    pub(crate) carries_loop: bool,
    /// Claimed by a jump: its tickets go before what has not started.
    pub(crate) jumped: bool,
    /// Driven on the stack of a handler that waits for it: that thread goes on driving when a handler was given up.
    pub(crate) inline: bool,
}

impl Manner {
    /// As planned, before anybody claimed it.
    pub(crate) fn of(plan: Plan) -> Self {
        Manner { turn: plan.turn, first: plan.first, bus_handler: plan.bus_handler, ..Manner::PLAIN }
    }

    pub(crate) const PLAIN: Manner = Manner {
        turn: TurnKind::Free,
        bus_handler: false,
        parallel: false,
        first: false,
        carries_loop: false,
        jumped: false,
        inline: false,
    };
}

/// Which handlers a delivery has.
#[derive(Debug)]
pub(crate) enum Handlers {
    /// Not claimed yet.
    Unknown,
    /// Kept while it runs, so that one removed meanwhile still runs.
    Live(Arc<TypeSlot>),
    /// Only their names, for results.
    Past(Arc<Roster>),
}

/// When the event ends on this bus, whatever it is at.
#[derive(Debug)]
struct Cap {
    at: Tick,
    /// To be taken back when the delivery is over.
    timer: Option<u64>,
}

/// An event on one bus.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) bus: Arc<BusIdentity>,
    pub(crate) phase: DeliveryPhase,
    /// Counts for the event's completion; not so if it was added afterwards.
    pub(crate) counted: bool,
    pub(crate) manner: Manner,
    /// Ended before any handler of it started.
    pub(crate) cancelled: bool,
    /// Index of the first record that may be `Pending`.
    pub(crate) next: u32,
    /// Records not ended.
    pub(crate) left: u32,
    /// A serial handler is running, or waits for its permit or its next attempt.
    pub(crate) serial_busy: bool,
    /// A handler of it has sat in a wait, so that somebody has to look whether all do.
    pub(crate) has_sat: bool,
    /// A record has ended in failure.
    pub(crate) any_failed: bool,
    /// One handler again, of an event that this bus had already: no number counts it.
    pub(crate) redrive: bool,
    /// A handler of it has or waits for a place under a limit, to be given back when it ends.
    pub(crate) limited: bool,
    /// Helpers on their way to claim parallel handlers.
    pub(crate) helpers: u32,
    /// Who lends the turn: the delivery whose handler waits for this one, while that holds it.
    /// The stamp of the lender's event, 0 for none, and its number there.
    lender: Stamp,
    lender_delivery: u16,
    /// Few events have one.
    cap: Option<Box<Cap>>,
    pub(crate) begun: Tick,
    pub(crate) handlers: Handlers,
    pub(crate) records: SmallVec<[Record; 1]>,
}

impl Delivery {
    #[inline(always)]
    pub(crate) fn new(bus: Arc<BusIdentity>, phase: DeliveryPhase, manner: Manner) -> Self {
        Delivery {
            bus,
            phase,
            counted: true,
            manner,
            cancelled: false,
            next: 0,
            left: 0,
            serial_busy: false,
            has_sat: false,
            any_failed: false,
            redrive: false,
            limited: false,
            helpers: 0,
            lender: 0,
            lender_delivery: 0,
            cap: None,
            begun: 0,
            handlers: Handlers::Unknown,
            records: SmallVec::new(),
        }
    }

    /// Who lends the turn, while that holds it.
    pub(crate) fn lender(&self) -> Option<Token> {
        let part = u64::from(self.lender_delivery) << 48;
        (self.lender != 0).then_some(Token { stamp: self.lender, part })
    }

    pub(crate) fn set_lender(&mut self, lender: Option<Token>) {
        self.lender = lender.map_or(0, |token| token.stamp);
        self.lender_delivery = lender.map_or(0, |token| (token.part >> 48) as u16);
    }

    pub(crate) fn cap(&self) -> Tick {
        self.cap.as_ref().map_or(NEVER, |cap| cap.at)
    }

    pub(crate) fn set_cap(&mut self, at: Tick) {
        self.cap = Some(Box::new(Cap { at, timer: None }));
    }

    pub(crate) fn set_cap_timer(&mut self, timer: u64) {
        if let Some(cap) = &mut self.cap {
            cap.timer = Some(timer);
        }
    }

    pub(crate) fn take_cap_timer(&mut self) -> Option<u64> {
        self.cap.as_mut()?.timer.take()
    }

    /// Fixes the handlers. Once.
    pub(crate) fn fix_handlers(&mut self, slot: &Arc<TypeSlot>, mode: impl Fn(usize) -> HandlerMode) {
        let record = |at| Record {
            mode: mode(at),
            phase: RecordPhase::Pending,
            attempt: 0,
            worker: 0,
            sitting: false,
            placed: false,
            started: 0,
            ended: 0,
            outcome: Outcome::None,
        };
        let count = slot.handlers.len();
        self.left = count as u32;
        if count == 1 {
            self.records.push(record(0));
        } else {
            self.records.extend((0..count).map(record));
            self.manner.parallel = self.records.iter().any(|record| record.mode == HandlerMode::Parallel);
        }
        self.handlers = Handlers::Live(Arc::clone(slot));
    }

    /// While it runs.
    pub(crate) fn slot(&self) -> Option<&Arc<TypeSlot>> {
        match &self.handlers {
            Handlers::Live(slot) => Some(slot),
            _ => None,
        }
    }

    pub(crate) fn is_fixed(&self) -> bool {
        !matches!(self.handlers, Handlers::Unknown)
    }

    pub(crate) fn entry(&self, invocation: usize) -> Option<&Arc<HandlerEntry>> {
        self.slot().and_then(|slot| slot.handlers.get(invocation)).map(|handler| &handler.entry)
    }

    /// Also after its end.
    pub(crate) fn handler(&self, invocation: usize) -> Option<&HandlerInfo> {
        match &self.handlers {
            Handlers::Unknown => None,
            Handlers::Live(slot) => slot.roster.0.get(invocation),
            Handlers::Past(roster) => roster.0.get(invocation),
        }
    }

    /// Lets go of the handlers themselves; the caller drops them outside the lock.
    pub(crate) fn retire_handlers(&mut self) -> Option<Arc<TypeSlot>> {
        let roster = Handlers::Past(Arc::clone(&self.slot()?.roster));
        match std::mem::replace(&mut self.handlers, roster) {
            Handlers::Live(slot) => Some(slot),
            _ => None,
        }
    }

    pub(crate) fn is_live(&self, invocation: usize, attempt: u32) -> bool {
        self.records.get(invocation).is_some_and(|r| r.phase == RecordPhase::Started && r.attempt == attempt)
    }

    /// A handler that may start now, in order: a parallel one, or a serial one if no other is at it.
    pub(crate) fn startable(&mut self) -> Option<usize> {
        while self.records.get(self.next as usize).is_some_and(|r| r.phase != RecordPhase::Pending) {
            self.next += 1;
        }
        let (busy, next) = (self.serial_busy, self.next as usize);
        let open = |r: &Record| r.phase == RecordPhase::Pending && (r.mode == HandlerMode::Parallel || !busy);
        self.records[next..].iter().position(open).map(|at| at + next)
    }

    /// Starts an attempt of a pending invocation, or of one whose permit has come, and returns its number.
    pub(crate) fn start(&mut self, invocation: usize, from: RecordPhase, worker: u32, at: Stamp) -> Option<u32> {
        if self.phase != DeliveryPhase::Active {
            return None;
        }
        let record = self.records.get_mut(invocation)?;
        if record.phase != from {
            return None;
        }
        record.phase = RecordPhase::Started;
        record.attempt += 1;
        record.worker = worker;
        record.sitting = false;
        if record.started == 0 {
            record.started = at;
        }
        self.serial_busy |= record.mode != HandlerMode::Parallel;
        Some(record.attempt)
    }

    /// Whatever it was at.
    pub(crate) fn end_record(&mut self, invocation: usize, outcome: Outcome, at: Stamp) {
        let record = &mut self.records[invocation];
        record.phase = RecordPhase::Ended;
        record.ended = at;
        self.any_failed |= matches!(outcome, Outcome::Failed(_));
        record.outcome = outcome;
        self.left -= 1;
        if record.mode != HandlerMode::Parallel {
            self.serial_busy = false;
        }
    }

    /// A pending invocation that waits for its permit, or a failed one that will be tried again: not startable until then.
    pub(crate) fn set_aside(&mut self, invocation: usize) {
        let record = &mut self.records[invocation];
        record.phase = RecordPhase::Delayed;
        self.serial_busy |= record.mode != HandlerMode::Parallel;
    }

    /// The delay is over.
    pub(crate) fn retry(&mut self, invocation: usize, attempt: u32) -> bool {
        let Some(record) = self.records.get_mut(invocation) else { return false };
        if self.phase != DeliveryPhase::Active || record.phase != RecordPhase::Delayed || record.attempt != attempt {
            return false;
        }
        record.phase = RecordPhase::Pending;
        if record.mode != HandlerMode::Parallel {
            self.serial_busy = false;
        }
        self.next = self.next.min(invocation as u32);
        true
    }

    pub(crate) fn anything_started(&self) -> bool {
        self.records.iter().any(|r| r.started != 0)
    }
}

/// In the order in which buses took the event; nearly always one, built where it stays.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "few events are forwarded, and every event has this field")]
pub(crate) struct Deliveries {
    first: Option<Delivery>,
    more: Option<Box<Vec<Delivery>>>,
}

impl Deliveries {
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&Delivery> {
        if at == 0 { self.first.as_ref() } else { self.more.as_ref()?.get(at - 1) }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut Delivery> {
        if at == 0 { self.first.as_mut() } else { self.more.as_mut()?.get_mut(at - 1) }
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
        self.first.iter().chain(self.more.iter().flat_map(|more| more.iter()))
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.as_ref().map_or(0, |more| more.len())
    }

    /// Its number.
    fn push(&mut self, delivery: Delivery) -> usize {
        if self.first.is_none() {
            self.first = Some(delivery);
            return 0;
        }
        let more = self.more.get_or_insert_default();
        more.push(delivery);
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

/// A child, and the invocation that emitted it.
pub(crate) struct Child {
    pub(crate) event: AnyEvent,
    pub(crate) by: Option<(u32, u32)>,
}

/// To run if that attempt is given up.
pub(crate) struct Hook {
    pub(crate) of: AttemptKey,
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
    pub(crate) timer: Option<u64>,
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
    pub(crate) children: Vec<Child>,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) pauses: Vec<Pause>,
    /// Delays of retries, each with its delivery: taken back when that ends.
    timers: Vec<(usize, u64)>,
    /// Places under limits, had or waited for.
    pub(crate) limits: Vec<Placed>,
    watchers: Vec<Watcher>,
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
    /// Switched by `first()` before it started.
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
    watchers: Vec<Watcher>,
    pub(crate) parent: Option<AnyEvent>,
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

    pub(crate) fn children(&self) -> &[Child] {
        self.links.as_ref().map_or(&[], |links| &links.children)
    }

    pub(crate) fn value_wanted(&self) -> bool {
        self.links.as_ref().is_some_and(|links| links.value_wanted)
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

    /// Adds a delivery; returns its number.
    pub(crate) fn add_delivery(&mut self, mut delivery: Delivery) -> usize {
        delivery.counted = !self.complete;
        if delivery.counted {
            self.open += 1;
        }
        self.deliveries.push(delivery)
    }

    /// Links a child. True if this event now waits for it. `dropped` takes children that are let go, to be dropped outside the lock.
    pub(crate) fn add_child(&mut self, event: AnyEvent, by: Option<(u32, u32)>, dropped: &mut Vec<AnyEvent>) -> bool {
        let counted = !self.complete;
        if counted {
            self.open += 1;
        }
        let links = self.links();
        if links.children.iter().rev().take(8).any(|c| c.event.same(&event)) {
            return counted;
        }
        links.children.push(Child { event, by });
        if links.children.len() > links.prune_at.max(2 * CHILDREN_KEPT) {
            links.prune(dropped);
        }
        counted
    }

    pub(crate) fn limits(&self) -> &[Placed] {
        self.links.as_ref().map_or(&[], |links| &links.limits)
    }

    /// A timer to be taken back when the delivery ends. False if it has.
    pub(crate) fn keep_timer(&mut self, delivery: usize, timer: u64) -> bool {
        let active = self.deliveries.get(delivery).is_some_and(|d| d.phase == DeliveryPhase::Active);
        if active {
            self.links().timers.push((delivery, timer));
        }
        active
    }

    pub(crate) fn take_timers(&mut self, delivery: usize) -> Vec<u64> {
        let Some(links) = self.links.as_deref_mut().filter(|links| !links.timers.is_empty()) else { return Vec::new() };
        links.timers.extract_if(.., |(of, _)| *of == delivery).map(|(_, timer)| timer).collect()
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
        self.complete = true;
        if self.started == 0 {
            self.started = at;
        }
        self.completed = at.max(self.started);
        let watchers = self.links.as_mut().map(|links| std::mem::take(&mut links.watchers)).unwrap_or_default();
        Some(Completion { bell: self.bell.take(), watchers, parent: self.parent.take() })
    }

    /// Ended before any handler started on any bus.
    pub(crate) fn was_cancelled(&self) -> bool {
        self.deliveries.iter().any(|d| d.cancelled) && !self.deliveries.iter().any(Delivery::anything_started)
    }
}

impl Links {
    /// What an attempt that has ended leaves behind.
    pub(crate) fn take_of(&mut self, of: AttemptKey) -> (Vec<Hook>, Vec<Pause>) {
        (
            self.hooks.extract_if(.., |hook| hook.of == of).collect(),
            self.pauses.extract_if(.., |p| p.of == of).collect(),
        )
    }

    /// Lets go of the oldest completed children, and keeps the newest.
    fn prune(&mut self, dropped: &mut Vec<AnyEvent>) {
        let complete = self.children.iter().filter(|c| c.event.is_completed()).count();
        let mut excess = complete.saturating_sub(CHILDREN_KEPT);
        self.children.retain_mut(|child| {
            if excess > 0 && child.event.is_completed() {
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
        for watcher in self.watchers {
            match watcher {
                Watcher::Bell(bell) => bell.ring(),
                Watcher::Hook(hook) => hook.completed(event),
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
