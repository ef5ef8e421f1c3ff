//! Long lines before a limit: they start no threads, nothing of the user's holds them up, and all that stands there gets its turn.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, limited, parallel, payload, stands, stands_with, within};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use threadbus::{
    BusBuilder, Event, EventBus, EventConcurrency, EventOptions, EventStatus, HandlerConcurrency, HandlerOptions,
    Limit, OnFull, Payload, Priority, Retry, Runtime, Shutdown,
};

payload!(Job { n: usize });
payload!(Other);
payload!(Start);

const MANY: usize = 2_000;
/// So many more threads than places are there at most: who brings to the line, and who has given a place back and lost its core just then. Three
/// to five where there are cores; where there are none, far fewer than the 512 that a pool has.
const BESIDE: usize = 60;

fn beside(name: &str, with: impl Fn(BusBuilder) -> BusBuilder) -> EventBus {
    let builder = EventBus::builder(name).event_concurrency(EventConcurrency::Parallel).max_history(Some(10));
    with(builder.handler_concurrency(HandlerConcurrency::Parallel)).build().unwrap()
}

fn counts(bus: &EventBus, options: HandlerOptions) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let ran = Arc::clone(&count);
    bus.on_with(options, move |_: &Event<Job>| {
        ran.fetch_add(1, SeqCst);
    });
    count
}

fn emit(bus: &EventBus, count: usize) {
    (0..count).for_each(|n| drop(bus.emit(Job { n })));
}

fn peak(bus: &EventBus) -> usize {
    bus.runtime().stats().peak_threads
}

/// A place that is taken until the gate opens.
fn taken(bus: &EventBus, limit: &Limit) -> Gate {
    let (gate, started) = stands_with::<Start>(bus, limited(limit), ());
    bus.emit(Start);
    started.wait();
    gate
}

#[test]
fn a_line_starts_no_more_threads_than_may_run() {
    for places in [1, 4] {
        let bus = beside("app", |builder| builder.runtime(&Runtime::builder().build().unwrap()));
        let ran = counts(&bus, limited(&Limit::new(places)));
        emit(&bus, MANY);
        idle(&bus);
        assert_eq!(ran.load(SeqCst), MANY);
        assert!(peak(&bus) <= places + BESIDE, "{} threads for {places} places", peak(&bus));
    }
}

#[test]
fn behind_a_place_that_is_taken_a_line_grows_and_shrinks_on_few_threads() {
    let bus = beside("app", |builder| builder.runtime(&Runtime::builder().build().unwrap()));
    let limit = Limit::new(1);
    let ran = counts(&bus, limited(&limit));
    let gate = taken(&bus, &limit);
    let _open = gate.opener();
    emit(&bus, MANY);
    eventually(|| bus.metrics().waiting == MANY && bus.metrics().queued == 0);
    assert!(peak(&bus) <= 1 + BESIDE, "{}", peak(&bus));
    gate.open();
    idle(&bus);
    assert_eq!(ran.load(SeqCst), MANY);
    assert!(peak(&bus) <= 1 + BESIDE, "{}", peak(&bus));
}

#[test]
fn what_a_pause_or_another_bus_has_kept_comes_to_the_line_on_few_threads() {
    let bus = beside("app", |builder| builder.runtime(&Runtime::builder().build().unwrap()));
    let source = beside("source", |builder| builder.runtime(&bus.runtime()));
    source.forward_all_to(&bus);
    let ran = counts(&bus, limited(&Limit::new(2)));
    bus.pause();
    emit(&bus, MANY);
    eventually(|| bus.metrics().queued == MANY);
    let before = peak(&bus);
    bus.resume();
    idle(&bus);
    assert!(peak(&bus) <= before + 2 + BESIDE, "{} after {before}", peak(&bus));
    emit(&source, 50);
    idle(&source);
    idle(&bus);
    assert_eq!(ran.load(SeqCst), MANY + 50);
}

