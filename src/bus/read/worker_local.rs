//! State per thread and handler: a connection made once per thread, a handler that need not be `Send`.

use crate::bus::core::BusCore;
use crate::bus::core::EventBus;
use crate::bus::parts::registry::Taken;
use crate::bus::read::handler_context::HandlerContext;
use crate::event::{
    AnyEvent, AnyOutput, Event, HandlerEntry, HandlerError, HandlerId, HandlerOptions, Payload, short_type_name,
};
use crate::runtime::{Serves, Worker};
use crate::sys::clock::Tick;
use crate::sys::sync::atomic::Ordering;
use crate::sys::{clock, thread, unwind};
use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// One slot; counted on its bus until it is dropped.
struct Slot {
    value: Option<Box<dyn Any>>,
    bus: Weak<BusCore>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        unwind::drop_quietly(self.value.take());
        if let Some(bus) = self.bus.upgrade() {
            bus.locals.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

type Slots = HashMap<(HandlerId, TypeId), Slot>;

thread::local! {
    static SLOTS: RefCell<Slots> = RefCell::new(HashMap::new());
}

/// Runs `body` on the thread's own value for the running handler; makes it first where there is none.
fn with_slot<T: 'static, R>(
    context: &HandlerContext,
    init: impl FnOnce() -> Result<T, HandlerError>,
    body: impl FnOnce(&mut T) -> R,
) -> Result<R, HandlerError> {
    let handler = context.handler();
    let key = (handler.id(), TypeId::of::<T>());
    let taken = SLOTS.try_with(|slots| slots.borrow_mut().remove(&key)).ok().flatten();
    let mut slot = match taken {
        Some(slot) => slot,
        None => {
            let value = init()?;
            let bus = context.core();
            if let Some(worker) = Worker::current() {
                worker.note_kept(handler.id());
            }
            bus.locals.fetch_add(1, Ordering::SeqCst);
            Slot { value: Some(Box::new(value)), bus: Arc::downgrade(bus) }
        }
    };
    let Some(value) = slot.value.as_mut().and_then(|value| value.downcast_mut::<T>()) else {
        return Err(HandlerError::from("the thread's slot for this handler holds another type"));
    };
    let result = body(value);
    // A handler that was removed meanwhile keeps nothing; and of two nested uses the outer one's value stays.
    if handler.is_registered() {
        let old = SLOTS.try_with(|slots| slots.borrow_mut().insert(key, slot));
        drop(old);
    }
    Ok(result)
}

/// The registration is over: every thread drops what it keeps for it.
pub(crate) fn forget_handlers(bus: &BusCore, gone: &[Arc<HandlerEntry>]) {
    if bus.locals.load(Ordering::SeqCst) == 0 || gone.is_empty() {
        return;
    }
    let gone: Vec<HandlerId> = gone.iter().map(|entry| entry.info.id()).collect();
    for worker in bus.runtime.pool.all_workers() {
        // A thread that has nothing to do with it, and may never come back to us, gets no chore.
        let ids = worker.forget_kept(&gone);
        if ids.is_empty() {
            continue;
        }
        worker.add_chore(Box::new(move || {
            let slots = SLOTS.try_with(|slots| {
                slots.borrow_mut().extract_if(|(id, _), _| ids.contains(id)).map(|(_, slot)| slot).collect::<Vec<_>>()
            });
            drop(slots);
        }));
    }
}

/// Waits until every thread has dropped what it kept for this bus, or the deadline.
pub(crate) fn wait_for_locals(bus: &BusCore, deadline: Tick) {
    let Some(worker) = Worker::current() else { return };
    while bus.locals.load(Ordering::SeqCst) > 0 && clock::now() < deadline {
        worker.do_chores();
        let soon = clock::after(clock::now(), Duration::from_millis(1));
        worker.serve_or_park(soon.min(deadline), Serves::Awaited);
    }
    worker.ends_wait();
}

impl HandlerContext {
    /// A slot per (thread, handler): a connection made once per thread.
    ///
    /// Taken out while in use, so a nested use makes another. Dropped on its thread when the registration or the thread ends;
    /// [`shutdown`](EventBus::shutdown) waits for that within its timeout. If `body` panics, the value is dropped.
    pub fn local<T: 'static, R>(&self, init: impl FnOnce() -> T, body: impl FnOnce(&mut T) -> R) -> R {
        let mut init = Some(init);
        let mut body = Some(body);
        let used = with_slot(
            self,
            || init.take().map(|init| init()).ok_or_else(|| HandlerError::from("made already")),
            |value| body.take().map(|body| body(value)),
        );
        match (used, init, body) {
            (Ok(Some(result)), _, _) => result,
            // Not reached: a slot's type is part of its key. Without the slot the value lives for this call only.
            (_, Some(init), Some(body)) => body(&mut init()),
            _ => unreachable!("the body runs exactly once, on the value of its own type"),
        }
    }
}

