//! From a queued event to its handlers, and from one to the next.

pub(crate) mod attempt;
pub(crate) mod drive;
pub(crate) mod driver;
mod free;
mod global_turn;
pub(crate) mod limited;
pub(crate) mod own_permit;
pub(crate) mod resume;
pub(crate) mod run_loop;
mod snapshot;
pub(crate) mod start;
mod usher;
