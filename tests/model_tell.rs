//! What middlewares are told, under shuttle: everything, once, in order, and before a wait returns.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_tell`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::thread;
use std::sync::{Arc, Mutex};
use threadbus::*;

/// What was told of each event, and that nobody told anything at the same time of the same event.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(EventId, EventStatus)>>>);

impl Middleware for Told {
    fn on_event_change(&self, _bus: &EventBus, event: &AnyEvent, status: EventStatus) {
        let before = self.of(event.id());
        thread::yield_now();
        assert_eq!(before, self.of(event.id()), "two tell of one event at once");
        self.0.lock().unwrap().push((event.id(), status));
    }
}

impl Told {
    fn of(&self, id: EventId) -> Vec<EventStatus> {
        self.0.lock().unwrap().iter().filter(|(of, _)| *of == id).map(|(_, status)| *status).collect()
    }
}

fn told_bus(runtime: &Runtime, name: &str, told: &Told) -> EventBus {
    EventBus::builder(name).runtime(runtime).middleware(told.clone()).build().unwrap()
}

#[test]
fn a_wait_returns_when_all_is_told() {
    check(|| {
        let (runtime, told) = (runtime(), Told::default());
        let bus = told_bus(&runtime, "a", &told);
        bus.on(|job: &Event<Job>| -> Result<u32, HandlerError> { Ok(job.bus().emit(Child(job.0)).result()?) });
        bus.on(|child: &Event<Child>| child.0);
        let event = bus.emit(Job(1));
        let late = event.clone();
        let canceller = thread::spawn(move || late.cancel());
        let started = event.wait().is_ok();
        let seen = told.of(event.id());
        let expected = [EventStatus::Pending, EventStatus::Started, EventStatus::Completed];
        match started {
            true => assert_eq!(seen, expected),
            // It never ran.
            false => assert_eq!(seen, [expected[0], expected[2]]),
        }
        canceller.join().unwrap();
        at_rest(&bus);
        for child in event.children() {
            assert_eq!(told.of(child.id()).last(), Some(&EventStatus::Completed));
        }
    });
}

/// Takes its time over each call, until the event is over.
struct Slow;

impl Middleware for Slow {
    fn on_event_change(&self, _bus: &EventBus, event: &AnyEvent, _status: EventStatus) {
        for _ in 0..100 {
            if event.is_completed() {
                return;
            }
            thread::yield_now();
        }
    }
}

#[test]
fn nothing_is_left_untold_that_came_while_somebody_told() {
    check(|| {
        let (runtime, told) = (runtime(), Told::default());
        let bus = EventBus::builder("a").runtime(&runtime).middleware(Slow).middleware(told.clone()).build().unwrap();
        bus.on(|job: &Event<Job>| job.0);
        let event = bus.emit(Job(1));
        at_rest(&bus);
        assert_eq!(told.of(event.id()), [EventStatus::Pending, EventStatus::Started, EventStatus::Completed]);
    });
}

#[test]
fn a_bus_is_idle_when_all_is_told_on_every_bus() {
    check(|| {
        let (runtime, told) = (runtime(), [Told::default(), Told::default()]);
        let (a, b) = (told_bus(&runtime, "a", &told[0]), told_bus(&runtime, "b", &told[1]));
        for bus in [&a, &b] {
            bus.on(|job: &Event<Job>| {
                thread::yield_now();
                job.0
            });
        }
        let event = a.emit(Job(1));
        b.forward(&event).unwrap();
        let clock = runtime.clone();
        let deadlines = thread::spawn(move || clock.model_deadlines_pass());
        let registrar = {
            let bus = a.clone();
            thread::spawn(move || bus.off(&bus.on(|_: &Event<Next>| {})))
        };
        at_rest(&a);
        at_rest(&b);
        event.wait().unwrap();
        deadlines.join().unwrap();
        assert!(registrar.join().unwrap());
        assert_eq!(told[0].of(event.id()).last(), Some(&EventStatus::Completed));
        // Where it arrived late its completion is told as well.
        assert_eq!(told[1].of(event.id()).last(), Some(&EventStatus::Completed));
    });
}
