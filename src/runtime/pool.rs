//! The elastic worker pool: threads start when needed, and end when idle for long.
//!
//! A *place* is the right to run user code; there are `max_threads`. A suspended or abandoned worker has none. See `README.md`, 3.8.

use crate::event::{AnyEvent, Fairness, Priority};
use crate::runtime::crew::Crew;
use crate::runtime::job::{Job, Needs};
use crate::runtime::jobs::Jobs;
use crate::runtime::lane::Lane;
use crate::runtime::watch::Watch;
use crate::runtime::worker::{Activity, Worker};
use crate::sync::refused::{self, Wish};
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicU8, Ordering};
use crate::sys::{logging, planted, thread, unwind};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

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
    jobs: Jobs,
    idle: Vec<Arc<Worker>>,
    returning: VecDeque<Arc<Worker>>,
    threads: usize,
    /// How many threads have been asked for, which gives each its number.
    asked: u64,
    /// Places taken.
    busy: usize,
    /// Of those, on their way to a job.
    coming: usize,
    waiting: usize,
    abandoned: usize,
    peak: usize,
    /// The system refused the last thread that was asked for.
    refused: bool,
    /// Not before then is it asked again, as long as there are threads.
    ask_again_at: Tick,
    /// The watch will ask then.
    asks_by_time: bool,
    /// Parked until something comes, in a wait that no job can go on with here; and whether one could elsewhere.
    stuck: Vec<(Arc<Worker>, bool)>,
    pressure: u8,
}

/// Nobody stands in line for a place.
const NONE: u8 = 0;
/// Some job has no thread: whoever has had a turn gives way.
const SOME: u8 = 1;
/// More threads run user code than may, since that was lowered: loops give their places back after the event they are at.
const CROWDED: u8 = 2;

/// How long a refusal stands while there are threads.
const REFUSAL: Duration = Duration::from_millis(20);

impl State {
    /// There are jobs, and nobody will come for them: all threads are suspended or given up, and there can be no more.
    fn is_starved(&self, hard_limit: usize) -> bool {
        self.jobs.len() > 0
            && self.busy == 0
            && self.idle.is_empty()
            && self.returning.is_empty()
            && (self.threads >= hard_limit || self.refused)
    }

    /// The worker keeps no thread from others any more: its job is over, waits, or was given up.
    fn served(&mut self, worker: &Worker) {
        let turn = worker.serving.lock().take();
        if let Some((lane, since)) = turn {
            self.jobs.served(lane, clock::now().saturating_sub(since));
        }
    }

    /// Every thread stands still, and will for good: which of them could go on if it had another one for what it waits for?
    fn hopeless(&mut self, hard_limit: usize) -> Option<Arc<Worker>> {
        if self.stuck.len() < self.threads || !self.is_starved(hard_limit) {
            return None;
        }
        let at = self.stuck.iter().position(|(_, wants)| *wants)?;
        Some(self.stuck.swap_remove(at).0)
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
    number: u64,
    limits: Limits,
    crew: Arc<Crew>,
    state: Mutex<State>,
    watch: Arc<Watch>,
    /// What `state` has of it, to be read without the lock.
    pressure: AtomicU8,
    /// By id, those that may run handlers.
    workers: Mutex<FxHashMap<u64, Weak<Worker>>>,
}

/// What to do after unlocking.
#[derive(Default)]
struct Staffing {
    ring: Vec<Arc<Worker>>,
    spawn: usize,
    /// The number of the last one of these.
    last: u64,
    starved: bool,
}

/// What the system shows of a thread's name: Linux keeps so many bytes.
const SHOWN: usize = 15;

/// `prefix-7`, with as much of the prefix as leaves the number to be seen.
fn numbered(prefix: &str, number: u64) -> String {
    let number = format!("-{number}");
    let room = SHOWN.saturating_sub(number.len());
    let kept = (0..=room.min(prefix.len())).rev().find(|&at| prefix.is_char_boundary(at)).unwrap_or(0);
    format!("{}{number}", &prefix[..kept])
}

impl Pool {
    pub(crate) fn new(limits: Limits, watch: &Arc<Watch>, crew: &Arc<Crew>) -> Arc<Pool> {
        let state = State { max_threads: limits.max_threads, ..State::default() };
        Arc::new(Pool {
            number: thread::next_number(),
            limits,
            crew: Arc::clone(crew),
            state: Mutex::new(state),
            watch: Arc::clone(watch),
            pressure: AtomicU8::new(NONE),
            workers: Mutex::default(),
        })
    }

