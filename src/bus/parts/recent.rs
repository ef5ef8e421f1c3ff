//! The deliveries by which the health of a bus is judged.
//!
//! Nobody may ever ask, so a good event pays nothing: until somebody does, only failures and long times in the queue are noted, each with how many
//! deliveries there were by then. From the first question on all are.

use crate::bus::parts::verdict::Verdict;
use crate::rules::HealthWindow;
use crate::sync::Recent;
use crate::sys::clock::{self, Tick};
use std::sync::OnceLock;

/// A time in the queue that is noted even if nobody has asked: 100 ms.
pub(crate) const LONG: Tick = 100_000_000;

const WELL: u64 = 0;
const FAILED: u64 = 1;
/// With nothing but permanent failures.
const REFUSED: u64 = 2;

#[derive(Debug)]
pub(crate) struct Window {
    settings: HealthWindow,
    ends: Recent,
    starts: Recent,
    /// When somebody asked first, with how many had ended and started by then.
    asked: OnceLock<Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Tick,
    ended: u64,
    started: u64,
}

/// What is in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Judged {
    /// Failed ones of those that have ended; 0 below the least number of them.
    pub(crate) failure_rate: f64,
    /// 99 of 100 were queued no longer.
    pub(crate) queue_time_p99: Tick,
}

impl Window {
    pub(crate) fn new(settings: HealthWindow) -> Self {
        let size = settings.deliveries;
        Window { settings, ends: Recent::new(size), starts: Recent::new(size), asked: OnceLock::new() }
    }

    /// The delivery after `before` others is over.
    #[cold]
    pub(crate) fn ended(&self, verdict: Verdict, before: u64) {
        let how = match verdict {
            Verdict { failed: false, .. } => WELL,
            Verdict { permanent: true, .. } => REFUSED,
            _ => FAILED,
        };
        self.ends.put(before, clock::now(), how);
    }

    /// The delivery after `before` others has left the queue.
    #[cold]
    pub(crate) fn started(&self, nanos: Tick, before: u64) {
        self.starts.put(before, clock::now(), nanos);
    }

    /// From now on all are noted. True the first time.
    pub(crate) fn ask(&self, ended: u64, started: u64) -> bool {
        self.asked.set(Asked { at: clock::now(), ended, started }).is_ok()
    }

    pub(crate) fn judge(&self, ended: u64, started: u64, now: Tick) -> Judged {
        let HealthWindow { deliveries, age, at_least, permanent } = &self.settings;
        let oldest = now.saturating_sub(clock::after(0, *age));
        let asked = self.asked.get().copied().unwrap_or(Asked { at: now, ended, started });
        // What was good before somebody asked is in no list. When it was, nobody knows: not after that.
        let unlisted = |of: u64, from: u64| if asked.at >= oldest { of.saturating_sub(from) } else { 0 };

        let from = ended.saturating_sub(*deliveries as u64);
        let (mut listed, mut before, mut failed) = (0, 0, 0);
        for (number, how) in self.ends.since(from, oldest) {
            if number >= asked.ended {
                listed += 1;
            } else {
                before += 1;
            }
            failed += u64::from(how == FAILED || how == REFUSED && *permanent);
        }
        let all = listed + unlisted(asked.ended, from).max(before);
        let failure_rate = if all == 0 || all < *at_least as u64 { 0.0 } else { failed as f64 / all as f64 };

        let from = started.saturating_sub(*deliveries as u64);
        let (mut listed, mut before, mut times) = (0, 0, Vec::new());
        for (number, nanos) in self.starts.since(from, oldest) {
            if number >= asked.started {
                listed += 1;
            } else {
                before += 1;
            }
            times.push(nanos);
        }
        let all: u64 = listed + unlisted(asked.started, from).max(before);
        times.sort_unstable_by(|a, b| b.cmp(a));
        let longer = usize::try_from(all / 100).unwrap_or(usize::MAX);
        Judged { failure_rate, queue_time_p99: times.get(longer).copied().unwrap_or(0) }
    }
}

