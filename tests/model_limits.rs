//! Limits under shuttle: never more inside than allowed, places lent to what their holder waits for, and given back whatever ends it.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_limits`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::thread;
use std::sync::Arc;
use std::time::Duration;
use threadbus::*;

#[test]
fn one_at_a_time_on_two_buses_and_a_cancel_gives_the_place_back() {
    check(|| {
        let runtime = runtime();
        let (limit, alone) = (Limit::new(1), Arc::new(Alone::default()));
        let buses = ["a", "b"].map(|name| bus(&runtime, name));
        for bus in &buses {
            let alone = Arc::clone(&alone);
            bus.on_with(limited(&limit), move |job: &Event<Job>| {
                // Who was given up has no place any more.
                if job.0 < 10 {
                    alone.run(|| {});
                } else {
                    thread::yield_now();
                }
                job.0
            });
        }
        let given_up = buses[0].emit(Job(10));
        let canceller = thread::spawn(move || given_up.cancel());
        let events = [buses[0].emit(Job(1)), buses[1].emit(Job(2)), buses[1].emit(Job(3))];
        for (event, n) in events.iter().zip(1..) {
            assert_eq!(event.result().unwrap(), n);
        }
        canceller.join().unwrap();
        buses.iter().for_each(at_rest);
    });
}

