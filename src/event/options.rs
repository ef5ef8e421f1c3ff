//! What may be set for one event, one event type or one handler. Everything is optional; resolving the layers against each
//! other is the business of the rules room.

use crate::sys::one_line::leaves_its_line;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::origin::Origin;
use super::{AnyEvent, EventConcurrency, EventId, HandlerCompletion, HandlerConcurrency, Limit, Priority, Retry};

/// A time limit at one layer of options. Turning it off is different from not mentioning it: `Off` hides the layers below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Knob {
    /// Not mentioned here: the next layer decides.
    #[default]
    Unset,
    /// Explicitly without limit.
    Off,
    /// This long.
    After(Duration),
}

impl Knob {
    /// This setting, or the other one where this says nothing.
    pub(crate) fn or(self, other: Knob) -> Knob {
        match self {
            Knob::Unset => other,
            Knob::Off | Knob::After(_) => self,
        }
    }

    /// The limit once all layers are joined; a knob that nobody touched is no limit.
    pub(crate) fn get(self) -> Option<Duration> {
        match self {
            Knob::Unset | Knob::Off => None,
            Knob::After(after) => Some(after),
        }
    }
}

/// A bus has an answer for every knob: `None` there means off.
impl From<Option<Duration>> for Knob {
    fn from(limit: Option<Duration>) -> Self {
        limit.map_or(Knob::Off, Knob::After)
    }
}

/// What is special about one event, or about every event of one type.
///
/// Unset fields fall through: `emit_with`, then [`Payload::options`](crate::Payload::options), then the handler's
/// [`HandlerOptions`] (where it has such a setting), then the bus.
///
/// ```
/// use std::time::Duration;
/// use threadbus::*;
///
/// let urgent = EventOptions::new()
///     .priority(Priority::CRITICAL)
///     .timeout(Duration::from_secs(5))
///     .retry(Retry::attempts(3).delay(Duration::from_millis(100)))
///     .correlation_id("request-17");
/// # let _ = urgent;
/// ```
#[derive(Clone, Debug, Default)]
pub struct EventOptions {
    pub(crate) timeout: Knob,
    pub(crate) handler_timeout: Knob,
    pub(crate) slow_after: Knob,
    pub(crate) handler_slow_after: Knob,
    pub(crate) concurrency: Option<EventConcurrency>,
    pub(crate) handler_concurrency: Option<HandlerConcurrency>,
    pub(crate) completion: Option<HandlerCompletion>,
    pub(crate) priority: Option<Priority>,
    pub(crate) retry: Option<Retry>,
    pub(crate) detached: bool,
    pub(crate) parent: Option<AnyEvent>,
    pub(crate) id: Option<EventId>,
    pub(crate) correlation_id: Option<Arc<str>>,
    pub(crate) steps: Option<usize>,
    pub(crate) label: Option<Arc<str>>,
    /// Of an event that came as JSON.
    pub(crate) origin: Option<Arc<Origin>>,
}

