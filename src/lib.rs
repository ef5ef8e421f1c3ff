//! An event bus for programs that do not want an async runtime.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
mod bus;
pub mod context;
mod event;
mod find;
mod log_tree;
mod rules;
mod runtime;
pub mod scope;
mod subscribe;
mod sync;
mod sys;

pub use batch::{Batch, Progress};
pub use bus::{BusBuilder, BusOptions, EventBus, HandlerContext, Select, Shutdown, ShutdownReport, WeakBus};
pub use event::{
    AnyEvent, AnyOutput, BoxError, BuildError, BusId, Cause, CauseKind, Codec, EmitError, Event, EventConcurrency,
    EventId, EventOptions, EventStatus, Fairness, Handler, HandlerCompletion, HandlerConcurrency, HandlerError,
    HandlerFailure, HandlerId, HandlerInfo, HandlerOptions, HandlerResult, HistoryPolicy, IntoAnyOutcome, IntoOutcome,
    Json, JsonError, Limit, OnFull, OnLag, Payload, Priority, ResultError, ResultStatus, Retry, TryEmitError,
    WaitError,
};
#[doc(hidden)]
pub use event::{ArcMarker, Diverges, FnMarker, FnOut, Opt, Plain, Res, ResOpt};
pub use find::Find;
pub use log_tree::TreeStyle;
pub use runtime::{Runtime, RuntimeBuilder, RuntimeStats};
pub use subscribe::{RecvError, Subscription, SubscriptionCloser};
