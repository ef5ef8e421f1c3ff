//! What goes before what, under shuttle: jumps, lines for permits and limits, first values, events of a pump.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_order`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::sync::Barrier;
use shuttle::sync::atomic::Ordering::SeqCst;
use shuttle::thread;
use std::sync::{Arc, Mutex};
use threadbus::*;

#[test]
fn a_bus_starts_nothing_that_is_queued_while_somebody_who_jumped_in_waits_on() {
    check(|| {
        let runtime = runtime();
        let [a, b, c] = ["a", "b", "c"].map(|name| bus(&runtime, name));
        let (inside, below) = (b.downgrade(), c.downgrade());
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            Ok(inside.upgrade().ok_or("gone")?.emit(Child(job.0)).result()?)
        });
        b.on(|_: &Event<Next>| stay());
        b.on(move |child: &Event<Child>| {
            // Not waited for here, but by whoever waits for this one.
            if let Some(c) = below.upgrade() {
                c.emit(Next);
            }
            child.0
        });
        let (over, ends) = flag();
        c.on(move |_: &Event<Next>| {
            a_while();
            ends.store(1, SeqCst);
        });
        b.on(move |_: &Event<Other>| assert_eq!(over.load(SeqCst), 1, "it started before the wait was over"));
        let before = b.emit_with(Next, EventOptions::new().no_timeout());
        until(|| before.status() == EventStatus::Started);
        let queued = b.emit(Other);
        let event = a.emit(Job(1));
        until(|| b.pending() == 1);
        a_while();
        before.cancel();
        assert_eq!(event.result().unwrap(), 1);
        queued.result().unwrap();
        [a, b, c].iter().for_each(at_rest);
    });
}

#[test]
fn what_is_waited_for_goes_first_in_the_line_for_a_handler_permit() {
    check(|| {
        let runtime = runtime();
        let a = bus(&runtime, "a");
        let b = EventBus::builder("b").runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
        let b = b.handler_concurrency(HandlerConcurrency::EventSerial).build().unwrap();
        let own = HandlerOptions::new().no_timeout().concurrency(HandlerConcurrency::BusSerial);
        let order = Arc::new(Mutex::new(Vec::new()));
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let elsewhere = EventOptions::new().completion(HandlerCompletion::First);
            Ok(other.upgrade().ok_or("gone")?.emit_with(Child(job.0), elsewhere).result()?)
        });
        let seen = Arc::clone(&order);
        b.on_with(own.clone(), move |child: &Event<Child>| {
            seen.lock().unwrap().push(1);
            child.0
        });
        let seen = Arc::clone(&order);
        b.on_with(own.clone(), move |_: &Event<Other>| seen.lock().unwrap().push(2));
        b.on_with(own, |_: &Event<Next>| stay());
        let before = b.emit(Next);
        until(|| before.status() == EventStatus::Started);
        let in_line = b.emit(Other);
        until(|| b.pending() == 0);
        a_while();
        // So that nobody but the jump takes the child out of the queue.
        b.pause();
        let event = a.emit(Job(1));
        until(|| !event.children().is_empty() && b.pending() == 0);
        a_while();
        before.cancel();
        assert_eq!(event.result().unwrap(), 1);
        in_line.result().unwrap();
        b.resume();
        at_rest(&a);
        at_rest(&b);
        assert_eq!(*order.lock().unwrap(), [1, 2]);
    });
}

#[test]
fn who_leaves_a_line_leaves_the_others_there() {
    check(|| {
        let runtime = runtime();
        let buses = ["a", "b", "c"].map(|name| bus(&runtime, name));
        let own = HandlerOptions::new().concurrency(HandlerConcurrency::GlobalSerial).no_timeout();
        for bus in &buses {
            bus.on_with(own.clone(), |job: &Event<Job>| {
                if job.0 == 0 {
                    stay();
                }
                job.0
            });
        }
        let before = buses[0].emit(Job(0));
        until(|| before.status() == EventStatus::Started);
        let in_line = [buses[1].emit(Job(1)), buses[2].emit(Job(2))];
        until(|| buses.iter().all(|bus| bus.pending() == 0));
        a_while();
        in_line[0].cancel();
        before.cancel();
        assert_eq!(in_line[1].result().unwrap(), 2);
        buses.iter().for_each(at_rest);
    });
}

