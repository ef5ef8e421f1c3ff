//! The failures that a bus keeps, as pure data: bounded, one per event and handler, the oldest gone first.
//!
//! Nothing of the user's is dropped in here: what goes out is handed to the caller, who drops it outside of any lock.

use crate::event::{AnyEvent, HandlerFailure, HandlerId, HandlerInfo};
use crate::sys::clock::{self, Stamp};
use chrono::{DateTime, Utc};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// An event with a handler that failed for good.
///
/// That is after all its attempts, or when the event was dropped before the handler could run it.
/// [`EventBus::dead_letters`](crate::EventBus::dead_letters) lists these.
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
    /// The last failure was a [`HandlerError::permanent`](crate::HandlerError::permanent): [`redrive`](crate::EventBus::redrive) leaves it out.
    pub permanent: bool,
    /// When it had failed for good the first time.
    pub first_failed_at: DateTime<Utc>,
    /// When it had failed for good the last time; later than the first only after a redrive.
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
        Key { stamp: event.head().stamp(), handler: handler.id() }
    }
}

/// Notes a letter of what failed below a redriven handler, should that succeed. To be called, or dropped, outside of any lock.
pub(crate) type Later = Box<dyn FnOnce() + Send>;

struct Kept {
    letter: DeadLetter,
    /// The event with the handler that failed, and with those that were registered anew in its place.
    keys: SmallVec<[Key; 1]>,
    /// Letters are redriven in the order of their turns.
    turn: u64,
    /// When the redrive began that is under way.
    redriving: Option<Stamp>,
    /// When the last redrive began that did not succeed.
    in_vain: Option<Stamp>,
    /// What failed below the redrive that is under way.
    below: VecDeque<Later>,
}

/// What a redrive was, or a letter: to be dropped outside of any lock.
#[must_use = "to be dropped outside of any lock"]
#[derive(Default)]
pub(crate) struct Gone {
    pub(crate) letters: Vec<DeadLetter>,
    pub(crate) below: VecDeque<Later>,
}

/// What becomes of a letter below a handler that was redriven.
pub(crate) enum Below {
    /// It has nothing to do with a redrive: to be noted.
    Free(Later),
    /// Kept until the redrive has ended; the oldest of those that are kept may have to go for it.
    Held(Option<Later>),
    /// The redrive failed, and its letter stands for all below it.
    Never(Later),
}

pub(crate) struct DeadLetters {
    capacity: usize,
    /// By number: in the order in which they failed first.
    letters: BTreeMap<u64, Kept>,
    numbers: FxHashMap<Key, u64>,
    /// Numbers of letters, by turn.
    turns: BTreeMap<u64, u64>,
    next: u64,
    evicted: u64,
}

