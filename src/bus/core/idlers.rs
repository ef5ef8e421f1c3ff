//! Who waits for a bus to be idle, or for its queue to move on, and when they are rung.

use crate::bus::core::{BusCore, Run};
use crate::bus::parts::counters::{End, Until};
use crate::sync::Bell;
use crate::sys::clock::Stamp;
use crate::sys::planted;
use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;

impl BusCore {
    /// Nothing queued, nothing running, no retry waiting; and its middlewares know.
    pub(crate) fn is_idle(&self) -> bool {
        // `done` first: it never passes `emitted`, so equality means that nothing was in progress in between.
        let done = self.counters.done();
        done == self.counters.emitted() && self.has_told_all()
    }

    /// Under `run`. Only where a queue can be full does anybody wait for it to be shorter.
    #[inline]
    pub(crate) fn note_claim_under_run(&self, _run: &mut Run, stamp: Stamp) {
        if self.options.queue_capacity.is_some() {
            self.note_claim(stamp);
        } else {
            self.counters.count_claim_under_run(stamp);
        }
    }

    /// A delivery left the queue.
    pub(crate) fn note_claim(&self, stamp: Stamp) {
        self.counters.count_claim(stamp);
        self.ring_idlers();
    }

    /// A delivery is over, and whatever it completed is complete.
    pub(crate) fn note_done(&self, how: End) {
        if planted("idle_told_before_count") {
            self.ring_idlers();
        }
        self.counters.count_end(how);
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
