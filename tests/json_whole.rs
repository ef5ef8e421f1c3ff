//! Whole numbers that others write as floats are taken where a type wants integers, and nothing else is.

mod common;
#[path = "common/random.rs"]
mod random;

use common::{Log, done};
use random::Random;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use threadbus::{AnyOutput, Event, EventBus, Json, JsonError, Priority, event};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    x: i8,
    y: f64,
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point(u16),
    Pair(i32, f32),
    Named { size: u64 },
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Count(u32),
    Text(String),
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct All {
    n: u64,
    negative: i64,
    maybe: Option<u8>,
    list: Vec<usize>,
    pair: (i16, f64),
    by_name: BTreeMap<String, i32>,
    shapes: Vec<Shape>,
    either: Either,
    #[serde(flatten)]
    place: Place,
    float: f64,
    text: String,
}
event!(All => u32);
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Small {
    n: u8,
    any: Json,
}
event!(Small => i64);

fn written() -> Json {
    json!({
        "event_type": "All", "event_priority": 7.0, "n": 7.0, "negative": -3.0, "maybe": 4.0, "list": [1, 2.0, 3.0], "pair": [5.0, 6.0],
        "by_name": { "a": 1.0, "b": 2 }, "shapes": [{ "Point": 1.0 }, { "Pair": [2.0, 3.0] }, { "Named": { "size": 9.0 } }],
        "either": 8.0, "x": -1.0, "y": 2.0, "float": 1.0, "text": "7.0",
    })
}

fn meant() -> All {
    All {
        n: 7,
        negative: -3,
        maybe: Some(4),
        list: vec![1, 2, 3],
        pair: (5, 6.0),
        by_name: BTreeMap::from([("a".into(), 1), ("b".into(), 2)]),
        shapes: vec![Shape::Point(1), Shape::Pair(2, 3.0), Shape::Named { size: 9 }],
        either: Either::Count(8),
        place: Place { x: -1, y: 2.0 },
        float: 1.0,
        text: "7.0".into(),
    }
}

/// A bus that knows both types, and what its handlers saw.
fn bus() -> (EventBus, Log) {
    let (bus, seen) = (EventBus::new("Whole"), Log::new());
    let (all, small) = (seen.clone(), seen.clone());
    bus.on(move |event: &Event<All>| {
        all.push(format_args!("{:?}", **event));
        event.list.len() as u32
    });
    bus.on(move |event: &Event<Small>| {
        small.push(format_args!("{:?}", **event));
        i64::from(event.n)
    });
    (bus, seen)
}

#[test]
fn whole_floats_are_integers_wherever_a_type_wants_them() {
    let (bus, seen) = bus();
    for event in [bus.emit_json(&written()), bus.emit_json_str(&written().to_string())] {
        let event = done(&event.unwrap());
        assert_eq!(*event.payload::<All>().unwrap(), meant());
        assert_eq!(event.priority(), Priority::new(7).unwrap());
        // As it was written.
        let json = event.to_json().unwrap();
        assert_eq!((json["n"].to_string(), json["list"].to_string()), ("7.0".into(), "[1,2.0,3.0]".into()));
    }
    assert_eq!(seen.entries(), [format!("{:?}", meant()), format!("{:?}", meant())]);
}

/// A clock of a browser has milliseconds as a float.
#[test]
fn large_ones_too() {
    let (bus, _) = bus();
    let mut event = written();
    event["n"] = json!(1_535_164_942_454.0);
    event["list"] = json!([9_007_199_254_740_991.0]);
    let event = bus.emit_json(&event).unwrap();
    let all = event.payload::<All>().unwrap();
    assert_eq!((all.n, all.list.as_slice()), (1_535_164_942_454, [9_007_199_254_740_991].as_slice()));
}

#[test]
fn what_is_no_integer_of_the_type_is_refused() {
    let (bus, seen) = bus();
    let wrong = [
        json!(222.000_000_000_000_03),
        json!(7.5),
        json!(256.0),
        json!(-1.0),
        json!(1e300),
        json!(9_007_199_254_740_992.0),
        json!("7.0"),
        json!([7.0]),
    ];
    for n in wrong {
        let refused = bus.emit_json(&json!({ "event_type": "Small", "n": n, "any": 1.0 }));
        assert!(matches!(refused, Err(JsonError::Serde(_))), "{n}");
    }
    for priority in [json!(7.5), json!(11.0), json!(-1.0)] {
        let refused = bus.emit_json(&json!({ "event_type": "Small", "event_priority": priority, "n": 1, "any": 1 }));
        assert!(matches!(refused, Err(JsonError::InvalidField { field, .. }) if field == "event_priority"));
    }
    assert!(seen.is_empty() && bus.history_len() == 0);
}

#[test]
fn what_fits_as_it_is_written_is_not_touched() {
    let (bus, _) = bus();
    let event = bus.emit_json(&json!({ "event_type": "Small", "n": 1, "any": [1.0, -0.0, 1e300] })).unwrap();
    assert_eq!(event.payload::<Small>().unwrap().any.to_string(), "[1.0,-0.0,1e+300]");
    // Nothing knows this type.
    let event = bus.emit_json(&json!({ "event_type": "Unknown", "n": 7.0 })).unwrap();
    assert_eq!(event.payload_json().unwrap().to_string(), r#"{"n":7.0}"#);
}

#[test]
fn outputs_too() {
    let bus = EventBus::new("Outputs");
    let known = bus.subscribe::<Small>();
    for output in [json!(7.0), json!(-7.0), json!(7), json!(7.5)] {
        bus.on_named("Small", move |_| AnyOutput::json(output.clone()));
    }
    let event = done(&bus.emit_json(&json!({ "event_type": "Small", "n": 1, "any": null })).unwrap());
    let values: Vec<_> = event.downcast::<Small>().unwrap().results().into_iter().map(|result| result.value).collect();
    assert_eq!(values, [Some(7), Some(-7), Some(7), None]);
    drop(known);
}

/// By chance: any integers of a list, written either way, come in as those integers.
#[test]
fn integers_written_either_way_are_the_same() {
    let seeds = std::env::var("THREADBUS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(500);
    let (bus, _) = bus();
    for seed in 0..seeds {
        let mut random = Random::new(seed);
        let numbers: Vec<usize> =
            (0..random.below(9)).map(|_| (random.next() >> (11 + random.below(53))) as usize).collect();
        let texts: Vec<_> =
            numbers.iter().map(|n| if random.below(2) == 0 { n.to_string() } else { format!("{n}.0") }).collect();
        let mut event = written();
        event["list"] = Json::Null;
        let text = event.to_string().replace(r#""list":null"#, &format!(r#""list":[{}]"#, texts.join(",")));
        let event = bus.emit_json_str(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}: {text}"));
        assert_eq!(event.payload::<All>().unwrap().list, numbers, "seed {seed}: {text}");
    }
}
