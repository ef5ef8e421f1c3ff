//! What the metrics of a bus are counted in, beside the counters that the bus itself needs: nothing here orders anything.
//!
//! A good event costs one relaxed add for the time it was queued, and one for each handler; everything else is counted when something
//! is out of the ordinary. Emitters and workers write to lines of their own, and a bus that never ran anything has no histograms.

use crate::bus::parts::recent::{Judged, LONG, Window};
use crate::bus::parts::verdict::Verdict;
use crate::rules::HealthWindow;
use crate::sync::{Counts, Histogram};
use crate::sys::clock::{self, Tick};
use crate::sys::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use crossbeam_utils::CachePadded;
use std::sync::OnceLock;

#[derive(Debug)]
pub(crate) struct Recorder {
    /// What the end of a delivery has to leave behind; see [`Keeps`].
    keeps: AtomicU8,
    window: Window,
    emits: CachePadded<Emits>,
    ends: CachePadded<Ends>,
    /// Of what the bus's loop drives, which is on one thread at a time.
    serial: OnceLock<Box<Times>>,
    /// Of everything else.
    shared: OnceLock<Box<Times>>,
}

#[derive(Debug, Default)]
struct Emits {
    rejected: AtomicU64,
    ran_inline: AtomicU64,
}

#[derive(Debug, Default)]
struct Ends {
    failed: AtomicU64,
    timed_out: AtomicU64,
    unhandled: AtomicU64,
    retries: AtomicU64,
    recovered: AtomicU64,
}

#[derive(Debug)]
struct Times {
    queue: Histogram,
    handler: Histogram,
}

impl Times {
    /// Times in the queue are noted from `noted` on.
    fn new(noted: Tick) -> Box<Times> {
        let queue = Histogram::with_notes_from(noted);
        Box::new(Times { queue, handler: Histogram::default() })
    }
}

/// What the end of a delivery leaves beside what its event keeps: nothing, mostly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keeps(u8);

impl Keeps {
    pub(crate) const NOTHING: Keeps = Keeps(0);
    const LETTERS: u8 = 1;
    const HEALTH: u8 = 2;

    /// Dead letters of what failed.
    pub(crate) fn letters(self) -> bool {
        self.0 & Keeps::LETTERS != 0
    }

    /// How it went, though it went well.
    pub(crate) fn health(self) -> bool {
        self.0 & Keeps::HEALTH != 0
    }
}

/// Who records a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Whoever drives what carries the bus's loop, under the lock of the event or of the loop: one thread at a time.
    Loop,
    /// Any other.
    Anybody,
}

/// What all was recorded, for the metrics.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) rejected: u64,
    pub(crate) ran_inline: u64,
    pub(crate) failed: u64,
    pub(crate) timed_out: u64,
    pub(crate) unhandled: u64,
    pub(crate) retries: u64,
    pub(crate) recovered: u64,
    pub(crate) queue_time: Counts,
    pub(crate) handler_time: Counts,
}

impl Recorder {
    /// Of a bus that keeps so many dead letters.
    pub(crate) fn new(letters: usize, window: &HealthWindow) -> Recorder {
        let recorder = Recorder {
            keeps: AtomicU8::new(if letters > 0 { Keeps::LETTERS } else { 0 }),
            window: Window::new(window.clone()),
            emits: CachePadded::default(),
            ends: CachePadded::default(),
            serial: OnceLock::new(),
            shared: OnceLock::new(),
        };
        if *window != HealthWindow::default() {
            recorder.note_all(0, 0);
        }
        recorder
    }

    pub(crate) fn keeps(&self) -> Keeps {
        Keeps(self.keeps.load(Relaxed))
    }

    /// How well it went lately. From the first question on every delivery is noted.
    pub(crate) fn judge(&self, ended: u64, started: u64) -> Judged {
        self.note_all(ended, started);
        self.window.judge(ended, started, clock::now())
    }

    fn note_all(&self, ended: u64, started: u64) {
        self.window.ask(ended, started);
        self.keeps.fetch_or(Keeps::HEALTH, Relaxed);
        // Each time, since a longest time that is noted just then may raise the bar once more.
        for times in [self.serial.get(), self.shared.get()].into_iter().flatten() {
            times.queue.note_all();
        }
    }

    /// An event was refused, for whatever reason.
    pub(crate) fn rejected(&self) {
        self.emits.rejected.fetch_add(1, Relaxed);
    }

    /// An event ran on its emitter's thread, the queue being full.
    pub(crate) fn ran_inline(&self) {
        self.emits.ran_inline.fetch_add(1, Relaxed);
    }

    /// An attempt after the first has started.
    pub(crate) fn retried(&self) {
        self.ends.retries.fetch_add(1, Relaxed);
    }

    /// A handler succeeded, not at the first attempt.
    pub(crate) fn recovered(&self) {
        self.ends.recovered.fetch_add(1, Relaxed);
    }

    /// A delivery is over that was not cancelled before a handler started.
    /// `before`: so many were.
    pub(crate) fn completed(&self, verdict: Verdict, before: u64) {
        let count = |counter: &AtomicU64, is: bool| {
            if is {
                counter.fetch_add(1, Relaxed);
            }
        };
        count(&self.ends.unhandled, verdict.unhandled);
        count(&self.ends.failed, verdict.failed);
        count(&self.ends.timed_out, verdict.timed_out);
        if verdict.failed || verdict.judged {
            self.window.ended(verdict, before);
        }
    }

    /// From the emit, or the forward, to the claim. `before`: so many were claimed; asked for what is worth a note only.
    #[inline]
    pub(crate) fn queued_for(&self, nanos: u64, by: By, before: impl FnOnce() -> u64) {
        self.record(by, nanos, |times| &times.queue, || self.window.started(nanos, before()));
    }

