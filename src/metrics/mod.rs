//! The numbers of a bus: what came, what became of it, how long it took.
//!
//! Only reads what the bus counts anyway; nothing here is on an event's way. Imports `sync`, `event` (through `bus`) and `bus`. Exports
//! [`BusMetrics`] and [`LatencySummary`], and hangs [`EventBus::metrics`] on the bus from above. With the feature `metrics` it also
//! hands them to the `metrics` facade.

#[cfg(feature = "metrics")]
mod export;
#[cfg(feature = "metrics")]
mod totals;

use crate::bus::{End, EventBus};
use crate::sync::Counts;
use crate::sys::sync::atomic::Ordering;
use serde::Serialize;
use std::time::Duration;

/// The numbers of one bus at one moment, by [`EventBus::metrics`].
///
/// They count deliveries to this bus: an event that is forwarded counts on each bus where it arrives. A redrive counts nowhere. Counters
/// only grow, and reading changes nothing. When nothing is in progress, `attempts = emitted + rejected`, where attempts are the
/// calls of `emit` and `forward`. Always,
/// `emitted = completed + cancelled + dropped + held + queued + in_flight`.
///
/// ```
/// use threadbus::{Event, EventBus, Payload};
/// struct Job(u32);
/// impl Payload for Job { type Output = (); }
///
/// let bus = EventBus::new("jobs");
/// bus.on(|_: &Event<Job>| {});
/// let batch = bus.batch();
/// batch.extend((0..10).map(Job));
/// batch.wait()?;
/// bus.wait_until_idle()?;
/// let metrics = bus.metrics();
/// assert_eq!((metrics.emitted, metrics.completed, metrics.queued, metrics.in_flight), (10, 10, 0, 0));
/// # Ok::<(), threadbus::WaitError>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BusMetrics {
    /// How many deliveries were taken.
    pub emitted: u64,
    /// How many deliveries are complete: a handler started, or there was none, and all handlers have ended, well or not.
    pub completed: u64,
    /// How many of the completed ones had a handler that failed for good: an error, a panic, a timeout, a wrong type. Being given up for
    /// a reason outside of it (`cancel`, a lost `first`, a parent's timeout, a shutdown) is no failure of a handler.
    pub failed: u64,
    /// How many of the failed ones had a handler's or the event's own timeout pass.
    pub timed_out: u64,
    /// How many ended before any handler started, those that fell out of a full queue apart.
    pub cancelled: u64,
    /// How many were refused, for whatever reason.
    pub rejected: u64,
    /// How many fell out of a full queue, under [`OnFull::DropOldest`](crate::OnFull::DropOldest).
    pub dropped: u64,
    /// How many ran on the emitting thread, under [`OnFull::RunInline`](crate::OnFull::RunInline).
    pub ran_inline: u64,
    /// How many completed without a handler.
    pub unhandled: u64,
    /// How many attempts were made after a handler's first.
    pub retries: u64,
    /// How many handlers succeeded after a failed attempt.
    pub recovered: u64,
    /// How many handlers came back after they had been given up; what they returned was dropped.
    pub late_results: u64,
    /// How many are to come [after](crate::EventOptions::after) events that are not complete.
    pub held: usize,
    /// How many are queued and not started.
    pub queued: usize,
    /// How many are queued by priority: 8 to 10, 4 to 7, 0 to 3.
    pub queued_by_band: [usize; 3],
    /// How many are started and have handlers that have not ended. Children do not count.
    pub in_flight: usize,
    /// How many of `in_flight` have no handler that runs: they are in line for a place under a [`Limit`](crate::Limit), for a worker process or for
    /// the permit of a serial handler, or between two attempts. They count against the queue's capacity, like what is queued.
    pub waiting: usize,
    /// How full the queue is: `queued` and `waiting` as a part of its capacity; 0 if that is not bounded.
    pub utilization: f64,
    /// How many failures are kept.
    pub dead_letters: usize,
    /// How many failures had to go for later ones.
    pub dead_letters_evicted: u64,
    /// The time from the emit, or the forward, to the start of the first handler: queued and waiting.
    pub queue_time: LatencySummary,
    /// The time of each attempt of each handler.
    pub handler_time: LatencySummary,
    /// The bus whose numbers they are.
    #[cfg(feature = "metrics")]
    #[serde(skip)]
    pub(crate) source: totals::Source,
}

