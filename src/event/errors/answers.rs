//! What the calls of this crate answer when they cannot do what they were asked: one small type per operation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{EventId, HandlerFailure};

/// Why a bus did not take an event. Nothing of the event is left on the bus.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// The queue had no room, for as long as `OnFull` allows; a `try_emit` does not wait for it.
    #[error("queue of {bus} is full ({capacity})")]
    QueueFull {
        /// Label of the bus.
        bus: String,
        /// Its queue's capacity in events.
        capacity: usize,
    },
    /// A subscription whose emitters wait for its reader ([`OnLag::Block`](crate::OnLag::Block)) had no room, and a `try_emit` does not wait.
    #[error("a subscription of {bus} is full ({capacity})")]
    #[non_exhaustive]
    SubscriptionFull {
        /// Label of the bus.
        bus: String,
        /// The subscription's capacity in events.
        capacity: usize,
    },
    /// Too many events came within a short time, for as long as `OnFull` allows: see [`max_emit_rate`](crate::BusBuilder::max_emit_rate).
    #[error("events come too fast for {bus}")]
    RateLimited {
        /// Label of the bus.
        bus: String,
    },
    /// The history had no room, and nothing in it had completed, under `HistoryPolicy::Reject`.
    #[error("history of {bus} is full ({limit})")]
    HistoryFull {
        /// Label of the bus.
        bus: String,
        /// Its `max_history`.
        limit: usize,
    },
    /// Nobody handles this type, and the bus was built with `require_handler`.
    #[error("no handler for {event_type} on {bus}")]
    NoHandler {
        /// Label of the bus.
        bus: String,
        /// Type of the event.
        event_type: String,
    },
    /// The bus was shut down, or its last handle dropped.
    #[error("{bus} is shut down")]
    Closed {
        /// Label of the bus.
        bus: String,
    },
    /// The id was set by the emitter or came with the event, and the bus has seen it: see [`emit_json`](crate::EventBus::emit_json).
    #[error("{bus} already has an event {id}")]
    DuplicateId {
        /// Label of the bus.
        bus: String,
        /// The id in question.
        id: EventId,
    },
    /// The id was set by the emitter, and is the nil UUID, which stands for none.
    #[error("the nil id is no event's, and was set for one on {bus}")]
    #[non_exhaustive]
    NilId {
        /// Label of the bus.
        bus: String,
    },
    /// A middleware's `on_emit` returned an error, or panicked.
    #[error("refused by a middleware of {bus}: {reason}")]
    Refused {
        /// Label of the bus.
        bus: String,
        /// The middleware's error as text, or its panic's.
        reason: String,
    },
    /// An `emit_now` would run inside more handlers, one in the other, than [`RuntimeBuilder::max_wait_depth`](crate::RuntimeBuilder::max_wait_depth) allows.
    #[error("more than {limit} handlers would run inside each other")]
    #[non_exhaustive]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// It was to come [after](crate::EventOptions::after) an event that needs it to be complete itself. The text names the chain.
    #[error("it could never start on {bus}: {chain}")]
    #[non_exhaustive]
    Circle {
        /// Label of the bus.
        bus: String,
        /// Which event waits for which, in words.
        chain: String,
    },
    /// The emitting handler timed out or was cancelled before; what it emits no longer counts.
    #[error("the emitting handler was already abandoned")]
    Aborted,
}

/// A refused `try_emit`: hands back what was not emitted.
///
/// ```
/// use threadbus::*;
///
/// let refused = TryEmitError { payload: vec![1, 2, 3], error: EmitError::Closed { bus: "app#1234".into() } };
/// assert_eq!(refused.to_string(), "app#1234 is shut down");
/// assert_eq!(refused.payload, [1, 2, 3]);
/// ```
pub struct TryEmitError<P> {
    /// The payload, unchanged.
    pub payload: P,
    /// Why it was not emitted.
    pub error: EmitError,
}

