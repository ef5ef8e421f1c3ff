//! Telling middlewares what happens (`runtime/README.md`, 3.9): what is due is written down under the event's lock, and told outside of
//! all locks by whoever finds that nobody else is at it.
//!
//! What is due is worked out by comparing the event with what was last written down. So a change that two places look at is told once,
//! and one that a place forgets is told by the next, late but in order.

use crate::bus::claimable;
use crate::bus::core::BusCore;
use crate::bus::core::EventBus;
use crate::bus::frame;
use crate::bus::listener::Listener;
use crate::bus::results::{result_of, status_of};
use crate::event::{
    AnyEvent, BusIdentity, Delivery, DeliveryPhase, EventStatus, HandlerResult, Lane, Notice, Of, Record, ResultStatus,
    State, Unrun,
};
use crate::runtime::{Job, Worker, is_service_thread};
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::{logging, planted, thread, unwind};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::sync::Arc;

thread::local! {
    /// The middlewares that this thread is inside of, each by its bus and its place there.
    static INSIDE: RefCell<SmallVec<[(u64, usize); 2]>> = RefCell::new(SmallVec::new());
}

/// On a thread that a middleware's call is on, or a logger's: both come where more may be held than can be waited for.
pub(crate) fn is_inside() -> bool {
    logging::is_inside() || INSIDE.try_with(|inside| !inside.borrow().is_empty()).unwrap_or(false)
}

/// On a thread that a call of this one middleware is on.
pub(crate) fn is_inside_of(bus: &BusCore, at: usize) -> bool {
    INSIDE.try_with(|inside| inside.borrow().contains(&(bus.serial, at))).unwrap_or(true)
}

impl BusCore {
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        !self.middlewares.is_empty()
    }

    /// Everything that happened is told.
    pub(crate) fn has_told_all(&self) -> bool {
        !self.is_watched() || self.identity.notices.as_ref().is_none_or(|notices| notices.is_settled())
    }
}

// Under the event's lock.

/// The bus takes the event, as this delivery.
#[inline]
pub(crate) fn enter(bus: &BusCore, state: &State, event: &AnyEvent, delivery: usize) {
    if let (true, Some(notices)) = (bus.is_watched(), &bus.identity.notices) {
        let redrive = state.deliveries.get(delivery).is_some_and(|d| d.redrive);
        notices.enter(event.head().stamp(), delivery, redrive, |lane| look(lane, state, event));
    }
}

/// The same for a new event, as its first delivery; locks it only if it must. `Some` if it is to be delivered once nothing is locked.
#[inline]
pub(crate) fn enter_new(bus: &BusCore, event: &AnyEvent) -> Option<AnyEvent> {
    bus.is_watched().then(|| {
        enter(bus, &event.state().lock(), event, 0);
        event.clone()
    })
}

/// Something may have changed on the event.
#[inline]
pub(crate) fn note(bus: &BusCore, state: &State, event: &AnyEvent) {
    if bus.is_watched() || state.deliveries.are_many() {
        note_everywhere(state, event);
    }
}

/// The same if it is not known which bus it was.
pub(crate) fn note_everywhere(state: &State, event: &AnyEvent) {
    let stamp = event.head().stamp();
    for delivery in state.deliveries.iter() {
        if let Some(notices) = &delivery.bus.notices {
            notices.look(Of::Event(stamp), |lane| look(lane, state, event));
        }
    }
}

/// Writes down what is new: first that results exist, then that the event started, then how results went on, last that it is complete.
fn look(lane: &mut Lane, state: &State, event: &AnyEvent) {
    if lane.told.is_none() {
        lane.told = Some(EventStatus::Pending);
        lane.push(Notice::Event(EventStatus::Pending));
    }
    let mut parts = std::mem::take(&mut lane.parts);
    let mut begun = false;
    for part in &mut parts {
        let Some(delivery) = state.deliveries.get(part.delivery) else { continue };
        begun |= has_begun(delivery);
        part.done = delivery.phase == DeliveryPhase::Done;
        for at in part.told.len()..delivery.records.len() {
            part.told.push(ResultStatus::Pending);
            push_result(lane, state, event, (part.delivery, at), ResultStatus::Pending);
        }
    }
    if begun && lane.told == Some(EventStatus::Pending) {
        lane.told = Some(EventStatus::Started);
        lane.push(Notice::Event(EventStatus::Started));
    }
    for part in &mut parts {
        let Some(delivery) = state.deliveries.get(part.delivery) else { continue };
        let mut ended: SmallVec<[usize; 4]> = SmallVec::new();
        for (at, (record, told)) in delivery.records.iter().zip(&mut part.told).enumerate() {
            if is_final(*told) {
                continue;
            }
            if *told == ResultStatus::Pending && record.started != 0 {
                *told = ResultStatus::Started;
                push_result(lane, state, event, (part.delivery, at), ResultStatus::Started);
            }
            if is_final(status_of(record)) {
                *told = status_of(record);
                ended.push(at);
            }
        }
        ended.sort_by_key(|at| delivery.records[*at].ended);
        for at in ended {
            push_result(lane, state, event, (part.delivery, at), part.told[at]);
        }
    }
    let done = parts.iter().all(|part| part.done);
    lane.parts = parts;
    if state.complete && done && lane.told != Some(EventStatus::Completed) {
        lane.told = Some(EventStatus::Completed);
        lane.push(Notice::Event(EventStatus::Completed));
    }
    lane.over = state.complete && done;
}

