//! How a find looks: through the history, newest first, and then at what its waiter is shown.

use super::query::{Find, Wanted};
use super::waiter::Waiter;
use crate::bus::{BusCore, Doors, Parked, Seat, Sought, arrived, callback, may_block_or_log, waits_for_nobody};
use crate::event::{AnyEvent, EventStatus, Unrun, parents_know_their_children};
use crate::sys::clock::{self, Tick};
use crate::sys::{logging, unwind};
use rustc_hash::FxHashMap;
use std::any::TypeId;
use std::sync::Arc;
use std::time::Duration;

/// How many events the first look at the history takes; each further one takes four times as many.
const FIRST_LOOK: usize = 64;
/// As many events below an ancestor are few.
const FEW_BELOW: usize = 256;

impl<E> Find<'_, E> {
    /// The newest past match; else the first later one, if it is to wait.
    ///
    /// **Blocking**: for as long as `future` says, or until the bus is shut down. Inside a handler it parks and keeps the handler's
    /// permits, and ends with `None` when the handler is given up. In a callback that is not a handler it does not wait.
    #[track_caller]
    pub fn first(self) -> Option<E> {
        let found = self.search();
        self.tell_of_panics(found.is_some());
        found
    }

    #[track_caller]
    fn search(&self) -> Option<E> {
        let deadline = match self.future {
            None | Some(Duration::ZERO) => None,
            Some(wait) => Some(clock::after(clock::now(), wait)),
        };
        // In a callback, which may not block, the find looks at the past only.
        let seat = deadline.and_then(|_| Seat::take());
        let (Some(deadline), Some(seat)) = (deadline, seat) else {
            let found = self.past_match(u64::MAX, None);
            if found.is_none() && deadline.is_some() {
                may_block_or_log("finds an event that is still to come");
            }
            return found;
        };
        let (waiting, before) = Waiting::register(self.bus.core(), &self.wanted, &seat);
        let mut unfinished = Vec::new();
        let newest = self.past_match(before, Some(&mut unfinished));
        if newest.is_some() {
            return newest;
        }
        self.wait(&seat, waiting.as_ref()?, unfinished, deadline)
    }

    /// All past matches, newest first. Does not wait.
    pub fn all(self) -> Vec<E> {
        let mut found = Vec::new();
        self.look_back(u64::MAX, None, |event| {
            found.push(event);
            true
        });
        self.tell_of_panics(!found.is_empty());
        found
    }

    /// Logs how many panics there were in filters: the first one was logged as it happened.
    fn tell_of_panics(&self, found: bool) {
        let panics = self.panics.get();
        if panics > 1 {
            let found = if found { "something" } else { "nothing" };
            logging::error!("a find on {} found {found}: its filter panicked on {panics} events", self.bus.label());
        }
    }

    fn past_match(&self, before: u64, unfinished: Option<&mut Vec<AnyEvent>>) -> Option<E> {
        let mut newest = None;
        self.look_back(before, unfinished, |event| {
            newest = Some(event);
            false
        });
        newest
    }

    /// Shows `more` past matches, newest first, as long as it returns true, and collects in `unfinished` those that lack nothing but their
    /// completion. Takes the history in pieces, so that emitters are not held up.
    fn look_back(&self, mut before: u64, mut unfinished: Option<&mut Vec<AnyEvent>>, mut more: impl FnMut(E) -> bool) {
        if !self.past {
            return;
        }
        if let Some(few) = self.few_below_ancestor(before) {
            self.show_each(few, unfinished, more);
            return;
        }
        let mut few = FIRST_LOOK;
        let mut wants_more = true;
        let mut types = FxHashMap::default();
        while wants_more {
            self.ask_names(&mut types);
            let mut piece = Vec::new();
            let take = |event: &AnyEvent| {
                if self.wanted.may_be(event) {
                    piece.push(event.clone());
                }
            };
            let lowest = {
                let history = &mut self.bus.core().inlet.lock().history;
                match &self.wanted {
                    Wanted::Payload(known) => history.seek(&Sought::Type(known.payload), before, few, take),
                    Wanted::Named(name) => history.seek(&Sought::Name { name, types: &types }, before, few, take),
                    Wanted::Any => history.look_back(before, few, take),
                }
            };
            wants_more = self.show_each(piece, unfinished.as_deref_mut(), &mut more);
            let Some(lowest) = lowest else { return };
            before = lowest;
            few = few.saturating_mul(4);
        }
    }

    /// True if more is wanted.
    fn show_each(
        &self,
        events: Vec<AnyEvent>,
        mut unfinished: Option<&mut Vec<AnyEvent>>,
        mut more: impl FnMut(E) -> bool,
    ) -> bool {
        let ago = |window| clock::now().saturating_sub(clock::after(0, window));
        let since = self.window.map(ago);
        let mut wants_more = true;
        for event in events {
            if wants_more && self.wanted.may_be(&event) && self.is_recent(&event, since) {
                match &mut unfinished {
                    Some(unfinished) if self.awaits_completion_of(&event) => unfinished.push(event.clone()),
                    _ => wants_more = self.matches(&event).is_none_or(&mut more),
                }
            }
            unwind::drop_quietly(event);
        }
        wants_more
    }

    /// Which types are called as the find wants, of those that it has not asked yet. They are the user's code.
    fn ask_names(&self, types: &mut FxHashMap<TypeId, bool>) {
        let Wanted::Named(wanted) = &self.wanted else { return };
        let unknown = self.bus.core().inlet.lock().history.unknown(types);
        for (payload, name) in unknown {
            types.insert(payload, callback(name).is_ok_and(|name| name == &**wanted));
        }
    }

    /// What the history has of what is below the ancestor, newest first, where that is quicker than to look through the history: its
    /// children and theirs are few, and known.
    fn few_below_ancestor(&self, before: u64) -> Option<Vec<AnyEvent>> {
        let ancestor = self.ancestor.as_ref().filter(|_| parents_know_their_children())?;
        let mut below = vec![ancestor.clone()];
        let (mut at, mut all) = (0, true);
        while let Some(event) = below.get(at).filter(|_| all).cloned() {
            let state = event.state().lock();
            all = !state.lacks_children() && below.len() <= FEW_BELOW;
            below.extend(state.children().take(FEW_BELOW).map(|child| child.event.clone()));
            at += 1;
            drop(state);
            unwind::drop_quietly(event);
        }
        below.swap_remove(0);
        let mut numbered: Vec<(Option<u64>, AnyEvent)> = {
            let inlet = self.bus.core().inlet.lock();
            let known = |event: &AnyEvent| inlet.history.number_of(event).filter(|number| all && *number < before);
            below.into_iter().map(|event| (known(&event), event)).collect()
        };
        // Those that the history has come last, oldest first.
        numbered.sort_by_key(|(number, _)| *number);
        let known = numbered.split_off(numbered.partition_point(|(number, _)| number.is_none()));
        unwind::drop_each(numbered);
        all.then(|| known.into_iter().rev().map(|(_, event)| event).collect())
    }

    fn is_recent(&self, event: &AnyEvent, since: Option<Tick>) -> bool {
        since.is_none_or(|since| arrived(event, self.bus.core()) >= since)
    }

    #[track_caller]
    fn wait(&self, seat: &Seat, waiting: &Waiting<'_>, unfinished: Vec<AnyEvent>, deadline: Tick) -> Option<E> {
        for event in unfinished {
            waiting.waiter.await_completion(&event);
            unwind::drop_quietly(event);
        }
        loop {
            // Only the events that have come so far: a flood of others must not keep the find from ending.
            let mut came = waiting.waiter.take();
            while let Some(event) = came.pop_front() {
                if self.awaits_completion_of(&event) {
                    waiting.waiter.await_completion(&event);
                } else if let Some(found) = self.matches(&event) {
                    came.drain(..).for_each(unwind::drop_quietly);
                    return Some(found);
                }
                unwind::drop_quietly(event);
            }
            if seat.is_over(deadline)
                || waits_for_nobody(self.bus.core(), deadline)
                || seat.park(deadline, || self.in_words(), || waiting.waiter.is_ready()) != Parked::Ready
            {
                return None;
            }
            if waiting.waiter.is_over() {
                return None;
            }
        }
    }

    /// Whether the event may match once it is complete.
    fn awaits_completion_of(&self, event: &AnyEvent) -> bool {
        self.status == Some(EventStatus::Completed) && !event.is_complete() && self.is_wanted(event)
    }

    /// Whether the event fits as far as that does not change with its progress, and without the filters.
    fn is_wanted(&self, event: &AnyEvent) -> bool {
        let named = match &self.wanted {
            Wanted::Named(name) => callback(|| event.event_type() == &**name).unwrap_or(false),
            other => other.may_be(event),
        };
        named && self.ancestor.as_ref().is_none_or(|ancestor| event.is_child_of(ancestor))
    }

    fn matches(&self, event: &AnyEvent) -> Option<E> {
        if !self.is_wanted(event) || self.status.is_some_and(|status| event.status() != status) {
            return None;
        }
        if self.status == Some(EventStatus::Completed) && never_ran(event) {
            return None;
        }
        let cast = (self.cast)(event)?;
        let agree = callback(|| self.filters.iter().all(|keep| keep(&cast)));
        match agree {
            Ok(agree) => agree.then_some(cast),
            Err(panic) => {
                self.panics.set(self.panics.get() + 1);
                if self.panics.get() == 1 {
                    logging::error!(of event; "a find's filter panicked on {event}, which is no match: {panic}");
                }
                None
            }
        }
    }
}

