//! Running a command on the calling thread: one loop that waits for its pipes, its end, and the end of the handler that runs it.

use super::capture::{Capture, OnLine};
use super::child::{self, CHUNK, Got, Watched, poll, read_ready, readable};
use super::command::{Command, Input};
use super::guardian::Guardian;
use super::output::{Captured, CommandError, CommandOutput, Stream};
use super::place::{Mark, Place};
use super::start;
use super::streams::{self, Theirs};
use crate::bus::{CancelGuard, HandlerContext, at_process_that_says};
use crate::event::WaitError;
use crate::sys::clock::{self, NEVER, Tick};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal};
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// How much of each stream is read after the command's end: more than a pipe holds.
const PIPE: usize = 4 << 20;
/// How much of one stream is read before everything else is looked at again.
const TURN: usize = 1 << 20;
/// How often a start is tried again while the program is open for writing somewhere: after 1 ms, and twice as long each time.
const TRIES: u32 = 9;

pub(crate) fn run(command: &Command, on_line: Option<OnLine<'_>>) -> Result<CommandOutput, CommandError> {
    let given_up = GivenUp::new().map_err(command.about("pipe"))?;
    if given_up.is_set() {
        return Err(command.error("start", WaitError::Aborted));
    }
    let (streams, theirs) = streams::prepare(command)?;
    let input =
        streams.input.map(|(pipe, bytes)| Feed::new(pipe, bytes)).transpose().map_err(command.about("stdin"))?;
    let mark = Mark::of(&theirs).map_err(command.about("pipe"))?;
    let mut guardian =
        Guardian::start(command.kill_grace, place(command), &mark).map_err(command.about("its guardian, /bin/sh"))?;
    let began = clock::now();
    let pid = start(command, &theirs, &guardian, &mark, &given_up)?;
    let child = guardian.watch(pid);
    // This process's copies of the command's ends go.
    drop((theirs, mark));
    let mut running = Running {
        child,
        guardian: Some(guardian),
        input,
        outputs: streams.outputs,
        capture: Capture::new(command, on_line),
    };
    let said = running.capture.said();
    let given_up = at_process_that_says(|| said, || running.until_exit(&given_up, command.kill_grace));
    let status = running.end();
    let elapsed = Duration::from_nanos(clock::now().saturating_sub(began));
    running.capture.finish();
    let [(stdout, stdout_lost), (stderr, stderr_lost)] = running.capture.take();
    let code = status.and_then(|status| status.code());
    let signal = status.and_then(|status| status.signal());
    let output = CommandOutput { code, signal, stdout, stderr, stdout_lost, stderr_lost, elapsed };
    if given_up {
        return Err(command.error("ended", WaitError::Aborted).with(output));
    }
    if status.is_none() {
        let why = "somebody else has reaped it, so how it ended is not known";
        return Err(command.error("wait", why).with(output));
    }
    if command.check && !output.success() {
        return Err(CommandError::ended(&command.program, child::describe(status), output));
    }
    Ok(output)
}

fn place(command: &Command) -> Place {
    match command.stdin {
        Input::Inherit if is_in_foreground() => Place::Foreground,
        Input::Inherit => Place::Guarded,
        _ => Place::Session,
    }
}

/// Whether this process may read from its terminal.
fn is_in_foreground() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| rustix::termios::tcgetpgrp(terminal) == Ok(rustix::process::getpgrp()))
}

/// Starts the command, and tries again for about half a second where its program is open for writing: a program that was just written may be open
/// for a moment in a process that another thread is starting.
fn start(
    command: &Command,
    theirs: &Theirs,
    guardian: &Guardian,
    mark: &Mark,
    given_up: &GivenUp,
) -> Result<Pid, CommandError> {
    let mut tries = 0;
    loop {
        match start::start(command, theirs, guardian.join(), mark) {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < TRIES => {
                poll(&mut [readable(&given_up.heard)], clock::after(clock::now(), Duration::from_millis(1 << tries)));
                if given_up.is_set() {
                    return Err(command.error("start", WaitError::Aborted));
                }
                tries += 1;
            }
            started => return started.map_err(command.about("start")),
        }
    }
}

