//! A bus as its events know it: by name and number, and weakly the bus itself.

use crate::event::{BusId, Untold};
use crate::sys::random::IdMaker;
use crate::sys::sync::atomic::AtomicU64;
use std::any::Any;
use std::sync::{Arc, Weak};

/// What an event asks of a bus that it is on: nothing but itself, for the bus room, which alone knows its type.
pub(crate) trait HomeBus: Send + Sync {
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// What a bus's events keep of it; the bus itself only weakly.
#[derive(Debug)]
pub(crate) struct BusIdentity {
    pub(crate) id: BusId,
    pub(crate) name: String,
    pub(crate) label: Arc<str>,
    pub(crate) link: Weak<dyn HomeBus>,
    /// Of the events that are emitted there.
    pub(crate) ids: IdMaker,
    /// Of a bus with middlewares.
    pub(crate) untold: Option<Arc<Untold>>,
    /// A bit for each reason for which a refused emit was told of. A stand-in for a bus that is gone has that bus's.
    pub(crate) refusals: Arc<AtomicU64>,
}
