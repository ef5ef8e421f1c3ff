//! The workers of a pool: so many at most, the last used first, none before it is needed.

use super::claim::Claim;
use super::frame::{self, Frames};
use super::keeper::{Keeper, Phase, Printed};
use super::link::{Link, Order, Reply, Stage};
use super::marker;
use super::pool::Config;
use crate::bus::at_process;
use crate::event::HandlerFailure;
use crate::process::child::Watched;
use crate::sys::clock::{self, Tick};
use crate::sys::logging;
use crate::sys::sync::atomic::Ordering;
use crate::sys::sync::{Condvar, Mutex};
use crate::sys::thread;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// A keeper reads, and hands to the log.
const KEEPER_STACK: usize = 512 * 1024;

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
    /// Those in `all`, and those that are just being started.
    live: usize,
    peak: usize,
    started: u64,
    requests: u64,
    recycled: u64,
    /// Handlers registered: their events' type, by name and as the compiler calls it.
    users: Vec<(&'static str, &'static str)>,
    /// In a row.
    failed_starts: u32,
    /// When the next may be started.
    not_before: Tick,
    closed: bool,
}

/// Numbers of a pool, at one moment.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// Worker processes there are, those included that are being started or ended.
    pub live: usize,
    /// Of which wait for work.
    pub idle: usize,
    /// The most there were at once.
    pub peak: usize,
    /// Started so far.
    pub started: u64,
    /// Ended so far because they had done enough: [`max_events`](crate::process::PoolBuilder::max_events),
    /// [`max_memory`](crate::process::PoolBuilder::max_memory).
    pub recycled: u64,
}

/// What became of a worker whose idle time is up.
pub(crate) enum AfterIdle {
    /// It was idle, and nobody gets it any more.
    Ends,
    /// It is idle, and is to stay.
    Stays,
    InUse,
}

impl State {
    /// So many there are, or will be, without those that are being ended.
    fn staying(&self) -> usize {
        self.live - self.all.iter().filter(|link| link.is_leaving()).count()
    }

    /// There are to be more.
    fn lacks(&self, least: usize) -> bool {
        !self.closed && !self.users.is_empty() && self.staying() < least
    }

    /// The one that was used last, and serves, if one does.
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
            // Others that were started together with it have failed already.
            return;
        }
        let delay = FIRST * (1 << self.failed_starts.min(5));
        self.failed_starts += 1;
        self.not_before = clock::after(clock::now(), delay);
    }
}

/// What it has in memory, where the system says so.
fn memory_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

