//! Lines by priority under shuttle: who is next, those that leave, what a full queue drops of them, how many may be in flight, and places of
//! handlers that were given up. `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_ranks`.
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::thread;
use std::sync::Arc;
use threadbus::*;

fn parallel(runtime: &Runtime, name: &str) -> BusBuilder {
    EventBus::builder(name)
        .runtime(runtime)
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
}

fn at(level: u8) -> EventOptions {
    EventOptions::new().priority(Priority::new(level).unwrap())
}

/// The place goes to the best that is in line, on two buses, though some leave just then.
#[test]
fn a_line_of_priorities_with_leavers_goes_on_in_its_order() {
    check(|| {
        let runtime = runtime();
        let (limit, alone) = (Limit::new(1), Arc::new(Alone::default()));
        let (open, opened) = flag();
        let ran = Arc::new(Mutex::new(Vec::new()));
        let buses = ["a", "b"].map(|name| parallel(&runtime, name).build().unwrap());
        for bus in &buses {
            let (alone, opened, ran) = (Arc::clone(&alone), Arc::clone(&opened), Arc::clone(&ran));
            bus.on_with(limited(&limit), move |job: &Event<Job>| {
                ran.lock().unwrap().push((job.priority().level(), job.0));
                // Who was given up has no place any more.
                match job.0 {
                    0 => alone.run(|| until(|| opened.load(SeqCst) == 1)),
                    1 | 2 => thread::yield_now(),
                    _ => alone.run(|| {}),
                }
                job.0
            });
        }
        buses[0].emit(Job(0));
        until(|| ran.lock().unwrap().len() == 1);
        let emit = |bus: usize, n, level| buses[bus].emit_with(Job(n), at(level));
        let events = [emit(0, 1, 5), emit(0, 2, 5), emit(1, 3, 8), emit(0, 4, 5), emit(1, 5, 2)];
        // In line, and only the first one's thread is at work.
        until(|| buses.iter().map(|bus| bus.metrics().waiting).sum::<usize>() == 5 && runtime.stats().busy == 1);
        let leavers = [events[0].clone(), events[1].clone()];
        let leaver = thread::spawn(move || leavers.iter().filter(|event| event.cancel()).count());
        open.store(1, SeqCst);
        leaver.join().unwrap();
        buses.iter().for_each(at_rest);
        let ran = ran.lock().unwrap();
        let of = |n| ran.iter().position(|one| one.1 == n);
        assert_eq!((ran[1].1, ran.last().unwrap().1), (3, 5), "{ran:?}");
        assert!(of(4).is_some() && of(1).is_none_or(|at| Some(at) < of(4)), "{ran:?}");
        assert!(events[2..].iter().all(|event| event.result().is_ok()));
    });
}

/// Outer waits for Middle, and that for an Inner that is nobody's child; each is lent the place. Middle is given up.
#[test]
fn a_borrower_in_the_middle_of_a_chain_leaves_its_place_to_nobody() {
    check(|| {
        let runtime = runtime();
        let (limit, inside) = (Limit::new(1), Arc::new(Alone::default()));
        let (open, opened) = flag();
        let bus = parallel(&runtime, "a").build().unwrap();
        let (alone, at_it) = (Arc::clone(&inside), Arc::new(AtomicUsize::new(0)));
        let started = Arc::clone(&at_it);
        bus.on_with(limited(&limit), move |_: &Event<Other>| {
            started.store(1, SeqCst);
            alone.run(|| until(|| opened.load(SeqCst) == 1));
        });
        let middle: Arc<Mutex<Option<Event<Child>>>> = Arc::new(Mutex::new(None));
        let awaited = Arc::clone(&middle);
        bus.on_with(limited(&limit), move |middle: &Event<Child>| {
            let inner = middle.bus().emit_with(Other, EventOptions::new().detached());
            *awaited.lock().unwrap() = Some(middle.clone());
            inner.wait_in_order().ok();
            middle.0
        });
        let alone = Arc::clone(&inside);
        bus.on_with(limited(&limit), move |job: &Event<Job>| {
            job.bus().emit(Child(1)).wait().ok();
            alone.run(|| {});
            job.0
        });
        let outer = bus.emit(Job(1));
        until(|| at_it.load(SeqCst) == 1);
        assert!(middle.lock().unwrap().take().unwrap().cancel());
        let opener = thread::spawn(move || open.store(1, SeqCst));
        assert_eq!(outer.result().unwrap(), 1);
        opener.join().unwrap();
        at_rest(&bus);
    });
}

