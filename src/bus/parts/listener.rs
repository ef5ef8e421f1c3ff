//! A middleware as its bus knows it. `B`: what it is given of the bus, which is made of this and stands above it.

use crate::event::{AnyEvent, AnyOutput, BoxError, EmitError, EventStatus, HandlerChange, HandlerInfo, HandlerResult};
use std::fmt;

/// [`Middleware`](crate::Middleware), from below.
pub(crate) trait Listener<B>: Send + Sync {
    fn asked(&self, bus: &B, event: &AnyEvent) -> Result<(), BoxError>;

    fn refused(&self, bus: &B, event: &AnyEvent, error: &EmitError);

    fn event_changed(&self, bus: &B, event: &AnyEvent, status: EventStatus);

    fn result_changed(&self, bus: &B, event: &AnyEvent, result: &HandlerResult<AnyOutput>);

    fn handlers_changed(&self, bus: &B, handler: &HandlerInfo, now: HandlerChange);
}

/// In the order in which they were added.
pub(crate) struct Middlewares<B>(pub(crate) Vec<Box<dyn Listener<B>>>);

impl<B> Default for Middlewares<B> {
    fn default() -> Self {
        Middlewares(Vec::new())
    }
}

impl<B> Middlewares<B> {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<B> fmt::Debug for Middlewares<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} middlewares", self.0.len())
    }
}
