//! The failures that a bus keeps, as pure data: bounded, one per event and handler, the oldest gone first.
//!
//! Nothing of the user's is dropped in here: what goes out is handed to the caller, who drops it outside of any lock.

use crate::event::{AnyEvent, HandlerFailure, HandlerId, HandlerInfo};
use crate::sys::clock::{self, Stamp};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// An event of which a handler failed for good, after all its attempts, or which was dropped before it could run it: what
/// [`EventBus::dead_letters`](crate::EventBus::dead_letters) lists.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The event itself, not a copy.
    pub event: AnyEvent,
    /// The handler that failed.
    pub handler: HandlerInfo,
    /// How often it was tried, redrives included. 0 if it was given up before it could start, or fell out of a full queue.
    pub attempts: u32,
    /// How it failed last.
    pub error: Arc<HandlerFailure>,
    /// When it had failed for good the first time.
    pub first_failed_at: DateTime<Utc>,
    /// The same for the last time; later than the first only after a redrive.
    pub last_failed_at: DateTime<Utc>,
}

/// A stamp is unique in the process, and an event is on a bus once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    stamp: Stamp,
    handler: HandlerId,
}

impl Key {
    fn of(event: &AnyEvent, handler: &HandlerInfo) -> Key {
        Key { stamp: event.head().stamp, handler: handler.id() }
    }
}

#[derive(Debug)]
struct Kept {
    letter: DeadLetter,
    /// Somebody runs the handler again.
    redriving: bool,
}

#[derive(Debug)]
pub(crate) struct DeadLetters {
    capacity: usize,
    /// By place: in the order in which they failed first.
    letters: BTreeMap<u64, Kept>,
    places: HashMap<Key, u64>,
    next: u64,
    evicted: u64,
}

