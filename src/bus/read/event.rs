//! What an event tells of itself, and waiting for it: the same methods for events with and without a type.

use crate::bus::core::BusCore;
use crate::bus::core::EventBus;
use crate::bus::end::tree;
use crate::bus::parts::outcomes::time;
use crate::bus::thread::frame;
use crate::bus::wait::jump;
use crate::bus::wait::waiting::Waiting;
use crate::event::{
    AnyEvent, Cause, CauseKind, Event, EventId, EventStatus, HandlerFailure, HandlerId, Outcome, Payload, Priority,
    State, WaitError,
};
use crate::sync::refused;
use crate::sys::clock::{self, Tick};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;

macro_rules! on_both_event_types {
    ([$($head:tt)*], $any:ident) => {
        $($head)* {
            /// UUIDv7; strictly increasing in emit order within the process, unless it was set.
            pub fn id(&self) -> EventId {
                self.$any().head().id()
            }

            /// The payload's [`event_type`](Payload::event_type).
            pub fn event_type(&self) -> &str {
                self.$any().body().event_type()
            }

            /// The payload's [`version`](Payload::version); of an event that came as JSON, what that said.
            pub fn version(&self) -> &str {
                let event = self.$any();
                let said = event.head().origin().and_then(|origin| origin.version.as_deref());
                said.unwrap_or_else(|| event.body().version())
            }

            /// Pending until its first handler starts, completed when all handlers and descendants are done.
            pub fn status(&self) -> EventStatus {
                refused::ask_again();
                status(self.$any())
            }

            /// When it was emitted, in nanoseconds: by the system's clock, and later than the event before as long as nobody sets that back. Of an event that came as
            /// JSON, what that said.
            ///
            /// For showing. What is counted inside the process (ages, windows, timeouts, durations) does not depend on it.
            pub fn created_at(&self) -> DateTime<Utc> {
                let head = self.$any().head();
                head.origin().and_then(|origin| origin.created_at).unwrap_or_else(|| clock::to_utc(head.stamp()))
            }

            /// When its first handler started.
            pub fn started_at(&self) -> Option<DateTime<Utc>> {
                let event = self.$any();
                time(event, event.state().lock().started)
            }

            /// When it was complete.
            pub fn completed_at(&self) -> Option<DateTime<Utc>> {
                let event = self.$any();
                time(event, event.state().lock().completed)
            }

            /// The event whose handler emitted this one.
            pub fn parent_id(&self) -> Option<EventId> {
                parent_id(self.$any())
            }

            /// The event whose handler emitted this one, as long as somebody keeps it.
            pub fn parent(&self) -> Option<AnyEvent> {
                self.$any().head().parent.as_ref()?.event.upgrade()
            }

            /// The handler that emitted this one.
            pub fn emitted_by(&self) -> Option<HandlerId> {
                let head = self.$any().head();
                let said = head.origin().and_then(|origin| origin.emitted_by);
                said.or_else(|| head.parent.as_ref()?.handler)
            }

            /// What its handlers emitted, in emit order, without repeats. Of more than a thousand completed ones the oldest are
            /// let go.
            pub fn children(&self) -> Vec<AnyEvent> {
                self.$any().state().lock().children().map(|child| child.event.clone()).collect()
            }

            /// Children, their children, and so on, each before what is below it.
            pub fn descendants(&self) -> Vec<AnyEvent> {
                descendants(self.$any())
            }

            /// Whether `ancestor` is its parent, or its parent's, and so on.
            pub fn is_child_of(&self, ancestor: impl AsRef<AnyEvent>) -> bool {
                is_child_of(self.$any(), ancestor.as_ref())
            }

            /// Labels (`Name#last4`) of the buses that took the event, in order; of an event that came as JSON, those of its way
            /// here first.
            pub fn path(&self) -> Vec<String> {
                path(self.$any(), &self.$any().state().lock())
            }

            /// Inside one of its handlers: the bus running that handler. Elsewhere: the first bus that took it. When that is gone,
            /// or none took it: a closed stand-in of the same name, on which emit is refused.
            pub fn bus(&self) -> EventBus {
                bus_of(self.$any())
            }

            /// Higher first; set by the emit, else by the payload's type, else [`Priority::NORMAL`].
            pub fn priority(&self) -> Priority {
                self.$any().head().priority
            }

            /// The root event's id unless set; inherited by children.
            pub fn correlation_id(&self) -> &str {
                self.$any().head().correlation()
            }

            /// Failures of finished invocations, by completion time.
            pub fn errors(&self) -> Vec<Arc<HandlerFailure>> {
                errors(self.$any())
            }

            /// Blocks until every handler on every bus and every descendant is done. Handler failures are not wait errors.
            ///
            /// **Blocking**: outside of handlers it parks. Inside a handler the event, and what it emitted, runs now, ahead of the
            /// queue (queue-jump), to any depth; permits that this handler holds are lent or given up meanwhile, and taken back
            /// before this returns. On the pump thread of [manual](crate::BusBuilder::manual) buses it serves those who wait for them;
            /// outside of handlers it runs what is queued on them, in order, until the event is complete.
            ///
            /// # Errors
            /// [`WaitError::Rejected`] if the event was refused; [`WaitError::Cancelled`] and [`WaitError::Dropped`] only if no handler started on
            /// any bus;
            /// [`WaitError::Deadlock`] where the wait can never end, and in a callback that is not a handler;
            /// [`WaitError::Aborted`] if the waiting handler was given up meanwhile.
            #[track_caller]
            pub fn wait(&self) -> Result<Self, WaitError> {
                jump::wait(self.$any(), Waiting::JUMP).map(|()| self.clone())
            }

            /// Gives up waiting, not the event, after `timeout`.
            ///
            /// Inside a handler the event runs on another worker, so that this can return in time; but **on a serial bus it runs in
            /// this handler's place, and the wait cannot return before the handler running there ends.** To bound that, give the
            /// awaited event a `handler_timeout`, which does end on time.
            ///
            /// # Errors
            /// As [`wait`](Self::wait), and [`WaitError::Timeout`].
            #[track_caller]
            pub fn wait_timeout(&self, timeout: Duration) -> Result<Self, WaitError> {
                jump::wait(self.$any(), Waiting { timeout: Some(timeout), ..Waiting::JUMP }).map(|()| self.clone())
            }

            /// Waits without jumping the queue.
            ///
            /// # Errors
            /// As [`wait`](Self::wait); [`WaitError::Deadlock`] at once where that can never end: on a serial bus, inside a handler,
            /// for an event that is queued there.
            #[track_caller]
            pub fn wait_in_order(&self) -> Result<Self, WaitError> {
                jump::wait(self.$any(), Waiting { in_order: true, ..Waiting::JUMP }).map(|()| self.clone())
            }

            /// Cancels what has not started, ends what runs (`Aborted`) and asks it to stop; so for everything below the event.
            /// False if already completed.
            ///
            /// When this returns, no handler of anything below the event starts any more. Of large trees it ends about a thousand events itself; the
            /// rest a worker ends soon, and until then they show as [`Pending`](EventStatus::Pending) or [`Started`](EventStatus::Started), count in
            /// [`pending`](EventBus::pending), and what they were emitted for is complete with the last of them. What is emitted below it meanwhile ends, too.
            ///
            /// A handler that runs the event on its own stack returns when that handler does; every other waiter returns at once.
            pub fn cancel(&self) -> bool {
                let event = self.$any();
                let cause = Cause::new(CauseKind::Cancelled, event.head().id(), event.body().event_type());
                tree::cancel(event, &cause)
            }
        }
    };
}

