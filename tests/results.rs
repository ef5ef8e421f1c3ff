//! Conformance, section RES: what handlers return, how it is typed, and the ways to read it.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, payload, within};
use std::collections::BTreeMap;
use std::sync::Arc;
use threadbus::{
    AnyEvent, AnyOutput, Event, EventBus, HandlerConcurrency, HandlerError, HandlerFailure, HandlerOptions, Payload,
    ResultError, ResultStatus,
};

type Settings = BTreeMap<String, String>;

payload!(Text => String);
payload!(Number => f64);
payload!(Flag => bool);
payload!(Listed => Vec<String>);
payload!(Dict => Settings);
payload!(Shaped => Shape);
payload!(Raw => Arc<Shape>);
payload!(Composite => Nested);

/// An output with two required fields.
#[derive(Clone, Debug, PartialEq)]
struct Shape {
    value: String,
    count: u32,
}

/// Collections within an output.
#[derive(Clone, Debug, PartialEq)]
struct Nested {
    items: Vec<String>,
    metadata: BTreeMap<String, u32>,
}

/// An error of the application.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
struct AppError(&'static str);

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| item.to_string()).collect()
}

fn statuses<P: Payload>(event: &Event<P>) -> Vec<ResultStatus> {
    event.results().iter().map(|result| result.status).collect()
}

/// Runs a result accessor where it cannot hang the test run.
fn bounded<P: Payload, R: Send + 'static>(event: &Event<P>, read: impl FnOnce(Event<P>) -> R + Send + 'static) -> R {
    let event = event.clone();
    within(PATIENCE, move || read(event))
}

#[test]
fn res_001_a_returned_value_is_the_result() {
    let bus = EventBus::new("Capture");
    bus.on(|_: &Event<Text>| "ok".to_owned());
    let event = done(&bus.emit(Text));
    let results = event.results();
    let [result] = &results[..] else { panic!("one handler, one result: {results:?}") };
    assert_eq!((result.status, result.value.as_deref()), (ResultStatus::Completed, Some("ok")));
    assert!(result.error.is_none() && result.started_at < result.completed_at);
    assert_eq!(result.attempts, 1);
    assert_eq!(bounded(&event, |event| event.result()).unwrap(), "ok");
}

#[test]
fn res_002_a_typed_output_arrives_as_it_was() {
    let bus = EventBus::new("Typed");
    let shape = Shape { value: "hello".into(), count: 2 };
    let returned = shape.clone();
    bus.on_named("Shaped", move |_| AnyOutput::new(returned.clone()));
    let event = done(&bus.emit(Shaped));
    assert_eq!(statuses(&event), [ResultStatus::Completed]);
    assert_eq!(event.results()[0].value, Some(shape));
}

#[test]
fn res_003_no_value_is_a_completed_result() {
    let bus = EventBus::new("NoValue");
    bus.on(|_: &Event<Shaped>| None);
    bus.on_named("Shaped", |_| {});
    let event = done(&bus.emit(Shaped));
    assert_eq!(statuses(&event), [ResultStatus::Completed; 2]);
    assert!(event.results().iter().all(|result| result.value.is_none() && result.error.is_none()));
    assert!(matches!(bounded(&event, |event| event.result()), Err(ResultError::Empty)));
    assert!(matches!(bounded(&event, |event| event.result_list()), Err(ResultError::Empty)));
    assert!(bounded(&event, |event| event.select().allow_empty().list()).unwrap().is_empty());
    assert_eq!(bounded(&event, |event| event.select().allow_empty().one()).unwrap(), None);
}

