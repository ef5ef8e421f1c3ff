//! What a thread carries of us: the handlers on its stack, the callbacks it is in, and its parking.

pub(crate) mod ancestry;
pub(crate) mod aside;
pub(crate) mod forbid;
pub(crate) mod frame;
pub(crate) mod parking;
pub(crate) mod sits;
