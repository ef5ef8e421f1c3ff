//! Conformance, buffered.md BJ-40 to BJ-54: the numbers of a bus, and what they say of its health.

mod common;

use common::{Gate, PATIENCE, done, eventually, idle, payload, stands};
use std::time::Duration;
use threadbus::{
    Alert, BusMetrics, Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerContext,
    HandlerOptions, HealthLimits, HealthStatus, OnFull, Priority, Retry, Runtime, Shutdown,
};

payload!(Job { good: bool });
payload!(Other);

const MS: Duration = Duration::from_millis(1);

fn works(bus: &EventBus) {
    bus.on(|job: &Event<Job>| if job.good { Ok(()) } else { Err("bad") });
}

fn emit(bus: &EventBus, good: usize, bad: usize) {
    (0..good).for_each(|_| drop(bus.emit(Job { good: true })));
    (0..bad).for_each(|_| drop(bus.emit(Job { good: false })));
}

/// What must hold at every moment; with how many were tried, also that none was lost on the way in.
#[track_caller]
fn conserved(metrics: &BusMetrics, attempts: Option<u64>) {
    let progress = (metrics.queued + metrics.in_flight) as u64;
    assert_eq!(metrics.emitted, metrics.completed + metrics.cancelled + metrics.dropped + progress, "{metrics:?}");
    if let Some(attempts) = attempts {
        assert_eq!(attempts, metrics.emitted + metrics.rejected, "{metrics:?}");
    }
}

fn alerts(bus: &EventBus) -> (HealthStatus, Vec<&'static str>) {
    let health = bus.health(&HealthLimits::default());
    (health.status, health.alerts.iter().map(|alert| alert.metric).collect())
}

#[test]
fn bj_040_counters() {
    let bus = EventBus::builder("Counters").queue_capacity(12, OnFull::Reject).build().unwrap();
    works(&bus);
    bus.pause();
    emit(&bus, 10, 2);
    assert!(bus.try_emit(Job { good: true }).is_err());
    bus.resume();
    idle(&bus);
    let metrics = bus.metrics();
    assert_eq!((metrics.emitted, metrics.completed, metrics.queued, metrics.in_flight), (12, 12, 0, 0));
    conserved(&metrics, None);
}

#[test]
fn bj_040b_failures_and_refusals() {
    let bus = EventBus::builder("Failures").queue_capacity(12, OnFull::Reject).build().unwrap();
    works(&bus);
    bus.pause();
    emit(&bus, 10, 2);
    assert!(bus.try_emit(Job { good: true }).is_err());
    bus.resume();
    idle(&bus);
    let metrics = bus.metrics();
    assert_eq!((metrics.emitted, metrics.completed, metrics.failed, metrics.rejected), (12, 12, 2, 1));
    conserved(&metrics, Some(13));
    bus.shutdown(Shutdown::Now, PATIENCE);
    assert!(bus.try_emit(Job { good: true }).is_err());
    let elsewhere = EventBus::new("Elsewhere").emit(Other);
    assert!(bus.forward(&elsewhere).is_err());
    assert_eq!(bus.metrics().rejected, 3, "closed is refused as well, and so is a forward");
}

#[test]
fn bj_041_depth() {
    let bus = EventBus::builder("Depth").queue_capacity(12, OnFull::Reject).build().unwrap();
    let (gate, started) = stands::<Other>(&bus);
    let _open = gate.opener();
    bus.emit(Other);
    started.wait();
    for priority in
        [Priority::CRITICAL, Priority::NORMAL, Priority::NORMAL, Priority::LOW, Priority::LOW, Priority::LOWEST]
    {
        bus.emit_with(Job { good: true }, EventOptions::new().priority(priority));
    }
    let metrics = bus.metrics();
    assert_eq!((metrics.queued, metrics.queued_by_band, metrics.in_flight), (6, [1, 2, 3], 1));
    assert_eq!(metrics.utilization, 0.5);
    conserved(&metrics, None);
}

#[test]
fn bj_041b_what_was_cancelled_in_the_queue_is_not_queued() {
    let bus = EventBus::new("Cancelled");
    bus.pause();
    let events: Vec<_> = (0..4).map(|_| bus.emit(Job { good: true })).collect();
    events[1].cancel();
    let metrics = bus.metrics();
    assert_eq!((metrics.queued, metrics.queued_by_band, metrics.cancelled), (3, [0, 3, 0], 1));
    conserved(&metrics, None);
    assert_eq!(metrics.utilization, 0.0, "without a capacity");
}

#[test]
fn bj_042_queue_latency() {
    let bus = EventBus::new("Latency");
    works(&bus);
    bus.pause();
    let event = bus.emit(Job { good: true });
    assert!(event.wait_timeout(100 * MS).is_err());
    bus.resume();
    done(&event);
    idle(&bus);
    let metrics = bus.metrics();
    assert_eq!((metrics.queue_time.count, metrics.handler_time.count), (1, 1));
    assert!(metrics.queue_time.max >= 100 * MS && metrics.queue_time.mean > Duration::ZERO);
    assert!(metrics.handler_time.max < metrics.queue_time.max);
    assert!(metrics.queue_time.p50 <= metrics.queue_time.p99 && metrics.queue_time.p99 <= metrics.queue_time.max);
}

