//! The bus under shuttle: its own code, on random schedules. `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_bus`.
//!
//! `THREADBUS_SCHEDULES` sets how many schedules each model runs (default 2,000). A failure prints the schedule to replay.
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::thread;
use std::sync::Arc;
use std::time::Duration;
use threadbus::*;

#[test]
fn every_emit_is_handled_however_the_loop_is_handed_back() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let (seen, alone) = (Arc::new(AtomicUsize::new(0)), Arc::new(Alone::default()));
        let (counter, one) = (Arc::clone(&seen), Arc::clone(&alone));
        bus.on(move |job: &Event<Job>| {
            one.run(|| {
                counter.fetch_add(1, SeqCst);
            });
            job.0
        });
        let other = bus.clone();
        let emitter = thread::spawn(move || {
            other.emit(Job(1)).wait().unwrap();
            other.emit(Job(2));
        });
        bus.emit(Job(3));
        bus.emit(Job(4)).wait().unwrap();
        emitter.join().unwrap();
        at_rest(&bus);
        assert_eq!(seen.load(SeqCst), 4);
    });
}

#[test]
fn an_awaited_child_runs_inside_its_parent_and_nothing_else_does() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let inside = Arc::new(AtomicUsize::new(0));
        let (of_parent, of_next) = (Arc::clone(&inside), Arc::clone(&inside));
        bus.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            of_parent.store(1, SeqCst);
            let value = job.bus().emit(Child(job.0)).result()?;
            of_parent.store(0, SeqCst);
            Ok(value)
        });
        bus.on(|child: &Event<Child>| child.0 + 1);
        bus.on(move |_: &Event<Next>| assert_eq!(of_next.load(SeqCst), 0, "ran in the middle of a jump"));
        let other = bus.clone();
        let emitter = thread::spawn(move || other.emit(Next).result());
        assert_eq!(bus.emit(Job(1)).result().unwrap(), 2);
        emitter.join().unwrap().unwrap();
        at_rest(&bus);
    });
}

#[test]
fn handlers_of_two_buses_wait_for_each_others_events() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        for (own, other) in [(&a, &b), (&b, &a)] {
            let other = other.downgrade();
            own.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
                let other = other.upgrade().ok_or("gone")?;
                Ok(other.emit(Child(job.0)).result()?)
            });
            own.on(|child: &Event<Child>| child.0);
        }
        let (x, y) = (a.emit(Job(1)), b.emit(Job(2)));
        assert_eq!((x.result().unwrap(), y.result().unwrap()), (1, 2));
        at_rest(&a);
        at_rest(&b);
    });
}

#[test]
fn return_deadline_and_cancel_end_an_invocation_once_and_the_bus_goes_on() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on(|job: &Event<Job>| {
            thread::yield_now();
            job.0
        });
        bus.on(|job: &Event<Job>| job.0 + 10);
        let event = bus.emit(Job(1));
        let (clock, late) = (runtime.clone(), event.clone());
        let watch = thread::spawn(move || clock.model_deadlines_pass());
        let canceller = thread::spawn(move || late.cancel());
        let _ = event.wait();
        watch.join().unwrap();
        canceller.join().unwrap();
        let results = event.results();
        for result in &results {
            assert!(matches!(result.status, ResultStatus::Completed | ResultStatus::Error), "{result:?}");
            assert_eq!(result.value.is_some(), result.error.is_none());
        }
        assert_eq!(bus.emit(Job(2)).result_list().unwrap(), [2, 12]);
        at_rest(&bus);
    });
}

#[test]
fn a_replaced_worker_leaves_no_two_live_handlers() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let live = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let live = Arc::clone(&live);
            bus.on(move |job: &Event<Job>| {
                let context = HandlerContext::current().unwrap();
                if !context.is_cancelled() {
                    let others = live.fetch_add(1, SeqCst);
                    thread::yield_now();
                    // Who was given up in between does not count as live.
                    if !context.is_cancelled() {
                        assert_eq!(others, 0);
                    }
                    live.fetch_sub(1, SeqCst);
                }
                job.0
            });
        }
        let (first, second) = (bus.emit(Job(1)), bus.emit(Job(2)));
        let _ = (first.wait(), second.wait());
        at_rest(&bus);
    });
}