#[test]
fn res_004_a_wrong_type_fails_the_handler_and_not_the_event() {
    let bus = EventBus::new("WrongType");
    bus.on_named("Shaped", |_| AnyOutput::new(("bad", "nope")));
    let event = done(&bus.emit(Shaped));
    assert_eq!(statuses(&event), [ResultStatus::Error]);
    assert_eq!(event.results()[0].value, None);
    assert_eq!(event.errors().len(), 1);
    assert!(matches!(*event.errors()[0], HandlerFailure::WrongType { .. }), "{:?}", event.errors());
    match bounded(&event, |event| event.result()) {
        Err(ResultError::Handler { failure, .. }) => assert!(Arc::ptr_eq(&failure, &event.errors()[0])),
        other => panic!("expected the handler's failure, got {other:?}"),
    }
}

#[test]
fn res_005_a_value_is_stored_untouched() {
    let bus = EventBus::new("Untouched");
    let shape = Arc::new(Shape { value: "raw".into(), count: 1 });
    let returned = shape.clone();
    bus.on(move |_: &Event<Raw>| returned.clone());
    let event = done(&bus.emit(Raw));
    assert!(Arc::ptr_eq(event.results()[0].value.as_ref().unwrap(), &shape));
}

#[test]
fn res_007_each_plain_type_takes_its_own_values() {
    let bus = EventBus::new("Plain");
    bus.on_named("Text", |_| AnyOutput::new("ok".to_owned()));
    bus.on_named("Number", |_| AnyOutput::new(123.0_f64));
    bus.on_named("Flag", |_| AnyOutput::new(true));
    bus.on_named("Listed", |_| AnyOutput::new(strings(&["1", "two", "false"])));
    bus.on_named("Dict", |_| AnyOutput::new(settings(&[("id", "1"), ("ok", "true")])));
    assert_eq!(done(&bus.emit(Text)).results()[0].value.as_deref(), Some("ok"));
    assert_eq!(done(&bus.emit(Number)).results()[0].value, Some(123.0));
    assert_eq!(done(&bus.emit(Flag)).results()[0].value, Some(true));
    assert_eq!(done(&bus.emit(Listed)).results()[0].value.as_ref().unwrap().len(), 3);
    assert_eq!(done(&bus.emit(Dict)).results()[0].value.as_ref().unwrap()["id"], "1");

    bus.off_named("Number");
    bus.on_named("Number", |_| AnyOutput::new("not a number".to_owned()));
    let event = done(&bus.emit(Number));
    assert_eq!((statuses(&event), event.errors().len()), (vec![ResultStatus::Error], 1));
}

#[test]
fn res_008_nested_collections_arrive_equal() {
    let bus = EventBus::new("Nested");
    let nested =
        Nested { items: strings(&["a", "b"]), metadata: BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]) };
    let (typed, untyped) = (nested.clone(), nested.clone());
    bus.on(move |_: &Event<Composite>| typed.clone());
    bus.on_named("Composite", move |_| AnyOutput::new(untyped.clone()));
    let event = done(&bus.emit(Composite));
    assert_eq!(bounded(&event, |event| event.result_list()).unwrap(), [nested.clone(), nested]);
}

/// Asserts that `event` has two completed results, then three of a wrong type whose messages name `expected`.
fn assert_two_of_five<P: Payload>(event: &Event<P>, expected: &str) {
    let (ok, failed) = (ResultStatus::Completed, ResultStatus::Error);
    assert_eq!(statuses(event), [ok, ok, failed, failed, failed]);
    for result in &event.results()[2..] {
        let message = result.error.as_ref().unwrap().to_string();
        assert!(message.starts_with("wrong type: expected ") && message.contains(expected), "{message}");
    }
}

