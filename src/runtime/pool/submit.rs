//! Handing a job to the pool.

use crate::runtime::job::Job;
use crate::runtime::lane::Half;
use crate::runtime::pool::Pool;
use crate::runtime::worker::{Activity, Worker};
use crate::sys::clock::{self, Tick};
use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// In what time a thread comes that is about to be through with its job, unless it stands still in the user's `Drop`. Longer than another thread
/// mostly has its core: else each that loses it would have one more started.
const SOON: Duration = Duration::from_millis(10);

impl Pool {
    /// Takes a loop, or a job that holds nothing others wait for.
    pub(crate) fn submit(self: &Arc<Self>, job: Job) {
        let half = if matches!(job, Job::Loop(..)) { Half::Granted } else { Half::Others };
        self.add(job, half);
    }

    /// Takes a job whose turn has come: it holds permits, so it goes with the loops.
    pub(crate) fn submit_granted(self: &Arc<Self>, job: Job) {
        self.add(job, Half::Granted);
    }

    /// Takes such a job from a thread that may be about to be through with its own one: then that comes for this one, and no other thread is
    /// woken or started, which would take longer. For as long as it comes soon.
    pub(crate) fn submit_next(self: &Arc<Self>, job: Job) {
        let own = |worker: &Arc<Worker>| worker.is_leaving.load(Ordering::Relaxed) && worker.is_of(self.number);
        let worker = if matches!(job, Job::Pumped(..)) { None } else { Worker::current().filter(own) };
        let Some(worker) = worker else { return self.submit_granted(job) };
        let now = clock::now();
        let until = clock::after(now, SOON);
        let arms = {
            let mut state = self.state.lock();
            let promises = !state.lacks_threads() && !worker.is_promised() && *worker.activity.lock() == Activity::Busy;
            if !promises {
                drop(state);
                return self.submit_granted(job);
            }
            worker.promised.store(true, Ordering::Relaxed);
            state.promised.push((worker.id, until));
            state.jobs.push(job, Half::Granted, now);
            state.stuck.clear();
            !std::mem::replace(&mut state.awaits_promised, true) && !cfg!(threadbus_shuttle)
        };
        if arms {
            self.await_promised(until);
        }
    }

    fn await_promised(self: &Arc<Self>, at: Tick) {
        let pool = Arc::downgrade(self);
        self.watch.at(at, move || {
            if let Some(pool) = pool.upgrade() {
                pool.look_for_promised();
            }
        });
    }

    /// On the watch's behalf: who has not come by now is waited for no longer.
    fn look_for_promised(self: &Arc<Self>) {
        let now = clock::now();
        let mut state = self.state.lock();
        state.promised.retain(|(_, until)| *until > now);
        let next = state.promised.first().map(|(_, until)| *until);
        state.awaits_promised = next.is_some();
        let staffing = self.staff(&mut state);
        drop(state);
        self.carry_out(staffing);
        if let Some(at) = next {
            self.await_promised(at);
        }
    }

    fn add(self: &Arc<Self>, job: Job, half: Half) {
        if let Job::Pumped(bus, work) = job {
            return bus.keep(work);
        }
        let now = clock::now();
        let mut state = self.state.lock();
        state.jobs.push(job, half, now);
        // A worker that found nothing it needs looks again.
        state.stuck.clear();
        let staffing = self.staff(&mut state);
        drop(state);
        self.carry_out(staffing);
    }
}
