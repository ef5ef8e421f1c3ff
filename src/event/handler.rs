//! What may handle an event, and what it may return.
//!
//! The marker types exist for the compiler alone: they keep apart impls that would else overlap, and are always inferred.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::event::{AnyOutput, Event, HandlerError, Payload};

/// Something that handles events of one type.
///
/// Implemented by
/// - functions and closures `Fn(&Event<P>) -> R`, where `R` is `Output`, `Option<Output>`, `Result<Output, E>`,
///   `Result<Option<Output>, E>` or `!`. A closure has to name its event's type, and its return type where it uses `?`;
/// - your own types, which leave `Marker` alone;
/// - an `Arc` of any of these.
///
/// It runs on several threads, at the same time where the concurrency allows it. An `Err` and a panic fail the one attempt
/// and nothing else.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use std::sync::Arc;
/// use threadbus::*;
///
/// #[derive(Serialize, Deserialize)]
/// struct Login { name: String }
/// event!(Login => String);
///
/// struct Greeter { prefix: String }
/// impl Handler<Login> for Greeter {
///     fn handle(&self, event: &Event<Login>) -> Result<Option<String>, HandlerError> {
///         if event.name.is_empty() {
///             return Err(HandlerError::permanent("no name"));
///         }
///         Ok(Some(format!("{}{}", self.prefix, event.name)))
///     }
/// }
/// fn length(event: &Event<Login>) -> Result<Option<String>, std::fmt::Error> {
///     Ok(Some(event.name.len().to_string()))
/// }
///
/// let bus = EventBus::new("app");
/// bus.on(Arc::new(Greeter { prefix: "hello ".into() }));
/// bus.on(length);
/// bus.on(|event: &Event<Login>| event.name.to_uppercase());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle events of type `{P}`",
    label = "not a handler of `{P}`",
    note = "a handler is a function or closure `Fn(&Event<{P}>) -> R + Send + Sync + 'static`, an `impl Handler<{P}>`, or an `Arc` of one",
    note = "`R` is the event's `Output`, `Option<Output>`, `Result<Output, E>`, `Result<Option<Output>, E>`, or never returns",
    note = "a closure must name its event's type, `|event: &Event<{P}>| ...`, and its return type where it uses `?`"
)]
pub trait Handler<P: Payload, Marker = ()>: Send + Sync + 'static {
    /// Handles one event: `Ok(None)` for success without a value.
    ///
    /// # Errors
    ///
    /// Whatever went wrong; it becomes [`HandlerFailure::Failed`](crate::HandlerFailure::Failed) of this invocation.
    fn handle(&self, event: &Event<P>) -> Result<Option<P::Output>, HandlerError>;
}

/// What a typed handler may return, for an event whose `Output` is `T`.
///
/// `Kind` tells the impls apart and is inferred.
#[diagnostic::on_unimplemented(
    message = "a handler of an event with output `{T}` cannot return `{Self}`",
    label = "`{Self}` is not an outcome for the output `{T}`",
    note = "return `{T}`, `Option<{T}>`, `Result<{T}, E>` or `Result<Option<{T}>, E>`",
    note = "`E` is any error that is `Send + Sync + 'static`, a `&'static str`, a `String`, or `HandlerError`"
)]
pub trait IntoOutcome<T, Kind> {
    /// The value, no value, or the error.
    ///
    /// # Errors
    ///
    /// The handler's own.
    fn into_outcome(self) -> Result<Option<T>, HandlerError>;
}

/// The handler returns its output.
#[doc(hidden)]
#[derive(Debug)]
pub struct Plain;

/// The handler returns an `Option` of its output.
#[doc(hidden)]
#[derive(Debug)]
pub struct Opt;

/// The handler returns a `Result` of its output.
#[doc(hidden)]
#[derive(Debug)]
pub struct Res;

/// The handler returns a `Result` of an `Option` of its output.
#[doc(hidden)]
#[derive(Debug)]
pub struct ResOpt;

/// The handler never returns.
#[doc(hidden)]
#[derive(Debug)]
pub struct Diverges;

