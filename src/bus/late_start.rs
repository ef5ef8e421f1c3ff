//! A handler whose work is done elsewhere, and begins there later than the handler here.

use crate::bus::frame::{self, Frame};
use crate::bus::handler_context::HandlerContext;
use crate::bus::registry::timing_for;
use crate::event::{State, Timing};
use crate::runtime::{Running, Worker};
use crate::sys::clock::{self, NEVER, Tick};
use std::time::Duration;

impl HandlerContext {
    /// What its attempt may take, once it has begun there. `allowance`: what its registration allows for that. `None`: no limit.
    pub(crate) fn own_time(&self, allowance: Duration) -> Option<Duration> {
        let frame = self.frame();
        let timing = own_timing(frame, &frame.event.state().lock(), allowance)?;
        (timing.timeout != NEVER).then(|| Duration::from_nanos(timing.timeout))
    }

    /// It has begun there: from now on its own time runs. On the handler's own thread.
    pub(crate) fn time_begins(&self, allowance: Duration) {
        let Some(worker) = Worker::current() else { return };
        let (frame, now) = (self.frame(), clock::now());
        let (deadline, look) = {
            let state = frame.event.state().lock();
            let Some(timing) = own_timing(frame, &state, allowance) else { return };
            let Some(delivery) = state.deliveries.get(frame.delivery) else { return };
            if !delivery.is_live(frame.invocation, frame.attempt) {
                return;
            }
            let deadline = now.saturating_add(timing.timeout).min(delivery.cap());
            let running = Running {
                invocation: frame.invocation,
                attempt: frame.attempt,
                since: now,
                deadline,
                slow: timing.slow_at(now),
            };
            (deadline, worker.change(running))
        };
        frame::local(|local| {
            if let Some(top) = local.frames.last_mut() {
                top.deadline = top.deadline.min(deadline);
            }
        });
        if let Some(look) = look {
            frame.bus.runtime.watch.look_at(look, &worker);
        }
    }
}

/// Without the allowance.
fn own_timing(frame: &Frame, state: &State, allowance: Duration) -> Option<Timing> {
    let slot = state.deliveries.get(frame.delivery)?.slot()?;
    let Timing { timeout, slow_after } =
        timing_for(frame.event.head().options(), slot, frame.invocation, &frame.bus.defaults);
    let timeout: Tick = if timeout == NEVER { NEVER } else { timeout.saturating_sub(clock::after(0, allowance)) };
    Some(Timing { timeout, slow_after })
}
