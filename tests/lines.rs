//! Lines behind the queue: limits, handler permits, global turns. Who is next there, what counts as waiting, and what a full queue makes of it.

mod common;

use common::{Gate, GateOpener, Log, PATIENCE, eventually, idle, payload, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use threadbus::{
    BusBuilder, EmitError, Event, EventBus, EventConcurrency, EventOptions, EventStatus, Fairness, HandlerConcurrency,
    HandlerOptions, HealthLimits, HealthStatus, Limit, OnFull, Priority, Retry, Runtime, Shutdown, WaitError,
};

payload!(Blocker);
payload!(Job { n: usize });

const MS: Duration = Duration::from_millis(1);
const WEIGHTED: Fairness = Fairness::Weighted { high: 3, normal: 2, low: 1 };

/// What stands in whose way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Limit,
    BusPermit,
    GlobalPermit,
    GlobalTurn,
}

const LINES: [Line; 4] = [Line::Limit, Line::BusPermit, Line::GlobalPermit, Line::GlobalTurn];

/// Buses whose handlers run one at a time, by a line; the first of them stands at a gate.
struct Held {
    buses: Vec<EventBus>,
    gate: Gate,
    ran: Log,
    _open: GateOpener,
}

fn at(level: u8) -> EventOptions {
    EventOptions::new().priority(Priority::new(level).unwrap())
}

fn parallel(name: &str) -> BusBuilder {
    EventBus::builder(name)
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .max_history(Some(10_000))
}

fn held(line: Line, names: &[&str], with: impl Fn(BusBuilder) -> BusBuilder) -> Held {
    let (gate, started, ran) = (Gate::new(), Gate::new(), Log::new());
    let (runtime, limit) = (Runtime::builder().build().unwrap(), Limit::new(1));
    let buses: Vec<EventBus> = names
        .iter()
        .map(|name| {
            let builder = with(parallel(name).runtime(&runtime));
            let builder = match line {
                Line::Limit => builder,
                Line::BusPermit => builder.handler_concurrency(HandlerConcurrency::BusSerial),
                Line::GlobalPermit => builder.handler_concurrency(HandlerConcurrency::GlobalSerial),
                Line::GlobalTurn => builder.event_concurrency(EventConcurrency::GlobalSerial),
            };
            let bus = builder.build().unwrap();
            let options = HandlerOptions::new();
            let options = || if line == Line::Limit { options.clone().limit(limit.clone()) } else { options.clone() };
            let (closed, at_it) = (gate.clone(), started.clone());
            bus.on_with(options(), move |_: &Event<Blocker>| {
                at_it.open();
                closed.wait();
            });
            let (to, name) = (ran.clone(), (*name).to_owned());
            bus.on_with(options(), move |job: &Event<Job>| to.push(format!("{name}{}", job.n)));
            bus
        })
        .collect();
    buses[0].emit(Blocker);
    started.wait();
    let _open = gate.opener();
    Held { buses, gate, ran, _open }
}

impl Held {
    /// Emits one, and has it stand in line before the next is emitted.
    fn emit(&self, bus: usize, n: usize, level: u8) -> Event<Job> {
        let bus = &self.buses[bus];
        let before = bus.metrics().waiting as u64 + bus.metrics().dropped;
        let event = bus.emit_with(Job { n }, at(level));
        if bus.options().event_concurrency == EventConcurrency::Parallel {
            // What it has made room for waits no more.
            eventually(|| {
                let metrics = bus.metrics();
                let counts = metrics.queued == 0 && metrics.waiting as u64 + metrics.dropped == before + 1;
                // Only the thread at the gate: all others have left theirs in line.
                counts && bus.runtime().stats().busy == 1
            });
        }
        event
    }

    fn release(&self) -> Vec<String> {
        self.gate.open();
        self.buses.iter().for_each(idle);
        self.ran.entries()
    }
}

