//! What can be read of an event, by whoever has it and by the handler that runs.

pub(crate) mod event;
pub(crate) mod grow_tree;
pub(crate) mod handler_context;
#[cfg(all(feature = "process", unix))]
pub(crate) mod late_start;
pub(crate) mod results;
pub(crate) mod shown;
pub(crate) mod snapshot;
pub(crate) mod worker_local;
