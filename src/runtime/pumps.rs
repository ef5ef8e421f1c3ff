//! A worker as the *pump thread* of manual buses: the one thread that runs their handlers. Inside a call of ours that parks, it runs theirs.
//!
//! All of this happens on the worker's own thread.

use crate::runtime::worker::{Bus, NotHere, Serves, Worker};
use crate::sync::refused;
use crate::sys::clock::Tick;
use crate::sys::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

impl Worker {
    /// From now on it is the pump thread of `bus`.
    pub(crate) fn add_pump(&self, bus: Weak<dyn Bus>) {
        let mut pumps = self.pumps.lock();
        pumps.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&bus));
        pumps.push(bus);
        self.has_pumps.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_pumps(&self) -> bool {
        self.has_pumps.load(Ordering::SeqCst)
    }

    fn pumped(&self) -> Vec<Weak<dyn Bus>> {
        self.pumps.lock().clone()
    }

    /// Parks until it is rung, or `until`. True if it ran something of a manual bus instead; as after a ring, the waiter looks again.
    pub(crate) fn serve_or_park(self: &Arc<Self>, until: Tick, serves: Serves) -> bool {
        if self.has_pumps.load(Ordering::SeqCst) && self.serve(serves) {
            return true;
        }
        self.park(until);
        false
    }

    /// Parks until it is rung, or `until`; sooner while the system refuses a thread, to ask for it again.
    pub(crate) fn park(&self, until: Tick) {
        self.bell.wait(refused::come_back(until));
    }

    /// Runs one thing of a manual bus, if it is that bus's pump thread and the bus has any. Not when the stack is nearly used up.
    #[cold]
    pub(crate) fn serve(self: &Arc<Self>, serves: Serves) -> bool {
        self.do_chores();
        if self.is_out_of_stack() {
            return false;
        }
        let mut moved = Vec::new();
        let mut served = false;
        for weak in self.pumped() {
            match weak.upgrade().map(|bus| bus.serve(self, serves)) {
                Some(Ok(false)) => {}
                Some(Ok(true)) => {
                    served = true;
                    break;
                }
                Some(Err(NotHere)) | None => moved.push(weak),
            }
        }
        if !moved.is_empty() {
            let mut pumps = self.pumps.lock();
            pumps.retain(|bus| !moved.iter().any(|gone| gone.ptr_eq(bus)));
            self.has_pumps.store(!pumps.is_empty(), Ordering::SeqCst);
        }
        served
    }

    /// At the end of a call of ours that may have parked: a pump thread that sleeps until `on_ready` wakes it hears of what this call has
    /// left. With nothing locked.
    #[inline]
    pub(crate) fn ends_wait(&self) {
        if self.has_pumps() {
            self.remind();
        }
    }

    #[cold]
    fn remind(&self) {
        for bus in self.pumped().iter().filter_map(Weak::upgrade) {
            bus.remind(self);
        }
    }

    /// Another thread waits for what only this one may run.
    pub(crate) fn pump_is_awaited(&self) -> bool {
        self.pumped().iter().filter_map(Weak::upgrade).any(|bus| bus.pump_is_awaited())
    }

    /// It has no stack left for what only it could run: that gives its turns back meanwhile, so that others may have them.
    #[cold]
    pub(crate) fn give_back_turns(&self) {
        for bus in self.pumped().iter().filter_map(Weak::upgrade) {
            bus.give_back_turns();
        }
    }
}
