//! What comes out, under shuttle: who had started when an event ended and who had not, what is counted, what goes first, what runs beside what.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_outcomes`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::sync::Barrier;
use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::thread;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threadbus::*;

/// How each handler of the event ended, in a word.
fn ends<P: Payload>(event: &Event<P>) -> Vec<&'static str> {
    let word = |result: HandlerResult<P::Output>| match result.error.as_deref() {
        None if result.status != ResultStatus::Completed => "open",
        None => result.value.map_or("nothing", |_| "value"),
        Some(HandlerFailure::TimedOut { .. }) => "timed out",
        Some(HandlerFailure::Cancelled { .. }) => "cancelled",
        Some(HandlerFailure::Aborted { .. }) => "aborted",
        Some(_) => "failed",
    };
    event.results().into_iter().map(word).collect()
}

#[test]
fn a_cancel_tells_who_had_started_from_who_had_not() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| {
            if let Some(b) = other.upgrade() {
                b.emit(Child(job.0));
            }
            stay();
            job.0
        });
        a.on(|job: &Event<Job>| job.0);
        b.on(|child: &Event<Child>| child.0);
        b.on(|_: &Event<Next>| stay());
        // What is emitted there stays in the queue.
        let before = b.emit(Next);
        let (running, queued) = (a.emit(Job(1)), a.emit(Job(2)));
        until(|| !running.children().is_empty() && before.status() == EventStatus::Started);
        assert!(queued.cancel() && !queued.cancel());
        assert!(matches!(queued.wait(), Err(WaitError::Cancelled)));
        assert_eq!(ends(&queued), ["cancelled", "cancelled"]);
        let beside = b.emit(Child(9));
        assert!(running.cancel());
        running.wait().unwrap();
        assert_eq!(ends(&running), ["aborted", "cancelled"]);
        let child = running.children()[0].clone();
        assert!(child.is_completed() && !beside.is_completed());
        before.cancel();
        assert_eq!(beside.result().unwrap(), 9);
        at_rest(&a);
        at_rest(&b);
        let (of_a, of_b) = (a.metrics(), b.metrics());
        assert_eq!((of_a.cancelled, of_a.completed, of_b.cancelled, of_b.completed), (1, 1, 1, 2));
    });
}

#[test]
fn a_deadline_ends_one_handler_and_what_that_one_emitted() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        for stays in [false, true, false] {
            let other = b.downgrade();
            a.on(move |job: &Event<Job>| {
                if let Some(b) = other.upgrade() {
                    b.emit(Child(u32::from(stays)));
                }
                if stays {
                    stay();
                }
                job.0
            });
        }
        b.on(|child: &Event<Child>| child.0);
        b.on_with(HandlerOptions::new().no_timeout(), |_: &Event<Next>| stay());
        let before = b.emit(Next);
        until(|| before.status() == EventStatus::Started);
        let event = a.emit(Job(1));
        until(|| event.children().len() == 2);
        runtime.model_deadlines_pass();
        until(|| event.children().len() == 3);
        let over: Vec<_> = event.children().iter().map(|child| child.is_completed()).collect();
        before.cancel();
        event.wait().unwrap();
        assert_eq!((ends(&event), over), (vec!["value", "timed out", "value"], vec![false, true, false]));
        at_rest(&a);
        at_rest(&b);
        assert_eq!((a.metrics().timed_out, a.metrics().late_results, b.metrics().cancelled), (1, 1, 1));
    });
}

#[test]
fn a_cap_alone_ends_an_event() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        for _ in 0..2 {
            bus.on_with(HandlerOptions::new().no_timeout(), |job: &Event<Job>| {
                if job.0 == 1 {
                    stay();
                }
                job.0
            });
        }
        let capped = |n| bus.emit_with(Job(n), EventOptions::new().timeout(SHORT));
        assert_eq!(capped(2).result_list().unwrap(), [2, 2]);
        let event = capped(1);
        until(|| event.status() != EventStatus::Pending);
        timers_fire_until(&runtime, || event.is_completed());
        assert_eq!(ends(&event), ["aborted", "cancelled"]);
        assert_eq!(capped(3).result_list().unwrap(), [3, 3]);
        at_rest(&bus);
    });
}