#[test]
fn res_010_values_of_other_types_are_errors_that_name_both_types() {
    let bus = EventBus::new("Mixed");
    for pattern in ["Dict", "Listed"] {
        match pattern {
            "Dict" => {
                bus.on(|_: &Event<Dict>| settings(&[("a", "1")]));
                bus.on_named(pattern, |_| AnyOutput::new(settings(&[("b", "2")])));
            }
            _ => {
                bus.on(|_: &Event<Listed>| strings(&["1", "2", "3"]));
                bus.on_named(pattern, |_| AnyOutput::new(strings(&["a", "b", "c"])));
            }
        }
        bus.on_named(pattern, |_| AnyOutput::new("a string".to_owned()));
        bus.on_named(pattern, |_| AnyOutput::new(42_i32));
        bus.on_named(pattern, |_| AnyOutput::new([1_u8, 2]));
    }
    let dict = done(&bus.emit(Dict));
    assert_two_of_five(&dict, "BTreeMap");
    let messages: Vec<_> = dict.errors().iter().map(|failure| failure.to_string()).collect();
    assert!(
        messages[0].contains("String") && messages[1].contains("i32") && messages[2].contains("u8"),
        "{messages:?}"
    );
    let merged: Settings =
        bounded(&dict, |event| event.select().allow_errors().list()).unwrap().into_iter().flatten().collect();
    assert_eq!(merged, settings(&[("a", "1"), ("b", "2")]));

    let list = done(&bus.emit(Listed));
    assert_two_of_five(&list, "Vec");
    let flat = bounded(&list, |event| event.select().allow_errors().list()).unwrap().concat();
    assert_eq!(flat, ["1", "2", "3", "a", "b", "c"]);
}

#[test]
fn res_017_a_serial_handler_is_pending_while_the_one_before_it_runs() {
    let bus = EventBus::new("Serial");
    let (gate, inside) = (Gate::new(), Gate::new());
    let _opener = gate.opener();
    let (held, entered) = (gate.clone(), inside.clone());
    bus.on(move |_: &Event<Text>| {
        entered.open();
        held.wait();
        "first".to_owned()
    });
    bus.on(|_: &Event<Text>| "second".to_owned());
    let event = bus.emit(Text);
    inside.wait();
    assert_eq!(statuses(&event), [ResultStatus::Started, ResultStatus::Pending]);
    let results = event.results();
    assert!(results[0].started_at.is_some() && results[0].completed_at.is_none());
    assert!(results[1].started_at.is_none() && results[1].value.is_none());
    gate.open();
    done(&event);
    assert_eq!(statuses(&event), [ResultStatus::Completed; 2]);
    assert_eq!(bounded(&event, |event| event.result_list()).unwrap(), ["first", "second"]);
    assert!(event.results()[0].completed_at <= event.results()[1].started_at);
}

#[test]
fn res_020_a_list_skips_handlers_without_a_value() {
    let bus = EventBus::new("Skip");
    bus.on(|_: &Event<Listed>| strings(&["one"]));
    bus.on(|_: &Event<Listed>| strings(&["two"]));
    bus.on(|_: &Event<Listed>| None);
    let event = bus.emit(Listed);
    assert_eq!(bounded(&event, |event| event.result_list()).unwrap(), [["one"], ["two"]]);
    let values: Vec<_> = event.results().into_iter().map(|result| result.value).collect();
    assert_eq!(values, [Some(strings(&["one"])), Some(strings(&["two"])), None], "results() shows all three");
}

#[test]
fn res_023_a_list_keeps_what_the_predicate_keeps() {
    let bus = EventBus::new("Keep");
    bus.on(|_: &Event<Text>| None);
    bus.on(|_: &Event<Text>| "drop".to_owned());
    bus.on(|_: &Event<Text>| "keep".to_owned());
    let event = bus.emit(Text);
    assert_eq!(bounded(&event, |event| event.result_list()).unwrap(), ["drop", "keep"]);
    let kept = bounded(&event, |event| event.select().include(|result| result.value.as_deref() == Some("keep")).list());
    assert_eq!(kept.unwrap(), ["keep"]);
    let one = bounded(&event, |event| event.select().include(|result| result.value.as_deref() != Some("drop")).one());
    assert_eq!(one.unwrap().as_deref(), Some("keep"));
}