/// A command that runs. Dropped, it is ended and reaped.
struct Running<'l> {
    child: Watched,
    guardian: Option<Guardian>,
    input: Option<Feed>,
    outputs: [Option<PipeReader>; 2],
    capture: Capture<'l>,
}

impl Running<'_> {
    /// Serves the pipes until the command has exited. Whether the handler that runs it was given up before that.
    fn until_exit(&mut self, given_up: &GivenUp, grace: Duration) -> bool {
        let mut ending = false;
        let mut kill_at = NEVER;
        let mut buffer = vec![0; CHUNK];
        while !self.child.has_exited() {
            self.sleep((!ending).then_some(given_up), kill_at);
            if !ending && given_up.is_set() {
                ending = true;
                self.child.signal(Signal::TERM);
                kill_at = clock::after(clock::now(), grace);
            } else if clock::now() >= kill_at {
                self.child.signal(Signal::KILL);
                kill_at = NEVER;
            }
            self.read(&mut buffer, TURN);
            if self.input.as_mut().is_some_and(|input| input.is_done()) {
                self.input = None;
            }
        }
        ending
    }

    fn sleep(&self, given_up: Option<&GivenUp>, until: Tick) {
        let exit = self.child.exit_fd();
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(5);
        fds.extend(exit.map(|exit| PollFd::from_borrowed_fd(exit, PollFlags::IN)));
        fds.extend(given_up.map(|given_up| readable(&given_up.heard)));
        fds.extend(self.outputs.iter().filter_map(|pipe| pipe.as_ref().map(readable)));
        fds.extend(self.input.as_ref().map(Feed::writable));
        poll(&mut fds, self.child.look_again(until));
    }

    /// Reads what there is of each stream, up to `most` bytes.
    fn read(&mut self, buffer: &mut [u8], most: usize) {
        for (stream, output) in Stream::BOTH.into_iter().zip(&mut self.outputs) {
            let mut read = 0;
            while read < most
                && let Some(pipe) = output
            {
                match read_ready(&*pipe, buffer) {
                    Got::Some(length) => {
                        self.capture.push(stream, &buffer[..length]);
                        read += length;
                    }
                    Got::Nothing => break,
                    Got::End => *output = None,
                }
            }
        }
    }

    fn end(&mut self) -> Option<ExitStatus> {
        let status = self.guardian.take().and_then(|guardian| guardian.end(&mut self.child));
        // What the command wrote is in the pipes, which hold a MiB at most. Their ends are not waited for: a process that has left the
        // group may keep them open, and even go on writing.
        self.read(&mut vec![0; CHUNK], PIPE);
        status
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Still there if a line's callback has panicked.
        if let Some(guardian) = self.guardian.take() {
            guardian.end(&mut self.child);
        }
    }
}

/// Bytes on their way into a command.
struct Feed {
    pipe: PipeWriter,
    bytes: Captured,
    written: usize,
}

impl Feed {
    fn new(pipe: PipeWriter, bytes: Captured) -> io::Result<Self> {
        // A command that reads slowly must not block this thread.
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Feed { pipe, bytes, written: 0 })
    }

    fn writable(&self) -> PollFd<'_> {
        PollFd::new(&self.pipe, PollFlags::OUT)
    }

    /// Writes as much as the pipe takes now. True if that was all, or if the command reads no more.
    fn is_done(&mut self) -> bool {
        while self.written < self.bytes.len() {
            match self.pipe.write(&self.bytes[self.written..]) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        true
    }
}

/// A pipe whose writing end is closed when the handler that runs the command is given up. Outside of handlers that never happens.
struct GivenUp {
    heard: PipeReader,
    _kept: Option<PipeWriter>,
    /// Drops the writing end when it is dropped, whether or not the handler has ended: one handler may run a thousand commands.
    _guard: Option<CancelGuard>,
}

impl GivenUp {
    fn new() -> io::Result<Self> {
        let (heard, said) = io::pipe()?;
        let Some(context) = HandlerContext::current() else {
            return Ok(GivenUp { heard, _kept: Some(said), _guard: None });
        };
        let guard = context.cancel_guard(move || drop(said));
        Ok(GivenUp { heard, _kept: None, _guard: Some(guard) })
    }

    fn is_set(&self) -> bool {
        !matches!(read_ready(&self.heard, &mut [0]), Got::Nothing)
    }
}
