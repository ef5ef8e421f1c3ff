//! Semaphore and cap, the files of `src/sync` themselves, against their rules in the plainest form: every step in every state that three tokens
//! can bring them to, with up to two in line. `RUSTFLAGS="--cfg threadbus_loom" cargo test --release --test model_rules exhaustive`.
#![cfg(threadbus_loom)]
#![allow(dead_code, reason = "tests; the included files are used in part")]

#[path = "../src/sync/cap.rs"]
mod cap;
#[path = "../src/sync/line.rs"]
mod line;
#[path = "../src/sys/plant.rs"]
mod plant;
#[path = "../src/sync/semaphore.rs"]
mod semaphore;
#[path = "../src/sync/shares.rs"]
mod shares;
#[path = "../src/sync/sweep.rs"]
mod sweep;

/// What the included files import.
mod sync {
    pub(crate) use crate::line::{Key, Line, Rank};
    pub(crate) use crate::semaphore::{Granted, Token};
    pub(crate) use crate::shares::Shares;
    pub(crate) use crate::sweep::Sweep;
}
mod sys {
    pub(crate) use crate::plant::planted;
}

use cap::Cap;
use semaphore::{Position, Semaphore, Ticket, WhileSetDown};
use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;
use sync::{Rank, Token};

/// The stamp of a token.
type Name = u64;
const NAMES: [Name; 3] = [1, 2, 3];
/// What a step answered, whose turn came, and what can be asked afterwards.
type Seen = (bool, Vec<u64>, Vec<bool>);

fn token(name: Name) -> Token {
    Token { stamp: name, part: 0 }
}

/// Takes every step in every state that can be reached. `rule` says what must be seen; `None`: nobody takes this step here.
fn walk<Real, Rules: Clone + Ord, Step: Copy + Debug>(
    fresh: impl Fn() -> Real,
    start: Rules,
    steps: &[Step],
    real: impl Fn(&mut Real, Step) -> Seen,
    rule: impl Fn(&mut Rules, Step) -> Option<Seen>,
) {
    let mut known = BTreeSet::from([start.clone()]);
    let mut open = VecDeque::from([(start, Vec::new())]);
    while let Some((state, path)) = open.pop_front() {
        for step in steps {
            let mut next = state.clone();
            let Some(expected) = rule(&mut next, *step) else { continue };
            let mut tried = fresh();
            for before in &path {
                real(&mut tried, *before);
            }
            assert_eq!(real(&mut tried, *step), expected, "{step:?} after {path:?}");
            if known.insert(next.clone()) {
                open.push_back((next, path.iter().copied().chain([*step]).collect()));
            }
        }
    }
}

/// A position in line, the token, and who lends.
type Wish = (Position, Name, Option<Name>);

#[derive(Clone, Copy, Debug)]
enum Permit {
    TryTake(Wish),
    Stand(Wish),
    SetDown(Name),
    Release(Name),
    Withdraw(Name),
    /// Only the token's later ticket, or only its earlier one.
    Forget(Name, bool),
    Rename(Name, Name),
    PassOn(Name, Name),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PermitRules {
    capacity: usize,
    kept: bool,
    holders: Vec<(Name, Option<Name>)>,
    given_up: BTreeSet<Name>,
    /// In the order of service: before all entries or an entry, whose, under whom, and whether it is the token's later one.
    line: Vec<(bool, Name, Option<Name>, bool)>,
}

impl PermitRules {
    fn holds(&self, name: Name) -> bool {
        self.holders.iter().any(|h| h.0 == name)
    }

    /// Room is taken by who is under nobody that holds; a holder lends to one at a time.
    fn has_room_for(&self, under: Option<Name>) -> bool {
        let alone = self.holders.iter().filter(|h| !h.1.is_some_and(|u| self.holds(u))).count();
        alone < self.capacity || self.lends(under)
    }

    fn lends(&self, under: Option<Name>) -> bool {
        under.is_some_and(|u| self.holds(u)) && !self.holders.iter().any(|h| h.1 == under)
    }

