//! Values that travel with an event, and the mark of events that come from the program's logger.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Values that travel with an event, by type.
pub(crate) type ContextMap = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// The mark. It is in the context of what a logger emits that this crate has called, and so of all that comes of it: nothing is logged about those
/// events, or each record would make the next one.
struct FromLogger;

/// A context with the mark in it.
pub(crate) fn marked(context: Option<&Arc<ContextMap>>) -> Arc<ContextMap> {
    static NOTHING_ELSE: OnceLock<Arc<ContextMap>> = OnceLock::new();
    let with_mark = |mut map: ContextMap| {
        map.insert(TypeId::of::<FromLogger>(), Arc::new(FromLogger));
        Arc::new(map)
    };
    match context {
        None => Arc::clone(NOTHING_ELSE.get_or_init(|| with_mark(ContextMap::new()))),
        Some(context) if is_marked(context) => Arc::clone(context),
        Some(context) => with_mark((**context).clone()),
    }
}

pub(crate) fn is_marked(context: &ContextMap) -> bool {
    context.contains_key(&TypeId::of::<FromLogger>())
}
