//! The workers of a pool, as numbers and lists under one lock: so many at most, the last used first, none before it is needed.

use super::claim::Claim;
use super::config::Config;
use super::link::{Link, Order};
use crate::event::HandlerFailure;
use crate::sys::clock::{self, Tick};
use crate::sys::sync::atomic::Ordering;
use crate::sys::sync::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;
use std::time::Duration;

/// What a pool's handlers, its keepers and its owner share. How a worker is started is in `start`, how a request uses one in `call`.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) config: Config,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Arc<Link>>,
    all: Vec<Arc<Link>>,
    /// The workers in `all`, and those that are just being started.
    live: usize,
    peak: usize,
    started: u64,
    requests: u64,
    recycled: u64,
    /// Handlers registered: their events' type, by name and as the compiler calls it.
    users: Vec<(&'static str, &'static str)>,
    /// In a row.
    failed_starts: u32,
    /// When the next worker may be started.
    not_before: Tick,
    closed: bool,
}

/// Numbers of a pool, at one moment.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// Worker processes there are, those included that are being started or ended.
    pub live: usize,
    /// Worker processes that wait for work.
    pub idle: usize,
    /// The most worker processes there were at once.
    pub peak: usize,
    /// Worker processes started so far.
    pub started: u64,
    /// Worker processes ended so far because they had done enough: [`max_events`](crate::process::PoolBuilder::max_events),
    /// [`max_memory`](crate::process::PoolBuilder::max_memory).
    pub recycled: u64,
}

/// Where a request may go.
pub(super) enum Found {
    /// To this worker, which no other request gets.
    Idle(Arc<Link>),
    /// To a new worker, whose place is taken: the caller starts it.
    Room,
    /// Nowhere: the request is given up.
    GivenUp,
}

/// What became of a worker whose idle time is up.
pub(crate) enum AfterIdle {
    /// It was idle, and no request gets it any more.
    Ends,
    /// It is idle, and is to stay.
    Stays,
    InUse,
}

/// Why a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The pool had it end, or it ended after it was of use.
    Usual,
    /// It ended by itself before it was of any use: the next start is delayed.
    FailedStart,
}

impl State {
    /// How many workers there are, or will be, without those that are being ended.
    fn staying(&self) -> usize {
        self.live - self.all.iter().filter(|link| link.is_leaving()).count()
    }

    /// Whether there are to be more, of a pool that keeps `least`.
    fn lacks(&self, least: usize) -> bool {
        !self.closed && !self.users.is_empty() && self.staying() < least
    }

    /// The idle worker that was used last, and serves, if one does.
    fn take_idle(&mut self) -> Option<Arc<Link>> {
        let serves = self.idle.iter().rposition(|link| link.is_serving());
        serves.map(|at| self.idle.remove(at)).or_else(|| self.idle.pop())
    }

    fn counts_start(&mut self) {
        self.live += 1;
        self.peak = self.peak.max(self.live);
        self.started += 1;
    }

    /// A program that does not start is not started again at once: after 0.1 s, and twice as long each time, to 3.2 s.
    fn stand_back(&mut self) {
        const FIRST: Duration = Duration::from_millis(100);
        if clock::now() < self.not_before {
            // Another worker that was started together with this one has failed already.
            return;
        }
        let delay = FIRST * (1 << self.failed_starts.min(5));
        self.failed_starts += 1;
        self.not_before = clock::after(clock::now(), delay);
    }
}

/// What a process has in memory, where the system says so.
fn memory_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

impl Slots {
    pub(crate) fn new(config: Config) -> Self {
        Slots { config, state: Mutex::default(), changed: Condvar::new() }
    }

    // Requests.

