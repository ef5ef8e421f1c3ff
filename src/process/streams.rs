//! A command's three streams, and the system's own way to say the rest of it.

use super::command::{Captured, Command, CommandError, Input, Sink};
use rustix::event::{PollFd, PollFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

/// Our ends of the pipes.
pub(crate) struct Streams {
    pub(crate) input: Option<Feed>,
    /// Of stdout and stderr.
    pub(crate) outputs: [Option<PipeReader>; 2],
}

/// Opens what is to be opened. The pipes' other ends, and the files, are in the first.
pub(crate) fn prepare(command: &Command) -> Result<(std::process::Command, Streams), CommandError> {
    let mut program = std::process::Command::new(&command.program);
    program.args(&command.args);
    if let Some(dir) = &command.cwd {
        program.current_dir(dir);
    }
    if command.clear_env {
        program.env_clear();
    }
    for (name, value) in &command.env {
        match value {
            Some(value) => program.env(name, value),
            None => program.env_remove(name),
        };
    }
    let (stdin, input) = source(command)?;
    let (stdout, captured) = sink(command, "stdout", &command.stdout, || io::stdout().as_fd().try_clone_to_owned())?;
    let (stderr, captured_errors) = if command.stderr == Sink::Stdout {
        (stdout.try_clone().map_err(command.about("stderr"))?, None)
    } else {
        sink(command, "stderr", &command.stderr, || io::stderr().as_fd().try_clone_to_owned())?
    };
    program.stdin(stdin).stdout(stdout).stderr(stderr);
    Ok((program, Streams { input, outputs: [captured, captured_errors] }))
}

fn source(command: &Command) -> Result<(Stdio, Option<Feed>), CommandError> {
    match &command.stdin {
        Input::Null => Ok((Stdio::null(), None)),
        Input::Inherit => Ok((Stdio::inherit(), None)),
        Input::File(path) => {
            let file = File::open(path).map_err(command.about(format!("stdin {path:?}")))?;
            Ok((file.into(), None))
        }
        Input::Bytes(bytes) => {
            let (reader, pipe) = io::pipe().map_err(command.about("stdin"))?;
            // A reader that is slower than we are must not stop us.
            rustix::io::ioctl_fionbio(&pipe, true).map_err(|error| command.error("stdin", io::Error::from(error)))?;
            Ok((reader.into(), Some(Feed { pipe, bytes: bytes.clone(), written: 0 })))
        }
    }
}

/// Its end, and ours if it is captured.
fn sink(
    command: &Command,
    name: &str,
    sink: &Sink,
    inherit: impl FnOnce() -> io::Result<OwnedFd>,
) -> Result<(OwnedFd, Option<PipeReader>), CommandError> {
    let file = |path, options: &mut OpenOptions| {
        let file = options.create(true).open(path).map_err(command.about(format!("{name} {path:?}")))?;
        Ok((OwnedFd::from(file), None))
    };
    match sink {
        Sink::Capture => {
            let (reader, writer) = io::pipe().map_err(command.about(name))?;
            Ok((writer.into(), Some(reader)))
        }
        Sink::File(path) => file(path, OpenOptions::new().write(true).truncate(true)),
        Sink::Append(path) => file(path, OpenOptions::new().append(true)),
        Sink::Null => {
            let null = OpenOptions::new().write(true).open("/dev/null").map_err(command.about(name))?;
            Ok((null.into(), None))
        }
        Sink::Inherit => inherit().map(|own| (own, None)).map_err(command.about(name)),
        Sink::Stdout => Err(command.error(name, "cannot go to itself")),
    }
}

/// Bytes on their way into a command.
pub(crate) struct Feed {
    pipe: PipeWriter,
    bytes: Captured,
    written: usize,
}

impl Feed {
    pub(crate) fn writable(&self) -> PollFd<'_> {
        PollFd::new(&self.pipe, PollFlags::OUT)
    }

    /// As much as it takes now. Done if that was all, or if it does not want more.
    pub(crate) fn write(&mut self) -> Fed {
        while self.written < self.bytes.len() {
            match self.pipe.write(&self.bytes[self.written..]) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Fed::Partly,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Fed::Done,
            }
        }
        Fed::Done
    }
}

#[derive(PartialEq)]
pub(crate) enum Fed {
    Partly,
    Done,
}

impl Fed {
    pub(crate) fn is_done(&self) -> bool {
        *self == Fed::Done
    }
}
