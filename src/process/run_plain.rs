//! Running a command where there are no process groups and no `poll`: the program alone is ended, and its pipes have threads.
//!
//! What it has started itself stays, and so does the program if this process is killed.

use super::command::{Command, CommandError, CommandOutput};
use super::streams;
use crate::bus::{HandlerContext, at_process};
use crate::event::WaitError;
use crate::sys::clock;
use crate::sys::sync::{Condvar, Mutex};
use crate::sys::{logging, thread};
use std::io::{self, Read, Write};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

/// How often to look whether it has ended, or should.
const LOOK: Duration = Duration::from_millis(10);
/// How long its pipes may stay open beyond its end: whom it has left behind may keep them.
const PIPES: Duration = Duration::from_secs(1);
const STACK: usize = 256 * 1024;

pub(crate) fn run(command: &Command) -> Result<CommandOutput, CommandError> {
    let (mut program, streams) = streams::prepare(command)?;
    let began = clock::now();
    let child = program.spawn().map_err(command.about("start"))?;
    // With it go our copies of what is the child's.
    drop(program);
    let mut running = Running(child);
    if let Some((mut pipe, bytes)) = streams.input {
        // It may end without having read all of it.
        let feed = move || drop(pipe.write_all(&bytes));
        thread::spawn("command-input".to_owned(), STACK, feed).map_err(command.about("stdin"))?;
    }
    let [stdout, stderr] = streams.outputs.map(|pipe| pipe.map(Collected::from_pipe).unwrap_or_default());
    let words = || format!("waits for command {}", command.program.to_string_lossy());
    let status = at_process(words, || running.wait()).map_err(command.about("wait"))?;
    let elapsed = Duration::from_nanos(clock::now().saturating_sub(began));
    let Some(status) = status else { return Err(command.error("ended", WaitError::Aborted)) };
    let deadline = clock::after(clock::now(), PIPES);
    let [stdout, stderr] = [stdout, stderr].map(|collected| collected.take(deadline));
    Ok(CommandOutput { code: status.code(), signal: None, stdout: stdout.into(), stderr: stderr.into(), elapsed })
}

struct Running(Child);

impl Running {
    /// None if the handler that runs it was given up before.
    fn wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let context = HandlerContext::current();
        let (never, nobody) = (Mutex::new(()), Condvar::new());
        loop {
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
}

impl Collected {
    fn from_pipe(mut pipe: io::PipeReader) -> Collected {
        let shared = Arc::new(Shared::default());
        let read = {
            let shared = Arc::clone(&shared);
            move || {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                    shared.bytes.lock().bytes.extend_from_slice(&buffer[..length]);
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

    fn take(self, deadline: clock::Tick) -> Vec<u8> {
        let Some(shared) = self.0 else { return Vec::new() };
        let mut bytes = shared.bytes.lock();
        while !bytes.ended && clock::now() < deadline {
            let Some(instant) = clock::instant(deadline) else { break };
            shared.changed.wait_until(&mut bytes, instant);
        }
        std::mem::take(&mut bytes.bytes)
    }
}
