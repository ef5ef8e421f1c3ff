//! By which deliveries a bus's health is judged, as pure data.

use crate::event::BuildError;
use std::time::Duration;

/// The deliveries by which [`EventBus::health`](crate::EventBus::health) judges failures and times in the queue.
///
/// Set by [`BusBuilder::health_window`](crate::BusBuilder::health_window).
///
/// ```
/// use std::time::Duration;
/// use threadbus::{EventBus, HealthWindow};
///
/// let window = HealthWindow::new().deliveries(1000).age(Duration::from_secs(60)).at_least(50).leave_out_permanent();
/// let bus = EventBus::builder("api").health_window(window).build()?;
/// # Ok::<(), threadbus::BuildError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a setting does nothing until a builder has it"]
pub struct HealthWindow {
    pub(crate) deliveries: usize,
    pub(crate) age: Duration,
    pub(crate) at_least: usize,
    pub(crate) permanent: bool,
}

/// More would be memory without a use.
const MOST: usize = 100_000;

impl HealthWindow {
    /// The last 100 deliveries, none older than five minutes; no alert on failures below 20 of them.
    pub fn new() -> Self {
        HealthWindow { deliveries: 100, age: Duration::from_secs(300), at_least: 20, permanent: true }
    }

    /// How many of the last deliveries count, 1 to 100,000. Default 100.
    pub fn deliveries(mut self, count: usize) -> Self {
        self.deliveries = count;
        self
    }

    /// No delivery counts that was over, or left the queue, longer ago than this. Default five minutes.
    pub fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// With fewer deliveries than this in the window there is no alert on failures, since one of two is half of them. Default 20.
    pub fn at_least(mut self, count: usize) -> Self {
        self.at_least = count;
        self
    }

    /// Leaves failures by [`HandlerError::permanent`](crate::HandlerError::permanent) out: they are no sign that the bus is unwell, since the
    /// order was wrong, not the shop. Default: they count like others.
    pub fn leave_out_permanent(mut self) -> Self {
        self.permanent = false;
        self
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        if (1..=MOST).contains(&self.deliveries) {
            return Ok(());
        }
        let reason = format!("{} deliveries are not between 1 and {MOST}", self.deliveries);
        Err(BuildError { option: "health_window", reason })
    }
}

impl Default for HealthWindow {
    fn default() -> Self {
        HealthWindow::new()
    }
}
