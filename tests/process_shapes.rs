//! Payloads of all shapes: in a worker, and by JSON, a handler sees what it sees here, and so does who gets its answer; or it is refused by name, for good.
//!
//! `cargo test --features process --test process_shapes -- --nocapture` prints the table. `THREADBUS_SEEDS`: how many random ones (300).
#![cfg(target_os = "linux")]

mod common;
#[path = "common/random.rs"]
mod random;
mod workers;

use common::done;
use random::Random;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use threadbus::process::{self, ProcessPool};
use threadbus::{Event, EventBus, HandlerFailure, HandlerOptions, Payload, Retry, event};
use workers::{Do, act, failure};

#[test]
fn worker_main() {
    process::serve(|worker| {
        worker
            .on(look::<Parcel>)
            .on(look::<Bare>)
            .on(look::<Metres>)
            .on(look::<Nested>)
            .on(look::<Odd>)
            .on(look::<Blob>);
        worker.on(|of: &Event<one::Job>| of.n + 1).on(|of: &Event<other::Job>| of.n * 100);
        worker
            .on(|of: &Event<Returns>| OddAnswer { refuses: of.refuses })
            .on(|_: &Event<Do>| std::process::id().to_string());
    });
}

/// What a handler sees, and the payload back.
type Answer<P> = (String, P);

fn look<P: Payload<Output = Answer<P>> + Clone + Debug>(event: &Event<P>) -> Answer<P> {
    (format!("{:?}", event.payload()), event.payload().clone())
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Parcel {
    shape: Shape,
}
event!(Parcel => Answer<Parcel>);
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bare;
event!(Bare => Answer<Bare>);
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Metres(f64);
event!(Metres => Answer<Metres>);
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Nested(Option<Box<Nested>>);
event!(Nested => Answer<Nested>);
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Blob {
    bytes: Vec<u8>,
}
event!(Blob => Answer<Blob>);

/// All of serde's data model.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Shape {
    Unit,
    Units(Bare, ()),
    Bool(bool),
    Small(u8, i8, u16, i16),
    Large(u32, i32, u64, i64),
    Huge(u128, i128),
    Floats(f32, f64),
    Char(char),
    Text(String),
    Bytes(#[serde(with = "as_bytes")] Vec<u8>),
    List(Vec<Shape>),
    Pair(Box<(Shape, Shape)>),
    Maybe(Option<Box<Shape>>),
    Change(Option<Option<u8>>),
    Done(Option<()>),
    Newtype(Inner),
    ByNumber(BTreeMap<i32, Shape>),
    ByText(BTreeMap<String, Shape>),
    ByLetter(BTreeMap<char, u8>),
    ByBytes(BTreeMap<Vec<u8>, Option<()>>),
    ByVariant(BTreeMap<Key, bool>),
    Fields { event_id: Box<Shape>, r#type: Option<f64>, model_x: () },
    Skips(Skips),
    Flat(Flat),
    Internal(Internal),
    Adjacent(Adjacent),
    Untagged(Untagged),
    Wide(Wide),
    Outcome(Result<Box<Shape>, String>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Inner(Option<Box<Shape>>);
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Key {
    Bare,
    Of(Option<u8>),
    Named { x: bool },
}
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Skips {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    a: Option<u8>,
    #[serde(skip)]
    _b: (),
    #[serde(rename = "")]
    c: String,
}
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Flat {
    z: u8,
    #[serde(flatten)]
    inner: Flattened,
    #[serde(flatten)]
    rest: BTreeMap<String, f64>,
}
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Flattened {
    change: Option<Option<u32>>,
    shape: Box<Shape>,
}
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Internal {
    Bare,
    Of { change: Option<Option<u32>>, c: char, f: f32 },
    Inside(Skips),
}
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "what")]
enum Adjacent {
    Bare,
    Maybe(Option<()>),
    Two(Bare, Box<Shape>),
    Of { x: Option<Option<u8>> },
}
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Fields { x: Option<u32>, letters: BTreeMap<char, i64> },
    Number(u64),
    Float(f64),
    Text(String),
    Bytes(#[serde(with = "as_bytes")] Vec<u8>),
}
/// Serde does not buffer 128 bits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Wide {
    Of { wide: i128 },
}

mod as_bytes {
    use serde::de::{Deserializer, SeqAccess, Visitor};
    use serde::ser::Serializer;
    use std::fmt;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

fn char(random: &mut Random) -> char {
    let odd =
        ['\0', '\t', '\u{1b}', '\u{7f}', '\u{85}', '\u{202e}', '\u{2028}', '"', '\\', 'ß', '世', '😀', '\u{10ffff}'];
    if random.one_in(2) { odd[random.below(odd.len() as u64) as usize] } else { char::from(random.below(128) as u8) }
}

fn text(random: &mut Random) -> String {
    (0..random.below(5)).map(|_| char(random)).collect()
}

fn option<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    if random.one_in(2) { Some(make(random)) } else { None }
}

fn float(random: &mut Random) -> f64 {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.1, 1e300, f64::MIN_POSITIVE / 4.0, 3.0];
    if random.one_in(4) { f64::from_bits(random.next()) } else { odd[random.below(8) as usize] }
}

