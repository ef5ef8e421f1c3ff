//! Small synchronisation structures: a thread's bell, short spinning, a histogram, and the permit semaphore
//! and the cap of a limit as pure data.
//!
//! Imports `sys` only. The protocols that use them are in `runtime/README.md`.

mod bell;
mod cap;
mod histogram;
mod semaphore;
mod spin;

pub(crate) use bell::Bell;
pub(crate) use cap::Cap;
pub(crate) use histogram::{Counts, Histogram};
pub(crate) use semaphore::{Granted, Place, Semaphore, Ticket, Token};
pub(crate) use spin::Spin;
