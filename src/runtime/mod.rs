//! Threads: the worker pool, the watch, and what the buses of one runtime share.
//!
//! Imports `sys`, `sync`, `event` and `rules`. Knows a bus only as a [`Bus`], as the [`Overseer`] of all of them, and as closures. The
//! protocols of this room and of `bus` are in `README.md` beside this file.

mod assume_stack;
mod builder;
mod crew;
mod handle;
mod job;
mod jobs;
mod lane;
mod limit_names;
mod panics;
mod permits;
mod pool;
mod pumps;
mod readers;
mod shared;
mod slot;
mod stack;
mod stats;
mod waits;
mod watch;
mod work;
mod worker;

pub use assume_stack::assume_stack;
pub use builder::RuntimeBuilder;
pub use handle::Runtime;
pub(crate) use job::{Job, Needs};
pub(crate) use lane::Lane;
pub(crate) use permits::{Global, PermitKind, Wakeup, hand_over};
pub(crate) use readers::Reader;
pub(crate) use shared::RuntimeCore;
pub(crate) use slot::{Overdue, Running, Slot, Stack};
pub use stats::RuntimeStats;
pub(crate) use waits::{ParkedWait, Sit, SitFor};
pub(crate) use watch::{Overseer, Watch, is_service_thread};
pub(crate) use work::{Claimed, GoOn, Pumped};
pub(crate) use worker::{Bus, NotHere, Serves, Worker};
