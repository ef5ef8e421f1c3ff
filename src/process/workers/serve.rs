//! The worker's side: reads requests, runs their handlers, answers.

use super::frame::Frames;
use super::handlers::{Ended, Worker};
use super::marker::{self, Marker};
use super::message::{Message, Outcome, Request};
use super::outlet::{Outlet, SocketLog};
use crate::exact;
use crate::process::child::CHUNK;
use crate::sys::sync::{Condvar, Mutex};
use crate::sys::{logging, thread};
use rustix::process::Signal;
use signal_hook::consts::SIGTERM;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// For threads that only wait and hand on.
const READER_STACK: usize = 512 * 1024;

/// How long a worker waits for what it still has to log.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// Serves a [`ProcessPool`](crate::process::ProcessPool) in a process that the pool has started, and exits when the pool lets it go. In any
/// other process it returns at once, without having called `register`.
///
/// The first line of `main`, before threads are started and files opened, since a worker has no use for either. It reads nothing from its
/// standard input, which is empty; what it prints ends up in the log of the pool's process, and so do records of the `log` facade, unless
/// the event that it handles was emitted by a logger there. It ends
/// when its pool's process does, and takes the rest of its process group along.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use threadbus::{Event, event, process};
///
/// #[derive(Serialize, Deserialize)]
/// struct Decode { path: String }
/// event!(Decode => usize);
///
/// fn main() {
///     process::serve(|worker| {
///         worker.on(|decode: &Event<Decode>| std::fs::read(&decode.path).map(|bytes| bytes.len()));
///     });
///     // From here on it is not a worker.
/// }
/// ```
///
/// A program whose worker side is a program of its own calls nothing else in that one's `main`.
pub fn serve(register: impl FnOnce(&mut Worker)) {
    let Some((marker, socket)) = marker::of_this_process() else { return };
    let code = match work(&marker, UnixStream::from(socket), register) {
        Ok(()) => 0,
        Err(error) => {
            logging::error!("a worker ends: {error}");
            1
        }
    };
    logging::settle(LAST_WORDS);
    std::process::exit(code);
}

fn work(marker: &Marker, socket: UnixStream, register: impl FnOnce(&mut Worker)) -> io::Result<()> {
    // Handlers find an empty input, and cannot read the pool's requests.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    if marker.niceness > 0 {
        rustix::process::setpriority_process(None, i32::from(marker.niceness))?;
    }
    let outlet = Arc::new(Outlet::new(socket.try_clone()?, marker.max_frame));
    outlet.hello()?;
    // Fails if something has set a logger before `main`: then that one stays.
    if log::set_logger(Box::leak(Box::new(SocketLog(Arc::clone(&outlet))))).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
    let mut worker = Worker::new();
    register(&mut worker);

    let inbox = Arc::new(Inbox::default());
    let (kept, max_frame) = (Arc::clone(&inbox), marker.max_frame);
    ends_on_sigterm(&inbox)?;
    thread::spawn("requests".to_owned(), READER_STACK, move || read(socket, max_frame, &kept))?;
    outlet.send(0, &Message::Ready)?;
    while let Some((request, body)) = inbox.next() {
        let (event_type, ended) = match exact::from_start::<Request>(&body) {
            Ok((asked, payload)) => {
                let ended = worker.handle(&asked, payload, || outlet.send(request, &Message::Started));
                (asked.event_type, ended)
            }
            Err(error) => {
                let why = format!("the worker cannot read the request: {error}");
                ("an event".to_owned(), Ended::Without(Outcome::Refused(why)))
            }
        };
        // Records go before the answer.
        logging::settle(LAST_WORDS);
        if !matches!(ended, Ended::TimedOut) {
            inbox.is_done();
        }
        match ended {
            Ended::Output(output, append) => {
                outlet.output(request, &event_type, |bytes, max| append(&output, bytes, max))?
            }
            Ended::Without(outcome) => outlet.done(request, &event_type, outcome)?,
            Ended::TimedOut => inbox.wait_for_the_end(),
        }
    }
    Ok(())
}

/// On a SIGTERM that the pool has not announced the worker finishes the event that it handles, and then ends.
fn ends_on_sigterm(inbox: &Arc<Inbox>) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM])?;
    let inbox = Arc::clone(inbox);
    thread::spawn("signals".to_owned(), READER_STACK, move || {
        if signals.forever().next().is_some() {
            inbox.retire();
        }
    })
}

/// Reads the socket on a thread beside the handlers', so that its end is seen whatever they do.
fn read(mut socket: UnixStream, max_frame: usize, inbox: &Inbox) {
    let mut frames = Frames::new(max_frame);
    let mut buffer = vec![0; CHUNK];
    'open: loop {
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => frames.push(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
        loop {
            match frames.next() {
                // The pool says that the request is given up: no answer is wanted, so the process ends at once.
                Ok(Some((_, body))) if body.is_empty() => {
                    let _ = signal_hook::low_level::emulate_default_handler(SIGTERM);
                }
                Ok(Some(frame)) => inbox.put(frame),
                Ok(None) => break,
                // Too long for a frame, which a pool never sends.
                Err(_) => break 'open,
            }
        }
    }
    if !inbox.close() {
        // The pool is gone, so no answer is wanted: this process ends, with its whole group if it leads it.
        let _ = if rustix::process::getpgrp() == rustix::process::getpid() {
            rustix::process::kill_current_process_group(Signal::KILL)
        } else {
            rustix::process::kill_process(rustix::process::getpid(), Signal::KILL)
        };
    }
}

/// Requests between the thread that reads them and the one that handles them.
#[derive(Default)]
struct Inbox {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<(u64, Vec<u8>)>,
    busy: bool,
    closed: bool,
    retires: bool,
}

impl Inbox {
    fn put(&self, frame: (u64, Vec<u8>)) {
        self.state.lock().frames.push_back(frame);
        self.changed.notify_all();
    }

    /// Waits for the next request. None at the end.
    fn next(&self) -> Option<(u64, Vec<u8>)> {
        let mut state = self.state.lock();
        state.busy = false;
        loop {
            if state.closed || state.retires {
                return None;
            }
            if let Some(frame) = state.frames.pop_front() {
                state.busy = true;
                return Some(frame);
            }
            self.changed.wait(&mut state);
        }
    }

    /// The handler has ended: from here on the worker ends by itself if the pool is gone, and needs not be killed.
    fn is_done(&self) {
        self.state.lock().busy = false;
    }

    /// Takes no more requests.
    fn retire(&self) {
        self.state.lock().retires = true;
        self.changed.notify_all();
    }

    /// Waits until the pool ends this process.
    fn wait_for_the_end(&self) {
        let mut state = self.state.lock();
        loop {
            self.changed.wait(&mut state);
        }
    }

    /// The pool is gone. False if an event is being handled.
    fn close(&self) -> bool {
        let mut state = self.state.lock();
        state.closed = true;
        self.changed.notify_all();
        !state.busy
    }
}
