//! A cap on how many may be inside at once, as pure data: in the order of a [`Line`], handed on in the step that gives it back, lent to
//! what a holder waits for.
//!
//! It differs from the [`Semaphore`](super::Semaphore) of a bus in what a wait does: a holder that waits keeps its place, since what the
//! cap guards (a connection, a tab) stays with it, and only tokens that it waits for may share it. Each holder lends to one at a time, so
//! the holders that share a place are a chain. When one in the middle leaves, its borrower moves up under its lender, and without a lender it
//! has the place: so the number of holders that are not waiting for one another never passes the maximum. See `README.md` beside this file.

use crate::sync::{Granted, Key, Line, Rank, Token};
use crate::sys::planted;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BTreeSet;

#[derive(Debug)]
struct Holder<T> {
    /// The holder whose place it shares; that one's `lent` is this holder.
    under: Option<Token>,
    /// The holder that shares its place.
    lent: Option<Token>,
    /// Went in without a place of its own, when it had waited long enough.
    uncounted: bool,
    /// It waits until the holder that shares its place leaves, and lends no more.
    comes_back: bool,
    /// What happens then, or when another holder shares the place.
    turn: Option<T>,
}

/// A token in line.
#[derive(Debug)]
struct Ticket<T> {
    token: Token,
    level: u8,
    /// Holders that wait for this one, and would share their place with it.
    lenders: SmallVec<[Token; 1]>,
    turn: T,
}

/// The tickets that a holder would lend its place to: the highest level first, then in order of arrival.
type Offer = BTreeSet<(Reverse<u8>, u64, Token)>;

/// `T` is what happens when a turn comes.
#[derive(Debug)]
pub(crate) struct Cap<T> {
    max: usize,
    holders: FxHashMap<Token, Holder<T>>,
    /// Holders with a place of their own.
    places: usize,
    line: Line<Ticket<T>>,
    keys: FxHashMap<Token, Key>,
    /// By the holder that would lend. Few holders are parked.
    offers: FxHashMap<Token, Offer>,
}

