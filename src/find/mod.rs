//! Looking for events: in what a bus remembers, and in what it is about to take.
//!
//! The history is copied and the waiter registered in one section of the inlet, so that no event falls between the two. Everything
//! that may run the user's code (patterns, filters) or let go of events happens outside of it, on the finding thread. A find that
//! does not wait leaves no trace; one that waits is an observer of its bus until it returns.
//!
//! Imports `sys`, `sync`, `event` and `bus`. Exports [`Find`], and hangs `find` and `find_named` on [`EventBus`] from above.
//!
//! Debouncing is a find and an emit:
//!
//! ```
//! use std::time::Duration;
//! use threadbus::{EventBus, Payload};
//! struct Screenshot { url: &'static str }
//! impl Payload for Screenshot { type Output = (); }
//!
//! let bus = EventBus::new("browser");
//! let screenshot = |url| {
//!     bus.find::<Screenshot>().past_within(Duration::from_secs(10)).filter(|shot| shot.url == url).first()
//!         .unwrap_or_else(|| bus.emit(Screenshot { url }))
//! };
//! let (first, again, other) = (screenshot("a"), screenshot("a"), screenshot("b"));
//! assert_eq!(first.id(), again.id());
//! assert_ne!(first.id(), other.id());
//! ```

mod waiter;

use crate::bus::{BusCore, Doors, EventBus, Parked, Seat, arrived, callback, may_block_or_log, waits_for_nobody};
use crate::event::{AnyEvent, Event, EventStatus, KnownType, Payload, Unrun};
use crate::sys::clock::{self, Tick};
use crate::sys::{logging, unwind};
use std::any::TypeId;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use waiter::Waiter;

/// How many events the first look at the history takes; each further one takes four times as many.
const FIRST_LOOK: usize = 64;

impl EventBus {
    /// Looks for events with payload `P` that this bus has taken, emitted or forwarded. What to look for is added to the [`Find`];
    /// `first` or `all` starts it.
    ///
    /// ```
    /// use threadbus::{EventBus, Payload};
    /// struct Login { user: &'static str }
    /// impl Payload for Login { type Output = (); }
    ///
    /// let bus = EventBus::new("app");
    /// bus.emit(Login { user: "ann" });
    /// let bob = bus.emit(Login { user: "bob" });
    /// assert_eq!(bus.find::<Login>().first().map(|login| login.id()), Some(bob.id()));
    /// assert_eq!(bus.find::<Login>().filter(|login| login.user == "ann").all().len(), 1);
    /// ```
    pub fn find<P: Payload>(&self) -> Find<'_, Event<P>> {
        Find::new(self, Wanted::Payload(KnownType::of::<P>()), |event| event.downcast::<P>())
    }

    /// The same for events of the type named `pattern`, whatever their payload is, or of every type: `*`.
    ///
    /// ```
    /// use threadbus::{EventBus, Payload};
    /// struct Login;
    /// impl Payload for Login { type Output = (); }
    ///
    /// let bus = EventBus::new("app");
    /// let login = bus.emit(Login);
    /// for pattern in ["*", "Login"] {
    ///     assert_eq!(bus.find_named(pattern).first().map(|event| event.id()), Some(login.id()));
    /// }
    /// assert!(bus.find_named("Logout").first().is_none());
    /// ```
    pub fn find_named(&self, pattern: &str) -> Find<'_, AnyEvent> {
        let wanted = if pattern == "*" { Wanted::Any } else { Wanted::Named(pattern.into()) };
        Find::new(self, wanted, |event| Some(event.clone()))
    }
}

/// What to look for on a bus, and for how long. Conditions add up.
///
/// Default: the whole history, no waiting. Matches events as soon as they are emitted, not only completed ones; the newest past match
/// wins, then the first later one.
///
/// ```
/// use std::time::Duration;
/// use threadbus::{Event, EventBus, Payload};
/// struct Click;
/// impl Payload for Click { type Output = (); }
/// struct Tab { url: &'static str }
/// impl Payload for Tab { type Output = (); }
///
/// let bus = EventBus::new("browser");
/// bus.on(|click: &Event<Click>| drop(click.bus().emit(Tab { url: "docs" })));
/// let click = bus.emit(Click);
/// let tab = bus.find::<Tab>()
///     .child_of(&click)
///     .past_within(Duration::from_secs(10))
///     .future(Duration::from_secs(5))
///     .filter(|tab| tab.url == "docs")
///     .first();
/// assert!(tab.is_some_and(|tab| tab.parent_id() == Some(click.id())));
/// ```
#[must_use = "a find does nothing until `first` or `all`"]
pub struct Find<'bus, E> {
    bus: &'bus EventBus,
    wanted: Wanted,
    cast: fn(&AnyEvent) -> Option<E>,
    past: bool,
    window: Option<Duration>,
    future: Option<Duration>,
    ancestor: Option<AnyEvent>,
    status: Option<EventStatus>,
    filters: Vec<Filter<'bus, E>>,
    /// How often a filter panicked.
    panics: Cell<u64>,
}

