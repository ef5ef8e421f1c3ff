//! The bus of the code that is running: set by [`enter`], inherited by handlers and by [`spawn`]ed threads.
//!
//! For code deep inside a program that emits without being handed a bus. Imports `bus`, `event`, `subscribe` and `sys`.
//!
//! ```
//! use threadbus::{EventBus, EmitError, Payload, WaitError, scope};
//! struct Progress(u8);
//! impl Payload for Progress { type Output = (); }
//!
//! fn work() -> Result<(), WaitError> {
//!     scope::emit(Progress(50)).wait()?;
//!     Ok(())
//! }
//! let bus = EventBus::new("job");
//! scope::enter(&bus, work)?;
//! assert_eq!(bus.history_len(), 1);
//! assert!(matches!(work(), Err(WaitError::Rejected(EmitError::Closed { .. }))));
//! # Ok::<(), WaitError>(())
//! ```

use crate::bus::{EventBus, WeakBus, local};
use crate::event::{Event, Payload};
use crate::subscribe::Subscription;
use crate::sys::count::Count;
use crate::sys::sync::atomic::Ordering;
use crate::sys::thread::{self, JoinHandle};
use crate::sys::{logging, unwind};
use std::cell::RefCell;
use std::sync::Arc;

/// One [`enter`] on this thread.
struct Entered {
    bus: Inherited,
    /// How many handlers were on the thread's stack: one that runs above it has its own bus.
    depth: usize,
}

enum Inherited {
    Held(EventBus),
    /// A spawned thread must not keep a bus alive that it may be waiting to see the end of.
    Weak(WeakBus),
}

thread::local! {
    static SCOPES: RefCell<Vec<Entered>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` with `bus` as the [`current`] one of this thread. Nests: the inner one counts, the outer one is back afterwards, also after
/// a panic. Never blocks.
///
/// ```
/// use threadbus::{EventBus, scope};
/// let (a, b) = (EventBus::new("a"), EventBus::new("b"));
/// let name = || scope::current().map(|bus| bus.name().to_owned());
/// scope::enter(&a, || {
///     assert_eq!(scope::enter(&b, name).as_deref(), Some("b"));
///     assert_eq!(name().as_deref(), Some("a"));
/// });
/// assert_eq!(name(), None);
/// ```
pub fn enter<R>(bus: &EventBus, body: impl FnOnce() -> R) -> R {
    let _leave = Leave::after(Inherited::Held(bus.clone()));
    body()
}

/// The bus that the nearest [`enter`] around the running code named. Inside a handler: the bus running it, unless an inner `enter` says
/// otherwise. In a [`spawn`]ed thread: the one of the thread that started it, as long as somebody holds it.
///
/// ```
/// use threadbus::{Event, EventBus, Payload, scope};
/// struct Who;
/// impl Payload for Who { type Output = String; }
///
/// let bus = EventBus::new("owner");
/// bus.on(|_: &Event<Who>| scope::current().map(|bus| bus.name().to_owned()));
/// assert_eq!(bus.emit(Who).result()?, "owner");
/// assert!(scope::current().is_none());
/// # Ok::<(), threadbus::ResultError>(())
/// ```
pub fn current() -> Option<EventBus> {
    let (depth, running) = local(|local| {
        let running = local.frames.last().map(|frame| Arc::clone(&frame.bus));
        (local.frames.len(), running)
    })?;
    let entered = SCOPES.try_with(|scopes| {
        let scopes = scopes.borrow();
        let innermost = scopes.last().filter(|entered| entered.depth >= depth)?;
        Some(match &innermost.bus {
            Inherited::Held(bus) => Ok(bus.clone()),
            Inherited::Weak(bus) => Err(bus.clone()),
        })
    });
    match entered.ok().flatten() {
        Some(Ok(bus)) => Some(bus),
        Some(Err(weak)) => weak.upgrade(),
        None => running.map(EventBus::from_core),
    }
}

/// Emits on the [`current`] bus. Outside any scope: an event rejected with [`EmitError::Closed`](crate::EmitError::Closed), which the log
/// tells of the first time.
///
/// **Blocking**: as [`EventBus::emit`].
///
/// ```
/// use threadbus::{EventBus, Payload, scope};
/// struct Tick;
/// impl Payload for Tick { type Output = (); }
///
/// let bus = EventBus::new("clock");
/// scope::enter(&bus, || scope::emit(Tick)).wait()?;
/// assert!(scope::emit(Tick).wait().is_err());
/// # Ok::<(), threadbus::WaitError>(())
/// ```
pub fn emit<P: Payload>(payload: P) -> Event<P> {
    current().unwrap_or_else(nowhere).emit(payload)
}

/// One bus that is closed stands for none; what it refuses is told once.
fn nowhere() -> EventBus {
    static TOLD: Count = Count::new();
    let bus = EventBus::stand_in(None, None);
    bus.core().identity.refusals.store(u64::MAX, Ordering::Relaxed);
    if logging::takes(log::Level::Warn) && TOLD.read() == 0 {
        TOLD.add_one();
        logging::warn!("scope::emit was called outside of any scope: the event is refused, and others after it");
    }
    bus
}

/// Subscribes to the [`current`] bus. `None` outside any scope.
///
/// ```
/// use threadbus::{EventBus, Payload, scope};
/// struct Tick;
/// impl Payload for Tick { type Output = (); }
///
/// let bus = EventBus::new("clock");
/// let mut ticks = scope::enter(&bus, scope::subscribe::<Tick>).ok_or("no scope")?;
/// bus.emit(Tick);
/// assert!(ticks.recv().is_ok());
/// # Ok::<(), &str>(())
/// ```
pub fn subscribe<P: Payload>() -> Option<Subscription<Event<P>>> {
    current().map(|bus| bus.subscribe())
}

/// Starts a thread that inherits the [`current`] bus and the [`context`](crate::context) of this one.
///
/// It holds the bus weakly: a thread that reads a subscription to its end does not keep that end from coming. It does not count as
/// inside the handler that started it: what it emits has no parent.
///
/// # Panics
/// If the system refuses a thread, as [`std::thread::spawn`].
///
/// ```
/// use threadbus::{EventBus, Payload, scope};
/// struct Tick;
/// impl Payload for Tick { type Output = (); }
///
/// let bus = EventBus::new("clock");
/// let thread = scope::enter(&bus, || scope::spawn(|| scope::emit(Tick).wait().is_ok()));
/// assert_eq!(thread.join().ok(), Some(true));
/// ```
pub fn spawn<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    let bus = current().map(|bus| bus.downgrade());
    let context = local(|local| local.context.clone()).flatten();
    thread::spawn_joinable(None, move || {
        local(|local| local.context = context);
        let _leave = bus.map(|bus| Leave::after(Inherited::Weak(bus)));
        body()
    })
}

/// Ends an [`enter`], also by a panic.
struct Leave;

impl Leave {
    fn after(bus: Inherited) -> Leave {
        let depth = local(|local| local.frames.len()).unwrap_or(0);
        let _ = SCOPES.try_with(|scopes| scopes.borrow_mut().push(Entered { bus, depth }));
        Leave
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        // The last handle of a bus may go here: outside of the borrow.
        let left = SCOPES.try_with(|scopes| scopes.borrow_mut().pop());
        unwind::drop_quietly(left);
    }
}
