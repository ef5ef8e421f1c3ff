//! What may be set for one event or one event type. Everything is optional; resolving the layers against each other is the business of the
//! rules room.

use crate::event::{
    AnyEvent, EventConcurrency, EventId, EventOptions, HandlerCompletion, HandlerConcurrency, Knob, Prerequisite,
    Priority, Retry,
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

    /// It starts when that event is complete, and all others that are given so: a task after those that it builds on.
    ///
    /// Until then it is *held*: it has its place in the history and counts as pending, but occupies no thread and no place in the queue's capacity.
    /// When the last of them is complete it goes to the end of the queue, also where that is full. How they ended does not matter:
    /// see [`after_ok`](Self::after_ok). It keeps them until it starts. Complete ones, and none, hold nothing. The event's own
    /// [`timeout`](Self::timeout) begins with its start; `emit_now` waits for them first. A forward of a held event is held as well. Ignored
    /// in [`Payload::options`](crate::Payload::options).
    ///
    /// An event that this one belongs to waits for it: to come after that one is refused, with [`EmitError::Circle`](crate::EmitError::Circle). A wait inside a handler that can
    /// never end since events wait for each other in a circle is told [`WaitError::Deadlock`](crate::WaitError::Deadlock).
    ///
    /// ```
    /// use threadbus::{Event, EventBus, EventConcurrency, EventOptions, Payload};
    /// struct Compile(&'static str);
    /// impl Payload for Compile { type Output = (); }
    ///
    /// let bus = EventBus::builder("build").event_concurrency(EventConcurrency::Parallel).build()?;
    /// let (sender, order) = std::sync::mpsc::channel();
    /// bus.on(move |compile: &Event<Compile>| sender.send(compile.0));
    ///
    /// let (util, parser) = (bus.emit(Compile("util")), bus.emit(Compile("parser")));
    /// let main = bus.emit_with(Compile("main"), EventOptions::new().after(&util).after(&parser));
    /// main.wait()?;
    /// assert_eq!(order.iter().nth(2), Some("main"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn after(mut self, event: impl AsRef<AnyEvent>) -> Self {
        self.after.push(Prerequisite { event: event.as_ref().clone(), must_succeed: false });
        self
    }

    /// As [`after`](Self::after), if that event ends well; if not, this one is cancelled at once.
    ///
    /// It has failed if it was refused, or ended before it started; or if a handler of its own failed, was given up, or panicked, after all
    /// retries (under [`HandlerCompletion::First`](crate::HandlerCompletion::First): if none had a value). What fails below it counts as far as its own handlers make it theirs. The cause that
    /// this one's [`errors`](crate::AnyEvent::errors) show is of [`CauseKind::Prerequisite`](crate::CauseKind::Prerequisite) and names the event that failed: along a chain the first one.
    ///
    /// ```
    /// use threadbus::{CauseKind, Event, EventBus, EventOptions, HandlerFailure, Payload, WaitError};
    /// struct Step(bool);
    /// impl Payload for Step { type Output = (); }
    ///
    /// let bus = EventBus::new("deploy");
    /// bus.on(|step: &Event<Step>| if step.0 { Ok(()) } else { Err("no disk") });
    ///
    /// let upload = bus.emit(Step(false));
    /// let switch = bus.emit_with(Step(true), EventOptions::new().after_ok(&upload));
    /// let tell = bus.emit_with(Step(true), EventOptions::new().after_ok(&switch));
    /// assert_eq!(tell.wait().unwrap_err(), WaitError::Cancelled);
    /// match &*tell.errors()[0] {
    ///     HandlerFailure::Cancelled { cause } => assert_eq!((cause.kind, cause.event), (CauseKind::Prerequisite, upload.id())),
    ///     other => panic!("{other}"),
    /// }
    /// ```
    pub fn after_ok(mut self, event: impl AsRef<AnyEvent>) -> Self {
        self.after.push(Prerequisite { event: event.as_ref().clone(), must_succeed: true });
        self
    }

    /// True if nothing is set.
    pub(crate) fn is_unset(&self) -> bool {
        let EventOptions {
            timeout,
            handler_timeout,
            slow_after,
            handler_slow_after,
            concurrency,
            handler_concurrency,
            completion,
            priority,
            retry,
            detached,
            parent,
            id,
            correlation_id,
            steps,
            label,
            origin,
            after,
        } = self;
        [timeout, handler_timeout, slow_after, handler_slow_after].iter().all(|knob| matches!(knob, Knob::Unset))
            && (concurrency.is_none() && handler_concurrency.is_none() && completion.is_none() && priority.is_none())
            && (retry.is_none() && !detached && parent.is_none() && id.is_none() && correlation_id.is_none())
            && (steps.is_none() && label.is_none() && origin.is_none() && after.is_empty())
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
