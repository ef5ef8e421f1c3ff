//! The elastic worker pool: threads start when needed, and end when idle for long.
//!
//! A *place* is the right to run user code; there are `max_threads`. A suspended or abandoned worker has none. See `README.md`, 3.8.

use crate::runtime::drive::{Drive, Pumped, Work};
use crate::runtime::worker::Worker;
use crate::sys::clock::{self, NEVER};
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicBool, Ordering};
use crate::sys::{logging, planted, thread, unwind};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Where a worker stands. Changed only under the pool's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not a thread of the pool.
    Outside,
    /// Starting or woken, on its way to a job: has a place.
    Coming,
    /// Has a place and runs a job.
    Busy,
    /// Suspended in a wait of ours.
    Waiting,
    /// Its wait is over, and it waits for a place.
    Returning,
    /// Inside a handler whose result was given up.
    Abandoned,
    /// Waits for a job.
    Idle,
}

pub(crate) enum Job {
    /// The loop of a bus; these go first.
    Loop(Arc<dyn Drive>),
    Work(Box<Work>),
    /// Not for a thread of the pool: the bus's pump thread runs it.
    Pumped(Arc<dyn Drive>, Pumped),
}

impl Job {
    pub(crate) fn new(work: impl FnOnce(&Arc<Worker>) + Send + 'static) -> Job {
        Job::Work(Box::new(work))
    }

