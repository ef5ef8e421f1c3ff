//! What a handler returned, in a few words.

use crate::bus::callback;
use crate::event::{AnyOutput, Json};

/// With the arrow that leads to it. Nothing for a handler that returns nothing.
pub(crate) fn show(output: &AnyOutput) -> String {
    if output.downcast_ref::<()>().is_some() {
        return String::new();
    }
    format!(" → {}", plain(output).unwrap_or_else(|| by_codec(output)))
}

/// Common types need no codec.
fn plain(output: &AnyOutput) -> Option<String> {
    macro_rules! shown {
        ($($ty:ty),*) => { $(if let Some(value) = output.downcast_ref::<$ty>() { return Some(format!("{value:?}")); })* };
    }
    macro_rules! counted {
        ($($ty:ty),*) => { $(if let Some(list) = output.downcast_ref::<Vec<$ty>>() { return Some(items("list", list.len())); })* };
    }
    shown!(String, &'static str, bool, char, i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, f32, f64);
    counted!(String, &'static str, bool, i32, i64, isize, u8, u16, u32, u64, usize, f32, f64, Json);
    None
}

/// The user's code, which may be missing, fail or panic: then its type has to do.
fn by_codec(output: &AnyOutput) -> String {
    match callback(|| output.to_json()) {
        Ok(Ok(json)) => by_json(&json),
        _ => output.type_name().to_owned(),
    }
}

fn by_json(json: &Json) -> String {
    match json {
        Json::Null => "None".to_owned(),
        Json::Array(list) => items("list", list.len()),
        Json::Object(map) => items("map", map.len()),
        Json::String(text) => format!("{text:?}"),
        Json::Bool(_) | Json::Number(_) => json.to_string(),
    }
}

fn items(what: &str, count: usize) -> String {
    if count == 1 { format!("{what}(1 item)") } else { format!("{what}({count} items)") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_short() {
        #[derive(Clone)]
        struct Page;
        assert_eq!(show(&AnyOutput::new(())), "");
        assert_eq!(show(&AnyOutput::new(String::from("a\nb"))), " → \"a\\nb\"");
        assert_eq!(show(&AnyOutput::new(vec![1, 2, 3])), " → list(3 items)");
        assert_eq!(show(&AnyOutput::new(2.5)), " → 2.5");
        assert_eq!(show(&AnyOutput::new(Page)), " → Page");
        assert_eq!(show(&AnyOutput::json(json!({ "n": 1 }))), " → map(1 item)");
        assert_eq!(show(&AnyOutput::json(json!(null))), " → None");
    }
}
