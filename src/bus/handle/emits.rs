//! Emitting, as users call it.

use crate::bus::core::EventBus;
use crate::bus::emit::candidate::Entrance;
use crate::bus::thread::forbid::may_block_or_log;
use crate::event::{AnyEvent, EmitError, Event, EventOptions, Fresh, OnFull, Payload, TryEmitError, WaitError};

impl EventBus {
    /// Puts an event on its way. Never waits for handlers, never panics; a refused event comes back completed, and its `wait()` says
    /// why. So that it is not lost in silence where nobody waits, the log tells of the first one that a bus refuses for each reason;
    /// [`try_emit`](Self::try_emit) tells its caller instead.
    ///
    /// **Blocking**: only outside of handlers, on a bus whose queue is full under [`OnFull::Block`](crate::OnFull::Block) or
    /// [`BlockFor`](crate::OnFull::BlockFor), or that has a full subscription whose emitters wait for its reader
    /// ([`OnLag::Block`](crate::OnLag::Block)): until there is room. What stands still for longer than
    /// [`handler_slow_after`](crate::BusBuilder::handler_slow_after) is told in the log.
    #[track_caller]
    pub fn emit<P: Payload>(&self, payload: P) -> Event<P> {
        self.emit_or_reject(payload, None, Entrance::Queue)
    }

    /// Emits as [`emit`](EventBus::emit) does, with options for this one event.
    #[track_caller]
    pub fn emit_with<P: Payload>(&self, payload: P, options: EventOptions) -> Event<P> {
        self.emit_or_reject(payload, Some(options), Entrance::Queue)
    }

    /// Emits without waiting for room; a payload that is refused comes back.
    ///
    /// Where [`emit`](Self::emit) would wait it refuses at once: with [`EmitError::QueueFull`] or [`EmitError::RateLimited`] also under
    /// [`OnFull::Block`](crate::OnFull::Block) and [`BlockFor`](crate::OnFull::BlockFor), with [`EmitError::SubscriptionFull`] for a full subscription
    /// whose emitters wait. [`RunInline`](crate::OnFull::RunInline) and [`DropOldest`](crate::OnFull::DropOldest) mean the same as ever.
    ///
    /// **Blocking**: never, but for the handlers of an event that is run inline.
    ///
    /// # Errors
    /// [`TryEmitError`] with the payload and the reason.
    ///
    /// ```
    /// use threadbus::{EmitError, EventBus, OnFull, Payload};
    /// struct Frame(u32);
    /// impl Payload for Frame { type Output = (); }
    ///
    /// let bus = EventBus::builder("camera").queue_capacity(1, OnFull::Block).build()?;
    /// bus.pause();
    /// assert!(bus.try_emit(Frame(1)).is_ok());
    /// let refused = bus.try_emit(Frame(2)).unwrap_err();
    /// assert_eq!(refused.payload.0, 2);
    /// assert!(matches!(refused.error, EmitError::QueueFull { capacity: 1, .. }));
    /// # Ok::<(), threadbus::BuildError>(())
    /// ```
    #[track_caller]
    pub fn try_emit<P: Payload>(&self, payload: P) -> Result<Event<P>, TryEmitError<P>> {
        self.try_emit_inner(payload, None)
    }

    /// Emits as [`try_emit`](EventBus::try_emit) does, with options for this one event.
    ///
    /// # Errors
    /// [`TryEmitError`] with the payload and the reason.
    #[track_caller]
    pub fn try_emit_with<P: Payload>(&self, payload: P, options: EventOptions) -> Result<Event<P>, TryEmitError<P>> {
        self.try_emit_inner(payload, Some(options))
    }

