//! The running handler's view of itself.

use crate::bus::core::BusCore;
use crate::bus::core::EventBus;
use crate::bus::permits::hand;
use crate::bus::thread::forbid::may_block;
use crate::bus::thread::frame::{self, Frame};
use crate::bus::thread::sits::Sitting;
use crate::event::{AnyEvent, AttemptKey, HandlerInfo, WaitError, WeakEvent};
use crate::runtime::{Serves, SitFor, Worker};
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::{logging, unwind};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The running handler's view of itself, kept in a thread-local.
///
/// ```
/// use std::time::Duration;
/// use threadbus::{Event, EventBus, HandlerContext, HandlerError, Payload};
/// struct Poll;
/// impl Payload for Poll { type Output = u32; }
///
/// let bus = EventBus::new("poller");
/// bus.on(|_: &Event<Poll>| -> Result<u32, HandlerError> {
///     let context = HandlerContext::current().ok_or("outside of a handler")?;
///     context.sleep(Duration::from_millis(1))?; // ends early when this handler is given up
///     Ok(context.attempt())
/// });
/// assert_eq!(bus.emit(Poll).result()?, 1);
/// # Ok::<(), threadbus::ResultError>(())
/// ```
#[derive(Clone)]
pub struct HandlerContext {
    frame: Frame,
    handler: HandlerInfo,
}

impl HandlerContext {
    pub(crate) fn core(&self) -> &Arc<BusCore> {
        &self.frame.bus
    }

    #[cfg(all(feature = "process", unix))]
    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// `None` outside a handler.
    pub fn current() -> Option<HandlerContext> {
        let frame = frame::top()?;
        // While the handler runs its delivery knows it.
        Some(HandlerContext { handler: frame.info()?, frame })
    }

    /// The bus that runs this handler.
    pub fn bus(&self) -> EventBus {
        EventBus::from_core(self.frame.bus.clone())
    }

    /// The event that is handled.
    pub fn event(&self) -> AnyEvent {
        self.frame.event.clone()
    }

    /// The registration that runs.
    pub fn handler(&self) -> HandlerInfo {
        self.handler.clone()
    }

    /// 1 for the first.
    pub fn attempt(&self) -> u32 {
        self.frame.attempt
    }

    /// When this attempt will be given up: the least of its own timeout, its event's, and those of the handlers that wait for it on
    /// this thread. `None`: never.
    pub fn deadline(&self) -> Option<Instant> {
        clock::instant(self.frame.deadline)
    }

    /// True once this invocation timed out or was cancelled: return soon, the result no longer counts.
    pub fn is_cancelled(&self) -> bool {
        !self.frame.is_live()
    }

    /// An error once this invocation timed out or was cancelled, for `?`.
    ///
    /// # Errors
    /// [`WaitError::Aborted`] once this invocation timed out or was cancelled.
    pub fn check(&self) -> Result<(), WaitError> {
        if self.is_cancelled() { Err(WaitError::Aborted) } else { Ok(()) }
    }

    /// Sleeps, keeping what the handler holds.
    ///
    /// # Errors
    /// [`WaitError::Aborted`] as soon as this invocation is given up; [`WaitError::Deadlock`] at once where no call may block, under
    /// [`forbid_blocking`](crate::forbid_blocking).
    #[track_caller]
    pub fn sleep(&self, duration: Duration) -> Result<(), WaitError> {
        may_block(|| format!("sleeps for {duration:?}"))?;
        let until = clock::after(clock::now(), duration);
        let Some(worker) = Worker::current() else { return self.check() };
        let frame = frame::top();
        let words = || SitFor::other(format!("sleeps for {duration:?}"));
        let sitting = frame.as_ref().map(|frame| Sitting::enter(&worker, frame, words()));
        let slept = self.sleep_on(&worker, until);
        drop(sitting);
        worker.ends_wait();
        slept
    }

    fn sleep_on(&self, worker: &Arc<Worker>, until: Tick) -> Result<(), WaitError> {
        loop {
            self.check()?;
            if until != NEVER && clock::now() >= until {
                return Ok(());
            }
            if worker.serve_or_park(until, Serves::Awaited)
                && let Some(frame) = frame::top()
            {
                // What ran on top may have given up what this handler keeps.
                hand::take_back(worker, &frame);
            }
        }
    }

