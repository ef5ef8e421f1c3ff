//! One worker as both its keeper and whoever sends it a request see it.
//!
//! The sender writes to the socket, the keeper reads from it: a request's end is put into `Current` by whoever knows it first, the keeper
//! (it was answered, or the worker is gone) or the one who gave the request up. Later ends, and answers to other requests, are dropped.

use super::frame;
use super::message::Outcome;
use crate::sys::sync::atomic::{AtomicBool, Ordering};
use crate::sys::sync::{Condvar, Mutex};
use std::io::{PipeWriter, Write};
use std::os::unix::net::UnixStream;

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Reply {
    Outcome {
        outcome: Outcome,
        /// The number of the last record that came before it, if any did.
        record: Option<u64>,
    },
    /// The worker ended before it answered: why, and whether its handler had begun.
    Gone { why: String, started: bool },
    /// The handler was given up: nobody wants an answer.
    GivenUp,
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
    /// Why, once there is no process any more.
    gone: Option<String>,
    /// Nothing is logged about the last request; what the worker still says belongs to that.
    unlogged: bool,
}

impl State {
    fn give(&mut self, order: Order) {
        self.order = self.order.max(order);
    }
}

#[derive(Debug)]
struct Current {
    request: u64,
    started: bool,
    reply: Option<Reply>,
}

impl Link {
    /// `bell` does not block. `unlogged`: it is started for what nothing is logged about.
    pub(crate) fn new(pid: u32, socket: UnixStream, bell: PipeWriter, unlogged: bool) -> Self {
        let state = Mutex::new(State { order: Order::None, current: None, gone: None, unlogged });
        Link { pid, socket, bell, state, changed: Condvar::new() }
    }

    /// Sends a request and waits for its end, which always comes: the keeper sees to it. None if it was given up before it was sent.
    pub(crate) fn call(&self, request: u64, frame: &[u8], given_up: &AtomicBool, unlogged: bool) -> Option<Reply> {
        {
            let mut state = self.state.lock();
            if let Some(why) = &state.gone {
                return Some(Reply::Gone { why: why.clone(), started: false });
            }
            state.current = Some(Current { request, started: false, reply: None });
            // Looked at under the lock that `give_up` takes afterwards: one of the two sees the other.
            if given_up.load(Ordering::SeqCst) {
                state.current = None;
                return None;
            }
            state.unlogged = unlogged;
        }
        if frame::send(&self.socket, frame).is_err() {
            // It does not read any more. The keeper finds out why.
            self.order(Order::Kill);
        }
        let mut state = self.state.lock();
        loop {
            if let Some(reply) = state.current.as_mut().and_then(|current| current.reply.take()) {
                state.current = None;
                return Some(reply);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Ends the request and its worker, if that request is still what it is at.
    pub(crate) fn give_up(&self, request: u64) {
        if self.end(Some(request), Order::Kill, |_| Reply::GivenUp) {
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

    pub(crate) fn started(&self, request: u64) {
        if let Some(current) = self.state.lock().current.as_mut().filter(|current| current.request == request) {
            current.started = true;
        }
    }

    /// An answer to anything but its request is nobody's.
    pub(crate) fn answered(&self, request: u64, outcome: Outcome, record: Option<u64>) {
        self.end(Some(request), Order::None, |_| Reply::Outcome { outcome, record });
    }

    /// The process is no more.
    pub(crate) fn gone(&self, why: &str) {
        self.state.lock().gone = Some(why.to_owned());
        self.end(None, Order::None, |started| Reply::Gone { why: why.to_owned(), started });
    }

    /// The first end of a request counts. The order comes with it, not after it: who sees the request end may go and look at what is
    /// being ended.
    fn end(&self, request: Option<u64>, order: Order, reply: impl FnOnce(bool) -> Reply) -> bool {
        let mut state = self.state.lock();
        let current = state.current.as_mut().filter(|current| request.is_none_or(|request| request == current.request));
        let Some(current) = current.filter(|current| current.reply.is_none()) else { return false };
        current.reply = Some(reply(current.started));
        state.give(order);
        drop(state);
        self.changed.notify_all();
        true
    }
}
