//! One handler on one event, without a bus running: its outcome, and what it emitted.
//!
//! ```
//! use threadbus::{Event, HandlerError, Payload, testing};
//!
//! struct Order { item: &'static str }
//! impl Payload for Order { type Output = String; }
//! struct Price { item: &'static str }
//! impl Payload for Price { type Output = u32; }
//! struct Shipped;
//! impl Payload for Shipped { type Output = (); }
//!
//! fn order(order: &Event<Order>) -> Result<String, HandlerError> {
//!     let price = order.bus().emit(Price { item: order.item }).result()?;
//!     order.bus().emit(Shipped);
//!     Ok(format!("{} for {price}", order.item))
//! }
//!
//! let ran = testing::Harness::new().answer(|price: &Event<Price>| price.item.len() as u32).run(order, Order { item: "tea" });
//! assert_eq!(ran.value().as_deref(), Some("tea for 3"));
//! assert_eq!(ran.emitted_as::<Price>()[0].item, "tea");
//! assert_eq!(ran.emitted.len(), 2);
//!
//! // No answer says what tea costs: the handler fails, and the test sees why.
//! let ran = testing::run(order, Order { item: "tea" });
//! assert!(ran.outcome.is_err_and(|error| error.to_string().contains("no handler is registered for Price")));
//! ```
//!
//! Everything runs on the calling thread, on a [manual](crate::BusBuilder::manual) bus of its own. For more than one handler, make such a
//! bus: what it does depends on what is emitted, and on nothing else.
//!
//! So no other thread emits on it: where the handler would wait for that without limit, by [`Subscription::recv`](crate::Subscription::recv) or
//! [`Find::future_forever`](crate::Find::future_forever), it gets at once what it would get at the end of its bus (`Closed`, `None`), and the log
//! says where. With a time limit it waits for that, so a handler that is fed by threads of its own can be tested as well.
//!
//! This room is an edge: it uses nothing but the public surface, and one private setting of the builder, which says that no other thread has
//! to do with the bus.

use crate::{
    AnyEvent, Event, EventBus, EventOptions, Handler, HandlerContext, HandlerFailure, HandlerOptions, HandlerResult,
    Payload, Runtime,
};
use std::fmt;
use std::sync::Arc;

/// Runs one handler on one event: what [`EventBus::on`] takes. Nothing answers what it emits; see [`Harness`] for that.
///
/// **Blocking**: for as long as the handler takes.
///
/// ```
/// use threadbus::{Event, Payload, testing};
/// struct Half(u32);
/// impl Payload for Half { type Output = u32; }
///
/// let half = |half: &Event<Half>| half.0.is_multiple_of(2).then_some(half.0 / 2).ok_or("odd");
/// assert_eq!(testing::run(half, Half(8)).value(), Some(4));
/// assert_eq!(testing::run(half, Half(7)).outcome.unwrap_err().to_string(), "odd");
/// ```
pub fn run<P: Payload, M>(handler: impl Handler<P, M>, payload: P) -> Ran<P> {
    Harness::new().run(handler, payload)
}

/// Registers one answer on a run's bus.
type Answer = Box<dyn Fn(&EventBus) + Send + Sync>;

/// Runs handlers one at a time, and answers what they emit. Each run has a bus of its own; nothing is left of it.
pub struct Harness {
    answers: Arc<Vec<Answer>>,
    handler: HandlerOptions,
    event: EventOptions,
}

impl Harness {
    /// A harness that answers nothing.
    pub fn new() -> Self {
        let handler = HandlerOptions::new().name("tested");
        Harness { answers: Arc::new(Vec::new()), handler, event: EventOptions::new() }
    }