impl EventBus {
    /// One handler value per thread, as [`HandlerContext::local`]: it may be `!Send`, `!Sync` and `FnMut`.
    ///
    /// The factory runs on each thread before its first event; where it fails, that event's result is its error, and the next
    /// event tries again.
    ///
    /// ```
    /// use std::{cell::Cell, rc::Rc};
    /// use threadbus::{Event, EventBus, HandlerOptions, Payload};
    /// struct Count;
    /// impl Payload for Count { type Output = u32; }
    ///
    /// let bus = EventBus::new("counter");
    /// bus.on_per_worker(HandlerOptions::new(), || {
    ///     let seen = Rc::new(Cell::new(0));
    ///     Ok(move |_: &Event<Count>| {
    ///         seen.set(seen.get() + 1);
    ///         Ok(Some(seen.get()))
    ///     })
    /// });
    /// assert!(bus.emit(Count).result()? >= 1);
    /// # Ok::<(), threadbus::ResultError>(())
    /// ```
    #[track_caller]
    pub fn on_per_worker<P: Payload, H>(
        &self,
        options: HandlerOptions,
        factory: impl Fn() -> Result<H, HandlerError> + Send + Sync + 'static,
    ) -> crate::event::HandlerInfo
    where
        H: FnMut(&Event<P>) -> Result<Option<P::Output>, HandlerError> + 'static,
    {
        let call = move |event: &AnyEvent| {
            let (Some(context), Some(event)) = (HandlerContext::current(), event.as_typed::<P>()) else {
                return Ok(None);
            };
            let output = with_slot(&context, &factory, |handler: &mut H| handler(event))??;
            Ok(output.map(AnyOutput::of::<P>))
        };
        let type_name = short_type_name::<H>();
        self.register(Taken::of::<P>(), options, type_name, call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tick;
    impl Payload for Tick {
        type Output = ();
    }

    /// As a thread that emitted once, and then does something else for ever.
    #[test]
    fn handlers_that_come_and_go_leave_no_chores_with_threads_that_keep_nothing_for_them() {
        let bus = EventBus::new("chores");
        // The thread is listed among those that run handlers.
        bus.emit_now(Tick);
        let Some(worker) = Worker::current() else { return };
        for n in 0..1000 {
            let handler =
                bus.on(|_: &Event<Tick>| HandlerContext::current().map_or((), |context| context.local(|| (), |()| ())));
            bus.emit(Tick).wait().map_or_else(|error| assert!(n < 0, "{error}"), drop);
            assert!(bus.off(&handler));
        }
        assert_eq!(worker.chores(), 0);
        // Of its own ones it has them, until it does them.
        let handler =
            bus.on(|_: &Event<Tick>| HandlerContext::current().map_or((), |context| context.local(|| (), |()| ())));
        bus.emit_now(Tick);
        assert!(bus.off(&handler));
        assert_eq!(worker.chores(), 1);
        worker.do_chores();
        wait_for_locals(bus.core(), clock::after(clock::now(), Duration::from_secs(10)));
        assert_eq!(bus.core().locals.load(Ordering::SeqCst), 0);
    }
}
