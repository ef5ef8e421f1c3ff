//! FIFO: a serial bus runs its events one after another, in emit order, also behind forwards.

mod common;

use common::{Gate, Log, done, idle, linger, payload};
use threadbus::{Event, EventBus};

payload!(Order { n: usize });

/// `start 0`, `end 0`, `start 1`, ...
fn one_after_another(count: usize) -> Vec<String> {
    (0..count).flat_map(|n| [format!("start {n}"), format!("end {n}")]).collect()
}

/// A bus whose handler is slow for even orders; the first one stands at the gate until all are emitted.
fn bus_of_orders(name: &str, log: &Log, all_emitted: &Gate) -> EventBus {
    let bus = EventBus::new(name);
    let (log, all_emitted) = (log.clone(), all_emitted.clone());
    bus.on(move |order: &Event<Order>| {
        log.push(format_args!("start {}", order.n));
        if order.n == 0 {
            all_emitted.wait();
        }
        for _ in 0..if order.n.is_multiple_of(2) { 10 } else { 1 } {
            linger();
        }
        log.push(format_args!("end {}", order.n));
    });
    bus
}

/// Everybody started after the one before had started, and completed after the one before had completed.
fn check_times(events: &[Event<Order>]) {
    for pair in events.windows(2) {
        assert!(pair[0].started_at().is_some() && pair[0].completed_at().is_some());
        assert!(pair[0].started_at() <= pair[1].started_at(), "{} started after {}", pair[0], pair[1]);
        assert!(pair[0].completed_at() < pair[1].completed_at(), "{} completed after {}", pair[0], pair[1]);
        let (first, second) = (&pair[0].results()[0], &pair[1].results()[0]);
        assert!(first.completed_at < second.started_at, "the handlers of {} and {} overlap", pair[0], pair[1]);
    }
}

#[test]
fn fifo_001_ten_events_emitted_at_once_run_in_emit_order() {
    let (log, all_emitted) = (Log::new(), Gate::new());
    let _opener = all_emitted.opener();
    let bus = bus_of_orders("Fifo001", &log, &all_emitted);
    let events: Vec<_> = (0..10).map(|n| bus.emit(Order { n })).collect();
    all_emitted.open();
    for event in &events {
        assert!(done(event).errors().is_empty());
    }
    assert_eq!(log.entries(), one_after_another(10));
    check_times(&events);
}

#[test]
fn fifo_002_twenty_events_emitted_while_the_bus_runs_keep_their_order() {
    let (log, open) = (Log::new(), Gate::new());
    open.open();
    let bus = bus_of_orders("Fifo002", &log, &open);
    for _ in 0..20 {
        let from = log.len();
        let events: Vec<_> = (0..20)
            .map(|n: usize| {
                if n.is_multiple_of(3) {
                    linger();
                }
                bus.emit(Order { n })
            })
            .collect();
        idle(&bus);
        assert_eq!(log.entries()[from..], one_after_another(20));
        check_times(&events);
    }
}

#[test]
fn fifo_004_order_survives_two_forwards() {
    let (a, b, c) = (EventBus::new("FifoA"), EventBus::new("FifoB"), EventBus::new("FifoC"));
    let (at_b, at_c, all_emitted) = (Log::new(), Log::new(), Gate::new());
    let _opener = all_emitted.opener();
    a.forward_all_to(&b);
    b.forward_all_to(&c);
    b.on({
        let (at_b, all_emitted) = (at_b.clone(), all_emitted.clone());
        move |order: &Event<Order>| {
            all_emitted.wait();
            linger();
            at_b.push(order.n);
        }
    });
    c.on({
        let at_c = at_c.clone();
        move |order: &Event<Order>| at_c.push(order.n)
    });
    let events: Vec<_> = (0..6).map(|n| a.emit(Order { n })).collect();
    all_emitted.open();
    for event in &events {
        assert!(done(event).errors().is_empty());
    }
    assert_eq!(at_b.entries(), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(at_c.entries(), ["0", "1", "2", "3", "4", "5"]);
}