#[test]
fn all_places_are_filled_though_each_handler_waits_for_the_others() {
    const PLACES: usize = 8;
    let bus = parallel("app");
    let all = Arc::new(Barrier::new(PLACES));
    let meets = Arc::clone(&all);
    bus.on_with(limited(&Limit::new(PLACES)), move |_: &Event<Job>| {
        meets.wait();
    });
    within(PATIENCE, move || {
        emit(&bus, 5 * PLACES);
        bus.wait_until_idle().unwrap();
    });
}

#[test]
fn what_has_no_limit_holds_nobody_up_who_has() {
    let bus = parallel("app");
    let (gate, started) = stands::<Other>(&bus);
    let _open = gate.opener();
    let ran = counts(&bus, limited(&Limit::new(1)));
    for n in 0..20 {
        bus.emit(Job { n });
        bus.emit(Other);
    }
    started.wait();
    eventually(|| ran.load(SeqCst) == 20);
    assert!(!gate.is_open());
}

#[test]
fn a_second_handler_without_a_limit_is_run_as_before() {
    for concurrency in [HandlerConcurrency::Parallel, HandlerConcurrency::EventSerial] {
        let bus = beside("app", |builder| builder.handler_concurrency(concurrency));
        let ran = counts(&bus, limited(&Limit::new(1)));
        let also = counts(&bus, HandlerOptions::new());
        let last = counts(&bus, limited(&Limit::new(2)));
        emit(&bus, 200);
        idle(&bus);
        assert_eq!([&ran, &also, &last].map(|count| count.load(SeqCst)), [200; 3], "{concurrency:?}");
    }
}

/// Stands still when it goes, once.
struct Heavy {
    gate: Gate,
}

impl Payload for Heavy {
    type Output = ();
}

impl Drop for Heavy {
    fn drop(&mut self) {
        self.gate.wait();
    }
}

#[test]
fn who_brings_to_the_line_does_not_stand_still_in_a_drop() {
    let bus = beside("app", |builder| builder.max_history(Some(0)));
    let limit = Limit::new(2);
    bus.on_with(limited(&limit), |_: &Event<Heavy>| {});
    let ran = counts(&bus, limited(&limit));
    let gate = Gate::new();
    let _open = gate.opener();
    for n in 0..4 {
        // The last hold of it is a thread's of the bus.
        let (emitter, heavy) = (bus.clone(), Heavy { gate: gate.clone() });
        std::thread::spawn(move || drop(emitter.emit(heavy)));
        emit(&bus, 20);
        eventually(|| ran.load(SeqCst) == 20 * (n + 1));
    }
    assert!(!gate.is_open());
}

#[test]
fn who_waits_in_a_handler_for_what_is_brought_to_the_line_gets_it() {
    for in_order in [false, true] {
        let bus = parallel("app");
        let limit = Limit::new(1);
        bus.on_with(limited(&limit), |_: &Event<Other>| {});
        bus.on_with(limited(&limit), move |job: &Event<Job>| {
            let other = job.bus().emit(Other);
            if in_order { other.wait_in_order().map(drop) } else { other.wait().map(drop) }
        });
        let jobs: Vec<_> = (0..30).map(|n| bus.emit(Job { n })).collect();
        idle(&bus);
        assert!(jobs.iter().all(|job| job.errors().is_empty()), "in order: {in_order}");
    }
}

#[test]
fn a_bound_on_what_is_in_flight_holds_and_all_get_there() {
    for bound in [1, 3] {
        let bus = beside("app", |builder| builder.max_in_flight(bound));
        let ran = counts(&bus, limited(&Limit::new(2)));
        emit(&bus, 300);
        eventually(|| bus.metrics().in_flight <= bound);
        idle(&bus);
        assert_eq!(ran.load(SeqCst), 300);
    }
}

