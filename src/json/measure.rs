//! How large and how deep parsed JSON is, before anything recurses into it.

use super::spelling::shortened;
use crate::event::{Json, JsonError, JsonLimits};
use std::io;

pub(crate) fn check(event: &Json, limits: &JsonLimits) -> Result<(), JsonError> {
    if nesting(event, limits)? <= limits.event_bytes {
        return Ok(());
    }
    let mut count = Count { left: limits.event_bytes };
    // Only a full counter fails: all names are UTF-8, which always can be written.
    serde_json::to_writer(&mut count, event).map_err(|_| JsonError::TooLarge { limit: limits.event_bytes })
}

/// The values of one object or array that have not been looked at.
enum Rest<'json> {
    Array(std::slice::Iter<'json, Json>),
    Object(serde_json::map::Iter<'json>),
}

/// Measures the depth with a list of its own, so that no depth can exhaust the stack, and gives up where an event would be too long. Returns an
/// upper bound of the length, which spares most events from being written to measure it.
fn nesting(event: &Json, limits: &JsonLimits) -> Result<usize, JsonError> {
    /// No value but text has more characters, with what separates it from others.
    const SCALAR: usize = 32;
    /// The most characters for one that is written as an escape.
    const ESCAPED: usize = 6;
    let too_large = JsonError::TooLarge { limit: limits.event_bytes };
    // A lower bound: two brackets or one character for each value, and what separates them.
    let mut length = 0_usize;
    let mut at_most = 0_usize;
    let mut field = None;
    let mut open: Vec<Rest<'_>> = Vec::new();
    let mut next = Some(event);
    loop {
        match next {
            Some(Json::Array(items)) => open.push(Rest::Array(items.iter())),
            Some(Json::Object(fields)) => open.push(Rest::Object(fields.iter())),
            Some(Json::String(text)) => {
                length = length.saturating_add(text.len());
                at_most = at_most.saturating_add(text.len().saturating_mul(ESCAPED));
            }
            // Possible only if the program has serde_json keep numbers as text.
            Some(Json::Number(number)) if !(number.is_i64() || number.is_u64() || number.is_f64()) => {
                let reason = "an integer beyond 64 bits".to_owned();
                return Err(JsonError::InvalidField { field: field.map_or_else(String::new, shortened), reason });
            }
            _ => {}
        }
        length = length.saturating_add(1);
        at_most = at_most.saturating_add(SCALAR);
        if length > limits.event_bytes {
            return Err(too_large);
        }
        if open.len() > limits.depth {
            return Err(JsonError::TooDeep { limit: limits.depth });
        }
        let depth = open.len();
        next = match open.last_mut() {
            None => return Ok(at_most),
            Some(Rest::Array(items)) => items.next(),
            Some(Rest::Object(fields)) => fields.next().map(|(name, value)| {
                if depth == 1 {
                    field = Some(&**name);
                }
                length = length.saturating_add(name.len());
                at_most = at_most.saturating_add(name.len().saturating_mul(ESCAPED));
                value
            }),
        };
        if next.is_none() {
            open.pop();
        }
    }
}

struct Count {
    left: usize,
}

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.left.checked_sub(bytes.len()) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other("too large")),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(event: &Json) -> String {
        let limits = JsonLimits::new().event_bytes(40).depth(3);
        check(event, &limits).map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn depth_counts_the_event() {
        assert_eq!(verdict(&json!({ "a": { "b": [1, 2] }, "c": [[], {}] })), "fine");
        assert_eq!(verdict(&json!({ "a": { "b": [[]] } })), "an event is nested deeper than 3 levels");
        assert_eq!(verdict(&json!([[[{}]]])), "an event is nested deeper than 3 levels");
        assert_eq!(verdict(&json!(1)), "fine");
    }

    #[test]
    fn length_is_that_of_the_shortest_text() {
        assert_eq!(json!({ "a": "x".repeat(32) }).to_string().len(), 40);
        assert_eq!(verdict(&json!({ "a": "x".repeat(32) })), "fine");
        assert_eq!(verdict(&json!({ "a": "x".repeat(33) })), "an event has more than 40 bytes");
        assert_eq!(verdict(&json!({ "a": "\n".repeat(17) })), "an event has more than 40 bytes");
        assert_eq!(verdict(&json!(vec![1; 20])), "an event has more than 40 bytes");
        assert_eq!(verdict(&json!(vec![(); 100])), "an event has more than 40 bytes");
    }

    #[test]
    fn a_tower_of_a_million_levels_is_refused_and_survived() {
        let mut tower = Json::Null;
        for _ in 0..1_000_000 {
            tower = Json::Array(vec![tower]);
        }
        assert_eq!(
            check(&tower, &JsonLimits::new()).map_err(|e| e.to_string()),
            Err("an event is nested deeper than 120 levels".to_owned())
        );
        // Taken apart level by level: dropping the whole would recurse.
        while let Json::Array(mut items) = tower {
            tower = items.pop().unwrap_or_default();
        }
    }
}
