//! Running a manual bus on the calling thread.

use crate::bus::core::BusCore;
use crate::bus::frame;
use crate::bus::handle::EventBus;
use crate::bus::manual::Due;
use crate::bus::rest::apart;
use crate::runtime::{Drive, NotHere, Serves, Worker};
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::{logging, unwind};
use std::sync::Arc;
use std::time::Duration;

impl EventBus {
    /// Runs what is queued on a [manual](crate::BusBuilder::manual) bus, on the calling thread, until nothing is; how many events ran.
    ///
    /// Events come in the order that any bus has: priorities, then order of emission. What handlers emit meanwhile is queued and runs too,
    /// retries that are due and events that other threads wait for go first; an event that keeps emitting its like never lets this
    /// return, which [`run_pending_for`](Self::run_pending_for) does. A timeout ends a handler's attempt on time, for everybody who waits
    /// for it, but cannot unblock this thread; what comes after a handler or an event that was ended so may be left for the next call, of
    /// which [`on_ready`](crate::BusBuilder::on_ready) tells.
    ///
    /// The calling thread becomes the bus's pump thread. The call runs nothing and returns 0, with a warning in the log: on a bus that is
    /// not manual; while another thread pumps the bus; in a callback that is not a handler; and inside a handler, unless the thread is the
    /// bus's pump thread already. There, the event that is being handled keeps its serial bus busy, so what comes after it does not start.
    ///
    /// **Blocking**: not by itself; for as long as the handlers take.
    ///
    /// ```
    /// use threadbus::{Event, EventBus, Payload};
    /// struct Click(i32);
    /// impl Payload for Click { type Output = (); }
    ///
    /// let bus = EventBus::builder("ui").manual().build()?;
    /// bus.on(|click: &Event<Click>| {
    ///     if click.0 > 0 {
    ///         click.bus().emit(Click(click.0 - 1));
    ///     }
    /// });
    /// bus.emit(Click(2));
    /// assert_eq!(bus.pending(), 1, "nothing runs before the application says so");
    /// assert_eq!(bus.run_pending(), 3);
    /// assert_eq!(bus.run_pending(), 0);
    /// # Ok::<(), threadbus::BuildError>(())
    /// ```
    pub fn run_pending(&self) -> usize {
        self.core().pump(NEVER)
    }

    /// The same, but starts no further event once `budget` is spent: with none, it starts none. An event that has started runs to its end.
    ///
    /// What is left waits for the next call. The bus was not idle in between, so [`on_ready`](crate::BusBuilder::on_ready) is not called
    /// for it: see [`pending`](Self::pending) or [`is_idle`](Self::is_idle).
    ///
    /// **Blocking**: as [`run_pending`](Self::run_pending).
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbus::{Event, EventBus, Payload};
    /// struct Step;
    /// impl Payload for Step { type Output = (); }
    ///
    /// let bus = EventBus::builder("game").manual().build()?;
    /// // Never done, and yet this frame ends.
    /// bus.on(|step: &Event<Step>| drop(step.bus().emit(Step)));
    /// bus.emit(Step);
    /// assert!(bus.run_pending_for(Duration::from_millis(2)) > 0);
    /// assert_eq!(bus.pending(), 1);
    /// # Ok::<(), threadbus::BuildError>(())
    /// ```
    pub fn run_pending_for(&self, budget: Duration) -> usize {
        self.core().pump(clock::after(clock::now(), budget))
    }
}

impl BusCore {
    fn pump(self: &Arc<Self>, until: Tick) -> usize {
        let refuse = |why: &str| {
            logging::warn!("run_pending on {} runs nothing: {why}", self.label());
            0
        };
        let Some(manual) = &self.manual else { return refuse("the bus is not manual") };
        if frame::in_callback() {
            return refuse("it is called in a callback that is not a handler");
        }
        let Some(worker) = Worker::current() else { return refuse("the thread is ending") };
        let frame = frame::top();
        if frame.as_ref().is_some_and(|frame| !frame.is_live()) {
            return refuse("the handler that calls it was given up");
        }
        let Some(inside) = self.go_inside(manual, &worker, frame.is_none(), Some(until)) else {
            return refuse(if manual.is_pumped_elsewhere(&worker) {
                "another thread does already"
            } else {
                "it is called in a handler on a thread that is not its pump thread"
            });
        };
        worker.do_chores();
        let before = manual.starts();
        while (until == NEVER || !manual.is_spent())
            && let Some(due) = manual.due(Serves::All)
        {
            self.run_due(&worker, due);
        }
        let ran = manual.starts() - before;
        drop(inside);
        if let Some(frame) = frame {
            // What ran on top may have given up what this handler keeps.
            frame::take_back(&worker, &frame);
        }
        ran
    }

    /// In a park of the pump thread: one piece of work.
    pub(crate) fn serve_one(self: &Arc<Self>, worker: &Arc<Worker>, serves: Serves) -> Result<bool, NotHere> {
        let Some(manual) = &self.manual else { return Err(NotHere) };
        // After one event the loop is set down again, and the one who waits looks around.
        let Some(inside) = self.go_inside(manual, worker, false, Some(0)) else { return Err(NotHere) };
        let Some(due) = manual.due(serves) else { return Ok(false) };
        self.run_due(worker, due);
        drop(inside);
        Ok(true)
    }

    fn run_due(self: &Arc<Self>, worker: &Arc<Worker>, due: Due) {
        let ran = apart(&self.runtime, worker, || match due {
            Due::Loop => Arc::clone(self).drive(worker),
            Due::Free => self.run_free(worker),
            Due::Work(work) => work(worker),
        });
        if let Err(panic) = ran {
            unwind::tell_outside_of_handlers("a pump thread", panic);
        }
    }
}
