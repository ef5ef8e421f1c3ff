//! How handlers and deliveries end, under shuttle: once, whoever ends them, and with everything given back that they held.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_ends`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::rand::Rng;
use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::thread;
use std::sync::Arc;
use std::time::Duration;
use threadbus::*;

#[test]
fn a_late_attempt_does_not_end_the_next_one() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let retry = HandlerOptions::new().retry(Retry::attempts(3));
        let starts = AtomicUsize::new(0);
        bus.on_with(retry, move |_: &Event<Job>| {
            let attempt = HandlerContext::current().unwrap().attempt();
            starts.fetch_add(1, SeqCst);
            // The first comes back while the second is at it.
            while starts.load(SeqCst) < 2 {
                thread::yield_now();
            }
            thread::yield_now();
            attempt
        });
        let event = bus.emit(Job(1));
        let clock = time_passes(&runtime, &event);
        event.wait().unwrap();
        clock.join().unwrap();
        let result = &event.results()[0];
        assert_eq!(result.value, Some(result.attempts), "the value of an attempt that was given up");
        settled(&event);
        at_rest(&bus);
    });
}

#[test]
fn a_handler_permit_is_free_after_a_deadline() {
    check(|| {
        let runtime = runtime();
        let global = HandlerOptions::new().concurrency(HandlerConcurrency::GlobalSerial);
        let buses = ["a", "b"].map(|name| bus(&runtime, name));
        let second = Arc::new(AtomicUsize::new(0));
        for bus in &buses {
            let second = Arc::clone(&second);
            bus.on_with(global.clone(), move |job: &Event<Job>| {
                // The first overstays until the second has had the permit.
                match job.0 {
                    1 => {
                        while second.load(SeqCst) == 0 {
                            thread::yield_now();
                        }
                    }
                    _ => drop(second.fetch_add(1, SeqCst)),
                }
                job.0
            });
        }
        let events = [buses[0].emit(Job(1)), buses[1].emit(Job(2))];
        let clock = time_passes(&runtime, &events[0]);
        for event in &events {
            event.wait().unwrap();
        }
        clock.join().unwrap();
        for bus in &buses {
            assert_eq!(bus.emit(Job(3)).result().unwrap(), 3);
            at_rest(bus);
        }
    });
}

#[test]
fn what_a_given_up_handler_emits_does_not_run() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| {
            let Some(other) = other.upgrade() else { return job.0 };
            for n in 0..2 {
                other.emit(Child(n));
                thread::yield_now();
            }
            job.0
        });
        b.on(|child: &Event<Child>| {
            let parent_is_over = child.parent().is_none_or(|parent| parent.is_completed());
            // Who was given up may see anything.
            assert!(
                !parent_is_over || HandlerContext::current().unwrap().is_cancelled(),
                "runs after its parent's end"
            );
            child.0
        });
        let event = a.emit(Job(1));
        let (late, clock) = (event.clone(), runtime.clone());
        let ender = thread::spawn(move || {
            clock.model_deadlines_pass();
            late.cancel();
        });
        let _ = event.wait();
        ender.join().unwrap();
        settled(&event);
        assert!(event.children().iter().all(AnyEvent::is_completed));
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn what_a_handler_emitted_ends_with_its_deadline() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| {
            if let Some(other) = other.upgrade() {
                other.emit(Child(job.0));
            }
            while !HandlerContext::current().unwrap().is_cancelled() {
                thread::yield_now();
            }
            job.0
        });
        b.on(|child: &Event<Child>| child.0);
        // It would wait there for ever.
        b.pause();
        let event = a.emit(Job(1));
        let clock = time_passes(&runtime, &event);
        event.wait().unwrap();
        clock.join().unwrap();
        assert!(matches!(&*event.errors()[0], HandlerFailure::TimedOut { .. }));
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn a_panic_is_an_end_like_any_other() {
    check(|| {
        let runtime = runtime();
        let bus = EventBus::builder("a")
            .runtime(&runtime)
            .handler_concurrency(HandlerConcurrency::Parallel)
            .dead_letters(4)
            .build()
            .unwrap();
        bus.on(|_: &Event<Job>| -> u32 { quiet_panic() });
        bus.on(|job: &Event<Job>| -> Result<u32, HandlerError> { Ok(job.bus().emit(Child(job.0)).result()?) });
        bus.on(|_: &Event<Child>| -> u32 { quiet_panic() });
        let (one, two) = (bus.emit(Job(1)), bus.emit(Job(2)));
        let late = two.clone();
        let canceller = thread::spawn(move || late.cancel());
        one.wait().unwrap();
        let _ = two.wait();
        canceller.join().unwrap();
        assert_eq!(one.errors().len(), 2);
        settled(&two);
        at_rest(&bus);
    });
}

