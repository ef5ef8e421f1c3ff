//! What one subscription has not read yet.

use crate::bus::{Observer, Seen};
use crate::event::{AnyEvent, OnLag};
use crate::runtime::{Reader, Worker};
use crate::sync::Bell;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::sync::Arc;

/// How many events an unbounded reader takes at once, so that it and the emitters seldom meet at the lock.
const HANDFUL: usize = 64;
/// A queue with room for more events than this gives half of it back when it is less than a quarter full.
const KEPT: usize = 1024;

pub(crate) struct Backlog {
    capacity: usize,
    on_lag: OnLag,
    /// How many events the reader has taken out and not read, with the one that its own thread is at.
    in_hand: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    unread: VecDeque<AnyEvent>,
    /// How many events were dropped since the reader was last told.
    missed: u64,
    /// How many events were dropped in total.
    lagged: u64,
    closed: bool,
    /// The reader, if it is parked or about to.
    reader: Option<Arc<Bell>>,
    /// Emitters that wait for room.
    emitters: Vec<Arc<Bell>>,
    own_thread: OwnThread,
    /// Shutdowns that wait until the reader's thread has ended.
    awaiting: Vec<Arc<Bell>>,
}

/// Whether a thread of its own reads the backlog, and nothing else.
#[derive(Default)]
enum OwnThread {
    #[default]
    None,
    Coming,
    /// The thread parks with this bell.
    Reads(Arc<Bell>),
}

/// What there is to read.
pub(crate) enum Next {
    Event(AnyEvent),
    Lagged(u64),
    Empty,
    Closed,
}

impl Backlog {
    pub(crate) fn unbounded() -> Backlog {
        Backlog::bounded(usize::MAX, OnLag::Block)
    }

    pub(crate) fn bounded(capacity: usize, on_lag: OnLag) -> Backlog {
        Backlog { capacity: capacity.max(1), on_lag, in_hand: AtomicUsize::new(0), state: Mutex::default() }
    }

    /// The next event, or how many were dropped before it. `handful` takes a few more of an unbounded queue. `at_it`: how many events the
    /// reader's own thread is at once it has this one.
    pub(crate) fn next(&self, handful: &mut VecDeque<AnyEvent>, at_it: usize) -> Next {
        let mut state = self.state.lock();
        if state.missed > 0 {
            return Next::Lagged(std::mem::take(&mut state.missed));
        }
        let Some(event) = state.unread.pop_front() else {
            return if state.closed { Next::Closed } else { Next::Empty };
        };
        if self.capacity == usize::MAX {
            let few = state.unread.len().min(HANDFUL - 1);
            handful.extend(state.unread.drain(..few));
        }
        self.has_in_hand(handful.len() + at_it);
        let room = state.unread.capacity();
        if room > KEPT && state.unread.len() < room / 4 {
            state.unread.shrink_to(room / 2);
        }
        let emitters =
            if state.unread.len() < self.capacity { std::mem::take(&mut state.emitters) } else { Vec::new() };
        drop(state);
        for bell in emitters {
            bell.ring();
        }
        Next::Event(event)
    }

    /// Whether `next` has an answer. If not, `bell` rings when it has.
    pub(crate) fn is_ready(&self, bell: &Arc<Bell>) -> bool {
        let mut state = self.state.lock();
        let ready = state.missed > 0 || !state.unread.is_empty() || state.closed;
        state.reader = if ready { None } else { Some(Arc::clone(bell)) };
        ready
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().unread.len()
    }

    /// Notes how many the reader has left of the events that it took out.
    pub(crate) fn has_in_hand(&self, count: usize) {
        self.in_hand.store(count, Ordering::Relaxed);
    }

    /// Notes that a thread of its own will read the backlog, until the guard goes.
    pub(crate) fn is_read_apart(self: &Arc<Self>) -> ReadApart {
        self.state.lock().own_thread = OwnThread::Coming;
        ReadApart(Arc::clone(self))
    }

    pub(crate) fn lagged(&self) -> u64 {
        self.state.lock().lagged
    }

    /// Takes all events out; the caller drops them with nothing locked.
    pub(crate) fn clear(&self) -> VecDeque<AnyEvent> {
        std::mem::take(&mut self.state.lock().unread)
    }
}

/// Held by a reader's own thread, and dropped there last: after the subscription and the closure that got its events.
pub(crate) struct ReadApart(Arc<Backlog>);

impl ReadApart {
    /// Called on the reader's thread before it reads.
    pub(crate) fn begins(&self) {
        if let Some(worker) = Worker::current() {
            self.0.state.lock().own_thread = OwnThread::Reads(Arc::clone(&worker.bell));
        }
    }
}

impl Drop for ReadApart {
    fn drop(&mut self) {
        self.0.has_in_hand(0);
        let bells = {
            let mut state = self.0.state.lock();
            state.own_thread = OwnThread::None;
            std::mem::take(&mut state.awaiting)
        };
        bells.iter().for_each(|bell| bell.ring());
    }
}

impl Reader for Backlog {
    fn unread(&self) -> usize {
        self.len() + self.in_hand.load(Ordering::Relaxed)
    }

    fn is_awaited(&self, bell: &Arc<Bell>) -> bool {
        let mut state = self.state.lock();
        let awaited = match &state.own_thread {
            OwnThread::None => false,
            OwnThread::Coming => true,
            OwnThread::Reads(own) => !Arc::ptr_eq(own, bell),
        };
        if awaited && !state.awaiting.iter().any(|other| Arc::ptr_eq(other, bell)) {
            state.awaiting.push(Arc::clone(bell));
        }
        awaited
    }
}

impl Observer for Backlog {
    fn see(&self, event: &AnyEvent, seen: &mut Seen) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            return false;
        }
        if self.on_lag == OnLag::DropOldest && state.unread.len() >= self.capacity {
            seen.let_go.extend(state.unread.pop_front());
            state.missed += 1;
            state.lagged += 1;
        }
        state.unread.push_back(event.clone());
        seen.rings.extend(state.reader.take());
        true
    }

    fn is_bounded(&self) -> bool {
        self.on_lag == OnLag::Block && self.capacity < usize::MAX
    }

    fn has_room(&self, bell: &Arc<Bell>) -> bool {
        if !self.is_bounded() {
            return true;
        }
        let mut state = self.state.lock();
        let room = state.closed || state.unread.len() < self.capacity;
        if !room && !state.emitters.iter().any(|other| Arc::ptr_eq(other, bell)) {
            state.emitters.push(Arc::clone(bell));
        }
        room
    }

    fn full(&self) -> Option<usize> {
        if !self.is_bounded() {
            return None;
        }
        let state = self.state.lock();
        (!state.closed && state.unread.len() >= self.capacity).then_some(self.capacity)
    }

    fn unread(&self) -> usize {
        Reader::unread(self)
    }

    /// Takes no more events; those that are there may still be read.
    fn close(&self) {
        let bells = {
            let mut state = self.state.lock();
            state.closed = true;
            let mut bells = std::mem::take(&mut state.emitters);
            bells.extend(state.reader.take());
            bells
        };
        for bell in bells {
            bell.ring();
        }
    }
}
