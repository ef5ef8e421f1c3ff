//! The permits of the global-serial modes, and what happens when a turn in the line of any permit comes.

use crate::runtime::job::Job;
use crate::runtime::pool::Pool;
use crate::sync::{Bell, Semaphore, WhileSetDown};
use std::sync::Arc;

/// Which of the two permits of a bus, or of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PermitKind {
    Event,
    Handler,
}

/// What happens when a turn in line comes.
pub(crate) enum Wakeup {
    /// The thread that stands in line is rung.
    Ring(Arc<Bell>),
    /// No thread stands there: the pool gets a job.
    Job(Job),
}

/// The permits of the global-serial modes.
pub(crate) struct Global {
    pub(crate) event: Semaphore<Wakeup>,
    pub(crate) handler: Semaphore<Wakeup>,
}

impl Global {
    pub(super) fn new() -> Global {
        Global { event: Semaphore::new(1, WhileSetDown::Kept), handler: Semaphore::new(1, WhileSetDown::Passed) }
    }

    pub(crate) fn semaphore(&mut self, kind: PermitKind) -> &mut Semaphore<Wakeup> {
        match kind {
            PermitKind::Event => &mut self.event,
            PermitKind::Handler => &mut self.handler,
        }
    }
}

/// Carries out the wakeups of the turns that have come. With nothing locked.
pub(crate) fn hand_over(pool: &Arc<Pool>, granted: impl IntoIterator<Item = Wakeup>) {
    for wakeup in granted {
        match wakeup {
            Wakeup::Ring(bell) => bell.ring(),
            Wakeup::Job(job) => pool.submit_granted(job),
        }
    }
}
