//! Starting worker processes: for a request, and to have as many as the pool is to keep.

use super::keeper::Keeper;
use super::link::{Link, Logged, Order};
use super::marker;
use super::slots::Slots;
use crate::event::HandlerFailure;
use crate::sys::{logging, thread};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// A keeper reads, and hands to the log.
const KEEPER_STACK: usize = 512 * 1024;

impl Slots {
    /// Counts a handler for events of that type, and starts as many workers as the pool keeps at least. Returns what another type of that
    /// name is called by the compiler, if there is one.
    pub(crate) fn user_came(self: &Arc<Self>, name: &'static str, rust_type: &'static str) -> Option<&'static str> {
        let clash = self.add_user(name, rust_type);
        self.fill();
        if self.lacks() {
            let slots = Arc::clone(self);
            let asked = thread::spawn("worker-starts".to_owned(), KEEPER_STACK, move || slots.fill_in_time());
            if let Err(error) = asked {
                logging::later!(Warn, move || format!("fewer worker processes than min_processes for now: {error}"));
            }
        }
        clash
    }

    /// Starts a worker for which a place is taken already, and gives the place back if it cannot.
    pub(super) fn start(self: &Arc<Self>, logged: Logged) -> Result<Arc<Link>, HandlerFailure> {
        match self.spawn(logged) {
            Ok(link) if self.is_closed() => {
                // The thread that closed the pool may not have seen this worker.
                link.order(Order::Kill);
                Err(self.is_shut_down())
            }
            Ok(link) => Ok(link),
            Err(error) => {
                self.start_failed();
                Err(HandlerFailure::WorkerStart(format!("{} cannot be started: {error}", self.config.name())))
            }
        }
    }

    /// Starts workers until there are as many as the pool keeps at least, or none can be started now.
    fn fill(self: &Arc<Self>) {
        while self.takes_place_of_missing() {
            match self.start(Logged::Yes) {
                Ok(link) => self.check_in(link),
                Err(error) => {
                    logging::later!(Warn, move || error.to_string());
                    return;
                }
            }
        }
    }

    /// As `fill`, however often the system or the program refuses: for a thread that has nothing else to do.
    fn fill_in_time(self: &Arc<Self>) {
        while self.waits_to_start_missing() {
            self.fill();
        }
    }

    fn spawn(self: &Arc<Self>, logged: Logged) -> io::Result<Arc<Link>> {
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
        let child = command.spawn()?;
        // Our copy of the worker's end of the socket goes with the command.
        drop(command);
        let pid = child.id();
        let link = Arc::new(Link::new(pid, ours, bell, logged));
        let keeper = Keeper::new(Arc::clone(&link), Arc::clone(self), child, heard);
        self.add(&link);
        let slots = Arc::clone(self);
        let started = thread::spawn(format!("worker-{pid}"), KEEPER_STACK, move || {
            keeper.run();
            // The worker may have been one of those that the pool keeps.
            slots.fill_in_time();
        });
        if started.is_err() {
            self.remove(&link);
        }
        started.map(|()| link)
    }
}
