//! What an event is: payloads, options, handlers' outcomes, results and errors, and the envelope that carries them.
//!
//! Data only: nothing here starts a thread, waits, or knows a bus. The room imports `sys` and `sync`, and `exact`, by which a payload is written for a worker process.
//! Rooms that know a bus hang their verbs on `Event` and `AnyEvent` from above.

mod chain;
mod delivery;
mod envelope;
mod error;
mod failure;
mod handler;
mod ids;
mod info;
mod known_type;
mod limit;
mod lossless;
mod modes;
mod notices;
mod options;
mod origin;
mod output;
mod payload;
mod place;
mod result;
mod retry;
mod slot;
mod state;
mod type_name;
mod whole;

pub use envelope::{AnyEvent, Event};
pub use error::{BuildError, EmitError, JsonError, ResultError, TryEmitError, WaitError};
pub use failure::{BoxError, Cause, CauseKind, HandlerError, HandlerFailure};
#[doc(hidden)]
pub use handler::{ArcMarker, Diverges, FnMarker, FnOut, Opt, Plain, Res, ResOpt};
pub use handler::{Handler, IntoAnyOutcome, IntoOutcome};
pub use ids::{BusId, EventId, HandlerId};
pub use info::HandlerInfo;
pub use limit::{Limit, LimitTimeout};
pub(crate) use limit::{LimitGroup, LimitNames, LimitTurn};
pub use modes::{
    EventConcurrency, EventStatus, Fairness, HandlerCompletion, HandlerConcurrency, HistoryPolicy, OnFull, OnLag,
    Priority,
};
pub use options::{EventOptions, HandlerOptions};
pub use origin::JsonLimits;
pub use output::AnyOutput;
pub use payload::{Codec, Json, Payload};
pub use result::{HandlerResult, ResultStatus};
pub use retry::Retry;

pub(crate) use delivery::{
    Delivery, DeliveryPhase, HandlerMode, Manner, Outcome, Record, RecordPhase, TurnKind, Unrun, given_up,
    note_given_up,
};
pub(crate) use envelope::{Birth, Body, ContextMap, Fresh, Head, ParentLink, Rare, WeakEvent, is_marked, marked};
pub(crate) use info::HandlerEntry;
pub(crate) use known_type::{KnownType, MakeEvent, described, name_of};
pub(crate) use notices::{Lane, Notice, Notices, Of};
pub(crate) use options::Knob;
pub(crate) use origin::{Fields, Origin};
pub(crate) use slot::{ALONE, Pace, Plan, QUICK, Roster, SlotEntry, Timing, TypeSlot};
pub(crate) use state::{
    AttemptKey, BusIdentity, Completion, CompletionHook, Delay, Hook, LetGo, Pause, Placed, State, Wait, Watcher,
};
pub(crate) use type_name::short_type_name;
pub(crate) use whole::unsigned;