impl AnyEvent {
    fn this(&self) -> &AnyEvent {
        self
    }
}

on_both_event_types!([impl<P: Payload> Event<P>], any);
on_both_event_types!([impl AnyEvent], this);

/// When this bus took the event.
pub(crate) fn arrived(event: &AnyEvent, bus: &BusCore) -> Tick {
    let forwarded = event.state().lock().forwarded_at(bus.identity.id);
    forwarded.unwrap_or_else(|| event.head().stamp())
}

/// How long the event has taken, or takes so far: in this process, whatever its `created_at` says.
pub(crate) fn age(event: &AnyEvent) -> Duration {
    let completed = event.state().lock().completed;
    let until = if completed == 0 { clock::now() } else { completed };
    Duration::from_nanos(until.saturating_sub(event.head().stamp()))
}

/// Of an event from elsewhere also if the parent is not known here.
fn parent_id(event: &AnyEvent) -> Option<EventId> {
    let head = event.head();
    let linked = head.parent.as_ref().map(|parent| parent.id);
    linked.or_else(|| head.origin().and_then(|origin| origin.parent))
}

pub(crate) fn path(event: &AnyEvent, state: &State) -> Vec<String> {
    let mut path = event.head().origin().map_or_else(Vec::new, |origin| origin.path.clone());
    let elsewhere = path.len();
    for delivery in state.deliveries.iter().filter(|delivery| !delivery.redrive) {
        // It may have come back to where it was.
        if !path[..elsewhere].iter().any(|label| **label == *delivery.bus.label) {
            path.push(delivery.bus.label.to_string());
        }
    }
    path
}