impl Slots {
    pub(crate) fn new(config: Config) -> Self {
        Slots { config, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Has a worker do it; `frame` gets the request's number. A worker that was gone before its handler began is no reason to fail: another
    /// one is asked, as long as there are such that have answered before, and once if none has. `unlogged`: nothing is logged about it.
    /// `begins`: once the handler has begun over there.
    pub(crate) fn call(
        self: &Arc<Self>,
        claim: &Claim,
        frame: &mut [u8],
        unlogged: bool,
        begins: impl Fn(),
    ) -> Result<Reply, HandlerFailure> {
        let (mut fresh_ones, mut lost) = (0, 0);
        loop {
            let words = || format!("waits for a worker process of {}", self.config.name());
            let checked_out = at_process(words, || self.check_out(claim, unlogged))?;
            let Some((link, request, was_idle)) = checked_out else { return Ok(Reply::GivenUp) };
            frame::number(frame, request);
            fresh_ones += u32::from(link.answered_so_far() == 0);
            *claim.on.lock() = Some((Arc::clone(&link), request));
            let starts = || format!("waits for worker process {} to start", link.pid);
            let taken_up = at_process(starts, || link.take_up(request, &claim.given_up, unlogged));
            let works = || format!("waits for worker process {}", link.pid);
            let ended = taken_up.then(|| at_process(works, || link.call(frame, &begins)));
            *claim.on.lock() = None;
            let (reply, stage) = ended.unwrap_or((Reply::GivenUp, Stage::Starting));
            match &reply {
                Reply::Outcome { .. } => self.check_in(link),
                // It has not had the request.
                Reply::GivenUp if stage == Stage::Starting => self.check_in(link),
                Reply::Gone { stage: Stage::Sent, .. } if fresh_ones < 2 => continue,
                // It was started for somebody else, or for nobody.
                Reply::Gone { stage: Stage::Starting, .. } if was_idle && lost == 0 => {
                    lost += 1;
                    continue;
                }
                // Nobody gets that worker any more.
                Reply::Gone { .. } | Reply::GivenUp => {}
            }
            return Ok(reply);
        }
    }

    /// Ends the claim's request, from another thread.
    pub(crate) fn give_up(&self, claim: &Claim) {
        {
            // Under the lock, so that who is about to wait sees it.
            let _state = self.state.lock();
            claim.given_up.store(true, Ordering::SeqCst);
        }
        self.changed.notify_all();
        let on = claim.on.lock().clone();
        if let Some((link, request)) = on {
            link.give_up(request);
        }
    }

    /// A worker, the request's number, and whether the worker was idle. None if the claim is given up.
    fn check_out(
        self: &Arc<Self>,
        claim: &Claim,
        unlogged: bool,
    ) -> Result<Option<(Arc<Link>, u64, bool)>, HandlerFailure> {
        let request = {
            let mut state = self.state.lock();
            state.requests += 1;
            let request = state.requests;
            loop {
                if claim.given_up.load(Ordering::SeqCst) {
                    return Ok(None);
                }
                if state.closed {
                    return Err(self.is_shut_down());
                }
                if let Some(link) = state.take_idle() {
                    return Ok(Some((link, request, true)));
                }
                match clock::instant(state.not_before) {
                    _ if state.live >= self.config.max_processes => self.changed.wait(&mut state),
                    Some(instant) if clock::now() < state.not_before => {
                        self.changed.wait_until(&mut state, instant);
                    }
                    _ => break,
                }
            }
            state.counts_start();
            request
        };
        Ok(Some((self.start(unlogged)?, request, false)))
    }

    /// Starts one, which is counted already.
    fn start(self: &Arc<Self>, unlogged: bool) -> Result<Arc<Link>, HandlerFailure> {
        match self.spawn(unlogged) {
            Ok(link) if self.state.lock().closed => {
                // Whoever closed it may not have seen this one.
                link.order(Order::Kill);
                Err(self.is_shut_down())
            }
            Ok(link) => Ok(link),
            Err(error) => {
                let mut state = self.state.lock();
                state.live -= 1;
                state.started -= 1;
                state.stand_back();
                drop(state);
                self.changed.notify_all();
                Err(HandlerFailure::WorkerStart(format!("{} cannot be started: {error}", self.config.name())))
            }
        }
    }

    fn is_shut_down(&self) -> HandlerFailure {
        HandlerFailure::Worker(format!("the pool of {} is shut down", self.config.name()))
    }

    /// For the next request; or it ends, if nobody wants it, or it has done enough.
    fn check_in(&self, link: Arc<Link>) {
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

    /// As many as there are to be at least.
    fn fill(self: &Arc<Self>) {
        loop {
            {
                let mut state = self.state.lock();
                let has_room = state.live < self.config.max_processes;
                if !state.lacks(self.config.min_processes) || !has_room || clock::now() < state.not_before {
                    return;
                }
                state.counts_start();
            }
            match self.start(false) {
                Ok(link) => self.check_in(link),
                Err(error) => {
                    logging::later!(Warn, move || error.to_string());
                    return;
                }
            }
        }
    }

    /// If it is idle and not needed, nobody gets it any more.
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

    /// One works: what its program lacked it has.
    pub(crate) fn has_started(&self) {
        let mut state = self.state.lock();
        state.failed_starts = 0;
        state.not_before = 0;
        drop(state);
        self.changed.notify_all();
    }

    /// `failed`: it ended by itself before it was of any use.
    pub(crate) fn gone(self: &Arc<Self>, link: &Arc<Link>, failed: bool) {
        let mut state = self.state.lock();
        state.idle.retain(|other| !Arc::ptr_eq(other, link));
        state.all.retain(|other| !Arc::ptr_eq(other, link));
        state.live -= 1;
        if failed {
            state.stand_back();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The same, on a thread that has nothing else to do, however often the system or the program refuses.
    pub(crate) fn fill_in_time(self: &Arc<Self>) {
        loop {
            {
                let mut state = self.state.lock();
                loop {
                    if !state.lacks(self.config.min_processes) {
                        return;
                    }
                    match clock::instant(state.not_before) {
                        // Those that are being ended have their places still.
                        _ if state.live >= self.config.max_processes => self.changed.wait(&mut state),
                        Some(instant) if clock::now() < state.not_before => {
                            self.changed.wait_until(&mut state, instant);
                        }
                        _ => break,
                    }
                }
            }
            self.fill();
        }
    }

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

    /// A handler for events of that type. What another type of that name is called, if there is one.
    pub(crate) fn user_came(self: &Arc<Self>, name: &'static str, rust_type: &'static str) -> Option<&'static str> {
        let clash = {
            let mut state = self.state.lock();
            let clash = state.users.iter().find(|user| user.0 == name && user.1 != rust_type).map(|user| user.1);
            state.users.push((name, rust_type));
            clash
        };
        self.fill();
        if self.state.lock().lacks(self.config.min_processes) {
            let slots = Arc::clone(self);
            let asked = thread::spawn("worker-starts".to_owned(), KEEPER_STACK, move || slots.fill_in_time());
            if let Err(error) = asked {
                logging::later!(Warn, move || format!("fewer worker processes than min_processes for now: {error}"));
            }
        }
        clash
    }

    /// With the last one the idle workers go; waits for them, and for those that are being ended.
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

    /// Takes nothing more, and ends all there are.
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

    /// Until no process is left; false if that takes too long.
    pub(crate) fn wait_until_gone(&self) -> bool {
        self.wait_until(|state| state.live == 0)
    }

    /// No longer than their grace and what killing may take.
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

    fn spawn(self: &Arc<Self>, unlogged: bool) -> io::Result<Arc<Link>> {
        if marker::stdin_is_a_pools() {
            // Else a program without `serve` would start itself, and so on.
            return Err(io::Error::other("this process is a worker itself, and has not called `process::serve`"));
        }
        let config = &self.config;
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        let (heard, bell) = io::pipe()?;
        rustix::io::ioctl_fionbio(&bell, true)?;
        let mut command = Command::new(config.executable()?);
        command.args(&config.args).envs(config.env.iter().map(|(name, value)| (name, value)));
        command.env(marker::VARIABLE, marker::value(&theirs, config)?);
        command.stdin(theirs).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        // With it goes our copy of the worker's end.
        drop(command);
        let pid = child.id();
        let link = Arc::new(Link::new(pid, ours, bell, unlogged));
        let keeper = Keeper {
            link: Arc::clone(&link),
            slots: Arc::clone(self),
            stdout: Printed::new(child.stdout.take().map(OwnedFd::from), log::Level::Info, &link),
            stderr: Printed::new(child.stderr.take().map(OwnedFd::from), log::Level::Warn, &link),
            child: Watched::new(&child),
            bell: heard,
            frames: Frames::new(config.largest_answer()),
            phase: Phase::first(config.start_timeout),
            greeted: false,
            served: false,
            record: None,
            fault: None,
            began: clock::now(),
        };
        self.state.lock().all.push(Arc::clone(&link));
        let started = thread::spawn(format!("worker-{pid}"), KEEPER_STACK, move || keeper.run());
        if started.is_err() {
            self.state.lock().all.retain(|other| !Arc::ptr_eq(other, &link));
        }
        started.map(|()| link)
    }
}
