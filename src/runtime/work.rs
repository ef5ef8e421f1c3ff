//! Work that a bus leaves to a thread, as data: the bus knows how each kind goes on.

use crate::event::{AnyEvent, HandlerMode};
use crate::sync::Token;

/// A delivery that was claimed, and how it goes on.
pub(crate) struct Claimed {
    pub(crate) event: AnyEvent,
    pub(crate) delivery: usize,
    pub(crate) how: GoOn,
}

/// How a claimed delivery goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GoOn {
    /// With its turn, for which it stands in line if it must.
    Resume,
    /// As one more thread for its parallel handlers.
    Help,
    /// With this invocation, under a permit of its own, which the token holds.
    WithPermit { invocation: usize, mode: HandlerMode, token: Token },
}

/// Work of a manual bus, for its pump thread.
pub(crate) enum Pumped {
    /// Its loop may go on.
    Loop,
    /// Its loop may go on, and holds the runtime's event permit, for which others wait.
    LoopWithTurn,
    /// There are events that need no turn.
    Free,
    Delivery(Claimed),
}