#[test]
fn the_first_value_is_the_last_handler_of_a_line() {
    check(|| {
        let runtime = runtime();
        let bus =
            EventBus::builder("a").runtime(&runtime).handler_completion(HandlerCompletion::First).build().unwrap();
        let retry = HandlerOptions::new().retry(Retry::attempts(2));
        let tried = AtomicUsize::new(0);
        bus.on(|_: &Event<Job>| -> Option<u32> { None });
        bus.on_with(retry, move |job: &Event<Job>| match tried.fetch_add(1, SeqCst) {
            0 => Err(HandlerError::from("again")),
            _ => Ok(job.0),
        });
        bus.on(|job: &Event<Job>| job.0 + 1);
        // Not by who asks for the first, which would make it so.
        let event = bus.emit(Job(1));
        event.wait().unwrap();
        assert_eq!(ends(&event), ["nothing", "value", "cancelled"]);
        assert_eq!(event.first().unwrap(), Some(1));
        at_rest(&bus);
        assert_eq!((bus.metrics().retries, bus.metrics().recovered), (1, 1));
    });
}

#[test]
fn a_first_value_is_told_while_others_are_still_at_it() {
    check(|| {
        let runtime = runtime();
        let parallel = HandlerConcurrency::Parallel;
        let bus = EventBus::builder("a").runtime(&runtime).handler_concurrency(parallel).build().unwrap();
        let over = Arc::new(AtomicUsize::new(0));
        let is_over = Arc::clone(&over);
        bus.on(move |job: &Event<Job>| {
            until(|| is_over.load(SeqCst) > 0);
            job.0
        });
        bus.on(|job: &Event<Job>| job.0 + 1);
        let event = bus.emit(Job(1));
        // Whether it has started or not, what is left of it ends.
        assert_eq!(event.first().unwrap(), Some(2));
        assert_eq!(event.result_list().unwrap(), [2]);
        over.store(1, SeqCst);
        at_rest(&bus);
    });
}

#[test]
fn what_is_counted_is_what_happened() {
    check(|| {
        let runtime = runtime();
        let bus = EventBus::builder("a").runtime(&runtime).dead_letters(8).build().unwrap();
        bus.on_with(HandlerOptions::new().retry(Retry::attempts(2)), |job: &Event<Job>| {
            match (job.0, HandlerContext::current().unwrap().attempt()) {
                (1, 1) | (2, _) => Err(HandlerError::from("no")),
                _ => Ok(job.0),
            }
        });
        let events = [0, 1, 2, 3].map(|n| bus.emit(Job(n)));
        let nobodys = bus.emit(Next);
        let words = events.map(|event| {
            event.wait().unwrap();
            ends(&event)[0]
        });
        assert_eq!(words, ["value", "value", "failed", "value"]);
        nobodys.wait().unwrap();
        at_rest(&bus);
        let m = bus.metrics();
        assert_eq!((m.completed, m.failed, m.retries, m.recovered, m.unhandled), (5, 1, 2, 1, 1));
        assert_eq!(m.dead_letters, 1);
    });
}

#[test]
fn an_event_that_is_over_keeps_no_handler() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let kept = Arc::new(());
        let weak = Arc::downgrade(&kept);
        let handler = bus.on(move |job: &Event<Job>| {
            let _ = &kept;
            job.0
        });
        let event = bus.emit(Job(1));
        event.wait().unwrap();
        assert!(bus.off(&handler) && !bus.off(&handler));
        at_rest(&bus);
        assert!(weak.upgrade().is_none(), "{} keeps a handler that was removed", event.results()[0].handler.label());
    });
}

#[test]
fn what_is_more_urgent_starts_first_and_equals_in_their_order() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let order = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&order);
        bus.on(move |job: &Event<Job>| {
            if job.0 == 0 {
                stay();
            }
            seen.lock().unwrap().push(job.0);
            job.0
        });
        let before = bus.emit(Job(0));
        until(|| before.status() == EventStatus::Started);
        let at = |priority| EventOptions::new().priority(priority);
        let late = [(3, Priority::LOW), (1, Priority::NORMAL), (4, Priority::LOW), (2, Priority::NORMAL)];
        let events = late.map(|(n, priority)| bus.emit_with(Job(n), at(priority)));
        before.cancel();
        events.iter().for_each(|event| drop(event.wait()));
        at_rest(&bus);
        let order = order.lock().unwrap().iter().copied().filter(|n| *n > 0).collect::<Vec<_>>();
        assert_eq!(order, [1, 2, 3, 4]);
    });
}