fn has_begun(delivery: &Delivery) -> bool {
    let without_handlers =
        delivery.phase == DeliveryPhase::Done && delivery.records.is_empty() && delivery.unrun == Unrun::No;
    delivery.anything_started() || without_handlers
}

fn is_final(status: ResultStatus) -> bool {
    matches!(status, ResultStatus::Completed | ResultStatus::Error)
}

/// As it was when it came to `status`, which it may have passed.
fn push_result(lane: &mut Lane, state: &State, event: &AnyEvent, of: (usize, usize), status: ResultStatus) {
    let Some(delivery) = state.deliveries.get(of.0) else { return };
    let (Some(record), Some(handler)) = (delivery.records.get(of.1), delivery.handler(of.1)) else { return };
    let record: &Record = record;
    let mut result = result_of(event, state, of, record, handler.clone());
    if result.status != status {
        let started = if status == ResultStatus::Started { result.started_at } else { None };
        let attempts = u32::from(started.is_some());
        let (value, error, completed_at, children) = (None, None, None, Vec::new());
        result =
            HandlerResult { status, value, error, attempts, started_at: started, completed_at, children, ..result };
    }
    lane.push(Notice::Result(Box::new(result)));
}

// With nothing locked.

/// Tells what is written down of the event on this bus, unless somebody else is at it.
#[inline]
pub(crate) fn deliver(bus: &Arc<BusCore>, event: &AnyEvent) {
    if bus.is_watched() {
        deliver_here_or_later(bus, Some(event));
    }
}

/// The same on all buses that the event is on.
pub(crate) fn deliver_everywhere(event: &AnyEvent) {
    let buses = watched_by(&event.state().lock());
    deliver_to(&buses, event);
}

pub(crate) fn deliver_to(buses: &[Arc<BusIdentity>], event: &AnyEvent) {
    for bus in buses.iter().filter_map(|identity| BusCore::of(identity)) {
        deliver(&bus, event);
    }
}

/// The same of handlers that came or went.
pub(crate) fn deliver_handlers(bus: &Arc<BusCore>) {
    if bus.is_watched() {
        deliver_here_or_later(bus, None);
    }
}

/// The same where the caller may be anywhere, and has nothing to do with this bus.
pub(crate) fn deliver_handlers_elsewhere(bus: &Arc<BusCore>) {
    if bus.identity.notices.as_ref().is_some_and(|notices| notices.is_waiting(Of::Handlers)) {
        let kept = Arc::clone(bus);
        bus.runtime.pool.submit_granted(Job::new(bus.lane, move |_| deliver_here(&kept, None)));
    }
}

/// The buses of the event that have middlewares.
pub(crate) fn watched_by(state: &State) -> SmallVec<[Arc<BusIdentity>; 1]> {
    let watched = state.deliveries.iter().filter(|delivery| delivery.bus.notices.is_some());
    watched.map(|delivery| Arc::clone(&delivery.bus)).collect()
}

fn whose(event: Option<&AnyEvent>) -> Of {
    event.map_or(Of::Handlers, |event| Of::Event(event.head().stamp()))
}

/// Not on a thread that must run no user code, nor inside of a middleware, where one call could set off the next without end.
#[cold]
fn deliver_here_or_later(bus: &Arc<BusCore>, event: Option<&AnyEvent>) {
    let Some(notices) = &bus.identity.notices else { return };
    if !notices.is_waiting(whose(event)) {
        return;
    }
    if !is_service_thread() && !is_inside() {
        return deliver_here(bus, event);
    }
    let (kept, event) = (Arc::clone(bus), event.cloned());
    let of = event.clone();
    let work = move |_: &Arc<Worker>| deliver_here(&kept, event.as_ref());
    bus.runtime.pool.submit_granted(match &of {
        Some(of) => Job::of(of, bus.lane, Box::new(work)),
        None => Job::new(bus.lane, work),
    });
}

