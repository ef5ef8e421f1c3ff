//! An event's children: linked when they are emitted, let go when there are many, and dropped without recursion.

use crate::event::structure::{Child, Links};
use crate::event::{AnyEvent, State};
use crate::sys::thread;
use smallvec::SmallVec;
use std::cell::RefCell;

/// Completed children beyond this many are kept only as long as they are kept elsewhere.
const CHILDREN_KEPT: usize = 1000;

/// Children that are let go, to be dropped outside the lock: the parent's lock, which is no lock of a bus.
pub(crate) type LetGo = SmallVec<[AnyEvent; 1]>;

/// How far somebody has looked through an event's children.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    next: usize,
    let_go: usize,
}

impl State {
    /// In the order in which they were emitted.
    pub(crate) fn children(&self) -> impl DoubleEndedIterator<Item = &Child> {
        self.links.iter().flat_map(|links| &links.children)
    }

    /// Up to `few` children further than that; `None` if there are none. Those that came before are not shown again, unless some were let go of.
    pub(crate) fn look_on(&self, looked: &mut Looked, few: usize) -> Option<impl DoubleEndedIterator<Item = &Child>> {
        let links = self.links.as_ref()?;
        if looked.let_go != links.let_go {
            *looked = Looked { next: 0, let_go: links.let_go };
        }
        let end = links.children.len().min(looked.next + few);
        let some = links.children.range(looked.next.min(end)..end);
        looked.next = end;
        Some(some).filter(|some| some.len() > 0)
    }

    /// Links a child. True if this event now waits for it. `dropped` takes children that are let go, to be dropped outside the lock.
    pub(crate) fn add_child(&mut self, event: AnyEvent, by: Option<(u32, u32)>, dropped: &mut LetGo) -> bool {
        let counted = !self.complete;
        if counted {
            self.open += 1;
        }
        let links = self.links();
        links.children.push_back(Child { event, by });
        if links.children.len() > CHILDREN_KEPT {
            links.let_go(dropped);
        }
        counted
    }

    /// Moves the parent and the children out, to be dropped by the caller.
    fn take_relatives(&mut self, into: &mut Vec<AnyEvent>) {
        if let Some(links) = &mut self.links {
            into.extend(links.children.drain(..).map(|child| child.event));
        }
        into.extend(self.parent.take());
    }
}

impl Links {
    /// Lets go of the oldest completed children, and keeps the newest.
    fn let_go(&mut self, dropped: &mut LetGo) {
        // Where children complete in order, each that comes lets one go.
        if self.children.front().is_some_and(|oldest| oldest.event.is_complete()) {
            dropped.extend(self.children.pop_front().map(|oldest| oldest.event));
            self.let_go += 1;
        }
        if self.children.len() <= self.prune_at.max(2 * CHILDREN_KEPT) {
            return;
        }
        let complete = self.children.iter().filter(|c| c.event.is_complete()).count();
        let mut excess = complete.saturating_sub(CHILDREN_KEPT);
        self.let_go += excess;
        self.children.retain_mut(|child| {
            if excess > 0 && child.event.is_complete() {
                excess -= 1;
                dropped.push(child.event.clone());
                return false;
            }
            true
        });
        self.prune_at = self.children.len() + CHILDREN_KEPT;
    }
}

thread::local! {
    /// Events that the outermost drop on this thread has still to drop.
    static DROPPING: RefCell<Option<Vec<AnyEvent>>> = RefCell::new(None);
}

impl Drop for State {
    /// A long chain of parents and children must not recurse: the outermost drop takes one event after another.
    fn drop(&mut self) {
        let mut relatives = Vec::new();
        self.take_relatives(&mut relatives);
        if relatives.is_empty() {
            return;
        }
        // While the thread ends there is no outermost one, and the chain is dropped as it is.
        let outermost = DROPPING.try_with(|dropping| {
            let mut dropping = dropping.borrow_mut();
            let outermost = dropping.is_none();
            dropping.get_or_insert_default().append(&mut relatives);
            outermost
        });
        if outermost != Ok(true) {
            return;
        }
        let next = || DROPPING.try_with(|dropping| dropping.borrow_mut().as_mut().and_then(Vec::pop)).ok().flatten();
        while let Some(event) = next() {
            drop(event);
        }
        let _ = DROPPING.try_with(|dropping| dropping.borrow_mut().take());
    }
}