impl DeadLetters {
    /// For at most `capacity` letters; with 0 none is kept.
    pub(crate) fn new(capacity: usize) -> Self {
        DeadLetters { capacity, letters: BTreeMap::new(), places: HashMap::new(), next: 0, evicted: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.letters.len()
    }

    /// How many had to go for later ones.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Oldest first.
    pub(crate) fn list(&self) -> Vec<DeadLetter> {
        self.letters.values().map(|kept| kept.letter.clone()).collect()
    }

    /// A handler has failed for good, after `attempts` more attempts. A letter that is there already, since this was a redrive, keeps
    /// its place and its first time, and is free for the next redrive. Hands back what must go.
    #[must_use = "to be dropped outside of any lock"]
    pub(crate) fn note(
        &mut self,
        event: &AnyEvent,
        handler: &HandlerInfo,
        attempts: u32,
        error: Arc<HandlerFailure>,
        at: Stamp,
    ) -> Option<DeadLetter> {
        let at = clock::to_utc(at);
        let (event, handler) = (event.clone(), handler.clone());
        let key = Key::of(&event, &handler);
        let mut letter = DeadLetter { event, handler, attempts, error, first_failed_at: at, last_failed_at: at };
        if self.capacity == 0 {
            return Some(letter);
        }
        if let Some(kept) = self.places.get(&key).and_then(|place| self.letters.get_mut(place)) {
            letter.attempts = letter.attempts.saturating_add(kept.letter.attempts);
            letter.first_failed_at = kept.letter.first_failed_at;
            // The wall clock may have been set back.
            letter.last_failed_at = at.max(kept.letter.last_failed_at);
            kept.redriving = false;
            return Some(std::mem::replace(&mut kept.letter, letter));
        }
        let evicted = if self.letters.len() >= self.capacity { self.evict() } else { None };
        self.places.insert(key, self.next);
        self.letters.insert(self.next, Kept { letter, redriving: false });
        self.next += 1;
        evicted
    }

    /// Marks the oldest `max` that nobody redrives and `eligible` picks; they are the caller's to run, and each ends by
    /// [`succeeded`](Self::succeeded), [`note`](Self::note) or [`release`](Self::release).
    pub(crate) fn begin_redrive(&mut self, max: usize, eligible: impl Fn(&DeadLetter) -> bool) -> Vec<DeadLetter> {
        let free = self.letters.values_mut().filter(|kept| !kept.redriving && eligible(&kept.letter));
        let mark = |kept: &mut Kept| {
            kept.redriving = true;
            kept.letter.clone()
        };
        free.take(max).map(mark).collect()
    }

    /// A redrive went well: the letter is gone.
    #[must_use = "to be dropped outside of any lock"]
    pub(crate) fn succeeded(&mut self, event: &AnyEvent, handler: &HandlerInfo) -> Option<DeadLetter> {
        let place = self.places.remove(&Key::of(event, handler))?;
        self.letters.remove(&place).map(|kept| kept.letter)
    }

    /// A redrive did not come to run the handler: the letter is as it was.
    pub(crate) fn release(&mut self, event: &AnyEvent, handler: &HandlerInfo) {
        if let Some(kept) = self.places.get(&Key::of(event, handler)).and_then(|place| self.letters.get_mut(place)) {
            kept.redriving = false;
        }
    }

    /// Takes all out, those being redriven too: one of them that fails again afterwards becomes a new letter.
    #[must_use = "to be dropped outside of any lock"]
    pub(crate) fn clear(&mut self) -> Vec<DeadLetter> {
        self.places.clear();
        std::mem::take(&mut self.letters).into_values().map(|kept| kept.letter).collect()
    }

    /// The oldest that is not being redriven, or the oldest of all.
    fn evict(&mut self) -> Option<DeadLetter> {
        let free = self.letters.iter().find(|(_, kept)| !kept.redriving).map(|(place, _)| *place);
        let place = free.or_else(|| self.letters.keys().next().copied())?;
        let letter = self.letters.remove(&place)?.letter;
        self.places.remove(&Key::of(&letter.event, &letter.handler));
        self.evicted += 1;
        Some(letter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, EventBus, EventConcurrency, Payload};

    struct Job;
    impl Payload for Job {
        type Output = ();
    }

    struct Shop {
        bus: EventBus,
        handler: HandlerInfo,
        letters: DeadLetters,
        clock: Stamp,
    }

    impl Shop {
        fn new(capacity: usize) -> Shop {
            let bus = EventBus::builder("shop").event_concurrency(EventConcurrency::Parallel).build().unwrap();
            let handler = bus.on(|_: &Event<Job>| {});
            Shop { bus, handler, letters: DeadLetters::new(capacity), clock: 1000 }
        }

        fn event(&self) -> AnyEvent {
            self.bus.emit(Job).as_ref().clone()
        }

        fn fail(&mut self, event: &AnyEvent, attempts: u32) -> Option<DeadLetter> {
            self.clock += 1000;
            let error = Arc::new(HandlerFailure::Failed(format!("at {}", self.clock).into()));
            self.letters.note(event, &self.handler, attempts, error, self.clock)
        }

        fn listed(&self) -> Vec<AnyEvent> {
            self.letters.list().into_iter().map(|letter| letter.event).collect()
        }
    }

    #[track_caller]
    fn same(found: &[AnyEvent], expected: &[AnyEvent]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| a.same(b)));
    }

    #[test]
    fn the_oldest_go_first_and_are_counted() {
        let mut shop = Shop::new(3);
        let events: Vec<_> = (0..5).map(|_| shop.event()).collect();
        let gone: Vec<_> = events.iter().filter_map(|event| shop.fail(event, 1)).map(|letter| letter.event).collect();
        same(&gone, &events[..2]);
        same(&shop.listed(), &events[2..]);
        assert_eq!((shop.letters.len(), shop.letters.evicted()), (3, 2));
    }

    #[test]
    fn a_capacity_of_0_keeps_nothing_and_any_other_is_no_reservation() {
        let mut off = Shop::new(0);
        let event = off.event();
        assert!(off.fail(&event, 1).is_some(), "handed back to be dropped");
        assert_eq!((off.letters.len(), off.letters.evicted()), (0, 0));
        let mut huge = Shop::new(usize::MAX);
        assert!(huge.fail(&event, 1).is_none());
        assert_eq!(huge.letters.len(), 1);
    }

    #[test]
    fn one_per_event_and_handler() {
        let mut shop = Shop::new(10);
        let (first, second) = (shop.event(), shop.event());
        let other = shop.bus.on(|_: &Event<Job>| {});
        assert!(shop.fail(&first, 1).is_none() && shop.fail(&second, 1).is_none());
        let error = Arc::new(HandlerFailure::Panicked("x".into()));
        assert!(shop.letters.note(&first, &other, 1, error, 9000).is_none());
        assert_eq!(shop.letters.len(), 3);
        assert!(shop.fail(&first, 1).is_some(), "the older state of the same letter");
        assert_eq!(shop.letters.len(), 3);
    }

