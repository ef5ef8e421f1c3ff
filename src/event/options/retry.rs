//! When a failed handler is tried again, and how long after. Pure: the caller brings the random number.

use crate::event::HandlerFailure;
use crate::sys::logging;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How often a failing handler is tried, and the delays in between.
///
/// Retried are an `Err`, a panic, a timeout and a worker's death, as far as [`only_if`](Self::only_if) agrees, and never a
/// [`HandlerError::permanent`](crate::HandlerError::permanent). A delay occupies no thread. The handler timeout caps each
/// attempt, the event timeout all of them together.
///
/// **A retry after a timeout may overlap the attempt that was given up**, since a thread cannot be killed: handlers with
/// retries should be idempotent.
///
/// A setter given nonsense takes the nearest sensible value and warns in the log. Of the setters for delays
/// ([`delay`](Self::delay), [`delays`](Self::delays), [`exponential`](Self::exponential)) the last one counts.
///
/// ```
/// use std::time::Duration;
/// use threadbus::*;
///
/// // Up to four tries, about 100 ms, 200 ms and 300 ms apart, and only for what may heal.
/// let retry = Retry::attempts(4)
///     .exponential(Duration::from_millis(100), 2.0)
///     .max_delay(Duration::from_millis(300))
///     .jitter(0.25)
///     .only_if(|failure| failure.downcast_ref::<std::io::Error>().is_some());
/// # let _ = HandlerOptions::new().retry(retry);
/// ```
#[derive(Clone)]
pub struct Retry {
    attempts: u32,
    schedule: Schedule,
    max_delay: Duration,
    jitter: f64,
    only_if: Option<Arc<Predicate>>,
}

type Predicate = dyn Fn(&HandlerFailure) -> bool + Send + Sync;

#[derive(Clone, Debug)]
enum Schedule {
    None,
    /// Not empty; the last one repeats.
    List(Arc<[Duration]>),
    /// `factor` is finite and at least 1.
    Exponential {
        first: Duration,
        factor: f64,
    },
}

impl Retry {
    /// At most this many tries in total, the first included, without a delay in between.
    ///
    /// 0 is taken as 1, which is no retry at all.
    pub fn attempts(attempts: u32) -> Self {
        if attempts == 0 {
            logging::warn!("0 attempts are taken as 1");
        }
        let attempts = attempts.max(1);
        Self { attempts, schedule: Schedule::None, max_delay: Duration::MAX, jitter: 0.0, only_if: None }
    }

