//! What people ask, as it is documented: who inherits what, what runs while a bus is paused, and failures that are values.

#[macro_use]
mod common;

use common::{Log, PATIENCE, eventually, within};
use std::thread;
use threadbus::*;

payload!(Parent);
payload!(Child => u32);
payload!(Grandchild);
payload!(Other);

#[test]
fn children_do_not_inherit_the_priority() {
    within(PATIENCE, || {
        let (bus, log) = (EventBus::new("priorities"), Log::new());
        let (seen, others) = (log.clone(), log.clone());
        bus.on(|parent: &Event<Parent>| {
            parent.bus().emit(Child);
            parent.bus().emit_with(Other, EventOptions::new().priority(Priority::LOW));
        });
        bus.on(move |child: &Event<Child>| {
            seen.push(format!("child {}", child.priority() == Priority::NORMAL));
            child.bus().emit(Grandchild);
            0
        });
        bus.on(move |_: &Event<Other>| others.push("other"));
        bus.pause();
        let urgent = bus.emit_with(Parent, EventOptions::new().priority(Priority::CRITICAL));
        // Queued before the child is: it goes first, for the child is a normal event.
        let normal = bus.emit(Child);
        bus.resume();
        bus.wait_until_idle().unwrap();
        assert_eq!(urgent.priority(), Priority::CRITICAL);
        let below: Vec<_> = urgent.descendants().iter().map(AnyEvent::priority).collect();
        assert_eq!(below, [Priority::NORMAL, Priority::NORMAL, Priority::LOW], "{:?}", urgent.descendants());
        assert!(normal.started_at() <= urgent.children()[0].started_at());
        assert_eq!(log.entries(), ["child true", "child true", "other"]);
    });
}

/// It is the type's, or the emit's.
#[test]
fn a_type_may_say_what_priority_its_events_have() {
    struct Alarm;
    impl Payload for Alarm {
        type Output = ();
        fn options() -> EventOptions {
            EventOptions::new().priority(Priority::CRITICAL)
        }
    }
    let bus = EventBus::new("types");
    bus.on(|parent: &Event<Parent>| drop(parent.bus().emit(Alarm)));
    let parent = bus.emit_with(Parent, EventOptions::new().priority(Priority::LOW)).wait().unwrap();
    assert_eq!(parent.children()[0].priority(), Priority::CRITICAL);
}

#[test]
fn emit_now_runs_on_a_paused_bus_and_what_is_queued_does_not() {
    for concurrency in [EventConcurrency::BusSerial, EventConcurrency::Parallel, EventConcurrency::GlobalSerial] {
        within(PATIENCE, move || {
            let (bus, log) = (EventBus::builder("paused").event_concurrency(concurrency).build().unwrap(), Log::new());
            let (seen, others) = (log.clone(), log.clone());
            bus.on(move |child: &Event<Child>| {
                seen.push("child");
                // Waited for: it runs. Not waited for: it is queued.
                child.bus().emit(Grandchild).wait().unwrap();
                child.bus().emit(Other);
                assert!(!thread::current().name().is_some_and(|name| name.starts_with("threadbus")));
                7
            });
            bus.on(move |_: &Event<Other>| others.push("other"));
            bus.on(|_: &Event<Grandchild>| {});
            bus.pause();
            let queued = bus.emit(Other);
            let now = bus.emit_now(Child);
            let value = now.results().remove(0).value;
            assert_eq!((value, log.entries()), (Some(7), vec!["child".to_owned()]), "{concurrency:?}");
            assert!(!queued.is_completed() && !now.is_completed(), "what it emitted and did not wait for is queued");
            bus.resume();
            now.wait().unwrap();
            queued.wait().unwrap();
            eventually(|| log.len() == 3);
        });
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Rejected {
    OutOfStock,
}

struct Order(u32);
impl Payload for Order {
    /// Being out of stock is an answer, not a failure.
    type Output = Result<u32, Rejected>;
}

/// A failure that the business knows is a value: no retry, no dead letter, no alarm; a handler still fails by an error.
#[test]
fn a_business_failure_is_a_value() {
    let bus = EventBus::builder("shop").dead_letters(10).build().unwrap();
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(3)), |order: &Event<Order>| -> Result<_, HandlerError> {
        match order.0 {
            0 => Err("no connection to the stock".into()),
            n if n > 3 => Ok(Err(Rejected::OutOfStock)),
            n => Ok(Ok(n)),
        }
    });
    assert_eq!(bus.emit(Order(2)).result().unwrap(), Ok(2));
    let refused = bus.emit(Order(9));
    assert_eq!(refused.result().unwrap(), Err(Rejected::OutOfStock));
    assert_eq!((refused.results()[0].attempts, refused.errors().len()), (1, 0));
    assert_eq!((bus.metrics().failed, bus.dead_letters().len()), (0, 0));
    let failed = bus.emit(Order(0)).wait().unwrap();
    assert_eq!((failed.results()[0].attempts, bus.metrics().failed, bus.dead_letters().len()), (3, 1, 1));
}
