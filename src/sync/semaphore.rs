//! Permits with direct hand-off, as pure data: the owner of a semaphore keeps it under a lock of its own.
//!
//! A permit belongs to a token, not to a thread, and every step is idempotent by token. Releasing it and handing it over is one step, so
//! that no other token slips in between. See `README.md` beside this file.

use crate::sync::{Key, Line, Rank};
use crate::sys::planted;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// The holder of a permit: the stamp of an event, and which of its deliveries or invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token {
    pub(crate) stamp: u64,
    pub(crate) part: u64,
}

/// Where a ticket joins the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Before all others: a delivery whose worker was replaced.
    First,
    /// Suspended handlers that come back, and jumps, in order of arrival.
    Front,
    /// What has not started, in the order of a [`Line`].
    Entry,
}

/// What becomes of a permit whose holder sets it down for a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhileSetDown {
    /// Nothing that has not started gets it meanwhile: an event permit keeps its queue waiting.
    Kept,
    /// The next in line gets it, whatever that is: a handler permit.
    Passed,
}

/// A token in line.
#[derive(Debug)]
pub(crate) struct Ticket<T> {
    pub(crate) token: Token,
    /// The token that lends: while that one holds, and lends to nobody else, this one need not wait.
    pub(crate) under: Option<Token>,
    /// Its rank among what has not started.
    pub(crate) rank: Rank,
    /// What happens when its turn comes.
    pub(crate) turn: T,
}

#[derive(Debug)]
struct Holder {
    token: Token,
    under: Option<Token>,
}

/// What a step hands over: the turns that have come.
pub(crate) type Granted<T> = SmallVec<[T; 1]>;

#[derive(Debug)]
pub(crate) struct Semaphore<T> {
    capacity: usize,
    while_set_down: WhileSetDown,
    holders: SmallVec<[Holder; 1]>,
    /// Tokens that have set their permit down for a wait, and will come back for it.
    set_down: SmallVec<[Token; 1]>,
    front: VecDeque<Ticket<T>>,
    entries: Line<Ticket<T>>,
    /// Where `entries` has each ticket, by the stamp of its token.
    keys: FxHashMap<u64, SmallVec<[Key; 1]>>,
    /// Some of `entries` may borrow, so that they are worth a look although there is no room. The line may be very long.
    entries_borrow: bool,
}

impl<T> Semaphore<T> {
    pub(crate) fn new(capacity: usize, while_set_down: WhileSetDown) -> Self {
        Semaphore {
            capacity,
            while_set_down,
            holders: SmallVec::new(),
            set_down: SmallVec::new(),
            front: VecDeque::new(),
            entries: Line::default(),
            keys: FxHashMap::default(),
            entries_borrow: false,
        }
    }

    /// The tokens that hold a permit.
    pub(crate) fn holders(&self) -> impl Iterator<Item = Token> {
        self.holders.iter().map(|holder| holder.token)
    }

    pub(crate) fn holds(&self, token: Token) -> bool {
        self.holders.iter().any(|h| h.token == token)
    }

    /// A ticket of something that has not started stands in line.
    pub(crate) fn has_line(&self) -> bool {
        !self.entries.is_empty()
    }

    /// No token holds a permit, has set one down, or stands in line: a queue may start its next event.
    pub(crate) fn is_quiet(&self) -> bool {
        self.holders.is_empty() && self.set_down.is_empty() && self.front.is_empty() && self.entries.is_empty()
    }

    /// This token holds the one permit, and no other token has set one down or stands in line.
    #[inline]
    pub(crate) fn is_alone(&self, token: Token) -> bool {
        let only = matches!(&self.holders[..], [holder] if holder.token == token && holder.under.is_none());
        only && self.set_down.is_empty() && self.front.is_empty() && self.entries.is_empty()
    }

    /// Hands the permit from one token to the next: what a release and a take do, where the first [`is_alone`](Semaphore::is_alone).
    #[inline]
    pub(crate) fn pass_on(&mut self, to: Token) {
        if let Some(holder) = self.holders.first_mut() {
            holder.token = to;
        }
    }

