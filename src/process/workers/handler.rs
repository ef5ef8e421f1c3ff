//! A handler on the bus whose work is done in a worker process.

use super::claim::Claim;
use super::frame;
use super::link::{Logged, Reply, Stage};
use super::message::{Described, Outcome, Request};
use super::pool::ProcessPool;
use crate::bus::{EventBus, HandlerContext};
use crate::event::{Event, HandlerError, HandlerFailure, HandlerInfo, HandlerOptions, Payload, WaitError, name_of};
use crate::sys::{clock, logging};
use std::sync::Arc;
use std::time::Duration;

/// How long a worker's answer waits until what the worker logged before it is in the log.
const PATIENCE: Duration = Duration::from_millis(50);

impl EventBus {
    /// Registers a handler for events whose payload is a `P`: the one that [`serve`](crate::process::serve) has for `P` in a worker process
    /// of the pool.
    ///
    /// Payload and output travel by serde, so `P` has a [`codec`](Payload::codec); in bytes that bring back what was there, whatever shape it has:
    /// not as JSON. What runs in the worker sees the event with its id, parent's id, correlation id, label, creation time, path and priority, on a
    /// bus of its own: what it emits stays there, and is waited for there (but for what is detached, which ends with it); [`context`](crate::context)
    /// does not travel, and [`attempt`](HandlerContext::attempt) is always 1.
    ///
    /// **Its time** runs from when the handler begins in the worker. Until then an attempt may take its timeout and the pool's
    /// [`start_timeout`](crate::process::PoolBuilder::start_timeout) together, for a worker may have to be started. The event's own timeout does not
    /// wait for a start, nor does the deadline of a handler that waits for the event.
    ///
    /// What cannot be sent or understood (no codec, larger than `max_frame`, nested deeper than 4,000 levels, no handler in the worker, two types of
    /// one name) fails for good, as [`HandlerFailure::Worker`]: no retry would find it otherwise, and no worker is harmed. A type whose serialization
    /// and deserialization do not fit each other is of that kind; so are 128-bit integers in types that serde buffers (flattened, untagged,
    /// internally tagged), which it does not support.
    ///
    /// As many invocations run at once as the bus's modes allow and the pool has processes (a [`Limit`](crate::Limit) of the pool's, unless
    /// the options have one): by default a bus runs one handler after the other, so give it
    /// [`EventConcurrency::Parallel`](crate::EventConcurrency::Parallel), and parallel handlers, to use several processes.
    ///
    /// When the pool's last handler is gone, by [`off`](EventBus::off) or because its bus is shut down, idle workers end.
    ///
    /// **Blocking**: not here. The last `off`, or the `shutdown`, waits until those workers are gone.
    ///
    /// ```no_run
    /// use serde::{Deserialize, Serialize};
    /// use threadbus::process::{self, ProcessPool};
    /// use threadbus::{Event, EventBus, EventConcurrency, HandlerConcurrency, event};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Square { n: u64 }
    /// event!(Square => u64);
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     process::serve(|worker| { worker.on(|square: &Event<Square>| square.n * square.n); });
    ///     let bus = EventBus::builder("app")
    ///         .event_concurrency(EventConcurrency::Parallel)
    ///         .handler_concurrency(HandlerConcurrency::Parallel)
    ///         .build()?;
    ///     let pool = ProcessPool::builder().build()?;
    ///     bus.on_process::<Square>(&pool);
    ///     assert_eq!(bus.emit(Square { n: 7 }).result()?, 49);
    ///     Ok(())
    /// }
    /// ```
    #[track_caller]
    pub fn on_process<P: Payload>(&self, pool: &ProcessPool) -> HandlerInfo {
        self.on_process_with::<P>(HandlerOptions::new(), pool)
    }

    /// Registers a handler in the pool's worker processes, as [`on_process`](EventBus::on_process) does, with options. A
    /// [limit](HandlerOptions::limit) of theirs replaces the pool's.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// use std::time::Duration;
    /// # use threadbus::process::ProcessPool;
    /// # use threadbus::{EventBus, HandlerOptions, Retry, event};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Decode { path: String }
    /// # event!(Decode => usize);
    /// # fn register(bus: &EventBus, pool: &ProcessPool) {
    /// let patient = HandlerOptions::new().timeout(Duration::from_secs(300)).retry(Retry::attempts(2));
    /// bus.on_process_with::<Decode>(patient, pool);
    /// # }
    /// ```
    #[track_caller]
    pub fn on_process_with<P: Payload>(&self, options: HandlerOptions, pool: &ProcessPool) -> HandlerInfo {
        let options = if options.limit.is_some() { options } else { options.limit(pool.limit()) };
        let (event_type, rust_type) = (name_of::<P>(), std::any::type_name::<P>());
        let (user, clash) = pool.user(event_type, rust_type);
        let why_not =
            clash.map(|other| format!("two event types of this pool are called {event_type}: {other} and {rust_type}"));
        if let Some(why) = why_not.clone() {
            logging::later!(Error, move || format!("no event can be sent to a worker: {why}"));
        }
        let options = options.allowance(pool.slots().config.start_timeout).on_end({
            let user = Arc::clone(&user);
            move || user.leave()
        });
        self.on_with(options, move |event: &Event<P>| match &why_not {
            Some(why) => Err(refused(why.clone())),
            None => call(event, &user.pool),
        })
    }
}

