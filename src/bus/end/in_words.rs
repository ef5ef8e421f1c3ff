//! What a handler waits for, in words: for slow warnings and timeouts. Nothing here is called with anything locked.

use crate::bus::core::BusCore;
use crate::bus::core::hold::hold_of;
use crate::bus::permits::limits;
use crate::bus::thread::frame;
use crate::event::{AnyEvent, DeliveryPhase, RecordPhase, State, TypeSlot};
use crate::rules::own_slow_event;
use crate::runtime::{Job, RuntimeCore, Slot, Worker};
use crate::sys::clock::{self, NEVER, Tick};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{logging, unwind};
use std::sync::Arc;
use std::time::Duration;

/// So many waits are followed, one after the other.
const HOPS: usize = 4;

/// What the top handler on that thread is parked for: `waits for Order#1a2b, which send#3c4d runs`.
fn of_worker(runtime: &RuntimeCore, worker: u64) -> Option<String> {
    of_worker_over(runtime, worker, HOPS)
}

fn of_worker_over(runtime: &RuntimeCore, worker: u64, hops: usize) -> Option<String> {
    let event = runtime.parked.lock().get(&worker).map(|wait| wait.event.clone());
    if let Some(event) = event {
        return Some(format!("waits for {event}{}", whereabouts(runtime, &event, hops)));
    }
    if runtime.sits_count.load(Ordering::SeqCst) == 0 {
        return None;
    }
    runtime.sits.lock().get(&worker).map(|sit| sit.what.to_string())
}

/// What one handler on that thread waits for: the one above it, or what the thread is parked for.
pub(crate) fn of_slot(runtime: &RuntimeCore, worker: &Worker, slot: &Slot) -> Option<String> {
    match worker.above(&slot.event, slot.delivery) {
        Some(event) => Some(format!("waits for {event}{}", whereabouts(runtime, &event, HOPS))),
        None => of_worker(runtime, worker.id),
    }
}

/// Whether the thread waits for a process, which ends soon after the handler was given up.
pub(crate) fn is_at_a_process(runtime: &RuntimeCore, worker: u64) -> bool {
    runtime.sits_count.load(Ordering::SeqCst) > 0
        && runtime.sits.lock().get(&worker).is_some_and(|sit| sit.what.is_process())
}

/// What the handler on that thread says of the process that it waits for. An event may be locked.
pub(crate) fn which_process(runtime: &RuntimeCore, worker: u64) -> Option<Arc<str>> {
    if runtime.sits_count.load(Ordering::SeqCst) == 0 {
        return None;
    }
    let sits = runtime.sits.lock();
    let sit = sits.get(&worker).filter(|sit| sit.what.is_process())?;
    Some(sit.what.to_string().into())
}

/// Why an event is not complete, as far as one thing can be named.
fn whereabouts(runtime: &RuntimeCore, event: &AnyEvent, hops: usize) -> String {
    if hops == 0 {
        return String::new();
    }
    let (running, queued, line, child) = {
        let state = event.state().lock();
        let deliveries = || state.deliveries.iter();
        let running = deliveries().find_map(|delivery| {
            let at = delivery.records.iter().position(|record| record.phase == RecordPhase::Started)?;
            Some((delivery.handler(at)?.clone(), delivery.records[at].worker))
        });
        let queued = deliveries().find(|d| d.phase == DeliveryPhase::Queued).map(|d| Arc::clone(&d.bus));
        let line = limits::in_line(&state).next().map(|placed| {
            let delivery = state.deliveries.get(placed.delivery);
            let handler = delivery.and_then(|delivery| delivery.handler(placed.invocation)).cloned();
            (handler, Arc::clone(&placed.group))
        });
        let child = state.children().map(|child| child.event.clone()).find(|child| !child.is_complete());
        (running, queued, line, child)
    };
    if let Some((handler, group)) = line {
        let handler = handler.map_or_else(|| "a handler".to_owned(), |handler| handler.label());
        return format!(", whose {handler} stands in line for {}", limits::in_words(runtime, &group));
    }
    if let Some((handler, worker)) = running {
        let more = of_worker_over(runtime, worker, hops - 1).map(|more| format!(", and {more}")).unwrap_or_default();
        return format!(", which {} runs{more}", handler.label());
    }
    if let Some(before) = hold_of(event).and_then(|hold| hold.first_open()) {
        return format!(", which comes after {before}{}", whereabouts(runtime, &before, hops - 1));
    }
    if let Some(bus) = queued {
        return format!(", which is queued on {}", bus.label);
    }
    match child {
        Some(child) => format!(", which needs its child {child}{}", whereabouts(runtime, &child, hops - 1)),
        None => String::new(),
    }
}