    /// Runs the event on the calling thread, ahead of the queue, before returning; on a serial bus once the running event is through.
    ///
    /// Where little of the thread's stack is left it runs on another thread, and this one waits for that; where there is none, as on the pump
    /// thread of a manual bus, it is only queued. See [`assume_stack`](crate::assume_stack).
    ///
    /// Timeouts mark it but cannot unblock this thread. It needs no waiter: what the event emitted and did not wait for still runs
    /// on the bus's own threads.
    ///
    /// A [paused](EventBus::pause) bus runs it, too; what its handlers emit and do not wait for is queued there until the pause ends.
    ///
    /// On a [manual](crate::BusBuilder::manual) bus it runs on the pump thread and no other: from elsewhere it goes to the front there.
    ///
    /// **Blocking**: until the event has run; elsewhere than on the pump thread of a manual bus until that has run it.
    #[track_caller]
    pub fn emit_now<P: Payload>(&self, payload: P) -> Event<P> {
        self.emit_or_reject(payload, None, Entrance::Claimed)
    }

    /// Runs the event as [`emit_now`](EventBus::emit_now) does, with options for this one event.
    #[track_caller]
    pub fn emit_now_with<P: Payload>(&self, payload: P, options: EventOptions) -> Event<P> {
        let entrance = wait_for(&options);
        self.emit_or_reject(payload, Some(options), entrance)
    }

    #[track_caller]
    fn emit_or_reject<P: Payload>(&self, payload: P, mut own: Option<EventOptions>, entrance: Entrance) -> Event<P> {
        match self.core().emit(payload, &mut own, entrance) {
            Ok(event) => {
                if entrance == Entrance::Claimed && !event.any().is_complete() {
                    may_block_or_log("runs an event now that must wait for its turn");
                }
                event
            }
            Err((fresh, error)) => {
                self.note_full(&error);
                self.core().tell_refused(&fresh.any(), &error);
                rejected(fresh, error)
            }
        }
    }

    /// A refused payload comes back.
    #[track_caller]
    pub(crate) fn emit_or_return<P: Payload>(
        &self,
        payload: P,
        mut own: Option<EventOptions>,
    ) -> Result<Event<P>, TryEmitError<P>> {
        self.core().emit(payload, &mut own, Entrance::Queue).or_else(|(fresh, error)| {
            self.note_full(&error);
            returned(fresh, error)
        })
    }

    fn try_emit_inner<P: Payload>(
        &self,
        payload: P,
        mut own: Option<EventOptions>,
    ) -> Result<Event<P>, TryEmitError<P>> {
        self.core().emit(payload, &mut own, Entrance::Try).or_else(|(fresh, error)| returned(fresh, error))
    }

    /// A thread that must not block did not wait for room.
    #[cold]
    #[track_caller]
    fn note_full(&self, error: &EmitError) {
        let what = match error {
            EmitError::QueueFull { .. } => "emits into a full queue",
            EmitError::RateLimited { .. } => "emits above the rate of its bus",
            _ => return,
        };
        if matches!(self.core().options.on_full, OnFull::Block | OnFull::BlockFor(_)) {
            may_block_or_log(what);
        }
    }
}

/// What is to run now waits for what it is to come after. Where that can never end, or must not be waited for, it is held as any other event is.
fn wait_for(own: &EventOptions) -> Entrance {
    for before in &own.after {
        if let Err(
            WaitError::Timeout(_)
            | WaitError::Deadlock(_)
            | WaitError::Aborted
            | WaitError::NoThread(_)
            | WaitError::TooDeep { .. },
        ) = before.event.wait()
        {
            return Entrance::Queue;
        }
    }
    Entrance::Claimed
}

fn rejected<P: Payload>(fresh: Fresh<P>, error: EmitError) -> Event<P> {
    let event = fresh.into_event();
    reject(event.any(), error);
    event
}

/// Makes it a refused event: complete, with the reason.
pub(crate) fn reject(event: &AnyEvent, error: EmitError) {
    {
        let mut state = event.state().lock();
        state.reject(error);
    }
    event.publish_complete();
}

/// Nobody has seen a refused event but a middleware, which may have kept it.
fn returned<P: Payload>(fresh: Fresh<P>, error: EmitError) -> Result<Event<P>, TryEmitError<P>> {
    match fresh.into_payload() {
        Ok(payload) => Err(TryEmitError { payload, error }),
        Err(fresh) => Ok(rejected(fresh, error)),
    }
}