impl DeadLetters {
    /// For at most `capacity` letters; with 0 none is kept.
    pub(crate) fn new(capacity: usize) -> Self {
        let (letters, turns) = (BTreeMap::new(), BTreeMap::new());
        DeadLetters { capacity, letters, numbers: FxHashMap::default(), turns, next: 0, evicted: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.letters.len()
    }

    /// How many letters had to go for later ones.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// All letters, oldest first.
    pub(crate) fn list(&self) -> Vec<DeadLetter> {
        self.letters.values().map(|kept| kept.letter.clone()).collect()
    }

    /// Notes that a handler has failed for good. If this was a redrive, its letter keeps its number and its first time, and is free for the
    /// next redrive, behind all others.
    pub(crate) fn note(&mut self, failed: Failed<'_>) -> Gone {
        let Failed { event, handler, attempts, error, permanent, at } = failed;
        let at = clock::to_utc(at);
        let (event, handler) = (event.clone(), handler.clone());
        let key = Key::of(&event, &handler);
        let mut letter =
            DeadLetter { event, handler, attempts, error, permanent, first_failed_at: at, last_failed_at: at };
        if self.capacity == 0 {
            return Gone { letters: vec![letter], ..Gone::default() };
        }
        let turn = self.next;
        self.next += 1;
        if let Some(number) = self.numbers.get(&key)
            && let Some(kept) = self.letters.get_mut(number)
        {
            letter.attempts = letter.attempts.saturating_add(kept.letter.attempts);
            letter.first_failed_at = kept.letter.first_failed_at;
            // The wall clock may have been set back.
            letter.last_failed_at = at.max(kept.letter.last_failed_at);
            self.turns.remove(&kept.turn);
            self.turns.insert(turn, *number);
            return kept.has_failed_again(turn, Some(letter));
        }
        let mut gone = Gone::default();
        if self.letters.len() >= self.capacity {
            gone = self.evict();
        }
        let (keys, below) = (SmallVec::from_elem(key, 1), VecDeque::new());
        self.numbers.insert(key, turn);
        self.turns.insert(turn, turn);
        self.letters.insert(turn, Kept { letter, keys, turn, redriving: None, in_vain: None, below });
        gone
    }

    /// A redrive that begins now takes letters with turns before this one: none that fail from here on.
    pub(crate) fn last_turn(&self) -> u64 {
        self.next
    }

    /// The next letter with one of these turns that is not being redriven: the one that was not tried for the longest time.
    pub(crate) fn next(&self, turns: Range<u64>) -> Option<(u64, DeadLetter)> {
        let kept = |number| self.letters.get(number).filter(|kept| kept.redriving.is_none());
        self.turns.range(turns).find_map(|(turn, number)| Some((*turn, kept(number)?.letter.clone())))
    }

    /// Marks a letter, of which `handler` is to be run again; it is the caller's, and ends by [`remove`](Self::remove),
    /// [`note`](Self::note) or [`release`](Self::release). False if it is gone, another thread redrives it, or `handler` has a letter of its
    /// own.
    pub(crate) fn begin(&mut self, letter: &DeadLetter, handler: &HandlerInfo, now: Stamp) -> bool {
        let key = Key::of(&letter.event, handler);
        let Some(number) = self.numbers.get(&Key::of(&letter.event, &letter.handler)).copied() else { return false };
        if self.numbers.get(&key).is_some_and(|other| *other != number) {
            return false;
        }
        let Some(kept) = self.letters.get_mut(&number).filter(|kept| kept.redriving.is_none()) else { return false };
        kept.redriving = Some(now);
        if !kept.keys.contains(&key) {
            kept.keys.push(key);
            self.numbers.insert(key, number);
        }
        true
    }

    /// Takes a letter out, since its redrive went well, or the user wants it no more. What failed below the redrive has failed for good.
    pub(crate) fn remove(&mut self, event: &AnyEvent, handler: &HandlerInfo) -> Option<(DeadLetter, VecDeque<Later>)> {
        let number = self.numbers.get(&Key::of(event, handler)).copied()?;
        let kept = self.take_out(number)?;
        Some((kept.letter, kept.below))
    }

    /// Frees a letter whose redrive did not come to run the handler to its end: it is as it was, behind all others.
    pub(crate) fn release(&mut self, event: &AnyEvent, handler: &HandlerInfo) -> Gone {
        let Some(number) = self.numbers.get(&Key::of(event, handler)) else { return Gone::default() };
        let Some(kept) = self.letters.get_mut(number) else { return Gone::default() };
        self.turns.remove(&kept.turn);
        self.turns.insert(self.next, *number);
        self.next += 1;
        kept.has_failed_again(self.next - 1, None)
    }

    /// What becomes of `later`, which failed below this handler of this event, by way of what that emitted at `child`.
    pub(crate) fn below(&mut self, event: &AnyEvent, handler: HandlerId, child: Stamp, later: Later) -> Below {
        let key = Key { stamp: event.head().stamp(), handler };
        let Some(kept) = self.numbers.get(&key).and_then(|number| self.letters.get_mut(number)) else {
            return Below::Free(later);
        };
        let emitted_by = |redrive: Option<Stamp>| redrive.is_some_and(|since| child > since);
        if emitted_by(kept.redriving) {
            kept.below.push_back(later);
            // More could not be kept as letters either.
            let too_many = kept.below.len() > self.capacity;
            return Below::Held(if too_many { kept.below.pop_front() } else { None });
        }
        if emitted_by(kept.in_vain) { Below::Never(later) } else { Below::Free(later) }
    }

    /// Takes all out, those being redriven too: one of them that fails again afterwards becomes a new letter.
    pub(crate) fn clear(&mut self) -> Gone {
        self.numbers.clear();
        self.turns.clear();
        let mut gone = Gone::default();
        for kept in std::mem::take(&mut self.letters).into_values() {
            gone.letters.push(kept.letter);
            gone.below.extend(kept.below);
        }
        gone
    }

    /// Takes out the oldest letter that is not being redriven, or else the oldest of all.
    fn evict(&mut self) -> Gone {
        let free = self.letters.iter().find(|(_, kept)| kept.redriving.is_none()).map(|(number, _)| *number);
        let number = free.or_else(|| self.letters.keys().next().copied());
        let Some(kept) = number.and_then(|number| self.take_out(number)) else { return Gone::default() };
        self.evicted += 1;
        Gone { letters: vec![kept.letter], below: kept.below }
    }

    fn take_out(&mut self, number: u64) -> Option<Kept> {
        let kept = self.letters.remove(&number)?;
        self.turns.remove(&kept.turn);
        for key in &kept.keys {
            self.numbers.remove(key);
        }
        Some(kept)
    }
}

impl Kept {
    /// The redrive is over, and a letter stays: the one there was, or this one.
    fn has_failed_again(&mut self, turn: u64, letter: Option<DeadLetter>) -> Gone {
        self.turn = turn;
        self.in_vain = self.redriving.take().or(self.in_vain);
        let letters = letter.map(|letter| std::mem::replace(&mut self.letter, letter)).into_iter().collect();
        Gone { letters, below: std::mem::take(&mut self.below) }
    }
}

/// A handler that failed for good.
pub(crate) struct Failed<'a> {
    pub(crate) event: &'a AnyEvent,
    pub(crate) handler: &'a HandlerInfo,
    /// The attempts of this delivery.
    pub(crate) attempts: u32,
    pub(crate) error: Arc<HandlerFailure>,
    pub(crate) permanent: bool,
    pub(crate) at: Stamp,
}

#[cfg(test)]
mod tests;
