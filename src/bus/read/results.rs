//! What handlers returned: reading results, with and without waiting.

use crate::bus::end::first;
use crate::bus::parts::outcomes::results_in;
use crate::bus::wait::jump;
use crate::bus::wait::waiting::Waiting;
use crate::event::{AnyEvent, AnyOutput, CauseKind, Event, HandlerFailure, HandlerResult, Payload, ResultError};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

impl<P: Payload> Event<P> {
    /// Waits, then the first value in handler order.
    ///
    /// # Errors
    /// [`ResultError::Wait`] as for [`wait`](Event::wait); [`ResultError::Handler`] with the earliest failure if a handler failed;
    /// [`ResultError::NoHandler`] if there was none; [`ResultError::Empty`] if none returned a value.
    #[track_caller]
    pub fn result(&self) -> Result<P::Output, ResultError> {
        self.select().one()?.ok_or(ResultError::Empty)
    }

    /// Waits, then all values in handler order.
    ///
    /// # Errors
    /// As [`result`](Event::result).
    #[track_caller]
    pub fn result_list(&self) -> Result<Vec<P::Output>, ResultError> {
        self.select().list()
    }

    /// Waits for the first value, and gives up what is left: handlers that run are abandoned, others are not called.
    ///
    /// The winner is the earliest value by completion. It makes no difference how far the event is: one that has started, too, ends with the
    /// first value, as if emitted with [`HandlerCompletion::First`](crate::HandlerCompletion::First); one that has several values already keeps
    /// them. Where the event was forwarded, each bus has a winner of its own. Inside one of the event's own handlers that handler is part of what is
    /// left.
    ///
    /// **Blocking**: as [`wait`](Event::wait), until there is a value or no handler is left.
    ///
    /// # Errors
    /// [`ResultError::Wait`] as for [`wait`](Event::wait); [`ResultError::Handler`] with the earliest failure if no handler returned a
    /// value and one failed.
    #[track_caller]
    pub fn first(&self) -> Result<Option<P::Output>, ResultError> {
        first::ends_with_first_value(self.any());
        jump::wait(self.any(), Waiting { first_value: true, ..Waiting::JUMP })?;
        // The thread that has the value may not have come to that yet.
        first::ends_with_first_value(self.any());
        let results = snapshot(self.any());
        if let Some(value) = results.iter().filter(|r| r.value.is_some()).min_by_key(|r| r.completed_at) {
            return Ok(value.value.as_ref().and_then(|value| value.downcast::<P::Output>()));
        }
        match results.into_iter().filter(|r| r.error.is_some()).min_by_key(|r| r.completed_at) {
            Some(HandlerResult { handler, error: Some(failure), .. }) => {
                Err(ResultError::Handler { handler: handler.label(), failure })
            }
            _ => Ok(None),
        }
    }

    /// Snapshot of every invocation, in handler order, without waiting.
    pub fn results(&self) -> Vec<HandlerResult<P::Output>> {
        let typed = |r: HandlerResult<AnyOutput>| HandlerResult {
            value: r.value.and_then(|value| value.downcast::<P::Output>()),
            id: r.id,
            handler: r.handler,
            status: r.status,
            error: r.error,
            attempts: r.attempts,
            started_at: r.started_at,
            completed_at: r.completed_at,
            children: r.children,
        };
        // Values are cloned here, by the user's code, and not under the event's lock.
        snapshot(self.any()).into_iter().map(typed).collect()
    }

    /// Chooses among the results.
    pub fn select(&self) -> Select<'_, P> {
        Select { event: self, include: None, errors: false, empty: false, timeout: None }
    }
}

impl AnyEvent {
    /// Snapshot of every invocation, in handler order, without waiting.
    pub fn results(&self) -> Vec<HandlerResult<AnyOutput>> {
        snapshot(self)
    }
}

/// Which results are wanted.
type Keep<'a, P> = dyn Fn(&HandlerResult<<P as Payload>::Output>) -> bool + 'a;

