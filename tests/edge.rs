//! EDGE: waits that could never end, permits, odd registrations, odd failures, refusals.

mod common;

use common::{Gate, Gauge, Log, PATIENCE, done, eventually, idle, in_order, linger, logs, payload};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use threadbus::{
    EmitError, Event, EventBus, EventConcurrency, EventStatus, HandlerConcurrency, HandlerFailure, HistoryPolicy,
    ResultStatus, Runtime, Shutdown, WaitError,
};

payload!(Parent);
payload!(Child);
payload!(Ask => String);
payload!(Order { n: usize });

fn without_timeout(name: &str) -> EventBus {
    EventBus::builder(name).handler_timeout(None).build().expect("a bus")
}

/// What the log should say of a wait that can never end.
fn verdict<T>(waited: Result<T, WaitError>) -> String {
    match waited {
        Ok(_) => "ok".to_owned(),
        Err(WaitError::Deadlock(chain)) if !chain.is_empty() => "deadlock".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn edge_001_waiting_for_the_event_one_handles_is_a_deadlock() {
    let (bus, log) = (without_timeout("Edge001"), Log::new());
    bus.on({
        let log = log.clone();
        move |event: &Event<Parent>| log.push(verdict(event.wait()))
    });
    let event = done(&bus.emit(Parent));
    assert!(event.errors().is_empty());
    assert_eq!(log.entries(), ["deadlock"]);
}

#[test]
fn edge_002_waiting_for_an_ancestor_is_a_deadlock() {
    let (bus, log) = (without_timeout("Edge002"), Log::new());
    bus.on({
        let log = log.clone();
        move |event: &Event<Child>| log.push(verdict(event.parent().expect("its parent").wait()))
    });
    bus.on({
        let log = log.clone();
        move |event: &Event<Parent>| log.push(verdict(event.bus().emit(Child).wait()))
    });
    done(&bus.emit(Parent));
    assert_eq!(log.entries(), ["deadlock", "ok"]);
}

#[test]
fn edge_003_waiting_in_order_for_a_child_behind_oneself_is_a_deadlock() {
    let (bus, log) = (without_timeout("Edge003"), Log::new());
    logs::<Child>(&bus, &log, "child");
    bus.on({
        let log = log.clone();
        move |event: &Event<Parent>| log.push(verdict(event.bus().emit(Child).wait_in_order()))
    });
    done(&bus.emit(Parent));
    assert_eq!(log.entries(), ["deadlock", "child_start", "child_end"]);
}

/// Events parallel, handlers bus-serial: a parent that waits does not count, everybody else does.
#[test]
fn edge_006_at_most_one_handler_that_does_not_wait() {
    let bus = EventBus::builder("Edge006").event_concurrency(EventConcurrency::Parallel).build().expect("a bus");
    let (working, log) = (Gauge::new(), Log::new());
    bus.on({
        let (working, log) = (working.clone(), log.clone());
        move |order: &Event<Order>| -> Result<(), WaitError> {
            log.push(format_args!("p{}_start", order.n));
            working.enter();
            linger();
            let child = order.bus().emit(Child);
            working.leave();
            let waited = child.wait();
            working.enter();
            linger();
            working.leave();
            waited.map(drop)
        }
    });
    bus.on({
        let (working, log) = (working.clone(), log.clone());
        move |_: &Event<Child>| {
            working.enter();
            log.push("child");
            linger();
            working.leave();
        }
    });
    for _ in 0..20 {
        let parents: Vec<_> = (0..4).map(|n| bus.emit(Order { n })).collect();
        for parent in &parents {
            assert!(done(parent).errors().is_empty(), "{:?}", parent.errors());
        }
    }
    assert_eq!(working.peak(), 1);
    assert_eq!((log.count("child"), log.len()), (80, 160));
}

/// As above, where another worker has already claimed the child, and queues for the permit that its waiting parent has.
#[test]
fn edge_006b_a_child_already_in_line_gets_the_permit_of_its_waiting_parent() {
    let bus = EventBus::builder("Edge006b").event_concurrency(EventConcurrency::Parallel).build().expect("a bus");
    let log = Log::new();
    logs::<Child>(&bus, &log, "child");
    bus.on({
        let log = log.clone();
        move |event: &Event<Parent>| {
            let (bus, child) = (event.bus(), event.bus().emit(Child));
            for _ in 0..1000 {
                if bus.pending() == 0 {
                    break;
                }
                linger();
            }
            linger();
            log.push(verdict(child.wait()));
        }
    });
    done(&bus.emit(Parent));
    assert_eq!(log.entries(), ["child_start", "child_end", "ok"]);
}

#[test]
fn edge_007_five_closures_of_one_line_are_five_handlers() {
    let (bus, log) = (EventBus::new("Edge007"), Log::new());
    for n in 0..5 {
        let log = log.clone();
        bus.on(move |_: &Event<Child>| log.push(n));
    }
    let mut ids: Vec<_> = bus.handlers().iter().map(|handler| handler.id()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    assert_eq!(done(&bus.emit(Child)).results().len(), 5);
    assert_eq!(log.entries(), ["0", "1", "2", "3", "4"]);
}

#[test]
fn edge_008_one_function_registered_twice_runs_twice() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    fn count(_: &Event<Child>) {
        RUNS.fetch_add(1, Ordering::SeqCst);
    }
    let bus = EventBus::new("Edge008");
    let (one, two) = (bus.on(count), bus.on(count));
    assert_ne!(one.id(), two.id());
    assert_eq!(bus.handlers().len(), 2);
    done(&bus.emit(Child));
    assert_eq!(RUNS.load(Ordering::SeqCst), 2);
    assert!(bus.off(&one) && !bus.off(&one));
    assert_eq!(bus.handlers().iter().map(|handler| handler.id()).collect::<Vec<_>>(), [two.id()]);
    done(&bus.emit(Child));
    assert_eq!(RUNS.load(Ordering::SeqCst), 3);
}

#[test]
fn edge_011_buses_do_not_share_permits() {
    let [a, b] = ["A", "B"].map(EventBus::new);
    let (log, b_ended) = (Log::new(), Gate::new());
    let _opener = b_ended.opener();
    a.on({
        let (log, b_ended, b) = (log.clone(), b_ended.clone(), b.downgrade());
        move |event: &Event<Parent>| -> Result<(), EmitError> {
            log.push("a_start");
            b.upgrade().expect("B lives").forward(event)?;
            b_ended.wait();
            log.push("a_end");
            Ok(())
        }
    });
    b.on({
        let log = log.clone();
        move |_: &Event<Parent>| {
            log.push("b_start");
            log.push("b_end");
            b_ended.open();
        }
    });
    assert!(done(&a.emit(Parent)).errors().is_empty());
    assert_eq!(log.entries(), ["a_start", "b_start", "b_end", "a_end"]);
}

#[test]
fn edge_015_a_shut_down_bus_registers_and_emits_nothing() {
    let (bus, log) = (EventBus::new("Edge015"), Log::new());
    bus.shutdown(Shutdown::Drain, PATIENCE);
    let handler = bus.on({
        let log = log.clone();
        move |_: &Event<Child>| log.push("ran")
    });
    assert!(!handler.is_registered() && bus.handlers().is_empty());
    let closed = EmitError::Closed { bus: bus.label().to_owned() };
    let event = bus.emit(Child);
    assert!(event.is_completed(), "a refused event comes back completed");
    assert_eq!(event.wait().err(), Some(WaitError::Rejected(closed.clone())));
    let refused = bus.try_emit(Child).expect_err("refused");
    assert_eq!(refused.error, closed);
    assert!(log.is_empty() && bus.history_len() == 0);
}

#[test]
fn edge_019_strings_are_errors_whether_returned_or_thrown() {
    let bus = EventBus::new("Edge019");
    bus.on(|_: &Event<Ask>| -> Result<String, &'static str> { Err("plain text") });
    bus.on(|_: &Event<Ask>| -> Result<String, String> { Err("owned text".to_owned()) });
    bus.on(|_: &Event<Ask>| -> String { panic!("thrown text") });
    bus.on(|_: &Event<Ask>| -> String { panic!("formatted {}", 7) });
    bus.on(|_: &Event<Ask>| -> String { std::panic::panic_any(7_u8) });
    let event = done(&bus.emit(Ask));
    let results = event.results();
    assert!(results.iter().all(|r| r.status == ResultStatus::Error && r.value.is_none()));
    let failures: Vec<_> = results.iter().filter_map(|r| r.error.as_deref()).collect();
    let [plain, owned, thrown, formatted, odd] = failures[..] else { panic!("five failures, not {failures:?}") };
    assert!(matches!(plain, HandlerFailure::Failed(e) if e.to_string() == "plain text"));
    assert!(matches!(owned, HandlerFailure::Failed(e) if e.to_string() == "owned text"));
    assert!(matches!(thrown, HandlerFailure::Panicked(text) if text == "thrown text"));
    assert!(matches!(formatted, HandlerFailure::Panicked(text) if text == "formatted 7"));
    assert!(matches!(odd, HandlerFailure::Panicked(_)));
    assert_eq!(event.errors().len(), 5);
}

#[test]
fn edge_020_a_failing_child_does_not_fail_the_parent_that_waits() {
    let bus = EventBus::new("Edge020");
    bus.on(|_: &Event<Child>| -> Result<(), String> { Err("child".to_owned()) });
    bus.on(|event: &Event<Ask>| -> Result<String, WaitError> {
        let child = event.bus().emit(Child).wait()?;
        Ok(format!("ok after {} error", child.errors().len()))
    });
    let parent = done(&bus.emit(Ask));
    assert_eq!(parent.result().expect("the parent's value"), "ok after 1 error");
    assert!(parent.errors().is_empty() && parent.results()[0].status == ResultStatus::Completed);
    assert_eq!(parent.children()[0].errors()[0].to_string(), "child");
}

#[test]
fn edge_021_the_same_event_twice_on_one_bus_runs_once() {
    let (bus, log, gate) = (EventBus::new("Edge021"), Log::new(), Gate::new());
    let _opener = gate.opener();
    bus.on({
        let (log, gate) = (log.clone(), gate.clone());
        move |_: &Event<Child>| {
            gate.wait();
            log.push("ran");
        }
    });
    let event = bus.emit(Child);
    bus.forward(&event).expect("a repeat is no error");
    gate.open();
    done(&event);
    idle(&bus);
    assert_eq!(log.entries(), ["ran"]);
    assert_eq!((event.path().len(), event.results().len(), bus.pending()), (1, 1, 0));
}

/// A handler on A emits a child on B by B's own handle and waits for it.
fn child_by_plain_handle(mode: EventConcurrency) {
    let runtime = Runtime::builder().build().expect("a runtime");
    let [a, b] = ["A", "B"].map(|name| {
        let builder = EventBus::builder(name).event_concurrency(mode).handler_timeout(None);
        builder.runtime(&runtime).build().expect("a bus")
    });
    let log = Log::new();
    logs::<Child>(&b, &log, "child");
    a.on({
        let (log, b) = (log.clone(), b.downgrade());
        move |_: &Event<Parent>| log.push(verdict(b.upgrade().expect("B lives").emit(Child).wait()))
    });
    let parent = done(&a.emit(Parent));
    assert_eq!(log.entries(), ["child_start", "child_end", "ok"]);
    assert_eq!(parent.children().len(), 1);
    assert_eq!(parent.children()[0].path(), [b.label()]);
}

#[test]
fn edge_022_global_serial_buses_and_a_plain_handle_do_not_deadlock() {
    child_by_plain_handle(EventConcurrency::GlobalSerial);
}

#[test]
fn edge_023_a_plain_handle_links_the_child() {
    child_by_plain_handle(EventConcurrency::BusSerial);
}

#[test]
fn edge_024_a_refused_child_leaves_no_trace() {
    let builder = EventBus::builder("Edge024").max_history(Some(1)).history_policy(HistoryPolicy::Reject);
    let (bus, log) = (builder.build().expect("a bus"), Log::new());
    logs::<Child>(&bus, &log, "child");
    bus.on({
        let log = log.clone();
        move |event: &Event<Parent>| match event.bus().try_emit(Child) {
            Err(refused) => log.push(refused.error),
            Ok(_) => log.push("taken"),
        }
    });
    let parent = done(&bus.emit(Parent));
    let refusal = EmitError::HistoryFull { bus: bus.label().to_owned(), limit: 1 };
    assert_eq!(log.entries(), [refusal.to_string()]);
    assert!(parent.children().is_empty() && parent.results()[0].children.is_empty());
    assert_eq!((bus.history_len(), bus.pending()), (1, 0));

    assert!(bus.take(parent.id()).is_some(), "room again");
    done(&bus.emit(Child));
    assert_eq!(log.entries()[1..], ["child_start", "child_end"]);
}

#[test]
fn edge_025_eviction_leaves_no_waiter_behind() {
    let bus = EventBus::builder("Edge025").max_history(Some(1)).build().expect("a bus");
    let (log, gate) = (Log::new(), Gate::new());
    let _opener = gate.opener();
    bus.on({
        let (log, gate) = (log.clone(), gate.clone());
        move |order: &Event<Order>| {
            gate.wait();
            log.push(order.n);
        }
    });
    let early: Vec<_> = (0..2).map(|n| bus.emit(Order { n })).collect();
    let waiters: Vec<_> = (0..2)
        .map(|n| {
            let event = early[n].clone();
            thread::spawn(move || if n == 0 { event.wait() } else { event.wait_in_order() }.map(drop))
        })
        .collect();
    linger();
    let last = bus.emit(Order { n: 2 });
    assert!(bus.event(early[0].id()).is_none() && bus.event(early[1].id()).is_none(), "both are evicted");
    gate.open();
    done(&last);
    eventually(|| waiters.iter().all(|waiter| waiter.is_finished()));
    for waiter in waiters {
        assert_eq!(waiter.join().expect("the waiter"), Ok(()));
    }
    assert_eq!(log.entries(), ["0", "1", "2"]);
}

#[test]
fn edge_028_buses_of_one_name_are_still_two() {
    let [one, two] = ["Same", "Same"].map(EventBus::new);
    assert_ne!(one.id(), two.id());
    assert_ne!(one.label(), two.label());
    let log = Log::new();
    logs::<Child>(&two, &log, "two");
    one.forward_all_to(&two);
    let event = done(&one.emit(Child));
    assert_eq!(log.entries(), ["two_start", "two_end"]);
    assert_eq!(event.path(), [one.label(), two.label()]);
}

#[test]
fn a_long_circle_is_told_by_its_beginning_and_its_end() {
    const MEMBERS: usize = 14;
    let runtime = Runtime::builder().max_threads(MEMBERS).build().unwrap();
    let bus = |n| EventBus::builder(&format!("Member{n}")).runtime(&runtime).build().unwrap();
    let buses: Vec<_> = (0..MEMBERS).map(bus).collect();
    let (log, inside, all) = (Log::new(), Gauge::new(), Gate::new());
    let _open = all.opener();
    for (bus, next) in buses.iter().zip(buses.iter().cycle().skip(1)) {
        let (log, inside, all, next) = (log.clone(), inside.clone(), all.clone(), next.downgrade());
        bus.on(move |_: &Event<Parent>| {
            if inside.enter() == MEMBERS {
                all.open();
            }
            all.wait();
            match next.upgrade().unwrap().emit(Child).wait_in_order() {
                Err(WaitError::Deadlock(chain)) => log.push(chain),
                other => drop(other.unwrap()),
            }
        });
    }
    let events: Vec<_> = buses.iter().map(|bus| bus.emit(Parent)).collect();
    events.iter().for_each(common::clean);
    let told = log.entries();
    assert!(!told.is_empty() && told[0].contains(", and so on over ") && told[0].len() < 2000, "{told:?}");
}

#[test]
fn edge_029_parallel_events_with_default_handlers_run_one_by_one_in_order() {
    let builder = EventBus::builder("Edge029").event_concurrency(EventConcurrency::Parallel);
    let (bus, log) = (builder.build().expect("a bus"), Log::new());
    assert_eq!(bus.options().handler_concurrency, HandlerConcurrency::BusSerial);
    let all_emitted = Gate::new();
    bus.on({
        let (log, all_emitted) = (log.clone(), all_emitted.clone());
        move |order: &Event<Order>| {
            log.push(format_args!("s{}", order.n));
            all_emitted.wait();
            linger();
            log.push(format_args!("e{}", order.n));
        }
    });
    let events: Vec<_> = (0..3).map(|n| bus.emit(Order { n })).collect();
    eventually(|| events[0].status() == EventStatus::Started);
    all_emitted.open();
    for event in &events {
        assert!(done(event).errors().is_empty());
    }
    in_order(&log, &["s0", "e0", "s1", "e1", "s2", "e2"]);
}
