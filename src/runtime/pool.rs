//! The elastic worker pool: threads start when needed, and end when idle for long. How it works: `pool/README.md`.
//!
//! A worker is *busy* while it may run user code; `max_threads` may be, and below that there is *room*. A suspended or abandoned one is not.

mod busy;
mod staff;
mod starved;
mod submit;
mod thread;

use crate::event::{Fairness, Priority};
use crate::runtime::crew::Crew;
use crate::runtime::jobs::Jobs;
use crate::runtime::lane::Lane;
use crate::runtime::stats::RuntimeStats;
use crate::runtime::watch::Watch;
use crate::runtime::worker::Worker;
use crate::sys::clock::{self, Tick};
use crate::sys::planted;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicU8, Ordering};
use crate::sys::thread::next_number;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct PoolSettings {
    pub(crate) max_threads: usize,
    pub(crate) hard_limit: usize,
    pub(crate) stack_size: usize,
    pub(crate) thread_name: String,
    pub(crate) keep_alive: Duration,
}

#[derive(Default)]
struct State {
    /// How many workers may be busy.
    max_threads: usize,
    jobs: Jobs,
    idle: Vec<Arc<Worker>>,
    /// Workers whose wait is over, and that wait for room.
    returning: VecDeque<Arc<Worker>>,
    threads: usize,
    /// How many threads have been asked for, which gives each its number.
    asked: u64,
    /// How many are busy, or on their way to a job.
    busy: usize,
    /// Of those, on their way to a job.
    coming: usize,
    /// Workers that are about to be through with their jobs, and will take another one, each with when that is believed no more.
    promised: Vec<(u64, Tick)>,
    /// The watch has a timer that looks whether they have come.
    awaits_promised: bool,
    waiting: usize,
    abandoned: usize,
    peak: usize,
    /// The system refused the last thread that was asked for.
    refused: bool,
    /// As long as there are threads, the system is not asked again before then.
    ask_again_at: Tick,
    /// The watch has a timer that asks again.
    asks_by_time: bool,
    stuck: Vec<Stuck>,
    /// What [`Pool::pressure`] shows.
    pressure: u8,
}

/// A worker that is parked until something comes, in a wait that no job can go on with here.
struct Stuck {
    worker: Arc<Worker>,
    /// There is a job that another thread could run for it, and its wait can fail.
    wants_thread: bool,
}

/// No job waits for room.
const NONE: u8 = 0;
/// Some job has no thread: a worker that has had a turn gives way.
const SOME: u8 = 1;
/// More threads run user code than may, since that was lowered: loops give way after the event they are at.
const CROWDED: u8 = 2;

impl State {
    /// The worker keeps no thread from others any more: its job is over, waits, or was given up.
    fn served(&mut self, worker: &Worker) {
        self.promised.retain(|(id, _)| *id != worker.id);
        let serving = worker.serving.lock().take();
        if let Some((lane, since)) = serving {
            self.jobs.served(lane, clock::now().saturating_sub(since));
        }
    }

    /// Some job has no thread that is on its way to one.
    fn lacks_threads(&self) -> bool {
        self.jobs.len() > self.coming + self.promised.len()
    }

    fn is_no_longer_stuck(&mut self, worker: &Arc<Worker>) {
        self.stuck.retain(|stuck| !Arc::ptr_eq(&stuck.worker, worker));
    }
}

pub(crate) struct Pool {
    /// No other pool of the process has it; never 0.
    number: u64,
    settings: PoolSettings,
    crew: Arc<Crew>,
    state: Mutex<State>,
    watch: Arc<Watch>,
    /// [`NONE`], [`SOME`] or [`CROWDED`], to be read without the lock.
    pressure: AtomicU8,
    /// Workers that may run handlers, by id.
    workers: Mutex<FxHashMap<u64, Weak<Worker>>>,
}

impl Pool {
    pub(crate) fn new(settings: PoolSettings, watch: &Arc<Watch>, crew: &Arc<Crew>) -> Arc<Pool> {
        let state = State { max_threads: settings.max_threads, ..State::default() };
        Arc::new(Pool {
            number: next_number(),
            settings,
            crew: Arc::clone(crew),
            state: Mutex::new(state),
            watch: Arc::clone(watch),
            pressure: AtomicU8::new(NONE),
            workers: Mutex::default(),
        })
    }

    /// A lane for a new bus.
    pub(crate) fn open_lane(&self, fairness: Fairness) -> Lane {
        self.state.lock().jobs.open(fairness)
    }

    /// The lane's bus is gone.
    pub(crate) fn close_lane(&self, lane: Lane) {
        self.state.lock().jobs.close(lane);
    }

    pub(crate) fn settings(&self) -> &PoolSettings {
        &self.settings
    }

    /// The loop of a bus, which may wait for a thread, has got an event of that priority.
    #[cold]
    pub(crate) fn raise(&self, lane: Lane, to: Priority) {
        if self.is_pressed() {
            self.state.lock().jobs.raise(lane, to);
        }
    }

    /// Jobs wait, and there is no room.
    #[inline]
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressure.load(Ordering::Relaxed) != NONE
    }

    /// A thread that has worked for so long gives way to a job that waits.
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

    /// With the state locked, after whatever changes the busy workers or the jobs.
    fn note_pressure(&self, state: &mut State) {
        let pressure = match state.lacks_threads() {
            _ if state.busy > state.max_threads => CROWDED,
            true => SOME,
            false => NONE,
        };
        if pressure != state.pressure {
            state.pressure = pressure;
            self.pressure.store(pressure, Ordering::Relaxed);
        }
    }

    pub(crate) fn stats(&self) -> RuntimeStats {
        let state = self.state.lock();
        RuntimeStats {
            threads: state.threads,
            busy: state.busy - state.coming,
            waiting: state.waiting,
            idle: state.idle.len() + state.coming,
            abandoned: state.abandoned,
            max_threads: state.max_threads,
            peak_threads: state.peak,
        }
    }

    /// Idle threads look whether they may stay.
    pub(crate) fn let_go(&self) {
        let idle = self.state.lock().idle.clone();
        idle.iter().for_each(|worker| worker.bell.ring());
    }

    /// From now on [`worker`](Pool::worker) finds it. A thread of the user's may stay listed after its end; the next one sweeps.
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
}
