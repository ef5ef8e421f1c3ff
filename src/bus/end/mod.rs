//! The end of handlers, deliveries and events, and what follows from it.

pub(crate) mod abandon;
pub(crate) mod cancel;
pub(crate) mod complete;
pub(crate) mod deadline;
pub(crate) mod duties;
pub(crate) mod finish;
pub(crate) mod first;
pub(crate) mod in_words;
pub(crate) mod next_attempt;
pub(crate) mod off;
pub(crate) mod tree;