fn status(event: &AnyEvent) -> EventStatus {
    status_in(&event.state().lock())
}

pub(crate) fn status_in(state: &State) -> EventStatus {
    if state.complete {
        EventStatus::Completed
    } else if state.started != 0 {
        EventStatus::Started
    } else {
        EventStatus::Pending
    }
}

fn descendants(event: &AnyEvent) -> Vec<AnyEvent> {
    let mut found: Vec<AnyEvent> = Vec::new();
    let mut pending = vec![event.clone()];
    let mut seen = std::collections::HashSet::new();
    while let Some(event) = pending.pop() {
        for child in event.state().lock().children().rev() {
            pending.push(child.event.clone());
        }
        if seen.insert(event.head().stamp()) {
            found.push(event);
        }
    }
    found.remove(0);
    found
}

fn is_child_of(event: &AnyEvent, ancestor: &AnyEvent) -> bool {
    let mut at = event.clone();
    loop {
        if parent_id(&at) == Some(ancestor.head().id()) {
            return true;
        }
        match at.head().parent.as_ref().and_then(|link| link.event.upgrade()) {
            Some(parent) => at = parent,
            None => return false,
        }
    }
}

fn bus_of(event: &AnyEvent) -> EventBus {
    let running = frame::local(|local| {
        local.frames.iter().rev().find(|frame| frame.event.same(event)).map(|frame| Arc::clone(&frame.bus))
    });
    if let Some(core) = running.flatten() {
        return EventBus::from_core(core);
    }
    let (first, refused) = {
        let state = event.state().lock();
        (state.deliveries.first().map(|d| Arc::clone(&d.bus)), state.rejected().cloned())
    };
    match first.as_deref().and_then(BusCore::of) {
        Some(core) => EventBus::from_core(core),
        None => EventBus::stand_in(first.as_deref(), refused.as_ref()),
    }
}

fn errors(event: &AnyEvent) -> Vec<Arc<HandlerFailure>> {
    let state = event.state().lock();
    let records = state.deliveries.iter().flat_map(|d| &d.records);
    let mut failed: Vec<_> = records
        .filter_map(|record| match &record.outcome {
            Outcome::Failed(failure) => Some((record.ended, Arc::clone(failure))),
            _ => None,
        })
        .collect();
    failed.sort_by_key(|(ended, _)| *ended);
    failed.into_iter().map(|(_, failure)| failure).collect()
}
