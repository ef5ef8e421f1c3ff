//! A bus, of what its builder settled.

use crate::bus::core::{Alive, BusCore, Doors, EventBus, Parts};
use crate::bus::end::deadline::OverdueHandlers;
use crate::bus::handle::builder::BusBuilder;
use crate::bus::parts::manual::Manual;
use crate::bus::thread::aside;
use crate::event::{BuildError, BusId, BusIdentity, Fairness, HomeBus};
use crate::rules::{BusDefaults, TokenBucket};
use crate::runtime::{Runtime, Worker};
use crate::sys::random::IdMaker;
use crate::sys::{clock, random};
use std::sync::{Arc, Weak};

impl BusBuilder {
    /// The bus.
    ///
    /// # Errors
    /// [`BuildError`] naming the option: `name` if it is empty, `id` if a live bus of the runtime has it, `queue_capacity` or `max_in_flight` if it is 0,
    /// `health_window` if it holds no delivery or more than 100,000, `fairness` if all weights are 0, `max_emit_rate` if the rate is not a number above 0 or the burst is 0, `on_ready` if the bus is not
    /// manual.
    pub fn build(self) -> Result<EventBus, BuildError> {
        if self.name.is_empty() {
            return Err(BuildError { option: "name", reason: "it is empty".to_owned() });
        }
        if self.options.queue_capacity == Some(0) {
            let reason = "a queue of 0 events could take none".to_owned();
            return Err(BuildError { option: "queue_capacity", reason });
        }
        if self.options.max_in_flight == Some(0) {
            let reason = "a bus that has no event in flight could run none".to_owned();
            return Err(BuildError { option: "max_in_flight", reason });
        }
        if self.options.fairness == (Fairness::Weighted { high: 0, normal: 0, low: 0 }) {
            let reason = "with all weights 0 no band could have a share".to_owned();
            return Err(BuildError { option: "fairness", reason });
        }
        self.options.health_window.check()?;
        if self.on_ready.0.is_some() && !self.options.manual {
            let reason = "only a manual bus waits for its application".to_owned();
            return Err(BuildError { option: "on_ready", reason });
        }
        let rate = self.max_emit_rate.map(|(rate, burst)| TokenBucket::new(rate, burst)).transpose()?;
        let runtime = self.runtime.clone().unwrap_or_else(Runtime::global);
        let taken = |id: BusId| runtime.core.buses.lock().get(&id).is_some_and(|bus| bus.link.strong_count() > 0);
        if let Some(id) = self.id.filter(|id| taken(*id)) {
            return Err(BuildError { option: "id", reason: format!("a live bus already has the id {id}") });
        }
        Ok(self.make_with(&runtime, Doors::Open, rate))
    }

    /// For names that cannot be wrong.
    pub(crate) fn make(self, runtime: &Runtime, doors: Doors) -> EventBus {
        self.make_with(runtime, doors, None)
    }

    fn make_with(self, runtime: &Runtime, doors: Doors, rate: Option<TokenBucket>) -> EventBus {
        let id = self.id.unwrap_or_else(|| BusId(random::uuid_v7(clock::unique_stamp(clock::now()))));
        let label: Arc<str> = Arc::from(format!("{}#{}", self.name, id.last4()));
        let BusBuilder { name, options, retry, middlewares, on_ready, refusals, alone, .. } = self;
        let pump = options.manual.then(Worker::current).flatten();
        let manual = options.manual.then(|| Box::new(Manual::new(pump.as_deref(), on_ready.0, alone)));
        let defaults = BusDefaults {
            event_concurrency: options.event_concurrency,
            handler_concurrency: options.handler_concurrency,
            completion: options.handler_completion,
            handler_timeout: options.handler_timeout,
            event_timeout: options.event_timeout,
            handler_slow_after: options.handler_slow_after,
            event_slow_after: options.event_slow_after,
            retry,
            manual: options.manual,
        };
        aside::surround_loggers();
        let core = Arc::new_cyclic(|weak: &Weak<BusCore>| {
            let link: Weak<dyn HomeBus> = weak.clone();
            let untold = (!middlewares.is_empty()).then(Arc::default);
            let identity = Arc::new(BusIdentity { id, name, label, link, ids: IdMaker::new(), untold, refusals });
            let runtime = Arc::clone(&runtime.core);
            BusCore::new(Parts { identity, options, defaults, runtime, doors, rate, middlewares, manual })
        });
        runtime.core.watch.tell(&OverdueHandlers);
        if let Some(pump) = pump {
            let weak = Arc::downgrade(&core);
            pump.add_pump(weak);
            runtime.core.pool.list(&pump);
        }
        if doors == Doors::Open {
            runtime.core.add_bus(&core.identity);
        }
        let alive = Alive::new(&core);
        let _ = core.alive.set(Arc::downgrade(&alive));
        EventBus::of(core, Some(alive))
    }
}
