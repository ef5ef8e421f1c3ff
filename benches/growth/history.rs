//! A long history and a long queue: finding, looking up, making room.

use crate::measure::own_time_each;
use crate::row::{Row, point};
use std::sync::mpsc::{Receiver, Sender, channel};
use threadbus::{Event, EventBus, OnFull, Payload};

pub static ROWS: &[Row] = &[
    Row::new(
        "find",
        "find of a type that is not in the history",
        &[
            point("100", || find(100, type_that_is_not_there)),
            point("100,000", || find(100_000, type_that_is_not_there)),
        ],
    )
    .times(2.0)
    .at_most(1000.0),
    Row::new(
        "find named",
        "find of a name that is not in the history",
        &[
            point("100", || find(100, name_that_is_not_there)),
            point("100,000", || find(100_000, name_that_is_not_there)),
        ],
    )
    .times(2.0)
    .at_most(1000.0),
    Row::new(
        "find child",
        "find of a child that is not in the history",
        &[
            point("100", || find(100, child_that_is_not_there)),
            point("100,000", || find(100_000, child_that_is_not_there)),
        ],
    )
    .times(2.0)
    .at_most(1000.0),
    Row::new(
        "drop oldest",
        "an emit that drops the oldest of a full queue behind a handler that stands",
        &[
            point("10", || drop_oldest(10)),
            point("10,000", || drop_oldest(10_000)),
            point("80,000", || drop_oldest(80_000)),
        ],
    )
    .times(2.0),
    Row::new(
        "emit now",
        "emit_now, the rest of a full history being unfinished",
        &[point("5,000", || emit_now(5000)), point("80,000", || emit_now(80_000))],
    )
    .times(2.0),
    Row::new(
        "event by id",
        "event(id) of any that the history has",
        &[point("5,000", || look_up(5000)), point("80,000", || look_up(80_000))],
    )
    .runs(15)
    .times(2.0),
];

struct Common;
impl Payload for Common {
    type Output = ();
}
struct Rare;
impl Payload for Rare {
    type Output = ();
}
struct Stands;
impl Payload for Stands {
    type Output = ();
}

/// A bus with so many events in its history, all complete.
fn with_history(events: usize) -> EventBus {
    let bus = EventBus::builder("Long").max_history(Some(events)).build().expect("a bus");
    for _ in 0..events {
        drop(bus.emit(Common));
    }
    bus.wait_until_idle().expect("outside of handlers");
    assert_eq!(bus.history_len(), events);
    bus
}

fn find(events: usize, look: fn(&EventBus, &Event<Common>)) -> f64 {
    const FINDS: usize = 1000;
    let bus = with_history(events);
    let newest = bus.find::<Common>().first().expect("one of them");
    look(&bus, &newest);
    own_time_each(FINDS, || (0..FINDS).for_each(|_| look(&bus, &newest)))
}

fn type_that_is_not_there(bus: &EventBus, _: &Event<Common>) {
    assert!(bus.find::<Rare>().first().is_none());
}

fn name_that_is_not_there(bus: &EventBus, _: &Event<Common>) {
    assert!(bus.find_named("Rare").first().is_none());
}

fn child_that_is_not_there(bus: &EventBus, newest: &Event<Common>) {
    assert!(bus.find::<Common>().child_of(newest).first().is_none());
}

/// A handler that stands, until this goes.
struct Standing {
    bus: EventBus,
    go_on: Option<Sender<()>>,
}

impl Standing {
    fn new(bus: EventBus) -> Standing {
        let (go_on, gate): (Sender<()>, Receiver<()>) = channel();
        let (tell, started) = channel();
        let gate = std::sync::Mutex::new((gate, tell));
        bus.on(move |_: &Event<Stands>| {
            let (gate, tell) = &*gate.lock().expect("one handler at a time");
            let _ = tell.send(());
            let _ = gate.recv();
        });
        drop(bus.emit(Stands));
        started.recv().expect("the handler lives");
        Standing { bus, go_on: Some(go_on) }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        drop(self.go_on.take());
        self.bus.wait_until_idle().expect("outside of handlers");
    }
}

fn drop_oldest(capacity: usize) -> f64 {
    let emits = capacity.max(2000);
    let bus = EventBus::builder("Full").queue_capacity(capacity, OnFull::DropOldest).handler_timeout(None);
    let standing = Standing::new(bus.event_timeout(None).build().expect("a bus"));
    for _ in 0..capacity + 100 {
        drop(standing.bus.emit(Common));
    }
    // As many as fit, since what falls out may be swept up late.
    own_time_each(emits, || (0..emits).for_each(|_| drop(standing.bus.emit(Common))))
}

fn emit_now(events: usize) -> f64 {
    const EMITS: usize = 1000;
    let bus = EventBus::builder("Paused").max_history(Some(events)).build().expect("a bus");
    bus.pause();
    for _ in 0..events {
        drop(bus.emit(Common));
    }
    // The second finds a claim behind all that is queued, and looks at each of those once.
    (0..2).for_each(|_| drop(bus.emit_now(Common)));
    let time = own_time_each(EMITS, || (0..EMITS).for_each(|_| drop(bus.emit_now(Common))));
    bus.resume();
    bus.wait_until_idle().expect("outside of handlers");
    time
}

fn look_up(events: usize) -> f64 {
    const LOOKS: usize = 2000;
    let bus = with_history(events);
    let ids: Vec<_> = bus.history().iter().map(|event| event.id()).collect();
    // Some of them from all over, again and again: it is the steps that count, and not the size of a cache.
    let some: Vec<_> = (0..LOOKS).map(|n| ids[n % 50 * 7919 % ids.len()]).collect();
    own_time_each(LOOKS, || some.iter().for_each(|id| assert!(bus.event(*id).is_some())))
}
