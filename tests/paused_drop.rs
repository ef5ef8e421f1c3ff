//! A bus whose last handle goes while it is paused.

mod common;

use common::{PATIENCE, payload};
use threadbus::{Event, EventBus};

payload!(Job => u32);

/// Whether or not the loop has found the pause yet.
#[test]
fn a_paused_bus_that_is_let_go_of_finishes_its_queue() {
    for round in 0..50 {
        let bus = EventBus::new("let go");
        bus.on(|_: &Event<Job>| 7);
        bus.pause();
        let job = bus.emit(Job);
        if round % 2 == 1 {
            (0..10).for_each(|_| common::linger());
        }
        drop(bus);
        let job = job.wait_timeout(PATIENCE).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(job.result().unwrap(), 7);
    }
}
