//! Whether a bus is well: a pure function of its numbers and of limits.
//!
//! Imports `bus` and `metrics`. Exports [`Health`], [`HealthStatus`], [`HealthLimits`] and [`Alert`], and hangs [`EventBus::health`] on
//! the bus from above.

use crate::bus::{Doors, End, EventBus, Judged};
use crate::metrics::BusMetrics;
use serde::Serialize;
use std::time::Duration;

/// How well a bus is: the worst of its [alerts](Health::alerts).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum HealthStatus {
    /// Nothing is above a limit.
    Healthy,
    /// Something is above its first limit: worth a look.
    Degraded,
    /// Something is above its second limit, or the bus is closed.
    Unhealthy,
}

/// What [`EventBus::health`] found.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    /// The worst of the alerts; healthy without any.
    pub status: HealthStatus,
    /// One for each number above a limit.
    pub alerts: Vec<Alert>,
}

/// One number above a limit.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// How bad this one is: degraded or unhealthy.
    pub status: HealthStatus,
    /// The field of [`HealthLimits`] that it is about, or `closed`.
    pub metric: &'static str,
    /// The number; times in seconds. 1 for `closed`.
    pub value: f64,
    /// The limit that it has reached, in the same unit.
    pub limit: f64,
}

/// From where on a number is bad, each as (degraded from, unhealthy from).
///
/// A limit that is not a number is never reached, and neither is an infinite one.
///
/// ```
/// use threadbus::{EventBus, HealthLimits, HealthStatus};
///
/// let strict = HealthLimits { failure_rate: (0.001, 0.01), ..HealthLimits::default() };
/// let bus = EventBus::new("payments");
/// assert_eq!(bus.health(&strict).status, HealthStatus::Healthy);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct HealthLimits {
    /// Of the queue's capacity, with what waits in other lines. Default 0.7 and 0.9. A queue without bounds is never full.
    pub queue_utilization: (f64, f64),
    /// Failed ones among those that have finished lately: among the last 100, none older than five minutes, and with no alert below 20 of them,
    /// unless [`BusBuilder::health_window`](crate::BusBuilder::health_window) says otherwise. Default 0.05 and 0.10.
    pub failure_rate: (f64, f64),
    /// How long 99 of 100 of the last events were queued at most, over the same window of those that have left the queue. Default 100 ms and 1 s.
    pub queue_time_p99: (Duration, Duration),
    /// Failures kept. Default 100 and 1000.
    pub dead_letters: (usize, usize),
    /// Threads that are still inside a handler of this bus which was given up. Default 1 and 8.
    pub abandoned_threads: (usize, usize),
}

impl Default for HealthLimits {
    fn default() -> Self {
        HealthLimits {
            queue_utilization: (0.7, 0.9),
            failure_rate: (0.05, 0.10),
            queue_time_p99: (Duration::from_millis(100), Duration::from_secs(1)),
            dead_letters: (100, 1000),
            abandoned_threads: (1, 8),
        }
    }
}

impl EventBus {
    /// Its [`metrics`](EventBus::metrics), how its last deliveries went, and threads inside handlers of it that were given up, against limits. A
    /// closed bus is unhealthy.
    ///
    /// It judges by what happened lately, not over the life of the bus: [`BusBuilder::health_window`](crate::BusBuilder::health_window). Until it is
    /// called for the first time a bus notes failures and long times in the queue only, with no price for what goes well; from then on it notes
    /// every delivery.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbus::{EventBus, HealthLimits, HealthStatus, Shutdown};
    ///
    /// let bus = EventBus::new("orders");
    /// assert_eq!(bus.health(&HealthLimits::default()).status, HealthStatus::Healthy);
    /// bus.shutdown(Shutdown::Drain, Duration::from_secs(1));
    /// let health = bus.health(&HealthLimits::default());
    /// assert_eq!((health.status, health.alerts[0].metric), (HealthStatus::Unhealthy, "closed"));
    /// ```
    pub fn health(&self, limits: &HealthLimits) -> Health {
        let closed = self.core().inlet.lock().doors != Doors::Open;
        let core = self.core();
        let (ended, started) = (core.counters.ended(End::Completed), core.counters.claimed());
        let judged = core.recorder.judge(ended, started);
        assess(&self.metrics(), judged, limits, core.abandoned_here(), closed)
    }
}

