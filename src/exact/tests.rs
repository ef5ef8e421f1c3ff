//! What comes back is what was written, and what is refused says where.

use super::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

fn bytes_of<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    append(&mut bytes, value, usize::MAX).map(|()| bytes)
}

/// Asserts that a value comes back; compared by its `Debug`, since NaN is not equal to itself.
#[track_caller]
fn same<T: Serialize + DeserializeOwned + Debug>(value: T) {
    let bytes = bytes_of(&value).unwrap_or_else(|error| panic!("{value:?} cannot be written: {error}"));
    let back: T = from_whole(&bytes).unwrap_or_else(|error| panic!("{value:?} cannot be read: {error}; {bytes:?}"));
    assert_eq!(format!("{back:?}"), format!("{value:?}"));
    for cut in 0..bytes.len() {
        assert!(from_whole::<T>(&bytes[..cut]).is_err(), "{value:?} is also its first {cut} bytes");
    }
}

#[test]
fn what_looks_like_nothing_comes_back_as_it_was() {
    same(None::<u8>);
    same(Some(None::<u8>));
    same(Some(Some(None::<u8>)));
    same(Some(()));
    same([None, Some(None), Some(Some(()))]);
    same(());
    same(Unit);
    same(Some(Unit));
    same(Recursive(Some(Box::new(Recursive(Some(Box::new(Recursive(None))))))));
    same(serde_json::Value::Null);
    same(Some(serde_json::Value::Null));
    same(Ok::<(), String>(()));
}

#[test]
fn numbers_come_back_as_they_were() {
    for value in [i128::MIN, i64::MIN.into(), -129, -1, 0, 1, 127, 128, 255, 256, u64::MAX.into(), i128::MAX] {
        same(value);
    }
    same([u128::MAX, u128::from(u64::MAX) + 1]);
    same((u8::MAX, u16::MAX, u32::MAX, u64::MAX, i8::MIN, i16::MIN, i32::MIN, i64::MIN));
    same([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.1, f64::MIN_POSITIVE / 2.0]);
    same([f32::NAN, f32::NEG_INFINITY, 0.1, f32::MIN_POSITIVE]);
    let odd = f64::from_bits(0x7ff8_0000_dead_beef);
    assert_eq!(bytes_of(&odd).and_then(|bytes| from_whole::<f64>(&bytes)).map(f64::to_bits), Ok(odd.to_bits()));
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Unit;
#[derive(Debug, Serialize, Deserialize)]
struct Recursive(Option<Box<Recursive>>);
#[derive(Debug, Serialize, Deserialize)]
struct Pair(char, String);
#[derive(Debug, Serialize, Deserialize)]
enum External {
    Bare,
    One(Option<Option<u8>>),
    Two(i8, Unit),
    Fields { x: Option<()>, y: f32 },
}
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Internal {
    Bare,
    Fields { change: Option<Option<u32>>, c: char },
    Inside(Inner),
}
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "what")]
enum Adjacent {
    Bare,
    Nothing(Option<()>),
    One(f64),
    Two(u8, External),
    Fields { x: External },
}
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Fields { x: Option<u32>, of: BTreeMap<char, i64> },
    Number(i64),
    Text(String),
    Change(Option<Option<u8>>),
}
#[derive(Debug, Serialize, Deserialize)]
struct Inner {
    a: u32,
    letters: BTreeMap<i32, char>,
}
#[derive(Debug, Serialize, Deserialize)]
struct Flat {
    z: u8,
    #[serde(flatten)]
    inner: Flattened,
    #[serde(flatten)]
    rest: HashMap<String, f64>,
}
#[derive(Debug, Serialize, Deserialize)]
struct Flattened {
    change: Option<Option<u32>>,
    e: External,
    d: Unit,
}
#[derive(Debug, Serialize, Deserialize)]
struct Skips {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    a: Option<u8>,
    #[serde(skip)]
    _b: u8,
    #[serde(rename = "event_id")]
    c: u8,
}

