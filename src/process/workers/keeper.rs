//! The thread that each live worker process has in the pool's process: it reads what the worker sends and prints, ends it when it is to end,
//! and reaps it.

use super::LOGGER_HINT;
use super::frame::Frames;
use super::lines::{self, Lines};
use super::link::{Link, Order};
use super::message::{Message, wrong_hello};
use super::slots::{AfterIdle, End, Slots};
use crate::exact;
use crate::process::child::{self, CHUNK, Got, Watched, poll, read_ready, readable};
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::logging;
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use std::io::PipeReader;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

/// How soon to ask again whether a worker that is being put back is idle.
const SOON: Duration = Duration::from_millis(10);

/// How often to read what a dead worker has left: more than pipes and sockets hold. A process that has left the worker's group may have its
/// pipes and go on writing.
const LEFTOVERS: usize = 64;

/// What a keeper's thread knows of its worker.
pub(crate) struct Keeper {
    link: Arc<Link>,
    slots: Arc<Slots>,
    child: Watched,
    /// Readable when the keeper is to look at its orders.
    bell: PipeReader,
    stdout: Printed,
    stderr: Printed,
    frames: Frames,
    phase: Phase,
    /// The worker has said hello.
    greeted: bool,
    /// The worker could be given work.
    served: bool,
    /// The number of the worker's last record since its last answer.
    record: Option<u64>,
    /// Why the worker is being ended, if that is its own fault.
    fault: Option<String>,
    began: Tick,
}

/// A worker that ends within this without an answer has not really started.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// How often at most to ask whether an idle worker is still to stay.
const KEPT: Duration = Duration::from_secs(1);

/// How far a worker's life has come, and until when it may stay there.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// It cannot be given work yet.
    Starting {
        until: Tick,
    },
    /// It can be given work. The time is that of its idleness since its last answer, if it is idle.
    Serving {
        idle_until: Tick,
    },
    /// It was asked to end.
    Ending {
        kill_at: Tick,
    },
    Killed,
}

impl Phase {
    fn until(self) -> Tick {
        match self {
            Phase::Starting { until } | Phase::Serving { idle_until: until } | Phase::Ending { kill_at: until } => {
                until
            }
            Phase::Killed => NEVER,
        }
    }
}

impl Keeper {
    /// `bell`: the end of the link's bell that is read.
    pub(crate) fn new(link: Arc<Link>, slots: Arc<Slots>, mut child: Child, bell: PipeReader) -> Self {
        let began = clock::now();
        Keeper {
            stdout: Printed::new(child.stdout.take().map(OwnedFd::from), log::Level::Info, &link),
            stderr: Printed::new(child.stderr.take().map(OwnedFd::from), log::Level::Warn, &link),
            child: Watched::new(&child),
            bell,
            frames: Frames::new(slots.config.largest_answer()),
            phase: Phase::Starting { until: clock::after(began, slots.config.start_timeout) },
            greeted: false,
            served: false,
            record: None,
            fault: None,
            began,
            link,
            slots,
        }
    }

    /// Returns when the worker is reaped, and its place in the pool is free.
    pub(crate) fn run(mut self) {
        let mut buffer = vec![0; CHUNK];
        let mut open = true;
        while !self.child.has_exited() {
            self.sleep(open.then_some(&self.link.socket));
            while let Got::Some(_) = read_ready(&self.bell, &mut buffer[..64]) {}
            self.stdout.read(&mut buffer);
            self.stderr.read(&mut buffer);
            if open {
                open = !matches!(self.read_socket(&mut buffer), Got::End);
            }
            self.act();
        }
        self.finish(&mut buffer);
    }

    /// `socket`: unless it is at its end.
    fn sleep(&self, socket: Option<&UnixStream>) {
        let mut fds: Vec<PollFd<'_>> = vec![readable(&self.bell)];
        fds.extend(self.child.exit_fd().map(|exit| PollFd::from_borrowed_fd(exit, PollFlags::IN)));
        fds.extend(socket.map(readable));
        fds.extend(self.stdout.pipe.as_ref().map(readable));
        fds.extend(self.stderr.pipe.as_ref().map(readable));
        // Where the system cannot announce a worker's end, the end of its socket does.
        let until = self.phase.until();
        poll(&mut fds, if socket.is_some() { until } else { self.child.look_again(until) });
    }

    fn read_socket(&mut self, buffer: &mut [u8]) -> Got {
        let got = read_ready(&self.link.socket, buffer);
        match got {
            Got::Some(length) => {
                self.frames.push(&buffer[..length]);
                self.take_frames();
            }
            // The worker ends by itself, or has ended.
            Got::End => self.end(None),
            Got::Nothing => {}
        }
        got
    }

    fn take_frames(&mut self) {
        while self.fault.is_none() {
            match self.frames.next() {
                Ok(Some((_, body))) if !self.greeted => self.greet(&body),
                Ok(Some((request, mut body))) => match exact::from_start(&body) {
                    Ok((message, behind)) => {
                        let head = body.len() - behind.len();
                        body.drain(..head);
                        self.take(request, message, body);
                    }
                    Err(error) => self.blame(format!("sent what is no message: {error}")),
                },
                Ok(None) => return,
                Err(long) => {
                    let most = self.slots.config.largest_answer();
                    self.blame(format!("sent {} bytes, more than the {most} that the pool takes", long.length));
                }
            }
        }
    }

    fn greet(&mut self, hello: &[u8]) {
        match wrong_hello(hello) {
            Some(why) => self.blame(why),
            None => self.greeted = true,
        }
    }

