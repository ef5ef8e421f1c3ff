//! Buses of one name are one series in a recorder: its counters are the sums over all of them.

use crate::event::{BusId, BusIdentity};
use crate::sync::Sweep;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};

/// How many counters a bus has.
pub(crate) const COUNTERS: usize = 13;

/// The bus of a snapshot; none for a snapshot that a test made up. All are equal, so that two snapshots are if their numbers are.
#[derive(Default)]
pub(crate) struct Source(Option<(BusId, AssertUnwindSafe<Weak<BusIdentity>>)>);

impl Source {
    pub(crate) fn of(bus: &Arc<BusIdentity>) -> Source {
        Source(Some((bus.id, AssertUnwindSafe(Arc::downgrade(bus)))))
    }

    fn id(&self) -> Option<BusId> {
        self.0.as_ref().map(|(id, _)| *id)
    }

    /// Whether snapshots of the bus may still be published.
    fn is_there(&self) -> bool {
        self.0.as_ref().is_none_or(|(_, bus)| bus.strong_count() > 0)
    }
}

impl Clone for Source {
    fn clone(&self) -> Source {
        Source(self.0.as_ref().map(|(id, bus)| (*id, AssertUnwindSafe(Weak::clone(bus)))))
    }
}

impl PartialEq for Source {
    fn eq(&self, _: &Source) -> bool {
        true
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

/// What was published under one name.
#[derive(Default)]
pub(crate) struct Series {
    /// The sums over all buses of the name, those that are gone included.
    total: [u64; COUNTERS],
    buses: Vec<Published>,
    sweep: Sweep,
}

/// What one bus had when it was published last.
struct Published {
    source: Source,
    counters: [u64; COUNTERS],
}

impl Series {
    /// Adds what the bus has counted since it was published last. A snapshot older than that adds nothing.
    pub(crate) fn add(&mut self, source: &Source, now: [u64; COUNTERS]) {
        let id = source.id();
        let at = self.buses.iter().position(|bus| bus.source.id() == id).unwrap_or_else(|| {
            if self.sweep.is_due(self.buses.len()) {
                self.buses.retain(|bus| bus.source.is_there());
                self.sweep.has_left(self.buses.len());
            }
            self.buses.push(Published { source: source.clone(), counters: [0; COUNTERS] });
            self.buses.len() - 1
        });
        for ((total, last), now) in self.total.iter_mut().zip(&mut self.buses[at].counters).zip(now) {
            *total = total.saturating_add(now.saturating_sub(*last));
            *last = now.max(*last);
        }
    }

    pub(crate) fn total(&self) -> [u64; COUNTERS] {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventBus;

    #[test]
    fn a_bus_that_is_gone_stays_in_the_sum_and_nowhere_else() {
        let mut series = Series::default();
        for n in 1..=1000 {
            let bus = EventBus::new("short");
            series.add(&Source::of(&bus.core().identity), [1; COUNTERS]);
            assert_eq!(series.total(), [n; COUNTERS]);
        }
        assert!(series.buses.len() <= 64, "{}", series.buses.len());
    }

    #[test]
    fn an_older_snapshot_adds_nothing_and_sums_saturate() {
        let (one, other) = (EventBus::new("one"), EventBus::new("one"));
        let [one, other] = [&one, &other].map(|bus| Source::of(&bus.core().identity));
        let mut series = Series::default();
        for (source, counted, total) in [
            (&one, 5, 5),
            (&other, 3, 8),
            (&one, 4, 8),
            (&one, 6, 9),
            (&other, 3, 9),
            (&one, u64::MAX, u64::MAX),
            (&other, 9, u64::MAX),
        ] {
            series.add(source, [counted; COUNTERS]);
            assert_eq!(series.total(), [total; COUNTERS]);
        }
    }

    #[test]
    fn whose_it_is_makes_no_difference_to_a_snapshot() {
        let (one, other) = (EventBus::new("one"), EventBus::new("other"));
        assert_eq!(one.metrics(), other.metrics());
    }
}
