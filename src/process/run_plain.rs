//! Running a command on systems without process groups and `poll`: the program alone is ended, and its pipes have threads.
//!
//! What the program has started itself stays, and so does the program if this process is killed.

use super::capture::{Capture, OnLine};
use super::command::Command;
use super::output::{CommandError, CommandOutput, Stream};
use super::streams;
use crate::bus::{HandlerContext, at_process_that_says};
use crate::event::WaitError;
use crate::sys::clock;
use crate::sys::sync::{Condvar, Mutex};
use crate::sys::{logging, thread};
use std::io::{self, Read, Write};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

/// How often to look whether the program has ended, or is to end, and what it has written.
const LOOK: Duration = Duration::from_millis(10);
/// How long the pipes are read beyond the program's end: a process that it has left behind may keep them open.
const PIPES: Duration = Duration::from_secs(1);
/// How many bytes of a stream are read ahead.
const AHEAD: usize = 4 << 20;
const STACK: usize = 256 * 1024;

pub(crate) fn run(command: &Command, on_line: Option<OnLine<'_>>) -> Result<CommandOutput, CommandError> {
    let (streams, theirs) = streams::prepare(command)?;
    let mut program = streams::program(command, &theirs).map_err(command.about("start"))?;
    let began = clock::now();
    let child = program.spawn().map_err(command.about("start"))?;
    // With them go this process's copies of the program's ends.
    drop((program, theirs));
    let mut child = Running(child);
    if let Some((mut pipe, bytes)) = streams.input {
        // An error means that the program has ended without having read all of it.
        let feed = move || drop(pipe.write_all(&bytes));
        thread::spawn("command-input".to_owned(), STACK, feed).map_err(command.about("stdin"))?;
    }
    let outputs = streams.outputs.map(|pipe| pipe.map(Collected::from_pipe).unwrap_or_default());
    let mut capture = Capture::new(command, on_line);
    let said = capture.said();
    let status = at_process_that_says(|| said, || child.wait(&outputs, &mut capture)).map_err(command.about("wait"))?;
    // Kills the program, if the handler was given up.
    drop(child);
    let deadline = clock::after(clock::now(), PIPES);
    for (stream, output) in Stream::BOTH.into_iter().zip(&outputs) {
        while let Some(bytes) = output.take(deadline) {
            capture.push(stream, &bytes);
        }
    }
    capture.finish();
    let elapsed = Duration::from_nanos(clock::now().saturating_sub(began));
    let [(stdout, stdout_lost), (stderr, stderr_lost)] = capture.take();
    let code = status.and_then(|status| status.code());
    let output = CommandOutput { code, signal: None, stdout, stderr, stdout_lost, stderr_lost, elapsed };
    if status.is_none() {
        return Err(command.error("ended", WaitError::Aborted).with(output));
    }
    if command.check && !output.success() {
        let how = code.map_or_else(|| "has ended".to_owned(), |code| format!("exited with code {code}"));
        return Err(CommandError::ended(&command.program, how, output));
    }
    Ok(output)
}

struct Running(Child);

impl Running {
    /// Waits for the program's end. None if the handler that runs it was given up before.
    fn wait(&mut self, outputs: &[Collected; 2], capture: &mut Capture<'_>) -> io::Result<Option<ExitStatus>> {
        let context = HandlerContext::current();
        let (never, nobody) = (Mutex::new(()), Condvar::new());
        loop {
            for (stream, output) in Stream::BOTH.into_iter().zip(outputs) {
                capture.push(stream, &output.take(clock::now()).unwrap_or_default());
            }
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if context.as_ref().is_some_and(HandlerContext::is_cancelled) {
                return Ok(None);
            }
            if let Some(soon) = clock::instant(clock::after(clock::now(), LOOK)) {
                nobody.wait_until(&mut never.lock(), soon);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a thread reads from a pipe.
#[derive(Default)]
struct Collected(Option<Arc<Shared>>);

#[derive(Default)]
struct Shared {
    bytes: Mutex<Bytes>,
    changed: Condvar,
}

#[derive(Default)]
struct Bytes {
    bytes: Vec<u8>,
    ended: bool,
    /// The thread that runs the command takes no more.
    closed: bool,
}

impl Collected {
    fn from_pipe(mut pipe: io::PipeReader) -> Collected {
        let shared = Arc::new(Shared::default());
        let read = {
            let shared = Arc::clone(&shared);
            move || {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                    let mut bytes = shared.bytes.lock();
                    while bytes.bytes.len() >= AHEAD && !bytes.closed {
                        shared.changed.wait(&mut bytes);
                    }
                    if bytes.closed {
                        break;
                    }
                    bytes.bytes.extend_from_slice(&buffer[..length]);
                    shared.changed.notify_all();
                }
                shared.bytes.lock().ended = true;
                shared.changed.notify_all();
            }
        };
        match thread::spawn("command-output".to_owned(), STACK, read) {
            Ok(()) => Collected(Some(shared)),
            Err(error) => {
                logging::later!(Error, move || format!(
                    "the system refuses a thread ({error}): a command's output is lost"
                ));
                Collected::default()
            }
        }
    }

    /// What has come, waiting for it until the deadline. None: nothing has.
    fn take(&self, deadline: clock::Tick) -> Option<Vec<u8>> {
        let shared = self.0.as_ref()?;
        let mut bytes = shared.bytes.lock();
        while bytes.bytes.is_empty() && !bytes.ended && clock::now() < deadline {
            let Some(instant) = clock::instant(deadline) else { break };
            shared.changed.wait_until(&mut bytes, instant);
        }
        let taken = std::mem::take(&mut bytes.bytes);
        shared.changed.notify_all();
        (!taken.is_empty()).then_some(taken)
    }
}

impl Drop for Collected {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.bytes.lock().closed = true;
            shared.changed.notify_all();
        }
    }
}
