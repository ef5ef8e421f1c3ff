//! One attempt of one handler on the calling thread: the user's code, and how it ended.

use crate::bus::drive::{Driver, Via};
use crate::bus::ending;
use crate::bus::frame;
use crate::bus::limits;
use crate::bus::recorder::By;
use crate::bus::start::Attempt;
use crate::bus::tell;
use crate::bus::turn::submit_resume;
use crate::event::{AnyOutput, CauseKind, HandlerEntry, HandlerFailure, Outcome, RecordPhase, Retry, State};
use crate::sys::clock;
use crate::sys::sync::atomic::Ordering;
use crate::sys::{planted, random, unwind};
use std::sync::Arc;
use std::time::Duration;

/// How a handler came back.
pub(crate) struct Returned {
    outcome: Outcome,
    /// Before which another attempt is due.
    retry: Option<Duration>,
}

/// The attempt was given up before its handler came back; nobody wants what it returned.
pub(crate) struct Lost {
    pub(crate) outcome: Outcome,
}

/// What an attempt's end leaves to do once nothing is locked.
pub(crate) enum Ended {
    Retry { delay: Duration, outcome: Outcome },
    Notable { watched: bool, won: bool, sitting: bool, limited: bool },
}

/// The user's code, with everything it may do to us.
pub(crate) fn call(driver: &Driver<'_>, attempt: Attempt) -> Returned {
    let event = driver.event;
    let entry = &*driver.slot.handlers[attempt.invocation].entry;
    let called = unwind::catch(|| match (entry.call)(event) {
        Ok(None) => Ok(Outcome::None),
        Ok(Some(output)) => accept(driver, entry, output).map_or_else(|f| Err((f, false)), |o| Ok(Outcome::Value(o))),
        Err(error) => {
            let permanent = error.is_permanent();
            Err((error.into_failure(), permanent))
        }
    });
    let (failure, permanent) = match called {
        Ok(Ok(outcome)) => return Returned { outcome, retry: None },
        Ok(Err(failed)) => failed,
        Err(panic) => {
            log::debug!(target: "threadbus", "{} panicked on {event}: {panic}", entry.info.label());
            (HandlerFailure::Panicked(panic), false)
        }
    };
    let retry = if permanent { None } else { retry_after(driver, entry, attempt, &failure) };
    Returned { outcome: Outcome::Failed(Arc::new(failure)), retry }
}

fn accept(driver: &Driver<'_>, entry: &HandlerEntry, output: AnyOutput) -> Result<AnyOutput, HandlerFailure> {
    if entry.typed { Ok(output) } else { driver.event.body().accept(output) }
}