#[test]
fn every_kind_of_enum_comes_back_as_it_was() {
    same([External::Bare, External::One(None), External::One(Some(None)), External::One(Some(Some(7)))]);
    same([External::Two(-1, Unit), External::Fields { x: Some(()), y: f32::INFINITY }]);
    same([Internal::Bare, Internal::Fields { change: Some(None), c: 'ß' }]);
    same(Internal::Inside(Inner { a: 1, letters: BTreeMap::from([(-1, 'x')]) }));
    same([Adjacent::Bare, Adjacent::Nothing(None), Adjacent::Nothing(Some(())), Adjacent::One(f64::NAN)]);
    same([Adjacent::Two(1, External::One(Some(None))), Adjacent::Fields { x: External::Bare }]);
    same([Untagged::Fields { x: None, of: BTreeMap::from([('q', -3)]) }, Untagged::Number(i64::MIN)]);
    same([Untagged::Text("\0".to_owned()), Untagged::Change(Some(None)), Untagged::Change(None)]);
    same(BTreeMap::from([(Unit, Ok::<u8, External>(1)), (Unit, Err(External::Bare))]));
}

#[test]
fn every_kind_of_structure_and_map_comes_back_as_it_was() {
    for change in [None, Some(None), Some(Some(1))] {
        let inner = Flattened { change, e: External::Fields { x: None, y: 1.5 }, d: Unit };
        same(Flat { z: 1, inner, rest: HashMap::from([("r".to_owned(), f64::INFINITY)]) });
    }
    same(Skips { a: None, _b: 0, c: 3 });
    same(Pair('\u{1f600}', "\u{1b}[31m\u{202e}".to_owned()));
    same(BTreeMap::from([(vec![1_u8, 2], Some(None::<u8>)), (Vec::new(), None)]));
    same(BTreeMap::from([((true, 'c'), ()), ((false, 'd'), ())]));
    same(BTreeMap::from([(Some(-1), 1), (None, 2)]));
    same((1, "two", [3.0]).0);
    same(serde_json::json!({ "a": [1, -2, 3.5, null, { "b": "" }], "event_id": {} }));
    same(std::time::Duration::from_nanos(u64::MAX));
    same(["::1".parse::<std::net::IpAddr>().ok(), None]);
    same(uuid::Uuid::from_u128(7));
    #[derive(Serialize, Deserialize, Debug)]
    #[serde(tag = "t")]
    enum Tagged {
        Id { id: uuid::Uuid, at: Option<std::net::SocketAddr> },
    }
    same(Tagged::Id { id: uuid::Uuid::from_u128(8), at: "1.2.3.4:5".parse().ok() });
}

struct Unsized(usize);
impl Serialize for Unsized {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..self.0).filter(|n| n % 2 == 0))
    }
}

#[test]
fn a_list_need_not_know_its_length() {
    assert_eq!(bytes_of(&Unsized(5)).and_then(|bytes| from_whole(&bytes)), Ok(vec![0_u8, 2, 4]));
}

#[test]
fn bytes_take_at_most_twice_their_number() -> Result<(), Error> {
    let all: Vec<u8> = (0..=255).cycle().take(256_000).collect();
    assert!(bytes_of(&all)?.len() <= 2 * all.len());
    assert!(bytes_of(&vec![255_u8; 1_000])?.len() <= 2_002);
    Ok(())
}

#[test]
fn what_is_too_long_is_known_before_it_is_all_there() {
    let mut bytes = Vec::new();
    assert!(append(&mut bytes, &vec![255_u8; 1 << 20], 1_000).is_err_and(|error| error.is_too_long()));
    assert!(bytes.len() <= 1_001, "{}", bytes.len());
    bytes.clear();
    assert!(append(&mut bytes, &"x".repeat(1_000), 999).is_err_and(|error| error.is_too_long()));
    assert!(bytes.len() <= 10, "{}", bytes.len());
    bytes.clear();
    assert_eq!(append(&mut bytes, "123", 5), Ok(()));
    assert!(append(&mut Vec::new(), "123", 4).is_err());
}

#[derive(Serialize, Deserialize)]
struct Deep {
    inner: Option<Box<Deep>>,
}

fn deep(levels: usize) -> Deep {
    (0..levels).fold(Deep { inner: None }, |inner, _| Deep { inner: Some(Box::new(inner)) })
}

