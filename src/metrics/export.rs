//! The numbers of a bus for whatever collects those of the whole program: the `metrics` facade.

use crate::metrics::totals::{COUNTERS, Series};
use crate::metrics::{BusMetrics, LatencySummary};
use crate::sys::sync::Mutex;
use metrics::{counter, gauge};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What was published, by name.
static PUBLISHED: LazyLock<Mutex<BTreeMap<String, Series>>> = LazyLock::new(|| Mutex::new(BTreeMap::new()));

impl BusMetrics {
    /// Sets the counters and gauges `threadbus_…` of the recorder that the program has installed for the `metrics` crate; each has the
    /// label `bus`. Call it now and then, or from a recorder's own schedule.
    ///
    /// Counters are named after the fields and end in `_total`. Gauges are `threadbus_queued` (with the label `band`: `high`, `normal`, `low`),
    /// `threadbus_in_flight`, `threadbus_waiting`, `threadbus_utilization`, `threadbus_dead_letters`, and, in seconds and with the label `quantile`
    /// (`0.5`, `0.95`, `0.99`, `1`), `threadbus_queue_time_seconds` and `threadbus_handler_time_seconds`.
    ///
    /// **Buses of one name are one series**: its counters are the sums over all that were published under the name, those that are gone
    /// included, and only grow, whichever is published when. Gauges are those of the bus that was published last: where several at a time
    /// have one name, publish them under names of their own, as [`bus.label()`](crate::EventBus::label). A name that was published is kept, as the
    /// recorder keeps its series.
    ///
    /// Without an installed recorder nothing is set. Needs the feature `metrics`.
    ///
    /// ```
    /// # use threadbus::EventBus;
    /// let bus = EventBus::new("orders");
    /// bus.metrics().publish(bus.name());
    /// ```
    pub fn publish(&self, bus: &str) {
        let counters: [_; COUNTERS] = [
            ("threadbus_emitted_total", self.emitted),
            ("threadbus_completed_total", self.completed),
            ("threadbus_failed_total", self.failed),
            ("threadbus_timed_out_total", self.timed_out),
            ("threadbus_cancelled_total", self.cancelled),
            ("threadbus_rejected_total", self.rejected),
            ("threadbus_dropped_total", self.dropped),
            ("threadbus_ran_inline_total", self.ran_inline),
            ("threadbus_unhandled_total", self.unhandled),
            ("threadbus_retries_total", self.retries),
            ("threadbus_recovered_total", self.recovered),
            ("threadbus_late_results_total", self.late_results),
            ("threadbus_dead_letters_evicted_total", self.dead_letters_evicted),
        ];
        let mut total = {
            let mut published = PUBLISHED.lock();
            let series = published.entry(bus.to_owned()).or_default();
            series.add(&self.source, counters.map(|(_, value)| value));
            series.total()
        };
        loop {
            for ((name, _), total) in counters.iter().zip(total) {
                counter!(*name, "bus" => bus.to_owned()).absolute(total);
            }
            // The recorder is called under no lock, so another thread may have set a lower number since: the total is read once more, and set if
            // it has grown.
            let now = PUBLISHED.lock().get(bus).map_or(total, Series::total);
            if now == total {
                break;
            }
            total = now;
        }
        for (band, queued) in ["high", "normal", "low"].into_iter().zip(self.queued_by_band) {
            gauge!("threadbus_queued", "bus" => bus.to_owned(), "band" => band).set(queued as f64);
        }
        let level = |name: &'static str, value: f64| gauge!(name, "bus" => bus.to_owned()).set(value);
        level("threadbus_held", self.held as f64);
        level("threadbus_in_flight", self.in_flight as f64);
        level("threadbus_waiting", self.waiting as f64);
        level("threadbus_utilization", self.utilization);
        level("threadbus_dead_letters", self.dead_letters as f64);
        publish_times("threadbus_queue_time_seconds", bus, &self.queue_time);
        publish_times("threadbus_handler_time_seconds", bus, &self.handler_time);
    }
}

fn publish_times(name: &'static str, bus: &str, times: &LatencySummary) {
    for (quantile, time) in [("0.5", times.p50), ("0.95", times.p95), ("0.99", times.p99), ("1", times.max)] {
        gauge!(name, "bus" => bus.to_owned(), "quantile" => quantile).set(time.as_secs_f64());
    }
}