    /// Makes `body`, run on another thread, count as inside this handler: parent tracking, context and queue-jump follow it.
    ///
    /// Its waits give up nothing (the handler may still be running): what they wait for borrows this handler's permits, one at a
    /// time. A handler that hands work to threads of its own joins them before it returns; what they emit afterwards is refused with
    /// [`EmitError::Aborted`](crate::EmitError::Aborted).
    ///
    /// ```
    /// use threadbus::{Event, EventBus, HandlerContext, HandlerError, Payload};
    /// struct Sum(u32);
    /// impl Payload for Sum { type Output = u32; }
    /// struct Part(u32);
    /// impl Payload for Part { type Output = u32; }
    ///
    /// let bus = EventBus::new("sums");
    /// bus.on(|part: &Event<Part>| part.0 * 10);
    /// bus.on(|sum: &Event<Sum>| -> Result<u32, HandlerError> {
    ///     let context = HandlerContext::current().ok_or("outside of a handler")?;
    ///     let bus = sum.bus();
    ///     let parts = std::thread::scope(|scope| {
    ///         let part = |n| { let (context, bus) = (&context, &bus); move || context.attach(|| bus.emit(Part(n)).result()) };
    ///         let threads: Vec<_> = (0..sum.0).map(|n| scope.spawn(part(n))).collect();
    ///         threads.into_iter().filter_map(|thread| thread.join().ok()).collect::<Result<Vec<u32>, _>>()
    ///     })?;
    ///     Ok(parts.into_iter().sum())
    /// });
    /// assert_eq!(bus.emit(Sum(3)).result()?, 30);
    /// # Ok::<(), threadbus::ResultError>(())
    /// ```
    pub fn attach<R>(&self, body: impl FnOnce() -> R) -> R {
        if let Some(worker) = Worker::current() {
            self.frame.bus.runtime.pool.list(&worker);
        }
        let _attached = hand::attach(&self.frame);
        body()
    }

    /// Runs once if this attempt times out or is cancelled, on another thread; never otherwise. If it is given up already, at once,
    /// on this thread. A panic in it is logged. Whichever thread it runs on, [`context::get`](crate::context::get) gives the event's values, and
    /// what it emits has no parent.
    ///
    /// The hook is kept until the attempt ends and no longer: one that did not run is dropped then, on the handler's thread, and one that
    /// comes after the handler's return is dropped at once. A handler that does many things one after another, each with a hook of its
    /// own, takes [`cancel_guard`](HandlerContext::cancel_guard).
    pub fn on_cancel(&self, hook: impl FnOnce() + Send + 'static) {
        let _ = self.hook(hook);
    }

    /// Runs the hook as [`on_cancel`](HandlerContext::on_cancel) does, until the guard is dropped: that drops a hook that has not run.
    ///
    /// ```
    /// use threadbus::{Event, EventBus, HandlerContext, HandlerError, Payload};
    /// struct Fetch(Vec<&'static str>);
    /// impl Payload for Fetch { type Output = usize; }
    ///
    /// let bus = EventBus::new("fetcher");
    /// bus.on(|fetch: &Event<Fetch>| -> Result<usize, HandlerError> {
    ///     let context = HandlerContext::current().ok_or("outside of a handler")?;
    ///     let mut lengths = 0;
    ///     for page in &fetch.0 {
    ///         let (stop, stopped) = std::sync::mpsc::channel();
    ///         let _guard = context.cancel_guard(move || drop(stop.send(())));
    ///         if stopped.try_recv().is_err() { lengths += page.len() }
    ///     }
    ///     Ok(lengths)
    /// });
    /// assert_eq!(bus.emit(Fetch(vec!["one", "three"])).result()?, 8);
    /// # Ok::<(), threadbus::ResultError>(())
    /// ```
    #[must_use = "the hook goes with the guard"]
    pub fn cancel_guard(&self, hook: impl FnOnce() + Send + 'static) -> CancelGuard {
        CancelGuard { event: self.frame.event.downgrade(), hook: self.hook(hook) }
    }

    /// Its number while it is kept.
    fn hook(&self, hook: impl FnOnce() + Send + 'static) -> Option<u64> {
        let Frame { delivery, invocation, attempt, .. } = self.frame;
        let of = AttemptKey { delivery, invocation, attempt };
        let hook = Box::new(hook);
        let given_up = {
            let mut state = self.frame.event.state().lock();
            if state.deliveries.get(delivery).is_some_and(|d| d.is_live(invocation, attempt)) {
                return Some(state.hook(of, hook));
            }
            state.was_given_up(of)
        };
        // Its values are the event's on every thread: this one may be one that the handler has started.
        let done = if given_up {
            frame::callback_apart(self.frame.event.head().context().cloned(), hook)
        } else {
            frame::callback(|| drop(hook))
        };
        if let Err(panic) = done {
            logging::error!(of self.frame.event; "an on_cancel hook panicked: {panic}");
        }
        None
    }
}

/// Keeps a hook of [`HandlerContext::cancel_guard`] until it is dropped.
pub struct CancelGuard {
    event: WeakEvent,
    /// None if it was not kept.
    hook: Option<u64>,
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        let event = self.hook.and_then(|_| self.event.upgrade());
        let hook = event.zip(self.hook).and_then(|(event, number)| event.state().lock().unhook(number));
        if hook.is_some() {
            let _ = frame::callback(|| unwind::drop_quietly(hook));
        }
    }
}

impl fmt::Debug for CancelGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelGuard").finish_non_exhaustive()
    }
}

impl fmt::Debug for HandlerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerContext")
            .field("event", &self.frame.event)
            .field("handler", &self.handler.label())
            .field("attempt", &self.frame.attempt)
            .finish_non_exhaustive()
    }
}
