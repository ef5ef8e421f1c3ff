//! FWD: one event on several buses, once on each; it completes when all of them are done with it.

mod common;

use common::{Gate, Log, done, eventually, idle, in_order, linger, payload};
use std::time::Duration;
use threadbus::{
    EmitError, Event, EventBus, EventConcurrency, EventOptions, EventStatus, HandlerConcurrency, HistoryPolicy,
    Payload, WaitError,
};

payload!(Ping);
payload!(Ask => String);
payload!(Root);
payload!(Child);
payload!(Order { n: usize });

fn buses<const N: usize>(names: [&str; N]) -> [EventBus; N] {
    names.map(EventBus::new)
}

/// The labels of `buses`, as `path()` shows them.
fn labels(buses: &[&EventBus]) -> Vec<String> {
    buses.iter().map(|bus| bus.label().to_owned()).collect()
}

/// Registers a handler that logs the bus's name and the event's id.
fn notes_id<P: Payload<Output = ()>>(bus: &EventBus, log: &Log) {
    let (log, name) = (log.clone(), bus.name().to_owned());
    bus.on(move |event: &Event<P>| log.push(format_args!("{name} {}", event.id())));
}

#[test]
fn fwd_001_a_chain_hands_the_same_event_on() {
    let [a, b, c] = buses(["A", "B", "C"]);
    let log = Log::new();
    for bus in [&a, &b, &c] {
        notes_id::<Ping>(bus, &log);
    }
    a.forward_all_to(&b);
    b.forward_all_to(&c);
    let event = a.emit(Ping);
    for bus in [&a, &b, &c] {
        idle(bus);
    }
    done(&event);
    let id = event.id();
    assert_eq!(log.entries(), [format!("A {id}"), format!("B {id}"), format!("C {id}")]);
    assert_eq!(event.path(), labels(&[&a, &b, &c]));
    assert_eq!(c.event(id).map(|e| e.path()), Some(labels(&[&a, &b, &c])));
}

#[test]
fn fwd_004_wait_covers_the_handlers_of_all_buses() {
    let [a, b, c] = buses(["A", "B", "C"]);
    let (log, gate) = (Log::new(), Gate::new());
    let _opener = gate.opener();
    a.forward_all_to(&b);
    b.forward_all_to(&c);
    for bus in [&a, &b, &c] {
        let (log, gate, name) = (log.clone(), gate.clone(), bus.name().to_owned());
        bus.on(move |_: &Event<Ping>| {
            if name == "C" {
                gate.wait();
            }
            linger();
            log.push(&name);
        });
    }
    let event = a.emit(Ping);
    eventually(|| log.count("B") == 1);
    assert_eq!(
        event.wait_timeout(Duration::from_millis(30)).err(),
        Some(WaitError::Timeout(Duration::from_millis(30)))
    );
    assert!(!event.is_completed());
    gate.open();
    done(&event);
    let mut seen = log.entries();
    seen.sort();
    assert_eq!(seen, ["A", "B", "C"], "all three had finished when wait returned");
    assert!(event.is_completed() && event.results().iter().all(|r| r.completed_at.is_some()));
}

#[test]
fn fwd_006_a_late_forward_is_waited_for() {
    let [a, b] = buses(["A", "B"]);
    let (log, may_forward) = (Log::new(), Gate::new());
    let _opener = may_forward.opener();
    a.on({
        let log = log.clone();
        move |_: &Event<Ping>| log.push("a")
    });
    a.on_any({
        let (may_forward, target) = (may_forward.clone(), b.downgrade());
        move |event| {
            may_forward.wait();
            target.upgrade().map_or(Ok(()), |b| b.forward(event))
        }
    });
    b.on({
        let log = log.clone();
        move |_: &Event<Ping>| log.push("b")
    });
    let event = a.emit(Ping);
    eventually(|| log.count("a") == 1);
    assert!(event.wait_timeout(Duration::from_millis(30)).is_err());
    assert_eq!(log.count("b"), 0);
    may_forward.open();
    done(&event);
    assert_eq!(log.entries(), ["a", "b"]);
    assert_eq!(event.status(), EventStatus::Completed);
    assert_eq!(event.path(), labels(&[&a, &b]));
}

