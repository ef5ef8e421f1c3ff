//! Cancelling an event with all that is below it: some by the caller, who may be in a hurry, the rest by a worker (`README.md`, *Cancelling*).

use crate::bus::core::BusCore;
use crate::bus::end::cancel::{Ended, end_event};
use crate::event::{AnyEvent, Cause, CauseKind, Looked, doom_is_over};
use crate::runtime::{Job, is_service_thread};
use crate::sys::unwind;
use std::collections::VecDeque;
use std::sync::Arc;

/// So many events one thread ends before others may go on: half a millisecond.
const AT_ONCE: usize = if cfg!(threadbus_shuttle) { 2 } else { 1000 };
/// So many children are looked at in one section of their parent's lock.
const FEW: usize = 64;
/// To look at so many that are complete takes as long as to end one.
const LOOKS: usize = 16;

/// Ends whatever of the event is not done, and of what it emitted, from the top down. False if it was complete.
pub(crate) fn cancel(event: &AnyEvent, cause: &Cause) -> bool {
    if event.is_complete() {
        return false;
    }
    let mut walk = Walk::over(event.clone());
    let mut ended = walk.end_some(cause);
    if !walk.is_over() {
        match bus_of(event) {
            Some(bus) => {
                // Before anything follows from the ends: what that could start is doomed by then.
                event.doom(cause);
                carry_out(ended);
                go_on_soon(bus, Doom { top: event.clone(), cause: cause.clone(), walk });
                return true;
            }
            None => {
                while !walk.is_over() {
                    ended.extend(walk.end_some(cause));
                }
            }
        }
    }
    carry_out(ended);
    true
}

/// A handler of the event was about to start when it was found doomed. With nothing locked.
#[cold]
pub(crate) fn end_doomed(event: &AnyEvent) {
    let cause = event.doom_cause();
    let cause = cause.unwrap_or_else(|| Cause::new(CauseKind::Cancelled, event.head().id(), event.body().event_type()));
    cancel(event, &cause);
}

/// They are doomed, and have left the queue: the worker that ends what is doomed may be past them.
#[cold]
pub(crate) fn end_soon(bus: &Arc<BusCore>, mut doomed: VecDeque<AnyEvent>) {
    let own = Arc::clone(bus);
    bus.runtime.watch.soon(move || {
        loop {
            let some = doomed.len().min(AT_ONCE);
            let ended: Vec<AnyEvent> = doomed.drain(..some).collect();
            ended.iter().for_each(end_doomed);
            let_go(&own, ended);
            if doomed.is_empty() {
                return;
            }
            if is_service_thread() {
                return end_soon(&own, doomed);
            }
        }
    });
}

/// Only now: what follows from one end could start a sibling that is to end too.
fn carry_out(ended: Vec<Ended>) {
    ended.into_iter().for_each(Ended::carry_out);
}

/// The first bus that took it and is still there.
fn bus_of(event: &AnyEvent) -> Option<Arc<BusCore>> {
    let buses: Vec<_> = event.state().lock().deliveries.iter().map(|d| Arc::clone(&d.bus)).collect();
    buses.iter().find_map(|identity| BusCore::of(identity))
}

/// What a cancel has left to the worker.
struct Doom {
    top: AnyEvent,
    cause: Cause,
    walk: Walk,
}

/// On the aftermath thread, as many at a time as one that waits its turn there can bear.
fn go_on_soon(bus: Arc<BusCore>, mut doom: Doom) {
    let watch = Arc::clone(&bus.runtime.watch);
    watch.soon(move || {
        while !doom.ends_some() {
            // Where the system refuses that thread, the caller is it.
            if is_service_thread() {
                return go_on_soon(bus, doom);
            }
        }
        doom_is_over();
        let_go(&bus, vec![doom.top]);
    });
}

impl Doom {
    /// True if none is left. What came under it behind the walk is looked for by another one, which is the last if it finds nothing.
    fn ends_some(&mut self) -> bool {
        let ended = self.walk.end_some(&self.cause);
        self.walk.any |= !ended.is_empty();
        carry_out(ended);
        if !self.walk.is_over() {
            return false;
        }
        let over = self.top.is_complete() || !self.walk.any;
        self.walk = Walk::over(self.top.clone());
        over
    }
}

/// They may be the last holds, and payloads are the user's to drop: not on a thread that runs nothing of the user's.
fn let_go(bus: &BusCore, events: Vec<AnyEvent>) {
    if events.is_empty() {
        return;
    }
    if is_service_thread() && events.iter().any(AnyEvent::is_kept_once) {
        bus.runtime.pool.submit_granted(Job::new(bus.lane, move |_| unwind::drop_each(events)));
    } else {
        unwind::drop_each(events);
    }
}

/// A walk through a tree from the top down, in the order of the emits, that can be interrupted.
struct Walk {
    top: Option<AnyEvent>,
    /// From the topmost event to the one whose children are being walked.
    levels: Vec<Level>,
    /// It has ended something.
    any: bool,
}

struct Level {
    event: AnyEvent,
    looked: Looked,
    /// Those that were found with the last look, in order.
    next: VecDeque<AnyEvent>,
}

impl Walk {
    fn over(top: AnyEvent) -> Walk {
        Walk { top: Some(top), levels: Vec::new(), any: false }
    }

    fn is_over(&self) -> bool {
        self.top.is_none() && self.levels.is_empty()
    }

    /// Goes on, for as long as others can bear.
    fn end_some(&mut self, cause: &Cause) -> Vec<Ended> {
        let (mut ended, mut left) = (Vec::new(), AT_ONCE * LOOKS);
        while left > 0 {
            let Some(event) = self.next(&mut left) else { break };
            left = left.saturating_sub(LOOKS);
            let mut below = false;
            end_event(&event, cause, &mut ended, |state| below = state.children().next().is_some());
            if below {
                self.levels.push(Level { event, looked: Looked::default(), next: VecDeque::new() });
            }
        }
        ended
    }

    fn next(&mut self, left: &mut usize) -> Option<AnyEvent> {
        if let Some(top) = self.top.take() {
            return Some(top);
        }
        loop {
            let level = self.levels.last_mut()?;
            if let Some(next) = level.next.pop_front() {
                return Some(next);
            }
            let more = {
                let state = level.event.state().lock();
                let some = state.look_on(&mut level.looked, FEW);
                let more = some.is_some();
                let some = some.into_iter().flatten().inspect(|_| *left = left.saturating_sub(1));
                level.next.extend(some.map(|child| &child.event).filter(|e| !e.is_complete()).cloned());
                more
            };
            if !more {
                self.levels.pop();
            } else if *left == 0 && level.next.is_empty() {
                return None;
            }
        }
    }
}
