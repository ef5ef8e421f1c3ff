//! An event bus for programs that do not want an async runtime.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod bus;
mod event;
mod rules;
mod runtime;
mod sync;
mod sys;

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
pub use runtime::{Runtime, RuntimeBuilder, RuntimeStats};
