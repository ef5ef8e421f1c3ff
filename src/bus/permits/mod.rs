//! What handlers run under: the permits of a delivery and of a thread, and places under limits.

pub(crate) mod asleep;
pub(crate) mod delivery;
pub(crate) mod hand;
pub(crate) mod in_flight;
pub(crate) mod limits;
pub(crate) mod set_down;
pub(crate) mod waiting;
