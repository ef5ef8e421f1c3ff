//! The events that one piece of code emitted together: waiting for these, not for the whole bus, and reporting on them.
//!
//! A batch learns of completions by a hook on each event, and forgets the event with it: what it holds is two counts and the events
//! that are not complete yet, which their bus holds as well. A million events that pass through a bounded queue cost it as much as
//! that queue is long.
//!
//! Trackers are the user's code: they run outside of all locks, one report at a time and in order, on the thread that completed an
//! event if that may run such code, else on a pool thread. Imports `sys`, `sync`, `event`, `runtime` and `bus`. Exports [`Batch`] and
//! [`Progress`], and hangs [`EventBus::batch`] on the bus from above.

mod progress;
mod tally;

pub use progress::Progress;

use crate::bus::{EventBus, Parked, Seat, is_forbidden, may_block};
use crate::event::{AnyEvent, Event, EventOptions, Payload, WaitError};
use crate::sys::clock::{self, NEVER, Tick};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;

impl EventBus {
    /// An empty batch of events on this bus.
    ///
    /// ```
    /// use threadbus::{Event, EventBus, Payload};
    /// struct Resize(u32);
    /// impl Payload for Resize { type Output = u32; }
    ///
    /// let bus = EventBus::new("images");
    /// bus.on(|image: &Event<Resize>| image.0 / 2);
    /// let batch = bus.batch();
    /// let images = batch.extend((0..10).map(Resize));
    /// let progress = batch.wait()?;
    /// assert_eq!((progress.completed, progress.total, progress.failed), (10, 10, 0));
    /// assert!(images.iter().all(|image| image.is_completed()));
    /// # Ok::<(), threadbus::WaitError>(())
    /// ```
    pub fn batch(&self) -> Batch {
        let tally = Tally::new(&self.core().runtime);
        Batch { bus: self.clone(), tally: Arc::new(Held(tally)) }
    }
}

/// The events one piece of code emitted together: wait for these, not for the whole bus.
///
/// Made by [`EventBus::batch`]. Clones share it. It can be added to at any time, also while a thread waits for it; dropping it changes nothing for its
/// events.
///
/// ```
/// use threadbus::{EventBus, EventOptions, Payload};
/// struct Copy(&'static str);
/// impl Payload for Copy { type Output = (); }
///
/// let bus = EventBus::new("files");
/// let batch = bus.batch();
/// batch.on_progress(|progress| println!("{} of {}", progress.completed, progress.total));
/// batch.emit(Copy("small"));
/// batch.emit_with(Copy("large"), EventOptions::new().steps(9));
/// assert_eq!(batch.wait()?.total, 10);
/// # Ok::<(), threadbus::WaitError>(())
/// ```
#[derive(Clone)]
pub struct Batch {
    bus: EventBus,
    tally: Arc<Held>,
}

/// What the clones of a batch share. Dropped with the last of them: nothing can be asked of the batch any more.
struct Held(Arc<Tally>);

impl Deref for Held {
    type Target = Arc<Tally>;

