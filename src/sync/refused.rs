//! Threads that the system refused. Every emit and every wait, on any bus of the process, asks for them again.
//!
//! 1. A pool or a watch that was refused a thread notes its wish here, and rings all threads of ours that may be parked.
//! 2. Each emit, each park before it begins and each look at an unfinished event reads one atomic. If anything is refused it asks for it again.
//! 3. A thread that parks while something is refused comes back after [`PERIOD`] to ask again.
//! 4. Asking takes the wishes out. A wish that is refused again is noted again; one that has no work any more is not.
//!
//! *Race: noted while a thread parks.* The note comes first and the ring second, and a ring is remembered: the thread that parks has read the
//! note, or comes back and reads it.

use crate::sync::Bell;
use crate::sys::clock::{self, Tick};
use crate::sys::thread;
use std::cell::Cell;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How soon a parked thread asks again.
const PERIOD: Duration = Duration::from_millis(10);

/// Something that needs a thread of the system.
pub(crate) trait Wish: Send + Sync {
    /// Asks again if there still is work, and notes itself again if that is refused. Called with nothing locked.
    fn ask_again(self: Arc<Self>);
}

#[derive(Default)]
struct State {
    wishes: Vec<Weak<dyn Wish>>,
    /// The bells of all threads that call us.
    bells: Vec<Weak<Bell>>,
    sweep_at: usize,
}

#[cfg(not(threadbus_shuttle))]
mod shared {
    use super::State;
    use crate::sys::sync::Mutex;
    use crate::sys::sync::atomic::{AtomicBool, Ordering::Relaxed};

    static ANY: AtomicBool = AtomicBool::new(false);
    static STATE: Mutex<State> = Mutex::new(State { wishes: Vec::new(), bells: Vec::new(), sweep_at: 64 });

    #[inline]
    pub(super) fn is_any() -> bool {
        ANY.load(Relaxed)
    }

    /// One step. Whether anything is refused is what it was before, unless the step says so.
    pub(super) fn step<R>(step: impl FnOnce(&mut State) -> (R, Option<bool>)) -> R {
        let mut state = STATE.lock();
        let (result, any) = step(&mut state);
        if let Some(any) = any {
            ANY.store(any, Relaxed);
        }
        result
    }
}

/// A model has one of its own, and no thread of another model sees it.
#[cfg(threadbus_shuttle)]
mod shared {
    use super::State;
    use std::cell::{Cell, RefCell};

    std::thread_local! {
        static ANY: Cell<bool> = const { Cell::new(false) };
        static STATE: RefCell<State> = RefCell::default();
    }

    pub(super) fn is_any() -> bool {
        ANY.get()
    }

    pub(super) fn step<R>(step: impl FnOnce(&mut State) -> (R, Option<bool>)) -> R {
        let (result, any) = STATE.with_borrow_mut(step);
        if let Some(any) = any {
            ANY.set(any);
        }
        result
    }
}

/// Lists a thread that may park in a call of ours.
pub(crate) fn list(bell: &Arc<Bell>) {
    shared::step(|state| {
        if state.bells.len() >= state.sweep_at {
            state.bells.retain(|bell| bell.strong_count() > 0);
            state.sweep_at = 2 * state.bells.len() + 64;
        }
        state.bells.push(Arc::downgrade(bell));
        ((), None)
    });
}

/// Notes that the system has refused a thread. With nothing locked.
pub(crate) fn note(wish: Weak<dyn Wish>) {
    let bells = shared::step(|state| {
        state.wishes.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&wish));
        state.wishes.push(wish);
        let first = !shared::is_any();
        (if first { state.bells.clone() } else { Vec::new() }, Some(true))
    });
    bells.iter().filter_map(Weak::upgrade).for_each(|bell| bell.ring());
}

/// Asks again for what is refused; one load if nothing is. With nothing locked.
#[inline]
pub(crate) fn ask_again() {
    if shared::is_any() {
        ask();
    }
}

