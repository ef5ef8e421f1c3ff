//! Limits whose holders are given up: who has a place that was lent on, and when it is free.

mod common;

use common::{Gate, Gauge, Log, PATIENCE, eventually, idle, limited, linger, lock, payload, within};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threadbus::{
    Event, EventBus, EventConcurrency, EventOptions, HandlerCompletion, HandlerConcurrency, HandlerContext,
    HandlerOptions, Limit, Retry, Shutdown,
};

payload!(Link { n: usize });
payload!(Foreign);
payload!(Work { n: usize });

const MS: Duration = Duration::from_millis(1);

fn free() -> EventBus {
    EventBus::builder("Free")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .handler_timeout(None)
        .build()
        .unwrap()
}

/// A chain of links under one place, each of which waits for the next, the last one for an event that stands at a gate under the same limit.
/// After its wait each works in `gauge`.
struct Chain {
    bus: EventBus,
    links: Arc<Mutex<Vec<Event<Link>>>>,
    gate: Gate,
    gauge: Gauge,
}

fn chain(length: usize) -> Chain {
    let (bus, limit) = (free(), Limit::new(1));
    let (gate, started, gauge) = (Gate::new(), Gate::new(), Gauge::new());
    let links: Arc<Mutex<Vec<Event<Link>>>> = Arc::default();
    let foreign: Arc<Mutex<Option<Event<Foreign>>>> = Arc::default();
    let (closed, at_it, inside) = (gate.clone(), started.clone(), gauge.clone());
    bus.on_with(limited(&limit), move |_: &Event<Foreign>| {
        inside.enter();
        at_it.open();
        closed.wait();
        inside.leave();
    });
    let (all, awaited, inside) = (Arc::clone(&links), Arc::clone(&foreign), gauge.clone());
    let has_place = Gate::new();
    let begins = has_place.clone();
    bus.on_with(limited(&limit), move |link: &Event<Link>| {
        begins.open();
        let goes_on = if link.n == length {
            eventually(|| lock(&awaited).is_some());
            let foreign = lock(&awaited).clone().unwrap();
            foreign.wait().is_ok()
        } else {
            let next = link.bus().emit(Link { n: link.n + 1 });
            lock(&all).push(next.clone());
            next.wait().is_ok() || HandlerContext::current().is_some_and(|context| !context.is_cancelled())
        };
        if goes_on {
            inside.enter();
            inside.leave();
        }
    });
    {
        // Under the lock, so that the first link stands first.
        let mut links = lock(&links);
        links.push(bus.emit(Link { n: 1 }));
        has_place.wait();
    }
    *lock(&foreign) = Some(bus.emit_with(Foreign, EventOptions::new().detached()));
    started.wait();
    Chain { bus, links, gate, gauge }
}

#[test]
fn a_lender_goes_on_when_its_borrowers_borrower_has_left() {
    for (length, victim) in [(2, 1), (3, 1), (3, 2), (5, 2)] {
        within(PATIENCE, move || {
            let chain = chain(length);
            let _open = chain.gate.opener();
            eventually(|| lock(&chain.links).len() == length);
            let victim = lock(&chain.links)[victim].clone();
            assert!(victim.cancel(), "of {length}");
            eventually(|| victim.is_completed());
            linger();
            assert_eq!(chain.gauge.peak(), 1, "of {length}");
            chain.gate.open();
            idle(&chain.bus);
            assert_eq!(chain.gauge.peak(), 1, "of {length}");
        });
    }
}

#[test]
fn the_first_of_a_chain_leaves_its_place_to_the_others() {
    within(PATIENCE, || {
        let chain = chain(3);
        let _open = chain.gate.opener();
        eventually(|| lock(&chain.links).len() == 3);
        let first = lock(&chain.links)[0].clone();
        assert!(first.cancel());
        let next = chain.bus.emit(Link { n: 3 });
        linger();
        assert!(!next.is_completed(), "the last of the chain has the place");
        chain.gate.open();
        idle(&chain.bus);
        assert_eq!(chain.gauge.peak(), 1);
    });
}

/// A handler that stands at the gate of its event's number, whatever happens, and says when it comes and goes.
fn stubborn(bus: &EventBus, options: HandlerOptions, gates: &[Gate]) -> Log {
    let (log, gates) = (Log::new(), gates.to_vec());
    let to = log.clone();
    bus.on_with(options, move |work: &Event<Work>| {
        to.push(format!("{} in", work.n));
        gates[work.n].wait();
        to.push(format!("{} out", work.n));
    });
    log
}

fn gates(count: usize) -> Vec<Gate> {
    (0..count).map(|_| Gate::new()).collect()
}

#[test]
fn a_place_is_free_at_once_or_when_the_thread_is_back() {
    for until_returned in [false, true] {
        let limit = if until_returned { Limit::new(1).until_returned() } else { Limit::new(1) };
        let (bus, gates) = (free(), gates(2));
        let _open: Vec<_> = gates.iter().map(Gate::opener).collect();
        let log = stubborn(&bus, limited(&limit), &gates);
        let first = bus.emit_with(Work { n: 0 }, EventOptions::new().handler_timeout(20 * MS));
        eventually(|| first.is_completed());
        let second = bus.emit(Work { n: 1 });
        gates[1].open();
        if until_returned {
            linger();
            assert_eq!(log.entries(), ["0 in"], "the first is still inside");
            gates[0].open();
        }
        eventually(|| second.is_completed());
        let came = if until_returned { vec!["0 in", "0 out", "1 in", "1 out"] } else { vec!["0 in", "1 in", "1 out"] };
        assert_eq!(log.entries(), came);
    }
}

