//! Staffing: room goes to workers that come back, then to idle workers, then to new threads.

use crate::runtime::pool::{Pool, State};
use crate::runtime::worker::{Activity, Worker};
use crate::sync::refused::{self, Wish};
use crate::sys::clock;
use crate::sys::{logging, planted};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long a refusal stands while there are threads.
const REFUSAL: Duration = Duration::from_millis(20);

/// What [`Pool::carry_out`] does after unlocking: the duties of the pool, which knows no bus and no event.
#[derive(Default)]
pub(super) struct Staffing {
    ring: Vec<Arc<Worker>>,
    /// How many threads to start.
    spawn: usize,
    /// The number of the last one of these.
    last: u64,
    pub(super) starved: bool,
}

/// What the system shows of a thread's name: Linux keeps so many bytes.
const SHOWN: usize = 15;

/// `prefix-7`, with as much of the prefix as leaves the number to be seen.
fn numbered(prefix: &str, number: u64) -> String {
    let number = format!("-{number}");
    let room = SHOWN.saturating_sub(number.len());
    let kept = (0..=room.min(prefix.len())).rev().find(|&at| prefix.is_char_boundary(at)).unwrap_or(0);
    format!("{}{number}", &prefix[..kept])
}

impl Pool {
    /// Gives room away, with the state locked; the caller has it carried out after unlocking.
    pub(super) fn staff(&self, state: &mut State) -> Staffing {
        let mut staffing = Staffing::default();
        let may_ask = !state.refused || state.threads == 0 || clock::now() >= state.ask_again_at;
        while state.busy < state.max_threads {
            if let Some(worker) = state.returning.pop_front() {
                *worker.activity.lock() = Activity::Busy;
                state.busy += 1;
                state.waiting -= 1;
                staffing.ring.push(worker);
                continue;
            }
            if !state.lacks_threads() {
                break;
            }
            if let Some(worker) = state.idle.pop() {
                *worker.activity.lock() = Activity::Coming;
                staffing.ring.push(worker);
            } else if state.threads < self.settings.hard_limit && may_ask {
                state.threads += 1;
                state.asked += 1;
                staffing.last = state.asked;
                staffing.spawn += 1;
            } else {
                break;
            }
            state.busy += 1;
            state.coming += 1;
        }
        staffing.starved = state.waiting > 0 && state.is_starved(self.settings.hard_limit);
        self.note_pressure(state);
        staffing
    }

    /// With nothing locked.
    pub(super) fn carry_out(self: &Arc<Self>, staffing: Staffing) {
        for worker in staffing.ring {
            worker.bell.ring();
        }
        if staffing.starved {
            self.ring_the_waiting(None);
        }
        for left in (0..staffing.spawn).rev() {
            let number = staffing.last - left as u64;
            let pool = Arc::clone(self);
            let size = self.settings.stack_size;
            let body = move || {
                {
                    // A thread that runs was not refused.
                    let mut state = pool.state.lock();
                    state.refused = false;
                    state.peak = state.peak.max(state.threads);
                }
                pool.work(&Worker::new(Activity::Coming, Some(size)));
            };
            if let Err(error) = self.crew.spawn(numbered(&self.settings.thread_name, number), size, body) {
                return self.is_refused(left + 1, &error);
            }
        }
    }

    /// The system refuses a thread, so the `wanted` ones that were to be started are given up for now. It is asked again in a while, and
    /// with each emit and each wait.
    #[cold]
    fn is_refused(self: &Arc<Self>, wanted: usize, error: &io::Error) {
        let mut state = self.state.lock();
        state.threads -= wanted;
        state.busy -= wanted;
        state.coming -= wanted;
        let is_new = !std::mem::replace(&mut state.refused, true);
        state.ask_again_at = clock::after(clock::now(), REFUSAL);
        let (threads, jobs) = (state.threads, state.jobs.len());
        let starved = state.is_starved(self.settings.hard_limit);
        self.note_pressure(&mut state);
        let at = state.ask_again_at;
        let plans = !std::mem::replace(&mut state.asks_by_time, true) && !cfg!(threadbus_shuttle);
        drop(state);
        let pool = Arc::downgrade(self);
        if !planted("refusal_is_final") {
            refused::note(pool.clone());
        }
        if plans {
            self.watch.at(at, move || {
                if let Some(pool) = pool.upgrade() {
                    pool.state.lock().asks_by_time = false;
                    pool.ask_again();
                }
            });
        }
        if starved && is_new {
            // Only once: a thread that is rung asks again before it parks, and comes back by time from then on.
            self.ring_the_waiting(None);
        }
        if is_new {
            let error = error.to_string();
            logging::later!(Error, move || {
                format!("the system refuses another thread ({error}); {threads} serve {jobs} jobs until it gives one")
            });
        }
    }
}

impl Wish for Pool {
    fn ask_again(self: Arc<Self>) {
        let mut state = self.state.lock();
        let staffing = self.staff(&mut state);
        let not_yet = state.refused && staffing.spawn == 0 && state.jobs.len() > state.coming;
        drop(state);
        if not_yet {
            // The next emit or wait may ask.
            let me: Weak<Pool> = Arc::downgrade(&self);
            refused::note(me);
        }
        self.carry_out(staffing);
    }
}
