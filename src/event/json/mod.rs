//! JSON as this crate knows it: how much of it is let in, what an event that came as JSON keeps (`origin`), and how a payload becomes JSON
//! and comes back (`lossless`, `whole`, and `unfit` for where it does not fit).

pub(super) mod lossless;
mod origin;
pub(super) mod unfit;
pub(super) mod whole;

pub(crate) use origin::Origin;
pub(crate) use whole::unsigned;

/// JSON as this crate reads and writes it.
pub type Json = serde_json::Value;

/// The fields of a JSON object.
pub(crate) type Fields = serde_json::Map<String, Json>;

/// How much JSON a bus takes for an event: what is more is refused, by an error that names the limit.
///
/// Set by [`BusBuilder::json_limits`](crate::BusBuilder::json_limits). They hold for what is read, and what would not be read again is not
/// written: [`Event::to_json`](crate::Event::to_json) goes by the limits of the event's bus, or by the defaults where those are larger. So a
/// journal reads what it wrote, also on a bus that takes less from others.
///
/// ```
/// use threadbus::{EventBus, JsonError, JsonLimits};
///
/// let bus = EventBus::builder("mirror").json_limits(JsonLimits::new().event_bytes(100)).build()?;
/// let text = format!(r#"{{"event_type": "Note", "text": "{}"}}"#, "x".repeat(100));
/// assert!(matches!(bus.emit_json_str(&text), Err(JsonError::TooLarge { limit: 100 })));
/// # Ok::<(), threadbus::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonLimits {
    pub(crate) event_bytes: usize,
    pub(crate) depth: usize,
    pub(crate) name_bytes: usize,
    pub(crate) path_buses: usize,
}

impl JsonLimits {
    /// The parser's own limit is 128, and there must be room for what our code puts around a value.
    const DEEPEST: usize = 120;

    /// All defaults.
    pub fn new() -> Self {
        JsonLimits { event_bytes: 16 << 20, depth: 120, name_bytes: 256, path_buses: 1024 }
    }

    /// Of each limit the larger one of two.
    pub(crate) fn or_larger(self, other: JsonLimits) -> Self {
        JsonLimits {
            event_bytes: self.event_bytes.max(other.event_bytes),
            depth: self.depth.max(other.depth),
            name_bytes: self.name_bytes.max(other.name_bytes),
            path_buses: self.path_buses.max(other.path_buses),
        }
    }

    /// Length of an event in bytes: of its text, or of its shortest text if it comes parsed. Default 16 MiB.
    pub fn event_bytes(mut self, bytes: usize) -> Self {
        self.event_bytes = bytes;
        self
    }

    /// How deep objects and arrays may be nested, the event itself included. Default 120, which is the most; more is taken as 120.
    pub fn depth(mut self, levels: usize) -> Self {
        self.depth = levels.min(Self::DEEPEST);
        self
    }

    /// Length in bytes of an event's type, version and correlation id, of its buses' labels, and of the names of its payload's fields.
    /// Default 256.
    pub fn name_bytes(mut self, bytes: usize) -> Self {
        self.name_bytes = bytes;
        self
    }

    /// On how many buses an event may have been. Default 1,024.
    pub fn path_buses(mut self, buses: usize) -> Self {
        self.path_buses = buses;
        self
    }
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self::new()
    }
}