/// Dropped just when its turn comes: either it runs, or it never has.
#[test]
fn a_full_queue_drops_nothing_that_starts_meanwhile() {
    check(|| {
        let runtime = runtime();
        let limit = Limit::new(1);
        let bus = parallel(&runtime, "a").queue_capacity(1, OnFull::DropOldest).build().unwrap();
        let ran = Arc::new([const { AtomicUsize::new(0) }; 4]);
        let count = Arc::clone(&ran);
        bus.on_with(limited(&limit), move |job: &Event<Job>| {
            count[job.0 as usize].fetch_add(1, SeqCst);
            thread::yield_now();
            job.0
        });
        let events: Vec<_> = (0..4).map(|n| bus.emit(Job(n))).collect();
        for (n, event) in events.iter().enumerate() {
            let times = ran[n].load(SeqCst);
            match event.result() {
                Ok(value) => assert_eq!(value, n as u32),
                Err(ResultError::Wait(WaitError::Rejected(_))) | Err(_) if times == 0 => {}
                Err(error) => panic!("{n} had started {times} times and ended with {error}"),
            }
        }
        assert_eq!(ran[3].load(SeqCst), 1, "the last is dropped by nobody");
        at_rest(&bus);
        assert_eq!(bus.metrics().waiting, 0);
    });
}

#[test]
fn no_more_are_in_flight_than_may_be_and_all_come() {
    check(|| {
        let runtime = runtime();
        let bus = parallel(&runtime, "a").max_in_flight(1).build().unwrap();
        let alone = Arc::new(Alone::default());
        bus.on(move |job: &Event<Job>| {
            alone.run(|| {});
            job.0
        });
        let other = bus.clone();
        let emitter = thread::spawn(move || other.emit(Job(9)));
        let events = [bus.emit(Job(1)), bus.emit(Job(2))];
        // In order, since a jump is not held up.
        let event = emitter.join().unwrap();
        for event in events.iter().chain([&event]) {
            event.wait_in_order().unwrap();
        }
        at_rest(&bus);
    });
}

/// By whoever ends it: the thread of a handler that was given up comes back late.
#[test]
fn what_is_given_up_makes_room_in_flight() {
    check(|| {
        let runtime = runtime();
        let bus = parallel(&runtime, "a").max_in_flight(1).build().unwrap();
        let (open, opened) = flag();
        bus.on(move |job: &Event<Job>| {
            if job.0 == 1 {
                until(|| opened.load(SeqCst) == 1);
            }
            job.0
        });
        let first = bus.emit(Job(1));
        until(|| first.status() == EventStatus::Started);
        let second = bus.emit(Job(2));
        let given_up = first.clone();
        let canceller = thread::spawn(move || assert!(given_up.cancel()));
        assert_eq!(second.wait_in_order().unwrap().result().unwrap(), 2);
        open.store(1, SeqCst);
        canceller.join().unwrap();
        at_rest(&bus);
    });
}

#[test]
fn a_handler_that_waits_in_order_lets_its_bus_go_on() {
    check(|| {
        let runtime = runtime();
        let bus = parallel(&runtime, "a").max_in_flight(1).build().unwrap();
        bus.on(|child: &Event<Child>| child.0);
        bus.on(|job: &Event<Job>| -> Result<u32, HandlerError> {
            let child = job.bus().emit(Child(job.0));
            Ok(child.wait_in_order()?.result()?)
        });
        let events = [bus.emit(Job(1)), bus.emit(Job(2))];
        assert_eq!(events.map(|event| event.wait_in_order().unwrap().result().unwrap()), [1, 2]);
        at_rest(&bus);
    });
}

/// Between the deadline, the thread that comes back, and who is next.
#[test]
fn a_place_that_is_kept_until_its_thread_is_back_is_given_back_once() {
    check(|| {
        let runtime = runtime();
        let limit = Limit::new(1).until_returned();
        let alone = Arc::new(Alone::default());
        let bus = parallel(&runtime, "a").build().unwrap();
        bus.on_with(limited(&limit).timeout(SHORT).retry(Retry::attempts(2)), move |job: &Event<Job>| {
            let attempt = HandlerContext::current().map_or(0, |context| context.attempt());
            // Also of those that do not count any more.
            alone.run(|| {
                if job.0 == 1 && attempt == 1 {
                    stay();
                }
            });
            job.0
        });
        let events = [bus.emit(Job(1)), bus.emit(Job(2))];
        let time = time_passes(&runtime, &events[0]);
        assert_eq!(events.map(|event| event.result().unwrap()), [1, 2]);
        time.join().unwrap();
        at_rest(&bus);
    });
}