#[test]
fn bj_042b_every_attempt_is_timed_whoever_drives() {
    for mode in [HandlerConcurrency::BusSerial, HandlerConcurrency::Parallel] {
        let bus = EventBus::builder("Timed").handler_concurrency(mode).build().unwrap();
        works(&bus);
        works(&bus);
        emit(&bus, 50, 0);
        bus.emit_now(Job { good: true });
        idle(&bus);
        let metrics = bus.metrics();
        assert_eq!((metrics.queue_time.count, metrics.handler_time.count), (51, 102), "{mode:?}");
    }
}

#[test]
fn bj_044_reading_changes_nothing() {
    let bus = EventBus::new("Pure");
    works(&bus);
    assert_eq!(bus.metrics(), BusMetrics::default());
    emit(&bus, 5, 1);
    idle(&bus);
    assert_eq!(bus.metrics(), bus.metrics());
}

#[test]
fn bj_023_and_026_retries_and_recoveries() {
    let bus = EventBus::new("Retries");
    let (three, four) = (Retry::attempts(3), Retry::attempts(4));
    bus.on_with(HandlerOptions::new().retry(three), |_: &Event<Job>| {
        if HandlerContext::current().unwrap().attempt() < 3 { Err("not yet") } else { Ok(()) }
    });
    bus.on_with(HandlerOptions::new().retry(four), |_: &Event<Other>| -> Result<(), &'static str> { Err("never") });
    done(&bus.emit(Job { good: true }));
    idle(&bus);
    let metrics = bus.metrics();
    assert_eq!((metrics.retries, metrics.recovered, metrics.failed), (2, 1, 0));
    done(&bus.emit(Other));
    idle(&bus);
    let metrics = bus.metrics();
    assert_eq!((metrics.retries, metrics.recovered, metrics.failed, metrics.completed), (5, 1, 1, 2));
}

#[test]
fn bj_011_and_014_inline_and_dropped() {
    let inline = EventBus::builder("Inline")
        .queue_capacity(1, OnFull::RunInline)
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .unwrap();
    works(&inline);
    inline.pause();
    emit(&inline, 2, 0);
    assert_eq!(inline.metrics().ran_inline, 1);
    conserved(&inline.metrics(), Some(2));

    let drops = EventBus::builder("Drops").queue_capacity(2, OnFull::DropOldest).build().unwrap();
    drops.pause();
    emit(&drops, 5, 0);
    let metrics = drops.metrics();
    assert_eq!((metrics.dropped, metrics.cancelled, metrics.queued, metrics.rejected), (3, 0, 2, 0));
    let lowest = EventOptions::new().priority(Priority::LOWEST);
    assert!(drops.try_emit_with(Job { good: true }, lowest).is_err());
    conserved(&drops.metrics(), Some(6));
}

#[test]
fn what_ends_without_success_is_told_apart() {
    let bus = EventBus::new("Ends");
    let gate = Gate::new();
    let (closed, _open) = (gate.clone(), gate.opener());
    bus.on(move |_: &Event<Job>| closed.wait());
    let overdue = bus.emit_with(Job { good: true }, EventOptions::new().handler_timeout(20 * MS));
    done(&overdue);
    let capped = bus.emit_with(Job { good: true }, EventOptions::new().timeout(20 * MS));
    done(&capped);
    let cancelled = bus.emit(Job { good: true });
    eventually(|| cancelled.status() == threadbus::EventStatus::Started);
    cancelled.cancel();
    bus.emit(Other);
    idle(&bus);
    let metrics = bus.metrics();
    assert_eq!((metrics.completed, metrics.failed, metrics.timed_out), (4, 2, 2));
    assert_eq!((metrics.cancelled, metrics.unhandled, metrics.late_results), (0, 1, 0));
    conserved(&metrics, Some(4));
    gate.open();
    eventually(|| bus.metrics().late_results == 3);
}

#[test]
fn what_waits_for_a_permit_is_cancelled_and_not_completed() {
    // Two parallel events with serial handlers: both are claimed, and one stands in line for the handler's permit.
    let bus = EventBus::builder("Line").event_concurrency(EventConcurrency::Parallel).build().unwrap();
    let (gate, started) = stands::<Job>(&bus);
    let _open = gate.opener();
    bus.emit(Job { good: true });
    started.wait();
    let second = bus.emit(Job { good: true });
    eventually(|| bus.pending() == 0);
    second.cancel();
    let metrics = bus.metrics();
    assert_eq!((metrics.cancelled, metrics.completed, metrics.in_flight), (1, 0, 1));
    conserved(&metrics, None);
}

#[test]
fn numbers_are_conserved_while_everything_moves() {
    let bus = EventBus::builder("Moves")
        .queue_capacity(8, OnFull::DropOldest)
        .event_concurrency(EventConcurrency::Parallel)
        .build()
        .unwrap();
    works(&bus);
    let emitters: Vec<_> = (0..3)
        .map(|_| {
            let bus = bus.clone();
            std::thread::spawn(move || {
                (0..500).for_each(|n| {
                    let event = bus.emit(Job { good: n % 7 > 0 });
                    if n % 11 == 0 {
                        event.cancel();
                    }
                })
            })
        })
        .collect();
    let mut before = [0; 3];
    while !emitters.iter().all(std::thread::JoinHandle::is_finished) {
        let metrics = bus.metrics();
        conserved(&metrics, None);
        let ends = [metrics.completed, metrics.cancelled, metrics.dropped];
        assert!(ends.iter().zip(&before).all(|(now, before)| now >= before), "{before:?}, then {ends:?}");
        before = ends;
    }
    emitters.into_iter().for_each(|emitter| emitter.join().unwrap());
    idle(&bus);
    let metrics = bus.metrics();
    conserved(&metrics, None);
    assert_eq!((metrics.emitted, metrics.queued, metrics.in_flight), (1500, 0, 0));
}

#[test]
fn bj_050_an_idle_bus_is_healthy() {
    let runtime = Runtime::builder().build().unwrap();
    let bus = EventBus::builder("Idle").runtime(&runtime).build().unwrap();
    assert_eq!(alerts(&bus), (HealthStatus::Healthy, vec![]));
}

#[test]
fn bj_051_a_filling_queue_degrades() {
    let runtime = Runtime::builder().build().unwrap();
    let bus = EventBus::builder("Filling").runtime(&runtime).queue_capacity(100, OnFull::Reject).build().unwrap();
    bus.pause();
    emit(&bus, 75, 0);
    assert_eq!(alerts(&bus), (HealthStatus::Degraded, vec!["queue_utilization"]));
    emit(&bus, 20, 0);
    assert_eq!(alerts(&bus), (HealthStatus::Unhealthy, vec!["queue_utilization"]));
    bus.resume();
    idle(&bus);
    let of_the_queue = |alert: &Alert| alert.metric == "queue_utilization";
    assert!(!bus.health(&HealthLimits::default()).alerts.iter().any(of_the_queue));
}

#[test]
fn bj_052_failures_degrade() {
    let runtime = Runtime::builder().build().unwrap();
    let bus = EventBus::builder("Failing").runtime(&runtime).build().unwrap();
    works(&bus);
    let limits = HealthLimits { queue_time_p99: (PATIENCE, PATIENCE), ..HealthLimits::default() };
    emit(&bus, 94, 6);
    idle(&bus);
    let health = bus.health(&limits);
    assert_eq!(
        (health.status, health.alerts[0].metric, health.alerts[0].value),
        (HealthStatus::Degraded, "failure_rate", 0.06)
    );
    emit(&bus, 0, 6);
    idle(&bus);
    assert_eq!(bus.health(&limits).status, HealthStatus::Unhealthy);
}

#[test]
fn bj_053_dead_letters_degrade() {
    let runtime = Runtime::builder().build().unwrap();
    let bus = EventBus::builder("Letters").runtime(&runtime).dead_letters(1000).build().unwrap();
    works(&bus);
    emit(&bus, 0, 101);
    idle(&bus);
    let health = bus.health(&HealthLimits { failure_rate: (2.0, 2.0), ..HealthLimits::default() });
    let alert = health.alerts.iter().find(|alert| alert.metric == "dead_letters").unwrap();
    assert_eq!((alert.value, alert.limit), (101.0, 100.0));
}

#[test]
fn bj_054_a_closed_bus_is_unhealthy() {
    let runtime = Runtime::builder().build().unwrap();
    let bus = EventBus::builder("Closed").runtime(&runtime).build().unwrap();
    bus.shutdown(Shutdown::Drain, PATIENCE);
    assert_eq!(alerts(&bus), (HealthStatus::Unhealthy, vec!["closed"]));
}

#[test]
fn an_abandoned_thread_degrades_its_own_bus() {
    let runtime = Runtime::builder().build().unwrap();
    let stuck = EventBus::builder("Stuck").runtime(&runtime).handler_timeout(Some(20 * MS)).build().unwrap();
    let other = EventBus::builder("Other").runtime(&runtime).build().unwrap();
    let gate = Gate::new();
    let (closed, _open) = (gate.clone(), gate.opener());
    stuck.on(move |_: &Event<Other>| closed.wait());
    done(&stuck.emit(Other));
    eventually(|| alerts(&stuck) == (HealthStatus::Degraded, vec!["abandoned_threads"]));
    assert_eq!(runtime.stats().abandoned, 1);
    assert_eq!(alerts(&other), (HealthStatus::Healthy, vec![]), "that thread is none of its");
    gate.open();
    eventually(|| alerts(&stuck).0 == HealthStatus::Healthy);
}