#[test]
fn in_every_line_the_highest_priority_is_next() {
    for line in LINES {
        let held = held(line, &["a"], |builder| builder);
        for (n, level) in [5, 5, 0, 10, 5, 8, 10].into_iter().enumerate() {
            held.emit(0, n, level);
        }
        assert_eq!(held.release(), ["a3", "a6", "a5", "a0", "a1", "a4", "a2"], "{line:?}");
    }
}

#[test]
fn buses_share_a_line_by_priority_and_then_by_turns() {
    for line in [Line::Limit, Line::GlobalPermit] {
        let held = held(line, &["a", "b", "c"], |builder| builder);
        for (bus, count) in [(0, 4), (1, 2), (2, 1)] {
            (0..count).for_each(|n| drop(held.emit(bus, n, 5)));
        }
        held.emit(1, 8, 2);
        held.emit(2, 9, 10);
        assert_eq!(held.release(), ["c9", "a0", "b0", "c0", "a1", "b1", "a2", "a3", "b8"], "{line:?}");
    }
}

#[test]
fn a_global_turn_goes_to_the_bus_with_the_highest_priority() {
    let held = held(Line::GlobalTurn, &["a", "b", "c"], |builder| builder);
    for (bus, n, level) in [(0, 0, 5), (1, 0, 5), (2, 0, 2), (2, 1, 8)] {
        held.emit(bus, n, level);
    }
    let stands = |bus: &EventBus| format!("{bus:?}").contains("in the global line: true");
    eventually(|| held.buses[1..].iter().all(stands));
    held.emit(2, 2, 10);
    assert_eq!(held.release(), ["c2", "c1", "b0", "a0", "c0"]);
}

#[test]
fn a_bus_shares_its_turns_in_a_line_by_its_own_fairness() {
    for line in [Line::Limit, Line::BusPermit, Line::GlobalPermit] {
        let held = held(line, &["a"], |builder| builder.fairness(WEIGHTED));
        for n in 0..6 {
            [1, 5, 9].into_iter().for_each(|level| drop(held.emit(0, usize::from(level) * 10 + n, level)));
        }
        let first: Vec<String> = held.release().into_iter().take(6).collect();
        let of = |level: &str| first.iter().filter(|name| name.starts_with(level)).count();
        assert_eq!([of("a9"), of("a5"), of("a1")], [3, 2, 1], "{line:?}: {first:?}");
    }
}

#[test]
fn who_leaves_a_line_is_not_waited_for() {
    for line in LINES {
        let held = held(line, &["a"], |builder| builder);
        let events: Vec<_> = (0..6).map(|n| held.emit(0, n, 5)).collect();
        for n in [0, 3, 5] {
            assert!(events[n].cancel());
        }
        assert_eq!(held.release(), ["a1", "a2", "a4"], "{line:?}");
    }
}

#[test]
fn what_waits_counts_against_the_capacity() {
    for line in [Line::Limit, Line::BusPermit, Line::GlobalPermit] {
        let held = held(line, &["a"], |builder| builder.queue_capacity(10, OnFull::Reject));
        let bus = &held.buses[0];
        (0..10).for_each(|n| drop(held.emit(0, n, 5)));
        for _ in 0..100 {
            let refused = bus.try_emit(Job { n: 10 }).map(drop).unwrap_err().error;
            assert_eq!(refused, EmitError::QueueFull { bus: bus.label().to_owned(), capacity: 10 }, "{line:?}");
        }
        let metrics = bus.metrics();
        assert_eq!((metrics.queued, metrics.waiting, metrics.in_flight), (0, 10, 11), "{line:?}");
        assert_eq!((bus.pending(), metrics.utilization), (0, 1.0));
        assert_eq!(bus.health(&HealthLimits::default()).status, HealthStatus::Unhealthy);
        held.release();
        let metrics = bus.metrics();
        assert_eq!((metrics.waiting, metrics.utilization, metrics.completed), (0, 0.0, 11), "{line:?}");
        assert_eq!(metrics.queue_time.count, 11);
        assert!(bus.try_emit(Job { n: 11 }).is_ok());
    }
}

