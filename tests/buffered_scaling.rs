//! Conformance, buffered.md BJ-26, BJ-60 to BJ-70, BJ-80, BJ-82 and BJ-90 to BJ-92: more and fewer threads, draining, rates.

mod common;

use common::{Gate, Gauge, Log, PATIENCE, clean, done, eventually, idle, payload, process_status, stands, within};
use std::thread;
use std::time::{Duration, Instant};
use threadbus::{
    Event, EventBus, EventConcurrency, EventStatus, HandlerConcurrency, HandlerOptions, OnFull, Retry, Runtime,
    Shutdown,
};

payload!(Job { n: usize });
payload!(Other);
payload!(Ask { n: usize } => String);
payload!(Heavy { bytes: Vec<u8> });

const MS: Duration = Duration::from_millis(1);

fn workers(threads: usize) -> Runtime {
    Runtime::builder().max_threads(threads).keep_alive(200 * MS).build().unwrap()
}

fn parallel(runtime: &Runtime, name: &str) -> EventBus {
    EventBus::builder(name)
        .runtime(runtime)
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .unwrap()
}

/// Jobs that end only when `parties` of them run at once.
fn meets(bus: &EventBus, parties: usize) {
    let (gauge, met) = (Gauge::new(), Gate::new());
    bus.on(move |_: &Event<Job>| {
        if gauge.enter() == parties {
            met.open();
        }
        met.wait();
    });
}

fn emit(bus: &EventBus, jobs: usize) -> Vec<Event<Job>> {
    (0..jobs).map(|n| bus.emit(Job { n })).collect()
}

#[test]
fn bj_026_retries_are_attempts_beyond_the_first() {
    let bus = EventBus::new("Bj026");
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(4)), |_: &Event<Job>| -> Result<(), &'static str> {
        Err("never")
    });
    let event = done(&bus.emit(Job { n: 1 }));
    idle(&bus);
    let metrics = bus.metrics();
    assert_eq!((metrics.retries, metrics.failed, metrics.recovered), (3, 1, 0));
    assert_eq!(event.results()[0].attempts, 4);
}

#[test]
fn bj_060_more_threads_run_more_at_once() {
    let runtime = workers(2);
    let bus = parallel(&runtime, "Bj060");
    meets(&bus, 8);
    runtime.set_max_threads(8).unwrap();
    emit(&bus, 8).iter().for_each(clean);
    assert_eq!(runtime.stats().max_threads, 8);
}

#[test]
fn bj_060b_what_is_queued_already_gets_the_new_threads() {
    let runtime = workers(2);
    let bus = parallel(&runtime, "Bj060b");
    meets(&bus, 8);
    let events = emit(&bus, 8);
    eventually(|| runtime.stats().busy == 2);
    assert!(events.iter().all(|event| !event.is_completed()));
    runtime.set_max_threads(8).unwrap();
    events.iter().for_each(clean);
}

#[test]
fn bj_061_fewer_threads_lose_nothing() {
    let runtime = workers(8);
    let bus = parallel(&runtime, "Bj061");
    let (started, gate, late) = (Gauge::new(), Gate::new(), Gauge::new());
    let _open = gate.opener();
    bus.on({
        let (started, gate) = (started.clone(), gate.clone());
        move |_: &Event<Job>| {
            started.enter();
            gate.wait();
        }
    });
    bus.on({
        let late = late.clone();
        move |_: &Event<Other>| {
            late.enter();
            common::linger();
            late.leave();
        }
    });
    let events = emit(&bus, 1000);
    eventually(|| started.peak() == 8);
    runtime.set_max_threads(2).unwrap();
    gate.open();
    events.iter().for_each(clean);
    eventually(|| runtime.stats().threads <= 2);
    assert_eq!(runtime.stats().max_threads, 2);
    let others: Vec<_> = (0..200).map(|_| bus.emit(Other)).collect();
    others.iter().for_each(clean);
    assert!((1..=2).contains(&late.peak()), "{}", late.peak());
}

/// Two run, one more may not begin when the first ends, since there is only one thread to be by now.
fn the_next_waits_for_the_second(runtime: &Runtime, buses: [&EventBus; 2]) {
    let (running, gates) = (Gauge::new(), [Gate::new(), Gate::new(), Gate::new()]);
    let _open: Vec<_> = gates.iter().map(Gate::opener).collect();
    for bus in if buses[0].id() == buses[1].id() { &buses[..1] } else { &buses[..] } {
        let (running, gates) = (running.clone(), gates.clone());
        bus.on(move |job: &Event<Job>| {
            running.enter();
            gates[job.n].wait();
            running.leave();
        });
    }
    let [first, second] = [0, 1].map(|n| buses[n].emit(Job { n }));
    eventually(|| running.peak() == 2);
    runtime.set_max_threads(1).unwrap();
    let third = buses[0].emit(Job { n: 2 });
    gates[0].open();
    clean(&first);
    (0..20).for_each(|_| common::linger());
    assert_eq!(third.status(), EventStatus::Pending, "{:?}", runtime.stats());
    gates[1].open();
    clean(&second);
    eventually(|| third.status() == EventStatus::Started);
    gates[2].open();
    clean(&third);
}

