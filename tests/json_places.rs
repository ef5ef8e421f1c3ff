//! What does not fit is named by type, field and index, on every way.

mod common;

use common::done;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use threadbus::{AnyOutput, Event, EventBus, Json, JsonError, event};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    item: String,
    count: u32,
}
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Delivery {
    Pickup,
    Post { street: String },
}
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    customer: String,
    lines: Vec<Line>,
    #[serde(default)]
    by_id: BTreeMap<u32, Option<Line>>,
    #[serde(default)]
    delivery: Option<Delivery>,
}
event!(Order => Vec<Line>);

fn order() -> Json {
    json!({ "event_type": "Order", "customer": "ann", "lines": [{ "item": "tea", "count": 1 }] })
}

fn with(field: &str, value: Json) -> Json {
    let mut order = order();
    order[field] = value;
    order
}

#[test]
fn a_payload_that_does_not_fit_is_refused_by_its_place() {
    let bus = EventBus::new("app");
    bus.on(|order: &Event<Order>| order.lines.clone());
    let tea = |count: Json| json!({ "item": "tea", "count": count });
    for (event, why) in [
        (with("customer", json!(7)), "Order.customer: invalid type: integer `7`, expected a string"),
        (
            with("lines", json!([tea(json!(1)), tea(json!(-1))])),
            "Order.lines[1].count: invalid value: integer `-1`, expected u32",
        ),
        (
            with("lines", json!([{ "item": null, "count": 1 }])),
            "Order.lines[0].item: invalid type: null, expected a string",
        ),
        (with("lines", json!([tea(json!(1)), { "item": "tea" }])), "Order.lines[1]: missing field `count`"),
        (with("lines", Json::Null), "Order.lines: invalid type: null, expected a sequence"),
        (
            with("by_id", json!({ "7": tea(json!("x")) })),
            "Order.by_id.7.count: invalid type: string \"x\", expected u32",
        ),
        (with("delivery", json!({ "Post": {} })), "Order.delivery.Post: missing field `street`"),
        (with("delivery", json!("Pigeon")), "Order.delivery: unknown variant `Pigeon`, expected `Pickup` or `Post`"),
    ] {
        for error in [bus.emit_json(&event), bus.emit_json_str(&event.to_string())] {
            let error = error.map(drop).unwrap_err();
            assert!(error.to_string().starts_with(why.split("expected").next().unwrap()), "{error}, not {why}");
            assert!(matches!(error, JsonError::Serde(_)));
        }
    }
    assert_eq!(bus.history_len(), 0);
    let fits = done(&bus.emit_json(&order()).unwrap());
    assert_eq!(fits.to_json().unwrap()["event_results"][0]["result"], order()["lines"]);
}

#[test]
fn an_output_that_does_not_fit_is_named_where_it_is_returned() {
    let bus = EventBus::new("app");
    bus.on_named("Order", |_| {
        AnyOutput::json(json!([{ "item": "tea", "count": 1 }, { "item": "tea", "count": "two" }]))
    });
    let order =
        Order { customer: "ann".into(), lines: vec![], by_id: BTreeMap::new(), delivery: Some(Delivery::Pickup) };
    let event = done(&bus.emit(order));
    let error = event.errors()[0].to_string();
    assert!(error.contains("output of Order[1].count: invalid type: string \"two\", expected u32"), "{error}");
}

/// Half of it cannot be JSON.
#[derive(Clone, Serialize, Deserialize)]
struct Matrix {
    rows: Vec<Cells>,
}
event!(Matrix => Vec<Cells>);
#[derive(Clone, Serialize, Deserialize)]
struct Cells {
    by_place: Vec<(u8, ByPlace)>,
}
type ByPlace = BTreeMap<(u8, u8), u8>;

fn matrix() -> Matrix {
    let (fine, odd) = (BTreeMap::new(), BTreeMap::from([((1, 2), 3)]));
    Matrix { rows: vec![Cells { by_place: vec![(1, fine.clone())] }, Cells { by_place: vec![(1, fine), (2, odd)] }] }
}

