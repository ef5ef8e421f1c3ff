//! QJ, continued: jumps beside other buses, jumps for an event on several buses, and buses that share a permit.

mod common;

use common::{Gate, Log, clean, done, eventually, idle, in_order, linger, logs, logs_around, payload};
use std::time::Duration;
use threadbus::{Event, EventBus, EventConcurrency, EventStatus, HandlerConcurrency, ResultStatus, Runtime, WaitError};

payload!(Trigger);
payload!(Parent);
payload!(Sibling);
payload!(Shared);
payload!(Blocker);
payload!(Event1);
payload!(Event2);
payload!(Event3);
payload!(Event4);
payload!(Child);
payload!(Slow);
payload!(Queued);
payload!(Ask => String);

fn own_runtime() -> Runtime {
    Runtime::builder().build().expect("a runtime")
}

/// On a serial bus that is not the waiter's own the order of starts is certain.
#[test]
fn qj_004b_wait_in_order_keeps_the_queue_of_another_bus() {
    let runtime = Runtime::builder().build().expect("a runtime");
    let [a, b] = ["A", "B"].map(|name| EventBus::builder(name).runtime(&runtime).build().expect("a bus"));
    let (log, gate) = (Log::new(), Gate::new());
    let _opener = gate.opener();
    logs::<Sibling>(&b, &log, "sibling");
    logs::<Child>(&b, &log, "child");
    b.on({
        let gate = gate.clone();
        move |_: &Event<Blocker>| gate.wait()
    });
    logs_around::<Parent>(&a, &log, "parent", {
        let b = b.downgrade();
        move |_| {
            let b = b.upgrade().expect("B lives");
            b.emit(Sibling);
            b.emit(Child).wait_in_order().map(drop)
        }
    });
    let blocker = b.emit(Blocker);
    eventually(|| blocker.status() == EventStatus::Started);
    let parent = a.emit(Parent);
    eventually(|| runtime.stats().waiting == 1);
    gate.open();
    clean(&parent);
    let expected = ["parent_start", "sibling_start", "sibling_end", "child_start", "child_end", "parent_end"];
    assert_eq!(log.entries(), expected);
}

#[test]
fn qj_005_another_bus_with_the_same_type_takes_no_part() {
    let [a, b] = ["A", "B"].map(EventBus::new);
    let log = Log::new();
    logs::<Sibling>(&a, &log, "a_sibling");
    logs::<Shared>(&a, &log, "a_shared");
    logs::<Shared>(&b, &log, "b_shared");
    logs_around::<Parent>(&a, &log, "parent", |event| {
        event.bus().emit(Sibling);
        event.bus().emit(Shared).wait().map(drop)
    });
    clean(&a.emit(Parent));
    idle(&a);
    idle(&b);
    assert_eq!(log.count("a_shared_start"), 1);
    assert_eq!(log.count("b_shared_start"), 0);
    in_order(&log, &["a_shared_end", "a_sibling_start"]);
}

/// There is no `is_paused` to ask: what it means is that nothing starts.
#[test]
fn qj_009_the_waiting_handlers_bus_starts_nothing_until_that_handler_ends() {
    let [a, b] = ["A", "B"].map(EventBus::new);
    let (log, all_emitted, next_started) = (Log::new(), Gate::new(), Gate::new());
    logs::<Child>(&a, &log, "child_a");
    logs_around::<Event2>(&a, &log, "next", {
        let next_started = next_started.clone();
        move |_| {
            next_started.open();
            Ok(())
        }
    });
    let stays_queued = {
        let next_started = next_started.clone();
        move || assert!(!next_started.wait_for(Duration::from_millis(30)), "A started its next event")
    };
    logs_around::<Child>(&b, &log, "child_b", {
        let stays_queued = stays_queued.clone();
        move |_| {
            stays_queued();
            Ok(())
        }
    });
    logs_around::<Parent>(&a, &log, "parent", {
        let (all_emitted, a, b) = (all_emitted.clone(), a.downgrade(), b.downgrade());
        move |_| {
            all_emitted.wait();
            let (a, b) = (a.upgrade().expect("A lives"), b.upgrade().expect("B lives"));
            a.emit(Child).wait()?;
            stays_queued();
            b.emit(Child).wait()?;
            stays_queued();
            Ok(())
        }
    });
    let parent = a.emit(Parent);
    let next = a.emit(Event2);
    all_emitted.open();
    clean(&parent);
    clean(&next);
    let child = parent.children();
    assert!(child.iter().all(|child| child.errors().is_empty()), "{child:?}");
    let expected = [
        "parent_start",
        "child_a_start",
        "child_a_end",
        "child_b_start",
        "child_b_end",
        "parent_end",
        "next_start",
        "next_end",
    ];
    assert_eq!(log.entries(), expected);
}