#[test]
fn a_child_that_is_cancelled_while_it_is_emitted_is_in_the_books() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on(|job: &Event<Job>| {
            job.bus().emit(Child(job.0));
            job.0
        });
        bus.on(|child: &Event<Child>| child.0);
        let event = bus.emit(Job(1));
        let late = event.clone();
        let canceller = thread::spawn(move || late.cancel());
        bus.wait_until_idle().unwrap();
        canceller.join().unwrap();
        at_rest(&bus);
    });
}

#[test]
fn a_retry_and_a_cancel_exclude_each_other() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let retry = HandlerOptions::new().retry(Retry::attempts(3).delay(Duration::from_millis(1)));
        let runs = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&runs);
        bus.on_with(retry, move |_: &Event<Job>| -> Result<u32, HandlerError> {
            match counter.fetch_add(1, SeqCst) {
                0 => Err("once more".into()),
                _ => quiet_panic(),
            }
        });
        let event = bus.emit(Job(1));
        let (late, seen) = (event.clone(), Arc::clone(&runs));
        let canceller = thread::spawn(move || {
            while seen.load(SeqCst) == 0 {
                thread::yield_now();
            }
            late.cancel()
        });
        let (clock, timed) = (runtime.clone(), event.clone());
        let timers = thread::spawn(move || timers_fire_until(&clock, || timed.is_completed()));
        // It has started, so its wait does not say that it was cancelled.
        event.wait().unwrap();
        canceller.join().unwrap();
        timers.join().unwrap();
        // Whatever was due fires, and changes nothing.
        runtime.model_timers_fire();
        bus.wait_until_idle().unwrap();
        settled(&event);
        assert!(runs.load(SeqCst) <= 3);
        let result = &event.results()[0];
        assert_eq!(result.status, ResultStatus::Error);
        at_rest(&bus);
    });
}

#[test]
fn an_event_that_runs_at_once_ends_with_its_emitter() {
    check(|| {
        let runtime = runtime();
        let bus =
            EventBus::builder("a").runtime(&runtime).event_concurrency(EventConcurrency::GlobalSerial).build().unwrap();
        let emitting = Arc::new(AtomicUsize::new(0));
        let emits = Arc::clone(&emitting);
        bus.on(move |job: &Event<Job>| {
            // Some, so that the end finds one on its way often enough.
            for n in 0..8 {
                emits.fetch_add(1, SeqCst);
                job.bus().emit_now(Child(n));
            }
            job.0
        });
        bus.on(|child: &Event<Child>| child.0);
        let event = bus.emit_with(Job(1), EventOptions::new().timeout(SHORT));
        let (clock, timed) = (runtime.clone(), event.clone());
        let timers = thread::spawn(move || {
            while emitting.load(SeqCst) < 2 && !timed.is_completed() {
                thread::yield_now();
            }
            timers_fire_until(&clock, || timed.is_completed());
        });
        let _ = event.wait();
        timers.join().unwrap();
        settled(&event);
        assert_eq!(bus.emit(Child(3)).result().unwrap(), 3);
        at_rest(&bus);
    });
}

#[test]
fn a_retry_runs_once_and_under_one_turn_however_soon_its_time_comes() {
    check(|| {
        let runtime = runtime();
        let [bus, other] = ["a", "b"].map(|name| bus(&runtime, name));
        let retry = HandlerOptions::new().retry(Retry::attempts(2).delay(Duration::from_millis(1)));
        let to = other.downgrade();
        bus.on_with(retry, move |child: &Event<Child>| -> Result<u32, HandlerError> {
            if HandlerContext::current().unwrap().attempt() == 1 {
                return Err("once more".into());
            }
            // Gives up what it runs under, and takes it back.
            to.upgrade().ok_or("gone")?.emit(Next).wait_in_order()?;
            Ok(child.0)
        });
        other.on(|_: &Event<Next>| ());
        bus.on(|job: &Event<Job>| -> Result<u32, HandlerError> { Ok(job.bus().emit(Child(job.0)).result()?) });
        // Some rounds, since few schedules have the timer's job come in between.
        for round in 0..8 {
            let event = bus.emit(Job(round));
            let (clock, timed) = (runtime.clone(), event.clone());
            let timers = thread::spawn(move || timers_fire_until(&clock, || timed.is_completed()));
            assert_eq!(event.result().unwrap(), round);
            timers.join().unwrap();
            settled(&event);
        }
        at_rest(&bus);
    });
}

