//! An event bus for programs without an async runtime: plain-function handlers, blocking waits that jump the queue, timeouts that
//! end on time.
//!
//! An event is *handled* by handlers and *observed* by subscriptions; everything else is an option on how a handler runs or on
//! how a queue behaves. The README is the guide, with the page *Which thread runs my handler?*; this page follows the life of one
//! event.
//!
//! ```
//! use threadbus::{Event, EventBus, Payload, ResultError};
//!
//! struct Order { item: &'static str }
//! impl Payload for Order { type Output = String; }
//! struct Price { item: &'static str }
//! impl Payload for Price { type Output = usize; }
//!
//! let bus = EventBus::new("shop");
//! bus.on(|price: &Event<Price>| price.item.len());
//! bus.on(|order: &Event<Order>| -> Result<String, ResultError> {
//!     // The bus is busy with this handler, and yet this does not deadlock: the price is asked here and now.
//!     let price = order.bus().emit(Price { item: order.item }).result()?;
//!     Ok(format!("{} for {price}", order.item))
//! });
//! assert_eq!(bus.emit(Order { item: "tea" }).result()?, "tea for 3");
//! # Ok::<(), ResultError>(())
//! ```
//!
//! # The life of an event
//!
//! ```text
//!  emit ──► refused? ──► history, subscriptions, find ──► queue ──► its turn ──► handler after handler ──► done here
//!             │                                             ▲                        │      │                 │
//!             ▼                                             │ forward: the same      │      └─ error, panic,  │
//!         completed,                                        │ event, another bus     ▼         timeout: retry │
//!         wait() says why                                   └─────────────────── children      or failure     │
//!                                                                                    │                        ▼
//!                                  wait() in a handler runs them at once ◄───────────┘        completed when all buses
//!                                                                                             and all children are
//! ```
//!
//! 1. **A payload is emitted.** [`EventBus::emit`] wraps a [`Payload`] into an [`Event`], which is cheap to clone, and returns at
//!    once. An event that is refused comes back completed, with an [`EmitError`] in its `wait()`; [`EventBus::try_emit`] gives
//!    the payload back.
//! 2. **It is seen.** The history takes it, and so do [subscriptions](EventBus::subscribe) and those who [wait to
//!    find](EventBus::find) it.
//! 3. **Its turn comes.** Priority first, then order of emission. [`EventConcurrency`] says how many events run at once: by
//!    default one per bus. What is queued occupies no thread.
//! 4. **Handlers run**, in the order of registration, on threads of a [`Runtime`] that all buses share. [`HandlerConcurrency`]
//!    says how many at once. A [`Handler`] is a function, a closure or a type; it fails with any error. An error, a panic or a
//!    timeout ends that attempt and nothing else; [`Retry`] says whether there is another.
//! 5. **Handlers emit and wait.** What a handler emits is a child of its event. [`Event::wait`] inside a handler runs what it
//!    waits for ahead of the queue, to any depth, also on a serial bus. [`HandlerContext`] is the handler's view of itself.
//! 6. **Deadlines pass on time**, whether the handler cooperates or not: the attempt ends, what it emitted is cancelled, and a
//!    fresh thread goes on. **Serial therefore means one *live* handler**: one that was given up may still be running, and a
//!    retry may overlap it.
//! 7. **It is complete** when it is done on every bus that it was [forwarded](EventBus::forward) to, and all its children are
//!    complete. [`Event::result`] and its relatives read the values, [`Event::errors`] the failures.
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | settling a bus, an event, a handler | [`BusBuilder`], [`EventOptions`], [`HandlerOptions`] |
//! | trying again | [`Retry`], [`HandlerError::permanent`], [`HandlerContext::attempt`] |
//! | how many handlers at once | [`HandlerConcurrency`], [`Limit`] |
//! | what goes first | [`Priority`], [`Fairness`] |
//! | a queue with bounds | [`BusBuilder::queue_capacity`], [`OnFull`], [`BusBuilder::max_emit_rate`], [`BusBuilder::max_in_flight`] |
//! | reading results | [`Event::result`], [`Event::result_list`], [`Event::first`], [`Event::select`], [`Event::results`] |
//! | events without a type | [`AnyEvent`], [`EventBus::on_any`], [`EventBus::on_named`] |
//! | looking back, debouncing | [`EventBus::find`] |
//! | observing | [`EventBus::subscribe`], [`Subscription`] |
//! | later, and again and again | [`EventBus::emit_after`], [`EventBus::emit_every`] |
//! | many events as one | [`EventBus::batch`] |
//! | values, and the bus, that travel along | [`context`], [`scope`] |
//! | one handler value per thread | [`EventBus::on_per_worker`], [`HandlerContext::local`] |
//! | what happened, as a tree | [`EventBus::log_tree`] |
//! | events as JSON, here and from elsewhere | [`Event::to_json`], [`EventBus::emit_json`], [`JsonLimits`]; for Python [`JsonStyle`] |
//! | seeing, and refusing, whatever happens on a bus | [`Middleware`], [`middleware::LogEvents`] |
//! | numbers, and whether they are good | [`EventBus::metrics`], [`EventBus::health`]; with the feature `metrics`, `BusMetrics::publish` |
//! | what failed for good | [`BusBuilder::dead_letters`], [`EventBus::dead_letters`], [`EventBus::redrive`] |
//! | handlers that may crash or hang, in processes of their own | with the feature `process`, on Unix: `EventBus::on_process`, `process::serve` |
//! | external programs | with the feature `process`: `process::Command`, `process::run_command` |
//! | a program with a loop of its own: games, GUIs | [`BusBuilder::manual`], [`EventBus::run_pending`], [`BusBuilder::on_ready`] |
//! | a thread that must never block | [`forbid_blocking`] |
//! | testing one handler | [`testing`] |
//! | threads and their limits | [`Runtime`], [`RuntimeBuilder`], [`RuntimeStats`], [`assume_stack`] |
//! | the last line of a `main` | [`Runtime::shutdown`] |
//!
//! # One copy
//!
//! Two copies of this crate in one process, of two versions or one in a plug-in that is linked for itself, know nothing of each other: each
//! has its own [`Runtime::global`] with its own threads, its own types, [`context`] and [`scope`]. A wait in a handler of the one for an event of the
//! other just blocks: nothing jumps a queue, no deadlock is found, no parent is known. Have one version in the program (`cargo tree -d` shows two), and
//! give plug-ins a handle and functions of yours instead of a copy of this crate.
//!
//! Every method that may block says so under **Blocking**. The crate logs through the `log` facade, target `threadbus`: with nothing locked
//! or owed, a logger's panics contained, and never on a thread that keeps deadlines. A logger may emit, but not wait; what it emits
//! when the crate calls it, and what comes of that, is not logged. There is no `unsafe` code.
// For all targets of the package see Cargo.toml.
#![deny(missing_docs, missing_debug_implementations, unreachable_pub)]
#![deny(clippy::missing_errors_doc, clippy::missing_panics_doc)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::missing_const_for_thread_local, reason = "the model checker's thread-locals have no const form")]

