//! When every thread stands still and there can be no more: which one runs the jobs that are left.
//!
//! A worker that waits runs what its wait needs on its own stack, and nothing else. Where no wait needs any, one of them fails.

use crate::event::AnyEvent;
use crate::runtime::job::Job;
use crate::runtime::needs::Needs;
use crate::runtime::pool::{Pool, State, Stuck};
use crate::runtime::worker::{Activity, Worker};
use crate::sys::planted;
use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;

impl State {
    /// There are jobs, and no thread will come for them: all are suspended or given up, and there can be no more.
    pub(super) fn is_starved(&self, hard_limit: usize) -> bool {
        self.jobs.len() > 0 && self.busy == 0 && self.has_nobody_to_come(hard_limit)
    }

    /// No worker is idle or comes back, and there can be no more.
    fn has_nobody_to_come(&self, hard_limit: usize) -> bool {
        self.idle.is_empty() && self.returning.is_empty() && (self.threads >= hard_limit || self.refused)
    }

    /// Every thread stands still, and will for good: one that could go on if another thread ran what it waits for.
    fn hopeless(&mut self, hard_limit: usize) -> Option<Arc<Worker>> {
        if self.stuck.len() < self.threads || !self.is_starved(hard_limit) {
            return None;
        }
        let at = self.stuck.iter().position(|stuck| stuck.wants_thread)?;
        Some(self.stuck.swap_remove(at).worker)
    }
}

impl Pool {
    /// One more job would find a thread that is not suspended.
    pub(crate) fn has_thread_to_spare(&self) -> bool {
        let state = self.state.lock();
        let more = if state.refused { 0 } else { self.settings.hard_limit.saturating_sub(state.threads) };
        state.idle.len() + state.coming + more > state.jobs.len()
    }

    /// There are jobs that no thread will come for.
    pub(crate) fn is_starved(&self) -> bool {
        self.state.lock().is_starved(self.settings.hard_limit)
    }

    /// With this worker parked no thread would come for a job: it is the last one that runs anything, and there can be no more.
    pub(crate) fn is_last(&self, worker: &Worker) -> bool {
        let state = self.state.lock();
        let own = usize::from(worker.other_home(self.number).is_none() && *worker.activity.lock() == Activity::Busy);
        state.busy == own && state.has_nobody_to_come(self.settings.hard_limit)
    }

    /// There are jobs that no thread will come for, and there is not a single thread: the system refuses them all.
    pub(crate) fn is_deserted(&self) -> bool {
        let state = self.state.lock();
        state.threads == 0 && state.is_starved(self.settings.hard_limit)
    }

    /// Takes a job that no thread will come for, and that the wait of this suspended worker needs: the worker is busy again.
    pub(crate) fn take_needed(&self, worker: &Worker, needs: &Needs) -> Option<Job> {
        let mut state = self.state.lock();
        if !state.is_starved(self.settings.hard_limit) {
            return None;
        }
        let job = if planted("serves_anything_on_top") {
            let (job, lane) = state.jobs.pop(0)?;
            state.jobs.served(lane, 0);
            job
        } else {
            state.jobs.take(needs)?
        };
        if worker.other_home(self.number).is_some() {
            // It was never busy here.
            return Some(job);
        }
        let mut activity = worker.activity.lock();
        if *activity == Activity::Waiting {
            *activity = Activity::Busy;
            state.waiting -= 1;
            state.busy += 1;
        }
        Some(job)
    }

    /// A thread of the pool parks for good in a wait that it could not go on with here. True if no thread ever can: then the wait is over.
    ///
    /// That is so when every other thread stands still like this one; what they wait for has come to its thread, or never will.
    pub(crate) fn is_stuck(&self, worker: &Arc<Worker>, needs: &Needs) -> bool {
        if worker.other_home(self.number).is_some() {
            // It is none of the threads that are counted here.
            return false;
        }
        let hopeless = {
            let mut state = self.state.lock();
            let wants_thread = needs.can_fail && state.jobs.has(needs);
            state.is_no_longer_stuck(worker);
            state.stuck.push(Stuck { worker: Arc::clone(worker), wants_thread });
            state.hopeless(self.settings.hard_limit)
        };
        let Some(other) = hopeless else { return false };
        if Arc::ptr_eq(&other, worker) {
            return true;
        }
        other.has_no_thread.store(true, Ordering::SeqCst);
        other.bell.ring();
        false
    }

    /// Deliveries whose turn has come, that are needed, and that no thread comes for.
    pub(crate) fn granted_deliveries(&self, needs: &Needs) -> Vec<(AnyEvent, usize)> {
        self.state.lock().jobs.granted_deliveries(needs)
    }

    /// Rings every waiting worker that may serve, except `but`, and every thread that is not the pool's. Stuck ones have looked and found
    /// nothing: they sleep on, or they would keep each other awake.
    pub(super) fn ring_the_waiting(&self, but: Option<&Worker>) {
        let waiting: Vec<Arc<Worker>> = {
            let state = self.state.lock();
            let is_stuck = |worker: &Arc<Worker>| state.stuck.iter().any(|stuck| Arc::ptr_eq(&stuck.worker, worker));
            self.all_workers().into_iter().filter(|worker| !is_stuck(worker)).collect()
        };
        for worker in waiting.iter().filter(|worker| but.is_none_or(|but| worker.id != but.id)) {
            let activity = *worker.activity.lock();
            if activity == Activity::Outside || activity == Activity::Waiting && worker.serves.load(Ordering::Relaxed) {
                worker.bell.ring();
            }
        }
    }
}