fn assess(
    metrics: &BusMetrics,
    judged: Judged,
    limits: &HealthLimits,
    abandoned_threads: usize,
    closed: bool,
) -> Health {
    let queue_time_p99 = Duration::from_nanos(judged.queue_time_p99);
    let pair = |(degraded, unhealthy): (usize, usize)| (degraded as f64, unhealthy as f64);
    let seconds = |(degraded, unhealthy): (Duration, Duration)| (degraded.as_secs_f64(), unhealthy.as_secs_f64());
    let alerts: Vec<Alert> = [
        closed.then_some(Alert { status: HealthStatus::Unhealthy, metric: "closed", value: 1.0, limit: 1.0 }),
        reached("queue_utilization", metrics.utilization, limits.queue_utilization),
        reached("failure_rate", judged.failure_rate, limits.failure_rate),
        reached("queue_time_p99", queue_time_p99.as_secs_f64(), seconds(limits.queue_time_p99)),
        reached("dead_letters", metrics.dead_letters as f64, pair(limits.dead_letters)),
        reached("abandoned_threads", abandoned_threads as f64, pair(limits.abandoned_threads)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let status = alerts.iter().map(|alert| alert.status).max().unwrap_or(HealthStatus::Healthy);
    Health { status, alerts }
}

/// What is not a number is never reached and never reaches anything, since no comparison with it holds.
fn reached(metric: &'static str, value: f64, (degraded, unhealthy): (f64, f64)) -> Option<Alert> {
    let found = |status, limit| Some(Alert { status, metric, value, limit });
    if value >= unhealthy && unhealthy.is_finite() {
        found(HealthStatus::Unhealthy, unhealthy)
    } else if value >= degraded && degraded.is_finite() {
        found(HealthStatus::Degraded, degraded)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, and the one alert there is, with other limits at their defaults.
    fn only(metrics: &BusMetrics, abandoned: usize) -> Option<(HealthStatus, &'static str, f64, f64)> {
        alone(assess(metrics, Judged::default(), &HealthLimits::default(), abandoned, false))
    }

    fn alone(health: Health) -> Option<(HealthStatus, &'static str, f64, f64)> {
        assert!(health.alerts.len() <= 1, "{health:?}");
        let alert = health.alerts.first();
        assert_eq!(health.status, alert.map_or(HealthStatus::Healthy, |alert| alert.status));
        alert.map(|alert| (alert.status, alert.metric, alert.value, alert.limit))
    }

    fn judged(judged: Judged) -> Option<(HealthStatus, &'static str, f64, f64)> {
        alone(assess(&BusMetrics::default(), judged, &HealthLimits::default(), 0, false))
    }

    #[test]
    fn an_idle_bus_is_healthy() {
        assert_eq!(only(&BusMetrics::default(), 0), None);
    }

    #[test]
    fn queue_utilization() {
        let of = |utilization| only(&BusMetrics { utilization, ..BusMetrics::default() }, 0);
        assert_eq!(of(0.699), None);
        assert_eq!(of(0.7), Some((HealthStatus::Degraded, "queue_utilization", 0.7, 0.7)));
        assert_eq!(of(0.899), Some((HealthStatus::Degraded, "queue_utilization", 0.899, 0.7)));
        assert_eq!(of(0.9), Some((HealthStatus::Unhealthy, "queue_utilization", 0.9, 0.9)));
        // Emits from handlers go beyond the capacity.
        assert_eq!(of(3.0), Some((HealthStatus::Unhealthy, "queue_utilization", 3.0, 0.9)));
    }

    #[test]
    fn failure_rate() {
        let of = |failure_rate| judged(Judged { failure_rate, ..Judged::default() });
        assert_eq!(of(0.0), None);
        assert_eq!(of(0.04), None);
        assert_eq!(of(0.05), Some((HealthStatus::Degraded, "failure_rate", 0.05, 0.05)));
        assert_eq!(of(0.06), Some((HealthStatus::Degraded, "failure_rate", 0.06, 0.05)));
        assert_eq!(of(0.1), Some((HealthStatus::Unhealthy, "failure_rate", 0.1, 0.1)));
        assert_eq!(of(1.0), Some((HealthStatus::Unhealthy, "failure_rate", 1.0, 0.1)));
    }

    #[test]
    fn queue_time() {
        let of = |p99: u64| judged(Judged { queue_time_p99: p99 * 1_000_000, ..Judged::default() });
        assert_eq!(of(99), None);
        assert_eq!(of(100), Some((HealthStatus::Degraded, "queue_time_p99", 0.1, 0.1)));
        assert_eq!(of(999), Some((HealthStatus::Degraded, "queue_time_p99", 0.999, 0.1)));
        assert_eq!(of(1000), Some((HealthStatus::Unhealthy, "queue_time_p99", 1.0, 1.0)));
        assert_eq!(of(u64::MAX / 1_000_000).map(|alert| alert.0), Some(HealthStatus::Unhealthy));
    }

    #[test]
    fn dead_letters() {
        let of = |dead_letters| only(&BusMetrics { dead_letters, ..BusMetrics::default() }, 0);
        assert_eq!(of(99), None);
        assert_eq!(of(100), Some((HealthStatus::Degraded, "dead_letters", 100.0, 100.0)));
        assert_eq!(of(101), Some((HealthStatus::Degraded, "dead_letters", 101.0, 100.0)));
        assert_eq!(of(1000), Some((HealthStatus::Unhealthy, "dead_letters", 1000.0, 1000.0)));
    }

    #[test]
    fn abandoned_threads() {
        let of = |abandoned| only(&BusMetrics::default(), abandoned);
        assert_eq!(of(1), Some((HealthStatus::Degraded, "abandoned_threads", 1.0, 1.0)));
        assert_eq!(of(7), Some((HealthStatus::Degraded, "abandoned_threads", 7.0, 1.0)));
        assert_eq!(of(8), Some((HealthStatus::Unhealthy, "abandoned_threads", 8.0, 8.0)));
    }

    #[test]
    fn a_closed_bus_is_unhealthy() {
        let health = assess(&BusMetrics::default(), Judged::default(), &HealthLimits::default(), 0, true);
        assert_eq!(health.status, HealthStatus::Unhealthy);
        assert_eq!(health.alerts.len(), 1);
        assert_eq!(health.alerts[0].metric, "closed");
    }

    #[test]
    fn the_worst_alert_decides_and_all_are_told() {
        let metrics = BusMetrics { utilization: 0.75, dead_letters: 200, ..BusMetrics::default() };
        let judged = Judged { failure_rate: 0.2, ..Judged::default() };
        let health = assess(&metrics, judged, &HealthLimits::default(), 0, false);
        assert_eq!(health.status, HealthStatus::Unhealthy);
        let told: Vec<_> = health.alerts.iter().map(|alert| (alert.metric, alert.status)).collect();
        let (degraded, unhealthy) = (HealthStatus::Degraded, HealthStatus::Unhealthy);
        let expected = [("queue_utilization", degraded), ("failure_rate", unhealthy), ("dead_letters", degraded)];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_no_number_alarms_nobody() {
        let (nan, infinite) = (f64::NAN, f64::INFINITY);
        let worst = BusMetrics { utilization: infinite, ..BusMetrics::default() };
        let failing = Judged { failure_rate: 9.0, ..Judged::default() };
        let limits =
            HealthLimits { queue_utilization: (nan, infinite), failure_rate: (nan, nan), ..HealthLimits::default() };
        assert!(assess(&worst, failing, &limits, 0, false).alerts.is_empty());
        let unknown = BusMetrics { utilization: nan, ..BusMetrics::default() };
        assert!(assess(&unknown, Judged::default(), &HealthLimits::default(), 0, false).alerts.is_empty());
        // Limits in the wrong order: the worse answer.
        let crossed = HealthLimits { queue_utilization: (0.9, 0.7), ..HealthLimits::default() };
        let half = BusMetrics { utilization: 0.8, ..BusMetrics::default() };
        assert_eq!(assess(&half, Judged::default(), &crossed, 0, false).status, HealthStatus::Unhealthy);
    }

    #[test]
    fn statuses_are_ordered() {
        assert!(HealthStatus::Healthy < HealthStatus::Degraded && HealthStatus::Degraded < HealthStatus::Unhealthy);
    }
}
