//! LOCK: how permits go from hand to hand, pauses, idle buses; handlers that meet. Modes are in `lock.rs`.

mod common;
#[path = "common/modes.rs"]
mod modes;

use common::{Gate, Gauge, Log, PATIENCE, clean, done, eventually, idle, in_order, linger, lock, logs_around};
use modes::*;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use threadbus::{Event, EventOptions, WaitError};

#[test]
fn lock_024_two_events_of_one_bus_differ_in_their_handler_mode() {
    for serial in [Handlers::BusSerial, Handlers::EventSerial, Handlers::GlobalSerial] {
        let bus = bus("Lock024", Events::BusSerial, Handlers::Parallel);
        let gauges = [Gauge::new(), Gauge::new()];
        let gates = [Gate::new(), Gate::new()];
        for _ in 0..2 {
            let (gauges, gates) = (gauges.clone(), gates.clone());
            bus.on(move |job: &Event<Job>| {
                gauges[job.n].enter();
                gates[job.n].wait();
                gauges[job.n].leave();
            });
        }
        let a = bus.emit_with(Job { n: 0 }, EventOptions::new().handler_concurrency(serial));
        exactly(1, &gauges[0], &gates[0], &[a]);
        let b = bus.emit_with(Job { n: 1 }, EventOptions::new().handler_concurrency(Handlers::Parallel));
        exactly(2, &gauges[1], &gates[1], &[b]);
    }
}

#[test]
fn lock_025_parallel_handlers_meet_and_both_results_are_kept() {
    let bus = bus("Lock025", Events::BusSerial, Handlers::Parallel);
    let meeting = Meeting::of(2);
    for n in 0..2 {
        let meeting = meeting.clone();
        bus.on(move |ask: &Event<Ask>| {
            meeting.join();
            ask.n + n
        });
    }
    let event = done(&bus.emit(Ask { n: 10 }));
    assert_eq!(event.result_list().expect("both"), [10, 11]);
}

#[test]
fn lock_025b_a_hundred_handlers_meet_at_one_barrier() {
    for events in [Events::GlobalSerial, Events::BusSerial, Events::Parallel] {
        let bus = bus("Lock025b", events, Handlers::Parallel);
        let meeting = Meeting::of(100);
        for n in 0..100 {
            let meeting = meeting.clone();
            bus.on(move |_: &Event<Ask>| {
                meeting.join();
                n
            });
        }
        let event = done(&bus.emit(Ask { n: 0 }));
        assert_eq!(event.result_list().expect("all"), (0..100).collect::<Vec<_>>());
        idle(&bus);
    }
}

#[test]
fn lock_025c_a_hundred_handlers_meet_on_the_stack_of_one_that_waits() {
    let bus = bus("Lock025c", Events::BusSerial, Handlers::Parallel);
    let meeting = Meeting::of(100);
    for _ in 0..100 {
        let meeting = meeting.clone();
        bus.on(move |_: &Event<Child>| meeting.join());
    }
    bus.on(|event: &Event<Parent>| event.bus().emit(Child).wait().map(drop));
    clean(&bus.emit(Parent));
}

#[test]
fn lock_026_an_event_without_handlers_is_complete_when_waited_for() {
    let bus = bus("Lock026", Events::BusSerial, Handlers::BusSerial);
    let event = bus.emit(Other).wait().expect("nothing to do");
    assert!(event.is_completed() && event.results().is_empty());
    assert_eq!(bus.pending(), 0);
    idle(&bus);
}

/// The permit goes from one to the next in the same step in which it is released: nobody slips in.
#[test]
fn lock_027_who_comes_when_the_permit_is_released_stands_behind_who_waits() {
    let bus = bus("Lock027", Events::Parallel, Handlers::BusSerial);
    let (log, gauge, gates) = (Log::new(), Gauge::new(), Arc::new(Mutex::new(Vec::<Gate>::new())));
    bus.on({
        let (log, gauge, gates) = (log.clone(), gauge.clone(), Arc::clone(&gates));
        move |job: &Event<Job>| {
            assert_eq!(gauge.enter(), 1);
            log.push(job.n);
            let gate = lock(&gates)[job.n].clone();
            gate.wait();
            gauge.leave();
        }
    });
    for round in 0..100 {
        let first = 3 * round;
        lock(&gates).extend([Gate::new(), Gate::new(), Gate::new()]);
        let gate = |n: usize| lock(&gates)[first + n].clone();
        let holder = bus.emit(Job { n: first });
        eventually(|| log.count(&first.to_string()) == 1);
        let waiter = bus.emit(Job { n: first + 1 });
        // It is in line as soon as nobody is busy with it.
        eventually(|| bus.pending() == 0 && bus.runtime().stats().busy == 1);
        gate(0).open();
        let late = bus.emit(Job { n: first + 2 });
        eventually(|| log.count(&(first + 1).to_string()) == 1);
        linger();
        assert_eq!(log.count(&(first + 2).to_string()), 0, "slipped in");
        gate(1).open();
        gate(2).open();
        [holder, waiter, late].iter().for_each(clean);
    }
    assert_eq!(gauge.peak(), 1);
    idle(&bus);
}

