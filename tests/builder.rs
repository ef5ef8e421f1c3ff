//! Conformance, buffered.md BJ-17 and tasks.md BF-08: values that make no sense are refused by name, or mended where a setter cannot fail.

mod common;

use common::{PATIENCE, warnings_naming};
use std::time::Duration;
use threadbus::{
    BusBuilder, Event, EventBus, EventConcurrency, Fairness, HandlerConcurrency, Limit, OnFull, Payload, Retry,
    Runtime, RuntimeBuilder, Shutdown,
};

#[track_caller]
fn refused(name: &str, settle: impl FnOnce(BusBuilder) -> BusBuilder) {
    let error = settle(EventBus::builder("Wrong")).build().unwrap_err();
    assert_eq!(error.option, name);
    assert!(error.to_string().starts_with(&format!("invalid {name}: ")), "{error}");
}

#[test]
fn bj_017_what_makes_no_sense_is_refused_by_name() {
    refused("queue_capacity", |b| b.queue_capacity(0, OnFull::Reject));
    refused("max_in_flight", |b| b.max_in_flight(0));
    refused("fairness", |b| b.fairness(Fairness::Weighted { high: 0, normal: 0, low: 0 }));
    for rate in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused("max_emit_rate", |b| b.max_emit_rate(rate, 1));
    }
    refused("max_emit_rate", |b| b.max_emit_rate(1.0, 0));
}

#[test]
fn bj_017b_the_last_value_counts() {
    let bus = EventBus::builder("Mended")
        .queue_capacity(0, OnFull::Reject)
        .queue_capacity(1, OnFull::Block)
        .max_emit_rate(f64::NAN, 0)
        .max_emit_rate(1e9, 1)
        .fairness(Fairness::Weighted { high: 0, normal: 0, low: 0 })
        .fairness(Fairness::Weighted { high: 0, normal: 0, low: 1 })
        .build()
        .unwrap();
    assert_eq!(bus.options().queue_capacity, Some(1));
    assert_eq!(bus.options().fairness, Fairness::Weighted { high: 0, normal: 0, low: 1 });
    assert_eq!(EventBus::new("Default").options().fairness, Fairness::Strict);
}

#[test]
fn bj_017c_setters_that_cannot_fail_take_the_nearest_value_and_warn() {
    let warnings = warnings_naming("taken as");
    let before = warnings().len();
    let _ = Retry::attempts(0).jitter(1.5).exponential(Duration::from_millis(20), 0.5);
    let _ = Limit::new(0);
    let _ = Limit::named("none", 0);
    assert_eq!(warnings().len() - before, 5, "{:?}", warnings());
    // A cap below the first delay is sense: the cap holds.
    let _ = Retry::attempts(2).delay(Duration::from_secs(1)).max_delay(Duration::from_millis(1));
    assert_eq!(warnings().len() - before, 5);
}

#[test]
fn bf_008_a_runtime_needs_threads() {
    let error = Runtime::builder().max_threads(0).build().unwrap_err();
    assert_eq!(error.option, "max_threads");
    let runtime = Runtime::builder().max_threads(3).build().unwrap();
    assert_eq!(runtime.stats().max_threads, 3);
    assert_eq!(runtime.set_max_threads(0).unwrap_err().option, "max_threads");
    assert_eq!(runtime.stats().max_threads, 3, "BJ-62: unchanged");
}

#[test]
fn a_bus_has_a_name_and_an_id_of_its_own() {
    assert_eq!(EventBus::builder("").build().unwrap_err().option, "name");
    let runtime = Runtime::builder().build().unwrap();
    let one = EventBus::builder("One").runtime(&runtime).build().unwrap();
    let second = || EventBus::builder("Second").runtime(&runtime).id(one.id()).build();
    let error = second().unwrap_err();
    assert!(error.option == "id" && error.to_string().contains(&one.id().to_string()), "{error}");
    let elsewhere = Runtime::builder().build().unwrap();
    assert_eq!(EventBus::builder("Elsewhere").runtime(&elsewhere).id(one.id()).build().unwrap().id(), one.id());
}

/// A bus that was shut down gives its id free, and takes nothing with it when it goes.
#[test]
fn the_next_bus_of_an_id_stays_when_the_first_one_goes() {
    let runtime = Runtime::builder().build().unwrap();
    let one = EventBus::builder("One").runtime(&runtime).build().unwrap();
    let id = one.id();
    one.shutdown(Shutdown::Drain, PATIENCE);
    let next = || EventBus::builder("Next").runtime(&runtime).id(id).build();
    let second = next().unwrap();
    one.shutdown(Shutdown::Drain, PATIENCE);
    assert_eq!(next().unwrap_err().option, "id");
    drop(one);
    assert_eq!(next().unwrap_err().option, "id");
    let labels: Vec<_> = runtime.buses().iter().map(|bus| bus.label().to_owned()).collect();
    assert_eq!(labels, [second.label()]);
    drop(second);
    assert!(next().is_ok());
}

#[test]
fn a_runtime_is_refused_what_no_thread_could_have() {
    let refused = |builder: RuntimeBuilder| builder.build().unwrap_err().option;
    assert_eq!(refused(Runtime::builder().stack_size((64 << 10) - 1)), "stack_size");
    assert_eq!(refused(Runtime::builder().thread_name("a\0b")), "thread_name");
    assert_eq!(refused(Runtime::builder().max_threads(5).hard_limit(4)), "max_threads");
    let runtime = Runtime::builder().max_threads(4).hard_limit(4).stack_size(64 << 10).build().unwrap();
    assert_eq!(runtime.set_max_threads(5).unwrap_err().option, "max_threads");
    assert_eq!(runtime.stats().max_threads, 4);
}

struct Named;
impl Payload for Named {
    type Output = String;
}

/// Linux shows the first 15 bytes of a thread's name.
#[test]
fn pool_threads_are_numbered_where_it_is_seen() {
    for (prefix, expected) in [("io", "io-"), ("a-very-long-prefix", "a-very-long-p-"), ("ääääääääää", "ääääää-")]
    {
        let runtime = Runtime::builder().thread_name(prefix).max_threads(3).build().unwrap();
        let bus = EventBus::builder("names")
            .runtime(&runtime)
            .event_concurrency(EventConcurrency::Parallel)
            .handler_concurrency(HandlerConcurrency::Parallel)
            .build()
            .unwrap();
        let together = std::sync::Arc::new(std::sync::Barrier::new(3));
        bus.on(move |_: &Event<Named>| {
            together.wait();
            std::thread::current().name().unwrap_or_default().to_owned()
        });
        let events: Vec<_> = (0..3).map(|_| bus.emit(Named)).collect();
        let mut names: Vec<String> = events.iter().map(|event| event.result().unwrap()).collect();
        names.sort();
        assert_eq!(names, (1..=3).map(|n| format!("{expected}{n}")).collect::<Vec<_>>());
        assert!(names.iter().all(|name| name.len() <= 15), "{names:?}");
    }
}
