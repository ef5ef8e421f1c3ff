//! What a bus notes of deliveries and events that no thread is at: data only, each part under a lock of its own.

use crate::event::{AnyEvent, Priority, WeakEvent};
use crate::sync::Sweep;
use crate::sys::clock::{Stamp, Tick, Timer};
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::AtomicUsize;
use std::collections::BTreeMap;

/// Started deliveries that no thread runs at the moment, with the number of each; what is over leaves some time later.
#[derive(Default)]
pub(crate) struct SetAside {
    pub(crate) list: Vec<(WeakEvent, usize)>,
    pub(crate) sweep: Sweep,
}

/// Lowest priority first, oldest first: in the order in which a full queue drops.
pub(crate) type Age = (Priority, Stamp, usize);

#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) count: AtomicUsize,
    /// Of which some handler has started.
    pub(crate) tried: AtomicUsize,
    /// Those of which no handler has started, where a full queue drops such.
    pub(crate) unstarted: Mutex<BTreeMap<Age, WeakEvent>>,
}

/// Events of which only children run, with when to warn about each.
#[derive(Default)]
pub(crate) struct Lingering {
    pub(crate) list: Vec<(Tick, WeakEvent)>,
    pub(crate) sweep: Sweep,
    pub(crate) armed: Option<Timer>,
    pub(crate) closed: bool,
}

impl Lingering {
    /// What it looked at is dropped by the caller, outside of the lock.
    pub(crate) fn forget_complete(&mut self, held: &mut Vec<AnyEvent>) {
        self.list.retain(|(_, weak)| {
            let Some(event) = weak.upgrade() else { return false };
            let stays = !event.is_complete();
            held.push(event);
            stays
        });
    }
}
