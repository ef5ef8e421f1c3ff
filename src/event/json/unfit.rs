//! Where in a payload or an output something does not fit: field and index, for any format of serde's.
//!
//! What fits costs nothing more than reading or writing it: only after an error the same is done once more, and each step written down. So the format is asked for twice, and
//! so may be the user's code. Below `#[serde(flatten)]` and in untagged enums serde forgets the place; then it is that of the whole.

use crate::sys::one_line::on_one_line;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_path_to_error::{Path, Segment, Track};
use std::fmt;

/// Something of the user's that does not fit, and where.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// `.lines[1].count`; nothing if it is the whole.
    place: String,
    why: String,
}

impl Unfit {
    fn new(place: &Path, why: &impl fmt::Display) -> Unfit {
        let place: String = place.iter().map(step).collect();
        Unfit { place: shortened(&place, LONGEST_PLACE), why: shortened(&why.to_string(), LONGEST_REASON) }
    }

    /// Where no place can be told.
    pub(crate) fn whole(why: impl fmt::Display) -> Unfit {
        Unfit { place: String::new(), why: shortened(&why.to_string(), LONGEST_REASON) }
    }

    /// `Order.lines[1].count: invalid value: …`
    pub(crate) fn of(&self, what: impl fmt::Display) -> String {
        format!("{what}{}: {}", self.place, self.why)
    }
}

/// Reads a value of what `from` makes.
pub(crate) fn read<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: impl Fn() -> D) -> Result<T, Unfit> {
    T::deserialize(from())
        .or_else(|_| serde_path_to_error::deserialize(from()).map_err(|error| Unfit::new(error.path(), error.inner())))
}

/// Writes a value to what `to` makes.
pub(crate) fn write<T: Serialize, S: Serializer>(value: &T, to: impl Fn() -> S) -> Result<S::Ok, Unfit> {
    value.serialize(to()).or_else(|_| {
        let mut track = Track::new();
        let written = value.serialize(serde_path_to_error::Serializer::new(to(), &mut track));
        written.map_err(|error| Unfit::new(&track.path(), &error))
    })
}

fn step(segment: &Segment) -> String {
    match segment {
        Segment::Seq { index } => format!("[{index}]"),
        Segment::Map { key: name } | Segment::Enum { variant: name } => format!(".{}", shortened(name, LONGEST_NAME)),
        Segment::Unknown => ".?".to_owned(),
    }
}

const LONGEST_NAME: usize = 80;
const LONGEST_PLACE: usize = 400;
const LONGEST_REASON: usize = 1000;

/// Others choose how long a text is, and what is in it: it is put on one line, and its middle is left out.
fn shortened(text: &str, longest: usize) -> String {
    let text = on_one_line(text);
    let length = text.chars().count();
    if length <= longest {
        return text.into_owned();
    }
    let half = longest / 2;
    text.chars().take(half).chain(['…']).chain(text.chars().skip(length - half)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value as Json, json};
    use std::collections::BTreeMap;

    #[derive(Debug, Serialize, Deserialize)]
    enum Shape {
        Circle { radius: u8 },
        Lines(Vec<(u8, BTreeMap<String, u8>)>),
    }

    fn unfit(json: &Json) -> String {
        read::<BTreeMap<String, Shape>, _>(|| json).map_or_else(|unfit| unfit.of("T"), |_| "fits".to_owned())
    }

    #[test]
    fn places_have_fields_indices_and_variants() {
        assert_eq!(unfit(&json!({ "a": { "Circle": { "radius": 7 } } })), "fits");
        let wrong = json!({ "a": { "Circle": { "radius": -1 } } });
        assert_eq!(unfit(&wrong), "T.a.Circle.radius: invalid value: integer `-1`, expected u8");
        let wrong = json!({ "a": { "Lines": [[1, {}], [2, { "x": 1, "y": "no" }]] } });
        assert_eq!(unfit(&wrong), "T.a.Lines[1][1].y: invalid type: string \"no\", expected u8");
        assert_eq!(unfit(&json!({ "a": { "Circle": {} } })), "T.a.Circle: missing field `radius`");
        assert_eq!(unfit(&json!([])), "T: invalid type: sequence, expected a map");
    }

    #[test]
    fn what_cannot_be_written_is_named_too() {
        let keys = BTreeMap::from([("ok", vec![]), ("bad", vec![BTreeMap::from([(vec![1], 2)])])]);
        let error = write(&keys, || serde_json::value::Serializer).map_err(|unfit| unfit.of("T"));
        assert_eq!(error, Err("T.bad[0]: key must be a string".to_owned()));
    }

    #[test]
    fn others_do_not_choose_how_long_it_is() {
        let name = format!("a\n{}", "x".repeat(1 << 20));
        let deep = (0..100).fold(json!(true), |inner, _| json!({ &name: inner }));
        #[derive(Debug, Deserialize)]
        struct Deep(#[expect(dead_code, reason = "only read")] BTreeMap<String, Inner>);
        #[derive(Debug, Deserialize)]
        #[serde(transparent)]
        struct Inner(#[expect(dead_code, reason = "only read")] Box<Deep>);
        let text = read::<Deep, _>(|| &deep).map_or_else(|unfit| unfit.of("T"), |_| String::new());
        assert!(text.starts_with("T.a x") && text.len() < 3000 && !text.contains('\n'), "{text}");
        let text = read::<u8, _>(|| &deep).map_or_else(|unfit| unfit.of("T"), |_| String::new());
        assert!(text.len() < 3000, "{text}");
        let text = read::<u8, _>(|| Json::from(name.as_str())).map_or_else(|unfit| unfit.of("T"), |_| String::new());
        assert!(text.len() < 3000 && text.ends_with("expected u8"), "{text}");
    }
}