#[test]
fn what_cannot_be_written_is_named_by_its_place() {
    let bus = EventBus::new("app");
    bus.on(|matrix: &Event<Matrix>| matrix.rows.clone());
    let event = done(&bus.emit(matrix()));
    let why = "Matrix.rows[1].by_place[1][1]: key must be a string";
    assert_eq!(event.to_json().unwrap_err().to_string(), why);
    assert_eq!(event.as_ref().payload_json().unwrap_err().to_string(), why);
    let shown = &bus.to_json().unwrap()["event_history"][event.id().to_string()];
    assert_eq!(shown["json_error"], why);
    let result = &shown["event_results"][0]["json_error"];
    assert_eq!(result, "output of Matrix[1].by_place[1][1]: key must be a string");
}

#[test]
fn only_what_fails_is_read_or_written_twice() {
    static READ: AtomicUsize = AtomicUsize::new(0);
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    fn read<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
        READ.fetch_add(1, SeqCst);
        u8::deserialize(from)
    }
    fn write<S: serde::Serializer>(value: &u8, to: S) -> Result<S::Ok, S::Error> {
        WRITTEN.fetch_add(1, SeqCst);
        if *value == 7 { Err(serde::ser::Error::custom("no sevens")) } else { value.serialize(to) }
    }
    #[derive(Serialize, Deserialize)]
    struct Counted {
        #[serde(deserialize_with = "read", serialize_with = "write")]
        n: u8,
    }
    event!(Counted);
    let bus = EventBus::new("app");
    let _known = bus.subscribe::<Counted>();
    let fits = bus.emit_json(&json!({ "event_type": "Counted", "n": 1 })).unwrap();
    assert_eq!(READ.swap(0, SeqCst), 1);
    assert!(fits.to_json().is_ok() && bus.emit(Counted { n: 1 }).to_json().is_ok());
    assert_eq!(WRITTEN.swap(0, SeqCst), 1, "what came as JSON goes as it came");
    let error = bus.emit_json(&json!({ "event_type": "Counted", "n": 256 })).unwrap_err();
    assert_eq!(error.to_string(), "Counted.n: invalid value: integer `256`, expected u8");
    let error = bus.emit(Counted { n: 7 }).to_json().unwrap_err();
    assert_eq!(error.to_string(), "Counted.n: no sevens");
    assert_eq!((READ.load(SeqCst), WRITTEN.load(SeqCst)), (2, 2));
}

/// serde forgets the place there: the type is what is left.
#[test]
fn below_flatten_and_in_untagged_enums_the_whole_is_named() {
    #[derive(Serialize, Deserialize)]
    struct Package {
        name: String,
        #[serde(flatten)]
        rest: Rest,
        #[serde(default)]
        either: Vec<Either>,
    }
    #[derive(Serialize, Deserialize)]
    struct Rest {
        version: String,
    }
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u8),
        Text { text: String },
    }
    event!(Package);
    let bus = EventBus::new("app");
    let _known = bus.subscribe::<Package>();
    let why = |version: Json, either: Json| {
        let event = json!({ "event_type": "Package", "name": "demo", "version": version, "either": either });
        bus.emit_json(&event).map(drop).unwrap_err().to_string()
    };
    assert_eq!(why(json!(1), json!([])), "Package: invalid type: integer `1`, expected a string");
    assert!(why(json!("1"), json!([1, { "text": 2 }])).starts_with("Package.either[1]: "));
}

/// A tree of any depth, as the limit allows.
#[derive(Serialize, Deserialize)]
struct Node {
    #[serde(default)]
    children: Vec<Node>,
    n: u8,
}
event!(Node);

#[test]
fn places_are_named_at_any_depth_and_are_not_endless() {
    let bus = EventBus::new("app");
    let _known = bus.subscribe::<Node>();
    let refused = within_small_stack(move || {
        let mut node = json!({ "n": "wrong" });
        for _ in 0..58 {
            node = json!({ "n": 1, "children": [node] });
        }
        node["event_type"] = "Node".into();
        bus.emit_json(&node).unwrap_err().to_string()
    });
    assert!(refused.starts_with("Node.children[0].children[0]"), "{refused}");
    assert!(refused.ends_with(".children[0].n: invalid type: string \"wrong\", expected u8"), "{refused}");
    assert!(refused.len() < 1000, "{}", refused.len());
}

fn within_small_stack<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    std::thread::Builder::new().stack_size(1 << 20).spawn(body).unwrap().join().unwrap()
}