/// The emitter's thread runs the event, comes back late from its first attempt, and may find nothing to start.
#[test]
fn what_is_tried_again_on_top_of_its_emitter_goes_on() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let retry = Retry::attempts(2).delay(Duration::from_millis(shuttle::rand::thread_rng().gen_range(0..2)));
        let clock = runtime.clone();
        bus.on_with(HandlerOptions::new().timeout(SHORT).retry(retry), move |_: &Event<Next>| {
            if HandlerContext::current().unwrap().attempt() == 1 {
                clock.model_deadlines_pass();
            }
        });
        bus.on_with(HandlerOptions::new().no_timeout(), |job: &Event<Job>| {
            job.bus().emit_now(Next);
            job.0
        });
        let event = bus.emit(Job(1));
        let (clock, timed) = (runtime.clone(), event.clone());
        let timers = thread::spawn(move || timers_fire_until(&clock, || timed.is_completed()));
        assert_eq!(event.result().unwrap(), 1);
        timers.join().unwrap();
        settled(&event);
        let next = event.children().pop().unwrap();
        assert!(next.results()[0].attempts == 2 && next.errors().is_empty());
        at_rest(&bus);
    });
}

#[test]
fn the_cap_of_an_event_ends_whatever_it_is_at() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let retry = HandlerOptions::new().retry(Retry::attempts(2).delay(Duration::from_millis(1)));
        bus.on_with(retry, |job: &Event<Job>| -> Result<u32, HandlerError> {
            job.bus().emit(Child(job.0)).wait()?;
            Err("again".into())
        });
        bus.on(|child: &Event<Child>| {
            thread::yield_now();
            child.0
        });
        let capped = EventOptions::new().timeout(SHORT);
        let (event, next) = (bus.emit_with(Job(1), capped), bus.emit(Child(2)));
        let clock = time_passes(&runtime, &event);
        let _ = event.wait();
        let _ = next.wait();
        clock.join().unwrap();
        settled(&event);
        assert_eq!(bus.emit(Child(3)).result().unwrap(), 3);
        at_rest(&bus);
    });
}

#[test]
fn the_first_value_ends_the_others_and_their_threads_come_back() {
    check(|| {
        let runtime = runtime();
        let bus = EventBus::builder("a")
            .runtime(&runtime)
            .handler_concurrency(HandlerConcurrency::Parallel)
            .handler_completion(HandlerCompletion::First)
            .build()
            .unwrap();
        for n in 0..3 {
            bus.on(move |job: &Event<Job>| -> Option<u32> {
                thread::yield_now();
                (n != job.0).then_some(n)
            });
        }
        let event = bus.emit(Job(0));
        let clock = time_passes(&runtime, &event);
        let value = event.first();
        event.wait().unwrap();
        clock.join().unwrap();
        settled(&event);
        let values = event.results().iter().filter(|r| r.value.is_some()).count();
        // Without a winner it may be a failure, or nothing.
        let found = value.as_ref().is_ok_and(Option::is_some);
        let results = format!("{value:?}, {:?}", event.results());
        assert!(values <= 1 && found == (values == 1), "{values} winners: {results}");
        at_rest(&bus);
        while runtime.stats().abandoned > 0 {
            thread::yield_now();
        }
        assert_eq!(runtime.stats().waiting, 0);
    });
}

