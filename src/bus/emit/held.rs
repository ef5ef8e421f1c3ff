//! Events that start when others are complete (`bus/README.md`, *After others*).

use crate::bus::core::hold::{LOOK, held_for};
use crate::bus::core::{BusCore, Doors, Entry};
use crate::bus::emit::candidate::{After, Candidate, Later};
use crate::bus::end::tree::cancel;
use crate::bus::parts::held::{Hold, Kept};
use crate::bus::thread::ancestry::is_below;
use crate::event::{
    AnyEvent, BusIdentity, Cause, CauseKind, CompletionHook, Delivery, DeliveryPhase, EmitError, EventOptions,
    HandlerFailure, Outcome, Prerequisite, State, TurnKind, Unrun, Watcher,
};
use crate::sys::sync::atomic::Ordering;
use crate::sys::{clock, planted, thread, unwind};
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

/// What an event that is emitted with these options has to wait for. It is taken out of them.
pub(crate) fn take_prerequisites(own: &mut Option<EventOptions>) -> After {
    let options = own.as_mut().filter(|options| !options.after.is_empty())?;
    let mut after = std::mem::take(&mut options.after);
    if options.is_unset() {
        *own = None;
    }
    let stamp = |before: &Prerequisite| before.event.head().stamp();
    after.sort_by_key(stamp);
    after.dedup_by(|later, kept| {
        let twice = stamp(later) == stamp(kept);
        kept.must_succeed |= twice && later.must_succeed;
        twice
    });
    after.retain(|before| !before.event.is_complete() || before.must_succeed && has_failed(&before.event));
    (!after.is_empty()).then(|| Box::new(Later { after, hold: None }))
}

impl Candidate {
    /// Of an event that is to come after others. Refused if one of those needs, by way of others or not, an event that the new one
    /// belongs to, and which so waits for it.
    #[cold]
    pub(crate) fn prepare_hold(&mut self, bus: &BusCore) -> Result<(), EmitError> {
        let Some(event) = &self.event else { return Ok(()) };
        let Some(Later { after, .. }) = self.after.as_deref() else { return Ok(()) };
        if let Some(parent) = self.parent() {
            refuse_circle(event, parent, after)
                .map_err(|chain| EmitError::Circle { bus: bus.label().to_owned(), chain })?;
        }
        let hold = Hold::new(event.clone(), after.iter().cloned().collect());
        if let Some(later) = &mut self.after {
            later.hold = Some(hold);
        }
        Ok(())
    }
}

fn refuse_circle(event: &AnyEvent, parent: &AnyEvent, after: &[Prerequisite]) -> Result<(), String> {
    let mut hops: Vec<Hop> = Vec::with_capacity(after.len());
    hops.extend(after.iter().map(|before| Hop { to: before.event.clone(), from: None, down: false }));
    let mut seen = HashSet::new();
    let mut at = 0;
    while let Some(Hop { to: needed, .. }) = hops.get(at).cloned() {
        if !needed.is_complete() && seen.insert(needed.head().stamp()) {
            if is_below(parent, &needed) {
                return Err(format!("{event} {}, which it belongs to", in_words(&hops, at)));
            }
            let more = (after.len() + LOOK).saturating_sub(hops.len());
            let from = Some(at);
            hops.extend(held_for(&needed).into_iter().take(more).map(|to| Hop { to, from, down: false }));
            let state = needed.state().lock();
            let open = state.children().map(|child| &child.event).filter(|child| !child.is_complete());
            hops.extend(open.take(more).map(|to| Hop { to: to.clone(), from, down: true }));
        }
        at += 1;
    }
    Ok(())
}

/// An event that another one needs.
#[derive(Clone)]
struct Hop {
    to: AnyEvent,
    /// The hop before it.
    from: Option<usize>,
    /// As its child.
    down: bool,
}

/// `comes after A, which needs its child B, which comes after C`
fn in_words(hops: &[Hop], last: usize) -> String {
    let mut words = Vec::new();
    let mut at = Some(last);
    while let Some(Hop { to, from, down }) = at.and_then(|at| hops.get(at)) {
        words.push(format!("{} {to}", if *down { "needs its child" } else { "comes after" }));
        at = *from;
    }
    words.reverse();
    words.join(", which ")
}

/// The event is on its bus, and held: what it comes after is to tell when it is complete. With nothing locked.
pub(crate) fn watch_prerequisites(hold: &Arc<Hold>) {
    let mut at = 0;
    while let Some(before) = hold.after(at) {
        at += 1;
        let open = {
            let mut state = before.state().lock();
            let open = !state.complete;
            if open {
                state.watch(Watcher::Hook(Arc::clone(hold) as Arc<dyn CompletionHook>));
            }
            open
        };
        if !open {
            hold.completed(&before);
        }
        unwind::drop_quietly(before);
    }
    one_less(hold);
}

fn one_less(hold: &Hold) {
    if hold.is_last() || planted("released_by_the_first") {
        release(hold);
    }
}

impl CompletionHook for Hold {
    fn is_over(&self) -> bool {
        self.is_let_go()
    }

    fn completed(&self, event: &AnyEvent) {
        if self.must_succeed(event) && has_failed(event) {
            fall(self, event);
        } else {
            one_less(self);
        }
    }
}