#[test]
fn lock_030_a_waiting_handler_gives_its_permit_up_and_has_it_back_when_it_goes_on() {
    let runtime = runtime();
    let held = bus_on(&runtime, "Lock030", Events::Parallel, Handlers::BusSerial);
    let elsewhere = bus_on(&runtime, "Lock030Elsewhere", Events::Parallel, Handlers::Parallel);
    let (log, contended, returned) = (Log::new(), Gate::new(), Gate::new());
    let goes_on = Gate::new();
    let _opener = goes_on.opener();
    logs_around::<Other>(&held, &log, "contender", {
        let contended = contended.clone();
        move |_| {
            contended.open();
            Ok(())
        }
    });
    logs_around::<Job>(&held, &log, "late", |_| Ok(()));
    logs_around::<Child>(&elsewhere, &log, "child", move |_| {
        contended.wait();
        Ok(())
    });
    logs_around::<Parent>(&held, &log, "parent", {
        let (returned, goes_on, elsewhere) = (returned.clone(), goes_on.clone(), elsewhere.downgrade());
        move |event| {
            let contender = event.bus().emit_with(Other, EventOptions::new().detached());
            elsewhere.upgrade().expect("it lives").emit(Child).wait()?;
            drop(contender);
            returned.open();
            goes_on.wait();
            Ok(())
        }
    });
    let parent = held.emit(Parent);
    returned.wait();
    let late = held.emit(Job { n: 0 });
    linger();
    assert_eq!(log.count("late_start"), 0, "the handler that came back holds the permit");
    goes_on.open();
    clean(&parent);
    clean(&late);
    in_order(&log, &["parent_start", "contender_start", "child_end", "parent_end", "late_start"]);
    idle(&held);
}

#[test]
fn lock_031_pauses_nest_and_their_depth_is_never_below_zero() {
    let bus = bus("Lock031", Events::BusSerial, Handlers::BusSerial);
    let log = Log::new();
    logs_around::<Job>(&bus, &log, "job", |_| Ok(()));
    bus.pause();
    bus.pause();
    let first = bus.emit(Job { n: 0 });
    bus.resume();
    linger();
    assert_eq!((log.len(), bus.pending()), (0, 1), "one pause is left");
    bus.resume();
    clean(&first);
    bus.resume();
    bus.resume();
    bus.pause();
    let second = bus.emit(Job { n: 1 });
    linger();
    assert_eq!((log.count("job_start"), bus.pending()), (1, 1), "more resumes than pauses count for nothing");
    bus.resume();
    clean(&second);
}

#[test]
fn lock_032_a_busy_bus_is_not_idle_in_time_and_idle_means_all_of_it() {
    let bus = bus("Lock032", Events::BusSerial, Handlers::BusSerial);
    let gates = [Gate::new(), Gate::new()];
    let _openers = gates.each_ref().map(Gate::opener);
    bus.on({
        let gates = gates.clone();
        move |job: &Event<Job>| gates[job.n].wait()
    });
    let events = [bus.emit(Job { n: 0 }), bus.emit(Job { n: 1 })];
    let limit = Duration::from_millis(50);
    assert_eq!(bus.wait_until_idle_timeout(limit), Err(WaitError::Timeout(limit)));
    let waiter = thread::spawn({
        let bus = bus.clone();
        move || bus.wait_until_idle_timeout(PATIENCE)
    });
    gates[0].open();
    clean(&events[0]);
    linger();
    assert!(!waiter.is_finished(), "the end of one event is not yet idle");
    gates[1].open();
    assert_eq!(waiter.join().expect("no panic"), Ok(()));
    assert!(events[1].is_completed() && bus.is_idle());
}

#[test]
fn lock_034_parallel_events_take_no_lock_and_serial_ones_give_theirs_back() {
    let bus = bus("Lock034", Events::BusSerial, Handlers::BusSerial);
    let free = || EventOptions::new().concurrency(Events::Parallel).handler_concurrency(Handlers::Parallel);
    let gates = [Gate::new(), Gate::new()];
    let _openers = gates.each_ref().map(Gate::opener);
    let running = Gauge::new();
    bus.on({
        let (gates, running) = (gates.clone(), running.clone());
        move |ask: &Event<Ask>| -> Result<usize, String> {
            running.enter();
            match ask.n {
                0 | 1 => gates[ask.n].wait(),
                2 => return Err("event-lock-error".to_owned()),
                _ => {}
            }
            Ok(ask.n)
        }
    });
    let serial = bus.emit(Ask { n: 0 });
    eventually(|| running.peak() == 1);
    clean(&bus.emit_with(Ask { n: 9 }, free()));
    let parallel = bus.emit_with(Ask { n: 1 }, free());
    gates[0].open();
    clean(&serial);
    let failing = done(&bus.emit(Ask { n: 2 }));
    assert_eq!(failing.errors()[0].to_string(), "event-lock-error");
    clean(&bus.emit(Ask { n: 8 }));
    assert!(!parallel.is_completed(), "it ran beside all of them");
    gates[1].open();
    clean(&parallel);
    idle(&bus);
}
