//! Subscriptions, finds and batches under shuttle: nobody is left waiting. `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_streams`.
//!
//! `THREADBUS_SCHEDULES` sets how many schedules each model runs (default 2,000). A lost wake-up shows as a deadlock: timed waits never
//! expire here.
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::check;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::thread;
use std::sync::Arc;
use std::time::Duration;
use threadbus::*;

struct Row(u32);
impl Payload for Row {
    type Output = ();
}
struct Starts;
impl Payload for Starts {
    type Output = ();
}

const LONG: Duration = Duration::from_secs(100);

fn bus(name: &str) -> EventBus {
    let runtime = Runtime::builder().max_threads(8).build().unwrap();
    EventBus::builder(name).runtime(&runtime).build().unwrap()
}

fn emitter(bus: &EventBus, rows: std::ops::Range<u32>) -> thread::JoinHandle<()> {
    let bus = bus.clone();
    thread::spawn(move || rows.for_each(|n| drop(bus.emit(Row(n)))))
}

#[test]
fn two_subscriptions_see_one_order_and_end_with_the_bus() {
    check(|| {
        let bus = bus("order");
        let [first, second] = [bus.subscribe::<Row>(), bus.subscribe::<Row>()];
        let [first, second] = [first, second].map(|s| thread::spawn(move || s.map(|row| row.0).collect::<Vec<_>>()));
        let emitters = [emitter(&bus, 0..2), emitter(&bus, 10..12)];
        emitters.into_iter().for_each(|emitter| emitter.join().unwrap());
        drop(bus);
        let seen = first.join().unwrap();
        assert_eq!(seen, second.join().unwrap());
        assert_eq!(seen.len(), 4);
    });
}

#[test]
fn emitters_that_wait_for_room_are_all_let_in() {
    check(|| {
        let bus = bus("room");
        let mut narrow = bus.subscribe_bounded::<Row>(1, OnLag::Block);
        let mut other = bus.subscribe_any_bounded(2, OnLag::Block);
        let emitters = [emitter(&bus, 0..2), emitter(&bus, 10..12)];
        let reader = thread::spawn(move || (0..4).map(|_| other.recv().unwrap()).count());
        for _ in 0..4 {
            assert!(narrow.backlog() <= 1);
            narrow.recv().unwrap();
        }
        emitters.into_iter().for_each(|emitter| emitter.join().unwrap());
        assert_eq!(reader.join().unwrap(), 4);
    });
}

#[test]
fn emitters_that_wait_for_room_are_released_by_the_end_of_the_subscription() {
    check(|| {
        let bus = bus("released");
        let mut subscription = bus.subscribe_bounded::<Row>(1, OnLag::Block);
        let emitters = [emitter(&bus, 0..3), emitter(&bus, 10..13)];
        let closer = subscription.closer();
        let closing = thread::spawn(move || closer.close());
        drop(subscription.recv());
        closing.join().unwrap();
        drop(subscription);
        emitters.into_iter().for_each(|emitter| emitter.join().unwrap());
        assert_eq!(bus.history_len(), 6);
    });
}

#[test]
fn a_shutdown_lets_readers_emitters_and_finders_go() {
    check(|| {
        let bus = bus("ends");
        let mut full = bus.subscribe_bounded::<Row>(1, OnLag::Block);
        let emitters = emitter(&bus, 0..3);
        let reader = {
            let subscription = bus.subscribe::<Starts>();
            thread::spawn(move || subscription.count())
        };
        let finder = {
            let bus = bus.clone();
            thread::spawn(move || bus.find::<Starts>().future_forever().first())
        };
        bus.shutdown(Shutdown::Now, Duration::ZERO);
        emitters.join().unwrap();
        assert_eq!(reader.join().unwrap(), 0);
        assert!(finder.join().unwrap().is_none());
        while full.recv().is_ok() {}
    });
}

#[test]
fn a_find_misses_nothing_between_the_past_and_the_future() {
    check(|| {
        let bus = bus("find");
        let emitters = [emitter(&bus, 0..2), emitter(&bus, 10..12)];
        let found = bus.find::<Row>().future_forever().filter(|row| row.0 == 11).first();
        assert_eq!(found.unwrap().0, 11);
        let complete = bus.find::<Row>().status(EventStatus::Completed);
        emitters.into_iter().for_each(|emitter| emitter.join().unwrap());
        bus.wait_until_idle().unwrap();
        assert_eq!(complete.all().len(), 4);
    });
}

#[test]
fn a_find_that_waits_for_completion_hears_of_it() {
    check(|| {
        let bus = bus("complete");
        bus.on(|_: &Event<Row>| thread::yield_now());
        let finder = {
            let bus = bus.clone();
            thread::spawn(move || bus.find::<Row>().future_forever().status(EventStatus::Completed).first())
        };
        bus.emit(Row(1));
        bus.emit(Row(2)).wait().unwrap();
        assert!(finder.join().unwrap().unwrap().is_completed());
    });
}

#[test]
fn a_recv_in_a_handler_ends_when_that_is_given_up() {
    check(|| {
        let bus = bus("given up");
        bus.on(|event: &Event<Starts>| while event.bus().subscribe::<Row>().recv().is_ok() {});
        let event = bus.emit(Starts);
        let emitters = emitter(&bus, 0..1);
        event.cancel();
        let _ = event.wait();
        emitters.join().unwrap();
        bus.wait_until_idle().unwrap();
    });
}

#[test]
fn a_batch_reports_each_event_once_before_the_wait_returns() {
    check(|| {
        let bus = bus("batch");
        bus.on(|_: &Event<Row>| thread::yield_now());
        let batch = bus.batch();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&seen);
        batch.on_progress(move |progress| keep.lock().unwrap().push(progress.completed));
        let other = {
            let batch = batch.clone();
            thread::spawn(move || {
                batch.emit(Row(1));
                batch.emit(Row(2)).cancel();
            })
        };
        batch.emit(Row(3));
        other.join().unwrap();
        assert_eq!(batch.wait().unwrap().completed, 3);
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
    });
}

#[test]
fn two_handlers_wait_for_one_batch() {
    check(|| {
        let runtime = Runtime::builder().max_threads(8).build().unwrap();
        let [a, b] = ["a", "b"].map(|name| EventBus::builder(name).runtime(&runtime).build().unwrap());
        let batch = a.batch();
        let ran = Arc::new(AtomicUsize::new(0));
        for bus in [&a, &b] {
            let (waits, counts) = (batch.clone(), Arc::clone(&ran));
            bus.on(move |_: &Event<Starts>| {
                waits.wait_timeout(LONG).unwrap();
                counts.fetch_add(1, SeqCst);
            });
        }
        let starts = [a.emit(Starts), b.emit(Starts)];
        batch.emit(Row(1));
        batch.add(b.emit(Row(2)));
        for event in starts {
            event.wait().unwrap();
        }
        assert_eq!((batch.wait().unwrap().total, ran.load(SeqCst)), (2, 2));
        // A batch keeps its bus; the handlers kept the batch.
        a.off_all::<Starts>();
        b.off_all::<Starts>();
    });
}
