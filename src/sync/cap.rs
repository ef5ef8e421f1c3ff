//! A cap on how many may be inside at once, as pure data: first come first served, handed on in the step that gives it back, lent to
//! what a holder waits for.
//!
//! It differs from the [`Semaphore`](super::Semaphore) of a bus in what a wait does: a holder that waits keeps its place, since what the
//! cap guards (a connection, a tab) stays with it, and only those it waits for may share it. So the number of holders that are
//! not waiting for one another never passes the maximum.

use crate::sync::{Granted, Token};
use smallvec::SmallVec;
use std::collections::VecDeque;

#[derive(Debug)]
struct Holder<T> {
    token: Token,
    /// Whose place it shares.
    under: Option<Token>,
    /// Went in without a place of its own, when it had waited long enough.
    uncounted: bool,
    /// It waits for whoever shares its place to leave.
    comes_back: Option<T>,
}

#[derive(Debug)]
struct Ticket<T> {
    token: Token,
    /// Holders that wait for this one, and would share their place with it.
    lenders: SmallVec<[Token; 1]>,
    turn: T,
}

/// `T` is what happens when a turn comes.
#[derive(Debug)]
pub(crate) struct Cap<T> {
    max: usize,
    holders: SmallVec<[Holder<T>; 2]>,
    line: VecDeque<Ticket<T>>,
}

