//! What a bus is to be given later, when the one who asked for it has long gone on.
//!
//! 1. A plan lies here, with the payload; the watch has a timer that knows the bus weakly and the plan by number.
//! 2. When it is due, the aftermath thread notes the number here, and submits a job unless one is at it. It touches nothing of the user's.
//! 3. The job empties what is due, one after another in the order of their times, on a pool thread: it is there that payloads are cloned,
//!    dropped and emitted, and that an emit may wait for room in a full queue, with its place in the pool given up. So schedules cost a bus
//!    one thread at most, and only while it waits.
//! 4. What repeats is armed again once it has been emitted, on the beat of its first time: it never piles up, and does not drift.
//!
//! *Race: cancelled when due.* The plan is looked up under the lock when its turn comes: gone, and nothing happens. *Race: armed while it
//! fires or is cancelled.* A timer is put down only in the plan's round that armed it, and taken back if that is over.

use crate::bus::core::BusCore;
use crate::bus::frame::{self, Local};
use crate::bus::handle::EventBus;
use crate::event::{ContextMap, EmitError};
use crate::runtime::{Job, Watch};
use crate::sys::clock::{self, Tick, Timer};
use crate::sys::sync::Mutex;
use crate::sys::{logging, unwind};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};

/// Emits once. The user's code, for a pool thread.
pub(crate) type Emission = Box<dyn FnMut(&EventBus) -> Result<(), EmitError> + Send>;

pub(crate) struct Outbox {
    state: Mutex<State>,
    watch: Arc<Watch>,
}

#[derive(Default)]
struct State {
    closed: bool,
    plans: BTreeMap<u64, Plan>,
    next: u64,
    due: VecDeque<Due>,
    /// A job empties `due`.
    emptied: bool,
}

struct Plan {
    at: Tick,
    /// In nanoseconds, of what repeats.
    period: Option<u64>,
    /// How often it was armed; the timer is the last round's.
    round: u64,
    timer: Option<Timer>,
    /// With the job while that emits.
    emission: Option<Emission>,
    context: Option<Arc<ContextMap>>,
}

/// It keeps the bus, so that the aftermath thread is never the one to drop it.
struct Due {
    plan: u64,
    bus: Arc<BusCore>,
}

/// What it takes to emit, with the context of the call that planned it.
type Ready = (Emission, Option<Arc<ContextMap>>);

impl Outbox {
    pub(crate) fn new(watch: &Arc<Watch>) -> Arc<Outbox> {
        Arc::new(Outbox { state: Mutex::new(State::default()), watch: Arc::clone(watch) })
    }

    /// From `at` on, once or every `period` nanoseconds. `None` if the bus takes nothing any more.
    pub(crate) fn plan(&self, bus: &Arc<BusCore>, at: Tick, period: Option<u64>, emission: Emission) -> Option<u64> {
        let context = frame::local(|local| local.context.clone()).flatten();
        let number = {
            let mut state = self.state.lock();
            if state.closed {
                drop(state);
                unwind::drop_quietly(emission);
                return None;
            }
            let number = state.next;
            state.next += 1;
            let plan = Plan { at, period, round: 0, timer: None, emission: Some(emission), context };
            state.plans.insert(number, plan);
            number
        };
        self.arm(&Arc::downgrade(bus), number, 0, at);
        Some(number)
    }

    /// Takes a plan back; false if there is nothing left of it.
    pub(crate) fn cancel(&self, number: u64) -> bool {
        let plan = self.state.lock().plans.remove(&number);
        plan.map(|plan| self.discard(plan)).is_some()
    }