    /// Takes a permit without standing in line, if no ticket stands there at the same position or a better one. True also if the token
    /// holds one already.
    pub(crate) fn try_take(&mut self, position: Position, token: Token, under: Option<Token>) -> bool {
        if self.holds(token) {
            return true;
        }
        let lent = under.is_some_and(|under| self.lends(under));
        let first = match position {
            Position::First => true,
            Position::Front => self.front.is_empty(),
            Position::Entry if planted("slip_past_the_line") => true,
            Position::Entry => self.front.is_empty() && self.entries.is_empty() && !self.is_kept(),
        };
        let free = lent || first && self.has_room();
        if free {
            self.admit(token, under);
        }
        free
    }

    /// Puts a ticket in line; its turn may come at once.
    pub(crate) fn stand(&mut self, position: Position, ticket: Ticket<T>) -> Granted<T> {
        match position {
            Position::First => self.front.push_front(ticket),
            Position::Front => self.front.push_back(ticket),
            Position::Entry => {
                self.entries_borrow |= ticket.under.is_some();
                self.enter(ticket);
            }
        }
        self.grant()
    }

    fn enter(&mut self, ticket: Ticket<T>) {
        let stamp = ticket.token.stamp;
        let key = self.entries.enter(ticket.rank, ticket);
        self.keys.entry(stamp).or_default().push(key);
    }

    /// The token sets its permit down for a wait, and will come back for it.
    pub(crate) fn set_down(&mut self, token: Token) -> Granted<T> {
        let Some(at) = self.holders.iter().position(|h| h.token == token) else { return Granted::new() };
        self.holders.remove(at);
        if !self.set_down.contains(&token) {
            self.set_down.push(token);
        }
        self.grant()
    }

    /// The token gives its permit back for good, or does not come back for one that it had set down.
    pub(crate) fn release(&mut self, token: Token) -> Granted<T> {
        if self.holders.is_empty() && self.set_down.is_empty() {
            return Granted::new();
        }
        self.holders.retain(|h| h.token != token);
        self.set_down.retain(|t| *t != token);
        if planted("release_hands_to_nobody") {
            return Granted::new();
        }
        self.grant()
    }

    /// Takes tickets of an event out of the line. The first list are theirs, of which threads must be rung; the second are the turns that
    /// come now.
    pub(crate) fn withdraw(&mut self, stamp: u64, whose: impl Fn(Token) -> bool) -> (Granted<T>, Granted<T>) {
        let mut withdrawn = Granted::new();
        let mut at = 0;
        while at < self.front.len() {
            if self.front[at].token.stamp != stamp || !whose(self.front[at].token) {
                at += 1;
            } else if let Some(ticket) = self.front.remove(at) {
                withdrawn.push(ticket.turn);
            }
        }
        self.leave_entries(stamp, |ticket| whose(ticket.token), |turn| withdrawn.push(turn));
        (withdrawn, self.grant())
    }

    /// Takes those entries of an event out of the line that `whose` picks.
    fn leave_entries(&mut self, stamp: u64, whose: impl Fn(&Ticket<T>) -> bool, mut gone: impl FnMut(T)) {
        let picked = |key: &Key| self.entries.get(*key).is_some_and(&whose);
        let keys: SmallVec<[Key; 1]> = self.keys.get(&stamp).into_iter().flatten().copied().filter(picked).collect();
        for key in keys {
            if let Some(ticket) = self.leave_entry(stamp, key) {
                gone(ticket.turn);
            }
        }
    }

    fn leave_entry(&mut self, stamp: u64, key: Key) -> Option<Ticket<T>> {
        self.forget_key(stamp, |other| other == key);
        self.entries.leave(key)
    }

    fn forget_key(&mut self, stamp: u64, which: impl Fn(Key) -> bool) {
        if let Some(keys) = self.keys.get_mut(&stamp) {
            keys.retain(|key| !which(*key));
            if keys.is_empty() {
                self.keys.remove(&stamp);
            }
        }
    }

    /// Takes the tickets of a token out of the line whose turn `whose` picks.
    pub(crate) fn forget_ticket(&mut self, token: Token, whose: impl Fn(&T) -> bool) -> Granted<T> {
        self.front.retain(|t| t.token != token || !whose(&t.turn));
        self.leave_entries(token.stamp, |t| t.token == token && whose(&t.turn), drop);
        self.grant()
    }

