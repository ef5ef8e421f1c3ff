//! Pure decisions: which lane, which mode, which deadline. No threads, no locks.
//!
//! Imports `event` and `sys` (for the type of a deadline) only.

mod lanes;
mod resolve;

pub(crate) use lanes::Lanes;
pub(crate) use resolve::{BusDefaults, Plan, attempt_deadline, handler_mode, plan, slow_event, slow_handler};
