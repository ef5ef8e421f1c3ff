//! How many deliveries came, were claimed and are over.

use crate::sys::clock::Stamp;
use crate::sys::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;

/// Claims that were made under `run`, which makes them cheap to count: one writer at a time.
#[derive(Default)]
struct ClaimsUnderRun {
    count: AtomicU64,
    latest: AtomicU64,
}

/// How a delivery was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A handler had started, or there was none.
    Completed,
    Cancelled,
    /// To make room in a full queue.
    Dropped,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    Idle,
    /// A delivery leaves the queue, or is over; or a handler comes back that was given up.
    Change,
}

/// Split by who writes, so that emitters and workers do not take each other's cache lines.
#[derive(Default)]
pub(crate) struct Counters {
    /// Deliveries taken, by emitters, under the inlet's lock.
    emitted: CachePadded<AtomicU64>,
    under_run: CachePadded<ClaimsUnderRun>,
    /// Deliveries claimed by others, or ended before that.
    claimed: AtomicU64,
    /// The newest stamp of those.
    latest_claim: AtomicU64,
    /// Deliveries done, by how they ended: each only grows, and all together are those done.
    completed: AtomicU64,
    cancelled: AtomicU64,
    dropped: AtomicU64,
    /// Deliveries that are to come after other events: emitted, and not queued yet.
    pub(crate) held: AtomicU64,
    pub(crate) late_results: AtomicU64,
    /// Queue entries whose delivery somebody else claimed.
    /// Signed: a sweep may come before the claimer has counted.
    pub(crate) stale: AtomicI64,
}

impl Counters {
    /// Under the inlet's lock; returns how many there are now.
    pub(crate) fn count_emit(&self) -> u64 {
        let emitted = self.emitted.load(Ordering::Relaxed) + 1;
        self.emitted.store(emitted, Ordering::Release);
        emitted
    }

    pub(crate) fn emitted(&self) -> u64 {
        self.emitted.load(Ordering::SeqCst)
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::SeqCst)
    }

    pub(crate) fn ended(&self, how: End) -> u64 {
        self.of(how).load(Ordering::SeqCst)
    }

    pub(crate) fn done(&self) -> u64 {
        self.ended(End::Completed) + self.ended(End::Cancelled) + self.ended(End::Dropped)
    }

    fn of(&self, how: End) -> &AtomicU64 {
        match how {
            End::Completed => &self.completed,
            End::Cancelled => &self.cancelled,
            End::Dropped => &self.dropped,
        }
    }

    pub(crate) fn claimed(&self) -> u64 {
        self.under_run.count.load(Ordering::SeqCst) + self.claimed.load(Ordering::SeqCst)
    }

    /// Under `run`, which makes it cheap: a delivery left the queue, and no thread waits for that.
    #[inline]
    pub(crate) fn count_claim_under_run(&self, stamp: Stamp) {
        let claims = &self.under_run;
        claims.latest.store(claims.latest.load(Ordering::Relaxed).max(stamp), Ordering::Release);
        claims.count.store(claims.count.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// A delivery left the queue, by whatever way.
    pub(crate) fn count_claim(&self, stamp: Stamp) {
        self.claimed.fetch_add(1, Ordering::SeqCst);
        self.latest_claim.fetch_max(stamp, Ordering::Relaxed);
    }

    pub(crate) fn count_end(&self, how: End) {
        self.of(how).fetch_add(1, Ordering::SeqCst);
    }

    /// The newest stamp that has been claimed: what is younger cannot be complete.
    pub(crate) fn latest_claim(&self) -> Stamp {
        self.under_run.latest.load(Ordering::Acquire).max(self.latest_claim.load(Ordering::Acquire))
    }
}
