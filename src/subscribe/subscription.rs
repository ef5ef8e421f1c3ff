//! The reader's side of a subscription.

use crate::bus::{BusCore, Observer, Parked, Seat, is_forbidden, may_block_or_log, waits_for_nobody};
use crate::event::AnyEvent;
use crate::subscribe::backlog::{Backlog, Next};
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::thread::{self, JoinHandle};
use crate::sys::unwind;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A cursor over later events. Two subscriptions of one type see the same order. Dropping it frees its backlog.
///
/// Made by [`EventBus::subscribe`](crate::EventBus::subscribe) and its variants. It does not keep its bus alive. Once the bus is shut down or
/// gone, or a [closer](Subscription::closer) has closed it, nothing is added any more: what is there can still be read, then it answers
/// [`RecvError::Closed`].
///
/// As an iterator it blocks, skips over lag, and ends when it is closed and read.
///
/// ```
/// use std::time::Duration;
/// use threadbus::{EventBus, Payload, Shutdown};
/// struct Lap(u32);
/// impl Payload for Lap { type Output = (); }
///
/// let bus = EventBus::new("race");
/// let laps = bus.subscribe::<Lap>();
/// for n in 1..=3 {
///     bus.emit(Lap(n));
/// }
/// bus.shutdown(Shutdown::Drain, Duration::from_secs(1));
/// assert_eq!(laps.map(|lap| lap.0).collect::<Vec<_>>(), [1, 2, 3]);
/// ```
pub struct Subscription<E> {
    backlog: Arc<Backlog>,
    bus: Weak<BusCore>,
    /// Events that are taken out of the backlog already, to be read next.
    handful: VecDeque<AnyEvent>,
    /// How many events the subscription's own thread is at: 1, or 0 where it has none.
    at_it: usize,
    cast: fn(AnyEvent) -> Option<E>,
}

/// Why there is no event.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// Nothing is there now.
    #[error("no event waiting")]
    Empty,
    /// Nothing came in time.
    #[error("no event within the timeout")]
    Timeout,
    /// So many events were dropped since the last one received; the next call goes on behind the gap.
    #[error("{0} events were dropped since the last one received")]
    Lagged(u64),
    /// Nothing will come any more.
    #[error("the subscription is closed")]
    Closed,
}

impl<E> Subscription<E> {
    pub(crate) fn new(backlog: Arc<Backlog>, bus: Weak<BusCore>, cast: fn(AnyEvent) -> Option<E>) -> Self {
        Subscription { backlog, bus, handful: VecDeque::new(), at_it: 0, cast }
    }

    /// The next event; waits for one.
    ///
    /// **Blocking**: until there is an event or the subscription is closed. Inside a handler it keeps the handler's permits, so
    /// what it waits for must come from elsewhere, and it ends with `Closed` when the handler is given up. In a callback that is not a
    /// handler (middleware, filter, hook, tracker) it does not wait: `Closed`.
    ///
    /// # Errors
    /// [`RecvError::Lagged`] if events were dropped before the next one, [`RecvError::Closed`] at the end.
    ///
    /// ```
    /// use threadbus::{EventBus, Payload, RecvError};
    /// struct Tick;
    /// impl Payload for Tick { type Output = (); }
    ///
    /// let bus = EventBus::new("clock");
    /// let mut ticks = bus.subscribe::<Tick>();
    /// bus.emit(Tick);
    /// drop(bus);
    /// assert!(ticks.recv().is_ok());
    /// assert_eq!(ticks.recv().err(), Some(RecvError::Closed));
    /// ```
    #[track_caller]
    pub fn recv(&mut self) -> Result<E, RecvError> {
        self.recv_until(NEVER)
    }

