//! Few places, few threads or none, full queues, and pump threads, under shuttle: who serves whom, where handlers run, what falls out.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_scarce`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::sync::atomic::Ordering::SeqCst;
use shuttle::thread;
use std::sync::{Arc, Mutex};
use threadbus::*;

fn threads(places: usize, most: usize) -> Runtime {
    Runtime::builder().max_threads(places).hard_limit(most).build().unwrap()
}

fn manual(runtime: &Runtime, name: &str) -> EventBus {
    EventBus::builder(name).runtime(runtime).manual().build().unwrap()
}

#[test]
fn a_thread_in_line_for_its_turn_serves_who_has_it() {
    check(|| {
        let runtime = threads(1, 1);
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let (in_line, stands) = flag();
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            until(|| in_line.load(SeqCst) == 1);
            // Its turn goes to the event in line, which only this thread can run.
            Ok(other.upgrade().ok_or("gone")?.emit(Child(job.0)).result()?)
        });
        a.on(|_: &Event<Next>| {});
        b.on(|child: &Event<Child>| child.0);
        let event = a.emit(Job(1));
        until(|| event.status() == EventStatus::Started);
        let next = {
            let _forbidden = forbid_blocking();
            a.emit_now(Next)
        };
        stands.store(1, SeqCst);
        assert_eq!(event.result().unwrap(), 1);
        next.wait().unwrap();
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn a_parked_thread_serves_what_comes_later_if_it_is_the_only_one() {
    check(|| {
        let runtime = threads(1, 1);
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        let caller = thread::current().id();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            Ok(other.upgrade().ok_or("gone")?.emit(Child(job.0)).wait_in_order()?.result()?)
        });
        b.on(move |child: &Event<Child>| {
            assert_ne!(thread::current().id(), caller, "on a thread of the user's, though there is one of the pool");
            child.0
        });
        b.pause();
        let event = a.emit(Job(1));
        until(|| b.pending() == 1);
        let (resumes, waits) = (b.clone(), event.clone());
        let resumer = thread::spawn(move || {
            a_while();
            resumes.resume();
            // Just when there is a job and no thread has come for it.
            waits.wait().unwrap();
        });
        assert_eq!(event.result().unwrap(), 1);
        resumer.join().unwrap();
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn a_waiting_thread_takes_no_place_beside_the_only_one() {
    check(|| {
        let runtime = threads(1, 2);
        let [a, b, c] = ["a", "b", "c"].map(|name| bus(&runtime, name));
        let alone = Arc::new(Alone::default());
        let (other, own) = (b.downgrade(), Arc::clone(&alone));
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            own.run(|| {});
            let child = other.upgrade().ok_or("gone")?.emit(Child(job.0)).wait_in_order()?;
            own.run(|| {});
            Ok(child.result()?)
        });
        let own = Arc::clone(&alone);
        b.on(move |child: &Event<Child>| {
            own.run(a_while);
            child.0
        });
        c.on(move |_: &Event<Next>| alone.run(a_while));
        let event = a.emit(Job(1));
        // Just when the first one comes back.
        until(|| event.children().iter().any(|child| child.status() == EventStatus::Started));
        let beside = [c.emit(Next), c.emit(Next)];
        assert_eq!(event.result().unwrap(), 1);
        beside.iter().for_each(|next| next.result().unwrap());
        [a, b, c].iter().for_each(at_rest);
    });
}

#[test]
fn who_is_given_up_while_it_waits_for_a_place_is_not_counted_any_more() {
    check(|| {
        let runtime = threads(2, 4);
        let [a, b, c] = ["a", "b", "c"].map(|name| bus(&runtime, name));
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            other.upgrade().ok_or("gone")?.emit(Child(job.0)).wait_in_order()?;
            Ok(job.0)
        });
        let (over, ends) = flag();
        c.on(move |_: &Event<Next>| until(|| over.load(SeqCst) == 1));
        b.pause();
        let (event, keeps) = (a.emit(Job(1)), c.emit(Next));
        until(|| !event.children().is_empty() && keeps.status() == EventStatus::Started);
        a_while();
        // The only place is taken when its wait is over.
        runtime.set_max_threads(1).unwrap();
        event.children()[0].cancel();
        a_while();
        event.cancel();
        ends.store(1, SeqCst);
        keeps.result().unwrap();
        b.resume();
        [a, b, c].iter().for_each(at_rest);
    });
}