    /// How long to wait before every further attempt. Default: not at all.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.schedule = Schedule::List(Arc::from([delay]));
        self
    }

    /// The delays before the 2nd, 3rd, … attempt; the last one repeats. An empty list is no delay.
    pub fn delays(mut self, delays: impl IntoIterator<Item = Duration>) -> Self {
        let delays: Arc<[Duration]> = delays.into_iter().collect();
        self.schedule = if delays.is_empty() { Schedule::None } else { Schedule::List(delays) };
        self
    }

    /// `first` before the 2nd attempt, and each further delay `factor` times the one before.
    ///
    /// A factor below 1, or not a number, is taken as 1; an infinite one as the greatest finite number. Delays that grow out
    /// of range stay at the cap of [`max_delay`](Self::max_delay).
    pub fn exponential(mut self, first: Duration, factor: f64) -> Self {
        let sensible = clamp(factor, 1.0, f64::MAX);
        if sensible != factor {
            logging::warn!("a retry factor of {factor} is taken as {sensible}");
        }
        self.schedule = Schedule::Exponential { first, factor: sensible };
        self
    }

    /// No delay is longer than this, jitter included. Default: no cap.
    ///
    /// Delays at the cap are still spread, over the part of their range that lies below it: see [`jitter`](Self::jitter).
    pub fn max_delay(mut self, cap: Duration) -> Self {
        self.max_delay = cap;
        self
    }

    /// Spreads each delay at random, so that what failed together is not tried together: 0.25 makes it 75 % to 125 % of
    /// itself. Default 0.
    ///
    /// Each delay of that range is as likely as any other. Where [`max_delay`](Self::max_delay) is in it, the range ends there: of a
    /// delay that has reached the cap, 0.25 makes 75 % to 100 %.
    ///
    /// Below 0, or not a number, is taken as 0; above 1 as 1.
    pub fn jitter(mut self, fraction: f64) -> Self {
        let sensible = clamp(fraction, 0.0, 1.0);
        if sensible != fraction {
            logging::warn!("a retry jitter of {fraction} is taken as {sensible}");
        }
        self.jitter = sensible;
        self
    }

    /// Retries only the failures for which this answers true. Default: all that can be retried.
    ///
    /// It runs on a worker thread after each failed attempt but the last. If it panics, that is logged and the failure is
    /// not retried. Given twice, the last one counts.
    pub fn only_if(mut self, retryable: impl Fn(&HandlerFailure) -> bool + Send + Sync + 'static) -> Self {
        self.only_if = Some(Arc::new(retryable));
        self
    }

    /// At least 1.
    pub(crate) fn max_attempts(&self) -> u32 {
        self.attempts
    }

    /// How long to wait before this attempt (2 is the first that waits). `random` in 0..1 places the delay within its
    /// jitter; anything outside is brought inside.
    pub(crate) fn delay_before(&self, attempt: u32, random: f64) -> Duration {
        let Some(step) = attempt.checked_sub(2) else { return Duration::ZERO };
        let delay = match &self.schedule {
            Schedule::None => Duration::ZERO,
            Schedule::List(delays) => nth_or_last(delays, step),
            // Exact where no arithmetic is needed.
            Schedule::Exponential { first, .. } if step == 0 => *first,
            Schedule::Exponential { first, factor } => scale(*first, factor.powf(f64::from(step))),
        };
        // Capped first: the spread is that of the delay people see, not of one far above the cap.
        let delay = delay.min(self.max_delay);
        if self.jitter == 0.0 {
            return delay;
        }
        let random = if random.is_nan() { 0.5 } else { random.clamp(0.0, 1.0) };
        // The cap bounds the range and not the draw: cut afterwards, all draws above it would be one delay.
        let least = scale(delay, 1.0 - self.jitter);
        let most = scale(delay, 1.0 + self.jitter).min(self.max_delay);
        least.saturating_add(scale(most.saturating_sub(least), random)).min(most)
    }

    /// Whether this kind of failure is tried again. Calls the user's predicate: the caller holds no lock, guards against a
    /// panic, and has looked at `HandlerError::is_permanent` before.
    pub(crate) fn retryable(&self, failure: &HandlerFailure) -> bool {
        match failure {
            HandlerFailure::Failed(_)
            | HandlerFailure::Panicked(_)
            | HandlerFailure::TimedOut { .. }
            | HandlerFailure::Worker(_)
            | HandlerFailure::WorkerStart(_) => self.only_if.as_ref().is_none_or(|only_if| only_if(failure)),
            // The event was given up, or the handler is wrong for it: another try cannot help.
            HandlerFailure::Cancelled { .. } | HandlerFailure::Aborted { .. } | HandlerFailure::WrongType { .. } => {
                false
            }
        }
    }
}

/// What is not a number becomes `low`.
fn clamp(value: f64, low: f64, high: f64) -> f64 {
    if value.is_nan() { low } else { value.clamp(low, high) }
}

fn nth_or_last(delays: &[Duration], step: u32) -> Duration {
    let nth = usize::try_from(step).ok().and_then(|step| delays.get(step));
    nth.or(delays.last()).copied().unwrap_or_default()
}