    /// The bus takes nothing any more.
    pub(crate) fn close(&self) {
        let plans = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.plans)
        };
        for plan in plans.into_values() {
            self.discard(plan);
        }
    }

    fn discard(&self, plan: Plan) {
        if let Some(timer) = plan.timer {
            self.watch.cancel(timer);
        }
        unwind::drop_quietly(plan);
    }

    /// Outside of the lock, since the watch may start a thread.
    fn arm(&self, bus: &Weak<BusCore>, number: u64, round: u64, at: Tick) {
        let weak = Weak::clone(bus);
        let timer = self.watch.at(at, move || is_due(&weak, number));
        let stale = {
            let mut state = self.state.lock();
            match state.plans.get_mut(&number) {
                Some(plan) if plan.round == round => {
                    plan.timer = Some(timer);
                    false
                }
                _ => true,
            }
        };
        if stale {
            self.watch.cancel(timer);
        }
    }

    /// What is due next, with what it takes to emit it. `None`: nothing is, and the job is over.
    fn next(&self) -> Option<(Due, Option<Ready>)> {
        let mut state = self.state.lock();
        let Some(due) = state.due.pop_front() else {
            state.emptied = false;
            return None;
        };
        let found = match state.plans.get_mut(&due.plan) {
            Some(plan) if plan.period.is_some() => {
                plan.emission.take().map(|emission| (emission, plan.context.clone()))
            }
            Some(_) => {
                let plan = state.plans.remove(&due.plan);
                plan.and_then(|plan| Some((plan.emission?, plan.context)))
            }
            None => None,
        };
        Some((due, found))
    }

    /// After an emission: the next time of what repeats.
    fn again(&self, due: &Due, emission: Emission, closed: bool) {
        let mut emission = Some(emission);
        let next = {
            let mut state = self.state.lock();
            match state.plans.get_mut(&due.plan) {
                Some(plan) if !closed => plan.period.map(|period| {
                    plan.at = next_beat(plan.at, period, clock::now());
                    plan.round += 1;
                    plan.timer = None;
                    plan.emission = emission.take();
                    (plan.round, plan.at)
                }),
                _ => None,
            }
        };
        // Cancelled meanwhile, closed, or not to be repeated.
        unwind::drop_quietly(emission);
        match next {
            Some((round, at)) => self.arm(&Arc::downgrade(&due.bus), due.plan, round, at),
            None => {
                self.cancel(due.plan);
            }
        }
    }
}

/// On the aftermath thread.
fn is_due(bus: &Weak<BusCore>, plan: u64) {
    let Some(bus) = bus.upgrade() else { return };
    let (outbox, pool, lane) = (Arc::clone(&bus.outbox), Arc::clone(&bus.runtime.pool), bus.lane);
    let start = {
        let mut state = outbox.state.lock();
        state.due.push_back(Due { plan, bus });
        !std::mem::replace(&mut state.emptied, true)
    };
    if start {
        pool.submit_granted(Job::new(lane, move |_| empty(&outbox)));
    }
}

/// On a pool thread.
fn empty(outbox: &Outbox) {
    while let Some((due, found)) = outbox.next() {
        if let Some((mut emission, context)) = found {
            let bus = EventBus::of(Arc::clone(&due.bus), None);
            let emitted = {
                // Whatever this thread is inside of has nothing to do with it.
                let _aside = Aside::set(context);
                unwind::catch(|| emission(&bus)).map_err(|panic| {
                    let of = Arc::clone(&due.bus.identity.label);
                    logging::later!(Error, move || format!("a scheduled emit on {of} panicked: {panic}"));
                })
            };
            let closed = matches!(emitted, Ok(Err(EmitError::Closed { .. })));
            outbox.again(&due, emission, closed);
        }
        // It may be the last that kept the bus.
        unwind::drop_quietly(due);
    }
}

/// The first beat after `now`: those that were missed are left out.
fn next_beat(at: Tick, period: u64, now: Tick) -> Tick {
    let beats = now.saturating_sub(at) / period + 1;
    at.saturating_add(beats.saturating_mul(period))
}

/// What the thread carries, put aside until this goes.
pub(crate) struct Aside(Option<Local>);

impl Aside {
    pub(crate) fn set(context: Option<Arc<ContextMap>>) -> Aside {
        Aside(frame::local(|local| std::mem::replace(local, Local { context, stands_in: true, ..Local::default() })))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let Some(carried) = self.0.take() else { return };
        let own = frame::local(|local| std::mem::replace(local, carried));
        drop(own);
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Outbox").field("plans", &state.plans.len()).field("due", &state.due.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_stay_on_the_first_one_and_missed_ones_are_left_out() {
        assert_eq!(next_beat(100, 10, 100), 110);
        assert_eq!(next_beat(100, 10, 109), 110, "late, but not by a beat");
        assert_eq!(next_beat(100, 10, 110), 120);
        assert_eq!(next_beat(100, 10, 137), 140);
        assert_eq!(next_beat(100, 10, 90), 110, "never the same again");
        assert_eq!(next_beat(100, u64::MAX, 200), clock::NEVER);
        let mut at = 7;
        for now in (0..10_000).step_by(3) {
            if now >= at {
                at = next_beat(at, 50, now);
                assert_eq!(at % 50, 7);
            }
        }
    }
}
