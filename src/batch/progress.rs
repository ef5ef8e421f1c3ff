//! What a batch says of itself.

/// How far a [`Batch`](crate::Batch) is, in steps ([`EventOptions::steps`](crate::EventOptions::steps)). `failed` and `never_ran` count events.
///
/// ```
/// use threadbus::{EventBus, OnFull, Payload};
/// struct Job;
/// impl Payload for Job { type Output = (); }
///
/// let bus = EventBus::builder("small").queue_capacity(2, OnFull::Reject).build()?;
/// bus.pause();
/// let batch = bus.batch();
/// batch.extend((0..10).map(|_| Job));
/// bus.resume();
/// let progress = batch.wait()?;
/// assert_eq!((progress.completed, progress.failed, progress.never_ran), (10, 0, 8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Steps of the events that are complete. One that was refused, cancelled or dropped is complete, and also counted in `never_ran`.
    pub completed: usize,
    /// Steps of all events added so far.
    pub total: usize,
    /// Completed events of which a handler failed, after all its attempts; events, not steps. Being given up for a reason outside of it (a
    /// `cancel`, a lost `first`, a parent's timeout, a shutdown) is no failure of a handler.
    pub failed: usize,
    /// Completed events of which no handler started: refused, cancelled or dropped before; events, not steps.
    pub never_ran: usize,
}

impl Progress {
    pub(super) const NOTHING: Progress = Progress { completed: 0, total: 0, failed: 0, never_ran: 0 };
}