#[test]
fn who_stands_in_line_for_a_cancelled_event_is_rung() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let other = other.upgrade().ok_or("gone")?;
            Ok(other.emit(Child(job.0)).result()?)
        });
        b.on(|child: &Event<Child>| child.0);
        let over = Arc::new(AtomicUsize::new(0));
        let cancelled = Arc::clone(&over);
        b.on(move |_: &Event<Next>| {
            while cancelled.load(SeqCst) == 0 {
                thread::yield_now();
            }
        });
        b.emit(Next);
        let event = a.emit(Job(1));
        let (parent, queue) = (event.clone(), b.clone());
        let canceller = thread::spawn(move || {
            // Until it is claimed, and a little longer.
            while parent.children().is_empty() || queue.pending() > 0 {
                thread::yield_now();
            }
            (0..10).for_each(|_| thread::yield_now());
            parent.children()[0].cancel();
            // What keeps the permit from it goes on only when its owner is gone.
            while !parent.is_completed() {
                thread::yield_now();
            }
            over.store(1, SeqCst);
        });
        event.wait().unwrap();
        canceller.join().unwrap();
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn a_global_turn_is_not_left_with_who_was_cancelled_as_it_came() {
    check(|| {
        let runtime = runtime();
        let buses = ["a", "b"].map(|name| {
            let bus = EventBus::builder(name).runtime(&runtime).event_concurrency(EventConcurrency::GlobalSerial);
            let bus = bus.build().unwrap();
            bus.on(|job: &Event<Job>| job.0);
            bus
        });
        let event = buses[0].emit(Job(1));
        let late = event.clone();
        let canceller = thread::spawn(move || late.cancel());
        assert_eq!(buses[1].emit(Job(2)).result().unwrap(), 2);
        let _ = event.wait();
        let _ = canceller.join().unwrap();
        assert_eq!(buses[1].emit(Job(3)).result().unwrap(), 3);
        buses.iter().for_each(at_rest);
    });
}

#[test]
fn a_retry_below_a_wait_leaves_no_turn_behind() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on(|job: &Event<Job>| -> Result<u32, HandlerError> {
            let retry = Retry::attempts(2).delay(Duration::from_millis(1));
            Ok(job.bus().emit_with(Child(job.0), EventOptions::new().retry(retry)).result()?)
        });
        bus.on(|child: &Event<Child>| -> Result<u32, HandlerError> {
            match HandlerContext::current().ok_or("outside")?.attempt() {
                1 => Err("once".into()),
                _ => Ok(child.0),
            }
        });
        let events = [bus.emit(Job(1)), bus.emit(Job(2))];
        let (clock, late) = (runtime.clone(), events[1].clone());
        let clock = thread::spawn(move || timers_fire_until(&clock, || late.is_completed()));
        assert_eq!(events.map(|event| event.result().unwrap()), [1, 2]);
        clock.join().unwrap();
        at_rest(&bus);
    });
}

#[test]
fn cancelling_what_runs_leaves_the_loop_to_the_next() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on(|job: &Event<Job>| -> Result<u32, HandlerError> {
            let context = HandlerContext::current().ok_or("outside")?;
            context.on_cancel(|| {});
            Ok(job.bus().emit(Child(job.0)).result()?)
        });
        bus.on(|child: &Event<Child>| {
            thread::yield_now();
            child.0
        });
        let events = [bus.emit(Job(1)), bus.emit(Job(2))];
        let late = events.clone();
        let canceller = thread::spawn(move || late.map(|event| event.cancel()));
        let done = bus.emit(Job(3)).result().unwrap();
        assert_eq!(done, 3);
        for event in &events {
            let _ = event.wait();
            settled(event);
        }
        let _ = canceller.join().unwrap();
        at_rest(&bus);
    });
}

#[test]
fn a_drain_waits_for_no_delay_that_is_there_or_to_come() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let retry = HandlerOptions::new().retry(Retry::attempts(3).delay(SHORT));
        bus.on_with(retry, |job: &Event<Job>| -> Result<u32, HandlerError> {
            match HandlerContext::current().unwrap().attempt() {
                3 => Ok(job.0),
                _ => Err("no".into()),
            }
        });
        let events: Vec<_> = (0..2).map(|n| bus.emit(Job(n))).collect();
        let others = [bus.clone(), bus.clone()].map(|bus| {
            thread::spawn(move || {
                (0..shuttle::rand::thread_rng().gen_range(0..40)).for_each(|_| thread::yield_now());
                bus.shutdown(Shutdown::Drain, Duration::from_secs(3600))
            })
        });
        let completed = others.map(|other| other.join().unwrap().completed).into_iter().max();
        assert!(completed <= Some(2));
        for event in events {
            let results = event.wait().unwrap().results();
            assert!(matches!(results[0].error.as_deref(), Some(HandlerFailure::Failed(_))), "{results:?}");
            assert_eq!(results[0].attempts, 1);
        }
        nothing_left(&runtime);
    });
}
