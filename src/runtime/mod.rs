//! Threads: the worker pool, the watch, and what the buses of one runtime share.
//!
//! Imports `sys`, `sync` and `event`. Knows a bus only as a [`Drive`] and as closures. The protocols of this room and of `bus`
//! are in `README.md` beside this file.

mod core;
mod crew;
mod drive;
mod pool;
pub(crate) mod refused;
mod watch;
mod worker;

pub(crate) use self::core::{ParkedWait, PermitKind, RuntimeCore, Turn, hand_over};
pub use self::core::{Runtime, RuntimeBuilder, RuntimeStats};
pub(crate) use drive::{Drive, NotHere, Pumped, Serves, Work};
pub(crate) use pool::Job;
pub(crate) use watch::{Overdue, Watch, is_service_thread};
pub(crate) use worker::{Running, Slot, Stack, Worker};
