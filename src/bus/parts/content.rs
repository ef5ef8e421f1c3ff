//! Whether two events of one id say the same.

use crate::event::{AnyEvent, Fields, Json};

/// The first thing in which they differ: `event_type`, or a field of the payload. `None` also where that cannot be told: a payload has no
/// codec, or one was rewritten for another version.
pub(crate) fn difference(one: &AnyEvent, other: &AnyEvent) -> Option<String> {
    if one.event_type() != other.event_type() {
        return Some("event_type".to_owned());
    }
    if one.version() != other.version() {
        return None;
    }
    match (one.payload_json().ok()?, other.payload_json().ok()?) {
        (Json::Object(one), Json::Object(other)) => different_field(&one, &other).cloned(),
        (one, other) => (!are_same(&one, &other)).then(|| "payload".to_owned()),
    }
}

fn different_field<'a>(one: &'a Fields, other: &'a Fields) -> Option<&'a String> {
    let differs = |field: &&String| !are_same(one.get(*field).unwrap_or(&Json::Null), &other[*field]);
    let missing = |field: &&String| !one[*field].is_null() && !other.contains_key(*field);
    other.keys().find(differs).or_else(|| one.keys().find(missing))
}

/// Whoever passes an event on may write null for what is absent, and 2 for 2.0.
fn are_same(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Object(one), Json::Object(other)) => different_field(one, other).is_none(),
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| are_same(one, other))
        }
        (Json::Number(a), Json::Number(b)) => a == b || (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64(),
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_write_otherwise_is_the_same() {
        let same = [
            (json!({ "a": 2, "b": [1.0, { "c": null }] }), json!({ "b": [1, {}], "a": 2.0, "d": null })),
            (json!(u64::MAX), json!(u64::MAX)),
            (json!({}), json!({ "a": null })),
            (json!("é"), json!("\u{e9}")),
        ];
        for (one, other) in same {
            assert!(are_same(&one, &other) && are_same(&other, &one), "{one} {other}");
        }
    }

    #[test]
    fn what_differs_is_named() {
        let different = [
            (json!({ "a": 2, "b": [1] }), json!({ "a": 2, "b": [1, null] }), "b"),
            (json!({ "a": { "x": [0, 1] } }), json!({ "a": { "x": [0, 2] } }), "a"),
            (json!({ "a": false }), json!({}), "a"),
            (json!({ "a": 0, "b": 1 }), json!({ "a": -1, "b": 1 }), "a"),
            (json!({ "a": u64::MAX }), json!({ "a": u64::MAX - 1 }), "a"),
            (json!({ "a": "1" }), json!({ "a": 1 }), "a"),
            (json!({ "a": 1.5 }), json!({ "a": 1 }), "a"),
        ];
        for (one, other, field) in different {
            let (Json::Object(one), Json::Object(other)) = (one, other) else { unreachable!("both are objects") };
            assert_eq!(different_field(&one, &other).map(String::as_str), Some(field));
            assert_eq!(different_field(&other, &one).map(String::as_str), Some(field));
        }
    }
}
