//! Events that tell the histories they are in when they are complete: those that a history has looked at before that.
//!
//! *Race: the event completes just when a history looks at it.* The look sets the mark under the event's lock, where it completes. So the
//! look sees it complete, or the completion sees the mark. *Race: a thread sees the event complete before the histories are told.* The
//! completion is counted before it is seen, and again when it is told; while the counts differ, a history looks at all it has.

use crate::event::AnyEvent;
use crate::event::marks;
use crate::sys::count::Count;

static BEGUN: Count = Count::new();
static TOLD: Count = Count::new();

/// Nobody sees an event complete of which its histories have yet to be told.
pub(crate) fn all_ripe_are_told() -> bool {
    let told = TOLD.read();
    BEGUN.read() == told
}

/// The histories of an event that tells have been told.
pub(crate) fn note_ripe_told() {
    TOLD.add_one();
}

/// An event that tells is about to be seen complete.
pub(super) fn note_ripe() {
    BEGUN.add_one();
}

impl AnyEvent {
    /// From now on its completion is told. False if it is complete.
    pub(crate) fn tells_when_complete(&self) -> bool {
        let state = self.state().lock();
        if !state.complete {
            self.head().marks.set(marks::TELLS);
        }
        !state.complete
    }

    /// Whoever completes it has to tell.
    #[inline]
    pub(crate) fn is_told_of(&self) -> bool {
        self.head().marks.has(marks::TELLS)
    }
}
