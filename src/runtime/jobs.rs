//! Jobs that no thread has taken yet. Buses take turns, by priority.
//!
//! Each bus has a *lane*, which stands where the best of its jobs belongs: lanes of a higher priority go first. Of equal ones a lane that gets
//! its first job after having been empty goes before those that have had a turn, so an idle bus does not wait behind a flood on another one. A lane
//! that has kept a thread for longer than a moment has had its turn: it goes to the back, and stays there until it is found empty, so that a bus
//! that empties and fills its lane again and again gets no more than its share. A priority that was passed over for long has a turn before the higher ones, so a flood of those keeps nobody's threads for good.
//! Inside a lane jobs go by the fairness of the bus.

use crate::event::{AnyEvent, Fairness, Priority};
use crate::rules::Lanes;
use crate::runtime::job::{Job, Needs};
use crate::runtime::lane::Lane;
use crate::sys::clock::Tick;
use std::collections::VecDeque;

#[derive(Default)]
struct Waiting {
    /// Loops, and jobs whose turn or permit has come.
    granted: VecDeque<Job>,
    others: VecDeque<Job>,
    /// From the first job on that is not of normal priority: all of them, and the two above are empty.
    sorted: Option<Box<Sorted>>,
    /// The last one taken was granted: if both have some, the next one is not.
    others_are_next: bool,
    stands: Stands,
    /// How many threads run jobs of it.
    serving: usize,
    /// When the first of these began.
    since: Tick,
    /// Where it stands.
    level: u8,
    /// The number that its place there has; places with other numbers are not its any more.
    ticket: u32,
    /// The loop that comes next has an event of that priority.
    raised: Option<Priority>,
    fairness: Fairness,
    /// Its bus is gone.
    closed: bool,
}

struct Sorted {
    granted: Lanes<Job>,
    others: Lanes<Job>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stands {
    #[default]
    Nowhere,
    /// Among those that come before whoever has had a turn.
    New,
    /// Among those that take turns.
    InTurn,
}

impl Waiting {
    #[inline]
    fn is_empty(&self) -> bool {
        match &self.sorted {
            None => self.granted.is_empty() && self.others.is_empty(),
            Some(sorted) => sorted.granted.len() + sorted.others.len() == 0,
        }
    }

    fn take(&mut self) -> Option<Job> {
        let others_first = self.others_are_next;
        self.others_are_next = !others_first;
        match &mut self.sorted {
            None if others_first => self.others.pop_front().or_else(|| self.granted.pop_front()),
            None => self.granted.pop_front().or_else(|| self.others.pop_front()),
            Some(sorted) if others_first => sorted.others.pop().or_else(|| sorted.granted.pop()),
            Some(sorted) => sorted.granted.pop().or_else(|| sorted.others.pop()),
        }
    }

    /// Where the best of its jobs belongs.
    #[inline]
    fn best(&self) -> u8 {
        let Some(sorted) = &self.sorted else { return NORMAL };
        sorted.granted.highest().max(sorted.others.highest()).map_or(NORMAL, Priority::level)
    }

    #[inline]
    fn put(&mut self, job: Job, granted: bool) {
        if self.sorted.is_none() && job.priority() == Priority::NORMAL {
            if granted {
                self.granted.push_back(job);
            } else {
                self.others.push_back(job);
            }
        } else {
            let priority = job.priority();
            let sorted = self.sort();
            let lanes = if granted { &mut sorted.granted } else { &mut sorted.others };
            lanes.push_back(priority, job);
        }
    }

    #[cold]
    fn sort(&mut self) -> &mut Sorted {
        let fairness = self.fairness;
        self.sorted.get_or_insert_with(|| {
            let mut sorted = Sorted { granted: Lanes::new(fairness), others: Lanes::new(fairness) };
            self.granted.drain(..).for_each(|job| sorted.granted.push_back(Priority::NORMAL, job));
            self.others.drain(..).for_each(|job| sorted.others.push_back(Priority::NORMAL, job));
            Box::new(sorted)
        })
    }

    /// Those that are granted, and then those that are not.
    fn iter(&self, granted: bool) -> impl Iterator<Item = &Job> {
        let jobs = if granted { &self.granted } else { &self.others };
        let sorted = self.sorted.iter().flat_map(move |s| if granted { s.granted.iter() } else { s.others.iter() });
        jobs.iter().chain(sorted)
    }

