//! What the threads of a runtime do at one moment.

/// What the threads of a [`Runtime`](crate::Runtime) do.
///
/// `waiting`: suspended in a wait of ours. `abandoned`: still inside a handler whose result was given up.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeStats {
    /// All threads of the pool.
    pub threads: usize,
    /// Running a bus or a handler.
    pub busy: usize,
    /// Suspended in a wait of ours.
    pub waiting: usize,
    /// Without work, to end after the keep-alive.
    pub idle: usize,
    /// Still inside a handler whose result was given up.
    pub abandoned: usize,
    /// The limit of `busy`.
    pub max_threads: usize,
    /// The most there have been at once.
    pub peak_threads: usize,
}