    /// One attempt, from its start to its end, its own or its deadline's.
    pub(crate) fn handled_in(&self, nanos: u64, by: By) {
        self.record(by, nanos, |times| &times.handler, || {});
    }

    #[inline]
    fn record(&self, by: By, nanos: u64, which: impl Fn(&Times) -> &Histogram, note: impl FnOnce()) {
        match by {
            By::Loop => which(self.times(&self.serial)).record_exclusive(nanos, note),
            By::Anybody => which(self.times(&self.shared)).record(nanos, note),
        }
    }

    #[inline]
    fn times<'a>(&self, times: &'a OnceLock<Box<Times>>) -> &'a Times {
        match times.get() {
            Some(times) => times,
            None => self.first_times(times),
        }
    }

    /// Looks first: nothing that a model can switch threads at is done while others wait for the lock's value.
    #[cold]
    fn first_times<'a>(&self, times: &'a OnceLock<Box<Times>>) -> &'a Times {
        // As soon as the bus has been asked how well it is: all of them.
        let noted = if self.keeps().health() { 0 } else { LONG };
        times.get_or_init(|| Times::new(noted))
    }

    pub(crate) fn read(&self) -> Recorded {
        let (mut queue_time, mut handler_time) = (Counts::default(), Counts::default());
        for times in [self.serial.get(), self.shared.get()].into_iter().flatten() {
            times.queue.add_to(&mut queue_time);
            times.handler.add_to(&mut handler_time);
        }
        Recorded {
            rejected: self.emits.rejected.load(Relaxed),
            ran_inline: self.emits.ran_inline.load(Relaxed),
            failed: self.ends.failed.load(Relaxed),
            timed_out: self.ends.timed_out.load(Relaxed),
            unhandled: self.ends.unhandled.load(Relaxed),
            retries: self.ends.retries.load(Relaxed),
            recovered: self.ends.recovered.load(Relaxed),
            queue_time,
            handler_time,
        }
    }
}

#[cfg(all(test, not(threadbus_shuttle)))]
mod tests {
    use super::*;
    use crate::event::{Cause, CauseKind, EventId, HandlerFailure, Outcome};
    use std::sync::Arc;
    use std::time::Duration;
    use uuid::Uuid;

    const OWN: EventId = EventId(Uuid::from_u128(1));
    const PARENT: EventId = EventId(Uuid::from_u128(2));

    fn verdict(failures: impl IntoIterator<Item = HandlerFailure>) -> (bool, bool) {
        let failed = failures.into_iter().map(|failure| Outcome::Failed(Arc::new(failure)));
        let outcomes: Vec<_> = failed.chain([Outcome::None]).collect();
        let verdict = Verdict::of(OWN, &outcomes);
        assert!(!verdict.unhandled);
        (verdict.failed, verdict.timed_out)
    }

    #[test]
    fn failures_of_the_handlers_count_and_reasons_outside_do_not() {
        let cause = |kind, event| Cause::new(kind, event, "Job");
        let aborted = |kind, event| HandlerFailure::Aborted { cause: cause(kind, event) };
        let cancelled = |kind, event| HandlerFailure::Cancelled { cause: cause(kind, event) };
        assert_eq!(verdict([]), (false, false));
        assert_eq!(verdict([HandlerFailure::Failed("x".into())]), (true, false));
        assert_eq!(verdict([HandlerFailure::Panicked("x".into())]), (true, false));
        assert_eq!(verdict([HandlerFailure::Worker("x".into())]), (true, false));
        assert_eq!(verdict([HandlerFailure::WrongType { expected: "a".into(), found: "b".into() }]), (true, false));
        let timed_out = || HandlerFailure::TimedOut { after: Duration::from_secs(1), detail: None };
        assert_eq!(verdict([timed_out(), timed_out()]), (true, true));
        assert_eq!(verdict([aborted(CauseKind::EventTimeout, OWN)]), (true, true));
        assert_eq!(verdict([cancelled(CauseKind::EventTimeout, OWN)]), (true, true));
        assert_eq!(verdict([aborted(CauseKind::EventTimeout, PARENT)]), (false, false));
        for kind in [CauseKind::HandlerTimeout, CauseKind::Cancelled, CauseKind::LostFirst, CauseKind::Shutdown] {
            assert_eq!(verdict([aborted(kind, OWN), cancelled(kind, OWN), aborted(kind, PARENT)]), (false, false));
        }
    }

    #[test]
    fn what_is_recorded_is_read_and_reading_changes_nothing() {
        let recorder = Recorder::new(0, &HealthWindow::default());
        recorder.rejected();
        recorder.ran_inline();
        (0..3).for_each(|_| recorder.retried());
        recorder.recovered();
        recorder.completed(Verdict::of(OWN, []), 0);
        recorder.completed(Verdict { failed: true, timed_out: true, ..Verdict::default() }, 1);
        recorder.completed(Verdict::default(), 2);
        recorder.queued_for(1000, By::Loop, || 0);
        recorder.queued_for(2000, By::Anybody, || 1);
        recorder.handled_in(3000, By::Anybody);
        let first = recorder.read();
        assert_eq!((first.rejected, first.ran_inline), (1, 1));
        assert_eq!((first.retries, first.recovered), (3, 1));
        assert_eq!((first.unhandled, first.failed, first.timed_out), (1, 1, 1));
        assert_eq!((first.queue_time.count, first.queue_time.max), (2, 2000));
        assert_eq!((first.handler_time.count, first.handler_time.max), (1, 3000));
        assert_eq!(format!("{first:?}"), format!("{:?}", recorder.read()));
    }

    #[test]
    fn an_idle_bus_pays_little() {
        assert!(size_of::<Recorder>() <= 512);
    }
}