impl EventOptions {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cap on the whole event on each bus, from the start of processing there: all handlers, attempts and delays. Default:
    /// the bus's `event_timeout`, which is none.
    ///
    /// What runs when it passes ends `Aborted`, what has not started ends `Cancelled`. Zero is up at once: no handler is called, each ends `TimedOut`.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Knob::After(after);
        self
    }

    /// Cap on each attempt of each handler of this event. Default: the handler's own, then the bus's `handler_timeout`,
    /// which is 60 s. Zero is up at once: the handler is not called.
    pub fn handler_timeout(mut self, after: Duration) -> Self {
        self.handler_timeout = Knob::After(after);
        self
    }

    /// Clears both [`timeout`](Self::timeout) and [`handler_timeout`](Self::handler_timeout), whatever handler and bus say.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = Knob::Off;
        self.handler_timeout = Knob::Off;
        self
    }

    /// Warns in the log when the event is still running after this time. Default: the bus's, which is 300 s.
    ///
    /// While a handler of it runs, at that time; when its handlers have ended and only what they emitted runs, within a second of it. The warning names what it waits for.
    pub fn slow_after(mut self, after: Duration) -> Self {
        self.slow_after = Knob::After(after);
        self
    }

    /// Warns in the log when a handler of this event is still running after this time. Default: the handler's own, then the
    /// bus's, which is 30 s.
    pub fn handler_slow_after(mut self, after: Duration) -> Self {
        self.handler_slow_after = Knob::After(after);
        self
    }

    /// How many events may run beside this one. Default: the bus's, which is [`EventConcurrency::BusSerial`].
    pub fn concurrency(mut self, mode: EventConcurrency) -> Self {
        self.concurrency = Some(mode);
        self
    }

    /// How many handlers may run beside those of this event. Default: the handler's own, then the bus's, which is
    /// [`HandlerConcurrency::BusSerial`].
    pub fn handler_concurrency(mut self, mode: HandlerConcurrency) -> Self {
        self.handler_concurrency = Some(mode);
        self
    }

    /// When this event's handlers are through. Default: the bus's, which is [`HandlerCompletion::All`].
    pub fn completion(mut self, mode: HandlerCompletion) -> Self {
        self.completion = Some(mode);
        self
    }

    /// Which queued event goes first. Default: [`Priority::NORMAL`]. Of this event only: what its handlers emit does not inherit it.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// How failed handlers of this event are tried again. Default: the handler's own, then the bus's, which is one attempt.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Makes it a root event though a handler emits it: no parent, its own correlation id. Default: child of the running
    /// handler's event.
    ///
    /// For tickers and supervisors whose event would else never complete. And for chains in which every event emits the next: as children
    /// they keep all events before them, about 1.1 kB each, until the last one has ended; detached ones go when their turn is over.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// The event this one belongs to; it completes only after this one. Default: the running handler's event, if any, which
    /// this beats. Ignored in [`Payload::options`](crate::Payload::options).
    pub fn parent(mut self, parent: impl AsRef<AnyEvent>) -> Self {
        self.parent = Some(parent.as_ref().clone());
        self
    }

    /// The event's id, for events that have one from elsewhere. Default: a fresh UUIDv7. Ignored in
    /// [`Payload::options`](crate::Payload::options).
    ///
    /// A bus refuses one that it [has seen](crate::EventBus::emit_json), with [`EmitError::DuplicateId`](crate::EmitError::DuplicateId), and the nil UUID.
    pub fn id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// A name for everything that belongs to one request, inherited by children. Default: the parent's, or the id of a root
    /// event. Ignored in [`Payload::options`](crate::Payload::options).
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(Arc::from(id.into()));
        self
    }

    /// Says *which* task it is, where the event is named: in its `Display`, in trees, warnings, dead ends and what middlewares log. Default:
    /// what [`Payload::describe`](crate::Payload::describe) says, which is nothing. Ignored in [`Payload::options`](crate::Payload::options).
    ///
    /// On one line, without what would show the rest of it in another order, and cut after 80 characters. It is for people: not in JSON, and not to be looked for.
    ///
    /// ```
    /// use threadbus::{EventBus, EventOptions, Payload};
    /// struct Compile;
    /// impl Payload for Compile { type Output = (); }
    ///
    /// let bus = EventBus::new("build");
    /// let event = bus.emit_with(Compile, EventOptions::new().label("main.c"));
    /// assert!(event.to_string().ends_with(" (main.c)"), "{event}");
    /// ```
    pub fn label(mut self, label: impl AsRef<str>) -> Self {
        self.label = label_of(label.as_ref());
        self
    }

    /// Weight of this event in a batch's progress. Default 1; 0 counts nothing. Sums that do not fit are `usize::MAX`.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = Some(steps);
        self
    }
}

/// No label is longer.
const LONGEST_LABEL: usize = 80;

/// As it is shown: on one line, not too long. `None` if nothing is left.
pub(crate) fn label_of(text: &str) -> Option<Arc<str>> {
    let mut label: String =
        text.chars().take(LONGEST_LABEL + 1).map(|c| if leaves_its_line(c) { ' ' } else { c }).collect();
    if label.chars().count() > LONGEST_LABEL {
        label.pop();
        label.pop();
        label.push('…');
    }
    let label = label.trim();
    (!label.is_empty()).then(|| Arc::from(label))
}