type Filter<'bus, E> = Box<dyn Fn(&E) -> bool + 'bus>;

enum Wanted {
    Payload(KnownType),
    Named(Box<str>),
    Any,
}

impl<'bus, E> Find<'bus, E> {
    fn in_words(&self) -> String {
        let what = match &self.wanted {
            Wanted::Payload(known) => (known.name)(),
            Wanted::Named(name) => name,
            Wanted::Any => "any event",
        };
        format!("waits to find {what} on {}", self.bus.label())
    }

    fn new(bus: &'bus EventBus, wanted: Wanted, cast: fn(&AnyEvent) -> Option<E>) -> Self {
        let (past, window, future) = (true, None, None);
        let (ancestor, status, filters, panics) = (None, None, Vec::new(), Cell::new(0));
        Find { bus, wanted, cast, past, window, future, ancestor, status, filters, panics }
    }

    /// Whether to look through the history. Default: true.
    pub fn past(mut self, search: bool) -> Self {
        self.past = search;
        self
    }

    /// Looks through the history, at events that this bus took no longer ago than this. Default: all that it has.
    ///
    /// An event from elsewhere counts from when it came here, whatever its `created_at` says, and nothing changes when the system's clock is set.
    pub fn past_within(mut self, window: Duration) -> Self {
        self.past = true;
        self.window = Some(window);
        self
    }

    /// Waits so long for a later event if there is no past match. Default: does not wait.
    pub fn future(mut self, wait: Duration) -> Self {
        self.future = Some(wait);
        self
    }

    /// Waits without limit, until the bus is shut down.
    pub fn future_forever(mut self) -> Self {
        self.future = Some(Duration::MAX);
        self
    }

    /// Only events below this one: its children, their children, and so on.
    pub fn child_of(mut self, ancestor: impl AsRef<AnyEvent>) -> Self {
        self.ancestor = Some(ancestor.as_ref().clone());
        self
    }

