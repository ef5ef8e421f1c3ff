//! The end of a bus, and of all buses of a runtime.

use crate::bus::core::permit::is_queued;
use crate::bus::core::{BusCore, Doors};
use crate::bus::core::{EventBus, WeakBus};
use crate::bus::end::cancel::shut_down_delivery;
use crate::bus::end::next_attempt::cut_delays;
use crate::bus::middleware::tell;
use crate::bus::parts::counters::{End, Until};
use crate::bus::parts::tree::Tree;
use crate::bus::read::worker_local;
use crate::bus::thread::forbid::may_block_or_log;
use crate::bus::thread::frame;
use crate::event::{AnyEvent, DeliveryPhase};
#[cfg(threadbus_shuttle)]
use crate::runtime::PermitKind;
use crate::runtime::{Runtime, Serves, Worker};
use crate::sys::clock::{self, Tick};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{logging, unwind};
use rustc_hash::FxHashSet;
use std::sync::Arc;
use std::time::Duration;

/// How long a shutdown waits for the log at most.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Of so many events a shutdown leaves a tree.
const TREE: usize = 1000;

/// So many pauses that no `resume` ends them, and no `pause` goes beyond what can be counted.
const HELD: usize = usize::MAX / 2;

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

    fn cores(&self) -> Vec<Arc<BusCore>> {
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

/// Whether there was any, and how many that were not a logger's own.
type GivenUp = (bool, usize);

fn give_up_each(events: Vec<(AnyEvent, usize)>, give_up: &impl Fn(&AnyEvent, usize) -> bool) -> GivenUp {
    let (mut any, mut count) = (false, 0);
    for (event, index) in events {
        if give_up(&event, index) {
            any = true;
            count += usize::from(!event.head().is_from_logger());
        }
        unwind::drop_quietly(event);
    }
    (any, count)
}

#[cfg(threadbus_shuttle)]
impl Runtime {
    /// For models, which have no clock: the deadlines of all running handlers pass now.
    #[doc(hidden)]
    pub fn model_deadlines_pass(&self) {
        for worker in self.core.pool.all_workers() {
            for (slot, what) in worker.take_overdue(clock::NEVER - 1).0 {
                if what == crate::runtime::Overdue::Deadline && slot.running.deadline != clock::NEVER {
                    crate::bus::end::deadline::overdue(&worker, &slot, what);
                }
            }
        }
    }

    /// The watch sweeps: it looks at all stacks before their time.
    #[doc(hidden)]
    pub fn model_watch_sweeps(&self) {
        self.core.watch.sweeps();
    }

    /// The deadlines pass of those running handlers that the watch was told of.
    #[doc(hidden)]
    pub fn model_watch_looks(&self) {
        self.core.watch.looks();
    }

    /// In a model, the timers fire that are due: the delays of retries, the caps of events, waits for limits, what is to be emitted later.
    #[doc(hidden)]
    pub fn model_timers_fire(&self) {
        self.core.watch.fire_timers();
    }

    /// From now on the system refuses every thread, or none.
    #[doc(hidden)]
    pub fn model_threads_refused(&self, refused: bool) {
        crate::sys::thread::refuse(refused);
    }

    /// What is still held, set or running, in words; empty for a runtime whose buses are idle and whose threads have gone.
    #[doc(hidden)]
    pub fn model_left(&self) -> String {
        let mut left = Vec::new();
        for bus in self.cores() {
            let run = bus.run.lock();
            if !(run.event.is_quiet() && run.handler.is_quiet() && run.jumps.is_empty()) {
                left.push(format!("permits of {}", bus.label()));
            }
        }
        let mut global = self.core.global.lock();
        if !(global.semaphore(PermitKind::Event).is_quiet() && global.semaphore(PermitKind::Handler).is_quiet()) {
            left.push("global permits".to_owned());
        }
        drop(global);
        let waits = self.core.parked.lock().len() + self.core.parked_count.load(Ordering::SeqCst);
        let (timers, pool) = (self.core.watch.timers(), self.core.pool.stats());
        if waits + timers + pool.threads + pool.busy + pool.waiting + pool.idle + pool.abandoned > 0 {
            left.push(format!("{waits} waits, {timers} timers, {pool:?}"));
        }
        left.join(", ")
    }
}

impl BusCore {
    pub(crate) fn close_doors(self: &Arc<Self>, doors: Doors) {
        {
            // First of all, and with no other lock: emitters in full flow keep the workers at `run`.
            let mut inlet = self.inlet.lock();
            inlet.doors = inlet.doors.max(doors);
        }
        self.outbox.close();
        self.end_lingering();
    }

    /// A paused bus could never drain.
    pub(crate) fn ends_pause(self: &Arc<Self>) {
        if self.inlet.lock().doors == Doors::Closed {
            // Whoever closed it holds the queue, and lets it go.
            return;
        }
        self.lets_queue_go();
    }

    /// As a pause that nobody can end but a shutdown: what is to be given up must not start meanwhile.
    fn holds_queue(&self) {
        self.run.lock().paused = HELD;
    }

    fn lets_queue_go(self: &Arc<Self>) {
        let mut run = self.run.lock();
        run.paused = 0;
        self.go_on(run);
    }

    /// From now on no delay between two attempts is waited for.
    fn hurry(self: &Arc<Self>) {
        // First this, then the look: who plans a delay looks the other way round.
        self.hurries.store(true, Ordering::SeqCst);
        for event in self.set_aside() {
            let here: Vec<usize> = {
                let state = event.state().lock();
                let own = state.deliveries.iter().enumerate().filter(|(_, d)| d.bus.id == self.identity.id);
                own.filter(|(_, d)| d.phase == DeliveryPhase::Active).map(|(index, _)| index).collect()
            };
            here.into_iter().for_each(|index| cut_delays(self, &event, index));
            unwind::drop_quietly(event);
        }
    }

    #[track_caller]
    fn shut_down(self: &Arc<Self>, mode: Shutdown, deadline: Tick, before: (u64, u64)) -> ShutdownReport {
        let inside = frame::in_callback() || self.is_below_caller();
        let at_once = self.is_idle() && self.locals.load(Ordering::SeqCst) == 0;
        let inside = inside || !at_once && !may_block_or_log("shuts a bus down that is not idle");
        if mode == Shutdown::Drain {
            self.close_doors(Doors::Draining);
            self.ends_pause();
            self.hurry();
            if inside {
                // The queue is finished without us; the last handle's end does the rest.
                let unread = self.inlet.lock().observers.unread();
                return self.report(before, unread);
            }
            self.wait_idle_until(deadline);
        }
        self.close_doors(Doors::Closed);
        self.holds_queue();
        self.give_up_all(shut_down_delivery);
        self.lets_queue_go();
        self.tell_the_rest();
        // Before the wait for handlers to return: one may be waiting for a subscriber's thread to end.
        let (observers, history) = {
            let mut inlet = self.inlet.lock();
            (std::mem::take(&mut inlet.observers), inlet.history.clear())
        };
        observers.close();
        self.leave_tree(history.into_iter().map(|(_, event)| event).collect());
        if !inside {
            self.wait_for_returns(deadline);
        }
        let handlers = self.registry.close();
        worker_local::forget_handlers(self, &handlers);
        handlers.iter().for_each(|handler| handler.has_ended());
        unwind::drop_each(handlers);
        tell::deliver_handlers(self);
        if !inside {
            worker_local::wait_for_locals(self, deadline);
        }
        self.runtime.buses.lock().remove(&self.identity.id);
        self.report(before, observers.unread())
    }

    /// The history goes, and what people would have read of its last events stays.
    fn leave_tree(&self, mut history: Vec<AnyEvent>) {
        if history.is_empty() {
            return;
        }
        let of = history.len();
        let rest = history.split_off(of.saturating_sub(TREE));
        unwind::drop_each(history);
        // Names and texts in it are the user's.
        match frame::callback(|| Tree { of, ..Tree::of_history(rest.clone()) }) {
            Ok(tree) => drop(self.last_tree.set(tree)),
            Err(panic) => {
                let label = Arc::clone(&self.identity.label);
                logging::later!(Error, move || format!("{label} leaves no tree: {panic}"));
            }
        }
        // These were their last holds, mostly.
        unwind::drop_each(rest);
    }

    /// A handler of this bus is on the stack of the calling thread.
    fn is_below_caller(self: &Arc<Self>) -> bool {
        frame::local(|local| local.frames.iter().any(|f| Arc::ptr_eq(&f.bus, self))).unwrap_or(false)
    }

    /// How many deliveries are completed, and how many were given up before they started.
    fn ends(&self) -> (u64, u64) {
        let counters = &self.counters;
        (counters.ended(End::Completed), counters.ended(End::Cancelled) + counters.ended(End::Dropped))
    }

    fn report(&self, before: (u64, u64), unread: usize) -> ShutdownReport {
        let (completed, given_up) = self.ends();
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let abandoned = self.abandoned_here();
        ShutdownReport {
            completed: count(completed - before.0),
            cancelled: count(given_up - before.1),
            abandoned,
            unread,
        }
    }

    /// Everything that is queued, and everything that runs, each by `give_up`; how many there were, but for a logger's own.
    pub(crate) fn give_up_all(self: &Arc<Self>, give_up: impl Fn(&AnyEvent, usize) -> bool) -> usize {
        let mut count = 0;
        loop {
            let unstarted = self.give_up_unstarted(&give_up);
            let on_threads = give_up_each(self.active(self.on_threads()), &give_up);
            count += unstarted.1 + on_threads.1;
            if !unstarted.0 && !on_threads.0 {
                return count;
            }
        }
    }

    /// What is queued, and what has no thread, as far as a line or the history knows it: before the rest, since the place or turn of what is
    /// given up would start the next in line.
    fn give_up_unstarted(&self, give_up: &impl Fn(&AnyEvent, usize) -> bool) -> GivenUp {
        let queued: Vec<(AnyEvent, usize)> = {
            let mut run = self.run.lock();
            self.fetch(&mut run);
            let entries = run.lanes.iter().chain(run.free.iter());
            entries.map(|entry| (entry.event.clone(), entry.delivery as usize)).collect()
        };
        let if_queued = |event: &AnyEvent, index| is_queued(event, index) && give_up(event, index);
        let on_threads = self.on_threads();
        let mut seen: FxHashSet<_> = on_threads.iter().map(|event| event.head().stamp()).collect();
        let mut waiting = self.set_aside();
        waiting.extend(self.inlet.lock().history.iter().cloned());
        waiting.retain(|event| seen.insert(event.head().stamp()));
        unwind::drop_each(on_threads);
        let (of_queue, rest) = (give_up_each(queued, &if_queued), give_up_each(self.active(waiting), give_up));
        (of_queue.0 || rest.0, of_queue.1 + rest.1)
    }

    fn on_threads(&self) -> Vec<AnyEvent> {
        let workers = self.runtime.pool.all_workers();
        workers.iter().flat_map(|worker| worker.slots()).map(|slot| slot.event).collect()
    }

    /// Those of which a delivery of this bus is neither queued nor done, and which.
    fn active(&self, events: Vec<AnyEvent>) -> Vec<(AnyEvent, usize)> {
        let mut found = Vec::new();
        for event in events {
            let index = {
                let state = event.state().lock();
                state.deliveries.iter().position(|d| d.bus.id == self.identity.id && d.phase == DeliveryPhase::Active)
            };
            match index {
                Some(index) => found.push((event, index)),
                None => unwind::drop_quietly(event),
            }
        }
        found
    }

    fn wait_idle_until(&self, deadline: Tick) {
        let Some(worker) = Worker::current() else { return };
        // However it ends, the rest of the shutdown follows.
        let _ = self.rest_until_idle(&worker, frame::top().as_ref(), deadline);
        worker.ends_wait();
    }

    /// Handlers that were given up get until the deadline to come back.
    fn wait_for_returns(&self, deadline: Tick) {
        let Some(worker) = Worker::current() else { return };
        let _watch = self.watch(&worker.bell, Until::Change);
        while self.abandoned_here() > 0 && clock::now() < deadline {
            worker.serve_or_park(deadline, Serves::Awaited);
        }
        worker.ends_wait();
    }

    /// Threads inside a handler of this bus that was given up.
    pub(crate) fn abandoned_here(&self) -> usize {
        let own = |slot: &crate::runtime::Slot| {
            let state = slot.event.state().lock();
            let here = state.deliveries.get(slot.delivery).is_some_and(|d| d.bus.id == self.identity.id);
            here && !slot.is_live(&state)
        };
        self.runtime.pool.all_workers().iter().filter(|worker| worker.slots().iter().any(own)).count()
    }
}