    /// For a new bus.
    pub(crate) fn open_lane(&self, fairness: Fairness) -> Lane {
        self.state.lock().jobs.open(fairness)
    }

    /// Its bus is gone.
    pub(crate) fn close_lane(&self, lane: Lane) {
        self.state.lock().jobs.close(lane);
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A loop, or a job that nobody else waits for.
    pub(crate) fn submit(self: &Arc<Self>, job: Job) {
        let granted = matches!(job, Job::Loop(..));
        self.add(job, granted);
    }

    /// The loop of a bus may wait for a thread, and has an event of that priority by now.
    #[cold]
    pub(crate) fn raise(&self, lane: Lane, to: Priority) {
        if self.is_pressed() {
            self.state.lock().jobs.raise(lane, to);
        }
    }

    /// A job whose turn has come: it holds permits, so it goes with the loops.
    pub(crate) fn submit_granted(self: &Arc<Self>, job: Job) {
        self.add(job, true);
    }

    fn add(self: &Arc<Self>, job: Job, granted: bool) {
        if let Job::Pumped(bus, work) = job {
            return bus.keep(work);
        }
        let now = clock::now();
        let mut state = self.state.lock();
        state.jobs.push(job, granted, now);
        // Whoever found nothing that it needs looks again.
        state.stuck.clear();
        let staffing = self.staff(&mut state);
        drop(state);
        self.carry_out(staffing);
    }

    /// The calling worker is about to park in a wait of ours.
    pub(crate) fn suspend(self: &Arc<Self>, worker: &Worker) {
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

    /// Its wait is over. May block until there is a place; those who come back go before every queued job.
    pub(crate) fn resume(&self, worker: &Arc<Worker>) {
        let mut state = self.state.lock();
        state.stuck.retain(|(other, _)| !Arc::ptr_eq(other, worker));
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

    /// The worker's handler was given up: its place is free. True if this call did it.
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
        state.stuck.retain(|(other, _)| !Arc::ptr_eq(other, worker));
        state.served(worker);
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
        let staffing = self.staff(&mut state);
        drop(state);
        self.carry_out(staffing);
    }

    /// Jobs stand in line for the places that are taken.
    #[inline]
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressure.load(Ordering::Relaxed) != NONE
    }

    /// Whether a thread that has worked for so long leaves its place to them.
    pub(crate) fn gives_way(&self, worked: Tick) -> bool {
        /// Short, so that a bus with one event is served soon; long beside what it takes to change over.
        const TURN: Tick = if cfg!(threadbus_shuttle) { 1 } else { 1_000_000 };
        if planted("keeps_its_thread") {
            return false;
        }
        match self.pressure.load(Ordering::Relaxed) {
            NONE => false,
            CROWDED => true,
            _ => worked >= TURN,
        }
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
        state.idle.len() + state.coming + more > state.jobs.len()
    }

    /// True if there are jobs that no thread will come for.
    pub(crate) fn is_starved(&self) -> bool {
        self.state.lock().is_starved(self.limits.hard_limit)
    }

    /// With this worker parked nobody would come for a job: it is the last thread that runs anything, and there can be no more.
    pub(crate) fn is_last(&self, worker: &Worker) -> bool {
        let state = self.state.lock();
        let own = usize::from(*worker.activity.lock() == Activity::Busy);
        state.busy == own
            && state.idle.is_empty()
            && state.returning.is_empty()
            && (state.threads >= self.limits.hard_limit || state.refused)
    }

    /// There are jobs that no thread will come for, and there is not a single thread: the system refuses them all.
    pub(crate) fn is_deserted(&self) -> bool {
        let state = self.state.lock();
        state.threads == 0 && state.is_starved(self.limits.hard_limit)
    }

    /// A job that no thread will come for, for one that is suspended in a wait which needs it: it has its place again.
    pub(crate) fn take_needed(&self, worker: &Worker, needs: &Needs) -> Option<Job> {
        let mut state = self.state.lock();
        if !state.is_starved(self.limits.hard_limit) {
            return None;
        }
        let job = if planted("serves_anything_on_top") {
            let (job, lane) = state.jobs.pop(0)?;
            state.jobs.served(lane, 0);
            job
        } else {
            state.jobs.take(needs)?
        };
        let mut activity = worker.activity.lock();
        if *activity == Activity::Waiting {
            *activity = Activity::Busy;
            state.waiting -= 1;
            state.busy += 1;
        }
        Some(job)
    }

    /// A thread of the pool parks for good in a wait that it could not go on with here. True if nobody ever can: then the wait is over.
    ///
    /// That is so when every other thread stands still like this one; what they wait for has come to its thread, or never will.
    pub(crate) fn is_stuck(&self, worker: &Arc<Worker>, needs: &Needs) -> bool {
        let hopeless = {
            let mut state = self.state.lock();
            let wants = needs.can_fail && state.jobs.has(needs);
            state.stuck.retain(|(other, _)| !Arc::ptr_eq(other, worker));
            state.stuck.push((Arc::clone(worker), wants));
            state.hopeless(self.limits.hard_limit)
        };
        let Some(other) = hopeless else { return false };
        if Arc::ptr_eq(&other, worker) {
            return true;
        }
        other.has_no_thread.store(true, Ordering::SeqCst);
        other.bell.ring();
        false
    }

    /// Deliveries whose turn has come, and that are needed: no thread comes for them.
    pub(crate) fn granted_deliveries(&self, needs: &Needs) -> Vec<(AnyEvent, usize)> {
        self.state.lock().jobs.granted_deliveries(needs)
    }

    /// Somebody who waits must come and serve. Those that have looked and found nothing sleep on, or they would keep each other awake.
    fn ring_the_waiting(&self, but: Option<&Worker>) {
        let waiting: Vec<Arc<Worker>> = {
            let state = self.state.lock();
            let is_stuck = |worker: &Arc<Worker>| state.stuck.iter().any(|(stuck, _)| Arc::ptr_eq(stuck, worker));
            self.all_workers().into_iter().filter(|worker| !is_stuck(worker)).collect()
        };
        for worker in waiting.iter().filter(|worker| but.is_none_or(|but| worker.id != but.id)) {
            let activity = *worker.activity.lock();
            if activity == Activity::Outside || activity == Activity::Waiting && worker.serves.load(Ordering::Relaxed) {
                worker.bell.ring();
            }
        }
    }

    /// Gives free places away: to those who come back, then to idle workers, then to new threads.
    fn staff(&self, state: &mut State) -> Staffing {
        let mut staffing = Staffing::default();
        let may_ask = !state.refused || state.threads == 0 || clock::now() >= state.ask_again_at;
        while state.busy < state.max_threads {
            if let Some(worker) = state.returning.pop_front() {
                *worker.activity.lock() = Activity::Busy;
                state.busy += 1;
                state.waiting -= 1;
                staffing.ring.push(worker);
                continue;
            }
            if state.jobs.len() <= state.coming {
                break;
            }
            if let Some(worker) = state.idle.pop() {
                *worker.activity.lock() = Activity::Coming;
                staffing.ring.push(worker);
            } else if state.threads < self.limits.hard_limit && may_ask {
                state.threads += 1;
                state.asked += 1;
                staffing.last = state.asked;
                staffing.spawn += 1;
            } else {
                break;
            }
            state.busy += 1;
            state.coming += 1;
        }
        staffing.starved = state.waiting > 0 && state.is_starved(self.limits.hard_limit);
        self.note_pressure(state);
        staffing
    }

    fn note_pressure(&self, state: &mut State) {
        let pressure = match state.jobs.len() > state.coming {
            _ if state.busy > state.max_threads => CROWDED,
            true => SOME,
            false => NONE,
        };
        if pressure != state.pressure {
            state.pressure = pressure;
            self.pressure.store(pressure, Ordering::Relaxed);
        }
    }

    fn carry_out(self: &Arc<Self>, staffing: Staffing) {
        for worker in staffing.ring {
            worker.bell.ring();
        }
        if staffing.starved {
            self.ring_the_waiting(None);
        }
        for left in (0..staffing.spawn).rev() {
            let number = staffing.last - left as u64;
            let pool = Arc::clone(self);
            let size = self.limits.stack_size;
            let body = move || {
                {
                    // A thread that runs was not refused.
                    let mut state = pool.state.lock();
                    state.refused = false;
                    state.peak = state.peak.max(state.threads);
                }
                pool.work(&Worker::new(Activity::Coming, Some(size)));
            };
            if let Err(error) = self.crew.spawn(numbered(&self.limits.thread_name, number), size, body) {
                return self.is_refused(left + 1, &error);
            }
        }
    }

    /// The system refuses a thread, so the `wanted` that were to be started are not asked for now. It is asked again in a while, and by
    /// whoever emits or waits.
    #[cold]
    fn is_refused(self: &Arc<Self>, wanted: usize, error: &std::io::Error) {
        let mut state = self.state.lock();
        state.threads -= wanted;
        state.busy -= wanted;
        state.coming -= wanted;
        let is_new = !std::mem::replace(&mut state.refused, true);
        state.ask_again_at = clock::after(clock::now(), REFUSAL);
        let (threads, jobs) = (state.threads, state.jobs.len());
        let starved = state.is_starved(self.limits.hard_limit);
        self.note_pressure(&mut state);
        let at = state.ask_again_at;
        let plans = !std::mem::replace(&mut state.asks_by_time, true) && !cfg!(threadbus_shuttle);
        drop(state);
        let pool = Arc::downgrade(self);
        if !planted("refusal_is_final") {
            refused::note(pool.clone());
        }
        if plans {
            self.watch.at(at, move || {
                if let Some(pool) = pool.upgrade() {
                    pool.state.lock().asks_by_time = false;
                    pool.ask_again();
                }
            });
        }
        if starved && is_new {
            // Only once: whoever is rung asks again before it parks, and comes back by time from then on.
            self.ring_the_waiting(None);
        }
        if is_new {
            let error = error.to_string();
            logging::later!(Error, move || {
                format!("the system refuses another thread ({error}); {threads} serve {jobs} jobs until it gives one")
            });
        }
    }

    /// Idle threads look whether they may stay.
    pub(crate) fn let_go(&self) {
        let idle = self.state.lock().idle.clone();
        idle.iter().for_each(|worker| worker.bell.ring());
    }

    /// From now on `worker` finds it. A thread of the user's may stay listed after its end; the next one sweeps.
    #[inline]
    pub(crate) fn list(&self, worker: &Arc<Worker>) {
        if worker.listed.load(Ordering::Relaxed) != self.number {
            self.list_anew(worker);
        }
    }

    #[cold]
    fn list_anew(&self, worker: &Arc<Worker>) {
        worker.listed.store(self.number, Ordering::Relaxed);
        let mut workers = self.workers.lock();
        if workers.contains_key(&worker.id) {
            return;
        }
        workers.retain(|_, worker| worker.strong_count() > 0);
        workers.insert(worker.id, Arc::downgrade(worker));
    }

    pub(crate) fn worker(&self, id: u64) -> Option<Arc<Worker>> {
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
        state.served(worker);
        let was = std::mem::replace(&mut *worker.activity.lock(), Activity::Idle);
        match was {
            Activity::Coming => {
                state.coming -= 1;
                state.busy -= 1;
            }
            Activity::Busy => state.busy -= 1,
            Activity::Abandoned => {
                state.abandoned -= 1;
                if planted("log_under_the_pools_lock") && worker.tells_return.swap(false, Ordering::Relaxed) {
                    logging::warn!("abandoned worker {} is back", worker.name);
                }
            }
            Activity::Waiting | Activity::Returning => state.waiting -= 1,
            Activity::Outside | Activity::Idle => {}
        }
        let keep_alive = self.limits.keep_alive;
        let models = cfg!(threadbus_shuttle) && keep_alive < Duration::MAX;
        let idle_until = if models { 0 } else { clock::after(clock::now(), keep_alive) };
        let is_over = || !self.crew.may_stay() || clock::now() >= idle_until;
        loop {
            if state.busy < state.max_threads
                && state.returning.is_empty()
                && let now = clock::now()
                && let Some((job, lane)) = state.jobs.pop(now)
            {
                *worker.serving.lock() = Some((lane, now));
                *worker.activity.lock() = Activity::Busy;
                state.busy += 1;
                // There may be more jobs than this one, and places left.
                let staffing = self.staff(&mut state);
                drop(state);
                self.carry_out(staffing);
                return Some(job);
            }
            let staffing = self.staff(&mut state);
            *worker.activity.lock() = Activity::Idle;
            state.idle.push(Arc::clone(worker));
            drop(state);
            self.carry_out(staffing);
            let mut expired = false;
            while *worker.activity.lock() == Activity::Idle && !expired {
                expired = is_over() || !worker.bell.wait(refused::come_back(idle_until)) && is_over();
                worker.do_chores();
            }
            state = self.state.lock();
            let activity = *worker.activity.lock();
            if activity == Activity::Idle {
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
}

impl Wish for Pool {
    fn ask_again(self: Arc<Self>) {
        let mut state = self.state.lock();
        let staffing = self.staff(&mut state);
        let not_yet = state.refused && staffing.spawn == 0 && state.jobs.len() > state.coming;
        drop(state);
        if not_yet {
            // Whoever comes by next may ask.
            let me: Weak<Pool> = Arc::downgrade(&self);
            refused::note(me);
        }
        self.carry_out(staffing);
    }
}