#[test]
fn a_status_stays_and_the_time_in_line_is_queue_time() {
    let held = held(Line::Limit, &["a"], |builder| builder);
    let event = held.emit(0, 0, 5);
    assert_eq!((event.status(), held.buses[0].metrics().queue_time.count), (EventStatus::Pending, 1));
    assert!(event.wait_timeout(50 * MS).is_err());
    held.release();
    let times = held.buses[0].metrics().queue_time;
    assert!(times.count == 2 && times.max >= 50 * MS, "{times:?}");
}

#[test]
fn an_emitter_that_blocks_goes_on_when_something_starts() {
    let held = held(Line::Limit, &["a"], |builder| builder.queue_capacity(3, OnFull::Block));
    (0..3).for_each(|n| drop(held.emit(0, n, 5)));
    let (bus, gate) = (held.buses[0].clone(), held.gate.clone());
    within(PATIENCE, move || {
        let emitter = std::thread::spawn({
            let bus = bus.clone();
            move || (3..50).for_each(|n| drop(bus.emit(Job { n })))
        });
        gate.open();
        emitter.join().unwrap();
        idle(&bus);
    });
    assert_eq!(held.ran.len(), 50);
}

#[test]
fn a_full_queue_drops_the_lowest_and_oldest_that_waits() {
    for line in [Line::Limit, Line::BusPermit, Line::GlobalPermit] {
        let held = held(line, &["a"], |builder| builder.queue_capacity(4, OnFull::DropOldest));
        let events: Vec<_> = [5, 2, 5, 2].into_iter().enumerate().map(|(n, level)| held.emit(0, n, level)).collect();
        held.emit(0, 4, 5);
        assert_eq!(events[1].status(), EventStatus::Completed, "{line:?}");
        held.emit(0, 5, 8);
        held.emit(0, 6, 8);
        let low = held.buses[0].try_emit_with(Job { n: 7 }, at(0));
        assert!(low.is_err(), "{line:?}: below all that waits");
        assert_eq!(held.buses[0].metrics().dropped, 3);
        assert_eq!(held.release(), ["a5", "a6", "a2", "a4"], "{line:?}");
    }
}

#[test]
fn what_has_had_an_attempt_is_never_dropped() {
    let bus = parallel("Tried").queue_capacity(2, OnFull::DropOldest).build().unwrap();
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let patient = HandlerOptions::new().retry(Retry::attempts(2).delay(Duration::from_secs(3600)));
    bus.on_with(patient, move |_: &Event<Job>| {
        count.fetch_add(1, SeqCst);
        Err::<(), _>("not yet")
    });
    let first = [0, 1].map(|n| bus.emit(Job { n }));
    eventually(|| tries.load(SeqCst) == 2 && bus.metrics().waiting == 2);
    let Err(refused) = bus.try_emit_with(Job { n: 2 }, at(10)) else { panic!("both have had an attempt") };
    assert!(matches!(refused.error, EmitError::QueueFull { .. }));
    assert!(first.iter().all(|event| !event.is_completed()));
    within(PATIENCE, move || bus.shutdown(Shutdown::Drain, PATIENCE));
    assert!(first.iter().all(Event::is_completed));
}

#[test]
fn nothing_waits_after_an_end_from_outside() {
    for line in [Line::Limit, Line::BusPermit, Line::GlobalPermit] {
        let held = held(line, &["a"], |builder| builder.queue_capacity(100, OnFull::DropOldest));
        let events: Vec<_> = (0..4).map(|n| held.emit(0, n, 5)).collect();
        let bus = &held.buses[0];
        assert_eq!(bus.metrics().waiting, 4);
        assert!(events.iter().all(|event| event.cancel()));
        assert_eq!(bus.metrics().waiting, 0, "{line:?}");
        let event = bus.emit_with(Job { n: 9 }, EventOptions::new().timeout(20 * MS));
        assert!(matches!(event.wait(), Err(WaitError::Cancelled)), "{line:?}");
        eventually(|| bus.metrics().waiting == 0);
        held.release();
    }
}

