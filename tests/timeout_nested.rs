//! TMO over several events: what a timeout does to what its handler emitted and waited for, and to the permits on the way.
//! Handlers that must overstay stand at a gate that opens at the end of the test.

mod common;
#[path = "common/overtime.rs"]
mod overtime;

use common::{Gate, Log, capped, clean, done, eventually, idle, ms, payload, warnings_naming};
use overtime::*;
use std::time::Instant;
use threadbus::{
    CauseKind, Event, EventConcurrency, EventOptions, HandlerConcurrency, HandlerOptions, Payload, Retry, WaitError,
};

payload!(Parent);
payload!(Child);
payload!(Other);

/// Ended, whether or not a handler of it ever started.
#[track_caller]
fn over<P: Payload>(event: &Event<P>) {
    eventually(|| event.is_completed());
}

/// A warning says what the slow handler waits for, whoever runs that.
#[test]
fn tmo_011b_a_slow_handler_that_waits_is_warned_about_with_what_it_waits_for() {
    let runtime = runtime();
    let bus = builder(&runtime, "Tmo011b").handler_slow_after(None).event_slow_after(None).build().expect("a bus");
    let (gate, log, warnings) = (Gate::new(), Log::new(), warnings_naming(bus.label()));
    let _opener = gate.opener();
    overstays::<Child>(&bus, &log, &gate, "child");
    // Its own timeout puts the child on another worker.
    bus.on(|event: &Event<Parent>| event.bus().emit_with(Child, capped(60_000)).wait().map(drop));
    let parent = bus.emit_with(Parent, EventOptions::new().handler_slow_after(ms(100)));
    eventually(|| !warnings().is_empty());
    let warning = warnings().remove(0);
    let child = child::<Child>(&parent);
    let handler = parent.results()[0].handler.label();
    assert!(warning.starts_with(&format!("slow handler: {handler} on {parent} still running after ")), "{warning}");
    assert!(warning.contains(&format!("waits for {child}")), "{warning}");
    gate.open();
    clean(&parent);
    idle(&bus);
}

#[test]
fn tmo_016_a_child_on_another_bus_that_nobody_waits_for() {
    let runtime = runtime();
    let [a, b] = ["Tmo016A", "Tmo016B"].map(|name| builder(&runtime, name).build().expect("a bus"));
    let (gate, log) = (Gate::new(), Log::new());
    let _opener = gate.opener();
    overstays::<Child>(&b, &log, &gate, "child");
    let other = b.downgrade();
    a.on(move |_: &Event<Parent>| drop(other.upgrade().expect("it lives").emit_with(Child, capped(50))));
    let parent = a.emit(Parent);
    clean(&parent);
    timed_out(&child::<Child>(&parent).results()[0], 50);
    works_on_in_time(&b, &gate);
    works_on_in_time(&a, &Gate::new());
}

#[test]
fn tmo_017_a_jump_over_two_global_serial_buses() {
    let runtime = runtime();
    let [a, b] = ["Tmo017A", "Tmo017B"]
        .map(|name| builder(&runtime, name).event_concurrency(EventConcurrency::GlobalSerial).build().expect("a bus"));
    let (gate, log) = (Gate::new(), Log::new());
    let _opener = gate.opener();
    overstays::<Child>(&b, &log, &gate, "child_on_b");
    notes::<Child>(&a, &log, "child_on_a");
    let other = b.downgrade();
    a.on(move |event: &Event<Parent>| -> Result<(), WaitError> {
        let here = event.bus().emit_with(Child, capped(50));
        let there = other.upgrade().expect("it lives").emit_with(Child, capped(50));
        here.wait()?;
        there.wait()?;
        Ok(())
    });
    let parent = a.emit_with(Parent, capped(2500));
    clean(&parent);
    assert_eq!(log.entries(), ["child_on_a", "child_on_b"]);
    let children = parent.children();
    timed_out(&children[1].results()[0], 50);
    assert!(children[0].errors().is_empty());
    works_on_in_time(&b, &gate);
    works_on_in_time(&a, &Gate::new());
}

/// What takes the handler permit while the parent waits, and keeps it until after the parent's timeout.
#[derive(Clone, Copy, PartialEq)]
enum Contender {
    /// Another event of the same bus, in line for its handler permit.
    Queued,
    /// An event of the same bus that the awaited child waits for.
    Jumping,
}

