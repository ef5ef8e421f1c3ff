//! What may be set for one handler, and what a time limit looks like at each layer of options.

use crate::event::{HandlerConcurrency, Limit, Retry};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A time limit at one layer of options. Turning it off is different from not mentioning it: `Off` hides the layers below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Knob {
    /// Not mentioned here: the next layer decides.
    #[default]
    Unset,
    /// Explicitly without limit.
    Off,
    /// This long.
    After(Duration),
}

impl Knob {
    /// This setting, or the other one where this says nothing.
    pub(crate) fn or(self, other: Knob) -> Knob {
        match self {
            Knob::Unset => other,
            Knob::Off | Knob::After(_) => self,
        }
    }

    /// The limit once all layers are joined; a knob that nobody touched is no limit.
    pub(crate) fn get(self) -> Option<Duration> {
        match self {
            Knob::Unset | Knob::Off => None,
            Knob::After(after) => Some(after),
        }
    }
}

/// A bus has an answer for every knob: `None` there means off.
impl From<Option<Duration>> for Knob {
    fn from(limit: Option<Duration>) -> Self {
        limit.map_or(Knob::Off, Knob::After)
    }
}

/// What is special about one handler.
///
/// The event's own options go before it, the bus's settings after it.
///
/// ```
/// use std::time::Duration;
/// use threadbus::*;
///
/// let options = HandlerOptions::new()
///     .name("fetch")
///     .timeout(Duration::from_millis(500))
///     .concurrency(HandlerConcurrency::Parallel)
///     .retry(Retry::attempts(3).exponential(Duration::from_millis(50), 2.0));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
pub struct HandlerOptions {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) timeout: Knob,
    pub(crate) slow_after: Knob,
    pub(crate) concurrency: Option<HandlerConcurrency>,
    pub(crate) retry: Option<Retry>,
    pub(crate) limit: Option<Limit>,
    pub(crate) on_end: Option<EndHook>,
    /// How much longer an attempt may take, for work that begins elsewhere.
    pub(crate) allowance: Duration,
}

/// What to do when a registration is over, on the thread that ends it, with nothing locked. The handler itself may be dropped later: a thread that
/// has just run it may still hold it.
#[derive(Clone)]
pub(crate) struct EndHook(pub(crate) Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for EndHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndHook")
    }
}

impl HandlerOptions {
    /// For rooms above that keep something for a registration.
    #[cfg(all(feature = "process", unix))]
    pub(crate) fn on_end(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_end = Some(EndHook(Arc::new(hook)));
        self
    }

    /// For rooms above whose handlers' work begins elsewhere: so much more time each attempt has until it is said to have begun.
    #[cfg(all(feature = "process", unix))]
    pub(crate) fn allowance(mut self, allowance: Duration) -> Self {
        /// Some ten years: a handler's own limit stays one.
        const LONGEST: Duration = Duration::from_secs(300_000_000);
        self.allowance = allowance.min(LONGEST);
        self
    }

    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Name in labels, logs and JSON. Default: the handler's type name; for closures their source location.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(Arc::from(name.into()));
        self
    }

    /// Cap on each attempt. Default: the bus's `handler_timeout`, which is 60 s. Zero is up at once: the handler is not called.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Knob::After(after);
        self
    }

    /// No cap on an attempt, whatever the bus says.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = Knob::Off;
        self
    }

    /// Warns in the log when an invocation is still running after this time. Default: the bus's, which is 30 s.
    pub fn slow_after(mut self, after: Duration) -> Self {
        self.slow_after = Knob::After(after);
        self
    }

    /// How many handlers may run beside this one. Default: the bus's, which is [`HandlerConcurrency::BusSerial`].
    pub fn concurrency(mut self, mode: HandlerConcurrency) -> Self {
        self.concurrency = Some(mode);
        self
    }

    /// How a failed attempt is tried again. Default: the bus's, which is one attempt.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// How many invocations may run at once among all handlers that share this limit. Default: as many as the concurrency modes allow.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventOptions;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn off_hides_the_layers_below_and_unset_does_not() {
        let after = Knob::After(SECOND);
        assert_eq!(Knob::Unset.or(after), after);
        assert_eq!(Knob::Off.or(after), Knob::Off);
        assert_eq!(after.or(Knob::Off), after);
        assert_eq!(Knob::Unset.or(Knob::Unset).get(), None);
        assert_eq!(Knob::Off.get(), None);
        assert_eq!(after.get(), Some(SECOND));
        assert_eq!(Knob::from(None), Knob::Off);
        assert_eq!(Knob::from(Some(SECOND)), after);
    }

    #[test]
    fn the_last_setter_wins_between_timeout_and_no_timeout() {
        assert_eq!(EventOptions::new().timeout(SECOND).no_timeout().timeout, Knob::Off);
        let options = EventOptions::new().no_timeout().timeout(SECOND);
        assert_eq!((options.timeout, options.handler_timeout), (Knob::After(SECOND), Knob::Off));
        assert_eq!(HandlerOptions::new().no_timeout().timeout(SECOND).timeout, Knob::After(SECOND));
    }
}
