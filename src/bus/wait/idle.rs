//! Waiting for a bus to be idle, and keeping it from starting anything.

use crate::bus::core::BusCore;
use crate::bus::core::EventBus;
use crate::bus::parts::counters::Until;
use crate::bus::permits::asleep::Holder;
use crate::bus::permits::hand;
use crate::bus::thread::forbid::may_block;
use crate::bus::thread::frame::{self, Frame};
use crate::bus::thread::sits::Sitting;
use crate::bus::wait::deadlock;
use crate::event::WaitError;
use crate::runtime::{Needs, Serves, SitFor, Worker};
use crate::sync::refused;
use crate::sys::clock::{self, NEVER, Tick};
use std::sync::Arc;
use std::time::Duration;

impl EventBus {
    /// Queue empty, nothing running, no retry waiting.
    pub fn is_idle(&self) -> bool {
        refused::ask_again();
        self.core().is_idle()
    }

    /// Waits until the bus is idle.
    ///
    /// **Blocking**: until then. The pump thread of [manual](crate::BusBuilder::manual) buses runs what is queued on them meanwhile;
    /// elsewhere this waits for the pump thread of such a bus.
    ///
    /// # Errors
    /// [`WaitError::Deadlock`] at once inside a handler of this bus, or in a callback that is not a handler; and inside a handler of another
    /// bus when this one can never be idle before that handler ends: its events need the turn of the globally serial handler that waits, or a handler of this bus waits,
    /// directly or over others, for that one. [`WaitError::Aborted`] in a handler of another bus that was given up meanwhile.
    #[track_caller]
    pub fn wait_until_idle(&self) -> Result<(), WaitError> {
        self.wait_idle(None)
    }

    /// Blocks until the bus is idle, for so long at most.
    ///
    /// # Errors
    /// As [`wait_until_idle`](EventBus::wait_until_idle), and [`WaitError::Timeout`].
    #[track_caller]
    pub fn wait_until_idle_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_idle(Some(timeout))
    }

    #[track_caller]
    fn wait_idle(&self, timeout: Option<Duration>) -> Result<(), WaitError> {
        let deadline = timeout.map_or(NEVER, |timeout| clock::after(clock::now(), timeout));
        let frame = frame::top();
        if frame.as_ref().is_some_and(|frame| !frame.is_live()) {
            return Err(WaitError::Aborted);
        }
        let inside =
            frame::local(|local| local.frames.iter().any(|f| Arc::ptr_eq(&f.bus, self.core()))).unwrap_or(false);
        if inside || frame::in_callback() {
            return Err(WaitError::Deadlock(format!(
                "a handler or callback of {} waits for it to be idle",
                self.label()
            )));
        }
        if !self.core().is_idle() {
            may_block(|| format!("waits until {} is idle", self.label()))?;
        }
        let Some(worker) = Worker::current() else {
            return Err(WaitError::Deadlock("this thread is ending".to_owned()));
        };
        let rested = self.core().rest_until_idle(&worker, frame.as_ref(), deadline);
        worker.ends_wait();
        match rested {
            Rested::Idle => Ok(()),
            Rested::TimedOut => Err(WaitError::Timeout(timeout.unwrap_or_default())),
            Rested::GivenUp => Err(WaitError::Aborted),
            Rested::Stuck => Err(WaitError::NoThread(1)),
            Rested::Never(chain) => Err(WaitError::Deadlock(chain)),
        }
    }

    /// Starts no further event until [`resume`](EventBus::resume); running ones finish, and what a handler waits for still runs. So does an
    /// [`emit_now`](EventBus::emit_now), which asks no queue, and a [`redrive`](EventBus::redrive). Nests.
    ///
    /// Events that the bus has taken out of its queue have started, also those in line for a place under a [`Limit`](crate::Limit) and between two
    /// attempts ([`BusMetrics::waiting`](crate::BusMetrics::waiting)). With parallel events that may be all of them;
    /// [`max_in_flight`](crate::BusBuilder::max_in_flight) leaves the rest in the queue.
    pub fn pause(&self) {
        self.core().run.lock().paused += 1;
    }

    /// Ends one [`pause`](EventBus::pause).
    pub fn resume(&self) {
        let mut run = self.core().run.lock();
        run.paused = run.paused.saturating_sub(1);
        if run.paused > 0 {
            return;
        }
        self.core().go_on(run);
    }
}

/// How a wait for an idle bus ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rested {
    Idle,
    TimedOut,
    /// The handler that waits is not live any more.
    GivenUp,
    /// Nobody but the caller could run what is queued, and its stack is used up.
    Stuck,
    /// It waits, over others, for the handler that waits.
    Never(String),
}

impl BusCore {
    /// Parks until the bus is idle, the deadline, or the end of the handler that waits, if one does: it gives up what it holds meanwhile.
    pub(crate) fn rest_until_idle(&self, worker: &Arc<Worker>, frame: Option<&Frame>, deadline: Tick) -> Rested {
        let _watch = self.watch(&worker.bell, Until::Idle);
        let sitting = frame.map(|frame| Sitting::enter(worker, frame, SitFor::Idle(Arc::clone(&self.identity))));
        let holder = frame.and_then(Holder::of);
        let sleeps = holder.and_then(|holder| holder.sleeps(worker, None));
        let mut sat = false;
        let rested = loop {
            if self.is_idle() {
                break Rested::Idle;
            }
            if frame.is_some_and(|frame| !frame.is_live()) {
                break Rested::GivenUp;
            }
            if clock::now() >= deadline {
                break Rested::TimedOut;
            }
            match frame {
                Some(frame) => {
                    hand::set_down_all();
                    sat = true;
                    if let Some(chain) = deadlock::never_idle(worker, frame, &self.identity) {
                        break Rested::Never(chain);
                    }
                    let needs = || Needs::bus(self.lane);
                    worker
                        .suspended(&frame.bus.runtime, deadline, needs, || worker.serve_or_park(deadline, Serves::All));
                }
                None if self.is_stuck(worker) => break Rested::Stuck,
                None => drop(worker.serve_or_park(deadline, Serves::All)),
            }
        };
        drop((sitting, sleeps));
        match frame {
            Some(frame) if sat && !hand::take_back(worker, frame) => Rested::GivenUp,
            _ => rested,
        }
    }
}
