//! Events that are to come after others, until those are complete: data only.

use crate::event::{AnyEvent, Prerequisite};
use crate::sys::clock::Stamp;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicU32, Ordering};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::Arc;

/// One event that is held, and what it is to come after. Each of those knows it, as a hook of its completion.
pub(crate) struct Hold {
    /// How many of those are not complete, and one more while its emit looks at them.
    left: AtomicU32,
    /// Before this one in the list all are complete.
    next: AtomicU32,
    /// `None` once it is released or ended.
    kept: Mutex<Option<Kept>>,
}

pub(crate) struct Kept {
    pub(crate) event: AnyEvent,
    /// By their stamps.
    pub(crate) after: SmallVec<[Prerequisite; 1]>,
}

impl Hold {
    pub(crate) fn new(event: AnyEvent, after: SmallVec<[Prerequisite; 1]>) -> Arc<Hold> {
        let left = u32::try_from(after.len()).unwrap_or(u32::MAX).saturating_add(1);
        Arc::new(Hold {
            left: AtomicU32::new(left),
            next: AtomicU32::new(0),
            kept: Mutex::new(Some(Kept { event, after })),
        })
    }

    /// One of what it waits for is complete. True for the last.
    pub(crate) fn is_last(&self) -> bool {
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The event, while it is held.
    pub(crate) fn event(&self) -> Option<AnyEvent> {
        self.kept.lock().as_ref().map(|kept| kept.event.clone())
    }

    /// Whether that event, which is one of what it waits for, must end well.
    pub(crate) fn must_succeed(&self, event: &AnyEvent) -> bool {
        let kept = self.kept.lock();
        let Some(kept) = kept.as_ref() else { return false };
        let stamp = event.head().stamp();
        let at = kept.after.binary_search_by_key(&stamp, |before| before.event.head().stamp());
        at.is_ok_and(|at| kept.after[at].must_succeed)
    }

    pub(crate) fn after(&self, at: usize) -> Option<AnyEvent> {
        self.kept.lock().as_ref()?.after.get(at).map(|before| before.event.clone())
    }

    /// The first of what it waits for that is not complete.
    pub(crate) fn first_open(&self) -> Option<AnyEvent> {
        let kept = self.kept.lock();
        let after = &kept.as_ref()?.after;
        let from = self.next.load(Ordering::Relaxed) as usize;
        let open = from + after.get(from..)?.iter().position(|before| !before.event.is_complete())?;
        self.next.store(open as u32, Ordering::Relaxed);
        after.get(open).map(|before| before.event.clone())
    }

    /// Those of what it waits for that are not complete, so many at most.
    pub(crate) fn open(&self, most: usize) -> Vec<AnyEvent> {
        let kept = self.kept.lock();
        let from = self.next.load(Ordering::Relaxed) as usize;
        let after = kept.as_ref().and_then(|kept| kept.after.get(from..)).unwrap_or_default();
        after.iter().map(|before| &before.event).filter(|event| !event.is_complete()).take(most).cloned().collect()
    }

    pub(crate) fn is_let_go(&self) -> bool {
        self.kept.lock().is_none()
    }

    /// To be dropped with nothing locked.
    pub(crate) fn let_go(&self) -> Option<Kept> {
        self.kept.lock().take()
    }
}

/// What a bus holds, by the stamps of the events. While there is any, it keeps the bus.
pub(crate) struct Held<B> {
    holds: FxHashMap<Stamp, Arc<Hold>>,
    keeps: Option<Arc<B>>,
}

impl<B> Default for Held<B> {
    fn default() -> Self {
        Held { holds: FxHashMap::default(), keeps: None }
    }
}

impl<B> Held<B> {
    pub(crate) fn add(&mut self, of: Stamp, hold: Arc<Hold>, bus: &Arc<B>) {
        self.holds.insert(of, hold);
        self.keeps.get_or_insert_with(|| Arc::clone(bus));
    }

    pub(crate) fn get(&self, of: Stamp) -> Option<&Arc<Hold>> {
        self.holds.get(&of)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Hold>> {
        self.holds.values()
    }

    /// What is returned is to be dropped with nothing locked: the bus may go with it.
    pub(crate) fn remove(&mut self, of: Stamp) -> (Option<Arc<Hold>>, Option<Arc<B>>) {
        let hold = self.holds.remove(&of);
        if !self.holds.is_empty() {
            return (hold, None);
        }
        self.holds = FxHashMap::default();
        (hold, self.keeps.take())
    }
}
