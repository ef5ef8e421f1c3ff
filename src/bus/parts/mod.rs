//! What a bus is made of: data, each part for itself. Nothing here knows a bus.

pub(crate) mod catalogue;
pub(crate) mod content;
pub(crate) mod counters;
pub(crate) mod for_event;
pub(crate) mod forwards;
pub(crate) mod handled;
pub(crate) mod held;
pub(crate) mod history;
pub(crate) mod listener;
pub(crate) mod manual;
pub(crate) mod observers;
pub(crate) mod outbox;
pub(crate) mod outcomes;
pub(crate) mod pattern;
pub(crate) mod recent;
pub(crate) mod recorder;
pub(crate) mod registry;
pub(crate) mod seen_ids;
pub(crate) mod set_aside;
pub(crate) mod settings;
pub(crate) mod shelf;
pub(crate) mod tree;
pub(crate) mod upcasters;
pub(crate) mod usher;
pub(crate) mod verdict;
