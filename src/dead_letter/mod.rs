//! Failures that a bus keeps, to be looked at and tried again.
//!
//! The store is in `rules`. Imports `sys`, `rules` and `bus`. Hangs its verbs on [`EventBus`] from above.

use crate::bus::{EventBus, Redriven, in_callback};
use crate::rules::DeadLetter;
use crate::sys::unwind;

/// How a redrive went.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedriveReport {
    /// Handlers that succeeded this time; their letters are gone.
    pub succeeded: usize,
    /// Handlers that failed once more, after all their attempts; their letters stay.
    pub failed: usize,
}

impl EventBus {
    /// The failures that are kept, oldest first: a list that does not change when the bus's does.
    ///
    /// Empty unless the bus was built with [`dead_letters`](crate::BusBuilder::dead_letters).
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.core().dead_letters.lock().list()
    }

    /// Runs the failed handlers of the oldest `max` letters again, and only those handlers, one after the other; a handler that is not
    /// registered any more is left out. What succeeds leaves the letters, what fails again stays, with more attempts; a letter that
    /// another thread is redriving is not run twice. The event's results show the newest outcome.
    ///
    /// **Blocking**: the handlers run on the calling thread, ahead of the queue, as with [`emit_now`](EventBus::emit_now). In a
    /// callback that is not a handler, where that could never be right, nothing is redriven.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use std::sync::Arc;
    /// use threadbus::{Event, EventBus, Payload};
    /// struct Upload;
    /// impl Payload for Upload { type Output = (); }
    ///
    /// let bus = EventBus::builder("uploads").dead_letters(100).build()?;
    /// let online = Arc::new(AtomicBool::new(false));
    /// let is_online = Arc::clone(&online);
    /// bus.on(move |_: &Event<Upload>| if is_online.load(Ordering::SeqCst) { Ok(()) } else { Err("offline") });
    /// bus.emit(Upload).wait()?;
    /// assert_eq!(bus.dead_letters().len(), 1);
    ///
    /// online.store(true, Ordering::SeqCst);
    /// let report = bus.redrive(10);
    /// assert_eq!((report.succeeded, report.failed), (1, 0));
    /// assert!(bus.dead_letters().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn redrive(&self, max: usize) -> RedriveReport {
        if in_callback() {
            return RedriveReport { succeeded: 0, failed: 0 };
        }
        let core = self.core();
        let letters = core.dead_letters.lock().begin_redrive(max, |letter| letter.handler.is_registered());
        let mut report = RedriveReport { succeeded: 0, failed: 0 };
        for letter in letters {
            match core.run_again(&letter.event, &letter.handler) {
                Redriven::Succeeded => {
                    report.succeeded += 1;
                    let gone = core.dead_letters.lock().succeeded(&letter.event, &letter.handler);
                    unwind::drop_quietly(gone);
                }
                // The end of its delivery has noted it.
                Redriven::Failed => report.failed += 1,
                Redriven::Left => core.dead_letters.lock().release(&letter.event, &letter.handler),
            }
            unwind::drop_quietly(letter);
        }
        report
    }

    /// Forgets all failures that are kept; how many there were.
    ///
    /// One that is just being redriven is forgotten too, and kept anew if it fails again.
    pub fn clear_dead_letters(&self) -> usize {
        let gone = self.core().dead_letters.lock().clear();
        let count = gone.len();
        unwind::drop_each(gone);
        count
    }
}