    fn is_kept(&self) -> bool {
        self.kept && !self.given_up.is_empty()
    }

    fn admit(&mut self, name: Name, under: Option<Name>) {
        self.given_up.remove(&name);
        self.holders.push((name, under));
        self.holders.sort_unstable();
    }

    fn try_take(&mut self, (place, name, under): Wish) -> bool {
        let first = match place {
            Position::First => true,
            Position::Front => !self.line.iter().any(|t| t.0),
            Position::Entry => self.line.is_empty() && !self.is_kept(),
        };
        if !self.holds(name) && (self.lends(under) || first && self.has_room_for(None)) {
            self.admit(name, under);
        }
        self.holds(name)
    }

    fn stand(&mut self, (place, name, under): Wish) -> Option<()> {
        let later = self.line.iter().any(|t| t.1 == name);
        let has_begun = later || self.holds(name);
        if self.line.len() == 2 || place == Position::Entry && has_begun || self.line.iter().any(|t| t.1 == name && t.3)
        {
            return None;
        }
        let fronts = self.line.iter().filter(|t| t.0).count();
        let (front, at) = match place {
            Position::First => (true, 0),
            Position::Front => (true, fronts),
            Position::Entry => (false, self.line.len()),
        };
        self.line.insert(at, (front, name, under, later));
        Some(())
    }

    fn leave(&mut self, name: Name) {
        self.holders.retain(|h| h.0 != name);
    }

    /// Whose turn it is: the first in line that fits, of those that have not started only while nobody has given the permit up.
    fn grant(&mut self) -> Vec<u64> {
        let mut turns = Vec::new();
        let may = |s: &Self, (front, name, under, _): &(bool, Name, Option<Name>, bool)| {
            (*front || !s.is_kept()) && (s.holds(*name) || s.has_room_for(*under))
        };
        while let Some(at) = self.line.iter().position(|ticket| may(self, ticket)) {
            let (_, name, under, later) = self.line.remove(at);
            if !self.holds(name) {
                self.admit(name, under);
            }
            turns.push(turn(name, later));
        }
        turns
    }

    fn step(&mut self, step: Permit) -> Option<Seen> {
        if let Permit::TryTake((_, name, _)) | Permit::Stand((_, name, _)) = step
            && self.line.iter().any(|t| t.1 == name && !t.0)
        {
            // What has not started does nothing but stand there.
            return None;
        }
        let (mut answer, mut turns) = (false, Vec::new());
        let mut hands_on = !matches!(step, Permit::TryTake(_) | Permit::Rename(..) | Permit::PassOn(..));
        match step {
            Permit::TryTake(wish) => answer = self.try_take(wish),
            Permit::Stand(wish) => self.stand(wish)?,
            Permit::SetDown(name) if self.holds(name) => {
                self.leave(name);
                self.given_up.insert(name);
            }
            Permit::SetDown(_) => hands_on = false,
            Permit::Release(name) => {
                self.leave(name);
                self.given_up.remove(&name);
            }
            Permit::Withdraw(name) => {
                turns.extend(self.line.iter().filter(|t| t.1 == name).map(|t| turn(name, t.3)));
                self.line.retain(|t| t.1 != name);
            }
            Permit::Forget(name, later) => self.line.retain(|t| t.1 != name || t.3 != later),
            Permit::Rename(from, to) => {
                let to_has_come = self.holds(to) || self.line.iter().any(|t| t.1 == to);
                if to_has_come || self.holders.iter().any(|h| h.1 == Some(from)) {
                    return None;
                }
                self.holders.iter_mut().filter(|h| h.0 == from).for_each(|h| h.0 = to);
                self.holders.sort_unstable();
            }
            Permit::PassOn(from, to) => {
                if !self.is_alone(from) {
                    return None;
                }
                self.holders = vec![(to, None)];
            }
        }
        if hands_on {
            turns.extend(self.grant());
        }
        let nobody_else = self.given_up.is_empty() && self.line.is_empty();
        let mut asked = vec![self.holders.is_empty() && nobody_else];
        for name in NAMES {
            let in_line = |later| self.line.iter().any(|t| t.1 == name && t.3 == later);
            asked.extend([self.holds(name), self.is_alone(name), in_line(false), in_line(true)]);
        }
        Some((answer, turns, asked))
    }