    /// The next event, if there is one now. Never blocks.
    ///
    /// # Errors
    /// As [`recv`](Subscription::recv), and [`RecvError::Empty`].
    ///
    /// ```
    /// use threadbus::{EventBus, RecvError};
    /// let bus = EventBus::new("quiet");
    /// assert_eq!(bus.subscribe_any().try_recv().err(), Some(RecvError::Empty));
    /// ```
    pub fn try_recv(&mut self) -> Result<E, RecvError> {
        loop {
            let event = match self.handful.pop_front() {
                Some(event) => {
                    self.backlog.has_in_hand(self.handful.len() + self.at_it);
                    event
                }
                None => match self.backlog.next(&mut self.handful, self.at_it) {
                    Next::Event(event) => event,
                    Next::Lagged(missed) => return Err(RecvError::Lagged(missed)),
                    Next::Empty => return Err(RecvError::Empty),
                    Next::Closed => return Err(RecvError::Closed),
                },
            };
            // A backlog holds events of the right type only.
            if let Some(event) = (self.cast)(event) {
                return Ok(event);
            }
        }
    }

    fn in_words(&self) -> String {
        let of = std::any::type_name::<E>();
        match self.bus.upgrade() {
            Some(bus) => format!("waits to receive {of} from a subscription to {}", bus.label()),
            None => format!("waits to receive {of} from a subscription"),
        }
    }

    /// The next event; waits for one no longer than `timeout`.
    ///
    /// **Blocking**: as [`recv`](Subscription::recv).
    ///
    /// # Errors
    /// As [`recv`](Subscription::recv), and [`RecvError::Timeout`]; the subscription goes on afterwards.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbus::{EventBus, RecvError};
    /// let bus = EventBus::new("quiet");
    /// let mut all = bus.subscribe_any();
    /// assert_eq!(all.recv_timeout(Duration::from_millis(1)).err(), Some(RecvError::Timeout));
    /// ```
    #[track_caller]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<E, RecvError> {
        self.recv_until(clock::after(clock::now(), timeout))
    }

    #[track_caller]
    fn recv_until(&mut self, deadline: Tick) -> Result<E, RecvError> {
        let Some(seat) = Seat::take() else {
            if !is_forbidden() {
                return Err(RecvError::Closed);
            }
            return match self.try_recv() {
                Err(RecvError::Empty) => {
                    may_block_or_log("receives from a subscription that has nothing");
                    Err(RecvError::Closed)
                }
                answer => answer,
            };
        };
        loop {
            match self.try_recv() {
                Err(RecvError::Empty) => {}
                answer => return answer,
            }
            if let Some(bus) = self.bus.upgrade()
                && waits_for_nobody(&bus, deadline)
            {
                return Err(RecvError::Closed);
            }
            match seat.park(deadline, || self.in_words(), || self.backlog.is_ready(seat.bell())) {
                Parked::Ready => {}
                Parked::TimedOut => return Err(RecvError::Timeout),
                Parked::GivenUp => return Err(RecvError::Closed),
            }
        }
    }

    /// The events that are there now, without blocking: for a frame loop. Those that come while it runs are left for the next call, and lag is
    /// skipped over; [`lagged`](Subscription::lagged) counts it.
    ///
    /// ```
    /// use threadbus::{EventBus, Payload};
    /// struct Key(char);
    /// impl Payload for Key { type Output = (); }
    ///
    /// let bus = EventBus::new("game");
    /// let mut keys = bus.subscribe::<Key>();
    /// bus.emit(Key('w'));
    /// bus.emit(Key('a'));
    /// // Once per frame:
    /// let pressed: String = keys.try_iter().map(|key| key.0).collect();
    /// assert_eq!(pressed, "wa");
    /// ```
    pub fn try_iter(&mut self) -> impl Iterator<Item = E> + '_ {
        let mut left = self.backlog();
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            loop {
                match self.try_recv() {
                    Err(RecvError::Lagged(_)) => {}
                    answer => return answer.ok(),
                }
            }
        })
    }

    /// How many events the subscription has missed, in total. Only a [bounded](crate::EventBus::subscribe_bounded) one misses any.
    pub fn lagged(&self) -> u64 {
        self.backlog.lagged()
    }

    /// How many events wait to be read.
    pub fn backlog(&self) -> usize {
        self.handful.len() + self.backlog.len()
    }

    /// A handle that closes this subscription from elsewhere, also while a thread blocks in it.
    ///
    /// ```
    /// use threadbus::EventBus;
    /// let bus = EventBus::new("stage");
    /// let events = bus.subscribe_any();
    /// let closer = events.closer();
    /// let thread = events.spawn("printer", |event| println!("{event}"));
    /// closer.close();
    /// assert!(thread.join().is_ok());
    /// ```
    pub fn closer(&self) -> SubscriptionCloser {
        SubscriptionCloser { backlog: Arc::clone(&self.backlog), bus: Weak::clone(&self.bus) }
    }
}