/// `factor` is not negative, and may be infinite.
fn scale(delay: Duration, factor: f64) -> Duration {
    // Zero times infinity is not a number; zero is meant.
    if delay.is_zero() {
        return delay;
    }
    Duration::try_from_secs_f64(delay.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.attempts)
            .field("schedule", &self.schedule)
            .field("max_delay", &self.max_delay)
            .field("jitter", &self.jitter)
            .field("only_if", &self.only_if.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Cause, CauseKind, EventId};

    const MS: Duration = Duration::from_millis(1);

    /// The delays in milliseconds before attempts 2 to 6, without jitter.
    fn millis(retry: &Retry) -> [u128; 5] {
        [2, 3, 4, 5, 6].map(|attempt| retry.delay_before(attempt, 0.5).as_millis())
    }

    #[test]
    fn attempts_are_at_least_one() {
        assert_eq!(Retry::attempts(0).max_attempts(), 1);
        assert_eq!(Retry::attempts(1).max_attempts(), 1);
        assert_eq!(Retry::attempts(u32::MAX).max_attempts(), u32::MAX);
    }

    #[test]
    fn schedules() {
        let retry = Retry::attempts(9);
        assert_eq!(millis(&retry), [0; 5]);
        assert_eq!(millis(&retry.clone().delay(7 * MS)), [7; 5]);
        assert_eq!(millis(&retry.clone().delays([MS, 3 * MS, 2 * MS])), [1, 3, 2, 2, 2]);
        assert_eq!(millis(&retry.clone().delays([])), [0; 5]);
        assert_eq!(millis(&retry.clone().exponential(20 * MS, 2.0)), [20, 40, 80, 160, 320]);
        assert_eq!(millis(&retry.clone().exponential(20 * MS, 2.0).max_delay(50 * MS)), [20, 40, 50, 50, 50]);
        assert_eq!(millis(&retry.exponential(MS, 2.0).delay(9 * MS)), [9; 5]);
    }

    #[test]
    fn nothing_waits_before_the_first_attempt() {
        let retry = Retry::attempts(3).delay(MS).jitter(1.0);
        assert_eq!(retry.delay_before(0, 0.9), Duration::ZERO);
        assert_eq!(retry.delay_before(1, 0.9), Duration::ZERO);
    }

    #[test]
    fn nonsense_becomes_the_nearest_sensible_value() {
        for factor in [0.5, 0.0, -3.0, f64::NEG_INFINITY, f64::NAN] {
            assert_eq!(millis(&Retry::attempts(9).exponential(4 * MS, factor)), [4; 5], "{factor}");
        }
        for fraction in [-1.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(Retry::attempts(2).jitter(fraction).jitter, 0.0, "{fraction}");
        }
        for fraction in [1.0, 1.5, f64::INFINITY] {
            assert_eq!(Retry::attempts(2).jitter(fraction).jitter, 1.0, "{fraction}");
        }
    }

    #[test]
    fn jitter_spans_its_range_evenly_and_respects_the_cap() {
        let retry = Retry::attempts(2).delay(100 * MS).jitter(0.25);
        assert_eq!(retry.delay_before(2, 0.0), 75 * MS);
        assert_eq!(retry.delay_before(2, 0.5), 100 * MS);
        assert_eq!(retry.delay_before(2, 1.0), 125 * MS);
        for outside in [-4.0, f64::NEG_INFINITY] {
            assert_eq!(retry.delay_before(2, outside), 75 * MS);
        }
        for outside in [7.0, f64::INFINITY] {
            assert_eq!(retry.delay_before(2, outside), 125 * MS);
        }
        assert_eq!(retry.delay_before(2, f64::NAN), 100 * MS);
        assert_eq!(retry.max_delay(110 * MS).delay_before(2, 1.0), 110 * MS);
        assert_eq!(Retry::attempts(2).delay(MS).jitter(1.0).delay_before(2, 0.0), Duration::ZERO);
    }

    /// The delays before attempt 2 of evenly spaced draws.
    fn spread(retry: &Retry) -> Vec<Duration> {
        (0..=1000).map(|draw| retry.delay_before(2, f64::from(draw) / 1000.0)).collect()
    }

    #[test]
    fn a_cap_within_the_range_ends_it_and_nothing_piles_up_there() {
        let plain = Retry::attempts(2).delay(400 * MS).jitter(0.5);
        let growing = Retry::attempts(2).exponential(400 * MS, 2.0).jitter(0.5);
        let listed = Retry::attempts(2).delays([400 * MS]).jitter(0.5);
        // The cap at the delay, between it and the end of its range, at the end, above, and below the delay.
        for retry in [plain, growing, listed] {
            for (cap, least, most) in
                [(400, 200, 400), (500, 200, 500), (600, 200, 600), (900, 200, 600), (100, 50, 100)]
            {
                let delays = spread(&retry.clone().max_delay(cap * MS));
                assert_eq!((delays[0], delays[1000]), (least * MS, most * MS), "cap {cap}");
                let even = (most - least) * MS / 1000;
                let steps = delays.windows(2).map(|pair| pair[1] - pair[0]);
                assert!(steps.into_iter().all(|step| step.abs_diff(even) < MS / 1000), "cap {cap}");
            }
        }
    }

    #[test]
    fn no_cap_and_no_jitter_make_no_odd_range() {
        for (delay, jitter, cap) in
            [(Duration::MAX, 1.0, Duration::MAX), (Duration::MAX, 0.5, MS), (MS, 1.0, Duration::ZERO)]
        {
            let delays = spread(&Retry::attempts(2).delay(delay).jitter(jitter).max_delay(cap));
            assert!(delays.is_sorted() && delays[1000] == cap, "{delay:?} {jitter} {cap:?}");
        }
        assert_eq!(spread(&Retry::attempts(2).delay(MS).max_delay(MS)), vec![MS; 1001]);
        assert_eq!(spread(&Retry::attempts(2).jitter(1.0)), vec![Duration::ZERO; 1001]);
    }

    #[test]
    fn extremes_saturate() {
        let firsts = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX / 2, Duration::MAX];
        for first in firsts {
            for factor in [1.0, 1.0 + f64::EPSILON, 2.0, 1e300, f64::MAX, f64::INFINITY] {
                for random in [0.0, 0.3, 1.0, f64::NAN, f64::INFINITY] {
                    let retry = Retry::attempts(u32::MAX).exponential(first, factor);
                    for attempt in [0, 1, 2, 3, 1000, u32::MAX] {
                        let plain = retry.delay_before(attempt, random);
                        assert!(
                            attempt < 2 || plain >= first || first > Duration::MAX / 4,
                            "{first:?} {factor} {attempt}"
                        );
                        let capped = retry.clone().jitter(1.0).max_delay(MS).delay_before(attempt, random);
                        assert!(capped <= MS);
                    }
                }
            }
        }
        let endless = Retry::attempts(3).delay(Duration::MAX);
        assert_eq!(endless.delay_before(2, 0.5), Duration::MAX);
        assert_eq!(endless.jitter(1.0).delay_before(2, 1.0), Duration::MAX);
        assert_eq!(Retry::attempts(3).exponential(MS, f64::MAX).delay_before(u32::MAX, 0.5), Duration::MAX);
        assert_eq!(Retry::attempts(3).exponential(Duration::ZERO, f64::MAX).delay_before(9, 0.5), Duration::ZERO);
    }

    #[test]
    fn only_failures_that_another_try_could_heal_are_retryable() {
        let retry = Retry::attempts(2);
        let cause = Cause::new(CauseKind::Cancelled, EventId(uuid::Uuid::nil()), "Tick");
        assert!(retry.retryable(&HandlerFailure::Failed("x".into())));
        assert!(retry.retryable(&HandlerFailure::Panicked("x".into())));
        assert!(retry.retryable(&HandlerFailure::TimedOut { after: MS, detail: None }));
        assert!(retry.retryable(&HandlerFailure::Worker("x".into())));
        assert!(!retry.retryable(&HandlerFailure::Cancelled { cause: cause.clone() }));
        assert!(!retry.retryable(&HandlerFailure::Aborted { cause }));
        assert!(!retry.retryable(&HandlerFailure::WrongType { expected: "a".into(), found: "b".into() }));
    }

    #[test]
    fn the_predicate_decides() {
        let retry = Retry::attempts(2).only_if(|failure| failure.to_string().contains("network"));
        assert!(retry.retryable(&HandlerFailure::Failed("network down".into())));
        assert!(!retry.retryable(&HandlerFailure::Failed("no such user".into())));
        assert!(format!("{retry:?}").contains("only_if: true"));
    }
}
