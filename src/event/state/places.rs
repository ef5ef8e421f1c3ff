//! An invocation's place under a limit, and the thread inside: that of an attempt that was given up may stay there for a while.

use crate::event::LimitGroup;
use crate::sys::clock::Timer;
use std::sync::Arc;

/// An invocation that is inside a limit, or in its line.
pub(crate) struct Placed {
    pub(crate) delivery: usize,
    pub(crate) invocation: usize,
    pub(crate) group: Arc<LimitGroup>,
    /// When it has waited long enough.
    pub(crate) timer: Option<Timer>,
    /// The place stays taken while a thread is inside: [`Limit::until_returned`](crate::Limit::until_returned).
    pub(crate) until_returned: bool,
    /// Under such a limit: the attempt that was given up, and whose thread is still inside.
    inside: Option<u32>,
    /// The last attempt whose thread came back too late.
    returned: u32,
    /// The next attempt waits for the thread that is inside.
    wanted: bool,
}

impl Placed {
    pub(crate) fn new(delivery: usize, invocation: usize, group: Arc<LimitGroup>, until_returned: bool) -> Self {
        Placed { delivery, invocation, group, timer: None, until_returned, inside: None, returned: 0, wanted: false }
    }

    pub(in crate::event) fn is_of(&self, delivery: usize, invocation: usize) -> bool {
        (self.delivery, self.invocation) == (delivery, invocation)
    }

    /// A thread that was given up is inside.
    pub(crate) fn is_in_use(&self) -> bool {
        self.inside.is_some()
    }

    /// That attempt is given up: its thread is inside until it returns, unless it has already.
    pub(in crate::event) fn is_left_to(&mut self, attempt: u32) {
        if self.until_returned && self.returned != attempt {
            self.inside = Some(attempt);
        }
    }

    /// The next attempt waits for the thread that is inside. False if none is.
    pub(in crate::event) fn wants_returned(&mut self) -> bool {
        self.wanted = self.is_in_use();
        self.wanted
    }

    /// The thread of an attempt that was given up is back. True if the next attempt has waited for that.
    pub(in crate::event) fn has_returned(&mut self, attempt: u32) -> bool {
        self.returned = attempt;
        if self.inside != Some(attempt) {
            return false;
        }
        self.inside = None;
        std::mem::take(&mut self.wanted)
    }
}