#[test]
fn an_acquire_timeout_ends_a_wait() {
    let held = held(Line::Limit, &["a"], |builder| builder.queue_capacity(1, OnFull::Reject));
    let bus = &held.buses[0];
    let other = Limit::new(1);
    payload!(Other);
    let (gate, started) = (Gate::new(), Gate::new());
    let (closed, at_it, _open) = (gate.clone(), started.clone(), gate.opener());
    bus.on_with(HandlerOptions::new().limit(other.clone().acquire_timeout(30 * MS)), move |_: &Event<Other>| {
        at_it.open();
        closed.wait();
    });
    bus.emit(Other);
    started.wait();
    let late = bus.emit(Other);
    assert!(!matches!(late.wait(), Err(WaitError::Rejected(_))));
    assert_eq!(bus.metrics().waiting, 0);
    assert!(bus.try_emit(Job { n: 1 }).is_ok());
}

/// A parallel bus with handlers that stand at a gate, and how many there were at most.
fn bounded(max: usize, priority: impl Fn(usize) -> u8) -> (EventBus, Gate, Log, Vec<Event<Job>>) {
    let bus = parallel("Bounded").max_in_flight(max).build().unwrap();
    let (gate, ran) = (Gate::new(), Log::new());
    let (closed, to) = (gate.clone(), ran.clone());
    bus.on(move |job: &Event<Job>| {
        to.push(job.n);
        closed.wait();
    });
    let events = (0..30).map(|n| bus.emit_with(Job { n }, at(priority(n)))).collect();
    (bus, gate, ran, events)
}

#[test]
fn no_more_start_than_may_be_in_flight_and_none_is_refused() {
    for max in [1, 3] {
        let (bus, gate, ran, events) = bounded(max, |_| 5);
        let _open = gate.opener();
        eventually(|| ran.len() == max);
        let metrics = bus.metrics();
        assert_eq!((metrics.in_flight, metrics.queued, metrics.rejected), (max, 30 - max, 0));
        within(PATIENCE, move || {
            gate.open();
            idle(&bus);
            assert_eq!(bus.metrics().completed, 30);
        });
        assert!(events.iter().all(Event::is_completed) && ran.len() == 30);
    }
}

#[test]
fn what_is_above_the_bound_starts_by_priority() {
    let (bus, gate, ran, _events) = bounded(1, |n| if n == 29 { 10 } else { 5 });
    let _open = gate.opener();
    eventually(|| ran.len() == 1);
    gate.open();
    idle(&bus);
    let ran = ran.entries();
    assert!(ran[..2].contains(&"29".to_owned()), "{ran:?}");
}

#[test]
fn a_bound_of_one_lets_a_handler_wait_for_its_own_bus() {
    payload!(Parent { in_order: bool });
    for in_order in [false, true] {
        let bus = parallel("Nested").max_in_flight(1).build().unwrap();
        bus.on(|_: &Event<Job>| {});
        bus.on(|parent: &Event<Parent>| {
            let child = parent.bus().emit(Job { n: 0 });
            if parent.in_order { child.wait_in_order().map(drop) } else { child.wait().map(drop) }
        });
        within(PATIENCE, move || {
            let events: Vec<_> = (0..20).map(|_| bus.emit(Parent { in_order })).collect();
            idle(&bus);
            assert!(events.iter().all(|event| event.errors().is_empty()), "in order: {in_order}");
        });
    }
}

#[test]
fn what_stands_in_a_line_is_in_flight() {
    let held = held(Line::Limit, &["a"], |builder| builder.max_in_flight(3));
    let bus = &held.buses[0];
    (0..10).for_each(|n| drop(bus.emit(Job { n })));
    eventually(|| bus.metrics().waiting == 2);
    bus.emit_with(Job { n: 10 }, at(10));
    let metrics = bus.metrics();
    assert_eq!((metrics.in_flight, metrics.queued), (3, 9));
    let ran = held.release();
    // The two in the line may have run before a thread comes for what is queued; that one takes the urgent event first.
    assert!(ran.len() == 11 && ran[1..4].contains(&"a10".to_owned()), "{ran:?}");
}

