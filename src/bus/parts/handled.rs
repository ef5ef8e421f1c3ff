//! What a handler is registered for.

use crate::event::{KnownType, Payload, name_of};
use std::borrow::Cow;

/// What a registration's calls give back.
#[derive(Clone, Copy)]
pub(crate) enum Answers {
    /// The event's own output. Without one, it may be that the payload was not of the type.
    Output,
    /// Never a value.
    Nothing,
    /// Whatever it is, it has to be looked at.
    Anything,
}

/// Which events a handler takes, and what it returns.
pub(crate) struct Handled {
    pub(crate) pattern: Cow<'static, str>,
    /// The type, where the handler knows it.
    pub(crate) known: Option<KnownType>,
    pub(crate) answers: Answers,
}

impl Handled {
    /// Those of a type, for which it returns their output.
    pub(crate) fn of<P: Payload>() -> Handled {
        Handled { pattern: name_of::<P>().into(), known: Some(KnownType::of::<P>()), answers: Answers::Output }
    }
}
