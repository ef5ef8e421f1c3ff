//! A thread of the pool parks: it gives up its place meanwhile, and runs on top of its wait what no other thread could.

use crate::bus::frame;
use crate::runtime::{RuntimeCore, Serves, Worker};
use crate::sys::clock::{NEVER, Tick};
use crate::sys::sync::atomic::Ordering;
use crate::sys::unwind;
use std::sync::Arc;

impl Worker {
    /// Waits for its bell outside of handlers: a thread of the pool gives up its place meanwhile.
    pub(crate) fn sit(self: &Arc<Self>, runtime: &RuntimeCore, until: Tick) {
        if self.is_outside() {
            self.rest(until, Serves::All);
        } else {
            self.suspended(runtime, until, || self.rest(until, Serves::All));
        }
    }

    /// Inside of them, for something that no handler is needed for: nothing runs on top, so what the handler holds stays in its hand.
    pub(crate) fn sit_still(self: &Arc<Self>, runtime: &RuntimeCore, until: Tick) {
        runtime.pool.suspend(self);
        self.listen(until);
        runtime.pool.resume(self);
    }

    /// Gives up the place in the pool for the length of a park, which says whether anything ran in it.
    ///
    /// True if so: when no other thread is left, this one runs a job instead of the park; not if it must be back by some time.
    pub(crate) fn suspended(self: &Arc<Self>, runtime: &RuntimeCore, until: Tick, park: impl FnOnce() -> bool) -> bool {
        runtime.pool.suspend(self);
        let served = until == NEVER && self.serve_if_starved(runtime) || park();
        runtime.pool.resume(self);
        served
    }

    /// What a thread about to park does first: when nobody else can, it runs a job itself. True if it has.
    pub(crate) fn serve_if_starved(self: &Arc<Self>, runtime: &RuntimeCore) -> bool {
        if self.is_deep() {
            return false;
        }
        let Some(job) = runtime.pool.take_if_starved(self) else { return false };
        log::debug!(target: "threadbus", "no thread is left: {} runs a job inside its wait", self.name);
        if let Err(panic) = apart(runtime, self, || job.run(self)) {
            log::error!(target: "threadbus", "a worker survived a panic outside of handlers: {panic}");
        }
        runtime.pool.suspend(self);
        true
    }
}

/// Runs on top of a park what has nothing to do with what is below on this stack, nor with what that is parked for: it is no wait, and no
/// limit, of what runs here.
pub(crate) fn apart(runtime: &RuntimeCore, worker: &Worker, body: impl FnOnce()) -> Result<(), String> {
    let parked = runtime.parked_count.load(Ordering::SeqCst) > 0;
    let below = if parked { runtime.parked.lock().remove(&worker.id) } else { None };
    let floor = frame::local(|local| std::mem::replace(&mut local.floor, local.frames.len()));
    let ran = unwind::catch(body);
    frame::local(|local| local.floor = floor.unwrap_or(0));
    if let Some(below) = below {
        runtime.parked.lock().insert(worker.id, below);
    }
    ran
}
