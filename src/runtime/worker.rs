//! A thread while it is inside ours, and what a bus is to it: each knows the other, so both stand in this file.

use crate::event::HandlerId;
use crate::runtime::lane::Lane;
use crate::runtime::panics::LastPanic;
use crate::runtime::slot::{Stack, Top};
use crate::runtime::work::{Claimed, Pumped};
use crate::sync::Bell;
use crate::sync::refused;
use crate::sys::clock::{NEVER, Tick};
use crate::sys::stack::StackBounds;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sys::thread;
use crate::sys::unwind::HearsPanics;
use std::cell::RefCell;
use std::sync::{Arc, OnceLock, Weak};

/// What a bus is to the threads that work for it.
pub(crate) trait Bus: Send + Sync {
    /// Where its jobs wait for threads.
    fn lane(&self) -> Lane;

    /// Runs its queued events, in their order, until none may start or another bus has a turn.
    fn run_loop_on(self: Arc<Self>, worker: &Arc<Worker>);

    /// Drives a claimed delivery of the bus on.
    fn resume_on(self: Arc<Self>, worker: &Arc<Worker>, claimed: Claimed);

    /// Keeps work that only the bus's pump thread may run.
    fn keep(self: Arc<Self>, work: Pumped);

    /// On the pump thread, inside a call of ours that waits: runs what may not wait any longer, or one queued event. False if there is
    /// nothing of the kind. `Err` on any other thread.
    fn serve(self: Arc<Self>, worker: &Arc<Worker>, serves: Serves) -> Result<bool, NotHere>;

    /// Another thread waits for what only the pump thread may run.
    fn pump_is_awaited(&self) -> bool;

    /// At the end of a wait on its pump thread: calls `on_ready` if there is work left.
    fn remind(self: Arc<Self>, worker: &Worker);

    /// The pump thread has no stack left for what others wait for: that gives its turns back, and stands in line for them again when it
    /// is run.
    fn give_back_turns(self: Arc<Self>);
}

/// The thread is not the bus's pump thread any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotHere;

/// What a pump thread runs while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// What another thread waits for, or has begun.
    Awaited,
    /// That, and what is queued, in its order.
    All,
}

/// A pool, to a worker of it that waits for something of another runtime.
pub(crate) trait Home: Send + Sync {
    /// The worker is about to park.
    fn suspend_own(self: Arc<Self>, worker: &Worker);

    /// The worker's wait is over.
    fn resume_own(self: Arc<Self>, worker: &Arc<Worker>);
}

/// What a worker does at the moment. Changed only under the pool's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Not a thread of the pool.
    Outside,
    /// Starting or woken, on its way to a job: counts as busy.
    Coming,
    /// Runs a job.
    Busy,
    /// Suspended in a wait of ours.
    Waiting,
    /// Its wait is over, and it waits for room in the pool.
    Returning,
    /// Inside a handler whose result was given up.
    Abandoned,
    /// Waits for a job.
    Idle,
}

/// A thread while it is inside ours: its bell, and the stack of handlers it runs, which the watch and diagnostics see.
pub(crate) struct Worker {
    /// Unique in the process, never 0.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) bell: Arc<Bell>,
    /// Not a thread of the pool.
    outside: bool,
    /// The pool whose thread it is, and that pool's number.
    home: OnceLock<(u64, Weak<dyn Home>)>,
    /// The number of the pool that listed it last.
    pub(super) listed: AtomicU64,
    pub(super) activity: Mutex<Activity>,
    /// The lane whose job it runs, and since when it has been busy with it. Changed only under the pool's lock.
    pub(super) serving: Mutex<Option<(Lane, Tick)>>,
    bounds: StackBounds,
    pub(super) stack: Mutex<Stack>,
    pub(super) top: Top,
    /// The watch looks at the stack no later than this.
    pub(super) bound: AtomicU64,
    /// It was abandoned, and the log is to hear when it is back. Set under its stack's lock.
    pub(crate) tells_return: AtomicBool,
    /// The log has heard that it runs others' jobs inside a wait of this one.
    pub(crate) told_starved: AtomicBool,
    /// What only this thread can do: dropping what it keeps for a handler that is gone.
    chores: Mutex<Vec<Chore>>,
    /// The handlers that its thread keeps something for.
    keeps: Mutex<Vec<HandlerId>>,
    last_panic: LastPanic,
    /// Manual buses whose pump thread this is, or was.
    pub(super) pumps: Mutex<Vec<Weak<dyn Bus>>>,
    /// `pumps` has any. Changed and read on its own thread only.
    pub(super) has_pumps: AtomicBool,
    /// Its park has no end of its own, so it may run what it waits for itself. Changed on its own thread only, before it parks.
    pub(crate) serves: AtomicBool,
    /// It parks in a wait that no thread can ever go on with; the pool says so.
    pub(crate) has_no_thread: AtomicBool,
    /// It is about to be through with its job. Changed and read on its own thread only.
    pub(crate) is_leaving: AtomicBool,
    /// A job that it is to take next waits for it. Changed and read on its own thread only.
    pub(super) promised: AtomicBool,
    /// It runs a job on top of a wait that needs it: loops end after one event. Changed and read on its own thread only.
    pub(crate) on_top: AtomicBool,
}

type Chore = Box<dyn FnOnce() + Send>;

thread::local! {
    static CURRENT: RefCell<Option<Arc<Worker>>> = RefCell::new(None);
}

impl HearsPanics for Worker {
    fn begins() {
        Worker::with_last_panic(LastPanic::begins);
    }

    fn is_told() {
        Worker::with_last_panic(LastPanic::is_told);
    }
}

