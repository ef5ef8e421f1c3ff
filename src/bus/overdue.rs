//! What follows when the watch finds a handler past its deadline, or slow (`runtime/README.md`, 3.4).

use crate::bus::core::BusCore;
use crate::bus::ending::{cascade, drive_on, end_pauses, release_attempt, run_hooks, wait_for_next_attempt};
use crate::bus::frame;
use crate::bus::helpers::call_helpers;
use crate::bus::limits;
use crate::bus::recorder::By;
use crate::bus::registry::retry_for;
use crate::bus::tell;
use crate::bus::waits_for;
use crate::event::{
    AnyEvent, AttemptKey, Cause, CauseKind, Delay, DeliveryPhase, HandlerFailure, HandlerInfo, Outcome, RecordPhase,
    note_given_up,
};
use crate::runtime::{Job, Overdue, Overseer, Running, Slot, Worker};
use crate::sys::clock::{self, Tick};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{logging, planted};
use std::sync::Arc;
use std::time::Duration;

/// The worker is rung; and if the handler at the bottom of its stack was given up, its place in the pool is free.
pub(crate) fn give_up_worker(bus: &Arc<BusCore>, id: u64) {
    let Some(worker) = bus.runtime.pool.worker(id) else { return };
    let pool = &bus.runtime.pool;
    let mut abandoned = false;
    let slots = worker.slots();
    // Nothing is logged about what a logger has emitted; not that the worker comes back, either.
    // And a thread that waits for a process comes back as soon as that is ended, which happens now.
    let at_process = waits_for::is_at_a_process(&bus.runtime, id);
    let tells = !at_process && slots.first().is_none_or(|slot| !slot.event.head().is_from_logger());
    worker.if_bottom_is_dead(|| {
        abandoned = pool.abandon(&worker);
        worker.tells_return.store(abandoned && tells, Ordering::Relaxed);
    });
    worker.bell.ring();
    if abandoned && tells {
        let now = clock::now();
        logging::later!(Warn, move || {
            format!("worker {} ({id}) is abandoned: {}", worker.name, describe_stack(&slots, now))
        });
    }
}

fn handler_of(slot: &Slot) -> Option<HandlerInfo> {
    let state = slot.event.state().lock();
    state.deliveries.get(slot.delivery)?.handler(slot.running.invocation).cloned()
}

/// The handlers on a worker's stack, bottom first, in words.
fn describe_stack(slots: &[Slot], now: Tick) -> String {
    let mut text: Vec<String> = Vec::new();
    for slot in slots.iter().take(8) {
        let handler = handler_of(slot).map_or_else(|| "?".to_owned(), |info| info.label());
        let age = Duration::from_nanos(now.saturating_sub(slot.running.since));
        text.push(format!("{handler} on {} for {age:.1?}", slot.event));
    }
    if slots.len() > 8 {
        text.push(format!("and {} more above", slots.len() - 8));
    }
    text.join(", above it ")
}

/// Answers the watch, for the handlers of all buses.
pub(crate) struct OverdueHandlers;

impl Overseer for OverdueHandlers {
    fn overdue(&self, worker: &Arc<Worker>, slot: &Slot, what: Overdue) {
        overdue(worker, slot, what);
    }
}

/// The watch found something on a worker's stack. Decides here; everything else is the aftermath's.
pub(crate) fn overdue(worker: &Arc<Worker>, slot: &Slot, what: Overdue) {
    let identity = slot.event.state().lock().deliveries.get(slot.delivery).map(|d| Arc::clone(&d.bus));
    let Some(bus) = identity.and_then(|identity| BusCore::of(&identity)) else { return };
    let watch = Arc::clone(&bus.runtime.watch);
    match what {
        Overdue::Deadline => deadline_passed(&bus, worker, slot),
        Overdue::Alone => {
            let (event, delivery) = (slot.event.clone(), slot.delivery);
            watch.soon(move || call_helpers(&bus, &event, delivery));
        }
        Overdue::SlowHandler | Overdue::SlowEvent => {
            let slot = slot.clone();
            let worker = Arc::clone(worker);
            watch.soon(move || warn_slow(&bus, &worker, &slot, what));
        }
    }
}

fn warn_slow(bus: &Arc<BusCore>, worker: &Worker, slot: &Slot, what: Overdue) {
    if !slot.is_live(&slot.event.state().lock()) {
        return;
    }
    let now = clock::now();
    let awaited = waits_for::of_slot(&bus.runtime, worker, slot);
    let waits = move || awaited.map(|awaited| format!(", {awaited}")).unwrap_or_default();
    let (event, label) = (slot.event.clone(), Arc::clone(&bus.identity.label));
    if what == Overdue::SlowHandler {
        let Some(handler) = handler_of(slot) else { return };
        let age = Duration::from_nanos(now.saturating_sub(slot.running.since));
        logging::later!(Warn, of slot.event; move || format!(
            "slow handler: {} on {event} still running after {age:.1?} (bus {label}{})",
            handler.label(), waits()
        ));
    } else {
        let (begun, handlers) = {
            let state = slot.event.state().lock();
            let Some(delivery) = state.deliveries.get(slot.delivery) else { return };
            (delivery.begun, delivery.records.len())
        };
        let age = Duration::from_nanos(now.saturating_sub(begun));
        logging::later!(Warn, of slot.event; move || format!(
            "slow event: {event} on {label} still running after {age:.1?}, {handlers} handlers{}",
            waits()
        ));
    }
}

