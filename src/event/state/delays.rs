//! Deliveries of which nothing runs: between two attempts of a handler, or in a line.

use crate::event::{AttemptKey, HandlerFailure};
use crate::sys::clock::{Tick, Timer};
use std::sync::Arc;

/// A delivery that has been claimed, and of which nothing runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) delivery: usize,
    /// How long it was queued, until the first start of a handler, when that is recorded.
    pub(crate) queued: Option<Tick>,
    /// A handler of it has started before.
    pub(crate) tried: bool,
}

/// A delay between two attempts.
pub(crate) struct Delay {
    /// The attempt that has failed.
    pub(crate) of: AttemptKey,
    /// The invocation's result, should there be no other attempt.
    pub(crate) failure: Arc<HandlerFailure>,
    /// The attempt was ended by its deadline; else by its own thread, which has left the delivery to the next job.
    pub(crate) timed_out: bool,
    pub(crate) timer: Option<Timer>,
    /// The next attempt is due. Kept until the delivery ends or another delay comes, since the timer's thread drops nothing of the user's.
    over: bool,
}

impl Delay {
    pub(crate) fn after_failure(of: AttemptKey, failure: Arc<HandlerFailure>) -> Self {
        Delay { of, failure, timed_out: false, timer: None, over: false }
    }

    pub(crate) fn after_timeout(of: AttemptKey, failure: Arc<HandlerFailure>) -> Self {
        Delay { timed_out: true, ..Delay::after_failure(of, failure) }
    }
}

/// The delays of one event, at most one of each invocation.
#[derive(Default)]
pub(in crate::event) struct Delays(Vec<Delay>);

impl Delays {
    pub(in crate::event) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the delay of the invocation's attempt before.
    pub(in crate::event) fn put(&mut self, delay: Delay) -> Option<Delay> {
        match self.0.iter_mut().find(|before| before.of.is_of(delay.of.delivery, delay.of.invocation)) {
            Some(before) => Some(std::mem::replace(before, delay)),
            None => {
                self.0.push(delay);
                None
            }
        }
    }

    /// False if the delay is over.
    pub(in crate::event) fn keep_timer(&mut self, of: AttemptKey, timer: Timer) -> bool {
        let delay = self.0.iter_mut().find(|delay| delay.of == of && !delay.over);
        delay.map(|delay| delay.timer = Some(timer)).is_some()
    }

    pub(in crate::event) fn end(&mut self, of: AttemptKey) {
        if let Some(delay) = self.0.iter_mut().find(|delay| delay.of == of) {
            (delay.over, delay.timer) = (true, None);
        }
    }

    /// Takes out the delays of a delivery that are not over, and whose invocations still wait.
    pub(in crate::event) fn cut(&mut self, delivery: usize, still_waits: impl Fn(AttemptKey) -> bool) -> Vec<Delay> {
        let waits = |delay: &mut Delay| delay.of.delivery == delivery && !delay.over && still_waits(delay.of);
        self.0.extract_if(.., waits).collect()
    }

    /// Takes out all delays of a delivery.
    pub(in crate::event) fn take(&mut self, delivery: usize) -> Vec<Delay> {
        self.0.extract_if(.., |delay| delay.of.delivery == delivery).collect()
    }
}
