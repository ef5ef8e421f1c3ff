//! What became of a command: how it ended, what it wrote, or why it did not run.

use super::excerpt;
use super::spelling;
use super::text;
use crate::event::BoxError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// How a command ended, and what it wrote.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutput {
    /// The code with which the command exited. `None` if a signal ended it.
    pub code: Option<i32>,
    /// The number of the signal that ended the command, if one did.
    pub signal: Option<i32>,
    /// What was captured of the command's output: the last [`max_capture`](super::Command::max_capture) bytes at most.
    pub stdout: Captured,
    /// What was captured of the command's error output, as much at most.
    pub stderr: Captured,
    /// How many bytes of the output came before `stdout` and were not kept. 0: `stdout` is all of it.
    #[serde(default)]
    pub stdout_lost: u64,
    /// How many bytes of the error output came before `stderr` and were not kept.
    #[serde(default)]
    pub stderr_lost: u64,
    /// The time from the command's start to its end.
    #[serde(with = "spelling::seconds")]
    pub elapsed: Duration,
}

impl CommandOutput {
    /// Whether the command ended by itself, with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// Bytes that went through a pipe. Cheap clone; dereferences to `[u8]`. As JSON: a string, or numbers where it is not UTF-8.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Captured(Arc<Vec<u8>>);

impl Captured {
    /// The bytes as text, with a replacement character for whatever is not UTF-8.
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

/// The beginning of the bytes, as text, and how many there are.
impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        let shown = &self.0[..self.0.len().min(SHOWN)];
        let whole = if shown.len() < self.0.len() { text::complete(shown) } else { shown.len() };
        let shown = String::from_utf8_lossy(&shown[..whole]);
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

/// Which of a command's two streams; as a number, its place in lists of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

impl Stream {
    pub(crate) const BOTH: [Stream; 2] = [Stream::Output, Stream::Error];
}

/// A line of what a command writes, as it comes: without its end, and as text, with a replacement character for whatever is not UTF-8. One
/// that is longer than 64 KiB comes in pieces, none of which ends within a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLine<'a> {
    text: &'a str,
    is_error: bool,
}

impl<'a> OutputLine<'a> {
    pub(crate) fn new(text: &'a str, stream: Stream) -> Self {
        OutputLine { text, is_error: stream == Stream::Error }
    }

    /// The line, without its end.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Whether the line is of the error output.
    pub fn is_error(&self) -> bool {
        self.is_error
    }
}

/// The line's text.
impl fmt::Display for OutputLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// A command that did not run, or not to its end, or failed where that is an error ([`Command::check`](super::Command::check)): which
/// program, what of it, why, and what it wrote until then.
#[derive(Debug, thiserror::Error)]
pub struct CommandError {
    program: OsString,
    /// What could not be done, or had (`start`, `cwd "/x"`); none if the command ran to its end.
    what: Option<String>,
    #[source]
    error: BoxError,
    output: Option<Box<CommandOutput>>,
}

/// Why the command failed, and the end of what it wrote.
impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Some(what) => write!(f, "cannot run {:?}: {what}: {}", self.program, self.error)?,
            None => write!(f, "{:?} {}", self.program, self.error)?,
        }
        match &self.output {
            Some(output) => {
                let (stdout, stderr) = ((&*output.stdout, output.stdout_lost), (&*output.stderr, output.stderr_lost));
                excerpt::show(f, "; it", stdout, stderr)
            }
            None => Ok(()),
        }
    }
}

impl CommandError {
    /// The command was not started, or not waited for to its end.
    pub(crate) fn new(program: &OsStr, what: impl Into<String>, error: impl Into<BoxError>) -> Self {
        CommandError { program: program.to_owned(), what: Some(what.into()), error: error.into(), output: None }
    }

    /// The command ran to its end, which was not good: `exited with code 3`.
    pub(crate) fn ended(program: &OsStr, how: String, output: CommandOutput) -> Self {
        CommandError { program: program.to_owned(), what: None, error: how.into(), output: Some(Box::new(output)) }
    }

    pub(crate) fn with(self, output: CommandOutput) -> Self {
        CommandError { output: Some(Box::new(output)), ..self }
    }

    /// The program that was to run.
    pub fn program(&self) -> &OsStr {
        &self.program
    }

    /// How the command ended, and what was captured of it: `None` if it did not start.
    pub fn output(&self) -> Option<&CommandOutput> {
        self.output.as_deref()
    }

    /// The kind of the system's error, if it was one.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.error.downcast_ref::<io::Error>().map(io::Error::kind)
    }
}
