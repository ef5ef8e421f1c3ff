//! What a handler fails with, and what its invocation ends with. How these show, and what they lead to, is in `chain`.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::event::Cause;

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

#[cfg(test)]
mod tests {
    use super::*;

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
        // Only the bus ends an invocation by its timeout.
        let timeout = HandlerFailure::TimedOut { after: Duration::ZERO, detail: None };
        assert!(matches!(&failure(timeout), HandlerFailure::Failed(_)));
    }
}
