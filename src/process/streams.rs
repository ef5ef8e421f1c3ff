//! A command's three streams, and the standard library's own way to say the rest of it.

use super::command::{Command, Input, Sink};
use super::output::{Captured, CommandError};
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter};
use std::process::Stdio;

/// This process's ends of the pipes.
pub(crate) struct Streams {
    /// Where the command's input is written, and the bytes that are to go there.
    pub(crate) input: Option<(PipeWriter, Captured)>,
    /// Where the command's stdout and stderr are read.
    pub(crate) outputs: [Option<PipeReader>; 2],
}

/// The command's own streams: stdin, stdout, stderr.
pub(crate) type Theirs = [Target; 3];

/// What one stream of a command is connected to.
pub(crate) enum Target {
    Source(PipeReader),
    Pipe(PipeWriter),
    File(File),
    Null,
    /// This process's own stream of that number.
    Own(u8),
}

impl Target {
    pub(crate) fn try_clone(&self) -> io::Result<Target> {
        Ok(match self {
            Target::Source(pipe) => Target::Source(pipe.try_clone()?),
            Target::Pipe(pipe) => Target::Pipe(pipe.try_clone()?),
            Target::File(file) => Target::File(file.try_clone()?),
            Target::Null => Target::Null,
            Target::Own(number) => Target::Own(*number),
        })
    }
}

impl From<Target> for Stdio {
    fn from(target: Target) -> Stdio {
        match target {
            Target::Source(pipe) => pipe.into(),
            Target::Pipe(pipe) => pipe.into(),
            Target::File(file) => file.into(),
            Target::Null => Stdio::null(),
            Target::Own(1) => io::stdout().into(),
            Target::Own(2) => io::stderr().into(),
            Target::Own(_) => Stdio::inherit(),
        }
    }
}

/// The command for the standard library: program, arguments, directory, environment and streams.
pub(crate) fn program(command: &Command, streams: &Theirs) -> io::Result<std::process::Command> {
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
    let [stdin, stdout, stderr] = streams;
    program.stdin(stdin.try_clone()?).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    Ok(program)
}

/// Opens the command's files and pipes.
pub(crate) fn prepare(command: &Command) -> Result<(Streams, Theirs), CommandError> {
    let (stdin, input) = source(command)?;
    let (stdout, captured) = sink(command, "stdout", &command.stdout, 1)?;
    let (stderr, captured_errors) = match command.stderr {
        Sink::Stdout => (stdout.try_clone().map_err(command.about("stderr"))?, None),
        _ => sink(command, "stderr", &command.stderr, 2)?,
    };
    one_file_is_not_written_twice(command, &stdout, &stderr)?;
    // Files are emptied only when both are known to be right.
    for (sink, target, name) in [(&command.stdout, &stdout, "stdout"), (&command.stderr, &stderr, "stderr")] {
        if let (Sink::File(path), Target::File(file)) = (sink, target) {
            empty(file).map_err(command.about(format!("{name} {path:?}")))?;
        }
    }
    Ok((Streams { input, outputs: [captured, captured_errors] }, [stdin, stdout, stderr]))
}

type Fed = Option<(PipeWriter, Captured)>;

fn source(command: &Command) -> Result<(Target, Fed), CommandError> {
    match &command.stdin {
        Input::Null => Ok((Target::Null, None)),
        Input::Inherit => Ok((Target::Own(0), None)),
        Input::File(path) => {
            let file = File::open(path).map_err(command.about(format!("stdin {path:?}")))?;
            Ok((Target::File(file), None))
        }
        Input::Bytes(bytes) => {
            let (reader, writer) = io::pipe().map_err(command.about("stdin"))?;
            Ok((Target::Source(reader), Some((writer, bytes.clone()))))
        }
    }
}

/// The command's end of a stream, and this process's if it is captured. A file is not emptied yet.
fn sink(command: &Command, name: &str, sink: &Sink, own: u8) -> Result<(Target, Option<PipeReader>), CommandError> {
    let file = |path, options: &mut OpenOptions| {
        let file = options.create(true).open(path).map_err(command.about(format!("{name} {path:?}")))?;
        Ok((Target::File(file), None))
    };
    match sink {
        Sink::Capture => {
            let (reader, writer) = io::pipe().map_err(command.about(name))?;
            Ok((Target::Pipe(writer), Some(reader)))
        }
        Sink::File(path) => file(path, OpenOptions::new().write(true).truncate(false)),
        Sink::Append(path) => file(path, OpenOptions::new().append(true)),
        Sink::Null => Ok((Target::Null, None)),
        Sink::Inherit => Ok((Target::Own(own), None)),
        Sink::Stdout => Err(command.error(name, "cannot go to itself")),
    }
}

/// Empties a file, if it is a regular one: others have no length.
fn empty(file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    if found.is_file() && found.len() > 0 { file.set_len(0) } else { Ok(()) }
}

/// Refuses one file for both streams, unless both append: each would overwrite the other's bytes.
fn one_file_is_not_written_twice(command: &Command, stdout: &Target, stderr: &Target) -> Result<(), CommandError> {
    let path = match (&command.stdout, &command.stderr) {
        (Sink::Append(_), Sink::Append(_)) => return Ok(()),
        (Sink::File(_) | Sink::Append(_), Sink::File(path) | Sink::Append(path)) => path,
        _ => return Ok(()),
    };
    let (Target::File(one), Target::File(other)) = (stdout, stderr) else { return Ok(()) };
    if is_same(command, one, other).map_err(command.about(format!("stderr {path:?}")))? {
        let why = "is where stdout goes, too: append to it with both, or use `Sink::Stdout`";
        return Err(command.error(format!("stderr {path:?}"), why));
    }
    Ok(())
}

#[cfg(unix)]
fn is_same(_: &Command, one: &File, other: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok(one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino()))
}

#[cfg(not(unix))]
fn is_same(command: &Command, one: &File, _: &File) -> io::Result<bool> {
    let path = |sink: &Sink| match sink {
        Sink::File(path) | Sink::Append(path) => std::fs::canonicalize(path).map(Some),
        _ => Ok(None),
    };
    Ok(one.metadata()?.is_file() && path(&command.stdout)? == path(&command.stderr)?)
}