#[test]
fn a_cancel_makes_room_in_flight() {
    let (bus, gate, ran, events) = bounded(2, |_| 5);
    let _open = gate.opener();
    eventually(|| ran.len() == 2);
    let running = events.iter().find(|event| event.status() == EventStatus::Started).unwrap();
    assert!(running.cancel());
    eventually(|| ran.len() == 3);
    assert_eq!(bus.metrics().in_flight, 2);
}

/// One thread, at a gate, and buses whose events wait for it.
struct OneThread {
    buses: Vec<EventBus>,
    gate: Gate,
    ran: Log,
    blocked: EventBus,
    _open: GateOpener,
}

fn one_thread(names: &[&str], events: EventConcurrency) -> OneThread {
    let runtime = Runtime::builder().max_threads(1).build().unwrap();
    let (gate, started, ran) = (Gate::new(), Gate::new(), Log::new());
    let blocked = EventBus::builder("blocked").runtime(&runtime).build().unwrap();
    let (closed, at_it) = (gate.clone(), started.clone());
    blocked.on(move |_: &Event<Blocker>| {
        at_it.open();
        closed.wait();
    });
    let buses = names
        .iter()
        .map(|name| {
            let bus = EventBus::builder(name).runtime(&runtime).event_concurrency(events).build().unwrap();
            let (to, name) = (ran.clone(), (*name).to_owned());
            bus.on(move |job: &Event<Job>| to.push(format!("{name}{}", job.n)));
            bus
        })
        .collect();
    blocked.emit(Blocker);
    started.wait();
    let _open = gate.opener();
    OneThread { buses, gate, ran, blocked, _open }
}

impl OneThread {
    fn run(&self, events: &[(usize, usize, u8)]) -> Vec<String> {
        for (bus, n, level) in events {
            self.buses[*bus].emit_with(Job { n: *n }, at(*level));
        }
        self.gate.open();
        idle(&self.blocked);
        self.buses.iter().for_each(idle);
        self.ran.entries()
    }
}

#[test]
fn buses_get_threads_by_the_priority_of_what_they_have() {
    for events in [EventConcurrency::BusSerial, EventConcurrency::Parallel] {
        let one = one_thread(&["a", "b", "c"], events);
        assert_eq!(one.run(&[(0, 0, 5), (1, 0, 2), (2, 0, 9)]), ["c0", "a0", "b0"], "{events:?}");
        // What comes later counts, too.
        let one = one_thread(&["a", "b"], events);
        assert_eq!(one.run(&[(0, 0, 5), (1, 0, 5), (1, 1, 10)])[0], "b1", "{events:?}");
        let one = one_thread(&["a", "b"], events);
        assert_eq!(one.run(&[(0, 0, 2), (1, 0, 2), (1, 1, 5)])[0], "b1", "{events:?}");
        let one = one_thread(&["a"], events);
        assert_eq!(one.run(&[(0, 0, 5), (0, 1, 0), (0, 2, 10), (0, 3, 5)]), ["a2", "a0", "a3", "a1"], "{events:?}");
    }
}

#[test]
fn a_flood_of_critical_events_leaves_others_threads() {
    for events in [EventConcurrency::BusSerial, EventConcurrency::Parallel] {
        let one = one_thread(&["flood", "low"], events);
        let over = Gate::new();
        let done = over.clone();
        one.buses[0].on(move |job: &Event<Job>| {
            std::thread::sleep(MS);
            if !done.is_open() {
                job.bus().emit_with(Job { n: 0 }, EventOptions::new().priority(Priority::CRITICAL).detached());
            }
        });
        for _ in 0..4 {
            one.buses[0].emit_with(Job { n: 0 }, at(10));
        }
        let low = one.buses[1].clone();
        one.gate.open();
        within(PATIENCE, move || {
            for n in 0..20 {
                low.emit_with(Job { n }, at(0)).wait().unwrap();
            }
        });
        over.open();
        one.buses.iter().for_each(idle);
    }
}