/// Whether the event's `wait` answers with an error.
fn never_ran(event: &AnyEvent) -> bool {
    let state = event.state().lock();
    state.rejected().is_some() || state.unrun() != Unrun::No
}

/// Keeps a waiter among the observers of its bus until it is dropped.
struct Waiting<'bus> {
    bus: &'bus Arc<BusCore>,
    waiter: Arc<Waiter>,
}

impl<'bus> Waiting<'bus> {
    /// `None` if the bus takes no more events. The number divides the history from what the waiter will see.
    fn register(bus: &'bus Arc<BusCore>, wanted: &Wanted, seat: &Seat) -> (Option<Waiting<'bus>>, u64) {
        let named = if let Wanted::Named(name) = wanted { Some(name.clone()) } else { None };
        let waiter = Waiter::new(seat.bell(), named);
        if let Wanted::Payload(known) = wanted {
            bus.registry.know(*known);
        }
        let mut inlet = bus.inlet.lock();
        let before = inlet.history.next_number();
        if inlet.doors == Doors::Closed {
            return (None, before);
        }
        inlet.observers.add(wanted.payload(), waiter.clone());
        drop(inlet);
        (Some(Waiting { bus, waiter }), before)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let gone = self.bus.inlet.lock().observers.remove(Arc::as_ptr(&self.waiter).cast());
        drop(gone);
        self.waiter.end();
    }
}

