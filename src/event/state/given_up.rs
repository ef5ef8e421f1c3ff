//! Attempts that are given up, which means that another thread than their own ends them: the watch, a canceller, a first value, a shutdown.
//! How many there were, which of an event were, and what runs then.

use crate::event::BusIdentity;
use crate::sys::count::Count;
use std::sync::Arc;

/// How many attempts of the process were given up.
static GIVEN_UP: Count = Count::new();

/// If this is unchanged since an attempt started, no attempt was given up since, so that one is live: its thread need not lock its event to know.
pub(crate) fn given_up() -> u64 {
    GIVEN_UP.read()
}

/// Called under the lock of the event of a running attempt, by the thread that ends that attempt.
pub(crate) fn note_given_up() {
    GIVEN_UP.add_one();
}

/// Which delivery, which invocation of it, which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttemptKey {
    pub(crate) delivery: usize,
    pub(crate) invocation: usize,
    pub(crate) attempt: u32,
}

impl AttemptKey {
    pub(in crate::event) fn is_of(&self, delivery: usize, invocation: usize) -> bool {
        (self.delivery, self.invocation) == (delivery, invocation)
    }
}

/// To run if that attempt is given up. Gone with its end, however that comes.
pub(crate) struct Hook {
    pub(crate) of: AttemptKey,
    /// Unique among the hooks of its event.
    number: u64,
    pub(crate) run: Box<dyn FnOnce() + Send>,
}

/// The hooks of one event.
#[derive(Default)]
pub(in crate::event) struct Hooks {
    list: Vec<Hook>,
    /// How many there have been.
    count: u64,
}

impl Hooks {
    /// The number takes it back.
    pub(in crate::event) fn add(&mut self, of: AttemptKey, run: Box<dyn FnOnce() + Send>) -> u64 {
        self.count += 1;
        self.list.push(Hook { of, number: self.count, run });
        self.count
    }

    pub(in crate::event) fn remove(&mut self, number: u64) -> Option<Hook> {
        let at = self.list.iter().rposition(|hook| hook.number == number)?;
        Some(self.list.remove(at))
    }

    pub(in crate::event) fn are_left_of(&self, of: AttemptKey) -> bool {
        self.list.iter().any(|hook| hook.of == of)
    }

    pub(in crate::event) fn take(&mut self, of: AttemptKey) -> Vec<Hook> {
        self.list.extract_if(.., |hook| hook.of == of).collect()
    }
}

/// Of each invocation of an event the newest attempt that was given up.
#[derive(Default)]
pub(in crate::event) struct GivenUp(Vec<AttemptKey>);

impl GivenUp {
    pub(in crate::event) fn add(&mut self, of: AttemptKey) {
        match self.0.iter_mut().find(|newest| newest.is_of(of.delivery, of.invocation)) {
            Some(newest) => newest.attempt = of.attempt,
            None => self.0.push(of),
        }
    }

    /// That attempt, or a later one of its invocation.
    pub(in crate::event) fn has(&self, of: AttemptKey) -> bool {
        self.0.iter().any(|newest| newest.is_of(of.delivery, of.invocation) && of.attempt <= newest.attempt)
    }
}

/// Another bus that an attempt's jump keeps from starting queued events.
pub(crate) struct Pause {
    pub(crate) of: AttemptKey,
    pub(crate) bus: Arc<BusIdentity>,
}
