//! What a bus is to this room, and what a manual one keeps for its pump thread.

use crate::event::{AnyEvent, HandlerMode};
use crate::runtime::job::Lane;
use crate::runtime::worker::Worker;
use crate::sync::Token;
use std::sync::Arc;

/// What a bus is to the pool.
pub(crate) trait Drive: Send + Sync {
    fn drive(self: Arc<Self>, worker: &Arc<Worker>);

    /// A delivery that was claimed goes on, on this thread.
    fn go_on(self: Arc<Self>, worker: &Arc<Worker>, claimed: Claimed);

    /// Where its jobs wait for threads.
    fn lane(&self) -> Lane;

    /// Work that may run on the bus's pump thread only.
    fn keep(self: Arc<Self>, work: Pumped);

    /// On the pump thread, inside a call of ours that waits: runs what may not wait any longer, or one queued event. False if there is
    /// nothing of the kind. `Err` on any other thread.
    fn serve(self: Arc<Self>, worker: &Arc<Worker>, serves: Serves) -> Result<bool, NotHere>;

    /// Somebody waits for its pump thread.
    fn has_fronted(&self) -> bool;

    /// At the end of a wait on its pump thread: calls `on_ready` if there is work left.
    fn remind(self: Arc<Self>, worker: &Worker);

    /// On the pump thread, which has no stack left for what others wait for: that gives its turns back, and stands in line for them again
    /// when it is run.
    fn set_down_fronted(self: Arc<Self>);
}

/// The thread is not the bus's pump thread any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotHere;

/// What a pump thread runs while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// What somebody waits for, or has begun.
    Fronted,
    /// And what is queued, in its order.
    All,
}

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

pub(crate) type Work = dyn FnOnce(&Arc<Worker>) + Send;

/// Work of a manual bus.
pub(crate) enum Pumped {
    /// Its loop may go on.
    Loop,
    /// The same, and it holds the runtime's event permit, for which others wait.
    LoopWithTurn,
    /// There are events that need no turn.
    Free,
    Delivery(Claimed),
}
