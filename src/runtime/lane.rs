//! Where the jobs of one bus wait for threads, and in which half of that.

/// The number of a bus's lane among the [`Jobs`](super::jobs::Jobs) of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane(pub(super) usize);

impl Lane {
    /// For jobs that belong to no bus.
    pub(crate) const SHARED: Lane = Lane(0);
}

/// Of which half of its lane a job is. Where both have some, they take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// Loops, and jobs whose turn or permit has come: they hold what others wait for.
    Granted,
    Others,
}

impl Half {
    pub(super) const BOTH: [Half; 2] = [Half::Granted, Half::Others];
}
