//! What is left behind after a great many events, deep chains, failures and short-lived buses: nothing.
//!
//! Memory is measured from outside, by the process's resident anonymous pages: a counting allocator of our own needs
//! `unsafe`, which the package forbids to its tests too.

mod common;

use common::{Log, PATIENCE, done, eventually, held_bytes, idle, lock, payload, within};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use threadbus::{Event, EventBus, Payload, Runtime, WaitError};

/// How long one soak may take, also in a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);
const MEGABYTE: usize = 1 << 20;

payload!(Deep { n: u32 } => u32);
payload!(Fails);
payload!(Works => u32);
payload!(Many { count: usize });

/// The tests of this file measure the whole process: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    lock(&TURN)
}

/// Lives as long as the payload that holds it.
#[derive(Debug)]
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Alive(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A payload that is counted.
#[derive(Debug)]
struct Counted {
    _alive: Alive,
}
impl Payload for Counted {
    type Output = ();
}

/// The bus is at rest and does its work.
#[track_caller]
fn works_as_before(bus: &EventBus) {
    idle(bus);
    assert!(bus.is_idle() && bus.pending() == 0);
    let event = done(&bus.emit(Works));
    assert_eq!(event.result().expect("a value"), 7);
}

/// A bus with a handler of `Works`.
fn working_bus(name: &str) -> EventBus {
    let bus = EventBus::builder(name).handler_timeout(None).build().expect("a bus");
    bus.on(|_: &Event<Works>| 7_u32);
    bus
}

#[test]
fn a_panic_and_an_error_leave_the_bus_as_it_was() {
    let _alone = alone();
    let bus = working_bus("Soak");
    let log = Log::new();
    bus.on(|_: &Event<Fails>| panic!("expected by the test"));
    bus.on(|_: &Event<Fails>| -> Result<(), String> { Err("expected".to_owned()) });
    bus.on({
        let log = log.clone();
        move |_: &Event<Fails>| log.push("third")
    });
    for round in 1..=100 {
        let event = done(&bus.emit(Fails));
        assert_eq!(event.errors().len(), 2);
        assert_eq!(log.len(), round, "the third handler runs although two before it failed");
        works_as_before(&bus);
    }
}

#[test]
fn a_panic_below_a_wait_leaves_the_bus_as_it_was() {
    let _alone = alone();
    let bus = working_bus("Soak");
    bus.on(|_: &Event<Fails>| panic!("expected by the test"));
    bus.on(|event: &Event<Deep>| -> Result<u32, WaitError> {
        let failed = event.bus().emit(Fails).wait()?;
        assert_eq!(failed.errors().len(), 1);
        assert_eq!(event.n, 0, "expected by the test");
        Ok(0)
    });
    for n in [0, 1, 0] {
        assert_eq!(done(&bus.emit(Deep { n })).errors().len(), n as usize);
        works_as_before(&bus);
    }
}

/// The handler of `n` emits `n - 1` and waits for it; the value counts the levels on the way up.
fn descends(bus: &EventBus) {
    bus.on(|event: &Event<Deep>| -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
        match event.n {
            0 => Ok(0),
            n => Ok(event.bus().emit(Deep { n: n - 1 }).result()? + 1),
        }
    });
}

#[test]
fn ten_thousand_nested_waits_end_well() {
    let _alone = alone();
    within(LIMIT, || {
        let bus = working_bus("Deep");
        descends(&bus);
        let root = bus.emit(Deep { n: 10_000 });
        assert_eq!(root.result().expect("the depth"), 10_000);
        assert_eq!(root.descendants().len(), 10_000);
        drop(root);
        works_as_before(&bus);
        let again = bus.emit(Deep { n: 10_000 });
        assert_eq!(again.result().expect("the depth, once more"), 10_000);
    });
}

#[test]
fn ten_thousand_nested_waits_between_two_buses_end_well() {
    let _alone = alone();
    within(LIMIT, || {
        let buses = [working_bus("DeepA"), working_bus("DeepB")];
        for (from, to) in [(0, 1), (1, 0)] {
            let other = buses[to].downgrade();
            buses[from].on(move |event: &Event<Deep>| -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
                match event.n {
                    0 => Ok(0),
                    n => Ok(other.upgrade().ok_or("gone")?.emit(Deep { n: n - 1 }).result()? + 1),
                }
            });
        }
        assert_eq!(buses[0].emit(Deep { n: 10_000 }).result().expect("the depth"), 10_000);
        buses.iter().for_each(works_as_before);
    });
}