mod batch;
mod bus;
pub mod context;
mod dead_letter;
mod event;
#[cfg(feature = "process")]
mod exact;
mod find;
mod health;
mod json;
mod log_tree;
mod metrics;
pub mod middleware;
#[cfg(feature = "process")]
pub mod process;
mod rules;
mod runtime;
mod schedule;
pub mod scope;
mod subscribe;
mod sync;
mod sys;
pub mod testing;

pub use batch::{Batch, Progress};
pub use bus::{
    BusBuilder, BusOptions, CancelGuard, EventBus, ForbidBlocking, HandlerContext, Middleware, Select, Shutdown,
    ShutdownReport, WeakBus, forbid_blocking,
};
pub use dead_letter::RedriveReport;
pub use event::{
    AnyEvent, AnyOutput, BoxError, BuildError, BusId, Cause, CauseKind, Codec, EmitError, Event, EventConcurrency,
    EventId, EventOptions, EventStatus, Fairness, Handler, HandlerCompletion, HandlerConcurrency, HandlerError,
    HandlerFailure, HandlerId, HandlerInfo, HandlerOptions, HandlerResult, HistoryPolicy, IntoAnyOutcome, IntoOutcome,
    Json, JsonError, JsonLimits, Limit, LimitTimeout, OnFull, OnLag, Payload, Priority, ResultError, ResultStatus,
    Retry, TryEmitError, WaitError,
};
#[doc(hidden)]
pub use event::{ArcMarker, Diverges, FnMarker, FnOut, Opt, Plain, Res, ResOpt};
pub use find::Find;
pub use health::{Alert, Health, HealthLimits, HealthStatus};
pub use json::JsonStyle;
pub use log_tree::TreeStyle;
pub use metrics::{BusMetrics, LatencySummary};
pub use rules::{DeadLetter, HealthWindow};
pub use runtime::{Runtime, RuntimeBuilder, RuntimeStats, assume_stack};
pub use schedule::{Overlap, Scheduled};
pub use subscribe::{RecvError, Subscription, SubscriptionCloser};

/// The code in README.md runs as doctests, with the lines that only these need.
#[cfg(doctest)]
#[doc = include_str!("../docs/readme.md")]
struct ReadmeDoctests;
