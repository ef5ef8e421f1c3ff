//! What may be set for one event or one event type. Everything is optional; resolving the layers against each other is the business of the
//! rules room.

use crate::event::{
    AnyEvent, EventConcurrency, EventId, EventOptions, HandlerCompletion, HandlerConcurrency, Knob, Priority, Retry,
};
use crate::sys::one_line::leaves_its_line;
use std::sync::Arc;
use std::time::Duration;

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
