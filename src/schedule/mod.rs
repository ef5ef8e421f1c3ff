//! Emitting later, and again and again.
//!
//! How it works is told in `bus/parts/outbox.rs`. Imports `sys`, `event` and `bus`. Exports [`Scheduled`], and hangs [`EventBus::emit_after`] and
//! [`EventBus::emit_every`] on the bus from above.

use crate::bus::{BusCore, EventBus, Outbox, callback};
use crate::event::{AnyEvent, DeliveryPhase, EmitError, EventOptions, Payload, TryEmitError, WeakEvent};
use crate::sys::{clock, logging, unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A shorter period is taken as this one.
const SHORTEST: Duration = Duration::from_millis(1);

/// Something to be emitted later, by [`EventBus::emit_after`] or [`EventBus::emit_every`]. Dropping it changes nothing; clones are the
/// same schedule. It does not keep the bus.
#[derive(Clone, Debug)]
pub struct Scheduled {
    outbox: Weak<Outbox<BusCore>>,
    /// `None` if the bus was closed already.
    plan: Option<u64>,
}

impl Scheduled {
    /// Nothing more is emitted, and the payload is dropped here. False if it has already fired for the last time, was cancelled, or ended
    /// with its bus.
    ///
    /// An emit that another thread is just making is not taken back. Never blocks.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbus::{EventBus, Payload};
    /// struct Reminder;
    /// impl Payload for Reminder { type Output = (); }
    ///
    /// let bus = EventBus::new("calendar");
    /// let reminder = bus.emit_after(Duration::from_secs(3600), Reminder);
    /// assert!(reminder.cancel());
    /// assert!(!reminder.cancel());
    /// ```
    pub fn cancel(&self) -> bool {
        match (self.outbox.upgrade(), self.plan) {
            (Some(outbox), Some(plan)) => outbox.cancel(plan),
            _ => false,
        }
    }
}

/// What [`EventBus::emit_every_with`] does with a beat that comes while the one before is not through. Default: [`Skip`](Self::Skip).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overlap {
    /// The beat is left out: a slow handler gets as many events as it can handle, and none is old.
    #[default]
    Skip,
    /// It is emitted all the same, and queued behind the others: every beat is handled, and what is slower than the beat piles up.
    Queue,
}

impl EventBus {
    /// Emits the payload once, after `delay`.
    ///
    /// It is emitted from a thread of the runtime, as if from outside of handlers: the event has no parent, a full queue means what
    /// [`OnFull`](crate::OnFull) says, and values of [`context`](crate::context) are those of this call. Where that emit would wait for
    /// room, so do the others scheduled on this bus, in the order of their times. An event that is refused then is told in the log. What is
    /// scheduled neither keeps the bus nor counts as its work: it ends with the last handle, and with a shutdown. A delay that no clock
    /// can count never passes.
    ///
    /// **Blocking**: never. A thousand schedules cost no thread.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbus::{EventBus, Payload};
    /// struct Reminder(&'static str);
    /// impl Payload for Reminder { type Output = (); }
    ///
    /// let bus = EventBus::new("calendar");
    /// let mut reminders = bus.subscribe::<Reminder>();
    /// bus.emit_after(Duration::from_millis(5), Reminder("tea"));
    /// assert_eq!(reminders.recv()?.0, "tea");
    /// # Ok::<(), threadbus::RecvError>(())
    /// ```
    pub fn emit_after<P: Payload>(&self, delay: Duration, payload: P) -> Scheduled {
        self.plan_once(delay, payload, None)
    }

    /// Emits later as [`emit_after`](EventBus::emit_after) does, with options for the event. A [`parent`](EventOptions::parent) among them is kept until then.
    ///
    /// **Blocking**: never.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbus::{EventBus, EventOptions, Payload, Priority};
    /// struct Reminder;
    /// impl Payload for Reminder { type Output = (); }
    ///
    /// let bus = EventBus::new("calendar");
    /// let mut reminders = bus.subscribe::<Reminder>();
    /// bus.emit_after_with(Duration::from_millis(5), Reminder, EventOptions::new().priority(Priority::HIGH));
    /// assert_eq!(reminders.recv()?.priority(), Priority::HIGH);
    /// # Ok::<(), threadbus::RecvError>(())
    /// ```
    pub fn emit_after_with<P: Payload>(&self, delay: Duration, payload: P, options: EventOptions) -> Scheduled {
        self.plan_once(delay, payload, Some(options))
    }

    fn plan_once<P: Payload>(&self, delay: Duration, payload: P, options: Option<EventOptions>) -> Scheduled {
        let mut once = Some((payload, options));
        let emission = move |bus: &EventBus| {
            let Some((payload, options)) = once.take() else { return Ok(()) };
            let emitted = emit(bus, payload, options).map(unwind::drop_quietly);
            if let Err(error) = &emitted {
                let why = error.to_string();
                logging::later!(Warn, move || format!(
                    "a scheduled {} was refused: {why}",
                    crate::event::name_of::<P>()
                ));
            }
            emitted
        };
        let at = clock::after(clock::now(), delay);
        let plan = self.core().plan(at, None, emission);
        self.scheduled(plan)
    }

