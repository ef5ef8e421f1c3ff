//! Lines, retries and ends, under shuttle: what stands where, what is tried again, what is kept of it.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_lines`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::rand::Rng;
use shuttle::sync::atomic::Ordering::SeqCst;
use shuttle::thread;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threadbus::*;

#[test]
fn a_cap_ends_what_stands_in_line_for_a_handler_permit() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on_with(HandlerOptions::new().no_timeout(), |_: &Event<Next>| stay());
        bus.on(|job: &Event<Job>| job.0);
        let before = bus.emit_with(Next, free());
        until(|| before.status() == EventStatus::Started);
        let event = bus.emit_with(Job(1), EventOptions::new().timeout(SHORT));
        timers_fire_until(&runtime, || event.is_completed());
        assert!(before.status() == EventStatus::Started && event.result().is_err());
        before.cancel();
        assert_eq!(bus.emit(Job(2)).result().unwrap(), 2);
        at_rest(&bus);
    });
}

#[test]
fn a_handler_permit_passes_to_nobody_who_does_not_need_it() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let (ran, runs) = flag();
        bus.on(|job: &Event<Job>| job.0);
        let own = EventOptions::new().handler_concurrency(HandlerConcurrency::EventSerial);
        bus.on(move |child: &Event<Child>| {
            until(|| ran.load(SeqCst) == 1);
            child.0
        });
        bus.on(move |_: &Event<Next>| runs.store(1, SeqCst));
        let events = (bus.emit(Job(1)), bus.emit_with(Child(2), own));
        bus.emit_with(Next, free()).wait().unwrap();
        assert_eq!((events.0.result().unwrap(), events.1.result().unwrap()), (1, 2));
        at_rest(&bus);
    });
}

#[test]
fn a_global_turn_that_came_for_nothing_is_given_back() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        for bus in [&a, &b] {
            bus.on_with(HandlerOptions::new().no_timeout(), |_: &Event<Next>| stay());
            bus.on(|job: &Event<Job>| job.0);
        }
        let global = || EventOptions::new().concurrency(EventConcurrency::GlobalSerial);
        let (keeps, before) = (b.emit_with(Next, global()), a.emit_with(Next, free()));
        until(|| keeps.status() == EventStatus::Started && before.status() == EventStatus::Started);
        // In the runtime's line, cancelled there, and behind it one that needs a handler permit.
        let (gone, behind) = (a.emit_with(Job(1), global()), a.emit(Job(2)));
        a_while();
        gone.cancel();
        keeps.cancel();
        a_while();
        assert_eq!(b.emit_with(Job(3), global()).result().unwrap(), 3);
        before.cancel();
        assert_eq!(behind.result().unwrap(), 2);
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn who_stands_in_line_for_the_second_delivery_of_a_cancelled_event_is_rung() {
    check(|| {
        let runtime = runtime();
        let [a, b, c] = ["a", "b", "c"].map(|name| bus(&runtime, name));
        let (first, second) = (c.downgrade(), b.downgrade());
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let child = first.upgrade().ok_or("gone")?.emit(Child(job.0));
            second.upgrade().ok_or("gone")?.forward(&child)?;
            Ok(u32::from(child.wait().is_ok()))
        });
        let own = HandlerOptions::new().concurrency(HandlerConcurrency::GlobalSerial).no_timeout();
        b.on_with(own.clone(), |child: &Event<Child>| child.0);
        let (over, ends) = flag();
        let other = bus(&runtime, "other");
        other.on_with(own, move |_: &Event<Next>| until(|| over.load(SeqCst) == 1));
        let keeps = other.emit(Next);
        until(|| keeps.status() == EventStatus::Started);
        let event = a.emit(Job(1));
        until(|| !event.children().is_empty() && b.pending() == 0);
        a_while();
        event.children()[0].cancel();
        // What keeps the permit from it goes on only when its owner is gone.
        event.wait().unwrap();
        ends.store(1, SeqCst);
        [a, b, c, other].iter().for_each(at_rest);
    });
}

#[test]
fn letters_are_kept_of_what_failed_however_the_event_ended() {
    check(|| {
        let runtime = runtime();
        let bus = EventBus::builder("a").runtime(&runtime).dead_letters(8).build().unwrap();
        bus.on(|_: &Event<Child>| -> Result<u32, HandlerError> { Err(HandlerError::from("no")) });
        bus.on_with(HandlerOptions::new().no_timeout(), |child: &Event<Child>| {
            stay();
            child.0
        });
        let (over, ends) = flag();
        bus.on(move |job: &Event<Job>| {
            until(|| over.load(SeqCst) == 1);
            job.0
        });
        let cancelled = bus.emit(Child(1));
        until(|| cancelled.results().len() == 2 && cancelled.results()[1].status == ResultStatus::Started);
        cancelled.cancel();
        assert_eq!(bus.dead_letters().len(), 1);
        let late = bus.emit(Job(1));
        until(|| late.status() == EventStatus::Started);
        runtime.model_deadlines_pass();
        late.wait().unwrap();
        ends.store(1, SeqCst);
        at_rest(&bus);
        assert_eq!((bus.dead_letters().len(), bus.metrics().timed_out), (2, 1));
    });
}