#[test]
fn nesting_has_one_limit_both_ways() -> Result<(), Error> {
    // A structure is a level, and so is the option in it.
    let bytes = bytes_of(&deep(MAX_DEPTH / 2 - 1))?;
    let back: Deep = from_whole(&bytes)?;
    let levels = std::iter::successors(back.inner.as_deref(), |deep| deep.inner.as_deref()).count();
    assert_eq!(levels, MAX_DEPTH / 2 - 1);
    let error = bytes_of(&deep(MAX_DEPTH)).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.starts_with("inner.inner.") && error.ends_with(": nested deeper than 4000 levels"), "{error}");
    assert!(error.len() < 300, "{error}");

    let mut hostile = vec![tag::LIST; 1_000_000];
    let read = |bytes: &[u8]| from_whole::<serde_json::Value>(bytes).err().map(|error| error.to_string());
    assert!(read(&hostile).is_some_and(|error| error.ends_with("nested deeper than 4000 levels")));
    hostile.fill(tag::SOME);
    assert!(read(&hostile).is_some_and(|error| error.ends_with("nested deeper than 4000 levels")));
    assert!(from_whole::<serde::de::IgnoredAny>(&hostile).is_err());
    Ok(())
}

#[derive(Debug, Serialize, Deserialize)]
struct Shapes {
    shapes: Vec<Shape>,
}
#[derive(Debug, Serialize, Deserialize)]
struct Shape {
    corners: BTreeMap<i8, Corner>,
}
#[derive(Debug, Serialize, Deserialize)]
enum Corner {
    At { x: u8 },
}

#[test]
fn what_does_not_fit_names_its_place() -> Result<(), Error> {
    let odd = serde_json::json!({ "shapes": [{ "corners": {} }, { "corners": { "-3": { "At": { "x": "seven" } } } }] });
    let text = bytes_of(&odd)?;
    let error = from_whole::<Shapes>(&text).err().map(|error| error.to_string());
    // JSON has no integers as keys, so the key is what is wrong first.
    assert_eq!(
        error.as_deref(),
        Some("shapes[1].corners.a key: invalid type: string \"-3\", expected i8"),
        "{error:?}"
    );
    #[derive(Serialize)]
    struct Other {
        shapes: [BTreeMap<&'static str, BTreeMap<i8, OtherCorner>>; 1],
    }
    #[derive(Serialize)]
    enum OtherCorner {
        At { x: u16 },
    }
    let corners = BTreeMap::from([("corners", BTreeMap::from([(-3, OtherCorner::At { x: 700 })]))]);
    let error = from_whole::<Shapes>(&bytes_of(&Other { shapes: [corners] })?).err().map(|error| error.to_string());
    assert_eq!(
        error.as_deref(),
        Some("shapes[0].corners.-3.At.x: invalid value: integer `700`, expected u8"),
        "{error:?}"
    );
    Ok(())
}

struct Refuses;
impl Serialize for Refuses {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it is secret"))
    }
}

#[test]
fn what_cannot_be_written_names_its_place() {
    let value = BTreeMap::from([("a", vec![Some(Ok(1)), Some(Err(Refuses))])]);
    assert_eq!(bytes_of(&value).map_err(|error| error.to_string()), Err("a[1].Err: it is secret".to_owned()));
}

/// Whatever the bytes are, reading ends, in a value or an error, and takes no memory that the bytes do not pay for.
#[test]
fn garbage_is_an_error_or_a_value() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20_000 {
        let length = random() as usize % 40;
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                let byte = random() as u8;
                if byte.is_multiple_of(3) { byte } else { byte % 18 }
            })
            .collect();
        let _ = from_whole::<serde_json::Value>(&bytes);
        let _ = from_whole::<Vec<External>>(&bytes);
        let _ = from_whole::<Flat>(&bytes);
        let _ = from_whole::<Untagged>(&bytes);
    }
    let long = [&[tag::BYTES][..], &[0xff; 9], &[1]].concat();
    assert_eq!(from_whole::<serde_json::Value>(&long).map_err(|error| error.to_string()), Err(cut_short_text()));
}

fn cut_short_text() -> String {
    "the bytes end in the middle of it".to_owned()
}
