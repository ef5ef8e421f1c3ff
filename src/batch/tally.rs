//! What a batch counts, and how it tells its trackers and waiters.

use crate::batch::progress::Progress;
use crate::bus::{callback_apart, is_own, local};
use crate::event::{AnyEvent, CompletionHook, ContextMap, Outcome, Unrun, Watcher, marked};
use crate::runtime::{Job, Lane, RuntimeCore, Worker};
use crate::sync::Bell;
use crate::sys::clock::Stamp;
use crate::sys::logging;
use crate::sys::sync::Mutex;
use crate::sys::{thread, unwind};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

pub(crate) type Tracker = Box<dyn FnMut(Progress) + Send>;

pub(crate) struct Tally {
    /// No other batch of the process has it.
    number: u64,
    state: Mutex<State>,
    /// Has threads for reports, should an event complete on a thread that may not run them.
    runtime: Arc<RuntimeCore>,
    me: Weak<Tally>,
}

struct State {
    progress: Progress,
    /// Events that are not complete yet, in emit order.
    open: BTreeMap<Stamp, Open>,
    /// Each with the context of the code that added it.
    trackers: Vec<(Tracker, Option<Arc<ContextMap>>)>,
    /// Completions that trackers have not been told of.
    untold: VecDeque<Untold>,
    /// A thread tells them, and has the trackers out of here.
    telling: bool,
    /// What trackers were last told.
    told: Progress,
    waiters: Vec<Arc<Bell>>,
    /// It has events that a logger has emitted.
    unlogged: bool,
}

struct Open {
    event: AnyEvent,
    steps: usize,
}

/// Equal completions in a row, so that a slow tracker costs no memory.
struct Untold {
    steps: usize,
    how: How,
    total: usize,
    times: usize,
}

/// How an event went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Well,
    Failed,
    NeverRan,
}

impl Tally {
    pub(crate) fn new(runtime: &Arc<RuntimeCore>) -> Arc<Tally> {
        Arc::new_cyclic(|me| Tally {
            number: thread::next_number(),
            me: Weak::clone(me),
            runtime: Arc::clone(runtime),
            state: Mutex::new(State {
                progress: Progress::NOTHING,
                open: BTreeMap::new(),
                trackers: Vec::new(),
                untold: VecDeque::new(),
                telling: false,
                told: Progress::NOTHING,
                waiters: Vec::new(),
                unlogged: false,
            }),
        })
    }

    pub(crate) fn progress(&self) -> Progress {
        self.state.lock().progress
    }

    /// Counts an event in, and out again once it is complete.
    pub(crate) fn add(self: &Arc<Self>, event: &AnyEvent, steps: usize) {
        {
            let mut state = self.state.lock();
            if !event.state().lock().enter_batch(self.number) {
                return;
            }
            state.unlogged |= event.head().is_from_logger();
            state.open.insert(event.head().stamp(), Open { event: event.clone(), steps });
            state.progress.total = state.progress.total.saturating_add(steps);
            // A handler that waits lets the new event jump the queue.
            state.ring();
        }
        let hooked = {
            let mut state = event.state().lock();
            if !state.complete {
                state.watch(Watcher::Hook(Arc::clone(self) as Arc<dyn CompletionHook>));
            }
            !state.complete
        };
        if !hooked && self.count(event) {
            self.tell();
        }
    }

    /// The last handle is gone: unless trackers are still to be told, the events forget the batch.
    pub(crate) fn let_go(self: &Arc<Self>) {
        let open = {
            let mut state = self.state.lock();
            if state.telling || !state.trackers.is_empty() {
                return;
            }
            std::mem::take(&mut state.open)
        };
        for Open { event, .. } in open.into_values() {
            event.state().lock().unwatch_hook(Arc::as_ptr(self).cast());
            unwind::drop_quietly(event);
        }
    }

    pub(crate) fn track(&self, tracker: Tracker) {
        let context = local(|local| local.context.clone()).flatten();
        self.state.lock().trackers.push((tracker, context));
    }

    /// The oldest event that is not complete.
    pub(crate) fn first_incomplete(&self) -> Option<AnyEvent> {
        let state = self.state.lock();
        state.open.values().map(|open| &open.event).find(|event| !event.is_complete()).cloned()
    }

    pub(crate) fn has_incomplete(&self) -> bool {
        self.state.lock().open.values().any(|open| !open.event.is_complete())
    }

    /// What a wait for it waits for: its oldest event that is not complete.
    pub(crate) fn in_words(&self) -> String {
        let state = self.state.lock();
        match state.open.values().next() {
            Some(open) => format!("waits for {} of a batch", open.event),
            None => "waits for the trackers of a batch".to_owned(),
        }
    }

