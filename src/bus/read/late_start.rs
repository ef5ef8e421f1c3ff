//! A handler whose work is done elsewhere, and begins there later than the handler here.

use crate::bus::parts::for_event::timing_for;
use crate::bus::read::handler_context::HandlerContext;
use crate::bus::thread::frame::{self, Frame};
use crate::event::{State, Timing};
use crate::runtime::{Running, Worker};
use crate::sys::clock::{self, NEVER};
use std::time::Duration;

impl HandlerContext {
    /// What its attempt may take, once it has begun there. `None`: no limit.
    pub(crate) fn own_time(&self) -> Option<Duration> {
        let frame = self.frame();
        let timing = timing(frame, &frame.event.state().lock())?;
        (timing.timeout != NEVER).then(|| Duration::from_nanos(timing.timeout))
    }

    /// It has begun there: from now on its own time runs. On the handler's own thread.
    pub(crate) fn time_begins(&self) {
        let Some(worker) = Worker::current() else { return };
        let (frame, now) = (self.frame(), clock::now());
        let (deadline, look) = {
            let state = frame.event.state().lock();
            let Some(timing) = timing(frame, &state) else { return };
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
fn timing(frame: &Frame, state: &State) -> Option<Timing> {
    let slot = state.deliveries.get(frame.delivery)?.slot()?;
    let timing = timing_for(frame.event.head().options(), slot, frame.invocation, &frame.bus.defaults);
    let allowance = clock::after(0, slot.handlers.get(frame.invocation)?.entry.options.allowance);
    let timeout = if timing.timeout == NEVER { NEVER } else { timing.timeout.saturating_sub(allowance) };
    Some(Timing { timeout, ..timing })
}
