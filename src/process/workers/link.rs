//! One worker, as its keeper and the handler's thread that sends it a request see it.
//!
//! The handler's thread writes to the socket, the keeper reads from it. A request's end is put into `Current` by the first that knows it: the
//! keeper (the worker has answered, or is gone) or the hook that gives the request up. Later ends, and answers to other requests, are dropped.

use super::frame;
use super::message::Outcome;
use crate::process::child::is_writable;
use crate::sys::sync::atomic::{AtomicBool, Ordering};
use crate::sys::sync::{Condvar, Mutex};
use std::io::{PipeWriter, Write};
use std::os::unix::net::UnixStream;

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Reply {
    Outcome {
        outcome: Outcome,
        /// What came behind it.
        output: Vec<u8>,
        /// The number of the last record that came before it, if any did.
        record: Option<u64>,
    },
    /// The worker ended before it answered: why, and how far the request had come.
    Gone { why: String, stage: Stage },
    /// The request was given up: no answer is wanted.
    GivenUp,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It waits until its worker serves.
    Starting,
    /// It is on its way, or there.
    Sent,
    /// Its handler has begun.
    Started,
}

/// Whether the log of the pool's process has what is said about a request, and what its worker logs and prints meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logged {
    Yes,
    /// A logger has emitted the event: what is logged about it would make another event, and so on.
    No,
}

/// What the keeper is to do with its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    None,
    /// Close the worker's socket, so that it ends by itself.
    Retire,
    /// Terminate the worker, and kill it after `kill_grace`.
    Kill,
}

/// What a worker's keeper, the handlers' threads and the pool share of the worker.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) pid: u32,
    pub(crate) socket: UnixStream,
    /// Wakes the keeper.
    bell: PipeWriter,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    order: Order,
    current: Option<Current>,
    serves: bool,
    /// The worker has the whole of the last request.
    sent: bool,
    /// How many requests the worker has answered.
    answered: u64,
    /// The worker is being ended, or about to be.
    leaves: bool,
    /// Why the worker ended, once there is no process any more.
    gone: Option<String>,
    /// Of the last request: what the worker still says belongs to that.
    logged: Logged,
}

impl State {
    /// How far a request has come of which nothing is sent.
    fn without_a_start(&self) -> Stage {
        if self.serves { Stage::Sent } else { Stage::Starting }
    }

    fn give(&mut self, order: Order) {
        self.order = self.order.max(order);
        self.leaves |= order != Order::None;
    }
}

#[derive(Debug)]
struct Current {
    request: u64,
    stage: Stage,
    reply: Option<Reply>,
}

impl Link {
    /// `bell` does not block. `logged`: of the request that the worker is started for.
    pub(crate) fn new(pid: u32, socket: UnixStream, bell: PipeWriter, logged: Logged) -> Self {
        let state = Mutex::new(State {
            order: Order::None,
            current: None,
            serves: false,
            sent: false,
            answered: 0,
            leaves: false,
            gone: None,
            logged,
        });
        Link { pid, socket, bell, state, changed: Condvar::new() }
    }

    /// Makes the request the worker's current one, and waits until the worker serves or the request ends. False if it was given up before.
    pub(crate) fn take_up(&self, request: u64, given_up: &AtomicBool, logged: Logged) -> bool {
        let mut state = self.state.lock();
        // The hook sets `given_up` before it takes this lock in `give_up`: either it is seen here, or the hook finds the request.
        if given_up.load(Ordering::SeqCst) {
            return false;
        }
        let stage = state.without_a_start();
        let reply = state.gone.clone().map(|why| Reply::Gone { why, stage });
        state.current = Some(Current { request, stage: Stage::Starting, reply });
        state.sent = false;
        state.logged = logged;
        while !state.serves && state.current.as_ref().is_some_and(|current| current.reply.is_none()) {
            self.changed.wait(&mut state);
        }
        true
    }