    /// True when all events are counted out and all trackers told.
    pub(crate) fn is_settled(&self) -> bool {
        self.state.lock().is_settled()
    }

    /// Rings `bell` when the batch may be settled, until the guard is dropped.
    pub(crate) fn wait_with(&self, bell: &Arc<Bell>) -> WaitGuard<'_> {
        self.state.lock().waiters.push(Arc::clone(bell));
        WaitGuard { tally: self, bell: Arc::clone(bell) }
    }

    /// Counts a completed event out. True if the caller must call [`tell`](Tally::tell).
    fn count(&self, event: &AnyEvent) -> bool {
        let how = how(event);
        let mut state = self.state.lock();
        // The thread that completed the event keeps it, so it is not dropped here, under the lock.
        let Some(Open { steps, .. }) = state.open.remove(&event.head().stamp()) else { return false };
        state.progress.count(steps, how);
        if state.telling || !state.trackers.is_empty() {
            state.note(steps, how);
        } else {
            state.told = state.progress;
        }
        let must_tell = !state.untold.is_empty() && !state.telling;
        state.telling |= must_tell;
        state.ring_if_settled();
        must_tell
    }

    /// Tells the trackers until nothing is left to tell. Called by the thread that has set `telling`.
    fn tell(&self) {
        let mut trackers = Vec::new();
        loop {
            let (progress, unlogged) = {
                let mut state = self.state.lock();
                // Trackers that were added meanwhile come last.
                trackers.append(&mut state.trackers);
                let Some(progress) = state.next_report() else {
                    state.trackers = trackers;
                    state.telling = false;
                    state.ring_if_settled();
                    return;
                };
                (progress, state.unlogged)
            };
            for (tracker, context) in &mut trackers {
                let context = if unlogged { Some(marked(context.as_ref())) } else { context.clone() };
                // The tracker is no part of the handler on whose thread it happens to run.
                let told = callback_apart(context, || tracker(progress));
                if let (Err(panic), false) = (told, unlogged) {
                    logging::later!(Error, move || format!("a batch's progress tracker panicked: {panic}"));
                }
            }
        }
    }
}

impl State {
    fn is_settled(&self) -> bool {
        self.open.is_empty() && self.untold.is_empty() && !self.telling
    }

    fn ring_if_settled(&self) {
        if self.is_settled() {
            self.ring();
        }
    }

    fn ring(&self) {
        for bell in &self.waiters {
            bell.ring();
        }
    }

    fn note(&mut self, steps: usize, how: How) {
        let total = self.progress.total;
        match self.untold.back_mut() {
            Some(last) if last.steps == steps && last.how == how => {
                last.times += 1;
                last.total = total;
            }
            _ => self.untold.push_back(Untold { steps, how, total, times: 1 }),
        }
    }

    /// What to tell next. An event of 0 steps is counted, but not worth a report.
    fn next_report(&mut self) -> Option<Progress> {
        loop {
            let next = self.untold.front_mut()?;
            let steps = next.steps;
            self.told.count(steps, next.how);
            self.told.total = next.total;
            next.times -= 1;
            if next.times == 0 {
                self.untold.pop_front();
            }
            if steps > 0 {
                return Some(self.told);
            }
        }
    }
}

impl Progress {
    fn count(&mut self, steps: usize, how: How) {
        self.completed = self.completed.saturating_add(steps);
        self.failed += usize::from(how == How::Failed);
        self.never_ran += usize::from(how == How::NeverRan);
    }
}

impl CompletionHook for Tally {
    fn completed(&self, event: &AnyEvent) {
        if !self.count(event) {
            return;
        }
        let may_run_it = Worker::current().is_some_and(|worker| !worker.is_outside());
        match self.me.upgrade() {
            Some(me) if !may_run_it => self.runtime.pool.submit_granted(Job::new(Lane::SHARED, move |_| me.tell())),
            _ => self.tell(),
        }
    }
}

/// How a complete event went.
fn how(event: &AnyEvent) -> How {
    let state = event.state().lock();
    if state.rejected().is_some() || state.unrun() != Unrun::No {
        return How::NeverRan;
    }
    let id = event.head().id();
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(failure) if is_own(id, failure));
    if state.deliveries.iter().flat_map(|d| &d.records).any(|record| failed(&record.outcome)) {
        How::Failed
    } else {
        How::Well
    }
}

pub(crate) struct WaitGuard<'a> {
    tally: &'a Tally,
    bell: Arc<Bell>,
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.tally.state.lock();
        if let Some(at) = state.waiters.iter().position(|bell| Arc::ptr_eq(bell, &self.bell)) {
            state.waiters.swap_remove(at);
        }
    }
}
