//! A thread while it is inside ours: its bell, and the stack of handlers it runs, shared with the watch and with diagnostics.

use crate::event::{AnyEvent, HandlerId, State};
use crate::rules::ALONE;
use crate::runtime::drive::{Drive, NotHere, Serves};
use crate::runtime::job::Lane;
use crate::runtime::pool::Place;
use crate::runtime::watch::Overdue;
use crate::sync::Bell;
use crate::sync::refused;
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::stack::StackBounds;
use crate::sys::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sys::sync::{Mutex, MutexGuard};
use crate::sys::{planted, thread};
use std::cell::RefCell;
use std::sync::{Arc, Weak};

/// What the watch and diagnostics see of a delivery on a thread's stack.
#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) event: AnyEvent,
    pub(crate) delivery: usize,
    pub(crate) running: Running,
    /// When to warn that the event is slow; `NEVER` once done.
    pub(crate) slow_event: Tick,
    /// When to look whether others must be called to its parallel handlers, since the one that runs stands still; `NEVER` once done.
    pub(crate) help: Tick,
    /// The bus room's answer to a deadline or a slow handler.
    pub(crate) overdue: fn(&Arc<Worker>, &Slot, Overdue),
}

impl Slot {
    fn alarm(&self) -> Tick {
        self.running.alarm().min(self.slow_event).min(self.help)
    }

    /// What runs has not been ended from outside.
    pub(crate) fn is_live(&self, state: &State) -> bool {
        let Running { invocation, attempt, .. } = self.running;
        state.deliveries.get(self.delivery).is_some_and(|d| d.is_live(invocation, attempt))
    }
}

/// An attempt that a thread runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) invocation: usize,
    /// 0: none, the one before has just ended.
    pub(crate) attempt: u32,
    pub(crate) since: Tick,
    /// When it must have ended; the event's cap included.
    pub(crate) deadline: Tick,
    /// When to warn that it is slow; `NEVER` once done.
    pub(crate) slow: Tick,
}

impl Running {
    fn alarm(&self) -> Tick {
        self.deadline.min(self.slow)
    }
}

/// The topmost [`Running`]. Its thread writes it under the lock of the event that it runs, so that handlers of one delivery follow each
/// other without the stack's lock; everybody else reads it under both.
#[derive(Default)]
struct Top {
    invocation: AtomicU64,
    attempt: AtomicU64,
    since: AtomicU64,
    deadline: AtomicU64,
    slow: AtomicU64,
}

impl Top {
    #[inline]
    fn show(&self, running: Running) {
        self.invocation.store(running.invocation as u64, Ordering::Relaxed);
        self.attempt.store(u64::from(running.attempt), Ordering::Relaxed);
        self.since.store(running.since, Ordering::Relaxed);
        self.deadline.store(running.deadline, Ordering::Relaxed);
        self.slow.store(running.slow, Ordering::Relaxed);
    }

    fn read(&self) -> Running {
        Running {
            invocation: self.invocation.load(Ordering::Relaxed) as usize,
            attempt: self.attempt.load(Ordering::Relaxed) as u32,
            since: self.since.load(Ordering::Relaxed),
            deadline: self.deadline.load(Ordering::Relaxed),
            slow: self.slow.load(Ordering::Relaxed),
        }
    }
}

/// The deliveries on a thread's stack. Of the topmost one, what runs is in [`Top`].
pub(crate) struct Stack {
    slots: Vec<Slot>,
}

pub(crate) struct Worker {
    /// Unique in the process, never 0.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) bell: Arc<Bell>,
    /// Not a thread of the pool.
    outside: bool,
    /// The pool that listed it last.
    pub(crate) listed: AtomicU64,
    /// The pool's business, changed under the pool's lock only.
    pub(crate) place: Mutex<Place>,
    /// The lane whose job it runs, and since when it has kept a place for it. Changed only under the pool's lock.
    pub(crate) turn: Mutex<Option<(Lane, Tick)>>,
    bounds: StackBounds,
    stack: Mutex<Stack>,
    top: Top,
    /// The watch looks at the stack no later than this.
    bound: AtomicU64,
    /// It was abandoned, and the log is to hear when it is back. Set under its stack's lock.
    pub(crate) tells_return: AtomicBool,
    /// The log has heard that it runs others' jobs inside a wait of this one.
    pub(crate) told_starved: AtomicBool,
    /// What only this thread can do: dropping what it keeps for a handler that is gone.
    chores: Mutex<Vec<Chore>>,
    /// The handlers that its thread keeps something for.
    keeps: Mutex<Vec<HandlerId>>,
    /// When the last panic on this thread began.
    panic_begun: AtomicU64,
    /// When that had been told; `NEVER`: it is.
    panic_told: AtomicU64,
    /// Manual buses whose pump thread this is, or was.
    pumps: Mutex<Vec<Weak<dyn Drive>>>,
    /// There are any. Changed and read on its own thread only.
    has_pumps: AtomicBool,
    /// Its park has no end of its own, so it may run what it waits for itself. Changed on its own thread only, before it parks.
    pub(crate) serves: AtomicBool,
    /// It parks in a wait that no thread can ever go on with; the pool says so.
    pub(crate) has_no_thread: AtomicBool,
    /// It runs a job on top of a wait that needs it: loops end after one event. Changed and read on its own thread only.
    pub(crate) on_top: AtomicBool,
}