#[test]
fn who_is_given_up_on_top_of_another_leaves_that_one_its_place() {
    check(|| {
        let runtime = threads(1, 4);
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let alone = Arc::new(Alone::default());
        let own = Arc::clone(&alone);
        a.on(move |job: &Event<Job>| {
            let cancelled = job.bus().emit(Child(job.0)).wait().is_ok();
            own.run(a_while);
            u32::from(cancelled)
        });
        a.on(|child: &Event<Child>| {
            let context = HandlerContext::current().unwrap();
            until(|| context.is_cancelled());
            child.0
        });
        b.on(move |_: &Event<Next>| alone.run(a_while));
        let event = a.emit(Job(1));
        until(|| event.children().iter().any(|child| child.status() == EventStatus::Started));
        let beside = b.emit(Next);
        event.children()[0].cancel();
        assert_eq!(event.result().unwrap(), 1);
        beside.result().unwrap();
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn without_a_single_thread_the_caller_runs_everything_and_later_threads_do() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let below = other.upgrade().ok_or("gone")?.emit(Child(job.0)).wait_in_order()?.result()?;
            Ok(below + job.bus().emit(Child(job.0)).result()?)
        });
        for bus in [&a, &b] {
            bus.on(|child: &Event<Child>| child.0);
        }
        runtime.model_threads_refused(true);
        let events = [a.emit(Job(1)), a.emit(Job(2))];
        assert_eq!(runtime.stats().threads, 0);
        assert_eq!(events.map(|event| event.result().unwrap()), [2, 4]);
        runtime.model_threads_refused(false);
        assert_eq!(a.emit(Job(3)).result().unwrap(), 6);
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn threads_that_are_refused_later_end_no_wait() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let (other, refuse) = (b.downgrade(), runtime.clone());
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            refuse.model_threads_refused(job.0 == 1);
            let b = other.upgrade().ok_or("gone")?;
            let parallel = EventOptions::new().handler_concurrency(HandlerConcurrency::Parallel);
            let beside: u32 = b.emit_with(Child(job.0), parallel).result_list()?.into_iter().sum();
            Ok(beside + b.emit(Child(job.0)).wait_in_order()?.result()?)
        });
        for _ in 0..2 {
            b.on(|child: &Event<Child>| child.0);
        }
        let first = a.emit(Job(1));
        assert_eq!(first.result().unwrap(), 3);
        assert_eq!(a.emit(Job(2)).result().unwrap(), 6);
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn a_pump_thread_in_line_runs_what_the_holder_waits_for() {
    check(|| {
        let runtime = runtime();
        let (ui, work) = (manual(&runtime, "ui"), bus(&runtime, "work"));
        let parallel = HandlerOptions::new().concurrency(HandlerConcurrency::Parallel);
        let (ran, runs) = flag();
        let (started, starts) = flag();
        let to = ui.downgrade();
        work.on_with(parallel.clone(), move |job: &Event<Job>| -> Result<u32, HandlerError> {
            starts.store(1, SeqCst);
            a_while();
            Ok(to.upgrade().ok_or("gone")?.emit(Child(job.0)).result()?)
        });
        // Keeps the turn meanwhile.
        work.on_with(parallel, move |job: &Event<Job>| {
            until(|| ran.load(SeqCst) == 1);
            job.0
        });
        work.on(|_: &Event<Next>| {});
        ui.on(move |child: &Event<Child>| {
            runs.store(1, SeqCst);
            child.0
        });
        let to = work.downgrade();
        ui.on(move |_: &Event<Next>| -> Result<(), HandlerError> {
            until(|| started.load(SeqCst) == 1);
            Ok(to.upgrade().ok_or("gone")?.emit(Next).wait().map(drop)?)
        });
        let (next, event) = (ui.emit(Next), work.emit(Job(1)));
        ui.run_pending();
        assert!(next.is_completed() && next.errors().is_empty());
        assert_eq!(event.result_list().unwrap(), [1, 1]);
        at_rest(&ui);
        at_rest(&work);
    });
}

