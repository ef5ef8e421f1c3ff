//! Telling middlewares what is written in the journals of their bus (`README.md`, *Telling*): with nothing locked, by the thread that has
//! made a change, unless another one is at it.

use crate::bus::core::{BusCore, EventBus};
use crate::bus::parts::listener::Listener;
use crate::bus::parts::outcomes::result_at;
use crate::bus::thread::frame;
use crate::event::{AnyEvent, BusIdentity, Journal, Note, ResultNote, State};
use crate::runtime::{Job, Worker, is_service_thread};
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
        self.identity.untold.as_ref().is_none_or(|untold| untold.is_nothing())
    }
}

/// The bus takes a new event. `Some` if it is to be delivered once nothing is locked.
#[inline]
pub(crate) fn enter_new(bus: &BusCore, event: &AnyEvent) -> Option<AnyEvent> {
    bus.is_watched().then(|| {
        event.state().lock().open_journal();
        event.clone()
    })
}

/// Tells what is written down of the event on this bus, unless another thread is at it.
#[inline]
pub(crate) fn deliver(bus: &Arc<BusCore>, event: &AnyEvent) {
    if bus.is_watched() {
        deliver_here_or_later(bus, Some(event));
    }
}

/// Tells what is written down of the event on all its buses.
pub(crate) fn deliver_everywhere(event: &AnyEvent) {
    let buses = watched_by(&event.state().lock());
    for bus in buses.iter().filter_map(|identity| BusCore::of(identity)) {
        deliver(&bus, event);
    }
}

/// Tells which handlers came or went.
pub(crate) fn deliver_handlers(bus: &Arc<BusCore>) {
    if bus.is_watched() {
        deliver_here_or_later(bus, None);
    }
}

/// Has a job tell which handlers went: the caller may be anywhere, and has nothing to do with this bus.
pub(crate) fn deliver_handlers_elsewhere(bus: &Arc<BusCore>) {
    if journal_of(bus, None).is_some_and(|journal| journal.waits_for_teller()) {
        let kept = Arc::clone(bus);
        bus.runtime.pool.submit_granted(Job::new(bus.lane, move |_| deliver_here(&kept, None)));
    }
}

/// The buses of the event that have middlewares.
pub(crate) fn watched_by(state: &State) -> SmallVec<[Arc<BusIdentity>; 1]> {
    let watched = state.deliveries.iter().filter(|delivery| delivery.bus.untold.is_some());
    watched.map(|delivery| Arc::clone(&delivery.bus)).collect()
}

/// Of an event, or of the bus's registrations.
fn journal_of(bus: &BusCore, event: Option<&AnyEvent>) -> Option<Arc<Journal>> {
    match event {
        Some(event) => event.state().lock().journal_of(bus.identity.id).cloned(),
        None => bus.registry.journal().cloned(),
    }
}

/// Not on a thread that must run no user code, nor inside of a middleware, where one call could set off the next without end.
#[cold]
fn deliver_here_or_later(bus: &Arc<BusCore>, event: Option<&AnyEvent>) {
    if !journal_of(bus, event).is_some_and(|journal| journal.waits_for_teller()) {
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
    let Some(journal) = journal_of(bus, event) else { return };
    while let Some(notes) = take(&journal, event) {
        let handle = EventBus::from_core(Arc::clone(bus));
        for note in notes {
            tell_all(bus, &handle, event, note);
        }
        // The handle may be the last; and somebody may wait until this thread has told the rest.
        frame::let_go(handle);
        if journal.told() {
            bus.ring_idlers();
        }
        if planted("teller_looks_once") {
            return;
        }
    }
}

/// What one step has brought about is told together.
fn take(journal: &Journal, event: Option<&AnyEvent>) -> Option<Vec<Note>> {
    let _step = event.map(|event| event.state().lock());
    journal.take()
}

/// All middlewares hear of one change before any hears of the next.
fn tell_all(bus: &BusCore, handle: &EventBus, event: Option<&AnyEvent>, note: Note) {
    let each = |what: &str, body: &dyn Fn(&dyn Listener<EventBus>)| {
        for (at, middleware) in bus.middlewares.0.iter().enumerate() {
            let _ = call(bus, at, event, what, || body(&**middleware));
        }
    };
    match (note, event) {
        (Note::Event(status), Some(event)) => {
            each("on_event_change", &|middleware| middleware.event_changed(handle, event, status));
        }
        (Note::Result(ResultNote { delivery, invocation, status }), Some(event)) => {
            let Some(result) = result_at(event, (delivery, invocation), status) else { return };
            each("on_result_change", &|middleware| middleware.result_changed(handle, event, &result));
            // It holds a value of the user's.
            let _ = frame::callback(|| unwind::drop_each([result]));
        }
        (Note::Handler(info, now), _) => {
            each("on_handlers_change", &|middleware| middleware.handlers_changed(handle, &info, now));
        }
        _ => {}
    }
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
        let kept = || {
            let untold = |event: &AnyEvent| journal_of(bus.core(), Some(event)).is_some_and(|j| j.waits_for_teller());
            (bus.history().iter().filter(|event| untold(event)).count(), bus.core().has_told_all())
        };
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
        assert_eq!(kept(), (0, true));
        Ok(())
    }
}