    fn deref(&self) -> &Arc<Tally> {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

impl Batch {
    /// Emits on the batch's bus, and adds the event.
    ///
    /// **Blocking**: as [`EventBus::emit`].
    pub fn emit<P: Payload>(&self, payload: P) -> Event<P> {
        self.added(self.bus.emit(payload))
    }

    /// Emits with options of the event's own, and adds the event.
    pub fn emit_with<P: Payload>(&self, payload: P, options: EventOptions) -> Event<P> {
        self.added(self.bus.emit_with(payload, options))
    }

    /// Emits payloads one after another, and adds each event. For more events than should be kept, [`emit`](Batch::emit) them in a loop: this hands all of
    /// them back.
    pub fn extend<P: Payload>(&self, payloads: impl IntoIterator<Item = P>) -> Vec<Event<P>> {
        payloads.into_iter().map(|payload| self.emit(payload)).collect()
    }

    /// Adds an event emitted elsewhere, on this bus or another, complete or not. However often it is added, an
    /// event counts once.
    pub fn add(&self, event: impl AsRef<AnyEvent>) {
        let event = event.as_ref();
        let core = self.bus.core();
        let own = event.head().options().and_then(|own| own.steps);
        let steps = own.or_else(|| core.registry.slot(event.body(), &core.defaults).options.steps).unwrap_or(1);
        self.tally.add(event, steps);
    }

    fn added<P: Payload>(&self, event: Event<P>) -> Event<P> {
        self.add(&event);
        event
    }

    /// Calls `tracker` once per event that completes from now on, unless it has 0 steps: values never decreasing, the last one before
    /// [`wait`](Batch::wait) returns. Several trackers are called in the order in which they were added.
    ///
    /// It runs on whichever thread completed the event, or on another one; never twice at a time. A panic in it is logged, and it is
    /// called again for the next event. [`context::get`](crate::context::get) gives the values of the code that added it, and what it emits has no
    /// parent. It should be short, and must not block: a wait in it answers [`WaitError::Deadlock`]. The batch
    /// keeps it for good, so one that holds a clone of the batch keeps both: let it drop that with its last report.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use threadbus::{EventBus, Payload};
    /// struct Step;
    /// impl Payload for Step { type Output = (); }
    ///
    /// let (sender, seen) = channel();
    /// let bus = EventBus::new("steps");
    /// let batch = bus.batch();
    /// batch.on_progress(move |progress| drop(sender.send(progress.completed)));
    /// batch.extend([Step, Step, Step]);
    /// batch.wait()?;
    /// assert_eq!(seen.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
    /// # Ok::<(), threadbus::WaitError>(())
    /// ```
    pub fn on_progress(&self, tracker: impl FnMut(Progress) + Send + 'static) -> &Self {
        self.tally.track(Box::new(tracker));
        self
    }

    /// How far the batch is now. Never blocks.
    pub fn progress(&self) -> Progress {
        self.tally.progress()
    }

    /// Waits until every event added so far, and every one added meanwhile, is complete, and all trackers have been told.
    ///
    /// **Blocking**: outside of handlers it parks. Inside one it waits for the events one after another, in emit order, as
    /// [`Event::wait`] does: they run now, ahead of the queue.
    ///
    /// # Errors
    /// [`WaitError::Deadlock`] where that can never end, and in a callback that is not a handler; [`WaitError::Aborted`] if the
    /// waiting handler was given up. That events of it were refused, cancelled or failed is no error; they tell themselves.
    #[track_caller]
    pub fn wait(&self) -> Result<Progress, WaitError> {
        self.wait_until(NEVER, Duration::MAX)
    }

    /// Waits as [`wait`](Batch::wait) does, for so long at most. Gives up waiting, not the events.
    ///
    /// # Errors
    /// As [`wait`](Batch::wait), and [`WaitError::Timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbus::{EventBus, Payload, WaitError};
    /// struct Later;
    /// impl Payload for Later { type Output = (); }
    ///
    /// let bus = EventBus::new("paused");
    /// bus.pause();
    /// let batch = bus.batch();
    /// batch.emit(Later);
    /// let soon = Duration::from_millis(1);
    /// assert_eq!(batch.wait_timeout(soon), Err(WaitError::Timeout(soon)));
    /// bus.resume();
    /// assert!(batch.wait().is_ok());
    /// ```
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Progress, WaitError> {
        self.wait_until(clock::after(clock::now(), timeout), timeout)
    }

    #[track_caller]
    fn wait_until(&self, deadline: Tick, timeout: Duration) -> Result<Progress, WaitError> {
        let Some(seat) = Seat::take() else {
            if is_forbidden() && self.tally.is_settled() {
                return Ok(self.progress());
            }
            return may_block(|| "waits for a batch".to_owned()).and(Err(WaitError::Aborted));
        };
        let _waiter = self.tally.wait_with(seat.bell());
        let jumps = seat.in_handler();
        loop {
            if jumps {
                self.jump(deadline, timeout)?;
            }
            // An event that is added meanwhile may stand behind this handler in its queue.
            let ready = || self.tally.is_settled() || jumps && self.tally.has_incomplete();
            match seat.park(deadline, || self.tally.in_words(), ready) {
                Parked::Ready if self.tally.is_settled() => return Ok(self.progress()),
                Parked::Ready => {}
                Parked::TimedOut => return Err(WaitError::Timeout(timeout)),
                Parked::GivenUp => return Err(WaitError::Aborted),
            }
        }
    }

    /// Inside a handler: waits for the events one after another, until none is incomplete.
    #[track_caller]
    fn jump(&self, deadline: Tick, timeout: Duration) -> Result<(), WaitError> {
        while let Some(event) = self.tally.first_incomplete() {
            let waited = if deadline == NEVER {
                event.wait()
            } else {
                let now = clock::now();
                if now >= deadline {
                    return Err(WaitError::Timeout(timeout));
                }
                event.wait_timeout(Duration::from_nanos(deadline - now))
            };
            match waited {
                Ok(_) => {}
                Err(WaitError::Timeout(_)) => return Err(WaitError::Timeout(timeout)),
                // Refused or cancelled: complete, as far as a batch is concerned.
                Err(_) if event.is_complete() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("bus", &self.bus.label())
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tick;
    impl Payload for Tick {
        type Output = ();
    }

    #[test]
    fn a_batch_that_is_dropped_leaves_nothing_with_its_events() {
        let bus = EventBus::new("batches");
        bus.pause();
        let event = bus.emit(Tick);
        let watchers = || event.any().state().lock().watchers();
        let batches: Vec<Batch> = (0..1000).map(|_| bus.batch()).collect();
        batches.iter().for_each(|batch| batch.add(&event));
        assert_eq!(watchers(), 1000);
        let clones = batches.clone();
        drop(batches);
        assert_eq!(watchers(), 1000);
        drop(clones);
        assert_eq!(watchers(), 0);
        // A tracker is told without the batch.
        let (told, heard) = std::sync::mpsc::channel();
        let batch = bus.batch();
        batch.on_progress(move |progress| assert!(told.send(progress.completed).is_ok()));
        batch.add(&event);
        drop(batch);
        bus.resume();
        assert_eq!(heard.recv_timeout(Duration::from_secs(10)), Ok(1));
    }
}