impl<T> Cap<T> {
    /// `max` is at least 1.
    pub(crate) fn new(max: usize) -> Self {
        Cap {
            max: max.max(1),
            holders: FxHashMap::default(),
            places: 0,
            line: Line::default(),
            keys: FxHashMap::default(),
            offers: FxHashMap::default(),
        }
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    pub(crate) fn holds(&self, token: Token) -> bool {
        self.holders.contains_key(&token)
    }

    pub(crate) fn inside(&self) -> usize {
        self.holders.len()
    }

    pub(crate) fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    pub(crate) fn in_line(&self, token: Token) -> bool {
        self.keys.contains_key(&token)
    }

    /// The holder that shares the place of `lender`.
    pub(crate) fn borrower(&self, lender: Token) -> Option<Token> {
        self.holders.get(&lender)?.lent
    }

    /// Goes in at once if there is a place, or one of `lenders` shares its own. True also for a token that is inside already.
    pub(crate) fn try_take(&mut self, token: Token, lenders: &[Token]) -> bool {
        if self.holds(token) {
            return true;
        }
        let under = lenders.iter().copied().find(|lender| self.lends(*lender));
        let free = under.is_some() || self.line.is_empty() && self.has_room();
        if free {
            self.admit(token, under);
        }
        free
    }

    /// Puts a token in line; its turn may come at once. Once per token: the turn of a second ticket would find it inside.
    pub(crate) fn stand(&mut self, token: Token, rank: Rank, lenders: &[Token], turn: T) -> Granted<T> {
        debug_assert!(!self.holds(token) && !self.in_line(token), "a token stands in line once");
        let ticket = Ticket { token, level: rank.level, lenders: SmallVec::from_slice(lenders), turn };
        let key = self.line.enter(rank, ticket);
        self.keys.insert(token, key);
        for lender in lenders {
            self.offers.entry(*lender).or_default().insert((Reverse(rank.level), key.number, token));
        }
        self.grant()
    }

    /// `lender` waits for those in line that `to` picks, and shares its place with one of them at a time, until
    /// [`take_back`](Cap::take_back). Nothing happens if it has no place.
    pub(crate) fn lend(&mut self, lender: Token, to: impl Fn(Token) -> bool) -> Granted<T> {
        if !self.holds(lender) {
            return Granted::new();
        }
        let picked = self.line.iter().filter(|(_, t)| t.token != lender && to(t.token) && !t.lenders.contains(&lender));
        for key in picked.map(|(key, _)| key).collect::<Vec<_>>() {
            if let Some(ticket) = self.line.get_mut(key) {
                ticket.lenders.push(lender);
                self.offers.entry(lender).or_default().insert((Reverse(ticket.level), key.number, ticket.token));
            }
        }
        self.grant()
    }

    /// These holders wait for a token in line, and would share their places with it. Nothing happens to one that is not in line any more.
    pub(crate) fn offer(&mut self, token: Token, lenders: &[Token]) -> Granted<T> {
        let Some((number, ticket)) = self.keys.get(&token).and_then(|key| Some((key.number, self.line.get_mut(*key)?)))
        else {
            return Granted::new();
        };
        for lender in lenders.iter().filter(|lender| self.holders.contains_key(lender)) {
            if !ticket.lenders.contains(lender) {
                ticket.lenders.push(*lender);
                self.offers.entry(*lender).or_default().insert((Reverse(ticket.level), number, token));
            }
        }
        self.grant()
    }

    /// The wait of `lender` is over: it lends no more. True if it has its place for itself; else `turn` comes when it has, or when
    /// another one shares its place: then it asks again.
    pub(crate) fn take_back(&mut self, lender: Token, turn: impl FnOnce() -> T) -> bool {
        self.withdraw_offers(lender);
        let Some(holder) = self.holders.get_mut(&lender) else { return true };
        holder.comes_back = holder.lent.is_some();
        holder.turn = holder.comes_back.then(turn);
        !holder.comes_back
    }

    /// The token goes out. The holder that shares its place moves up to its lender, or has the place from now on.
    pub(crate) fn release(&mut self, token: Token) -> Granted<T> {
        self.withdraw_offers(token);
        let Some(gone) = self.holders.remove(&token) else { return Granted::new() };
        let mut granted = Granted::new();
        let heir = if planted("borrower_keeps_the_place") { None } else { gone.lent };
        if let Some(borrower) = gone.lent.and_then(|borrower| self.holders.get_mut(&borrower)) {
            borrower.under = gone.under.filter(|_| heir.is_some());
        }
        match gone.under.and_then(|lender| self.holders.get_mut(&lender)) {
            Some(lender) => {
                lender.lent = heir;
                lender.comes_back &= heir.is_some();
                granted.extend(lender.turn.take());
            }
            None => self.places -= usize::from(!gone.uncounted && gone.lent.is_none()),
        }
        granted.extend(self.grant());
        granted
    }

    /// Takes a token out of the line. Its turn is handed back, to be dropped outside of any lock; `None` if the turn has come, or there never was one.
    pub(crate) fn leave_line(&mut self, token: Token) -> Option<T> {
        let ticket = self.line.leave(*self.keys.get(&token)?)?;
        Some(self.out_of_line(ticket))
    }

    /// Takes a token out of the line and lets it in without a place: it takes no other one's, and has none to lend.
    pub(crate) fn go_in_anyway(&mut self, token: Token) -> Option<T> {
        let turn = self.leave_line(token)?;
        let holder = Holder { under: None, lent: None, uncounted: true, comes_back: false, turn: None };
        self.holders.insert(token, holder);
        Some(turn)
    }

    /// The holders with their lenders, and the line with those that would lend: for people.
    pub(crate) fn describe(&self, name: &dyn Fn(Token) -> String) -> String {
        let holder = |(token, h): (&Token, &Holder<T>)| {
            let under = h.under.map(|under| format!(" under {}", name(under))).unwrap_or_default();
            let back = if h.comes_back { ", wants it back" } else { "" };
            format!("{}{under}{back}", name(*token))
        };
        let ticket = |t: &Ticket<T>| {
            let lenders: Vec<_> = t.lenders.iter().map(|lender| name(*lender)).collect();
            format!("{} lent to by [{}]", name(t.token), lenders.join(", "))
        };
        let inside: Vec<_> = self.holders.iter().map(holder).collect();
        let line: Vec<_> = self.line.iter().map(|(_, t)| ticket(t)).collect();
        format!("{} of {} inside [{}], in line [{}]", inside.len(), self.max, inside.join("; "), line.join("; "))
    }

    fn has_room(&self) -> bool {
        self.places < self.max
    }

    /// It has a place, does not wait to have it back, and shares it with no other one.
    pub(crate) fn lends(&self, lender: Token) -> bool {
        self.holders.get(&lender).is_some_and(|h| !h.uncounted && !h.comes_back && h.lent.is_none())
    }

    fn admit(&mut self, token: Token, under: Option<Token>) {
        match under.and_then(|lender| self.holders.get_mut(&lender)) {
            Some(lender) => lender.lent = Some(token),
            None => self.places += 1,
        }
        self.holders.insert(token, Holder { under, lent: None, uncounted: false, comes_back: false, turn: None });
    }

    /// `lender` offers its place to no ticket in line any more.
    fn withdraw_offers(&mut self, lender: Token) {
        for (.., token) in self.offers.remove(&lender).unwrap_or_default() {
            if let Some(ticket) = self.keys.get(&token).and_then(|key| self.line.get_mut(*key)) {
                ticket.lenders.retain(|l| *l != lender);
            }
        }
    }

    /// Completes the leaving of a ticket that is out of `line`: no holder offers it a place any more.
    fn out_of_line(&mut self, ticket: Ticket<T>) -> T {
        let number = self.keys.remove(&ticket.token).map_or(0, |key| key.number);
        for lender in ticket.lenders {
            if let Some(offer) = self.offers.get_mut(&lender) {
                offer.remove(&(Reverse(ticket.level), number, ticket.token));
                if offer.is_empty() {
                    self.offers.remove(&lender);
                }
            }
        }
        ticket.turn
    }

    /// The best ticket that some holder would lend its place to, and that holder.
    fn next_loan(&self) -> Option<(Token, Token)> {
        let lending = self.offers.iter().filter(|(lender, _)| self.lends(**lender));
        let (.., best) = lending.filter_map(|(_, offer)| offer.first()).min()?;
        let ticket = self.line.get(*self.keys.get(best)?)?;
        Some((*best, ticket.lenders.iter().copied().find(|lender| self.lends(*lender))?))
    }

    /// Loans first, then places that are free.
    fn grant(&mut self) -> Granted<T> {
        let mut granted = Granted::new();
        while !self.line.is_empty() {
            let (token, under, turn) = if let Some((token, lender)) = self.next_loan()
                && let Some(turn) = self.leave_line(token)
            {
                (token, Some(lender), turn)
            } else if self.has_room()
                && let Some((_, ticket)) = self.line.next()
            {
                (ticket.token, None, self.out_of_line(ticket))
            } else {
                break;
            };
            self.admit(token, under);
            granted.push(turn);
        }
        granted
    }
}

#[cfg(test)]
#[path = "cap/tests.rs"] // Models take this file in by its path, too.
mod tests;
