//! A worker is no longer busy while it waits, or once its handler is given up, and is again when it comes back.

use crate::runtime::pool::Pool;
use crate::runtime::worker::{Activity, Home, Worker};
use crate::sys::clock::NEVER;
use crate::sys::planted;
use std::sync::Arc;

impl Pool {
    /// The calling worker is about to park in a wait of ours. It was busy in its own pool, whichever runtime it waits for.
    pub(crate) fn suspend(self: &Arc<Self>, worker: &Worker) {
        match worker.other_home(self.number) {
            None => self.suspends(worker),
            Some(home) => drop(home.upgrade().map(|home| home.suspend_own(worker))),
        }
    }

    fn suspends(self: &Arc<Self>, worker: &Worker) {
        let mut state = self.state.lock();
        let mut activity = worker.activity.lock();
        if *activity != Activity::Busy {
            return;
        }
        *activity = Activity::Waiting;
        drop(activity);
        state.served(worker);
        state.waiting += 1;
        state.busy -= 1;
        if planted("free_place_unused") {
            return;
        }
        let mut staffing = self.staff(&mut state);
        drop(state);
        let starved = std::mem::take(&mut staffing.starved);
        self.carry_out(staffing);
        if starved {
            // This one looks by itself.
            self.ring_the_waiting(Some(worker));
        }
    }

    /// The worker's wait is over. May block until there is room; workers that come back go before every queued job.
    pub(crate) fn resume(&self, worker: &Arc<Worker>) {
        match worker.other_home(self.number) {
            None => self.resumes(worker),
            Some(home) => drop(home.upgrade().map(|home| home.resume_own(worker))),
        }
    }

    fn resumes(&self, worker: &Arc<Worker>) {
        let mut state = self.state.lock();
        state.is_no_longer_stuck(worker);
        {
            let mut activity = worker.activity.lock();
            if *activity != Activity::Waiting {
                return;
            }
            if state.busy < state.max_threads {
                *activity = Activity::Busy;
                state.busy += 1;
                state.waiting -= 1;
                return;
            }
            *activity = Activity::Returning;
        }
        state.returning.push_back(Arc::clone(worker));
        drop(state);
        while *worker.activity.lock() == Activity::Returning {
            worker.bell.wait(NEVER);
        }
    }

    /// The worker's handler was given up: it is no longer busy. True if it was until this call.
    pub(crate) fn abandon(self: &Arc<Self>, worker: &Arc<Worker>) -> bool {
        let mut state = self.state.lock();
        let was = {
            let mut activity = worker.activity.lock();
            let was = *activity;
            if !matches!(was, Activity::Busy | Activity::Waiting | Activity::Returning) {
                return false;
            }
            *activity = Activity::Abandoned;
            was
        };
        match was {
            Activity::Busy => state.busy -= 1,
            Activity::Returning => {
                state.returning.retain(|other| !Arc::ptr_eq(other, worker));
                state.waiting -= 1;
            }
            _ => state.waiting -= 1,
        }
        state.is_no_longer_stuck(worker);
        state.served(worker);
        state.abandoned += 1;
        let staffing = self.staff(&mut state);
        drop(state);
        worker.bell.ring();
        self.carry_out(staffing);
        true
    }

    /// Changes how many may be busy.
    pub(crate) fn set_max_threads(self: &Arc<Self>, max: usize) {
        let mut state = self.state.lock();
        state.max_threads = max;
        let staffing = self.staff(&mut state);
        drop(state);
        self.carry_out(staffing);
    }
}

impl Home for Pool {
    fn suspend_own(self: Arc<Self>, worker: &Worker) {
        self.suspends(worker);
    }

    fn resume_own(self: Arc<Self>, worker: &Arc<Worker>) {
        self.resumes(worker);
    }
}
