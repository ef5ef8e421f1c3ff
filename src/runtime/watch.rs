//! The watch: one thread that knows when the next deadline comes, and a second one that does what follows from it.
//!
//! The watch itself only decides (`README.md`, 3.4). Both threads start when first needed and end when there is nothing left to watch.

use crate::runtime::worker::Worker;
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::sync::{Condvar, Mutex};
use crate::sys::{logging, thread, unwind};
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, Weak};

/// What the watch found on a worker's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    Deadline,
    SlowHandler,
    SlowEvent,
    /// One thread is alone with the parallel handlers of an event, and stands still.
    Alone,
}

type Action = Box<dyn FnOnce() + Send>;

enum Entry {
    Look(Weak<Worker>),
    Timer(Action),
}

#[derive(Default)]
struct State {
    heap: BinaryHeap<Reverse<(Tick, u64)>>,
    entries: HashMap<u64, Entry>,
    next: u64,
    running: bool,
}

#[derive(Default)]
struct Aftermath {
    queue: VecDeque<Action>,
    running: bool,
}

pub(crate) struct Watch {
    name: String,
    state: Mutex<State>,
    changed: Condvar,
    aftermath: Mutex<Aftermath>,
    due: Condvar,
}

const STACK: usize = 512 * 1024;
/// How long both threads stay when there is nothing to do.
const LINGER: std::time::Duration = std::time::Duration::from_secs(5);

thread::local! {
    static SERVES: Cell<bool> = Cell::new(false);
}

/// On the watch or its aftermath, which must not run user code.
pub(crate) fn is_service_thread() -> bool {
    SERVES.try_with(Cell::get).unwrap_or(false)
}

fn become_service_thread() {
    let _ = SERVES.try_with(|serves| serves.set(true));
    logging::never_here();
}

impl Watch {
    pub(crate) fn new(name: &str) -> Arc<Watch> {
        Arc::new(Watch {
            name: name.to_owned(),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            aftermath: Mutex::new(Aftermath::default()),
            due: Condvar::new(),
        })
    }

    /// The watch will look at the worker's stack no later than `at`.
    pub(crate) fn look_at(self: &Arc<Self>, at: Tick, worker: &Arc<Worker>) {
        self.add(at, Entry::Look(Arc::downgrade(worker)));
    }

    /// Runs `action` at `at`, on the aftermath thread: it must not block, nor run user code. The number takes it back.
    pub(crate) fn at(self: &Arc<Self>, at: Tick, action: impl FnOnce() + Send + 'static) -> u64 {
        self.add(at, Entry::Timer(Box::new(action)))
    }

    /// False if it has fired.
    pub(crate) fn cancel(&self, timer: u64) -> bool {
        let entry = self.state.lock().entries.remove(&timer);
        entry.is_some()
    }

    /// Runs `action` soon, on the aftermath thread.
    pub(crate) fn soon(self: &Arc<Self>, action: impl FnOnce() + Send + 'static) {
        let mut aftermath = self.aftermath.lock();
        aftermath.queue.push_back(Box::new(action));
        if aftermath.running {
            drop(aftermath);
            self.due.notify_one();
            return;
        }
        aftermath.running = true;
        drop(aftermath);
        let watch = Arc::clone(self);
        if let Err(error) = thread::spawn(format!("{}-aftermath", self.name), STACK, move || watch.run_aftermath()) {
            logging::later!(Error, move || {
                format!("the system refuses the aftermath thread ({error}); the caller does its work")
            });
            self.aftermath.lock().running = false;
            while let Some(action) = self.next_action() {
                run(action);
            }
        }
    }

    fn add(self: &Arc<Self>, at: Tick, entry: Entry) -> u64 {
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        if at == NEVER {
            return id;
        }
        let earliest = state.heap.peek().is_none_or(|Reverse((first, _))| at < *first);
        state.heap.push(Reverse((at, id)));
        state.entries.insert(id, entry);
        let start = !std::mem::replace(&mut state.running, true);
        drop(state);
        if start {
            self.start();
        } else if earliest {
            self.changed.notify_one();
        }
        id
    }

