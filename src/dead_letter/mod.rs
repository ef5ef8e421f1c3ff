//! Failures that a bus keeps, to be looked at and tried again.
//!
//! The store is in `rules`. Imports `sys`, `rules` and `bus`. Hangs its verbs on [`EventBus`] from above.

use crate::bus::{
    Aside, BusCore, Doors, EventBus, Redriven, callback, callback_apart, drop_gone, in_callback, redrive_begins,
};
use crate::rules::DeadLetter;
use crate::runtime::Job;
use crate::sys::{clock, logging, unwind};
use std::sync::Arc;

/// How a redrive went.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedriveReport {
    /// How many handlers succeeded this time; their letters are gone.
    pub succeeded: usize,
    /// How many handlers failed once more, after all their attempts; their letters stay.
    pub failed: usize,
}

impl EventBus {
    /// The failures that are kept, oldest first: a list that does not change when the bus's does.
    ///
    /// Empty unless the bus was built with [`dead_letters`](crate::BusBuilder::dead_letters).
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.core().dead_letters.lock().list()
    }

    /// Runs the failed handlers of `max` letters again, and only those handlers, one after the other: first those that were not tried for the
    /// longest time, so that calls in a row come to all of them.
    ///
    /// What succeeds leaves the letters, what fails again stays, with more attempts; a letter that another thread is redriving is not run
    /// twice. The event's results show the newest outcome. Left out are [permanent](DeadLetter::permanent) failures, and handlers that are
    /// not registered any more, unless exactly one handler was registered since for the same event type under the same
    /// [name](crate::HandlerInfo::name): that one runs, and has the letter from then on.
    ///
    /// A redriven handler emits anew what it emitted before. As long as it fails again, what fails below it leaves no letters of its own, so
    /// that redrives do not multiply them.
    ///
    /// **Blocking**: the handlers run on the calling thread, ahead of the queue, as with [`emit_now`](EventBus::emit_now). In a
    /// callback that is not a handler, where that could never be right, nothing is redriven.
    /// [`redrive_in_background`](Self::redrive_in_background) does not hold the caller.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use std::sync::Arc;
    /// use threadbus::{Event, EventBus, Payload};
    /// struct Upload;
    /// impl Payload for Upload { type Output = (); }
    ///
    /// let bus = EventBus::builder("uploads").dead_letters(100).build()?;
    /// let online = Arc::new(AtomicBool::new(false));
    /// let is_online = Arc::clone(&online);
    /// bus.on(move |_: &Event<Upload>| if is_online.load(Ordering::SeqCst) { Ok(()) } else { Err("offline") });
    /// bus.emit(Upload).wait()?;
    /// assert_eq!(bus.dead_letters().len(), 1);
    ///
    /// online.store(true, Ordering::SeqCst);
    /// let report = bus.redrive(10);
    /// assert_eq!((report.succeeded, report.failed), (1, 0));
    /// assert!(bus.dead_letters().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn redrive(&self, max: usize) -> RedriveReport {
        self.redrive_wanted(max, |letter| !letter.permanent)
    }

    /// Runs the failed handlers again of `max` letters that `filter` picks, permanent failures as well if it picks them. Else as
    /// [`redrive`](Self::redrive).
    ///
    /// A filter that panics picks nothing. It is asked while nothing is locked, letter by letter.
    ///
    /// **Blocking**: as [`redrive`](Self::redrive).
    ///
    /// ```
    /// use threadbus::{Event, EventBus, Payload};
    /// struct Upload { size: u64 }
    /// impl Payload for Upload { type Output = (); }
    ///
    /// let bus = EventBus::builder("uploads").dead_letters(100).build()?;
    /// bus.on(|_: &Event<Upload>| Err::<(), _>("offline"));
    /// for size in [10, 2_000] {
    ///     bus.emit(Upload { size }).wait()?;
    /// }
    /// let small = bus.redrive_where(10, |letter| letter.event.payload::<Upload>().is_some_and(|upload| upload.size < 1_000));
    /// assert_eq!(small.failed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn redrive_where(&self, max: usize, filter: impl Fn(&DeadLetter) -> bool) -> RedriveReport {
        self.redrive_wanted(max, |letter| {
            callback(|| filter(letter)).unwrap_or_else(|panic| {
                let event = &letter.event;
                logging::error!(of event; "a redrive's filter panicked on {event}, which is left out: {panic}");
                false
            })
        })
    }

    /// Runs the failed handler of one letter again, permanent or not. Nothing is run if the letter is gone, or being redriven elsewhere.
    ///
    /// **Blocking**: as [`redrive`](Self::redrive).
    ///
    /// ```
    /// # use threadbus::{Event, EventBus, Payload};
    /// # struct Upload;
    /// # impl Payload for Upload { type Output = (); }
    /// # let bus = EventBus::builder("uploads").dead_letters(100).build()?;
    /// # bus.on(|_: &Event<Upload>| Err::<(), _>("offline"));
    /// # bus.emit(Upload).wait()?;
    /// for letter in bus.dead_letters() {
    ///     if letter.attempts > 5 {
    ///         bus.remove_dead_letter(&letter);
    ///     } else {
    ///         bus.redrive_letter(&letter);
    ///     }
    /// }
    /// assert_eq!(bus.dead_letters()[0].attempts, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn redrive_letter(&self, letter: &DeadLetter) -> RedriveReport {
        let mut report = RedriveReport::default();
        if !in_callback() {
            report.count(run_again(self.core(), letter));
        }
        report
    }

    /// Redrives letters on threads of the runtime, as [`redrive`](Self::redrive) does on the caller's. `then` is called there with the report at the
    /// end.
    ///
    /// Does not hold the caller, and may be called anywhere. Handlers of a [manual](crate::BusBuilder::manual) bus run on its pump thread all
    /// the same. It ends early when the bus shuts down or its last handle goes. Between two letters other events have their turn.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// # use threadbus::{Event, EventBus, Payload};
    /// # struct Upload;
    /// # impl Payload for Upload { type Output = (); }
    /// # let bus = EventBus::builder("uploads").dead_letters(100).build()?;
    /// # bus.on(|_: &Event<Upload>| Err::<(), _>("offline"));
    /// # bus.emit(Upload).wait()?;
    /// let (done, finished) = channel();
    /// bus.redrive_in_background(100, move |report| drop(done.send(report)));
    /// assert_eq!(finished.recv()?.failed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn redrive_in_background(&self, max: usize, then: impl FnOnce(RedriveReport) + Send + 'static) {
        let pass = Pass::new(self.core(), max);
        Background { pass, report: RedriveReport::default(), then: Box::new(then) }.submit(self.core());
    }

    /// Forgets one failure that is kept. False if it was gone.
    ///
    /// One that is just being redriven is forgotten too, and kept anew if it fails again.
    pub fn remove_dead_letter(&self, letter: &DeadLetter) -> bool {
        let gone = self.core().dead_letters.lock().remove(&letter.event, &letter.handler);
        let was_there = gone.is_some();
        unwind::drop_quietly(gone);
        was_there
    }

    /// Forgets all failures that are kept. Returns how many there were.
    ///
    /// One that is just being redriven is forgotten too, and kept anew if it fails again.
    pub fn clear_dead_letters(&self) -> usize {
        let gone = self.core().dead_letters.lock().clear();
        let count = gone.letters.len();
        drop_gone(gone);
        count
    }

    fn redrive_wanted(&self, max: usize, wanted: impl Fn(&DeadLetter) -> bool) -> RedriveReport {
        let mut report = RedriveReport::default();
        if in_callback() {
            return report;
        }
        let mut pass = Pass::new(self.core(), max);
        while let Some(letter) = pass.next(self.core()) {
            if wanted(&letter) && report.count(run_again(self.core(), &letter)) {
                pass.has_run_one();
            }
            unwind::drop_quietly(letter);
        }
        report
    }
}

