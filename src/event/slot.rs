//! What events of one type need on one bus, worked out once for all of them.

use crate::event::delivery::{HandlerMode, TurnKind};
use crate::event::info::{Call, HandlerEntry, HandlerInfo};
use crate::event::{EventOptions, HandlerId, Priority};
use crate::sys::clock::{NEVER, Tick};
use crate::sys::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What holds for an event on one bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) turn: TurnKind,
    pub(crate) first: bool,
    /// The bus's handler permit is taken at the claim, so that events come to it in their order, and kept between handlers. Only where all
    /// of them need it.
    pub(crate) bus_handler: bool,
    pub(crate) event_timeout: Option<Duration>,
}

impl Plan {
    /// For an event with handlers of these modes.
    pub(crate) fn with_handlers(self, mut modes: impl Iterator<Item = HandlerMode>) -> Plan {
        Plan { bus_handler: self.bus_handler && modes.all(|mode| mode == HandlerMode::BusSerial), ..self }
    }
}

/// How long an attempt may take, and after how long to warn; both in nanoseconds, [`NEVER`] for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// With the handler's allowance.
    pub(crate) timeout: Tick,
    pub(crate) slow_after: Tick,
}

impl Timing {
    /// When to warn of an attempt started at `start`: only where it may run longer than that at all.
    pub(crate) fn slow_at(self, start: Tick) -> Tick {
        if self.slow_after >= self.timeout { NEVER } else { start.saturating_add(self.slow_after) }
    }
}

/// One handler, and how it runs for events without options of their own. What every call needs is here, so that a list of handlers is read
/// from one end to the other.
#[derive(Clone)]
pub(crate) struct SlotEntry {
    pub(crate) entry: Arc<HandlerEntry>,
    pub(crate) call: Arc<Call>,
    pub(crate) id: HandlerId,
    pub(crate) typed: bool,
    pub(crate) limited: bool,
    pub(crate) mode: HandlerMode,
    pub(crate) timing: Timing,
}

impl SlotEntry {
    pub(crate) fn new(entry: &Arc<HandlerEntry>, mode: HandlerMode, timing: Timing) -> Self {
        let HandlerEntry { info, limit, call, typed, .. } = &**entry;
        let (call, limited) = (Arc::clone(call), limit.is_some());
        SlotEntry { entry: Arc::clone(entry), call, id: info.id(), typed: *typed, limited, mode, timing }
    }
}

impl fmt::Debug for SlotEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}

/// So long may one thread that runs the parallel handlers of an event alone be at one of them.
pub(crate) const ALONE: Tick = 1_000_000;

/// Where handlers end as fast as this, on average, a second thread comes too late, and only holds up the first.
pub(crate) const QUICK: Tick = 500;

/// How long the parallel handlers of a type took the last time.
#[derive(Debug)]
pub(crate) struct Pace {
    /// None of them can leave its thread, or be given up, before the watch has called others.
    plain: bool,
    quick: AtomicBool,
}

impl Pace {
    pub(crate) fn of(handlers: &[SlotEntry]) -> Self {
        let plain = |handler: &SlotEntry| !handler.limited && handler.timing.timeout >= 10 * ALONE;
        Pace { plain: handlers.iter().all(plain), quick: AtomicBool::new(false) }
    }
}

impl TypeSlot {
    /// One thread is enough for its parallel handlers, for now.
    pub(crate) fn is_quick(&self) -> bool {
        self.pace.quick.load(Relaxed)
    }

    /// All handlers of an event together took so long.
    pub(crate) fn took(&self, time: Tick) {
        let quick = self.pace.plain && time <= QUICK * self.handlers.len() as Tick;
        if quick != self.is_quick() {
            // No model has clocks: there one thread is never enough.
            self.pace.quick.store(quick && !cfg!(threadbus_shuttle), Relaxed);
        }
    }

    /// The same with one of its handlers only.
    pub(crate) fn only(&self, handler: HandlerId) -> Option<TypeSlot> {
        let entry = self.handlers.iter().find(|h| h.id == handler)?;
        let handlers = Box::new([entry.clone()]);
        Some(TypeSlot {
            options: Arc::clone(&self.options),
            priority: self.priority,
            plan: self.plan,
            slow_event: self.slow_event,
            pace: Pace::of(&*handlers),
            roster: Arc::new(Roster(Box::new([entry.entry.info.clone()]))),
            handlers,
        })
    }
}

/// The registrations of a delivery, kept after it let go of the handlers themselves.
#[derive(Debug)]
pub(crate) struct Roster(pub(crate) Box<[HandlerInfo]>);

/// Copy-on-write: a delivery keeps the slot that it found when it was claimed.
#[derive(Debug)]
pub(crate) struct TypeSlot {
    /// The type's own options, asked once.
    pub(crate) options: Arc<EventOptions>,
    pub(crate) priority: Priority,
    /// What holds for an event without options of its own.
    pub(crate) plan: Plan,
    pub(crate) slow_event: Tick,
    pub(crate) pace: Pace,
    /// In the order in which they run.
    pub(crate) handlers: Box<[SlotEntry]>,
    pub(crate) roster: Arc<Roster>,
}
