//! Parking in a call that is no wait for an event: a future find, a `recv`, a full subscription, a batch's last report.

use crate::bus::permits::hand;
use crate::bus::thread::frame::{self, Frame};
use crate::bus::thread::parking::Rested;
use crate::bus::thread::sits::Sitting;
use crate::runtime::{Needs, Serves, SitFor, Worker};
use crate::sync::Bell;
use crate::sys::clock::{self, NEVER, Tick};
use std::sync::Arc;

/// The calling thread, where it may park. Inside a handler it keeps its permits and gives up only its place in the pool.
pub(crate) struct Seat {
    worker: Arc<Worker>,
    frame: Option<Frame>,
}

/// Why a park is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parked {
    Ready,
    TimedOut,
    /// The handler that parked does not count any more.
    GivenUp,
}

impl Seat {
    /// `None` where no call of ours may block: in a callback that is not a handler, on a thread that must not, in a handler that was
    /// given up, and while the thread ends.
    pub(crate) fn take() -> Option<Seat> {
        if frame::barred().is_some() {
            return None;
        }
        let seat = Seat { worker: Worker::current()?, frame: frame::top() };
        seat.is_live().then_some(seat)
    }

    /// To be rung whenever what it parks for may have come.
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.worker.bell
    }

    pub(crate) fn in_handler(&self) -> bool {
        self.frame.is_some()
    }

    fn is_live(&self) -> bool {
        self.frame.as_ref().is_none_or(Frame::is_live)
    }

    /// The handler was given up, or the deadline has passed.
    pub(crate) fn is_over(&self, deadline: Tick) -> bool {
        is_past(deadline) || !self.is_live()
    }

    /// Parks until `ready`. That must not run user code, nor drop what users gave.
    ///
    /// `what`: what a handler does here, in words.
    pub(crate) fn park(&self, deadline: Tick, what: impl FnOnce() -> String, ready: impl Fn() -> bool) -> Parked {
        if ready() {
            return Parked::Ready;
        }
        let frame = self.frame.as_ref();
        let _sitting = frame.map(|frame| Sitting::enter(&self.worker, frame, SitFor::other(what())));
        let parked = self.parks(deadline, ready);
        self.worker.ends_wait();
        parked
    }

    fn parks(&self, deadline: Tick, ready: impl Fn() -> bool) -> Parked {
        loop {
            if ready() {
                return Parked::Ready;
            }
            if !self.is_live() {
                return Parked::GivenUp;
            }
            if is_past(deadline) {
                return Parked::TimedOut;
            }
            let Some(frame) = &self.frame else {
                self.worker.serve_or_park(deadline, Serves::All);
                continue;
            };
            let rest = || self.worker.serve_or_park(deadline, Serves::Awaited);
            // What it waits for may come from anywhere, so there is nothing that it could run itself.
            let rested = self.worker.suspended(&frame.bus.runtime, deadline, Needs::default, rest);
            // What ran on top may have given up what this handler keeps.
            if rested == Rested::Served && !hand::take_back(&self.worker, frame) {
                return Parked::GivenUp;
            }
        }
    }
}

fn is_past(deadline: Tick) -> bool {
    deadline != NEVER && clock::now() >= deadline
}
