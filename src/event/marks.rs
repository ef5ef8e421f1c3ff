//! What is marked at the head of an event.

/// Whoever completes it tells the histories that it is in.
pub(super) const TELLS: u8 = 1;
/// Its parent waits for it.
pub(super) const COUNTED: u8 = 2;
/// What is below it ends.
pub(super) const DOOMED: u8 = 4;
