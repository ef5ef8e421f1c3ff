//! Turns that are lent to what a handler waits for, under shuttle: who may come between, who runs beside whom, and on which thread.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_lending`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::thread;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threadbus::*;

const LONG: Duration = Duration::from_secs(3600);
fn a_while() {
    (0..20).for_each(|_| thread::yield_now());
}

/// A handler that comes back from its own wait stands in line while another one on its bus, itself a jump, waits for `child`.
fn nobody_comes_between(events: EventConcurrency, parent: HandlerConcurrency, child: EventOptions, own_bus: bool) {
    check(move || {
        let runtime = runtime();
        let a = EventBus::builder("a").runtime(&runtime).event_concurrency(events).build().unwrap();
        let [jumps, waits, other] = ["jumps", "waits", "other"].map(|name| bus(&runtime, name));
        let (gate, opens) = flag();
        let (told, tells) = flag();
        let (over, ends) = flag();
        waits.on(move |_: &Event<Other>| {
            until(|| gate.load(SeqCst) == 1);
            tells.store(1, SeqCst);
        });
        let elsewhere = waits.downgrade();
        a.on(move |_: &Event<Next>| -> Result<(), HandlerError> {
            elsewhere.upgrade().ok_or("gone")?.emit(Other).wait_in_order()?;
            assert_eq!(over.load(SeqCst), 1, "it came back between a handler and its child");
            Ok(())
        });
        let (child, there) = (child.clone(), other.downgrade());
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            opens.store(1, SeqCst);
            until(|| told.load(SeqCst) == 1);
            a_while();
            let bus = if own_bus { job.bus() } else { there.upgrade().ok_or("gone")? };
            let child = bus.emit_with(Child(job.0), child.clone()).result()?;
            a_while();
            ends.store(1, SeqCst);
            Ok(child)
        });
        for bus in [&a, &other] {
            bus.on(|child: &Event<Child>| child.0);
        }
        let target = a.downgrade();
        jumps.on(move |_: &Event<Next>| -> Result<(), HandlerError> {
            let options = EventOptions::new().handler_concurrency(parent);
            target.upgrade().ok_or("gone")?.emit_with(Job(1), options).result()?;
            Ok(())
        });
        let comes_back = a.emit_with(Next, EventOptions::new().no_timeout());
        until(|| comes_back.status() == EventStatus::Started);
        let jump = jumps.emit_with(Next, EventOptions::new().no_timeout());
        jump.result().unwrap();
        comes_back.result().unwrap();
        [a, jumps, waits, other].iter().for_each(at_rest);
    });
}

#[test]
fn nobody_comes_between_a_handler_and_a_child_with_a_cap() {
    let child = EventOptions::new().timeout(LONG);
    nobody_comes_between(EventConcurrency::BusSerial, HandlerConcurrency::BusSerial, child, true);
}

#[test]
fn nobody_comes_between_a_handler_and_a_child_that_needs_one_permit_more() {
    let child = EventOptions::new().handler_concurrency(HandlerConcurrency::BusSerial);
    nobody_comes_between(EventConcurrency::BusSerial, HandlerConcurrency::EventSerial, child, true);
}

#[test]
fn nobody_comes_between_a_handler_and_a_child_under_a_global_turn() {
    let child = EventOptions::new().timeout(LONG);
    nobody_comes_between(EventConcurrency::GlobalSerial, HandlerConcurrency::EventSerial, child, true);
}

#[test]
fn nobody_comes_between_a_handler_and_a_child_on_another_bus_under_a_global_turn() {
    let child = EventOptions::new().concurrency(EventConcurrency::GlobalSerial);
    nobody_comes_between(EventConcurrency::GlobalSerial, HandlerConcurrency::EventSerial, child, false);
}

