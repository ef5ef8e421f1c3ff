//! The threads of a runtime: which were started and have not left yet, and whether one without work may stay.
//!
//! A thread counts from before its start until the last of its thread-local values is dropped: its mark is the first of them, and the last to
//! go. A shutdown that waits for the others to leave joins each of them after that, so that nothing of theirs runs any more.
//!
//! The *tide* says which threads may stay without work. It is even while a runtime has buses, and odd (*ebb*) when it has none. A thread stays while the
//! tide is even and what it was when the thread started: so a shutdown sends all away that were there, also those that are busy and come
//! back later, and a runtime that is used again has threads as before.

use crate::sys::clock::{self, Tick};
use crate::sys::sync::atomic::{AtomicU64, Ordering::SeqCst};
use crate::sys::sync::{Condvar, Mutex};
use crate::sys::thread::{self, JoinHandle};
use crate::sys::unwind;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// A thread, from before its start until it has left and its starter knows.
#[derive(Default)]
struct Thread {
    handle: Option<JoinHandle<()>>,
    has_left: bool,
}

#[derive(Default)]
struct State {
    next: u64,
    there: BTreeMap<u64, Thread>,
    /// How many shutdowns wait for threads to leave.
    awaited: usize,
    /// Threads that have left while a shutdown waited, to be joined.
    left: Vec<JoinHandle<()>>,
    /// How many are being joined.
    joining: usize,
}

#[derive(Default)]
pub(crate) struct Crew {
    state: Mutex<State>,
    changed: Condvar,
    tide: AtomicU64,
}

/// What a thread of a crew carries until its very end.
struct Member {
    crew: Arc<Crew>,
    number: u64,
    /// The tide at its start.
    since: u64,
}

thread::local! {
    static MEMBER: RefCell<Option<Member>> = RefCell::new(None);
}

impl Drop for Member {
    fn drop(&mut self) {
        if !thread::is_model_over() {
            self.crew.leave(self.number);
        }
    }
}

impl Crew {
    /// Starts a thread. That the system may refuse it is a value.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: String,
        stack: usize,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        // Before its number: a shutdown that waits for numbers below its own has not turned the tide before that.
        let since = self.tide.load(SeqCst);
        let number = {
            let mut state = self.state.lock();
            let number = state.next;
            state.next += 1;
            state.there.insert(number, Thread::default());
            number
        };
        let member = Member { crew: Arc::clone(self), number, since };
        let run = move || {
            // Before any other value of the thread's, so that it goes after them.
            let _ = MEMBER.try_with(|of| *of.borrow_mut() = Some(member));
            body();
        };
        // A refused thread's mark is dropped with its body, and leaves.
        let started = thread::spawn_kept(name, stack, run);
        let mut state = self.state.lock();
        let has_left = state.there.get(&number).is_none_or(|thread| thread.has_left);
        if has_left {
            state.there.remove(&number);
        }
        let handle = started?;
        let spare = match state.there.get_mut(&number) {
            Some(thread) => {
                thread.handle = Some(handle);
                None
            }
            None => state.keep(handle),
        };
        let awaited = state.awaited > 0;
        drop(state);
        if awaited {
            self.changed.notify_all();
        }
        drop(spare);
        Ok(())
    }

    /// Whether the calling thread may stay without work, if it is one of this crew.
    pub(crate) fn may_stay(&self) -> bool {
        let tide = self.tide.load(SeqCst);
        let since = MEMBER.try_with(|of| of.borrow().as_ref().map(|member| member.since)).ok().flatten();
        tide.is_multiple_of(2) && since.is_none_or(|since| since == tide)
    }

    /// No thread that is there now may stay without work, nor one that comes before the next flow. The caller wakes them afterwards.
    pub(crate) fn ebb(&self) {
        self.tide.store(self.tide.load(SeqCst) | 1, SeqCst);
    }

    /// Ebb and flow: no thread that is there now may stay without work, and those that come later may.
    pub(crate) fn turn(&self) {
        self.tide.store(self.tide.load(SeqCst) + 2, SeqCst);
    }

    /// The runtime has a bus: threads that start from now on may stay.
    pub(crate) fn flow(&self) {
        let tide = self.tide.load(SeqCst);
        if tide % 2 == 1 {
            self.tide.store(tide + 1, SeqCst);
            // A shutdown that waited at ebb for all threads waits only for those of before.
            drop(self.state.lock());
            self.changed.notify_all();
        }
    }

    /// From now on threads that leave can be joined.
    pub(crate) fn expect(self: &Arc<Self>) -> Expected {
        let mut state = self.state.lock();
        state.awaited += 1;
        Expected { crew: Arc::clone(self), before: state.next }
    }

    /// The calling thread is one of this crew.
    pub(crate) fn is_here(&self) -> bool {
        let of = |of: &RefCell<Option<Member>>| of.borrow().as_ref().is_some_and(|m| std::ptr::eq(&*m.crew, self));
        MEMBER.try_with(of).unwrap_or(true)
    }

    /// At the end of a thread.
    fn leave(&self, number: u64) {
        let mut state = self.state.lock();
        let Some(thread) = state.there.get_mut(&number) else { return };
        thread.has_left = true;
        // Without a handle its starter finds that it has left.
        let handle = thread.handle.take();
        let spare = handle.and_then(|handle| {
            state.there.remove(&number);
            state.keep(handle)
        });
        let awaited = state.awaited > 0;
        drop(state);
        if awaited {
            self.changed.notify_all();
        }
        drop(spare);
    }
}

impl State {
    /// Keeps a handle for the shutdowns that wait. If none does, the handle comes back, to be dropped once nothing is locked.
    fn keep(&mut self, handle: JoinHandle<()>) -> Option<JoinHandle<()>> {
        if self.awaited == 0 {
            return Some(handle);
        }
        self.left.push(handle);
        None
    }
}

/// A shutdown that waits for threads to leave.
pub(crate) struct Expected {
    crew: Arc<Crew>,
    /// The number of the first thread that came later.
    before: u64,
}

impl Expected {
    /// Parks until all threads that were there have left, and at ebb also those that came later; or until `until`. Not on a thread of the crew.
    pub(crate) fn wait(&self, until: Tick) {
        let crew = &self.crew;
        let mut state = crew.state.lock();
        loop {
            let left = std::mem::take(&mut state.left);
            if !left.is_empty() {
                let count = left.len();
                state.joining += count;
                drop(state);
                // They have nothing left to do, so this does not take long.
                left.into_iter().for_each(|handle| unwind::drop_quietly(handle.join()));
                state = crew.state.lock();
                state.joining -= count;
                crew.changed.notify_all();
                continue;
            }
            let is_ebb = crew.tide.load(SeqCst) % 2 == 1;
            let first = state.there.keys().next();
            if state.joining == 0 && first.is_none_or(|first| *first >= self.before && !is_ebb) {
                return;
            }
            match clock::instant(until) {
                None => crew.changed.wait(&mut state),
                Some(limit) => {
                    if crew.changed.wait_until(&mut state, limit).timed_out() {
                        return;
                    }
                }
            }
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut state = self.crew.state.lock();
        state.awaited -= 1;
        let left = if state.awaited == 0 { std::mem::take(&mut state.left) } else { Vec::new() };
        drop(state);
        drop(left);
    }
}
