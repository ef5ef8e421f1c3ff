//! What the middlewares of a bus have yet to be told: of one event there, or of its registrations.
//!
//! Transitions write it down, under the event's lock (or the registry's), so that the order here is that of the changes. One teller at a time
//! takes it. The journal's own lock is a leaf; two deliveries of an event to one bus, of which the second is a redrive, share a journal.

use crate::event::{EventStatus, HandlerInfo, ResultStatus};
use crate::sync::Bell;
use crate::sys::clock::Stamp;
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::fmt;
use std::sync::Arc;

/// One call that is due to every middleware of the bus.
#[derive(Clone)]
pub(crate) enum Note {
    Event(EventStatus),
    Result(ResultNote),
    Handler(HandlerInfo, HandlerChange),
}

/// What has become of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerChange {
    Added,
    Removed,
}

/// An invocation, by the numbers of its delivery and its handler, and what it has come to.
#[derive(Clone, Copy)]
pub(crate) struct ResultNote {
    pub(crate) delivery: usize,
    pub(crate) invocation: usize,
    pub(crate) status: ResultStatus,
}

/// How many journals of a bus hold what was not told.
#[derive(Debug, Default)]
pub(crate) struct Untold(AtomicUsize);

impl Untold {
    pub(crate) fn is_nothing(&self) -> bool {
        self.0.load(SeqCst) == 0
    }
}

pub(crate) struct Journal {
    pages: Mutex<Pages>,
    untold: Arc<Untold>,
}

struct Pages {
    notes: Vec<Note>,
    /// How far the event is known to have come on this bus.
    reached: EventStatus,
    /// The bus has taken the event, and may tell of it.
    open: bool,
    /// A teller is at it, and nobody else may be.
    telling: bool,
    /// Since when, and from which one on, the last notes are ends that one step has brought about.
    step: Option<(Stamp, usize)>,
    /// Of the threads that wait until everything is told.
    waiters: Vec<Arc<Bell>>,
}

impl Pages {
    fn owes(&self) -> bool {
        self.open && (self.telling || !self.notes.is_empty())
    }

    fn waits_for_teller(&self) -> bool {
        self.open && !self.telling && !self.notes.is_empty()
    }

    /// False if it has been there before.
    fn comes_to(&mut self, status: EventStatus) -> bool {
        let before = match status {
            EventStatus::Started => self.reached == EventStatus::Pending,
            _ => self.reached != status,
        };
        if before {
            self.reached = status;
        }
        before
    }

    /// The step that ends a handler starts the next, and that is told first.
    fn push_start(&mut self, note: Note, at: Stamp) {
        match &mut self.step {
            Some((time, first)) if *time == at => {
                self.notes.insert(*first, note);
                *first += 1;
            }
            _ => self.notes.push(note),
        }
    }
}

impl Journal {
    /// Of a new event on a bus: it is pending. Nothing is told before [`open`](Journal::open).
    pub(crate) fn of_event(untold: &Arc<Untold>) -> Arc<Journal> {
        Journal::new(untold, vec![Note::Event(EventStatus::Pending)])
    }

    pub(crate) fn of_registrations(untold: &Arc<Untold>) -> Arc<Journal> {
        let journal = Journal::new(untold, Vec::new());
        journal.open();
        journal
    }

    fn new(untold: &Arc<Untold>, notes: Vec<Note>) -> Arc<Journal> {
        let reached = EventStatus::Pending;
        let pages = Pages { notes, reached, open: false, telling: false, step: None, waiters: Vec::new() };
        Arc::new(Journal { pages: Mutex::new(pages), untold: Arc::clone(untold) })
    }

    /// The one way to its pages, which keeps count of what is not told.
    fn change<R>(&self, change: impl FnOnce(&mut Pages) -> R) -> R {
        let mut pages = self.pages.lock();
        let owed = pages.owes();
        let changed = change(&mut pages);
        match (owed, pages.owes()) {
            (false, true) => self.untold.0.fetch_add(1, SeqCst),
            (true, false) => self.untold.0.fetch_sub(1, SeqCst),
            _ => 0,
        };
        changed
    }

    // Writing, under the lock of what has changed.

    pub(crate) fn push(&self, note: Note) {
        self.change(|pages| pages.notes.push(note));
    }

    /// The bus takes the event.
    pub(crate) fn open(&self) {
        self.change(|pages| pages.open = true);
    }

    /// The event starts on the bus, which has no handler for it.
    pub(crate) fn event_starts(&self) {
        self.change(|pages| {
            if pages.comes_to(EventStatus::Started) {
                pages.notes.push(Note::Event(EventStatus::Started));
            }
        });
    }

    /// The event is complete, and done on the bus.
    pub(crate) fn event_completes(&self) {
        self.change(|pages| {
            if pages.comes_to(EventStatus::Completed) {
                pages.notes.push(Note::Event(EventStatus::Completed));
            }
        });
    }

    /// The first attempt of an invocation starts, and so does the event, if it has not before.
    pub(crate) fn result_starts(&self, note: ResultNote, at: Stamp) {
        self.change(|pages| {
            if pages.comes_to(EventStatus::Started) {
                pages.push_start(Note::Event(EventStatus::Started), at);
            }
            pages.push_start(Note::Result(note), at);
        });
    }

    pub(crate) fn result_ends(&self, note: ResultNote, at: Stamp) {
        self.change(|pages| {
            if pages.step.is_none_or(|(time, _)| time != at) {
                pages.step = Some((at, pages.notes.len()));
            }
            pages.notes.push(Note::Result(note));
        });
    }

    /// What comes from here on is no part of the step before, though it may be of the same time.
    pub(crate) fn step_is_over(&self) {
        self.change(|pages| pages.step = None);
    }

    // Telling.

    /// What is to be told, by the caller, who then calls [`told`](Journal::told). `None`: nothing, or a teller is at it.
    pub(crate) fn take(&self) -> Option<Vec<Note>> {
        self.change(|pages| {
            if !pages.waits_for_teller() {
                return None;
            }
            pages.telling = true;
            pages.step = None;
            Some(std::mem::take(&mut pages.notes))
        })
    }

    /// What was taken is told. True if nothing is owed any more, on the whole bus.
    pub(crate) fn told(&self) -> bool {
        let waiters = self.change(|pages| {
            pages.telling = false;
            if pages.owes() { Vec::new() } else { std::mem::take(&mut pages.waiters) }
        });
        waiters.iter().for_each(|bell| bell.ring());
        self.untold.is_nothing()
    }

    /// True if there is something to tell, and no teller is at it.
    pub(crate) fn waits_for_teller(&self) -> bool {
        self.pages.lock().waits_for_teller()
    }

    /// True if everything is told. If not, `bell` rings when it is.
    pub(crate) fn is_told(&self, bell: &Arc<Bell>) -> bool {
        self.change(|pages| {
            let owes = pages.owes();
            if owes && !pages.waiters.iter().any(|waiter| Arc::ptr_eq(waiter, bell)) {
                pages.waiters.push(Arc::clone(bell));
            }
            !owes
        })
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}
