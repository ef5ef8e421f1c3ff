//! Waiting outside of handlers: a park, in which a pump thread runs what is queued on its own buses.

use crate::bus::core::BusCore;
use crate::bus::thread::parking::Rested;
use crate::bus::wait::claimable;
use crate::bus::wait::waiting::{Waiting, deregister, register};
use crate::event::{AnyEvent, WaitError};
use crate::runtime::{RuntimeCore, Serves, Worker};
use crate::sync::Bell;
use crate::sys::clock::{self, NEVER, Tick};
use std::sync::Arc;

/// A pump thread runs what is queued on its manual buses meanwhile, in order: it may be what the event needs.
pub(super) fn wait_outside(
    event: &AnyEvent,
    worker: Option<&Arc<Worker>>,
    waiting: Waiting,
    deadline: Tick,
) -> Result<(), WaitError> {
    let bell = &worker.map_or_else(|| Arc::new(Bell::new()), |worker| Arc::clone(&worker.bell));
    if !register(event, bell) {
        return Ok(());
    }
    loop {
        if waiting.is_over(event) {
            deregister(event, bell);
            return Ok(());
        }
        if deadline != NEVER && clock::now() >= deadline {
            deregister(event, bell);
            return Err(WaitError::Timeout(waiting.timeout.unwrap_or_default()));
        }
        if let Some(limit) = worker.and_then(|worker| nobody_for(event, worker)) {
            deregister(event, bell);
            return Err(WaitError::NoThread(limit));
        }
        // With no thread left to run anything, the caller's own is one.
        match (runtime_of(event), worker) {
            (Some(runtime), Some(worker)) if deadline == NEVER && runtime.pool.is_deserted() => {
                runtime.pool.list(worker);
                let needs = || claimable::needs_of(event, true, &runtime);
                if worker.serve_if_starved(&runtime, needs) != Rested::Served {
                    worker.serve_or_park(deadline, Serves::All);
                }
            }
            (_, Some(worker)) => drop(worker.serve_or_park(deadline, Serves::All)),
            (_, None) => drop(bell.wait(deadline)),
        }
    }
}

/// The calling thread, whose stack is used up, is the only one that could run something that the event needs; of how many.
fn nobody_for(event: &AnyEvent, worker: &Arc<Worker>) -> Option<usize> {
    if !worker.is_deep() {
        return None;
    }
    let runtime = runtime_of(event)?;
    if runtime.pool.is_deserted() {
        return Some(runtime.pool.settings().hard_limit);
    }
    if !worker.has_pumps() || !worker.lacks_stack_to_serve() {
        return None;
    }
    let mine = |(target, index): (AnyEvent, usize)| {
        let identity = target.state().lock().deliveries.get(index).map(|d| Arc::clone(&d.bus));
        identity.and_then(|identity| BusCore::of(&identity)).is_some_and(|bus| bus.is_stuck(worker))
    };
    (worker.pump_is_awaited() || claimable::claimable(event, &runtime).into_iter().any(mine)).then_some(1)
}

fn runtime_of(event: &AnyEvent) -> Option<Arc<RuntimeCore>> {
    let bus = event.state().lock().deliveries.first().map(|d| Arc::clone(&d.bus))?;
    Some(Arc::clone(&BusCore::of(&bus)?.runtime))
}