/// How long to wait before the next attempt, if there is to be one. Asks the user's filter; a panic in it means no.
fn retry_after(
    driver: &Driver<'_>,
    entry: &HandlerEntry,
    attempt: Attempt,
    failure: &HandlerFailure,
) -> Option<Duration> {
    let Attempt { invocation, number, .. } = attempt;
    let retry = retry_of(driver, entry)?;
    // Nobody asks about an attempt that was given up already.
    let is_live = || {
        let state = driver.event.state().lock();
        state.deliveries.get(driver.delivery).is_some_and(|d| d.is_live(invocation, number))
    };
    if number >= retry.max_attempts() || !is_live() {
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
    let own = driver.event.head().options().and_then(|o| o.retry.as_ref());
    own.or(driver.slot.options.retry.as_ref()).or(entry.options.retry.as_ref()).or(driver.bus.defaults.retry.as_ref())
}

/// Under the event's lock: the end of the attempt, if it is still ours to end.
pub(crate) fn end(
    driver: &Driver<'_>,
    state: &mut State,
    attempt: Attempt,
    returned: Returned,
) -> Result<Option<Ended>, Lost> {
    let Attempt { invocation, number, since, .. } = attempt;
    let Returned { outcome, retry } = returned;
    let wanted = state.value_wanted();
    let Some(delivery) = state.deliveries.get_mut(driver.delivery) else { return Err(Lost { outcome }) };
    if !delivery.is_live(invocation, number) && !planted("late_result_accepted") {
        return Err(Lost { outcome });
    }
    let value = matches!(outcome, Outcome::Value(_));
    if value
        && delivery.manner.first
        && !planted("two_winners")
        && delivery.records.iter().any(|r| matches!(r.outcome, Outcome::Value(_)))
    {
        // Another was first, and is about to end this one.
        return Err(Lost { outcome });
    }
    if planted("panic_not_counted_down")
        && matches!(&outcome, Outcome::Failed(f) if matches!(**f, HandlerFailure::Panicked(_)))
    {
        return Err(Lost { outcome });
    }
    driver
        .bus
        .recorder
        .handled_in(driver.now.saturating_sub(since), if driver.via == Via::Loop { By::Loop } else { By::Anybody });
    if let Some(delay) = retry {
        delivery.set_aside(invocation);
        return Ok(Some(Ended::Retry { delay, outcome }));
    }
    if number > 1 && !delivery.redrive && !matches!(outcome, Outcome::Failed(_)) {
        driver.bus.recorder.recovered();
    }
    delivery.end_record(invocation, outcome, clock::wall(driver.now));
    let won = value && delivery.manner.first && delivery.left > 0;
    let sitting = delivery.manner.parallel
        && delivery.has_sat
        && delivery.records.iter().any(|r| r.sitting && r.phase == RecordPhase::Started);
    // Whoever waits for the first value; the end of the delivery rings by itself.
    let watched = value && wanted && delivery.left > 0;
    let limited = delivery.limited && delivery.left > 0;
    let notable = won || sitting || watched || limited;
    tell::note(driver.bus, state, driver.event);
    Ok(notable.then_some(Ended::Notable { watched, won, sitting, limited }))
}

impl Ended {
    pub(crate) fn follow_up(self, driver: &Driver<'_>, attempt: Attempt) {
        match self {
            Ended::Retry { delay, outcome } => {
                unwind::drop_quietly(outcome);
                try_again(driver, attempt, delay);
            }
            Ended::Notable { watched, won, sitting, limited } => {
                if limited {
                    limits::settle(&driver.bus.runtime, driver.event);
                    limits::set_down_in_line(driver.bus, driver.event, driver.delivery);
                }
                if watched {
                    ending::ring_watchers(driver.event);
                }
                if won {
                    ending::end_losers(
                        driver.bus,
                        driver.event,
                        driver.delivery,
                        attempt.invocation,
                        CauseKind::LostFirst,
                    );
                } else if sitting {
                    ending::give_up_if_all_sit(driver.bus, driver.event, driver.delivery);
                }
            }
        }
    }
}

pub(crate) fn note_lost(driver: &Driver<'_>, outcome: Outcome) {
    driver.bus.counters.late_results.fetch_add(1, Ordering::Relaxed);
    log::debug!(target: "threadbus", "a late result of {} on {} was dropped", driver.event, driver.bus.label());
    unwind::drop_quietly(outcome);
}

/// Another attempt: at once, or after a delay that occupies no thread.
fn try_again(driver: &Driver<'_>, attempt: Attempt, delay: Duration) {
    let Attempt { invocation, number, .. } = attempt;
    let (bus, event, delivery) = (Arc::clone(driver.bus), driver.event.clone(), driver.delivery);
    if delay.is_zero() {
        if let Some(delivery) = event.state().lock().deliveries.get_mut(delivery) {
            delivery.retry(invocation, number);
        }
        return;
    }
    driver.bus.note_set_aside(driver.event, delivery);
    let (runtime, kept) = (Arc::clone(&bus.runtime), event.clone());
    let timer = runtime.watch.at(clock::after(clock::now(), delay), move || {
        let ready = event.state().lock().deliveries.get_mut(delivery).is_some_and(|d| d.retry(invocation, number));
        if ready {
            submit_resume(&bus, &event, delivery);
        }
    });
    ending::keep_timer(&runtime, &kept, delivery, timer);
}