#[test]
fn fewer_threads_take_no_further_parallel_event() {
    let runtime = workers(2);
    let bus = parallel(&runtime, "Fewer");
    the_next_waits_for_the_second(&runtime, [&bus, &bus]);
}

#[test]
fn fewer_threads_take_no_further_event_of_a_serial_bus() {
    let runtime = workers(2);
    let buses = ["FewerA", "FewerB"].map(|name| EventBus::builder(name).runtime(&runtime).build().unwrap());
    the_next_waits_for_the_second(&runtime, [&buses[0], &buses[1]]);
}

#[test]
fn bj_062_no_threads_at_all_is_refused() {
    let runtime = workers(3);
    let bus = parallel(&runtime, "Bj062");
    bus.on(|_: &Event<Job>| {});
    clean(&bus.emit(Job { n: 1 }));
    let error = runtime.set_max_threads(0).unwrap_err();
    assert_eq!(error.option, "max_threads", "{error}");
    assert_eq!(runtime.stats().max_threads, 3);
    clean(&bus.emit(Job { n: 2 }));
}

#[test]
fn bj_063_new_threads_know_the_handlers() {
    let runtime = workers(1);
    let bus = parallel(&runtime, "Bj063");
    meets(&bus, 4);
    runtime.set_max_threads(4).unwrap();
    let events = emit(&bus, 100);
    events.iter().for_each(clean);
    assert!(events.iter().all(|event| event.results().len() == 1));
    assert_eq!(bus.metrics().unhandled, 0);
}

#[test]
fn bj_064_who_is_busy_and_who_is_idle() {
    let runtime = Runtime::builder().max_threads(4).keep_alive(6 * PATIENCE).build().unwrap();
    let bus = parallel(&runtime, "Bj064");
    meets(&bus, 4);
    // Threads come on demand: four at once, so that there are four.
    emit(&bus, 4).iter().for_each(clean);
    eventually(|| runtime.stats().idle == 4);
    let gate = Gate::new();
    let (closed, _open) = (gate.clone(), gate.opener());
    bus.on(move |_: &Event<Other>| closed.wait());
    let events = [bus.emit(Other), bus.emit(Other)];
    eventually(|| {
        let stats = runtime.stats();
        (stats.busy, stats.idle, stats.threads) == (2, 2, 4)
    });
    gate.open();
    events.iter().for_each(clean);
    eventually(|| (runtime.stats().busy, runtime.stats().idle) == (0, 4));
}

#[test]
fn bj_070_a_drain_runs_all_that_is_queued() {
    for concurrency in [EventConcurrency::BusSerial, EventConcurrency::Parallel] {
        let bus = EventBus::builder("Bj070").event_concurrency(concurrency).build().unwrap();
        let log = Log::new();
        let to = log.clone();
        bus.on(move |job: &Event<Job>| to.push(job.n));
        bus.pause();
        let events = emit(&bus, 100);
        assert_eq!(bus.pending(), 100);
        let report = within(2 * PATIENCE, {
            let bus = bus.clone();
            move || bus.shutdown(Shutdown::Drain, PATIENCE)
        });
        assert_eq!(log.len(), 100, "before it returned");
        assert_eq!((report.completed, report.cancelled, report.abandoned), (100, 0, 0));
        assert!(events.iter().all(Event::is_completed));
    }
}

fn shout(ask: &Event<Ask>) -> Option<String> {
    (ask.n % 10 != 3).then(|| format!("{}!", ask.n))
}

#[test]
fn bj_080_inline_or_pooled_one_handler_one_outcome() {
    let (inline, pooled) = (EventBus::new("Inline"), EventBus::new("Pooled"));
    inline.on(shout);
    pooled.on(shout);
    for n in 0..100 {
        let (here, there) = (inline.emit_now(Ask { n }), bus_done(&pooled, n));
        assert!(here.is_completed());
        assert_eq!(here.results()[0].value, there.results()[0].value);
        assert_eq!(here.results()[0].value, (n % 10 != 3).then(|| format!("{n}!")));
    }
}

fn bus_done(bus: &EventBus, n: usize) -> Event<Ask> {
    done(&bus.emit(Ask { n }))
}