impl Worker {
    /// It is a thread of this pool, and of no other.
    pub(super) fn belongs_to(&self, number: u64, pool: Weak<dyn Home>) {
        let _ = self.home.set((number, pool));
    }

    /// Its next job waits for it, so it goes on with nothing else. On its own thread.
    pub(crate) fn is_promised(&self) -> bool {
        self.promised.load(Ordering::Relaxed)
    }

    /// It is a thread of the pool of that number.
    pub(super) fn is_of(&self, number: u64) -> bool {
        self.home.get().is_some_and(|(own, _)| *own == number)
    }

    /// The pool whose thread it is, if that is another one than the pool of this number.
    pub(super) fn other_home(&self, number: u64) -> Option<&Weak<dyn Home>> {
        self.home.get().filter(|(own, _)| *own != number).map(|(_, pool)| pool)
    }

    /// For the calling thread. `stack_size`: what a thread of the pool was made with.
    pub(crate) fn new(activity: Activity, stack_size: Option<usize>) -> Arc<Worker> {
        let bell = Arc::new(Bell::new());
        refused::list(&bell);
        Arc::new(Worker {
            id: thread::next_number(),
            name: thread::name(),
            bell,
            outside: activity == Activity::Outside,
            home: OnceLock::new(),
            listed: AtomicU64::new(0),
            activity: Mutex::new(activity),
            serving: Mutex::new(None),
            bounds: StackBounds::here(stack_size),
            stack: Mutex::new(Stack::default()),
            top: Top::default(),
            bound: AtomicU64::new(NEVER),
            tells_return: AtomicBool::new(false),
            told_starved: AtomicBool::new(false),
            chores: Mutex::new(Vec::new()),
            keeps: Mutex::new(Vec::new()),
            last_panic: LastPanic::default(),
            pumps: Mutex::new(Vec::new()),
            has_pumps: AtomicBool::new(false),
            serves: AtomicBool::new(false),
            has_no_thread: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            promised: AtomicBool::new(false),
            on_top: AtomicBool::new(false),
        })
    }

    /// The calling thread's; made on first use on a thread that is not the pool's. `None` while the thread ends.
    pub(crate) fn current() -> Option<Arc<Worker>> {
        CURRENT
            .try_with(|current| {
                let mut current = current.borrow_mut();
                Arc::clone(current.get_or_insert_with(|| Worker::new(Activity::Outside, None)))
            })
            .ok()
    }

    /// On a thread of the pool, before anything else.
    pub(super) fn become_current(self: &Arc<Self>) {
        let _ = CURRENT.try_with(|current| *current.borrow_mut() = Some(Arc::clone(self)));
    }

    /// [`is_deep`](Worker::is_deep) of the calling thread, without a hold of its worker.
    pub(crate) fn is_deep_here() -> bool {
        CURRENT
            .try_with(|current| {
                let mut current = current.borrow_mut();
                current.get_or_insert_with(|| Worker::new(Activity::Outside, None)).is_deep()
            })
            .unwrap_or(false)
    }

    /// The calling thread is one of the pool's.
    pub(crate) fn is_pooled_here() -> bool {
        let pooled = |worker: &Arc<Worker>| !worker.outside;
        CURRENT.try_with(|current| current.borrow().as_ref().is_some_and(pooled)).unwrap_or(false)
    }

    /// What the calling thread knows of its panics, if it is a worker. In the middle of a panic nothing may panic.
    fn with_last_panic(note: impl FnOnce(&LastPanic)) {
        let _ = CURRENT.try_with(|current| {
            if let Ok(current) = current.try_borrow()
                && let Some(worker) = &*current
            {
                note(&worker.last_panic);
            }
        });
    }

    /// `Some` while a panic that began on this thread after `since` may still be on its way to end its handler: when to look again.
    pub(crate) fn told_of_panic(&self, since: Tick) -> Option<Tick> {
        self.last_panic.look_again(since)
    }

    /// Not a thread of the pool.
    pub(crate) fn is_outside(&self) -> bool {
        self.outside
    }

    /// On its own thread: it keeps something for a handler from now on.
    pub(crate) fn note_kept(&self, handler: HandlerId) {
        let mut keeps = self.keeps.lock();
        if !keeps.contains(&handler) {
            keeps.push(handler);
        }
    }

    /// Of the handlers that are `gone`, those for which it keeps something, until it has done a chore.
    pub(crate) fn forget_kept(&self, gone: &[HandlerId]) -> Vec<HandlerId> {
        self.keeps.lock().extract_if(.., |handler| gone.contains(handler)).collect()
    }

    #[cfg(test)]
    pub(crate) fn chores(&self) -> usize {
        self.chores.lock().len()
    }

    /// Its thread does this when it is next between handlers.
    pub(crate) fn add_chore(&self, chore: Chore) {
        self.chores.lock().push(chore);
        self.bell.ring();
    }

    /// On its own thread, between handlers.
    pub(crate) fn do_chores(&self) {
        for chore in std::mem::take(&mut *self.chores.lock()) {
            chore();
        }
    }

    /// True when the stack is nearly used up.
    pub(crate) fn is_deep(&self) -> bool {
        self.bounds.is_deep()
    }

    /// Not even what another thread waits for can run on top any more.
    pub(crate) fn is_out_of_stack(&self) -> bool {
        self.bounds.is_used_up()
    }

    /// A park that begins here could serve nothing any more. The pump thread asks that again a few frames down, and must not get another
    /// answer there.
    pub(crate) fn lacks_stack_to_serve(&self) -> bool {
        const FRAMES: usize = 8 << 10;
        self.bounds.is_used_up_within(FRAMES)
    }

    /// On its own thread: so much is left below the caller.
    pub(super) fn assume_stack(&self, left: usize) {
        self.bounds.assume(left);
    }
}
