//! How a failure becomes a dead letter, above all below a handler that is being redriven.
//!
//! A redriven handler emits anew what it emitted before. What fails of that waits for the handler's own end: if that fails again, its letter
//! stands for all of it; if it succeeds, the failures below are letters of their own. Whose it is, the links from child to parent say.

use crate::bus::core::BusCore;
use crate::event::{AnyEvent, HandlerFailure, HandlerId, HandlerInfo};
use crate::rules::{Below, Failed, Gone, Later};
use crate::sys::clock::Stamp;
use crate::sys::count::Count;
use crate::sys::unwind;
use smallvec::SmallVec;
use std::sync::Arc;

/// So many redrives have begun in the process. Before the first nobody looks for one.
static REDRIVES: Count = Count::new();

/// Before any handler runs again.
pub(crate) fn redrive_begins() {
    REDRIVES.add_one();
}

/// A handler that failed for good.
#[derive(Clone)]
pub(crate) struct Failure {
    pub(crate) handler: HandlerInfo,
    pub(crate) attempts: u32,
    pub(crate) error: Arc<HandlerFailure>,
    pub(crate) permanent: bool,
    pub(crate) at: Stamp,
}

/// With nothing locked.
pub(crate) fn note(bus: &Arc<BusCore>, event: &AnyEvent, failure: Failure) {
    if REDRIVES.read() > 0 && is_below_redrive(bus, event, &failure) {
        return unwind::drop_quietly(failure);
    }
    let Failure { handler, attempts, error, permanent, at } = failure;
    let failed = Failed { event, handler: &handler, attempts, error, permanent, at };
    let gone = bus.dead_letters.lock().note(failed);
    drop_gone(gone);
}

/// It waits for the end of a redrive, or that has ended in vain.
fn is_below_redrive(bus: &Arc<BusCore>, event: &AnyEvent, failure: &Failure) -> bool {
    let (own, of, again) = (Arc::downgrade(bus), event.clone(), failure.clone());
    let mut later: Later = Box::new(move || {
        // Another one above may still be under way.
        own.upgrade().into_iter().for_each(|own| note(&own, &of, again.clone()));
    });
    let mut child = event.clone();
    loop {
        let link = child.head().parent.clone();
        let Some((parent, handler)) = link.and_then(|link| Some((link.event.upgrade()?, link.handler))) else {
            break;
        };
        let stamp = child.head().stamp();
        // Each may be the last hold of its event.
        unwind::drop_quietly(std::mem::replace(&mut child, parent));
        if let Some(handler) = handler {
            match ask(&child, handler, stamp, later) {
                Some(free) => later = free,
                None => {
                    unwind::drop_quietly(child);
                    return true;
                }
            }
        }
    }
    unwind::drop_quietly(child);
    unwind::drop_quietly(later);
    false
}

/// Whether a redrive of this handler of this event, which emitted something at `child`, takes care of a letter below. `Some`: it does not.
fn ask(event: &AnyEvent, handler: HandlerId, child: Stamp, mut later: Later) -> Option<Later> {
    let buses: SmallVec<[_; 1]> = event.state().lock().deliveries.iter().map(|d| Arc::clone(&d.bus)).collect();
    for bus in buses.iter().filter_map(|bus| BusCore::of(bus)).filter(|bus| bus.options.dead_letters > 0) {
        let below = bus.dead_letters.lock().below(event, handler, child, later);
        match below {
            Below::Free(free) => later = free,
            Below::Held(gone) => {
                unwind::drop_quietly(gone);
                return None;
            }
            Below::Never(gone) => {
                unwind::drop_quietly(gone);
                return None;
            }
        }
    }
    Some(later)
}

pub(crate) fn drop_gone(gone: Gone) {
    unwind::drop_each(gone.letters);
    unwind::drop_each(gone.below);
}
