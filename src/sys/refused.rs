//! Threads that the system refused, and are asked for again by whoever comes by.
//!
//! A runtime without a single thread has nobody who could ask by time. So every emit, every park and every look at an unfinished event asks
//! for all of the process; where nothing was refused, that is one load.

use crate::sys::clock::{self, Tick};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Who was refused a thread, and still has work for it.
pub(crate) trait Asks: Send + Sync {
    /// Asks the system again; if that refuses again, [`remember`] is called again. With nothing locked.
    fn ask_again(self: Arc<Self>);
}

#[cfg(not(threadbus_shuttle))]
mod register {
    use super::Asks;
    use parking_lot::Mutex;
    use std::sync::Weak;
    use std::sync::atomic::{AtomicBool, Ordering};

    static ANY: AtomicBool = AtomicBool::new(false);
    static WHO: Mutex<Vec<Weak<dyn Asks>>> = Mutex::new(Vec::new());

    #[inline]
    pub(super) fn any() -> bool {
        ANY.load(Ordering::Relaxed)
    }

    pub(super) fn change<R>(change: impl FnOnce(&mut Vec<Weak<dyn Asks>>) -> R) -> R {
        let mut who = WHO.lock();
        let result = change(&mut who);
        ANY.store(!who.is_empty(), Ordering::Relaxed);
        result
    }
}

// Of the whole model: it runs on one thread of the system, beside other models.
#[cfg(threadbus_shuttle)]
mod register {
    use super::Asks;
    use std::cell::RefCell;
    use std::sync::Weak;

    std::thread_local! {
        static WHO: RefCell<Vec<Weak<dyn Asks>>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn any() -> bool {
        WHO.with_borrow(|who| !who.is_empty())
    }

    pub(super) fn change<R>(change: impl FnOnce(&mut Vec<Weak<dyn Asks>>) -> R) -> R {
        WHO.with_borrow_mut(change)
    }
}

/// It was refused a thread that it still has work for.
#[cold]
pub(crate) fn remember(asker: Weak<dyn Asks>) {
    register::change(|who| {
        who.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&asker));
        who.push(asker);
    });
}

/// Some thread is missing.
#[inline]
pub(crate) fn any() -> bool {
    register::any()
}

/// Until when a thread may park: it asks by time, as long as a thread is missing.
#[inline]
pub(crate) fn park_until(until: Tick) -> Tick {
    const PAUSE: Duration = Duration::from_millis(20);
    ask_again();
    if any() { until.min(clock::after(clock::now(), PAUSE)) } else { until }
}

/// Whoever was refused a thread asks again. With nothing locked.
#[inline]
pub(crate) fn ask_again() {
    if any() {
        ask_all();
    }
}

#[cold]
fn ask_all() {
    let who = register::change(std::mem::take);
    who.iter().filter_map(Weak::upgrade).for_each(Asks::ask_again);
}
