//! Waiting for an event or for a bus: outside of handlers a park, inside of one a queue-jump.

pub(crate) mod child;
pub(crate) mod claimable;
pub(crate) mod deadlock;
pub(crate) mod here;
pub(crate) mod idle;
pub(crate) mod jump;
mod outside;
pub(crate) mod parked;
pub(crate) mod seat;
pub(crate) mod standing;
pub(crate) mod take_back;
pub(crate) mod told;
pub(crate) mod waiting;
