//! Running a delivery that was claimed at birth: `emit_now`, `OnFull::RunInline`, a redrive.

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::bus::core::type_memo;
use crate::bus::parts::counters::Until;
use crate::bus::parts::for_event::plan_for;
use crate::bus::parts::recorder::By;
use crate::bus::permits::hand;
use crate::bus::run::drive::drive_begun;
use crate::bus::run::driver::After;
use crate::bus::run::start::{self, Permits, Start};
use crate::bus::thread::frame::{self, Under};
use crate::bus::wait::claimable;
use crate::bus::wait::here::{is_parallel, lender, manner, run_here};
use crate::bus::wait::jump::Jump;
use crate::bus::wait::waiting::Waiting;
use crate::event::{Delivery, DeliveryPhase, Plan, TurnKind, TypeSlot};
use crate::runtime::Worker;
use crate::sync::Position;
use crate::sys::clock::{self, NEVER};
use crate::sys::logging;
use std::sync::Arc;

/// What the calling thread has left of its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    Shallow,
    /// Nearly used up.
    Deep,
}

impl Depth {
    pub(crate) fn here() -> Depth {
        if Worker::is_deep_here() { Depth::Deep } else { Depth::Shallow }
    }
}

/// Runs a delivery that was claimed at birth, on the calling thread.
pub(crate) fn run_claimed(delivery: DeliveryRef<'_>, depth: Depth) {
    let DeliveryRef { bus, event, .. } = delivery;
    let Some(worker) = Worker::current() else { return delivery.submit_resume() };
    if worker.is_outside() {
        bus.runtime.pool.list(&worker);
    }
    let slot = type_memo::slot(bus, event);
    let plan = plan_for(event, &slot, &bus.defaults);
    let deep = depth == Depth::Deep;
    match if deep { None } else { run_alone(delivery, &worker, &slot, plan) } {
        Some(After::Done(_)) => return,
        Some(After::Left) => return wait_for_delivery(delivery, &worker),
        None => {}
    }
    let inside = bus.go_inside_in_wait(&worker);
    // With little stack left it goes to another thread, if it may, and is served in the wait below, if it may not.
    let elsewhere = deep || matches!(inside, Some(None));
    // With what it holds in the hand, where the lender is looked for.
    let frame = frame::top();
    if let Some(frame) = &frame {
        event.head().set_wait_depth(frame.event.head().wait_depth().saturating_add(1));
    }
    let redrive = {
        let mut state = event.state().lock();
        let Some(delivery) = delivery.in_state_mut(&mut state) else { return };
        delivery.manner = manner(plan, frame.is_some());
        delivery.set_lender(if elsewhere { None } else { lender(bus, plan) });
        if !delivery.redrive {
            let queued = start::queued_for(event, delivery, clock::now());
            bus.recorder.queued_for(queued, By::Anybody, || bus.counters.claimed());
        }
        delivery.redrive
    };
    let parallel = !redrive && is_parallel(bus, event, &slot);
    if elsewhere {
        // Of a manual bus: to the front there.
        if delivery.ensure_turn(Position::Front) {
            delivery.submit_resume();
        }
    } else if frame::barred().is_none() || delivery.ensure_turn(Position::Front) {
        run_here(delivery, &worker, plan, parallel);
    } else if let Some(delivery) = delivery.in_state_mut(&mut event.state().lock()) {
        // Where it must not block it runs here only if nobody is in its way; else it is in front.
        delivery.leave_stack();
    }
    drop(inside);
    match frame {
        // The caller must not wait for those who go on with it.
        _ if frame::barred().is_some() => {}
        None => wait_for_delivery(delivery, &worker),
        Some(frame) => {
            let jump = Jump { worker: Arc::clone(&worker), frame, waiting: Waiting::JUMP, deadline: NEVER };
            let attached = if bus.runs_on(&jump.worker) { Ok(()) } else { jump.check_attached(bus, event) };
            let waited = attached.and_then(|()| jump.until_done(delivery));
            jump.end_pauses();
            hand::take_back(&jump.worker, &jump.frame);
            if let Err(error) = waited {
                logging::warn!(of event; "{event} is left to others: {error}");
            }
        }
    }
    worker.ends_wait();
}

/// By far the commonest, without detours: outside of handlers, and nobody is in the way. `None`: nothing was done.
fn run_alone(delivery: DeliveryRef<'_>, worker: &Arc<Worker>, slot: &Arc<TypeSlot>, plan: Plan) -> Option<After> {
    let bus = delivery.bus;
    if !bus.is_pooled() || plan.turn == TurnKind::Global {
        return None;
    }
    let hand = hand::hand_len_outside()?;
    let (now, token) = (clock::now(), delivery.token());
    let start = Start { delivery, worker, slot, now };
    let mut run = bus.run.lock();
    if !run.is_startable() || !run.handler.is_quiet() {
        return None;
    }
    let begun = start.claim(
        || Arc::clone(slot),
        By::Anybody,
        |state| {
            let unstarted = |d: &&mut Delivery| d.phase == DeliveryPhase::Active && !d.is_fixed();
            let own = delivery.in_state_mut(state).filter(unstarted)?;
            if plan.turn == TurnKind::Bus {
                run.event.try_take(Position::Front, token, None);
            }
            if plan.bus_handler {
                run.handler.try_take(Position::Front, token, None);
            }
            drop(run);
            own.manner = manner(plan, false);
            Some(Permits::Held)
        },
    )?;
    let after = drive_begun(start, &begun, Under::Delivery);
    hand::cut_hand(hand);
    if after != After::Left || !delivery.is_active() {
        delivery.release(plan.turn);
    }
    Some(after)
}

/// The caller of `emit_now` outside of handlers: parks until somebody else has brought the delivery to its end.
fn wait_for_delivery(delivery: DeliveryRef<'_>, worker: &Arc<Worker>) {
    let DeliveryRef { bus, event, .. } = delivery;
    if !delivery.is_active() {
        return;
    }
    let _watch = bus.watch(&worker.bell, Until::Change);
    while delivery.is_active() {
        if bus.is_stuck(worker) {
            let event = event.clone();
            return logging::later!(Warn, of event; move || {
                format!("{event} is left to others: no thread, or no stack, is left to run it")
            });
        }
        worker.park_outside(&bus.runtime, NEVER, || claimable::needs_of(event, false, &bus.runtime));
    }
}

impl BusCore {
    /// The calling thread, which has little stack left, is the only one that could run an event of this bus now. What it claimed then would
    /// keep the turn from the handlers below it, which come first.
    #[cold]
    pub(crate) fn lacks_stack_here(&self) -> bool {
        let Some(worker) = Worker::current() else { return false };
        if !self.is_pooled() {
            return self.runs_on(&worker);
        }
        self.runtime.pool.is_last(&worker) || hand::attached_to(&worker).is_some()
    }

    /// Nobody else runs what this bus has queued, and the calling thread, which waits outside of handlers, has no stack left for it.
    pub(crate) fn is_stuck(&self, worker: &Worker) -> bool {
        if !self.is_pooled() {
            return worker.lacks_stack_to_serve() && self.runs_on(worker);
        }
        worker.is_deep() && self.runtime.pool.is_deserted()
    }
}
