//! Events in the order in which they came, each found by its number or its id without a walk.

use crate::event::{AnyEvent, EventId};
use crate::sys::clock::id_time;
use crate::sys::random::time_of;
use std::collections::{BTreeMap, VecDeque};

/// An event leaves a gap unless so few came before it or after it.
const NEAR: usize = 32;
/// Fewer gaps are not worth closing.
const GAPS: usize = 64;

/// A number is the time in the event's id, in nanoseconds: ids mostly rise, so a search by halves finds them. An event whose id is no
/// higher than the number before it, or lies in the future, is a *stray*: it gets the next number, and a list of its own knows it by its id.
#[derive(Default)]
pub(crate) struct Shelf {
    /// By rising numbers. Neither the first nor the last is a gap.
    places: VecDeque<Place>,
    gaps: usize,
    /// Above all numbers so far.
    next: u64,
    strays: BTreeMap<EventId, u64>,
}

struct Place {
    number: u64,
    event: Option<AnyEvent>,
}

impl Shelf {
    /// Its number. `foreign`: its id need not come from this process's clock.
    #[inline(always)]
    pub(crate) fn push(&mut self, event: AnyEvent, foreign: bool) -> u64 {
        let head = event.head();
        let id = head.id();
        let time = time_of(id.0);
        let rises = time >= self.next && !(foreign && time > id_time(head.stamp()));
        let number = if rises { time } else { self.next };
        if !rises {
            self.note_stray(id, number);
        }
        self.next = number + 1;
        self.places.push_back(Place { number, event: Some(event) });
        number
    }

    #[cold]
    fn note_stray(&mut self, id: EventId, number: u64) {
        self.strays.insert(id, number);
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.gaps
    }

    /// Above the number of every event so far.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    pub(crate) fn first(&self) -> Option<(u64, &AnyEvent)> {
        self.places.front().and_then(Place::shown)
    }

    /// The one after the first, if nothing between them has gone.
    #[inline(always)]
    pub(crate) fn second(&self) -> Option<(u64, &AnyEvent)> {
        self.places.get(1).and_then(Place::shown)
    }

    /// Removes that one.
    #[inline(always)]
    pub(crate) fn pop_second(&mut self) -> Option<AnyEvent> {
        let Place { number, event } = self.places.remove(1)?;
        if self.gaps > 0 {
            self.drop_outer_gaps();
        }
        if let (false, Some(event)) = (self.strays.is_empty(), &event) {
            self.forget_stray(number, event.head().id());
        }
        event
    }

    pub(crate) fn last(&self) -> Option<&AnyEvent> {
        self.places.back().and_then(|place| place.event.as_ref())
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &AnyEvent> {
        self.places.iter().filter_map(|place| place.event.as_ref())
    }

    /// Oldest first, from that number on.
    pub(crate) fn iter_from(&self, number: u64) -> impl Iterator<Item = (u64, &AnyEvent)> {
        self.places.range(self.before(number)..).filter_map(Place::shown)
    }

    /// Newest first, below that number, and at most so many places.
    pub(crate) fn iter_below(&self, number: u64, few: usize) -> impl Iterator<Item = (u64, &AnyEvent)> {
        let end = self.before(number);
        self.places.range(end.saturating_sub(few)..end).rev().filter_map(Place::shown)
    }

    pub(crate) fn get(&self, number: u64) -> Option<&AnyEvent> {
        self.places.get(self.before(number)).filter(|place| place.number == number)?.event.as_ref()
    }

    pub(crate) fn number_of(&self, id: EventId) -> Option<u64> {
        let time = time_of(id.0);
        match self.get(time) {
            Some(event) if event.head().id() == id => Some(time),
            _ => self.strays.get(&id).copied(),
        }
    }

    #[inline(always)]
    pub(crate) fn pop_first(&mut self) -> Option<AnyEvent> {
        let Place { number, event } = self.places.pop_front()?;
        if self.gaps > 0 {
            self.drop_outer_gaps();
        }
        if let (false, Some(event)) = (self.strays.is_empty(), &event) {
            self.forget_stray(number, event.head().id());
        }
        event
    }

    #[cold]
    fn forget_stray(&mut self, number: u64, id: EventId) {
        if self.strays.get(&id) == Some(&number) {
            self.strays.remove(&id);
        }
    }

    #[cold]
    fn drop_outer_gaps(&mut self) {
        while self.places.front().is_some_and(|place| place.event.is_none()) {
            self.places.pop_front();
            self.gaps -= 1;
        }
        while self.places.back().is_some_and(|place| place.event.is_none()) {
            self.places.pop_back();
            self.gaps -= 1;
        }
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<AnyEvent> {
        let at = self.before(number);
        let place = self.places.get_mut(at).filter(|place| place.number == number)?;
        let gone = place.event.take()?;
        self.gaps += 1;
        self.forget_stray(number, gone.head().id());
        if at < NEAR || self.places.len() - at <= NEAR {
            self.places.remove(at);
            self.gaps -= 1;
        }
        self.drop_outer_gaps();
        if self.gaps > GAPS.max(self.places.len() / 2) {
            self.places.retain(|place| place.event.is_some());
            self.gaps = 0;
        }
        Some(gone)
    }

    pub(crate) fn clear(&mut self) -> Vec<AnyEvent> {
        self.gaps = 0;
        self.strays.clear();
        std::mem::take(&mut self.places).into_iter().filter_map(|place| place.event).collect()
    }

    /// How many places are below that number. Times are mostly spread evenly, so the search begins where the number would be then, and takes
    /// wider steps the further it is off.
    fn before(&self, number: u64) -> usize {
        let (Some(first), Some(last)) = (self.places.front(), self.places.back()) else { return 0 };
        if number <= first.number {
            return 0;
        }
        if number > last.number {
            return self.places.len();
        }
        let share = (number - first.number) as f64 / (last.number - first.number) as f64;
        let guess = (share * (self.places.len() - 1) as f64) as usize;
        let is_below = |at: usize| self.places.get(at).is_some_and(|place| place.number < number);
        let (mut low, mut high);
        let mut step = 1;
        if is_below(guess) {
            low = guess + 1;
            while is_below(low + step) {
                low += step + 1;
                step *= 2;
            }
            high = self.places.len().min(low + step);
        } else {
            high = guess;
            while step <= high && !is_below(high - step) {
                high -= step;
                step *= 2;
            }
            low = high.saturating_sub(step);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if is_below(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

impl Place {
    fn shown(&self) -> Option<(u64, &AnyEvent)> {
        self.event.as_ref().map(|event| (self.number, event))
    }
}
