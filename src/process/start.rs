//! Starting a program with clean signals, in a session or group of its own: what was weighed is in README.md.

use super::command::Command;
use super::place::{Join, Mark};
#[cfg(target_os = "linux")]
use super::spawn;
use super::streams::{self, Theirs};
use process_wrap::std::{CommandWrap, ProcessSession, ResetSigmask};
use rustix::process::Pid;
use std::io;
use std::os::unix::process::CommandExt;

/// Starts the command. An error is the system's own, as of `exec`.
pub(crate) fn start(command: &Command, streams: &Theirs, join: Join, mark: &Mark) -> io::Result<Pid> {
    #[cfg(target_os = "linux")]
    if let Some(started) = spawn::start(command, streams, join, mark) {
        return started;
    }
    let _ = mark;
    by_hooks(command, streams, join)
}

/// Starts the command with hooks between `fork` and `exec`. Works on every Unix, but signals that this process ignores stay ignored.
fn by_hooks(command: &Command, streams: &Theirs, join: Join) -> io::Result<Pid> {
    let mut program = streams::program(command, streams)?;
    match join {
        Join::Own => drop(program.process_group(0)),
        Join::Group(group) => drop(program.process_group(group.as_raw_pid())),
        Join::Session | Join::Here => {}
    }
    let mut program = CommandWrap::from(program);
    program.wrap(ResetSigmask);
    if join == Join::Session {
        program.wrap(ProcessSession);
    }
    let child = program.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("the new process has no number"))
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::process::child::{Target as To, Watched};
    use nix::sys::signal::{SigSet, Signal};

    /// What is used where `posix_spawn` cannot be.
    #[test]
    fn hooks_give_a_clean_mask_and_a_session() {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.thread_block().unwrap();
        for (join, dir) in [(Join::Session, "/"), (Join::Own, "/"), (Join::Here, "/proc")] {
            let command = Command::new("cat").args(["self/status", "proc/self/status"]).cwd(dir);
            let (streams, theirs) = streams::prepare(&command).unwrap();
            let pid = by_hooks(&command, &theirs, join).unwrap();
            drop(theirs);
            let mut child = Watched::of(pid, To::Alone);
            let [stdout, _] = streams.outputs;
            let text = io::read_to_string(stdout.unwrap()).unwrap();
            let number = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                line.split_whitespace().last().unwrap().to_owned()
            };
            assert_eq!(number("SigBlk:"), "0000000000000000", "{join:?}");
            assert_eq!(number("NSsid:") == pid.as_raw_pid().to_string(), join == Join::Session, "{join:?}");
            assert_eq!(number("NSpgid:") == pid.as_raw_pid().to_string(), join != Join::Here, "{join:?}");
            child.reap();
        }
    }
}
