//! One invocation as results show it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::event::{EventId, HandlerFailure, HandlerInfo};

/// How far an invocation has come.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResultStatus {
    /// The handler has not started.
    Pending,
    /// The handler is running, or waits for its next attempt.
    Started,
    /// The handler succeeded, with a value or without. Final.
    Completed,
    /// The handler failed, or was given up. Final.
    Error,
}

/// A snapshot of one handler's run on one event: what `results()` lists, in handler order.
///
/// It does not change when the invocation does; ask again for the newer state.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct HandlerResult<T> {
    /// Identity of this invocation.
    pub id: Uuid,
    /// The registration that ran.
    pub handler: HandlerInfo,
    /// How far it has come.
    pub status: ResultStatus,
    /// What it returned, if it succeeded with a value.
    pub value: Option<T>,
    /// How it failed, if it did.
    pub error: Option<Arc<HandlerFailure>>,
    /// How often it was tried: 0 before it started, 1 without a retry.
    pub attempts: u32,
    /// When its first attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it became final.
    pub completed_at: Option<DateTime<Utc>>,
    /// What this invocation emitted, in emit order.
    pub children: Vec<EventId>,
}
