//! What may be set for one event, one event type or one handler. Everything is optional; resolving the layers against each other is the
//! business of the rules room.

mod event_options;
mod handler_options;
mod limit;
mod retry;

pub(in crate::event) use event_options::label_of;
pub use handler_options::HandlerOptions;
pub(crate) use handler_options::Knob;
pub use limit::{Limit, LimitTimeout};
pub(crate) use limit::{LimitGroup, LimitTurn};
pub use retry::Retry;
