//! A histogram of durations that is recorded without a lock, of fixed precision and small size.
//!
//! Each power of two of nanoseconds is split into 32 buckets, so a bucket is at most 1/32 of its values wide and its middle at most
//! 1.6 % from any of them. A power's buckets come into being when the first value falls there: durations of one kind spread over
//! few powers, so a histogram in use has one to three kB, an unused one two thirds of a kB. Relaxed throughout: it counts, and orders
//! nothing.

use crate::sys::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::OnceLock;

const BITS: u32 = 5;
const SPLIT: usize = 1 << BITS;
/// The last power begins at 2^46 ns, about 20 hours. What is longer is counted there; the longest is known exactly all the same.
const POWERS: usize = 43;

type Buckets = Box<[AtomicU64; SPLIT]>;

#[derive(Debug)]
pub(crate) struct Histogram {
    powers: [OnceLock<Buckets>; POWERS],
    max: AtomicU64,
    /// A value below this is neither the longest so far nor notable.
    bar: AtomicU64,
    /// From here on a value is worth a note.
    notable: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram::with_notes_from(u64::MAX)
    }
}

impl Histogram {
    pub(crate) fn with_notes_from(notable: u64) -> Self {
        let powers = [const { OnceLock::new() }; POWERS];
        let (max, bar) = (AtomicU64::new(0), AtomicU64::new(0));
        Histogram { powers, max, bar, notable: AtomicU64::new(notable) }
    }

    /// From now on every value is worth a note.
    pub(crate) fn note_all(&self) {
        self.notable.store(0, Relaxed);
        self.bar.store(0, Relaxed);
    }

    /// From any thread: one relaxed add, and a look at the bar. `note` is called for what is notable.
    #[inline]
    pub(crate) fn record(&self, nanos: u64, note: impl FnOnce()) {
        if nanos >= self.bar.load(Relaxed) {
            let max = self.max.fetch_max(nanos, Relaxed).max(nanos);
            self.raise(max, nanos, note);
        }
        self.bucket(nanos).fetch_add(1, Relaxed);
    }

    /// As [`record`](Histogram::record), without a locked instruction. For callers that never record at one time: a lock under which they
    /// record, or a right that they pass on, orders one after the other. Readers may come at any time.
    #[inline]
    pub(crate) fn record_exclusive(&self, nanos: u64, note: impl FnOnce()) {
        if nanos >= self.bar.load(Relaxed) {
            let max = self.max.load(Relaxed).max(nanos);
            self.max.store(max, Relaxed);
            self.raise(max, nanos, note);
        }
        let bucket = self.bucket(nanos);
        bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
    }

    #[inline]
    fn raise(&self, max: u64, nanos: u64, note: impl FnOnce()) {
        let notable = self.notable.load(Relaxed);
        self.bar.store(notable.min(max.saturating_add(1)), Relaxed);
        if nanos >= notable {
            note();
        }
    }

    fn bucket(&self, nanos: u64) -> &AtomicU64 {
        let (power, at) = bucket_of(nanos);
        let buckets = self.powers[power].get_or_init(|| Box::new([const { AtomicU64::new(0) }; SPLIT]));
        &buckets[at]
    }

    /// Adds what there is to `counts`. Recording may go on meanwhile.
    pub(crate) fn add_to(&self, counts: &mut Counts) {
        for (power, buckets) in self.powers.iter().enumerate() {
            let Some(buckets) = buckets.get() else { continue };
            for (at, bucket) in buckets.iter().enumerate() {
                let count = bucket.load(Relaxed);
                if count > 0 {
                    counts.add(middle(power, at), count);
                }
            }
        }
        counts.max = counts.max.max(self.max.load(Relaxed));
    }
}

/// Values below 32 have a bucket each, in the first power.
fn bucket_of(nanos: u64) -> (usize, usize) {
    if nanos < SPLIT as u64 {
        return (0, nanos as usize);
    }
    let log = nanos.ilog2();
    let power = (log - BITS + 1) as usize;
    let at = (nanos >> (log - BITS)) as usize - SPLIT;
    if power < POWERS { (power, at) } else { (POWERS - 1, SPLIT - 1) }
}

/// The value that stands for a bucket.
fn middle(power: usize, at: usize) -> u64 {
    let Some(shift) = power.checked_sub(1) else { return at as u64 };
    let width = 1 << shift;
    ((SPLIT + at) as u64) * width + width / 2
}

/// What was in one or more histograms at some moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Values and how often, ascending.
    values: Vec<(u64, u64)>,
    pub(crate) count: u64,
    pub(crate) max: u64,
    sum: u128,
}

impl Counts {
    fn add(&mut self, value: u64, count: u64) {
        match self.values.binary_search_by_key(&value, |(v, _)| *v) {
            Ok(at) => self.values[at].1 += count,
            Err(at) => self.values.insert(at, (value, count)),
        }
        self.count += count;
        self.sum += u128::from(value) * u128::from(count);
    }