#[test]
fn one_event_on_two_buses_has_a_permit_for_each_of_its_handlers() {
    check(|| {
        let runtime = runtime();
        let alone = Arc::new(Alone::default());
        let own = HandlerOptions::new().concurrency(HandlerConcurrency::GlobalSerial);
        let buses = ["a", "b"].map(|name| {
            let (bus, alone) = (bus(&runtime, name), Arc::clone(&alone));
            bus.on_with(own.clone(), move |job: &Event<Job>| {
                alone.run(a_while);
                job.0
            });
            bus.pause();
            bus
        });
        let event = buses[0].emit(Job(1));
        buses[1].forward(&event).unwrap();
        buses.iter().for_each(|bus| bus.resume());
        assert_eq!(event.result_list().unwrap(), [1, 1]);
        buses.iter().for_each(at_rest);
    });
}

#[test]
fn a_loser_that_stood_in_line_is_cancelled() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let mode = |mode| HandlerOptions::new().no_timeout().concurrency(mode);
        b.on_with(mode(HandlerConcurrency::GlobalSerial), |_: &Event<Next>| stay());
        a.on_with(mode(HandlerConcurrency::Parallel), |job: &Event<Job>| {
            a_while();
            job.0
        });
        a.on_with(mode(HandlerConcurrency::GlobalSerial), |job: &Event<Job>| job.0);
        let before = b.emit(Next);
        until(|| before.status() == EventStatus::Started);
        let event = a.emit_with(Job(1), EventOptions::new().completion(HandlerCompletion::First));
        event.wait().unwrap();
        let results = event.results();
        assert_eq!(results[0].value, Some(1));
        assert!(matches!(results[1].error.as_deref(), Some(HandlerFailure::Cancelled { .. })));
        before.cancel();
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn a_first_value_is_told_to_a_handler_while_others_are_still_at_it() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let (told, tells) = flag();
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let parallel = EventOptions::new().handler_concurrency(HandlerConcurrency::Parallel);
            let child = other.upgrade().ok_or("gone")?.emit_with(Child(job.0), parallel);
            // Asked before it starts, it would end the others.
            until(|| child.status() == EventStatus::Started);
            let first = child.first()?;
            tells.store(1, SeqCst);
            child.wait()?;
            Ok(first.unwrap_or_default())
        });
        b.on(move |child: &Event<Child>| {
            until(|| told.load(SeqCst) == 1);
            child.0 + 1
        });
        b.on(|child: &Event<Child>| child.0);
        assert_eq!(a.emit(Job(1)).result().unwrap(), 1);
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn a_handler_of_a_pump_waits_in_order_for_what_is_queued_beside_it() {
    check(|| {
        let runtime = runtime();
        let ui = EventBus::builder("ui").runtime(&runtime).manual().event_concurrency(EventConcurrency::Parallel);
        let ui = ui.build().unwrap();
        let queued: Arc<Mutex<Option<Event<Child>>>> = Arc::default();
        let beside = Arc::clone(&queued);
        ui.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let beside = beside.lock().unwrap().take().ok_or("none")?;
            Ok(job.0 + beside.wait_in_order()?.result()?)
        });
        ui.on(|child: &Event<Child>| child.0);
        let event = ui.emit(Job(1));
        *queued.lock().unwrap() = Some(ui.emit(Child(2)));
        let last = ui.emit(Child(3));
        until(|| ui.run_pending() == 0);
        assert_eq!((event.result().unwrap(), last.result().unwrap()), (3, 3));
        at_rest(&ui);
    });
}

/// With few preemptions this thread goes on for as long as it can: it must park, and not keep itself awake.
#[test]
fn a_wait_in_order_on_top_of_another_of_the_same_thread_lets_others_run() {
    check(|| {
        let runtime = runtime();
        let ui = EventBus::builder("ui").runtime(&runtime).manual().build().unwrap();
        let work = bus(&runtime, "work");
        work.on(|child: &Event<Child>| child.0);
        let to = work.downgrade();
        ui.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            Ok(to.upgrade().ok_or("gone")?.emit(Child(job.0)).wait_in_order()?.result()?)
        });
        assert_eq!(ui.emit(Job(1)).result().unwrap(), 1);
        at_rest(&ui);
        at_rest(&work);
    });
}