#[test]
fn fwd_007_a_hierarchy_passes_events_up_only() {
    let [parent, child, subchild] = buses(["Parent", "Child", "Sub"]);
    let log = Log::new();
    for bus in [&parent, &child, &subchild] {
        notes_id::<Ping>(bus, &log);
    }
    subchild.forward_all_to(&child);
    child.forward_all_to(&parent);

    let low = done(&subchild.emit(Ping));
    let id = low.id();
    assert_eq!(log.entries(), [format!("Sub {id}"), format!("Child {id}"), format!("Parent {id}")]);
    assert_eq!(low.path(), labels(&[&subchild, &child, &parent]));

    let middle = done(&child.emit(Ping));
    let id = middle.id();
    assert_eq!(log.entries()[3..], [format!("Child {id}"), format!("Parent {id}")]);
    assert_eq!(middle.path(), labels(&[&child, &parent]));
    assert!(subchild.event(id).is_none());
}

#[test]
fn fwd_009_results_of_all_buses_are_on_the_one_event() {
    let [main, plugin] = buses(["Main", "Plugin"]);
    main.on(|_: &Event<Ask>| "main".to_owned());
    plugin.on(|_: &Event<Ask>| "first".to_owned());
    plugin.on(|_: &Event<Ask>| "second".to_owned());
    let forward = main.forward_all_to(&plugin);
    assert_eq!(forward.name(), format!("forward to {}", plugin.label()));

    let event = done(&main.emit(Ask));
    assert_eq!(event.result_list().expect("three values"), ["main", "first", "second"]);
    let results = event.results();
    assert_eq!(results.len(), 4, "the forward is an invocation too");
    let through = results.iter().find(|r| r.handler.id() == forward.id()).expect("the forward's result");
    assert!(through.value.is_none() && through.error.is_none());
    assert_eq!(event.path(), labels(&[&main, &plugin]));
}

#[test]
fn fwd_011_a_cycle_of_three_buses_comes_to_rest() {
    let peers = buses(["Peer1", "Peer2", "Peer3"]);
    let log = Log::new();
    for (bus, next) in peers.iter().zip(peers.iter().cycle().skip(1)) {
        let (log, name) = (log.clone(), bus.name().to_owned());
        bus.on_any(move |_| log.push(&name));
        bus.forward_all_to(next);
    }
    done(&peers[0].emit(Ping));
    let event = done(&peers[1].emit(Ping));
    for peer in &peers {
        peer.wait_until_idle_timeout(Duration::from_secs(5)).expect("at rest within 5 s");
    }
    assert_eq!(event.status(), EventStatus::Completed);
    assert_eq!(log.entries(), ["Peer1", "Peer2", "Peer3", "Peer2", "Peer3", "Peer1"]);
    assert_eq!(event.path(), labels(&[&peers[1], &peers[2], &peers[0]]));
    for peer in &peers {
        assert!(peer.is_idle() && peer.pending() == 0);
        assert!(peer.history().iter().all(|e| e.is_completed()), "{} still holds a running event", peer.label());
    }
}

#[test]
fn fwd_012_a_forward_is_no_parent() {
    let [origin, target] = buses(["Origin", "Target"]);
    let log = Log::new();
    notes_id::<Ping>(&target, &log);
    origin.forward_all_to(&target);
    let event = done(&origin.emit(Ping));
    assert_eq!(log.len(), 1);
    assert_eq!(event.parent_id(), None);
    assert_eq!(event.emitted_by(), None);
    assert!(event.parent().is_none() && event.children().is_empty());
    assert_eq!(event.path(), labels(&[&origin, &target]));
}