/// Emits and waits `count` times in one handler.
fn emits_many(bus: &EventBus, alive: &Arc<AtomicUsize>) {
    let alive = Arc::clone(alive);
    bus.on(|_: &Event<Counted>| {});
    bus.on(move |event: &Event<Many>| -> Result<(), WaitError> {
        for _ in 0..event.count {
            event.bus().emit(Counted { _alive: Alive::new(&alive) }).wait()?;
        }
        Ok(())
    });
}

#[test]
fn a_million_waits_in_one_handler_keep_memory_flat() {
    let _alone = alone();
    within(LIMIT, || {
        let (few, many) = (100_000, if cfg!(debug_assertions) { 200_000 } else { 1_000_000 });
        let (bus, alive) = (working_bus("Million"), Arc::new(AtomicUsize::new(0)));
        emits_many(&bus, &alive);
        let mut held = Vec::new();
        for count in [few, many] {
            let event = bus.emit(Many { count });
            assert!(event.wait().expect("completed").errors().is_empty());
            held.push(held_bytes());
            let kept = alive.load(Ordering::SeqCst);
            assert!(kept < 5_000, "{kept} of {count} events are still kept");
        }
        let (after_few, after_many) = (held[0], held[1]);
        let grown = after_many.saturating_sub(after_few);
        assert!(grown < MEGABYTE, "{few}: {after_few} bytes, {many}: {after_many} bytes");
        works_as_before(&bus);
        drop(bus);
        eventually(|| alive.load(Ordering::SeqCst) == 0);
    });
}

#[test]
fn ten_thousand_short_lived_buses_leave_nothing_behind() {
    let _alone = alone();
    within(LIMIT, || {
        let runtime = Runtime::builder().keep_alive(Duration::from_millis(100)).build().expect("a runtime");
        let alive = Arc::new(AtomicUsize::new(0));
        let come_and_go = |count: usize| {
            for n in 0..count {
                let bus = EventBus::builder("Short").runtime(&runtime).build().expect("a bus");
                bus.on(|_: &Event<Counted>| {});
                let event = bus.emit(Counted { _alive: Alive::new(&alive) });
                if n.is_multiple_of(2) {
                    event.wait().expect("completed");
                }
            }
            eventually(|| runtime.stats().threads == 0);
            eventually(|| runtime.buses().iter().all(|bus| bus.upgrade().is_none()));
            assert_eq!(alive.load(Ordering::SeqCst), 0, "every event is gone");
            held_bytes()
        };
        let before = come_and_go(2_000);
        let after = come_and_go(10_000);
        assert!(after.saturating_sub(before) < MEGABYTE, "before: {before} bytes, after: {after} bytes");
        let stats = runtime.stats();
        assert_eq!((stats.threads, stats.abandoned, stats.waiting), (0, 0, 0));
        assert!(runtime.buses().is_empty(), "the registry forgets them");
    });
}

#[test]
fn a_cycle_of_forwards_is_dropped_with_the_last_clones() {
    let _alone = alone();
    let alive = Arc::new(AtomicUsize::new(0));
    for used in [false, true] {
        let peers = ["One", "Two", "Three"].map(EventBus::new);
        for (bus, next) in peers.iter().zip(peers.iter().cycle().skip(1)) {
            bus.forward_all_to(next);
            let owned_by_handler = Alive::new(&alive);
            bus.on(move |_: &Event<Counted>| {
                let _ = &owned_by_handler;
            });
        }
        if used {
            let event = done(&peers[0].emit(Counted { _alive: Alive::new(&alive) }));
            assert_eq!(event.path().len(), 3);
        }
        let weak: Vec<_> = peers.iter().map(EventBus::downgrade).collect();
        let second_clone = peers[0].clone();
        let [one, two, three] = peers;
        drop((one, two, three));
        assert!(weak[0].upgrade().is_some(), "a clone is left");
        drop(second_clone);
        eventually(|| weak.iter().all(|bus| bus.upgrade().is_none()));
        eventually(|| alive.load(Ordering::SeqCst) == 0);
    }
}

#[test]
fn an_event_kept_after_its_bus_keeps_no_bus() {
    let _alone = alone();
    let bus = working_bus("Kept");
    let event = done(&bus.emit(Works));
    let weak = bus.downgrade();
    drop(bus);
    eventually(|| weak.upgrade().is_none());
    assert_eq!(event.wait_timeout(PATIENCE).expect("completed").result().expect("its value"), 7);
}
