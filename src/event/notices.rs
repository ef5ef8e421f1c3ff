//! What a bus's middlewares have yet to be told, kept in order until somebody tells it.
//!
//! A leaf lock: pushed to under the event's lock (or the registry's), so that the order here is that of the changes; taken from with
//! nothing locked. A bus without middlewares has none of this, and events keep nothing of it in any case.

use crate::event::{AnyOutput, EventStatus, HandlerInfo, HandlerResult, ResultStatus};
use crate::sync::Bell;
use crate::sys::clock::Stamp;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// One call that is due to every middleware.
pub(crate) enum Notice {
    Event(EventStatus),
    Result(Box<HandlerResult<AnyOutput>>),
    /// Registered, or not any more.
    Handler(HandlerInfo, bool),
}

/// One delivery of the event to this bus.
pub(crate) struct Part {
    pub(crate) delivery: usize,
    /// How far each invocation is known to have come.
    pub(crate) told: Vec<ResultStatus>,
    pub(crate) done: bool,
}

/// The notices of one event on one bus, or those of its registrations.
#[derive(Default)]
pub(crate) struct Lane {
    notices: Vec<Notice>,
    /// Somebody tells, and nobody else may.
    telling: bool,
    /// How far the event is known to have come on this bus.
    pub(crate) told: Option<EventStatus>,
    pub(crate) parts: SmallVec<[Part; 1]>,
    /// Nothing more will happen to the event here, unless it is redriven.
    pub(crate) over: bool,
    /// Who waits until everything is told.
    waiters: Vec<Arc<Bell>>,
}

#[derive(Default)]
struct Lanes {
    events: FxHashMap<Stamp, Lane>,
    handlers: Lane,
    /// The bus is gone.
    closed: bool,
}

/// Whose notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Event(Stamp),
    Handlers,
}

#[derive(Default)]
pub(crate) struct Notices {
    lanes: Mutex<Lanes>,
    /// Pushed and not told.
    owed: AtomicUsize,
}

impl Lane {
    /// To be called in [`Notices::look`] and [`Notices::enter`] only, which count.
    pub(crate) fn push(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    fn is_settled(&self) -> bool {
        self.notices.is_empty() && !self.telling
    }
}

impl Lanes {
    fn lane(&mut self, of: Of) -> Option<&mut Lane> {
        match of {
            Of::Event(stamp) => self.events.get_mut(&stamp),
            Of::Handlers => Some(&mut self.handlers),
        }
    }
}

impl Notices {
    /// A delivery of the event has come to the bus. Under the event's lock.
    pub(crate) fn enter(&self, stamp: Stamp, delivery: usize, redrive: bool, look: impl FnOnce(&mut Lane)) {
        let mut lanes = self.lanes.lock();
        if lanes.closed {
            return;
        }
        let lane = lanes.events.entry(stamp).or_insert_with(|| {
            // An event that has left was complete, and is known to be.
            Lane { told: redrive.then_some(EventStatus::Completed), ..Lane::default() }
        });
        lane.over = false;
        lane.parts.push(Part { delivery, told: Vec::new(), done: false });
        self.count(lane, look);
    }

    /// Something may have changed on the event. Under its lock.
    pub(crate) fn look(&self, of: Of, look: impl FnOnce(&mut Lane)) {
        let mut lanes = self.lanes.lock();
        let Some(lane) = lanes.lane(of) else { return };
        self.count(lane, look);
        if let (Of::Event(stamp), true) = (of, lane.over && lane.is_settled()) {
            lanes.events.remove(&stamp);
        }
    }

    fn count(&self, lane: &mut Lane, look: impl FnOnce(&mut Lane)) {
        let before = lane.notices.len();
        look(lane);
        self.owed.fetch_add(lane.notices.len() - before, SeqCst);
    }

    /// What is to be told, by the caller, who then calls [`told`](Notices::told). `None`: nothing, or somebody else is at it.
    pub(crate) fn take(&self, of: Of) -> Option<Vec<Notice>> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.lane(of)?;
        if lane.telling || lane.notices.is_empty() {
            return None;
        }
        lane.telling = true;
        Some(std::mem::take(&mut lane.notices))
    }

    /// True if somebody must tell, and nobody is at it.
    pub(crate) fn is_waiting(&self, of: Of) -> bool {
        self.lanes.lock().lane(of).is_some_and(|lane| !lane.telling && !lane.notices.is_empty())
    }

    /// So many were told, by whoever took them. True if nothing is owed any more, on the whole bus.
    pub(crate) fn told(&self, of: Of, count: usize) -> bool {
        let mut waiters = Vec::new();
        {
            let mut lanes = self.lanes.lock();
            let Some(lane) = lanes.lane(of) else { return false };
            lane.telling = false;
            if lane.notices.is_empty() {
                waiters = std::mem::take(&mut lane.waiters);
            }
            let over = lane.over && lane.notices.is_empty();
            if let (Of::Event(stamp), true) = (of, over) {
                lanes.events.remove(&stamp);
            }
        }
        let settled = self.owed.fetch_sub(count, SeqCst) == count;
        waiters.iter().for_each(|bell| bell.ring());
        settled
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.owed.load(SeqCst) == 0
    }

    /// True if all of the event's notices are told. If not, `bell` rings when they are.
    pub(crate) fn is_settled_for(&self, stamp: Stamp, bell: &Arc<Bell>) -> bool {
        let mut lanes = self.lanes.lock();
        let Some(lane) = lanes.events.get_mut(&stamp) else { return true };
        let settled = lane.is_settled();
        if !settled && !lane.waiters.iter().any(|waiter| Arc::ptr_eq(waiter, bell)) {
            lane.waiters.push(Arc::clone(bell));
        }
        settled
    }

    /// The bus is gone: nobody will be told any more. What was not told is dropped by the caller.
    pub(crate) fn close(&self) -> Vec<Notice> {
        let mut lanes = self.lanes.lock();
        lanes.closed = true;
        let events = std::mem::take(&mut lanes.events);
        let mut left = std::mem::take(&mut lanes.handlers.notices);
        drop(lanes);
        for lane in events.into_values() {
            lane.waiters.iter().for_each(|bell| bell.ring());
            left.extend(lane.notices);
        }
        left
    }

    #[cfg(all(test, not(threadbus_shuttle)))]
    pub(crate) fn events(&self) -> usize {
        self.lanes.lock().events.len()
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notices").field("owed", &self.owed).finish_non_exhaustive()
    }
}
