//! The threads that run a bus: those of the pool, or the one that pumps a manual bus. The rooms above ask here for all that differs.
//!
//! A manual bus is run by a pool of one worker, which is the caller of `run_pending`: what would be a job waits for it in [`Manual`], and
//! nothing waits for another thread.
//!
//! [`Manual`]: crate::bus::parts::manual::Manual

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::event::Priority;
use crate::runtime::{Bus, Claimed, GoOn, Job, Pumped};
use std::sync::Arc;

impl BusCore {
    /// Any number of threads of the pool run it; else one, which the application sends.
    #[inline]
    pub(crate) fn is_pooled(&self) -> bool {
        self.manual.is_none()
    }

    /// The loop as a job: for the pool, or the pump thread.
    pub(crate) fn loop_job(self: &Arc<Self>, priority: Priority) -> Job {
        let bus = Arc::clone(self) as Arc<dyn Bus>;
        if self.is_pooled() { Job::Loop(bus, priority) } else { Job::Pumped(bus, Pumped::Loop) }
    }

    /// The runner of parallel events as a job.
    pub(crate) fn free_job(self: &Arc<Self>, priority: Priority) -> Job {
        let bus = Arc::clone(self);
        if self.is_pooled() {
            Job::at(priority, self.lane, move |worker| bus.run_free(worker))
        } else {
            Job::Pumped(bus, Pumped::Free)
        }
    }

    /// A delivery begins to run.
    #[inline]
    pub(crate) fn count_start(&self) {
        if let Some(pump) = &self.manual {
            pump.count_start();
        }
    }

    /// Of what is queued the pump thread starts no more in this call.
    #[inline]
    pub(crate) fn has_pumped_enough(&self) -> bool {
        self.manual.as_ref().is_some_and(|pump| pump.is_spent())
    }

    /// What the calling thread does not do on the bus, nobody does.
    pub(crate) fn is_left_to_this_thread(&self) -> bool {
        self.manual.as_ref().is_some_and(|pump| pump.is_alone())
    }

    /// One thread pumps both.
    pub(crate) fn shares_pump_thread(&self, other: &BusCore) -> bool {
        match (&self.manual, &other.manual) {
            (Some(own), Some(other)) => own.thread() == other.thread(),
            _ => false,
        }
    }

    /// For `Debug`.
    pub(crate) fn describe_pump(&self) -> String {
        self.manual.as_ref().map_or_else(String::new, |pump| pump.describe())
    }
}

impl DeliveryRef<'_> {
    /// A job that goes on with it, once it is claimed: for the pool, or the pump thread.
    pub(crate) fn job(self, how: GoOn) -> Job {
        let DeliveryRef { bus, event, index } = self;
        let own = Arc::clone(bus) as Arc<dyn Bus>;
        if bus.is_pooled() {
            Job::drives(own, event, index, how)
        } else {
            Job::Pumped(own, Pumped::Delivery(Claimed { event: event.clone(), delivery: index, how }))
        }
    }
}