#[cfg(all(test, not(threadbus_shuttle)))]
mod tests {
    use super::*;
    use std::time::Duration;

    const FAILURE: Verdict =
        Verdict { unhandled: false, failed: true, timed_out: false, permanent: false, judged: false };
    const HOUR: Duration = Duration::from_secs(3600);

    fn window(settings: HealthWindow) -> Window {
        Window::new(settings)
    }

    fn rate(window: &Window, ended: u64) -> f64 {
        window.judge(ended, 0, clock::now()).failure_rate
    }

    #[test]
    fn before_anybody_has_asked_failures_are_known_by_their_number() {
        let window = window(HealthWindow::new());
        (1000..1030).for_each(|n| window.ended(FAILURE, n));
        assert_eq!(rate(&window, 1030), 0.30);
        assert_eq!(rate(&window, 1100), 0.30);
        assert_eq!(rate(&window, 1120), 0.10);
        assert_eq!(rate(&window, 1130), 0.0);
    }

    #[test]
    fn few_are_no_sign() {
        let window = window(HealthWindow::new());
        (0..19).for_each(|n| window.ended(FAILURE, n));
        assert_eq!(rate(&window, 19), 0.0);
        window.ended(FAILURE, 19);
        assert_eq!(rate(&window, 20), 1.0);
    }

    #[test]
    fn from_the_first_question_on_all_are_listed() {
        let window = window(HealthWindow::new().age(HOUR));
        (0..30).for_each(|n| window.ended(FAILURE, n));
        assert!(window.ask(30, 30) && !window.ask(31, 31));
        assert_eq!(rate(&window, 30), 1.0);
        (30..60).for_each(|n| window.ended(Verdict { judged: true, ..Verdict::default() }, n));
        assert_eq!(rate(&window, 60), 0.5);
        // Long after that, nothing is left of it.
        let later = clock::after(clock::now(), 2 * HOUR);
        assert_eq!(window.judge(60, 60, later), Judged::default());
    }

    #[test]
    fn what_is_too_old_is_out_of_the_window() {
        let window = window(HealthWindow::new().age(Duration::from_millis(20)));
        window.ask(0, 0);
        (0..30).for_each(|n| window.ended(FAILURE, n));
        let soon = clock::after(clock::now(), Duration::from_secs(1));
        assert_eq!(window.judge(30, 0, soon).failure_rate, 0.0);
    }

    #[test]
    fn permanent_failures_count_unless_they_are_left_out() {
        let permanent = Verdict { permanent: true, ..FAILURE };
        for (settings, expected) in [(HealthWindow::new(), 1.0), (HealthWindow::new().leave_out_permanent(), 0.5)] {
            let window = window(settings);
            (0..40).for_each(|n| window.ended(if n % 2 == 0 { FAILURE } else { permanent }, n));
            assert_eq!(rate(&window, 40), expected);
        }
    }

    #[test]
    fn one_of_a_hundred_may_have_been_queued_longer() {
        let window = window(HealthWindow::new());
        let p99 = |started| window.judge(0, started, clock::now()).queue_time_p99;
        window.started(5 * LONG, 500);
        assert_eq!(p99(501), 0);
        window.started(4 * LONG, 501);
        assert_eq!((p99(502), p99(600), p99(601), p99(602)), (4 * LONG, 4 * LONG, 0, 0));
        let few = Window::new(HealthWindow::new());
        few.started(LONG, 3);
        assert_eq!(few.judge(0, 4, clock::now()).queue_time_p99, LONG, "of four the longest");
    }

    #[test]
    fn a_window_has_bounds() {
        assert!([1, 100_000].iter().all(|count| HealthWindow::new().deliveries(*count).check().is_ok()));
        assert!([0, 100_001].iter().all(|count| HealthWindow::new().deliveries(*count).check().is_err()));
    }
}