    /// 0 if there is none.
    pub(crate) fn mean(&self) -> u64 {
        let mean = self.sum.checked_div(u128::from(self.count)).unwrap_or(0);
        u64::try_from(mean).unwrap_or(u64::MAX).min(self.max)
    }

    /// The least value that this share of all values does not pass; 0 if there is none. `percent` is 0 to 100.
    pub(crate) fn percentile(&self, percent: u64) -> u64 {
        let rank = u128::from(self.count) * u128::from(percent);
        let mut below = 0;
        for (value, count) in &self.values {
            below += u128::from(*count) * 100;
            if below >= rank {
                // The middle of the last bucket may lie above all that is in it.
                return (*value).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(all(test, not(threadbus_shuttle)))]
mod tests {
    use super::*;

    fn counts(histogram: &Histogram) -> Counts {
        let mut counts = Counts::default();
        histogram.add_to(&mut counts);
        counts
    }

    #[track_caller]
    fn close(found: u64, exact: u64) {
        let error = (found as f64 - exact as f64).abs() / (exact as f64).max(1.0);
        assert!(error <= 0.016, "{found} for {exact}: {error}");
    }

    #[test]
    fn every_value_is_within_the_promised_error() {
        for exact in
            (0..4096).chain((12..46).flat_map(|log| [(1 << log) - 1, 1 << log, (1 << log) + 1, 3 << (log - 1)]))
        {
            let (power, at) = bucket_of(exact);
            close(middle(power, at), exact);
        }
        let buckets: Vec<_> = (0..100_000).map(bucket_of).collect();
        assert!(buckets.is_sorted(), "greater values are never in lesser buckets");
    }

    #[test]
    fn summaries_of_known_values() {
        let histogram = Histogram::default();
        for value in 1..=1000 {
            histogram.record(value * 1000, || {});
        }
        let counts = counts(&histogram);
        assert_eq!((counts.count, counts.max), (1000, 1_000_000));
        close(counts.mean(), 500_500);
        close(counts.percentile(50), 500_000);
        close(counts.percentile(95), 950_000);
        close(counts.percentile(99), 990_000);
        assert!(counts.percentile(100) <= counts.max);
        close(counts.percentile(0), 1000);
    }

    #[test]
    fn one_value_is_all_of_them() {
        let histogram = Histogram::default();
        histogram.record(1_000_000_007, || {});
        let counts = counts(&histogram);
        assert_eq!((counts.count, counts.max), (1, 1_000_000_007));
        for percent in [1, 50, 99, 100] {
            close(counts.percentile(percent), 1_000_000_007);
        }
        close(counts.mean(), 1_000_000_007);
    }

    #[test]
    fn nothing_recorded_is_nothing() {
        let counts = counts(&Histogram::default());
        assert_eq!((counts.count, counts.max, counts.mean(), counts.percentile(99)), (0, 0, 0, 0));
    }

    #[test]
    fn what_is_off_the_scale_is_counted_and_its_maximum_known() {
        let histogram = Histogram::default();
        histogram.record(0, || {});
        histogram.record(u64::MAX, || {});
        let counts = counts(&histogram);
        assert_eq!((counts.count, counts.max, counts.percentile(50)), (2, u64::MAX, 0));
        assert!(counts.percentile(99) > 1 << 46);
    }

    #[test]
    fn two_histograms_make_one_summary() {
        let (one, other) = (Histogram::default(), Histogram::default());
        (0..900).for_each(|_| one.record_exclusive(1000, || {}));
        (0..100).for_each(|_| other.record(1_000_000, || {}));
        (0..10).for_each(|_| other.record(1000, || {}));
        let mut counts = counts(&one);
        other.add_to(&mut counts);
        assert_eq!((counts.count, counts.max), (1010, 1_000_000));
        close(counts.percentile(50), 1000);
        close(counts.percentile(95), 1_000_000);
    }

    #[test]
    fn no_record_is_lost_among_threads() {
        let histogram = Histogram::default();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let histogram = &histogram;
                scope.spawn(move || (0..25_000).for_each(|n| histogram.record((thread + 1) * n, || {})));
            }
        });
        let counts = counts(&histogram);
        assert_eq!((counts.count, counts.max), (100_000, 4 * 24_999));
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Histogram>() <= 43 * 16 + 24);
        let histogram = Histogram::default();
        // Handlers of 1 µs to 1 ms.
        (1_000..1_000_000).step_by(777).for_each(|nanos| histogram.record(nanos, || {}));
        let powers = histogram.powers.iter().filter(|power| power.get().is_some()).count();
        assert!(powers * SPLIT * 8 <= 3 * 1024, "{powers} powers");
    }
}