#[test]
fn a_pump_thread_runs_what_its_handlers_wait_for_on_all_its_buses() {
    check(|| {
        let runtime = runtime();
        let (ui, other) = (manual(&runtime, "ui"), manual(&runtime, "other"));
        let to = other.downgrade();
        let pump = thread::current().id();
        ui.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let there = to.upgrade().ok_or("gone")?;
            let capped = EventOptions::new().timeout(std::time::Duration::from_secs(3600));
            let own = job.bus().emit_with(Child(job.0), capped).result()?;
            Ok(own + there.emit(Child(job.0)).result()? + there.emit(Child(job.0)).wait_in_order()?.result()?)
        });
        for bus in [&ui, &other] {
            bus.on(move |child: &Event<Child>| {
                assert_eq!(thread::current().id(), pump);
                child.0
            });
        }
        let event = ui.emit(Job(1));
        ui.run_pending();
        assert_eq!(event.result().unwrap(), 3);
        at_rest(&ui);
        at_rest(&other);
    });
}

#[test]
fn a_thread_attached_to_a_pumps_handler_is_told_that_only_the_pump_could() {
    check(|| {
        let runtime = runtime();
        let (ui, other) = (manual(&runtime, "ui"), manual(&runtime, "other"));
        let to = other.downgrade();
        ui.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let (context, other) = (HandlerContext::current().ok_or("none")?, to.upgrade().ok_or("gone")?);
            let attached = thread::spawn(move || context.attach(|| other.emit(Next).wait().map(drop)));
            assert!(matches!(attached.join().unwrap(), Err(WaitError::Deadlock(_))));
            Ok(job.0)
        });
        other.on(|_: &Event<Next>| {});
        let event = ui.emit(Job(1));
        ui.run_pending();
        other.run_pending();
        assert_eq!(event.result().unwrap(), 1);
        at_rest(&ui);
        at_rest(&other);
    });
}

#[test]
fn a_full_queue_passes_over_what_is_in_it_no_more() {
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
        let gone = bus.emit(Job(1));
        gone.cancel();
        let (dropped, kept) = (bus.emit(Job(2)), bus.emit(Job(3)));
        assert!(matches!(dropped.wait(), Err(WaitError::Dropped)));
        before.cancel();
        assert_eq!(kept.result().unwrap(), 3);
        at_rest(&bus);
        assert_eq!((bus.metrics().dropped, bus.metrics().cancelled), (1, 1));
    });
}

#[test]
fn what_falls_out_of_a_full_queue_has_not_started() {
    check(|| {
        let runtime = runtime();
        let full = EventBus::builder("a").runtime(&runtime).queue_capacity(1, OnFull::DropOldest);
        let bus = full.build().unwrap();
        let ran = Arc::new(Mutex::new(Vec::new()));
        let runs = Arc::clone(&ran);
        bus.on(move |job: &Event<Job>| {
            runs.lock().unwrap().push(job.0);
            thread::yield_now();
            job.0
        });
        let events = [0, 1, 2, 3].map(|n| bus.emit(Job(n)));
        let came: Vec<u32> = events.iter().filter_map(|event| event.result().ok()).collect();
        at_rest(&bus);
        assert_eq!(*ran.lock().unwrap(), came);
    });
}

