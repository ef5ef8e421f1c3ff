//! What a middleware is, and those of one bus.

pub(crate) mod ask;
pub(crate) mod tell;

use crate::bus::core::EventBus;
use crate::bus::parts::listener::Listener;
use crate::event::{AnyEvent, AnyOutput, BoxError, EmitError, EventStatus, HandlerChange, HandlerInfo, HandlerResult};

/// Sees everything that happens on a bus: events coming, refusable; each change of an event and of each result, once and in order;
/// handlers coming and going. Added by [`BusBuilder::middleware`](crate::BusBuilder::middleware).
///
/// A middleware is for what concerns all events alike: an audit trail, a mirror, a policy. What cares for one type is a handler, what
/// only wants to look on is a [subscription](EventBus::subscribe).
///
/// # What is told
///
/// | what | when |
/// | --- | --- |
/// | `on_emit` | before anybody has seen the event on this bus, and before all other reasons to refuse it but two: a closed bus, an emitting handler that was given up |
/// | `on_refused` | the bus did not take an event that this middleware let pass: one added later, a full queue or whatever else refused it |
/// | event `Pending` | the bus took it, emitted or [forwarded](EventBus::forward) |
/// | result `Pending` | its handlers on this bus are settled, one call each, in handler order |
/// | event `Started` | its first handler starts on this bus; or it is done here without having had any |
/// | result `Started` | the first attempt of a handler starts; a retry changes nothing |
/// | result `Completed`, `Error` | the handler has ended, its attempts used up; or was given up |
/// | event `Completed` | the event is complete, with all its buses and children, and done on this one |
///
/// So an event goes `Pending`, `Started`, `Completed`, without `Started` if it ended before any handler started here; a result likewise
/// goes `Pending`, `Started`, then `Completed` or `Error`. An event that was complete when it was forwarded here goes the same way, though its
/// [`status`](AnyEvent::status) is `Completed` all the time. [`EventBus::redrive`] runs a handler again: that result goes its way once more, the
/// event does not. A refused event is told of by `on_emit` only: a middleware that let it pass hears by `on_refused` that it did not come after
/// all, and what was refused before anybody was asked is not told.
///
/// Results are those of this bus's own handlers; the status of an event is that of the event, read on this bus. Each call carries the
/// state as of its change; the event itself may be further on.
///
/// # Order and threads
///
/// All middlewares of a bus hear one change, in the order in which they were added, before any hears the next one of the same event.
/// Changes of one event are told one at a time and in order, whichever threads make them: a thread that makes a change while another is
/// telling of an earlier one leaves its own to that thread and goes on. Different events are told of side by side. `on_handlers_change` has
/// an order of its own.
///
/// Calls come on the thread that made the change: an emitting one, a worker, or one that waits for the event; what a deadline changed comes on
/// a worker. So `Started` comes before the handler runs, unless a call for the same event is under way. [`wait`](AnyEvent::wait)
/// returns when all changes of the event are told, or its timeout passes; [`wait_until_idle`](EventBus::wait_until_idle) when all of the bus are.
///
/// # Blocking
///
/// No lock of the bus is held during a call, so one that blocks holds up its thread, and what depends on that: an emitter, a worker with
/// whatever event it runs (on a serial bus: the whole queue), and whoever waits for this event. **An emitter may be held up by more than
/// `on_emit` and `Pending`:** what a worker changes meanwhile is left to it, up to `Completed`. The time that a `Started` takes counts
/// against the handler's timeout. Do not lock what a handler holds while it emits or waits: the call may come on that handler's thread.
///
/// A call is no handler: waits of ours answer [`Deadlock`](crate::WaitError::Deadlock), `redrive` does nothing, and
/// [`HandlerContext::current`](crate::HandlerContext::current) is `None`. [`context::get`](crate::context::get) gives the event's values. Emitting is
/// allowed: the new event has no parent, is queued also by `emit_now`, is refused rather than blocked by a full queue, and this middleware's own
/// `on_emit` is not asked about it; its changes are told to all, later, so emit on a condition that your own events do not meet.
///
/// # Panics
///
/// A panic is caught and logged as an error, naming bus and event; the other middlewares, the event and the bus go on. In `on_emit` it
/// refuses the event, as an error with the panic's text would: a policy that fails lets nothing pass.
///
/// # Lifetime
///
/// The bus keeps its middlewares until it ends, and drops them then, though events of it may live on. A call gets the bus for its length only. A
/// middleware that stores a clone of an [`EventBus`] keeps that bus alive; if it is its own, for ever: store
/// [`bus.downgrade()`](EventBus::downgrade). When the last handle is dropped, what is queued is still told; the end of the handlers then is not.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use std::sync::Arc;
/// use threadbus::{AnyEvent, AnyOutput, BoxError, Event, EventBus, HandlerResult, Middleware, Payload, ResultStatus};
///
/// struct Transfer { amount: u32 }
/// impl Payload for Transfer { type Output = (); }
///
/// /// Refuses what is too much, counts what failed.
/// struct Policy { failures: Arc<AtomicUsize> }
/// impl Middleware for Policy {
///     fn on_emit(&self, _: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
///         match event.payload::<Transfer>() {
///             Some(transfer) if transfer.amount > 1000 => Err("too much".into()),
///             _ => Ok(()),
///         }
///     }
///     fn on_result_change(&self, _: &EventBus, _: &AnyEvent, result: &HandlerResult<AnyOutput>) {
///         if result.status == ResultStatus::Error {
///             self.failures.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let failures = Arc::new(AtomicUsize::new(0));
/// let bus = EventBus::builder("bank").middleware(Policy { failures: Arc::clone(&failures) }).build()?;
/// bus.on(|transfer: &Event<Transfer>| if transfer.amount == 0 { Err("nothing to do") } else { Ok(()) });
///
/// let refused = bus.try_emit(Transfer { amount: 5000 }).unwrap_err();
/// assert_eq!(refused.payload.amount, 5000);
/// bus.emit(Transfer { amount: 0 }).wait()?;
/// assert_eq!(failures.load(Ordering::Relaxed), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[expect(unused_variables, reason = "names for the documentation; each method does nothing unless it is implemented")]
pub trait Middleware: Send + Sync + 'static {
    /// An event comes to the bus, emitted or forwarded. Nobody has seen it there.
    ///
    /// The first error refuses it with [`EmitError::Refused`](crate::EmitError::Refused), and those added later are not asked. Nothing of a refused
    /// event is visible: no history, no child of the emitting handler, no number but
    /// [`rejected`](crate::BusMetrics::rejected); the payload comes back from [`try_emit`](EventBus::try_emit), unless a middleware has kept a
    /// clone of the event. The log has a warning. An event that was let pass may still be refused, by a full queue for one: then
    /// [`on_refused`](Self::on_refused) says so. A panic refuses too, and its text is in the reason.
    ///
    /// # Errors
    /// The reason, as the emitter shall read it.
    fn on_emit(&self, bus: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
        Ok(())
    }

    /// An event that this middleware let pass does not come to the bus after all.
    ///
    /// Called after `on_emit` has said yes, on the same thread and before the emitter reads of the refusal: because of a middleware that was
    /// added later, a full queue or history, the rate, a missing handler, a known id, a bus or a handler that ended meanwhile. A middleware that
    /// said no, or was not asked, does not hear of it. So of the events that it let pass each comes to `Pending`, or here; except for a
    /// [`forward`](EventBus::forward) that put nothing on the bus because another one did, or the event had been cancelled.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use threadbus::{AnyEvent, BoxError, EmitError, EventBus, Middleware, Payload};
    ///
    /// /// Charges for each event, and gives back what was charged for one that did not come.
    /// struct Budget(Arc<AtomicU64>);
    /// impl Middleware for Budget {
    ///     fn on_emit(&self, _: &EventBus, _: &AnyEvent) -> Result<(), BoxError> {
    ///         self.0.fetch_add(1, Ordering::Relaxed);
    ///         Ok(())
    ///     }
    ///     fn on_refused(&self, _: &EventBus, _: &AnyEvent, _: &EmitError) {
    ///         self.0.fetch_sub(1, Ordering::Relaxed);
    ///     }
    /// }
    ///
    /// struct Order;
    /// impl Payload for Order { type Output = (); }
    ///
    /// let spent = Arc::new(AtomicU64::new(0));
    /// let bus = EventBus::builder("shop").middleware(Budget(Arc::clone(&spent))).require_handler(true).build()?;
    /// assert!(bus.try_emit(Order).is_err()); // nobody handles it
    /// assert_eq!(spent.load(Ordering::Relaxed), 0);
    /// # Ok::<(), threadbus::BuildError>(())
    /// ```
    fn on_refused(&self, bus: &EventBus, event: &AnyEvent, error: &EmitError) {}

    /// The event has come to `status` on this bus.
    fn on_event_change(&self, bus: &EventBus, event: &AnyEvent, status: EventStatus) {}

    /// One of this bus's handlers has come to `result.status` on the event.
    fn on_result_change(&self, bus: &EventBus, event: &AnyEvent, result: &HandlerResult<AnyOutput>) {}

    /// A handler was registered, or its registration has ended; by [`shutdown`](EventBus::shutdown) too.
    fn on_handlers_change(&self, bus: &EventBus, handler: &HandlerInfo, registered: bool) {}
}

impl<M: Middleware> Listener<EventBus> for M {
    fn asked(&self, bus: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
        self.on_emit(bus, event)
    }

    fn refused(&self, bus: &EventBus, event: &AnyEvent, error: &EmitError) {
        self.on_refused(bus, event, error);
    }

    fn event_changed(&self, bus: &EventBus, event: &AnyEvent, status: EventStatus) {
        self.on_event_change(bus, event, status);
    }

    fn result_changed(&self, bus: &EventBus, event: &AnyEvent, result: &HandlerResult<AnyOutput>) {
        self.on_result_change(bus, event, result);
    }

    fn handlers_changed(&self, bus: &EventBus, handler: &HandlerInfo, now: HandlerChange) {
        self.on_handlers_change(bus, handler, now == HandlerChange::Added);
    }
}