/// Names what a function pointer returns, which is the one way to name `!` on stable Rust.
#[doc(hidden)]
pub trait FnOut {
    /// The return type.
    type Out;
}

impl<R> FnOut for fn() -> R {
    type Out = R;
}

type Never = <fn() -> ! as FnOut>::Out;

impl<T> IntoOutcome<T, Plain> for T {
    fn into_outcome(self) -> Result<Option<T>, HandlerError> {
        Ok(Some(self))
    }
}

impl<T> IntoOutcome<T, Opt> for Option<T> {
    fn into_outcome(self) -> Result<Option<T>, HandlerError> {
        Ok(self)
    }
}

impl<T, E: Into<HandlerError>> IntoOutcome<T, Res> for Result<T, E> {
    fn into_outcome(self) -> Result<Option<T>, HandlerError> {
        self.map(Some).map_err(Into::into)
    }
}

impl<T, E: Into<HandlerError>> IntoOutcome<T, ResOpt> for Result<Option<T>, E> {
    fn into_outcome(self) -> Result<Option<T>, HandlerError> {
        self.map_err(Into::into)
    }
}

impl<T> IntoOutcome<T, Diverges> for Never {
    fn into_outcome(self) -> Result<Option<T>, HandlerError> {
        self
    }
}

/// Marks the impl of [`Handler`] for functions and closures.
#[doc(hidden)]
#[derive(Debug)]
pub struct FnMarker<R, Kind>(PhantomData<fn() -> (R, Kind)>);

/// Marks the impl of [`Handler`] for `Arc`.
#[doc(hidden)]
#[derive(Debug)]
pub struct ArcMarker<M>(PhantomData<fn() -> M>);

impl<P: Payload, F, R, Kind> Handler<P, FnMarker<R, Kind>> for F
where
    F: Fn(&Event<P>) -> R + Send + Sync + 'static,
    R: IntoOutcome<P::Output, Kind>,
{
    fn handle(&self, event: &Event<P>) -> Result<Option<P::Output>, HandlerError> {
        self(event).into_outcome()
    }
}

impl<P: Payload, M, H: Handler<P, M> + ?Sized> Handler<P, ArcMarker<M>> for Arc<H> {
    fn handle(&self, event: &Event<P>) -> Result<Option<P::Output>, HandlerError> {
        (**self).handle(event)
    }
}

/// What an untyped handler may return: `()`, [`AnyOutput`], `Option<AnyOutput>`, a `Result` of those, or never.
///
/// `()` is no value, so that an observer of all events adds nothing to their results.
#[diagnostic::on_unimplemented(
    message = "an untyped handler cannot return `{Self}`",
    label = "`{Self}` is not an outcome of an untyped handler",
    note = "return `()`, `AnyOutput`, `Option<AnyOutput>`, or a `Result` of one of these; `AnyOutput::new` wraps any value"
)]
pub trait IntoAnyOutcome {
    /// The value, no value, or the error.
    ///
    /// # Errors
    ///
    /// The handler's own.
    fn into_any_outcome(self) -> Result<Option<AnyOutput>, HandlerError>;
}

impl IntoAnyOutcome for () {
    fn into_any_outcome(self) -> Result<Option<AnyOutput>, HandlerError> {
        Ok(None)
    }
}

impl IntoAnyOutcome for Never {
    fn into_any_outcome(self) -> Result<Option<AnyOutput>, HandlerError> {
        self
    }
}

impl IntoAnyOutcome for AnyOutput {
    fn into_any_outcome(self) -> Result<Option<AnyOutput>, HandlerError> {
        Ok(Some(self))
    }
}

impl IntoAnyOutcome for Option<AnyOutput> {
    fn into_any_outcome(self) -> Result<Option<AnyOutput>, HandlerError> {
        Ok(self)
    }
}