/// What is special about one handler.
///
/// The event's own options go before it, the bus's settings after it.
///
/// ```
/// use std::time::Duration;
/// use threadbus::*;
///
/// let options = HandlerOptions::new()
///     .name("fetch")
///     .timeout(Duration::from_millis(500))
///     .concurrency(HandlerConcurrency::Parallel)
///     .retry(Retry::attempts(3).exponential(Duration::from_millis(50), 2.0));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
pub struct HandlerOptions {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) timeout: Knob,
    pub(crate) slow_after: Knob,
    pub(crate) concurrency: Option<HandlerConcurrency>,
    pub(crate) retry: Option<Retry>,
    pub(crate) limit: Option<Limit>,
    pub(crate) on_end: Option<EndHook>,
    /// So much later its time may begin.
    pub(crate) allowance: Duration,
}

/// What to do when a registration is over, on the thread that ends it, under no lock. With the handler itself it may take longer: who has just run it
/// may still hold it.
#[derive(Clone)]
pub(crate) struct EndHook(pub(crate) Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for EndHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndHook")
    }
}

impl HandlerOptions {
    /// For rooms above that keep something for a registration.
    #[cfg(all(feature = "process", unix))]
    pub(crate) fn on_end(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_end = Some(EndHook(Arc::new(hook)));
        self
    }

    /// For rooms above whose handlers' work begins elsewhere: so much more time each attempt has until it is said to have begun.
    #[cfg(all(feature = "process", unix))]
    pub(crate) fn allowance(mut self, allowance: Duration) -> Self {
        /// Some ten years: a handler's own limit stays one.
        const LONGEST: Duration = Duration::from_secs(300_000_000);
        self.allowance = allowance.min(LONGEST);
        self
    }

    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Name in labels, logs and JSON. Default: the handler's type name; for closures their source location.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(Arc::from(name.into()));
        self
    }

    /// Cap on each attempt. Default: the bus's `handler_timeout`, which is 60 s. Zero is up at once: the handler is not called.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Knob::After(after);
        self
    }

    /// No cap on an attempt, whatever the bus says.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = Knob::Off;
        self
    }

    /// Warns in the log when an invocation is still running after this time. Default: the bus's, which is 30 s.
    pub fn slow_after(mut self, after: Duration) -> Self {
        self.slow_after = Knob::After(after);
        self
    }

    /// How many handlers may run beside this one. Default: the bus's, which is [`HandlerConcurrency::BusSerial`].
    pub fn concurrency(mut self, mode: HandlerConcurrency) -> Self {
        self.concurrency = Some(mode);
        self
    }

    /// How a failed attempt is tried again. Default: the bus's, which is one attempt.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// How many invocations may run at once among all handlers that share this limit. Default: as many as the concurrency modes allow.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn off_hides_the_layers_below_and_unset_does_not() {
        let after = Knob::After(SECOND);
        assert_eq!(Knob::Unset.or(after), after);
        assert_eq!(Knob::Off.or(after), Knob::Off);
        assert_eq!(after.or(Knob::Off), after);
        assert_eq!(Knob::Unset.or(Knob::Unset).get(), None);
        assert_eq!(Knob::Off.get(), None);
        assert_eq!(after.get(), Some(SECOND));
        assert_eq!(Knob::from(None), Knob::Off);
        assert_eq!(Knob::from(Some(SECOND)), after);
    }

    #[test]
    fn the_last_setter_wins_between_timeout_and_no_timeout() {
        assert_eq!(EventOptions::new().timeout(SECOND).no_timeout().timeout, Knob::Off);
        let options = EventOptions::new().no_timeout().timeout(SECOND);
        assert_eq!((options.timeout, options.handler_timeout), (Knob::After(SECOND), Knob::Off));
        assert_eq!(HandlerOptions::new().no_timeout().timeout(SECOND).timeout, Knob::After(SECOND));
    }
}