impl RedriveReport {
    /// Counts one letter's outcome. True if a handler was run.
    fn count(&mut self, how: Option<Redriven>) -> bool {
        match how {
            Some(Redriven::Succeeded) => self.succeeded += 1,
            Some(Redriven::Failed) => self.failed += 1,
            Some(Redriven::Left) | None => {}
        }
        how.is_some()
    }
}

/// Goes once through the letters that are there when it begins. A letter that fails again is put behind them.
struct Pass {
    at: u64,
    end: u64,
    left: usize,
}

impl Pass {
    fn new(core: &BusCore, max: usize) -> Pass {
        Pass { at: 0, end: core.dead_letters.lock().last_turn(), left: max }
    }

    fn next(&mut self, core: &BusCore) -> Option<DeadLetter> {
        if self.left == 0 {
            return None;
        }
        let (turn, letter) = core.dead_letters.lock().next(self.at..self.end)?;
        self.at = turn + 1;
        Some(letter)
    }

    fn has_run_one(&mut self) {
        self.left -= 1;
    }
}

struct Background {
    pass: Pass,
    report: RedriveReport,
    then: Box<dyn FnOnce(RedriveReport) + Send>,
}

impl Background {
    fn submit(self, core: &Arc<BusCore>) {
        let own = Arc::clone(core);
        core.runtime.pool.submit(Job::new(core.lane, move |_| self.step(&own)));
    }

    fn step(mut self, core: &Arc<BusCore>) {
        let is_open = core.inlet.lock().doors == Doors::Open;
        while is_open && let Some(letter) = self.pass.next(core) {
            let how = if letter.permanent {
                None
            } else {
                // As on a thread of the user's: the pass may wait for another thread that runs the handler.
                let _aside = Aside::set(None);
                run_again(core, &letter)
            };
            unwind::drop_quietly(letter);
            if self.report.count(how) {
                self.pass.has_run_one();
                return self.submit(core);
            }
        }
        if let Err(panic) = callback_apart(None, || (self.then)(self.report)) {
            let label = Arc::clone(&core.identity.label);
            logging::later!(Error, move || format!("what follows a redrive on {label} panicked: {panic}"));
        }
    }
}

/// Runs a letter's handler again. `None` if nothing was run.
fn run_again(core: &Arc<BusCore>, letter: &DeadLetter) -> Option<Redriven> {
    let (event, handler) = (&letter.event, core.handler_in_place_of(&letter.event, &letter.handler)?);
    let now = clock::unique_stamp(clock::now());
    if !core.dead_letters.lock().begin(letter, &handler, now) {
        return None;
    }
    redrive_begins();
    let how = core.run_again(event, &handler);
    match how {
        Redriven::Succeeded => {
            let gone = core.dead_letters.lock().remove(event, &handler);
            if let Some((gone, below)) = gone {
                unwind::drop_quietly(gone);
                below.into_iter().for_each(|later| later());
            }
        }
        // The end of its delivery has noted the failure.
        Redriven::Failed => {}
        Redriven::Left => {
            let gone = core.dead_letters.lock().release(event, &handler);
            drop_gone(gone);
        }
    }
    Some(how)
}