    /// Only events that stand there when they are looked at. Default: any.
    ///
    /// [`EventStatus::Completed`] are events that ran: one that was cancelled or dropped before any handler started is complete, as its
    /// [`status`](AnyEvent::status) says, but nothing completed it. Without a status they are found as all others.
    ///
    /// A find that waits for [`EventStatus::Completed`] waits for completions: of events emitted while it waits, and of those that it found
    /// in the past, but for not being complete yet.
    pub fn status(mut self, status: EventStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// Only events that `keep` wants. Evaluated on the finding thread, outside of all locks; several filters must all agree. It may
    /// not block: a wait in it answers `Deadlock`. What takes it long is not cut short by [`future`](Find::future): the events that came in time are looked at.
    ///
    /// A panic in it is no match, and the find goes on: another event may be one. The log tells of the first panic at once, as an error, and of how many
    /// there were when the find ends.
    pub fn filter(mut self, keep: impl Fn(&E) -> bool + 'bus) -> Self {
        self.filters.push(Box::new(keep));
        self
    }

    /// The newest past match; else the first later one, if it is to wait.
    ///
    /// **Blocking**: for as long as `future` says, or until the bus is shut down. Inside a handler it parks and keeps the handler's
    /// permits, and ends with `None` when the handler is given up. In a callback that is not a handler it does not wait.
    #[track_caller]
    pub fn first(self) -> Option<E> {
        let found = self.search();
        self.tell_of_panics(found.is_some());
        found
    }

    #[track_caller]
    fn search(&self) -> Option<E> {
        let deadline = match self.future {
            None | Some(Duration::ZERO) => None,
            Some(wait) => Some(clock::after(clock::now(), wait)),
        };
        // Where it may not block, it looks at the past only.
        let seat = deadline.and_then(|_| Seat::take());
        let (Some(deadline), Some(seat)) = (deadline, seat) else {
            let found = self.past_match(u64::MAX, None);
            if found.is_none() && deadline.is_some() {
                may_block_or_log("finds an event that is still to come");
            }
            return found;
        };
        let (waiting, before) = Waiting::register(self.bus.core(), &self.wanted, &seat);
        let mut unfinished = Vec::new();
        let newest = self.past_match(before, Some(&mut unfinished));
        if newest.is_some() {
            return newest;
        }
        self.wait(&seat, waiting.as_ref()?, unfinished, deadline)
    }

    /// All past matches, newest first. Does not wait.
    pub fn all(self) -> Vec<E> {
        let mut found = Vec::new();
        self.look_back(u64::MAX, None, |event| {
            found.push(event);
            true
        });
        self.tell_of_panics(!found.is_empty());
        found
    }

    /// The first one was told as it happened.
    fn tell_of_panics(&self, found: bool) {
        let panics = self.panics.get();
        if panics > 1 {
            let found = if found { "something" } else { "nothing" };
            logging::error!("a find on {} found {found}: its filter panicked on {panics} events", self.bus.label());
        }
    }

    fn past_match(&self, before: u64, unfinished: Option<&mut Vec<AnyEvent>>) -> Option<E> {
        let mut newest = None;
        self.look_back(before, unfinished, |event| {
            newest = Some(event);
            false
        });
        newest
    }

    /// Shows past matches, newest first, as long as `more` wants more, and collects those that lack nothing but their completion. Takes the history in pieces, so that emitters are not held up.
    fn look_back(&self, mut before: u64, mut unfinished: Option<&mut Vec<AnyEvent>>, mut more: impl FnMut(E) -> bool) {
        if !self.past {
            return;
        }
        let ago = |window| clock::now().saturating_sub(clock::after(0, window));
        let since = self.window.map(ago);
        let mut few = FIRST_LOOK;
        let mut wants_more = true;
        while wants_more {
            let mut piece = Vec::new();
            let lowest = self.bus.core().inlet.lock().history.look_back(before, few, |event| {
                if self.wanted.may_be(event) {
                    piece.push(event.clone());
                }
            });
            for event in piece {
                if wants_more && self.is_recent(&event, since) {
                    match &mut unfinished {
                        Some(unfinished) if self.awaits_completion_of(&event) => unfinished.push(event.clone()),
                        _ => wants_more = self.matches(&event).is_none_or(&mut more),
                    }
                }
                unwind::drop_quietly(event);
            }
            let Some(lowest) = lowest else { return };
            before = lowest;
            few = few.saturating_mul(4);
        }
    }

    fn is_recent(&self, event: &AnyEvent, since: Option<Tick>) -> bool {
        since.is_none_or(|since| arrived(event, self.bus.core()) >= since)
    }

    #[track_caller]
    fn wait(&self, seat: &Seat, waiting: &Waiting<'_>, unfinished: Vec<AnyEvent>, deadline: Tick) -> Option<E> {
        for event in unfinished {
            waiting.waiter.await_completion(&event);
            unwind::drop_quietly(event);
        }
        loop {
            // Only what has come so far: a flood of others must not keep the find from ending.
            let mut came = waiting.waiter.take();
            while let Some(event) = came.pop_front() {
                if self.awaits_completion_of(&event) {
                    waiting.waiter.await_completion(&event);
                } else if let Some(found) = self.matches(&event) {
                    came.drain(..).for_each(unwind::drop_quietly);
                    return Some(found);
                }
                unwind::drop_quietly(event);
            }
            if seat.is_over(deadline)
                || waits_for_nobody(self.bus.core(), deadline)
                || seat.park(deadline, || self.in_words(), || waiting.waiter.is_ready()) != Parked::Ready
            {
                return None;
            }
            if waiting.waiter.is_over() {
                return None;
            }
        }
    }

    /// It may match once it is complete.
    fn awaits_completion_of(&self, event: &AnyEvent) -> bool {
        self.status == Some(EventStatus::Completed) && !event.is_complete() && self.is_wanted(event)
    }

    /// All that does not change with the event's progress, and runs no filter.
    fn is_wanted(&self, event: &AnyEvent) -> bool {
        let named = match &self.wanted {
            Wanted::Named(name) => callback(|| event.event_type() == &**name).unwrap_or(false),
            other => other.may_be(event),
        };
        named && self.ancestor.as_ref().is_none_or(|ancestor| event.is_child_of(ancestor))
    }

    fn matches(&self, event: &AnyEvent) -> Option<E> {
        if !self.is_wanted(event) || self.status.is_some_and(|status| event.status() != status) {
            return None;
        }
        if self.status == Some(EventStatus::Completed) && never_ran(event) {
            return None;
        }
        let cast = (self.cast)(event)?;
        let agree = callback(|| self.filters.iter().all(|keep| keep(&cast)));
        match agree {
            Ok(agree) => agree.then_some(cast),
            Err(panic) => {
                self.panics.set(self.panics.get() + 1);
                if self.panics.get() == 1 {
                    logging::error!(of event; "a find's filter panicked on {event}, which is no match: {panic}");
                }
                None
            }
        }
    }
}

/// Its `wait` answers with an error.
fn never_ran(event: &AnyEvent) -> bool {
    let state = event.state().lock();
    state.rejected().is_some() || state.unrun() != Unrun::No
}

impl Wanted {
    /// As far as can be said without running the user's code.
    fn may_be(&self, event: &AnyEvent) -> bool {
        match self {
            Wanted::Payload(known) => event.body().payload_type() == Some(known.payload),
            Wanted::Named(_) | Wanted::Any => true,
        }
    }

