//! What a thread carries is put aside, or marked, while it does something for somebody else.

use crate::bus::thread::frame::{Local, callback_apart, local};
use crate::event::{ContextMap, is_marked};
use crate::sys::logging;
use std::sync::Arc;

/// What the thread carries, put aside until this goes.
pub(crate) struct Aside(Option<Local>);

impl Aside {
    pub(crate) fn set(context: Option<Arc<ContextMap>>) -> Aside {
        Aside(local(|local| std::mem::replace(local, Local { context, stands_in: true, ..Local::default() })))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let Some(carried) = self.0.take() else { return };
        let own = local(|local| std::mem::replace(local, carried));
        drop(own);
    }
}

/// How this room surrounds a logger: as a callback that belongs to no handler, whose emits bear the mark.
struct Apart;

impl logging::Around for Apart {
    fn apart(&self, logger: &mut dyn FnMut()) -> bool {
        let Some(context) = local(|local| local.context.clone()) else { return false };
        // The panic hook has said what it panicked with.
        let _ = callback_apart(context, logger);
        true
    }

    fn is_marked(&self) -> bool {
        local(|local| local.context.as_deref().is_some_and(is_marked)).unwrap_or(false)
    }
}

pub(crate) fn surround_loggers() {
    logging::surround(&Apart);
}

/// Nothing is logged about what `body` emits, nor about what comes of it.
#[cfg(feature = "process")]
pub(crate) fn unlogged<R>(body: impl FnOnce() -> R) -> R {
    let outer = local(|local| {
        let context = crate::event::marked(local.context.as_ref());
        local.context.replace(context)
    });
    let result = body();
    let inner = outer.and_then(|outer| local(|local| std::mem::replace(&mut local.context, outer)));
    drop(inner);
    result
}
