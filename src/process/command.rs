//! A program as a payload, and what became of it.

use super::spelling;
use crate::event::{BoxError, Event, HandlerError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A program to run, as a payload; [`run_command`] is its handler.
///
/// No shell is involved: the program gets its arguments as they are. It runs in a process group of its own, which is ended as a whole when
/// the handler times out or is cancelled (terminated, and killed after [`kill_grace`](Command::kill_grace)), when this process ends,
/// however it ends, and when the program itself has ended and has left something behind in its group. Only a process that leaves the group,
/// as daemons do, escapes.
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
    /// A path, or a name to look for in `PATH`.
    #[serde(with = "spelling::program")]
    pub program: OsString,
    /// Each is one argument, whatever characters it has.
    #[serde(default, with = "spelling::args")]
    pub args: Vec<OsString>,
    /// Where it runs. Default: where this process does.
    #[serde(default)]
    pub cwd: Option<PathBuf>,
    /// Changes to the environment that it inherits: a value, or `None` to remove the variable.
    #[serde(default, with = "spelling::env")]
    pub env: BTreeMap<OsString, Option<OsString>>,
    /// Whether it inherits nothing but what `env` says. Default false.
    #[serde(default)]
    pub clear_env: bool,
    /// What it reads. Default: nothing.
    #[serde(default)]
    pub stdin: Input,
    /// Where its output goes. Default: captured.
    #[serde(default)]
    pub stdout: Sink,
    /// Where its error output goes. Default: captured.
    #[serde(default)]
    pub stderr: Sink,
    /// How long it may take to end once it was asked to (`SIGTERM`), before it is killed. Default 2 s.
    #[serde(default = "default_grace", with = "spelling::seconds")]
    pub kill_grace: Duration,
}

fn default_grace() -> Duration {
    Duration::from_secs(2)
}

crate::event!(Command => CommandOutput);

/// What a command reads.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Nothing: the end of input at once.
    #[default]
    Null,
    /// These bytes. A command may end without having read them.
    Bytes(Captured),
    /// The content of this file.
    File(PathBuf),
    /// What this process would read. Not from a terminal: a command is in the background, and the system stops whoever reads from there.
    Inherit,
}

/// Where a command's output goes.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sink {
    /// Into [`CommandOutput`], all of it, in memory: choose a file where it may be huge.
    #[default]
    Capture,
    /// Into this file, which is made, or emptied.
    File(PathBuf),
    /// To the end of this file, which is made if need be.
    Append(PathBuf),
    /// Nowhere.
    Null,
    /// To this process's own.
    Inherit,
    /// Of `stderr`: to wherever `stdout` goes, in the order in which it was written.
    Stdout,
}

impl Command {
    /// That program, without arguments.
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
        }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Where it runs. Default: where this process does.
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), Some(value.into()));
        self
    }

    /// Removes a variable from its environment.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), None);
        self
    }

    /// It inherits no environment: only what [`env`](Command::env) sets. Default: it inherits.
    pub fn clear_env(mut self) -> Self {
        self.clear_env = true;
        self
    }

    /// What it reads. Default: nothing.
    pub fn stdin(mut self, input: Input) -> Self {
        self.stdin = input;
        self
    }

    /// Where its output goes. Default: captured.
    pub fn stdout(mut self, sink: Sink) -> Self {
        self.stdout = sink;
        self
    }

    /// Where its error output goes. Default: captured.
    pub fn stderr(mut self, sink: Sink) -> Self {
        self.stderr = sink;
        self
    }

    /// How long it may take to end once it was asked to, before it is killed. Default 2 s.
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.kill_grace = grace;
        self
    }

    /// Runs it here and now, without a bus.
    ///
    /// **Blocking**: until it has ended. Inside a handler it ends, at the latest, when that handler is given up.
    ///
    /// ```
    /// use threadbus::process::Command;
    ///
    /// # #[cfg(unix)] {
    /// let output = Command::new("sh").args(["-c", "exit 42"]).run()?;
    /// assert_eq!(output.code, Some(42)); // a value, not an error
    /// let error = Command::new("no-such-program").run().unwrap_err();
    /// assert_eq!(error.io_kind(), Some(std::io::ErrorKind::NotFound));
    /// # }
    /// # Ok::<(), threadbus::process::CommandError>(())
    /// ```
    ///
    /// # Errors
    /// [`CommandError`], if it could not be started, or was given up.
    pub fn run(&self) -> Result<CommandOutput, CommandError> {
        self.check()?;
        super::run::run(self)
    }

    fn check(&self) -> Result<(), CommandError> {
        if self.program.is_empty() {
            return Err(self.error("program", "is empty"));
        }
        if self.stdout == Sink::Stdout {
            return Err(self.error("stdout", "cannot go to itself"));
        }
        match &self.cwd {
            // The system would not tell a missing directory from a missing program.
            Some(dir) => match std::fs::metadata(dir) {
                Ok(found) if found.is_dir() => Ok(()),
                Ok(_) => Err(self.error("cwd", format!("{dir:?} is not a directory"))),
                Err(error) => Err(self.error(format!("cwd {dir:?}"), error)),
            },
            None => Ok(()),
        }
    }

    pub(crate) fn error(&self, what: impl Into<String>, error: impl Into<BoxError>) -> CommandError {
        CommandError { program: self.program.clone(), what: what.into(), error: error.into() }
    }

    /// For the system's own errors about this field.
    pub(crate) fn about(&self, what: impl Into<String>) -> impl FnOnce(io::Error) -> CommandError {
        let what = what.into();
        move |error| self.error(what, error)
    }
}

