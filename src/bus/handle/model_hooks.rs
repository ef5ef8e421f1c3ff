//! What only the models do to a runtime: deadlines pass and the watch looks when they say, and threads are refused.

use crate::bus::end::deadline::overdue;
use crate::runtime::{Overdue, PermitKind, Runtime};
use crate::sys::clock;
use crate::sys::sync::atomic::Ordering;

impl Runtime {
    /// For models, which have no clock: the deadlines of all running handlers pass now.
    #[doc(hidden)]
    pub fn model_deadlines_pass(&self) {
        for worker in self.core.pool.all_workers() {
            for (slot, what) in worker.take_overdue(clock::NEVER - 1).0 {
                if what == Overdue::Deadline && slot.running.deadline != clock::NEVER {
                    overdue(&worker, &slot, what);
                }
            }
        }
    }

    /// The watch sweeps: it looks at all stacks before their time.
    #[doc(hidden)]
    pub fn model_watch_sweeps(&self) {
        self.core.watch.sweeps();
    }

    /// The deadlines pass of those running handlers that the watch was told of.
    #[doc(hidden)]
    pub fn model_watch_looks(&self) {
        self.core.watch.looks();
    }

    /// In a model, the timers fire that are due: the delays of retries, the caps of events, waits for limits, what is to be emitted later.
    #[doc(hidden)]
    pub fn model_timers_fire(&self) {
        self.core.watch.fire_timers();
    }

    /// From now on the system refuses every thread, or none.
    #[doc(hidden)]
    pub fn model_threads_refused(&self, refused: bool) {
        crate::sys::thread::refuse(refused);
    }

    /// What is still held, set or running, in words; empty for a runtime whose buses are idle and whose threads have gone.
    #[doc(hidden)]
    pub fn model_left(&self) -> String {
        let mut left = Vec::new();
        for bus in self.cores() {
            let run = bus.run.lock();
            if !(run.event.is_quiet() && run.handler.is_quiet() && run.jumps.is_empty()) {
                left.push(format!("permits of {}", bus.label()));
            }
        }
        let mut global = self.core.global.lock();
        if !(global.semaphore(PermitKind::Event).is_quiet() && global.semaphore(PermitKind::Handler).is_quiet()) {
            left.push("global permits".to_owned());
        }
        drop(global);
        let (parked, core) = (self.core.parked.lock().len(), &self.core);
        let counts = core.parked_count.load(Ordering::SeqCst) + core.foreign_count.load(Ordering::SeqCst);
        let waits = parked + counts + core.asleep.len();
        let (timers, pool) = (self.core.watch.timers(), self.core.pool.stats());
        if waits + timers + pool.threads + pool.busy + pool.waiting + pool.idle + pool.abandoned > 0 {
            left.push(format!("{waits} waits, {timers} timers, {pool:?}"));
        }
        left.join(", ")
    }
}
