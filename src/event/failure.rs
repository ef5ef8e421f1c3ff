//! What a handler fails with, what an invocation ends with, and why it was given up.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{EventId, HandlerId, chain};

/// Any error that may cross threads.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// What a handler fails with.
///
/// Every `Error`, `&str` and `String` converts into it, so `?` works on all of them. It is not an `Error` itself, which is
/// what makes that conversion possible. Its `Display` is the error's.
///
/// **`anyhow`**: `?` on an `anyhow::Error` keeps its text and its sources, but not the type of the error at its top, so an
/// [`only_if`](crate::Retry::only_if) that asks for that type never retries. `anyhow` says how to keep it:
/// `.map_err(|error| error.reallocate_into_boxed_dyn_error_without_backtrace())?`. What a `context` was put around keeps its type in any case.
///
/// A handler that has its work done elsewhere, and knows that it panicked there, or that no answer will come, returns
/// [`HandlerFailure::Panicked`], [`HandlerFailure::Worker`] or [`HandlerFailure::WorkerStart`] as its error: its invocation ends with that failure, as it is. So it
/// does with [`HandlerFailure::WrongType`].
///
/// ```
/// use threadbus::*;
///
/// fn port(text: &str) -> Result<u16, HandlerError> {
///     if text.is_empty() {
///         return Err(HandlerError::permanent("no port given")); // trying again will not help
///     }
///     let port = text.parse::<u16>()?;
///     if port < 1024 { Err(format!("port {port} is reserved"))? }
///     Ok(port)
/// }
/// assert_eq!(port("8080").ok(), Some(8080));
/// assert!(port("").is_err() && port("x").is_err() && port("80").is_err());
/// ```
pub struct HandlerError {
    pub(crate) error: BoxError,
    pub(crate) permanent: bool,
}

impl HandlerError {
    /// An error that no [`Retry`](crate::Retry) tries again.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self { error: error.into(), permanent: true }
    }

    /// Whether no retry may follow. Ask before [`into_failure`](Self::into_failure), which forgets it.
    pub(crate) fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// What the invocation ends with.
    pub(crate) fn into_failure(self) -> HandlerFailure {
        match self.error.downcast::<HandlerFailure>() {
            Ok(failure) => match *failure {
                HandlerFailure::Panicked(_)
                | HandlerFailure::WrongType { .. }
                | HandlerFailure::Worker(_)
                | HandlerFailure::WorkerStart(_) => *failure,
                _ => HandlerFailure::Failed(failure),
            },
            Err(error) => HandlerFailure::Failed(error),
        }
    }
}

impl<E: Into<BoxError>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self { error: error.into(), permanent: false }
    }
}

/// The error's own text.
impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        chain::show(&*self.error, f)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError").field("error", &self.error).field("permanent", &self.permanent).finish()
    }
}

/// How an invocation ended that did not end well.
///
/// It stands for the error that it carries: `Display` shows that error, and `source()` is that error's source. One that comes up through handlers which return
/// their child's [`ResultError`](crate::ResultError) reads `outer#1a2b failed: inner#3c4d failed: no network`, and says each thing once, also where a reporter prints
/// the whole chain of sources. Through thousands of handlers it shows the first, the last, and how many more, and neither showing nor dropping it takes
/// more stack than for one.
#[non_exhaustive]
pub enum HandlerFailure {
    /// The handler returned an error.
    Failed(BoxError),
    /// The handler panicked; the text is the panic's message.
    ///
    /// Also if its time was up while the panic was being told: a trace may take long to print. For that the first runtime puts a panic hook around the one that is there,
    /// which does nothing but note when telling begins and ends; where a program replaces that later, such a panic may count as a timeout.
    Panicked(String),
    /// Its own timeout passed.
    #[non_exhaustive]
    TimedOut {
        /// The timeout that passed.
        after: Duration,
        /// What it was at when the timeout passed, if it was in a call of this crate that waits: `waits for Order#1a2b`.
        detail: Option<Arc<str>>,
    },
    /// The event was given up before this handler started.
    Cancelled {
        /// Why, and whose doing it was.
        cause: Cause,
    },
    /// The event was given up while this handler ran. It may still be running; what it returns no longer counts.
    Aborted {
        /// Why, and whose doing it was.
        cause: Cause,
    },
    /// An untyped handler returned something that is not the event's output; or a typed one was to get an event that came as JSON and does not fit
    /// its type, and was not called. No [`Retry`](crate::Retry) tries it again.
    WrongType {
        /// Type name of the event's output, or the event's type.
        expected: String,
        /// Type name of what the handler returned, or why and where the payload does not fit.
        found: String,
    },
    /// The process that ran the handler died or broke its protocol; or it could not be asked: what is wrong then is wrong with the event or its answer,
    /// and no retry follows.
    Worker(String),
    /// The process that was to run the handler did not get as far as serving: why, with the last that it printed.
    WorkerStart(String),
}