/// Called by a thread that is about to park until `until`: asks again, and says when to come back.
#[inline]
pub(crate) fn come_back(until: Tick) -> Tick {
    if !shared::is_any() {
        return until;
    }
    ask();
    if shared::is_any() { until.min(clock::after(clock::now(), PERIOD)) } else { until }
}

thread::local! {
    static ASKS: Cell<bool> = Cell::new(false);
}

#[cold]
fn ask() {
    // A pool that is refused again may set a timer, whose thread is refused, too.
    if ASKS.try_with(|asks| asks.replace(true)).unwrap_or(true) {
        return;
    }
    ask_all();
    let _ = ASKS.try_with(|asks| asks.set(false));
}

fn ask_all() {
    let wishes = shared::step(|state| (std::mem::take(&mut state.wishes), None));
    wishes.iter().filter_map(Weak::upgrade).for_each(Wish::ask_again);
    shared::step(|state| ((), Some(!state.wishes.is_empty())));
}

#[cfg(all(test, not(any(threadbus_loom, threadbus_shuttle))))]
#[allow(clippy::unwrap_used, clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]
mod tests {
    use super::*;
    use crate::sys::thread::unit::refuse;
    use crate::{Event, EventBus, HandlerFailure, HandlerOptions, Payload, Runtime};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread;
    use std::time::Instant;

    struct Job;
    impl Payload for Job {
        type Output = ();
    }
    struct Other;
    impl Payload for Other {
        type Output = ();
    }

    const MS: Duration = Duration::from_millis(1);
    const PATIENCE: Duration = Duration::from_secs(10);

