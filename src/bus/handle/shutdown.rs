//! The end of a bus, and of all buses of a runtime.

use crate::bus::core::{BusCore, Doors};
use crate::bus::core::{EventBus, WeakBus};
use crate::bus::end::cancel::shut_down_delivery;
use crate::bus::thread::frame;
use crate::runtime::{Runtime, Serves, Worker};
use crate::sys::clock::{self, Tick};
use crate::sys::logging;
use std::sync::Arc;
use std::time::Duration;

/// How long a shutdown waits for the log at most.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How to end.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shutdown {
    /// Finishes the queue first.
    Drain,
    /// Cancels what is queued, and gives up what runs.
    Now,
}

/// What a shutdown left behind, in deliveries since it began.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Of which a handler started, or that had none; given up or not.
    pub completed: usize,
    /// Ended before any handler started.
    pub cancelled: usize,
    /// Threads still inside a handler that was given up.
    pub abandoned: usize,
    /// Events that subscriptions have not read yet, for each of them, and those that a [spawned](crate::Subscription::spawn) one is at. What is
    /// read on a thread of your own can still be read; it is lost where the program ends with it.
    pub unread: usize,
}

impl EventBus {
    /// Ends the bus. Idempotent.
    ///
    /// `Drain` finishes the queue, and waits for no [`Retry`](crate::Retry)'s delay: where one is due, now or later, no further attempt is
    /// made, and the last failure is the handler's result, as after its last attempt. Whatever is left at the timeout, and for `Now`
    /// everything, is given up: what has not started is cancelled (its `wait()` answers `Cancelled`) and does not start meanwhile, running
    /// handlers end `Aborted` (their events' `wait()` is `Ok`) and are asked to stop. `Drain` ends a [`pause`](Self::pause); with `Now`
    /// nothing of a paused bus runs any more. Afterwards emit is refused, `on` registers nothing and subscriptions are closed, with a warning in the log. No handle is
    /// left waiting.
    ///
    /// The history is cleared, and its payloads with it; [`log_tree`](EventBus::log_tree) still shows its last 1,000 events as they were then.
    ///
    /// Subscriptions can be read to their end afterwards; `unread` says how much that is. [`Runtime::shutdown`] waits for those with a thread of
    /// their own.
    ///
    /// What the log has yet to say is said before it returns, if that takes no longer than 100 ms.
    ///
    /// **Blocking**: for `timeout` at most, plus what it takes to cancel. On a thread inside a handler of this bus: closes and
    /// returns at once. On the pump thread of a [manual](crate::BusBuilder::manual) bus `Drain` runs its queue; elsewhere it waits for the
    /// pump thread to do so.
    #[track_caller]
    pub fn shutdown(&self, mode: Shutdown, timeout: Duration) -> ShutdownReport {
        let deadline = clock::after(clock::now(), timeout);
        let before = self.core().ends();
        let report = self.core().shut_down(mode, deadline, before);
        settle_log(deadline);
        report
    }
}

impl Runtime {
    /// Live buses.
    pub fn buses(&self) -> Vec<WeakBus> {
        self.cores().iter().map(WeakBus::of).collect()
    }