fn bytes(random: &mut Random) -> Vec<u8> {
    (0..random.below(6)).map(|_| random.next() as u8).collect()
}

fn change(random: &mut Random) -> Option<Option<u32>> {
    option(random, |random| option(random, |random| random.next() as u32))
}

fn skips(random: &mut Random) -> Skips {
    Skips { a: option(random, |random| random.next() as u8), _b: (), c: text(random) }
}

const KINDS: u64 = 29;

/// A value of a kind.
fn shape(kind: u64, random: &mut Random, depth: u32) -> Shape {
    let any = |random: &mut Random| {
        let kind = if depth == 0 { random.below(10) } else { random.below(KINDS - 2) };
        shape(kind, random, depth.saturating_sub(1))
    };
    let boxed = |random: &mut Random| Box::new(any(random));
    let some = |random: &mut Random| 0..random.below(3);
    match kind {
        0 => Shape::Unit,
        1 => Shape::Units(Bare, ()),
        2 => Shape::Bool(random.one_in(2)),
        3 => Shape::Small(random.next() as u8, random.next() as i8, random.next() as u16, random.next() as i16),
        4 => Shape::Large(random.next() as u32, random.next() as i32, random.next(), random.next() as i64),
        5 => Shape::Floats(float(random) as f32, float(random)),
        6 => Shape::Char(char(random)),
        7 => Shape::Text(text(random)),
        8 => Shape::Bytes(bytes(random)),
        9 => Shape::Change(option(random, |random| option(random, |random| random.next() as u8))),
        10 => Shape::List(some(random).map(|_| any(random)).collect()),
        11 => Shape::Pair(Box::new((any(random), any(random)))),
        12 => Shape::Maybe(option(random, boxed)),
        13 => Shape::Done(option(random, |_| ())),
        14 => Shape::Newtype(Inner(option(random, boxed))),
        15 => Shape::ByNumber(some(random).map(|_| (random.next() as i32, any(random))).collect()),
        16 => Shape::ByText(some(random).map(|_| (text(random), any(random))).collect()),
        17 => Shape::ByLetter(some(random).map(|_| (char(random), random.next() as u8)).collect()),
        18 => Shape::ByBytes(some(random).map(|_| (bytes(random), option(random, |_| ()))).collect()),
        19 => {
            let key = |random: &mut Random| match random.below(3) {
                0 => Key::Bare,
                1 => Key::Of(option(random, |random| random.next() as u8)),
                _ => Key::Named { x: random.one_in(2) },
            };
            Shape::ByVariant(some(random).map(|_| (key(random), random.one_in(2))).collect())
        }
        20 => Shape::Fields { event_id: boxed(random), r#type: option(random, float), model_x: () },
        21 => Shape::Skips(skips(random)),
        22 => {
            // Buffered, so without integers of 128 bits.
            let inner = Flattened { change: change(random), shape: Box::new(shape(random.below(10), random, 0)) };
            let rest = some(random).map(|at| (format!("r{at}"), float(random))).collect();
            Shape::Flat(Flat { z: random.next() as u8, inner, rest })
        }
        23 => Shape::Internal(match random.below(3) {
            0 => Internal::Bare,
            1 => Internal::Of { change: change(random), c: char(random), f: float(random) as f32 },
            _ => Internal::Inside(skips(random)),
        }),
        24 => Shape::Adjacent(match random.below(4) {
            0 => Adjacent::Bare,
            1 => Adjacent::Maybe(option(random, |_| ())),
            2 => Adjacent::Two(Bare, boxed(random)),
            _ => Adjacent::Of { x: option(random, |random| option(random, |random| random.next() as u8)) },
        }),
        25 => Shape::Untagged(match random.below(5) {
            0 => Untagged::Fields {
                x: option(random, |random| random.next() as u32),
                letters: some(random).map(|_| (char(random), random.next() as i64)).collect(),
            },
            1 => Untagged::Number(random.next()),
            2 => Untagged::Float(float(random)),
            3 => Untagged::Text(text(random)),
            _ => Untagged::Bytes(bytes(random)),
        }),
        26 => Shape::Outcome(if random.one_in(2) { Ok(boxed(random)) } else { Err(text(random)) }),
        27 => Shape::Huge(u128::from(random.next()) << 64 | 7, i128::from(random.next()) << 40 | i128::MIN),
        28 => Shape::Wide(Wide::Of { wide: i128::from(random.next()) << 40 }),
        other => unreachable!("{other}"),
    }
}

fn name(kind: u64) -> String {
    let text = format!("{:?}", shape(kind, &mut Random::new(kind), 0));
    text.split(['(', ' ']).next().unwrap_or_default().to_owned()
}

/// Buses that know parcels: one handles them here, one in a worker; with the worker's pool.
fn here_and_there() -> (EventBus, EventBus, ProcessPool) {
    let (here, there) = (EventBus::new("here"), EventBus::new("there"));
    let pool = workers::pool().max_processes(1).build().expect("it can be built");
    here.on(look::<Parcel>);
    there.on_process_with::<Parcel>(HandlerOptions::new().retry(Retry::attempts(3)), &pool);
    there.on_process::<Do>(&pool);
    (here, there, pool)
}

/// To another bus and back, as JSON.
fn by_json(here: &EventBus, elsewhere: &EventBus, parcel: Parcel) -> Result<Answer<Parcel>, String> {
    let json = here.emit(parcel).to_json().map_err(|error| error.to_string())?;
    let event = elsewhere.emit_json(&json).map_err(|error| error.to_string())?;
    event.downcast::<Parcel>().ok_or("typed")?.result().map_err(|error| error.to_string())
}

/// `same`, or by which name it is refused; anything else fails.
fn verdict(of: &str, parcel: &Parcel, answer: Result<Answer<Parcel>, String>) -> String {
    let own = format!("{parcel:?}");
    match answer {
        Ok((seen, back)) => {
            assert_eq!(seen, own, "a handler sees something else: {of}");
            assert_eq!(format!("{back:?}"), own, "something else comes back: {of}");
            "same".to_owned()
        }
        Err(text) => {
            assert!(text.contains("shape"), "{own} is refused without its place: {text}; {of}");
            "refused by name".to_owned()
        }
    }
}

const COLUMNS: [&str; 3] = ["in process", "worker", "JSON"];

#[test]
fn payloads_of_all_shapes() {
    let (here, there, pool) = here_and_there();
    let elsewhere = EventBus::new("elsewhere");
    elsewhere.on(look::<Parcel>);
    let mut table = BTreeMap::<(u64, &str), BTreeSet<String>>::new();
    let seeds = std::env::var("THREADBUS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(300);
    for seed in 0..seeds {
        let kind = seed % KINDS;
        let mut random = Random::new(seed);
        let parcel = Parcel { shape: shape(kind, &mut random, 3) };
        let columns = COLUMNS.map(|column| {
            (
                column,
                match column {
                    "in process" => here.emit(parcel.clone()).result().map_err(|error| error.to_string()),
                    "worker" => there.emit(parcel.clone()).result().map_err(|error| error.to_string()),
                    _ => by_json(&here, &elsewhere, parcel.clone()),
                },
            )
        });
        for (column, answer) in columns {
            let verdict = verdict(&format!("seed {seed}, {column}"), &parcel, answer);
            table.entry((kind, column)).or_default().insert(verdict);
        }
    }
    let [first, second, third] = COLUMNS;
    println!("{:12} {first:10} {second:15} {third}", "");
    for kind in 0..KINDS {
        let [here, there, json] = COLUMNS.map(|column| {
            let verdicts = table.get(&(kind, column)).cloned().unwrap_or_default();
            verdicts.into_iter().collect::<Vec<_>>().join(", ")
        });
        println!("{:12} {here:10} {there:15} {json}", name(kind));
        assert_eq!(here, "same");
        // Of all kinds, serde cannot read one again.
        assert_eq!(there, if name(kind) == "Wide" { "refused by name" } else { "same" }, "{}", name(kind));
    }
    assert_eq!(pool.stats().started, 1, "no worker was harmed");
}

#[test]
fn a_payload_need_not_be_an_object() {
    let (_, there, pool) = here_and_there();
    there.on_process::<Bare>(&pool);
    there.on_process::<Metres>(&pool);
    assert_eq!(there.emit(Bare).result().expect("a value").0, "Bare");
    assert_eq!(there.emit(Metres(f64::INFINITY)).result().expect("a value").0, "Metres(inf)");
}

fn nested(levels: usize) -> Nested {
    (0..levels).fold(Nested(None), |inner, _| Nested(Some(Box::new(inner))))
}

/// Dropped level by level.
fn unnest(mut nested: Nested) -> usize {
    let mut levels = 0;
    while let Some(inner) = nested.0.take() {
        nested = *inner;
        levels += 1;
    }
    levels
}

#[test]
fn nesting_has_one_limit_and_no_worker_is_harmed() {
    let (_, there, pool) = here_and_there();
    let retried = HandlerOptions::new().retry(Retry::attempts(3));
    let depth = |event: &Event<Nested>| event.result().map(|(_, back)| unnest(back));
    there.on_process_with::<Nested>(retried, &pool);
    let pid = there.emit(act("pid")).result().expect("a value");
    for levels in [0, 1, 127, 128, 3_000, 3_999] {
        assert_eq!(depth(&there.emit(nested(levels))).expect("a value"), levels);
    }
    let event = done(&there.emit(nested(5_000)));
    let why = failure(&event).to_string();
    assert_eq!(why, "worker process failed: Nested cannot be sent to a worker: nested deeper than 4000 levels",);
    assert_eq!(event.results()[0].attempts, 1, "it is not tried again");
    assert_eq!(there.emit(act("pid")).result().expect("a value"), pid);
    assert_eq!(pool.stats().started, 1);
}

mod one {
    use super::*;
    #[derive(Serialize, Deserialize)]
    pub(crate) struct Job {
        pub(crate) n: u32,
    }
    event!(Job => u32);
}
mod other {
    use super::*;
    #[derive(Serialize, Deserialize)]
    pub(crate) struct Job {
        pub(crate) n: u32,
    }
    event!(Job => u32);
}

#[test]
fn of_two_types_of_one_name_none_gets_the_others_handler() {
    let (_, there, pool) = here_and_there();
    let of_one = there.on_process::<one::Job>(&pool);
    let retried = HandlerOptions::new().retry(Retry::attempts(3));
    let of_other = there.on_process_with::<other::Job>(retried, &pool);
    assert_eq!(there.emit(one::Job { n: 5 }).result().expect("a value"), 6);
    let event = done(&there.emit(other::Job { n: 5 }));
    let why = failure(&event).to_string();
    assert!(why.contains("two event types of this pool are called Job: "), "{why}");
    assert!(why.contains("one::Job and ") && why.contains("other::Job"), "{why}");
    assert_eq!(event.results()[0].attempts, 1);
    // When the first is gone, the other has the name.
    there.off(&of_one);
    there.off(&of_other);
    there.on_process::<other::Job>(&pool);
    assert_eq!(there.emit(other::Job { n: 5 }).result().expect("a value"), 500);
}

/// Its handler over there, if its payload can be read, answers what cannot be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Returns {
    refuses: bool,
}
event!(Returns => OddAnswer);

#[derive(Clone, Debug)]
struct OddAnswer {
    refuses: bool,
}

impl Serialize for OddAnswer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.refuses {
            Err(serde::ser::Error::custom("it is secret"))
        } else {
            serializer.serialize_str("no number")
        }
    }
}

