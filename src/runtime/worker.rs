//! A thread while it is inside ours: its bell, and the stack of handlers it runs, shared with the watch and with diagnostics.

use crate::event::AnyEvent;
use crate::runtime::drive::{Drive, NotHere, Serves};
use crate::runtime::pool::Place;
use crate::runtime::watch::Overdue;
use crate::sync::Bell;
use crate::sys::clock::{NEVER, Tick};
use crate::sys::sync::atomic::{AtomicBool, Ordering};
use crate::sys::sync::{Mutex, MutexGuard};
use crate::sys::thread;
use std::cell::RefCell;
use std::sync::{Arc, Weak};

/// What the watch and diagnostics see of one handler on a thread's stack.
#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) event: AnyEvent,
    pub(crate) delivery: usize,
    pub(crate) invocation: usize,
    pub(crate) attempt: u32,
    pub(crate) since: Tick,
    /// When it must have ended; the event's cap included.
    pub(crate) deadline: Tick,
    /// When to warn that it, or its event, is slow; `NEVER` once done.
    pub(crate) slow: Tick,
    pub(crate) slow_event: Tick,
    /// The bus room's answer to a deadline or a slow handler.
    pub(crate) overdue: fn(&Arc<Worker>, &Slot, Overdue),
}

impl Slot {
    fn alarm(&self) -> Tick {
        self.deadline.min(self.slow).min(self.slow_event)
    }
}

/// The handlers on a thread's stack.
pub(crate) struct Stack {
    slots: Vec<Slot>,
    /// The watch looks here no later than this.
    bound: Tick,
}

impl Stack {
    /// Shows a handler to the watch. `Some`: the watch must be told, after unlocking. An alarm that is not earlier than what the watch
    /// has promised costs nothing more.
    #[must_use]
    pub(crate) fn push(&mut self, slot: Slot) -> Option<Tick> {
        let alarm = slot.alarm();
        self.slots.push(slot);
        self.promise(alarm)
    }

    /// The next handler of the same delivery takes the place of the one before.
    #[must_use]
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Slot)) -> Option<Tick> {
        let slot = self.slots.last_mut()?;
        change(slot);
        let alarm = slot.alarm();
        self.promise(alarm)
    }

    pub(crate) fn pop(&mut self) -> Option<Slot> {
        self.slots.pop()
    }

    fn promise(&mut self, alarm: Tick) -> Option<Tick> {
        let earlier = alarm < self.bound;
        if earlier {
            self.bound = alarm;
        }
        earlier.then_some(alarm)
    }
}

pub(crate) struct Worker {
    /// Unique in the process, never 0.
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) bell: Arc<Bell>,
    /// The pool's business, changed under the pool's lock only.
    pub(crate) place: Mutex<Place>,
    /// The lowest stack address that may still be used, if the stack's size is known.
    floor: Option<usize>,
    /// The same for what nobody else can run, and which others wait for.
    last: Option<usize>,
    stack: Mutex<Stack>,
    /// What only this thread can do: dropping what it keeps for a handler that is gone.
    chores: Mutex<Vec<Chore>>,
    /// Manual buses whose pump thread this is, or was.
    pumps: Mutex<Vec<Weak<dyn Drive>>>,
    /// There are any. Changed and read on its own thread only.
    has_pumps: AtomicBool,
}

type Chore = Box<dyn FnOnce() + Send>;

/// What a thread of the user's is taken to have: what Rust gives a thread unless told otherwise.
const OUTSIDE_STACK: usize = 2 << 20;

thread::local! {
    static CURRENT: RefCell<Option<Arc<Worker>>> = RefCell::new(None);
}

impl Worker {
    pub(crate) fn new(place: Place, stack_size: Option<usize>) -> Arc<Worker> {
        let here = thread::stack_position();
        // A quarter of the stack, at least 128 KiB, is left to whatever a handler calls.
        let reserve = |size: usize| (size / 4).max(128 * 1024).min(size / 2);
        let floor = stack_size.map(|size| here.saturating_sub(size - reserve(size)));
        let last = stack_size.map(|size| here.saturating_sub(size - reserve(size) / 2));
        Arc::new(Worker {
            id: thread::next_number(),
            name: thread::name(),
            bell: Arc::new(Bell::new()),
            place: Mutex::new(place),
            floor,
            last,
            stack: Mutex::new(Stack { slots: Vec::new(), bound: NEVER }),
            chores: Mutex::new(Vec::new()),
            pumps: Mutex::new(Vec::new()),
            has_pumps: AtomicBool::new(false),
        })
    }

    /// The calling thread's; made on first use on a thread that is not the pool's. `None` while the thread ends.
    pub(crate) fn current() -> Option<Arc<Worker>> {
        CURRENT
            .try_with(|current| {
                let mut current = current.borrow_mut();
                Arc::clone(current.get_or_insert_with(|| Worker::new(Place::Outside, Some(OUTSIDE_STACK))))
            })
            .ok()
    }

    pub(crate) fn become_current(self: &Arc<Self>) {
        let _ = CURRENT.try_with(|current| *current.borrow_mut() = Some(Arc::clone(self)));
    }

    pub(crate) fn is_outside(&self) -> bool {
        *self.place.lock() == Place::Outside
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
        self.bell.wait(until);
        false
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

    /// Not even what somebody else waits for can run on top any more.
    pub(crate) fn is_out_of_stack(&self) -> bool {
        self.last.is_some_and(|last| thread::stack_position() < last)
    }

    /// Somebody waits for what only this thread may run.
    pub(crate) fn has_fronted(&self) -> bool {
        let buses: Vec<Weak<dyn Drive>> = self.pumps.lock().clone();
        buses.iter().filter_map(Weak::upgrade).any(|bus| bus.has_fronted())
    }

    /// True when the stack is nearly used up.
    pub(crate) fn is_deep(&self) -> bool {
        self.floor.is_some_and(|floor| thread::stack_position() < floor)
    }

    /// May be taken under `run`, and before an event's lock.
    pub(crate) fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock()
    }

    /// Asks about the bottom handler, and acts before that can leave the stack.
    pub(crate) fn if_bottom(&self, dead: impl FnOnce(&Slot) -> bool, act: impl FnOnce()) {
        let stack = self.stack.lock();
        if stack.slots.first().is_some_and(dead) {
            act();
        }
    }

    /// Bottom first.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.stack.lock().slots.clone()
    }

    /// The watch's look: everything whose alarm has come, bottom first; the next alarm.
    pub(crate) fn look(self: &Arc<Self>, now: Tick) -> (Vec<(Slot, Overdue)>, Tick) {
        let mut due = Vec::new();
        let mut stack = self.stack.lock();
        let mut bound = NEVER;
        for slot in &mut stack.slots {
            if slot.deadline <= now {
                due.push((slot.clone(), Overdue::Deadline));
                slot.deadline = NEVER;
                slot.slow = NEVER;
                slot.slow_event = NEVER;
            }
            if slot.slow <= now {
                due.push((slot.clone(), Overdue::SlowHandler));
                slot.slow = NEVER;
            }
            if slot.slow_event <= now {
                due.push((slot.clone(), Overdue::SlowEvent));
                slot.slow_event = NEVER;
            }
            bound = bound.min(slot.alarm());
        }
        stack.bound = bound;
        (due, bound)
    }
}