    pub(crate) fn run(self, worker: &Arc<Worker>) {
        match self {
            Job::Loop(bus) => bus.drive(worker),
            Job::Work(work) => work(worker),
            Job::Pumped(bus, work) => bus.keep(work),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_threads: usize,
    pub(crate) hard_limit: usize,
    pub(crate) stack_size: usize,
    pub(crate) thread_name: String,
    pub(crate) keep_alive: Duration,
}

#[derive(Default)]
struct State {
    max_threads: usize,
    first: VecDeque<Job>,
    work: VecDeque<Job>,
    idle: Vec<Arc<Worker>>,
    returning: VecDeque<Arc<Worker>>,
    threads: usize,
    /// Places taken.
    busy: usize,
    /// Of those, on their way to a job.
    coming: usize,
    waiting: usize,
    abandoned: usize,
    peak: usize,
    /// The system refused the last thread that was asked for.
    refused: bool,
}

impl State {
    fn jobs(&self) -> usize {
        self.first.len() + self.work.len()
    }

    /// There are jobs, and nobody will come for them: all threads are suspended or given up, and there can be no more.
    fn is_starved(&self, hard_limit: usize) -> bool {
        self.jobs() > 0
            && self.busy == 0
            && self.idle.is_empty()
            && self.returning.is_empty()
            && (self.threads >= hard_limit || self.refused)
    }

    fn take_job(&mut self) -> Option<Job> {
        self.first.pop_front().or_else(|| self.work.pop_front())
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PoolStats {
    pub(crate) threads: usize,
    pub(crate) busy: usize,
    pub(crate) waiting: usize,
    pub(crate) idle: usize,
    pub(crate) abandoned: usize,
    pub(crate) max_threads: usize,
    pub(crate) peak: usize,
}

pub(crate) struct Pool {
    /// No other pool of the process has it; never 0.
    number: u32,
    limits: Limits,
    state: Mutex<State>,
    /// More threads run user code than may, since that was lowered: loops give their places back after the event they are at.
    crowded: AtomicBool,
    /// By id, those that may run handlers.
    workers: Mutex<FxHashMap<u32, Weak<Worker>>>,
}

/// What to do after unlocking.
#[derive(Default)]
struct Staffing {
    ring: Vec<Arc<Worker>>,
    spawn: usize,
    starved: bool,
}

impl Pool {
    pub(crate) fn new(limits: Limits) -> Arc<Pool> {
        let state = State { max_threads: limits.max_threads, ..State::default() };
        let (crowded, workers) = (AtomicBool::new(false), Mutex::default());
        Arc::new(Pool { number: thread::next_number(), limits, state: Mutex::new(state), crowded, workers })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn submit(self: &Arc<Self>, job: Job) {
        let granted = match job {
            Job::Loop(_) => true,
            Job::Work(_) => false,
            Job::Pumped(bus, work) => return bus.keep(work),
        };
        let mut state = self.state.lock();
        if granted {
            state.first.push_back(job);
        } else {
            state.work.push_back(job);
        }
        let staffing = self.staff(&mut state);
        drop(state);
        self.carry_out(staffing);
    }

    /// A job whose turn has come: it holds permits, so it goes with the loops.
    pub(crate) fn submit_granted(self: &Arc<Self>, job: Job) {
        if let Job::Pumped(bus, work) = job {
            return bus.keep(work);
        }
        let mut state = self.state.lock();
        state.first.push_back(job);
        let staffing = self.staff(&mut state);
        drop(state);
        self.carry_out(staffing);
    }

    /// The calling worker is about to park in a wait of ours.
    pub(crate) fn suspend(self: &Arc<Self>, worker: &Worker) {
        let mut state = self.state.lock();
        let mut place = worker.place.lock();
        if *place != Place::Busy {
            return;
        }
        *place = Place::Waiting;
        drop(place);
        state.waiting += 1;
        state.busy -= 1;
        if planted("free_place_unused") {
            return;
        }
        let staffing = self.staff(&mut state);
        drop(state);
        self.carry_out(staffing);
    }

    /// Its wait is over. May block until there is a place; those who come back go before every queued job.
    pub(crate) fn resume(&self, worker: &Arc<Worker>) {
        let mut state = self.state.lock();
        {
            let mut place = worker.place.lock();
            if *place != Place::Waiting {
                return;
            }
            if state.busy < state.max_threads {
                *place = Place::Busy;
                state.busy += 1;
                state.waiting -= 1;
                return;
            }
            *place = Place::Returning;
        }
        state.returning.push_back(Arc::clone(worker));
        drop(state);
        while *worker.place.lock() == Place::Returning {
            worker.bell.wait(NEVER);
        }
    }

    /// The worker's handler was given up: its place is free. True if this call did it.
    pub(crate) fn abandon(self: &Arc<Self>, worker: &Arc<Worker>) -> bool {
        let mut state = self.state.lock();
        let was = {
            let mut place = worker.place.lock();
            let was = *place;
            if !matches!(was, Place::Busy | Place::Waiting | Place::Returning) {
                return false;
            }
            *place = Place::Abandoned;
            was
        };
        match was {
            Place::Busy => state.busy -= 1,
            Place::Returning => {
                state.returning.retain(|other| !Arc::ptr_eq(other, worker));
                state.waiting -= 1;
            }
            _ => state.waiting -= 1,
        }
        state.abandoned += 1;
        let staffing = self.staff(&mut state);
        drop(state);
        worker.bell.ring();
        self.carry_out(staffing);
        true
    }

    pub(crate) fn set_max_threads(self: &Arc<Self>, max: usize) {
        let mut state = self.state.lock();
        state.max_threads = max;
        self.crowded.store(true, Ordering::Relaxed);
        let staffing = self.staff(&mut state);
        drop(state);
        self.carry_out(staffing);
    }

    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let state = self.state.lock();
        PoolStats {
            threads: state.threads,
            busy: state.busy - state.coming,
            waiting: state.waiting,
            idle: state.idle.len() + state.coming,
            abandoned: state.abandoned,
            max_threads: state.max_threads,
            peak: state.peak,
        }
    }

    /// True if one more job would find a thread that is not suspended.
    pub(crate) fn has_thread_to_spare(&self) -> bool {
        let state = self.state.lock();
        let more = if state.refused { 0 } else { self.limits.hard_limit.saturating_sub(state.threads) };
        state.idle.len() + state.coming + more > state.jobs()
    }

    /// True if there are jobs that no thread will come for.
    pub(crate) fn is_starved(&self) -> bool {
        self.state.lock().is_starved(self.limits.hard_limit)
    }

    /// The same, and there is not a single thread: the system refuses them all.
    pub(crate) fn is_deserted(&self) -> bool {
        let state = self.state.lock();
        state.threads == 0 && state.is_starved(self.limits.hard_limit)
    }

    /// A job that no thread will come for, for one that is suspended: it has its place again.
    pub(crate) fn take_if_starved(&self, worker: &Worker) -> Option<Job> {
        let mut state = self.state.lock();
        if !state.is_starved(self.limits.hard_limit) {
            return None;
        }
        let job = state.take_job()?;
        let mut place = worker.place.lock();
        if *place == Place::Waiting {
            *place = Place::Busy;
            state.waiting -= 1;
            state.busy += 1;
        }
        Some(job)
    }

    /// Somebody who waits must come and serve.
    fn ring_the_waiting(&self) {
        for worker in self.all_workers() {
            if matches!(*worker.place.lock(), Place::Waiting | Place::Outside) {
                worker.bell.ring();
            }
        }
    }

    /// Gives free places away: to those who come back, then to idle workers, then to new threads.
    fn staff(&self, state: &mut State) -> Staffing {
        let mut staffing = Staffing::default();
        if self.is_crowded() {
            self.crowded.store(state.busy > state.max_threads, Ordering::Relaxed);
        }
        while state.busy < state.max_threads {
            if let Some(worker) = state.returning.pop_front() {
                *worker.place.lock() = Place::Busy;
                state.busy += 1;
                state.waiting -= 1;
                staffing.ring.push(worker);
                continue;
            }
            if state.jobs() <= state.coming {
                break;
            }
            if let Some(worker) = state.idle.pop() {
                *worker.place.lock() = Place::Coming;
                staffing.ring.push(worker);
            } else if state.threads < self.limits.hard_limit {
                state.threads += 1;
                staffing.spawn += 1;
            } else {
                break;
            }
            state.busy += 1;
            state.coming += 1;
        }
        staffing.starved = state.waiting > 0 && state.is_starved(self.limits.hard_limit);
        staffing
    }

    fn carry_out(self: &Arc<Self>, staffing: Staffing) {
        for worker in staffing.ring {
            worker.bell.ring();
        }
        if staffing.starved {
            self.ring_the_waiting();
        }
        for _ in 0..staffing.spawn {
            let pool = Arc::clone(self);
            let size = self.limits.stack_size;
            let body = move || {
                {
                    // A thread that runs was not refused.
                    let mut state = pool.state.lock();
                    state.refused = false;
                    state.peak = state.peak.max(state.threads);
                }
                pool.work(&Worker::new(Place::Coming, Some(size)));
            };
            if let Err(error) = thread::spawn(self.limits.thread_name.clone(), size, body) {
                let mut state = self.state.lock();
                state.threads -= 1;
                state.busy -= 1;
                state.coming -= 1;
                state.refused = true;
                let (threads, jobs) = (state.threads, state.jobs());
                let starved = state.is_starved(self.limits.hard_limit);
                drop(state);
                if starved {
                    self.ring_the_waiting();
                }
                logging::later!(Error, move || {
                    format!("the system refuses another thread ({error}); {threads} serve {jobs} jobs")
                });
            }
        }
    }

    /// From now on `worker` finds it. A thread of the user's may stay listed after its end; the next one sweeps.
    pub(crate) fn list(&self, worker: &Arc<Worker>) {
        if worker.listed.load(Ordering::Relaxed) == self.number {
            return;
        }
        worker.listed.store(self.number, Ordering::Relaxed);
        let mut workers = self.workers.lock();
        if workers.contains_key(&worker.id) {
            return;
        }
        workers.retain(|_, worker| worker.strong_count() > 0);
        workers.insert(worker.id, Arc::downgrade(worker));
    }

    pub(crate) fn worker(&self, id: u32) -> Option<Arc<Worker>> {
        self.workers.lock().get(&id)?.upgrade()
    }

    pub(crate) fn all_workers(&self) -> Vec<Arc<Worker>> {
        self.workers.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// The life of a worker thread.
    fn work(self: &Arc<Self>, worker: &Arc<Worker>) {
        worker.become_current();
        self.list(worker);
        while let Some(job) = self.next_job(worker) {
            if let Err(panic) = unwind::catch(|| job.run(worker)) {
                unwind::tell_outside_of_handlers("a worker", panic);
            }
            worker.do_chores();
            worker.told_starved.store(false, Ordering::Relaxed);
            if worker.tells_return.load(Ordering::Relaxed) && !planted("log_under_the_pools_lock") {
                worker.tells_return.store(false, Ordering::Relaxed);
                let name = worker.name.clone();
                logging::later!(Warn, move || format!("abandoned worker {name} is back"));
            }
            logging::between_jobs();
        }
        self.workers.lock().remove(&worker.id);
    }

    fn next_job(self: &Arc<Self>, worker: &Arc<Worker>) -> Option<Job> {
        let mut state = self.state.lock();
        let was = std::mem::replace(&mut *worker.place.lock(), Place::Idle);
        match was {
            Place::Coming => {
                state.coming -= 1;
                state.busy -= 1;
            }
            Place::Busy => state.busy -= 1,
            Place::Abandoned => {
                state.abandoned -= 1;
                if planted("log_under_the_pools_lock") && worker.tells_return.swap(false, Ordering::Relaxed) {
                    logging::warn!("abandoned worker {} is back", worker.name);
                }
            }
            Place::Waiting | Place::Returning => state.waiting -= 1,
            Place::Outside | Place::Idle => {}
        }
        let idle_until = if cfg!(threadbus_shuttle) { 0 } else { clock::after(clock::now(), self.limits.keep_alive) };
        loop {
            if state.busy < state.max_threads
                && state.returning.is_empty()
                && let Some(job) = state.take_job()
            {
                *worker.place.lock() = Place::Busy;
                state.busy += 1;
                // There may be more jobs than this one, and places left.
                let staffing = self.staff(&mut state);
                drop(state);
                self.carry_out(staffing);
                return Some(job);
            }
            let staffing = self.staff(&mut state);
            *worker.place.lock() = Place::Idle;
            state.idle.push(Arc::clone(worker));
            drop(state);
            self.carry_out(staffing);
            let mut expired = false;
            while *worker.place.lock() == Place::Idle && !expired {
                expired = clock::now() >= idle_until || !worker.bell.wait(idle_until) && clock::now() >= idle_until;
                worker.do_chores();
            }
            state = self.state.lock();
            let place = *worker.place.lock();
            if place == Place::Idle {
                state.idle.retain(|other| !Arc::ptr_eq(other, worker));
                if state.jobs() > 0 && state.busy < state.max_threads {
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
}