#[test]
fn more_places_are_used_at_once() {
    check(|| {
        let runtime = Runtime::builder().max_threads(1).build().unwrap();
        let bus = EventBus::builder("a").runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
        let bus = bus.handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
        let met = Arc::new(Barrier::new(2));
        bus.on(move |job: &Event<Job>| {
            met.wait();
            job.0
        });
        let events = [bus.emit(Job(1)), bus.emit(Job(2))];
        let observer = {
            let (runtime, events) = (runtime.clone(), events.clone());
            thread::spawn(move || {
                until(|| {
                    let s = runtime.stats();
                    assert!(s.busy <= s.max_threads && s.threads == s.busy + s.waiting + s.idle + s.abandoned, "{s:?}");
                    events.iter().all(|event| event.is_completed())
                });
            })
        };
        until(|| runtime.stats().busy == 1);
        a_while();
        assert!(events.iter().all(|event| !event.is_completed()), "two at once in one place");
        runtime.set_max_threads(2).unwrap();
        assert_eq!(events.map(|event| event.result().unwrap()), [1, 2]);
        observer.join().unwrap();
        at_rest(&bus);
    });
}

#[test]
fn places_that_are_taken_away_are_not_filled_again() {
    check(|| {
        let runtime = Runtime::builder().max_threads(2).build().unwrap();
        let (over, ends) = flag();
        let buses = [1, 2, 3].map(|n| {
            let bus = bus(&runtime, "serial");
            let over = Arc::clone(&over);
            bus.on(move |job: &Event<Job>| {
                until(|| over.load(SeqCst) >= n);
                job.0
            });
            bus
        });
        let events = [&buses[0], &buses[1]].map(|bus| bus.emit(Job(1)));
        until(|| events.iter().all(|event| event.status() == EventStatus::Started));
        runtime.set_max_threads(1).unwrap();
        let third = buses[2].emit(Job(3));
        ends.store(1, SeqCst);
        assert_eq!(events[0].result().unwrap(), 1);
        a_while();
        assert_eq!(third.status(), EventStatus::Pending);
        ends.store(3, SeqCst);
        assert_eq!((events[1].result().unwrap(), third.result().unwrap()), (1, 3));
        buses.iter().for_each(at_rest);
    });
}

#[test]
fn a_handler_that_overstays_is_tried_as_often_as_it_may_be() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on_with(HandlerOptions::new().retry(Retry::attempts(2).delay(SHORT)), |job: &Event<Job>| {
            stay();
            job.0
        });
        let event = bus.emit(Job(1));
        until(|| {
            runtime.model_deadlines_pass();
            runtime.model_timers_fire();
            thread::yield_now();
            event.is_completed()
        });
        event.wait().unwrap();
        let result = &event.results()[0];
        assert_eq!(result.attempts, 2);
        assert!(matches!(result.error.as_deref(), Some(HandlerFailure::TimedOut { .. })));
        at_rest(&bus);
    });
}

#[test]
fn who_loses_while_its_filter_is_asked_has_ended_once() {
    check(|| {
        let runtime = runtime();
        let bus = EventBus::builder("a").runtime(&runtime).handler_completion(HandlerCompletion::First);
        let bus = bus.handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
        let (asked, asks) = flag();
        let retry = Retry::attempts(2).only_if(move |_| {
            asks.store(1, SeqCst);
            (0..20).for_each(|_| thread::yield_now());
            false
        });
        bus.on_with(HandlerOptions::new().retry(retry), |job: &Event<Job>| {
            stay();
            job.0
        });
        let (over, ends) = flag();
        bus.on_with(HandlerOptions::new().no_timeout(), move |job: &Event<Job>| {
            until(|| asked.load(SeqCst) == 1);
            job.0
        });
        // Keeps the event from its end meanwhile.
        bus.on_with(HandlerOptions::new().no_timeout(), move |job: &Event<Job>| {
            until(|| over.load(SeqCst) == 1);
            job.0
        });
        let event = bus.emit(Job(1));
        until(|| event.results().first().is_some_and(|result| result.status == ResultStatus::Started));
        runtime.model_deadlines_pass();
        assert_eq!(event.first().unwrap(), Some(1));
        ends.store(1, SeqCst);
        event.wait().unwrap();
        settled(&event);
        at_rest(&bus);
    });
}
