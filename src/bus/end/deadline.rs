//! What follows when the watch finds a handler past its deadline, or slow, or an event past its cap (`README.md`, *Deadlines*).

use crate::bus::core::BusCore;
use crate::bus::core::delivery::DeliveryRef;
use crate::bus::end::abandon::handler_of;
use crate::bus::end::cancel::{Ending, Slots, cascade, end_delivery};
use crate::bus::end::duties::{Duties, GivenUp, GoesOn};
use crate::bus::end::in_words;
use crate::bus::end::next_attempt::ask_filter;
use crate::bus::parts::for_event::retry_for;
use crate::bus::parts::recorder::By;
use crate::event::{
    AttemptKey, Cause, CauseKind, Delay, DeliveryPhase, HandlerFailure, Outcome, RecordPhase, Retry, note_given_up,
};
use crate::runtime::{Job, Overdue, Overseer, Running, Slot, Worker};
use crate::sys::clock::{self, Tick};
use crate::sys::{logging, planted};
use std::sync::Arc;
use std::time::Duration;

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
            let (event, index) = (slot.event.clone(), slot.delivery);
            watch.soon(move || bus.delivery(&event, index).call_helpers());
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
    let awaited = in_words::of_slot(&bus.runtime, worker, slot);
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
    let detail: Option<Arc<str>> = in_words::of_slot(&bus.runtime, worker, slot).map(Arc::from);
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
    let mut given_up = GivenUp::of(&mut state, vec![(key, worker.id)]);
    drop(state);
    worker.bell.ring();
    bus.recorder.handled_in(ran, By::Anybody);
    let cause = Cause::new(CauseKind::HandlerTimeout, event.head().id(), event.body().event_type())
        .with_handler(entry.info.id(), entry.info.label())
        .with_after(after);
    let (bus, event) = (Arc::clone(bus), event.clone());
    let limits = retry.is_none();
    if let (Some(given_up), Some(retry)) = (&mut given_up, retry) {
        let failure = HandlerFailure::TimedOut { after, detail };
        given_up.retry = Some(decide_retry(bus.delivery(&event, index), key, retry, failure));
    }
    let goes_on = if planted("timeout_replaces_nobody") { GoesOn::ByItself } else { GoesOn::DrivenOn };
    let duties = Duties { given_up, limits, goes_on, ..Duties::default() };
    Arc::clone(&bus.runtime.watch).soon(move || {
        if !planted("timeout_spares_children") {
            cascade(&event, index, Some(key.invocation), &cause);
        }
        duties.carry_out(bus.delivery(&event, index));
    });
}

/// After a timeout, for a thread of the pool since the filter is the user's.
fn decide_retry(delivery: DeliveryRef<'_>, key: AttemptKey, retry: Retry, failure: HandlerFailure) -> Job {
    let (bus, event) = (Arc::clone(delivery.bus), delivery.event.clone());
    let (of, lane) = (event.clone(), bus.lane);
    let decide = move |_: &Arc<Worker>| {
        let own = bus.delivery(&event, key.delivery);
        let again = ask_filter(&retry, key.attempt, &failure).unwrap_or_else(|panic| {
            let of = event.clone();
            logging::later!(Error, of event; move || format!("the retry filter of a handler of {of} panicked: {panic}"));
            None
        });
        if let Some(delay) = again {
            if own.try_again(Delay::after_timeout(key, Arc::new(failure)), delay) {
                own.drive_on();
            }
            return;
        }
        let at = clock::now();
        {
            let mut state = event.state().lock();
            let Some(delivery) = own.in_state_mut(&mut state) else { return };
            let waits = delivery.records[key.invocation].phase == RecordPhase::Delayed;
            if delivery.phase != DeliveryPhase::Active || !waits {
                return;
            }
            delivery.end_record(key.invocation, Outcome::Failed(Arc::new(failure)), at);
        }
        Duties { limits: true, goes_on: GoesOn::DrivenOn, ..Duties::default() }.carry_out(own);
    };
    Job::of(&of, lane, Box::new(decide))
}

/// On the aftermath thread.
fn cap_passed(delivery: DeliveryRef<'_>, cap: Tick) {
    let DeliveryRef { bus, event, index } = delivery;
    let (workers, begun): (Vec<u64>, Tick) = {
        let state = event.state().lock();
        let Some(delivery) = delivery.in_state(&state).filter(|d| d.phase == DeliveryPhase::Active) else { return };
        let running = delivery.records.iter().filter(|r| r.phase == RecordPhase::Started);
        (running.map(|r| r.worker).collect(), delivery.begun)
    };
    let panics = |id: u64| bus.runtime.pool.worker(id)?.told_of_panic(begun);
    if let Some(soon) = workers.into_iter().filter_map(panics).min() {
        // One of its handlers has panicked, and is not timed out, however long that takes to be told.
        let (own, of) = (Arc::clone(bus), event.clone());
        bus.runtime.watch.at(soon, move || cap_passed(own.delivery(&of, index), cap));
        return;
    }
    let at = clock::now();
    let mut state = event.state().lock();
    let begun = delivery.in_state(&state).map_or(cap, |d| d.begun);
    let cause = Cause::new(CauseKind::EventTimeout, event.head().id(), event.body().event_type())
        .with_after(Duration::from_nanos(cap.saturating_sub(begun)));
    let ended = end_delivery(&mut state, event, index, &Slots::new(), Ending { cause: &cause, at });
    drop(state);
    if let Some(ended) = ended {
        cascade(event, index, None, &cause);
        ended.carry_out();
        let (of, label) = (event.clone(), Arc::clone(&bus.identity.label));
        logging::later!(Debug, of event; move || format!("{of} on {label} met its timeout"));
    }
}

impl DeliveryRef<'_> {
    /// The watch watches its event's cap on its bus, whatever of it runs then.
    pub(crate) fn watch_cap(self, cap: Tick) {
        let DeliveryRef { bus, event, index } = self;
        let (weak_bus, weak) = (Arc::downgrade(bus), event.downgrade());
        let timer = bus.runtime.watch.at(cap, move || {
            if let (Some(bus), Some(event)) = (weak_bus.upgrade(), weak.upgrade()) {
                cap_passed(bus.delivery(&event, index), cap);
            }
        });
        let stale = {
            let mut state = event.state().lock();
            match self.in_state_mut(&mut state) {
                Some(delivery) if delivery.phase == DeliveryPhase::Active => {
                    delivery.set_cap_timer(timer);
                    false
                }
                _ => true,
            }
        };
        if stale {
            bus.runtime.watch.cancel(timer);
        }
    }
}
