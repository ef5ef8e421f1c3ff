//! A program to run, as a payload.

use super::output::{Captured, CommandError, CommandOutput};
use super::spelling;
use crate::event::BoxError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A program to run, as a payload; [`run_command`](super::run_command) is its handler.
///
/// No shell is involved: the program gets its arguments as they are. (A script that does not say what runs it is run by `/bin/sh`.) It runs in a
/// session and a process group of its own, which is ended as a whole when the handler times out or is cancelled (terminated, and killed after
/// [`kill_grace`](Command::kill_grace)), when this process ends, however it ends, and when the program itself has ended and has left something behind
/// in its group. Only a process that leaves the group, as daemons do, escapes.
///
/// A session of its own has no terminal: a program that asks there, as `ssh` and `sudo` do, gets an error at once instead of standing still
/// until its timeout. With [`Input::Inherit`] it has this process's.
///
/// It starts with no signal blocked and every signal at its default, whatever this process does with its own. (Elsewhere
/// than on Linux, and with a [`cwd`](Command::cwd) in containers that refuse `unshare`, signals that this process *ignores* stay ignored, but for
/// `SIGPIPE`.) A program file
/// that is still open for writing somewhere is tried again for half a second.
///
/// A handler may run for 60 s unless told otherwise: give long commands a [`timeout`](crate::HandlerOptions::timeout) of their own.
///
/// ```
/// use std::time::Duration;
/// use threadbus::process::{Command, run_command};
/// use threadbus::{EventBus, HandlerOptions};
///
/// # #[cfg(unix)] {
/// let bus = EventBus::new("tools");
/// bus.on_with(HandlerOptions::new().timeout(Duration::from_secs(10)), run_command);
/// let done = bus.emit(Command::new("echo").arg("no $HOME here")).result()?;
/// assert_eq!((done.code, &*done.stdout.text()), (Some(0), "no $HOME here\n"));
/// # }
/// # Ok::<(), threadbus::ResultError>(())
/// ```
///
/// As JSON it has its fields by name; what is absent has its default. The environment may hold secrets, and is in the JSON.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What to run: a path, or a name to look for in `PATH`.
    #[serde(with = "spelling::program")]
    pub program: OsString,
    /// Its arguments: each is one, whatever characters it has.
    #[serde(default, with = "spelling::args")]
    pub args: Vec<OsString>,
    /// The directory in which the command runs. Default: this process's.
    #[serde(default)]
    pub cwd: Option<PathBuf>,
    /// Changes to the environment that the command inherits: a value, or `None` to remove the variable.
    #[serde(default, with = "spelling::env")]
    pub env: BTreeMap<OsString, Option<OsString>>,
    /// Whether the command's environment is nothing but what `env` says. Default false.
    #[serde(default)]
    pub clear_env: bool,
    /// What the command reads. Default: nothing.
    #[serde(default)]
    pub stdin: Input,
    /// Where the command's output goes. Default: captured.
    #[serde(default)]
    pub stdout: Sink,
    /// Where the command's error output goes. Default: captured.
    #[serde(default)]
    pub stderr: Sink,
    /// How long the command may take to end once it was asked to (`SIGTERM`), before it is killed. Default 2 s.
    #[serde(default = "default_grace", with = "spelling::seconds")]
    pub kill_grace: Duration,
    /// How many bytes of each captured stream are kept at most: the last ones. Default 16 MiB.
    #[serde(default = "default_capture")]
    pub max_capture: usize,
    /// Whether an end by a signal or with another code than 0 is an error. Default false: it is a value.
    #[serde(default)]
    pub check: bool,
}

fn default_grace() -> Duration {
    Duration::from_secs(2)
}

fn default_capture() -> usize {
    16 << 20
}

crate::event!(Command => CommandOutput);

/// What a command reads.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// No input: its end comes at once.
    #[default]
    Null,
    /// These bytes. A command may end without having read them.
    Bytes(Captured),
    /// The content of this file.
    File(PathBuf),
    /// This process's own input, and its terminal, if it has one.
    ///
    /// Where this process is in the foreground of a terminal, so is the command: it may ask there, and Ctrl-C reaches both. Then it is in this
    /// process's group, and what it has started itself is not ended with it. Where this process is in the background, the system stops the
    /// command when it reads from the terminal, as it would stop this process.
    Inherit,
}

/// Where a command's output goes.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sink {
    /// Into [`CommandOutput`], in memory: the last [`max_capture`](Command::max_capture) bytes of it. Choose a file where all of much is wanted.
    #[default]
    Capture,
    /// Into this file, which is made, or emptied.
    File(PathBuf),
    /// To the end of this file, which is made if need be.
    Append(PathBuf),
    /// Nowhere: it is dropped.
    Null,
    /// To this process's own output.
    Inherit,
    /// For `stderr` only: to wherever `stdout` goes, in the order in which both were written.
    Stdout,
}

