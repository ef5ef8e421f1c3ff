//! Which event is below which.

use crate::event::AnyEvent;

/// True if `event` is `ancestor`, or below it, by links that completion waits for.
pub(crate) fn is_below(event: &AnyEvent, ancestor: &AnyEvent) -> bool {
    let mut at = Some(event.clone());
    while let Some(event) = at {
        if event.same(ancestor) {
            return true;
        }
        // Parents are older than their children.
        if event.head().stamp() < ancestor.head().stamp() {
            return false;
        }
        at = event.state().lock().parent.clone();
    }
    false
}
