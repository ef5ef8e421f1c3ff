//! Threads: the worker pool, the watch, and what the buses of one runtime share.
//!
//! Imports `sys`, `sync` and `event`. Knows a bus only as a [`Drive`] and as closures. The protocols of this room and of `bus`
//! are in `README.md` beside this file.

mod assume_stack;
mod core;
mod crew;
mod drive;
mod job;
mod jobs;
mod pool;
mod readers;
mod watch;
mod worker;

pub use self::assume_stack::assume_stack;
pub(crate) use self::core::{Global, ParkedWait, PermitKind, RuntimeCore, Sit, SitFor, Turn, hand_over};
pub use self::core::{Runtime, RuntimeBuilder, RuntimeStats};
pub(crate) use drive::{Claimed, Drive, GoOn, NotHere, Pumped, Serves};
pub(crate) use job::{Job, Lane, Needs};
pub(crate) use readers::Reader;
pub(crate) use watch::{Overdue, Watch, is_service_thread};
pub(crate) use worker::{Running, Slot, Stack, Worker};
