//! How events come to a bus: emitted, forwarded, planned, redriven.

pub(crate) mod admit;
pub(crate) mod candidate;
pub(crate) mod forward;
pub(crate) mod held;
pub(crate) mod insert;
pub(crate) mod later;
pub(crate) mod make;
pub(crate) mod queue;
pub(crate) mod redrive;
pub(crate) mod run_now;
