//! What an event is: payloads, options, handlers' outcomes, results and errors, and the envelope that carries them.
//!
//! Data only: nothing here starts a thread, waits, or knows a bus. The room imports `sys` and `sync`, and `exact`, by which a payload is written for a worker process.
//! Rooms that know a bus hang their verbs on `Event` and `AnyEvent` from above.

mod any_event;
mod body;
mod cause;
mod chain;
mod children;
mod completion;
mod context_map;
mod delays;
mod deliveries;
mod delivery;
mod error;
mod error_text;
mod failure;
mod given_up;
mod handler;
mod handler_options;
mod head;
mod identity;
mod ids;
mod info;
mod json;
mod limit;
mod links;
mod lossless;
mod modes;
mod notices;
mod options;
mod origin;
mod output;
mod payload;
mod place;
mod places;
mod plan;
mod record;
mod result;
mod retry;
mod slot;
mod state;
mod structure;
mod type_name;
mod typed;
mod whole;

pub use cause::{Cause, CauseKind};
pub use error::{BuildError, EmitError, JsonError, ResultError, TryEmitError, WaitError};
pub use failure::{BoxError, HandlerError, HandlerFailure};
#[doc(hidden)]
pub use handler::{ArcMarker, Diverges, FnMarker, FnOut, Opt, Plain, Res, ResOpt};
pub use handler::{Handler, IntoAnyOutcome, IntoOutcome};
pub use handler_options::HandlerOptions;
pub use ids::{BusId, EventId, HandlerId};
pub use info::HandlerInfo;
pub use json::{Json, JsonLimits};
pub use limit::{Limit, LimitTimeout};
pub use modes::{
    EventConcurrency, EventStatus, Fairness, HandlerCompletion, HandlerConcurrency, HistoryPolicy, OnFull, OnLag,
    Priority,
};
pub use output::AnyOutput;
pub use payload::{Codec, Payload};
pub use result::{HandlerResult, ResultStatus};
pub use retry::Retry;
pub use structure::{AnyEvent, EventOptions};
pub use typed::Event;

pub(crate) use body::Fresh;
pub(crate) use children::LetGo;
pub(crate) use completion::Completion;
pub(crate) use context_map::{ContextMap, is_marked, marked};
pub(crate) use delays::{Delay, Wait};
pub(crate) use given_up::{AttemptKey, Hook, Pause, given_up, note_given_up};
pub(crate) use handler_options::Knob;
pub(crate) use identity::BusIdentity;
pub(crate) use json::Fields;
pub(crate) use limit::{LimitGroup, LimitNames, LimitTurn};
pub(crate) use notices::{Lane, Notice, Notices, Of};
pub(crate) use origin::Origin;
pub(crate) use payload::{described, name_of};
pub(crate) use places::Placed;
pub(crate) use plan::{HandlerMode, Manner, Pace, Plan, Timing, TurnKind};
pub(crate) use record::{DeliveryPhase, Outcome, Record, RecordPhase, Unrun};
pub(crate) use structure::{
    Birth, Body, CompletionHook, Delivery, HandlerEntry, Head, KnownType, MakeEvent, ParentLink, Rare, Roster,
    SlotEntry, State, TypeSlot, Watcher, WeakEvent,
};
pub(crate) use type_name::short_type_name;
pub(crate) use whole::unsigned;