#[test]
fn qj_013_other_buses_go_on_during_a_jump() {
    let [one, two] = ["Bus1", "Bus2"].map(EventBus::new);
    let (log, all_emitted, other_started) = (Log::new(), Gate::new(), Gate::new());
    logs::<Child>(&one, &log, "child");
    logs::<Event2>(&one, &log, "event2");
    logs_around::<Event3>(&two, &log, "event3", {
        let (all_emitted, other_started) = (all_emitted.clone(), other_started.clone());
        move |_| {
            all_emitted.wait();
            other_started.open();
            Ok(())
        }
    });
    logs::<Event4>(&two, &log, "event4");
    logs_around::<Event1>(&one, &log, "event1", {
        let (all_emitted, other_started) = (all_emitted.clone(), other_started.clone());
        move |event| {
            all_emitted.wait();
            event.bus().emit(Child).wait()?;
            other_started.wait();
            Ok(())
        }
    });
    let first = one.emit(Event1);
    two.emit(Event3);
    one.emit(Event2);
    two.emit(Event4);
    all_emitted.open();
    clean(&first);
    idle(&one);
    idle(&two);
    in_order(&log, &["child_end", "event1_end", "event2_start"]);
    in_order(&log, &["event3_start", "event1_end"]);
    assert_eq!(log.count("event2_end") + log.count("event3_end") + log.count("event4_end"), 3);
}

/// How the handlers of a bus should run beside each other.
#[derive(Clone, Copy)]
struct Bus {
    mode: HandlerConcurrency,
    overlap: bool,
}
const SERIAL: Bus = Bus { mode: HandlerConcurrency::BusSerial, overlap: false };
const GLOBAL: Bus = Bus { mode: HandlerConcurrency::GlobalSerial, overlap: false };
const PARALLEL: Bus = Bus { mode: HandlerConcurrency::Parallel, overlap: true };

/// Two handlers of `Child` on a new bus. Where they should overlap, the first waits for the second to start.
fn two_handlers(runtime: &Runtime, name: &'static str, bus: Bus, log: &Log) -> EventBus {
    let built = EventBus::builder(name).handler_concurrency(bus.mode).runtime(runtime).build().expect("a bus");
    let second = Gate::new();
    built.on({
        let (log, second) = (log.clone(), second.clone());
        move |_: &Event<Child>| {
            log.push(format_args!("{name}1_start"));
            if bus.overlap {
                second.wait();
            } else {
                linger();
            }
            log.push(format_args!("{name}1_end"));
        }
    });
    built.on({
        let log = log.clone();
        move |_: &Event<Child>| {
            log.push(format_args!("{name}2_start"));
            second.open();
            linger();
            log.push(format_args!("{name}2_end"));
        }
    });
    built
}

/// A handler on `a` emits one child on both buses and waits for it; what the four handlers logged.
fn child_on_both(a: Bus, b: Bus) -> Log {
    let (runtime, log) = (own_runtime(), Log::new());
    let a = two_handlers(&runtime, "a", a, &log);
    let b = two_handlers(&runtime, "b", b, &log);
    a.on({
        let (log, b) = (log.clone(), b.downgrade());
        move |event: &Event<Trigger>| -> Result<(), WaitError> {
            let child = event.bus().emit(Child);
            b.upgrade().expect("b lives").forward(&child)?;
            child.wait()?;
            log.push("waited");
            Ok(())
        }
    });
    let trigger = done(&a.emit(Trigger));
    assert!(trigger.errors().is_empty(), "{:?}", trigger.errors());
    let child = &trigger.children()[0];
    assert!(child.errors().is_empty(), "{:?}", child.errors());
    assert_eq!(child.path(), [a.label(), b.label()]);
    assert_eq!(log.len(), 9, "{:?}", log.entries());
    assert_eq!(log.position("waited"), 8, "all four are through when the wait returns");
    log
}

