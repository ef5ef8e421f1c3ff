//! Handlers that wait for another bus to be idle, where that can never be: told, and the rest goes on.

#[macro_use]
mod common;

use common::{Gate, Log, PATIENCE, eventually, stands, within};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use threadbus::*;

payload!(Ask => String);
payload!(Work);

const SOON: Duration = Duration::from_secs(5);

fn bus(name: &str, runtime: &Runtime, concurrency: EventConcurrency) -> EventBus {
    EventBus::builder(name).runtime(runtime).event_concurrency(concurrency).build().unwrap()
}

fn in_words(waited: Result<(), WaitError>) -> String {
    match waited {
        Ok(()) => "idle".to_owned(),
        Err(WaitError::Deadlock(chain)) => format!("deadlock: {chain}"),
        Err(other) => format!("{other}"),
    }
}

#[test]
fn a_globally_serial_handler_is_told_that_its_turn_keeps_the_other_bus_busy() {
    within(PATIENCE, || {
        let runtime = Runtime::builder().build().unwrap();
        let (a, b) =
            (bus("a", &runtime, EventConcurrency::GlobalSerial), bus("b", &runtime, EventConcurrency::GlobalSerial));
        let log = Log::new();
        let seen = log.clone();
        b.on(move |_: &Event<Work>| seen.push("worked"));
        let there = b.downgrade();
        a.on(move |_: &Event<Ask>| {
            let there = there.upgrade().unwrap();
            there.emit_with(Work, EventOptions::new().detached());
            in_words(there.wait_until_idle())
        });
        let said = a.emit(Ask).result().unwrap();
        assert!(said.starts_with("deadlock") && said.contains("behind this very handler"), "{said}");
        b.wait_until_idle().unwrap();
        assert_eq!(log.entries(), ["worked"]);
    });
}

/// It parks first, and what needs its turn comes later.
#[test]
fn an_event_that_comes_later_and_needs_its_turn_is_seen_too() {
    within(PATIENCE, || {
        let runtime = Runtime::builder().build().unwrap();
        let (a, b) =
            (bus("a", &runtime, EventConcurrency::GlobalSerial), bus("b", &runtime, EventConcurrency::BusSerial));
        let (go, entered) = stands::<Work>(&b);
        let _opener = go.opener();
        let there = b.downgrade();
        let waits = Gate::new();
        let about_to = waits.clone();
        a.on(move |_: &Event<Ask>| {
            about_to.open();
            in_words(there.upgrade().unwrap().wait_until_idle())
        });
        b.emit(Work);
        entered.wait();
        let ask = a.emit(Ask);
        waits.wait();
        b.emit_with(Work, EventOptions::new().concurrency(EventConcurrency::GlobalSerial));
        go.open();
        let said = ask.result().unwrap();
        assert!(said.starts_with("deadlock"), "{said}");
        b.wait_until_idle().unwrap();
    });
}

#[test]
fn a_globally_serial_handler_waits_for_a_bus_that_needs_no_turn_of_its() {
    within(PATIENCE, || {
        for concurrency in [EventConcurrency::BusSerial, EventConcurrency::Parallel] {
            let runtime = Runtime::builder().max_threads(1).build().unwrap();
            let (a, b) = (bus("a", &runtime, EventConcurrency::GlobalSerial), bus("b", &runtime, concurrency));
            b.on(|_: &Event<Work>| std::thread::sleep(Duration::from_millis(5)));
            let there = b.downgrade();
            a.on(move |_: &Event<Ask>| {
                let there = there.upgrade().unwrap();
                (0..3).for_each(|_| drop(there.emit(Work)));
                in_words(there.wait_until_idle())
            });
            assert_eq!(a.emit(Ask).result().unwrap(), "idle");
        }
    });
}

