//! The life of a worker thread: one job after the other, and a while without any.

use crate::runtime::job::Job;
use crate::runtime::pool::{Pool, State};
use crate::runtime::worker::{Activity, Worker};
use crate::sync::refused;
use crate::sys::clock::{self, Tick};
use crate::sys::sync::MutexGuard;
use crate::sys::sync::atomic::Ordering;
use crate::sys::{logging, planted, unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

impl Pool {
    pub(super) fn work(self: &Arc<Self>, worker: &Arc<Worker>) {
        worker.become_current();
        let home: Weak<Pool> = Arc::downgrade(self);
        worker.belongs_to(self.number, home);
        self.list(worker);
        while let Some(job) = self.next_job(worker) {
            if let Err(panic) = unwind::catch(|| job.run(worker)) {
                unwind::tell_outside_of_handlers("a worker", panic);
            }
            worker.do_chores();
            worker.told_starved.store(false, Ordering::Relaxed);
            worker.promised.store(false, Ordering::Relaxed);
            if worker.tells_return.load(Ordering::Relaxed) && !planted("log_under_the_pools_lock") {
                worker.tells_return.store(false, Ordering::Relaxed);
                let name = worker.name.clone();
                logging::later!(Warn, move || format!("abandoned worker {name} is back"));
            }
            logging::between_jobs();
        }
        self.workers.lock().remove(&worker.id);
    }

    /// Parks until there is a job. `None`: the thread ends.
    fn next_job(self: &Arc<Self>, worker: &Arc<Worker>) -> Option<Job> {
        let mut state = self.state.lock();
        state.has_done_its_job(worker);
        let keep_alive = self.settings.keep_alive;
        let models = cfg!(threadbus_shuttle) && keep_alive < Duration::MAX;
        let idle_until = if models { 0 } else { clock::after(clock::now(), keep_alive) };
        loop {
            if state.busy < state.max_threads
                && state.returning.is_empty()
                && let now = clock::now()
                && let Some((job, lane)) = state.jobs.pop(now)
            {
                *worker.serving.lock() = Some((lane, now));
                *worker.activity.lock() = Activity::Busy;
                state.busy += 1;
                // There may be more jobs than this one, and room.
                let staffing = self.staff(&mut state);
                drop(state);
                self.carry_out(staffing);
                return Some(job);
            }
            state = self.idle(worker, state, idle_until);
            if *worker.activity.lock() == Activity::Idle {
                state.idle.retain(|other| !Arc::ptr_eq(other, worker));
                if state.jobs.len() > 0 && state.busy < state.max_threads {
                    continue;
                }
                state.threads -= 1;
                return None;
            }
            // Coming: woken for a job.
            state.coming -= 1;
            state.busy -= 1;
        }
    }

    /// Parks among the idle workers until it is woken for a job, or may not stay.
    fn idle<'a>(
        self: &'a Arc<Self>,
        worker: &Arc<Worker>,
        mut state: MutexGuard<'a, State>,
        until: Tick,
    ) -> MutexGuard<'a, State> {
        let is_over = || !self.crew.may_stay() || clock::now() >= until;
        let staffing = self.staff(&mut state);
        *worker.activity.lock() = Activity::Idle;
        state.idle.push(Arc::clone(worker));
        drop(state);
        self.carry_out(staffing);
        let mut expired = false;
        while *worker.activity.lock() == Activity::Idle && !expired {
            expired = is_over() || !worker.bell.wait(refused::come_back(until)) && is_over();
            worker.do_chores();
        }
        self.state.lock()
    }
}

impl State {
    /// The worker has no job any more, and is not busy.
    fn has_done_its_job(&mut self, worker: &Worker) {
        self.served(worker);
        let was = std::mem::replace(&mut *worker.activity.lock(), Activity::Idle);
        match was {
            Activity::Coming => {
                self.coming -= 1;
                self.busy -= 1;
            }
            Activity::Busy => self.busy -= 1,
            Activity::Abandoned => {
                self.abandoned -= 1;
                if planted("log_under_the_pools_lock") && worker.tells_return.swap(false, Ordering::Relaxed) {
                    logging::warn!("abandoned worker {} is back", worker.name);
                }
            }
            Activity::Waiting | Activity::Returning => self.waiting -= 1,
            Activity::Outside | Activity::Idle => {}
        }
    }
}
