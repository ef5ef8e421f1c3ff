//! A look over text before it is parsed: for what a parser would take, or lose without a word.
//!
//! It finds the nesting, the names of fields and the integers, in one pass and without recursion; everything else is left to the parser, which
//! comes next. On valid JSON it is exact. What it makes of other text does not matter, as long as it ends.

use super::spelling::shortened;
use crate::event::{JsonError, JsonLimits};
use std::borrow::Cow;
use std::collections::HashSet;

pub(crate) fn check(text: &[u8], limits: &JsonLimits) -> Result<(), JsonError> {
    if text.len() > limits.event_bytes {
        return Err(JsonError::TooLarge { limit: limits.event_bytes });
    }
    let mut scan = Scan { text, at: 0, depth: limits.depth, open: Vec::new(), field: None };
    while let Some(byte) = scan.next() {
        scan.take(byte)?;
    }
    Ok(())
}

struct Scan<'text> {
    text: &'text [u8],
    at: usize,
    depth: usize,
    open: Vec<Open<'text>>,
    /// The name of the event's field in which the scan is.
    field: Option<Name<'text>>,
}

/// A field's name without quotes and escapes.
type Name<'text> = Cow<'text, [u8]>;

enum Open<'text> {
    Array,
    Object { names: HashSet<Name<'text>>, name_is_next: bool },
}

impl<'text> Scan<'text> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> Result<(), JsonError> {
        match byte {
            b'{' => self.open(Open::Object { names: HashSet::new(), name_is_next: true })?,
            b'[' => self.open(Open::Array)?,
            b'}' | b']' => drop(self.open.pop()),
            b',' => {
                if let Some(Open::Object { name_is_next, .. }) = self.open.last_mut() {
                    *name_is_next = true;
                }
            }
            b'"' => self.string()?,
            b'-' | b'0'..=b'9' => self.number()?,
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, open: Open<'text>) -> Result<(), JsonError> {
        if self.open.len() >= self.depth {
            return Err(JsonError::TooDeep { limit: self.depth });
        }
        self.open.push(open);
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let mut escaped = false;
        let end = loop {
            match self.next() {
                Some(b'"') => break self.at - 1,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                }
                Some(_) => {}
                None => return Ok(()),
            }
        };
        let is_field = self.open.len() == 1;
        let Some(Open::Object { names, name_is_next: name_is_next @ true }) = self.open.last_mut() else {
            return Ok(());
        };
        *name_is_next = false;
        let name = match &self.text[start..end] {
            plain if !escaped => Cow::Borrowed(plain),
            _ => match serde_json::from_slice::<String>(&self.text[start - 1..=end]) {
                Ok(name) => Cow::Owned(name.into_bytes()),
                // The parser would refuse it for the same reason.
                Err(error) => return Err(error.into()),
            },
        };
        if is_field {
            self.field = Some(name.clone());
        }
        if names.insert(name.clone()) {
            return Ok(());
        }
        Err(JsonError::DuplicateField { field: shortened(&String::from_utf8_lossy(&name)) })
    }

    /// Refuses an integer beyond 64 bits, which the parser would round.
    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at - 1;
        let rest = &self.text[self.at..];
        self.at += rest.iter().take_while(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')).count();
        let token = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        let is_integer = token.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit());
        if !is_integer || token.len() < 19 || token.parse::<i64>().is_ok() || token.parse::<u64>().is_ok() {
            return Ok(());
        }
        let field = self.field.as_deref().map_or_else(String::new, |name| shortened(&String::from_utf8_lossy(name)));
        Err(JsonError::InvalidField { field, reason: "an integer beyond 64 bits".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> String {
        check(text.as_bytes(), &JsonLimits::new()).map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn names_may_repeat_in_other_objects_only() {
        assert_eq!(verdict(r#"{"a": {"a": [{"a": 1}, {"a": "a"}]}, "b": "a", "c": ["a", "a"]}"#), "fine");
        assert_eq!(verdict(r#"{"a": 1, "b": {"c": 1, "c": 2}}"#), "field c is there twice");
        assert_eq!(verdict(r#"{"a\"": 1, "b": 2, "\u0061\"": 3}"#), r#"field a" is there twice"#);
        assert_eq!(verdict(r#"{"a": "\\", "a": 2}"#), "field a is there twice");
        assert_eq!(verdict(r#"{"é": 1, "\u00e9": 2}"#), "field é is there twice");
    }

    #[test]
    fn integers_have_64_bits() {
        let extremes = format!(r#"{{"a": [{}, {}, -0, 1e400, 123456789012345678901.5, 1e-7]}}"#, u64::MAX, i64::MIN);
        assert_eq!(verdict(&extremes), "fine");
        assert_eq!(verdict(r#"{"a": [1, {"b": 18446744073709551616}]}"#), "field a: an integer beyond 64 bits");
        assert_eq!(verdict(r#"{"a": 1, "c": -9223372036854775809}"#), "field c: an integer beyond 64 bits");
        assert_eq!(verdict(r#"{"a": "18446744073709551616"}"#), "fine");
    }

    #[test]
    fn nesting_is_counted_outside_of_strings() {
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(verdict(&nested(120)), "fine");
        assert_eq!(verdict(&nested(121)), "an event is nested deeper than 120 levels");
        assert_eq!(verdict(&"[]".repeat(1000)), "fine");
        assert_eq!(verdict(&format!("\"{}\\\"{}\"", "[".repeat(200), "{".repeat(200))), "fine");
    }

    #[test]
    fn what_is_no_json_ends_too() {
        for text in ["", "\"", "\"\\", "{\"a", "-", "}]]}", "{\"\\x\": 1}", "{{{", ",,,", "{\"\\ud800\": 1}"] {
            verdict(text);
        }
    }
}
