//! The worker's side: reads requests, runs their handlers, answers.

use super::frame::Frames;
use super::marker::{self, Marker};
use super::message::{Message, Outcome, PROTOCOL, Request};
use super::outlet::{Outlet, SocketLog};
use crate::bus::{EventBus, Shutdown, unlogged};
use crate::event::{
    Event, Handler, HandlerError, HandlerFailure, HandlerInfo, HandlerOptions, HandlerResult, JsonLimits, Payload,
};
use crate::process::child::CHUNK;
use crate::sys::sync::atomic::{AtomicBool, Ordering};
use crate::sys::sync::{Condvar, Mutex};
use crate::sys::{logging, thread, unwind};
use rustix::process::Signal;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// How long a worker waits for what it still has to log.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// In a process that a [`ProcessPool`](crate::process::ProcessPool) has started: serves it, and exits when the pool lets it go. In any
/// other process: returns at once, without having called `register`.
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

/// The handlers of a worker process.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use threadbus::{Event, HandlerError, event, process};
///
/// #[derive(Serialize, Deserialize)]
/// struct Head { path: String }
/// event!(Head => String);
/// #[derive(Serialize, Deserialize)]
/// struct Size { path: String }
/// event!(Size => u64);
///
/// fn head(head: &Event<Head>) -> Result<String, HandlerError> {
///     // The other handler of this worker answers.
///     let size = head.bus().emit(Size { path: head.path.clone() }).result()?;
///     Ok(format!("{}: {size} bytes", head.path))
/// }
///
/// process::serve(|worker| {
///     worker.on(head).on(|size: &Event<Size>| std::fs::metadata(&size.path).map(|found| found.len()));
/// });
/// ```
pub struct Worker {
    handlers: BTreeMap<&'static str, Box<Install>>,
}

/// Registers a handler, of which the pool wants to know whether its error was permanent, if it is the one that it asked for.
type Install = dyn Fn(&EventBus, Option<Arc<AtomicBool>>) -> HandlerInfo;

impl Worker {
    /// The handler for events whose payload is a `P`: anything that [`EventBus::on`] takes. A second one for the same type takes the first
    /// one's place.
    pub fn on<P: Payload, M>(&mut self, handler: impl Handler<P, M>) -> &mut Self {
        let handler = Arc::new(handler);
        let install = move |bus: &EventBus, permanent: Option<Arc<AtomicBool>>| {
            let handler = Arc::clone(&handler);
            let options = HandlerOptions::new().name(crate::event::name_of::<P>());
            bus.on_with(options, move |event: &Event<P>| match &permanent {
                Some(permanent) => once(&*handler, event, permanent),
                None => handler.handle(event),
            })
        };
        if self.handlers.insert(crate::event::name_of::<P>(), Box::new(install)).is_some() {
            logging::warn!("a second handler for {} takes the place of the first", crate::event::name_of::<P>());
        }
        self
    }
}

/// One attempt, of which no retry follows here: the pool's bus sees to that.
fn once<P: Payload, M>(
    handler: &impl Handler<P, M>,
    event: &Event<P>,
    permanent: &AtomicBool,
) -> Result<Option<P::Output>, HandlerError> {
    match unwind::catch(|| handler.handle(event)) {
        Ok(returned) => returned.map_err(|error| {
            permanent.store(error.is_permanent(), Ordering::SeqCst);
            HandlerError { permanent: true, ..error }
        }),
        Err(panic) => Err(HandlerError::permanent(HandlerFailure::Panicked(panic))),
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("handlers", &self.handlers.keys()).finish()
    }
}

fn work(marker: &Marker, socket: UnixStream, register: impl FnOnce(&mut Worker)) -> io::Result<()> {
    // Handlers find an empty input, and cannot read what is for us.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    if marker.niceness > 0 {
        rustix::process::setpriority_process(None, i32::from(marker.niceness))?;
    }
    let outlet = Arc::new(Outlet::new(socket.try_clone()?, marker.max_frame));
    outlet.send(0, &Message::Hello { protocol: PROTOCOL })?;
    // Unless something has set a logger before `main`.
    if log::set_logger(Box::leak(Box::new(SocketLog(Arc::clone(&outlet))))).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
    let mut worker = Worker { handlers: BTreeMap::new() };
    register(&mut worker);

    let inbox = Arc::new(Inbox::default());
    let (kept, max_frame) = (Arc::clone(&inbox), marker.max_frame);
    thread::spawn("requests".to_owned(), 512 * 1024, move || read(socket, max_frame, &kept))?;
    while let Some((request, body)) = inbox.next() {
        let outcome = match serde_json::from_slice(&body) {
            Ok(asked) => worker.handle(&asked, || outlet.send(request, &Message::Started), marker.max_frame),
            Err(error) => Some(Outcome::Refused(format!("the worker cannot read the event: {error}"))),
        };
        // Records go before the answer.
        logging::settle(LAST_WORDS);
        match outcome {
            Some(outcome) => outlet.done(request, outcome)?,
            None => inbox.wait_for_the_end(),
        }
    }
    Ok(())
}

