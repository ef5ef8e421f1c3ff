//! Small synchronisation structures: a thread's bell, short spinning, a histogram, the last few of something, and the permit semaphore,
//! the cap of a limit, lines by priority and when to sweep a list as pure data; and threads that the system refused.
//!
//! Imports `sys` only. How permits and limits are handed on: `README.md` beside this file.

mod bell;
mod cap;
mod histogram;
mod line;
mod recent;
pub(crate) mod refused;
mod semaphore;
mod shares;
mod spin;
mod sweep;

pub(crate) use bell::Bell;
pub(crate) use cap::Cap;
pub(crate) use histogram::{Counts, Histogram};
pub(crate) use line::{Key, Line, Rank};
pub(crate) use recent::Recent;
pub(crate) use semaphore::{Granted, Position, Semaphore, Ticket, Token, WhileSetDown};
pub(crate) use shares::{BANDS, Shares};
pub(crate) use spin::Spin;
pub(crate) use sweep::Sweep;
