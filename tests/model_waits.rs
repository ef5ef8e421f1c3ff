//! Waiting under shuttle: what a wait gives up and takes back, who is claimed by whom, and that nobody waits for ever.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_waits`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::thread;
use std::sync::Arc;
use std::time::Duration;
use threadbus::*;

fn short() -> EventOptions {
    EventOptions::new().handler_timeout(SHORT)
}

#[test]
fn nothing_starts_in_the_middle_of_a_handler_that_waits_for_another_thread() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let inside = Arc::new(AtomicUsize::new(0));
        let (of_parent, of_next) = (Arc::clone(&inside), Arc::clone(&inside));
        bus.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            assert_eq!(of_parent.fetch_add(1, SeqCst), 0, "two parents at once");
            let value = job.bus().emit_with(Child(job.0), short()).result();
            of_parent.fetch_sub(1, SeqCst);
            Ok(value?)
        });
        bus.on(|child: &Event<Child>| child.0);
        bus.on(move |_: &Event<Next>| assert_eq!(of_next.load(SeqCst), 0, "ran in the middle of a jump"));
        let other = bus.clone();
        let emitter = thread::spawn(move || other.emit(Next).result());
        let events = [bus.emit(Job(1)), bus.emit(Job(2))];
        emitter.join().unwrap().unwrap();
        assert_eq!(events.map(|event| event.result().unwrap()), [1, 2]);
        at_rest(&bus);
    });
}

#[test]
fn a_global_turn_stays_with_a_handler_that_waits() {
    check(|| {
        let runtime = runtime();
        let global = EventConcurrency::GlobalSerial;
        let [a, b] =
            ["a", "b"].map(|name| EventBus::builder(name).runtime(&runtime).event_concurrency(global).build().unwrap());
        let inside = Arc::new(AtomicUsize::new(0));
        let (of_parent, of_next) = (Arc::clone(&inside), Arc::clone(&inside));
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            of_parent.store(1, SeqCst);
            let value = job.bus().emit_with(Child(job.0), short()).result();
            of_parent.store(0, SeqCst);
            Ok(value?)
        });
        a.on(|child: &Event<Child>| child.0);
        b.on(move |_: &Event<Next>| assert_eq!(of_next.load(SeqCst), 0, "ran in the middle of a jump"));
        let other = b.clone();
        let emitter = thread::spawn(move || other.emit(Next).result());
        assert_eq!(a.emit(Job(1)).result().unwrap(), 1);
        emitter.join().unwrap().unwrap();
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn a_forwarded_event_is_handled_once_on_each_bus_whoever_claims_it() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let runs = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
        for (bus, runs) in [&a, &b].into_iter().zip(&runs) {
            let runs = Arc::clone(runs);
            bus.on(move |child: &Event<Child>| {
                runs.fetch_add(1, SeqCst);
                child.0
            });
        }
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let other = other.upgrade().ok_or("gone")?;
            let child = other.emit(Child(job.0));
            job.bus().forward(&child)?;
            child.wait()?;
            Ok(job.0)
        });
        let event = a.emit(Job(1));
        let beside = b.emit(Child(7));
        a.forward(&beside).unwrap();
        assert_eq!(event.result().unwrap(), 1);
        beside.wait().unwrap();
        at_rest(&a);
        at_rest(&b);
        assert_eq!(runs.map(|runs| runs.load(SeqCst)), [2, 2]);
    });
}