    fn is_alone(&self, name: Name) -> bool {
        self.holders == [(name, None)] && self.given_up.is_empty() && self.line.is_empty()
    }
}

fn turn(name: Name, later: bool) -> u64 {
    name + if later { 10 } else { 0 }
}

fn permit_step(permit: &mut Semaphore<u64>, step: Permit) -> Seen {
    let mut answer = false;
    let granted = match step {
        Permit::TryTake((place, name, under)) => {
            answer = permit.try_take(place, token(name), under.map(token));
            vec![]
        }
        Permit::Stand((place, name, under)) => {
            let later = permit.in_line(token(name), |_| true);
            let ticket =
                Ticket { token: token(name), under: under.map(token), rank: Rank::NONE, turn: turn(name, later) };
            permit.stand(place, ticket).into_vec()
        }
        Permit::SetDown(name) => permit.set_down(token(name)).into_vec(),
        Permit::Release(name) => permit.release(token(name)).into_vec(),
        Permit::Withdraw(name) => {
            let (withdrawn, granted) = permit.withdraw(name, |t| t == token(name));
            withdrawn.into_iter().chain(granted).collect()
        }
        Permit::Forget(name, later) => permit.forget_ticket(token(name), |t| *t == turn(name, later)).into_vec(),
        Permit::Rename(from, to) => {
            permit.rename(token(from), token(to));
            vec![]
        }
        Permit::PassOn(_, to) => {
            permit.pass_on(token(to));
            vec![]
        }
    };
    let mut asked = vec![permit.is_quiet()];
    for name in NAMES {
        let in_line = |later| permit.in_line(token(name), |t| *t == turn(name, later));
        asked.extend([permit.holds(token(name)), permit.is_alone(token(name)), in_line(false), in_line(true)]);
    }
    (answer, granted, asked)
}

#[test]
fn exhaustive_a_permit_goes_to_whom_the_rules_give_it() {
    let mut steps = Vec::new();
    for name in NAMES {
        // Who comes later may be lent to by who came before.
        for under in [None].into_iter().chain((1..name).map(Some)) {
            for place in [Position::First, Position::Front, Position::Entry] {
                steps.extend([Permit::TryTake((place, name, under)), Permit::Stand((place, name, under))]);
            }
        }
        steps.extend([Permit::SetDown(name), Permit::Release(name), Permit::Withdraw(name)]);
        steps.extend([Permit::Forget(name, false), Permit::Forget(name, true)]);
        let others = NAMES.into_iter().filter(|other| *other != name);
        steps.extend(others.flat_map(|other| [Permit::Rename(name, other), Permit::PassOn(name, other)]));
    }
    for (capacity, kept) in [(1, true), (1, false), (2, true)] {
        let start = PermitRules { capacity, kept, holders: vec![], given_up: BTreeSet::new(), line: vec![] };
        walk(
            || Semaphore::new(capacity, if kept { WhileSetDown::Kept } else { WhileSetDown::Passed }),
            start,
            &steps,
            permit_step,
            PermitRules::step,
        );
    }
}

#[derive(Clone, Copy, Debug)]
enum Under {
    TryTake(Name, &'static [Name]),
    Stand(Name, &'static [Name]),
    /// To one of those in line, or to all.
    Lend(Name, Option<Name>),
    TakeBack(Name),
    Release(Name),
    LeaveLine(Name),
    GoInAnyway(Name),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Inside {
    name: Name,
    under: Option<Name>,
    uncounted: bool,
    wants_back: bool,
    /// It has been told since it last asked.
    told: bool,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct CapRules {
    max: usize,
    /// Of the three names.
    levels: [u8; 3],
    inside: Vec<Inside>,
    line: Vec<(Name, Vec<Name>)>,
}

impl CapRules {
    fn holds(&self, name: Name) -> bool {
        self.inside.iter().any(|h| h.name == name)
    }

    fn has_line_for(&self, name: Name) -> bool {
        self.line.iter().any(|t| t.0 == name)
    }

    fn is_lent(&self, name: Name) -> bool {
        self.inside.iter().any(|h| h.under == Some(name))
    }

    fn lends(&self, name: Name) -> bool {
        self.inside.iter().any(|h| h.name == name && !h.uncounted && !h.wants_back) && !self.is_lent(name)
    }

    fn has_room(&self) -> bool {
        let counted = |h: &&Inside| !h.uncounted && !h.under.is_some_and(|u| self.holds(u));
        self.inside.iter().filter(counted).count() < self.max
    }

    fn admit(&mut self, name: Name, under: Option<Name>) {
        self.inside.push(Inside { name, under, uncounted: false, wants_back: false, told: false });
    }

    fn lender(&self, lenders: &[Name]) -> Option<Name> {
        lenders.iter().copied().find(|l| self.lends(*l))
    }

    /// First those who want their place back and have it for themselves, then who is lent one, then the first in line.
    fn grant(&mut self) -> Vec<u64> {
        let mut turns = Vec::new();
        for at in 0..self.inside.len() {
            if self.inside[at].wants_back && !self.is_lent(self.inside[at].name) {
                self.inside[at].wants_back = false;
                if !self.inside[at].told {
                    turns.push(turn(self.inside[at].name, true));
                }
            }
        }
        loop {
            let lent = self.line.iter().position(|t| self.lender(&t.1).is_some());
            let Some(at) = lent.or((self.has_room() && !self.line.is_empty()).then_some(0)) else { return turns };
            let (name, lenders) = self.line.remove(at);
            let under = self.lender(&lenders);
            self.admit(name, under);
            turns.push(turn(name, false));
        }
    }

    fn step(&mut self, step: Under) -> Option<Seen> {
        let (mut answer, mut turns) = (false, Vec::new());
        let had = matches!(step, Under::Release(n) | Under::Lend(n, _) if self.holds(n));
        match step {
            Under::TryTake(name, _) if self.has_line_for(name) => return None,
            Under::TryTake(name, lenders) => {
                let under = self.lender(lenders);
                if !self.holds(name) && (under.is_some() || self.line.is_empty() && self.has_room()) {
                    self.admit(name, under);
                }
                answer = self.holds(name);
            }
            Under::Stand(name, lenders) => {
                if self.holds(name) || self.has_line_for(name) || self.line.len() == 2 {
                    return None;
                }
                let level = |name: Name| self.levels[name as usize - 1];
                let at = self.line.iter().position(|t| level(t.0) < level(name)).unwrap_or(self.line.len());
                self.line.insert(at, (name, lenders.to_vec()));
            }
            Under::Lend(name, to) if self.holds(name) => {
                let meant = self.line.iter_mut().filter(|t| t.0 != name && to.is_none_or(|to| t.0 == to));
                meant.filter(|t| !t.1.contains(&name)).for_each(|t| t.1.push(name));
            }
            Under::Lend(..) => {}
            Under::TakeBack(name) => {
                self.line.iter_mut().for_each(|t| t.1.retain(|l| *l != name));
                answer = !self.is_lent(name);
                let own = self.inside.iter_mut().filter(|h| h.name == name);
                own.for_each(|h| (h.wants_back, h.told) = (!answer, false));
            }
            Under::Release(name) => {
                self.line.iter_mut().for_each(|t| t.1.retain(|l| *l != name));
                if let Some(at) = self.inside.iter().position(|h| h.name == name) {
                    let lender = self.inside.remove(at).under;
                    // The borrower's lender is the one of who leaves.
                    if let Some(heir) = self.inside.iter_mut().find(|h| h.under == Some(name)) {
                        heir.under = lender;
                        let waits = |h: &&mut Inside| Some(h.name) == lender && h.wants_back && !h.told;
                        turns.extend(self.inside.iter_mut().find(waits).map(|h| {
                            h.told = true;
                            turn(h.name, true)
                        }));
                    }
                }
            }
            Under::LeaveLine(name) | Under::GoInAnyway(name) => {
                if self.has_line_for(name) {
                    turns.push(turn(name, false));
                    self.line.retain(|t| t.0 != name);
                    if matches!(step, Under::GoInAnyway(_)) {
                        self.inside.push(Inside { name, under: None, uncounted: true, wants_back: false, told: false });
                    }
                }
            }
        }
        if matches!(step, Under::Stand(..)) || had {
            turns.extend(self.grant());
        }
        let mut asked: Vec<_> = (0..=3).map(|n| self.inside.len() == n).collect();
        asked.push(!self.line.is_empty());
        for name in NAMES {
            asked.extend([self.holds(name), self.has_line_for(name), self.lends(name)]);
        }
        Some((answer, turns, asked))
    }
}

fn cap_step(levels: [u8; 3], cap: &mut Cap<u64>, step: Under) -> Seen {
    let tokens = |names: &[Name]| names.iter().copied().map(token).collect::<Vec<_>>();
    let mut answer = false;
    let granted = match step {
        Under::TryTake(name, lenders) => {
            answer = cap.try_take(token(name), &tokens(lenders));
            vec![]
        }
        Under::Stand(name, lenders) => {
            let rank = Rank { bus: 1, level: levels[name as usize - 1], weights: None };
            cap.stand(token(name), rank, &tokens(lenders), turn(name, false)).into_vec()
        }
        Under::Lend(name, to) => cap.lend(token(name), |t| to.is_none_or(|to| t == token(to))).into_vec(),
        Under::TakeBack(name) => {
            answer = cap.take_back(token(name), || turn(name, true));
            vec![]
        }
        Under::Release(name) => cap.release(token(name)).into_vec(),
        Under::LeaveLine(name) => cap.leave_line(token(name)).into_iter().collect(),
        Under::GoInAnyway(name) => cap.go_in_anyway(token(name)).into_iter().collect(),
    };
    let mut asked: Vec<_> = (0..=3).map(|n| cap.inside() == n).collect();
    asked.push(cap.has_line());
    for name in NAMES {
        asked.extend([cap.holds(token(name)), cap.in_line(token(name)), cap.lends(token(name))]);
    }
    (answer, granted, asked)
}

#[test]
fn exhaustive_a_place_goes_to_whom_the_rules_give_it() {
    let others: [[&[Name]; 4]; 3] =
        [[&[], &[2], &[3], &[3, 2]], [&[], &[1], &[3], &[1, 3]], [&[], &[1], &[2], &[2, 1]]];
    let mut steps = Vec::new();
    for (name, others) in NAMES.into_iter().zip(others) {
        steps.extend(others.map(|lenders| Under::TryTake(name, lenders)));
        steps.extend(others.map(|lenders| Under::Stand(name, lenders)));
        steps.extend([None, Some(1), Some(2), Some(3)].map(|to| Under::Lend(name, to)));
        steps.extend([Under::TakeBack(name), Under::Release(name)]);
        steps.extend([Under::LeaveLine(name), Under::GoInAnyway(name)]);
    }
    for max in [1, 2] {
        assert_eq!(Cap::<u64>::new(max).max(), max);
        for levels in [[5, 5, 5], [5, 8, 5], [2, 5, 8]] {
            let start = CapRules { max, levels, inside: vec![], line: vec![] };
            walk(|| Cap::new(max), start, &steps, |cap, step| cap_step(levels, cap, step), CapRules::step);
        }
    }
}
