//! What `{:?}` shows of the public types: it ends at any time, also inside of handlers and while others wait, and names what it is.

mod common;

use common::{done, eventually, payload};
use std::fmt::Debug;
use std::time::Duration;
use threadbus::middleware::LogEvents;
use threadbus::testing::Harness;
use threadbus::{
    Event, EventBus, HandlerContext, HandlerError, HandlerOptions, JsonLimits, Limit, OnLag, Runtime, TreeStyle,
    forbid_blocking,
};

payload!(Ask => Vec<String>);
payload!(Child => String);
payload!(Later);

fn shown(value: &impl Debug) -> String {
    format!("{value:?}")
}

#[track_caller]
fn all_named(texts: &[String], names: &[&str]) {
    assert_eq!(texts.len(), names.len());
    for (text, name) in texts.iter().zip(names) {
        assert!(text.contains(name), "{text} does not say {name}");
    }
}

#[test]
fn inside_of_a_handler() {
    let bus = EventBus::builder("Shown").middleware(LogEvents::new()).build().unwrap();
    let limit = Limit::named("few", 2);
    bus.on_with(HandlerOptions::new().name("prints").limit(limit.clone()), move |event: &Event<Ask>| {
        let (context, bus) = (HandlerContext::current().unwrap(), event.bus());
        assert_eq!(context.event().id(), event.id());
        let (batch, subscription) = (bus.batch(), bus.subscribe_bounded::<Later>(3, OnLag::DropOldest));
        let later = bus.emit_after(Duration::from_secs(60), Later);
        let texts = vec![
            shown(&context),
            shown(&bus),
            shown(&bus.downgrade()),
            shown(event),
            shown(&event.select()),
            shown(&batch),
            shown(&bus.find::<Later>()),
            shown(&subscription),
            shown(&subscription.closer()),
            shown(&later),
            shown(&bus.handlers()[0]),
            shown(&limit),
            shown(&HandlerOptions::new().limit(limit.clone())),
            shown(&forbid_blocking()),
        ];
        later.cancel();
        texts
    });
    let texts = done(&bus.emit(Ask)).result().unwrap();
    let label = bus.label();
    let names = [
        "prints",
        label,
        label,
        "Ask",
        "allow_errors",
        "progress",
        "future",
        "backlog",
        "Closer",
        "Scheduled",
        "prints",
        "few",
        "few",
        "ForbidBlocking",
    ];
    all_named(&texts, &names);
}

#[test]
fn a_runtime_shows_who_waits_for_what() {
    let runtime = Runtime::builder().build().unwrap();
    let bus = EventBus::builder("Waits").runtime(&runtime).build().unwrap();
    let other = EventBus::builder("Prints").runtime(&runtime).build().unwrap();
    let prints = runtime.clone();
    other.on(move |_: &Event<Child>| {
        // It may be here before the other has parked.
        eventually(|| shown(&prints).contains(" waits "));
        shown(&prints)
    });
    // In order, so that it is another thread that prints.
    bus.on(move |_: &Event<Ask>| vec![other.emit(Child).wait_in_order().unwrap().result().unwrap()]);
    let texts = done(&bus.emit(Ask)).result().unwrap();
    assert!(texts[0].contains("Ask#") && texts[0].contains("waits in order for Child#"), "{}", texts[0]);
}

#[test]
fn before_and_after() {
    let builder = EventBus::builder("Shown").manual().on_ready(|| {}).middleware(LogEvents::new());
    let harness = Harness::new().answer(|_: &Event<Later>| {});
    let ran = harness.run(|_: &Event<Ask>| -> Result<Vec<String>, &str> { Err("not today") }, Ask);
    let texts = [shown(&builder), shown(&harness), shown(&ran), shown(&HandlerError::permanent("no way"))];
    all_named(&texts, &["a closure", "answers: 1", "not today", "no way"]);
    assert_eq!(shown(&JsonLimits::default()), shown(&JsonLimits::new()));
    assert_eq!(shown(&TreeStyle::default()), shown(&TreeStyle::new()));
    assert_eq!(shown(&Harness::default()), shown(&Harness::new()));
}
