//! Threads that are parked inside handlers, and what for: the edges of the wait graph.

use crate::event::{AnyEvent, BusIdentity};
use crate::sync::Bell;
use std::fmt;
use std::sync::Arc;

/// A thread parked in a wait inside a handler, and what for.
pub(crate) struct ParkedWait {
    pub(crate) event: AnyEvent,
    /// Its event runs in the order of the queue, and does not jump it.
    pub(crate) in_order: bool,
    /// Some handler on the thread is not above the event, or that is not known: what that handler's event needs is not all below it.
    pub(crate) foreign: bool,
    pub(crate) bell: Arc<Bell>,
}

/// A thread parked inside a handler for something that is no event.
pub(crate) struct Sit {
    pub(crate) what: SitFor,
    pub(crate) bell: Arc<Bell>,
}

/// What a thread that sits waits for.
pub(crate) enum SitFor {
    /// That this bus is idle.
    Idle(Arc<BusIdentity>),
    /// In words: `receives from …`.
    Other(Arc<str>),
    /// A process that ends with the handler's attempt, in words. Read with `sits` locked.
    #[cfg(feature = "process")]
    Process(Arc<dyn fmt::Display + Send + Sync>),
}

impl SitFor {
    pub(crate) fn other(words: String) -> SitFor {
        SitFor::Other(words.into())
    }

    pub(crate) fn is_process(&self) -> bool {
        #[cfg(feature = "process")]
        if let SitFor::Process(_) = self {
            return true;
        }
        false
    }
}

impl fmt::Display for SitFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SitFor::Idle(bus) => write!(f, "waits for {} to be idle", bus.label),
            SitFor::Other(what) => f.write_str(what),
            #[cfg(feature = "process")]
            SitFor::Process(what) => what.fmt(f),
        }
    }
}
