//! Names that stay unique beyond one process: of events, of registrations and of buses.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Identity of one event.
///
/// A UUIDv7: within a process, ids increase strictly in the order in which events are emitted, so sorting by id is sorting
/// by emission. In JSON and in `Display` it is the usual hyphenated text.
///
/// ```
/// use threadbus::*;
///
/// let text = "018f8e40-1234-7000-8000-000000001234";
/// let id: EventId = serde_json::from_value(serde_json::json!(text))?;
/// assert_eq!(id.to_string(), text);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId(
    /// The id as a plain UUID.
    pub Uuid,
);

/// Identity of one registration of a handler on a bus.
///
/// Registering the same function twice gives two ids. It is what `off_id` takes and what results and JSON carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HandlerId(
    /// The id as a plain UUID.
    pub Uuid,
);

/// Identity of one bus.
///
/// Names of buses may repeat, ids may not: the guard against forwarding in circles goes by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BusId(
    /// The id as a plain UUID.
    pub Uuid,
);

macro_rules! display_and_last4 {
    ($($id:ident),*) => { $(
        /// Hyphenated lower-case hexadecimal.
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.0.as_hyphenated(), f)
            }
        }

        impl $id {
            /// The last four hexadecimal digits, the part after `#` in labels.
            pub(crate) fn last4(&self) -> String {
                let [.., high, low] = *self.0.as_bytes();
                format!("{high:02x}{low:02x}")
            }
        }
    )* };
}
display_and_last4!(EventId, HandlerId, BusId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_hyphenated_and_last4_is_its_end() {
        let id = BusId(Uuid::from_u128(0x018f8e40_1234_7000_8000_00000000000a));
        assert_eq!(id.to_string(), "018f8e40-1234-7000-8000-00000000000a");
        assert_eq!(id.last4(), "000a");
        assert_eq!(EventId(Uuid::max()).last4(), "ffff");
        assert_eq!(HandlerId(Uuid::nil()).last4(), "0000");
    }

    #[test]
    fn json_is_the_bare_text() {
        let id = EventId(Uuid::from_u128(7));
        let json = serde_json::to_value(id).unwrap_or_default();
        assert_eq!(json, serde_json::json!(id.to_string()));
        assert_eq!(serde_json::from_value::<EventId>(json).ok(), Some(id));
    }
}
