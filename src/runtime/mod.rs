//! Threads: the worker pool, the watch, and what the buses of one runtime share.
//!
//! The room imports `sys`, `sync`, `event` and `rules`. It knows a bus only as a [`Bus`], and all of them as an [`Overseer`]. Pages:
//! `README.md` (stacks, the log, drops, and which call may wait where), `pool/README.md`, `watch/README.md`.
//!
//! From the ground up, each file importing from those above it:
//!
//! | files | what is there |
//! | --- | --- |
//! | `lane`, `slot`, `work`, `panics` | values that name no thread |
//! | `worker` | a thread, and what a bus is to it: types that name each other |
//! | `stack`, `pumps`, `assume_stack` | what a worker can do |
//! | `job`, `needs`, `jobs` | what waits for a thread, and in which order |
//! | `crew`, `aftermath`, `watch` | the threads of a runtime; the two that keep time |
//! | `pool` | the threads that run jobs |
//! | `waits`, `asleep`, `permits`, `limit_names`, `readers`, `stats` | what the buses of a runtime share |
//! | `shared`, `handle`, `builder` | all of that, and its public handle |

mod aftermath;
mod asleep;
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
pub(crate) use asleep::{Sleeper, Sleepers};
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