    /// Shuts down all its buses: the last line of a `main`. The timeout is for all of them together.
    ///
    /// Buses drain side by side, so that handlers which emit on each other's buses can finish.
    ///
    /// Then [spawned](crate::Subscription::spawn) subscriptions are waited for, but for the one that calls it: within the timeout each has read
    /// everything, and what it reads with is dropped. What is unread all the same is said in the report. A handler waits for none.
    ///
    /// Then its threads leave at once, without their keep-alive, and are waited for: within the timeout nothing of the runtime runs any more
    /// when this returns, and a plug-in can be unloaded. What remains is said in the report: threads inside a handler that was given up leave
    /// when that returns. A thread of the user's that is inside an emit just then may start one more, which leaves at once. A thread of the
    /// runtime, one inside a handler of it, and one that must not block wait for none.
    ///
    /// The runtime can be used again: a bus that is built on it starts threads anew. One that is built meanwhile, elsewhere, keeps its own.
    ///
    /// **Blocking**: for `timeout` at most, plus what it takes to cancel.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbus::{EventBus, Payload, Runtime, Shutdown};
    /// struct Flush;
    /// impl Payload for Flush { type Output = (); }
    ///
    /// let runtime = Runtime::builder().build()?;
    /// let bus = EventBus::builder("plug-in").runtime(&runtime).build()?;
    /// bus.emit(Flush).wait()?;
    /// runtime.shutdown(Shutdown::Drain, Duration::from_secs(5));
    /// assert_eq!(runtime.stats().threads, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn shutdown(&self, mode: Shutdown, timeout: Duration) -> ShutdownReport {
        let deadline = clock::after(clock::now(), timeout);
        let cores = self.cores();
        let before: Vec<_> = cores.iter().map(|core| core.ends()).collect();
        for core in &cores {
            core.close_doors(Doors::Draining);
            match mode {
                Shutdown::Drain => {
                    core.ends_pause();
                    core.hurry();
                }
                // What one bus gives up may be what keeps another from its next event.
                Shutdown::Now => core.holds_queue(),
            }
        }
        if mode == Shutdown::Now {
            // First on all of them what has no thread: places and turns are shared between buses.
            for core in &cores {
                core.give_up_unstarted(&shut_down_delivery);
            }
        }
        if mode == Shutdown::Drain && frame::barred().is_none() {
            // A handler of the caller's own never ends meanwhile.
            let awaited: Vec<_> = cores.iter().filter(|core| !core.is_below_caller()).collect();
            // One after the other is not enough: an idle bus may be given work again by one that still drains.
            while awaited.iter().any(|core| !core.is_idle()) && clock::now() < deadline {
                for core in &awaited {
                    core.wait_idle_until(deadline);
                }
            }
        }
        let mut sum = ShutdownReport::default();
        for (core, before) in cores.into_iter().zip(before) {
            let report = core.shut_down(mode, deadline, before);
            sum.completed += report.completed;
            sum.cancelled += report.cancelled;
            sum.abandoned = sum.abandoned.max(report.abandoned);
        }
        self.wait_for_readers(deadline);
        sum.unread = self.core.readers.lock().all().iter().map(|reader| reader.unread()).sum();
        settle_log(deadline);
        self.let_threads_go(deadline);
        sum
    }

    /// Its threads leave; those without work at once. Waits for that where it may.
    fn let_threads_go(&self, deadline: Tick) {
        let crew = &self.core.crew;
        // Before they are told, so that each can be joined.
        let leaving = crew.expect();
        self.core.let_go();
        let inside = |frame: &frame::Frame| Arc::ptr_eq(&frame.bus.runtime, &self.core);
        let is_free = frame::local(|local| !local.frames.iter().any(inside)).unwrap_or(false);
        if is_free && frame::barred().is_none() && !crew.is_here() {
            leaving.wait(deadline);
        }
    }

    /// Threads that do nothing but read a subscription, which is closed by now, read to its end; not the calling one.
    fn wait_for_readers(&self, deadline: Tick) {
        let inside = |frame: &frame::Frame| Arc::ptr_eq(&frame.bus.runtime, &self.core);
        let is_free = frame::local(|local| !local.frames.iter().any(inside)).unwrap_or(false);
        let Some(worker) = Worker::current().filter(|_| is_free && frame::barred().is_none()) else { return };
        let readers = self.core.readers.lock().all();
        for reader in readers {
            while reader.is_awaited(&worker.bell) && clock::now() < deadline {
                worker.serve_or_park(deadline, Serves::Awaited);
            }
        }
    }

    pub(crate) fn cores(&self) -> Vec<Arc<BusCore>> {
        BusCore::all_of(&self.core)
    }
}

/// What was handed to the log is in it before a program ends, if the logger is not too slow for that.
fn settle_log(deadline: Tick) {
    if frame::barred().is_none() && !frame::is_inside() {
        let left = Duration::from_nanos(deadline.saturating_sub(clock::now()));
        logging::settle(left.min(LAST_WORDS));
    }
}
