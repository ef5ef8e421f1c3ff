//! A new event before it is let in.

use crate::bus::parts::held::Hold;
use crate::bus::thread::frame::Emitter;
use crate::event::{AnyEvent, EmitError, LetGo, Prerequisite, TurnKind};
use crate::sys::planted;
use std::sync::Arc;

/// What becomes of an event that is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    Queue,
    /// As `Queue`, and waits for no room.
    Try,
    /// Claimed at birth, to be run by the caller.
    Claimed,
}

/// Where an event comes from: a handler never waits for its bus to have room, and is still heard while that shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whence {
    Handler,
    Outside,
}

impl Whence {
    #[inline]
    pub(crate) fn of<T>(handler: Option<&T>) -> Whence {
        if handler.is_some() { Whence::Handler } else { Whence::Outside }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    Queued,
    ToRun,
}

/// What a new event is to come after, if anything: mostly nothing, which every emit passes on.
pub(crate) type After = Option<Box<Later>>;

/// That an event is to come after others.
pub(crate) struct Later {
    pub(crate) after: Vec<Prerequisite>,
    /// Once it is about to be let in.
    pub(crate) hold: Option<Arc<Hold>>,
}

/// A new event before it is let in.
pub(crate) struct Candidate {
    /// Put in before it is let in, gone once it is in the queue.
    pub(crate) event: Option<AnyEvent>,
    pub(crate) turn: TurnKind,
    pub(crate) born: Entrance,
    /// The handler that emits it.
    pub(crate) emitter: Option<Emitter>,
    /// Its event is the parent, unless another one is given.
    pub(crate) below_emitter: bool,
    pub(crate) given_parent: Option<AnyEvent>,
    pub(crate) unhandled: bool,
    pub(crate) explicit_id: bool,
    /// It has the token that the bus's rate asks of it.
    pub(crate) has_token: bool,
    /// It waits for no room.
    pub(crate) tries: bool,
    pub(crate) after: After,
}

impl Candidate {
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.after.is_some()
    }

    #[inline]
    pub(crate) fn hold(&self) -> Option<&Arc<Hold>> {
        self.after.as_ref()?.hold.as_ref()
    }

    pub(crate) fn has_parent(&self) -> bool {
        self.below_emitter || self.given_parent.is_some()
    }

    pub(crate) fn parent(&self) -> Option<&AnyEvent> {
        match &self.emitter {
            Some(emitter) if self.below_emitter => Some(&emitter.event),
            _ => self.given_parent.as_ref(),
        }
    }

    /// True if the parent waits for the child. The emitting handler must still be live; both under the parent's lock. `count`: before
    /// the parent knows it, since from then on whoever ends the parent ends and counts this.
    pub(crate) fn link_to_parent(
        &self,
        event: &AnyEvent,
        dropped: &mut LetGo,
        count: impl FnOnce(),
    ) -> Result<bool, EmitError> {
        let by = self.emitter.as_ref();
        let own_parent = |by: &&Emitter| self.parent().is_some_and(|parent| parent.same(&by.event));
        if let Some(by) = by.filter(|by| !own_parent(by)) {
            by.is_live(&by.event.state().lock()).then_some(()).ok_or(EmitError::Aborted)?;
        }
        let Some(parent) = self.parent() else {
            count();
            return Ok(false);
        };
        let by = by.filter(own_parent);
        let mut state = parent.state().lock();
        if by.is_some_and(|by| !by.is_live(&state)) && !planted("emit_after_the_end") {
            return Err(EmitError::Aborted);
        }
        let by = by.map(|by| (by.delivery as u32, by.invocation as u32));
        count();
        Ok(state.add_child(event.clone(), by, dropped))
    }
}
