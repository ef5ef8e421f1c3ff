//! A cap on how many may be inside at once, as pure data: in the order of a [`Line`], handed on in the step that gives it back, lent to
//! what a holder waits for.
//!
//! It differs from the [`Semaphore`](super::Semaphore) of a bus in what a wait does: a holder that waits keeps its place, since what the
//! cap guards (a connection, a tab) stays with it, and only those it waits for may share it. Each holder lends to one at a time, so those
//! who share a place are a chain. When one in the middle leaves, its borrower moves up under its lender, and without a lender it has the
//! place: so the number of holders that are not waiting for one another never passes the maximum.

use crate::sync::{Granted, Key, Line, Rank, Token};
use crate::sys::planted;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BTreeSet;

#[derive(Debug)]
struct Holder<T> {
    /// Whose place it shares; that one is inside, and `lent` is this.
    under: Option<Token>,
    /// Who shares its place.
    lent: Option<Token>,
    /// Went in without a place of its own, when it had waited long enough.
    uncounted: bool,
    /// It waits for whoever shares its place to leave, and lends no more.
    comes_back: bool,
    /// What is due then, or when another one shares the place.
    turn: Option<T>,
}

#[derive(Debug)]
struct Ticket<T> {
    token: Token,
    level: u8,
    /// Holders that wait for this one, and would share their place with it.
    lenders: SmallVec<[Token; 1]>,
    turn: T,
}

/// What a holder would lend its place to: the highest level first, then who came first.
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
    /// By those who would lend. Few are parked.
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

    /// Who shares its place.
    pub(crate) fn borrower(&self, lender: Token) -> Option<Token> {
        self.holders.get(&lender)?.lent
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

    /// The wait of `lender` is over: it lends no more. True if it has its place for itself; else `turn` comes when it has, or when
    /// another one shares its place: then it asks again.
    pub(crate) fn take_back(&mut self, lender: Token, turn: impl FnOnce() -> T) -> bool {
        self.withdraw_offers(lender);
        let Some(holder) = self.holders.get_mut(&lender) else { return true };
        holder.comes_back = holder.lent.is_some();
        holder.turn = holder.comes_back.then(turn);
        !holder.comes_back
    }

    /// Goes out. Who shares its place moves up to its lender, or has the place from now on.
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

    /// Leaves the line. Its turn is handed back, to be dropped outside of any lock; `None` if the turn has come, or there never was one.
    pub(crate) fn leave_line(&mut self, token: Token) -> Option<T> {
        let ticket = self.line.leave(*self.keys.get(&token)?)?;
        Some(self.out_of_line(ticket))
    }

    /// Leaves the line and goes in without a place: it takes nobody's, and has none to lend.
    pub(crate) fn go_in_anyway(&mut self, token: Token) -> Option<T> {
        let turn = self.leave_line(token)?;
        let holder = Holder { under: None, lent: None, uncounted: true, comes_back: false, turn: None };
        self.holders.insert(token, holder);
        Some(turn)
    }

    /// Who is inside, under whom, and who stands in line with which lenders: for people.
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

    /// It has a place, keeps it, and shares it with nobody.
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

    /// What stands in line has nothing to hope for from this one any more.
    fn withdraw_offers(&mut self, lender: Token) {
        for (.., token) in self.offers.remove(&lender).unwrap_or_default() {
            if let Some(ticket) = self.keys.get(&token).and_then(|key| self.line.get_mut(*key)) {
                ticket.lenders.retain(|l| *l != lender);
            }
        }
    }

    /// Nobody offers it a place any more.
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

    /// The best that some holder would lend its place to, and who would.
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
mod tests {
    use super::*;

    fn token(stamp: u64) -> Token {
        Token { stamp, part: 0 }
    }

    fn rank(level: u8) -> Rank {
        Rank { bus: 1, level, weights: None }
    }

    fn stand(cap: &mut Cap<u64>, stamp: u64) -> Vec<u64> {
        cap.stand(token(stamp), rank(5), &[], stamp).into_vec()
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
    fn a_borrowers_borrower_moves_up_when_it_leaves() {
        let mut cap = full(1);
        assert!(cap.try_take(token(2), &[token(1)]) && cap.try_take(token(3), &[token(2)]));
        assert!(cap.release(token(2)).is_empty());
        assert_eq!(cap.borrower(token(1)), Some(token(3)));
        assert!(!cap.take_back(token(1), || 10), "3 has the place of 1 now");
        assert!(stand(&mut cap, 4).is_empty());
        assert_eq!(cap.release(token(3)).into_vec(), [10]);
        assert_eq!(cap.release(token(1)).into_vec(), [4]);
    }

    #[test]
    fn who_comes_back_asks_again_when_another_one_has_its_place() {
        let mut cap = full(1);
        assert!(cap.try_take(token(2), &[token(1)]) && cap.try_take(token(3), &[token(2)]));
        assert!(!cap.take_back(token(1), || 10));
        assert_eq!(cap.release(token(2)).into_vec(), [10]);
        assert!(!cap.lends(token(1)) && !cap.take_back(token(1), || 11));
        assert_eq!(cap.release(token(3)).into_vec(), [11]);
        assert!(cap.take_back(token(1), || 12));
    }

    #[test]
    fn the_first_lender_of_a_chain_leaves_its_place_to_it() {
        let mut cap = full(1);
        assert!(cap.try_take(token(2), &[token(1)]) && cap.try_take(token(3), &[token(2)]));
        assert!(stand(&mut cap, 4).is_empty());
        assert!(cap.release(token(1)).is_empty() && cap.release(token(3)).is_empty());
        assert_eq!(cap.release(token(2)).into_vec(), [4]);
    }

    #[test]
    fn the_best_in_line_is_next_also_of_those_who_borrow() {
        let mut cap = full(1);
        for (stamp, level) in [(2, 5), (3, 8), (4, 10), (5, 8)] {
            assert!(cap.stand(token(stamp), rank(level), &[], stamp).is_empty());
        }
        assert_eq!(cap.lend(token(1), |t| t.stamp != 4).into_vec(), [3]);
        assert_eq!(cap.release(token(3)).into_vec(), [5]);
        assert_eq!(cap.release(token(1)).into_vec(), [] as [u64; 0], "5 has the place now");
        assert_eq!(cap.release(token(5)).into_vec(), [4]);
        assert_eq!(cap.leave_line(token(2)), Some(2));
        assert!(!cap.has_line() && cap.offers.is_empty() && cap.keys.is_empty());
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
                            inside.extend(cap.stand(token(next), rank(random(11) as u8), &[], next));
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
                let free = cap.holders.values().filter(|h| h.under.is_none()).count();
                assert_eq!(free, cap.places);
                assert!(free <= max && inside.len() == cap.holders.len());
                assert!(cap.line.is_empty() || !cap.has_room());
            }
        }
    }
}