/// When to warn about an event whose handlers have ended and which is not complete, since what it emitted is not. Under its lock.
#[cold]
pub(crate) fn lingers_until(state: &State, event: &AnyEvent, delivery: usize, slot: &TypeSlot) -> Tick {
    let Some(delivery) = state.deliveries.get(delivery) else { return NEVER };
    if delivery.begun == 0 || state.children().next().is_none() {
        return NEVER;
    }
    let slow_after = event.head().options().and_then(own_slow_event).unwrap_or(slot.slow_event);
    delivery.begun.saturating_add(slow_after)
}

/// How long the timer may stay when nothing lingers any more.
const LOOK: Duration = Duration::from_secs(1);

impl BusCore {
    /// Nobody's stack shows such an event any more, so it is noted here until it is complete.
    #[cold]
    pub(crate) fn note_lingering(self: &Arc<Self>, event: &AnyEvent, due: Tick) {
        let now = clock::now();
        // Models have no clock. And what is due already was warned about while a handler of it ran.
        if cfg!(threadbus_shuttle) || due <= now {
            return;
        }
        let mut held = Vec::new();
        let at = {
            let mut lingering = self.lingering.lock();
            if lingering.sweep.is_due(lingering.list.len()) {
                lingering.forget_complete(&mut held);
                let left = lingering.list.len();
                lingering.sweep.has_left(left);
            }
            lingering.list.push((due, event.downgrade()));
            let at = due.min(clock::after(now, LOOK));
            lingering.armed.is_none_or(|timer| at < timer.at).then_some(at)
        };
        let _ = frame::callback(|| unwind::drop_each(held));
        if let Some(at) = at {
            self.arm_lingering(at);
        }
    }

    fn arm_lingering(self: &Arc<Self>, at: Tick) {
        let weak = Arc::downgrade(self);
        let timer = self.runtime.watch.at(at, move || {
            if let Some(bus) = weak.upgrade() {
                bus.look_at_lingering();
            }
        });
        let stale = {
            let mut lingering = self.lingering.lock();
            match lingering.armed {
                _ if lingering.closed => Some(timer),
                // Somebody else was quicker, with an earlier one.
                Some(earlier) if earlier.at <= at => Some(timer),
                _ => lingering.armed.replace(timer),
            }
        };
        if let Some(stale) = stale {
            self.runtime.watch.cancel(stale);
        }
    }

    /// On the aftermath thread.
    fn look_at_lingering(self: &Arc<Self>) {
        let now = clock::now();
        let mut held = Vec::new();
        let (due, next) = {
            let mut lingering = self.lingering.lock();
            lingering.armed = None;
            lingering.forget_complete(&mut held);
            let due: Vec<_> = lingering.list.extract_if(.., |(due, _)| *due <= now).collect();
            (due, lingering.list.iter().map(|(due, _)| *due).min())
        };
        for event in due.into_iter().filter_map(|(_, weak)| weak.upgrade()).filter(|event| !event.is_complete()) {
            let begun = {
                let state = event.state().lock();
                state.deliveries.iter().find(|d| d.bus.id == self.identity.id).map_or(now, |d| d.begun)
            };
            let age = Duration::from_nanos(now.saturating_sub(begun));
            let (waits, label) = (whereabouts(&self.runtime, &event, HOPS), Arc::clone(&self.identity.label));
            let of = event.clone();
            logging::later!(Warn, of of; move || {
                format!("slow event: {event} on {label} not complete after {age:.1?}, its handlers have ended{waits}")
            });
        }
        if let Some(next) = next {
            self.arm_lingering(next.min(clock::after(now, LOOK)));
        }
        if !held.is_empty() {
            // Each may be the last hold by now, and this thread runs nothing of the user's.
            self.runtime.pool.submit_granted(Job::new(self.lane, move |_| unwind::drop_each(held)));
        }
    }

    /// Nothing is warned about any more.
    pub(crate) fn end_lingering(&self) {
        let timer = {
            let mut lingering = self.lingering.lock();
            lingering.closed = true;
            lingering.list.clear();
            lingering.armed.take()
        };
        if let Some(timer) = timer {
            self.runtime.watch.cancel(timer);
        }
    }
}