#[cfg(all(test, not(threadbus_shuttle)))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{EventBus, Payload};
    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    struct Tick;
    impl Payload for Tick {
        type Output = ();
    }

    type Seen = Arc<Mutex<BTreeMap<String, f64>>>;

    /// A recorder that keeps the last value of each series, by name and labels.
    #[derive(Default)]
    struct Keeping(Seen);
    struct Set(String, Seen);

    impl Set {
        fn set(&self, value: f64) {
            let mut seen = self.1.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            seen.insert(self.0.clone(), value);
        }
    }
    impl CounterFn for Set {
        fn increment(&self, _: u64) {
            panic!("a snapshot sets, it does not add");
        }
        fn absolute(&self, value: u64) {
            self.set(value as f64);
        }
    }
    impl GaugeFn for Set {
        fn increment(&self, _: f64) {
            panic!("a snapshot sets, it does not add");
        }
        fn decrement(&self, _: f64) {
            panic!("a snapshot sets, it does not subtract");
        }
        fn set(&self, value: f64) {
            Set::set(self, value);
        }
    }
    impl Keeping {
        fn of(&self, key: &Key) -> Arc<Set> {
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            Arc::new(Set(format!("{} {}", key.name(), labels.join(" ")), Arc::clone(&self.0)))
        }
    }
    impl Recorder for Keeping {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.of(key))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.of(key))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn a_snapshot_is_published_under_its_names() {
        let recorder = Keeping::default();
        let mut numbers = BusMetrics {
            emitted: 10,
            completed: 7,
            queued_by_band: [1, 0, 2],
            utilization: 0.5,
            ..BusMetrics::default()
        };
        numbers.queue_time.p99 = Duration::from_millis(1500);
        metrics::with_local_recorder(&recorder, || {
            numbers.publish("orders");
            numbers.completed = 8;
            numbers.publish("orders");
        });
        let seen = recorder.0.lock().unwrap();
        let value = |key: &str| seen.get(key).copied();
        assert_eq!(value("threadbus_emitted_total bus=orders"), Some(10.0));
        assert_eq!(value("threadbus_completed_total bus=orders"), Some(8.0));
        assert_eq!(value("threadbus_queued bus=orders band=high"), Some(1.0));
        assert_eq!(value("threadbus_queued bus=orders band=low"), Some(2.0));
        assert_eq!(value("threadbus_utilization bus=orders"), Some(0.5));
        assert_eq!(value("threadbus_queue_time_seconds bus=orders quantile=0.99"), Some(1.5));
        assert_eq!(seen.len(), 13 + 3 + 4 + 8);
    }

    /// Publishes `bus`, and returns what the recorder then has of a counter.
    fn published(recorder: &Keeping, name: &str, bus: &EventBus) -> Option<f64> {
        metrics::with_local_recorder(recorder, || bus.metrics().publish(name));
        recorder
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get(&format!("threadbus_emitted_total bus={name}"))
            .copied()
    }

    #[test]
    fn counters_of_one_name_add_up() {
        let recorder = Keeping::default();
        let (one, other) = (EventBus::new("twins"), EventBus::new("twins"));
        (0..3).for_each(|_| drop(one.emit(Tick)));
        (0..5).for_each(|_| drop(other.emit(Tick)));
        assert_eq!(published(&recorder, "twins", &one), Some(3.0));
        assert_eq!(published(&recorder, "twins", &other), Some(8.0));
        assert_eq!(published(&recorder, "twins", &one), Some(8.0));
        one.emit(Tick);
        assert_eq!(published(&recorder, "twins", &one), Some(9.0));
        // A bus that is gone stays counted, and a later one of its name adds to it.
        drop(one);
        let third = EventBus::new("twins");
        third.emit(Tick);
        assert_eq!(published(&recorder, "twins", &third), Some(10.0));
        // Another name is another series, and another recorder learns the whole.
        assert_eq!(published(&recorder, "third", &third), Some(1.0));
        assert_eq!(published(&Keeping::default(), "twins", &other), Some(10.0));
    }

    #[test]
    fn a_counter_never_ends_below_what_was_counted_whoever_publishes() {
        let recorder = Keeping::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let recorder = Keeping(Arc::clone(&recorder.0));
                scope.spawn(move || {
                    let bus = EventBus::new("crowd");
                    for _ in 0..100 {
                        bus.emit(Tick);
                        published(&recorder, "crowd", &bus);
                    }
                });
            }
        });
        let seen = recorder.0.lock().unwrap();
        assert_eq!(seen.get("threadbus_emitted_total bus=crowd"), Some(&400.0));
    }
}
