//! Seeing events without handling them: subscriptions, each a cursor of its own over what comes later.
//!
//! A subscription is an observer of its bus: under the inlet's lock it gets every event in the order of the bus, so all of them
//! see the same order, and an event is in all of them or in none. It is never part of an event's completion. The events that it has
//! not read yet are its backlog, freed event by event as it is read, or all at once when it is dropped.
//!
//! Imports `sys`, `sync`, `event`, `runtime` and `bus`. Exports [`Subscription`], [`SubscriptionCloser`], [`RecvError`], and hangs `subscribe*`
//! on [`EventBus`] from above.

mod backlog;
mod subscription;

pub use subscription::{RecvError, Subscription, SubscriptionCloser};

use crate::bus::{Doors, EventBus, Observer};
use crate::event::{AnyEvent, Event, KnownType, OnLag, Payload};
use crate::sys::logging;
use backlog::Backlog;
use std::sync::Arc;

impl EventBus {
    /// Sees every event with payload `P` that this bus takes from now on, without handling it: emitted ones and forwarded ones, in
    /// the order of the bus. No event waits for a subscription, and an unread one grows without bound.
    ///
    /// On a bus that is shut down it is closed from the start; the log says so.
    ///
    /// ```
    /// use threadbus::{EventBus, Payload};
    /// struct Frame { speed: f32 }
    /// impl Payload for Frame { type Output = (); }
    ///
    /// let bus = EventBus::new("telemetry");
    /// let mut frames = bus.subscribe::<Frame>();
    /// bus.emit(Frame { speed: 61.5 });
    /// assert_eq!(frames.recv()?.speed, 61.5);
    /// # Ok::<(), threadbus::RecvError>(())
    /// ```
    pub fn subscribe<P: Payload>(&self) -> Subscription<Event<P>> {
        self.subscribe_to(Some(KnownType::of::<P>()), Backlog::unbounded(), |event| event.downcast::<P>())
    }

    /// Sees events with payload `P` as [`subscribe`](EventBus::subscribe) does, with room for `capacity` unread ones (0 becomes 1). Beyond that
    /// [`OnLag::Block`] makes emitters wait for the reader, and [`OnLag::DropOldest`] drops the oldest unread event, which the reader is told as
    /// [`RecvError::Lagged`].
    ///
    /// **Blocking**: with [`OnLag::Block`] every `emit` and `forward` of such an event waits for room, outside of handlers and before
    /// the event is visible to anybody; a closed or dropped subscription lets it go on. So a reader must not emit such events on its
    /// own thread, and no other thread may wait for that thread while emitting. Inside handlers and callbacks nothing waits: there the
    /// backlog grows.
    ///
    /// ```
    /// use threadbus::{EventBus, OnLag, Payload, RecvError};
    /// struct Frame(u32);
    /// impl Payload for Frame { type Output = (); }
    ///
    /// let bus = EventBus::new("telemetry");
    /// let mut latest = bus.subscribe_bounded::<Frame>(2, OnLag::DropOldest);
    /// for n in 1..=5 {
    ///     bus.emit(Frame(n));
    /// }
    /// assert_eq!(latest.try_recv().err(), Some(RecvError::Lagged(3)));
    /// assert_eq!(latest.try_recv()?.0, 4);
    /// # Ok::<(), RecvError>(())
    /// ```
    ///
    /// A loop over one that may lag tells a gap from the end: `while let Ok(…) = latest.recv()` would stop at the first gap.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use threadbus::{EventBus, OnLag, Payload, RecvError, Shutdown};
    /// # struct Frame(u32);
    /// # impl Payload for Frame { type Output = (); }
    /// # let bus = EventBus::new("telemetry");
    /// # let mut latest = bus.subscribe_bounded::<Frame>(2, OnLag::DropOldest);
    /// # (1..=5).for_each(|n| drop(bus.emit(Frame(n))));
    /// # bus.shutdown(Shutdown::Drain, Duration::from_secs(1));
    /// let (mut seen, mut lost) = (0, 0);
    /// loop {
    ///     match latest.recv() {
    ///         Ok(_frame) => seen += 1,
    ///         Err(RecvError::Lagged(missed)) => lost += missed, // and on with the next one
    ///         Err(_) => break,
    ///     }
    /// }
    /// assert_eq!((seen, lost), (2, 3));
    /// ```
    pub fn subscribe_bounded<P: Payload>(&self, capacity: usize, on_lag: OnLag) -> Subscription<Event<P>> {
        let backlog = Backlog::bounded(capacity, on_lag);
        self.subscribe_to(Some(KnownType::of::<P>()), backlog, |event| event.downcast::<P>())
    }

    /// Sees every event that this bus takes from now on, of whatever type, as [`subscribe`](EventBus::subscribe) does those of one.
    ///
    /// ```
    /// use threadbus::{EventBus, Payload};
    /// struct Ping;
    /// impl Payload for Ping { type Output = (); }
    /// struct Pong;
    /// impl Payload for Pong { type Output = (); }
    ///
    /// let bus = EventBus::new("table");
    /// let mut all = bus.subscribe_any();
    /// bus.emit(Ping);
    /// bus.emit(Pong);
    /// let types: Vec<_> = all.try_iter().map(|event| event.event_type().to_owned()).collect();
    /// assert_eq!(types, ["Ping", "Pong"]);
    /// ```
    pub fn subscribe_any(&self) -> Subscription<AnyEvent> {
        self.subscribe_to(None, Backlog::unbounded(), Some)
    }

    /// Sees events of every type, with room for `capacity` unread ones, as [`subscribe_bounded`](EventBus::subscribe_bounded) does those of one.
    ///
    /// **Blocking**: as there, for every event of the bus.
    pub fn subscribe_any_bounded(&self, capacity: usize, on_lag: OnLag) -> Subscription<AnyEvent> {
        self.subscribe_to(None, Backlog::bounded(capacity, on_lag), Some)
    }

    fn subscribe_to<E>(
        &self,
        known: Option<KnownType>,
        backlog: Backlog,
        cast: fn(AnyEvent) -> Option<E>,
    ) -> Subscription<E> {
        let backlog = Arc::new(backlog);
        known.into_iter().for_each(|known| self.core().registry.know(known));
        let reader = Arc::downgrade(&backlog);
        self.core().runtime.readers.lock().add(reader);
        let is_open = {
            let mut inlet = self.core().inlet.lock();
            let is_open = inlet.doors != Doors::Closed;
            if is_open {
                inlet.observers.add(known.map(|known| known.payload), backlog.clone());
            }
            is_open
        };
        if !is_open {
            backlog.close();
            logging::warn!("{} is closed: a subscription to it is closed from the start", self.label());
        }
        Subscription::new(backlog, Arc::downgrade(self.core()), cast)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tick;
    impl Payload for Tick {
        type Output = ();
    }

    fn observers(bus: &EventBus) -> usize {
        bus.core().inlet.lock().observers.len()
    }

    #[test]
    fn the_bus_forgets_what_is_dropped_or_closed() {
        let bus = EventBus::new("observers");
        let typed = bus.subscribe::<Tick>();
        let any = bus.subscribe_any_bounded(3, OnLag::DropOldest);
        assert_eq!(observers(&bus), 2);
        drop(any);
        assert_eq!(observers(&bus), 1);
        typed.closer().close();
        assert_eq!(observers(&bus), 0);
        drop(typed);
        assert!(!bus.core().inlet.lock().observers.any_bounded());
    }
}
