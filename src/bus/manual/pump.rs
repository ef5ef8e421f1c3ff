//! Running a manual bus on the calling thread.

use crate::bus::core::BusCore;
use crate::bus::core::EventBus;
use crate::bus::manual::Visit;
use crate::bus::parts::manual::{Due, Manual};
use crate::bus::permits::hand;
use crate::bus::thread::frame;
use crate::bus::thread::parking::apart;
use crate::runtime::{Bus, NotHere, Serves, Worker};
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::{logging, unwind};
use std::sync::Arc;
use std::time::Duration;

impl EventBus {
    /// Runs what is queued on a [manual](crate::BusBuilder::manual) bus, on the calling thread, until nothing is; how many events ran.
    ///
    /// Events come in the order that any bus has: priorities, then order of emission. What handlers emit meanwhile is queued and runs too,
    /// retries that are due and events that other threads wait for go first; an event that keeps emitting its like never lets this
    /// return, which [`run_pending_once`](Self::run_pending_once) and [`run_pending_for`](Self::run_pending_for) do. A timeout ends a handler's attempt on time, for everybody who waits
    /// for it, but cannot unblock this thread; what comes after a handler or an event that was ended so may be left for the next call, of
    /// which [`on_ready`](crate::BusBuilder::on_ready) tells.
    ///
    /// The calling thread becomes the bus's pump thread. The call runs nothing and returns 0, with a warning in the log: on a bus that is
    /// not manual; while another thread pumps the bus; in a callback that is not a handler; where the thread's stack is used up; and inside a handler, unless the thread is the
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
        self.core().pump(NEVER, Rounds::Any)
    }

    /// Runs queued events as [`run_pending`](Self::run_pending) does, and starts no further one once `budget` is spent: with none, it starts none. An event that has started runs to its end.
    ///
    /// What is left waits for the next call: [`on_ready`](crate::BusBuilder::on_ready) is called for it, at the end of this one.
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
        self.core().pump(clock::after(clock::now(), budget), Rounds::Any)
    }

    /// Runs one round: what is queued when it is called, and what that waits for. What is emitted meanwhile waits for the next
    /// call, whatever its priority, and so does a retry that is due meanwhile.
    ///
    /// So this returns although each event emits the next, and every event waits for one round at most. What is left calls
    /// [`on_ready`](crate::BusBuilder::on_ready), as with a budget.
    ///
    /// **Blocking**: as [`run_pending`](Self::run_pending).
    ///
    /// ```
    /// use threadbus::{Event, EventBus, Payload};
    /// struct Step(u32);
    /// impl Payload for Step { type Output = (); }
    ///
    /// let bus = EventBus::builder("game").manual().build()?;
    /// bus.on(|step: &Event<Step>| drop(step.bus().emit(Step(step.0 + 1))));
    /// bus.emit(Step(0));
    /// bus.emit(Step(100));
    /// for _frame in 0..3 {
    ///     assert_eq!(bus.run_pending_once(), 2);
    /// }
    /// assert_eq!(bus.pending(), 2);
    /// # Ok::<(), threadbus::BuildError>(())
    /// ```
    pub fn run_pending_once(&self) -> usize {
        self.core().pump(NEVER, Rounds::One)
    }
}

/// How many rounds a call runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rounds {
    /// What is queued when it begins.
    One,
    /// Also what comes meanwhile.
    Any,
}

impl BusCore {
    fn pump(self: &Arc<Self>, until: Tick, rounds: Rounds) -> usize {
        let refuse = |why: &str| {
            logging::warn!("run_pending on {} runs nothing: {why}", self.label());
            0
        };
        let Some(manual) = &self.manual else { return refuse("the bus is not manual") };
        if frame::in_callback() {
            return refuse("it is called in a callback that is not a handler");
        }
        let Some(worker) = Worker::current() else { return refuse("the thread is ending") };
        if worker.is_out_of_stack() {
            return refuse("the thread's stack is used up");
        }
        let frame = frame::top();
        if frame.as_ref().is_some_and(|frame| !frame.is_live()) {
            return refuse("the handler that calls it was given up");
        }
        let visit = Visit { becomes: frame.is_none(), until: Some(until), in_wait: false };
        let Some(inside) = self.go_inside(manual, &worker, visit) else {
            return refuse(if manual.is_pumped_elsewhere(&worker) {
                "another thread does already"
            } else {
                "it is called in a handler on a thread that is not its pump thread"
            });
        };
        worker.do_chores();
        let before = manual.starts();
        let round = Round::enter(self, rounds);
        if rounds == Rounds::One {
            self.run_round(&worker, manual);
        }
        while rounds == Rounds::Any
            && (until == NEVER || !manual.is_spent())
            && let Some(due) = manual.due(Serves::All)
        {
            self.run_due(&worker, due);
        }
        let ran = manual.starts() - before;
        drop(round);
        drop(inside);
        if let Some(frame) = frame {
            // What ran on top may have given up what this handler keeps.
            hand::take_back(&worker, &frame);
        }
        ran
    }

    /// What has been put by so far: each piece once, and the loop and the runner of free events again if they were asked for in vain.
    fn run_round(self: &Arc<Self>, worker: &Arc<Worker>, manual: &Manual) {
        for _ in 0..manual.fronted() {
            if let Some(due) = manual.due(Serves::Awaited) {
                self.run_due(worker, due);
            }
        }
        for due in [Due::Loop, Due::Free, Due::Loop, Due::Free] {
            if manual.takes(&due) {
                self.run_due(worker, due);
            }
        }
    }

    /// In a park of the pump thread: one piece of work.
    pub(crate) fn serve_one(self: &Arc<Self>, worker: &Arc<Worker>, serves: Serves) -> Result<bool, NotHere> {
        let Some(manual) = &self.manual else { return Err(NotHere) };
        // After one event the loop is set down again, and the one who waits looks around.
        let visit = Visit { becomes: false, until: Some(0), in_wait: true };
        let Some(inside) = self.go_inside(manual, worker, visit) else { return Err(NotHere) };
        // Inside of a round, too: what is waited for may have been emitted in it.
        let round = Round::enter(self, Rounds::Any);
        let Some(due) = manual.due(serves) else { return Ok(false) };
        self.run_due(worker, due);
        drop(round);
        drop(inside);
        Ok(true)
    }

    fn run_due(self: &Arc<Self>, worker: &Arc<Worker>, due: Due) {
        let ran = apart(&self.runtime, worker, || match due {
            Due::Loop => self.run_loop(worker, None),
            Due::Free => self.run_free(worker),
            Due::Delivery(claimed) => Arc::clone(self).resume_on(worker, claimed),
        });
        if let Err(panic) = ran {
            unwind::tell_outside_of_handlers("a pump thread", panic);
        }
    }
}

/// A call of ours runs handlers of a manual bus: one round, or not. Inside of each other they do not know of each other.
struct Round<'a> {
    bus: &'a BusCore,
    outer: Option<usize>,
}

impl<'a> Round<'a> {
    fn enter(bus: &'a BusCore, rounds: Rounds) -> Self {
        let mut run = bus.run.lock();
        if rounds == Rounds::One {
            bus.fetch(&mut run);
        }
        let round = (rounds == Rounds::One).then(|| run.lanes.len() + run.free.len());
        let outer = std::mem::replace(&mut run.round, round);
        Round { bus, outer }
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.bus.run.lock().round = self.outer;
    }
}
