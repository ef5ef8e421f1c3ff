//! The watch: one thread that knows when the next deadline comes. It only decides; what follows is done by the [`Aftermath`].
//!
//! Its thread starts when first needed, and ends when there is nothing left to watch. A timer that is taken back leaves nothing. A look goes
//! with its reason: every few seconds the watch *sweeps*, that is, it looks at all stacks before their time, and comes again only to those on
//! which an alarm is left. See `watch/README.md`.

use crate::runtime::aftermath::{Action, Aftermath, STACK, become_service_thread};
use crate::runtime::crew::Crew;
use crate::runtime::slot::{Overdue, Slot};
use crate::runtime::worker::Worker;
use crate::sync::refused::{self, Wish};
use crate::sys::clock::{self, NEVER, Tick, Timer};
use crate::sys::sync::{Condvar, Mutex, MutexGuard};
use crate::sys::{logging, planted};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// Says what follows when the watch finds a handler overdue: for every bus alike, since handlers of several can be on one stack.
pub(crate) trait Overseer: Sync {
    /// On the watch's thread: it must not block, nor run user code.
    fn overdue(&self, worker: &Arc<Worker>, slot: &Slot, what: Overdue);
}

/// What is to be done at some time.
enum Entry {
    Look(Weak<Worker>),
    Timer(Action),
}

/// What is to be done, by its time. A number tells entries of one time apart.
type Agenda = BTreeMap<Timer, Entry>;

#[derive(Default)]
struct State {
    agenda: Agenda,
    /// The one look at each worker, by the worker's address, which the weak hold in the agenda keeps from being used again.
    looks: HashMap<usize, Timer>,
    next: u64,
    /// The thread is there, or is being started.
    running: bool,
    /// When the thread wakes by itself; 0 while it is awake.
    wakes: Tick,
    /// Something was added since the last sweep.
    used: bool,
    /// The system has refused the thread, and has not given it since.
    refused: bool,
}

impl State {
    fn add(&mut self, at: Tick, entry: Entry) -> Timer {
        let timer = Timer { at, number: self.next };
        self.next += 1;
        self.agenda.insert(timer, entry);
        self.used = true;
        timer
    }

    fn take_due(&mut self, now: Tick) -> Option<Entry> {
        let first = self.agenda.first_entry().filter(|first| first.key().at <= now)?;
        let entry = first.remove();
        if let Entry::Look(worker) = &entry {
            self.looks.remove(&worker.as_ptr().addr());
        }
        Some(entry)
    }

    fn take_looks(&mut self) -> Vec<Weak<Worker>> {
        let looks = std::mem::take(&mut self.looks);
        let mut workers = Vec::with_capacity(looks.len());
        for timer in looks.into_values() {
            if let Some(Entry::Look(worker)) = self.agenda.remove(&timer) {
                workers.push(worker);
            }
        }
        workers
    }
}

pub(crate) struct Watch {
    name: String,
    crew: Arc<Crew>,
    /// Set before the first handler of any bus of the runtime starts.
    overseer: OnceLock<&'static dyn Overseer>,
    state: Mutex<State>,
    changed: Condvar,
    aftermath: Arc<Aftermath>,
}

/// How often the watch sweeps.
const PERIOD: Duration = Duration::from_secs(3);

impl Watch {
    pub(crate) fn new(name: &str, crew: &Arc<Crew>) -> Arc<Watch> {
        Arc::new(Watch {
            name: name.to_owned(),
            crew: Arc::clone(crew),
            overseer: OnceLock::new(),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            aftermath: Aftermath::new(name, crew),
        })
    }

    /// From now on the watch tells `overseer` what it finds. The first one stays.
    pub(crate) fn tell(&self, overseer: &'static dyn Overseer) {
        let _ = self.overseer.set(overseer);
    }

    /// Promises a look at the worker's stack, no later than `at`.
    pub(crate) fn look_at(self: &Arc<Self>, at: Tick, worker: &Arc<Worker>) {
        if at == NEVER {
            return;
        }
        let address = Arc::as_ptr(worker).addr();
        let mut state = self.state.lock();
        if let Some(timer) = state.looks.get(&address).copied() {
            if timer.at <= at {
                // That look finds out when to come again.
                return;
            }
            state.agenda.remove(&timer);
        }
        let timer = state.add(at, Entry::Look(Arc::downgrade(worker)));
        state.looks.insert(address, timer);
        self.added(state, at);
    }

    /// Runs `action` at `at`, on the aftermath thread: it must not block, nor run user code. [`cancel`](Watch::cancel) takes it back.
    pub(crate) fn at(self: &Arc<Self>, at: Tick, action: impl FnOnce() + Send + 'static) -> Timer {
        let mut state = self.state.lock();
        if at == NEVER {
            let number = state.next;
            state.next += 1;
            return Timer { at, number };
        }
        let timer = state.add(at, Entry::Timer(Box::new(action)));
        self.added(state, at);
        timer
    }

    /// Takes a timer back. False if it has fired.
    pub(crate) fn cancel(&self, timer: Timer) -> bool {
        let mut state = self.state.lock();
        let entry = state.agenda.remove(&timer);
        // Nothing is left to sleep for; a short sleep ends by itself.
        let wake = state.agenda.is_empty() && state.wakes > clock::after(clock::now(), PERIOD);
        if wake {
            state.wakes = 0;
        }
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        entry.is_some()
    }

    /// The threads of the watch and its aftermath leave now if they have nothing to do, and the crew says so.
    pub(crate) fn let_go(&self) {
        self.state.lock().wakes = 0;
        self.changed.notify_one();
        self.aftermath.let_go();
    }

