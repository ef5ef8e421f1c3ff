//! How many threads run the parallel handlers of a delivery.
//!
//! Helpers are called with the first start, so that handlers which wait for each other meet. But waking a thread takes longer than
//! many handlers: where those of a type were quick the last time, one thread begins alone. It calls helpers itself if it falls behind
//! that pace; if it stands still in a handler, the watch does.

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::event::{AnyEvent, Delivery, DeliveryPhase, TypeSlot};
use crate::runtime::GoOn;
use crate::sys::thread;

/// One thread runs the parallel handlers of an event, as long as it is quick.
pub(crate) fn starts_alone(bus: &BusCore, event: &AnyEvent, slot: &TypeSlot) -> bool {
    slot.is_quick() && bus.is_pooled() && event.head().options().is_none()
}

/// As many as can run beside this thread, at least one.
pub(crate) fn other_cores() -> u32 {
    (thread::cores() as u32 - 1).max(1)
}

impl DeliveryRef<'_> {
    /// A delivery whose handlers may run beside each other is not left to one thread any longer.
    pub(crate) fn call_helpers(self) {
        let called = {
            let mut state = self.event.state().lock();
            let parallel = |d: &&mut Delivery| d.phase == DeliveryPhase::Active && d.manner.parallel;
            self.in_state_mut(&mut state).filter(parallel).map_or(0, |d| d.ask_for_helpers(other_cores()))
        };
        for _ in 0..called {
            self.submit_helper();
        }
    }

    pub(crate) fn submit_helper(self) {
        self.bus.runtime.pool.submit(self.job(GoOn::Help));
    }
}

#[cfg(all(test, not(threadbus_shuttle)))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests")]

    use crate::{Event, EventBus, HandlerConcurrency, HandlerOptions, Payload, ResultStatus};
    use std::sync::{Arc, Barrier, Condvar, Mutex};
    use std::time::Duration;

    struct Quick;
    impl Payload for Quick {
        type Output = ();
    }
    struct Side;
    impl Payload for Side {
        type Output = ();
    }

    const LONG: Duration = Duration::from_secs(20);

    fn bus(name: &str) -> EventBus {
        EventBus::builder(name).handler_concurrency(HandlerConcurrency::Parallel).build().unwrap()
    }

    /// As if all events so far had ended at once.
    fn has_been_quick(bus: &EventBus) {
        let slot = bus.core().slot_of::<Quick>();
        slot.took(0);
        assert!(slot.is_quick());
    }

    #[derive(Clone, Default)]
    struct Gate(Arc<(Mutex<bool>, Condvar)>);

    impl Gate {
        fn open(&self) {
            *self.0.0.lock().unwrap() = true;
            self.0.1.notify_all();
        }

        fn pass(&self) {
            let opened = self.0.1.wait_timeout_while(self.0.0.lock().unwrap(), LONG, |open| !*open).unwrap();
            assert!(!opened.1.timed_out());
        }
    }

    #[test]
    fn handlers_that_were_quick_and_now_wait_for_each_other_meet() {
        let bus = bus("meet");
        let barrier = Arc::new(Barrier::new(3));
        for _ in 0..3 {
            let barrier = Arc::clone(&barrier);
            bus.on(move |_: &Event<Quick>| {
                barrier.wait();
            });
        }
        has_been_quick(&bus);
        bus.emit(Quick).wait_timeout(LONG).unwrap();
        assert!(!bus.core().slot_of::<Quick>().is_quick());
    }

    #[test]
    fn one_that_waits_for_an_event_leaves_the_others_to_helpers() {
        let bus = bus("wait");
        let gate = Gate::default();
        let (opens, passes) = (gate.clone(), gate);
        bus.on(|event: &Event<Quick>| event.bus().emit(Side).wait().map(drop));
        bus.on(move |_: &Event<Quick>| opens.open());
        bus.on(move |_: &Event<Side>| passes.pass());
        has_been_quick(&bus);
        let event = bus.emit(Quick).wait_timeout(LONG).unwrap();
        assert!(event.results().iter().all(|result| result.status == ResultStatus::Completed));
    }

    #[test]
    fn one_that_is_given_up_does_not_keep_the_others() {
        let bus = bus("late");
        let gate = Gate::default();
        let stays = gate.clone();
        let short = HandlerOptions::new().timeout(Duration::from_millis(30));
        bus.on_with(short, move |_: &Event<Quick>| stays.pass());
        for _ in 0..3 {
            bus.on(|_: &Event<Quick>| {});
        }
        has_been_quick(&bus);
        let event = bus.emit(Quick).wait_timeout(LONG).unwrap();
        gate.open();
        assert_eq!(event.errors().len(), 1);
        assert_eq!(event.results().len(), 4);
    }

    #[test]
    fn handlers_with_a_limit_or_a_short_deadline_are_never_left_to_one_thread() {
        let bus = bus("short");
        bus.on_with(HandlerOptions::new().timeout(Duration::from_millis(1)), |_: &Event<Quick>| {});
        bus.core().slot_of::<Quick>().took(0);
        assert!(!bus.core().slot_of::<Quick>().is_quick());
    }
}