/// A parent with a timeout of 300 ms waits for a child on another bus; when that is done, its own permit is somebody else's.
fn times_out_while_it_takes_its_permit_back(handlers: HandlerConcurrency, contender: Contender) {
    let runtime = runtime();
    let builder_of = |name| builder(&runtime, name).event_concurrency(EventConcurrency::Parallel);
    let bus = builder_of("Tmo018").handler_concurrency(handlers).build().expect("a bus");
    let elsewhere = builder_of("Tmo018B").handler_concurrency(HandlerConcurrency::Parallel).build().expect("a bus");
    let (gate, taken, log) = (Gate::new(), Gate::new(), Log::new());
    let _opener = gate.opener();
    bus.on({
        let (gate, taken) = (gate.clone(), taken.clone());
        move |_: &Event<Other>| {
            taken.open();
            gate.wait();
        }
    });
    elsewhere.on({
        let (taken, log, bus) = (taken.clone(), log.clone(), bus.downgrade());
        move |_: &Event<Child>| {
            let bus = bus.upgrade().expect("it lives");
            if contender == Contender::Jumping {
                bus.pause();
            }
            let other = bus.emit_with(Other, EventOptions::new().detached());
            while contender == Contender::Jumping && !taken.is_open() {
                drop(other.wait_timeout(ms(5)));
            }
            bus.resume();
            taken.wait();
            log.push("child_end");
        }
    });
    bus.on({
        let (log, elsewhere) = (log.clone(), elsewhere.downgrade());
        move |_: &Event<Parent>| -> Result<(), WaitError> {
            elsewhere.upgrade().expect("it lives").emit(Child).wait()?;
            log.push("parent went on");
            Ok(())
        }
    });
    let parent = done(&bus.emit_with(Parent, capped(300)));
    timed_out(&parent.results()[0], 300);
    assert_eq!(log.entries(), ["child_end"], "the parent was ended before it had its permit back");
    // The permit is the contender's still, and nobody else's: what follows waits for it, and runs once it is released.
    let tail = bus.emit(Tail);
    notes::<Tail>(&bus, &log, "tail");
    assert!(!bus.is_idle());
    gate.open();
    clean(&tail);
    idle(&bus);
    for _ in 0..3 {
        follow_up(&bus);
    }
    eventually(|| bus.runtime().stats().abandoned == 0);
    assert_eq!(log.count("parent went on"), 0, "its wait ended with an error");
    clean(&elsewhere.emit(Tail));
}

#[test]
fn tmo_018_a_timeout_while_taking_the_permit_back_leaks_nothing() {
    for handlers in [HandlerConcurrency::BusSerial, HandlerConcurrency::GlobalSerial] {
        times_out_while_it_takes_its_permit_back(handlers, Contender::Jumping);
    }
}

#[test]
fn tmo_018b_the_same_with_a_contender_from_the_queue() {
    for handlers in [HandlerConcurrency::BusSerial, HandlerConcurrency::GlobalSerial] {
        times_out_while_it_takes_its_permit_back(handlers, Contender::Queued);
    }
}

#[test]
fn tmo_019_two_handlers_of_which_one_waits_and_one_overstays() {
    for handlers in [HandlerConcurrency::BusSerial, HandlerConcurrency::GlobalSerial] {
        for events in [EventConcurrency::BusSerial, EventConcurrency::Parallel] {
            let runtime = runtime();
            let builder = builder(&runtime, "Tmo019").handler_concurrency(handlers).event_concurrency(events);
            let bus = builder.build().expect("a bus");
            let (gate, log) = (Gate::new(), Log::new());
            let _opener = gate.opener();
            for _ in 0..2 {
                notes::<Child>(&bus, &log, "child");
            }
            bus.on(|event: &Event<Parent>| {
                let options = EventOptions::new().handler_concurrency(HandlerConcurrency::Parallel);
                event.bus().emit_with(Child, options).wait().map(drop)
            });
            overstays::<Parent>(&bus, &log, &gate, "sleeper");
            let parent = done(&bus.emit_with(Parent, capped(100)));
            timed_out(&parent.results()[1], 100);
            let waiter = &parent.results()[0];
            assert!(waiter.error.is_none(), "{:?}", waiter.error);
            assert_eq!(log.count("child"), 2);
            works_on_in_time(&bus, &gate);
        }
    }
}

/// 018 and then a follow-up: there with every handler mode, here with the default modes and a jump on the bus itself.
#[test]
fn tmo_020_the_next_event_runs_after_a_parent_that_timed_out_in_a_wait() {
    for events in [EventConcurrency::GlobalSerial, EventConcurrency::BusSerial, EventConcurrency::Parallel] {
        let runtime = runtime();
        let bus = builder(&runtime, "Tmo020").event_concurrency(events).build().expect("a bus");
        let (gate, log) = (Gate::new(), Log::new());
        let _opener = gate.opener();
        overstays::<Child>(&bus, &log, &gate, "child");
        bus.on({
            let log = log.clone();
            move |event: &Event<Parent>| {
                let waited = event.bus().emit(Child).wait().map(drop);
                log.push(format_args!("{waited:?}"));
            }
        });
        let parent = done(&bus.emit_with(Parent, capped(100)));
        timed_out(&parent.results()[0], 100);
        let child = child::<Child>(&parent);
        over(&child);
        assert_eq!(aborted(&child.results()[0]).kind, CauseKind::HandlerTimeout);
        works_on_in_time(&bus, &gate);
        eventually(|| log.count("Err(Aborted)") + log.count("Ok(())") == 1);
    }
}

