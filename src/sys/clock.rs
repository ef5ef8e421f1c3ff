//! Time. Inside the crate instants and deadlines are [`Tick`]s; what users see is made of them when asked for.

use chrono::{DateTime, Utc};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic nanoseconds since the first look at the clock in this process.
pub(crate) type Tick = u64;
/// When something happened to an event, as a tick. That of its birth is unique.
pub(crate) type Stamp = Tick;

/// A deadline that never comes.
pub(crate) const NEVER: Tick = u64::MAX;

/// Takes back what the watch was asked to do at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) at: Tick,
    pub(crate) number: u64,
}

/// How often the two clocks are compared. The monotonic one stands still while a laptop sleeps, and the other may be set.
const RESYNC: Tick = 1_000_000_000;
/// A smaller difference is left alone.
const DRIFT: u64 = 1_000_000;
/// So many differences are remembered, newest ones. Older events are shown by the oldest of them.
const REMEMBERED: usize = 1000;

// These are not modelled: they carry no protocol, only values that grow.
static LAST_STAMP: AtomicU64 = AtomicU64::new(0);
/// How far ids are ahead of ticks: the most that the wall clock ever was, so that they rise.
static ID_LEAD: AtomicU64 = AtomicU64::new(0);
static SYNCED: AtomicU64 = AtomicU64::new(0);
/// How far the wall clock was ahead of ticks, and from when on.
static LEADS: Mutex<VecDeque<(Tick, u64)>> = Mutex::new(VecDeque::new());

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

/// Nanoseconds since 1970 for the id of an event that is made now. They rise with the stamps, also when the clock is set back.
#[inline]
pub(crate) fn id_time(stamp: Stamp) -> u64 {
    let synced = SYNCED.load(Relaxed);
    let lead = ID_LEAD.load(Relaxed);
    if lead != 0 && stamp.saturating_sub(synced) < RESYNC {
        return lead.saturating_add(stamp);
    }
    compare_clocks();
    ID_LEAD.load(Relaxed).saturating_add(stamp)
}

#[cold]
fn compare_clocks() {
    let mut leads = LEADS.lock().unwrap_or_else(PoisonError::into_inner);
    let tick = now();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, nanos);
    note_lead(&mut leads, tick, wall.saturating_sub(tick).max(1));
    if let Some((_, lead)) = leads.back() {
        ID_LEAD.fetch_max(*lead, Relaxed);
    }
    SYNCED.store(tick, Relaxed);
}

fn note_lead(leads: &mut VecDeque<(Tick, u64)>, tick: Tick, lead: u64) {
    // What came before the first look is shown by it as well.
    let from = match leads.back() {
        Some((_, known)) if known.abs_diff(lead) < DRIFT => return,
        Some(_) => tick,
        None => 0,
    };
    if leads.len() >= REMEMBERED {
        leads.pop_front();
    }
    leads.push_back((from, lead));
}

fn lead_at(leads: &VecDeque<(Tick, u64)>, tick: Tick) -> u64 {
    let after = leads.partition_point(|(from, _)| *from <= tick);
    leads.get(after.saturating_sub(1)).map_or(0, |(_, lead)| *lead)
}

/// A stamp of its own for an event emitted at `tick`: strictly increasing within the process.
pub(crate) fn unique_stamp(tick: Tick) -> Stamp {
    let mut last = LAST_STAMP.load(Relaxed);
    loop {
        let next = tick.max(last.saturating_add(1));
        match LAST_STAMP.compare_exchange_weak(last, next, Relaxed, Relaxed) {
            Ok(_) => return next,
            Err(seen) => last = seen,
        }
    }
}

/// What the wall clock said at that tick.
pub(crate) fn to_utc(stamp: Stamp) -> DateTime<Utc> {
    to_utc_after(stamp, stamp)
}

/// What the wall clock said when something happened after `since`. It is not shown as earlier than that, though the clock may have been set back.
pub(crate) fn to_utc_after(since: Stamp, stamp: Stamp) -> DateTime<Utc> {
    if ID_LEAD.load(Relaxed) == 0 {
        compare_clocks();
    }
    let leads = LEADS.lock().unwrap_or_else(PoisonError::into_inner);
    let lead = lead_at(&leads, since).max(lead_at(&leads, stamp));
    DateTime::from_timestamp_nanos(i64::try_from(lead.saturating_add(stamp)).unwrap_or(i64::MAX))
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
    fn what_is_shown_follows_the_wall_clock_and_what_counts_does_not() {
        let hour = 3_600_000_000_000;
        let mut leads = VecDeque::new();
        note_lead(&mut leads, 100, 10 * hour);
        note_lead(&mut leads, 200, 10 * hour + DRIFT / 2);
        note_lead(&mut leads, 300, 9 * hour);
        note_lead(&mut leads, 400, 12 * hour);
        assert_eq!(leads, [(0, 10 * hour), (300, 9 * hour), (400, 12 * hour)]);
        let at: Vec<_> = [0, 250, 300, 399, 400, Tick::MAX].map(|tick| lead_at(&leads, tick) / hour).into();
        assert_eq!(at, [10, 10, 9, 9, 12, 12]);
        for tick in 1..2 * REMEMBERED as u64 {
            note_lead(&mut leads, 400 + tick, tick * hour);
        }
        assert_eq!(leads.len(), REMEMBERED);
        assert!(lead_at(&leads, 0) > 0);
    }

    #[test]
    fn times_are_those_of_the_wall_clock() {
        let before = Utc::now();
        let shown = to_utc(unique_stamp(now()));
        let slack = chrono::TimeDelta::milliseconds(5);
        assert!(shown >= before - slack && shown <= Utc::now() + slack, "{before} {shown}");
        let id = id_time(unique_stamp(now()));
        assert!((Utc::now().timestamp_nanos_opt().unwrap_or(0) as u64).abs_diff(id) < 1_000_000_000);
    }

    #[test]
    fn deadlines_saturate() {
        assert_eq!(after(5, Duration::MAX), NEVER);
        assert_eq!(instant(NEVER), None);
        assert!(instant(after(now(), Duration::from_secs(1))).is_some());
    }
}