#[test]
fn qj_019_serial_handlers_stay_serial_on_both_buses() {
    let log = child_on_both(SERIAL, SERIAL);
    in_order(&log, &["a1_end", "a2_start"]);
    in_order(&log, &["b1_end", "b2_start"]);
}

#[test]
fn qj_020_global_serial_handlers_run_bus_after_bus_in_path_order() {
    let log = child_on_both(GLOBAL, GLOBAL);
    in_order(&log, &["a1_end", "a2_start", "a2_end", "b1_start", "b1_end", "b2_start"]);
}

#[test]
fn qj_021_first_bus_serial_and_second_parallel() {
    let log = child_on_both(SERIAL, PARALLEL);
    in_order(&log, &["a1_end", "a2_start"]);
    in_order(&log, &["b2_start", "b1_end"]);
}

#[test]
fn qj_022_first_bus_parallel_and_second_serial() {
    let log = child_on_both(PARALLEL, SERIAL);
    in_order(&log, &["a2_start", "a1_end"]);
    in_order(&log, &["b1_end", "b2_start"]);
}

/// B runs a slow event when A's handler waits for a child which is forwarded to B. The slow one goes on when the child
/// has started on B, if that is expected at once; else when the waiter has parked.
fn child_beside_a_slow_event(handlers_of_b: HandlerConcurrency, at_once: bool) -> Log {
    let (runtime, log) = (own_runtime(), Log::new());
    let a = EventBus::builder("A").runtime(&runtime).build().expect("A");
    let b = EventBus::builder("B")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(handlers_of_b)
        .runtime(&runtime)
        .build()
        .expect("B");
    let gate = Gate::new();
    let _opener = gate.opener();
    b.on({
        let (log, gate) = (log.clone(), gate.clone());
        move |_: &Event<Slow>| {
            log.push("slow_start");
            gate.wait();
            linger();
            log.push("slow_end");
        }
    });
    logs::<Child>(&a, &log, "child_a");
    a.forward_to::<Child>(&b);
    b.on({
        let (log, gate) = (log.clone(), gate.clone());
        move |_: &Event<Child>| {
            log.push("child_b_start");
            if at_once {
                gate.open();
            }
            log.push("child_b_end");
        }
    });
    a.on({
        let log = log.clone();
        move |event: &Event<Trigger>| -> Result<(), WaitError> {
            event.bus().emit(Child).wait()?;
            log.push("waited");
            Ok(())
        }
    });
    let slow = b.emit(Slow);
    eventually(|| log.count("slow_start") == 1);
    let trigger = a.emit(Trigger);
    if !at_once {
        eventually(|| log.count("child_b_start") == 1 || runtime.stats().waiting == 1);
        linger();
        gate.open();
    }
    assert!(done(&trigger).errors().is_empty());
    assert!(done(&slow).errors().is_empty());
    in_order(&log, &["child_a_end", "child_b_start", "child_b_end", "waited"]);
    log
}

#[test]
fn qj_024_a_parallel_bus_runs_the_child_beside_its_slow_event() {
    let log = child_beside_a_slow_event(HandlerConcurrency::Parallel, true);
    in_order(&log, &["child_b_start", "slow_end"]);
}

#[test]
fn qj_025_bus_serial_handlers_make_the_child_wait_for_the_slow_one() {
    let log = child_beside_a_slow_event(HandlerConcurrency::BusSerial, false);
    in_order(&log, &["slow_end", "child_b_start"]);
}

#[test]
fn qj_025b_event_serial_handlers_do_not() {
    let log = child_beside_a_slow_event(HandlerConcurrency::EventSerial, true);
    in_order(&log, &["child_b_start", "slow_end"]);
}

