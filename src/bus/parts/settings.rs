//! What a bus was settled to be, as it can be asked.

use crate::event::{
    EventConcurrency, Fairness, HandlerCompletion, HandlerConcurrency, HistoryPolicy, JsonLimits, OnFull,
};
use crate::rules::HealthWindow;
use std::time::Duration;

/// What the builder settled on.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct BusOptions {
    /// How many events run at once.
    pub event_concurrency: EventConcurrency,
    /// How many handlers run at once.
    pub handler_concurrency: HandlerConcurrency,
    /// When an event is complete.
    pub handler_completion: HandlerCompletion,
    /// Cap on each attempt of each handler; `None`: no cap.
    pub handler_timeout: Option<Duration>,
    /// Cap on each event; `None`: no cap.
    pub event_timeout: Option<Duration>,
    /// When a handler is worth a warning in the log, or an emit that stands still.
    pub handler_slow_after: Option<Duration>,
    /// When an event is worth a warning in the log.
    pub event_slow_after: Option<Duration>,
    /// How many events the history keeps; `None`: all.
    pub max_history: Option<usize>,
    /// What happens when the history is full.
    pub history_policy: HistoryPolicy,
    /// How many events may be queued or wait; `None`: any number.
    pub queue_capacity: Option<usize>,
    /// How many parallel events may be in flight; `None`: any number.
    pub max_in_flight: Option<usize>,
    /// What `emit` does when the queue is full.
    pub on_full: OnFull,
    /// How priorities share the bus.
    pub fairness: Fairness,
    /// Whether an event without a handler is refused.
    pub require_handler: bool,
    /// How much JSON is taken for an event.
    pub json_limits: JsonLimits,
    /// How many final failures of handlers are kept.
    pub dead_letters: usize,
    /// By which deliveries its health is judged.
    pub health_window: HealthWindow,
    /// Whether the application runs it, by [`EventBus::run_pending`](crate::EventBus::run_pending).
    pub manual: bool,
}
