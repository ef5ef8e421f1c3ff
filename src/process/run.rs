//! Running a command on the calling thread: one loop over its pipes, its end, and our own being given up.

use super::child::{CHUNK, Got, Watched, poll, read_ready, readable};
use super::command::{Captured, Command, CommandError, CommandOutput};
use super::guardian::Guardian;
use super::streams;
use crate::bus::{CancelGuard, HandlerContext, at_process};
use crate::event::WaitError;
use crate::sys::clock::{self, NEVER, Tick};
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::time::Duration;

/// More than a pipe holds.
const PIPE: usize = 4 << 20;

pub(crate) fn run(command: &Command) -> Result<CommandOutput, CommandError> {
    let given_up = GivenUp::new().map_err(command.about("pipe"))?;
    if given_up.is_set() {
        return Err(command.error("start", WaitError::Aborted));
    }
    let (mut program, streams) = streams::prepare(command)?;
    let input =
        streams.input.map(|(pipe, bytes)| Feed::new(pipe, bytes)).transpose().map_err(command.about("stdin"))?;
    let guardian = Guardian::start(command.kill_grace).map_err(command.about("its guardian, /bin/sh"))?;
    program.process_group(guardian.group().as_raw_pid());
    let began = clock::now();
    let child = program.spawn().map_err(command.about("start"))?;
    // With it go our copies of what is the child's.
    drop(program);
    let group = guardian.group();
    let [stdout, stderr] = streams.outputs.map(Capture::new);
    let mut running =
        Running { child: Watched::new(child, Some(group)), guardian: Some(guardian), input, stdout, stderr };
    let words = || format!("waits for command {}", command.program.to_string_lossy());
    let given_up = at_process(words, || running.until_exit(&given_up, command.kill_grace));
    let status = running.end();
    let elapsed = Duration::from_nanos(clock::now().saturating_sub(began));
    if given_up {
        return Err(command.error("ended", WaitError::Aborted));
    }
    let Some(status) = status else {
        return Err(command.error("wait", "somebody else has reaped it, so how it ended is not known"));
    };
    Ok(CommandOutput {
        code: status.code(),
        signal: status.signal(),
        stdout: running.stdout.take(),
        stderr: running.stderr.take(),
        elapsed,
    })
}

/// Ended and reaped when dropped, whatever happens: first the command, then its guardian.
struct Running {
    child: Watched,
    guardian: Option<Guardian>,
    input: Option<Feed>,
    stdout: Capture,
    stderr: Capture,
}

impl Running {
    /// Whether the handler that runs it was given up before.
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
            self.stdout.read(&mut buffer);
            self.stderr.read(&mut buffer);
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
        fds.extend([&self.stdout, &self.stderr].into_iter().filter_map(|capture| capture.pipe.as_ref().map(readable)));
        fds.extend(self.input.as_ref().map(Feed::writable));
        poll(&mut fds, self.child.look_again(until));
    }

    fn end(&mut self) -> Option<std::process::ExitStatus> {
        let status = self.child.reap();
        if let Some(guardian) = self.guardian.take() {
            guardian.dismiss();
        }
        // What was written is in the pipes, which hold a MiB at most. Their ends may be long in coming: who has left the group may keep
        // them open, and may even go on writing.
        let mut buffer = vec![0; CHUNK];
        let mut left = PIPE / CHUNK;
        while left > 0 && (self.stdout.read(&mut buffer) | self.stderr.read(&mut buffer)) {
            left -= 1;
        }
        status
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
        // A reader that is slower than we are must not stop us.
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Feed { pipe, bytes, written: 0 })
    }

    fn writable(&self) -> PollFd<'_> {
        PollFd::new(&self.pipe, PollFlags::OUT)
    }

    /// Writes as much as it takes now. Done if that was all, or if it does not want more.
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

struct Capture {
    pipe: Option<PipeReader>,
    bytes: Vec<u8>,
}

impl Capture {
    fn new(pipe: Option<PipeReader>) -> Self {
        Capture { pipe, bytes: Vec::new() }
    }

    /// What there is, if there is something.
    fn read(&mut self, buffer: &mut [u8]) -> bool {
        match self.pipe.as_ref().map_or(Got::Nothing, |pipe| read_ready(pipe, buffer)) {
            Got::Some(length) => {
                self.bytes.extend_from_slice(&buffer[..length]);
                true
            }
            Got::Nothing => false,
            Got::End => {
                self.pipe = None;
                false
            }
        }
    }

    fn take(&mut self) -> Captured {
        std::mem::take(&mut self.bytes).into()
    }
}

/// A pipe whose writing end goes when the handler that calls us is given up. Outside of handlers that never happens.
struct GivenUp {
    heard: PipeReader,
    _kept: Option<io::PipeWriter>,
    /// With it goes the other end, whether or not the handler has ended: it may run a thousand commands.
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