    /// Runs `action` soon, on the aftermath thread: it must not block, nor run user code.
    pub(crate) fn soon(&self, action: impl FnOnce() + Send + 'static) {
        self.aftermath.soon(Box::new(action));
    }

    /// With something added for `at`: starts the thread, or wakes it if it would sleep for longer.
    fn added(self: &Arc<Self>, mut state: MutexGuard<'_, State>, at: Tick) {
        let (refused, wake) = (state.refused, at < state.wakes);
        let start = !refused && !std::mem::replace(&mut state.running, true);
        if wake {
            state.wakes = 0;
        }
        drop(state);
        if start {
            self.start();
        } else if wake {
            self.changed.notify_one();
        } else if refused {
            refused::ask_again();
        }
    }

    /// `running` is set already, and is taken back if the system refuses the thread.
    fn start(self: &Arc<Self>) {
        if cfg!(threadbus_shuttle) {
            return;
        }
        let watch = Arc::clone(self);
        if let Err(error) = self.crew.spawn(format!("{}-watch", self.name), STACK, move || watch.run()) {
            let first = {
                let mut state = self.state.lock();
                state.running = false;
                !std::mem::replace(&mut state.refused, true)
            };
            let wish = Arc::downgrade(self);
            refused::note(wish);
            if first {
                logging::later!(Error, move || {
                    format!("the system refuses the watch thread ({error}): deadlines wait for the next try")
                });
            }
        }
    }

    fn run(self: &Arc<Self>) {
        become_service_thread();
        let mut sweep_at = clock::after(clock::now(), PERIOD);
        let mut state = self.state.lock();
        state.refused = false;
        loop {
            let now = clock::now();
            if let Some(entry) = state.take_due(now) {
                drop(state);
                match entry {
                    Entry::Look(worker) => self.look(&worker, now),
                    Entry::Timer(action) => self.aftermath.soon(action),
                }
                state = self.state.lock();
                continue;
            }
            let stays = self.crew.may_stay();
            if now >= sweep_at || !stays {
                drop(state);
                self.sweep(now);
                state = self.state.lock();
                let used = std::mem::take(&mut state.used) && stays;
                if state.agenda.is_empty() && !used {
                    state.running = false;
                    return;
                }
                sweep_at = clock::after(now, PERIOD);
                if stays && !self.crew.may_stay() {
                    continue;
                }
            }
            let next = state.agenda.first_key_value().map_or(NEVER, |(timer, _)| timer.at);
            let only_timers = state.looks.is_empty() && next != NEVER;
            let until = if only_timers { next } else { next.min(sweep_at) };
            let Some(limit) = clock::instant(until).or_else(|| clock::instant(sweep_at)) else { continue };
            state.wakes = until;
            self.changed.wait_until(&mut state, limit);
            state.wakes = 0;
        }
    }

    /// Looks at every stack at which a look is promised, though it may be too early. Where no alarm is left, nothing is promised afterwards,
    /// and the watch forgets the worker.
    fn sweep(self: &Arc<Self>, now: Tick) {
        let looks = self.state.lock().take_looks();
        for worker in looks {
            if planted("sweep_keeps_promise") && worker.upgrade().is_some_and(|worker| worker.slots().is_empty()) {
                continue;
            }
            self.look(&worker, now);
        }
    }

    /// For models, which have no watch: it sweeps now.
    #[cfg(threadbus_shuttle)]
    pub(crate) fn sweeps(self: &Arc<Self>) {
        self.sweep(0);
    }

    /// For models, which have no clock: it looks at every stack that it has promised to look at, and all deadlines there have passed.
    #[cfg(threadbus_shuttle)]
    pub(crate) fn looks(self: &Arc<Self>) {
        self.sweep(NEVER - 1);
    }

    /// For models, which have no clock: all timers that are set fire now.
    #[cfg(threadbus_shuttle)]
    pub(crate) fn fire_timers(self: &Arc<Self>) {
        let mut due: Vec<(u64, Action)> = Vec::new();
        {
            let mut state = self.state.lock();
            let agenda = std::mem::take(&mut state.agenda);
            for (timer, entry) in agenda {
                match entry {
                    Entry::Timer(action) => due.push((timer.number, action)),
                    look => drop(state.agenda.insert(timer, look)),
                }
            }
        }
        due.sort_by_key(|(number, _)| *number);
        due.into_iter().for_each(|(_, action)| self.aftermath.soon(action));
    }

    #[cfg(threadbus_shuttle)]
    pub(crate) fn timers(&self) -> usize {
        self.state.lock().agenda.values().filter(|entry| matches!(entry, Entry::Timer(_))).count()
    }

    fn look(self: &Arc<Self>, worker: &Weak<Worker>, now: Tick) {
        let Some(worker) = worker.upgrade() else { return };
        let (due, bound) = worker.take_overdue(now);
        if bound != NEVER {
            self.look_at(bound, &worker);
        }
        for (slot, overdue) in due {
            if let Some(overseer) = self.overseer.get() {
                overseer.overdue(&worker, &slot, overdue);
            }
        }
    }
}

impl Wish for Watch {
    fn ask_again(self: Arc<Self>) {
        let start = {
            let mut state = self.state.lock();
            let start = !state.running && !state.agenda.is_empty();
            state.running |= start;
            // Without work there is no wish; whatever is added next asks by itself.
            state.refused &= start || state.running;
            start
        };
        if start {
            self.start();
        }
    }
}

#[cfg(all(test, not(any(threadbus_loom, threadbus_shuttle))))]
mod tests;
