//! Threads that must not block.

use crate::bus::core::BusCore;
use crate::bus::thread::frame::{self, Barred};
use crate::event::WaitError;
use crate::sys::clock::{NEVER, Tick};
use crate::sys::logging;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;

/// Forbids every blocking call of this crate on the calling thread, until the guard is dropped: for a UI thread, or one of an async
/// runtime. Nests.
///
/// What would have to wait answers at once, with an error that says where, instead of standing still now and then:
///
/// | call | under the guard |
/// | --- | --- |
/// | `wait` and its relatives, `result`, `first`, `select`, `Batch::wait`, `wait_until_idle`, `HandlerContext::sleep` | [`WaitError::Deadlock`] with both places |
/// | `find().future` | looks at the past only |
/// | `Subscription::recv` and iterating | `RecvError::Closed` |
/// | `emit` on a full bus under `OnFull::Block` | refused with `EmitError::QueueFull` |
/// | `emit` before a full subscription under `OnLag::Block` | lets it grow |
/// | `emit_now` and `redrive` on a busy serial bus, and off the pump thread of a manual one | goes to the front and returns |
/// | `shutdown` | closes the bus and returns, as inside a handler |
///
/// Those that have no error to return name their place in the log, as an error. What need not wait is not affected: an event that
/// is complete, a backlog that is not empty, [`run_pending`](crate::EventBus::run_pending); and in a handler the wait for a child that
/// runs at once on the same thread.
///
/// ```
/// use threadbus::{EventBus, Payload, WaitError};
/// struct Save;
/// impl Payload for Save { type Output = (); }
///
/// let bus = EventBus::new("disk");
/// let ui = threadbus::forbid_blocking();
/// let saved = bus.emit(Save); // emitting never waits
/// # bus.pause(); let saved = bus.emit(Save);
/// assert!(matches!(saved.wait(), Err(WaitError::Deadlock(why)) if why.contains(file!())));
/// # bus.resume();
/// drop(ui);
/// assert!(saved.wait().is_ok());
/// ```
#[track_caller]
#[must_use = "it forbids until it is dropped"]
pub fn forbid_blocking() -> ForbidBlocking {
    let since = Location::caller();
    frame::local(|local| local.forbidden.push(since));
    ForbidBlocking { since, _here: PhantomData }
}

/// While it lives no call of this crate blocks its thread: see [`forbid_blocking`].
#[must_use = "it forbids until it is dropped"]
pub struct ForbidBlocking {
    since: &'static Location<'static>,
    /// It belongs to its thread.
    _here: PhantomData<*const ()>,
}

impl Drop for ForbidBlocking {
    fn drop(&mut self) {
        frame::local(|local| {
            if let Some(at) = local.forbidden.iter().rposition(|since| std::ptr::eq(*since, self.since)) {
                local.forbidden.remove(at);
            }
        });
    }
}

impl fmt::Debug for ForbidBlocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForbidBlocking(since {})", self.since)
    }
}

/// Whether this thread is under [`forbid_blocking`], and not in a callback.
pub(crate) fn is_forbidden() -> bool {
    matches!(frame::barred(), Some(Barred::Forbidden(_)))
}

/// The error of a call that would have to wait, where none may. `what`: who would wait for what.
#[track_caller]
pub(crate) fn may_block(what: impl FnOnce() -> String) -> Result<(), WaitError> {
    match frame::barred() {
        None => Ok(()),
        Some(Barred::Callback) => Err(WaitError::Deadlock(format!("a callback that is not a handler {}", what()))),
        Some(Barred::Forbidden(since)) => Err(WaitError::Deadlock(format!(
            "blocking is forbidden on this thread since {since}, and {} {}",
            Location::caller(),
            what()
        ))),
    }
}

/// For a call that has no error to return: whether it may wait. If that is forbidden, the log says where.
#[track_caller]
pub(crate) fn may_block_or_log(what: &str) -> bool {
    match frame::barred() {
        None => true,
        Some(Barred::Callback) => false,
        Some(Barred::Forbidden(since)) => {
            let here = Location::caller();
            logging::error!("blocking is forbidden on this thread since {since}, and {here} {what}: it does not wait");
            false
        }
    }
}

/// For a call that waits for somebody else to emit on `bus`: whether nobody ever does, and no time ends it. Then the log says where.
#[track_caller]
pub(crate) fn waits_for_nobody(bus: &BusCore, deadline: Tick) -> bool {
    let nobody = deadline == NEVER && bus.is_left_to_this_thread();
    if nobody {
        logging::error!("{} waits for an event that nobody emits on {}: it ends", Location::caller(), bus.label());
    }
    nobody
}
