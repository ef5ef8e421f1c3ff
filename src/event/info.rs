//! A registration: what users see of it, and what the bus runs.

use crate::event::HandlerId;
use crate::sys::clock::{self, Stamp};
use crate::sys::random;
use crate::sys::sync::atomic::{AtomicBool, Ordering};
use chrono::{DateTime, Utc};
use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::sync::{Arc, OnceLock};

/// One registration of a handler on a bus. Dropping it changes nothing; [`EventBus::off`](crate::EventBus::off) ends it.
///
/// ```
/// use threadbus::{Event, EventBus, Payload};
/// struct Tick;
/// impl Payload for Tick { type Output = (); }
///
/// let bus = EventBus::new("clock");
/// let info = bus.on(|_: &Event<Tick>| {});
/// assert_eq!(info.pattern(), "Tick");
/// assert!(info.is_registered());
/// bus.off(&info);
/// assert!(!info.is_registered());
/// ```
#[derive(Clone)]
pub struct HandlerInfo(Arc<Registration>);

struct Registration {
    id: HandlerId,
    /// Unset: its source location, not spelled yet.
    name: OnceLock<Cow<'static, str>>,
    pattern: Cow<'static, str>,
    bus: Arc<str>,
    location: &'static Location<'static>,
    registered_at: Stamp,
    registered: AtomicBool,
}

impl HandlerInfo {
    pub(crate) fn new(
        name: Option<Cow<'static, str>>,
        pattern: Cow<'static, str>,
        bus: Arc<str>,
        location: &'static Location<'static>,
        registered_at: Stamp,
    ) -> Self {
        let id = HandlerId(random::uuid_v7(registered_at));
        let registered = AtomicBool::new(true);
        let name = name.map_or_else(OnceLock::new, OnceLock::from);
        HandlerInfo(Arc::new(Registration { id, name, pattern, bus, location, registered_at, registered }))
    }

    /// The registration's own id, a UUIDv7.
    pub fn id(&self) -> HandlerId {
        self.0.id
    }

    /// The name given in [`HandlerOptions::name`](crate::HandlerOptions::name), else the handler's type name, for closures their source location.
    pub fn name(&self) -> &str {
        let location = self.0.location;
        self.0.name.get_or_init(|| format!("{}:{}", location.file(), location.line()).into())
    }

    /// `name#last4`, where the last four are those of the id.
    pub fn label(&self) -> String {
        format!("{}#{}", self.name(), self.0.id.last4())
    }

    /// The event type it handles, or `*`.
    pub fn pattern(&self) -> &str {
        &self.0.pattern
    }

    pub(crate) fn shared_pattern(&self) -> Cow<'static, str> {
        self.0.pattern.clone()
    }

    /// `Name#last4` of the bus it was registered on.
    pub fn bus_label(&self) -> &str {
        &self.0.bus
    }

    /// Where in the source it was registered.
    pub fn location(&self) -> &'static Location<'static> {
        self.0.location
    }

    /// When it was registered.
    pub fn registered_at(&self) -> DateTime<Utc> {
        clock::to_utc(self.0.registered_at)
    }

    /// False once `off` has ended it, or its bus is closed.
    pub fn is_registered(&self) -> bool {
        self.0.registered.load(Ordering::Acquire)
    }

    /// True for the one call that ended it.
    pub(crate) fn end(&self) -> bool {
        self.0.registered.swap(false, Ordering::AcqRel)
    }
}

impl fmt::Debug for HandlerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerInfo")
            .field("label", &self.label())
            .field("pattern", &self.pattern())
            .field("bus", &self.bus_label())
            .field("registered", &self.is_registered())
            .finish_non_exhaustive()
    }
}