impl<T: IntoAnyOutcome, E: Into<HandlerError>> IntoAnyOutcome for Result<T, E> {
    fn into_any_outcome(self) -> Result<Option<AnyOutput>, HandlerError> {
        self.map_err(Into::into)?.into_any_outcome()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Text;
    impl Payload for Text {
        type Output = String;
    }
    struct Tick;
    impl Payload for Tick {
        type Output = ();
    }

    /// What the compiler must accept as a handler, without an event to run it on.
    fn accepts<P: Payload, M>(_handler: impl Handler<P, M>) {}

    /// What a handler of an event with output `T` makes of such a return value.
    fn outcome<T, Kind>(returned: impl IntoOutcome<T, Kind>) -> Result<Option<T>, String> {
        returned.into_outcome().map_err(|error| error.error.to_string())
    }

    fn named(_: &Event<Text>) -> Result<String, std::fmt::Error> {
        Err(std::fmt::Error)
    }

    struct Own;
    impl Handler<Text> for Own {
        fn handle(&self, _: &Event<Text>) -> Result<Option<String>, HandlerError> {
            Ok(None)
        }
    }

    #[test]
    fn every_kind_of_handler_is_inferred() {
        accepts(|_: &Event<Text>| String::new());
        accepts(|_: &Event<Text>| Some(String::new()));
        accepts(|_: &Event<Text>| -> Result<String, std::fmt::Error> { Err(std::fmt::Error) });
        accepts(|_: &Event<Text>| -> Result<Option<String>, HandlerError> { Ok(None) });
        accepts(|_: &Event<Text>| -> Result<String, &'static str> { Err("text") });
        accepts(|_: &Event<Text>| if true { Err("text") } else { Ok(String::new()) });
        accepts(|_: &Event<Text>| panic!("never called"));
        accepts(|_: &Event<Tick>| {});
        accepts(|_: &Event<Tick>| ());
        accepts(|_: &Event<Tick>| if true { Err(std::fmt::Error) } else { Ok(()) });
        accepts(|_: &Event<Tick>| panic!("never called"));
        accepts(|_: &Event<Tick>| -> Result<(), HandlerError> { Ok("1".parse::<u8>().map(drop)?) });
        accepts(named);
        accepts(Own);
        accepts(Arc::new(Own));
        accepts(Arc::new(Arc::new(named)));
        let dynamic: Arc<dyn Handler<Text>> = Arc::new(Own);
        accepts(dynamic);
    }

    #[test]
    fn outcomes_keep_value_absence_and_error() {
        assert_eq!(outcome::<u8, Plain>(1), Ok(Some(1)));
        assert_eq!(outcome::<u8, Opt>(None), Ok(None));
        assert_eq!(outcome::<u8, Res>(Ok::<_, HandlerError>(1)), Ok(Some(1)));
        assert_eq!(outcome::<u8, ResOpt>(Ok::<_, HandlerError>(None)), Ok(None));
        assert_eq!(outcome::<u8, Res>(Err("no")), Err("no".into()));
        let permanent: Result<u8, _> = Err(HandlerError::permanent("no"));
        assert!(IntoOutcome::<u8, Res>::into_outcome(permanent).is_err_and(|error| error.is_permanent()));
    }

    #[test]
    fn untyped_outcomes() {
        fn any(returned: impl IntoAnyOutcome) -> Result<Option<u8>, String> {
            let outcome = returned.into_any_outcome().map_err(|error| error.error.to_string())?;
            Ok(outcome.and_then(|output| output.downcast()))
        }
        assert_eq!(any(()), Ok(None));
        assert_eq!(any(AnyOutput::new(3_u8)), Ok(Some(3)));
        assert_eq!(any(Some(AnyOutput::new(3_u8))), Ok(Some(3)));
        assert_eq!(any(Ok::<Option<AnyOutput>, HandlerError>(None)), Ok(None));
        assert_eq!(any(Ok::<(), std::fmt::Error>(())), Ok(None));
        assert_eq!(any(Err::<(), _>("no")), Err("no".into()));
        fn untyped<R: IntoAnyOutcome>(_handler: impl Fn(&u8) -> R) {}
        untyped(|_| panic!("never called"));
    }
}