impl<E: Send + 'static> Subscription<E> {
    /// Reads the subscription on a thread of its own with this name, which ends with it: `body` gets one event after another, lag is skipped over.
    ///
    /// A panic in `body` ends this thread and this subscription, and nothing else. The thread is outside of handlers: what `body` emits has
    /// no parent. [`Runtime::shutdown`](crate::Runtime::shutdown) waits within its time until `body` has had everything and is dropped.
    ///
    /// # Panics
    /// If the system refuses a thread, as [`std::thread::spawn`], or the name holds a zero byte.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use threadbus::{Event, EventBus, Payload};
    /// struct Tick(u32);
    /// impl Payload for Tick { type Output = (); }
    ///
    /// let bus = EventBus::new("clock");
    /// let (sender, ticks) = channel();
    /// let thread = bus.subscribe().spawn("recorder", move |tick: Event<Tick>| drop(sender.send(tick.0)));
    /// bus.emit(Tick(1));
    /// bus.emit(Tick(2));
    /// drop(bus); // reads what is left, then ends
    /// assert!(thread.join().is_ok());
    /// assert_eq!(ticks.iter().collect::<Vec<_>>(), [1, 2]);
    /// ```
    pub fn spawn(self, name: &str, body: impl FnMut(E) + Send + 'static) -> JoinHandle<()> {
        let apart = self.backlog.is_read_apart();
        thread::spawn_joinable(Some(name.to_owned()), move || {
            // Moved in here, so that it is dropped after all others.
            let apart = apart;
            let (mut body, mut events) = (body, self);
            apart.begins();
            events.at_it = 1;
            while let Some(event) = events.next() {
                body(event);
                events.backlog.has_in_hand(events.handful.len());
            }
        })
    }
}

/// Reads event by event: blocks, skips over lag, and ends when the subscription is closed and the backlog is read.
impl<E> Iterator for Subscription<E> {
    type Item = E;

    #[track_caller]
    fn next(&mut self) -> Option<E> {
        loop {
            match self.recv() {
                Err(RecvError::Lagged(_)) => {}
                answer => return answer.ok(),
            }
        }
    }
}

impl<E> Drop for Subscription<E> {
    fn drop(&mut self) {
        close(&self.backlog, &self.bus);
        for event in self.handful.drain(..).chain(self.backlog.clear()) {
            unwind::drop_quietly(event);
        }
    }
}

fn close(backlog: &Arc<Backlog>, bus: &Weak<BusCore>) {
    backlog.close();
    if let Some(bus) = bus.upgrade() {
        let gone = bus.inlet.lock().observers.remove(Arc::as_ptr(backlog).cast());
        drop(gone);
    }
}

impl<E> fmt::Debug for Subscription<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("backlog", &self.backlog())
            .field("lagged", &self.lagged())
            .finish_non_exhaustive()
    }
}

/// Closes a [`Subscription`] from elsewhere. Cheap clone; dropping it closes nothing.
#[derive(Clone)]
pub struct SubscriptionCloser {
    backlog: Arc<Backlog>,
    bus: Weak<BusCore>,
}

impl SubscriptionCloser {
    /// Closes the subscription: it gets nothing more. What is there may still be read; a thread that blocks in it when it is empty returns
    /// [`RecvError::Closed`], and emitters that wait for its room go on. Idempotent, never blocks.
    pub fn close(&self) {
        close(&self.backlog, &self.bus);
    }
}

impl fmt::Debug for SubscriptionCloser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionCloser").finish_non_exhaustive()
    }
}