#[test]
fn a_child_comes_back_to_the_turn_that_its_parent_lends_while_a_sibling_runs() {
    check(|| {
        let runtime = runtime();
        let (first, a, elsewhere) = (bus(&runtime, "first"), bus(&runtime, "a"), bus(&runtime, "elsewhere"));
        let parallel = HandlerOptions::new().concurrency(HandlerConcurrency::Parallel);
        let (over, ends) = flag();
        a.on_with(parallel.clone(), move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let bus = HandlerContext::current().ok_or("none")?.bus();
            let child = bus.emit(Child(job.0)).result()?;
            ends.store(1, SeqCst);
            Ok(child)
        });
        // Runs on until the child is through, so that the parent's turn is never given up.
        a.on_with(parallel, move |job: &Event<Job>| {
            until(|| over.load(SeqCst) == 1);
            job.0
        });
        let other = elsewhere.downgrade();
        a.on(move |child: &Event<Child>| -> Result<u32, HandlerError> {
            other.upgrade().ok_or("gone")?.emit(Next).wait_in_order()?;
            Ok(child.0)
        });
        elsewhere.on(|_: &Event<Next>| a_while());
        // On its second bus, so that the number of the delivery counts as well.
        first.pause();
        let event = first.emit(Job(1));
        a.forward(&event).unwrap();
        first.resume();
        assert_eq!(event.result_list().unwrap(), [1, 1]);
        [first, a, elsewhere].iter().for_each(at_rest);
    });
}

#[test]
fn a_parallel_child_has_a_turn_of_its_own_to_come_back_to() {
    for cap in [None, Some(LONG)] {
        check(move || {
            let runtime = runtime();
            let (a, elsewhere) = (bus(&runtime, "a"), bus(&runtime, "elsewhere"));
            let (running, runs) = flag();
            let (other, parallel) = (elsewhere.downgrade(), HandlerConcurrency::Parallel);
            a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
                let child = EventOptions::new().handler_concurrency(parallel);
                let child = cap.map_or(child.clone(), |cap| child.timeout(cap));
                Ok(job.bus().emit_with(Child(job.0), child).result_list()?.into_iter().sum())
            });
            a.on(move |child: &Event<Child>| -> Result<u32, HandlerError> {
                until(|| running.load(SeqCst) == 1);
                other.upgrade().ok_or("gone")?.emit(Next).wait_in_order()?;
                Ok(child.0)
            });
            a.on(move |child: &Event<Child>| {
                runs.store(1, SeqCst);
                child.0
            });
            elsewhere.on(|_: &Event<Next>| a_while());
            // Like the child without a handler permit for the whole event.
            let parent = EventOptions::new().handler_concurrency(HandlerConcurrency::EventSerial);
            assert_eq!(a.emit_with(Job(1), parent).result().unwrap(), 2);
            at_rest(&a);
            at_rest(&elsewhere);
        });
    }
}

