//! QJ: what a handler waits for runs now, ahead of the queue, and nothing else does. Lines on one bus; those
//! about several are in `queue_jump_buses.rs`.

mod common;

use common::{Gate, Log, PATIENCE, clean, done, eventually, idle, in_order, linger, logs, logs_around, payload};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use threadbus::{
    AnyEvent, EmitError, Event, EventBus, EventConcurrency, EventStatus, HandlerConcurrency, Shutdown, WaitError,
};

payload!(Parent);
payload!(Child);
payload!(Grandchild);
payload!(Sibling);
payload!(Blocker);
payload!(Event1);
payload!(Event2);
payload!(Event3);
payload!(ChildA);
payload!(ChildB);
payload!(ChildC);
payload!(Order { n: usize });
payload!(Patient => bool);
payload!(Outlasts);
payload!(Slow);

fn all_parallel(name: &str) -> EventBus {
    EventBus::builder(name)
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .expect("a bus")
}

#[test]
fn qj_001_the_awaited_child_runs_before_the_sibling_emitted_first() {
    let (bus, log) = (EventBus::new("Qj001"), Log::new());
    logs::<Sibling>(&bus, &log, "sibling");
    logs::<Child>(&bus, &log, "child");
    logs_around::<Parent>(&bus, &log, "parent", |event| {
        event.bus().emit(Sibling);
        event.bus().emit(Child).wait().map(drop)
    });
    clean(&bus.emit(Parent));
    idle(&bus);
    let expected = ["parent_start", "child_start", "child_end", "parent_end", "sibling_start", "sibling_end"];
    assert_eq!(log.entries(), expected);
}

#[test]
fn qj_002_a_sibling_emitted_from_outside_waits_for_the_parent() {
    let (bus, log) = (EventBus::new("Qj002"), Log::new());
    let (sibling_emitted, child_goes_on) = (Gate::new(), Gate::new());
    let _openers = (sibling_emitted.opener(), child_goes_on.opener());
    logs::<Sibling>(&bus, &log, "sibling");
    logs_around::<Child>(&bus, &log, "child", {
        let gate = child_goes_on.clone();
        move |_| {
            gate.wait();
            Ok(())
        }
    });
    logs_around::<Parent>(&bus, &log, "parent", {
        let gate = sibling_emitted.clone();
        move |event| {
            gate.wait();
            event.bus().emit(Child).wait().map(drop)
        }
    });
    let parent = bus.emit(Parent);
    let sibling = bus.emit(Sibling);
    sibling_emitted.open();
    eventually(|| log.count("child_start") == 1);
    linger();
    child_goes_on.open();
    clean(&parent);
    clean(&sibling);
    let expected = ["parent_start", "child_start", "child_end", "parent_end", "sibling_start", "sibling_end"];
    assert_eq!(log.entries(), expected);
}

#[test]
fn qj_003_the_plain_handle_queues_and_the_awaited_child_jumps() {
    let (bus, log) = (EventBus::new("Qj003"), Log::new());
    logs::<Sibling>(&bus, &log, "sibling");
    logs::<Child>(&bus, &log, "child");
    logs_around::<Parent>(&bus, &log, "parent", {
        let plain = bus.downgrade();
        move |event| {
            plain.upgrade().expect("the bus lives").emit(Sibling);
            event.bus().emit(Child).wait().map(drop)
        }
    });
    clean(&bus.emit(Parent));
    idle(&bus);
    in_order(&log, &["child_start", "child_end", "sibling_start"]);
}

/// Parallel bus: the waiting handler takes the child over only if it jumps.
#[test]
fn qj_004_wait_in_order_leaves_the_child_to_the_bus() {
    let (bus, log) = (all_parallel("Qj004"), Log::new());
    let ran_on = Arc::new(Mutex::new(Vec::new()));
    logs::<Sibling>(&bus, &log, "sibling");
    logs_around::<Child>(&bus, &log, "child", {
        let ran_on = Arc::clone(&ran_on);
        move |_| {
            common::lock(&ran_on).push(thread::current().id());
            Ok(())
        }
    });
    logs_around::<Parent>(&bus, &log, "parent", {
        let ran_on = Arc::clone(&ran_on);
        move |event| {
            common::lock(&ran_on).push(thread::current().id());
            event.bus().emit(Sibling);
            event.bus().emit(Child).wait_in_order().map(drop)
        }
    });
    clean(&bus.emit(Parent));
    idle(&bus);
    in_order(&log, &["child_end", "parent_end"]);
    assert_eq!(log.count("sibling_end"), 1);
    let ran_on = common::lock(&ran_on);
    assert_ne!(ran_on[0], ran_on[1], "the child did not run in the place of its parent");
}

