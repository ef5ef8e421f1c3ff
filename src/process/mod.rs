//! Handlers in processes of their own, and external commands.
#[cfg(unix)]
mod child;
mod command;
#[cfg(unix)]
mod frame;
#[cfg(unix)]
mod guardian;
#[cfg(unix)]
mod handler;
#[cfg(unix)]
mod keeper;
#[cfg(unix)]
mod lines;
#[cfg(unix)]
mod link;
#[cfg(unix)]
mod marker;
#[cfg(unix)]
mod message;
#[cfg(unix)]
mod outlet;
#[cfg(unix)]
mod pool;
#[cfg(unix)]
mod run;
#[cfg(unix)]
mod serve;
#[cfg(unix)]
mod slots;
mod spelling;
#[cfg(unix)]
mod streams;

pub use command::{Captured, Command, CommandError, CommandOutput, Input, Sink, run_command};
#[cfg(unix)]
pub use pool::{PoolBuilder, ProcessPool};
#[cfg(unix)]
pub use serve::{Worker, serve};
#[cfg(unix)]
pub use slots::PoolStats;