#[test]
fn a_filter_that_says_no_to_a_timeout_ends_the_handler() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let retry = Retry::attempts(3).only_if(|_| false);
        bus.on_with(HandlerOptions::new().retry(retry), |job: &Event<Job>| {
            stay();
            job.0
        });
        bus.on(|job: &Event<Job>| job.0);
        let event = bus.emit(Job(1));
        until(|| event.status() == EventStatus::Started);
        runtime.model_deadlines_pass();
        event.wait().unwrap();
        let results = event.results();
        assert!(matches!(results[0].error.as_deref(), Some(HandlerFailure::TimedOut { .. })));
        assert_eq!((results[0].attempts, results[1].value), (1, Some(1)));
        at_rest(&bus);
    });
}

#[test]
fn each_attempt_waits_its_own_delay() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let retry = Retry::attempts(3).delays([SHORT, Duration::ZERO]);
        let (tried, tries) = flag();
        bus.on_with(HandlerOptions::new().retry(retry), move |job: &Event<Job>| match tries.fetch_add(1, SeqCst) {
            2 => Ok(job.0),
            _ => Err(HandlerError::from("again")),
        });
        let event = bus.emit(Job(1));
        until(|| tried.load(SeqCst) == 1);
        a_while();
        assert_eq!(tried.load(SeqCst), 1);
        timers_fire_until(&runtime, || tried.load(SeqCst) >= 2);
        // The next one comes at once, without a timer.
        assert_eq!(event.result().unwrap(), 1);
        at_rest(&bus);
    });
}

#[test]
fn who_loses_between_two_attempts_is_aborted_and_not_cancelled() {
    check(|| {
        let runtime = runtime();
        let bus = EventBus::builder("a").runtime(&runtime).handler_completion(HandlerCompletion::First);
        let bus = bus.handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
        let (tried, tries) = flag();
        bus.on_with(
            HandlerOptions::new().retry(Retry::attempts(20)),
            move |_: &Event<Job>| -> Result<u32, HandlerError> {
                tries.fetch_add(1, SeqCst);
                Err(HandlerError::from("again"))
            },
        );
        bus.on(|job: &Event<Job>| {
            (0..5).for_each(|_| thread::yield_now());
            job.0
        });
        let event = bus.emit(Job(1));
        event.wait().unwrap();
        let lost = event.results()[0].error.clone().unwrap();
        assert!(!matches!(*lost, HandlerFailure::Cancelled { .. }) || tried.load(SeqCst) == 0);
        at_rest(&bus);
    });
}

#[test]
fn who_loses_between_two_attempts_is_not_tried_again() {
    check(|| {
        let runtime = runtime();
        let bus = EventBus::builder("a").runtime(&runtime).handler_completion(HandlerCompletion::First);
        let bus = bus.handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
        let retry = HandlerOptions::new().retry(Retry::attempts(20).delay(SHORT));
        bus.on_with(retry, |_: &Event<Job>| -> Result<u32, HandlerError> { Err(HandlerError::from("again")) });
        bus.on(|job: &Event<Job>| job.0);
        let event = bus.emit(Job(1));
        timers_fire_until(&runtime, || event.is_completed());
        event.wait().unwrap();
        settled(&event);
        at_rest(&bus);
    });
}

#[test]
fn what_goes_on_after_a_deadline_keeps_its_handler_permit() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let order = Arc::new(Mutex::new(Vec::new()));
        for n in [1, 2] {
            let order = Arc::clone(&order);
            bus.on(move |job: &Event<Job>| {
                if n == 1 {
                    stay();
                }
                order.lock().unwrap().push(n);
                job.0
            });
        }
        let seen = Arc::clone(&order);
        bus.on(move |_: &Event<Next>| seen.lock().unwrap().push(3));
        let event = bus.emit(Job(1));
        until(|| event.status() == EventStatus::Started);
        let in_line = bus.emit_with(Next, free());
        a_while();
        runtime.model_deadlines_pass();
        in_line.wait().unwrap();
        event.wait().unwrap();
        at_rest(&bus);
        let order = order.lock().unwrap().iter().copied().filter(|n| *n > 1).collect::<Vec<_>>();
        assert_eq!(order, [2, 3]);
    });
}

#[test]
fn what_runs_at_once_goes_on_when_a_helpers_handler_is_given_up() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on_with(HandlerOptions::new().no_timeout(), |job: &Event<Job>| -> Result<u32, HandlerError> {
            let child = job.bus().emit_now(Child(job.0));
            assert!(child.is_completed(), "it came back before the end");
            Ok(child.select().allow_errors().list()?.into_iter().sum())
        });
        let mode = |mode| HandlerOptions::new().concurrency(mode);
        let (begun, begins) = flag();
        let (free, frees) = flag();
        bus.on_with(mode(HandlerConcurrency::Parallel).no_timeout(), move |child: &Event<Child>| {
            until(|| begun.load(SeqCst) == 1);
            frees.store(1, SeqCst);
            child.0
        });
        let (over, ends) = flag();
        bus.on_with(mode(HandlerConcurrency::EventSerial), move |_: &Event<Child>| {
            begins.store(1, SeqCst);
            until(|| over.load(SeqCst) == 1);
            0
        });
        bus.on_with(mode(HandlerConcurrency::EventSerial).no_timeout(), move |child: &Event<Child>| {
            ends.store(1, SeqCst);
            child.0
        });
        let event = bus.emit(Job(1));
        until(|| free.load(SeqCst) == 1);
        a_while();
        runtime.model_deadlines_pass();
        assert_eq!(event.result().unwrap(), 2);
        at_rest(&bus);
    });
}

