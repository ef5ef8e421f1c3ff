//! What the buses of one runtime share.

use crate::event::{BusId, BusIdentity};
use crate::runtime::asleep::Asleep;
use crate::runtime::crew::Crew;
use crate::runtime::limit_names::LimitNames;
use crate::runtime::permits::Global;
use crate::runtime::pool::{Pool, PoolSettings};
use crate::runtime::readers::Readers;
use crate::runtime::waits::{ParkedWait, Sit, SitFor};
use crate::runtime::watch::Watch;
use crate::sync::Bell;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sys::{planted, thread};
use std::collections::HashMap;
use std::sync::Arc;

/// What the handles and the buses of one runtime share.
pub(crate) struct RuntimeCore {
    pub(crate) crew: Arc<Crew>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) global: Mutex<Global>,
    /// Handlers that wait for an event, parked, by worker id: edges of the wait graph.
    pub(crate) parked: Mutex<HashMap<u64, ParkedWait>>,
    /// How many of those are foreign.
    pub(crate) foreign_count: AtomicUsize,
    /// The length of `parked`, so that an emit reads one atomic to know that no handler waits.
    pub(crate) parked_count: AtomicUsize,
    /// Handlers that wait for something that is no event, by worker id.
    pub(crate) sits: Mutex<HashMap<u64, Sit>>,
    /// The length of `sits`.
    pub(crate) sits_count: AtomicUsize,
    /// Buses that are neither gone nor shut down.
    pub(crate) buses: Mutex<HashMap<BusId, Arc<BusIdentity>>>,
    /// Readers of subscriptions to its buses.
    pub(crate) readers: Mutex<Readers>,
    pub(crate) limits: LimitNames,
    /// Holders of places under limits that wait.
    pub(crate) asleep: Asleep,
    /// Some handler has had a limit: waits have to look at them.
    pub(crate) has_limits: AtomicBool,
    /// See [`RuntimeBuilder::max_wait_depth`](crate::RuntimeBuilder::max_wait_depth).
    pub(crate) max_wait_depth: u32,
}

impl RuntimeCore {
    pub(super) fn new(settings: PoolSettings, max_wait_depth: usize) -> RuntimeCore {
        let crew = Arc::new(Crew::default());
        let watch = Watch::new(&settings.thread_name, &crew);
        RuntimeCore {
            pool: Pool::new(settings, &watch, &crew),
            crew,
            watch,
            global: Mutex::new(Global::new()),
            parked: Mutex::new(HashMap::new()),
            foreign_count: AtomicUsize::new(0),
            parked_count: AtomicUsize::new(0),
            sits: Mutex::new(HashMap::new()),
            sits_count: AtomicUsize::new(0),
            buses: Mutex::new(HashMap::new()),
            readers: Mutex::default(),
            limits: LimitNames::default(),
            asleep: Asleep::default(),
            has_limits: AtomicBool::new(false),
            max_wait_depth: u32::try_from(max_wait_depth).unwrap_or(u32::MAX),
        }
    }

    /// Waiting handlers that `which` picks look again: at what they may claim, or whether their wait can ever end.
    pub(crate) fn ring_parked(&self, which: impl Fn(&ParkedWait) -> bool) {
        let bells: Vec<Arc<Bell>> = {
            let parked = self.parked.lock();
            parked.values().filter(|wait| which(wait)).map(|wait| Arc::clone(&wait.bell)).collect()
        };
        bells.iter().for_each(|bell| bell.ring());
        self.ring_sits();
    }

    /// Handlers that wait for a bus to be idle look again whether that can ever be.
    pub(crate) fn ring_sits(&self) {
        if self.sits_count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let bells: Vec<Arc<Bell>> = {
            let sits = self.sits.lock();
            let idle = sits.values().filter(|sit| matches!(sit.what, SitFor::Idle(_)));
            idle.map(|sit| Arc::clone(&sit.bell)).collect()
        };
        bells.iter().for_each(|bell| bell.ring());
    }

    /// With a bus there, threads may wait for work again.
    pub(crate) fn add_bus(&self, bus: &Arc<BusIdentity>) {
        let mut buses = self.buses.lock();
        buses.insert(bus.id, Arc::clone(bus));
        self.crew.flow();
    }

    /// A bus is not there any more; another one may have its id by now.
    pub(crate) fn remove_bus(&self, bus: &Arc<BusIdentity>) {
        let mut buses = self.buses.lock();
        if buses.get(&bus.id).is_some_and(|other| Arc::ptr_eq(other, bus)) {
            buses.remove(&bus.id);
        }
    }

    /// All threads that are there leave as soon as they have no work, without waiting for more.
    pub(crate) fn let_go(&self) {
        if planted("let_go_before_ebb") {
            self.pool.let_go();
            self.watch.let_go();
        }
        {
            let buses = self.buses.lock();
            if buses.is_empty() { self.crew.ebb() } else { self.crew.turn() }
        }
        if !planted("let_go_before_ebb") {
            self.pool.let_go();
            self.watch.let_go();
        }
    }
}

impl Drop for RuntimeCore {
    fn drop(&mut self) {
        if !thread::is_model_over() {
            self.let_go();
        }
    }
}
