//! One attempt of one handler on the calling thread, from its start to its end.

use crate::bus::drive::{Driver, submit_resume};
use crate::bus::ending;
use crate::bus::frame::{self, Frame};
use crate::event::{
    AnyOutput, CauseKind, Delivery, DeliveryPhase, HandlerEntry, HandlerFailure, Outcome, RecordPhase, Retry,
};
use crate::rules::{attempt_deadline, slow_event, slow_handler};
use crate::runtime::{Overdue, Slot};
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{random, unwind};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// A started attempt: `number` is its lease.
pub(crate) struct Attempt {
    pub(crate) invocation: usize,
    pub(crate) number: u32,
    pub(crate) entry: Arc<HandlerEntry>,
    cap: Tick,
    begun: Tick,
}

/// How a handler came back.
struct Returned {
    outcome: Outcome,
    /// Before which another attempt is due.
    retry: Option<Duration>,
    value: bool,
}

impl Attempt {
    pub(crate) fn new(invocation: usize, number: u32, entry: Arc<HandlerEntry>, delivery: &Delivery) -> Self {
        Attempt { invocation, number, entry, cap: delivery.cap, begun: delivery.begun }
    }
}

/// Runs it. True if the calling thread goes on driving.
pub(crate) fn run(driver: &mut Driver<'_>, attempt: Attempt, under: SmallVec<[usize; 2]>) -> bool {
    let Attempt { invocation, number, entry, cap, begun } = attempt;
    let (event, start) = (driver.event, driver.now);
    let own = event.head().options.as_deref();
    let defaults = &driver.bus.defaults;
    let (timeout, deadline) = attempt_deadline(own, &driver.slot.options, &entry.options, defaults, start);
    let deadline = deadline.min(cap);
    let slow = slow_handler(own, &driver.slot.options, &entry.options, defaults, start, timeout);
    let slow_event = slow_event(own, &driver.slot.options, defaults).map_or(NEVER, |after| clock::after(begun, after));
    let slot = Slot {
        event: event.clone(),
        delivery: driver.delivery,
        invocation,
        attempt: number,
        since: start,
        deadline,
        slow,
        slow_event: if slow_event <= start { NEVER } else { slow_event },
        overdue: ending::overdue as fn(&_, &_, Overdue),
    };
    let frame = Frame {
        event: event.clone(),
        bus: Arc::clone(driver.bus),
        delivery: driver.delivery,
        invocation,
        attempt: number,
        deadline: deadline.min(frame::deadline_below()),
        entry: Arc::clone(&entry),
        under,
    };
    driver.worker.push(slot, &driver.bus.runtime.watch);
    if !frame.is_live() {
        // Ended between its start and here, by somebody who found no handler on this stack to give up: so none runs.
        driver.worker.pop();
        return goes_on_after_loss(driver);
    }
    let context = frame::local(|local| {
        local.frames.push(frame);
        std::mem::replace(&mut local.context, event.head().context.clone())
    })
    .flatten();

    let returned = call(driver, &entry, number);

    let gone = frame::local(|local| {
        let context = std::mem::replace(&mut local.context, context);
        (local.frames.pop(), context)
    });
    drop(gone);
    driver.worker.pop();
    driver.now = clock::now();
    end(driver, invocation, number, returned)
}

/// The user's code, with everything it may do to us.
fn call(driver: &Driver<'_>, entry: &HandlerEntry, number: u32) -> Returned {
    let event = driver.event;
    let called = unwind::catch(|| match (entry.call)(event) {
        Ok(None) => Ok(Outcome::None),
        Ok(Some(output)) => accept(driver, entry, output).map_or_else(|f| Err((f, false)), |o| Ok(Outcome::Value(o))),
        Err(error) => {
            let permanent = error.is_permanent();
            Err((error.into_failure(), permanent))
        }
    });
    match called {
        Ok(Ok(outcome)) => {
            let value = matches!(outcome, Outcome::Value(_));
            Returned { outcome, retry: None, value }
        }
        Ok(Err((failure, permanent))) => {
            let retry = if permanent { None } else { retry_after(driver, entry, number, &failure) };
            Returned { outcome: Outcome::Failed(Arc::new(failure)), retry, value: false }
        }
        Err(panic) => {
            log::debug!(target: "threadbus", "{} panicked on {event}: {panic}", entry.info.label());
            let failure = HandlerFailure::Panicked(panic);
            let retry = retry_after(driver, entry, number, &failure);
            Returned { outcome: Outcome::Failed(Arc::new(failure)), retry, value: false }
        }
    }
}

