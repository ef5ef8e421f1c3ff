//! Events that start when others are complete, under shuttle: who releases one, who ends one, and who is woken.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_after`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::thread;
use std::sync::Arc;
use threadbus::*;

fn after(event: impl AsRef<AnyEvent>) -> EventOptions {
    EventOptions::new().after(event)
}

/// A bus that counts what of `Next` has run.
fn counting(runtime: &Runtime, name: &str) -> (EventBus, Arc<AtomicUsize>) {
    let (bus, ran) = (bus(runtime, name), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&ran);
    bus.on(move |_: &Event<Next>| {
        count.fetch_add(1, SeqCst);
    });
    (bus, ran)
}

#[test]
fn an_event_is_released_once_and_after_all_that_it_comes_after() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let (home, ran) = counting(&runtime, "home");
        a.on(|job: &Event<Job>| job.0);
        b.on(|child: &Event<Child>| child.0);
        let (first, second) = (a.emit(Job(1)), b.emit(Child(2)));
        let (one, two) = (first.clone(), second.clone());
        home.on(move |_: &Event<Other>| assert!(one.is_completed() && two.is_completed(), "it started too early"));
        let other = home.emit_with(Other, after(&first).after(&second));
        let next = home.emit_with(Next, after(&other).after(&first));
        next.wait().unwrap();
        assert_eq!(ran.load(SeqCst), 1);
        [a, b, home].iter().for_each(at_rest);
    });
}

#[test]
fn a_held_event_that_is_cancelled_does_not_run() {
    check(|| {
        let runtime = runtime();
        let a = bus(&runtime, "a");
        let (home, ran) = counting(&runtime, "home");
        a.on(|job: &Event<Job>| job.0);
        let first = a.emit(Job(1));
        let next = home.emit_with(Next, after(&first));
        let victim = next.clone();
        let canceller = thread::spawn(move || victim.cancel());
        let waited = next.wait();
        canceller.join().unwrap();
        home.wait_until_idle().unwrap();
        // Whatever ran that was given up meanwhile has left its thread by now.
        [a, home].iter().for_each(at_rest);
        let unstarted = matches!(waited, Err(WaitError::Cancelled));
        assert_eq!(ran.load(SeqCst), usize::from(!unstarted));
    });
}

#[test]
fn a_failure_ends_what_must_follow_a_success_and_all_after_that() {
    check(|| {
        let runtime = runtime();
        let a = bus(&runtime, "a");
        let (home, ran) = counting(&runtime, "home");
        a.on(|_: &Event<Job>| Err::<u32, _>("no"));
        let first = a.emit(Job(1));
        let next = home.emit_with(Next, EventOptions::new().after_ok(&first));
        let last = home.emit_with(Next, EventOptions::new().after_ok(&next));
        let anyway = home.emit_with(Next, after(&last));
        assert_eq!(last.wait().unwrap_err(), WaitError::Cancelled);
        anyway.wait().unwrap();
        assert_eq!(ran.load(SeqCst), 1);
        [a, home].iter().for_each(at_rest);
    });
}

#[test]
fn a_handler_that_waits_for_a_held_event_runs_it_when_it_is_released() {
    check(|| {
        let runtime = runtime();
        let a = bus(&runtime, "a");
        let (home, ran) = counting(&runtime, "home");
        a.on(|job: &Event<Job>| job.0);
        let elsewhere = a.downgrade();
        home.on(move |child: &Event<Child>| -> Result<u32, HandlerError> {
            let first = elsewhere.upgrade().ok_or("gone")?.emit_with(Job(1), EventOptions::new().detached());
            child.bus().emit_with(Next, after(&first)).wait()?;
            Ok(1)
        });
        assert_eq!(home.emit(Child(1)).result().unwrap(), 1);
        assert_eq!(ran.load(SeqCst), 1);
        [a, home].iter().for_each(at_rest);
    });
}

#[test]
fn a_handler_that_waits_for_a_held_event_runs_what_is_queued_below_the_one_before_it() {
    check(|| {
        let runtime = runtime();
        let a = bus(&runtime, "a");
        let (home, ran) = counting(&runtime, "home");
        let below = home.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            // Nobody waits for it, and `home` is busy with one that waits for what comes after this event.
            below.upgrade().ok_or("gone")?.emit(Next);
            Ok(job.0)
        });
        home.on(|_: &Event<Other>| {});
        let elsewhere = a.downgrade();
        home.on(move |child: &Event<Child>| -> Result<u32, HandlerError> {
            let first = elsewhere.upgrade().ok_or("gone")?.emit_with(Job(1), EventOptions::new().detached());
            child.bus().emit_with(Other, after(&first)).wait()?;
            Ok(1)
        });
        assert_eq!(home.emit(Child(1)).result().unwrap(), 1);
        assert_eq!(ran.load(SeqCst), 1);
        [a, home].iter().for_each(at_rest);
    });
}

#[test]
fn a_child_that_is_held_ends_with_its_parent() {
    check(|| {
        let runtime = runtime();
        let a = bus(&runtime, "a");
        let (home, ran) = counting(&runtime, "home");
        a.on(|job: &Event<Job>| job.0);
        let first = a.emit(Job(1));
        let before = first.clone();
        home.on(move |child: &Event<Child>| {
            child.bus().emit_with(Next, after(&before));
            child.0
        });
        let parent = home.emit(Child(1));
        let victim = parent.clone();
        let canceller = thread::spawn(move || victim.cancel());
        let _ = parent.wait();
        canceller.join().unwrap();
        first.wait().unwrap();
        home.wait_until_idle().unwrap();
        assert!(ran.load(SeqCst) <= 1);
        assert_eq!(home.metrics().held, 0);
        [a, home].iter().for_each(at_rest);
    });
}

#[test]
fn a_shutdown_leaves_nothing_held() {
    check(|| {
        let runtime = runtime();
        let a = bus(&runtime, "a");
        let (home, ran) = counting(&runtime, "home");
        a.on(|job: &Event<Job>| job.0);
        let first = a.emit(Job(1));
        let held = [(); 2].map(|()| home.emit_with(Next, after(&first)));
        home.shutdown(Shutdown::Now, SHORT);
        assert!(held.iter().all(|event| event.is_completed()));
        first.wait().unwrap();
        assert_eq!(home.metrics().held, 0);
        at_rest(&a);
        let unstarted = held.iter().filter(|event| matches!(event.wait(), Err(WaitError::Cancelled))).count();
        assert_eq!(ran.load(SeqCst) + unstarted, 2);
    });
}

#[test]
fn a_bus_without_handles_lives_until_what_it_holds_has_run() {
    check(|| {
        let runtime = runtime();
        let a = bus(&runtime, "a");
        let (home, ran) = counting(&runtime, "home");
        a.on(|job: &Event<Job>| job.0);
        let first = a.emit(Job(1));
        let next = home.emit_with(Next, after(&first));
        let weak = home.downgrade();
        drop(home);
        next.wait().unwrap();
        assert_eq!(ran.load(SeqCst), 1);
        assert!(weak.upgrade().is_none());
        at_rest(&a);
    });
}