#[test]
fn a_child_in_another_mode_than_its_parent_has_what_that_mode_asks_for() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let own = HandlerOptions::new().concurrency(HandlerConcurrency::EventSerial);
        let (handler, global) = (Arc::new(Alone::default()), Arc::new(Alone::default()));
        a.on_with(own, move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let serial = EventOptions::new().handler_concurrency(HandlerConcurrency::BusSerial);
            let in_turn = EventOptions::new().concurrency(EventConcurrency::GlobalSerial);
            let event_serial = HandlerConcurrency::EventSerial;
            let one = job.bus().emit_with(Child(1), serial).result()?;
            Ok(one + job.bus().emit_with(Child(2), in_turn.handler_concurrency(event_serial)).result()?)
        });
        let (of_bus, of_all) = (Arc::clone(&handler), Arc::clone(&global));
        a.on(move |child: &Event<Child>| {
            if child.0 == 1 {
                of_bus.run(a_while)
            } else {
                of_all.run(a_while)
            }
            child.0
        });
        a.on(move |_: &Event<Next>| handler.run(a_while));
        b.on(move |_: &Event<Next>| global.run(a_while));
        let free = EventOptions::new().concurrency(EventConcurrency::Parallel);
        let in_turn = EventOptions::new().concurrency(EventConcurrency::GlobalSerial);
        let parent = EventOptions::new().handler_concurrency(HandlerConcurrency::EventSerial);
        let event = a.emit_with(Job(1), parent);
        let beside = [
            a.emit_with(Next, free.clone()),
            b.emit_with(Next, in_turn.clone()),
            a.emit_with(Next, free),
            b.emit_with(Next, in_turn),
        ];
        assert_eq!(event.result().unwrap(), 3);
        beside.iter().for_each(|event| event.result().unwrap());
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn what_is_waited_for_runs_on_the_thread_that_the_guide_says() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let emitted = Arc::new(Mutex::new(None));
        let somebody_elses = Arc::clone(&emitted);
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let here = thread::current().id();
            let (a, b) = (job.bus(), other.upgrade().ok_or("gone")?);
            let ran = |event: Event<Where>| event.result_list().map(|on| on.iter().all(|on| *on == here));
            let plain = EventOptions::new();
            let first = plain.clone().completion(HandlerCompletion::First);
            let in_mode = plain.clone().handler_concurrency(HandlerConcurrency::EventSerial);
            assert!(ran(a.emit(Where))? && ran(a.emit_with(Where, plain.clone().timeout(LONG)))?);
            assert!(ran(b.emit(Where))? && ran(a.emit_with(Where, in_mode))? && ran(a.emit_now(Where))?);
            assert!(!ran(a.emit_with(Where, plain.clone().handler_timeout(SHORT)))?);
            assert!(!ran(a.emit_with(Where, first))?);
            let late = a.emit(Where);
            late.wait_timeout(LONG)?;
            assert!(!ran(late)?);
            let asked = a.emit(Where);
            {
                let _forbidden = forbid_blocking();
                assert!(asked.first().is_err());
            }
            assert!(!ran(asked)?);
            let queued = somebody_elses.lock().unwrap().take();
            assert!(!ran(queued.ok_or("none")?)?);
            Ok(job.0)
        });
        for bus in [&a, &b] {
            bus.on(|_: &Event<Where>| thread::current().id());
        }
        b.pause();
        *emitted.lock().unwrap() = Some(b.emit(Where));
        assert_eq!(a.emit(Job(1)).result().unwrap(), 1);
        b.resume();
        at_rest(&a);
        at_rest(&b);
    });
}

pub struct Where;
impl Payload for Where {
    type Output = thread::ThreadId;
}

#[test]
fn a_turn_is_given_up_in_a_wait_for_another_bus() {
    check(|| {
        let runtime = runtime();
        let (a, d) = (bus(&runtime, "a"), bus(&runtime, "d"));
        let free = EventBus::builder("free").runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
        let free = free.handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
        let (ran, runs) = flag();
        let other = free.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            Ok(other.upgrade().ok_or("gone")?.emit(Child(job.0)).result()?)
        });
        // Only when it has the turn can the child go on.
        a.on(move |_: &Event<Next>| runs.store(1, SeqCst));
        free.on(move |child: &Event<Child>| {
            until(|| ran.load(SeqCst) == 1);
            child.0
        });
        let target = a.downgrade();
        d.on(move |_: &Event<Other>| -> Result<(), HandlerError> {
            Ok(target.upgrade().ok_or("gone")?.emit(Next).wait().map(drop)?)
        });
        let event = a.emit(Job(1));
        until(|| event.status() == EventStatus::Started);
        d.emit(Other);
        assert_eq!(event.result().unwrap(), 1);
        [a, d, free].iter().for_each(at_rest);
    });
}

#[test]
fn a_retry_of_a_child_takes_a_turn_for_it() {
    check(|| {
        let runtime = runtime();
        let (a, d) = (bus(&runtime, "a"), bus(&runtime, "d"));
        let alone = Arc::new(Alone::default());
        a.on(|job: &Event<Job>| -> Result<u32, HandlerError> { Ok(job.bus().emit(Child(job.0)).result()?) });
        let retry = HandlerOptions::new().retry(Retry::attempts(2).delay(SHORT));
        let (failed, fails) = flag();
        a.on_with(retry, move |child: &Event<Child>| {
            alone.run(a_while);
            if child.0 == 1 && fails.fetch_add(1, SeqCst) == 0 {
                return Err(HandlerError::from("again"));
            }
            Ok(child.0)
        });
        let target = a.downgrade();
        d.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            Ok(target.upgrade().ok_or("gone")?.emit(Child(job.0)).result()?)
        });
        let event = a.emit(Job(1));
        until(|| failed.load(SeqCst) > 0);
        let jumps = d.emit(Job(2));
        until(|| jumps.children().iter().any(|child| child.status() == EventStatus::Started));
        timers_fire_until(&runtime, || event.is_completed() && jumps.is_completed());
        assert_eq!((event.result().unwrap(), jumps.result().unwrap()), (1, 2));
        at_rest(&a);
        at_rest(&d);
    });
}