    fn take_first(&mut self, granted: bool, wanted: impl Fn(&Job) -> bool) -> Option<Job> {
        if let Some(sorted) = &mut self.sorted {
            return if granted { sorted.granted.take_first(wanted) } else { sorted.others.take_first(wanted) };
        }
        let jobs = if granted { &mut self.granted } else { &mut self.others };
        jobs.remove(jobs.iter().position(wanted)?)
    }
}

const NORMAL: u8 = Priority::NORMAL.0;

/// Lanes of one priority, each with the number of its place.
#[derive(Default)]
struct Ring {
    new: VecDeque<(usize, u32)>,
    in_turn: VecDeque<(usize, u32)>,
    /// How many new lanes have gone before the others, since one of these was served.
    ahead: usize,
    /// How many jobs of higher priorities have gone before.
    passed: usize,
}

impl Ring {
    fn is_empty(&self) -> bool {
        self.new.is_empty() && self.in_turn.is_empty()
    }
}

pub(crate) struct Jobs {
    lanes: Vec<Waiting>,
    /// Lanes of buses that are gone.
    unused: Vec<usize>,
    rings: [Ring; 11],
    /// Rings in which lanes may stand, but for the normal one.
    unusual: u16,
    count: usize,
}

impl Default for Jobs {
    fn default() -> Self {
        Jobs {
            lanes: vec![Waiting::default()],
            unused: Vec::new(),
            rings: std::array::from_fn(|_| Ring::default()),
            unusual: 0,
            count: 0,
        }
    }
}

impl Jobs {
    /// So many new lanes go before the others at most: a crowd of buses with one event each does not keep the others from their turns. And so
    /// many jobs of higher priorities before one of a lower.
    const AHEAD: usize = 8;
    /// A job that took less was no turn.
    const SHORT: Tick = if cfg!(threadbus_shuttle) { 0 } else { 500_000 };

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn open(&mut self, fairness: Fairness) -> Lane {
        let at = self.unused.pop().unwrap_or_else(|| {
            self.lanes.push(Waiting::default());
            self.lanes.len() - 1
        });
        self.lanes[at].closed = false;
        self.lanes[at].fairness = fairness;
        Lane(at)
    }

    /// Its bus is gone. What is left in the lane is still run.
    pub(crate) fn close(&mut self, Lane(at): Lane) {
        self.lanes[at].closed = true;
        self.give_back_if_unused(at);
    }

    /// For the next bus, without the room that this one's longest queue took.
    fn give_back_if_unused(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        if lane.closed && lane.stands == Stands::Nowhere && lane.serving == 0 {
            *lane = Waiting { closed: true, ticket: lane.ticket, ..Waiting::default() };
            self.unused.push(at);
        }
    }

    /// `granted`: it holds what others wait for.
    pub(crate) fn push(&mut self, mut job: Job, granted: bool, now: Tick) {
        let Lane(at) = job.lane();
        let lane = &mut self.lanes[at];
        if let Job::Loop(_, priority) = &mut job
            && let Some(raised) = lane.raised.take()
        {
            *priority = raised.max(*priority);
        }
        let level = job.priority().level();
        let was_empty = lane.is_empty();
        lane.put(job, granted);
        self.count += 1;
        if lane.stands == Stands::Nowhere {
            let had_its_turn = lane.serving > 0 && now.saturating_sub(lane.since) >= Self::SHORT;
            self.stand(at, if had_its_turn { Stands::InTurn } else { Stands::New }, level);
        } else if level > lane.level || was_empty && level != lane.level {
            let how = lane.stands;
            self.stand(at, how, level);
        }
    }

    /// To the end of those of a level. Where it stood before it stands no more.
    #[inline]
    fn stand(&mut self, at: usize, how: Stands, level: u8) {
        let lane = &mut self.lanes[at];
        lane.stands = how;
        lane.ticket = lane.ticket.wrapping_add(1);
        lane.level = level;
        let ring = &mut self.rings[usize::from(level)];
        let line = if how == Stands::New { &mut ring.new } else { &mut ring.in_turn };
        line.push_back((at, lane.ticket));
        if level != NORMAL {
            self.unusual |= 1 << level;
        }
    }

    /// The loop of a bus has an event of a higher priority than it stands for.
    pub(crate) fn raise(&mut self, Lane(at): Lane, to: Priority) {
        let lane = &mut self.lanes[at];
        lane.raised = lane.raised.max(Some(to));
        let lower = |job: &Job| matches!(job, Job::Loop(_, priority) if *priority < to);
        if let Some(job) = lane.take_first(true, lower) {
            self.count -= 1;
            self.push(job, true, 0);
        }
    }