#[test]
fn a_deadline_in_the_middle_of_a_jump_strands_nobody() {
    check(|| {
        let runtime = runtime();
        let (a, b) = (bus(&runtime, "a"), bus(&runtime, "b"));
        let other = b.downgrade();
        a.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let other = other.upgrade().ok_or("gone")?;
            job.bus().emit(Child(1)).wait()?;
            Ok(other.emit(Child(job.0)).result()?)
        });
        a.on(|child: &Event<Child>| child.0);
        b.on(|child: &Event<Child>| {
            thread::yield_now();
            child.0
        });
        b.on(|_: &Event<Next>| {});
        a.on(|_: &Event<Next>| {});
        let event = a.emit(Job(1));
        let clock = runtime.clone();
        let watch = thread::spawn(move || clock.model_deadlines_pass());
        let beside = b.emit(Next);
        let _ = event.wait();
        let _ = beside.wait();
        watch.join().unwrap();
        a.emit(Next).wait().unwrap();
        b.emit(Next).wait().unwrap();
        at_rest(&a);
        at_rest(&b);
        assert_eq!(event.results().len(), 1);
    });
}

#[test]
fn a_child_that_runs_elsewhere_is_waited_for_under_cancellation() {
    check(|| {
        let runtime = runtime();
        // The parent has no timeout, the child has one: the child runs on another worker.
        let bus = bus(&runtime, "a");
        bus.on_with(HandlerOptions::new().no_timeout(), |job: &Event<Job>| -> Result<u32, HandlerError> {
            let child = job.bus().emit(Child(job.0));
            Ok(child.result()?)
        });
        bus.on(|child: &Event<Child>| {
            thread::yield_now();
            child.0
        });
        bus.on(|_: &Event<Next>| {});
        let event = bus.emit(Job(1));
        let late = event.clone();
        let canceller = thread::spawn(move || late.cancel());
        let _ = event.wait();
        canceller.join().unwrap();
        bus.emit(Next).wait().unwrap();
        at_rest(&bus);
    });
}

#[test]
fn shutdown_races_with_emits_and_leaves_nobody_waiting() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        bus.on(|job: &Event<Job>| job.0);
        let other = bus.clone();
        let emitter = thread::spawn(move || {
            (0..3).map(|n| other.emit(Job(n))).map(|event| event.wait().is_ok()).filter(|ok| *ok).count()
        });
        bus.emit(Job(9));
        bus.shutdown(Shutdown::Now, Duration::ZERO);
        assert!(emitter.join().unwrap() <= 3);
        assert!(bus.emit(Job(1)).wait().is_err());
    });
}

#[test]
fn parallel_handlers_are_each_run_once() {
    check(|| {
        let runtime = runtime();
        let bus =
            EventBus::builder("a").runtime(&runtime).handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
        let runs = Arc::new(AtomicUsize::new(0));
        for n in 0..3 {
            let runs = Arc::clone(&runs);
            bus.on(move |_: &Event<Job>| {
                runs.fetch_add(1, SeqCst);
                n
            });
        }
        assert_eq!(bus.emit(Job(0)).result_list().unwrap(), [0, 1, 2]);
        assert_eq!(runs.load(SeqCst), 3);
        at_rest(&bus);
    });
}

#[test]
fn parallel_handlers_that_wait_share_the_turn_of_their_event() {
    check(|| {
        let runtime = runtime();
        let bus =
            EventBus::builder("a").runtime(&runtime).handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
        let alone = Arc::new(Alone::default());
        for n in 0..2 {
            bus.on(move |job: &Event<Job>| -> Result<u32, HandlerError> { Ok(job.bus().emit(Child(n)).result()?) });
        }
        bus.on(move |child: &Event<Child>| {
            alone.run(|| {});
            child.0
        });
        bus.emit(Child(7));
        assert_eq!(bus.emit(Job(0)).result_list().unwrap(), [0, 1]);
        at_rest(&bus);
    });
}

fn manual(runtime: &Runtime, name: &str) -> BusBuilder {
    EventBus::builder(name).runtime(runtime).manual()
}

#[test]
fn a_manual_bus_says_so_whenever_it_has_work_that_nobody_saw() {
    check(|| {
        let runtime = runtime();
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let bus = manual(&runtime, "ui")
            .on_ready(move || {
                count.fetch_add(1, SeqCst);
            })
            .build()
            .unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        bus.on(move |_: &Event<Next>| {
            counter.fetch_add(1, SeqCst);
        });
        let emitters: Vec<_> = (0..2)
            .map(|_| {
                let bus = bus.clone();
                thread::spawn(move || drop(bus.emit(Next)))
            })
            .collect();
        // A program that looks only when it was told to.
        let mut heard = 0;
        while seen.load(SeqCst) < 2 {
            let now = calls.load(SeqCst);
            if now > heard {
                heard = now;
                bus.run_pending();
            } else {
                thread::yield_now();
            }
        }
        for emitter in emitters {
            emitter.join().unwrap();
        }
        assert!(bus.is_idle());
    });
}

