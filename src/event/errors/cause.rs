//! Why an invocation was given up.

use crate::event::{EventId, HandlerId};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why an invocation was given up: the nearest reason, and whose it was.
///
/// `Display` reads `timeout of fetch#1a2b on Parent#9c0d after 50ms`.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What happened.
    pub kind: CauseKind,
    /// The event it happened to: the given-up one, or one above it.
    pub event: EventId,
    /// Type of that event.
    pub event_type: String,
    /// The handler whose timeout passed, or which was first.
    pub handler: Option<HandlerId>,
    /// The timeout that passed.
    pub after: Option<Duration>,
    /// What the handler was at, if that was a command or a worker process: `waits for command sh, which wrote "…"`.
    pub detail: Option<Arc<str>>,
    /// For `Display`: `name#last4` of the handler, or from where the event was dropped.
    pub(crate) handler_label: Option<String>,
}

impl Cause {
    /// A cause that names the event only.
    pub(crate) fn new(kind: CauseKind, event: EventId, event_type: impl Into<String>) -> Self {
        Self {
            kind,
            event,
            event_type: event_type.into(),
            handler: None,
            after: None,
            detail: None,
            handler_label: None,
        }
    }

    /// Names the handler, with its label.
    pub(crate) fn with_handler(mut self, handler: HandlerId, label: impl Into<String>) -> Self {
        self.handler = Some(handler);
        self.handler_label = Some(label.into());
        self
    }

    /// Names the timeout.
    pub(crate) fn with_after(mut self, after: Duration) -> Self {
        self.after = Some(after);
        self
    }

    /// Says what the handler was at.
    pub(crate) fn with_detail(mut self, detail: Option<Arc<str>>) -> Self {
        self.detail = detail;
        self
    }

    /// Says from where the event was dropped, which names no handler: `from the full queue of app#1a2b`.
    pub(crate) fn with_place(mut self, place: String) -> Self {
        self.handler_label = Some(place);
        self
    }

    /// `name#last4` of the handler; without its name, as much as is known.
    fn handler_text(&self) -> Option<String> {
        let by_id = || self.handler.map(|handler| format!("handler#{}", handler.last4()));
        self.handler_label.clone().or_else(by_id)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = format_args!("{}#{}", self.event_type, self.event.last4());
        let handler = self.handler_text();
        match (self.kind, handler) {
            (CauseKind::HandlerTimeout, Some(handler)) => write!(f, "timeout of {handler} on {event}")?,
            (CauseKind::HandlerTimeout, None) => write!(f, "timeout of a handler on {event}")?,
            (CauseKind::EventTimeout, _) => write!(f, "timeout of {event}")?,
            (CauseKind::Cancelled, Some(handler)) => write!(f, "cancellation of {handler} on {event}")?,
            (CauseKind::Cancelled, None) => write!(f, "cancellation of {event}")?,
            (CauseKind::LostFirst, Some(handler)) => write!(f, "{handler} was first on {event}")?,
            (CauseKind::LostFirst, None) => write!(f, "another handler was first on {event}")?,
            (CauseKind::Off, Some(handler)) => write!(f, "removal of {handler} before it came to {event}")?,
            (CauseKind::Off, None) => write!(f, "removal of a handler before it came to {event}")?,
            (CauseKind::Shutdown, _) => write!(f, "shutdown of the bus of {event}")?,
            (CauseKind::Dropped, Some(place)) => write!(f, "drop of {event} {place}")?,
            (CauseKind::Dropped, None) => write!(f, "drop of {event}")?,
            (CauseKind::Prerequisite, _) => write!(f, "failure of {event}, which it was to come after")?,
        }
        if let Some(after) = self.after {
            write!(f, " after {after:?}")?;
        }
        self.detail.as_ref().map_or(Ok(()), |detail| write!(f, ", {detail}"))
    }
}

/// The kinds of reasons for giving an invocation up.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CauseKind {
    /// The timeout of a handler, whose emitted events go with it.
    HandlerTimeout,
    /// The timeout of an event.
    EventTimeout,
    /// [`cancel`](crate::AnyEvent::cancel) was called.
    Cancelled,
    /// Another handler had a value first, under `HandlerCompletion::First`.
    LostFirst,
    /// [`off`](crate::EventBus::off) had ended the handler's registration before it started. Not counted as a failure.
    Off,
    /// The bus shut down.
    Shutdown,
    /// The event fell out of a full queue, under [`OnFull::DropOldest`](crate::OnFull::DropOldest), or went with the last handle of its bus.
    Dropped,
    /// An event that this one was to come after did not end well: see [`after_ok`](crate::EventOptions::after_ok).
    Prerequisite,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::HandlerFailure;
    use uuid::Uuid;

    #[test]
    fn causes_read_as_a_sentence() {
        let event = EventId(Uuid::from_u128(0x9c0d));
        let handler = HandlerId(Uuid::from_u128(0x1a2b));
        let after = Duration::from_millis(50);
        let bare = |kind| Cause::new(kind, event, "Parent");
        let full = |kind| bare(kind).with_handler(handler, "fetch#1a2b").with_after(after);

        assert_eq!(full(CauseKind::HandlerTimeout).to_string(), "timeout of fetch#1a2b on Parent#9c0d after 50ms");
        assert_eq!(bare(CauseKind::HandlerTimeout).to_string(), "timeout of a handler on Parent#9c0d");
        assert_eq!(full(CauseKind::EventTimeout).to_string(), "timeout of Parent#9c0d after 50ms");
        assert_eq!(bare(CauseKind::EventTimeout).to_string(), "timeout of Parent#9c0d");
        assert_eq!(bare(CauseKind::Cancelled).to_string(), "cancellation of Parent#9c0d");
        assert_eq!(bare(CauseKind::LostFirst).to_string(), "another handler was first on Parent#9c0d");
        assert_eq!(bare(CauseKind::Shutdown).to_string(), "shutdown of the bus of Parent#9c0d");
        assert_eq!(bare(CauseKind::Dropped).to_string(), "drop of Parent#9c0d");
        assert_eq!(bare(CauseKind::Prerequisite).to_string(), "failure of Parent#9c0d, which it was to come after");
        let placed = bare(CauseKind::Dropped).with_place("from the full queue of app#1a2b".to_owned());
        assert_eq!(placed.to_string(), "drop of Parent#9c0d from the full queue of app#1a2b");
        let first = bare(CauseKind::LostFirst).with_handler(handler, "fast#1a2b");
        assert_eq!(first.to_string(), "fast#1a2b was first on Parent#9c0d");
        let mut nameless = full(CauseKind::HandlerTimeout);
        nameless.handler_label = None;
        assert_eq!(nameless.to_string(), "timeout of handler#1a2b on Parent#9c0d after 50ms");
        let aborted = HandlerFailure::Aborted { cause: bare(CauseKind::Cancelled) };
        assert_eq!(aborted.to_string(), "abandoned while running: cancellation of Parent#9c0d");
    }
}