    /// Adds a handler for events that the handler under test emits, in the place of the program's own. A handler that waits for such an event
    /// gets its answer at once.
    ///
    /// Several answers to one type are several handlers. An event without an answer completes without a handler, once the handler under test has
    /// returned or waits for it.
    pub fn answer<C: Payload, M: 'static>(mut self, answer: impl Handler<C, M>) -> Self {
        let answer = Arc::new(answer);
        let answer: Answer = Box::new(move |bus| drop(bus.on(Arc::clone(&answer))));
        // Only a run shares the answers, and that is over.
        if let Some(answers) = Arc::get_mut(&mut self.answers) {
            answers.push(answer);
        }
        self
    }

    /// Sets the options of the handler's registration: its name, its retries. Default: the name `tested`.
    pub fn handler_options(mut self, options: HandlerOptions) -> Self {
        self.handler = options;
        self
    }

    /// Sets the options of the event: a correlation id, an id, a priority. Default: none.
    pub fn event_options(mut self, options: EventOptions) -> Self {
        self.event = options;
        self
    }

    /// Runs `handler` on an event with this payload, and then the events that it left in the queue.
    ///
    /// No timeout of the crate's defaults applies, so that no thread is started; options given here may set one. Retries without a delay
    /// are made; while one with a delay waits, so does the caller.
    ///
    /// **Blocking**: for as long as the handler and the answers take.
    pub fn run<P: Payload, M>(&self, handler: impl Handler<P, M>, payload: P) -> Ran<P> {
        // Default options are never refused.
        let runtime = Runtime::builder().build().unwrap_or_else(|_| Runtime::global());
        let bus = EventBus::builder("testing")
            .manual()
            .alone()
            .runtime(&runtime)
            .handler_timeout(None)
            .handler_slow_after(None)
            .event_slow_after(None)
            .max_history(None)
            .build()
            .unwrap_or_else(|_| EventBus::new("testing"));
        let answers = Arc::clone(&self.answers);
        let tested = bus.on_with(self.handler.clone(), move |event: &Event<P>| {
            if let Some(context) = HandlerContext::current().filter(|context| context.attempt() == 1) {
                // The handler under test gets this one event only; those of its type that it emits go to the answers.
                let bus = context.bus();
                bus.off(&context.handler());
                answers.iter().for_each(|answer| answer(&bus));
            }
            handler.handle(event)
        });
        let event = bus.emit_with(payload, self.event.clone().detached());
        let waited = bus.wait_until_idle();
        debug_assert!(waited.is_ok(), "outside of its handlers: {waited:?}");
        let result = event.results().into_iter().find(|result| result.handler.id() == tested.id());
        let emitted = event.children();
        Ran { outcome: outcome(result), emitted, event, _bus: bus }
    }
}

fn outcome<T>(result: Option<HandlerResult<T>>) -> Result<Option<T>, Arc<HandlerFailure>> {
    match result {
        Some(HandlerResult { error: Some(error), .. }) => Err(error),
        Some(HandlerResult { value, .. }) => Ok(value),
        None => Ok(None),
    }
}

impl Default for Harness {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").field("answers", &self.answers.len()).finish_non_exhaustive()
    }
}

/// What one handler did with one event.
#[non_exhaustive]
pub struct Ran<P: Payload> {
    /// What the handler returned, or why it failed: an error, a panic, a timeout.
    pub outcome: Result<Option<P::Output>, Arc<HandlerFailure>>,
    /// What the handler emitted, on whichever bus, in emit order; not what answers emitted in their turn.
    pub emitted: Vec<AnyEvent>,
    /// The event, with all that [`Event`] tells: attempts, times, a log tree.
    pub event: Event<P>,
    /// Kept for as long as the event may be looked at.
    _bus: EventBus,
}

impl<P: Payload> Ran<P> {
    /// The value, if the handler returned one.
    pub fn value(&self) -> Option<P::Output> {
        self.outcome.as_ref().ok().cloned().flatten()
    }

    /// What the handler emitted of one type, in emit order.
    pub fn emitted_as<C: Payload>(&self) -> Vec<Event<C>> {
        self.emitted.iter().filter_map(AnyEvent::downcast::<C>).collect()
    }
}

impl<P: Payload> fmt::Debug for Ran<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failure = self.outcome.as_ref().err();
        f.debug_struct("Ran").field("event", &self.event).field("failure", &failure).finish_non_exhaustive()
    }
}