    /// What has not started and stands in line under this token has got a higher priority.
    pub(crate) fn raise(&mut self, token: Token, rank: Rank) {
        let is = |t: &Ticket<T>| t.token == token && t.rank.level < rank.level;
        let lower = |key: &Key| self.entries.get(*key).is_some_and(is);
        let key = self.keys.get(&token.stamp).and_then(|keys| keys.iter().copied().find(lower));
        if let Some(mut ticket) = key.and_then(|key| self.leave_entry(token.stamp, key)) {
            ticket.rank = rank;
            self.enter(ticket);
        }
    }

    /// What the token `from` holds belongs to `to` from now on.
    pub(crate) fn rename(&mut self, from: Token, to: Token) {
        for holder in &mut self.holders {
            if holder.token == from {
                holder.token = to;
            }
        }
    }

    pub(crate) fn in_line(&self, token: Token, whose: impl Fn(&T) -> bool) -> bool {
        let mut entries = self.keys.get(&token.stamp).into_iter().flatten().filter_map(|key| self.entries.get(*key));
        let is = |t: &Ticket<T>| t.token == token && whose(&t.turn);
        self.front.iter().any(is) || entries.any(is)
    }

    /// This token has yet to do with a permit: it holds one, has set one down, or stands in line.
    pub(crate) fn keeps(&self, token: Token) -> bool {
        self.holds(token) || self.set_down.contains(&token) || self.in_line(token, |_| true)
    }

    /// The holders, those that have set a permit down, and the line: for people.
    pub(crate) fn describe(&self, name: &dyn Fn(Token) -> String) -> String {
        let list = |tokens: &mut dyn Iterator<Item = Token>| tokens.map(name).collect::<Vec<_>>().join(", ");
        format!(
            "held by [{}], given up by [{}], in front [{}], in line [{}]",
            list(&mut self.holders.iter().map(|h| h.token)),
            list(&mut self.set_down.iter().copied()),
            list(&mut self.front.iter().map(|t| t.token)),
            list(&mut self.entries.iter().map(|(_, t)| t.token)),
        )
    }

    fn is_kept(&self) -> bool {
        self.while_set_down == WhileSetDown::Kept && !self.set_down.is_empty() && !planted("yielded_turn_not_kept")
    }

    fn has_room(&self) -> bool {
        // A token that holds under another holder takes no room of its own.
        let roots = self.holders.iter().filter(|h| h.under.is_none_or(|u| !self.holds(u))).count();
        roots < self.capacity
    }

    /// The token holds a permit, and no other one has borrowed that.
    #[inline]
    pub(crate) fn lends(&self, to: Token) -> bool {
        self.holds(to) && self.holders.iter().all(|h| h.under != Some(to))
    }

    fn admit(&mut self, token: Token, under: Option<Token>) {
        self.set_down.retain(|t| *t != token);
        self.holders.push(Holder { token, under });
    }

    /// Takes the first entry out of the line.
    fn next_entry(&mut self) -> Option<Ticket<T>> {
        let (key, ticket) = self.entries.next()?;
        self.forget_key(ticket.token.stamp, |other| other == key);
        Some(ticket)
    }

    fn grant(&mut self) -> Granted<T> {
        let mut granted = Granted::new();
        if self.front.is_empty() && self.entries.is_empty() {
            return granted;
        }
        loop {
            let room = self.has_room();
            let fits = |t: &Ticket<T>| room || self.holds(t.token) || t.under.is_some_and(|u| self.lends(u));
            let ticket = if let Some(at) = self.front.iter().position(fits) {
                self.front.remove(at)
            } else if self.is_kept() || !room && !self.entries_borrow {
                None
            } else if room {
                self.next_entry()
            } else {
                let loan = self.entries.iter().find(|(_, t)| fits(t)).map(|(key, t)| (key, t.token.stamp));
                loan.and_then(|(key, stamp)| self.leave_entry(stamp, key))
            };
            let Some(ticket) = ticket else { return granted };
            // Two threads of one delivery that come back share what the first of them got.
            if !self.holds(ticket.token) {
                self.admit(ticket.token, ticket.under);
            }
            granted.push(ticket.turn);
        }
    }
}

#[cfg(test)]
#[path = "semaphore/tests.rs"] // Models take this file in by its path, too.
mod tests;