#[test]
fn res_025_waiting_yields_the_event_itself() {
    let bus = EventBus::new("Itself");
    bus.on(|_: &Event<Text>| "test_result".to_owned());
    let event = bus.emit(Text);
    let waited = bounded(&event, |event| event.wait()).unwrap();
    assert_eq!(waited.id(), event.id());
    assert_eq!(bounded(&waited, |event| event.result_list()).unwrap(), ["test_result"]);
    let unheard = done(&bus.emit(Flag));
    assert!(unheard.results().is_empty());
    match bounded(&unheard, |event| event.result()) {
        Err(ResultError::NoHandler { event_type }) => assert_eq!(event_type, "Flag"),
        other => panic!("expected NoHandler, got {other:?}"),
    }
}

#[test]
fn res_026_results_are_found_by_handler_name() {
    let bus = EventBus::new("ByName");
    for name in ["first", "second", "third"] {
        bus.on_with(HandlerOptions::new().name(name), move |_: &Event<Text>| format!("{name} value"));
    }
    let event = done(&bus.emit(Text));
    let of = |name: &str| event.results().into_iter().find(|result| result.handler.name() == name);
    for name in ["first", "second", "third"] {
        assert_eq!(of(name).unwrap().value, Some(format!("{name} value")));
    }
    assert!(of("missing").is_none());
}

#[test]
fn res_027_values_merge_in_handler_order() {
    let bus = EventBus::new("Merge");
    bus.on(|_: &Event<Dict>| settings(&[("debug", "false"), ("port", "8080"), ("name", "base")]));
    bus.on_named("Dict", |_| AnyOutput::new("skipped".to_owned()));
    bus.on(|_: &Event<Dict>| settings(&[("debug", "true"), ("timeout", "30"), ("name", "override")]));
    let event = bus.emit(Dict);
    let list = bounded(&event, |event| event.select().allow_errors().list()).unwrap();
    let merged: Settings = list.into_iter().flatten().collect();
    let expected = settings(&[("debug", "true"), ("port", "8080"), ("timeout", "30"), ("name", "override")]);
    assert_eq!(merged, expected, "the last writer wins");
}

#[test]
fn res_028_values_flatten_in_handler_order_though_they_finish_in_another() {
    let bus = EventBus::builder("Flatten").handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
    let last_first = [Gate::new(), Gate::new(), Gate::new()];
    let _openers = last_first.each_ref().map(Gate::opener);
    for (n, items) in [&["e1", "e2"][..], &["e3"], &["e4", "e5"]].into_iter().enumerate() {
        let held = last_first[n].clone();
        bus.on(move |_: &Event<Listed>| {
            held.wait();
            strings(items)
        });
    }
    let event = bus.emit(Listed);
    for n in (0..3).rev() {
        last_first[n].open();
        eventually(|| event.results().get(n).is_some_and(|result| result.status == ResultStatus::Completed));
    }
    assert_eq!(bounded(&event, |event| event.result_list()).unwrap().concat(), ["e1", "e2", "e3", "e4", "e5"]);
}

#[test]
fn res_029_a_forward_is_a_result_without_a_value() {
    let (bus, target) = (EventBus::new("Source"), EventBus::new("Target"));
    let info = bus.forward_all_to(&target);
    assert_eq!(info.name(), format!("forward to {}", target.label()));
    let event = done(&bus.emit(Text));
    let results = event.results();
    let [result] = &results[..] else { panic!("the forward is one result: {results:?}") };
    assert_eq!((result.handler.id(), result.status), (info.id(), ResultStatus::Completed));
    assert_eq!(result.value, None);
    assert!(matches!(bounded(&event, |event| event.result()), Err(ResultError::Empty)));

    target.on(|_: &Event<Text>| "from the target".to_owned());
    let event = bus.emit(Text);
    assert_eq!(bounded(&event, |event| event.result()).unwrap(), "from the target");
    assert_eq!(event.results().len(), 2);
}

