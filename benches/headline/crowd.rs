//! S7, S8, S10: S1 in company: many buses, many handlers, a long history, several producers, registrations that come and go.

use crate::machine;
use crate::measure::{Rounds, nanos_each, print_value};
use crate::stream::{EVENTS, Tick, emit_and_idle, handle_tick, ticking_bus};
use std::hint::black_box;
use std::sync::Barrier;
use threadbus::{Event, EventBus, Payload};

const BUSES: usize = 500;
const EVENTS_OF_EACH: usize = 100;
const PRODUCERS: usize = 8;
const HISTORY: usize = 10_000;

/// S7: short-lived buses one after another, per event; the floor is a short-lived thread for each. And what an idle bus holds.
pub fn short_lived(rounds: &Rounds) {
    // First, while no freed memory hides what is taken. All stay until the last round.
    let mut idle = Vec::new();
    for _ in 0..rounds.count {
        let before = machine::resident();
        idle.extend(idle_buses());
        print_value("S7 memory", (machine::resident() - before) / 1000.0 / BUSES as f64);
    }
    drop(idle);

    rounds.in_turns(
        "S7",
        || {
            nanos_each(BUSES * EVENTS_OF_EACH, || {
                for _ in 0..BUSES {
                    emit_and_idle(&ticking_bus("S7"), EVENTS_OF_EACH);
                }
            })
        },
        || {
            nanos_each(BUSES * EVENTS_OF_EACH, || {
                for _ in 0..BUSES {
                    let thread = std::thread::spawn(|| {
                        for n in 0..EVENTS_OF_EACH {
                            let tick = black_box(Tick([n as u64; 8]));
                            black_box(&|tick: &Tick| black_box(tick.0[0]))(&tick);
                        }
                    });
                    thread.join().expect("nothing in it panics");
                }
            })
        },
    );
}

/// Buses that have been used and will be again.
fn idle_buses() -> Vec<EventBus> {
    let make = |_| {
        let bus = ticking_bus("idle");
        bus.emit(Tick([1; 8])).wait().expect("a live bus");
        bus
    };
    (0..BUSES).map(make).collect()
}

/// S8: S1 in company, against S1 alone.
pub fn in_company(rounds: &Rounds) {
    let plain = ticking_bus("S8 plain");
    let alone = || emit_and_idle(&plain, EVENTS);

    let crowded = ticking_bus("S8 handlers");
    register_ten_thousand_on_other_types(&crowded);
    rounds.in_turns("S8 handlers", || emit_and_idle(&crowded, EVENTS), alone);
    drop(crowded);

    let remembering = EventBus::builder("S8 history").max_history(Some(HISTORY)).build().expect("valid options");
    remembering.on(handle_tick);
    rounds.in_turns("S8 history", || emit_and_idle(&remembering, EVENTS), alone);
    drop(remembering);

    let among_idle = || {
        let idle = idle_buses();
        let nanos = alone();
        drop(idle);
        nanos
    };
    rounds.in_turns("S8 idle buses", among_idle, alone);
    rounds.in_turns("S8 producers", || emit_from_several(&plain), alone);
}

/// The threads are made and ended outside of what is measured.
fn emit_from_several(bus: &EventBus) -> f64 {
    let start = Barrier::new(PRODUCERS + 1);
    let end = Barrier::new(PRODUCERS + 1);
    std::thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| {
                start.wait();
                (0..EVENTS / PRODUCERS).for_each(|n| drop(bus.emit(Tick([n as u64; 8]))));
                end.wait();
            });
        }
        // The last thread to arrive opens the barrier, so the producers stand ready.
        start.wait();
        nanos_each(EVENTS, || {
            end.wait();
            bus.wait_until_idle().expect("outside of handlers");
        })
    })
}

/// A hundred types with a hundred handlers each.
fn register_ten_thousand_on_other_types(bus: &EventBus) {
    struct Other<const N: usize>;
    impl<const N: usize> Payload for Other<N> {
        type Output = ();
    }
    macro_rules! on_each {
        ($($tens:literal)*) => { $(on_each!(@ones $tens, 0 1 2 3 4 5 6 7 8 9);)* };
        (@ones $tens:literal, $($one:literal)*) => { $(
            for _ in 0..100 {
                bus.on(|_: &Event<Other<{ 10 * $tens + $one }>>| {});
            }
        )* };
    }
    on_each!(0 1 2 3 4 5 6 7 8 9);
    assert_eq!(bus.handlers().len(), 10_001, "these and the one that is measured");
}

/// S10: a handler of its own for each event, on two buses in turns, against S1.
///
/// As in S1 nobody waits for single events: three S1 are less than a round trip between two threads takes. What an event meets is then up
/// to the threads, so each bus has S1's handler too. In the second figure each event is waited for before its handler goes.
pub fn handler_each(rounds: &Rounds) {
    let plain = ticking_bus("S10 plain");
    let alone = || emit_and_idle(&plain, EVENTS);
    let buses = [ticking_bus("S10 first"), ticking_bus("S10 second")];
    let with_handlers = |after_emit: fn(Event<Tick>)| {
        nanos_each(EVENTS, || {
            for n in 0..EVENTS {
                let bus = &buses[n % 2];
                let handler = bus.on(handle_tick);
                after_emit(bus.emit(Tick([n as u64; 8])));
                bus.off(&handler);
            }
            buses.iter().for_each(|bus| bus.wait_until_idle().expect("outside of handlers"));
        })
    };
    rounds.in_turns("S10", || with_handlers(drop), alone);
    rounds.in_turns("S10 waited", || with_handlers(|event| drop(event.wait().expect("a live bus"))), alone);
}
