//! Where the jobs of one bus wait for threads.

/// The number of a bus's lane among the [`Jobs`](super::jobs::Jobs) of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane(pub(super) usize);

impl Lane {
    /// For jobs that belong to no bus.
    pub(crate) const SHARED: Lane = Lane(0);
}