#[test]
fn qj_006_waiting_for_a_running_event_does_not_run_it_again() {
    let (bus, log) = (all_parallel("Qj006"), Log::new());
    let gate = Gate::new();
    let _opener = gate.opener();
    logs_around::<Child>(&bus, &log, "run", {
        let gate = gate.clone();
        move |_| {
            gate.wait();
            Ok(())
        }
    });
    let event = bus.emit(Child);
    eventually(|| log.count("run_start") == 1);
    let waiter = thread::spawn({
        let event = event.clone();
        move || event.wait().map(drop)
    });
    let short = Duration::from_millis(30);
    assert_eq!(event.wait_timeout(short).err(), Some(WaitError::Timeout(short)));
    assert!(!waiter.is_finished(), "still pending while gated");
    gate.open();
    clean(&event);
    eventually(|| waiter.is_finished());
    assert_eq!(waiter.join().expect("the waiter"), Ok(()));
    assert_eq!(log.entries(), ["run_start", "run_end"]);
}

/// `Event1` emits `Child` and waits for it; `Event2` and `Event3` were emitted before it began.
fn jump_among_three(name: &str) -> (EventBus, Log, [AnyEvent; 3]) {
    let (bus, log, all_emitted) = (EventBus::new(name), Log::new(), Gate::new());
    logs::<Child>(&bus, &log, "child");
    logs::<Event2>(&bus, &log, "event2");
    logs::<Event3>(&bus, &log, "event3");
    logs_around::<Event1>(&bus, &log, "event1", {
        let all_emitted = all_emitted.clone();
        move |event| {
            all_emitted.wait();
            event.bus().emit(Child).wait().map(drop)
        }
    });
    let first = bus.emit(Event1);
    let events = [AnyEvent::from(first.clone()), bus.emit(Event2).into(), bus.emit(Event3).into()];
    all_emitted.open();
    clean(&first);
    idle(&bus);
    (bus, log, events)
}

#[test]
fn qj_007_a_jump_takes_nothing_else_along() {
    let (_bus, log, events) = jump_among_three("Qj007");
    let expected = [
        "event1_start",
        "child_start",
        "child_end",
        "event1_end",
        "event2_start",
        "event2_end",
        "event3_start",
        "event3_end",
    ];
    assert_eq!(log.entries(), expected);
    assert!(events.iter().all(AnyEvent::is_completed));
    let child = &events[0].children()[0];
    assert!(child.started_at().is_some());
    assert!(child.started_at() < events[1].started_at() && child.started_at() < events[2].started_at());
}

#[test]
fn qj_008_the_history_is_in_emit_order_whatever_ran_first() {
    let (bus, _log, _events) = jump_among_three("Qj008");
    let types: Vec<String> = bus.history().iter().map(|event| event.event_type().to_owned()).collect();
    assert_eq!(types, ["Event1", "Event2", "Event3", "Child"]);
}

#[test]
fn qj_012_only_the_awaited_child_jumps() {
    let (bus, log, all_emitted) = (EventBus::new("Qj012"), Log::new(), Gate::new());
    logs::<Event2>(&bus, &log, "event2");
    logs::<Event3>(&bus, &log, "event3");
    logs::<ChildA>(&bus, &log, "a");
    logs::<ChildB>(&bus, &log, "b");
    logs::<ChildC>(&bus, &log, "c");
    logs_around::<Event1>(&bus, &log, "event1", {
        let all_emitted = all_emitted.clone();
        move |event| {
            all_emitted.wait();
            event.bus().emit(ChildA);
            let awaited = event.bus().emit(ChildB);
            event.bus().emit(ChildC);
            awaited.wait().map(drop)
        }
    });
    let first = bus.emit(Event1);
    bus.emit(Event2);
    bus.emit(Event3);
    all_emitted.open();
    clean(&first);
    idle(&bus);
    let expected = [
        "event1_start",
        "b_start",
        "b_end",
        "event1_end",
        "event2_start",
        "event2_end",
        "event3_start",
        "event3_end",
        "a_start",
        "a_end",
        "c_start",
        "c_end",
    ];
    assert_eq!(log.entries(), expected);
}

#[test]
fn qj_014_waiting_for_a_completed_event_runs_nothing() {
    let (bus, log, second_emitted) = (EventBus::new("Qj014"), Log::new(), Gate::new());
    logs::<Event1>(&bus, &log, "event1");
    logs::<Event2>(&bus, &log, "event2");
    let first = bus.emit(Event1);
    clean(&first);
    logs_around::<Blocker>(&bus, &log, "blocker", {
        let (first, second_emitted) = (first.clone(), second_emitted.clone());
        move |_| {
            second_emitted.wait();
            first.wait().map(drop)
        }
    });
    let blocker = bus.emit(Blocker);
    let second = bus.emit(Event2);
    assert!(first.wait().is_ok(), "from outside");
    assert_eq!(second.status(), EventStatus::Pending);
    second_emitted.open();
    clean(&blocker);
    clean(&second);
    let expected = ["event1_start", "event1_end", "blocker_start", "blocker_end", "event2_start", "event2_end"];
    assert_eq!(log.entries(), expected, "from inside");
}

#[test]
fn qj_015b_a_second_wait_in_a_row_returns_at_once() {
    let (bus, log) = (EventBus::new("Qj015b"), Log::new());
    logs::<Child>(&bus, &log, "child");
    logs_around::<Parent>(&bus, &log, "parent", |event| {
        let child = event.bus().emit(Child);
        child.wait()?;
        child.wait().map(drop)
    });
    clean(&bus.emit(Parent));
    assert_eq!(log.entries(), ["parent_start", "child_start", "child_end", "parent_end"]);
}