type Chore = Box<dyn FnOnce() + Send>;

thread::local! {
    static CURRENT: RefCell<Option<Arc<Worker>>> = RefCell::new(None);
}

impl Worker {
    /// For the calling thread. `stack_size`: what a thread of the pool was made with.
    pub(crate) fn new(place: Place, stack_size: Option<usize>) -> Arc<Worker> {
        let bell = Arc::new(Bell::new());
        refused::list(&bell);
        Arc::new(Worker {
            id: thread::next_number(),
            name: thread::name(),
            bell,
            outside: place == Place::Outside,
            listed: AtomicU64::new(0),
            place: Mutex::new(place),
            turn: Mutex::new(None),
            bounds: StackBounds::here(stack_size),
            stack: Mutex::new(Stack { slots: Vec::new() }),
            top: Top::default(),
            bound: AtomicU64::new(NEVER),
            tells_return: AtomicBool::new(false),
            told_starved: AtomicBool::new(false),
            chores: Mutex::new(Vec::new()),
            keeps: Mutex::new(Vec::new()),
            panic_begun: AtomicU64::new(0),
            panic_told: AtomicU64::new(0),
            pumps: Mutex::new(Vec::new()),
            has_pumps: AtomicBool::new(false),
            serves: AtomicBool::new(false),
            has_no_thread: AtomicBool::new(false),
            on_top: AtomicBool::new(false),
        })
    }

    /// The calling thread's; made on first use on a thread that is not the pool's. `None` while the thread ends.
    pub(crate) fn current() -> Option<Arc<Worker>> {
        CURRENT
            .try_with(|current| {
                let mut current = current.borrow_mut();
                Arc::clone(current.get_or_insert_with(|| Worker::new(Place::Outside, None)))
            })
            .ok()
    }

    /// As [`is_deep`](Worker::is_deep) of the calling thread, without a hold of it.
    pub(crate) fn is_deep_here() -> bool {
        CURRENT
            .try_with(|current| {
                let mut current = current.borrow_mut();
                current.get_or_insert_with(|| Worker::new(Place::Outside, None)).is_deep()
            })
            .unwrap_or(false)
    }

    /// The calling thread panics, or has told of that.
    pub(crate) fn note_panic(begins: bool) {
        let _ = CURRENT.try_with(|current| {
            // In the middle of a panic nothing may panic.
            if let Ok(current) = current.try_borrow()
                && let Some(worker) = &*current
            {
                let now = clock::now();
                worker.panic_told.store(if begins { NEVER } else { now }, Ordering::SeqCst);
                if begins {
                    worker.panic_begun.store(now, Ordering::SeqCst);
                }
            }
        });
    }

    /// A panic on this thread, which began after `since`, is being told, or has just been: when to look again whether it has ended the handler. Not for ever: who tells may
    /// stand still, and a handler may have caught it.
    pub(crate) fn told_of_panic(&self, since: Tick) -> Option<Tick> {
        const LONGEST: Tick = 10_000_000_000;
        const UNWINDS: Tick = 100_000_000;
        const SOON: Tick = 5_000_000;
        let (begun, told) = (self.panic_begun.load(Ordering::SeqCst), self.panic_told.load(Ordering::SeqCst));
        if begun == 0 || begun < since {
            return None;
        }
        let until = if told == NEVER { begun.saturating_add(LONGEST) } else { told.saturating_add(UNWINDS) };
        let now = clock::now();
        (now < until).then(|| now.saturating_add(SOON))
    }

    /// The calling thread is one of the pool's.
    pub(crate) fn is_pooled_here() -> bool {
        let pooled = |worker: &Arc<Worker>| !worker.outside;
        CURRENT.try_with(|current| current.borrow().as_ref().is_some_and(pooled)).unwrap_or(false)
    }

    pub(crate) fn become_current(self: &Arc<Self>) {
        let _ = CURRENT.try_with(|current| *current.borrow_mut() = Some(Arc::clone(self)));
    }

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