fn accept(driver: &Driver<'_>, entry: &HandlerEntry, output: AnyOutput) -> Result<AnyOutput, HandlerFailure> {
    if entry.typed { Ok(output) } else { driver.event.body().accept(output) }
}

/// How long to wait before the next attempt, if there is to be one. Asks the user's filter; a panic in it means no.
fn retry_after(driver: &Driver<'_>, entry: &HandlerEntry, number: u32, failure: &HandlerFailure) -> Option<Duration> {
    let retry = retry_of(driver, entry)?;
    if number >= retry.max_attempts() {
        return None;
    }
    match frame::callback(|| retry.retryable(failure)) {
        Ok(true) => Some(retry.delay_before(number + 1, random::fraction())),
        Ok(false) => None,
        Err(panic) => {
            log::error!(target: "threadbus", "the retry filter of {} panicked: {panic}", entry.info.label());
            None
        }
    }
}

fn retry_of<'a>(driver: &'a Driver<'_>, entry: &'a HandlerEntry) -> Option<&'a Retry> {
    let own = driver.event.head().options.as_ref().and_then(|o| o.retry.as_ref());
    own.or(driver.slot.options.retry.as_ref()).or(entry.options.retry.as_ref()).or(driver.bus.defaults.retry.as_ref())
}

/// The end of the attempt, if it is still ours to end.
fn end(driver: &mut Driver<'_>, invocation: usize, number: u32, returned: Returned) -> bool {
    let at = clock::wall(driver.now);
    let (event, index) = (driver.event, driver.delivery);
    let mut state = event.state().lock();
    let Some(delivery) = state.deliveries.get_mut(index) else { return false };
    if !delivery.is_live(invocation, number) {
        drop(state);
        driver.bus.counters.late_results.fetch_add(1, Ordering::Relaxed);
        log::debug!(target: "threadbus", "a late result of {event} on {} was dropped", driver.bus.label());
        unwind::drop_quietly(returned.outcome);
        return goes_on_after_loss(driver);
    }
    if let Some(delay) = returned.retry {
        delivery.set_aside(invocation);
        drop(state);
        unwind::drop_quietly(returned.outcome);
        return try_again(driver, invocation, number, delay);
    }
    let returned_value = returned.value;
    delivery.end_record(invocation, returned.outcome, at);
    let won = returned.value && delivery.manner.first && delivery.left > 0;
    let sitting =
        delivery.manner.parallel && delivery.records.iter().any(|r| r.sitting && r.phase == RecordPhase::Started);
    let watched = returned_value && state.has_watchers();
    drop(state);
    if watched {
        ending::ring_watchers(event);
    }
    if won {
        ending::end_losers(driver.bus, event, index, invocation, CauseKind::LostFirst);
    } else if sitting {
        ending::give_up_if_all_sit(driver.bus, event, index);
    }
    true
}

/// A handler was given up: its ender drives on. On a stack that waits for the delivery, this thread does.
fn goes_on_after_loss(driver: &Driver<'_>) -> bool {
    let state = driver.event.state().lock();
    state.deliveries.get(driver.delivery).is_some_and(|d| d.manner.inline && d.phase == DeliveryPhase::Active)
}

/// Another attempt: at once, or after a delay that occupies no thread.
fn try_again(driver: &Driver<'_>, invocation: usize, number: u32, delay: Duration) -> bool {
    let (bus, event, delivery) = (Arc::clone(driver.bus), driver.event.clone(), driver.delivery);
    let again = move || {
        let ready = event.state().lock().deliveries.get_mut(delivery).is_some_and(|d| d.retry(invocation, number));
        if ready {
            submit_resume(&bus, &event, delivery);
        }
    };
    if delay.is_zero() {
        let mut state = driver.event.state().lock();
        if let Some(delivery) = state.deliveries.get_mut(driver.delivery) {
            delivery.retry(invocation, number);
        }
        return true;
    }
    driver.bus.note_set_aside(driver.event, driver.delivery);
    driver.bus.runtime.watch.at(clock::after(clock::now(), delay), again);
    // Parallel handlers may still be there to be run.
    true
}