#[test]
fn a_full_queue_drops_the_oldest_that_has_not_started() {
    check(|| {
        let runtime = runtime();
        let full = EventBus::builder("a").runtime(&runtime).queue_capacity(1, OnFull::DropOldest);
        let bus = full.build().unwrap();
        bus.on(|job: &Event<Job>| {
            if job.0 == 0 {
                stay();
            }
            job.0
        });
        let before = bus.emit(Job(0));
        until(|| before.status() == EventStatus::Started);
        let (dropped, kept) = (bus.emit(Job(1)), bus.emit(Job(2)));
        assert!(matches!(dropped.wait(), Err(WaitError::Dropped)));
        assert_eq!(ends(&dropped), ["cancelled"]);
        before.cancel();
        assert_eq!(kept.result().unwrap(), 2);
        at_rest(&bus);
        assert_eq!((bus.metrics().dropped, bus.metrics().completed), (1, 2));
    });
}

#[test]
fn parallel_handlers_run_beside_each_other_below_a_wait_too() {
    check(|| {
        let runtime = runtime();
        let parallel = HandlerOptions::new().concurrency(HandlerConcurrency::Parallel);
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        for bus in [&a, &b] {
            // All of them are needed to go on.
            let (met, alone) = (Arc::new(Barrier::new(3)), Arc::new(Alone::default()));
            for n in 0..3 {
                let met = Arc::clone(&met);
                bus.on_with(parallel.clone(), move |child: &Event<Child>| {
                    met.wait();
                    child.0 + n
                });
            }
            for n in 3..5 {
                let alone = Arc::clone(&alone);
                let serial = HandlerOptions::new().concurrency(HandlerConcurrency::EventSerial);
                bus.on_with(serial, move |child: &Event<Child>| {
                    alone.run(|| {});
                    child.0 + n
                });
            }
        }
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let own = job.bus().emit(Child(job.0)).result_list()?;
            let others = other.upgrade().ok_or("gone")?.emit(Child(job.0)).result_list()?;
            assert_eq!((own, others), (vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5]));
            Ok(job.0)
        });
        assert_eq!(a.emit(Job(1)).result().unwrap(), 1);
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn no_more_run_at_once_than_there_are_places() {
    check(|| {
        let runtime = Runtime::builder().max_threads(2).build().unwrap();
        let free = EventBus::builder("a").runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
        let bus = free.handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
        let (running, met) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(2)));
        let run = move || {
            assert!(running.fetch_add(1, SeqCst) < 2, "three at once in two places");
            thread::yield_now();
            running.fetch_sub(1, SeqCst);
        };
        let count = run.clone();
        bus.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            count();
            let child = job.bus().emit_with(Child(job.0), EventOptions::new().handler_timeout(SHORT)).result()?;
            count();
            Ok(child)
        });
        bus.on(move |child: &Event<Child>| {
            // The other place is there as well.
            met.wait();
            run();
            child.0
        });
        let events = [bus.emit(Job(1)), bus.emit(Job(2))];
        assert_eq!(events.map(|event| event.result().unwrap()), [1, 2]);
        at_rest(&bus);
    });
}