    /// A message that was read. `behind`: the bytes behind it in its frame.
    fn take(&mut self, request: u64, message: Message, behind: Vec<u8>) {
        match message {
            Message::Ready => {
                self.served = true;
                self.idle_from_now();
                self.link.serves();
            }
            Message::Log { level, target, text } => {
                let record = lines::pass_on(&self.link, level, target.into(), &text);
                self.record = record.or(self.record);
            }
            Message::Started => self.link.started(request),
            Message::Done(outcome) => {
                self.idle_from_now();
                if self.link.answered_so_far() == 0 {
                    self.slots.has_started();
                }
                self.link.answered(request, outcome, behind, self.record.take());
            }
        }
    }

    fn idle_from_now(&mut self) {
        if matches!(self.phase, Phase::Starting { .. } | Phase::Serving { .. }) {
            self.phase = Phase::Serving { idle_until: clock::after(clock::now(), self.slots.config.idle_timeout) };
        }
    }

    fn blame(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
        self.end(Some(Signal::TERM));
    }

    /// Does what the orders and the clock ask for.
    fn act(&mut self) {
        match self.link.ordered() {
            Order::Kill if !matches!(self.phase, Phase::Ending { .. } | Phase::Killed) => self.end(Some(Signal::TERM)),
            Order::Retire if matches!(self.phase, Phase::Starting { .. } | Phase::Serving { .. }) => self.end(None),
            _ => {}
        }
        if clock::now() < self.phase.until() {
            return;
        }
        match self.phase {
            Phase::Starting { .. } => {
                let why = format!("did not serve within {:?}: {}", self.slots.config.start_timeout, self.guess());
                self.blame(self.last_words(why));
            }
            Phase::Serving { .. } => {
                let idle_until = match self.slots.take_idle(&self.link) {
                    AfterIdle::Ends => return self.end(None),
                    AfterIdle::Stays => clock::after(clock::now(), self.slots.config.idle_timeout.max(KEPT)),
                    // Its answer will set the next time.
                    AfterIdle::InUse if self.link.is_busy() => NEVER,
                    // The handler's thread has the answer, and is about to put the worker back.
                    AfterIdle::InUse => clock::after(clock::now(), SOON),
                };
                self.phase = Phase::Serving { idle_until };
            }
            Phase::Ending { .. } => {
                self.child.signal(Signal::KILL);
                self.phase = Phase::Killed;
            }
            Phase::Killed => {}
        }
    }

    /// Has the worker end. Without a signal it sees the end of its socket, which is enough for one that is idle.
    fn end(&mut self, signal: Option<Signal>) {
        if matches!(self.phase, Phase::Killed) {
            return;
        }
        self.link.leaves();
        match signal {
            Some(signal) => {
                self.link.say_given_up();
                self.child.signal(signal);
            }
            None => drop(self.link.socket.shutdown(Shutdown::Write)),
        }
        let kill_at = clock::after(clock::now(), self.slots.config.kill_grace);
        if !matches!(self.phase, Phase::Ending { .. }) {
            self.phase = Phase::Ending { kill_at };
        }
    }

    fn finish(mut self, buffer: &mut [u8]) {
        // What the worker sent and printed before its end is in the socket and the pipes, and counts.
        for _ in 0..LEFTOVERS {
            if !matches!(self.read_socket(buffer), Got::Some(_)) {
                break;
            }
        }
        let status = self.child.reap();
        self.stdout.finish(buffer);
        self.stderr.finish(buffer);
        let ended = child::describe(status);
        let wanted = self.link.ordered() == Order::None;
        let why = match self.fault.take() {
            Some(fault) => fault,
            None if self.served => ended,
            None if wanted => self.last_words(format!("{ended} before it served: {}", self.guess())),
            None => "was ended before it served".to_owned(),
        };
        let why = format!("{} {why}", self.name());
        let short = self.link.answered_so_far() == 0 && clock::now() < clock::after(self.began, SHORT_LIFE);
        let failed = wanted && (short || !self.served);
        self.slots.gone(&self.link, if failed { End::FailedStart } else { End::Usual });
        self.link.gone(&why);
        if !self.link.is_unlogged() {
            logging::later!(Debug, move || why);
        }
    }

    /// What may be wrong with a program that does not serve.
    fn guess(&self) -> &'static str {
        let printed = self.stderr.lines.last_words();
        let said = |words| printed.iter().any(|line| line.contains(words));
        match () {
            () if said("SetLoggerError") => LOGGER_HINT,
            () if said("panicked at") => "it panicked in `register`, or before `process::serve`",
            () => "is `process::serve` the first line of its main?",
        }
    }

    /// `why`, with what the worker printed last as errors.
    fn last_words(&self, why: String) -> String {
        let printed = self.stderr.lines.last_words();
        if printed.is_empty() { why } else { format!("{why}; its last words: {}", printed.join(" | ")) }
    }

    fn name(&self) -> String {
        format!("{} (pid {})", self.slots.config.name(), self.link.pid)
    }
}

/// What a worker prints, on its way to the log.
struct Printed {
    pipe: Option<PipeReader>,
    lines: Lines,
}

impl Printed {
    fn new(pipe: Option<OwnedFd>, level: log::Level, link: &Arc<Link>) -> Self {
        Printed { pipe: pipe.map(PipeReader::from), lines: Lines::new(level, link) }
    }

    fn read(&mut self, buffer: &mut [u8]) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        match read_ready(pipe, buffer) {
            Got::Some(length) => {
                self.lines.push(&buffer[..length]);
                true
            }
            Got::Nothing => false,
            Got::End => {
                self.pipe = None;
                false
            }
        }
    }

    /// Reads what is there still, up to a limit: a process that has left the worker's group may keep the pipe open, and go on writing.
    fn finish(&mut self, buffer: &mut [u8]) {
        for _ in 0..LEFTOVERS {
            if !self.read(buffer) {
                break;
            }
        }
        self.lines.finish();
    }
}