#[test]
fn the_highest_priority_has_the_only_thread_first() {
    let runtime = Runtime::builder().max_threads(1).build().unwrap();
    let bus = beside("app", |builder| builder.runtime(&runtime));
    let log = Log::new();
    let ran = log.clone();
    bus.on_with(limited(&Limit::new(1)), move |job: &Event<Job>| ran.push(job.n));
    let between = beside("between", |builder| builder.runtime(&runtime));
    let ran = log.clone();
    between.on(move |_: &Event<Other>| ran.push("between"));
    let holder = beside("holder", |builder| builder.runtime(&runtime));
    let (gate, started) = stands::<Start>(&holder);
    let _open = gate.opener();
    holder.emit(Start);
    started.wait();
    let at = |level: u8| EventOptions::new().priority(Priority::new(level).unwrap());
    bus.emit_with(Job { n: 1 }, at(1));
    bus.emit_with(Job { n: 2 }, at(1));
    between.emit_with(Other, at(5));
    bus.emit_with(Job { n: 9 }, at(9));
    bus.emit_with(Job { n: 4 }, at(4));
    gate.open();
    idle(&bus);
    idle(&between);
    let order = log.entries();
    assert_eq!(order[0], "9", "{order:?}");
    let of_the_bus: Vec<_> = order.iter().filter(|one| *one != "between").collect();
    assert_eq!(of_the_bus, ["9", "4", "1", "2"]);
}

#[test]
fn what_is_ended_on_its_way_to_the_line_or_in_it_leaves_the_rest_alone() {
    let bus = parallel("app");
    let limit = Limit::new(1);
    let ran = counts(&bus, limited(&limit));
    let gate = taken(&bus, &limit);
    let _open = gate.opener();
    let jobs: Vec<_> = (0..200).map(|n| bus.emit(Job { n })).collect();
    jobs.iter().step_by(2).for_each(|job| assert!(job.cancel()));
    gate.open();
    idle(&bus);
    assert_eq!(ran.load(SeqCst), 100);
    assert!(jobs.iter().all(|job| job.status() == EventStatus::Completed));
}

#[test]
fn handlers_that_are_taken_off_leave_the_line_and_what_comes_later_finds_none() {
    let bus = parallel("app");
    let limit = Limit::new(1);
    let log = Log::new();
    let ran = log.clone();
    let handler = bus.on_with(limited(&limit), move |_: &Event<Job>| ran.push("ran"));
    let gate = taken(&bus, &limit);
    let _open = gate.opener();
    let jobs: Vec<_> = (0..200).map(|n| bus.emit(Job { n })).collect();
    assert!(bus.off(&handler));
    jobs.iter().for_each(|job| drop(done(job)));
    done(&bus.emit(Job { n: 0 }));
    assert!(log.is_empty() && !gate.is_open());
}

#[test]
fn acquire_timeouts_retries_and_full_queues_end_as_ever() {
    let bus = beside("app", |builder| builder.queue_capacity(50, OnFull::Block));
    let limit = Limit::new(1);
    let tries = Arc::new(AtomicUsize::new(0));
    let tried = Arc::clone(&tries);
    let options = limited(&limit).retry(Retry::attempts(2).delay(Duration::ZERO));
    bus.on_with(options, move |job: &Event<Job>| -> Result<(), &'static str> {
        tried.fetch_add(1, SeqCst);
        if job.n.is_multiple_of(2) { Err("even") } else { Ok(()) }
    });
    emit(&bus, 200);
    idle(&bus);
    assert_eq!(tries.load(SeqCst), 300);

    let bus = parallel("impatient");
    let limit = Limit::new(1).acquire_timeout(Duration::ZERO);
    let ran = counts(&bus, limited(&limit));
    let gate = taken(&bus, &limit);
    let _open = gate.opener();
    let jobs: Vec<_> = (0..50).map(|n| bus.emit(Job { n })).collect();
    jobs.iter().for_each(|job| assert_eq!(done(job).errors().len(), 1));
    assert_eq!(ran.load(SeqCst), 0);
}

#[test]
fn a_shutdown_ends_what_is_on_its_way_and_in_the_line() {
    for mode in [Shutdown::Drain, Shutdown::Now] {
        let bus = parallel("app");
        let ran = counts(&bus, limited(&Limit::new(1)));
        let jobs: Vec<_> = (0..500).map(|n| bus.emit(Job { n })).collect();
        let report = bus.shutdown(mode, PATIENCE);
        assert!(jobs.iter().all(Event::is_completed), "{report:?}");
        assert!(mode == Shutdown::Now || ran.load(SeqCst) == 500);
    }
}
