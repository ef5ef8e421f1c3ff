//! The deliveries on a worker's stack: its thread pushes, changes and pops them, and the watch looks at them.
//!
//! The watch has *promised* to look at a stack no later than its `bound`. A handler whose alarm comes after that needs no word to the watch.

use crate::event::AnyEvent;
use crate::rules::ALONE;
use crate::runtime::slot::{Overdue, Running, Slot, Stack};
use crate::runtime::worker::Worker;
use crate::sys::clock::{NEVER, Tick};
use crate::sys::planted;
use crate::sys::sync::MutexGuard;
use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;

impl Worker {
    /// May be taken under `run`, and before an event's lock.
    pub(crate) fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock()
    }

    /// Shows a delivery and its first handler to the watch; with the event locked, too. `Some`: the caller must tell the watch, after
    /// unlocking. `None`: the watch comes early enough as it is.
    #[must_use]
    #[inline(always)]
    pub(crate) fn push(&self, stack: &mut Stack, slot: Slot) -> Option<Tick> {
        if let Some(below) = stack.slots.last_mut() {
            below.running = self.top.read();
        }
        let alarm = slot.alarm();
        self.top.show(slot.running);
        stack.slots.push(slot);
        self.promise(alarm)
    }

    /// Shows the next handler of the topmost delivery, with its event locked. `Some`: as for [`push`](Worker::push).
    #[must_use]
    #[inline]
    pub(crate) fn change(&self, running: Running) -> Option<Tick> {
        self.top.show(running);
        self.promise(running.alarm())
    }

    /// The topmost delivery, which is about to go, runs no handler any more; with its event locked.
    #[inline]
    pub(crate) fn end_top(&self) {
        self.top.ends();
    }

    /// Takes the topmost delivery off the stack.
    pub(crate) fn pop(&self) -> Option<Slot> {
        let mut stack = self.stack.lock();
        let gone = stack.slots.pop();
        if let Some(slot) = stack.slots.last() {
            self.top.show(slot.running);
        }
        gone
    }

    #[inline]
    fn promise(&self, alarm: Tick) -> Option<Tick> {
        let earlier = alarm < self.bound.load(Ordering::Relaxed);
        if earlier {
            self.bound.fetch_min(alarm, Ordering::Relaxed);
        }
        earlier.then_some(alarm)
    }

    /// Calls `act` if the bottom handler was ended from outside, before that handler can leave the stack.
    pub(crate) fn if_bottom_is_dead(&self, act: impl FnOnce()) {
        let mut stack = self.stack.lock();
        let is_top = stack.slots.len() == 1;
        let Some(slot) = stack.slots.first_mut() else { return };
        let event = slot.event.clone();
        let state = event.state().lock();
        if is_top {
            slot.running = self.top.read();
        }
        let dead = slot.running.attempt != 0 && !slot.is_live(&state);
        drop(state);
        if dead {
            act();
        }
    }

    /// The event whose delivery runs directly on top of this one: one of its handlers waits for that.
    pub(crate) fn above(&self, event: &AnyEvent, delivery: usize) -> Option<AnyEvent> {
        let stack = self.stack.lock();
        let at = stack.slots.iter().rposition(|slot| slot.event.same(event) && slot.delivery == delivery)?;
        stack.slots.get(at + 1).map(|above| above.event.clone())
    }

    /// A copy of the stack, bottom first. Not with an event locked.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let stack = self.stack.lock();
        let mut slots = stack.slots.clone();
        if let Some(top) = slots.last_mut() {
            let state = top.event.state().lock();
            let running = self.top.read();
            drop(state);
            top.running = running;
            if running.attempt == 0 {
                // Not the last hold of the event: its thread has one.
                drop(slots.pop());
            }
        }
        slots
    }

    /// The watch's look: everything whose alarm has come, bottom first, and the next alarm, `NEVER` if there is none. May come too early.
    pub(crate) fn take_overdue(self: &Arc<Self>, now: Tick) -> (Vec<(Slot, Overdue)>, Tick) {
        let mut due = Vec::new();
        let mut stack = self.stack.lock();
        // Before the look: a thread that starts a handler after it finds nothing promised, and tells the watch.
        if !planted("promise_withdrawn_late") {
            self.bound.store(NEVER, Ordering::Relaxed);
        }
        let mut bound = NEVER;
        let count = stack.slots.len();
        for (at, slot) in stack.slots.iter_mut().enumerate() {
            let event = slot.event.clone();
            let state = event.state().lock();
            let is_top = at + 1 == count;
            if is_top {
                slot.running = self.top.read();
            }
            if slot.running.attempt == 0 || !slot.is_live(&state) {
                // An attempt that is over needs no alarm, however long its thread stays.
                continue;
            }
            slot.take_due(now, &mut due);
            bound = bound.min(slot.alarm());
            if is_top {
                self.top.show(slot.running);
            }
        }
        if planted("promise_withdrawn_late") {
            drop(stack);
            self.bound.store(bound, Ordering::Relaxed);
            return (due, bound);
        }
        self.bound.fetch_min(bound, Ordering::Relaxed);
        (due, bound)
    }
}

impl Slot {
    /// Adds to `due` whatever is due by `now`, once each.
    fn take_due(&mut self, now: Tick, due: &mut Vec<(Slot, Overdue)>) {
        if self.running.deadline <= now {
            due.push((self.clone(), Overdue::Deadline));
            self.running.deadline = NEVER;
            self.running.slow = NEVER;
            self.slow_event = NEVER;
        }
        if self.running.slow <= now {
            due.push((self.clone(), Overdue::SlowHandler));
            self.running.slow = NEVER;
        }
        if self.slow_event <= now {
            due.push((self.clone(), Overdue::SlowEvent));
            self.slow_event = NEVER;
        }
        if self.help <= now {
            // The handler that runs now may have begun after the one for which this was set.
            self.help = self.running.since.saturating_add(ALONE);
        }
        if self.help <= now {
            due.push((self.clone(), Overdue::Alone));
            self.help = NEVER;
        }
    }
}
