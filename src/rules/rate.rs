//! A token bucket, as pure data over ticks: its owner keeps it under a lock of its own.
//!
//! It is kept as the time at which the bucket would be full again: one number, exact, and nothing to be refilled in the background.

use crate::event::BuildError;
use crate::sys::clock::Tick;

/// Parts of a nanosecond in which the bucket counts, so that rates which do not divide a second do not drift.
const PARTS: u128 = 1 << 32;

#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    /// The time between two tokens, in parts of a nanosecond; at least 1.
    period: u128,
    /// The time that all tokens but one take to come back.
    slack: u128,
    /// When the bucket is full again.
    full_at: u128,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens, into which `per_second` come back.
    ///
    /// # Errors
    /// Naming `max_emit_rate`, for a rate that is not a number above 0, and for a bucket that could hold nothing.
    pub(crate) fn new(per_second: f64, burst: usize) -> Result<TokenBucket, BuildError> {
        let wrong = |reason: String| Err(BuildError { option: "max_emit_rate", reason });
        if !per_second.is_finite() || per_second <= 0.0 {
            return wrong(format!("{per_second} events per second is no rate"));
        }
        if burst == 0 {
            return wrong("a burst of 0 events would let none pass".to_owned());
        }
        // A cast from a float saturates, which is what a rate of once in an age needs.
        let period = ((1e9 / per_second * PARTS as f64) as u128).clamp(1, u128::MAX / 4);
        let slack = period.saturating_mul(burst as u128 - 1).min(u128::MAX / 4);
        Ok(TokenBucket { period, slack, full_at: 0 })
    }

    /// Gives a token back that was taken for an event which was then refused.
    pub(crate) fn give_back(&mut self) {
        self.full_at = self.full_at.saturating_sub(self.period);
    }

    /// When the next token is there; no later than `now` if one is.
    pub(crate) fn ready_at(&self) -> Tick {
        let at = self.full_at.saturating_sub(self.slack).div_ceil(PARTS);
        Tick::try_from(at).unwrap_or(Tick::MAX)
    }

    /// Takes a token if one is there. A clock that goes back yields none.
    pub(crate) fn try_take(&mut self, now: Tick) -> bool {
        let now = u128::from(now) * PARTS;
        let free = self.full_at.saturating_sub(self.slack) <= now;
        if free {
            self.full_at = self.full_at.max(now).saturating_add(self.period);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Tick = 1_000_000_000;
    const MS: Tick = 1_000_000;

    fn bucket(per_second: f64, burst: usize) -> TokenBucket {
        TokenBucket::new(per_second, burst).unwrap()
    }

    /// How many tokens can be had at `now`.
    fn drain(bucket: &mut TokenBucket, now: Tick) -> usize {
        (0..10_000).take_while(|_| bucket.try_take(now)).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = bucket(10.0, 3);
        assert_eq!(drain(&mut bucket, SECOND), 3);
        assert_eq!(bucket.ready_at(), SECOND + 100 * MS);
        assert!(!bucket.try_take(SECOND + 100 * MS - 1));
        assert!(bucket.try_take(SECOND + 100 * MS));
        assert!(!bucket.try_take(SECOND + 199 * MS));
        assert_eq!(drain(&mut bucket, SECOND + 310 * MS), 2);
    }

    #[test]
    fn a_pause_fills_it_no_further_than_the_burst() {
        let mut bucket = bucket(1000.0, 5);
        assert_eq!(drain(&mut bucket, 0), 5, "it starts full");
        assert_eq!(drain(&mut bucket, 2 * MS), 2);
        assert_eq!(drain(&mut bucket, 3600 * SECOND), 5);
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let mut bucket = bucket(1.0, 1);
        assert!(bucket.try_take(SECOND));
        for _ in 0..1000 {
            assert!(!bucket.try_take(SECOND + 999 * MS));
        }
        assert!(bucket.try_take(2 * SECOND));
    }

    #[test]
    fn the_rate_holds_over_time_also_where_it_does_not_divide_a_second() {
        for rate in [0.5, 3.0, 7.0, 333.3, 1e6, 3e8] {
            let mut bucket = bucket(rate, 2);
            let (mut now, mut taken) = (0, 0_u64);
            // Always taken as soon as there is one.
            while now < 100 * SECOND && taken < 100_000 {
                assert!(bucket.try_take(now));
                taken += 1;
                now = bucket.ready_at();
            }
            let expected = now as f64 / SECOND as f64 * rate;
            assert!((taken as f64 - expected).abs() <= 2.0, "{rate}: {taken} instead of {expected}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_yields_nothing() {
        let mut bucket = bucket(10.0, 2);
        assert_eq!(drain(&mut bucket, 10 * SECOND), 2);
        assert_eq!(drain(&mut bucket, 5 * SECOND), 0);
        assert_eq!(drain(&mut bucket, 0), 0);
        assert_eq!(drain(&mut bucket, 10 * SECOND + 100 * MS), 1);
    }

    #[test]
    fn extremes_neither_overflow_nor_let_all_pass() {
        let mut slow = bucket(f64::MIN_POSITIVE, 2);
        assert_eq!(drain(&mut slow, 0), 2);
        assert_eq!(slow.ready_at(), Tick::MAX);
        assert_eq!(drain(&mut slow, Tick::MAX - 1), 0);
        let mut fast = bucket(f64::MAX, 1);
        assert_eq!(drain(&mut fast, SECOND), 1, "one within a tick of the clock");
        assert_eq!(drain(&mut fast, SECOND + 1), 1);
        let mut wide = bucket(1e-9, usize::MAX);
        assert_eq!(drain(&mut wide, Tick::MAX), 10_000);
        let mut late = bucket(1.0, 1);
        assert!(late.try_take(Tick::MAX));
        assert!(!late.try_take(Tick::MAX));
    }

    #[test]
    fn what_is_no_rate_is_named() {
        for rate in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(TokenBucket::new(rate, 1).is_err_and(|e| e.option == "max_emit_rate"), "{rate}");
        }
        assert!(TokenBucket::new(1.0, 0).is_err_and(|e| e.to_string().contains("burst")));
        assert!(TokenBucket::new(f64::MIN_POSITIVE / 4.0, usize::MAX).is_ok());
    }
}
