//! What a find looks for: the conditions, as users add them up.

use crate::bus::EventBus;
use crate::event::{AnyEvent, EventStatus, KnownType};
use std::any::TypeId;
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

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
    pub(super) bus: &'bus EventBus,
    pub(super) wanted: Wanted,
    pub(super) cast: fn(&AnyEvent) -> Option<E>,
    pub(super) past: bool,
    pub(super) window: Option<Duration>,
    pub(super) future: Option<Duration>,
    pub(super) ancestor: Option<AnyEvent>,
    pub(super) status: Option<EventStatus>,
    pub(super) filters: Vec<Filter<'bus, E>>,
    /// How often a filter panicked.
    pub(super) panics: Cell<u64>,
}

pub(super) type Filter<'bus, E> = Box<dyn Fn(&E) -> bool + 'bus>;

/// Which types of events.
pub(super) enum Wanted {
    Payload(KnownType),
    Named(Box<str>),
    Any,
}

impl<'bus, E> Find<'bus, E> {
    /// For the snapshot of what threads wait for.
    pub(super) fn in_words(&self) -> String {
        let what = match &self.wanted {
            Wanted::Payload(known) => (known.name)(),
            Wanted::Named(name) => name,
            Wanted::Any => "any event",
        };
        format!("waits to find {what} on {}", self.bus.label())
    }

    pub(super) fn new(bus: &'bus EventBus, wanted: Wanted, cast: fn(&AnyEvent) -> Option<E>) -> Self {
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

    /// Only events that `keep` wants. Evaluated on the finding thread, outside of all locks; several filters must all agree. It may not block: a wait
    /// in it answers `Deadlock`. What takes it long is not cut short by [`future`](Find::future): the events that came in time are looked at.
    ///
    /// A panic in it is no match, and the find goes on: another event may be one. The log tells of the first panic at once, as an error, and of how
    /// many there were when the find ends.
    pub fn filter(mut self, keep: impl Fn(&E) -> bool + 'bus) -> Self {
        self.filters.push(Box::new(keep));
        self
    }
}

impl Wanted {
    /// As far as can be said without running the user's code.
    pub(super) fn may_be(&self, event: &AnyEvent) -> bool {
        match self {
            Wanted::Payload(known) => event.body().payload_type() == Some(known.payload),
            Wanted::Named(_) | Wanted::Any => true,
        }
    }

    pub(super) fn payload(&self) -> Option<TypeId> {
        match self {
            Wanted::Payload(known) => Some(known.payload),
            Wanted::Named(_) | Wanted::Any => None,
        }
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