#[test]
fn the_oldest_of_a_full_queue_is_the_oldest_of_all_kinds() {
    check(|| {
        let runtime = runtime();
        let full = EventBus::builder("a").runtime(&runtime).queue_capacity(2, OnFull::DropOldest);
        let bus = full.build().unwrap();
        bus.on(|job: &Event<Job>| job.0);
        bus.pause();
        let serial = EventOptions::new;
        for options in [[serial(), free(), free()], [free(), serial(), serial()]] {
            let [first, second, third] = options.map(|options| bus.emit_with(Job(1), options));
            assert!(first.is_completed() && !second.is_completed() && !third.is_completed());
            second.cancel();
            third.cancel();
        }
        let urgent = EventOptions::new().priority(Priority::HIGH);
        let (low, high) = (bus.emit_with(Job(1), free()), bus.emit_with(Job(2), urgent.clone()));
        let higher = bus.emit_with(Job(3), urgent);
        assert!(low.is_completed() && !high.is_completed());
        let too_low = bus.try_emit_with(Job(4), EventOptions::new());
        assert!(too_low.is_err() && !high.is_completed() && !higher.is_completed());
        bus.resume();
        assert_eq!((high.result().unwrap(), higher.result().unwrap()), (2, 3));
        at_rest(&bus);
    });
}

#[test]
fn who_stands_in_line_for_a_permit_of_its_own_occupies_no_thread() {
    check(|| {
        let runtime = threads(2, 2);
        let [a, b, c] = ["a", "b", "c"].map(|name| bus(&runtime, name));
        let own = HandlerOptions::new().concurrency(HandlerConcurrency::GlobalSerial);
        let (ran, runs) = flag();
        a.on_with(own.clone(), move |job: &Event<Job>| {
            until(|| ran.load(SeqCst) == 1);
            job.0
        });
        b.on_with(own, |job: &Event<Job>| job.0);
        c.on(move |_: &Event<Next>| runs.store(1, SeqCst));
        let first = a.emit(Job(1));
        until(|| first.status() == EventStatus::Started);
        let in_line = b.emit(Job(2));
        until(|| b.pending() == 0);
        a_while();
        c.emit(Next).result().unwrap();
        assert_eq!((first.result().unwrap(), in_line.result().unwrap()), (1, 2));
        [a, b, c].iter().for_each(at_rest);
    });
}

#[test]
fn one_pump_waits_for_another() {
    check(|| {
        let runtime = runtime();
        let (ui, other) = (manual(&runtime, "ui"), manual(&runtime, "other"));
        other.on(|child: &Event<Child>| child.0);
        let (to, also_to) = (other.downgrade(), other.downgrade());
        ui.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let own = to.upgrade().ok_or("gone")?.emit(Child(job.0)).result()?;
            let (context, bus) = (HandlerContext::current().ok_or("none")?, also_to.upgrade().ok_or("gone")?);
            let attached = thread::spawn(move || context.attach(|| bus.emit(Child(2)).result()));
            Ok(own + attached.join().unwrap()?)
        });
        let event = ui.emit(Job(1));
        let (pumped, pumps) = flag();
        let pump = {
            let (other, event) = (other.clone(), event.clone());
            thread::spawn(move || {
                until(|| {
                    other.run_pending();
                    pumps.store(1, SeqCst);
                    event.is_completed()
                });
            })
        };
        // Until then the other bus is this thread's, too.
        until(|| pumped.load(SeqCst) == 1);
        until(|| {
            ui.run_pending();
            event.is_completed()
        });
        pump.join().unwrap();
        assert_eq!(event.result().unwrap(), 3);
    });
}

