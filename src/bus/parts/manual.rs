//! What a manual bus keeps for its pump thread, under a lock of its own.

use crate::event::AnyEvent;
use crate::runtime::{Claimed, Serves, Worker};
use crate::sync::Bell;
use crate::sys::clock::{self, NEVER};
use crate::sys::planted;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::sync::Arc;

/// The user's `on_ready`.
pub(crate) type Wake = Box<dyn Fn() + Send + Sync>;

pub(crate) struct Manual {
    pub(crate) state: Mutex<State>,
    pub(crate) wake: Option<Wake>,
    /// Deliveries that have begun to run.
    starts: AtomicUsize,
    /// From then on the pump thread starts nothing more from the queue. Written by itself only.
    pub(crate) until: AtomicU64,
    /// Nobody but the pump thread has to do with the bus.
    alone: bool,
}

pub(crate) struct State {
    /// The pump thread, by its number.
    pub(crate) thread: u64,
    pub(crate) bell: Arc<Bell>,
    /// How many calls of ours on the pump thread run handlers of the bus, one inside the other.
    pub(crate) inside: usize,
    pub(crate) fronted: VecDeque<Claimed>,
    pub(crate) wants_loop: bool,
    /// Others wait for the turn that the loop has: it goes on in any park of the pump thread.
    pub(crate) loop_has_turn: bool,
    pub(crate) wants_free: bool,
    pub(crate) announced: bool,
    /// An event came to the idle bus, and whoever emits it has yet to tell.
    pub(crate) woken: bool,
    /// The last handle is gone.
    pub(crate) closed: bool,
}

/// What the pump thread does next.
pub(crate) enum Due {
    Loop,
    Free,
    Delivery(Claimed),
}

impl State {
    pub(crate) fn has_work(&self) -> bool {
        self.wants_loop || self.wants_free || !self.fronted.is_empty()
    }

    /// True if the user is to be told; the caller does, after unlocking.
    pub(crate) fn announces(&mut self) -> bool {
        self.inside == 0 && self.has_work() && !std::mem::replace(&mut self.announced, true)
    }

    /// True if the user is to be told where the pump thread may go to sleep: what it was told before may have been what woke it.
    pub(crate) fn reminds(&mut self) -> bool {
        self.announced &= self.inside > 0 || planted("leaves_untold");
        self.announces()
    }
}

impl Manual {
    /// `pump`: the thread that builds the bus.
    pub(crate) fn new(pump: Option<&Worker>, wake: Option<Wake>, alone: bool) -> Self {
        let state = State {
            thread: pump.map_or(0, |worker| worker.id),
            bell: pump.map_or_else(|| Arc::new(Bell::new()), |worker| Arc::clone(&worker.bell)),
            inside: 0,
            fronted: VecDeque::new(),
            wants_loop: false,
            loop_has_turn: false,
            wants_free: false,
            announced: false,
            woken: false,
            closed: false,
        };
        let (starts, until) = (AtomicUsize::new(0), AtomicU64::new(NEVER));
        Manual { state: Mutex::new(state), wake, starts, until, alone }
    }

    pub(crate) fn count_start(&self) {
        self.starts.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn starts(&self) -> usize {
        self.starts.load(Ordering::SeqCst)
    }

    /// Nothing more may be started from the queue.
    pub(crate) fn is_spent(&self) -> bool {
        let until = self.until.load(Ordering::SeqCst);
        until != NEVER && (until == 0 || clock::now() >= until)
    }

    pub(crate) fn thread(&self) -> u64 {
        self.state.lock().thread
    }

    pub(crate) fn is_pumped_by(&self, worker: &Worker) -> bool {
        self.state.lock().thread == worker.id
    }

    /// What this thread does not do on the bus, nobody does.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone && Worker::current().is_some_and(|worker| self.is_pumped_by(&worker))
    }

    /// Another thread runs handlers of the bus at this moment.
    pub(crate) fn is_pumped_elsewhere(&self, worker: &Worker) -> bool {
        let state = self.state.lock();
        state.thread != worker.id && state.inside > 0
    }

    /// Others wait for what only the pump thread may run.
    pub(crate) fn is_awaited(&self) -> bool {
        let state = self.state.lock();
        state.loop_has_turn || !state.fronted.is_empty()
    }

    /// At the end of a wait on that thread: true if the user is to be told of what is left; the caller does, after unlocking.
    pub(crate) fn reminds(&self, worker: &Worker) -> bool {
        let mut state = self.state.lock();
        state.thread == worker.id && state.reminds()
    }

    /// The claimed deliveries that the pump thread has yet to come to; and whether its loop had the runtime's turn, which it has no more.
    pub(crate) fn set_down_turn(&self) -> (Vec<(AnyEvent, usize)>, bool) {
        let mut state = self.state.lock();
        let claimed = state.fronted.iter().map(|claimed| (claimed.event.clone(), claimed.delivery)).collect();
        (claimed, std::mem::take(&mut state.loop_has_turn))
    }

    /// For `Debug`.
    pub(crate) fn describe(&self) -> String {
        let State { thread, inside, fronted, wants_loop, wants_free, .. } = &*self.state.lock();
        let fronted = fronted.len();
        format!(
            "; pump thread {thread}, inside {inside} times, {fronted} claimed, wants loop: {wants_loop}, free: {wants_free}"
        )
    }

    /// True if that was put by; it is not any more.
    pub(crate) fn takes(&self, due: &Due) -> bool {
        let mut state = self.state.lock();
        match due {
            Due::Loop => {
                state.loop_has_turn = false;
                std::mem::take(&mut state.wants_loop)
            }
            Due::Free => std::mem::take(&mut state.wants_free),
            Due::Delivery(_) => false,
        }
    }

    /// How much there is that was claimed already.
    pub(crate) fn fronted(&self) -> usize {
        self.state.lock().fronted.len()
    }

    /// What is next; if there is nothing at all, who puts something by announces it.
    pub(crate) fn due(&self, serves: Serves) -> Option<Due> {
        let mut state = self.state.lock();
        if let Some(claimed) = state.fronted.pop_front() {
            return Some(Due::Delivery(claimed));
        }
        if (serves == Serves::All || state.loop_has_turn) && std::mem::take(&mut state.wants_loop) {
            state.loop_has_turn = false;
            return Some(Due::Loop);
        }
        if serves == Serves::All && std::mem::take(&mut state.wants_free) {
            return Some(Due::Free);
        }
        state.announced &= state.has_work();
        None
    }
}