impl<P> fmt::Debug for TryEmitError<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryEmitError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<P> fmt::Display for TryEmitError<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<P> std::error::Error for TryEmitError<P> {}

/// How a refusal begins where a wait tells it.
pub(super) const REJECTED: &str = "event was rejected: ";

/// Why a wait ended without what it waited for. A failed handler is no reason: the event is complete all the same.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The waiter's own patience ended; the event goes on.
    #[error("not completed within {0:?}")]
    Timeout(Duration),
    /// Everything that could end this wait waits for it in turn. The text names the chain.
    #[error("this wait can never end: {0}")]
    Deadlock(String),
    /// No bus ever took the event.
    #[error("{rejected}{0}", rejected = REJECTED)]
    Rejected(EmitError),
    /// The event was given up before any handler started, on any bus: by [`cancel`](crate::AnyEvent::cancel), a timeout above it, or a shutdown.
    #[error("event was cancelled")]
    Cancelled,
    /// The event fell out of a full queue, under [`OnFull::DropOldest`](crate::OnFull::DropOldest), or went with the last handle of its bus,
    /// before any handler started.
    #[error("event was dropped, from a full queue or with the last handle of its bus")]
    Dropped,
    /// The handler that waits timed out or was cancelled itself, and should return.
    #[error("the waiting handler was itself abandoned")]
    Aborted,
    /// What is waited for needs a thread of its own, and can never get one.
    ///
    /// Only where the runtime's hard limit is reached or the system refuses threads, nothing of it runs, the waiting thread has no stack left to
    /// run it, and all other threads stand still in waits as well. The number is the hard limit. Or only this thread may run it, whose stack is
    /// used up; the limit is 1 then.
    #[error("no thread is left to run what this waits for (limit {0})")]
    NoThread(usize),
    /// So many handlers wait already, one for the event of the next, that this is most likely an event that waits for its own kind without end: see
    /// [`RuntimeBuilder::max_wait_depth`](crate::RuntimeBuilder::max_wait_depth).
    #[error("more than {limit} handlers would wait, each for the event of the next: {chain}")]
    #[non_exhaustive]
    TooDeep {
        /// The limit.
        limit: usize,
        /// Which kinds of events wait for which, in words.
        chain: String,
    },
}

impl From<EmitError> for WaitError {
    fn from(error: EmitError) -> Self {
        WaitError::Rejected(error)
    }
}

/// Why there is no result.
///
/// `Display` is whole: `order#1a2b failed: send#3c4d failed: no network`. So `source()` is what comes after that, the source of the last error shown, and a
/// reporter that prints all sources says nothing twice. [`HandlerFailure::downcast_ref`] finds errors of any type on the way.
#[non_exhaustive]
#[derive(Clone)]
pub enum ResultError {
    /// Waiting for the event did not work.
    Wait(WaitError),
    /// A handler failed.
    Handler {
        /// Label of the handler.
        handler: String,
        /// How it failed.
        failure: Arc<HandlerFailure>,
    },
    /// Nobody handles this event on any bus that took it.
    NoHandler {
        /// Type of the event.
        event_type: String,
    },
    /// Handlers ran, and none returned a value.
    Empty,
}

impl From<WaitError> for ResultError {
    fn from(error: WaitError) -> Self {
        ResultError::Wait(error)
    }
}

