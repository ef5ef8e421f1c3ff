//! How events come to a bus: emitted, forwarded, planned, redriven.

pub(crate) mod emit;
pub(crate) mod forward;
pub(crate) mod later;
pub(crate) mod queue;
pub(crate) mod redrive;
pub(crate) mod run_now;
