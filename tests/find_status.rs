//! Finds by status: `Completed` are events that ran, not those that were given up before.

mod common;

use common::{Gate, PATIENCE, done, eventually, idle, payload, within};
use threadbus::{Event, EventBus, EventStatus, OnFull, WaitError};

payload!(Job { n: usize });

fn completed(bus: &EventBus) -> Vec<usize> {
    bus.find::<Job>().status(EventStatus::Completed).all().iter().map(|job| job.n).collect()
}

#[test]
fn what_was_cancelled_or_dropped_before_it_ran_is_not_completed() {
    let bus = EventBus::builder("Past").queue_capacity(2, OnFull::DropOldest).build().unwrap();
    bus.on(|_: &Event<Job>| {});
    bus.pause();
    let dropped = bus.emit(Job { n: 0 });
    let cancelled = bus.emit(Job { n: 1 });
    bus.emit(Job { n: 2 });
    assert!(cancelled.cancel());
    assert!(matches!((dropped.wait(), cancelled.wait()), (Err(WaitError::Dropped), Err(WaitError::Cancelled))));
    assert_eq!(completed(&bus), [0; 0]);
    assert!(bus.find::<Job>().status(EventStatus::Completed).first().is_none());
    bus.resume();
    idle(&bus);
    assert_eq!(completed(&bus), [2]);
    assert_eq!(bus.find_named("Job").status(EventStatus::Completed).all().len(), 1);
    // Without a status they are there.
    assert_eq!(bus.find::<Job>().all().len(), 3);
    assert!(cancelled.is_completed() && dropped.is_completed());
}

#[test]
fn what_failed_or_was_cancelled_while_it_ran_is_completed() {
    let bus = EventBus::new("Ran");
    let started = Gate::new();
    let at_work = started.clone();
    bus.on(move |job: &Event<Job>| -> Result<(), WaitError> {
        if job.n == 0 {
            at_work.open();
            threadbus::HandlerContext::current().unwrap().sleep(6 * PATIENCE)?;
        }
        Err(WaitError::Aborted)
    });
    let running = bus.emit(Job { n: 0 });
    started.wait();
    assert!(running.cancel());
    done(&bus.emit(Job { n: 1 }));
    eventually(|| running.is_completed());
    let mut found = completed(&bus);
    found.sort_unstable();
    assert_eq!(found, [0, 1]);
}

#[test]
fn one_that_waits_goes_on_behind_a_cancelled_one() {
    for past in [true, false] {
        within(3 * PATIENCE, move || {
            let bus = EventBus::new("Waits");
            bus.on(|_: &Event<Job>| {});
            bus.pause();
            let before = past.then(|| bus.emit(Job { n: 0 }));
            let finder = {
                let bus = bus.clone();
                std::thread::spawn(move || {
                    bus.find::<Job>().past(past).status(EventStatus::Completed).future(2 * PATIENCE).first()
                })
            };
            let first = before.unwrap_or_else(|| bus.emit(Job { n: 0 }));
            assert!(first.cancel());
            bus.resume();
            // It may not be waiting yet: until it has found one, others come.
            eventually(|| {
                bus.emit(Job { n: 1 });
                finder.is_finished()
            });
            assert_eq!(finder.join().unwrap().map(|job| job.n), Some(1));
        });
    }
}
