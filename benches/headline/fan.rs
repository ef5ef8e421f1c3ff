//! S4, S5, S6, S11: one event, many handlers.

use crate::measure::{Rounds, median_piece, nanos_each};
use crate::stream::{Tick, handle_tick};
use std::hint::black_box;
use std::time::{Duration, Instant};
use threadbus::{Event, EventBus, HandlerConcurrency, Payload};

const HANDLERS: usize = 100;
const EVENTS: usize = 100;
const PIECES: usize = 5;
const MANY_HANDLERS: usize = 50_000;

/// S4, per event.
pub fn serial(rounds: &Rounds) {
    let bus = EventBus::new("S4");
    in_a_row_and_waited(rounds, ["S4", "S4 waited"], &bus);
}

/// S5, per event.
pub fn parallel(rounds: &Rounds) {
    in_a_row_and_waited(rounds, ["S5", "S5 waited"], &parallel_bus("S5"));
}

/// In a row, then idle: waking the bus for each event, and the emitter after it, is S2's matter. The second figure includes it.
fn in_a_row_and_waited(rounds: &Rounds, [in_a_row, waited]: [&str; 2], bus: &EventBus) {
    (0..HANDLERS).for_each(|_| drop(bus.on(handle_tick)));
    let calls = Calls::new(HANDLERS);
    let floor = || median_piece(PIECES, || nanos_each(EVENTS, || (0..EVENTS).for_each(|n| calls.run(&tick(n)))));
    rounds.in_turns(in_a_row, || median_piece(PIECES, || crate::stream::emit_and_idle(bus, EVENTS)), floor);
    let each_waited = || nanos_each(EVENTS, || (0..EVENTS).for_each(|n| emit_and_wait(bus, n)));
    rounds.in_turns(waited, || median_piece(PIECES, each_waited), floor);
}

fn tick(n: usize) -> Tick {
    Tick([n as u64; 8])
}

fn emit_and_wait(bus: &EventBus, n: usize) {
    bus.emit(tick(n)).wait().expect("a live bus");
}

fn parallel_bus(name: &str) -> EventBus {
    EventBus::builder(name).handler_concurrency(HandlerConcurrency::Parallel).build().expect("valid options")
}

/// The floor of S4 and S5: boxed handlers in a row, and the time that each one took.
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

    fn run(&self, tick: &Tick) {
        let mut before = Instant::now();
        for handler in black_box(&self.handlers) {
            handler(tick);
            let after = Instant::now();
            black_box(after.duration_since(before));
            before = after;
        }
    }
}

struct Nap;
impl Payload for Nap {
    type Output = ();
}

const NAP: Duration = Duration::from_millis(5);

/// S6, per event. The first event, which does not count, warms the pool; the floor has to make its threads each time.
pub fn sleeping(rounds: &Rounds) {
    let bus = parallel_bus("S6");
    (0..HANDLERS).for_each(|_| drop(bus.on(|_: &Event<Nap>| std::thread::sleep(NAP))));
    rounds.in_turns(
        "S6",
        || nanos_each(1, || drop(bus.emit(Nap).wait().expect("a live bus"))),
        || {
            nanos_each(1, || {
                std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..HANDLERS).map(|_| scope.spawn(|| std::thread::sleep(NAP))).collect();
                    threads.into_iter().for_each(|thread| thread.join().expect("a thread that sleeps"));
                });
            })
        },
    );
}

/// S11, per handler. The floor is S5's, so that it does not pay for a list that is larger than the caches.
pub fn many_handlers(rounds: &Rounds) {
    let bus = parallel_bus("S11");
    (0..MANY_HANDLERS).for_each(|_| drop(bus.on(handle_tick)));
    let calls = Calls::new(HANDLERS);
    rounds.in_turns(
        "S11",
        || nanos_each(MANY_HANDLERS, || emit_and_wait(&bus, 1)),
        || {
            let repeats = MANY_HANDLERS / HANDLERS;
            nanos_each(MANY_HANDLERS, || (0..repeats).for_each(|n| calls.run(&tick(n))))
        },
    );
}