#[test]
fn a_pump_thread_that_sleeps_until_it_is_told_runs_all_whichever_way_it_does() {
    check(|| {
        let runtime = runtime();
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let bus = manual(&runtime, "ui")
            .on_ready(move || {
                count.fetch_add(1, SeqCst);
            })
            .build()
            .unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        bus.on(move |job: &Event<Job>| {
            counter.fetch_add(1, SeqCst);
            job.0
        });
        let emitted = Arc::new(Mutex::new(Vec::new()));
        let emitters: Vec<_> = (0..2)
            .map(|at| {
                let (bus, emitted) = (bus.clone(), Arc::clone(&emitted));
                thread::spawn(move || {
                    for n in 0..2 {
                        let priority = if n == at { Priority::NORMAL } else { Priority::HIGH };
                        let job = bus.emit_with(Job(n), EventOptions::new().priority(priority));
                        emitted.lock().unwrap().push(job);
                    }
                })
            })
            .collect();
        let mut heard = 0;
        while seen.load(SeqCst) < 4 {
            let now = calls.load(SeqCst);
            if now == heard {
                thread::yield_now();
                continue;
            }
            heard = now;
            // A wait for one that leaves what is behind it, or finds nothing behind it; or a look that starts nothing.
            let newest = emitted.lock().unwrap().pop().filter(|job| !job.is_completed());
            match newest {
                Some(job) => drop(job.wait()),
                None => _ = bus.run_pending(),
            }
        }
        for emitter in emitters {
            emitter.join().unwrap();
        }
        assert!(bus.is_idle());
    });
}

#[test]
fn a_threaded_handler_waits_for_an_event_of_a_pump_that_waits_for_it() {
    check(|| {
        let runtime = runtime();
        let (ui, work) = (manual(&runtime, "ui").build().unwrap(), bus(&runtime, "work"));
        let pump = std::thread::current().id();
        ui.on(move |child: &Event<Child>| {
            assert_eq!(std::thread::current().id(), pump);
            child.0 + 1
        });
        let to = ui.downgrade();
        work.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            Ok(to.upgrade().ok_or("gone")?.emit(Child(job.0)).result()?)
        });
        // Inside a handler of the manual bus, for an event that goes to another thread; and outside.
        let to = work.downgrade();
        ui.on(move |_: &Event<Next>| {
            let work = to.upgrade().unwrap();
            assert_eq!(work.emit_with(Job(1), EventOptions::new().detached()).result().unwrap(), 2);
        });
        let next = ui.emit(Next);
        ui.run_pending();
        assert!(next.is_completed() && next.errors().is_empty());
        assert_eq!(work.emit(Job(5)).result().unwrap(), 6);
        at_rest(&ui);
    });
}

#[test]
fn the_last_handle_goes_while_somebody_waits_for_the_pump() {
    check(|| {
        let runtime = runtime();
        let (ui, work) = (manual(&runtime, "ui").build().unwrap(), bus(&runtime, "work"));
        ui.on(|child: &Event<Child>| child.0);
        let to = ui.downgrade();
        work.on(move |job: &Event<Job>| -> Result<u32, HandlerError> {
            let Some(ui) = to.upgrade() else { return Ok(1) };
            let child = ui.emit(Child(job.0));
            drop(ui);
            // Cancelled; or the pump thread came first, in a wait of its own.
            Ok(u32::from(child.wait().is_err() || child.is_completed()))
        });
        let job = work.emit(Job(1));
        drop(ui);
        assert_eq!(job.result().unwrap(), 1);
    });
}

#[test]
fn the_history_is_in_the_order_of_ids() {
    check(|| {
        let runtime = runtime();
        let bus = bus(&runtime, "a");
        let emitters: Vec<_> = (0..2)
            .map(|at| {
                let bus = bus.clone();
                thread::spawn(move || (0..2).for_each(|n| drop(bus.emit(Job(2 * at + n)))))
            })
            .collect();
        emitters.into_iter().for_each(|emitter| emitter.join().unwrap());
        at_rest(&bus);
        let ids: Vec<_> = bus.history().iter().map(AnyEvent::id).collect();
        assert_eq!(ids.len(), 4);
        assert!(ids.is_sorted());
    });
}