impl<'de> Deserialize<'de> for OddAnswer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(|_| OddAnswer { refuses: false })
    }
}

static ODD: AtomicU32 = AtomicU32::new(0);

/// Cannot be written, or cannot be read again.
#[derive(Clone, Debug)]
enum Odd {
    Unwritten,
    Unread,
    Panics,
}
event!(Odd => Answer<Odd>);

impl Serialize for Odd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ODD.fetch_add(1, Ordering::SeqCst);
        match self {
            Odd::Unwritten => serializer.collect_seq([Some(Err(())), None::<Result<(), ()>>].map(|_| Refuses)),
            Odd::Unread => serializer.collect_map([("odd", 7)]),
            Odd::Panics => panic!("halfway"),
        }
    }
}

struct Refuses;
impl Serialize for Refuses {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it is secret"))
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::<String, String>::deserialize(deserializer).map(|_| Odd::Unread)
    }
}

#[test]
fn what_one_request_or_answer_cannot_be_fails_for_good_and_says_where() {
    let (_, there, pool) = here_and_there();
    let retried = || HandlerOptions::new().retry(Retry::attempts(3));
    there.on_process_with::<Odd>(retried(), &pool);
    there.on_process_with::<Returns>(retried(), &pool);
    let pid = there.emit(act("pid")).result().expect("a value");
    let why = |event: &Event<Odd>| {
        let event = done(event);
        let result = &event.results()[0];
        assert_eq!(result.attempts, 1, "it is tried again");
        assert!(matches!(result.error.as_deref(), Some(HandlerFailure::Worker(_))), "{:?}", result.error);
        failure(&event).to_string().replace("worker process failed: ", "")
    };
    assert_eq!(why(&there.emit(Odd::Unwritten)), "Odd cannot be sent to a worker: [0]: it is secret");
    assert_eq!(why(&there.emit(Odd::Panics)), "Odd cannot be sent to a worker: it panicked: halfway");
    assert_eq!(
        why(&there.emit(Odd::Unread)),
        "the worker cannot read Odd: odd: invalid type: integer `7`, expected a string"
    );
    let why = |event: &Event<Returns>| {
        let event = done(event);
        assert_eq!(event.results()[0].attempts, 1, "it is tried again");
        failure(&event).to_string().replace("worker process failed: ", "")
    };
    assert_eq!(why(&there.emit(Returns { refuses: true })), "the output of Returns cannot be sent: it is secret");
    assert_eq!(
        why(&there.emit(Returns { refuses: false })),
        "the output of Returns does not fit: invalid type: string \"no number\", expected u32"
    );
    assert_eq!(there.emit(act("pid")).result().expect("a value"), pid);
    assert_eq!(pool.stats().started, 1);
}

#[test]
fn bytes_travel_as_at_most_twice_their_number() {
    let bus = EventBus::new("there");
    let pool = workers::pool().max_processes(1).max_frame((12 << 20) + 1_000).build().expect("it can be built");
    bus.on_process::<Blob>(&pool);
    let bytes: Vec<u8> = (0..6 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
    let event = bus.emit(Blob { bytes: bytes.clone() });
    // The answer has it twice, once as text, which is too much for it; so the request went through.
    let why = failure(&event).to_string();
    assert!(why.ends_with("the output of Blob is larger than the pool's max_frame, 12583912 bytes"), "{why}");
    assert!(bus.emit(Blob { bytes: bytes[..1 << 20].to_vec() }).result().expect("a value").1.bytes == bytes[..1 << 20]);
}