#[test]
fn fwd_013_a_child_emitted_in_a_handler_is_linked() {
    let [bus] = buses(["Bus"]);
    bus.on(|event: &Event<Root>| {
        event.bus().emit(Child);
    });
    bus.on(|_: &Event<Child>| {});
    let root = done(&bus.emit(Root));
    let children = root.children();
    assert_eq!(children.len(), 1);
    assert!(children[0].is::<Child>() && children[0].is_completed());
    assert_eq!(children[0].parent_id(), Some(root.id()));
}

#[test]
fn fwd_014_emitting_the_running_event_again_is_no_loop() {
    let [bus] = buses(["Bus"]);
    let log = Log::new();
    bus.on({
        let log = log.clone();
        move |event: &Event<Root>| {
            log.push("run");
            event.bus().forward(event)
        }
    });
    let root = done(&bus.emit(Root));
    assert!(root.errors().is_empty(), "{:?}", root.errors());
    assert_eq!(log.entries(), ["run"]);
    assert_eq!(root.parent_id(), None);
    assert!(root.children().is_empty());
    assert_eq!(root.path(), labels(&[&bus]));
}

/// A child on serial `a` and on `b`, whose handlers are parallel by default; what B's handlers logged. B's first handler
/// waits for the second one to start if they are expected to overlap.
fn handlers_of_b(options: EventOptions, overlap: bool) -> Log {
    let a = EventBus::builder("A").handler_concurrency(HandlerConcurrency::BusSerial).build().expect("A");
    let b = EventBus::builder("B").handler_concurrency(HandlerConcurrency::Parallel).build().expect("B");
    let (log, second) = (Log::new(), Gate::new());
    let _opener = second.opener();
    common::logs::<Child>(&a, &log, "a1");
    common::logs::<Child>(&a, &log, "a2");
    b.on({
        let (log, second) = (log.clone(), second.clone());
        move |_: &Event<Child>| {
            log.push("b1_start");
            if overlap {
                second.wait();
            } else {
                linger();
            }
            log.push("b1_end");
        }
    });
    b.on({
        let log = log.clone();
        move |_: &Event<Child>| {
            log.push("b2_start");
            second.open();
            log.push("b2_end");
        }
    });
    a.on({
        let b = b.downgrade();
        move |event: &Event<Root>| {
            let child = event.bus().emit_with(Child, options.clone());
            b.upgrade().expect("B lives").forward(&child).expect("B takes it");
            child.wait().map(drop)
        }
    });
    let root = done(&a.emit(Root));
    assert!(root.errors().is_empty(), "{:?}", root.errors());
    in_order(&log, &["a1_start", "a1_end", "a2_start", "a2_end"]);
    log
}

#[test]
fn fwd_015_each_bus_uses_its_own_handler_mode_unless_the_event_overrides_it() {
    let log = handlers_of_b(EventOptions::new(), true);
    in_order(&log, &["b2_start", "b1_end"]);
    let log = handlers_of_b(EventOptions::new().handler_concurrency(HandlerConcurrency::BusSerial), false);
    in_order(&log, &["b1_start", "b1_end", "b2_start", "b2_end"]);
}

#[test]
fn fwd_017_a_bus_takes_an_event_once() {
    let [bus] = buses(["Bus"]);
    let (log, gate) = (Log::new(), Gate::new());
    let _opener = gate.opener();
    bus.on({
        let (log, gate) = (log.clone(), gate.clone());
        move |order: &Event<Order>| {
            gate.wait();
            log.push(order.n);
        }
    });
    let events: Vec<_> = (0..2).map(|n| bus.emit(Order { n })).collect();
    eventually(|| events[0].status() == EventStatus::Started);
    for event in &events {
        bus.forward(event).expect("a repeat is no error");
    }
    assert_eq!((bus.pending(), bus.history_len()), (1, 2), "neither queued nor recorded again");
    gate.open();
    for event in &events {
        done(event);
        bus.forward(event).expect("nor is it when the event is complete");
    }
    idle(&bus);
    assert_eq!((bus.pending(), bus.history_len()), (0, 2));
    assert_eq!(log.entries(), ["0", "1"]);
    assert!(events.iter().all(|e| e.results().len() == 1 && e.path() == labels(&[&bus])));
}

