//! Pure decisions: which lane, which mode, which deadline. No threads, no locks.
//!
//! Imports `event`, `sync` (for shares of priorities) and `sys` (for the type of a deadline) only.

mod dead_letters;
mod health_window;
mod lanes;
mod pace;
mod rarely;
mod rate;
mod resolve;

pub use dead_letters::DeadLetter;
pub(crate) use dead_letters::{Below, DeadLetters, Failed, Gone, Later};
pub use health_window::HealthWindow;
pub(crate) use lanes::Lanes;
pub(crate) use pace::{ALONE, QUICK};
pub(crate) use rarely::Rarely;
pub(crate) use rate::TokenBucket;
pub(crate) use resolve::{BusDefaults, handler_mode, own_slow_event, plan, slow_event, timing};
