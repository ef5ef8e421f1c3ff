//! The workers of a pool: so many at most, the last used first, none before it is needed.

use super::frame::{self, Frames};
use super::keeper::{Keeper, Phase, Printed};
use super::link::{Link, Order, Reply};
use super::marker;
use super::pool::Config;
use crate::bus::at_process;
use crate::process::child::Watched;
use crate::sys::clock;
use crate::sys::sync::atomic::{AtomicBool, Ordering};
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
    /// Handlers registered.
    users: usize,
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
}

/// One request's claim to a worker, which may be given up from another thread at any time.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    given_up: AtomicBool,
    on: Mutex<Option<(Arc<Link>, u64)>>,
}

impl Slots {
    pub(crate) fn new(config: Config) -> Self {
        Slots { config, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Has a worker do it; `frame` gets the request's number. A worker that was gone before its handler began is no reason to fail: another
    /// one is asked, as long as there are such that were idle. `unlogged`: nothing is logged about it.
    pub(crate) fn call(self: &Arc<Self>, claim: &Claim, frame: &mut [u8], unlogged: bool) -> Result<Reply, String> {
        loop {
            let Some((link, request, fresh)) = self.check_out(claim, unlogged)? else { return Ok(Reply::GivenUp) };
            frame::number(frame, request);
            *claim.on.lock() = Some((Arc::clone(&link), request));
            let words = || format!("waits for worker process {}", link.pid);
            let reply = at_process(words, || link.call(request, frame, &claim.given_up, unlogged));
            *claim.on.lock() = None;
            match &reply {
                None | Some(Reply::Outcome { .. }) => self.check_in(link),
                Some(Reply::Gone { started: false, .. }) if !fresh => continue,
                // Nobody gets that worker any more.
                Some(Reply::Gone { .. } | Reply::GivenUp) => {}
            }
            return Ok(reply.unwrap_or(Reply::GivenUp));
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

    /// A worker, and whether it is a fresh one. None if the claim is given up.
    fn check_out(self: &Arc<Self>, claim: &Claim, unlogged: bool) -> Result<Option<(Arc<Link>, u64, bool)>, String> {
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
                if let Some(link) = state.idle.pop() {
                    return Ok(Some((link, request, false)));
                }
                if state.live < self.config.max_processes {
                    break;
                }
                self.changed.wait(&mut state);
            }
            state.live += 1;
            state.peak = state.peak.max(state.live);
            state.started += 1;
            request
        };
        match self.start(unlogged) {
            Ok(link) if self.state.lock().closed => {
                // Whoever closed it may not have seen this one.
                link.order(Order::Kill);
                Err(self.is_shut_down())
            }
            Ok(link) => Ok(Some((link, request, true))),
            Err(error) => {
                self.state.lock().live -= 1;
                self.changed.notify_all();
                Err(format!("{} cannot be started: {error}", self.config.name()))
            }
        }
    }

    fn is_shut_down(&self) -> String {
        format!("the pool of {} is shut down", self.config.name())
    }

    fn check_in(&self, link: Arc<Link>) {
        let mut state = self.state.lock();
        if state.closed || state.users == 0 {
            link.order(Order::Retire);
        } else if state.all.iter().any(|other| Arc::ptr_eq(other, &link)) {
            state.idle.push(link);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Whether it was idle; then nobody gets it any more.
    pub(crate) fn take_idle(&self, link: &Arc<Link>) -> bool {
        let mut state = self.state.lock();
        let before = state.idle.len();
        state.idle.retain(|other| !Arc::ptr_eq(other, link));
        state.idle.len() < before
    }

    pub(crate) fn gone(&self, link: &Arc<Link>) {
        let mut state = self.state.lock();
        state.idle.retain(|other| !Arc::ptr_eq(other, link));
        state.all.retain(|other| !Arc::ptr_eq(other, link));
        state.live -= 1;
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let state = self.state.lock();
        PoolStats { live: state.live, idle: state.idle.len(), peak: state.peak, started: state.started }
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.state.lock().all.iter().map(|link| link.pid).collect()
    }

    pub(crate) fn user_came(&self) {
        self.state.lock().users += 1;
    }

    /// With the last one the idle workers go; waits for them, and for those that are being ended.
    pub(crate) fn user_left(&self) {
        {
            let mut state = self.state.lock();
            state.users -= 1;
            if state.users > 0 {
                return;
            }
            std::mem::take(&mut state.idle).iter().for_each(|link| link.order(Order::Retire));
        }
        self.wait_until(|state| state.all.iter().all(|link| link.ordered() == Order::None));
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

    fn start(self: &Arc<Self>, unlogged: bool) -> io::Result<Arc<Link>> {
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
            frames: Frames::new(config.max_frame.max(frame::LEAST)),
            phase: Phase::first(),
            served: false,
            record: None,
            fault: None,
        };
        self.state.lock().all.push(Arc::clone(&link));
        let started = thread::spawn(format!("worker-{pid}"), KEEPER_STACK, move || keeper.run());
        if started.is_err() {
            self.state.lock().all.retain(|other| !Arc::ptr_eq(other, &link));
        }
        started.map(|()| link)
    }
}
