//! One attempt of one handler on the calling thread: the user's code, and how it ended.

use crate::bus::core::delivery::DeliveryRef;
use crate::bus::end::complete::ring_watchers;
use crate::bus::end::next_attempt::ask_filter;
use crate::bus::parts::for_event::retry_for;
use crate::bus::parts::recorder::By;
use crate::bus::permits::limits;
use crate::bus::run::driver::{Driver, Via};
use crate::bus::run::start::Attempt;
use crate::bus::thread::frame;
use crate::event::{AnyEvent, Delay, DeliveryPhase, HandlerEntry, HandlerFailure, Outcome, RecordPhase, State};
use crate::sys::clock::Stamp;
use crate::sys::sync::atomic::Ordering;
use crate::sys::{logging, planted, unwind};
use std::sync::Arc;
use std::time::Duration;

/// How a handler came back. Filled where it stays, since handing it on takes longer than most handlers.
#[derive(Default)]
pub(crate) struct Returned {
    outcome: Outcome,
    /// Before which another attempt is due.
    retry: Option<Duration>,
}

/// How an attempt's end came out, for its own thread. These are no duties of the delivery: some of them are changes, which have duties of
/// their own, and the thread looks at the event again when they are done.
#[derive(Clone, Copy)]
pub(crate) enum Ended {
    Quietly,
    /// The attempt was given up before its handler came back; nobody wants what it returned.
    Lost,
    Retry(Duration),
    Notable {
        watched: bool,
        won: bool,
        others_wait: bool,
        limited: bool,
        hooked: bool,
    },
}

/// The user's code, with everything it may do to us.
#[inline(always)]
pub(crate) fn call(driver: &Driver<'_>, into: &mut Returned) {
    let (event, attempt) = (driver.delivery.event, driver.attempt);
    let handler = &driver.slot.handlers[attempt.invocation];
    if attempt.deadline == 0 {
        return time_is_up(driver, &handler.entry, into);
    }
    let mut failed = None;
    let outcome = &mut into.outcome;
    let called = unwind::catch(|| match (handler.call)(event, outcome) {
        Ok(()) if handler.typed => {}
        Ok(()) => failed = accept(event, outcome).err().map(|failure| (failure, false)),
        Err(error) => {
            let permanent = error.is_permanent();
            failed = Some((error.into_failure(), permanent));
        }
    });
    if let Err(panic) = called {
        // In the attempt's own time, as if the handler said it.
        logging::debug!(of event; "{} panicked on {event}: {panic}", handler.entry.info.label());
        failed = Some((HandlerFailure::Panicked(panic), false));
    }
    let Some((failure, permanent)) = failed else { return };
    if permanent {
        note_permanent(driver);
    } else {
        into.retry = retry_after(driver, &handler.entry, attempt, &failure);
    }
    into.outcome = Outcome::Failed(Arc::new(failure));
}

/// For its letter, and for the bus's health.
#[cold]
fn note_permanent(driver: &Driver<'_>) {
    let Attempt { invocation, number, .. } = driver.attempt;
    let mut state = driver.delivery.event.state().lock();
    let delivery = driver.delivery.in_state_mut(&mut state).filter(|d| d.is_live(invocation, number));
    if let Some(record) = delivery.and_then(|d| d.records.get_mut(invocation)) {
        record.permanent = true;
    }
}

/// Its timeout is zero: up at once, and nobody but this thread ends it.
#[cold]
fn time_is_up(driver: &Driver<'_>, entry: &HandlerEntry, into: &mut Returned) {
    let failure = HandlerFailure::TimedOut { after: Duration::ZERO, detail: None };
    into.retry = retry_after(driver, entry, driver.attempt, &failure);
    into.outcome = Outcome::Failed(Arc::new(failure));
}

/// What an untyped handler returned becomes the event's own output.
fn accept(event: &AnyEvent, outcome: &mut Outcome) -> Result<(), HandlerFailure> {
    if let Outcome::Value(output) = std::mem::take(outcome) {
        *outcome = Outcome::Value(event.body().accept(output)?);
    }
    Ok(())
}

/// How long to wait before the next attempt, if there is to be one. Asks the user's filter; a panic in it means no.
fn retry_after(
    driver: &Driver<'_>,
    entry: &HandlerEntry,
    attempt: Attempt,
    failure: &HandlerFailure,
) -> Option<Duration> {
    let Attempt { invocation, number, .. } = attempt;
    let retry = retry_for(driver.delivery.event, driver.slot, invocation, &driver.delivery.bus.defaults)?;
    // Nobody asks about an attempt that was given up already.
    let is_live = || {
        let state = driver.delivery.event.state().lock();
        driver.delivery.in_state(&state).is_some_and(|d| d.is_live(invocation, number))
    };
    if number >= retry.max_attempts() || !is_live() {
        return None;
    }
    match ask_filter(retry, number, failure) {
        // A shutdown that drains waits for no delay: this was the last attempt.
        Ok(after) => after.filter(|delay| delay.is_zero() || !driver.delivery.bus.hurries.load(Ordering::SeqCst)),
        Err(panic) => {
            logging::error!(of driver.delivery.event; "the retry filter of {} panicked: {panic}", entry.info.label());
            None
        }
    }
}

