//! Time. Inside the crate an instant is a [`Tick`], a deadline one too; what users see is rendered when asked for.

use chrono::{DateTime, Utc};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic nanoseconds since the first look at the clock in this process.
pub(crate) type Tick = u64;
/// Nanoseconds since 1970, UTC.
pub(crate) type Stamp = u64;

/// A deadline that never comes.
pub(crate) const NEVER: Tick = u64::MAX;

/// What takes something back that is to be done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) at: Tick,
    pub(crate) number: u64,
}

/// How often the two clocks are compared. The monotonic one stands still while a laptop sleeps.
const RESYNC: Tick = 1_000_000_000;
/// A smaller difference is left alone, so that the order of ticks is the order of stamps.
const DRIFT: Stamp = 1_000_000;

// These are not modelled: they carry no protocol, only values that grow.
static LAST_STAMP: AtomicU64 = AtomicU64::new(0);
static OFFSET: AtomicU64 = AtomicU64::new(0);
static SYNCED: AtomicU64 = AtomicU64::new(0);

fn anchor() -> Instant {
    static ANCHOR: OnceLock<Instant> = OnceLock::new();
    *ANCHOR.get_or_init(Instant::now)
}

pub(crate) fn now() -> Tick {
    nanos(Instant::now().saturating_duration_since(anchor()))
}

/// Saturates at [`NEVER`].
pub(crate) fn after(tick: Tick, delay: Duration) -> Tick {
    tick.saturating_add(nanos(delay))
}

/// `None` for [`NEVER`].
pub(crate) fn instant(tick: Tick) -> Option<Instant> {
    if tick == NEVER { None } else { anchor().checked_add(Duration::from_nanos(tick)) }
}

/// From now until then; zero if that is past.
#[cfg(all(feature = "process", unix))]
pub(crate) fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn nanos(duration: Duration) -> u64 {
    // Without the detour over 128 bits, since every event asks.
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

/// The wall clock at `tick`, which must be about now.
#[inline]
pub(crate) fn wall(tick: Tick) -> Stamp {
    let synced = SYNCED.load(Relaxed);
    let offset = OFFSET.load(Relaxed);
    if offset != 0 && tick.saturating_sub(synced) < RESYNC {
        return offset.saturating_add(tick);
    }
    compare_clocks(tick, offset)
}

#[cold]
fn compare_clocks(tick: Tick, known: u64) -> Stamp {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, nanos);
    let offset = wall.saturating_sub(now()).max(1);
    SYNCED.store(tick, Relaxed);
    let offset = if known != 0 && known.abs_diff(offset) < DRIFT {
        known
    } else {
        // Threads that come here together agree on the first one's answer.
        OFFSET.compare_exchange(known, offset, Relaxed, Relaxed).map_or_else(|theirs| theirs, |_| offset)
    };
    offset.saturating_add(tick)
}

/// A stamp of its own for an event emitted at `tick`: strictly increasing within the process.
pub(crate) fn unique_stamp(tick: Tick) -> Stamp {
    let wall = wall(tick);
    let mut last = LAST_STAMP.load(Relaxed);
    loop {
        let next = wall.max(last.saturating_add(1));
        match LAST_STAMP.compare_exchange_weak(last, next, Relaxed, Relaxed) {
            Ok(_) => return next,
            Err(seen) => last = seen,
        }
    }
}

pub(crate) fn to_utc(stamp: Stamp) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(i64::try_from(stamp).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_unique_and_grow_across_threads() {
        let stamps = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..2000).map(|_| unique_stamp(now())).collect::<Vec<_>>())).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_default()).collect::<Vec<_>>()
        });
        for own in &stamps {
            assert!(own.windows(2).all(|w| w[0] < w[1]));
        }
        let mut all: Vec<_> = stamps.concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 8000);
    }

    #[test]
    fn deadlines_saturate() {
        assert_eq!(after(5, Duration::MAX), NEVER);
        assert_eq!(instant(NEVER), None);
        assert!(instant(after(now(), Duration::from_secs(1))).is_some());
    }
}