#[test]
fn bj_082_a_handler_may_come_early_or_late() {
    let (bus, log) = (EventBus::new("Bj082"), Log::new());
    let register = |name: &'static str| {
        let log = log.clone();
        bus.on(move |job: &Event<Job>| log.push(format_args!("{name} {}", job.n)));
    };
    register("early");
    clean(&bus.emit(Job { n: 1 }));
    register("late");
    clean(&bus.emit(Job { n: 2 }));
    assert_eq!(log.entries(), ["early 1", "early 2", "late 2"]);
}

// Rates. What must not be lost is checked in any case; how fast it is depends on the machine, and only the ignored tests measure it:
// `cargo test --release --test buffered_scaling -- --ignored --test-threads=1`.

/// A thousand a second, by the clock; how long the emits took on average.
fn at_rate(bus: &EventBus, total: u32) -> Duration {
    let (start, mut emitting) = (Instant::now(), Duration::ZERO);
    for n in 0..total {
        thread::sleep((start + n * MS).saturating_duration_since(Instant::now()));
        let before = Instant::now();
        bus.emit(Job { n: usize::try_from(n).unwrap() });
        emitting += before.elapsed();
    }
    emitting / total
}

fn nothing_is_lost(bus: &EventBus, total: u64) {
    idle(bus);
    let metrics = bus.metrics();
    assert_eq!((metrics.emitted, metrics.completed, metrics.queued, metrics.in_flight), (total, total, 0, 0));
    assert_eq!((metrics.rejected, metrics.dropped, metrics.failed, metrics.unhandled), (0, 0, 0, 0));
}

#[test]
fn bj_090_a_steady_rate_loses_nothing() {
    let bus = parallel(&workers(5), "Bj090");
    bus.on(|_: &Event<Job>| {});
    at_rate(&bus, 500);
    nothing_is_lost(&bus, 500);
}

#[test]
#[ignore = "measures time: alone, in release"]
fn bj_090b_a_thousand_a_second() {
    let bus = parallel(&workers(5), "Bj090b");
    bus.on(|_: &Event<Job>| {});
    let mean = at_rate(&bus, 5000);
    nothing_is_lost(&bus, 5000);
    let p95 = bus.metrics().queue_time.p95;
    assert!(mean < MS, "{mean:?} per emit");
    assert!(p95 < 100 * MS, "{p95:?} in the queue");
}

/// Five jobs of 5 ms at once; how long all of them took.
fn at_once(bus: &EventBus, jobs: usize) -> Duration {
    let gauge = Gauge::new();
    bus.on({
        let gauge = gauge.clone();
        move |_: &Event<Job>| {
            gauge.enter();
            thread::sleep(5 * MS);
            gauge.leave();
        }
    });
    let start = Instant::now();
    emit(bus, jobs).iter().for_each(clean);
    let took = start.elapsed();
    assert!((1..=5).contains(&gauge.peak()), "{} at once", gauge.peak());
    took
}

#[test]
fn bj_091_a_burst_loses_nothing() {
    let bus = parallel(&workers(5), "Bj091");
    at_once(&bus, 250);
    nothing_is_lost(&bus, 250);
}

#[test]
#[ignore = "measures time: alone, in release"]
fn bj_091b_five_hundred_a_second() {
    let bus = parallel(&workers(5), "Bj091b");
    let took = at_once(&bus, 2500);
    nothing_is_lost(&bus, 2500);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[cfg(target_os = "linux")]
fn resident_kib() -> usize {
    process_status("RssAnon:")
}

/// The other tests of this file run beside it, and hold next to nothing.
#[cfg(target_os = "linux")]
#[test]
fn bj_092_a_full_queue_costs_little_more_than_its_payloads() {
    const CAPACITY: usize = 10_000;
    let bus = EventBus::builder("Bj092").queue_capacity(CAPACITY, OnFull::Reject).build().unwrap();
    let (gate, started) = stands::<Other>(&bus);
    let _open = gate.opener();
    bus.on(|heavy: &Event<Heavy>| assert_eq!(heavy.bytes.len(), 5 * 1024));
    let blocker = bus.emit(Other);
    started.wait();
    let before = resident_kib();
    for _ in 0..CAPACITY {
        assert!(bus.try_emit(Heavy { bytes: vec![1; 5 * 1024] }).is_ok());
    }
    assert!(bus.try_emit(Heavy { bytes: Vec::new() }).is_err(), "full");
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 100_000_000 / 1024, "{grown} KiB");
    gate.open();
    clean(&blocker);
    idle(&bus);
    assert_eq!(bus.metrics().failed, 0);
}
