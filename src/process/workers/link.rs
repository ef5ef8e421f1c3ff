//! One worker as both its keeper and whoever sends it a request see it.
//!
//! The sender writes to the socket, the keeper reads from it: a request's end is put into `Current` by whoever knows it first, the keeper
//! (it was answered, or the worker is gone) or the one who gave the request up. Later ends, and answers to other requests, are dropped.

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
    /// The handler was given up: nobody wants an answer.
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

/// What the keeper is to do with its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    None,
    /// Let it end by itself.
    Retire,
    /// End it.
    Kill,
}

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
    /// The whole of the last request.
    sent: bool,
    /// Requests it has answered.
    answered: u64,
    /// It is being ended, or about to be.
    leaves: bool,
    /// Why, once there is no process any more.
    gone: Option<String>,
    /// Nothing is logged about the last request; what the worker still says belongs to that.
    unlogged: bool,
}

impl State {
    /// How far a request has come of which nothing was sent.
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
    /// `bell` does not block. `unlogged`: it is started for what nothing is logged about.
    pub(crate) fn new(pid: u32, socket: UnixStream, bell: PipeWriter, unlogged: bool) -> Self {
        let state = Mutex::new(State {
            order: Order::None,
            current: None,
            serves: false,
            sent: false,
            answered: 0,
            leaves: false,
            gone: None,
            unlogged,
        });
        Link { pid, socket, bell, state, changed: Condvar::new() }
    }

    /// The request is what the worker is at from now on: waits until it serves, or the request ends. False if it was given up before.
    pub(crate) fn take_up(&self, request: u64, given_up: &AtomicBool, unlogged: bool) -> bool {
        let mut state = self.state.lock();
        // Looked at under the lock that `give_up` takes afterwards: one of the two sees the other.
        if given_up.load(Ordering::SeqCst) {
            return false;
        }
        let stage = state.without_a_start();
        let reply = state.gone.clone().map(|why| Reply::Gone { why, stage });
        state.current = Some(Current { request, stage: Stage::Starting, reply });
        state.sent = false;
        state.unlogged = unlogged;
        while !state.serves && state.current.as_ref().is_some_and(|current| current.reply.is_none()) {
            self.changed.wait(&mut state);
        }
        true
    }

    /// Sends the request that was taken up, and waits for its end, which always comes: the keeper sees to it. `begins`: once its handler has begun.
    /// With how far it had come.
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
                        // Whoever ordered that could not say it yet.
                        self.say_given_up();
                    }
                }
                // It does not read any more. The keeper finds out why.
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

    /// Ends the request, if that is still what its worker is at, and the worker, if it has the request.
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
        // A full pipe has woken it already.
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
        self.state.lock().unlogged
    }

    /// Tells the worker that its request is given up, if it has it, so that it does not wait for that to end. Never waits: one that does not read is
    /// killed soon.
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

    /// It can be given work.
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

    /// An answer to anything but its request is nobody's.
    pub(crate) fn answered(&self, request: u64, outcome: Outcome, output: Vec<u8>, record: Option<u64>) {
        self.state.lock().answered += 1;
        self.end(Some(request), |_| Order::None, |_| Reply::Outcome { outcome, output, record });
    }

    /// The process is no more.
    pub(crate) fn gone(&self, why: &str) {
        let least = {
            let mut state = self.state.lock();
            state.gone = Some(why.to_owned());
            state.without_a_start()
        };
        self.end(None, |_| Order::None, |stage| Reply::Gone { why: why.to_owned(), stage: stage.max(least) });
    }

    /// The first end of a request counts. The order comes with it, not after it: who sees the request end may go and look at what is
    /// being ended.
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
