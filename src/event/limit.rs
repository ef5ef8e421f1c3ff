//! A named or shared cap on concurrent invocations, as the user describes it. The runtime supplies the semaphore.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A cap on concurrent invocations.
///
/// Clones share it, and so do equal names within a runtime; the first maximum of a name stands. It is taken before the
/// handler's own permit, held across the attempts of a retry, and lent to what its holder waits for. Waiting for it
/// occupies no thread.
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
    shared: Arc<Shared>,
    pub(crate) acquire_timeout: Option<Duration>,
    pub(crate) lax: bool,
}

/// What clones have in common.
struct Shared {
    name: Option<Arc<str>>,
    max_concurrent: usize,
    /// The semaphore of an unnamed limit, of a type that only the runtime knows; named ones live in the runtime's table.
    semaphore: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Limit {
    /// At most `max_concurrent` invocations at once among the handlers that are given clones of this value.
    ///
    /// 0 would never let anything run: it is taken as 1, with a warning in the log.
    pub fn new(max_concurrent: usize) -> Self {
        Self::shared(None, max_concurrent)
    }

    /// At most `max_concurrent` invocations at once among all handlers of a runtime with a limit of this name.
    ///
    /// The first maximum given for a name stands. 0 is taken as 1, with a warning in the log.
    pub fn named(name: &str, max_concurrent: usize) -> Self {
        Self::shared(Some(Arc::from(name)), max_concurrent)
    }

    /// How long an invocation waits for its turn. Default: without limit.
    pub fn acquire_timeout(mut self, after: Duration) -> Self {
        self.acquire_timeout = Some(after);
        self
    }

    /// What happens when the turn does not come in time: run anyway (`true`), or fail the invocation (`false`, the default).
    pub fn lax(mut self, lax: bool) -> Self {
        self.lax = lax;
        self
    }

    fn shared(name: Option<Arc<str>>, max_concurrent: usize) -> Self {
        if max_concurrent == 0 {
            log::warn!(target: "threadbus", "a limit of 0 concurrent invocations is taken as 1");
        }
        let shared = Shared { name, max_concurrent: max_concurrent.max(1), semaphore: OnceLock::new() };
        Self { shared: Arc::new(shared), acquire_timeout: None, lax: false }
    }

    /// `None` for a limit that only its clones share.
    pub(crate) fn name(&self) -> Option<&Arc<str>> {
        self.shared.name.as_ref()
    }

    /// At least 1.
    pub(crate) fn max_concurrent(&self) -> usize {
        self.shared.max_concurrent
    }

    /// The semaphore that all clones of an unnamed limit share, made by whoever asks first. `None` only if it was first
    /// asked for as another type.
    pub(crate) fn semaphore<S: Send + Sync + 'static>(&self, make: impl FnOnce(usize) -> Arc<S>) -> Option<Arc<S>> {
        let any = self.shared.semaphore.get_or_init(|| make(self.shared.max_concurrent));
        Arc::clone(any).downcast().ok()
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit")
            .field("name", &self.shared.name)
            .field("max_concurrent", &self.shared.max_concurrent)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("lax", &self.lax)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_one_semaphore_and_zero_is_one() {
        let limit = Limit::new(0);
        let other = limit.clone().lax(true);
        let first = limit.semaphore(Arc::new);
        let second = other.semaphore(|_| Arc::new(99_usize));
        assert_eq!(first.as_deref(), Some(&1));
        assert!(first.zip(second).is_some_and(|(a, b)| Arc::ptr_eq(&a, &b)));
        assert!(limit.semaphore(|_| Arc::new("another type")).is_none());
        assert!(other.lax && !limit.lax);
    }

    #[test]
    fn names_are_kept() {
        assert_eq!(Limit::named("tabs", 3).name().map(|name| &**name), Some("tabs"));
        assert_eq!(Limit::named("tabs", 3).max_concurrent(), 3);
        assert!(Limit::new(3).name().is_none());
    }
}