    /// Those handlers are gone: of which it keeps something, until it has done a chore.
    pub(crate) fn forget_kept(&self, gone: &[HandlerId]) -> Vec<HandlerId> {
        self.keeps.lock().extract_if(.., |handler| gone.contains(handler)).collect()
    }

    #[cfg(test)]
    pub(crate) fn chores(&self) -> usize {
        self.chores.lock().len()
    }

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

    /// On its own thread: from now on it is the pump thread of `bus`.
    pub(crate) fn add_pump(&self, bus: Weak<dyn Drive>) {
        let mut pumps = self.pumps.lock();
        pumps.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&bus));
        pumps.push(bus);
        self.has_pumps.store(true, Ordering::SeqCst);
    }

    /// A park, on its own thread: until it is rung, or `until`. True if it ran something of a manual bus instead; as after a ring, whoever
    /// parks looks again.
    pub(crate) fn rest(self: &Arc<Self>, until: Tick, serves: Serves) -> bool {
        if self.has_pumps.load(Ordering::SeqCst) && self.serve(serves) {
            return true;
        }
        self.listen(until);
        false
    }

    /// Parks until it is rung, or `until`; sooner while the system refuses a thread, to ask for it again.
    pub(crate) fn listen(&self, until: Tick) {
        self.bell.wait(refused::come_back(until));
    }

    /// Runs one thing of a manual bus, if this is its pump thread and it has any. Not when the stack is nearly used up.
    #[cold]
    pub(crate) fn serve(self: &Arc<Self>, serves: Serves) -> bool {
        self.do_chores();
        if self.is_out_of_stack() {
            return false;
        }
        let buses: Vec<Weak<dyn Drive>> = self.pumps.lock().clone();
        let mut moved = Vec::new();
        let mut served = false;
        for weak in buses {
            match weak.upgrade().map(|bus| bus.serve(self, serves)) {
                Some(Ok(false)) => {}
                Some(Ok(true)) => {
                    served = true;
                    break;
                }
                Some(Err(NotHere)) | None => moved.push(weak),
            }
        }
        if !moved.is_empty() {
            let mut pumps = self.pumps.lock();
            pumps.retain(|bus| !moved.iter().any(|gone| gone.ptr_eq(bus)));
            self.has_pumps.store(!pumps.is_empty(), Ordering::SeqCst);
        }
        served
    }

    pub(crate) fn has_pumps(&self) -> bool {
        self.has_pumps.load(Ordering::SeqCst)
    }

    /// At the end of a call of ours that may have parked: whoever sleeps until it is woken hears of what this call has left. With nothing
    /// locked.
    #[inline]
    pub(crate) fn ends_wait(&self) {
        if self.has_pumps() {
            self.remind();
        }
    }

    #[cold]
    fn remind(&self) {
        let buses: Vec<Weak<dyn Drive>> = self.pumps.lock().clone();
        for bus in buses.iter().filter_map(Weak::upgrade) {
            bus.remind(self);
        }
    }

    /// A park that begins here could serve nothing any more. It asks that again a few frames down, and must not get another answer there.
    pub(crate) fn lacks_stack_to_serve(&self) -> bool {
        const FRAMES: usize = 8 << 10;
        self.bounds.is_used_up_within(FRAMES)
    }

    /// Not even what somebody else waits for can run on top any more.
    pub(crate) fn is_out_of_stack(&self) -> bool {
        self.bounds.is_used_up()
    }

    /// On its own thread: so much is left below the caller.
    pub(crate) fn assume_stack(&self, left: usize) {
        self.bounds.assume(left);
    }

    /// Somebody waits for what only this thread may run.
    pub(crate) fn has_fronted(&self) -> bool {
        let buses: Vec<Weak<dyn Drive>> = self.pumps.lock().clone();
        buses.iter().filter_map(Weak::upgrade).any(|bus| bus.has_fronted())
    }

    /// What only this thread could run, and has no stack for, keeps no turn from it.
    #[cold]
    pub(crate) fn set_down_fronted(&self) {
        let buses: Vec<Weak<dyn Drive>> = self.pumps.lock().clone();
        for bus in buses.iter().filter_map(Weak::upgrade) {
            bus.set_down_fronted();
        }
    }

    /// True when the stack is nearly used up.
    pub(crate) fn is_deep(&self) -> bool {
        self.bounds.is_deep()
    }

    /// May be taken under `run`, and before an event's lock.
    pub(crate) fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock()
    }

    /// Shows a delivery and its first handler to the watch, under the event's lock too. `Some`: the watch must be told, after unlocking.
    /// An alarm that is not earlier than what the watch has promised costs nothing more.
    #[must_use]
    #[inline(always)]
    pub(crate) fn push(&self, stack: &mut Stack, slot: Slot) -> Option<Tick> {
        if let Some(below) = stack.slots.last_mut() {
            below.running = self.top.read();
        }
        let alarm = slot.alarm();
        self.top.show(slot.running);
        stack.slots.push(slot);
        self.promise(alarm)
    }

    /// The next handler of the delivery on top, under its event's lock.
    #[must_use]
    #[inline]
    pub(crate) fn change(&self, running: Running) -> Option<Tick> {
        self.top.show(running);
        self.promise(running.alarm())
    }

    /// No handler of the delivery on top runs any more, which is about to go; under its event's lock.
    #[inline]
    pub(crate) fn rest_top(&self) {
        self.top.attempt.store(0, Ordering::Relaxed);
    }

    pub(crate) fn pop(&self) -> Option<Slot> {
        let mut stack = self.stack.lock();
        let gone = stack.slots.pop();
        if let Some(slot) = stack.slots.last() {
            self.top.show(slot.running);
        }
        gone
    }

    #[inline]
    fn promise(&self, alarm: Tick) -> Option<Tick> {
        let earlier = alarm < self.bound.load(Ordering::Relaxed);
        if earlier {
            self.bound.fetch_min(alarm, Ordering::Relaxed);
        }
        earlier.then_some(alarm)
    }

    /// If the bottom handler was ended from outside, acts before that can leave the stack.
    pub(crate) fn if_bottom_is_dead(&self, act: impl FnOnce()) {
        let mut stack = self.stack.lock();
        let is_top = stack.slots.len() == 1;
        let Some(slot) = stack.slots.first_mut() else { return };
        let event = slot.event.clone();
        let state = event.state().lock();
        if is_top {
            slot.running = self.top.read();
        }
        let dead = slot.running.attempt != 0 && !slot.is_live(&state);
        drop(state);
        if dead {
            act();
        }
    }

    /// The event that one of its handlers waits for, since it runs on top of that.
    pub(crate) fn above(&self, event: &AnyEvent, delivery: usize) -> Option<AnyEvent> {
        let stack = self.stack.lock();
        let at = stack.slots.iter().rposition(|slot| slot.event.same(event) && slot.delivery == delivery)?;
        stack.slots.get(at + 1).map(|above| above.event.clone())
    }

    /// Bottom first; not under any event's lock.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let stack = self.stack.lock();
        let mut slots = stack.slots.clone();
        if let Some(top) = slots.last_mut() {
            let state = top.event.state().lock();
            let running = self.top.read();
            drop(state);
            top.running = running;
            if running.attempt == 0 {
                // Its thread has a hold of the event, too.
                drop(slots.pop());
            }
        }
        slots
    }

    /// The watch's look: everything whose alarm has come, bottom first; the next alarm, `NEVER` if there is none. May come too early.
    pub(crate) fn look(self: &Arc<Self>, now: Tick) -> (Vec<(Slot, Overdue)>, Tick) {
        let mut due = Vec::new();
        let mut stack = self.stack.lock();
        // Before the look: whoever starts a handler that this does not see finds nothing promised, and tells the watch.
        if !planted("promise_withdrawn_late") {
            self.bound.store(NEVER, Ordering::Relaxed);
        }
        let mut bound = NEVER;
        let count = stack.slots.len();
        for (at, slot) in stack.slots.iter_mut().enumerate() {
            let event = slot.event.clone();
            let state = event.state().lock();
            let is_top = at + 1 == count;
            if is_top {
                slot.running = self.top.read();
            }
            if slot.running.attempt == 0 || !slot.is_live(&state) {
                // Nobody has to be told of an attempt that is over, however long its thread stays.
                continue;
            }
            if slot.running.deadline <= now {
                due.push((slot.clone(), Overdue::Deadline));
                slot.running.deadline = NEVER;
                slot.running.slow = NEVER;
                slot.slow_event = NEVER;
            }
            if slot.running.slow <= now {
                due.push((slot.clone(), Overdue::SlowHandler));
                slot.running.slow = NEVER;
            }
            if slot.slow_event <= now {
                due.push((slot.clone(), Overdue::SlowEvent));
                slot.slow_event = NEVER;
            }
            if slot.help <= now {
                slot.help = slot.running.since.saturating_add(ALONE);
            }
            if slot.help <= now {
                due.push((slot.clone(), Overdue::Alone));
                slot.help = NEVER;
            }
            bound = bound.min(slot.alarm());
            if is_top {
                self.top.show(slot.running);
            }
        }
        if planted("promise_withdrawn_late") {
            drop(stack);
            self.bound.store(bound, Ordering::Relaxed);
            return (due, bound);
        }
        self.bound.fetch_min(bound, Ordering::Relaxed);
        (due, bound)
    }
}