#[test]
fn waits_in_order_that_close_a_circle_are_told() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        for (own, other) in [(&a, &b), (&b, &a)] {
            let other = other.downgrade();
            own.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
                let other = other.upgrade().ok_or("gone")?;
                match other.emit(Child(job.0)).wait_in_order() {
                    Ok(_) | Err(WaitError::Deadlock(_)) => Ok(job.0),
                    Err(error) => Err(error.into()),
                }
            });
            own.on(|child: &Event<Child>| child.0);
        }
        let events = [a.emit(Job(1)), b.emit(Job(2))];
        assert_eq!(events.map(|event| event.result().unwrap()), [1, 2]);
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn waits_for_idleness_that_close_a_circle_are_told() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let inside = Arc::new(AtomicUsize::new(0));
        for (own, other) in [(&a, &b), (&b, &a)] {
            let (other, inside) = (other.downgrade(), Arc::clone(&inside));
            own.on(move |_: &Event<Job>| {
                // Both are inside before one waits: neither bus can be idle before.
                inside.fetch_add(1, SeqCst);
                while inside.load(SeqCst) < 2 {
                    thread::yield_now();
                }
                match other.upgrade().unwrap().wait_until_idle() {
                    Ok(()) => 0,
                    Err(WaitError::Deadlock(_)) => 1,
                    Err(error) => panic!("{error}"),
                }
            });
        }
        let events = [a.emit(Job(1)), b.emit(Job(2))];
        let told: u32 = events.iter().map(|event| event.result().unwrap()).sum();
        assert!(told > 0);
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn a_globally_serial_handler_that_waits_for_a_bus_that_needs_its_turn_is_told() {
    check(|| {
        let runtime = runtime();
        let global = || EventOptions::new().concurrency(EventConcurrency::GlobalSerial);
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on(move |_: &Event<Job>| match other.upgrade().unwrap().wait_until_idle() {
            Ok(()) | Err(WaitError::Deadlock(_)) => 1,
            Err(error) => panic!("{error}"),
        });
        b.on(|child: &Event<Child>| child.0);
        let waits = a.emit_with(Job(1), global());
        // Before it waits, or when it does.
        let there = b.clone();
        let emitter = thread::spawn(move || {
            there.emit(Child(1));
            there.emit_with(Child(2), global());
        });
        assert_eq!(waits.result().unwrap(), 1);
        emitter.join().unwrap();
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn a_thread_that_waits_leaves_its_place_to_what_it_waits_for() {
    check(|| {
        let runtime = Runtime::builder().max_threads(1).build().unwrap();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on_with(HandlerOptions::new().no_timeout(), move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let other = other.upgrade().ok_or("gone")?;
            // The first jumps to another thread, the second waits for its turn.
            other.emit_with(Child(job.0), short()).wait()?;
            other.emit(Child(job.0)).wait_in_order()?;
            Ok(job.0)
        });
        b.on(|child: &Event<Child>| child.0);
        let events = [a.emit(Job(1)), a.emit(Job(2))];
        b.emit(Child(9));
        assert_eq!(events.map(|event| event.result().unwrap()), [1, 2]);
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn what_is_emitted_below_a_wait_is_seen_by_it() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        // The grandchild goes to the bus that stands still for the wait, and nobody waits for it.
        let home = a.downgrade();
        b.on(move |child: &Event<Child>| {
            if let Some(home) = home.upgrade() {
                home.emit(Next);
            }
            thread::yield_now();
            child.0
        });
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let other = other.upgrade().ok_or("gone")?;
            Ok(other.emit_with(Child(job.0), short()).result()?)
        });
        a.on(|_: &Event<Next>| {});
        b.emit(Child(9));
        let event = a.emit(Job(1));
        assert_eq!(event.result().unwrap(), 1);
        at_rest(&b);
        at_rest(&a);
    });
}

