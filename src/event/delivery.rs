//! An event on one bus, and its handlers there: phases, attempts, how it runs. Pure transitions, under the event's lock.

use crate::event::info::{HandlerEntry, HandlerInfo};
use crate::event::slot::{Plan, Roster, TypeSlot};
use crate::event::state::BusIdentity;
use crate::event::{AnyOutput, HandlerFailure};
use crate::sync::Token;
use crate::sys::clock::{NEVER, Stamp, Tick, Timer};
use crate::sys::count::Count;
use crate::sys::planted;
use smallvec::SmallVec;
use std::sync::Arc;

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
#[derive(Debug, Default)]
pub(crate) enum Outcome {
    #[default]
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
    pub(crate) worker: u64,
    /// Its thread sits in a wait, and has given up what it holds.
    pub(crate) sitting: bool,
    /// It has its place under the handler's limit, until it ends.
    pub(crate) placed: bool,
    /// It failed with an error that no retry follows.
    pub(crate) permanent: bool,
    pub(crate) started: Stamp,
    pub(crate) ended: Stamp,
    pub(crate) outcome: Outcome,
}

impl Record {
    const PENDING: Record = Record {
        mode: HandlerMode::EventSerial,
        phase: RecordPhase::Pending,
        attempt: 0,
        worker: 0,
        sitting: false,
        placed: false,
        permanent: false,
        started: 0,
        ended: 0,
        outcome: Outcome::None,
    };
}

/// Which event permit a delivery needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnKind {
    Free,
    Bus,
    Global,
}

/// Whether a delivery ended before any handler of it started, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Unrun {
    #[default]
    No,
    Cancelled,
    /// From a full queue, or with its bus.
    Dropped,
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
    timer: Option<Timer>,
}

/// An event on one bus.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) bus: Arc<BusIdentity>,
    pub(crate) phase: DeliveryPhase,
    /// Counts for the event's completion; not so if it was added afterwards.
    pub(crate) counted: bool,
    pub(crate) manner: Manner,
    pub(crate) unrun: Unrun,
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

/// How many attempts of the process were ended by somebody else than their own thread.
static GIVEN_UP: Count = Count::new();

/// While this stays what it was when an attempt started, nobody has given that up.
pub(crate) fn given_up() -> u64 {
    GIVEN_UP.read()
}

/// Under the lock of the event of an attempt that is running, by who ends it.
pub(crate) fn note_given_up() {
    GIVEN_UP.add_one();
}

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

    /// The thread that drove it on its stack does not any more; jobs will, and those borrow from nobody.
    pub(crate) fn leave_stack(&mut self) {
        self.manner.inline = false;
        self.set_lender(None);
    }

    pub(crate) fn cap(&self) -> Tick {
        self.cap.as_ref().map_or(NEVER, |cap| cap.at)
    }

    pub(crate) fn set_cap(&mut self, at: Tick) {
        self.cap = Some(Box::new(Cap { at, timer: None }));
    }

    pub(crate) fn set_cap_timer(&mut self, timer: Timer) {
        if let Some(cap) = &mut self.cap {
            cap.timer = Some(timer);
        }
    }

    pub(crate) fn has_cap_timer(&self) -> bool {
        self.cap.as_ref().is_some_and(|cap| cap.timer.is_some())
    }

    pub(crate) fn take_cap_timer(&mut self) -> Option<Timer> {
        self.cap.as_mut()?.timer.take()
    }

    /// Fixes the handlers. Once.
    pub(crate) fn fix_handlers(&mut self, slot: Arc<TypeSlot>, mode: impl Fn(&TypeSlot, usize) -> HandlerMode) {
        let count = slot.handlers.len();
        let mode = |at| mode(&slot, at);
        self.left = count as u32;
        if count == 1 {
            self.records.push(Record { mode: mode(0), ..Record::PENDING });
        } else {
            self.records.reserve_exact(count);
            for at in 0..count {
                // Put together in place.
                self.records.push(Record::PENDING);
                self.records[at].mode = mode(at);
            }
            self.manner.parallel = self.records.iter().any(|record| record.mode == HandlerMode::Parallel);
        }
        self.handlers = Handlers::Live(slot);
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

    /// How many of them are to be called: none if there are some, or nothing is left for them.
    pub(crate) fn ask_for_helpers(&mut self, count: u32) -> u32 {
        let called = if self.helpers == 0 && self.startable().is_some() { count } else { 0 };
        self.helpers += called;
        called
    }

    /// Starts an attempt of a pending invocation, or of one whose permit has come, and returns its number.
    pub(crate) fn start(&mut self, invocation: usize, from: RecordPhase, worker: u64, at: Stamp) -> Option<u32> {
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
    #[inline]
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

    /// A pending invocation that waits for its permit or place: not startable until then.
    pub(crate) fn set_aside(&mut self, invocation: usize) {
        let record = &mut self.records[invocation];
        record.phase = RecordPhase::Delayed;
        self.serial_busy |= record.mode != HandlerMode::Parallel;
    }

    /// A failed invocation will be tried again. Whoever goes on with it stands in line for a turn: who lends one now may run something
    /// else meanwhile.
    pub(crate) fn await_retry(&mut self, invocation: usize) {
        self.set_aside(invocation);
        self.set_lender(None);
    }

    /// It waits for the attempt after that one.
    pub(crate) fn is_delayed(&self, invocation: usize, attempt: u32) -> bool {
        let delayed = |r: &Record| r.phase == RecordPhase::Delayed && r.attempt == attempt;
        self.phase == DeliveryPhase::Active && self.records.get(invocation).is_some_and(delayed)
    }

    /// The delay is over.
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