/// How long something took, over the life of a bus.
///
/// `count` and `max` are exact, the others within 2 % of the true value.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    /// How many times were measured.
    pub count: u64,
    /// The average. Zero if there is none, as the others.
    pub mean: Duration,
    /// Half of the times are no longer.
    pub p50: Duration,
    /// 95 of 100 times are no longer.
    pub p95: Duration,
    /// 99 of 100 times are no longer.
    pub p99: Duration,
    /// The longest time.
    pub max: Duration,
}

impl LatencySummary {
    fn of(counts: &Counts) -> LatencySummary {
        LatencySummary {
            count: counts.count,
            mean: Duration::from_nanos(counts.mean()),
            p50: Duration::from_nanos(counts.percentile(50)),
            p95: Duration::from_nanos(counts.percentile(95)),
            p99: Duration::from_nanos(counts.percentile(99)),
            max: Duration::from_nanos(counts.max),
        }
    }
}

impl EventBus {
    /// The numbers of the bus at this moment. Never waits for handlers; looks through the queue.
    ///
    /// ```
    /// use threadbus::{EventBus, OnFull, Payload};
    /// struct Job;
    /// impl Payload for Job { type Output = (); }
    ///
    /// let bus = EventBus::builder("jobs").queue_capacity(4, OnFull::Reject).build()?;
    /// bus.pause();
    /// bus.emit(Job);
    /// let metrics = bus.metrics();
    /// assert_eq!((metrics.queued, metrics.queued_by_band, metrics.utilization), (1, [0, 1, 0], 0.25));
    /// # Ok::<(), threadbus::BuildError>(())
    /// ```
    pub fn metrics(&self) -> BusMetrics {
        let core = self.core();
        let (dead_letters, dead_letters_evicted) = {
            let letters = core.dead_letters.lock();
            (letters.len(), letters.evicted())
        };
        let recorded = core.recorder.read();
        let queued_by_band = core.queued_by_band();
        // Read in this order, each number is at least the one before it, so no difference is negative.
        let counters = &core.counters;
        let [completed, cancelled, dropped] =
            [End::Completed, End::Cancelled, End::Dropped].map(|end| counters.ended(end));
        let done = completed + cancelled + dropped;
        let waiting = core.waiting_count();
        let claimed = counters.claimed().max(done);
        let emitted = counters.emitted().max(claimed);
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let held = counters.held().min(emitted - claimed);
        let queued = count(emitted - claimed - held);
        let in_flight = count(claimed - done);
        let waiting = waiting.min(in_flight);
        let occupied = (queued + waiting) as f64;
        BusMetrics {
            emitted,
            completed,
            failed: recorded.failed,
            timed_out: recorded.timed_out,
            cancelled,
            rejected: recorded.rejected,
            dropped,
            ran_inline: recorded.ran_inline,
            unhandled: recorded.unhandled,
            retries: recorded.retries,
            recovered: recorded.recovered,
            late_results: counters.late_results.load(Ordering::Relaxed),
            held: count(held),
            queued,
            queued_by_band,
            in_flight,
            waiting,
            utilization: core.options.queue_capacity.map_or(0.0, |capacity| occupied / capacity as f64),
            dead_letters,
            dead_letters_evicted,
            queue_time: LatencySummary::of(&recorded.queue_time),
            handler_time: LatencySummary::of(&recorded.handler_time),
            #[cfg(feature = "metrics")]
            source: totals::Source::of(&core.identity),
        }
    }
}

#[cfg(all(test, not(threadbus_shuttle)))]
mod tests {
    use super::*;
    use crate::sync::Histogram;

    #[test]
    fn a_summary_of_nothing_is_zero() {
        assert_eq!(LatencySummary::of(&Counts::default()), LatencySummary::default());
    }

    #[test]
    fn a_summary_of_known_times() {
        let histogram = Histogram::default();
        (1..=100).for_each(|ms| histogram.record(ms * 1_000_000, || {}));
        let mut counts = Counts::default();
        histogram.add_to(&mut counts);
        let summary = LatencySummary::of(&counts);
        assert_eq!((summary.count, summary.max), (100, Duration::from_millis(100)));
        let close = |found: Duration, ms: f64| {
            assert!((found.as_secs_f64() * 1000.0 / ms - 1.0).abs() < 0.02, "{found:?} for {ms}")
        };
        close(summary.mean, 50.5);
        close(summary.p50, 50.0);
        close(summary.p95, 95.0);
        close(summary.p99, 99.0);
    }
}