    fn eventually(holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < PATIENCE, "it did not come");
            thread::sleep(MS);
        }
    }

    fn bus(name: &str) -> EventBus {
        let runtime = Runtime::builder().thread_name(name).build().unwrap();
        EventBus::builder(name).runtime(&runtime).build().unwrap()
    }

    fn counting(bus: &EventBus) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let of = Arc::clone(&count);
        bus.on(move |_: &Event<Job>| {
            of.fetch_add(1, SeqCst);
        });
        count
    }

    /// A schedule whose watch is refused, let go when the system gives threads again.
    fn refused(name: &str) -> (EventBus, Arc<AtomicUsize>) {
        let bus = bus(name);
        let count = counting(&bus);
        refuse(&format!("{name}-watch"), true);
        bus.emit_after(2 * MS, Job);
        bus.emit_after(3 * MS, Job);
        thread::sleep(5 * MS);
        assert_eq!(count.load(SeqCst), 0);
        refuse(&format!("{name}-watch"), false);
        (bus, count)
    }

    #[test]
    fn one_emit_on_any_bus_asks_again() {
        let other = bus("refuse-emits");
        let (_bus, count) = refused("refuse-emit");
        // Neither handled nor waited for.
        other.emit(Job);
        eventually(|| count.load(SeqCst) == 2);
    }

    #[test]
    fn one_wait_on_any_bus_asks_again() {
        let other = bus("refuse-waits");
        let mut jobs = other.subscribe::<Job>();
        let (_bus, count) = refused("refuse-wait");
        assert!(jobs.recv_timeout(MS).is_err());
        eventually(|| count.load(SeqCst) == 2);
    }

    #[test]
    fn the_next_schedule_asks_again() {
        let (bus, count) = refused("refuse-plan");
        bus.emit_after(MS, Job);
        eventually(|| count.load(SeqCst) == 3);
    }

    /// The timer for which the thread was refused is taken back, so no call asks any more; the next timer does by itself.
    #[test]
    fn a_wish_goes_with_its_work() {
        let bus = bus("refuse-gone");
        let count = counting(&bus);
        refuse("refuse-gone-watch", true);
        let hour = bus.emit_after(Duration::from_secs(3600), Job);
        assert!(hour.cancel());
        thread::sleep(2 * MS);
        ask_again();
        refuse("refuse-gone-watch", false);
        bus.emit_after(MS, Job);
        eventually(|| count.load(SeqCst) == 1);
    }

    /// A thread parked in a wait of ours comes back by time to ask, also if it parked before the refusal.
    #[test]
    fn a_timeout_comes_though_everybody_was_parked_when_the_watch_was_refused() {
        static LEAVES: AtomicUsize = AtomicUsize::new(0);
        let runtime = Runtime::builder().thread_name("refuse-park").build().unwrap();
        let builder = EventBus::builder("refuse-park").runtime(&runtime).handler_timeout(None);
        let bus = builder.handler_slow_after(None).event_slow_after(None).build().unwrap();
        bus.on(|_: &Event<Other>| {
            while LEAVES.load(SeqCst) == 0 {
                thread::sleep(MS)
            }
        });
        bus.on_with(HandlerOptions::new().timeout(20 * MS), |_: &Event<Job>| {
            let start = Instant::now();
            while LEAVES.load(SeqCst) == 1 && start.elapsed() < 2 * PATIENCE {
                thread::sleep(MS);
            }
        });
        refuse("refuse-park-watch", true);
        bus.emit(Other);
        let event = bus.emit(Job);
        let waits = event.clone();
        let waiter = thread::spawn(move || waits.wait_timeout(PATIENCE).map(drop));
        thread::sleep(30 * MS);
        LEAVES.store(1, SeqCst);
        thread::sleep(50 * MS);
        assert!(!event.is_completed());
        refuse("refuse-park-watch", false);
        let waited = waiter.join().unwrap();
        LEAVES.store(2, SeqCst);
        waited.unwrap();
        assert!(matches!(event.errors().first().map(|e| &**e), Some(HandlerFailure::TimedOut { .. })));
    }

    /// The watch does the work of the thread that it is refused, and asks for it each time.
    #[test]
    fn a_timeout_comes_without_an_aftermath() {
        let bus = bus("refuse-after");
        let count = counting(&bus);
        bus.on_with(HandlerOptions::new().timeout(5 * MS), |_: &Event<Other>| {
            drop(crate::HandlerContext::current().unwrap().sleep(PATIENCE));
        });
        for refused in [true, false, true] {
            refuse("refuse-after-aftermath", refused);
            let event = bus.emit(Other).wait_timeout(PATIENCE).unwrap();
            assert!(matches!(event.errors().first().map(|e| &**e), Some(HandlerFailure::TimedOut { .. })));
            let before = count.load(SeqCst);
            bus.emit_after(MS, Job);
            eventually(|| count.load(SeqCst) == before + 1);
        }
    }

    /// Refused at any moment, by a system that changes its mind all the time: every timer fires in the end.
    #[test]
    fn every_timer_fires_in_the_end() {
        let bus = bus("refuse-any");
        let count = counting(&bus);
        let over = Arc::new(AtomicUsize::new(0));
        let flips = Arc::clone(&over);
        let system = thread::spawn(move || {
            let mut refused = true;
            while flips.load(SeqCst) == 0 {
                refuse("refuse-any-watch", refused);
                refuse("refuse-any-aftermath", !refused);
                refused = !refused;
                thread::sleep(MS / 2);
            }
            refuse("refuse-any-watch", false);
            refuse("refuse-any-aftermath", false);
        });
        let planners: Vec<_> = (0..3)
            .map(|_| {
                let bus = bus.clone();
                thread::spawn(move || {
                    for n in 0..60 {
                        bus.emit_after(MS * (n % 3), Job);
                        // Far ones, of which nothing is left.
                        bus.emit_after(PATIENCE * 100, Job).cancel();
                        thread::sleep(MS / 4);
                        // The threads leave, and are asked for again.
                        bus.runtime().core.let_go();
                    }
                })
            })
            .collect();
        planners.into_iter().for_each(|planner| planner.join().unwrap());
        over.store(1, SeqCst);
        system.join().unwrap();
        ask_again();
        eventually(|| count.load(SeqCst) == 180);
    }
}
