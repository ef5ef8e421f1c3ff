//! Worker processes: a pool of them, what goes over to them, and their own side.
//!
//! **A worker** (`serve`, `handlers`, `outlet`, `marker`) has a socket to its pool, which it was given as its standard input. `frame` and
//! `message` say what goes over it: the worker says hello; the pool sends a request, with a number; the worker says that its handler begins,
//! and then its outcome; and it sends records for the log at any time.
//!
//! **The pool** (`pool`, `config`, `slots`) has a `link` and a thread, its `keeper`, for each worker. The keeper alone reads the socket, decides that
//! a worker has to end, and reaps it, so that there is one place for each of these. A handler's thread (`handler`, `call`) takes an idle worker or
//! starts one (`start`), writes its request to the socket, and waits until the link has a reply, which comes from the keeper (an outcome, or
//! that the process is gone) or from the hook that runs when the handler is given up.
//!
//! - A worker has one request at a time, and a reply goes to the request of its number only. A worker whose request was given up is ended
//!   and never used again.
//! - Locks: the pool's `State`, then a link's `State`; a claim's by itself. None is held while a thread waits for a worker or writes a
//!   frame; the bell, which never blocks, may be rung under the pool's.
//! - A worker that is gone before its handler began has changed nothing: its request goes to another worker (`Slots::call` says how often).

mod call;
mod claim;
mod config;
mod frame;
mod handler;
mod handlers;
mod keeper;
mod lines;
mod link;
mod marker;
mod message;
mod outlet;
mod pool;
mod serve;
mod slots;
mod start;

pub use handlers::Worker;
pub use pool::{PoolBuilder, ProcessPool};
pub use serve::serve;
pub use slots::PoolStats;

/// What a message says to a program that sets a logger in its workers.
const LOGGER_HINT: &str = "a worker's logger is its pool's, set by `process::serve`, and a process has only one: leave it to the program proper";
