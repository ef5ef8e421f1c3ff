//! Pure decisions: which lane, which mode, which deadline. No threads, no locks.
//!
//! Imports `event` and `sys` (for the type of a deadline) only.

mod lanes;
mod rate;
mod resolve;

pub(crate) use lanes::Lanes;
pub(crate) use rate::TokenBucket;
pub(crate) use resolve::{BusDefaults, handler_mode, plan, slow_event, timing};
