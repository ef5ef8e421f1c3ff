//! What an event is: payloads, options, handlers' outcomes, results and errors, and the envelope that carries them.
//!
//! Data only: nothing here starts a thread, waits, or knows a bus. The room imports `sys` and `sync`, and `exact`, by which a payload is written for a worker process.
//! Rooms that know a bus hang their verbs on `Event` and `AnyEvent` from above.
//!
//! From the ground up, each file importing from those above it:
//!
//! | files | what is there |
//! | --- | --- |
//! | `ids`, `modes`, `marks`, `type_name`, `context_map`, `json` | values that need nothing else |
//! | `errors`, `output`, `info`, `result`, `options` | what handlers return, how they fail, and what may be set |
//! | `notices`, `identity` | a bus as its events know it |
//! | `plan`, `record`, and `delays`, `deliveries`, `given_up`, `places` of `state` | what an event's state is put together from |
//! | `structure` | an event, its state and its handlers: types that name each other, on one page |
//! | `state`, `delivery`, `slot`, `head`, `any_event`, `ripe`, `doom` | what those can do |
//! | `payload`, `body`, `typed`, `handler` | payload types, and events that know theirs |

mod any_event;
mod body;
mod context_map;
mod delivery;
mod doom;
mod errors;
mod handler;
mod head;
mod identity;
mod ids;
mod info;
mod journal;
mod json;
mod marks;
mod modes;
mod options;
mod output;
mod payload;
mod plan;
mod record;
mod result;
mod ripe;
mod slot;
mod state;
mod structure;
mod type_name;
mod typed;

pub use errors::{
    BoxError, BuildError, Cause, CauseKind, EmitError, HandlerError, HandlerFailure, JsonError, ResultError,
    TryEmitError, WaitError,
};
#[doc(hidden)]
pub use handler::{ArcMarker, Diverges, FnMarker, FnOut, Opt, Plain, Res, ResOpt};
pub use handler::{Handler, IntoAnyOutcome, IntoOutcome};
pub use ids::{BusId, EventId, HandlerId};
pub use info::HandlerInfo;
pub use json::{Json, JsonLimits};
pub use modes::{
    EventConcurrency, EventStatus, Fairness, HandlerCompletion, HandlerConcurrency, HistoryPolicy, OnFull, OnLag,
    Priority,
};
pub use options::{HandlerOptions, Limit, LimitTimeout, Retry};
pub use output::AnyOutput;
pub use payload::{Codec, Payload};
pub use result::{HandlerResult, ResultStatus};
pub use structure::{AnyEvent, EventOptions};
pub use typed::Event;

pub(crate) use body::Fresh;
pub(crate) use context_map::{ContextMap, is_marked, marked};
pub(crate) use doom::doom_is_over;
pub(crate) use identity::{BusIdentity, HomeBus};
pub(crate) use journal::{HandlerChange, Journal, Note, ResultNote, Untold};
pub(crate) use json::{Fields, Origin, unsigned};
pub(crate) use options::{Knob, LimitGroup, LimitTurn};
pub(crate) use payload::{described, name_of};
pub(crate) use plan::{HandlerMode, Manner, Pace, Plan, Timing, TurnKind};
pub(crate) use record::{DeliveryPhase, Outcome, Record, RecordPhase, Unrun};
pub(crate) use ripe::{all_ripe_are_told, note_ripe_told};
pub(crate) use state::{
    AttemptKey, Completion, Delay, Hook, LetGo, Looked, Pause, Placed, Wait, given_up, note_given_up,
};
pub(crate) use structure::{
    Birth, Body, CompletionHook, Delivery, HandlerEntry, Head, KnownType, MakeEvent, ParentLink, Prerequisite, Rare,
    Roster, SlotEntry, State, TypeSlot, Watcher, WeakEvent,
};
pub(crate) use type_name::short_type_name;
