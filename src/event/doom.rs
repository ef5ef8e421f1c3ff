//! An event below which everything is about to end, though most of that has yet to be told.
//!
//! A cancel of a large tree ends a part of it and *dooms* the rest: it marks the topmost event, and a worker ends what is below that. Until
//! it has, whoever comes to start a handler of an event with a parent looks for the mark above. Other events pay for a look at a number.

use crate::event::{AnyEvent, Cause, marks};
use crate::sys::count::Gauge;

/// How many events are doomed below which not all has ended yet.
static PENDING: Gauge = Gauge::new();

/// It has been carried out, and need not be looked for any more.
pub(crate) fn doom_is_over() {
    PENDING.end();
}

impl AnyEvent {
    /// From now on nothing below it starts. With nothing locked.
    pub(crate) fn doom(&self, cause: &Cause) {
        self.state().lock().links().doom = Some(cause.clone());
        self.head().marks.set(marks::DOOMED);
        PENDING.begin();
    }

    /// Before anybody else knows the event: its parent waits for it.
    pub(crate) fn is_counted_above(&self) {
        self.head().marks.set(marks::COUNTED);
    }

    /// True if an event above it is doomed, so that no handler of it may start. Under its lock.
    #[inline]
    pub(crate) fn is_doomed(&self) -> bool {
        !PENDING.is_zero() && self.doomed_above().is_some()
    }

    /// While an event that its parent waits for is not complete, the parent keeps it, is kept by it, and is not complete either. So nothing
    /// that is let go of here goes.
    #[cold]
    fn doomed_above(&self) -> Option<AnyEvent> {
        if self.is_complete() {
            return None;
        }
        let mut at = self.clone();
        loop {
            let head = at.head();
            let link = head.parent.as_ref().filter(|_| head.marks.has(marks::COUNTED))?;
            at = link.event.upgrade()?;
            if at.head().marks.has(marks::DOOMED) {
                return Some(at);
            }
        }
    }

    /// Why it ends, for whoever has found it doomed. With nothing locked.
    pub(crate) fn doom_cause(&self) -> Option<Cause> {
        self.doomed_above()?.state().lock().links_if_any()?.doom.clone()
    }
}