impl Command {
    /// A command that runs `program` without arguments.
    pub fn new(program: impl Into<OsString>) -> Self {
        Command {
            program: program.into(),
            args: Vec::new(),
            cwd: None,
            env: BTreeMap::new(),
            clear_env: false,
            stdin: Input::Null,
            stdout: Sink::Capture,
            stderr: Sink::Capture,
            kill_grace: default_grace(),
            max_capture: default_capture(),
            check: false,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the directory in which the command runs. Default: this process's.
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Sets a variable in the command's environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), Some(value.into()));
        self
    }

    /// Removes a variable from the environment that the command inherits.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), None);
        self
    }

    /// Gives the command no environment but what [`env`](Command::env) sets. Default: it inherits this process's.
    pub fn clear_env(mut self) -> Self {
        self.clear_env = true;
        self
    }

    /// Sets what the command reads. Default: nothing.
    pub fn stdin(mut self, input: Input) -> Self {
        self.stdin = input;
        self
    }

    /// Sets where the command's output goes. Default: captured.
    pub fn stdout(mut self, sink: Sink) -> Self {
        self.stdout = sink;
        self
    }

    /// Sets where the command's error output goes. Default: captured.
    pub fn stderr(mut self, sink: Sink) -> Self {
        self.stderr = sink;
        self
    }

    /// Sets how long the command may take to end once it was asked to, before it is killed. Default 2 s.
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.kill_grace = grace;
        self
    }

    /// Sets how many bytes of each captured stream are kept. Default 16 MiB; `usize::MAX` keeps all, 0 nothing.
    ///
    /// Of a command that writes more, the last ones are kept, from the beginning of a character on, and how many came before is in
    /// [`CommandOutput::stdout_lost`] and [`stderr_lost`](CommandOutput::stderr_lost). However much it writes, it takes no more memory.
    ///
    /// ```
    /// use threadbus::process::Command;
    ///
    /// # #[cfg(unix)] {
    /// let output = Command::new("sh").args(["-c", "yes | head -n 100000; echo end"]).max_capture(8).run()?;
    /// assert_eq!((&*output.stdout.text(), output.stdout_lost), ("y\ny\nend\n", 199_996));
    /// # }
    /// # Ok::<(), threadbus::process::CommandError>(())
    /// ```
    pub fn max_capture(mut self, bytes: usize) -> Self {
        self.max_capture = bytes;
        self
    }

    /// Sets whether an end by a signal or with another code than 0 is an error, with what was captured. Default false: it is a value.
    ///
    /// As the failure of an event's handler it counts as any other: it is retried, kept as a dead letter, and counted.
    ///
    /// ```
    /// use threadbus::process::Command;
    ///
    /// # #[cfg(unix)] {
    /// let error = Command::new("sh").args(["-c", "echo no paper >&2; exit 3"]).check(true).run().unwrap_err();
    /// assert_eq!(error.to_string(), r#""sh" exited with code 3; it wrote to its error output "no paper\n""#);
    /// assert_eq!(error.output().and_then(|output| output.code), Some(3));
    /// # }
    /// ```
    pub fn check(mut self, check: bool) -> Self {
        self.check = check;
        self
    }

    /// Refuses what cannot be run, before anything is opened.
    pub(crate) fn make_sense(&self) -> Result<(), CommandError> {
        if self.program.is_empty() {
            return Err(self.error("program", "is empty"));
        }
        if self.stdout == Sink::Stdout {
            return Err(self.error("stdout", "cannot go to itself"));
        }
        match &self.cwd {
            // Asked here, since the system's error for a missing directory is that for a missing program.
            Some(dir) => match std::fs::metadata(dir) {
                Ok(found) if found.is_dir() => Ok(()),
                Ok(_) => Err(self.error("cwd", format!("{dir:?} is not a directory"))),
                Err(error) => Err(self.error(format!("cwd {dir:?}"), error)),
            },
            None => Ok(()),
        }
    }

    /// An error about `what` of the command, which was not started.
    pub(crate) fn error(&self, what: impl Into<String>, error: impl Into<BoxError>) -> CommandError {
        CommandError::new(&self.program, what, error)
    }

    /// Makes the system's error one about `what` of the command.
    pub(crate) fn about(&self, what: impl Into<String>) -> impl FnOnce(io::Error) -> CommandError {
        let what = what.into();
        move |error| self.error(what, error)
    }
}