    /// The next job, and the lane to tell once it has run.
    pub(crate) fn pop(&mut self, now: Tick) -> Option<(Job, Lane)> {
        while self.count > 0 {
            if self.unusual == 0 {
                return self.pop_at(NORMAL, now);
            }
            let level = self.next_level()?;
            if let Some(job) = self.pop_at(level, now) {
                self.rings[usize::from(level)].passed = 0;
                for lower in self.rings[..usize::from(level)].iter_mut().filter(|ring| !ring.is_empty()) {
                    lower.passed += 1;
                }
                return Some(job);
            }
            self.rings[usize::from(level)].passed = 0;
            self.unusual &= !(1 << level);
        }
        None
    }

    /// The highest in which lanes stand, unless one was passed over for long.
    #[cold]
    fn next_level(&self) -> Option<u8> {
        let occupied = || self.rings.iter().enumerate().rev().filter(|(_, ring)| !ring.is_empty());
        let waited =
            occupied().filter(|(_, ring)| ring.passed >= Self::AHEAD).rev().max_by_key(|(_, ring)| ring.passed);
        waited.or_else(|| occupied().next()).map(|(level, _)| level as u8)
    }

    #[inline]
    fn pop_at(&mut self, level: u8, now: Tick) -> Option<(Job, Lane)> {
        self.let_go(level);
        loop {
            let ring = &mut self.rings[usize::from(level)];
            let others_first = ring.ahead >= Self::AHEAD && !ring.in_turn.is_empty();
            let ((at, ticket), is_new) = if !others_first && let Some(place) = ring.new.pop_front() {
                (place, true)
            } else {
                (ring.in_turn.pop_front()?, false)
            };
            let lane = &mut self.lanes[at];
            if lane.ticket != ticket {
                continue; // It stands elsewhere by now.
            }
            lane.stands = Stands::Nowhere;
            let Some(job) = lane.take() else {
                self.give_back_if_unused(at);
                continue;
            };
            // Not for a lane that has emptied: those are many after a crowd, and whoever stands behind them has a turn first.
            ring.ahead = if is_new { ring.ahead + 1 } else { 0 };
            self.count -= 1;
            if lane.serving == 0 {
                lane.since = now;
            }
            lane.serving += 1;
            if !lane.is_empty() {
                let best = lane.best();
                self.stand(at, Stands::InTurn, best);
            }
            return Some((job, Lane(at)));
        }
    }

    /// A job of this lane has kept a thread for so long, and does so no more.
    pub(crate) fn served(&mut self, Lane(at): Lane, worked: Tick) {
        let lane = &mut self.lanes[at];
        lane.serving -= 1;
        if worked >= Self::SHORT && lane.stands != Stands::InTurn {
            let best = lane.best();
            self.stand(at, Stands::InTurn, best);
        }
        self.give_back_if_unused(at);
    }

    /// Lanes whose turn has come and that are empty stand in line no more: buses that come and go would pile up behind new ones.
    fn let_go(&mut self, level: u8) {
        while let Some(&(at, ticket)) = self.rings[usize::from(level)].in_turn.front()
            && (self.lanes[at].ticket != ticket || self.lanes[at].is_empty())
        {
            self.rings[usize::from(level)].in_turn.pop_front();
            if self.lanes[at].ticket == ticket {
                self.lanes[at].stands = Stands::Nowhere;
                self.give_back_if_unused(at);
            }
        }
    }

    pub(crate) fn has(&self, needs: &Needs) -> bool {
        self.position(needs).is_some()
    }

    /// The deliveries that granted jobs drive which are needed.
    pub(crate) fn granted_deliveries(&self, needs: &Needs) -> Vec<(AnyEvent, usize)> {
        let granted = self.lanes.iter().flat_map(|lane| lane.iter(true)).filter(|job| needs.wants(job, true));
        granted.filter_map(Job::delivery).collect()
    }

    /// The first job that is needed, wherever it stands.
    pub(crate) fn take(&mut self, needs: &Needs) -> Option<Job> {
        let (lane, granted) = self.position(needs)?;
        let job = self.lanes[lane].take_first(granted, |job| needs.wants(job, granted))?;
        self.count -= 1;
        Some(job)
    }

    /// In which lane one is, and whether among those that are granted.
    fn position(&self, needs: &Needs) -> Option<(usize, bool)> {
        self.lanes.iter().enumerate().find_map(|(lane, waiting)| {
            let has = |granted: &bool| waiting.iter(*granted).any(|job| needs.wants(job, *granted));
            [true, false].into_iter().find(has).map(|granted| (lane, granted))
        })
    }
}

#[cfg(all(test, not(threadbus_shuttle)))]
mod tests;