#[test]
fn tmo_023_what_a_timed_out_handler_emitted_is_cancelled_in_the_queue() {
    let (bus, gate, log) = (serial("Tmo023"), Gate::new(), Log::new());
    let _opener = gate.opener();
    notes::<Child>(&bus, &log, "child");
    let options = HandlerOptions::new().retry(Retry::attempts(1)).timeout(ms(50));
    let info = bus.on_with(options, {
        let gate = gate.clone();
        move |event: &Event<Parent>| {
            event.bus().emit(Child);
            gate.wait();
        }
    });
    let parent = done(&bus.emit_with(Parent, EventOptions::new().timeout(ms(5000))));
    timed_out(&parent.results()[0], 50);
    let child = child::<Child>(&parent);
    assert_eq!(child.wait().map(drop), Err(WaitError::Cancelled));
    assert_eq!(child.results().len(), 1, "a result for each handler that did not start");
    let cause = cancelled(&child.results()[0]);
    assert_eq!((cause.kind, cause.event, cause.handler), (CauseKind::HandlerTimeout, parent.id(), Some(info.id())));
    assert_eq!(cause.after, Some(ms(50)));
    let text = cause.to_string();
    assert_eq!(text, format!("timeout of {} on {parent} after 50ms", info.label()));
    works_on_in_time(&bus, &gate);
    assert!(log.is_empty());
}

#[test]
fn tmo_024_attempts_time_out_one_by_one_until_the_events_cap() {
    let runtime = runtime();
    let builder = builder(&runtime, "Tmo024").event_concurrency(EventConcurrency::Parallel);
    let bus = builder.handler_concurrency(HandlerConcurrency::Parallel).build().expect("a bus");
    let (gate, log) = (Gate::new(), Log::new());
    let _opener = gate.opener();
    overstays::<Child>(&bus, &log, &gate, "child");
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(1000)).timeout(ms(50)), {
        let gate = gate.clone();
        move |event: &Event<Parent>| {
            if event.results()[0].attempts == 1 {
                event.bus().emit(Child);
            }
            gate.wait();
        }
    });
    let parent = done(&bus.emit_with(Parent, EventOptions::new().timeout(ms(700))));
    let result = parent.results().remove(0);
    assert_eq!(aborted(&result).kind, CauseKind::EventTimeout);
    assert!(result.attempts >= 2 && result.attempts <= 15, "{} attempts", result.attempts);
    let child = child::<Child>(&parent);
    assert!(child.is_completed() && log.count("child") == 1);
    let cause = aborted(&child.results()[0]);
    assert_eq!((cause.kind, cause.event), (CauseKind::HandlerTimeout, parent.id()), "the nearest timeout");
    works_on_in_time(&bus, &gate);
}

#[test]
fn tmo_037_the_tail_runs_after_a_parent_that_timed_out() {
    let (bus, gate, log) = (serial("Tmo037"), Gate::new(), Log::new());
    let _opener = gate.opener();
    notes::<Child>(&bus, &log, "child");
    bus.on({
        let gate = gate.clone();
        move |event: &Event<Parent>| -> Result<(), WaitError> {
            event.bus().emit(Child).wait()?;
            gate.wait();
            Ok(())
        }
    });
    let parent = bus.emit_with(Parent, capped(100));
    let tail = bus.emit(Tail);
    notes::<Tail>(&bus, &log, "tail");
    timed_out(&done(&parent).results()[0], 100);
    clean(&tail);
    assert_eq!(log.entries(), ["child", "tail"]);
    works_on_in_time(&bus, &gate);
}

#[test]
fn tmo_038_the_tail_runs_on_both_buses_after_a_forwarded_timeout() {
    let runtime = runtime();
    let [a, b] = ["Tmo038A", "Tmo038B"].map(|name| builder(&runtime, name).build().expect("a bus"));
    let (gate, log) = (Gate::new(), Log::new());
    let _opener = gate.opener();
    overstays::<Child>(&b, &log, &gate, "child");
    notes::<Tail>(&a, &log, "tail on a");
    notes::<Tail>(&b, &log, "tail on b");
    a.on(|event: &Event<Parent>| event.bus().emit_with(Child, capped(50)).wait().map(drop));
    a.forward_all_to(&b);
    let start = Instant::now();
    let parent = a.emit_with(Parent, capped(5000));
    clean(&parent);
    let child = child::<Child>(&parent);
    let on_b: Vec<_> = child.results().into_iter().filter(|r| r.handler.bus_label() == b.label()).collect();
    timed_out(&on_b[0], 50);
    clean(&a.emit(Tail));
    assert!(start.elapsed() < ms(2000), "{:?}", start.elapsed());
    assert_eq!((log.count("tail on a"), log.count("tail on b")), (1, 1));
    idle(&a);
    idle(&b);
    gate.open();
    eventually(|| runtime.stats().abandoned == 0);
}
