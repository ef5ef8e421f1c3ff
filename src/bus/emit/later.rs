//! Emitting what an [`Outbox`] keeps, when its time has come.

use crate::bus::core::BusCore;
use crate::bus::core::EventBus;
use crate::bus::parts::outbox::{Due, Outbox};
use crate::bus::thread::aside::Aside;
use crate::bus::thread::frame;
use crate::event::EmitError;
use crate::runtime::Job;
use crate::sys::clock::Tick;
use crate::sys::{logging, unwind};
use std::sync::{Arc, Weak};

impl BusCore {
    /// From `at` on, once or every `period` nanoseconds, with the calling thread's context. `None` if the bus takes nothing any more.
    pub(crate) fn plan(
        self: &Arc<Self>,
        at: Tick,
        period: Option<u64>,
        mut emission: impl FnMut(&EventBus) -> Result<(), EmitError> + Send + 'static,
    ) -> Option<u64> {
        let context = frame::local(|local| local.context.clone()).flatten();
        let emission = move |bus: &Arc<BusCore>| emission(&EventBus::of(Arc::clone(bus), None));
        let number = self.outbox.add(at, period, Box::new(emission), context)?;
        arm(&self.outbox, &Arc::downgrade(self), number, (0, at));
        Some(number)
    }
}

/// Outside of the outbox's lock, since the watch may start a thread.
fn arm(outbox: &Outbox<BusCore>, bus: &Weak<BusCore>, number: u64, (round, at): (u64, Tick)) {
    let Some(core) = bus.upgrade() else { return };
    let weak = Weak::clone(bus);
    let timer = core.runtime.watch.at(at, move || is_due(&weak, number));
    outbox.keep_timer(number, round, timer);
}

/// On the aftermath thread.
fn is_due(bus: &Weak<BusCore>, plan: u64) {
    let Some(bus) = bus.upgrade() else { return };
    let (outbox, pool, lane) = (Arc::clone(&bus.outbox), Arc::clone(&bus.runtime.pool), bus.lane);
    if outbox.is_due(Due { plan, bus }) {
        pool.submit_granted(Job::new(lane, move |_| empty(&outbox)));
    }
}

/// On a pool thread.
fn empty(outbox: &Outbox<BusCore>) {
    while let Some((due, found)) = outbox.next() {
        if let Some((mut emission, context)) = found {
            let emitted = {
                // Whatever this thread is inside of has nothing to do with it.
                let _aside = Aside::set(context);
                unwind::catch(|| emission(&due.bus)).map_err(|panic| {
                    let of = Arc::clone(&due.bus.identity.label);
                    logging::later!(Error, move || format!("a scheduled emit on {of} panicked: {panic}"));
                })
            };
            if let Ok(Err(EmitError::Closed { .. })) = emitted {
                unwind::drop_quietly(emission);
                outbox.cancel(due.plan);
            } else if let Some(next) = outbox.again(&due, emission) {
                arm(outbox, &Arc::downgrade(&due.bus), due.plan, next);
            }
        }
        // It may be the last that kept the bus.
        unwind::drop_quietly(due);
    }
}
