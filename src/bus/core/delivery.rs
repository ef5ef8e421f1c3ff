//! One event on one bus: what travels together through all that claims a delivery, drives it, waits for it or ends it.

use crate::bus::core::permit::{delivery_token, is_active};
use crate::bus::core::{BusCore, Entry};
use crate::event::{AnyEvent, Delivery, State};
use crate::sync::Token;
use std::sync::Arc;

/// A delivery of `event` to `bus`, by its number among the event's. The rooms above add what they do with it.
#[derive(Clone, Copy)]
pub(crate) struct DeliveryRef<'a> {
    pub(crate) bus: &'a Arc<BusCore>,
    pub(crate) event: &'a AnyEvent,
    pub(crate) index: usize,
}

impl BusCore {
    /// That delivery of the event, which is to this bus.
    #[inline(always)]
    pub(crate) fn delivery<'a>(self: &'a Arc<Self>, event: &'a AnyEvent, index: usize) -> DeliveryRef<'a> {
        DeliveryRef { bus: self, event, index }
    }

    /// What is queued here.
    #[inline(always)]
    pub(crate) fn delivery_of<'a>(self: &'a Arc<Self>, entry: &'a Entry) -> DeliveryRef<'a> {
        self.delivery(&entry.event, entry.delivery as usize)
    }
}

impl DeliveryRef<'_> {
    /// Of the delivery as a whole; each attempt has another one.
    #[inline(always)]
    pub(crate) fn token(self) -> Token {
        delivery_token(self.event, self.index)
    }

    /// Still running, or about to: it may hold permits.
    pub(crate) fn is_active(self) -> bool {
        is_active(self.event, self.index)
    }

    /// What its event, which is locked, knows of it.
    #[inline(always)]
    pub(crate) fn in_state(self, state: &State) -> Option<&Delivery> {
        state.deliveries.get(self.index)
    }

    /// What its event, which is locked, knows of it, to be changed.
    #[inline(always)]
    pub(crate) fn in_state_mut(self, state: &mut State) -> Option<&mut Delivery> {
        state.deliveries.get_mut(self.index)
    }

    /// Asks something of it, under its event's lock.
    pub(crate) fn read<R>(self, ask: impl FnOnce(&Delivery) -> R) -> Option<R> {
        self.event.state().lock().deliveries.get(self.index).map(ask)
    }
}
