//! Conformance, buffered.md BJ-02 to BJ-05 and tasks.md BF-31 to BF-34: which of the queued events goes first.

mod common;

use common::{Gate, Log, PATIENCE, done, idle, lock, payload, stands};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threadbus::{Event, EventBus, EventOptions, Fairness, Priority};

payload!(Blocker);
payload!(Job { n: usize });

const WEIGHTED: Fairness = Fairness::Weighted { high: 3, normal: 2, low: 1 };

fn at(level: u8) -> EventOptions {
    EventOptions::new().priority(Priority::new(level).unwrap())
}

/// A bus whose one handler stands at a gate, and what runs after it: level and number.
struct Held {
    bus: EventBus,
    gate: Gate,
    ran: Arc<Mutex<Vec<(u8, usize)>>>,
}

fn held(fairness: Fairness) -> Held {
    let bus = EventBus::builder("Held").fairness(fairness).max_history(Some(1000)).build().unwrap();
    let (gate, started) = stands::<Blocker>(&bus);
    let ran = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&ran);
    bus.on(move |job: &Event<Job>| lock(&to).push((job.priority().level(), job.n)));
    bus.emit(Blocker);
    started.wait();
    Held { bus, gate, ran }
}

impl Held {
    fn release(&self) -> Vec<(u8, usize)> {
        self.gate.open();
        idle(&self.bus);
        lock(&self.ran).clone()
    }
}

#[test]
fn bj_002_weights_share_the_bus() {
    let held = held(WEIGHTED);
    for n in 0..60 {
        for level in [10, 5, 0] {
            held.bus.emit_with(Job { n }, at(level));
        }
    }
    let ran = held.release();
    assert_eq!(ran.len(), 180);
    let of = |level| ran[..60].iter().filter(|(l, _)| *l == level).count();
    assert_eq!([of(10), of(5), of(0)], [30, 20, 10]);
}

#[test]
fn bj_002b_parallel_events_share_it_too() {
    // One at a time all the same, by the runtime's only thread.
    let runtime = threadbus::Runtime::builder().max_threads(1).build().unwrap();
    let bus = EventBus::builder("Parallel")
        .runtime(&runtime)
        .event_concurrency(threadbus::EventConcurrency::Parallel)
        .handler_concurrency(threadbus::HandlerConcurrency::Parallel)
        .fairness(WEIGHTED)
        .build()
        .unwrap();
    let ran = Log::new();
    let to = ran.clone();
    bus.on(move |job: &Event<Job>| to.push(job.priority().level()));
    bus.pause();
    for n in 0..12 {
        for level in [9, 4, 3] {
            bus.emit_with(Job { n }, at(level));
        }
    }
    bus.resume();
    idle(&bus);
    let first = &ran.entries()[..12];
    let of = |level: &str| first.iter().filter(|l| *l == level).count();
    assert_eq!([of("9"), of("4"), of("3")], [6, 4, 2]);
}

#[test]
fn bj_002c_what_was_cancelled_in_the_queue_costs_its_band_no_turn() {
    let held = held(WEIGHTED);
    let high: Vec<_> = (0..60).map(|n| held.bus.emit_with(Job { n }, at(9))).collect();
    high[..40].iter().for_each(|event| assert!(event.cancel()));
    for n in 0..60 {
        held.bus.emit_with(Job { n }, at(5));
        held.bus.emit_with(Job { n }, at(1));
    }
    let ran = held.release();
    let of = |level| ran[..12].iter().filter(|(l, _)| *l == level).count();
    assert_eq!([of(9), of(5), of(1)], [6, 4, 2]);
}

#[test]
fn bj_003_endless_critical_events_do_not_starve_a_low_one() {
    let bus = EventBus::builder("Endless").fairness(WEIGHTED).build().unwrap();
    let (low_ran, handled) = (Gate::new(), Arc::new(Mutex::new(0_usize)));
    let (stop, count, queued) = (low_ran.clone(), Arc::clone(&handled), Gate::new());
    let is_queued = queued.clone();
    bus.on(move |job: &Event<Job>| {
        if job.priority() == Priority::LOWEST {
            stop.open();
        } else if !stop.is_open() {
            job.bus().emit_with(Job { n: job.n + 1 }, at(10).detached());
        }
        *lock(&count) += usize::from(is_queued.is_open() && !stop.is_open());
    });
    bus.emit_with(Job { n: 0 }, at(10));
    common::eventually(|| bus.history_len() > 20);
    bus.emit_with(Job { n: 0 }, at(0));
    queued.open();
    assert!(low_ran.wait_for(PATIENCE));
    idle(&bus);
    assert!(*lock(&handled) <= 12, "{} handled before it", *lock(&handled));
}

#[test]
fn bj_004_strict_always_takes_the_highest() {
    let held = held(Fairness::Strict);
    held.bus.emit_with(Job { n: 0 }, at(0));
    for n in 1..=50 {
        held.bus.emit_with(Job { n }, at(10));
    }
    let expected: Vec<_> = (1..=50).map(|n| (10, n)).chain([(0, 0)]).collect();
    assert_eq!(held.release(), expected);
}

#[test]
fn bj_005_weighted_keeps_emit_order_within_band_and_level() {
    let held = held(WEIGHTED);
    for n in 0..88 {
        held.bus.emit_with(Job { n }, at((n % 11) as u8));
    }
    let ran = held.release();
    for level in 0..=10 {
        let own: Vec<_> = ran.iter().filter(|(l, _)| *l == level).map(|(_, n)| *n).collect();
        assert_eq!(own.len(), 8);
        assert!(own.is_sorted(), "level {level}: {own:?}");
    }
    for band in [0..=3, 4..=7, 8..=10] {
        let own: Vec<_> = ran.iter().filter(|(l, _)| band.contains(l)).map(|(l, _)| *l).collect();
        assert!(own.is_sorted_by(|a, b| a >= b), "band {band:?}: {own:?}");
    }
}

#[test]
fn bf_031_equal_priorities_run_in_emit_order() {
    for fairness in [Fairness::Strict, WEIGHTED] {
        let held = held(fairness);
        for n in 0..20 {
            held.bus.emit_with(Job { n }, at(7));
        }
        assert_eq!(held.release(), (0..20).map(|n| (7, n)).collect::<Vec<_>>());
    }
}

#[test]
fn bf_033_a_running_handler_is_not_pre_empted() {
    let held = held(Fairness::Strict);
    let urgent = held.bus.emit_with(Job { n: 1 }, at(10));
    assert!(urgent.wait_timeout(Duration::from_millis(50)).is_err());
    assert!(lock(&held.ran).is_empty());
    held.release();
    done(&urgent);
}

#[test]
fn bf_034_priorities_are_0_to_10() {
    for level in 0..=10 {
        assert_eq!(Priority::new(level).map(Priority::level), Some(level));
    }
    assert_eq!(Priority::new(11), None);
}

#[test]
fn a_jump_outranks_every_priority() {
    let held = held(Fairness::Strict);
    let log = Log::new();
    let (to, bus) = (log.clone(), held.bus.downgrade());
    payload!(Parent);
    held.bus.on(move |_: &Event<Parent>| -> Result<(), threadbus::WaitError> {
        let Some(bus) = bus.upgrade() else { return Ok(()) };
        bus.emit_with(Job { n: 7 }, at(0)).wait()?;
        to.push("parent_end");
        Ok(())
    });
    held.bus.emit_with(Parent, at(10));
    held.bus.emit_with(Job { n: 1 }, at(9));
    assert_eq!(held.release(), [(0, 7), (9, 1)]);
    assert_eq!(log.len(), 1);
}
