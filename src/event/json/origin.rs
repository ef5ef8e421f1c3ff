//! What an event brings along that another process wrote.

use crate::event::{EventId, Fields, HandlerId, Json};
use chrono::{DateTime, Utc};

/// What such an event keeps, beside what its options say. Hangs on those, so that an event emitted here carries nothing of it.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) created_at: Option<DateTime<Utc>>,
    pub(crate) version: Option<String>,
    /// Whether or not that event is known here.
    pub(crate) parent: Option<EventId>,
    pub(crate) emitted_by: Option<HandlerId>,
    /// Labels of the buses it was on.
    pub(crate) path: Vec<String>,
    /// An object, as it was written: also what the payload's type does not know. None if it did not come as JSON.
    pub(crate) payload: Option<Json>,
    /// Fields of the event that come out again as they were: what they mean is not our business, or there is more than one way
    /// to write it.
    pub(crate) kept: Fields,
}