impl fmt::Display for HandlerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandlerFailure::Failed(_) => chain::show(self, f),
            HandlerFailure::Panicked(text) => write!(f, "handler panicked: {text}"),
            HandlerFailure::TimedOut { after, detail: None } => write!(f, "timed out after {after:?}"),
            HandlerFailure::TimedOut { after, detail: Some(detail) } => {
                write!(f, "timed out after {after:?}, {detail}")
            }
            HandlerFailure::Cancelled { cause } => write!(f, "cancelled before it started: {cause}"),
            HandlerFailure::Aborted { cause } => write!(f, "abandoned while running: {cause}"),
            HandlerFailure::WrongType { expected, found } => {
                write!(f, "wrong type: expected {expected}, found {found}")
            }
            HandlerFailure::Worker(text) => write!(f, "worker process failed: {text}"),
            HandlerFailure::WorkerStart(text) => write!(f, "worker process did not start: {text}"),
        }
    }
}

impl fmt::Debug for HandlerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandlerFailure::Failed(error) => chain::debug(&**error, f),
            HandlerFailure::Panicked(text) => f.debug_tuple("Panicked").field(text).finish(),
            HandlerFailure::TimedOut { after, detail } => {
                f.debug_struct("TimedOut").field("after", after).field("detail", detail).finish()
            }
            HandlerFailure::Cancelled { cause } => f.debug_struct("Cancelled").field("cause", cause).finish(),
            HandlerFailure::Aborted { cause } => f.debug_struct("Aborted").field("cause", cause).finish(),
            HandlerFailure::WrongType { expected, found } => {
                f.debug_struct("WrongType").field("expected", expected).field("found", found).finish()
            }
            HandlerFailure::Worker(text) => f.debug_tuple("Worker").field(text).finish(),
            HandlerFailure::WorkerStart(text) => f.debug_tuple("WorkerStart").field(text).finish(),
        }
    }
}

impl Error for HandlerFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        chain::source_behind(self)
    }
}

impl Drop for HandlerFailure {
    fn drop(&mut self) {
        if let HandlerFailure::Failed(error) = self {
            chain::let_go(std::mem::replace(error, Box::new(chain::Gone)));
        }
    }
}

impl HandlerFailure {
    /// The error of type `E` that the handler returned, or the first one among its sources.
    ///
    /// Looks through [`Failed`](Self::Failed) and down the chain of `source()`, and through what this crate wraps on the
    /// way, so that a handler that fails because its child failed shows the child's error.
    ///
    /// ```
    /// use threadbus::*;
    ///
    /// let failure = HandlerFailure::Failed("x".parse::<u32>().unwrap_err().into());
    /// assert!(failure.downcast_ref::<std::num::ParseIntError>().is_some());
    /// assert!(failure.downcast_ref::<std::io::Error>().is_none());
    /// ```
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            HandlerFailure::Failed(error) => chain::find(&**error),
            _ => None,
        }
    }
}

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
    /// The handler whose timeout passed, or who was first.
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

    /// Of one handler: what it was at.
    pub(crate) fn with_detail(mut self, detail: Option<Arc<str>>) -> Self {
        self.detail = detail;
        self
    }

    /// Of a drop, which names no handler: `from the full queue of app#1a2b`.
    pub(crate) fn with_place(mut self, place: String) -> Self {
        self.handler_label = Some(place);
        self
    }

    /// `name#last4`; without a name as much as is known.
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
    /// Somebody called `cancel`.
    Cancelled,
    /// Another handler had a value first, under `HandlerCompletion::First`.
    LostFirst,
    /// [`off`](crate::EventBus::off) had ended the handler's registration before it started. Not counted as a failure.
    Off,
    /// The bus shut down.
    Shutdown,
    /// The event fell out of a full queue, under [`OnFull::DropOldest`](crate::OnFull::DropOldest), or went with the last handle of its bus.
    Dropped,
}

