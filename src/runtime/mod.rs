//! Threads: the worker pool, the watch, and what the buses of one runtime share.
//!
//! Imports `sys`, `sync`, `event` and `rules`. Knows a bus only as a [`Bus`], as the [`Overseer`] of all of them, and as closures. The
//! protocols of this room and of `bus` are in `README.md` beside this file.

mod assume_stack;
mod core;
mod crew;
mod job;
mod jobs;
mod lane;
mod panics;
mod pool;
mod pumps;
mod readers;
mod slot;
mod stack;
mod watch;
mod worker;

pub use self::assume_stack::assume_stack;
pub(crate) use self::core::{Global, ParkedWait, PermitKind, RuntimeCore, Sit, SitFor, Turn, hand_over};
pub use self::core::{Runtime, RuntimeBuilder, RuntimeStats};
pub(crate) use job::{Job, Needs};
pub(crate) use lane::Lane;
pub(crate) use readers::Reader;
pub(crate) use slot::{Overdue, Running, Slot, Stack};
pub(crate) use watch::{Overseer, Watch, is_service_thread};
pub(crate) use worker::{Bus, Claimed, GoOn, NotHere, Pumped, Serves, Worker};