/// The handler of [`Command`]: runs it, and waits for its end.
///
/// A program that ends with a code other than 0, or by a signal, is a value like any other, and not retried. What could not be started is
/// an error, in which [`HandlerFailure::downcast_ref`](crate::HandlerFailure::downcast_ref) finds the `std::io::Error`.
///
/// When the handler times out or its event is cancelled, the command's whole group is terminated, and killed after its
/// [`kill_grace`](Command::kill_grace). The handler's thread sees to that, so until then it counts as abandoned, and `shutdown` waits for
/// it within its timeout.
///
/// ```
/// use std::time::Duration;
/// use threadbus::process::{Command, Sink, run_command};
/// use threadbus::{EventBus, EventOptions, HandlerFailure};
///
/// # #[cfg(unix)] {
/// let bus = EventBus::new("tools");
/// bus.on(run_command);
/// let both = bus.emit(Command::new("sh").args(["-c", "echo out; echo err >&2"]).stderr(Sink::Stdout)).result()?;
/// assert_eq!(both.stdout.text(), "out\nerr\n");
///
/// let short = EventOptions::new().handler_timeout(Duration::from_millis(50));
/// let slow = bus.emit_with(Command::new("sleep").arg("30"), short).wait()?;
/// assert!(matches!(*slow.errors()[0], HandlerFailure::TimedOut { .. })); // and `sleep` is ended
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Whatever [`Command::run`] fails with.
pub fn run_command(event: &Event<Command>) -> Result<CommandOutput, HandlerError> {
    Ok(event.run()?)
}

/// How a command ended, and what it wrote.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutput {
    /// With which code. `None` if a signal ended it.
    pub code: Option<i32>,
    /// The number of that signal.
    pub signal: Option<i32>,
    /// What was captured of its output.
    pub stdout: Captured,
    /// What was captured of its error output.
    pub stderr: Captured,
    /// From its start to its end.
    #[serde(with = "spelling::seconds")]
    pub elapsed: Duration,
}

impl CommandOutput {
    /// Whether it ended by itself, with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// Bytes that went through a pipe. Cheap clone; dereferences to `[u8]`. As JSON: a string, or numbers where it is not UTF-8.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Captured(Arc<Vec<u8>>);

impl Captured {
    /// As text, with a replacement character for whatever is not UTF-8.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl Deref for Captured {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Captured {
    fn from(bytes: Vec<u8>) -> Self {
        Captured(Arc::new(bytes))
    }
}

impl From<&str> for Captured {
    fn from(text: &str) -> Self {
        Captured::from(text.as_bytes().to_vec())
    }
}

/// The beginning, as text, and how much there is.
impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        let shown = String::from_utf8_lossy(&self.0[..self.0.len().min(SHOWN)]);
        match self.0.len() {
            ..=SHOWN => write!(f, "{shown:?}"),
            length => write!(f, "{shown:?}… ({length} bytes)"),
        }
    }
}

impl Serialize for Captured {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        spelling::bytes(&self.0).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Captured {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        spelling::Bytes::deserialize(from).map(|bytes| Captured::from(bytes.into_vec()))
    }
}

/// A command that did not run, or not to its end: which program, what of it, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {program:?}: {what}: {error}")]
pub struct CommandError {
    program: OsString,
    what: String,
    #[source]
    error: BoxError,
}

impl CommandError {
    /// The program that was to run.
    pub fn program(&self) -> &OsStr {
        &self.program
    }

    /// The kind of the system's error, if it was one.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.error.downcast_ref::<io::Error>().map(io::Error::kind)
    }
}