#[test]
fn every_wait_ends_though_there_is_one_thread() {
    check(|| {
        let runtime = Runtime::builder().max_threads(1).hard_limit(1).build().unwrap();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let b = other.upgrade().ok_or("gone")?;
            let short = EventOptions::new().handler_timeout(SHORT);
            let inside = job.bus().emit_with(Child(1), short.clone()).result()?;
            let in_order = b.emit(Child(10)).wait_in_order()?;
            Ok(inside + in_order.result()? + b.emit_with(Child(100), short).result()?)
        });
        a.on(|child: &Event<Child>| child.0);
        b.on(|child: &Event<Child>| child.0);
        let beside = b.emit(Child(7));
        assert_eq!([a.emit(Job(1)), a.emit(Job(2))].map(|event| event.result().unwrap()), [111, 111]);
        assert_eq!(beside.result().unwrap(), 7);
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn serial_handlers_keep_their_order_though_one_waits_for_a_permit() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let mode = |mode| HandlerOptions::new().no_timeout().concurrency(mode);
        b.on_with(mode(HandlerConcurrency::GlobalSerial), |_: &Event<Next>| stay());
        let order = Arc::new(Mutex::new(Vec::new()));
        let modes = [HandlerConcurrency::Parallel, HandlerConcurrency::GlobalSerial, HandlerConcurrency::EventSerial];
        for (n, own) in modes.into_iter().enumerate() {
            let order = Arc::clone(&order);
            a.on_with(mode(own), move |job: &Event<Job>| {
                order.lock().unwrap().push(n);
                job.0
            });
        }
        let before = b.emit(Next);
        until(|| before.status() == EventStatus::Started);
        let event = a.emit(Job(1));
        until(|| !order.lock().unwrap().is_empty());
        (0..20).for_each(|_| thread::yield_now());
        before.cancel();
        assert_eq!(event.result_list().unwrap(), [1, 1, 1]);
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn what_is_waited_for_is_alone_on_its_bus_too() {
    check(|| {
        let runtime = runtime();
        let (a, b, c) = (bus(&runtime, "a"), bus(&runtime, "b"), bus(&runtime, "c"));
        let alone = Arc::new(Alone::default());
        for from in [&a, &c] {
            let other = b.downgrade();
            from.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
                let short = EventOptions::new().handler_timeout(SHORT);
                Ok(other.upgrade().ok_or("gone")?.emit_with(Child(job.0), short).result()?)
            });
        }
        let one = Arc::clone(&alone);
        b.on(move |child: &Event<Child>| {
            one.run(|| {});
            child.0
        });
        b.on(move |_: &Event<Next>| alone.run(|| {}));
        let beside = [b.emit(Next), b.emit(Next)];
        let events = [a.emit(Job(1)), c.emit(Job(2))];
        assert_eq!(events.map(|event| event.result().unwrap()), [1, 2]);
        assert!(beside.iter().all(|next| next.result().is_ok()));
        [a, b, c].iter().for_each(at_rest);
    });
}

#[test]
fn who_waits_for_a_child_that_overstays_goes_on_without_it() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let over = Arc::new(AtomicUsize::new(0));
        let (told, waits) = (Arc::clone(&over), Arc::clone(&over));
        bus.on_with(HandlerOptions::new().no_timeout(), move |job: &Event<Job>| {
            let child = job.bus().emit(Child(job.0));
            let result = child.result();
            told.store(1, SeqCst);
            (result.is_err() && ends(&child) == ["timed out"]).then_some(job.0)
        });
        bus.on(move |child: &Event<Child>| {
            until(|| waits.load(SeqCst) == 1);
            child.0
        });
        let event = bus.emit(Job(1));
        let clock = {
            let (runtime, event) = (runtime.clone(), event.clone());
            thread::spawn(move || {
                until(|| {
                    let children = event.children();
                    children.iter().any(|child| child.status() == EventStatus::Started)
                });
                runtime.model_deadlines_pass();
            })
        };
        assert_eq!(event.result().unwrap(), 1);
        clock.join().unwrap();
        at_rest(&bus);
    });
}

#[test]
fn one_event_on_two_global_serial_buses_is_handled_on_one_after_the_other() {
    check(|| {
        let runtime = runtime();
        let alone = Arc::new(Alone::default());
        let [a, b] = ["a", "b"].map(|name| {
            let bus = EventBus::builder(name).runtime(&runtime).event_concurrency(EventConcurrency::GlobalSerial);
            let (bus, alone) = (bus.build().unwrap(), Arc::clone(&alone));
            bus.on(move |job: &Event<Job>| {
                alone.run(|| {});
                job.0
            });
            bus
        });
        let event = a.emit(Job(1));
        b.forward(&event).unwrap();
        // It may be complete before it is forwarded.
        at_rest(&a);
        at_rest(&b);
        assert_eq!(event.result_list().unwrap(), [1, 1]);
    });
}