#[test]
fn what_somebody_else_puts_below_a_wait_is_seen_by_it() {
    check(|| {
        let runtime = runtime();
        let [a, b, c] = ["a", "b", "c"].map(|name| bus(&runtime, name));
        let (other, third) = (b.downgrade(), c.downgrade());
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let other = other.upgrade().ok_or("gone")?;
            Ok(other.emit_with(Child(job.0), short()).result()?)
        });
        // The child is over, but for what it has emitted.
        b.on(move |child: &Event<Child>| {
            if let Some(third) = third.upgrade() {
                third.emit(Next);
            }
            child.0
        });
        c.on(|_: &Event<Next>| (0..10).for_each(|_| thread::yield_now()));
        a.on(|_: &Event<Next>| {});
        let event = a.emit(Job(1));
        let (parent, home) = (event.clone(), a.clone());
        let stranger = thread::spawn(move || {
            let child = loop {
                if let Some(child) = parent.children().first() {
                    break child.clone();
                }
                thread::yield_now();
            };
            // The bus stands still for the wait, so only that can run it.
            home.emit_with(Next, EventOptions::new().parent(&child))
        });
        assert_eq!(event.result().unwrap(), 1);
        stranger.join().unwrap().wait().unwrap();
        [a, b, c].iter().for_each(at_rest);
    });
}

#[test]
fn a_bus_that_was_paused_for_a_jump_goes_on() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let other = other.upgrade().ok_or("gone")?;
            other.emit(Child(job.0)).wait()?;
            thread::yield_now();
            Ok(job.0)
        });
        b.on(|child: &Event<Child>| child.0);
        b.on(|_: &Event<Next>| {});
        let event = a.emit(Job(1));
        let late = event.clone();
        let canceller = thread::spawn(move || late.cancel());
        let beside = [b.emit(Next), b.emit(Next)];
        let _ = event.wait();
        for next in beside {
            next.wait().unwrap();
        }
        canceller.join().unwrap();
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn idle_is_told_when_the_last_event_has_ended_in_any_way() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on(|job: &Event<Job>| job.0);
        let event = bus.emit(Job(1));
        let canceller = thread::spawn(move || event.cancel());
        let other = bus.clone();
        let waiter = thread::spawn(move || other.wait_until_idle());
        bus.emit(Job(2));
        bus.wait_until_idle().unwrap();
        waiter.join().unwrap().unwrap();
        canceller.join().unwrap();
        at_rest(&bus);
    });
}

#[test]
fn emitters_at_a_full_queue_are_let_in_one_by_one() {
    check(|| {
        let runtime = runtime();
        let bus = EventBus::builder("a").runtime(&runtime).queue_capacity(1, OnFull::Block).build().unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        bus.on(move |job: &Event<Job>| {
            counter.fetch_add(1, SeqCst);
            job.0
        });
        let emitters = [1, 2].map(|n| {
            let bus = bus.clone();
            thread::spawn(move || (0..3).for_each(|_| drop(bus.emit(Job(n)))))
        });
        for emitter in emitters {
            emitter.join().unwrap();
        }
        at_rest(&bus);
        assert_eq!(seen.load(SeqCst), 6);
    });
}

#[test]
fn a_drain_finishes_what_handlers_still_emit() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        a.on(move |job: &Event<Job>| {
            if let Some(other) = other.upgrade() {
                other.emit(Child(job.0));
            }
            job.0
        });
        b.on(move |child: &Event<Child>| {
            counter.fetch_add(1, SeqCst);
            child.0
        });
        let events = [a.emit(Job(1)), a.emit(Job(2))];
        runtime.shutdown(Shutdown::Drain, Duration::from_secs(1000));
        assert_eq!(seen.load(SeqCst), 2);
        for event in events {
            event.wait().unwrap();
        }
        assert!(a.emit(Job(3)).wait().is_err());
    });
}

#[test]
fn the_last_handle_goes_while_the_bus_works() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on(|job: &Event<Job>| -> Result<u32, HandlerError> {
            job.bus().emit(Child(job.0)).wait()?;
            Ok(job.0)
        });
        bus.on(|child: &Event<Child>| child.0);
        let events = [bus.emit(Job(1)), bus.emit(Job(2))];
        let dropper = thread::spawn(move || drop(bus));
        assert_eq!(events.map(|event| event.result().unwrap()), [1, 2]);
        dropper.join().unwrap();
    });
}