#[test]
fn what_runs_at_once_stays_on_its_thread_when_a_handler_is_given_up() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on_with(HandlerOptions::new().no_timeout(), |job: &Event<Job>| -> Result<u32, HandlerError> {
            job.bus().emit_now(Other).wait()?;
            Ok(job.0)
        });
        let on = Arc::new(Mutex::new(Vec::new()));
        let (over, ends) = flag();
        for stays in [true, false] {
            let (on, over) = (Arc::clone(&on), Arc::clone(&over));
            bus.on(move |_: &Event<Other>| {
                on.lock().unwrap().push(thread::current().id());
                until(|| !stays || over.load(SeqCst) == 1);
            });
        }
        let event = bus.emit(Job(1));
        until(|| on.lock().unwrap().len() == 1);
        runtime.model_deadlines_pass();
        a_while();
        ends.store(1, SeqCst);
        assert_eq!(event.result().unwrap(), 1);
        let on = on.lock().unwrap();
        assert!(on.len() == 2 && on[0] == on[1], "not on the thread that called");
        at_rest(&bus);
    });
}

#[test]
fn a_bus_is_not_kept_waiting_by_who_is_given_up_at_a_jump() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            Ok(other.upgrade().ok_or("gone")?.emit(Child(job.0)).result()?)
        });
        let (ran, runs) = flag();
        // Does not stop when it is cancelled with its parent.
        b.on(move |child: &Event<Child>| {
            until(|| ran.load(SeqCst) == 1);
            child.0
        });
        b.on(move |_: &Event<Next>| runs.store(1, SeqCst));
        let event = a.emit(Job(1));
        until(|| !event.children().is_empty());
        // Somewhere on the way.
        (0..shuttle::rand::thread_rng().gen_range(0..100)).for_each(|_| thread::yield_now());
        event.cancel();
        b.emit(Next).wait().unwrap();
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn a_parallel_event_that_waits_keeps_no_queue_of_its_own_bus() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        let parallel = HandlerConcurrency::Parallel;
        let (gone, go) = flag();
        a.on_with(HandlerOptions::new().concurrency(parallel), move |_: &Event<Other>| -> Result<(), HandlerError> {
            until(|| gone.load(SeqCst) == 1);
            let elsewhere = EventOptions::new().completion(HandlerCompletion::First);
            Ok(other.upgrade().ok_or("gone")?.emit_with(Job(1), elsewhere).wait().map(drop)?)
        });
        let (ran, runs) = flag();
        a.on(|child: &Event<Child>| child.0);
        a.on(move |_: &Event<Next>| runs.store(1, SeqCst));
        let to = a.downgrade();
        b.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let a = to.upgrade().ok_or("gone")?;
            // Whoever waits for this one takes it out of the queue.
            a.emit(Child(job.0)).wait_in_order()?;
            a.resume();
            a.emit_with(Next, EventOptions::new().detached());
            until(|| ran.load(SeqCst) == 1);
            Ok(job.0)
        });
        let event = a.emit_with(Other, free().handler_concurrency(parallel));
        until(|| event.status() == EventStatus::Started);
        a.pause();
        go.store(1, SeqCst);
        event.result().unwrap();
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn an_untyped_handler_returns_the_events_own_output_or_fails() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on_named("Job", |_: &AnyEvent| AnyOutput::new(7_u32));
        bus.on_named("Job", |_: &AnyEvent| AnyOutput::new("seven"));
        let event = bus.emit(Job(1));
        event.wait().unwrap();
        let results = event.results();
        assert_eq!(results[0].value, Some(7));
        assert!(results[1].status == ResultStatus::Error && results[1].error.is_some());
        at_rest(&bus);
    });
}

#[test]
fn a_wait_of_no_length_is_over_at_once() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on(|job: &Event<Job>| {
            let child = job.bus().emit(Child(job.0));
            let over = matches!(child.wait_timeout(Duration::ZERO), Err(WaitError::Timeout(_)));
            u32::from(over && child.status() == EventStatus::Pending)
        });
        bus.on(|child: &Event<Child>| child.0);
        let event = bus.emit(Job(1));
        assert_eq!(event.result().unwrap(), 1);
        bus.pause();
        let queued = bus.emit(Job(2));
        assert!(matches!(queued.wait_timeout(Duration::ZERO), Err(WaitError::Timeout(_))));
        bus.resume();
        queued.wait_timeout(Duration::from_secs(3600)).unwrap();
        at_rest(&bus);
    });
}
