//! How an event runs on one bus: as planned from its options, as settled when it is claimed, and how long its handlers may take.

use crate::sys::clock::{NEVER, Tick};
use crate::sys::sync::atomic::AtomicBool;
use std::time::Duration;

/// Which event permit a delivery needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnKind {
    Free,
    Bus,
    Global,
}

/// How one handler runs beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerMode {
    GlobalSerial,
    BusSerial,
    EventSerial,
    Parallel,
}

/// What holds for an event on one bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) turn: TurnKind,
    pub(crate) first: bool,
    /// The bus's handler permit is taken at the claim, so that events come to it in their order, and kept between handlers. Only where all
    /// handlers need it.
    pub(crate) bus_handler: bool,
    pub(crate) event_timeout: Option<Duration>,
}

impl Plan {
    /// For an event with handlers of these modes.
    pub(crate) fn with_handlers(self, mut modes: impl Iterator<Item = HandlerMode>) -> Plan {
        Plan { bus_handler: self.bus_handler && modes.all(|mode| mode == HandlerMode::BusSerial), ..self }
    }
}

/// How a delivery runs, settled when it is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    pub(crate) turn: TurnKind,
    /// The bus's handler permit belongs to the delivery, not to its invocations.
    pub(crate) bus_handler: bool,
    /// Some handlers may run beside others.
    pub(crate) parallel: bool,
    pub(crate) first: bool,
    /// The thread that ends the delivery goes on as the bus's loop.
    pub(crate) carries_loop: bool,
    /// Claimed by a jump: its tickets go before what has not started.
    pub(crate) jumped: bool,
    /// Driven on the stack of a handler that waits for it: that thread goes on driving when a handler was given up.
    pub(crate) inline: bool,
}

impl Manner {
    pub(crate) const PLAIN: Manner = Manner {
        turn: TurnKind::Free,
        bus_handler: false,
        parallel: false,
        first: false,
        carries_loop: false,
        jumped: false,
        inline: false,
    };

    /// As planned, before the delivery is claimed.
    pub(crate) fn of(plan: Plan) -> Self {
        Manner { turn: plan.turn, first: plan.first, bus_handler: plan.bus_handler, ..Manner::PLAIN }
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

/// How long the parallel handlers of a type took the last time; the rules room says what follows from it.
#[derive(Debug)]
pub(crate) struct Pace {
    /// None of them can leave its thread, or be given up, before the watch has called others.
    pub(crate) plain: bool,
    pub(crate) quick: AtomicBool,
}