/// All that it was to come after is complete: it goes into the queue, wherever it is held.
fn release(hold: &Hold) {
    let Some(event) = hold.event() else { return };
    let held: Vec<(usize, Arc<BusIdentity>)> = {
        let state = event.state().lock();
        let held = state
            .deliveries
            .iter()
            .enumerate()
            .filter(|(_, d)| d.phase == DeliveryPhase::Held || planted("released_after_the_end"));
        held.map(|(at, delivery)| (at, Arc::clone(&delivery.bus))).collect()
    };
    let mut all = true;
    for (index, identity) in held {
        if let Some(bus) = BusCore::of(&identity) {
            all &= bus.take_released(&event, index);
            unwind::drop_quietly(bus);
        }
    }
    if all {
        let_go(hold.let_go());
    }
    unwind::drop_quietly(event);
}

/// An event that it was to come after has failed. Along a chain one ends the next: the outermost call on a thread ends them all.
fn fall(hold: &Hold, because: &AnyEvent) {
    let Some(event) = hold.event() else { return };
    let cause = cause_of(because);
    let outermost = FALLING.try_with(|falling| {
        let mut falling = falling.borrow_mut();
        let outermost = falling.is_none();
        falling.get_or_insert_default().push((event.clone(), cause.clone()));
        outermost
    });
    match outermost {
        Ok(false) => return,
        Ok(true) => {}
        // The thread ends.
        Err(_) => drop(cancel(&event, &cause)),
    }
    let next = || FALLING.try_with(|falling| falling.borrow_mut().as_mut().and_then(Vec::pop)).ok().flatten();
    while let Some((event, cause)) = next() {
        cancel(&event, &cause);
        unwind::drop_quietly(event);
    }
    let _ = FALLING.try_with(|falling| falling.borrow_mut().take());
    unwind::drop_quietly(event);
}

thread::local! {
    /// Events that the outermost fall on this thread has still to end.
    static FALLING: RefCell<Option<Vec<(AnyEvent, Cause)>>> = RefCell::new(None);
}

/// Along a chain of falls the first one counts.
fn cause_of(failed: &AnyEvent) -> Cause {
    let earlier = {
        let state = failed.state().lock();
        let mut records = state.deliveries.iter().flat_map(|delivery| &delivery.records);
        records.find_map(|record| match &record.outcome {
            Outcome::Failed(failure) => match &**failure {
                HandlerFailure::Cancelled { cause } if cause.kind == CauseKind::Prerequisite => Some(cause.clone()),
                _ => None,
            },
            _ => None,
        })
    };
    earlier.unwrap_or_else(|| Cause::new(CauseKind::Prerequisite, failed.head().id(), failed.body().event_type()))
}

/// A complete event that did not end well, as `EventOptions::after_ok` understands it.
fn has_failed(event: &AnyEvent) -> bool {
    let state = event.state().lock();
    state.rejected().is_some() || state.unrun() != Unrun::No || fails_in(&state)
}

fn fails_in(state: &State) -> bool {
    state.deliveries.iter().any(|delivery| {
        let outcomes = || delivery.records.iter().map(|record| &record.outcome);
        let is_failure = |outcome: &Outcome| match outcome {
            Outcome::Failed(failure) => !matches!(
                &**failure,
                HandlerFailure::Cancelled { cause } | HandlerFailure::Aborted { cause }
                    if matches!(cause.kind, CauseKind::LostFirst | CauseKind::Off)
            ),
            _ => false,
        };
        let has_first = delivery.manner.first && outcomes().any(|outcome| matches!(outcome, Outcome::Value(_)));
        !has_first && outcomes().any(is_failure)
    })
}

fn let_go(kept: Option<Kept>) {
    let Some(Kept { event, after }) = kept else { return };
    unwind::drop_quietly(event);
    unwind::drop_each(after);
}

impl BusCore {
    /// A held delivery is queued from now on, unless somebody ends it. False if that is up to the thread that closes the bus.
    fn take_released(self: &Arc<Self>, event: &AnyEvent, index: usize) -> bool {
        let for_usher = self.is_for_usher(event);
        let mut inlet = self.inlet.lock();
        if inlet.doors == Doors::Closed && !planted("released_into_a_closed_bus") {
            return false;
        }
        let turn = {
            let mut state = event.state().lock();
            let held = |d: &&mut Delivery| d.phase == DeliveryPhase::Held || planted("released_after_the_end");
            let Some(delivery) = state.deliveries.get_mut(index).filter(held) else { return true };
            delivery.phase = DeliveryPhase::Queued;
            // It is queued since now.
            delivery.begun = clock::now();
            delivery.manner.turn
        };
        let left = self.held.lock().remove(event.head().stamp());
        self.counters.held.fetch_sub(1, Ordering::SeqCst);
        let for_usher = for_usher && turn == TurnKind::Free;
        let entry = Entry { event: event.clone(), delivery: index as u32, turn };
        let sent = self.send(&mut inlet, entry, for_usher);
        drop(inlet);
        self.wake_up_later(sent);
        if !planted("release_rings_nobody") {
            self.ring_above(event);
        }
        unwind::drop_quietly(left);
        true
    }
}