    /// Emits clones of the payload, again and again: the first after one `period`, the others on the same beat.
    ///
    /// As [`emit_after`](EventBus::emit_after) otherwise. The beat does not drift. A time that was missed, because the machine slept or the
    /// queue had no room, is left out, and so is a beat that comes while the handlers of the one before are not through on this bus: nothing piles up,
    /// and no burst follows. (What those handlers emitted, and buses it was forwarded to, do not count; [`emit_every_with`](Self::emit_every_with) can
    /// queue instead.) A refused event is left out as well, with a debug
    /// message in the log, and so is one whose `Clone` panics. Periods below one millisecond, and zero, are taken as one millisecond,
    /// with a warning in the log.
    ///
    /// **All of them have the [`context`](crate::context) of this call.** Planned while a request is handled, the last one still bears that
    /// request's id, user and trace, and keeps those values in memory: plan it inside [`context::without`](crate::context::without) unless it belongs to
    /// the request.
    ///
    /// **Blocking**: never.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbus::{EventBus, Payload};
    /// #[derive(Clone)]
    /// struct Tick;
    /// impl Payload for Tick { type Output = (); }
    ///
    /// let bus = EventBus::new("clock");
    /// let mut ticks = bus.subscribe::<Tick>();
    /// let ticking = bus.emit_every(Duration::from_millis(2), Tick);
    /// for _ in 0..3 {
    ///     ticks.recv()?;
    /// }
    /// assert!(ticking.cancel());
    /// # Ok::<(), threadbus::RecvError>(())
    /// ```
    pub fn emit_every<P: Payload + Clone>(&self, period: Duration, payload: P) -> Scheduled {
        self.plan_beats(period, payload, None, Overlap::Skip)
    }

    /// Emits again and again as [`emit_every`](EventBus::emit_every) does, with options for every event and a word on beats that come too soon for their handlers.
    ///
    /// No two events have one id: an [`id`](EventOptions::id) among the options is left out, with a warning in the log. A
    /// [`parent`](EventOptions::parent) is kept until the schedule ends.
    ///
    /// **Blocking**: never.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbus::{EventBus, EventOptions, Overlap, Payload, Priority};
    /// #[derive(Clone)]
    /// struct Sample;
    /// impl Payload for Sample { type Output = (); }
    ///
    /// let bus = EventBus::new("probe");
    /// let mut samples = bus.subscribe::<Sample>();
    /// let low = EventOptions::new().priority(Priority::LOW);
    /// let sampling = bus.emit_every_with(Duration::from_millis(2), Sample, low, Overlap::Queue);
    /// assert_eq!(samples.recv()?.priority(), Priority::LOW);
    /// assert!(sampling.cancel());
    /// # Ok::<(), threadbus::RecvError>(())
    /// ```
    pub fn emit_every_with<P: Payload + Clone>(
        &self,
        period: Duration,
        payload: P,
        mut options: EventOptions,
        overlap: Overlap,
    ) -> Scheduled {
        if let Some(id) = options.id.take() {
            logging::warn!(
                "the id {id} of what {} emits again and again is left out: no two events have one",
                self.label()
            );
        }
        self.plan_beats(period, payload, Some(options), overlap)
    }

    fn plan_beats<P: Payload + Clone>(
        &self,
        period: Duration,
        payload: P,
        options: Option<EventOptions>,
        overlap: Overlap,
    ) -> Scheduled {
        if period < SHORTEST {
            logging::warn!(
                "a period of {period:?} for {} on {} is taken as {SHORTEST:?}",
                crate::event::name_of::<P>(),
                self.label()
            );
        }
        let period = period.max(SHORTEST);
        let mut last: Option<WeakEvent> = None;
        let emission = move |bus: &EventBus| {
            if overlap == Overlap::Skip && last.as_ref().is_some_and(|last| is_at_it(bus, last)) {
                return Ok(());
            }
            let copy = match callback(|| payload.clone()) {
                Ok(copy) => copy,
                Err(panic) => {
                    logging::later!(Error, move || format!(
                        "the Clone of {} panicked: {panic}",
                        crate::event::name_of::<P>()
                    ));
                    return Ok(());
                }
            };
            let emitted = emit(bus, copy, options.clone()).map(|event| {
                last = Some(event.downgrade());
                unwind::drop_quietly(event);
            });
            if let Err(error) = &emitted {
                let why = error.to_string();
                logging::later!(Debug, move || format!(
                    "a scheduled {} was refused: {why}",
                    crate::event::name_of::<P>()
                ));
            }
            emitted
        };
        let at = clock::after(clock::now(), period);
        let nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let plan = self.core().plan(at, Some(nanos), emission);
        self.scheduled(plan)
    }

    fn scheduled(&self, plan: Option<u64>) -> Scheduled {
        if plan.is_none() {
            logging::warn!("{} is closed: nothing was scheduled", self.label());
        }
        Scheduled { outbox: Arc::downgrade(&self.core().outbox), plan }
    }
}

/// The caller drops the event quietly: the bus may be through with it, and this the last of it.
fn emit<P: Payload>(bus: &EventBus, payload: P, options: Option<EventOptions>) -> Result<AnyEvent, EmitError> {
    match bus.emit_or_return(payload, options) {
        Ok(event) => Ok(event.into()),
        Err(TryEmitError { payload, error }) => {
            unwind::drop_quietly(payload);
            Err(error)
        }
    }
}

/// It is queued on this bus, or has handlers here that have not ended.
fn is_at_it(bus: &EventBus, event: &WeakEvent) -> bool {
    let Some(event) = event.upgrade() else { return false };
    let own = bus.core().identity.id;
    let at_it = {
        let state = event.state().lock();
        state.deliveries.iter().any(|d| d.bus.id == own && d.phase != DeliveryPhase::Done)
    };
    unwind::drop_quietly(event);
    at_it
}
