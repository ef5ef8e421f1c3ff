//! QJ-015 with helper threads inside `HandlerContext::attach`. Move this file up to `tests/` when `attach` exists.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests"
)]

mod common;

use common::{Gate, Log, clean, in_order, logs, payload, runs};
use std::sync::Barrier;
use std::thread;
use threadbus::{EventBus, HandlerContext};

payload!(Child);
payload!(Event1);
payload!(Event2);

#[test]
fn qj_015_two_waits_at_once_run_the_child_once() {
    let (bus, log, all_emitted) = (EventBus::new("Qj015"), Log::new(), Gate::new());
    logs::<Child>(&bus, &log, "child");
    logs::<Event2>(&bus, &log, "event2");
    runs::<Event1>(&bus, &log, "event1", {
        let (log, all_emitted) = (log.clone(), all_emitted.clone());
        move |event| {
            all_emitted.wait();
            let child = event.bus().emit(Child);
            let context = HandlerContext::current().expect("inside a handler");
            let together = Barrier::new(2);
            let wait = || {
                together.wait();
                let waited = context.attach(|| child.wait().map(drop));
                log.push("waited");
                waited
            };
            thread::scope(|scope| {
                let (one, two) = (scope.spawn(wait), scope.spawn(wait));
                one.join().expect("first waiter")?;
                two.join().expect("second waiter")
            })
        }
    });
    let first = bus.emit(Event1);
    let second = bus.emit(Event2);
    all_emitted.open();
    clean(&first);
    clean(&second);
    assert_eq!((log.count("waited"), log.count("child_start")), (2, 1));
    in_order(&log, &["child_end", "event1_end", "event2_start"]);
    assert!(log.position("child_end") < log.position("waited"));
}