    /// Sends the request that was taken up, and waits for its end, which always comes: the keeper sees to it. Calls `begins` once the handler
    /// has begun. Returns the reply, and how far the request had come.
    pub(crate) fn call(&self, frame: &[u8], begins: impl FnOnce()) -> (Reply, Stage) {
        let send = {
            let mut state = self.state.lock();
            let current = state.current.as_mut().filter(|current| current.reply.is_none());
            current.map(|current| current.stage = Stage::Sent).is_some()
        };
        if send {
            match frame::send(&self.socket, frame) {
                Ok(()) => {
                    let ends = {
                        let mut state = self.state.lock();
                        state.sent = true;
                        state.order == Order::Kill
                    };
                    if ends {
                        // The keeper, which saw that order before all was sent, could not tell the worker.
                        self.say_given_up();
                    }
                }
                // The worker does not read any more. The keeper finds out why.
                Err(_) => self.order(Order::Kill),
            }
        }
        let mut begins = Some(begins);
        let mut state = self.state.lock();
        loop {
            let Some(current) = state.current.as_mut() else { return (Reply::GivenUp, Stage::Starting) };
            if current.stage == Stage::Started
                && let Some(begins) = begins.take()
            {
                drop(state);
                begins();
                state = self.state.lock();
                continue;
            }
            if let Some(reply) = current.reply.take() {
                let stage = current.stage;
                state.current = None;
                return (reply, stage);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Ends the request, if it is still the worker's current one, and the worker, if it has the request.
    pub(crate) fn give_up(&self, request: u64) {
        let order = |stage| if stage == Stage::Starting { Order::None } else { Order::Kill };
        if self.end(Some(request), order, |_| Reply::GivenUp) {
            self.wake_keeper();
        }
    }

    pub(crate) fn order(&self, order: Order) {
        self.state.lock().give(order);
        self.wake_keeper();
    }

    fn wake_keeper(&self) {
        // A full pipe has woken the keeper already.
        let _ = (&self.bell).write(&[0]);
    }

    // The keeper's side.

    pub(crate) fn ordered(&self) -> Order {
        self.state.lock().order
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.state.lock().current.is_some()
    }

    pub(crate) fn is_unlogged(&self) -> bool {
        self.state.lock().logged == Logged::No
    }

    /// Tells the worker that its request is given up, if it has it, so that it does not finish the handler before it ends. Never blocks: a
    /// worker that does not read is killed soon.
    pub(crate) fn say_given_up(&self) {
        if self.state.lock().sent && is_writable(&self.socket) {
            let _ = frame::send(&self.socket, &frame::of_bytes(0, b""));
        }
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.state.lock().serves
    }

    pub(crate) fn leaves(&self) {
        self.state.lock().leaves = true;
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.state.lock().leaves
    }

    pub(crate) fn answered_so_far(&self) -> u64 {
        self.state.lock().answered
    }

    /// The worker can be given work.
    pub(crate) fn serves(&self) {
        self.state.lock().serves = true;
        self.changed.notify_all();
    }

    pub(crate) fn started(&self, request: u64) {
        if let Some(current) = self.state.lock().current.as_mut().filter(|current| current.request == request) {
            current.stage = Stage::Started;
        }
        self.changed.notify_all();
    }

    /// The worker has answered. An answer to another request than the current one is dropped.
    pub(crate) fn answered(&self, request: u64, outcome: Outcome, output: Vec<u8>, record: Option<u64>) {
        self.state.lock().answered += 1;
        self.end(Some(request), |_| Order::None, |_| Reply::Outcome { outcome, output, record });
    }

    /// The worker's process is reaped.
    pub(crate) fn gone(&self, why: &str) {
        let least = {
            let mut state = self.state.lock();
            state.gone = Some(why.to_owned());
            state.without_a_start()
        };
        self.end(None, |_| Order::None, |stage| Reply::Gone { why: why.to_owned(), stage: stage.max(least) });
    }

    /// Ends the current request, if it has no end yet, and gives the keeper its order under the same lock: the handler's thread that sees the
    /// request end may ask at once which workers are being ended. `request`: only if that is the current one.
    fn end(
        &self,
        request: Option<u64>,
        order: impl FnOnce(Stage) -> Order,
        reply: impl FnOnce(Stage) -> Reply,
    ) -> bool {
        let mut state = self.state.lock();
        let current = state.current.as_mut().filter(|current| request.is_none_or(|request| request == current.request));
        let Some(current) = current.filter(|current| current.reply.is_none()) else { return false };
        let stage = current.stage;
        current.reply = Some(reply(stage));
        state.give(order(stage));
        drop(state);
        self.changed.notify_all();
        true
    }
}