#[cfg(test)]
mod tests {
    use crate::bus::EventBus;
    use crate::event::{EventStatus, Payload};
    use std::time::Duration;

    struct Tick;
    impl Payload for Tick {
        type Output = ();
    }

    fn observers(bus: &EventBus) -> usize {
        bus.core().inlet.lock().observers.len()
    }

    #[test]
    fn find_048_neither_a_satisfied_nor_a_timed_out_find_leaves_a_waiter() {
        let bus = EventBus::new("waiters");
        let wait = || bus.find::<Tick>().past(false).future(Duration::from_millis(1));
        assert!(wait().first().is_none());
        assert_eq!(observers(&bus), 0);
        let found = std::thread::scope(|scope| {
            let finder = scope.spawn(|| bus.find::<Tick>().past(false).future_forever().first());
            while observers(&bus) == 0 {
                std::thread::yield_now();
            }
            bus.emit(Tick);
            finder.join()
        });
        assert!(found.is_ok_and(|found| found.is_some()));
        assert_eq!(observers(&bus), 0);
        assert!(wait().past(true).first().is_some());
        assert_eq!(observers(&bus), 0);
    }

    /// As in a loop that asks again and again whether long work is done.
    #[test]
    fn a_find_that_gave_up_leaves_nothing_with_the_events_it_waited_for() {
        let bus = EventBus::new("polled");
        bus.pause();
        let events: Vec<_> = (0..3).map(|_| bus.emit(Tick)).collect();
        let completed = || bus.find::<Tick>().status(EventStatus::Completed).future(Duration::from_micros(10));
        for _ in 0..1000 {
            assert!(completed().first().is_none());
        }
        for event in &events {
            assert_eq!(event.any().state().lock().watchers(), 0);
        }
        bus.resume();
        assert!(bus.find::<Tick>().status(EventStatus::Completed).future(Duration::from_secs(10)).first().is_some());
    }
}
