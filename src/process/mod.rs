//! Handlers in processes of their own, and external commands. With the feature `process`.
//!
//! - [`ProcessPool`] and [`serve`], on Unix: a handler that may crash, hang or eat memory runs in a worker process, where it can be killed;
//! - [`Command`] and [`run_command`]: a program as an event, with a timeout that ends all of its process group. On other systems than Unix
//!   in a reduced form: the program alone is ended, and survives if this process is killed.
//!
//! No process of either kind survives the bus, or this process.

// A leaf: the core does not know it. It imports `event`, `bus` and `sys`, and is the only room that starts processes.
//
// A command, from the bottom: what it is (`command`, `output`, `excerpt`), its streams (`streams`), where it lives (`place`), how it starts
// (`spawn`, `start`), what ends it if this process cannot (`guardian`), and the loop on the handler's thread that runs it (`capture`, `run`).
// `verbs` is what users call. A command needs no thread but its handler's: README.md says why. `workers` says what worker processes are made of.
// `child` is what both know of the system, `text` what both know of bytes.
#![allow(clippy::disallowed_methods, reason = "this room is the door to processes")]

mod capture;
#[cfg(unix)]
mod child;
mod command;
mod excerpt;
#[cfg(unix)]
mod guardian;
mod output;
#[cfg(unix)]
mod place;
#[cfg_attr(not(unix), path = "run_plain.rs")]
mod run;
#[cfg(target_os = "linux")]
mod spawn;
mod spelling;
#[cfg(unix)]
mod start;
mod streams;
mod text;
mod verbs;
#[cfg(unix)]
mod workers;

pub use command::{Command, Input, Sink};
pub use output::{Captured, CommandError, CommandOutput, OutputLine};
pub use verbs::{run_command, run_command_by_line};
#[cfg(unix)]
pub use workers::{PoolBuilder, PoolStats, ProcessPool, Worker, serve};