    /// Numbers a request, and waits until an idle worker or the place of a new one is its own.
    pub(super) fn find(&self, claim: &Claim) -> Result<(u64, Found), HandlerFailure> {
        let mut state = self.state.lock();
        state.requests += 1;
        let request = state.requests;
        loop {
            if claim.given_up.load(Ordering::SeqCst) {
                return Ok((request, Found::GivenUp));
            }
            if state.closed {
                return Err(self.is_shut_down());
            }
            if let Some(link) = state.take_idle() {
                return Ok((request, Found::Idle(link)));
            }
            if !self.waits_for_start(&mut state) {
                state.counts_start();
                return Ok((request, Found::Room));
            }
        }
    }

    /// Ends the claim's request, from another thread.
    pub(crate) fn give_up(&self, claim: &Claim) {
        {
            // Set under the lock, so that a handler's thread that is about to wait sees it.
            let _state = self.state.lock();
            claim.given_up.store(true, Ordering::SeqCst);
        }
        self.changed.notify_all();
        let on = claim.on.lock().clone();
        if let Some((link, request)) = on {
            link.give_up(request);
        }
    }

    /// Keeps the worker for the next request; or has it end, if no handler uses the pool, or it has done enough.
    pub(super) fn check_in(&self, link: Arc<Link>) {
        let worn = self.is_worn(&link);
        let mut state = self.state.lock();
        if state.closed || state.users.is_empty() {
            link.order(Order::Retire);
        } else if state.all.iter().any(|other| Arc::ptr_eq(other, &link)) {
            if worn {
                state.recycled += 1;
                link.order(Order::Retire);
            } else {
                state.idle.push(link);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    fn is_worn(&self, link: &Link) -> bool {
        let answered = link.answered_so_far();
        let memory = |most| answered > 0 && memory_of(link.pid).is_some_and(|bytes| bytes > most);
        self.config.max_events.is_some_and(|most| answered >= most) || self.config.max_memory.is_some_and(memory)
    }

    pub(super) fn is_shut_down(&self) -> HandlerFailure {
        HandlerFailure::Worker(format!("the pool of {} is shut down", self.config.name()))
    }

    // Starts.

    /// Whether a worker is missing that can be started now; if so, its place is taken: the caller starts it.
    pub(super) fn takes_place_of_missing(&self) -> bool {
        let mut state = self.state.lock();
        let has_room = state.live < self.config.max_processes;
        let starts = state.lacks(self.config.min_processes) && has_room && clock::now() >= state.not_before;
        if starts {
            state.counts_start();
        }
        starts
    }

    /// Waits until a worker that is missing can be started. False if none is missing.
    pub(super) fn waits_to_start_missing(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            if !state.lacks(self.config.min_processes) {
                return false;
            }
            if !self.waits_for_start(&mut state) {
                return true;
            }
        }
    }

    /// Waits once if no worker can be started now: for a place, which workers that are being ended have still, or until a program that failed
    /// may be tried again. False if one can be started.
    fn waits_for_start(&self, state: &mut MutexGuard<'_, State>) -> bool {
        match clock::instant(state.not_before) {
            _ if state.live >= self.config.max_processes => self.changed.wait(state),
            Some(instant) if clock::now() < state.not_before => {
                self.changed.wait_until(state, instant);
            }
            _ => return false,
        }
        true
    }

    pub(super) fn lacks(&self) -> bool {
        self.state.lock().lacks(self.config.min_processes)
    }

    /// A worker whose place was taken has a process.
    pub(super) fn add(&self, link: &Arc<Link>) {
        self.state.lock().all.push(Arc::clone(link));
    }

    /// Takes `add` back: the worker has a process, but no keeper.
    pub(super) fn remove(&self, link: &Arc<Link>) {
        self.state.lock().all.retain(|other| !Arc::ptr_eq(other, link));
    }

    /// Gives the place of a worker back that could not be started.
    pub(super) fn start_failed(&self) {
        let mut state = self.state.lock();
        state.live -= 1;
        state.started -= 1;
        state.stand_back();
        drop(state);
        self.changed.notify_all();
    }

    // What keepers tell.

    /// Asks whether an idle worker ends now; if so, no request gets it any more.
    pub(crate) fn take_idle(&self, link: &Arc<Link>) -> AfterIdle {
        let mut state = self.state.lock();
        let Some(at) = state.idle.iter().position(|other| Arc::ptr_eq(other, link)) else { return AfterIdle::InUse };
        if state.staying() <= self.config.min_processes && !state.users.is_empty() {
            return AfterIdle::Stays;
        }
        state.idle.remove(at);
        link.leaves();
        AfterIdle::Ends
    }

    /// A worker answers, so the program starts: starts are not delayed any more.
    pub(crate) fn has_started(&self) {
        let mut state = self.state.lock();
        state.failed_starts = 0;
        state.not_before = 0;
        drop(state);
        self.changed.notify_all();
    }

    /// A worker's process is reaped.
    pub(crate) fn gone(&self, link: &Arc<Link>, end: End) {
        let mut state = self.state.lock();
        state.idle.retain(|other| !Arc::ptr_eq(other, link));
        state.all.retain(|other| !Arc::ptr_eq(other, link));
        state.live -= 1;
        if end == End::FailedStart {
            state.stand_back();
        }
        drop(state);
        self.changed.notify_all();
    }

    // The pool's handlers and its owner.

    pub(crate) fn stats(&self) -> PoolStats {
        let state = self.state.lock();
        PoolStats {
            live: state.live,
            idle: state.idle.len(),
            peak: state.peak,
            started: state.started,
            recycled: state.recycled,
        }
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.state.lock().all.iter().map(|link| link.pid).collect()
    }

    /// Counts a handler for events of that type. Returns what another type of that name is called by the compiler, if there is one.
    pub(super) fn add_user(&self, name: &'static str, rust_type: &'static str) -> Option<&'static str> {
        let mut state = self.state.lock();
        let clash = state.users.iter().find(|user| user.0 == name && user.1 != rust_type).map(|user| user.1);
        state.users.push((name, rust_type));
        clash
    }

    /// Counts a handler no more. With the last one the idle workers go: waits for them, and for those that are being ended.
    pub(crate) fn user_left(&self, name: &'static str, rust_type: &'static str) {
        {
            let mut state = self.state.lock();
            if let Some(at) = state.users.iter().position(|user| *user == (name, rust_type)) {
                state.users.remove(at);
            }
            if !state.users.is_empty() {
                return;
            }
            std::mem::take(&mut state.idle).iter().for_each(|link| link.order(Order::Retire));
        }
        self.changed.notify_all();
        self.wait_until(|state| state.live == state.all.len() && !state.all.iter().any(|link| link.is_leaving()));
    }

    /// Takes no more requests, and ends all workers.
    pub(crate) fn close(&self) {
        let all = {
            let mut state = self.state.lock();
            state.closed = true;
            let idle = std::mem::take(&mut state.idle);
            idle.iter().for_each(|link| link.order(Order::Retire));
            let busy = state.all.iter().filter(|link| !idle.iter().any(|other| Arc::ptr_eq(other, link)));
            busy.cloned().collect::<Vec<_>>()
        };
        self.changed.notify_all();
        all.iter().for_each(|link| link.order(Order::Kill));
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Waits until no process is left; false if that takes too long.
    pub(crate) fn wait_until_gone(&self) -> bool {
        self.wait_until(|state| state.live == 0)
    }

    /// Waits no longer than workers have for their end, and the system for killing them.
    fn wait_until(&self, done: impl Fn(&State) -> bool) -> bool {
        const KILLING: Duration = Duration::from_secs(5);
        let deadline = clock::after(clock::after(clock::now(), self.config.kill_grace), KILLING);
        let mut state = self.state.lock();
        while !done(&state) {
            match clock::instant(deadline) {
                Some(_) if clock::now() >= deadline => return false,
                Some(instant) => drop(self.changed.wait_until(&mut state, instant)),
                None => self.changed.wait(&mut state),
            }
        }
        true
    }
}
