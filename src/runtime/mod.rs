//! Threads: the worker pool, the watch, and what the buses of one runtime share.
//!
//! Imports `sys`, `sync`, `event` and `rules`. Knows a bus only as a [`Bus`], as the [`Overseer`] of all of them, and as closures. The
//! protocols of this room and of `bus` begin in `README.md`; `pool/README.md` and `watch/README.md` have their own.

mod aftermath;
mod assume_stack;
mod builder;
mod crew;
mod handle;
mod job;
mod jobs;
mod lane;
mod limit_names;
mod needs;
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

pub(crate) use aftermath::is_service_thread;
pub use assume_stack::assume_stack;
pub use builder::RuntimeBuilder;
pub use handle::Runtime;
pub(crate) use job::Job;
pub(crate) use lane::Lane;
pub(crate) use needs::Needs;
pub(crate) use permits::{Global, PermitKind, Wakeup, hand_over};
pub(crate) use readers::Reader;
pub(crate) use shared::RuntimeCore;
pub(crate) use slot::{Overdue, Running, Slot, Stack};
pub use stats::RuntimeStats;
pub(crate) use waits::{ParkedWait, Sit, SitFor};
pub(crate) use watch::{Overseer, Watch};
pub(crate) use work::{Claimed, GoOn, Pumped};
pub(crate) use worker::{Bus, NotHere, Serves, Worker};