#[test]
fn a_wait_for_a_child_is_one_for_what_that_emitted() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        a.on(|job: &Event<Job>| -> Result<u32, HandlerError> {
            let child = job.bus().emit(Child(job.0));
            child.wait()?;
            assert!(child.is_completed());
            Ok(job.0)
        });
        let other = b.downgrade();
        a.on(move |child: &Event<Child>| {
            if let Some(b) = other.upgrade() {
                b.emit(Next);
            }
            child.0
        });
        b.on(|_: &Event<Next>| a_while());
        assert_eq!(a.emit(Job(1)).result().unwrap(), 1);
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn two_deliveries_of_one_event_have_a_turn_each() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let alone = Arc::new(Alone::default());
        for bus in [&a, &b] {
            let alone = Arc::clone(&alone);
            bus.on(move |child: &Event<Child>| {
                alone.run(a_while);
                child.0
            });
            bus.pause();
        }
        // Queued on both; two handlers wait, and take one of them each.
        let event = a.emit_with(Child(1), EventOptions::new().concurrency(EventConcurrency::GlobalSerial));
        b.forward(&event).unwrap();
        let waits = ["c", "d"].map(|name| {
            let (bus, event) = (bus(&runtime, name), event.clone());
            bus.on(move |job: &Event<Job>| -> Result<u32, HandlerError> { Ok(job.0 + event.result()?) });
            (bus.emit(Job(1)), bus)
        });
        waits.iter().for_each(|(event, _)| assert_eq!(event.result().unwrap(), 2));
        [&a, &b].iter().for_each(|bus| bus.resume());
        [a, b].iter().for_each(at_rest);
    });
}

#[test]
fn a_child_below_a_wait_takes_its_handlers_own_permit() {
    check(|| {
        let runtime = runtime();
        let free = EventBus::builder("free").runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
        let bus = free.handler_concurrency(HandlerConcurrency::EventSerial).build().unwrap();
        let alone = Arc::new(Alone::default());
        bus.on(|job: &Event<Job>| -> Result<u32, HandlerError> { Ok(job.bus().emit(Child(job.0)).result()?) });
        let own = HandlerOptions::new().concurrency(HandlerConcurrency::GlobalSerial);
        bus.on_with(own, move |child: &Event<Child>| {
            alone.run(a_while);
            child.0
        });
        let events = [1, 2].map(|n| bus.emit(Job(n)));
        assert_eq!(events.map(|event| event.result().unwrap()), [1, 2]);
        at_rest(&bus);
    });
}

#[test]
fn a_jump_comes_between_no_parallel_handlers() {
    check(|| {
        let runtime = runtime();
        let (a, d) = (bus(&runtime, "a"), bus(&runtime, "d"));
        let inside = Arc::new(AtomicUsize::new(0));
        let parallel = HandlerOptions::new().concurrency(HandlerConcurrency::Parallel);
        for n in 0..3 {
            let inside = Arc::clone(&inside);
            a.on_with(parallel.clone(), move |job: &Event<Job>| {
                inside.fetch_add(1, SeqCst);
                (0..n).for_each(|_| a_while());
                inside.fetch_sub(1, SeqCst);
                job.0
            });
        }
        a.on(move |_: &Event<Next>| assert_eq!(inside.load(SeqCst), 0, "beside parallel handlers of another event"));
        let target = a.downgrade();
        d.on(move |_: &Event<Other>| -> Result<(), HandlerError> {
            target.upgrade().ok_or("gone")?.emit(Next).wait()?;
            Ok(())
        });
        let event = a.emit(Job(1));
        let jump = d.emit(Other);
        assert_eq!(event.result_list().unwrap(), [1, 1, 1]);
        jump.wait().unwrap();
        at_rest(&a);
        at_rest(&d);
        assert_eq!(a.metrics().failed + d.metrics().failed, 0);
    });
}
