//! Worker processes: a pool of them, what goes over to them, and their own side.
//!
//! **A worker** (`serve`, `outlet`, `marker`) has a socket to its pool, which it was given as its standard input. `frame` and `message` say
//! what goes over it: the worker says hello; a request, with a number; that its handler begins; its outcome; records for the log at any
//! time.
//!
//! **The pool** (`pool`, `slots`) has a `link` and a thread, its `keeper`, for each worker. The keeper alone reads the socket, decides that
//! a worker has to end, and reaps it, so that there is one place for each of these. A handler (`handler`) writes its request to the socket
//! and waits until the link has a reply, which comes from the keeper (an outcome, or that the process is gone) or from the hook that runs
//! when the handler is given up.
//!
//! - A worker has one request at a time, and a reply goes to the request of its number only; a worker whose request was given up is ended
//!   and never used again.
//! - Locks: the pool's `State`, then a link's `State`; a claim's by itself. None is held while somebody is waited for or a frame is
//!   written; the bell, which never blocks, may be rung under the pool's.
//! - A worker that is gone before its handler began has harmed nobody: the request goes to another one, after one that never answered anybody once.

mod claim;
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

pub use handlers::Worker;
pub use pool::{PoolBuilder, ProcessPool};
pub use serve::serve;
pub use slots::PoolStats;

/// For who sets a logger in a worker.
const LOGGER_HINT: &str = "a worker's logger is its pool's, set by `process::serve`, and a process has only one: leave it to the program proper";
