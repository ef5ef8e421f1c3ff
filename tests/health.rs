//! By what the health of a bus is judged: what happened lately, enough of it, and nothing that is another bus's.

mod common;

use common::{PATIENCE, idle, payload, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use threadbus::*;

payload!(Job { how: u8 });

const MS: Duration = Duration::from_millis(1);
const GOOD: u8 = 0;
const BAD: u8 = 1;
const PERMANENT: u8 = 2;

fn works(builder: BusBuilder) -> EventBus {
    let bus = builder.build().unwrap();
    bus.on(|job: &Event<Job>| -> Result<(), HandlerError> {
        match job.how {
            GOOD => Ok(()),
            BAD => Err("x".into()),
            _ => Err(HandlerError::permanent("never")),
        }
    });
    bus
}

fn emit(bus: &EventBus, how: u8, count: usize) {
    (0..count).for_each(|_| drop(bus.emit(Job { how })));
    idle(bus);
}

/// The rate that there is an alert for; times in the queue are another test's.
fn rate(bus: &EventBus) -> Option<f64> {
    let limits = HealthLimits { queue_time_p99: (PATIENCE, PATIENCE), ..HealthLimits::default() };
    let health = bus.health(&limits);
    assert_eq!(health.status == HealthStatus::Healthy, health.alerts.is_empty());
    health.alerts.iter().find(|alert| alert.metric == "failure_rate").map(|alert| alert.value)
}

#[test]
fn a_bus_is_well_again_after_a_hundred_good_ones() {
    for asked_before in [true, false] {
        for parallel in [false, true] {
            let mut builder = EventBus::builder("Uploads").max_history(Some(10));
            if parallel {
                builder = builder.event_concurrency(EventConcurrency::Parallel);
            }
            let bus = works(builder);
            if asked_before {
                assert_eq!(rate(&bus), None);
            }
            emit(&bus, GOOD, 500);
            emit(&bus, BAD, 20);
            assert_eq!(rate(&bus), Some(0.2));
            emit(&bus, GOOD, 70);
            assert_eq!(rate(&bus), Some(0.2), "still among the last hundred");
            emit(&bus, GOOD, 20);
            assert_eq!(rate(&bus), Some(0.1));
            emit(&bus, GOOD, 10);
            assert_eq!(rate(&bus), None);
        }
    }
}

#[test]
fn who_asks_first_sees_the_last_hundred_all_the_same() {
    let bus = works(EventBus::builder("Late question"));
    emit(&bus, BAD, 50);
    emit(&bus, GOOD, 1000);
    emit(&bus, BAD, 30);
    assert_eq!(rate(&bus), Some(0.3));
    let bus = works(EventBus::builder("Long ago"));
    emit(&bus, BAD, 100);
    emit(&bus, GOOD, 100);
    assert_eq!(rate(&bus), None);
}

#[test]
fn below_twenty_there_is_no_alert_on_failures() {
    let bus = works(EventBus::builder("Few"));
    emit(&bus, BAD, 19);
    assert_eq!(rate(&bus), None);
    emit(&bus, GOOD, 1);
    assert_eq!(rate(&bus), Some(0.95));
    let bus = works(EventBus::builder("Fewer").health_window(HealthWindow::new().at_least(1)));
    emit(&bus, BAD, 1);
    assert_eq!(rate(&bus), Some(1.0));
}

#[test]
fn a_window_can_be_longer_shorter_and_leave_permanent_failures_out() {
    let bus = works(EventBus::builder("Short").health_window(HealthWindow::new().deliveries(10).at_least(10)));
    emit(&bus, BAD, 10);
    assert_eq!(rate(&bus), Some(1.0));
    emit(&bus, GOOD, 10);
    assert_eq!(rate(&bus), None);
    let bus = works(EventBus::builder("Long").health_window(HealthWindow::new().deliveries(1000)));
    emit(&bus, BAD, 100);
    emit(&bus, GOOD, 900);
    assert_eq!(rate(&bus), Some(0.1));
    for (window, expected) in
        [(HealthWindow::new(), Some(0.5)), (HealthWindow::new().leave_out_permanent(), Some(0.25))]
    {
        let bus = works(EventBus::builder("Orders").health_window(window));
        for _ in 0..10 {
            emit(&bus, PERMANENT, 1);
            emit(&bus, GOOD, 2);
            emit(&bus, BAD, 1);
        }
        assert_eq!(rate(&bus), expected);
    }
    for count in [0, 100_001] {
        let refused = EventBus::builder("None").health_window(HealthWindow::new().deliveries(count)).build();
        assert_eq!(refused.unwrap_err().option, "health_window");
    }
}

#[test]
fn what_is_older_than_the_window_counts_no_more() {
    let bus = works(EventBus::builder("Aged").health_window(HealthWindow::new().age(300 * MS)));
    emit(&bus, BAD, 50);
    // On a machine that stands still it may be over already.
    let soon = rate(&bus);
    assert!(soon.is_none_or(|rate| rate == 1.0), "{soon:?}");
    thread::sleep(350 * MS);
    assert_eq!(rate(&bus), None);
    emit(&bus, GOOD, 5);
    assert_eq!(rate(&bus), None, "five are not enough");
}

#[test]
fn cancelled_dropped_and_redriven_deliveries_are_not_judged() {
    let bus = works(EventBus::builder("Others").dead_letters(100).queue_capacity(30, OnFull::DropOldest));
    emit(&bus, GOOD, 25);
    bus.pause();
    (0..60).for_each(|_| drop(bus.emit(Job { how: GOOD })));
    for event in bus.history() {
        event.cancel();
    }
    bus.resume();
    idle(&bus);
    bus.redrive(100);
    assert_eq!(rate(&bus), None);
    emit(&bus, BAD, 5);
    bus.redrive_where(5, |letter| letter.attempts > 0);
    let found = rate(&bus);
    assert!(found.is_some_and(|rate| rate <= 5.0 / 30.0), "{found:?}: five of those that ran");
}

fn queued(bus: &EventBus, count: usize, for_so_long: Duration) {
    bus.pause();
    (0..count).for_each(|_| drop(bus.emit(Job { how: GOOD })));
    thread::sleep(for_so_long);
    bus.resume();
    idle(bus);
}

fn queue_alert(bus: &EventBus, from: Duration) -> bool {
    let limits = HealthLimits { queue_time_p99: (from, PATIENCE), ..HealthLimits::default() };
    bus.health(&limits).alerts.iter().any(|alert| alert.metric == "queue_time_p99")
}

#[test]
fn times_in_the_queue_are_those_of_the_last_ones() {
    for asked_before in [true, false] {
        let bus = works(EventBus::builder("Queued"));
        if asked_before {
            assert!(!queue_alert(&bus, 100 * MS));
        }
        (0..300).for_each(|_| emit(&bus, GOOD, 1));
        queued(&bus, 20, 150 * MS);
        assert!(queue_alert(&bus, 120 * MS));
        (0..90).for_each(|_| emit(&bus, GOOD, 1));
        assert!(queue_alert(&bus, 120 * MS), "ten of the last hundred");
        (0..10).for_each(|_| emit(&bus, GOOD, 1));
        assert!(!queue_alert(&bus, 120 * MS));
        // Once somebody has asked, short times are known as well.
        queued(&bus, 20, 20 * MS);
        assert!(queue_alert(&bus, 15 * MS));
    }
}

#[test]
fn many_threads_may_finish_and_ask_at_once() {
    within(PATIENCE, || {
        let builder = EventBus::builder("Crowd").event_concurrency(EventConcurrency::Parallel);
        let bus = works(builder.handler_concurrency(HandlerConcurrency::Parallel));
        let asked = Arc::new(AtomicU64::new(0));
        thread::scope(|scope| {
            for how in [GOOD, BAD, GOOD] {
                let bus = &bus;
                scope.spawn(move || (0..500).for_each(|_| drop(bus.emit(Job { how }))));
            }
            scope.spawn(|| {
                for _ in 0..200 {
                    assert!(rate(&bus).is_none_or(|rate| rate <= 1.0));
                    asked.fetch_add(1, SeqCst);
                }
            });
        });
        idle(&bus);
        assert_eq!(asked.load(SeqCst), 200);
        emit(&bus, BAD, 200);
        assert_eq!(rate(&bus), Some(1.0));
        emit(&bus, GOOD, 200);
        assert_eq!(rate(&bus), None);
    });
}
