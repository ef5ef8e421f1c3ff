//! Looking for events: in what a bus remembers, and in what it is about to take.
//!
//! A find that waits notes in one section of the inlet's lock how far the history reaches and registers its waiter, so that no event falls
//! between the two. Everything that may run the user's code (patterns, filters) or let go of events happens outside of that lock, on the
//! finding thread. A find that does not wait leaves no trace; one that waits is an observer of its bus until it returns.
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

mod query;
mod search;
mod waiter;

pub use query::Find;

use crate::bus::EventBus;
use crate::event::{AnyEvent, Event, KnownType, Payload};
use query::Wanted;

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

    /// Looks for events of the type named `pattern`, whatever their payload is, or of every type: `*`. Else as [`find`](EventBus::find).
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
