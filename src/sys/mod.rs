//! The only door to threads, locks, atomics, channels, clocks, unwinding and random numbers.
//!
//! Everything else in the crate gets them from here, so that a model checker can stand behind the same code:
//! `--cfg threadbus_shuttle` puts shuttle's primitives in place of parking_lot's and the system's. Imports nothing of the crate.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "this room is the door to them")]

pub(crate) mod channel;
pub(crate) mod clock;
pub(crate) mod count;
pub(crate) mod logging;
pub(crate) mod one_line;
mod panics;
mod plant;
pub(crate) mod random;
pub(crate) mod stack;
pub(crate) mod sync;
pub(crate) mod thread;
pub(crate) mod unwind;

pub(crate) use plant::planted;
