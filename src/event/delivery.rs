//! The transitions of a delivery and of its handlers' records. Pure, under the event's lock.

use crate::event::structure::Handlers;
use crate::event::{
    BusIdentity, Delivery, DeliveryPhase, HandlerEntry, HandlerInfo, HandlerMode, Manner, Outcome, Record, RecordPhase,
    TypeSlot, Unrun,
};
use crate::sync::Token;
use crate::sys::clock::{NEVER, Stamp, Tick, Timer};
use crate::sys::planted;
use smallvec::SmallVec;
use std::sync::Arc;

impl Delivery {
    #[inline(always)]
    pub(crate) fn new(bus: Arc<BusIdentity>, phase: DeliveryPhase, manner: Manner) -> Self {
        Delivery {
            bus,
            phase,
            counted: true,
            manner,
            unrun: Unrun::No,
            next: 0,
            left: 0,
            serial_busy: false,
            has_set_down: false,
            any_failed: false,
            redrive: false,
            limited: false,
            noted: false,
            helpers: 0,
            lender: 0,
            lender_delivery: 0,
            extras: None,
            begun: 0,
            handlers: Handlers::Unknown,
            records: SmallVec::new(),
        }
    }

    /// The delivery that lends the turn, while it holds that.
    pub(crate) fn lender(&self) -> Option<Token> {
        let part = u64::from(self.lender_delivery) << 48;
        (self.lender != 0).then_some(Token { stamp: self.lender, part })
    }

    pub(crate) fn set_lender(&mut self, lender: Option<Token>) {
        self.lender = lender.map_or(0, |token| token.stamp);
        self.lender_delivery = lender.map_or(0, |token| (token.part >> 48) as u16);
    }

    /// The thread that drove the delivery on its stack does not any more. Jobs do from now on, and those borrow no turn.
    pub(crate) fn leave_stack(&mut self) {
        self.manner.inline = false;
        self.set_lender(None);
    }

    pub(crate) fn cap(&self) -> Tick {
        self.extras.as_ref().map_or(NEVER, |extras| extras.cap)
    }

    pub(crate) fn set_cap(&mut self, at: Tick) {
        self.extras.get_or_insert_default().cap = at;
    }

    pub(crate) fn set_cap_timer(&mut self, timer: Timer) {
        if let Some(extras) = self.extras.as_mut().filter(|extras| extras.cap != NEVER) {
            extras.timer = Some(timer);
        }
    }

    pub(crate) fn has_cap_timer(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.timer.is_some())
    }

    pub(crate) fn take_cap_timer(&mut self) -> Option<Timer> {
        self.extras.as_mut()?.timer.take()
    }

    /// Fixes the handlers, once.
    #[inline]
    pub(crate) fn fix_handlers(&mut self, slot: Arc<TypeSlot>, mode: impl Fn(&TypeSlot, usize) -> HandlerMode) {
        if self.extras.is_some() { self.fix_and_note(slot, mode) } else { self.fix_unnoted(slot, mode) }
    }

    #[cold]
    fn fix_and_note(&mut self, slot: Arc<TypeSlot>, mode: impl Fn(&TypeSlot, usize) -> HandlerMode) {
        self.fix_unnoted(slot, mode);
        self.note_pending();
    }

    #[inline(always)]
    fn fix_unnoted(&mut self, slot: Arc<TypeSlot>, mode: impl Fn(&TypeSlot, usize) -> HandlerMode) {
        let count = slot.handlers.len();
        let mode = |at| mode(&slot, at);
        self.left = count as u32;
        if count == 1 {
            self.records.push(Record { mode: mode(0), ..Record::PENDING });
        } else {
            self.records.reserve_exact(count);
            for at in 0..count {
                // Built where it stays, and not moved.
                self.records.push(Record::PENDING);
                self.records[at].mode = mode(at);
            }
            self.manner.parallel = self.records.iter().any(|record| record.mode == HandlerMode::Parallel);
        }
        self.handlers = Handlers::Live(slot);
    }

    /// Its handlers, while it runs.
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

    /// A handler's registration, also after the end of the delivery.
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
        self.records.get(invocation).is_some_and(|r| {
            r.phase == RecordPhase::Started && (r.attempt == attempt || planted("stale_attempt_accepted"))
        })
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

    /// How many helpers the caller is to call: none if some are on their way, or nothing is left for them.
    pub(crate) fn ask_for_helpers(&mut self, count: u32) -> u32 {
        let called = if self.helpers == 0 && self.startable().is_some() { count } else { 0 };
        self.helpers += called;
        called
    }

    /// Starts an attempt of a pending invocation, or of one whose permit has come, and returns its number.
    pub(crate) fn start(&mut self, invocation: usize, from: RecordPhase, worker: u64, at: Stamp) -> Option<u32> {
        match self.extras {
            None => self.start_unnoted(invocation, from, worker, at),
            Some(_) => self.start_and_note(invocation, from, worker, at),
        }
    }

    #[cold]
    fn start_and_note(&mut self, invocation: usize, from: RecordPhase, worker: u64, at: Stamp) -> Option<u32> {
        let started = self.start_unnoted(invocation, from, worker, at);
        if started == Some(1) {
            self.note_start(invocation, at);
        }
        started
    }

    #[inline(always)]
    fn start_unnoted(&mut self, invocation: usize, from: RecordPhase, worker: u64, at: Stamp) -> Option<u32> {
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
        record.has_set_down = false;
        if record.started == 0 {
            record.started = at;
        }
        self.serial_busy |= record.mode != HandlerMode::Parallel;
        Some(record.attempt)
    }

    /// Ends an invocation, whatever it was at.
    #[inline]
    pub(crate) fn end_record(&mut self, invocation: usize, outcome: Outcome, at: Stamp) {
        if self.extras.is_some() {
            self.end_and_note(invocation, outcome, at)
        } else {
            self.end_unnoted(invocation, outcome, at)
        }
    }

    #[cold]
    fn end_and_note(&mut self, invocation: usize, outcome: Outcome, at: Stamp) {
        self.end_unnoted(invocation, outcome, at);
        self.note_end(invocation, at);
    }

    #[inline(always)]
    fn end_unnoted(&mut self, invocation: usize, outcome: Outcome, at: Stamp) {
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

    /// A pending invocation waits for its permit or place, and cannot start until then.
    pub(crate) fn set_aside(&mut self, invocation: usize) {
        let record = &mut self.records[invocation];
        record.phase = RecordPhase::Delayed;
        self.serial_busy |= record.mode != HandlerMode::Parallel;
    }

    /// A failed invocation will be tried again. The job that goes on with it stands in line for a turn of its own: the delivery that lends
    /// one now may run something else meanwhile.
    pub(crate) fn await_retry(&mut self, invocation: usize) {
        self.set_aside(invocation);
        self.set_lender(None);
    }

    /// The invocation waits for the attempt after that one.
    pub(crate) fn is_delayed(&self, invocation: usize, attempt: u32) -> bool {
        let delayed = |r: &Record| r.phase == RecordPhase::Delayed && r.attempt == attempt;
        self.phase == DeliveryPhase::Active && self.records.get(invocation).is_some_and(delayed)
    }

    /// The delay after that attempt is over: the invocation may start again. False if it does not wait for that.
    pub(crate) fn retry(&mut self, invocation: usize, attempt: u32) -> bool {
        let Some(record) = self.records.get_mut(invocation) else { return false };
        let over = self.phase != DeliveryPhase::Active || record.phase != RecordPhase::Delayed;
        if over && !planted("retry_after_the_end") || record.attempt != attempt {
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