#[test]
fn whoever_gives_a_handler_up_its_place_waits_for_the_thread() {
    type GivesUp = fn(&EventBus, &Event<Work>);
    let ways: [(&str, GivesUp); 3] = [
        ("a cancel", |_, event| assert!(event.cancel())),
        ("an event's timeout", |_, event| eventually(|| event.is_completed())),
        ("a shutdown", |bus, _| assert_eq!(bus.shutdown(Shutdown::Now, Duration::ZERO).abandoned, 1)),
    ];
    for (way, gives_up) in ways {
        let limit = Limit::new(1).until_returned();
        let (bus, other, gates) = (free(), free(), gates(2));
        let _open: Vec<_> = gates.iter().map(Gate::opener).collect();
        let log = stubborn(&bus, limited(&limit), &gates);
        let ran = stubborn(&other, limited(&limit), &gates);
        let options = EventOptions::new();
        let first =
            bus.emit_with(Work { n: 0 }, if way == "an event's timeout" { options.timeout(30 * MS) } else { options });
        eventually(|| log.len() == 1);
        gives_up(&bus, &first);
        eventually(|| first.is_completed());
        let second = other.emit(Work { n: 1 });
        gates[1].open();
        linger();
        assert!(ran.is_empty() && !second.is_completed(), "after {way}");
        gates[0].open();
        eventually(|| second.is_completed());
        assert_eq!((log.len(), ran.len()), (2, 2), "after {way}");
    }
}

#[test]
fn the_next_attempt_waits_for_the_thread_of_the_last() {
    let (bus, gate, log) = (free(), Gate::new(), Log::new());
    let _open = gate.opener();
    let (to, closed) = (log.clone(), gate.clone());
    let options = limited(&Limit::new(1).until_returned()).timeout(20 * MS).retry(Retry::attempts(2));
    bus.on_with(options, move |_: &Event<Work>| {
        let attempt = HandlerContext::current().unwrap().attempt();
        to.push(format!("{attempt} in"));
        if attempt == 1 {
            closed.wait();
        }
        to.push(format!("{attempt} out"));
    });
    let event = bus.emit(Work { n: 0 });
    // Before its first attempt it waits for a moment as well.
    eventually(|| log.len() == 1 && bus.metrics().waiting == 1);
    linger();
    assert_eq!(log.entries(), ["1 in"]);
    gate.open();
    eventually(|| event.is_completed());
    assert_eq!(log.entries(), ["1 in", "1 out", "2 in", "2 out"]);
    assert!(event.errors().is_empty(), "{:?}", event.errors());
    idle(&bus);
}

#[test]
fn an_event_that_ends_while_its_next_attempt_waits_frees_the_place_later() {
    let (bus, gates) = (free(), gates(2));
    let _open: Vec<_> = gates.iter().map(Gate::opener).collect();
    let options = limited(&Limit::new(1).until_returned()).retry(Retry::attempts(5));
    let log = stubborn(&bus, options, &gates);
    let first = bus.emit_with(Work { n: 0 }, EventOptions::new().handler_timeout(20 * MS));
    eventually(|| bus.metrics().waiting == 1);
    assert!(first.cancel());
    let second = bus.emit(Work { n: 1 });
    gates[1].open();
    linger();
    assert_eq!(log.entries(), ["0 in"]);
    gates[0].open();
    eventually(|| second.is_completed());
    assert_eq!(log.entries(), ["0 in", "0 out", "1 in", "1 out"]);
}

#[test]
fn a_loser_that_comes_back_late_gives_its_place_back_once() {
    let limit = Limit::new(2).until_returned();
    let (bus, gate, log) = (free(), Gate::new(), Log::new());
    let _open = gate.opener();
    payload!(Race => usize);
    for n in 0..2 {
        let (closed, to) = (gate.clone(), log.clone());
        bus.on_with(limited(&limit), move |_: &Event<Race>| {
            to.push("in");
            if n == 0 {
                closed.wait();
            } else {
                eventually(|| to.len() == 2);
            }
            n
        });
    }
    let race = bus.emit_with(Race, EventOptions::new().completion(HandlerCompletion::First));
    eventually(|| race.is_completed());
    let (work, inside, both) = (gates(3), Gauge::new(), Gate::new());
    let (measured, can_meet) = (inside.clone(), both.clone());
    bus.on_with(limited(&limit), move |_: &Event<Work>| {
        measured.enter();
        if can_meet.is_open() {
            eventually(|| measured.peak() >= 2);
        }
        linger();
        measured.leave();
    });
    let events: Vec<_> = (0..work.len()).map(|n| bus.emit(Work { n })).collect();
    eventually(|| events.iter().all(Event::is_completed));
    assert_eq!(inside.peak(), 1, "the loser has a place");
    gate.open();
    eventually(|| bus.metrics().late_results == 1);
    both.open();
    let events: Vec<_> = (0..20).map(|n| bus.emit(Work { n })).collect();
    eventually(|| events.iter().all(Event::is_completed));
    assert_eq!(inside.peak(), 2);
}