fn deliver_here(bus: &Arc<BusCore>, event: Option<&AnyEvent>) {
    let Some(notices) = &bus.identity.notices else { return };
    let of = whose(event);
    while let Some(batch) = notices.take(of) {
        let handle = EventBus::from_core(Arc::clone(bus));
        let count = batch.len();
        for notice in &batch {
            for (at, middleware) in bus.middlewares.0.iter().enumerate() {
                tell(bus, &handle, at, &**middleware, event, notice);
            }
        }
        // Results hold values of the user's; and the handle may be the last.
        // Somebody may wait until this thread has told the rest.
        let _ = frame::callback(|| unwind::drop_each(batch));
        frame::let_go(handle);
        if notices.told(of, count) {
            bus.ring_idlers();
        }
        if planted("teller_looks_once") {
            return;
        }
    }
}

fn tell(
    bus: &BusCore,
    handle: &EventBus,
    at: usize,
    middleware: &dyn Listener<EventBus>,
    event: Option<&AnyEvent>,
    notice: &Notice,
) {
    let _ = match (notice, event) {
        (Notice::Event(status), Some(event)) => {
            call(bus, at, Some(event), "on_event_change", || middleware.event_changed(handle, event, *status))
        }
        (Notice::Result(result), Some(event)) => {
            call(bus, at, Some(event), "on_result_change", || middleware.result_changed(handle, event, result))
        }
        (Notice::Handler(info, registered), _) => {
            call(bus, at, None, "on_handlers_change", || middleware.handlers_changed(handle, info, *registered))
        }
        _ => Ok(()),
    };
}

/// One call of one middleware. The text of a panic, which is told, is the error.
pub(crate) fn call<R>(
    bus: &BusCore,
    at: usize,
    event: Option<&AnyEvent>,
    what: &str,
    body: impl FnOnce() -> R,
) -> Result<R, String> {
    let _ = INSIDE.try_with(|inside| inside.borrow_mut().push((bus.serial, at)));
    let context = event.and_then(|event| event.head().context().cloned());
    let called = frame::callback_apart(context, body);
    let _ = INSIDE.try_with(|inside| inside.borrow_mut().pop());
    called.inspect_err(|panic| match event {
        Some(event) => logging::error!(of event;
            "a middleware of {} panicked in {what} of {event}: {panic}", bus.label()
        ),
        None => logging::error!("a middleware of {} panicked in {what}: {panic}", bus.label()),
    })
}

/// The same on the one bus that it is on.
#[inline]
pub(crate) fn wait_told_by(bus: &BusCore, event: &AnyEvent) {
    if bus.is_watched() {
        wait_told(event, std::slice::from_ref(&bus.identity), NEVER);
    }
}

/// Waits until all changes of an event are told, or `until`; tells them itself where nobody does.
#[cold]
pub(crate) fn wait_told(event: &AnyEvent, buses: &[Arc<BusIdentity>], until: Tick) {
    if frame::in_callback() {
        return;
    }
    let Some(worker) = Worker::current() else { return };
    let frame = frame::top();
    for identity in buses {
        let (Some(bus), Some(notices)) = (BusCore::of(identity), &identity.notices) else { continue };
        loop {
            deliver(&bus, event);
            let gone = frame.as_ref().is_some_and(|frame| !frame.is_live());
            if notices.is_settled_for(event.head().stamp(), &worker.bell)
                || gone
                || until != NEVER && clock::now() >= until
            {
                break;
            }
            match &frame {
                Some(_) => worker.sit_still(&bus.runtime, until),
                None => worker.sit(&bus.runtime, until, || claimable::needs_of(event, false, &bus.runtime)),
            }
        }
    }
    worker.ends_wait();
}

#[cfg(all(test, not(threadbus_shuttle)))]
mod tests {
    use super::*;
    use crate::bus::Middleware;
    use crate::event::{Event, EventOptions, Payload};
    use std::time::Duration;

    struct Job(u32);
    impl Payload for Job {
        type Output = ();
    }

    struct Quiet;
    impl Middleware for Quiet {}

    #[test]
    fn what_is_over_is_not_kept() -> Result<(), Box<dyn std::error::Error>> {
        let bus = EventBus::builder("kept").middleware(Quiet).dead_letters(100).build()?;
        let kept = || bus.core().identity.notices.as_ref().map(|notices| (notices.events(), notices.is_settled()));
        bus.on(|job: &Event<Job>| match job.0 % 4 {
            0 => Ok(()),
            1 => Err("on purpose"),
            2 => {
                job.bus().emit(Job(0));
                Ok(())
            }
            _ => {
                // Given up half the time.
                let context = crate::HandlerContext::current().ok_or("outside")?;
                context.sleep(Duration::from_millis(20)).map_err(|_| "given up")
            }
        });
        for n in 0..40 {
            bus.emit_with(
                Job(n),
                EventOptions::new().handler_timeout(Duration::from_millis(if n % 8 == 3 { 2 } else { 5000 })),
            );
        }
        bus.pause();
        bus.emit(Job(0)).cancel();
        bus.resume();
        bus.wait_until_idle()?;
        bus.redrive(100);
        bus.wait_until_idle()?;
        assert_eq!(kept(), Some((0, true)));
        Ok(())
    }
}
