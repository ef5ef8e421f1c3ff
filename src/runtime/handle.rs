//! The public handle of a runtime.

use crate::event::{AnyEvent, BuildError};
use crate::runtime::pool::PoolSettings;
use crate::runtime::shared::RuntimeCore;
use crate::runtime::stats::RuntimeStats;
use crate::runtime::worker::Worker;
use crate::sync::Token;
use crate::sys::unwind;
use std::fmt;
use std::sync::Arc;

/// The shared worker pool, the deadline watch and the global-serial locks. Buses of one runtime know each other.
///
/// [`Runtime::global`] is the one that [`EventBus::new`](crate::EventBus::new) uses. A runtime of one's own has its own threads. When its last
/// handle has gone, and the last of its buses, they leave as soon as they have no work, without their keep-alive; [`Runtime::shutdown`]
/// waits for that. Two threads beside those of the pool keep deadlines and schedules, and are there only while there are any.
///
/// A thread that the system refuses for those is asked for again, while it is needed: by every emit and every wait on any bus, also by
/// threads that are parked in a wait. Until then timeouts and schedules are late.
///
/// ```
/// use threadbus::{EventBus, Runtime};
///
/// let runtime = Runtime::builder().max_threads(4).thread_name("jobs").build()?;
/// let bus = EventBus::builder("jobs").runtime(&runtime).build()?;
/// assert_eq!(bus.runtime().stats().max_threads, 4);
/// # Ok::<(), threadbus::BuildError>(())
/// ```
#[derive(Clone)]
pub struct Runtime {
    pub(crate) core: Arc<RuntimeCore>,
}

impl Runtime {
    /// Changes how many threads may run user code at once. Lowering it ends no running handler; fewer are started from now on.
    ///
    /// # Errors
    /// [`BuildError`] naming `max_threads` if it is 0 or above the hard limit; nothing changes then.
    pub fn set_max_threads(&self, max: usize) -> Result<(), BuildError> {
        check_threads(max, self.core.pool.settings().hard_limit)?;
        self.core.pool.set_max_threads(max);
        Ok(())
    }

    /// What the threads do at this moment.
    pub fn stats(&self) -> RuntimeStats {
        self.core.pool.stats()
    }

    pub(super) fn new(settings: PoolSettings, max_wait_depth: usize) -> Runtime {
        unwind::note_panics::<Worker>();
        Runtime { core: Arc::new(RuntimeCore::new(settings, max_wait_depth)) }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |token: Token| format!("{:x}/{:x}", token.stamp, token.part);
        let (event, handler) = {
            let global = self.core.global.lock();
            (global.event.describe(&name), global.handler.describe(&name))
        };
        let parked: Vec<_> = self.core.parked.lock().iter().map(|(id, p)| (*id, p.event.clone(), p.in_order)).collect();
        let stack = |id| {
            let slots = self.core.pool.worker(id).map(|worker| worker.slots()).unwrap_or_default();
            slots
                .iter()
                .map(|slot| format!("{}/{}", slot.event, slot.running.invocation))
                .collect::<Vec<_>>()
                .join(" > ")
        };
        let wait = |(id, event, in_order): (u64, AnyEvent, bool)| {
            format!("{} waits {}for {event}", stack(id), if in_order { "in order " } else { "" })
        };
        f.debug_struct("Runtime")
            .field("stats", &self.stats())
            .field("waits", &parked.into_iter().map(wait).collect::<Vec<_>>())
            .field("event permit", &format_args!("{event}"))
            .field("handler permit", &format_args!("{handler}"))
            .finish_non_exhaustive()
    }
}

pub(super) fn check_threads(max: usize, hard_limit: usize) -> Result<(), BuildError> {
    if max == 0 {
        return Err(BuildError { option: "max_threads", reason: "0 threads could run nothing".to_owned() });
    }
    if max > hard_limit {
        return Err(BuildError {
            option: "max_threads",
            reason: format!("{max} is above the hard limit of {hard_limit}"),
        });
    }
    Ok(())
}