#[test]
fn who_waits_lends_its_place_to_what_it_waits_for() {
    check(|| {
        let runtime = runtime();
        let limit = Limit::new(1);
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on_with(limited(&limit), move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let other = other.upgrade().ok_or("gone")?;
            let child = other.emit(Child(job.0));
            Ok(child.result()?)
        });
        b.on_with(limited(&limit), |child: &Event<Child>| child.0);
        let events = [a.emit(Job(1)), a.emit(Job(2))];
        let beside = b.emit(Child(3));
        assert_eq!(beside.result().unwrap(), 3);
        assert_eq!(events.map(|event| event.result().unwrap()), [1, 2]);
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn a_place_is_lent_to_a_child_that_is_waited_for_in_order() {
    check(|| {
        let runtime = runtime();
        let limit = Limit::new(1);
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on_with(limited(&limit), move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let child = other.upgrade().ok_or("gone")?.emit(Child(job.0));
            child.wait_in_order()?;
            Ok(child.result()?)
        });
        b.on_with(limited(&limit), |child: &Event<Child>| child.0);
        b.on(|_: &Event<Next>| thread::yield_now());
        let beside = b.emit(Next);
        assert_eq!(a.emit(Job(1)).result().unwrap(), 1);
        beside.wait().unwrap();
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn the_end_of_a_wait_for_a_place_and_its_turn_exclude_each_other() {
    check(|| {
        let runtime = runtime();
        let limit = Limit::new(1).acquire_timeout(Duration::from_secs(5));
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        for bus in [&a, &b] {
            bus.on_with(limited(&limit), |job: &Event<Job>| {
                thread::yield_now();
                job.0
            });
        }
        let events = [a.emit(Job(1)), b.emit(Job(2))];
        let timed = [events[0].clone(), events[1].clone()];
        let clock = runtime.clone();
        let timers = thread::spawn(move || timers_fire_until(&clock, || timed.iter().all(Event::is_completed)));
        let late = events[1].clone();
        let canceller = thread::spawn(move || late.cancel());
        for event in &events {
            let _ = event.wait();
            settled(event);
            let result = &event.results()[0];
            assert!(result.value.is_some() != result.error.is_some());
        }
        timers.join().unwrap();
        canceller.join().unwrap();
        at_rest(&a);
        at_rest(&b);
        // The place is there for the next.
        let next = a.emit(Job(3));
        assert_eq!(next.result().unwrap(), 3);
    });
}

#[test]
fn who_comes_in_too_late_but_anyway_takes_nobodys_place() {
    check(|| {
        let runtime = runtime();
        let limit = Limit::new(1).acquire_timeout(Duration::from_secs(5)).lax(true);
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        for bus in [&a, &b] {
            bus.on_with(limited(&limit), |job: &Event<Job>| {
                thread::yield_now();
                job.0
            });
        }
        let events = [a.emit(Job(1)), b.emit(Job(2)), a.emit(Job(3))];
        let clock = runtime.clone();
        let timers = thread::spawn(move || clock.model_timers_fire());
        for (event, n) in events.iter().zip(1..) {
            assert_eq!(event.result().unwrap(), n);
        }
        timers.join().unwrap();
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn a_place_is_kept_from_one_attempt_to_the_next_and_then_given_back() {
    check(|| {
        let runtime = runtime();
        let (limit, alone) = (Limit::new(1), Arc::new(Alone::default()));
        let retry = Retry::attempts(2).delay(Duration::from_millis(1));
        let bus =
            EventBus::builder("a").runtime(&runtime).event_concurrency(EventConcurrency::Parallel).build().unwrap();
        bus.on_with(limited(&limit).retry(retry), move |job: &Event<Job>| -> Result<u32, HandlerError> {
            alone.run(|| {});
            match HandlerContext::current().ok_or("outside")?.attempt() {
                1 => Err("again".into()),
                _ => Ok(job.0),
            }
        });
        let events = [bus.emit(Job(1)), bus.emit(Job(2))];
        let timed = [events[0].clone(), events[1].clone()];
        let clock = runtime.clone();
        let timers = thread::spawn(move || timers_fire_until(&clock, || timed.iter().all(Event::is_completed)));
        assert_eq!(events.map(|event| event.result().unwrap()), [1, 2]);
        timers.join().unwrap();
        at_rest(&bus);
    });
}

#[test]
fn a_circle_over_a_turn_that_a_completed_event_keeps_in_line_is_told() {
    check(|| {
        let runtime = runtime();
        let limit = Limit::new(1);
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on(|child: &Event<Child>| child.0);
        b.on_with(limited(&limit), |child: &Event<Child>| child.0);
        b.on(|_: &Event<Next>| ());
        a.on_with(limited(&limit), move |job: &Event<Job>| -> Result<u32, HandlerError> {
            match other.upgrade().ok_or("gone")?.emit(Next).wait_in_order() {
                // Behind the event that wants the place, or before it.
                Ok(_) | Err(WaitError::Deadlock(_)) => Ok(job.0),
                Err(error) => Err(error.into()),
            }
        });
        let complete = a.emit(Child(1));
        complete.wait().unwrap();
        let (onto, late) = (b.clone(), complete.clone());
        let forwarder = thread::spawn(move || onto.forward(&late).unwrap());
        assert_eq!(a.emit(Job(2)).result().unwrap(), 2);
        forwarder.join().unwrap();
        at_rest(&a);
        at_rest(&b);
        assert_eq!(complete.result_list().unwrap(), [1, 1]);
    });
}

/// Whoever holds the place does so until what stands in line for it is over.
#[test]
fn what_gets_into_the_line_of_a_handler_that_is_taken_off_does_not_stay_there() {
    check(|| {
        let runtime = runtime();
        let limit = Limit::new(1);
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let (open, opened) = shuttle::sync::mpsc::channel::<()>();
        let opened = shuttle::sync::Mutex::new(opened);
        b.on_with(limited(&limit), move |_: &Event<Next>| {
            let _ = opened.lock().unwrap().recv();
        });
        let holder = b.emit(Next);
        let info = a.on_with(limited(&limit), |job: &Event<Job>| job.0);
        let emitter = a.clone();
        let emitting = thread::spawn(move || [emitter.emit(Job(1)), emitter.emit(Job(2))]);
        assert!(a.off(&info));
        for event in emitting.join().unwrap() {
            event.wait().unwrap();
            settled(&event);
        }
        open.send(()).unwrap();
        holder.wait().unwrap();
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn who_brings_to_the_line_leaves_nothing_behind() {
    check(|| {
        let runtime = runtime();
        let builder = EventBus::builder("a").runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
        let a = builder.build().unwrap();
        let (limit, alone) = (Limit::new(1), Arc::new(Alone::default()));
        a.on_with(limited(&limit), move |job: &Event<Job>| {
            alone.run(|| {});
            job.0
        });
        let other = a.clone();
        let emitter = thread::spawn(move || [other.emit(Job(1)), other.emit(Job(2))]);
        let urgent = EventOptions::new().priority(Priority::CRITICAL);
        let mut events = vec![a.emit(Job(3)), a.emit_with(Job(4), urgent)];
        events.extend(emitter.join().unwrap());
        for event in &events {
            event.result().unwrap();
        }
        at_rest(&a);
    });
}

#[test]
fn what_a_pause_has_kept_from_the_line_gets_there() {
    check(|| {
        let runtime = runtime();
        let builder = EventBus::builder("a").runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
        let a = builder.build().unwrap();
        let limit = Limit::new(1);
        a.on_with(limited(&limit), |job: &Event<Job>| job.0);
        let other = a.clone();
        let emitter = thread::spawn(move || [other.emit(Job(1)), other.emit(Job(2))]);
        a.pause();
        a.resume();
        for event in emitter.join().unwrap() {
            event.result().unwrap();
        }
        at_rest(&a);
    });
}