/// As long as the other bus has not had its turn, this one always has something to do.
#[test]
fn a_busy_bus_leaves_the_only_thread_to_another() {
    check(|| {
        let runtime = threads(1, 1);
        let (busy, idle) = (bus(&runtime, "busy"), bus(&runtime, "idle"));
        let (ran, runs) = flag();
        busy.on(move |job: &Event<Job>| {
            thread::yield_now();
            if ran.load(SeqCst) == 0 {
                job.bus().emit_with(Job(job.0 + 1), EventOptions::new().detached());
            }
            job.0
        });
        idle.on(move |_: &Event<Next>| runs.store(1, SeqCst));
        busy.emit(Job(1));
        idle.emit(Next).result().unwrap();
        at_rest(&busy);
        at_rest(&idle);
    });
}

/// An event gives way between two handlers: it keeps its turn, and its order.
#[test]
fn an_event_that_gives_way_keeps_its_bus() {
    check(|| {
        let runtime = threads(1, 2);
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let order = Arc::new(Mutex::new(Vec::new()));
        for handler in 0..3 {
            let order = Arc::clone(&order);
            a.on(move |job: &Event<Job>| {
                order.lock().unwrap().push((job.0, handler));
                job.0
            });
        }
        b.on(|child: &Event<Child>| child.0);
        let (first, beside, second) = (a.emit(Job(1)), b.emit(Child(7)), a.emit(Job(2)));
        let given_up = a.emit(Job(3));
        given_up.cancel();
        assert_eq!((beside.result().unwrap(), first.result_list().unwrap().len()), (7, 3));
        second.wait().unwrap();
        at_rest(&a);
        at_rest(&b);
        let order = order.lock().unwrap();
        let of = |n| order.iter().filter(|(job, _)| *job == n).copied().collect::<Vec<_>>();
        assert_eq!([of(1), of(2)].concat(), order[..6], "no event comes between the handlers of another");
        assert_eq!(of(1), [(1, 0), (1, 1), (1, 2)]);
    });
}

/// At the hard limit: one thread waits with a lock in its hand, and the other one sleeps in a call that holds no place.
#[test]
fn nothing_runs_on_top_of_a_wait_that_does_not_need_it() {
    check(|| {
        let runtime = threads(2, 2);
        let (app, slow, found) = (bus(&runtime, "app"), bus(&runtime, "slow"), bus(&runtime, "found"));
        let unrelated = bus(&runtime, "unrelated");
        let table = Arc::new(shuttle::sync::Mutex::new(0));
        let finds = found.downgrade();
        slow.on(move |child: &Event<Child>| -> Result<u32, HandlerError> {
            // Until somebody outside lets it go on.
            let found = finds.upgrade().ok_or("gone")?.find::<Next>().future_forever().first();
            Ok(child.0 + u32::from(found.is_some()))
        });
        let (held, other) = (Arc::clone(&table), slow.downgrade());
        let (waits, is_waiting) = flag();
        app.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let child = other.upgrade().ok_or("gone")?.emit_with(Child(job.0), EventOptions::new().detached());
            until(|| child.status() == EventStatus::Started);
            let mut table = held.lock().unwrap();
            is_waiting.store(1, SeqCst);
            *table += child.result()?;
            Ok(*table)
        });
        let own = Arc::clone(&table);
        unrelated.on(move |_: &Event<Next>| *own.lock().unwrap() += 10);
        let event = app.emit(Job(1));
        until(|| waits.load(SeqCst) == 1);
        let beside = unrelated.emit(Next);
        a_while();
        found.emit(Next);
        assert_eq!(event.result().unwrap(), 2);
        beside.result().unwrap();
        [app, slow, unrelated].iter().for_each(at_rest);
    });
}

#[test]
fn a_thread_that_was_refused_comes_when_somebody_looks() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        a.on(|job: &Event<Job>| job.0);
        b.on(|job: &Event<Job>| job.0);
        runtime.model_threads_refused(true);
        let events = [a.emit(Job(1)), b.emit(Job(2))];
        runtime.model_threads_refused(false);
        until(|| events.iter().all(Event::is_completed));
        assert_eq!(events.map(|event| event.result().unwrap()), [1, 2]);
        at_rest(&a);
        at_rest(&b);
    });
}
