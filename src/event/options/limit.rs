//! A cap on concurrent invocations, as the user describes it, and the group of those that share it.

use crate::sync::{Cap, Granted};
use crate::sys::logging;
use crate::sys::sync::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A cap on concurrent invocations.
///
/// Clones share it, and so do equal names within a [`Runtime`](crate::Runtime), as long as a handler has one; the first maximum of a
/// name stands. It is taken before the handler's permit, held across the attempts of a [`Retry`](crate::Retry) and the delays between
/// them, and given back when the invocation ends, however it ends. Waiting for it occupies no thread: an invocation that waits stands in a line, by priority, and
/// by the [`Fairness`](crate::Fairness) of its bus; buses of equal priority take turns.
///
/// A place is free when the handler is given up (a timeout, a cancel, a shutdown), though its thread may still be inside: so more threads than places can
/// be at it. For what breaks when it is used twice there is [`until_returned`](Limit::until_returned).
///
/// A handler that waits keeps its place and lends it to what it waits for, one at a time: a handler may wait for another one with
/// the same limit, to any depth, and does not lock itself out.
///
/// ```
/// use std::time::Duration;
/// use threadbus::*;
///
/// let downloads = Limit::new(2).acquire_timeout(Duration::from_secs(30));
/// let fetch = HandlerOptions::new().name("fetch").limit(downloads.clone());
/// let mirror = HandlerOptions::new().name("mirror").limit(downloads);
/// # let _ = (fetch, mirror);
/// ```
#[derive(Clone)]
pub struct Limit {
    pub(crate) group: Arc<LimitGroup>,
    pub(crate) acquire_timeout: Option<Duration>,
    pub(crate) lax: bool,
    pub(crate) until_returned: bool,
}

impl Limit {
    /// At most `max_concurrent` invocations at once among the handlers that are given clones of this value.
    ///
    /// 0 would never let anything run: it is taken as 1, with a warning in the log.
    pub fn new(max_concurrent: usize) -> Self {
        Self::of_group(None, max_concurrent)
    }

    /// At most `max_concurrent` invocations at once among all handlers of a runtime with a limit of this name, on whatever bus.
    ///
    /// The first maximum of a name stands; another one given later is ignored, with a warning in the log. 0 is taken as 1, with a
    /// warning too.
    pub fn named(name: &str, max_concurrent: usize) -> Self {
        Self::of_group(Some(Arc::from(name)), max_concurrent)
    }

    /// How long an invocation waits for its place. Default: without limit. Zero does not wait at all.
    pub fn acquire_timeout(mut self, after: Duration) -> Self {
        self.acquire_timeout = Some(after);
        self
    }

    /// What happens when no place comes free in time: run anyway (`true`), or fail the invocation with [`LimitTimeout`] before its
    /// handler starts (`false`, the default). That failure is not retried.
    pub fn lax(mut self, lax: bool) -> Self {
        self.lax = lax;
        self
    }

    /// The place of a handler that was given up stays taken until its thread is back from the handler. Default: it is free at once.
    ///
    /// For devices that break when they are used twice. The next attempt of such a handler waits for that, too. A handler that never comes back
    /// keeps its place for good, so handlers of such a limit should look at [`HandlerContext::is_cancelled`](crate::HandlerContext::is_cancelled).
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbus::*;
    ///
    /// let printer = Limit::named("printer", 1).until_returned();
    /// let options = HandlerOptions::new().limit(printer).timeout(Duration::from_secs(10));
    /// # let _ = options;
    /// ```
    pub fn until_returned(mut self) -> Self {
        self.until_returned = true;
        self
    }

    fn of_group(name: Option<Arc<str>>, max_concurrent: usize) -> Self {
        if max_concurrent == 0 {
            logging::warn!("a limit of 0 concurrent invocations is taken as 1");
        }
        Self {
            group: Arc::new(LimitGroup::new(name, max_concurrent)),
            acquire_timeout: None,
            lax: false,
            until_returned: false,
        }
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit")
            .field("name", &self.group.name)
            .field("max_concurrent", &self.group.max)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("lax", &self.lax)
            .field("until_returned", &self.until_returned)
            .finish()
    }
}

/// No place came free under a [`Limit`] within its [`acquire_timeout`](Limit::acquire_timeout), so the handler did not run: what
/// [`HandlerFailure::downcast_ref`](crate::HandlerFailure::downcast_ref) finds then.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no place within {after:?} under the limit {} of {max_concurrent}", name.as_deref().unwrap_or("without a name"))]
pub struct LimitTimeout {
    /// Of a [named](Limit::named) limit.
    pub name: Option<String>,
    /// How many may run at once.
    pub max_concurrent: usize,
    /// The limit's acquire timeout.
    pub after: Duration,
}

/// What happens when a turn comes; called outside of all locks.
pub(crate) type LimitTurn = Box<dyn FnOnce() + Send>;

/// The cap that clones of a limit, or limits of one name, share.
pub(crate) struct LimitGroup {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) max: usize,
    cap: Mutex<Cap<LimitTurn>>,
}

impl LimitGroup {
    fn new(name: Option<Arc<str>>, max: usize) -> Self {
        let cap = Cap::new(max);
        LimitGroup { name, max: cap.max(), cap: Mutex::new(cap) }
    }

    /// One locked step, and the turns that follow from it.
    pub(crate) fn step<R>(&self, step: impl FnOnce(&mut Cap<LimitTurn>) -> (R, Granted<LimitTurn>)) -> R {
        let (result, granted) = step(&mut self.cap.lock());
        for turn in granted {
            turn();
        }
        result
    }

    /// `the limit printer (1)`
    pub(crate) fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("the limit {name} ({})", self.max),
            None => format!("a limit of {}", self.max),
        }
    }

    pub(crate) fn timeout(&self, after: Duration) -> LimitTimeout {
        LimitTimeout { name: self.name.as_deref().map(str::to_owned), max_concurrent: self.max, after }
    }
}

impl fmt::Debug for LimitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitGroup").field("name", &self.name).field("max", &self.max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{Rank, Token};
    use crate::sys::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn turns_come_outside_of_the_lock() {
        let limit = Limit::new(1);
        let group = Arc::clone(&limit.group);
        let token = |stamp| Token { stamp, part: 0 };
        let came = Arc::new(AtomicUsize::new(0));
        assert!(group.step(|cap| (cap.try_take(token(1), &[]), Granted::new())));
        let (same, seen) = (Arc::clone(&group), Arc::clone(&came));
        let turn = move || {
            seen.fetch_add(1, Ordering::SeqCst);
            same.step(|cap| ((), cap.release(token(2))));
        };
        let rank = Rank { bus: 1, level: 5, weights: None };
        group.step(|cap| ((), cap.stand(token(2), rank, &[], Box::new(turn))));
        assert_eq!(came.load(Ordering::SeqCst), 0);
        group.step(|cap| ((), cap.release(token(1))));
        assert_eq!(came.load(Ordering::SeqCst), 1);
        assert!(!group.step(|cap| (cap.holds(token(2)), Granted::new())));
    }

    #[test]
    fn the_failure_names_the_limit() {
        let after = Duration::from_millis(50);
        let failure = Limit::named("tabs", 1).group.timeout(after);
        assert_eq!(failure.to_string(), "no place within 50ms under the limit tabs of 1");
        assert_eq!(failure.name.as_deref(), Some("tabs"));
        let failure = Limit::new(2).group.timeout(after);
        assert_eq!(failure.to_string(), "no place within 50ms under the limit without a name of 2");
    }
}