#[test]
fn fwd_018_a_forward_without_a_wait_holds_up_nobody() {
    let [a, b] = buses(["A", "B"]);
    let (log, gate) = (Log::new(), Gate::new());
    let _opener = gate.opener();
    a.on({
        let (log, b) = (log.clone(), b.downgrade());
        move |order: &Event<Order>| {
            b.upgrade().expect("B lives").forward(order).expect("B takes it");
            log.push(format_args!("a {}", order.n));
        }
    });
    b.on({
        let (log, gate) = (log.clone(), gate.clone());
        move |order: &Event<Order>| {
            log.push(format_args!("b_start {}", order.n));
            gate.wait();
            log.push(format_args!("b_end {}", order.n));
        }
    });
    let events: Vec<_> = (0..2).map(|n| a.emit(Order { n })).collect();
    eventually(|| log.count("a 1") == 1 && log.count("b_start 0") == 1);
    linger();
    assert_eq!(log.count("b_start 1"), 0, "B is serial, whatever A does");
    assert_eq!(log.count("b_end 0"), 0);
    assert!(events.iter().all(|e| !e.is_completed()));
    gate.open();
    for event in &events {
        done(event);
    }
    in_order(&log, &["a 0", "a 1", "b_end 0", "b_start 1", "b_end 1"]);
}

#[test]
fn fwd_018b_the_target_runs_it_by_its_own_event_mode() {
    let [a] = buses(["A"]);
    let b = EventBus::builder("B")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .expect("B");
    let both = common::Gauge::new();
    let (met, a_is_done) = (Gate::new(), Gate::new());
    a.forward_all_to(&b);
    a.on_any({
        let a_is_done = a_is_done.clone();
        move |event| {
            if event.payload::<Order>().is_some_and(|order| order.n == 1) {
                a_is_done.open();
            }
        }
    });
    b.on({
        let (both, met) = (both.clone(), met.clone());
        move |_: &Event<Order>| {
            if both.enter() == 2 {
                met.open();
            }
            met.wait();
            a_is_done.wait();
            both.leave();
        }
    });
    let events: Vec<_> = (0..2).map(|n| a.emit(Order { n })).collect();
    for event in &events {
        assert!(done(event).errors().is_empty(), "both are on B at once, though A is serial");
    }
    assert_eq!(both.peak(), 2);
}

#[test]
fn a_bus_refuses_a_forward_as_it_refuses_an_emit() {
    let from = EventBus::new("From");
    let ping = done(&from.emit(Ping));
    let picky = EventBus::builder("Picky").require_handler(true).build().unwrap();
    assert!(matches!(picky.forward(&ping), Err(EmitError::NoHandler { event_type, .. }) if event_type == "Ping"));
    let full = EventBus::builder("Full").max_history(Some(1)).history_policy(HistoryPolicy::Reject).build().unwrap();
    full.pause();
    full.emit(Ping);
    assert!(matches!(full.forward(&ping), Err(EmitError::HistoryFull { limit: 1, .. })));
    assert_eq!(ping.path(), labels(&[&from]));
}

#[test]
fn a_cancelled_event_goes_to_no_other_bus() {
    let [from, to] = buses(["From", "To"]);
    let log = Log::new();
    notes_id::<Ping>(&to, &log);
    from.pause();
    let ping = from.emit(Ping);
    assert!(ping.cancel());
    assert_eq!(to.forward(&ping), Ok(()));
    idle(&to);
    assert!(log.is_empty() && ping.path() == labels(&[&from]));
}
