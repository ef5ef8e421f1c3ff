//! The bus: registry, queue, dispatch, queue-jump, forwarding, history, shutdown.
//!
//! Imports `sys`, `sync`, `event`, `rules` and `runtime`. Exports the public types, and to the rooms above it the core of a bus and the
//! frame of the running handler. Words, locks, and a page for each protocol: `README.md`.
//!
//! The folders, from the ground up; a file imports from its own and from earlier ones: `parts` (what a bus is made of), `core` (a bus, and what
//! it does by itself), `thread` (what a thread carries), `permits`, `middleware`, `end`, `run`, `wait`, `emit`, `manual`, `read`,
//! `handle` (a bus as its users hold it).
//!
//! The way of an event:
//!
//! 1. `emit/make.rs` makes it of a payload, `emit/admit.rs` refuses it or lets it in, and `emit/insert.rs` puts it into history, readers and
//!    queue in one step, and wakes the bus's loop.
//! 2. `run/run_loop.rs` takes the next queued event and claims it, with the bus's permits, under one lock.
//! 3. `run/start.rs` fixes its handlers and starts the first, in that same step.
//! 4. `run/drive.rs` goes from one handler to the next; `run/driver.rs` puts each on the thread and on the worker's stack.
//! 5. `run/attempt.rs` calls the user's code and ends the attempt, if that is still its to end.
//! 6. Where more is needed than the delivery holds, `run/limited.rs` and `run/own_permit.rs` get it, and `run/resume.rs` goes on later.
//! 7. `end/finish.rs` ends the delivery under the event's lock; what that leaves to do is a value, which `end/duties.rs` carries out.
//! 8. `end/complete.rs` completes the event, and its parents. Whoever else may end it: `end/cancel.rs`, `end/first.rs`, `end/deadline.rs`.
//! 9. `wait/jump.rs` waits for it: outside of handlers by parking (`wait/outside.rs`), inside of one by running what it needs (`wait/child.rs`, the common case).
//! 10. `read/results.rs` reads what came of it.

mod core;
mod emit;
mod end;
mod handle;
mod manual;
mod middleware;
mod parts;
mod permits;
mod read;
mod run;
mod thread;
mod wait;

pub use self::core::{EventBus, WeakBus};
pub use handle::builder::BusBuilder;
pub use handle::shutdown::{Shutdown, ShutdownReport};
pub use middleware::Middleware;
pub use parts::settings::BusOptions;
pub use read::handler_context::{CancelGuard, HandlerContext};
pub use read::results::Select;
pub use thread::forbid::{ForbidBlocking, forbid_blocking};
#[cfg(all(feature = "process", unix))]
pub(crate) use thread::sits::at_process;
#[cfg(feature = "process")]
pub(crate) use thread::sits::at_process_that_says;

pub(crate) use self::core::letters::{drop_gone, redrive_begins};
pub(crate) use self::core::{BusCore, Doors};
pub(crate) use emit::redrive::Redriven;
pub(crate) use parts::catalogue::Sought;
pub(crate) use parts::counters::End;
pub(crate) use parts::observers::{Observer, Seen};
pub(crate) use parts::outbox::Outbox;
pub(crate) use parts::recent::Judged;
pub(crate) use parts::tree::{Node, Sign, Tree};
pub(crate) use parts::upcasters::Upcaster;
pub(crate) use parts::verdict::is_own;
pub(crate) use read::event::{age, arrived};
pub(crate) use read::snapshot::{Look, is_queued, json_limits};
pub(crate) use thread::aside::Aside;
#[cfg(feature = "process")]
pub(crate) use thread::aside::unlogged;
pub(crate) use thread::forbid::{is_forbidden, may_block, may_block_or_log, waits_for_nobody};
pub(crate) use thread::frame::{callback, callback_apart, in_callback, local};
pub(crate) use wait::seat::{Parked, Seat};
