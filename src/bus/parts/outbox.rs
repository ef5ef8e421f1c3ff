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

use crate::event::{ContextMap, EmitError};
use crate::runtime::Watch;
use crate::sys::clock::{self, Tick, Timer};
use crate::sys::sync::Mutex;
use crate::sys::unwind;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// Emits once. The user's code, for a pool thread.
pub(crate) type Emission<B> = Box<dyn FnMut(&Arc<B>) -> Result<(), EmitError> + Send>;

pub(crate) struct Outbox<B> {
    state: Mutex<State<B>>,
    watch: Arc<Watch>,
}

struct State<B> {
    closed: bool,
    plans: BTreeMap<u64, Plan<B>>,
    next: u64,
    due: VecDeque<Due<B>>,
    /// A job empties `due`.
    emptied: bool,
}

struct Plan<B> {
    at: Tick,
    /// In nanoseconds, of what repeats.
    period: Option<u64>,
    /// How often it was armed; the timer is the last round's.
    round: u64,
    timer: Option<Timer>,
    /// With the job while that emits.
    emission: Option<Emission<B>>,
    context: Option<Arc<ContextMap>>,
}

/// It keeps the bus, so that the aftermath thread is never the one to drop it.
pub(crate) struct Due<B> {
    pub(crate) plan: u64,
    pub(crate) bus: Arc<B>,
}

/// What it takes to emit, with the context of the call that planned it.
pub(crate) type Ready<B> = (Emission<B>, Option<Arc<ContextMap>>);

impl<B> Outbox<B> {
    pub(crate) fn new(watch: &Arc<Watch>) -> Arc<Outbox<B>> {
        let (plans, due) = (BTreeMap::new(), VecDeque::new());
        let state = State { closed: false, plans, next: 0, due, emptied: false };
        Arc::new(Outbox { state: Mutex::new(state), watch: Arc::clone(watch) })
    }

    /// From `at` on, once or every `period` nanoseconds. Its number; `None` if the bus takes nothing any more.
    pub(crate) fn add(
        &self,
        at: Tick,
        period: Option<u64>,
        emission: Emission<B>,
        context: Option<Arc<ContextMap>>,
    ) -> Option<u64> {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            unwind::drop_quietly(emission);
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.plans.insert(number, Plan { at, period, round: 0, timer: None, emission: Some(emission), context });
        Some(number)
    }

    /// A plan's timer is armed; it is taken back if that round of the plan is over.
    pub(crate) fn keep_timer(&self, number: u64, round: u64, timer: Timer) {
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

    /// A plan's time has come. True if the caller submits the job that empties the outbox.
    pub(crate) fn is_due(&self, due: Due<B>) -> bool {
        let mut state = self.state.lock();
        state.due.push_back(due);
        !std::mem::replace(&mut state.emptied, true)
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

    fn discard(&self, plan: Plan<B>) {
        if let Some(timer) = plan.timer {
            self.watch.cancel(timer);
        }
        unwind::drop_quietly(plan);
    }

    /// What is due next, with what it takes to emit it. `None`: nothing is, and the job is over.
    pub(crate) fn next(&self) -> Option<(Due<B>, Option<Ready<B>>)> {
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

    /// After an emission: the round and the time at which what repeats is to be armed again.
    pub(crate) fn again(&self, due: &Due<B>, emission: Emission<B>) -> Option<(u64, Tick)> {
        let mut emission = Some(emission);
        let next = {
            let mut state = self.state.lock();
            state.plans.get_mut(&due.plan).and_then(|plan| {
                let period = plan.period?;
                plan.at = next_beat(plan.at, period, clock::now());
                plan.round += 1;
                plan.timer = None;
                plan.emission = emission.take();
                Some((plan.round, plan.at))
            })
        };
        // Cancelled meanwhile, or not to be repeated.
        unwind::drop_quietly(emission);
        if next.is_none() {
            self.cancel(due.plan);
        }
        next
    }
}

/// The first beat after `now`: those that were missed are left out.
fn next_beat(at: Tick, period: u64, now: Tick) -> Tick {
    let beats = now.saturating_sub(at) / period + 1;
    at.saturating_add(beats.saturating_mul(period))
}

impl<B> fmt::Debug for Outbox<B> {
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