impl<T> Cap<T> {
    /// `max` is at least 1.
    pub(crate) fn new(max: usize) -> Self {
        Cap { max: max.max(1), holders: SmallVec::new(), line: VecDeque::new() }
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    pub(crate) fn holds(&self, token: Token) -> bool {
        self.holders.iter().any(|h| h.token == token)
    }

    pub(crate) fn inside(&self) -> usize {
        self.holders.len()
    }

    pub(crate) fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    pub(crate) fn in_line(&self, token: Token) -> bool {
        self.line.iter().any(|t| t.token == token)
    }

    /// Goes in at once if there is a place, or one of `lenders` shares its own; true also for who is inside already.
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

    /// Stands in line; the turn may come at once. Once per token: a second ticket of one that is there would come for nobody.
    pub(crate) fn stand(&mut self, token: Token, lenders: &[Token], turn: T) -> Granted<T> {
        debug_assert!(!self.holds(token) && !self.in_line(token), "a token stands in line once");
        self.line.push_back(Ticket { token, lenders: SmallVec::from_slice(lenders), turn });
        self.grant()
    }

    /// `lender` waits for those in line that `to` picks, and shares its place with one of them at a time, until
    /// [`take_back`](Cap::take_back). Nothing happens if it has no place.
    pub(crate) fn lend(&mut self, lender: Token, to: impl Fn(Token) -> bool) -> Granted<T> {
        if !self.holds(lender) {
            return Granted::new();
        }
        for ticket in self.line.iter_mut().filter(|t| t.token != lender && to(t.token)) {
            if !ticket.lenders.contains(&lender) {
                ticket.lenders.push(lender);
            }
        }
        self.grant()
    }

    /// The wait of `lender` is over: it lends no more. True if it has its place for itself; else `turn` comes when it has.
    pub(crate) fn take_back(&mut self, lender: Token, turn: impl FnOnce() -> T) -> bool {
        for ticket in &mut self.line {
            ticket.lenders.retain(|l| *l != lender);
        }
        let shared = self.is_lent(lender);
        if let Some(holder) = self.holders.iter_mut().find(|h| h.token == lender) {
            holder.comes_back = shared.then(turn);
        }
        !shared
    }

    /// Goes out, whoever shares its place; those keep it as their own.
    pub(crate) fn release(&mut self, token: Token) -> Granted<T> {
        self.holders.retain(|h| h.token != token);
        self.grant()
    }

    /// Leaves the line. Its turn is handed back, to be dropped outside of any lock; `None` if the turn has come, or there never was one.
    pub(crate) fn leave_line(&mut self, token: Token) -> Option<T> {
        let at = self.line.iter().position(|t| t.token == token)?;
        self.line.remove(at).map(|ticket| ticket.turn)
    }

    /// Leaves the line and goes in without a place: it takes nobody's, and has none to lend.
    pub(crate) fn go_in_anyway(&mut self, token: Token) -> Option<T> {
        let turn = self.leave_line(token)?;
        self.holders.push(Holder { token, under: None, uncounted: true, comes_back: None });
        Some(turn)
    }

    /// Who is inside, under whom, and who stands in line with which lenders: for people.
    pub(crate) fn describe(&self, name: &dyn Fn(Token) -> String) -> String {
        let holder = |h: &Holder<T>| {
            let under = h.under.map(|under| format!(" under {}", name(under))).unwrap_or_default();
            let back = if h.comes_back.is_some() { ", wants it back" } else { "" };
            format!("{}{under}{back}", name(h.token))
        };
        let ticket = |t: &Ticket<T>| {
            let lenders: Vec<_> = t.lenders.iter().map(|lender| name(*lender)).collect();
            format!("{} lent to by [{}]", name(t.token), lenders.join(", "))
        };
        let inside: Vec<_> = self.holders.iter().map(holder).collect();
        let line: Vec<_> = self.line.iter().map(ticket).collect();
        format!("{} of {} inside [{}], in line [{}]", inside.len(), self.max, inside.join("; "), line.join("; "))
    }

    fn has_room(&self) -> bool {
        let roots = self.holders.iter().filter(|h| !h.uncounted && h.under.is_none_or(|u| !self.holds(u)));
        roots.count() < self.max
    }

    fn is_lent(&self, token: Token) -> bool {
        self.holders.iter().any(|h| h.under == Some(token))
    }

    /// It has a place, keeps it, and shares it with nobody.
    pub(crate) fn lends(&self, lender: Token) -> bool {
        let has_place = |h: &Holder<T>| h.token == lender && !h.uncounted && h.comes_back.is_none();
        self.holders.iter().any(has_place) && !self.is_lent(lender)
    }

    fn admit(&mut self, token: Token, under: Option<Token>) {
        self.holders.push(Holder { token, under, uncounted: false, comes_back: None });
    }

    fn grant(&mut self) -> Granted<T> {
        let mut granted = Granted::new();
        for at in 0..self.holders.len() {
            if self.holders[at].comes_back.is_some() && !self.is_lent(self.holders[at].token) {
                granted.extend(self.holders[at].comes_back.take());
            }
        }
        loop {
            let lent = self.line.iter().enumerate().find_map(|(at, ticket)| {
                let lender = ticket.lenders.iter().copied().find(|lender| self.lends(*lender))?;
                Some((at, Some(lender)))
            });
            let next = lent.or_else(|| self.has_room().then_some((0, None)));
            let Some((ticket, under)) = next.and_then(|(at, under)| Some((self.line.remove(at)?, under))) else {
                return granted;
            };
            self.admit(ticket.token, under);
            granted.push(ticket.turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(stamp: u64) -> Token {
        Token { stamp, part: 0 }
    }

    fn stand(cap: &mut Cap<u64>, stamp: u64) -> Vec<u64> {
        cap.stand(token(stamp), &[], stamp).into_vec()
    }

    fn full(max: usize) -> Cap<u64> {
        let mut cap = Cap::new(max);
        for stamp in 1..=max as u64 {
            assert!(cap.try_take(token(stamp), &[]));
        }
        cap
    }

    #[test]
    fn admits_its_maximum_and_hands_on_in_order() {
        let mut cap = full(2);
        assert!(!cap.try_take(token(3), &[]));
        assert!(stand(&mut cap, 3).is_empty() && stand(&mut cap, 4).is_empty());
        assert_eq!(cap.release(token(2)).into_vec(), [3]);
        assert!(!cap.try_take(token(5), &[]), "nobody slips in before 4");
        assert_eq!(cap.release(token(1)).into_vec(), [4]);
        assert!(cap.release(token(3)).is_empty());
        assert!(cap.try_take(token(5), &[]));
    }

    #[test]
    fn a_maximum_of_zero_admits_one() {
        let mut cap = full(1);
        assert_eq!((cap.max(), Cap::<u64>::new(0).max()), (1, 1));
        assert!(!cap.try_take(token(2), &[]));
    }

    #[test]
    fn taking_and_releasing_twice_changes_nothing() {
        let mut cap = full(1);
        assert!(cap.try_take(token(1), &[]), "a retry finds its place held");
        assert!(stand(&mut cap, 2).is_empty() && stand(&mut cap, 3).is_empty());
        assert_eq!(cap.release(token(1)).into_vec(), [2]);
        assert!(cap.release(token(1)).is_empty());
        assert!(cap.holds(token(2)) && cap.in_line(token(3)));
    }

    #[test]
    fn a_place_is_lent_down_a_chain() {
        let mut cap = full(1);
        assert!(cap.try_take(token(2), &[token(1)]));
        assert!(cap.try_take(token(3), &[token(2), token(1)]));
        assert!(!cap.try_take(token(4), &[token(2), token(1)]), "each lends to one at a time");
        assert!(!cap.try_take(token(5), &[token(9)]), "who has no place lends none");
        cap.release(token(3));
        assert!(cap.try_take(token(4), &[token(2), token(1)]));
    }

    #[test]
    fn who_waits_lends_to_those_already_in_line_one_after_another() {
        let mut cap = full(1);
        for stamp in 2..=4 {
            assert!(stand(&mut cap, stamp).is_empty());
        }
        assert_eq!(cap.lend(token(1), |t| t.stamp >= 3).into_vec(), [3]);
        assert!(cap.lend(token(1), |t| t.stamp >= 3).is_empty(), "a second look lends no second time");
        assert_eq!(cap.release(token(3)).into_vec(), [4]);
        assert!(cap.release(token(4)).is_empty(), "2 is nobody it waits for");
        assert_eq!(cap.release(token(1)).into_vec(), [2]);
    }

    #[test]
    fn any_waiting_holder_of_a_chain_may_lend() {
        let mut cap = full(1);
        assert!(cap.try_take(token(2), &[token(1)]));
        assert!(stand(&mut cap, 3).is_empty());
        assert!(cap.lend(token(1), |t| t.stamp == 3).is_empty(), "1 has lent to 2");
        assert_eq!(cap.lend(token(2), |t| t.stamp == 3).into_vec(), [3]);
    }

    #[test]
    fn a_lender_that_comes_back_waits_for_its_borrower() {
        let mut cap = full(1);
        assert!(cap.take_back(token(1), || 10), "nothing was lent");
        assert!(stand(&mut cap, 2).is_empty() && stand(&mut cap, 3).is_empty());
        assert_eq!(cap.lend(token(1), |_| true).into_vec(), [2]);
        assert!(!cap.take_back(token(1), || 10));
        assert!(!cap.try_take(token(4), &[token(1)]), "it lends no more");
        assert_eq!(cap.release(token(2)).into_vec(), [10]);
        assert_eq!(cap.release(token(1)).into_vec(), [3]);
    }

    #[test]
    fn a_borrower_outlives_its_lender_and_then_counts() {
        let mut cap = full(1);
        assert!(cap.try_take(token(2), &[token(1)]));
        assert!(stand(&mut cap, 3).is_empty());
        assert!(cap.release(token(1)).is_empty());
        assert_eq!(cap.release(token(2)).into_vec(), [3]);
    }

    #[test]
    fn a_lender_given_up_while_coming_back_leaves_nothing() {
        let mut cap = full(1);
        assert!(cap.try_take(token(2), &[token(1)]));
        assert!(!cap.take_back(token(1), || 10));
        assert!(cap.release(token(1)).is_empty());
        assert!(cap.release(token(2)).is_empty());
        assert!(cap.try_take(token(3), &[]));
    }

    #[test]
    fn leaving_the_line_and_a_turn_exclude_each_other() {
        let mut cap = full(1);
        assert!(stand(&mut cap, 2).is_empty() && stand(&mut cap, 3).is_empty());
        assert_eq!(cap.leave_line(token(2)), Some(2));
        assert_eq!(cap.leave_line(token(2)), None);
        assert_eq!(cap.release(token(1)).into_vec(), [3]);
        assert_eq!(cap.leave_line(token(3)), None, "its turn has come");
        assert_eq!(cap.go_in_anyway(token(3)), None);
    }

    #[test]
    fn who_goes_in_anyway_takes_nobodys_place() {
        let mut cap = full(1);
        assert!(stand(&mut cap, 2).is_empty() && stand(&mut cap, 3).is_empty());
        assert_eq!(cap.go_in_anyway(token(2)), Some(2));
        assert!(cap.try_take(token(2), &[]), "its next attempt goes in the same way");
        assert!(!cap.try_take(token(4), &[token(2)]), "it has no place to lend");
        assert!(cap.release(token(2)).is_empty(), "3 waits for 1 alone");
        assert_eq!(cap.release(token(1)).into_vec(), [3]);
    }

    /// Against the rule itself: those inside that neither borrow nor went in anyway are never more than the maximum, and nobody stands
    /// in line while there is room.
    #[test]
    fn random_steps_keep_the_maximum() {
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for max in 1..=3 {
            let mut cap = Cap::new(max);
            let mut inside: Vec<u64> = Vec::new();
            let mut next = 0;
            for _ in 0..20_000 {
                let pick = (!inside.is_empty()).then(|| inside[random(inside.len() as u64) as usize]);
                match (random(5), pick) {
                    (0 | 1, _) => {
                        next += 1;
                        if cap.try_take(token(next), &[]) {
                            inside.push(next);
                        } else {
                            inside.extend(cap.stand(token(next), &[], next));
                        }
                    }
                    (2, Some(lender)) => {
                        let to = next.saturating_sub(random(4));
                        inside.extend(cap.lend(token(lender), |t| t.stamp == to));
                    }
                    (_, Some(leaving)) => {
                        inside.retain(|t| *t != leaving);
                        inside.extend(cap.release(token(leaving)));
                    }
                    _ => {}
                }
                let free = cap.holders.iter().filter(|h| h.under.is_none()).count();
                assert!(free <= max && inside.len() == cap.holders.len());
                assert!(cap.line.is_empty() || !cap.has_room());
            }
        }
    }
}