    fn start(self: &Arc<Self>) {
        if cfg!(threadbus_shuttle) {
            return;
        }
        let watch = Arc::clone(self);
        if let Err(error) = thread::spawn(format!("{}-watch", self.name), STACK, move || watch.run()) {
            self.state.lock().running = false;
            logging::later!(Error, move || {
                format!("the system refuses the watch thread ({error}): deadlines wait for the next try")
            });
        }
    }

    fn run(self: &Arc<Self>) {
        become_service_thread();
        let mut state = self.state.lock();
        loop {
            let now = clock::now();
            let next = state.heap.peek().map(|Reverse((at, _))| *at);
            match next {
                Some(at) if at <= now => {
                    let Some(Reverse((_, id))) = state.heap.pop() else { continue };
                    let entry = state.entries.remove(&id);
                    drop(state);
                    match entry {
                        Some(Entry::Look(worker)) => self.look(&worker, now),
                        Some(Entry::Timer(action)) => self.soon(action),
                        None => {}
                    }
                    state = self.state.lock();
                }
                Some(at) => {
                    if let Some(limit) = clock::instant(at) {
                        self.changed.wait_until(&mut state, limit);
                    }
                    if state.entries.len() * 2 + 64 < state.heap.len() {
                        let State { heap, entries, .. } = &mut *state;
                        heap.retain(|Reverse((_, id))| entries.contains_key(id));
                    }
                }
                None => {
                    let Some(limit) = clock::instant(clock::after(now, LINGER)) else { continue };
                    if self.changed.wait_until(&mut state, limit).timed_out() && state.heap.is_empty() {
                        state.running = false;
                        return;
                    }
                }
            }
        }
    }

    /// For models, which have no clock: all timers that are set fire now.
    #[cfg(threadbus_shuttle)]
    pub(crate) fn fire_timers(self: &Arc<Self>) {
        let mut due: Vec<(u64, Entry)> = {
            let mut state = self.state.lock();
            state.heap.clear();
            state.entries.drain().collect()
        };
        due.sort_by_key(|(id, _)| *id);
        for (_, entry) in due {
            if let Entry::Timer(action) = entry {
                self.soon(action);
            }
        }
    }

    #[cfg(threadbus_shuttle)]
    pub(crate) fn timers(&self) -> usize {
        self.state.lock().entries.values().filter(|entry| matches!(entry, Entry::Timer(_))).count()
    }

    fn look(self: &Arc<Self>, worker: &Weak<Worker>, now: Tick) {
        let Some(worker) = worker.upgrade() else { return };
        let (due, bound) = worker.look(now);
        if bound != NEVER {
            self.look_at(bound, &worker);
        }
        for (slot, overdue) in due {
            (slot.overdue)(&worker, &slot, overdue);
        }
    }

    fn next_action(&self) -> Option<Action> {
        self.aftermath.lock().queue.pop_front()
    }

    fn run_aftermath(self: &Arc<Self>) {
        become_service_thread();
        let mut aftermath = self.aftermath.lock();
        loop {
            if let Some(action) = aftermath.queue.pop_front() {
                drop(aftermath);
                run(action);
                aftermath = self.aftermath.lock();
                continue;
            }
            let limit = if cfg!(threadbus_shuttle) { None } else { clock::instant(clock::after(clock::now(), LINGER)) };
            let timed_out = limit.is_none_or(|limit| self.due.wait_until(&mut aftermath, limit).timed_out());
            if timed_out && aftermath.queue.is_empty() {
                aftermath.running = false;
                return;
            }
        }
    }
}

fn run(action: Action) {
    if let Err(panic) = unwind::catch(action) {
        logging::later!(Error, move || format!("the aftermath thread survived a panic: {panic}"));
    }
}
