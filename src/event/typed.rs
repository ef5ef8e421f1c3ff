//! The event with its payload's type.

use crate::event::body::{Fresh, Typed};
use crate::event::{AnyEvent, Payload};
use ref_cast::{RefCastCustom, ref_cast_custom};
use std::any::{Any, TypeId};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

/// One emitted event, with its payload's type. A clone is cheap and the same event; it dereferences to the payload.
///
/// Never blocks except in `wait*`, `result*`, [`first`](Event::first) and [`select`](Event::select).
///
/// ```
/// use threadbus::{Event, EventBus, Payload};
/// struct Order { total: u32 }
/// impl Payload for Order { type Output = u32; }
///
/// let bus = EventBus::new("shop");
/// bus.on(|order: &Event<Order>| order.total * 2);
/// let order = bus.emit(Order { total: 21 });
/// assert_eq!(order.result()?, 42);
/// assert_eq!(order.total, 21);
/// # Ok::<(), threadbus::ResultError>(())
/// ```
#[derive(RefCastCustom)]
#[repr(transparent)]
pub struct Event<P: Payload> {
    any: AnyEvent,
    payload: PhantomData<fn() -> P>,
}

impl AnyEvent {
    /// True if the payload is a `P`.
    pub fn is<P: Payload>(&self) -> bool {
        self.0.body.payload_type() == Some(TypeId::of::<P>())
    }

    /// This event with its payload's type, if that is `P`.
    pub fn downcast<P: Payload>(&self) -> Option<Event<P>> {
        self.is::<P>().then(|| Event { any: self.clone(), payload: PhantomData })
    }

    /// As [`downcast`](AnyEvent::downcast), borrowed: the event is not kept once more.
    #[inline]
    pub(crate) fn as_typed<P: Payload>(&self) -> Option<&Event<P>> {
        self.is::<P>().then(|| Event::of_its_type(self))
    }

    /// The payload, if it is a `P`.
    pub fn payload<P: Payload>(&self) -> Option<&P> {
        let body: &dyn Any = &self.0.body;
        body.downcast_ref::<Typed<P>>().map(|typed| &typed.0)
    }
}

impl<P: Payload> Fresh<P> {
    pub(crate) fn into_event(self) -> Event<P> {
        Event { any: AnyEvent(self.0), payload: PhantomData }
    }
}

impl<P: Payload> Event<P> {
    /// The caller has asked whether the payload is a `P`.
    #[ref_cast_custom]
    fn of_its_type(any: &AnyEvent) -> &Self;

    /// The payload, which dereferencing gives as well.
    pub fn payload(&self) -> &P {
        match self.any.payload::<P>() {
            Some(payload) => payload,
            None => unreachable!("an Event<P> is only made of an event whose payload is a P"),
        }
    }

    /// True once every handler on every bus and every descendant is done, or the event was refused.
    pub fn is_completed(&self) -> bool {
        self.any.is_completed()
    }

    pub(crate) fn any(&self) -> &AnyEvent {
        &self.any
    }
}

impl<P: Payload> Clone for Event<P> {
    fn clone(&self) -> Self {
        Event { any: self.any.clone(), payload: PhantomData }
    }
}

impl<P: Payload> Deref for Event<P> {
    type Target = P;

    fn deref(&self) -> &P {
        self.payload()
    }
}

impl<P: Payload> AsRef<AnyEvent> for Event<P> {
    fn as_ref(&self) -> &AnyEvent {
        &self.any
    }
}

impl<P: Payload> From<Event<P>> for AnyEvent {
    fn from(event: Event<P>) -> AnyEvent {
        event.any
    }
}

/// `Type#last4ofid`, and ` (label)` if it has one.
impl<P: Payload> fmt::Display for Event<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.any, f)
    }
}

impl<P: Payload> fmt::Debug for Event<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.any, f)
    }
}
