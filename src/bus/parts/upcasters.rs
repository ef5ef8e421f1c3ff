//! The steps by which payloads of older versions become those of today, by event type and version. What a step does is the program's code, and runs
//! where JSON arrives.

use crate::event::{BuildError, HandlerError, Json};
use crate::sys::sync::RwLock;
use crate::sys::unwind;
use rustc_hash::FxHashMap;
use std::fmt;
use std::sync::Arc;

/// Makes a payload of one version one of another.
#[derive(Clone)]
pub(crate) struct Upcaster {
    pub(crate) to: Arc<str>,
    pub(crate) call: Arc<dyn Fn(Json) -> Result<Json, HandlerError> + Send + Sync>,
}

impl fmt::Debug for Upcaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upcaster").field("to", &self.to).finish_non_exhaustive()
    }
}

#[derive(Default)]
pub(crate) struct Upcasters {
    /// By event type, then by the version that it takes.
    by_type: RwLock<FxHashMap<String, FxHashMap<String, Upcaster>>>,
}

impl Upcasters {
    /// An error if there is one from that version, or if they would lead in a circle.
    pub(crate) fn add(&self, event_type: &str, from: &str, upcaster: Upcaster) -> Result<(), BuildError> {
        let refused = {
            let mut by_type = self.by_type.write();
            let steps = by_type.entry(event_type.to_owned()).or_default();
            let after = |version: &&str| steps.get(*version).map(|step| &*step.to);
            let reason = if let Some(known) = steps.get(from) {
                Some(format!("{event_type} has one from version {from} already, to {}", known.to))
            } else if std::iter::successors(Some(&*upcaster.to), after).any(|version| version == from) {
                Some(format!("{event_type} would go in a circle from version {from} by {}", upcaster.to))
            } else {
                None
            };
            match reason {
                Some(reason) => Some((reason, upcaster)),
                None => {
                    steps.insert(from.to_owned(), upcaster);
                    None
                }
            }
        };
        let Some((reason, upcaster)) = refused else { return Ok(()) };
        unwind::drop_quietly(upcaster);
        Err(BuildError { option: "upcast", reason })
    }

    /// The one that takes that version.
    pub(crate) fn from(&self, event_type: &str, version: &str) -> Option<Upcaster> {
        self.by_type.read().get(event_type)?.get(version).cloned()
    }

    /// Of a bus that ends.
    pub(crate) fn clear(&self) {
        let by_type = std::mem::take(&mut *self.by_type.write());
        unwind::drop_each(by_type.into_values().flat_map(FxHashMap::into_values));
    }
}
