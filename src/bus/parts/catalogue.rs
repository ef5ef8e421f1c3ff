//! Which events of a history are of which type, so that a find meets only those it may want. Made by the first find that looks far back,
//! as far back as finds have looked, and let go of when finds have stopped.

use crate::bus::parts::shelf::Shelf;
use crate::event::AnyEvent;
use rustc_hash::FxHashMap;
use std::any::TypeId;
use std::collections::VecDeque;

/// Of a type: what it is called, which only the user's code can tell.
pub(crate) type NameOf = fn() -> &'static str;

/// What a find looks for.
pub(crate) enum Sought<'a> {
    Type(TypeId),
    /// `types`: whether a type is called so, for each that the find has met.
    Name {
        name: &'a str,
        types: &'a FxHashMap<TypeId, bool>,
    },
}

#[derive(Default)]
pub(crate) struct Catalogue {
    /// It has every event of the shelf from this number on.
    from: u64,
    typed: FxHashMap<TypeId, Typed>,
    /// Events without a type here, by name.
    named: FxHashMap<Box<str>, Numbers>,
    /// All numbers in it, also of events that are gone.
    size: usize,
    /// How many came since somebody last looked.
    unasked: usize,
}

struct Typed {
    name: NameOf,
    numbers: Numbers,
}

/// Rising.
type Numbers = VecDeque<u64>;

impl Catalogue {
    /// Of events that are still to come.
    pub(crate) fn beginning_at(number: u64) -> Catalogue {
        Catalogue { from: number, ..Catalogue::default() }
    }

    pub(crate) fn first_number(&self) -> u64 {
        self.from
    }

    /// A new event is on the shelf. False if nobody has looked for so long that the catalogue had better be made anew.
    pub(crate) fn note(&mut self, number: u64, event: &AnyEvent, shelf: &Shelf) -> bool {
        self.numbers_of(event).push_back(number);
        self.size += 1;
        self.unasked += 1;
        if self.size > 2 * shelf.len() + 1024 {
            self.forget_what_is_gone(shelf);
        }
        self.unasked <= 4 * shelf.len()
    }

    /// Goes further back, by so many places.
    pub(crate) fn extend(&mut self, shelf: &Shelf, few: usize) {
        let mut lowest = 0;
        for (number, event) in shelf.iter_below(self.from, few) {
            self.numbers_of(event).push_front(number);
            self.size += 1;
            lowest = number;
        }
        self.from = lowest;
    }

    /// Types of which the find has yet to ask the names.
    pub(crate) fn unknown(&self, types: &FxHashMap<TypeId, bool>) -> Vec<(TypeId, NameOf)> {
        let unknown = self.typed.iter().filter(|(payload, _)| !types.contains_key(*payload));
        unknown.map(|(payload, typed)| (*payload, typed.name)).collect()
    }

    /// The numbers below `before` of what is sought, highest first.
    pub(crate) fn below(&mut self, sought: &Sought<'_>, before: u64) -> impl Iterator<Item = u64> {
        self.unasked = 0;
        let lists: Vec<&Numbers> = match sought {
            Sought::Type(payload) => self.typed.get(payload).map(|typed| &typed.numbers).into_iter().collect(),
            Sought::Name { name, types } => {
                let typed = types.iter().filter(|(_, fits)| **fits).filter_map(|(payload, _)| self.typed.get(payload));
                typed.map(|typed| &typed.numbers).chain(self.named.get(*name)).collect()
            }
        };
        let ends = lists.into_iter().map(|list| (list, list.partition_point(|number| *number < before)));
        let mut ends: Vec<(&Numbers, usize)> = ends.collect();
        std::iter::from_fn(move || {
            let highest = ends.iter_mut().max_by_key(|(list, end)| end.checked_sub(1).and_then(|at| list.get(at)))?;
            let number = highest.0.get(highest.1.checked_sub(1)?).copied();
            highest.1 -= 1;
            number
        })
    }

    fn numbers_of(&mut self, event: &AnyEvent) -> &mut Numbers {
        let body = event.body();
        let typed = body.known_type().filter(|known| body.payload_type() == Some(known.payload));
        match typed {
            Some(known) => {
                let new = || Typed { name: known.name, numbers: Numbers::new() };
                &mut self.typed.entry(known.payload).or_insert_with(new).numbers
            }
            // Without a payload type the name is no user's code.
            None => self.named.entry(body.event_type().into()).or_default(),
        }
    }

    /// What leaves a history is mostly its oldest.
    fn forget_what_is_gone(&mut self, shelf: &Shelf) {
        let oldest = shelf.first().map_or(u64::MAX, |(oldest, _)| oldest);
        self.keep(|numbers| drop(numbers.drain(..numbers.partition_point(|number| *number < oldest))));
        if self.size > shelf.len() + shelf.len() / 2 + 512 {
            self.keep(|numbers| numbers.retain(|number| shelf.get(*number).is_some()));
        }
    }

    fn keep(&mut self, some_of: impl Fn(&mut Numbers)) {
        let mut size = 0;
        let mut keep = |numbers: &mut Numbers| {
            some_of(numbers);
            size += numbers.len();
            !numbers.is_empty()
        };
        self.typed.retain(|_, typed| keep(&mut typed.numbers));
        self.named.retain(|_, numbers| keep(numbers));
        self.size = size;
    }
}