#[test]
fn qj_026_a_wait_from_outside_covers_the_bus_forwarded_to() {
    let [source, target] = ["Source", "Target"].map(EventBus::new);
    let (log, gate) = (Log::new(), Gate::new());
    let _opener = gate.opener();
    source.forward_all_to(&target);
    target.on({
        let (log, gate) = (log.clone(), gate.clone());
        move |_: &Event<Ask>| {
            log.push("start");
            gate.wait();
            log.push("end");
            "from the target".to_owned()
        }
    });
    let event = source.emit(Ask);
    eventually(|| log.count("start") == 1);
    let short = Duration::from_millis(30);
    assert_eq!(event.wait_timeout(short).err(), Some(WaitError::Timeout(short)));
    gate.open();
    done(&event);
    assert_eq!(log.entries(), ["start", "end"]);
    assert_eq!(event.result().expect("the target's value"), "from the target");
    assert!(event.results().iter().all(|r| r.status == ResultStatus::Completed && r.completed_at.is_some()));
}

#[test]
fn qj_031_the_jump_shares_the_global_permit_of_its_parent() {
    let (runtime, log, all_emitted) = (own_runtime(), Log::new(), Gate::new());
    let [a, b] = ["A", "B"].map(|name| {
        EventBus::builder(name)
            .event_concurrency(EventConcurrency::GlobalSerial)
            .handler_concurrency(HandlerConcurrency::GlobalSerial)
            .handler_timeout(None)
            .runtime(&runtime)
            .build()
            .expect("a bus")
    });
    logs::<Queued>(&a, &log, "a_queued");
    logs::<Queued>(&b, &log, "b_queued");
    logs::<Child>(&b, &log, "child");
    a.on({
        let (log, all_emitted, b) = (log.clone(), all_emitted.clone(), b.downgrade());
        move |_: &Event<Trigger>| -> Result<(), WaitError> {
            log.push("parent_start");
            all_emitted.wait();
            b.upgrade().expect("B lives").emit(Child).wait()?;
            linger();
            log.push("parent_end");
            Ok(())
        }
    });
    let trigger = a.emit(Trigger);
    eventually(|| trigger.status() == EventStatus::Started);
    let others = [a.emit(Queued), b.emit(Queued)];
    all_emitted.open();
    assert!(done(&trigger).errors().is_empty(), "{:?}", trigger.errors());
    for other in &others {
        done(other);
    }
    idle(&a);
    idle(&b);
    in_order(&log, &["parent_start", "child_start", "child_end", "parent_end"]);
    for queued in ["a_queued", "b_queued"] {
        let (start, end) = (format!("{queued}_start"), format!("{queued}_end"));
        assert_eq!(log.position(&end), log.position(&start) + 1, "one at a time: {:?}", log.entries());
        assert!(log.position("parent_end") < log.position(&start), "suspended handlers go first: {:?}", log.entries());
    }
}

/// A thread of one runtime that waits in a line of another one gives up its place in its own pool, and none of the other's.
#[test]
fn a_wait_in_a_line_of_another_runtime_leaves_both_pools_as_they_were() {
    let runtimes = [1, 1].map(|threads| Runtime::builder().max_threads(threads).build().unwrap());
    let [here, there] = [0, 1].map(|at| EventBus::builder("Line").runtime(&runtimes[at]).build().unwrap());
    for _ in 0..20 {
        let (busy, gate) = (Gate::new(), Gate::new());
        let (opens, stands, _open) = (busy.clone(), gate.clone(), gate.opener());
        let (to, beside) = (there.downgrade(), here.downgrade());
        let first = there.on(move |_: &Event<Blocker>| {
            opens.open();
            stands.wait();
        });
        let second = there.on(|_: &Event<Child>| ());
        let third = here.on(move |_: &Event<Parent>| to.upgrade().unwrap().emit(Child).wait().map(drop));
        let blocker = there.emit(Blocker);
        busy.wait();
        let above = here.emit(Parent);
        // Its own pool has one place, which is free while it stands in the line.
        let elsewhere = EventBus::builder("Beside").runtime(&runtimes[0]).build().unwrap();
        done(&elsewhere.emit(Child));
        gate.open();
        done(&above);
        assert!(above.errors().is_empty(), "{:?}", above.errors());
        done(&blocker);
        for info in [first, second] {
            assert!(there.off(&info));
        }
        assert!(here.off(&third) && beside.upgrade().is_some());
        for runtime in &runtimes {
            eventually(|| runtime.stats().busy == 0 && runtime.stats().waiting == 0);
        }
    }
}
