//! A command's three streams, and the system's own way to say the rest of it.

use super::command::{Captured, Command, CommandError, Input, Sink};
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter};
use std::process::Stdio;

/// Our ends of the pipes.
pub(crate) struct Streams {
    /// With what is to go into it.
    pub(crate) input: Option<(PipeWriter, Captured)>,
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
    let (stdout, captured) = sink(command, "stdout", &command.stdout, Target::Output)?;
    let (stderr, captured_errors) = match command.stderr {
        Sink::Stdout => (stdout.try_clone().map_err(command.about("stderr"))?, None),
        _ => sink(command, "stderr", &command.stderr, Target::ErrorOutput)?,
    };
    program.stdin(stdin).stdout(stdout).stderr(stderr);
    Ok((program, Streams { input, outputs: [captured, captured_errors] }))
}

type Fed = Option<(PipeWriter, Captured)>;

fn source(command: &Command) -> Result<(Stdio, Fed), CommandError> {
    match &command.stdin {
        Input::Null => Ok((Stdio::null(), None)),
        Input::Inherit => Ok((Stdio::inherit(), None)),
        Input::File(path) => {
            let file = File::open(path).map_err(command.about(format!("stdin {path:?}")))?;
            Ok((file.into(), None))
        }
        Input::Bytes(bytes) => {
            let (reader, writer) = io::pipe().map_err(command.about("stdin"))?;
            Ok((reader.into(), Some((writer, bytes.clone()))))
        }
    }
}

/// A `Stdio` that there may be two of.
enum Target {
    Pipe(PipeWriter),
    File(File),
    Null,
    Output,
    ErrorOutput,
}

impl Target {
    fn try_clone(&self) -> io::Result<Target> {
        Ok(match self {
            Target::Pipe(pipe) => Target::Pipe(pipe.try_clone()?),
            Target::File(file) => Target::File(file.try_clone()?),
            Target::Null => Target::Null,
            Target::Output => Target::Output,
            Target::ErrorOutput => Target::ErrorOutput,
        })
    }
}

impl From<Target> for Stdio {
    fn from(target: Target) -> Stdio {
        match target {
            Target::Pipe(pipe) => pipe.into(),
            Target::File(file) => file.into(),
            Target::Null => Stdio::null(),
            Target::Output => io::stdout().into(),
            Target::ErrorOutput => io::stderr().into(),
        }
    }
}

/// Its end, and ours if it is captured.
fn sink(command: &Command, name: &str, sink: &Sink, own: Target) -> Result<(Target, Option<PipeReader>), CommandError> {
    let file = |path, options: &mut OpenOptions| {
        let file = options.create(true).open(path).map_err(command.about(format!("{name} {path:?}")))?;
        Ok((Target::File(file), None))
    };
    match sink {
        Sink::Capture => {
            let (reader, writer) = io::pipe().map_err(command.about(name))?;
            Ok((Target::Pipe(writer), Some(reader)))
        }
        Sink::File(path) => file(path, OpenOptions::new().write(true).truncate(true)),
        Sink::Append(path) => file(path, OpenOptions::new().append(true)),
        Sink::Null => Ok((Target::Null, None)),
        Sink::Inherit => Ok((own, None)),
        Sink::Stdout => Err(command.error(name, "cannot go to itself")),
    }
}
