//! What waits for the pump thread of a manual bus (`README.md`).
//!
//! Everything that would be a job of the pool is kept here instead: the loop, the runner of events that need no turn, and deliveries that
//! were claimed and go on. The bus has a *pump thread*, and is *announced* from the call of `on_ready` until the pump thread has seen
//! that nothing is left.
//!
//! *Race: something is put by just when the pump thread leaves.* Seeing that nothing is left takes the announcement back, in one section;
//! and who leaves announces what has come since. So whichever comes second announces.

pub(crate) mod pump;

use crate::bus::core::seldom::tell_gone;
use crate::bus::core::{BusCore, NOWHERE};
use crate::bus::end::cancel::drop_delivery;
use crate::bus::parts::manual::Manual;
use crate::bus::thread::frame;
use crate::runtime::{Claimed, Job, Pumped, Worker, is_service_thread};
use crate::sys::clock::Tick;
use crate::sys::sync::atomic::Ordering;
use crate::sys::{logging, unwind};
use std::sync::Arc;

/// How a thread comes to run handlers of a manual bus.
#[derive(Clone, Copy)]
struct Visit {
    /// Another thread becomes the pump thread, unless the one that is runs some at the moment.
    becomes: bool,
    /// None of the queue starts later than that. `None`: as it was before.
    until: Option<Tick>,
    /// A wait goes on when the visit ends.
    in_wait: bool,
}

/// The pump thread runs handlers of the bus, until this goes. It keeps the bus: nothing of it is cancelled under the handlers' feet.
pub(crate) struct Inside<'a> {
    bus: &'a Arc<BusCore>,
    manual: &'a Manual,
    until: Tick,
    /// A wait goes on when this is gone.
    in_wait: bool,
    _handle: crate::bus::core::EventBus,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.manual.until.store(self.until, Ordering::SeqCst);
        self.bus.hand_back_in_vain(self.manual);
        let announces = {
            let mut state = self.manual.state.lock();
            state.inside -= 1;
            state.announced &= state.has_work();
            // A wait does it once, at its end.
            !self.in_wait && state.reminds()
        };
        if announces {
            // Work that loggers make would never end if the panic of a reminder were logged.
            self.bus.announce(true);
        }
    }
}

impl BusCore {
    /// May the calling thread run handlers of this bus?
    pub(crate) fn runs_on(&self, worker: &Worker) -> bool {
        self.manual.as_ref().is_none_or(|manual| manual.is_pumped_by(worker))
    }

