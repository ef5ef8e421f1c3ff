//! What an event can do whatever its payload is: its parts, its names, its JSON.

use crate::event::ripe::note_ripe;
use crate::event::structure::{Birth, Body, Envelope, Head, State};
use crate::event::{AnyEvent, HandlerError, HandlerFailure, Json, JsonError, WeakEvent};
use crate::sync::refused;
use crate::sys::one_line::on_one_line;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::Ordering;
use std::fmt;
use std::sync::Arc;

impl AnyEvent {
    pub(crate) fn new(birth: Birth, body: impl Body) -> AnyEvent {
        AnyEvent(Arc::new(Envelope { head: Head::new(birth), body }))
    }

    /// True if only the caller keeps it.
    pub(crate) fn is_kept_once(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    pub(crate) fn head(&self) -> &Head {
        &self.0.head
    }

    pub(crate) fn body(&self) -> &dyn Body {
        &self.0.body
    }

    pub(crate) fn state(&self) -> &Mutex<State> {
        &self.0.head.state
    }

    /// True if both are one event, not only equal.
    pub(crate) fn same(&self, other: &AnyEvent) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn downgrade(&self) -> WeakEvent {
        WeakEvent(Arc::downgrade(&self.0))
    }

    /// Lets [`is_complete`](AnyEvent::is_complete) say so. Called under the state's lock, after `State::complete` was set.
    pub(crate) fn publish_complete(&self) {
        if self.is_told_of() {
            note_ripe();
        }
        self.0.head.complete.store(true, Ordering::Release);
    }

    /// True once every handler on every bus and every descendant is done, or the event was refused.
    pub fn is_completed(&self) -> bool {
        let complete = self.is_complete();
        if !complete {
            // Threads that the system refused are asked for again by whatever call comes next, and that may be this one only.
            refused::ask_again();
        }
        complete
    }

    /// As [`is_completed`](AnyEvent::is_completed), also under a lock.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.head.complete.load(Ordering::Acquire)
    }

    /// What a typed handler without a value answers: it may not have had the payload, which is not of its type of that name.
    #[inline(never)]
    pub(crate) fn fits(&self, name: fn() -> &'static str) -> Result<(), HandlerError> {
        let Some(reason) = self.0.body.misfit() else { return Ok(()) };
        let (expected, found) = (name().to_owned(), reason.to_owned());
        Err(HandlerError::permanent(HandlerFailure::WrongType { expected, found }))
    }

    /// The payload as JSON, without the event's own fields: by the payload's codec, or as it was written if the event came as JSON.
    ///
    /// Need not be an object: a payload `struct Metres(f64)` is a number. [`to_json`](AnyEvent::to_json) is stricter.
    ///
    /// ```
    /// use threadbus::EventBus;
    ///
    /// let bus = EventBus::new("mirror");
    /// bus.on_named("Note", |note| assert_eq!(note.payload_json().ok(), Some(serde_json::json!({ "text": "hi" }))));
    /// let note = bus.emit_json(&serde_json::json!({ "event_type": "Note", "text": "hi" }))?;
    /// assert!(note.wait()?.errors().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`JsonError::NoCodec`] if its type has none, [`JsonError::Serde`] if it does not serialize.
    pub fn payload_json(&self) -> Result<Json, JsonError> {
        match self.0.head.origin().and_then(|origin| origin.payload.as_ref()) {
            Some(payload) => Ok(payload.clone()),
            None => self.0.body.payload_json(),
        }
    }
}

impl WeakEvent {
    pub(crate) fn upgrade(&self) -> Option<AnyEvent> {
        self.0.upgrade().map(AnyEvent)
    }
}

impl AsRef<AnyEvent> for AnyEvent {
    fn as_ref(&self) -> &AnyEvent {
        self
    }
}

impl AnyEvent {
    /// Which one it is, in the words of its emitter.
    pub(crate) fn label(&self) -> Option<&str> {
        self.0.head.options()?.label.as_deref()
    }

    /// By its type and its label.
    pub(crate) fn without_id(&self) -> Named<'_> {
        Named { event: self, with_id: false }
    }
}

/// How an event is named wherever people read of it.
pub(crate) struct Named<'a> {
    event: &'a AnyEvent,
    with_id: bool,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&on_one_line(self.event.0.body.event_type()))?;
        if self.with_id {
            write!(f, "#{}", self.event.0.head.id().last4())?;
        }
        self.event.label().map_or(Ok(()), |label| write!(f, " ({label})"))
    }
}

/// `Type#last4ofid`, and ` (label)` if it has one.
impl fmt::Display for AnyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Named { event: self, with_id: true }.fmt(f)
    }
}

impl fmt::Debug for AnyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("type", &self.0.body.event_type())
            .field("id", &self.0.head.id())
            .field("completed", &self.is_completed())
            .finish_non_exhaustive()
    }
}