#[test]
fn res_030_one_failed_handler_is_the_error_of_result() {
    let bus = EventBus::new("OneFailure");
    bus.on_with(HandlerOptions::new().name("failing"), |_: &Event<Text>| -> Result<String, AppError> {
        Err(AppError("single failure"))
    });
    bus.on(|_: &Event<Text>| "fine".to_owned());
    let event = bus.emit(Text);
    for outcome in
        [bounded(&event, |event| event.result().map(drop)), bounded(&event, |event| event.result_list().map(drop))]
    {
        let Err(ResultError::Handler { handler, failure }) = outcome else { panic!("got {outcome:?}") };
        assert_eq!(failure.downcast_ref::<AppError>(), Some(&AppError("single failure")));
        assert_eq!(failure.to_string(), "single failure");
        assert!(handler.starts_with("failing#"), "{handler}");
    }
    assert_eq!(bounded(&event, |event| event.select().allow_errors().list()).unwrap(), ["fine"]);
}

#[test]
fn res_031_of_two_failed_handlers_the_earliest_is_the_error_and_both_are_kept() {
    let bus = EventBus::new("TwoFailures");
    bus.on(|_: &Event<Text>| -> Result<String, AppError> { Err(AppError("first")) });
    bus.on(|_: &Event<Text>| -> Result<String, HandlerError> { Err("second".into()) });
    let event = bus.emit(Text);
    let outcome = bounded(&event, |event| event.result());
    let Err(ResultError::Handler { failure, .. }) = outcome else { panic!("got {outcome:?}") };
    assert_eq!(failure.downcast_ref::<AppError>(), Some(&AppError("first")));
    let messages: Vec<_> = event.errors().iter().map(|failure| failure.to_string()).collect();
    assert_eq!(messages, ["first", "second"]);
}

/// A payload for every `T`, whose output depends on it.
#[derive(Debug)]
struct Repeat<T>(T);
impl<T: Clone + Send + Sync + 'static> Payload for Repeat<T> {
    type Output = Vec<T>;
}

#[test]
fn res_034_each_instance_of_a_generic_type_has_its_own_output_and_handlers() {
    let bus = EventBus::new("Generic");
    let log = Log::new();
    let (numbers, texts) = (log.clone(), log.clone());
    bus.on(move |event: &Event<Repeat<u32>>| {
        numbers.push(event.event_type());
        vec![event.0; 2]
    });
    bus.on(move |event: &Event<Repeat<String>>| {
        texts.push(event.event_type());
        vec![event.0.clone(); 3]
    });
    let number: Vec<u32> = bounded(&bus.emit(Repeat(7)), |event| event.result()).unwrap();
    let text: Vec<String> = bounded(&bus.emit(Repeat("x".to_owned())), |event| event.result()).unwrap();
    assert_eq!((number, text), (vec![7, 7], strings(&["x", "x", "x"])));
    assert_eq!(log.entries(), ["Repeat<u32>", "Repeat<String>"]);
}

#[test]
fn res_036_untyped_handlers_take_any_event_and_give_its_type_back() {
    let bus = EventBus::new("Untyped");
    bus.on_any(|event| -> Result<Option<AnyOutput>, AppError> {
        if event.is::<Flag>() {
            return Ok(Some(AnyOutput::new(true)));
        }
        let text: Event<Text> = event.downcast().ok_or(AppError("neither"))?;
        Ok(Some(AnyOutput::new(format!("{} {}", text.event_type(), event.payload::<Flag>().is_none()))))
    });
    let flag: bool = bounded(&bus.emit(Flag), |event| event.result()).unwrap();
    let text: String = bounded(&bus.emit(Text), |event| event.first()).unwrap().unwrap();
    assert_eq!((flag, text.as_str()), (true, "Text true"));
    let neither = done(&bus.emit(Number));
    assert_eq!(neither.errors()[0].to_string(), "neither");
    let results = AnyEvent::from(neither).results();
    assert_eq!(results[0].status, ResultStatus::Error);
}
