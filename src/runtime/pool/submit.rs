//! Handing a job to the pool.

use crate::runtime::job::Job;
use crate::runtime::lane::Half;
use crate::runtime::pool::Pool;
use crate::sys::clock;
use std::sync::Arc;

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