/// `event.select().allow_errors().include(|r| r.attempts > 1).list()?`
///
/// ```
/// use threadbus::{Event, EventBus, Payload};
/// struct Quote;
/// impl Payload for Quote { type Output = u32; }
///
/// let bus = EventBus::new("quotes");
/// bus.on(|_: &Event<Quote>| -> Result<u32, std::fmt::Error> { Err(std::fmt::Error) });
/// bus.on(|_: &Event<Quote>| 7);
/// let quote = bus.emit(Quote);
/// assert!(quote.result().is_err());
/// assert_eq!(quote.select().allow_errors().list()?, [7]);
/// # Ok::<(), threadbus::ResultError>(())
/// ```
#[must_use = "a selection does nothing until `one` or `list`"]
pub struct Select<'a, P: Payload> {
    event: &'a Event<P>,
    include: Option<Box<Keep<'a, P>>>,
    errors: bool,
    empty: bool,
    timeout: Option<Duration>,
}

impl<'a, P: Payload> Select<'a, P> {
    /// Only results that `keep` wants. A panic in it means no. Failures of results that are left out are not errors.
    pub fn include(mut self, keep: impl Fn(&HandlerResult<P::Output>) -> bool + 'a) -> Self {
        self.include = Some(Box::new(keep));
        self
    }

    /// Failed handlers are no error: they are left out.
    pub fn allow_errors(mut self) -> Self {
        self.errors = true;
        self
    }

    /// No value at all is no error.
    pub fn allow_empty(mut self) -> Self {
        self.empty = true;
        self
    }

    /// Waits so long at most. Default: until the event is complete.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Waits, then the first value in handler order; `None` only after [`allow_empty`](Select::allow_empty).
    ///
    /// # Errors
    /// As [`Event::result`], but for what was allowed.
    #[track_caller]
    pub fn one(self) -> Result<Option<P::Output>, ResultError> {
        Ok(self.list()?.into_iter().next())
    }

    /// Waits, then all values in handler order.
    ///
    /// # Errors
    /// As [`Event::result`], but for what was allowed.
    #[track_caller]
    pub fn list(self) -> Result<Vec<P::Output>, ResultError> {
        match jump::wait(self.event.any(), Waiting { timeout: self.timeout, ..Waiting::JUMP }) {
            Ok(()) => {}
            Err(error) => return Err(ResultError::Wait(error)),
        }
        let all = self.event.results();
        let had_handlers = !all.is_empty();
        let keep = |result: &HandlerResult<P::Output>| match &self.include {
            None => true,
            Some(include) => crate::bus::thread::frame::callback(|| include(result)).unwrap_or(false),
        };
        let kept: Vec<_> = all.into_iter().filter(keep).collect();
        if !self.errors {
            // Who only lost to the first value did not fail.
            let failed = kept.iter().filter(|r| r.error.as_deref().is_some_and(|f| !lost_first(f)));
            let failed = failed.min_by_key(|r| r.completed_at);
            if let Some(HandlerResult { handler, error: Some(failure), .. }) = failed {
                return Err(ResultError::Handler { handler: handler.label(), failure: Arc::clone(failure) });
            }
        }
        let values: Vec<_> = kept.into_iter().filter_map(|r| r.value).collect();
        if values.is_empty() && !self.empty {
            return Err(if had_handlers {
                ResultError::Empty
            } else {
                ResultError::NoHandler { event_type: self.event.event_type().to_owned() }
            });
        }
        Ok(values)
    }
}

impl<P: Payload> fmt::Debug for Select<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select")
            .field("event", self.event)
            .field("allow_errors", &self.errors)
            .field("allow_empty", &self.empty)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn lost_first(failure: &HandlerFailure) -> bool {
    match failure {
        HandlerFailure::Cancelled { cause } | HandlerFailure::Aborted { cause } => {
            matches!(cause.kind, CauseKind::LostFirst | CauseKind::Off)
        }
        _ => false,
    }
}

fn snapshot(event: &AnyEvent) -> Vec<HandlerResult<AnyOutput>> {
    let state = event.state().lock();
    results_in(event, &state, |_, result| result)
}
