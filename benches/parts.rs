//! The parts of the bus beside the headline figures, by criterion: `cargo bench --bench parts [-- FILTER]`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};
use threadbus::{Event, EventBus, Middleware, Payload};

/// 64 bytes, as in the headline figures.
struct Tick([u64; 8]);
impl Payload for Tick {
    type Output = ();
}

/// Waits for so many children; returns how long they took.
struct Parent(u64);
impl Payload for Parent {
    type Output = Duration;
}

const EVENTS: u64 = 10_000;

fn tick(n: u64) -> Tick {
    Tick([n; 8])
}

fn handle_tick(tick: &Event<Tick>) {
    black_box(tick.0[0]);
}

fn ticking_bus(name: &str) -> EventBus {
    let bus = EventBus::new(name);
    bus.on(handle_tick);
    bus
}

fn emit_and_idle(bus: &EventBus, events: u64) {
    (0..events).for_each(|n| drop(bus.emit(tick(n))));
    bus.wait_until_idle().expect("outside of handlers");
}

fn emitting(criterion: &mut Criterion) {
    let bus = ticking_bus("emit");
    let mut group = criterion.benchmark_group("emit");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("emit, then idle", |bench| bench.iter(|| emit_and_idle(&bus, EVENTS)));
    group.bench_function("batch of 512, then wait", |bench| {
        bench.iter(|| {
            for _ in 0..EVENTS / 512 {
                let batch = bus.batch();
                batch.extend((0..512).map(tick));
                batch.wait().expect("a live bus");
            }
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("emit().wait()", |bench| bench.iter(|| bus.emit(tick(1)).wait().expect("a live bus")));
    group.finish();
}

/// Measured inside the handler that waits.
fn queue_jump(criterion: &mut Criterion) {
    let bus = ticking_bus("jump");
    bus.on(|parent: &Event<Parent>| {
        let bus = parent.bus();
        let start = Instant::now();
        (0..parent.0).for_each(|n| drop(bus.emit(tick(n)).wait().expect("a child of a live handler")));
        start.elapsed()
    });
    criterion.bench_function("child awaited in a handler", |bench| {
        bench.iter_custom(|children| {
            // In parts, since a parent keeps its children.
            let parts = (0..children).step_by(1000).map(|from| 1000.min(children - from));
            parts.map(|part| bus.emit(Parent(part)).result().expect("a handler that succeeds")).sum()
        });
    });
}

fn finding(criterion: &mut Criterion) {
    const KEPT: u64 = 10_000;
    let bus = EventBus::builder("find").max_history(Some(KEPT as usize)).build().expect("valid options");
    emit_and_idle(&bus, KEPT);
    let mut group = criterion.benchmark_group("find among 10,000");
    for (place, n) in [("the newest", KEPT - 1), ("the oldest", 0)] {
        group.bench_function(BenchmarkId::from_parameter(place), |bench| {
            bench.iter(|| bus.find::<Tick>().filter(|tick| tick.0[0] == black_box(n)).first().expect("one of them"));
        });
    }
    let id = bus.find::<Tick>().first().expect("one of them").id();
    group.bench_function("by id", |bench| bench.iter(|| bus.event(black_box(id)).expect("one of them")));
    group.finish();
}

fn registering(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("on, then off");
    for others in [0, 10, 1_000] {
        let bus = EventBus::new("register");
        (0..others).for_each(|_| drop(bus.on(handle_tick)));
        group.bench_function(BenchmarkId::new("beside handlers", others), |bench| {
            bench.iter(|| assert!(bus.off(&bus.on(handle_tick))));
        });
    }
    group.finish();
}

fn subscribing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("emit and receive");
    group.throughput(Throughput::Elements(EVENTS));
    for readers in [1, 4] {
        let bus = EventBus::new("subscribe");
        let mut subscriptions: Vec<_> = (0..readers).map(|_| bus.subscribe::<Tick>()).collect();
        group.bench_function(BenchmarkId::new("subscriptions", readers), |bench| {
            bench.iter(|| {
                emit_and_idle(&bus, EVENTS);
                for subscription in &mut subscriptions {
                    assert_eq!(subscription.try_iter().count() as u64, EVENTS);
                }
            });
        });
    }
    group.finish();
}

fn forwarding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward to another bus");
    group.throughput(Throughput::Elements(EVENTS));
    let (from, to) = (ticking_bus("from"), ticking_bus("to"));
    from.forward_all_to(&to);
    group.bench_function("emit, then idle", |bench| {
        bench.iter(|| {
            emit_and_idle(&from, EVENTS);
            to.wait_until_idle().expect("outside of handlers");
        });
    });
    group.finish();
}

/// Is told of everything, and does nothing.
struct Idle;
impl Middleware for Idle {}

/// The same program without and with one.
fn middleware(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("middleware");
    group.throughput(Throughput::Elements(EVENTS));
    let with = EventBus::builder("with").middleware(Idle).build().expect("valid options");
    with.on(handle_tick);
    for (which, bus) in [("none", ticking_bus("without")), ("one that does nothing", with)] {
        group.bench_function(BenchmarkId::new("emit, then idle", which), |bench| {
            bench.iter(|| emit_and_idle(&bus, EVENTS));
        });
        group.bench_function(BenchmarkId::new("emit().wait() x 10,000", which), |bench| {
            bench.iter(|| (0..EVENTS).for_each(|n| drop(bus.emit(tick(n)).wait().expect("a live bus"))));
        });
    }
    group.finish();
}

criterion_group!(parts, emitting, queue_jump, finding, registering, subscribing, forwarding, middleware);
criterion_main!(parts);
