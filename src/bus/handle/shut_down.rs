//! The steps of a shutdown on one bus.

use crate::bus::core::permit::is_queued;
use crate::bus::core::{BusCore, Doors};
use crate::bus::end::cancel::shut_down_delivery;
use crate::bus::middleware::tell;
use crate::bus::parts::counters::{End, Until};
use crate::bus::parts::tree::Tree;
use crate::bus::read::worker_local;
use crate::bus::thread::forbid::may_block_or_log;
use crate::bus::thread::frame;
use crate::event::{AnyEvent, Delivery, DeliveryPhase};
use crate::runtime::{Serves, Worker};
use crate::sys::clock::{self, Tick};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{logging, unwind};
use rustc_hash::FxHashSet;
use std::sync::Arc;

use crate::bus::handle::shutdown::{Shutdown, ShutdownReport};

/// Of so many events a shutdown leaves a tree.
const TREE: usize = 1000;

/// So many pauses that no `resume` ends them, and no `pause` goes beyond what can be counted.
const HELD: usize = usize::MAX / 2;

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
    pub(crate) fn holds_queue(&self) {
        self.run.lock().paused = HELD;
    }

    pub(crate) fn lets_queue_go(self: &Arc<Self>) {
        let mut run = self.run.lock();
        run.paused = 0;
        self.go_on(run);
    }

    /// From now on no delay between two attempts is waited for.
    pub(crate) fn hurry(self: &Arc<Self>) {
        // First this, then the look: who plans a delay looks the other way round.
        self.hurries.store(true, Ordering::SeqCst);
        for event in self.set_aside() {
            let here: Vec<usize> = {
                let state = event.state().lock();
                let own = state.deliveries.iter().enumerate().filter(|(_, d)| d.bus.id == self.identity.id);
                own.filter(|(_, d)| d.phase == DeliveryPhase::Active).map(|(index, _)| index).collect()
            };
            here.into_iter().for_each(|index| self.delivery(&event, index).cut_delays());
            unwind::drop_quietly(event);
        }
    }

    #[track_caller]
    pub(crate) fn shut_down(self: &Arc<Self>, mode: Shutdown, deadline: Tick, before: (u64, u64)) -> ShutdownReport {
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
        self.runtime.remove_bus(&self.identity);
        self.report(before, observers.unread())
    }

    /// The history goes, and what people would have read of its last events stays.
    pub(crate) fn leave_tree(&self, mut history: Vec<AnyEvent>) {
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
    pub(crate) fn is_below_caller(self: &Arc<Self>) -> bool {
        frame::local(|local| local.frames.iter().any(|f| Arc::ptr_eq(&f.bus, self))).unwrap_or(false)
    }

    /// How many deliveries are completed, and how many were given up before they started.
    pub(crate) fn ends(&self) -> (u64, u64) {
        let counters = &self.counters;
        (counters.ended(End::Completed), counters.ended(End::Cancelled) + counters.ended(End::Dropped))
    }

    pub(crate) fn report(&self, before: (u64, u64), unread: usize) -> ShutdownReport {
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
    pub(crate) fn give_up_unstarted(&self, give_up: &impl Fn(&AnyEvent, usize) -> bool) -> GivenUp {
        let queued: Vec<(AnyEvent, usize)> = {
            let mut run = self.run.lock();
            self.fetch(&mut run);
            let entries = run.lanes.iter().chain(run.free.iter());
            entries.map(|entry| (entry.event.clone(), entry.delivery as usize)).collect()
        };
        let if_queued = |event: &AnyEvent, index| is_queued(event, index) && give_up(event, index);
        let held = self.held_unstarted();
        let on_threads = self.on_threads();
        let mut seen: FxHashSet<_> = on_threads.iter().map(|event| event.head().stamp()).collect();
        let mut waiting = self.set_aside();
        waiting.extend(self.inlet.lock().history.iter().cloned());
        waiting.retain(|event| seen.insert(event.head().stamp()));
        unwind::drop_each(on_threads);
        let (of_queue, held) = (give_up_each(queued, &if_queued), give_up_each(held, give_up));
        let rest = give_up_each(self.active(waiting), give_up);
        (of_queue.0 || held.0 || rest.0, of_queue.1 + held.1 + rest.1)
    }

    /// What is to come after other events. Once the doors are closed nobody but the thread that closed them takes it from there.
    fn held_unstarted(&self) -> Vec<(AnyEvent, usize)> {
        let held: Vec<AnyEvent> = self.held.lock().all().filter_map(|hold| hold.event()).collect();
        let unstarted = |event: &AnyEvent| {
            let state = event.state().lock();
            let held = |d: &Delivery| d.bus.id == self.identity.id && d.phase == DeliveryPhase::Held;
            state.deliveries.iter().position(held)
        };
        held.into_iter().filter_map(|event| unstarted(&event).map(|index| (event, index))).collect()
    }

    pub(crate) fn on_threads(&self) -> Vec<AnyEvent> {
        let workers = self.runtime.pool.all_workers();
        workers.iter().flat_map(|worker| worker.slots()).map(|slot| slot.event).collect()
    }

    /// Those of which a delivery of this bus is neither queued nor done, and which.
    pub(crate) fn active(&self, events: Vec<AnyEvent>) -> Vec<(AnyEvent, usize)> {
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

    pub(crate) fn wait_idle_until(&self, deadline: Tick) {
        let Some(worker) = Worker::current() else { return };
        // However it ends, the rest of the shutdown follows.
        let _ = self.rest_until_idle(&worker, frame::top().as_ref(), deadline);
        worker.ends_wait();
    }

    /// Handlers that were given up get until the deadline to come back.
    pub(crate) fn wait_for_returns(&self, deadline: Tick) {
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
