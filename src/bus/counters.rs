//! How many deliveries came, were claimed and are over, and who waits for that to change.

use crate::bus::core::{BusCore, Run};
use crate::sync::Bell;
use crate::sys::clock::Stamp;
use crate::sys::planted;
use crate::sys::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;
use std::sync::Arc;

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

    /// The newest stamp that has been claimed: what is younger cannot be complete.
    pub(crate) fn latest_claim(&self) -> Stamp {
        self.under_run.latest.load(Ordering::Acquire).max(self.latest_claim.load(Ordering::Acquire))
    }
}

impl BusCore {
    /// Nothing queued, nothing running, no retry waiting; and its middlewares know.
    pub(crate) fn is_idle(&self) -> bool {
        // `done` first: it never passes `emitted`, so equality means that nothing was in progress in between.
        let done = self.counters.done();
        done == self.counters.emitted() && self.has_told_all()
    }

    /// The same under `run`. Only where a queue can be full does anybody wait for it to be shorter.
    pub(crate) fn note_claim_under_run(&self, _run: &mut Run, stamp: Stamp) {
        let claims = &self.counters.under_run;
        claims.latest.store(claims.latest.load(Ordering::Relaxed).max(stamp), Ordering::Release);
        if self.options.queue_capacity.is_some() {
            claims.count.fetch_add(1, Ordering::SeqCst);
            self.ring_idlers();
        } else {
            claims.count.store(claims.count.load(Ordering::Relaxed) + 1, Ordering::Release);
        }
    }

    /// A delivery left the queue.
    pub(crate) fn note_claim(&self, stamp: Stamp) {
        self.counters.claimed.fetch_add(1, Ordering::SeqCst);
        self.counters.latest_claim.fetch_max(stamp, Ordering::Relaxed);
        self.ring_idlers();
    }

    /// A delivery is over, and whatever it completed is complete.
    pub(crate) fn note_done(&self, how: End) {
        if planted("idle_told_before_count") {
            self.ring_idlers();
        }
        self.counters.of(how).fetch_add(1, Ordering::SeqCst);
        if planted("idle_told_before_count") {
            return;
        }
        if self.idlers_count.load(Ordering::SeqCst) > 0 {
            self.ring_them();
            self.start_more();
        }
    }

    #[inline]
    pub(crate) fn ring_idlers(&self) {
        if self.idlers_count.load(Ordering::SeqCst) > 0 {
            self.ring_them();
        }
    }

    #[cold]
    fn ring_them(&self) {
        let idle = self.is_idle();
        for (bell, until) in self.idlers.lock().iter() {
            if idle || *until == Until::Change {
                bell.ring();
            }
        }
    }

    /// Rings `bell` when that may have come, until the guard goes.
    pub(crate) fn watch(&self, bell: &Arc<Bell>, until: Until) -> IdleWatch<'_> {
        self.idlers_count.fetch_add(1, Ordering::SeqCst);
        self.idlers.lock().push((Arc::clone(bell), until));
        IdleWatch { bus: self, bell: Arc::clone(bell), until }
    }
}

pub(crate) struct IdleWatch<'a> {
    bus: &'a BusCore,
    bell: Arc<Bell>,
    until: Until,
}

impl Drop for IdleWatch<'_> {
    fn drop(&mut self) {
        let mut idlers = self.bus.idlers.lock();
        if let Some(at) = idlers.iter().position(|(bell, until)| Arc::ptr_eq(bell, &self.bell) && *until == self.until)
        {
            idlers.swap_remove(at);
        }
        self.bus.idlers_count.fetch_sub(1, Ordering::SeqCst);
    }
}
