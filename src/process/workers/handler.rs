//! A handler on the bus whose work is done in a worker process.

use super::frame::{self, EncodeError};
use super::link::Reply;
use super::message::{Outcome, Request};
use super::pool::ProcessPool;
use super::slots::Claim;
use crate::bus::{EventBus, HandlerContext};
use crate::event::{
    Event, HandlerError, HandlerFailure, HandlerInfo, HandlerOptions, Json, JsonError, Payload, WaitError,
};
use crate::sys::{clock, logging};
use std::sync::Arc;
use std::time::Duration;

/// How long an answer waits for the log.
const PATIENCE: Duration = Duration::from_millis(50);

impl EventBus {
    /// Registers a handler for events whose payload is a `P`: the one that [`serve`](crate::process::serve) has for `P` in a worker process
    /// of the pool.
    ///
    /// Payload and output travel as JSON, so `P` has a [`codec`](Payload::codec) and is written as an object. What runs over there sees the
    /// event with its id, parent's id, correlation id, creation time, path and priority, on a bus of its own: what it emits stays there,
    /// and is waited for there (but for what is detached, which ends with it); [`context`](crate::context) does not travel, and
    /// [`attempt`](HandlerContext::attempt) is always 1. Its deadline is this one's.
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

    /// The same, with options. A [limit](HandlerOptions::limit) of theirs replaces the pool's.
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
        let user = pool.user();
        let options = options.on_end({
            let user = Arc::clone(&user);
            move || user.leave()
        });
        self.on_with(options, move |event: &Event<P>| call(event, &user.pool))
    }
}

fn call<P: Payload>(event: &Event<P>, pool: &ProcessPool) -> Result<Option<P::Output>, HandlerError> {
    let event_type = crate::event::name_of::<P>();
    let context = HandlerContext::current();
    let max_frame = pool.slots().config.max_frame;
    let request = Request {
        event: described(event, context.as_ref().and_then(HandlerContext::deadline).map(clock::left))
            .map_err(|error| failed(format!("{event_type} cannot be sent to a worker: {error}")))?,
        log: log::max_level(),
        unlogged: event.any().head().is_from_logger(),
    };
    let unlogged = request.unlogged;
    let mut frame = frame::encode(0, &request, max_frame).map_err(|error| match error {
        EncodeError::TooLong(long) => {
            failed(format!("{event_type} is {} bytes of JSON, more than the pool's max_frame {max_frame}", long.length))
        }
        EncodeError::Json(error) => failed(format!("{event_type} cannot be sent to a worker: {error}")),
    })?;
    drop(request);
    let claim = Arc::new(Claim::default());
    let _guard = context.as_ref().map(|context| {
        let (slots, claim) = (Arc::clone(pool.slots()), Arc::clone(&claim));
        context.cancel_guard(move || slots.give_up(&claim))
    });
    match pool.slots().call(&claim, &mut frame, unlogged).map_err(failed)? {
        Reply::Outcome { outcome, record } => {
            // What the worker logged is in the log before its answer counts, if the logger is not too slow for that.
            if let Some(record) = record {
                logging::wait_for(record, PATIENCE);
            }
            accept::<P>(outcome)
        }
        Reply::Gone { why, .. } => Err(failed(why)),
        Reply::GivenUp => Err(WaitError::Aborted.into()),
    }
}

fn accept<P: Payload>(outcome: Outcome) -> Result<Option<P::Output>, HandlerError> {
    match outcome {
        Outcome::Nothing => Ok(None),
        Outcome::Value(json) => {
            let codec = P::codec().ok_or_else(|| failed(format!("{} has no codec", crate::event::name_of::<P>())))?;
            let output = codec.output_from_json(&json);
            output.map(Some).map_err(|error| failed(format!("the answer does not fit: {error}")))
        }
        Outcome::Failed { text, permanent: true } => Err(HandlerError::permanent(text)),
        Outcome::Failed { text, permanent: false } => Err(text.into()),
        Outcome::Panicked(text) => Err(HandlerFailure::Panicked(text).into()),
        Outcome::Refused(why) => Err(failed(why)),
    }
}

fn failed(why: String) -> HandlerError {
    HandlerFailure::Worker(why).into()
}

/// The event as it is to run over there: alone, and with the time that is left here, whatever its type says.
fn described<P: Payload>(event: &Event<P>, left: Option<Duration>) -> Result<Json, JsonError> {
    /// Thirty years: there is no way to write that there is no limit.
    const ENDLESS: f64 = 1e9;
    let mut json = event.any().to_worker_json()?;
    if let Json::Object(fields) = &mut json {
        let timeout = left.map_or(ENDLESS, |left| left.as_secs_f64().min(ENDLESS));
        let own = [
            ("event_handler_timeout", timeout.into()),
            ("event_timeout", ENDLESS.into()),
            ("event_handler_slow_timeout", ENDLESS.into()),
            ("event_slow_timeout", ENDLESS.into()),
            ("event_concurrency", Json::Null),
            ("event_handler_concurrency", Json::Null),
            ("event_handler_completion", Json::Null),
            ("event_results", Json::Null),
        ];
        fields.extend(own.map(|(name, value)| (name.to_owned(), value)));
    }
    Ok(json)
}