fn deadline_passed(bus: &Arc<BusCore>, worker: &Arc<Worker>, slot: &Slot) {
    let (event, index) = (&slot.event, slot.delivery);
    let Running { invocation, attempt, since, deadline, .. } = slot.running;
    let key = AttemptKey { delivery: index, invocation, attempt };
    if let Some(soon) = worker.told_of_panic(since)
        && worker.above(event, index).is_none()
    {
        // It is a panic, however long that takes to be told.
        let (bus, worker, slot) = (Arc::clone(bus), Arc::clone(worker), slot.clone());
        let watch = Arc::clone(&bus.runtime.watch);
        watch.at(soon, move || deadline_passed(&bus, &worker, &slot));
        return;
    }
    let ran = deadline.saturating_sub(since);
    let after = Duration::from_nanos(ran);
    let at = clock::now();
    // Looks at other events: before this one is locked.
    let detail: Option<Arc<str>> = waits_for::of_slot(&bus.runtime, worker, slot).map(Arc::from);
    let mut state = event.state().lock();
    let Some(delivery) = state.deliveries.get_mut(index) else { return };
    if !delivery.is_live(key.invocation, key.attempt) || deadline == delivery.cap() {
        // Back in time; or it is the event's cap, which has a timer of its own.
        return;
    }
    let Some(entry) = delivery.entry(key.invocation).cloned() else { return };
    let retry = delivery
        .slot()
        .and_then(|slot| retry_for(event, slot, key.invocation, &bus.defaults))
        .filter(|retry| key.attempt < retry.max_attempts())
        .cloned();
    note_given_up();
    if retry.is_some() {
        delivery.await_retry(key.invocation);
    } else {
        let failure = Arc::new(HandlerFailure::TimedOut { after, detail: detail.clone() });
        delivery.end_record(key.invocation, Outcome::Failed(failure), at);
    }
    let (hooks, pauses) = state.give_up(key);
    drop(state);
    worker.bell.ring();
    bus.recorder.handled_in(ran, By::Anybody);
    let cause = Cause::new(CauseKind::HandlerTimeout, event.head().id(), event.body().event_type())
        .with_handler(entry.info.id(), entry.info.label())
        .with_after(after);
    let (bus, event, worker) = (Arc::clone(bus), event.clone(), worker.id);
    Arc::clone(&bus.runtime.watch).soon(move || {
        give_up_worker(&bus, worker);
        if !planted("timeout_spares_children") {
            cascade(&event, index, Some(key.invocation), &cause);
        }
        if !planted("timeout_keeps_permit") {
            release_attempt(&bus, &event, key);
        }
        end_pauses(&event, pauses);
        if retry.is_none() {
            limits::settle(&bus.runtime, &event);
        }
        tell::deliver(&bus, &event);
        match retry {
            Some(retry) => decide_retry(&bus, &event, key, retry, HandlerFailure::TimedOut { after, detail }),
            None if planted("timeout_replaces_nobody") => {}
            None => drive_on(&bus, &event, index),
        }
        run_hooks(&bus, &event, hooks);
    });
}

/// After a timeout, on a thread of the pool since the filter is the user's.
fn decide_retry(
    bus: &Arc<BusCore>,
    event: &AnyEvent,
    key: AttemptKey,
    retry: crate::event::Retry,
    failure: HandlerFailure,
) {
    let (bus, event) = (Arc::clone(bus), event.clone());
    let pool = Arc::clone(&bus.runtime.pool);
    let (of, lane) = (event.clone(), bus.lane);
    let decide = move |_: &Arc<Worker>| {
        let again = frame::callback(|| retry.retryable(&failure)).unwrap_or_else(|panic| {
            let of = event.clone();
            logging::later!(Error, of event; move || format!("the retry filter of a handler of {of} panicked: {panic}"));
            false
        });
        if again {
            let delay = retry.delay_before(key.attempt + 1, crate::sys::random::fraction());
            if delay.is_zero() {
                let ready = event.state().lock().end_delay(key);
                if ready {
                    drive_on(&bus, &event, key.delivery);
                }
                return;
            }
            let at = clock::after(clock::now(), delay);
            wait_for_next_attempt(&bus, &event, Delay::new(key, Arc::new(failure), true), at, drive_on);
            return;
        }
        let at = clock::now();
        {
            let mut state = event.state().lock();
            let Some(delivery) = state.deliveries.get_mut(key.delivery) else { return };
            let waits = delivery.records[key.invocation].phase == RecordPhase::Delayed;
            if delivery.phase != DeliveryPhase::Active || !waits {
                return;
            }
            delivery.end_record(key.invocation, Outcome::Failed(Arc::new(failure)), at);
        }
        limits::settle(&bus.runtime, &event);
        drive_on(&bus, &event, key.delivery);
        tell::deliver(&bus, &event);
    };
    pool.submit_granted(Job::of(&of, lane, Box::new(decide)));
}