    #[test]
    fn what_fails_again_keeps_its_place_and_its_first_time() {
        let mut shop = Shop::new(10);
        let events: Vec<_> = (0..3).map(|_| shop.event()).collect();
        for event in &events {
            let _ = shop.fail(event, 3);
        }
        let old = shop.letters.begin_redrive(1, |_| true).remove(0);
        let replaced = shop.fail(&events[0], 2).unwrap();
        assert_eq!(replaced.error.to_string(), old.error.to_string());
        same(&shop.listed(), &events);
        let letter = shop.letters.list().remove(0);
        assert_eq!((letter.attempts, letter.first_failed_at), (5, old.first_failed_at));
        assert!(letter.last_failed_at > old.last_failed_at);
        assert_eq!(letter.error.to_string(), format!("at {}", shop.clock));
        shop.clock = 0;
        let _ = shop.fail(&events[0], u32::MAX);
        let again = shop.letters.list().remove(0);
        assert_eq!((again.attempts, again.last_failed_at), (u32::MAX, letter.last_failed_at));
    }

    #[test]
    fn two_redrives_never_have_the_same_letter() {
        let mut shop = Shop::new(10);
        let events: Vec<_> = (0..5).map(|_| shop.event()).collect();
        for event in &events {
            let _ = shop.fail(event, 1);
        }
        let of = |letters: Vec<DeadLetter>| letters.into_iter().map(|letter| letter.event).collect::<Vec<_>>();
        same(&of(shop.letters.begin_redrive(2, |_| true)), &events[..2]);
        same(&of(shop.letters.begin_redrive(usize::MAX, |_| true)), &events[2..]);
        assert!(shop.letters.begin_redrive(9, |_| true).is_empty());
        assert_eq!(shop.letters.len(), 5, "they stay until it is known how it went");

        let handler = shop.handler.clone();
        assert!(shop.letters.succeeded(&events[0], &handler).is_some());
        assert!(shop.letters.succeeded(&events[0], &handler).is_none());
        let _ = shop.fail(&events[1], 1);
        shop.letters.release(&events[2], &handler);
        same(&of(shop.letters.begin_redrive(9, |_| true)), &events[1..3]);
    }

    #[test]
    fn only_eligible_letters_are_redriven() {
        let mut shop = Shop::new(10);
        let event = shop.event();
        let _ = shop.fail(&event, 1);
        shop.bus.off(&shop.handler);
        assert!(shop.letters.begin_redrive(9, |letter| letter.handler.is_registered()).is_empty());
        assert_eq!(shop.letters.begin_redrive(9, |_| true).len(), 1, "it was not marked");
    }

    #[test]
    fn a_letter_being_redriven_is_evicted_last() {
        let mut shop = Shop::new(2);
        let events: Vec<_> = (0..4).map(|_| shop.event()).collect();
        let _ = (shop.fail(&events[0], 1), shop.fail(&events[1], 1));
        shop.letters.begin_redrive(1, |_| true);
        same(&[shop.fail(&events[2], 1).unwrap().event], &events[1..2]);
        shop.letters.begin_redrive(1, |_| true);
        same(&[shop.fail(&events[3], 1).unwrap().event], &events[..1]);
        assert_eq!(shop.letters.evicted(), 2);
        let handler = shop.handler.clone();
        assert!(shop.letters.succeeded(&events[0], &handler).is_none(), "gone, and nothing breaks");
    }

    #[test]
    fn clearing_leaves_lists_alone_and_forgets_redrives() {
        let mut shop = Shop::new(10);
        let event = shop.event();
        let _ = shop.fail(&event, 2);
        let (list, redriven) = (shop.letters.list(), shop.letters.begin_redrive(1, |_| true));
        assert_eq!(shop.letters.clear().len(), 1);
        assert_eq!((shop.letters.len(), list.len(), redriven.len()), (0, 1, 1));
        shop.letters.release(&event, &shop.handler.clone());
        assert!(shop.fail(&event, 1).is_none());
        assert_eq!(shop.letters.list()[0].attempts, 1, "a letter of its own");
    }
}