/// Under the event's lock: the end of the attempt at `at`, if it is still ours to end.
#[inline(always)]
pub(crate) fn end(driver: &Driver<'_>, state: &mut State, returned: &mut Returned, at: Stamp) -> Ended {
    let Attempt { invocation, number, since, .. } = driver.attempt;
    let (wanted, hooked) = state.wanted_and_hooked(driver.key());
    let Some(delivery) = driver.delivery.in_state_mut(state) else { return Ended::Lost };
    if !delivery.is_live(invocation, number) && !planted("late_result_accepted") {
        return Ended::Lost;
    }
    let value = matches!(returned.outcome, Outcome::Value(_));
    if value
        && delivery.manner.first
        && !planted("two_winners")
        && delivery.records.iter().any(|r| matches!(r.outcome, Outcome::Value(_)))
    {
        // Another was first, and is about to end this one.
        return Ended::Lost;
    }
    if planted("panic_not_counted_down")
        && matches!(&returned.outcome, Outcome::Failed(f) if matches!(**f, HandlerFailure::Panicked(_)))
    {
        return Ended::Lost;
    }
    let by = if driver.via == Via::Loop { By::Loop } else { By::Anybody };
    driver.delivery.bus.recorder.handled_in(driver.now.saturating_sub(since), by);
    if let Some(delay) = returned.retry.take() {
        delivery.await_retry(invocation);
        return Ended::Retry(delay);
    }
    let outcome = std::mem::take(&mut returned.outcome);
    if number > 1 && !delivery.redrive && !matches!(outcome, Outcome::Failed(_)) {
        driver.delivery.bus.recorder.recovered();
    }
    delivery.end_record(invocation, outcome, at);
    let more = delivery.left > 0;
    let won = value && more && delivery.manner.first;
    let others_wait = delivery.has_set_down
        && delivery.manner.parallel
        && delivery.records.iter().any(|r| r.has_set_down && r.phase == RecordPhase::Started);
    // Whoever waits for the first value; the end of the delivery rings by itself.
    let watched = value && more && wanted;
    let limited = more && delivery.limited;
    if won || others_wait || watched || limited || hooked {
        return Ended::Notable { watched, won, others_wait, limited, hooked };
    }
    Ended::Quietly
}

/// With nothing locked, what an attempt's end leaves to do. True if this thread goes on driving.
#[cold]
pub(crate) fn follow_up(driver: &Driver<'_>, ended: Ended, returned: &mut Returned) -> bool {
    let delivery = driver.delivery;
    let DeliveryRef { bus, event, .. } = delivery;
    match ended {
        Ended::Quietly => {}
        Ended::Lost => {
            bus.counters.late_results.fetch_add(1, Ordering::Relaxed);
            let (late, of) = (event.clone(), Arc::clone(&bus.identity.label));
            logging::later!(Debug, of event; move || format!("a late result of {late} on {of} was dropped"));
            frame::let_go(std::mem::take(returned));
            if driver.slot.handlers[driver.attempt.invocation].limited {
                limits::has_returned(bus, event, driver.key());
            }
            // A shutdown may wait for it to come back.
            bus.ring_idlers();
            // Its ender drives on. On a stack that waits for the delivery, this thread does.
            let state = event.state().lock();
            return delivery.in_state(&state).is_some_and(|d| d.manner.inline && d.phase == DeliveryPhase::Active);
        }
        Ended::Retry(delay) => {
            let Returned { outcome, .. } = std::mem::take(returned);
            drop_hooks(driver);
            if let Outcome::Failed(failure) = outcome {
                delivery.try_again(Delay::after_failure(driver.key(), failure), delay);
            }
            // After a delay a job goes on, under the delivery's own turn: on this stack there may only be a lent one.
            return delay.is_zero() || driver.fixed.manner.parallel || planted("retry_under_a_lent_turn");
        }
        Ended::Notable { watched, won, others_wait, limited, hooked } => {
            if hooked {
                drop_hooks(driver);
            }
            if limited {
                limits::settle(&bus.runtime, event);
                delivery.set_down_in_line();
                // What is left may stand in a line.
                let mut state = event.state().lock();
                if delivery.in_state_mut(&mut state).is_some_and(|d| d.startable().is_none()) {
                    delivery.wait_begins(&mut state, None);
                }
            }
            if watched {
                ring_watchers(event);
            }
            if won {
                delivery.end_losers(driver.attempt.invocation);
            } else if others_wait {
                delivery.set_down_if_all_wait();
            }
        }
    }
    true
}

/// What the attempt's hooks were for can no longer come. Dropping them is the user's code, which no more waits than running them.
fn drop_hooks(driver: &Driver<'_>) {
    let hooks = driver.delivery.event.state().lock().unhook_all(driver.key());
    if !hooks.is_empty() {
        let _ = frame::callback(|| unwind::drop_each(hooks));
    }
}