#[test]
fn serial_handlers_are_alone_and_take_events_in_their_order_also_on_parallel_buses() {
    check(|| {
        let runtime = runtime();
        for mode in [HandlerConcurrency::BusSerial, HandlerConcurrency::GlobalSerial] {
            let (alone, order) = (Arc::new(Alone::default()), Arc::new(Mutex::new(Vec::new())));
            let buses = ["a", "b"].map(|name| {
                let bus = EventBus::builder(name).runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
                let bus = bus.handler_concurrency(mode).build().unwrap();
                let (alone, order) = (Arc::clone(&alone), Arc::clone(&order));
                bus.on(move |job: &Event<Job>| {
                    alone.run(|| order.lock().unwrap().push(job.0));
                    job.0
                });
                bus
            });
            let one_bus = mode == HandlerConcurrency::BusSerial;
            let events = [0, 1, 2].map(|n| buses[if one_bus { 0 } else { n as usize % 2 }].emit(Job(n)));
            assert_eq!(events.map(|event| event.result().unwrap()), [0, 1, 2]);
            assert!(!one_bus || *order.lock().unwrap() == [0, 1, 2]);
            buses.iter().for_each(at_rest);
        }
    });
}

/// Asks its event something when it is dropped: a deadlock under the event's lock.
struct Asks(Arc<Mutex<Option<Event<Job>>>>);
impl Drop for Asks {
    fn drop(&mut self) {
        let event = self.0.lock().unwrap().take();
        assert!(event.is_none_or(|event| event.results().len() == 1));
    }
}

#[test]
fn a_handler_that_was_removed_meanwhile_is_dropped_where_nothing_is_locked() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let event = Arc::new(Mutex::new(None));
        let asks = Asks(Arc::clone(&event));
        let handler = bus.on(move |job: &Event<Job>| {
            let _ = &asks;
            stay();
            job.0
        });
        let own = bus.emit(Job(1));
        *event.lock().unwrap() = Some(own.clone());
        until(|| own.status() == EventStatus::Started);
        assert!(bus.off(&handler));
        own.cancel();
        own.wait().unwrap();
        at_rest(&bus);
        assert!(event.lock().unwrap().is_none(), "it is kept");
    });
}

#[test]
fn a_handler_that_overstays_keeps_no_place() {
    check(|| {
        let runtime = Runtime::builder().max_threads(1).hard_limit(4).build().unwrap();
        let bus = bus(&runtime, "a");
        let over = Arc::new(AtomicUsize::new(0));
        let waits = Arc::clone(&over);
        bus.on(move |job: &Event<Job>| {
            until(|| job.0 == 2 || waits.load(SeqCst) == 1);
            job.0
        });
        let (first, second) = (bus.emit(Job(1)), bus.emit(Job(2)));
        until(|| first.status() == EventStatus::Started);
        runtime.model_deadlines_pass();
        first.wait().unwrap();
        assert_eq!(second.result().unwrap(), 2);
        over.store(1, SeqCst);
        assert_eq!(ends(&first), ["timed out"]);
        at_rest(&bus);
    });
}

#[test]
fn a_shutdown_ends_what_runs_and_what_is_queued() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on(|job: &Event<Job>| {
            stay();
            job.0
        });
        let (running, queued) = (bus.emit(Job(1)), bus.emit(Job(2)));
        until(|| running.status() == EventStatus::Started);
        bus.shutdown(Shutdown::Now, Duration::ZERO);
        assert_eq!((ends(&running), ends(&queued)), (vec!["aborted"], vec!["cancelled"]));
        nothing_left(&runtime);
    });
}

#[test]
fn a_child_below_a_wait_has_its_own_bus_and_its_own_modes() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let there = other.upgrade().ok_or("gone")?.emit(Child(job.0)).result()?;
            let first = EventOptions::new().completion(HandlerCompletion::First);
            let first = job.bus().emit_with(Child(job.0), first);
            first.wait()?;
            assert_eq!(ends(&first), ["value", "cancelled"]);
            let beside = EventOptions::new().handler_concurrency(HandlerConcurrency::Parallel);
            let beside = job.bus().emit_with(Child(10), beside).result_list()?;
            assert_eq!((there, beside), (101, vec![10, 10]));
            Ok(job.0)
        });
        let met = Arc::new(Barrier::new(2));
        for _ in 0..2 {
            let met = Arc::clone(&met);
            a.on(move |child: &Event<Child>| {
                if child.0 == 10 {
                    met.wait();
                }
                child.0
            });
        }
        b.on(|child: &Event<Child>| child.0 + 100);
        assert_eq!(a.emit(Job(1)).result().unwrap(), 1);
        at_rest(&a);
        at_rest(&b);
    });
}
