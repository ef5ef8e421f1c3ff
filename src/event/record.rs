//! How far a delivery is, and each of its handlers: phases, outcomes, and the record of one handler.

use crate::event::{AnyOutput, HandlerFailure, HandlerMode, Journal};
use crate::sys::clock::{NEVER, Stamp, Tick, Timer};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryPhase {
    /// It is to come after other events, which are not complete.
    Held,
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

/// Whether a delivery ended before any handler of it started, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Unrun {
    #[default]
    No,
    Cancelled,
    /// From a full queue, or with its bus.
    Dropped,
}

/// One handler on one delivery.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) mode: HandlerMode,
    pub(crate) phase: RecordPhase,
    /// Counts the starts. A thread that runs it knows by this number whether it still counts.
    pub(crate) attempt: u32,
    /// The worker that runs it, for diagnostics and the wait graph.
    pub(crate) worker: u64,
    /// Its handler waits, and its thread has set down the permits that it holds.
    pub(crate) has_set_down: bool,
    /// It has its place under its handler's limit, until it ends.
    pub(crate) placed: bool,
    /// It failed with an error that no retry follows.
    pub(crate) permanent: bool,
    pub(crate) started: Stamp,
    pub(crate) ended: Stamp,
    pub(crate) outcome: Outcome,
}

impl Record {
    pub(super) const PENDING: Record = Record {
        mode: HandlerMode::EventSerial,
        phase: RecordPhase::Pending,
        attempt: 0,
        worker: 0,
        has_set_down: false,
        placed: false,
        permanent: false,
        started: 0,
        ended: 0,
        outcome: Outcome::None,
    };
}

/// What few deliveries have.
#[derive(Debug)]
pub(super) struct Extras {
    /// When the event ends on the bus, whatever it is at.
    pub(super) cap: Tick,
    /// The cap's, to be taken back when the delivery is over.
    pub(super) timer: Option<Timer>,
    /// On a bus with middlewares: what they have yet to be told.
    pub(super) journal: Option<Arc<Journal>>,
    /// The delivery's number among the event's; only where there is a journal, which names it.
    pub(super) number: usize,
}

impl Default for Extras {
    fn default() -> Self {
        Extras { cap: NEVER, timer: None, journal: None, number: 0 }
    }
}