    fn payload(&self) -> Option<TypeId> {
        match self {
            Wanted::Payload(known) => Some(known.payload),
            Wanted::Named(_) | Wanted::Any => None,
        }
    }
}

/// A waiter among the observers of its bus, until this is dropped.
struct Waiting<'bus> {
    bus: &'bus Arc<BusCore>,
    waiter: Arc<Waiter>,
}

impl<'bus> Waiting<'bus> {
    /// `None` if the bus takes nothing more. The number divides the history from what the waiter will see.
    fn register(bus: &'bus Arc<BusCore>, wanted: &Wanted, seat: &Seat) -> (Option<Waiting<'bus>>, u64) {
        let named = if let Wanted::Named(name) = wanted { Some(name.clone()) } else { None };
        let waiter = Waiter::new(seat.bell(), named);
        if let Wanted::Payload(known) = wanted {
            bus.registry.know(*known);
        }
        let mut inlet = bus.inlet.lock();
        let before = inlet.history.next_number();
        if inlet.doors == Doors::Closed {
            return (None, before);
        }
        inlet.observers.add(wanted.payload(), waiter.clone());
        drop(inlet);
        (Some(Waiting { bus, waiter }), before)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let gone = self.bus.inlet.lock().observers.remove(Arc::as_ptr(&self.waiter).cast());
        drop(gone);
        self.waiter.end();
    }
}

impl<E> fmt::Debug for Find<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Find")
            .field("bus", &self.bus.label())
            .field("past", &self.past)
            .field("window", &self.window)
            .field("future", &self.future)
            .field("child_of", &self.ancestor)
            .field("status", &self.status)
            .field("filters", &self.filters.len())
            .finish_non_exhaustive()
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
    fn find_048_neither_a_satisfied_nor_a_timed_out_find_leaves_a_waiter() {
        let bus = EventBus::new("waiters");
        let wait = || bus.find::<Tick>().past(false).future(Duration::from_millis(1));
        assert!(wait().first().is_none());
        assert_eq!(observers(&bus), 0);
        let found = std::thread::scope(|scope| {
            let finder = scope.spawn(|| bus.find::<Tick>().past(false).future_forever().first());
            while observers(&bus) == 0 {
                std::thread::yield_now();
            }
            bus.emit(Tick);
            finder.join()
        });
        assert!(found.is_ok_and(|found| found.is_some()));
        assert_eq!(observers(&bus), 0);
        assert!(wait().past(true).first().is_some());
        assert_eq!(observers(&bus), 0);
    }

    /// As a loop that asks again and again whether something long is through.
    #[test]
    fn a_find_that_gave_up_leaves_nothing_with_the_events_it_waited_for() {
        let bus = EventBus::new("polled");
        bus.pause();
        let events: Vec<_> = (0..3).map(|_| bus.emit(Tick)).collect();
        let completed = || bus.find::<Tick>().status(EventStatus::Completed).future(Duration::from_micros(10));
        for _ in 0..1000 {
            assert!(completed().first().is_none());
        }
        for event in &events {
            assert_eq!(event.any().state().lock().watchers(), 0);
        }
        bus.resume();
        assert!(bus.find::<Tick>().status(EventStatus::Completed).future(Duration::from_secs(10)).first().is_some());
    }
}