/// Why something did not become JSON, or JSON did not become an event.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The type does not say how it becomes JSON: [`Payload::codec`](crate::Payload::codec) is `None`.
    #[error("{event_type} has no codec")]
    NoCodec {
        /// Type of the event or value.
        event_type: String,
    },
    /// An event's fields stand beside the payload's in one object, so the payload must be an object too.
    #[error("{event_type} does not serialize to a JSON object")]
    NotAnObject {
        /// Type of the event.
        event_type: String,
    },
    /// Payload fields named `event_*` or `model_*` would be mistaken for the event's own.
    #[error("field {field} is reserved")]
    ReservedField {
        /// Name of the field.
        field: String,
    },
    /// A field of the event is missing, or not what it should be.
    #[error("field {field}: {reason}")]
    InvalidField {
        /// Name of the field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The history has an event of this id with another content: two writers gave one id to two events, or one was changed on its way.
    #[error("an event {id} with another {field} is there already")]
    #[non_exhaustive]
    OtherContent {
        /// The id in question.
        id: EventId,
        /// What differs first: `event_type`, or a field of the payload.
        field: String,
    },
    /// An [upcaster](crate::EventBus::upcast) returned an error or something that is no payload, or panicked.
    #[error("{event_type} of version {from} cannot be made {to}: {reason}")]
    #[non_exhaustive]
    Upcast {
        /// Type of the event.
        event_type: String,
        /// Version that the upcaster got.
        from: String,
        /// Version that it should have made.
        to: String,
        /// Its error as text, or its panic's.
        reason: String,
    },
    /// A field of one object is there twice, so one of them would be lost.
    #[error("field {field} is there twice")]
    DuplicateField {
        /// Name of the field.
        field: String,
    },
    /// The event is longer than [`JsonLimits::event_bytes`](crate::JsonLimits::event_bytes).
    #[error("an event has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Objects and arrays are nested deeper than [`JsonLimits::depth`](crate::JsonLimits::depth).
    #[error("an event is nested deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A name is longer than [`JsonLimits::name_bytes`](crate::JsonLimits::name_bytes).
    #[error("a name in {field} has more than {limit} bytes")]
    NameTooLong {
        /// The field that holds the name; for a field's own name, its beginning.
        field: String,
        /// The limit.
        limit: usize,
    },
    /// The event has been on more buses than [`JsonLimits::path_buses`](crate::JsonLimits::path_buses): it may go in circles.
    #[error("event_path names more than {limit} buses")]
    PathTooLong {
        /// The limit.
        limit: usize,
    },
    /// The text is not JSON, or the payload or output does not fit its type, or its own serialization failed: then the text names type, field and index.
    #[error(transparent)]
    Serde(#[from] serde_json::Error),
}

/// An option of a builder that cannot be.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("invalid {option}: {reason}")]
pub struct BuildError {
    /// Name of the builder's method.
    pub option: &'static str,
    /// What is wrong with its value.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn messages_name_what_is_concerned() {
        let full = EmitError::QueueFull { bus: "app#1234".into(), capacity: 8 };
        assert_eq!(full.to_string(), "queue of app#1234 is full (8)");
        assert_eq!(WaitError::from(full.clone()).to_string(), "event was rejected: queue of app#1234 is full (8)");
        assert_eq!(
            ResultError::from(WaitError::from(full)).to_string(),
            "event was rejected: queue of app#1234 is full (8)"
        );
        assert_eq!(WaitError::Timeout(Duration::from_millis(5)).to_string(), "not completed within 5ms");
        let build = BuildError { option: "queue_capacity", reason: "must be at least 1".into() };
        assert_eq!(build.to_string(), "invalid queue_capacity: must be at least 1");
    }

    #[test]
    fn a_failed_result_leads_to_the_handlers_own_error() {
        let failure = Arc::new(HandlerFailure::Failed("no such page".into()));
        let error = ResultError::Handler { handler: "fetch#1a2b".into(), failure };
        assert_eq!(error.to_string(), "fetch#1a2b failed: no such page");
        assert!(error.source().is_none(), "all is said");
    }

    #[test]
    fn a_refused_payload_needs_no_debug_of_its_own() {
        struct Opaque;
        let refused = TryEmitError { payload: Opaque, error: EmitError::Aborted };
        assert_eq!(format!("{refused:?}"), "TryEmitError { error: Aborted, .. }");
        assert_eq!(refused.to_string(), EmitError::Aborted.to_string());
    }
}