    /// In a wait: handlers of the bus run here until the guard goes. `None` where the bus needs none; `Some(None)` if this is not its pump thread.
    pub(crate) fn go_inside_in_wait<'a>(self: &'a Arc<Self>, worker: &Arc<Worker>) -> Option<Option<Inside<'a>>> {
        let visit = Visit { becomes: false, until: None, in_wait: true };
        self.manual.as_ref().map(|manual| self.go_inside(manual, worker, visit))
    }

    /// On the pump thread: handlers of the bus run here until the guard goes.
    fn go_inside<'a>(
        self: &'a Arc<Self>,
        manual: &'a Manual,
        worker: &Arc<Worker>,
        Visit { becomes, until, in_wait }: Visit,
    ) -> Option<Inside<'a>> {
        let comes = {
            let mut state = manual.state.lock();
            let comes = state.thread != worker.id;
            if comes && (!becomes || state.inside > 0) {
                return None;
            }
            if comes {
                state.thread = worker.id;
                state.bell = Arc::clone(&worker.bell);
            }
            state.inside += 1;
            comes
        };
        if comes {
            let weak = Arc::downgrade(self);
            worker.add_pump(weak);
            self.runtime.pool.list(worker);
        }
        let before = manual.until.load(Ordering::SeqCst);
        manual.until.store(until.unwrap_or(before), Ordering::SeqCst);
        let _handle = crate::bus::core::EventBus::from_core(Arc::clone(self));
        Some(Inside { bus: self, manual, until: before, in_wait, _handle })
    }

    /// Keeps work until the pump thread comes to it, and calls `on_ready` if the bus was idle. With nothing locked.
    #[cold]
    pub(crate) fn put_by(self: &Arc<Self>, work: Pumped) {
        let Some(manual) = &self.manual else { return };
        let unlogged = matches!(&work, Pumped::Delivery(claimed) if claimed.event.head().is_from_logger());
        let (bell, announces) = {
            let mut state = manual.state.lock();
            match work {
                Pumped::Delivery(Claimed { event, delivery, .. }) if state.closed => {
                    drop(state);
                    // Nobody will ever come; who waits for it is told.
                    if drop_delivery(&event, delivery, self.label()) && !event.head().is_from_logger() {
                        tell_gone(&self.identity.label, 1);
                    }
                    return;
                }
                Pumped::LoopWithTurn if state.closed => {
                    drop(state);
                    return self.give_up_global_turn();
                }
                _ if state.closed => return,
                Pumped::Delivery(claimed) => state.fronted.push_back(claimed),
                Pumped::Loop => state.wants_loop = true,
                Pumped::LoopWithTurn => (state.wants_loop, state.loop_has_turn) = (true, true),
                Pumped::Free => state.wants_free = true,
            }
            // Also while it is inside: it may be parked there.
            (Arc::clone(&state.bell), state.announces())
        };
        bell.ring();
        if announces {
            self.announce(unlogged);
        }
    }

    /// The loop, or the runner of free events, was put by when its time was over, and there is nothing left for it. If it stayed, the next
    /// emit would find it there, and tell nobody.
    fn hand_back_in_vain(&self, manual: &Manual) {
        {
            let state = manual.state.lock();
            if state.inside > 1 || !state.wants_loop && !state.wants_free {
                return;
            }
        }
        let run = self.run.lock();
        let mut inlet = self.inlet.lock();
        // Emits send under the inlet's lock.
        if !self.arrivals.is_empty() {
            return;
        }
        let mut state = manual.state.lock();
        if run.lanes.len() == 0 && state.wants_loop && !state.loop_has_turn {
            state.wants_loop = false;
            inlet.active = NOWHERE;
        }
        state.wants_free &= run.free.len() > 0;
    }

    /// An event comes, counted already: is the bus idle but for that, then `on_ready` is due, whatever was told before. Under the inlet's
    /// lock. `queued`: whoever emits it calls [`tell_of_arrival`](Self::tell_of_arrival).
    pub(crate) fn note_arrival(&self, queued: bool) {
        let Some(manual) = &self.manual else { return };
        if self.counters.done() + self.counters.held() + 1 >= self.counters.emitted() {
            let mut state = manual.state.lock();
            if state.inside == 0 {
                state.announced = false;
                state.woken = queued;
            }
        }
    }

    /// With nothing locked, when what is to be put by for the event has been.
    pub(crate) fn tell_of_arrival(self: &Arc<Self>) {
        let Some(manual) = &self.manual else { return };
        let announces = {
            let mut state = manual.state.lock();
            std::mem::take(&mut state.woken) && state.inside == 0 && !std::mem::replace(&mut state.announced, true)
        };
        if announces {
            self.announce(false);
        }
    }

    /// Tells the user that an idle bus has got work; from a thread that may run user code.
    pub(crate) fn announce(self: &Arc<Self>, unlogged: bool) {
        if self.manual.as_ref().is_none_or(|manual| manual.wake.is_none()) {
            return;
        }
        if is_service_thread() {
            let bus = Arc::clone(self);
            self.runtime.pool.submit_granted(Job::new(self.lane, move |_| bus.call_on_ready(unlogged)));
        } else {
            self.call_on_ready(unlogged);
        }
    }

    /// `unlogged`: it is about what a logger has emitted.
    fn call_on_ready(&self, unlogged: bool) {
        if let Some(wake) = self.manual.as_ref().and_then(|manual| manual.wake.as_ref())
            && let Err(panic) = frame::callback_apart(None, wake)
            && !unlogged
        {
            let of = Arc::clone(&self.identity.label);
            logging::later!(Error, move || format!("the on_ready of {of} panicked: {panic}"));
        }
    }

    /// The last handle of a manual bus is gone, so nobody can pump it any more: what is left goes with it.
    pub(crate) fn cancel_what_nobody_pumps(self: &Arc<Self>) {
        let Some(manual) = &self.manual else { return };
        self.close_doors(crate::bus::core::Doors::Closed);
        let mut gone = self.give_up_all(|event, delivery| drop_delivery(event, delivery, self.label()));
        let (left, has_turn) = {
            let mut state = manual.state.lock();
            state.closed = true;
            (state.wants_loop, state.wants_free) = (false, false);
            (std::mem::take(&mut state.fronted), std::mem::take(&mut state.loop_has_turn))
        };
        if has_turn {
            self.give_up_global_turn();
        }
        for Claimed { event, delivery, .. } in left {
            let ended = drop_delivery(&event, delivery, self.label());
            gone += usize::from(ended && !event.head().is_from_logger());
            unwind::drop_quietly(event);
        }
        tell_gone(&self.identity.label, gone);
    }
}
