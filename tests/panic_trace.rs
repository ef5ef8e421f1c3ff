//! A panic whose trace takes longer to print than its handler has is a panic, not a timeout. With a panic hook of its own, so it is a binary of its own.

#[macro_use]
mod common;

use common::{PATIENCE, eventually, idle, within};
use std::sync::Once;
use std::thread;
use std::time::Duration;
use threadbus::*;

payload!(Job => u32);
payload!(Outer);

const SHORT: Duration = Duration::from_millis(60);

/// Before any runtime is there, as a program does at its beginning.
fn slow_to_tell() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            if info.payload().downcast_ref::<&str>().is_some_and(|text| text.contains("slowly")) {
                thread::sleep(6 * SHORT);
            }
        }));
    });
}

fn is_panic(failure: &HandlerFailure) -> bool {
    matches!(failure, HandlerFailure::Panicked(text) if text == "slowly")
}

#[test]
fn a_panic_is_a_panic_however_long_it_takes_to_be_told() {
    slow_to_tell();
    for concurrency in [HandlerConcurrency::EventSerial, HandlerConcurrency::Parallel] {
        for attempts in [1, 2] {
            within(PATIENCE, move || {
                let by_event = EventOptions::new().timeout(SHORT);
                let by_handler = EventOptions::new().handler_timeout(SHORT);
                for options in [by_handler, by_event] {
                    let bus = EventBus::builder("slow").handler_concurrency(concurrency).build().unwrap();
                    // Two handlers, so that parallel ones are.
                    for _ in 0..2 {
                        let handler = HandlerOptions::new().retry(Retry::attempts(attempts));
                        bus.on_with(handler, |_: &Event<Job>| -> u32 { panic!("slowly") });
                    }
                    let job = bus.emit_with(Job, options).wait().unwrap();
                    let first = job.errors().remove(0);
                    // An event's time is over after the first attempt; a handler's begins anew.
                    assert!(
                        is_panic(&first) || attempts > 1 && matches!(&*first, HandlerFailure::Aborted { .. }),
                        "{concurrency:?} {attempts} {first}"
                    );
                    idle(&bus);
                    assert_eq!(bus.runtime().stats().abandoned, 0);
                }
            });
        }
    }
}

#[test]
fn one_that_the_handler_catches_is_no_excuse() {
    slow_to_tell();
    within(PATIENCE, || {
        let bus = EventBus::new("caught");
        bus.on(|_: &Event<Job>| {
            drop(std::panic::catch_unwind(|| panic!("slowly")));
            let context = HandlerContext::current().unwrap();
            eventually(|| context.is_cancelled());
            1
        });
        let job = bus.emit_with(Job, EventOptions::new().handler_timeout(SHORT)).wait().unwrap();
        assert!(matches!(&*job.errors()[0], HandlerFailure::TimedOut { .. }), "{:?}", job.errors());
    });
}

/// The one that waits below a handler that panics has its own time.
#[test]
fn a_parent_that_waits_for_it_times_out_or_sees_the_panic() {
    slow_to_tell();
    within(PATIENCE, || {
        let bus = EventBus::new("nested");
        bus.on(|_: &Event<Job>| -> u32 { panic!("slowly") });
        bus.on(|outer: &Event<Outer>| outer.bus().emit(Job).wait().map(drop));
        let outer = bus.emit_with(Outer, EventOptions::new().handler_timeout(SHORT)).wait().unwrap();
        assert!(matches!(&*outer.errors()[0], HandlerFailure::TimedOut { .. }), "{:?}", outer.errors());
        idle(&bus);
        let long = EventOptions::new().handler_timeout(PATIENCE);
        let outer = bus.emit_with(Outer, long).wait().unwrap();
        assert!(outer.errors().is_empty() && is_panic(&outer.children()[0].errors()[0]));
    });
}
