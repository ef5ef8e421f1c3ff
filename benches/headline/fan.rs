//! S4, S5, S6, S11: one event, many handlers.

use crate::measure::{Rounds, nanos_each};
use crate::stream::{Tick, handle_tick};
use std::hint::black_box;
use std::time::Instant;
use threadbus::EventBus;

const HANDLERS: usize = 100;
/// Events of one round.
const EVENTS: usize = 500;

/// S4, per event. In a row, then idle: waking the bus for each event, and the emitter after it, is S2's matter, and would be most of what is
/// measured here. `S4 waited` includes it.
pub fn serial(rounds: &Rounds) {
    let bus = EventBus::new("S4");
    for _ in 0..HANDLERS {
        bus.on(handle_tick);
    }
    let calls = Calls::new(HANDLERS);
    rounds.in_turns("S4", || events_in_a_row(&bus), || nanos_each(EVENTS, || (0..EVENTS).for_each(|_| calls.run())));
    rounds.in_turns("S4 waited", || waited_for(&bus), || nanos_each(EVENTS, || (0..EVENTS).for_each(|_| calls.run())));
}

fn events_in_a_row(bus: &EventBus) -> f64 {
    nanos_each(EVENTS, || {
        for n in 0..EVENTS {
            bus.emit(Tick([n as u64; 8]));
        }
        bus.wait_until_idle().expect("outside of handlers");
    })
}

fn waited_for(bus: &EventBus) -> f64 {
    nanos_each(EVENTS, || {
        for n in 0..EVENTS {
            bus.emit(Tick([n as u64; 8])).wait().expect("a live bus");
        }
    })
}

/// The floor: boxed handlers in a row, with the time each one took.
struct Calls {
    handlers: Vec<Handler>,
}

type Handler = Box<dyn Fn(&Tick)>;

impl Calls {
    fn new(count: usize) -> Calls {
        let handler = |tick: &Tick| {
            black_box(tick.0[0]);
        };
        Calls { handlers: (0..count).map(|_| Box::new(handler) as Handler).collect() }
    }

    fn run(&self) {
        let tick = Tick([1; 8]);
        let mut before = Instant::now();
        for handler in black_box(&self.handlers) {
            handler(&tick);
            let after = Instant::now();
            black_box(after.duration_since(before));
            before = after;
        }
    }
}