/// Each waits for the bus of the next to be idle, two or five of them, in any modes.
#[test]
fn handlers_that_wait_for_each_others_bus_are_told() {
    for length in [2, 5] {
        for concurrency in [EventConcurrency::BusSerial, EventConcurrency::Parallel] {
            within(2 * PATIENCE, move || {
                let runtime = Runtime::builder().build().unwrap();
                let buses: Vec<_> = (0..length).map(|n| bus(&format!("b{n}"), &runtime, concurrency)).collect();
                let meet = Arc::new(Barrier::new(length));
                for (at, here) in buses.iter().enumerate() {
                    let (there, meet) = (buses[(at + 1) % length].downgrade(), Arc::clone(&meet));
                    here.on(move |_: &Event<Ask>| {
                        meet.wait();
                        in_words(there.upgrade().unwrap().wait_until_idle())
                    });
                }
                let asked: Vec<_> = buses.iter().map(|bus| bus.emit(Ask)).collect();
                let said: Vec<String> = asked
                    .iter()
                    .map(|ask| {
                        ask.wait_timeout(SOON).unwrap_or_else(|error| panic!("{length} {concurrency:?}: {error}"));
                        ask.result().unwrap()
                    })
                    .collect();
                assert!(said.iter().any(|said| said.contains("to be idle, which needs")), "{said:?}");
            });
        }
    }
}

/// One waits for the other's bus, that one for an event of the first's.
#[test]
fn a_circle_of_a_wait_for_idleness_and_one_for_an_event_is_told_to_one_of_them() {
    within(PATIENCE, || {
        for first_waits in [true, false] {
            let runtime = Runtime::builder().build().unwrap();
            let (a, b) =
                (bus("a", &runtime, EventConcurrency::BusSerial), bus("b", &runtime, EventConcurrency::BusSerial));
            let meet = Arc::new(Barrier::new(2));
            let other_waits = {
                let runtime = runtime.clone();
                move || eventually(|| runtime.stats().waiting == 1)
            };
            let (there, met, work_waits) = (b.downgrade(), Arc::clone(&meet), other_waits.clone());
            a.on(move |_: &Event<Ask>| {
                met.wait();
                if !first_waits {
                    work_waits();
                }
                in_words(there.upgrade().unwrap().wait_until_idle())
            });
            let asked = a.emit(Ask);
            let awaited = asked.clone();
            b.on(move |_: &Event<Work>| {
                meet.wait();
                if first_waits {
                    other_waits();
                }
                awaited.wait_in_order().map(drop)
            });
            let work = b.emit(Work);
            asked.wait_timeout(SOON).unwrap();
            work.wait_timeout(SOON).unwrap();
            let (said, failed) = (asked.result().unwrap(), work.errors());
            assert!(
                said.contains("deadlock") || failed.iter().any(|f| f.to_string().contains("idle")),
                "{said} {failed:?}"
            );
        }
    });
}

/// A child that the other handler jumps for comes to this bus, and lets it go on.
#[test]
fn a_wait_that_a_jump_resolves_is_no_circle() {
    within(PATIENCE, || {
        let runtime = Runtime::builder().build().unwrap();
        let (a, b) = (bus("a", &runtime, EventConcurrency::BusSerial), bus("b", &runtime, EventConcurrency::BusSerial));
        let (sits, go) = (Gate::new(), Gate::new());
        let (sat, gone) = (sits.clone(), go.clone());
        let back = b.downgrade();
        a.on(move |_: &Event<Work>| {
            gone.wait();
            back.upgrade().unwrap().emit(Work).wait().map(drop)
        });
        b.on(|_: &Event<Work>| {});
        let there = a.downgrade();
        b.on(move |_: &Event<Ask>| {
            sat.open();
            in_words(there.upgrade().unwrap().wait_until_idle())
        });
        let work = a.emit(Work);
        let ask = b.emit(Ask);
        sits.wait();
        go.open();
        assert_eq!(ask.result().unwrap(), "idle");
        assert!(work.errors().is_empty(), "{:?}", work.errors());
    });
}