#[cfg(test)]
mod tests {
    use std::num::ParseIntError;

    use uuid::Uuid;

    use super::*;
    use crate::event::{EmitError, ResultError, WaitError};

    fn parse_error() -> BoxError {
        "x".parse::<u8>().map_or_else(BoxError::from, |_| "it is a number".into())
    }

    #[test]
    fn everything_that_is_an_error_or_text_converts() {
        fn of_error() -> Result<u8, HandlerError> {
            Ok("x".parse::<u8>()?)
        }
        fn of_text() -> Result<u8, HandlerError> {
            Err("text")?
        }
        fn of_string() -> Result<u8, HandlerError> {
            Err(String::from("string"))?
        }
        fn of_boxed() -> Result<u8, HandlerError> {
            Err(BoxError::from("boxed"))?
        }
        fn of_itself() -> Result<u8, HandlerError> {
            Err(HandlerError::permanent("itself"))?
        }
        let texts = [of_error, of_text, of_string, of_boxed, of_itself].map(|fails| {
            fails().map_or_else(
                |error| (error.is_permanent(), error.into_failure().to_string()),
                |_| (false, String::new()),
            )
        });
        let expected = ["invalid digit found in string", "text", "string", "boxed", "itself"];
        assert_eq!(texts.each_ref().map(|(_, text)| text.as_str()), expected);
        assert_eq!(texts.map(|(permanent, _)| permanent), [false, false, false, false, true]);
    }

    #[test]
    fn what_became_of_work_done_elsewhere_is_told_as_it_is() {
        let failure = |failure: HandlerFailure| HandlerError::from(failure).into_failure();
        assert!(
            matches!(&failure(HandlerFailure::Panicked("x".into())), HandlerFailure::Panicked(text) if text == "x")
        );
        assert!(matches!(&failure(HandlerFailure::Worker("y".into())), HandlerFailure::Worker(text) if text == "y"));
        // Nobody but the bus ends an invocation by its timeout.
        let timeout = HandlerFailure::TimedOut { after: Duration::ZERO, detail: None };
        assert!(matches!(&failure(timeout), HandlerFailure::Failed(_)));
    }

    #[test]
    fn downcast_goes_down_the_source_chain() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] BoxError);
        let failure = HandlerFailure::Failed(Outer(parse_error()).into());
        assert!(failure.downcast_ref::<Outer>().is_some());
        assert!(failure.downcast_ref::<ParseIntError>().is_some());
        assert!(failure.downcast_ref::<fmt::Error>().is_none());
        assert!(HandlerFailure::Panicked("x".into()).downcast_ref::<Outer>().is_none());
    }

    #[test]
    fn downcast_sees_the_failure_of_an_awaited_child() {
        let child = Arc::new(HandlerFailure::Failed(parse_error()));
        let error = ResultError::Handler { handler: "child#0000".into(), failure: child };
        let failure = HandlerError::from(error).into_failure();
        assert!(failure.downcast_ref::<ResultError>().is_some());
        assert!(failure.downcast_ref::<HandlerFailure>().is_some());
        assert!(failure.downcast_ref::<ParseIntError>().is_some());
    }

    #[test]
    fn downcast_sees_through_transparent_errors() {
        let failure = HandlerError::from(ResultError::Wait(WaitError::Rejected(EmitError::Aborted))).into_failure();
        assert_eq!(failure.downcast_ref(), Some(&WaitError::Rejected(EmitError::Aborted)));
        assert_eq!(failure.downcast_ref(), Some(&EmitError::Aborted));
    }

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
