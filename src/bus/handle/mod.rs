//! The bus as users hold it.

pub(crate) mod build;
pub(crate) mod builder;
pub(crate) mod describe;
pub(crate) mod emits;
pub(crate) mod for_runtime;
pub(crate) mod life;
#[cfg(threadbus_shuttle)]
pub(crate) mod model_hooks;
pub(crate) mod register;
pub(crate) mod shut_down;
pub(crate) mod shutdown;
pub(crate) mod untyped;

use crate::bus::core::{Doors, EventBus, WeakBus};
use crate::bus::handle::builder::BusBuilder;
use crate::bus::parts::settings::BusOptions;
use crate::event::{AnyEvent, BusId, BusIdentity, EmitError, EventId};
use crate::runtime::Runtime;
use crate::sync::refused;
use std::fmt;
use std::sync::Arc;

impl EventBus {
    /// A closed stand-in for a bus that is gone.
    pub(crate) fn stand_in(identity: Option<&BusIdentity>, refused: Option<&EmitError>) -> EventBus {
        let refusing = match refused {
            Some(
                EmitError::QueueFull { bus, .. }
                | EmitError::SubscriptionFull { bus, .. }
                | EmitError::RateLimited { bus }
                | EmitError::HistoryFull { bus, .. }
                | EmitError::NoHandler { bus, .. },
            )
            | Some(
                EmitError::Closed { bus }
                | EmitError::DuplicateId { bus, .. }
                | EmitError::NilId { bus }
                | EmitError::Refused { bus, .. },
            ) => bus.rsplit_once('#').map(|(name, _)| name),
            _ => None,
        };
        let name = identity.map(|identity| identity.name.as_str()).or(refusing);
        let mut builder = BusBuilder::new(name.unwrap_or("none"));
        if let Some(identity) = identity {
            builder = builder.id(identity.id).refusals(&identity.refusals);
        }
        builder.make(&Runtime::global(), Doors::Closed)
    }

    /// A bus with all defaults, on the global runtime. Two buses may have the same name; their labels differ.
    ///
    /// An empty name becomes `EventBus`.
    pub fn new(name: &str) -> EventBus {
        let name = if name.is_empty() { "EventBus" } else { name };
        BusBuilder::new(name).make(&Runtime::global(), Doors::Open)
    }

    /// Settles the options first.
    pub fn builder(name: &str) -> BusBuilder {
        BusBuilder::new(name)
    }

    /// Its id, a UUIDv7 unless the builder was given one.
    pub fn id(&self) -> BusId {
        self.core().identity.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.core().identity.name
    }

    /// `Name#last4`, where the last four are those of the id.
    pub fn label(&self) -> &str {
        self.core().label()
    }

    /// What a handler closure should capture, to keep the bus from keeping itself alive.
    pub fn downgrade(&self) -> WeakBus {
        WeakBus::of(self.core())
    }

    /// Whose threads run its handlers.
    pub fn runtime(&self) -> Runtime {
        Runtime { core: Arc::clone(&self.core().runtime) }
    }

    /// What the builder settled on.
    pub fn options(&self) -> &BusOptions {
        &self.core().options
    }

    /// The event with this id, if the history still has it.
    pub fn event(&self, id: EventId) -> Option<AnyEvent> {
        self.core().inlet.lock().history.get(id).cloned()
    }

    /// Takes an event out of the history; if it is not done, it goes on.
    pub fn take(&self, id: EventId) -> Option<AnyEvent> {
        self.core().inlet.lock().history.remove(id)
    }

    /// What the history has, in the order in which the bus took it.
    ///
    /// That is the order of the ids, and without priorities of a serial bus's runs, also where several threads emit at once. Ids that were set or came from another bus have
    /// an order of their own, and so have all on a bus with a middleware, which learns the id before the event is taken.
    pub fn history(&self) -> Vec<AnyEvent> {
        self.core().inlet.lock().history.iter().cloned().collect()
    }

    /// How many events the history has.
    pub fn history_len(&self) -> usize {
        self.core().inlet.lock().history.len()
    }

    /// Events queued and not started.
    pub fn pending(&self) -> usize {
        refused::ask_again();
        self.core().pending()
    }
}

impl fmt::Debug for EventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBus")
            .field("label", &self.label())
            .field("pending", &self.pending())
            .field("permits", &format_args!("{}", self.core().describe_permits()))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WeakBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakBus").field("label", &self.label()).finish_non_exhaustive()
    }
}