/// The nearest thing to an event that was never emitted is one that no bus took.
#[test]
fn qj_027_waiting_for_an_event_without_a_bus_fails() {
    let bus = EventBus::new("Qj027");
    bus.shutdown(Shutdown::Drain, PATIENCE);
    let event = bus.emit(Child);
    let closed = EmitError::Closed { bus: bus.label().to_owned() };
    assert_eq!(event.wait().err(), Some(WaitError::Rejected(closed)));
    assert!(event.is_completed() && event.path().is_empty());
}

#[test]
fn qj_028_a_wait_outside_of_handlers_jumps_nothing() {
    let (bus, log, gate) = (EventBus::new("Qj028"), Log::new(), Gate::new());
    let _opener = gate.opener();
    bus.on({
        let (log, gate) = (log.clone(), gate.clone());
        move |order: &Event<Order>| {
            gate.wait();
            log.push(order.n);
        }
    });
    let events: Vec<_> = (0..4).map(|n| bus.emit(Order { n })).collect();
    let short = Duration::from_millis(30);
    assert_eq!(events[3].wait_timeout(short).err(), Some(WaitError::Timeout(short)));
    let waiter = thread::spawn({
        let last = events[2].clone();
        move || last.wait().map(drop)
    });
    linger();
    gate.open();
    clean(&events[3]);
    assert_eq!(log.entries(), ["0", "1", "2", "3"]);
    assert_eq!(waiter.join().expect("the waiter"), Ok(()));
}

#[test]
fn qj_029_waits_nest_three_levels_deep() {
    let (bus, log) = (EventBus::new("Qj029"), Log::new());
    logs::<Grandchild>(&bus, &log, "grandchild");
    logs_around::<Child>(&bus, &log, "child", |event| event.bus().emit(Grandchild).wait().map(drop));
    logs_around::<Parent>(&bus, &log, "parent", |event| event.bus().emit(Child).wait().map(drop));
    let parent = bus.emit(Parent);
    clean(&parent);
    let expected = ["parent_start", "child_start", "grandchild_start", "grandchild_end", "child_end", "parent_end"];
    assert_eq!(log.entries(), expected);
    let child = parent.children().remove(0);
    let grandchild = child.children().remove(0);
    assert!(child.is_completed() && grandchild.is_completed());
    assert_eq!((child.parent_id(), grandchild.parent_id()), (Some(parent.id()), Some(child.id())));
    assert_eq!(child.parent().map(|e| e.id()), Some(parent.id()));
    assert_eq!(grandchild.parent().map(|e| e.id()), Some(child.id()));
}

#[test]
fn qj_030_a_jumped_child_is_in_history_and_lineage() {
    let (bus, log) = (EventBus::new("Qj030"), Log::new());
    logs::<Child>(&bus, &log, "child");
    logs_around::<Parent>(&bus, &log, "parent", |event| {
        let child = event.bus().emit(Child).wait()?;
        assert!(event.bus().event(child.id()).is_some_and(|found| found.is_completed()));
        assert!(event.children().iter().any(|c| c.id() == child.id()));
        Ok(())
    });
    let parent = bus.emit(Parent);
    clean(&parent);
    let children = parent.children();
    assert_eq!(children.len(), 1);
    assert!(children[0].is_child_of(&parent));
    assert!(bus.history().iter().any(|e| e.id() == children[0].id()));
}

/// Its parent has stopped waiting and goes on; the turn is the parent's again, and the child comes back from a wait of its own only after it.
#[test]
fn a_child_that_outlasts_the_wait_does_not_run_beside_its_parent() {
    let (bus, other) = (EventBus::new("Serial"), EventBus::new("Other"));
    let gate = Gate::new();
    let _opener = gate.opener();
    let (running, overlap) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    other.on({
        let gate = gate.clone();
        move |_: &Event<Slow>| gate.wait()
    });
    bus.on({
        let (running, overlap, other) = (Arc::clone(&running), Arc::clone(&overlap), other.clone());
        move |_: &Event<Outlasts>| -> Result<(), WaitError> {
            other.emit(Slow).wait_in_order()?;
            overlap.fetch_or(running.load(SeqCst), SeqCst);
            Ok(())
        }
    });
    bus.on({
        let gate = gate.clone();
        move |parent: &Event<Patient>| {
            let child = parent.bus().emit(Outlasts);
            let waited = child.wait_timeout(Duration::from_millis(50));
            running.store(true, SeqCst);
            gate.open();
            (0..40).for_each(|_| linger());
            running.store(false, SeqCst);
            matches!(waited, Err(WaitError::Timeout(_)))
        }
    });
    assert!(done(&bus.emit(Patient)).result().expect("a value"), "the wait ended before the child");
    idle(&bus);
    assert!(!overlap.load(SeqCst), "two live handlers on a serial bus");
}
