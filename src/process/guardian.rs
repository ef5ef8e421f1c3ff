//! What ends a command when we cannot: a shell that leads the command's group and reads a pipe which only we hold.
//!
//! We die, by whatever: the pipe ends, and the shell ends the group, itself included. All is well: we end the group, and reap both. The
//! shell is there before the command, so there is no moment without it, and as long as it is not reaped the group's number is taken.

use crate::process::child::Watched;
use rustix::process::Pid;
use std::io::{self, PipeWriter};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

/// Deaf to what it sends to its own group, but for the last signal. A command that joins the group late is met by that one.
const SCRIPT: &str = "trap '' HUP INT QUIT TERM; read -r _; kill -TERM 0; sleep \"$1\"; kill -KILL 0";

#[derive(Debug)]
pub(crate) struct Guardian {
    shell: Watched,
    group: Pid,
    _lifeline: PipeWriter,
}

impl Guardian {
    /// `grace`: between the two signals, in whole seconds, since not every `sleep` knows others.
    pub(crate) fn start(grace: Duration) -> io::Result<Guardian> {
        let (end, lifeline) = io::pipe()?;
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let shell = std::process::Command::new("/bin/sh")
            .args(["-c", SCRIPT, "threadbus-guardian", &seconds.max(1).to_string()])
            .current_dir("/")
            .process_group(0)
            .stdin(end)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let group = Pid::from_child(&shell);
        Ok(Guardian { shell: Watched::new(shell, None), group, _lifeline: lifeline })
    }

    /// The group that the command is to join.
    pub(crate) fn group(&self) -> Pid {
        self.group
    }

    /// Ends the group with the shell. The command itself is reaped before.
    pub(crate) fn dismiss(mut self) {
        self.shell.reap();
    }
}