fn call<P: Payload>(event: &Event<P>, pool: &ProcessPool) -> Result<Option<P::Output>, HandlerError> {
    let event_type = name_of::<P>();
    let codec = P::codec()
        .ok_or_else(|| refused(format!("{event_type} cannot be sent to a worker: {event_type} has no codec")))?;
    let context = HandlerContext::current();
    let config = &pool.slots().config;
    let unlogged = event.any().head().is_from_logger();
    let request = Request {
        event_type: event_type.to_owned(),
        rust_type: std::any::type_name::<P>().to_owned(),
        same_program: config.is_this_program(),
        event: described(event),
        time: context.as_ref().and_then(time_for),
        log: log::max_level(),
        unlogged,
    };
    let payload = |bytes: &mut Vec<u8>, max| codec.append_payload(bytes, event.payload(), max);
    let mut frame = frame::encode(0, &request, config.max_frame, payload).map_err(|error| {
        refused(match error.is_too_long() {
            true => format!("{event_type} is larger than the pool's max_frame, {} bytes", config.max_frame),
            false => format!("{event_type} cannot be sent to a worker: {error}"),
        })
    })?;
    drop(request);
    let claim = Arc::new(Claim::new(if unlogged { Logged::No } else { Logged::Yes }));
    let _guard = context.as_ref().map(|context| {
        let (slots, claim) = (Arc::clone(pool.slots()), Arc::clone(&claim));
        context.cancel_guard(move || slots.give_up(&claim))
    });
    let begins = || {
        if let Some(context) = &context {
            context.time_begins();
        }
    };
    match pool.slots().call(&claim, &mut frame, begins) {
        Ok(Reply::Outcome { outcome, output, record }) => {
            // The worker's records are in the log before its answer counts, if the logger is not too slow for that.
            if let Some(record) = record {
                logging::wait_for(record, PATIENCE);
            }
            match outcome {
                Outcome::Nothing => Ok(None),
                Outcome::Value => codec
                    .read_output(&output)
                    .map(Some)
                    .map_err(|error| refused(format!("the output of {event_type} does not fit: {error}"))),
                Outcome::Failed { text, permanent: true } => Err(HandlerError::permanent(text)),
                Outcome::Failed { text, permanent: false } => Err(text.into()),
                Outcome::Panicked(text) => Err(HandlerFailure::Panicked(text).into()),
                Outcome::Refused(why) => Err(refused(why)),
            }
        }
        Ok(Reply::Gone { why, stage: Stage::Starting }) => Err(HandlerFailure::WorkerStart(why).into()),
        Ok(Reply::Gone { why, .. }) => Err(HandlerFailure::Worker(why).into()),
        Ok(Reply::GivenUp) => Err(WaitError::Aborted.into()),
        Err(failure) => Err(failure.into()),
    }
}

/// A permanent failure: another attempt would find the event or its answer no different.
fn refused(why: String) -> HandlerError {
    HandlerError::permanent(HandlerFailure::Worker(why))
}

/// How long the handler may take in the worker.
fn time_for(context: &HandlerContext) -> Option<Duration> {
    let left = context.deadline().map(clock::left);
    match (context.own_time(), left) {
        (Some(own), Some(left)) => Some(own.min(left)),
        (own, left) => own.or(left),
    }
}

fn described<P: Payload>(event: &Event<P>) -> Described {
    let created_at = event.created_at();
    Described {
        id: event.id().0,
        parent: event.parent_id().map(|id| id.0),
        emitted_by: event.emitted_by().map(|id| id.0),
        correlation_id: event.correlation_id().to_owned(),
        label: event.any().label().map(ToOwned::to_owned),
        version: event.version().to_owned(),
        created_at: (created_at.timestamp(), created_at.timestamp_subsec_nanos()),
        path: event.path(),
        priority: event.priority().level(),
    }
}
