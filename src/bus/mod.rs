//! The bus: registry, queue, dispatch, queue-jump, forwarding, history, shutdown.
//!
//! Imports `sys`, `sync`, `event`, `rules` and `runtime`. Exports the public types, and to the rooms above it the core of a bus and the
//! frame of the running handler. How its parts work together: `runtime/README.md`.
//!
//! An event's way through the files: `emit` → `run_loop` → `start` → `drive` → `attempt` → `finish`; `ending` where something else ends it;
//! `straight`, `jump` and `graph` for waits inside handlers.

mod abandon;
mod ancestry;
mod arrive;
mod ask;
mod attempt;
mod builder;
mod cancel;
mod claimable;
mod complete;
mod content;
mod core;
mod counters;
mod deadline;
mod deadlock;
mod describe;
mod drive;
mod driver;
mod duties;
mod emit;
mod finish;
mod first;
mod for_runtime;
mod forbid;
mod forward;
mod forwards;
mod frame;
mod grow_tree;
mod hand;
mod handle;
mod handler_context;
mod helpers;
mod history;
mod idle;
mod idlers;
mod in_flight;
mod jump;
mod kept;
mod kind;
#[cfg(all(feature = "process", unix))]
mod late_start;
mod later;
mod letters;
mod life;
mod limited;
mod limits;
mod listener;
mod look;
mod manual;
mod middleware;
mod next_attempt;
mod observers;
mod off;
mod outbox;
mod outcomes;
mod own_permit;
mod park;
mod parked;
mod pattern;
mod permit;
mod pump;
mod queue;
mod recent;
mod recorder;
mod redrive;
mod registry;
mod rest;
mod results;
mod resume;
mod run_loop;
mod run_now;
mod seen;
mod seen_ids;
mod seldom;
mod set_aside;
mod set_down;
mod settings;
mod shown;
mod shutdown;
mod sits;
mod standing;
mod stands;
mod start;
mod straight;
mod submit;
mod take_back;
mod tell;
mod told;
mod tree;
mod turn;
mod upcasters;
mod verdict;
mod view;
mod waiting;
mod waits_for;
mod worker_local;

pub use self::core::{EventBus, WeakBus};
pub use builder::BusBuilder;
pub use forbid::{ForbidBlocking, forbid_blocking};
pub use handler_context::{CancelGuard, HandlerContext};
pub use middleware::Middleware;
pub use results::Select;
pub use settings::BusOptions;
pub use shutdown::{Shutdown, ShutdownReport};
#[cfg(all(feature = "process", unix))]
pub(crate) use sits::at_process;
#[cfg(feature = "process")]
pub(crate) use sits::at_process_that_says;

pub(crate) use self::core::{BusCore, Doors};
pub(crate) use counters::End;
pub(crate) use forbid::{is_forbidden, may_block, may_block_or_log, waits_for_nobody};
#[cfg(feature = "process")]
pub(crate) use frame::unlogged;
pub(crate) use frame::{Aside, callback, callback_apart, in_callback, local};
pub(crate) use letters::{drop_gone, redrive_begins};
pub(crate) use look::{Look, is_queued, json_limits};
pub(crate) use observers::{Observer, Seen};
pub(crate) use outbox::Outbox;
pub(crate) use park::{Parked, Seat};
pub(crate) use recent::Judged;
pub(crate) use redrive::Redriven;
pub(crate) use tree::{Node, Sign, Tree};
pub(crate) use upcasters::Upcaster;
pub(crate) use verdict::is_own;
pub(crate) use view::{age, arrived};