/// Runs beside the handlers, so that the end of the socket is seen whatever they do.
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
                Ok(Some(frame)) => inbox.put(frame),
                Ok(None) => break,
                // No pool of ours sends that.
                Err(_) => break 'open,
            }
        }
    }
    if !inbox.close() {
        // Nobody is there for whom the handler could work on. All of the group, if it is ours.
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
}

impl Inbox {
    fn put(&self, frame: (u64, Vec<u8>)) {
        self.state.lock().frames.push_back(frame);
        self.changed.notify_all();
    }

    /// Waits for it. None at the end.
    fn next(&self) -> Option<(u64, Vec<u8>)> {
        let mut state = self.state.lock();
        state.busy = false;
        loop {
            if state.closed {
                return None;
            }
            if let Some(frame) = state.frames.pop_front() {
                state.busy = true;
                return Some(frame);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Until the pool ends this process.
    fn wait_for_the_end(&self) {
        let mut state = self.state.lock();
        loop {
            self.changed.wait(&mut state);
        }
    }

    /// False if something is being handled.
    fn close(&self) -> bool {
        let mut state = self.state.lock();
        state.closed = true;
        self.changed.notify_all();
        !state.busy
    }
}

impl Worker {
    /// On a bus of its own, since a retry comes with the same id, and a bus runs no id twice. None if it timed out: that is the pool's to
    /// say, which will end this process.
    fn handle(&self, request: &Request, begin: impl FnOnce() -> io::Result<()>, max_frame: usize) -> Option<Outcome> {
        log::set_max_level(request.log);
        let event_type = request.event["event_type"].as_str().unwrap_or_default();
        if !self.handlers.contains_key(event_type) {
            let known = self.handlers.keys().copied().collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "nothing" } else { &known };
            return Some(Outcome::Refused(format!("no handler for {event_type} in the worker, which handles {known}")));
        }
        let limits = JsonLimits::of_workers(max_frame);
        let bus = EventBus::builder("worker").json_limits(limits).handler_timeout(None).handler_slow_after(None);
        let bus = match bus.event_slow_after(None).build() {
            Ok(bus) => bus,
            Err(error) => return Some(Outcome::Refused(error.to_string())),
        };
        let permanent = Arc::new(AtomicBool::new(false));
        let mut asked = None;
        for (handles, install) in &self.handlers {
            let of_this = *handles == event_type;
            let info = install(&bus, of_this.then(|| Arc::clone(&permanent)));
            if of_this {
                asked = Some(info.id());
            }
        }
        if let Err(error) = begin() {
            return Some(Outcome::Refused(error.to_string()));
        }
        let emit = || bus.emit_json(&request.event);
        let emitted = if request.unlogged { unlogged(emit) } else { emit() };
        let waited = emitted.map_err(|error| error.to_string());
        let waited = waited.and_then(|event| event.wait().map_err(|error| error.to_string()));
        let outcome = match waited {
            Ok(event) => match event.results().into_iter().find(|result| Some(result.handler.id()) == asked) {
                Some(result) => outcome(event_type, &result, permanent.load(Ordering::SeqCst)),
                None => Some(Outcome::Refused(format!("the handler of {event_type} did not run"))),
            },
            Err(error) => Some(Outcome::Refused(format!("the worker cannot take {event_type}: {error}"))),
        };
        bus.shutdown(Shutdown::Now, Duration::ZERO);
        outcome
    }
}

/// The error is the user's, and so is its text.
fn text_of(failure: &HandlerFailure) -> String {
    unwind::catch(|| failure.to_string()).unwrap_or_else(|panic| format!("its text panicked: {panic}"))
}

fn outcome(event_type: &str, result: &HandlerResult<crate::event::AnyOutput>, permanent: bool) -> Option<Outcome> {
    Some(match (&result.value, result.error.as_deref()) {
        (_, Some(HandlerFailure::TimedOut { .. })) => return None,
        (_, Some(HandlerFailure::Panicked(text))) => Outcome::Panicked(text.clone()),
        (_, Some(failure)) => Outcome::Failed { text: text_of(failure), permanent },
        (Some(value), None) => match value.to_json() {
            Ok(json) => Outcome::Value(json),
            Err(error) => Outcome::Refused(format!("the output of {event_type} cannot be JSON: {error}")),
        },
        (None, None) => Outcome::Nothing,
    })
}
