//! How failures of handlers read, what they lead to, and how they are dropped: as the chain of errors that they may be a part of.

use crate::event::errors::chain::{self, Gone};
use crate::event::{HandlerError, HandlerFailure, ResultError};
use std::error::Error;
use std::fmt;

/// The error's own text.
impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        chain::show(&*self.error, f)
    }
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
            chain::let_go(std::mem::replace(error, Box::new(Gone)));
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

impl fmt::Display for ResultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResultError::Wait(_) | ResultError::Handler { .. } => chain::show(self, f),
            ResultError::NoHandler { event_type } => write!(f, "no handler is registered for {event_type}"),
            ResultError::Empty => f.write_str("no handler returned a value"),
        }
    }
}

impl fmt::Debug for ResultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResultError::Wait(error) => f.debug_tuple("Wait").field(error).finish(),
            ResultError::Handler { handler, failure } => {
                f.debug_struct("Handler").field("handler", handler).field("failure", failure).finish()
            }
            ResultError::NoHandler { event_type } => {
                f.debug_struct("NoHandler").field("event_type", event_type).finish()
            }
            ResultError::Empty => f.write_str("Empty"),
        }
    }
}

impl Error for ResultError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        chain::source_behind(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{BoxError, EmitError, WaitError};
    use std::num::ParseIntError;
    use std::sync::Arc;

    fn parse_error() -> BoxError {
        "x".parse::<u8>().map_or_else(BoxError::from, |_| "it is a number".into())
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
}
