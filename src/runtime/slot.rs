//! What the watch and diagnostics see of a thread's stack: the deliveries on it, and the attempt that each of them runs.

use crate::event::{AnyEvent, State};
use crate::sys::clock::Tick;
use crate::sys::sync::atomic::{AtomicU64, Ordering};

/// What the watch found on a worker's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    Deadline,
    SlowHandler,
    SlowEvent,
    /// One thread is alone with the parallel handlers of an event, and stands still.
    Alone,
}

/// A delivery on a thread's stack.
#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) event: AnyEvent,
    pub(crate) delivery: usize,
    pub(crate) running: Running,
    /// When to warn that the event is slow; `NEVER` once done.
    pub(crate) slow_event: Tick,
    /// When the watch looks whether helpers must be called to the event's parallel handlers, since the running one stands still; `NEVER`
    /// once done.
    pub(crate) help: Tick,
}

impl Slot {
    pub(super) fn alarm(&self) -> Tick {
        self.running.alarm().min(self.slow_event).min(self.help)
    }

    /// The running attempt has not been ended from outside.
    pub(crate) fn is_live(&self, state: &State) -> bool {
        let Running { invocation, attempt, .. } = self.running;
        state.deliveries.get(self.delivery).is_some_and(|d| d.is_live(invocation, attempt))
    }
}

/// An attempt that a thread runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) invocation: usize,
    /// 0: the last attempt has ended, and no other has begun.
    pub(crate) attempt: u32,
    pub(crate) since: Tick,
    /// When it must have ended; the event's cap included.
    pub(crate) deadline: Tick,
    /// When to warn that it is slow; `NEVER` once done.
    pub(crate) slow: Tick,
}

impl Running {
    pub(super) fn alarm(&self) -> Tick {
        self.deadline.min(self.slow)
    }
}

/// The topmost [`Running`]. Its thread writes it under the lock of the event that it runs, so that handlers of one delivery follow each
/// other without the stack's lock; every other thread reads it under both locks.
#[derive(Default)]
pub(super) struct Top {
    invocation: AtomicU64,
    attempt: AtomicU64,
    since: AtomicU64,
    deadline: AtomicU64,
    slow: AtomicU64,
}

impl Top {
    #[inline]
    pub(super) fn show(&self, running: Running) {
        self.invocation.store(running.invocation as u64, Ordering::Relaxed);
        self.attempt.store(u64::from(running.attempt), Ordering::Relaxed);
        self.since.store(running.since, Ordering::Relaxed);
        self.deadline.store(running.deadline, Ordering::Relaxed);
        self.slow.store(running.slow, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Running {
        Running {
            invocation: self.invocation.load(Ordering::Relaxed) as usize,
            attempt: self.attempt.load(Ordering::Relaxed) as u32,
            since: self.since.load(Ordering::Relaxed),
            deadline: self.deadline.load(Ordering::Relaxed),
            slow: self.slow.load(Ordering::Relaxed),
        }
    }

    #[inline]
    pub(super) fn ends(&self) {
        self.attempt.store(0, Ordering::Relaxed);
    }
}

/// The deliveries on a thread's stack, bottom first. The running attempt of the topmost one is in [`Top`].
#[derive(Default)]
pub(crate) struct Stack {
    pub(super) slots: Vec<Slot>,
}
