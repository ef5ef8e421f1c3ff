//! Deliveries that have been claimed and of which nothing runs: in line for a place under a limit, a worker process or a permit, or between
//! two attempts. They count against the queue's capacity, with what is queued.
//!
//! The event knows that its delivery waits, under its lock, and so does whoever changes that. A wait begins where somebody finds that a
//! delivery cannot start, and ends with the start of a handler or with the delivery.

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::bus::core::permit::is_active;
use crate::bus::parts::recorder::By;
use crate::bus::parts::set_aside::{Age, SetAside};
use crate::bus::thread::frame;
use crate::event::{AnyEvent, DeliveryPhase, OnFull, RecordPhase, State, Wait};
use crate::sys::clock::{self, Tick};
use crate::sys::sync::atomic::Ordering;
use crate::sys::unwind;
use rustc_hash::FxHashSet;

impl DeliveryRef<'_> {
    /// A shutdown must find what has no thread.
    pub(crate) fn note_set_aside(self) {
        let noted = {
            let mut state = self.event.state().lock();
            self.wait_begins(&mut state, None);
            self.in_state(&state).is_none_or(|delivery| delivery.noted)
        };
        if !noted {
            self.note_in_list();
        }
        self.bus.sweep_set_aside();
    }

    /// It stays in the list for as long as it is active. May be called under `run`, so that a shutdown finds it there or in the queue.
    pub(crate) fn note_in_list(self) {
        self.bus.set_aside.lock().list.push((self.event.downgrade(), self.index));
        // Only now: who finds this set relies on the list.
        if let Some(delivery) = self.in_state_mut(&mut self.event.state().lock()) {
            delivery.noted = true;
        }
    }

    /// Under the event's lock. Nothing if something of the delivery runs, or it waits already. `queued`: how long it was queued, unless
    /// that has been recorded.
    #[cold]
    pub(crate) fn wait_begins(self, state: &mut State, queued: Option<Tick>) {
        let Some(delivery) = self.in_state(state) else { return };
        let runs = delivery.records.iter().any(|record| record.phase == RecordPhase::Started);
        let is_over = delivery.phase != DeliveryPhase::Active || delivery.is_fixed() && delivery.left == 0;
        if runs || is_over || delivery.redrive {
            return;
        }
        let tried = delivery.anything_started();
        if !state.begin_wait(Wait { delivery: self.index, queued, tried }) {
            return;
        }
        let waiting = &self.bus.waiting;
        if tried {
            waiting.tried.fetch_add(1, Ordering::SeqCst);
        } else if self.bus.drops_oldest() {
            waiting.unstarted.lock().insert(age(self.event, self.index), self.event.downgrade());
        }
        waiting.count.fetch_add(1, Ordering::SeqCst);
    }

    /// A handler of it starts.
    pub(crate) fn wait_ends(self) {
        let mut state = self.event.state().lock();
        if let Some(wait) = state.end_wait(self.index) {
            let begun = self.in_state(&state).map_or(0, |delivery| delivery.begun);
            self.bus.wait_is_over(self.event, wait, Some(begun));
        }
    }
}

impl BusCore {
    /// What is over leaves the list, from time to time. With nothing locked.
    #[cold]
    pub(crate) fn sweep_set_aside(&self) {
        // Each may be the last hold of its event by now.
        let mut held = Vec::new();
        {
            let mut set_aside = self.set_aside.lock();
            let SetAside { list, sweep } = &mut *set_aside;
            if !sweep.is_due(list.len()) {
                return;
            }
            // Two threads may have noted the same one.
            let mut seen = FxHashSet::default();
            list.retain(|(weak, delivery)| {
                let Some(event) = weak.upgrade() else { return false };
                let stays = is_active(&event, *delivery) && seen.insert((event.head().stamp(), *delivery));
                held.push(event);
                stays
            });
            sweep.has_left(list.len());
        }
        // Whoever is here has yet to go on.
        let _ = frame::callback(|| unwind::drop_each(held));
    }

    pub(crate) fn set_aside(&self) -> Vec<AnyEvent> {
        self.set_aside.lock().list.iter().filter_map(|(event, _)| event.upgrade()).collect()
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.count.load(Ordering::SeqCst)
    }

    /// What counts against the queue's capacity.
    pub(crate) fn occupied(&self) -> usize {
        // In this order none counts twice that is being claimed.
        let waiting = self.waiting_count();
        self.pending() + waiting
    }

    /// `begun`: when the delivery was claimed; `None` if no handler starts. May be called under the event's lock.
    #[cold]
    pub(crate) fn wait_is_over(&self, event: &AnyEvent, wait: Wait, begun: Option<Tick>) {
        if let (Some(queued), Some(begun)) = (wait.queued, begun) {
            let queued = queued.saturating_add(clock::now().saturating_sub(begun));
            self.recorder.queued_for(queued, By::Anybody, || self.counters.claimed());
        }
        self.waiting.count.fetch_sub(1, Ordering::SeqCst);
        if wait.tried {
            self.waiting.tried.fetch_sub(1, Ordering::SeqCst);
        } else {
            self.is_not_to_be_dropped(event, wait.delivery);
        }
        if self.options.queue_capacity.is_some() {
            self.ring_idlers();
        }
    }

    /// It has started, is over, or is about to be dropped.
    pub(crate) fn is_not_to_be_dropped(&self, event: &AnyEvent, index: usize) {
        if self.drops_oldest() {
            // Only a weak one: nothing of the user's goes here.
            self.waiting.unstarted.lock().remove(&age(event, index));
        }
    }

    /// As many as the queue takes wait and have had an attempt: none can be dropped.
    pub(crate) fn is_full_of_tried(&self) -> bool {
        let tried = self.waiting.tried.load(Ordering::SeqCst);
        self.options.queue_capacity.is_some_and(|capacity| tried >= capacity)
    }

    /// The oldest of the lowest priority of which no handler has started.
    pub(crate) fn oldest_waiting(&self) -> Option<(AnyEvent, usize)> {
        let mut unstarted = self.waiting.unstarted.lock();
        while let Some(first) = unstarted.first_entry() {
            let (.., index) = *first.key();
            if let Some(event) = first.get().upgrade() {
                return Some((event, index));
            }
            first.remove();
        }
        None
    }

    fn drops_oldest(&self) -> bool {
        self.options.queue_capacity.is_some() && self.options.on_full == OnFull::DropOldest
    }
}

fn age(event: &AnyEvent, index: usize) -> Age {
    (event.head().priority, event.head().stamp(), index)
}
