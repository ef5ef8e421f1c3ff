//! A child process in a process group of its own: watched without being reaped, signalled with its whole group, reaped once.
//!
//! As long as a group's leader is not reaped its number is not given to another, so a signal never meets strangers.

use crate::sys::clock::{self, NEVER, Tick};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// How often to look for an exit where the system cannot announce it.
const LOOK: Duration = Duration::from_millis(10);

/// How many bytes are read at once.
pub(crate) const CHUNK: usize = 64 * 1024;

/// Which processes a child's signals go to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// All processes of this group.
    Group(Pid),
    /// The child alone.
    Alone,
}

/// A child process whose end can be waited for. Dropped alive, it is killed with its group.
#[derive(Debug)]
pub(crate) struct Watched {
    pid: Pid,
    target: Target,
    exit: Option<OwnedFd>,
    reaped: bool,
}

impl Watched {
    /// A child that leads its own group.
    pub(crate) fn new(child: &Child) -> Self {
        let pid = Pid::from_child(child);
        Watched::of(pid, Target::Group(pid))
    }

    /// A child of this process that no other thread reaps.
    pub(crate) fn of(pid: Pid, target: Target) -> Self {
        Watched { pid, target, exit: announcement(pid), reaped: false }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable from the child's end on. None where the system has no such thing.
    pub(crate) fn exit_fd(&self) -> Option<BorrowedFd<'_>> {
        self.exit.as_ref().map(AsFd::as_fd)
    }

    /// The latest time at which to look at the child again, if `until` is when there is something else to do.
    pub(crate) fn look_again(&self, until: Tick) -> Tick {
        if self.exit.is_some() { until } else { until.min(clock::after(clock::now(), LOOK)) }
    }

    /// Whether the child has ended; it stays a zombie, so that its group keeps its number.
    pub(crate) fn has_exited(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error means that there is no such child any more, because the program has the system reap its children.
        self.reaped || !matches!(rustix::process::waitid(WaitId::Pid(self.pid), look), Ok(None))
    }

    /// Sends a signal to the child's target.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.reaped {
            return;
        }
        // An error means that no process is there any more, which is fine.
        let _ = match self.target {
            Target::Group(group) => rustix::process::kill_process_group(group, signal),
            Target::Alone => rustix::process::kill_process(self.pid, signal),
        };
    }

    /// Kills what is left of the child's group, and the child, which may have left the group.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
        if !self.has_exited() {
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }

    /// Kills the child with its group and reaps it. Blocks until it has ended. None if the system does not know how it ended.
    pub(crate) fn reap(&mut self) -> Option<ExitStatus> {
        self.kill();
        self.reaped = true;
        loop {
            match rustix::process::waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => return Some(ExitStatus::from_raw(status.as_raw())),
                Err(rustix::io::Errno::INTR) | Ok(None) => {}
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.reaped {
            self.reap();
        }
    }
}

#[cfg(target_os = "linux")]
fn announcement(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn announcement(_: Pid) -> Option<OwnedFd> {
    None
}

/// `exited with code 3`, `was killed by signal 9`.
pub(crate) fn describe(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => format!("exited with code {code}"),
        Some((None, Some(signal))) => match Signal::from_named_raw(signal) {
            Some(named) => {
                let name = format!("{named:?}").replace("Signal::", "SIG");
                let name = name.replace("ABORT", "ABRT").replace("ALARM", "ALRM").replace("CHILD", "CHLD");
                format!("was killed by signal {signal} ({})", name.trim_matches('"'))
            }
            None => format!("was killed by signal {signal}"),
        },
        _ => "has ended".to_owned(),
    }
}

/// For [`poll`]: until there is something to read.
pub(crate) fn readable<'fd>(fd: &'fd impl AsFd) -> PollFd<'fd> {
    PollFd::new(fd, PollFlags::IN)
}

/// Whether a little can be written without waiting.
pub(crate) fn is_writable(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1..))
}

/// Sleeps until one of the files is ready (or broken), or until `until`; also returns early for no reason.
pub(crate) fn poll(fds: &mut [PollFd<'_>], until: Tick) {
    let left = until.saturating_sub(clock::now());
    let timeout = Timespec { tv_sec: (left / 1_000_000_000).cast_signed(), tv_nsec: (left % 1_000_000_000) as _ };
    let _ = rustix::event::poll(fds, (until != NEVER).then_some(&timeout));
}

/// What reading from a pipe or socket gave.
pub(crate) enum Got {
    /// So many bytes.
    Some(usize),
    /// Nothing is there now.
    Nothing,
    /// Its other end is closed.
    End,
}

/// Reads once, if there is something to read. Never blocks.
pub(crate) fn read_ready(mut source: impl Read + AsFd, buffer: &mut [u8]) -> Got {
    let mut fds = [readable(&source)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&now)) {
        Ok(1..) => {}
        _ => return Got::Nothing,
    }
    match source.read(buffer) {
        Ok(0) => Got::End,
        Ok(length) => Got::Some(length),
        Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => Got::Nothing,
        Err(_) => Got::End,
    }
}
