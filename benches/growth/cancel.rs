//! Cancelling an event with many descendants.

use crate::measure::own_time_each;
use crate::row::{Row, point};
use threadbus::{Event, EventBus, EventConcurrency, Payload};

pub static ROWS: &[Row] = &[
    Row::new(
        "cancel",
        "cancel of an event with queued children, for the caller",
        &[point("1,000", || cancel(1000, false)), point("100,000", || cancel(100_000, false))],
    )
    .at_most(1e6),
    Row::new(
        "cancel manual",
        "the same on a manual bus",
        &[point("1,000", || cancel(1000, true)), point("100,000", || cancel(100_000, true))],
    )
    .at_most(1e6),
];

struct Parent(usize);
impl Payload for Parent {
    type Output = ();
}
struct Child;
impl Payload for Child {
    type Output = ();
}

/// One call, with so many children in the queue of a bus that is paused.
fn cancel(children: usize, manual: bool) -> f64 {
    let parents = EventBus::builder("Parents").event_concurrency(EventConcurrency::Parallel);
    let parents = parents.build().expect("a bus");
    let queue = EventBus::builder("Queue").max_history(Some(0));
    let queue = if manual { queue.manual() } else { queue }.build().expect("a bus");
    queue.pause();
    let on = queue.clone();
    parents.on(move |parent: &Event<Parent>| {
        (0..parent.0).for_each(|_| drop(on.emit(Child)));
    });
    queue.on(|_: &Event<Child>| ());
    let parent = parents.emit(Parent(children));
    while queue.pending() < children {
        std::thread::yield_now();
    }
    let time = own_time_each(1, || assert!(parent.cancel()));
    queue.resume();
    queue.wait_until_idle().expect("outside of handlers");
    time
}
