//! What the tests of modes and permits share: buses of any modes on a runtime of their own, and how many run at once.
#![allow(dead_code, reason = "each test file uses its own part of this module")]

use crate::common::{Gate, Gauge, clean, eventually, linger, payload};
use std::thread;
use std::time::Duration;
use threadbus::{Event, EventBus, Runtime};
pub use threadbus::{EventConcurrency as Events, HandlerConcurrency as Handlers};

payload!(Job { n: usize });
payload!(Ask { n: usize } => usize);
payload!(Parent);
payload!(Child);
payload!(Other);

/// A runtime of the test's own: its global permits are no other test's.
pub fn runtime() -> Runtime {
    Runtime::builder().thread_name("lock").keep_alive(Duration::from_millis(100)).build().expect("a runtime")
}

/// A bus of these modes on this runtime.
pub fn bus_on(runtime: &Runtime, name: &str, events: Events, handlers: Handlers) -> EventBus {
    let builder = EventBus::builder(name).event_concurrency(events).handler_concurrency(handlers);
    builder.runtime(runtime).build().expect("a bus")
}

/// A bus of these modes on a runtime of its own.
pub fn bus(name: &str, events: Events, handlers: Handlers) -> EventBus {
    bus_on(&runtime(), name, events, handlers)
}

/// Asserts that `expected` of the events' handlers are at the gate at once, never more while it is closed, and that they all end without a
/// failure once it is opened. Each step waits for [`PATIENCE`](crate::common::PATIENCE) at most.
#[track_caller]
pub fn exactly(expected: usize, gauge: &Gauge, gate: &Gate, events: &[Event<Job>]) {
    let _opener = gate.opener();
    eventually(|| gauge.peak() >= expected);
    for _ in 0..20 {
        linger();
    }
    thread::sleep(Duration::from_millis(20));
    assert_eq!(gauge.peak(), expected, "in flight while the gate was closed");
    gate.open();
    events.iter().for_each(clean);
    if expected == 1 {
        assert_eq!(gauge.peak(), 1, "in flight after the gate was opened");
    }
}

/// A handler that is counted by `gauge` and stands at the gate.
pub fn gated(gauge: &Gauge, gate: &Gate) -> impl Fn(&Event<Job>) + Send + Sync + use<> {
    let (gauge, gate) = (gauge.clone(), gate.clone());
    move |_| {
        gauge.enter();
        gate.wait();
        gauge.leave();
    }
}

/// Where `parties` handlers stand until all of them do.
#[derive(Clone, Debug)]
pub struct Meeting(Gauge, Gate, usize);

impl Meeting {
    pub fn of(parties: usize) -> Self {
        Meeting(Gauge::new(), Gate::new(), parties)
    }

    /// Waits for [`PATIENCE`](crate::common::PATIENCE) at most.
    pub fn join(&self) {
        if self.0.enter() == self.2 {
            self.1.open();
        }
        self.1.wait();
    }
}
