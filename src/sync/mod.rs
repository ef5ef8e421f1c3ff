//! Small synchronisation structures: a thread's bell, short spinning, and the permit semaphore as pure data.
//!
//! Imports `sys` only. The protocols that use them are in `runtime/README.md`.

mod bell;
mod semaphore;
mod spin;

pub(crate) use bell::Bell;
pub(crate) use semaphore::{Granted, Place, Semaphore, Ticket, Token};
pub(crate) use spin::Spin;
