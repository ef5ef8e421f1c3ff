//! A thread of the pool parks: it is not busy meanwhile, and runs on top of its wait what that needs and no other thread could run.

use crate::bus::thread::frame;
use crate::runtime::{Needs, RuntimeCore, Serves, Worker};
use crate::sys::clock::{NEVER, Tick};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{logging, unwind};
use std::sync::Arc;

/// What became of a park.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rested {
    /// It ran something instead.
    Served,
    /// It was rung, or its time is over.
    Rung,
    /// No thread can ever run what it waits for.
    NoThread,
}

impl Worker {
    /// Waits for its bell outside of handlers, for what `needs` says: a thread of the pool is not busy meanwhile.
    pub(crate) fn park_outside(self: &Arc<Self>, runtime: &RuntimeCore, until: Tick, needs: impl FnOnce() -> Needs) {
        self.park_and_look(runtime, until, NEVER, needs);
    }

    /// Comes back at `look` as well, which is no time that it must be back by: it may serve meanwhile.
    pub(crate) fn park_and_look(
        self: &Arc<Self>,
        runtime: &RuntimeCore,
        until: Tick,
        look: Tick,
        needs: impl FnOnce() -> Needs,
    ) {
        let rest = || self.serve_or_park(until.min(look), Serves::All);
        if self.is_outside() {
            rest();
        } else {
            self.suspended(runtime, until, needs, rest);
        }
    }

    /// Inside of them, for something that no handler is needed for: nothing runs on top, so what the handler holds stays in its hand.
    pub(crate) fn park_inside(self: &Arc<Self>, runtime: &RuntimeCore, until: Tick) {
        self.serves.store(false, Ordering::Relaxed);
        runtime.pool.suspend(self);
        self.park(until);
        runtime.pool.resume(self);
    }

    /// A thread of the pool is not busy for the length of a park, which says whether anything ran in it.
    ///
    /// When no other thread is left, this one runs a job instead, if its wait needs that; not if it must be back by some time.
    pub(crate) fn suspended(
        self: &Arc<Self>,
        runtime: &RuntimeCore,
        until: Tick,
        needs: impl FnOnce() -> Needs,
        park: impl FnOnce() -> bool,
    ) -> Rested {
        self.serves.store(until == NEVER, Ordering::Relaxed);
        runtime.pool.suspend(self);
        let stuck = if until == NEVER { self.serve_if_starved(runtime, needs) } else { Rested::Rung };
        let rested = match stuck {
            Rested::Rung if park() => Rested::Served,
            Rested::Rung if self.has_no_thread.swap(false, Ordering::SeqCst) => Rested::NoThread,
            other => other,
        };
        runtime.pool.resume(self);
        rested
    }

    /// What a thread about to park does first: when nobody else can, it runs a job that its wait needs. `Rung`: there is no such job, or
    /// somebody else can.
    pub(crate) fn serve_if_starved(self: &Arc<Self>, runtime: &RuntimeCore, needs: impl FnOnce() -> Needs) -> Rested {
        self.has_no_thread.store(false, Ordering::SeqCst);
        if !runtime.pool.is_starved() {
            return Rested::Rung;
        }
        let needs = needs();
        let no_stack = if needs.last_resort { self.is_out_of_stack() } else { self.is_deep() };
        if !no_stack && let Some(job) = runtime.pool.take_needed(self, &needs) {
            // Once for each job it runs: where a logger emits, every record is such a job.
            if !self.told_starved.swap(true, Ordering::Relaxed) {
                let name = self.name.clone();
                logging::later!(Debug, move || format!("no thread is left: {name} runs a job that its wait needs"));
            }
            let before = self.on_top.swap(true, Ordering::Relaxed);
            if let Err(panic) = apart(runtime, self, || job.run(self)) {
                unwind::tell_outside_of_handlers("a worker", panic);
            }
            self.on_top.store(before, Ordering::Relaxed);
            runtime.pool.suspend(self);
            return Rested::Served;
        }
        if !self.is_outside() && runtime.pool.is_stuck(self, &needs) { Rested::NoThread } else { Rested::Rung }
    }
}

/// Runs on top of a park what has nothing to do with what is below on this stack, nor with what that is parked for: it is no wait, and no
/// limit, of what runs here.
pub(crate) fn apart(runtime: &RuntimeCore, worker: &Worker, body: impl FnOnce()) -> Result<(), String> {
    let parked = runtime.parked_count.load(Ordering::SeqCst) > 0;
    let below = if parked { runtime.parked.lock().remove(&worker.id) } else { None };
    let sits = runtime.sits_count.load(Ordering::SeqCst) > 0;
    let sat = if sits { runtime.sits.lock().remove(&worker.id) } else { None };
    let before = frame::local(|local| {
        local.apart += 1;
        let callbacks = std::mem::take(&mut local.callbacks);
        (std::mem::replace(&mut local.floor, local.frames.len()), callbacks)
    });
    let ran = unwind::catch(body);
    frame::local(|local| {
        local.apart -= 1;
        (local.floor, local.callbacks) = before.unwrap_or_default();
    });
    if let Some(below) = below {
        runtime.parked.lock().insert(worker.id, below);
    }
    if let Some(sat) = sat {
        runtime.sits.lock().insert(worker.id, sat);
    }
    ran
}
