//! Jobs that no thread has taken yet. Buses take turns, by priority.
//!
//! Each bus has a *lane*, which stands in line where the best of its jobs belongs: lanes of a higher priority go first. Of equal ones a lane
//! that gets its first job after having been empty goes before those that have had a turn, so an idle bus does not wait behind a flood on
//! another one. A lane that has kept a thread for longer than a moment has had its turn: it goes to the back, and stays there until it is
//! found empty, so that a bus that empties and fills its lane again and again gets no more than its share. A priority that was passed over
//! for long has a turn before the higher ones, so a flood of those keeps no thread for good. Inside a lane jobs go by the fairness of the bus.

mod waiting;

use crate::event::{AnyEvent, Fairness, Priority};
use crate::runtime::job::Job;
use crate::runtime::jobs::waiting::{NORMAL, Waiting};
use crate::runtime::lane::{Half, Lane};
use crate::runtime::needs::Needs;
use crate::sys::clock::Tick;
use std::collections::VecDeque;

/// A lane, and how it stands among the others.
#[derive(Default)]
struct Standing {
    jobs: Waiting,
    line: In,
    /// How many threads run jobs of it.
    serving: usize,
    /// When the first of these began.
    since: Tick,
    /// The level at which it stands.
    level: u8,
    /// The number under which it stands there. An entry of a ring with another number is void.
    ticket: u32,
    /// The loop that comes next has an event of that priority.
    raised: Option<Priority>,
    /// Its bus is gone.
    closed: bool,
}

/// In which line of its ring a lane stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum In {
    #[default]
    Neither,
    /// The line of lanes that go before those that have had a turn.
    New,
    /// The line of lanes that take turns.
    Turn,
}

/// Lanes of one priority, each with its ticket.
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
    lanes: Vec<Standing>,
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
            lanes: vec![Standing::default()],
            unused: Vec::new(),
            rings: std::array::from_fn(|_| Ring::default()),
            unusual: 0,
            count: 0,
        }
    }
}

impl Jobs {
    /// So many new lanes go before the others at most: a crowd of buses with one event each does not keep the others from their turns. And
    /// so many jobs of higher priorities before one of a lower.
    const AHEAD: usize = 8;
    /// A job that took less was no turn.
    const SHORT: Tick = if cfg!(threadbus_shuttle) { 0 } else { 500_000 };

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// A lane for a new bus.
    pub(crate) fn open(&mut self, fairness: Fairness) -> Lane {
        let at = self.unused.pop().unwrap_or_else(|| {
            self.lanes.push(Standing::default());
            self.lanes.len() - 1
        });
        self.lanes[at].closed = false;
        self.lanes[at].jobs.fairness = fairness;
        Lane(at)
    }

    /// Its bus is gone. What is left in the lane is still run.
    pub(crate) fn close(&mut self, Lane(at): Lane) {
        self.lanes[at].closed = true;
        self.give_back_if_unused(at);
    }

    /// The next bus gets the lane without the memory that this one's longest queue took.
    fn give_back_if_unused(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        if lane.closed && lane.line == In::Neither && lane.serving == 0 {
            *lane = Standing { closed: true, ticket: lane.ticket, ..Standing::default() };
            self.unused.push(at);
        }
    }

    pub(crate) fn push(&mut self, mut job: Job, half: Half, now: Tick) {
        let Lane(at) = job.lane();
        let lane = &mut self.lanes[at];
        if let Job::Loop(_, priority) = &mut job
            && let Some(raised) = lane.raised.take()
        {
            *priority = raised.max(*priority);
        }
        let level = job.priority().level();
        let was_empty = lane.jobs.is_empty();
        lane.jobs.put(job, half);
        self.count += 1;
        if lane.line == In::Neither {
            let had_its_turn = lane.serving > 0 && now.saturating_sub(lane.since) >= Self::SHORT;
            self.stand(at, if had_its_turn { In::Turn } else { In::New }, level);
        } else if level > lane.level || was_empty && level != lane.level {
            let line = lane.line;
            self.stand(at, line, level);
        }
    }

    /// Puts a lane at the end of a line of that level. Where it stood before it stands no more.
    #[inline]
    fn stand(&mut self, at: usize, line: In, level: u8) {
        let lane = &mut self.lanes[at];
        lane.line = line;
        lane.ticket = lane.ticket.wrapping_add(1);
        lane.level = level;
        let ring = &mut self.rings[usize::from(level)];
        let line = if line == In::New { &mut ring.new } else { &mut ring.in_turn };
        line.push_back((at, lane.ticket));
        if level != NORMAL {
            self.unusual |= 1 << level;
        }
    }

    /// The loop of a bus has an event of a higher priority than the one for which it stands.
    pub(crate) fn raise(&mut self, Lane(at): Lane, to: Priority) {
        let lane = &mut self.lanes[at];
        lane.raised = lane.raised.max(Some(to));
        let lower = |job: &Job| matches!(job, Job::Loop(_, priority) if *priority < to);
        if let Some(job) = lane.jobs.take_first(Half::Granted, lower) {
            self.count -= 1;
            self.push(job, Half::Granted, 0);
        }
    }

    /// Takes the next job, with its lane, to which [`served`](Jobs::served) is due once it has run.
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

    /// The highest level at which lanes stand, unless one was passed over for long.
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
            let ((at, ticket), is_new) = if !others_first && let Some(first) = ring.new.pop_front() {
                (first, true)
            } else {
                (ring.in_turn.pop_front()?, false)
            };
            let lane = &mut self.lanes[at];
            if lane.ticket != ticket {
                continue; // It stands elsewhere by now.
            }
            lane.line = In::Neither;
            let Some(job) = lane.jobs.take() else {
                self.give_back_if_unused(at);
                continue;
            };
            // Not for a lane that has emptied: those are many after a crowd, and the lanes behind them have a turn first.
            ring.ahead = if is_new { ring.ahead + 1 } else { 0 };
            self.count -= 1;
            if lane.serving == 0 {
                lane.since = now;
            }
            lane.serving += 1;
            if !lane.jobs.is_empty() {
                let best = lane.jobs.best();
                self.stand(at, In::Turn, best);
            }
            return Some((job, Lane(at)));
        }
    }

    /// A job of this lane has kept a thread for so long, and does so no more.
    pub(crate) fn served(&mut self, Lane(at): Lane, worked: Tick) {
        let lane = &mut self.lanes[at];
        lane.serving -= 1;
        if worked >= Self::SHORT && lane.line != In::Turn {
            let best = lane.jobs.best();
            self.stand(at, In::Turn, best);
        }
        self.give_back_if_unused(at);
    }

    /// Empty lanes whose turn has come leave the line: those of buses that come and go would pile up behind new ones.
    fn let_go(&mut self, level: u8) {
        while let Some(&(at, ticket)) = self.rings[usize::from(level)].in_turn.front()
            && (self.lanes[at].ticket != ticket || self.lanes[at].jobs.is_empty())
        {
            self.rings[usize::from(level)].in_turn.pop_front();
            if self.lanes[at].ticket == ticket {
                self.lanes[at].line = In::Neither;
                self.give_back_if_unused(at);
            }
        }
    }

    /// A job that is needed waits for a thread.
    pub(crate) fn has(&self, needs: &Needs) -> bool {
        self.find(needs).is_some()
    }

    /// The needed ones among the deliveries that granted jobs drive.
    pub(crate) fn granted_deliveries(&self, needs: &Needs) -> Vec<(AnyEvent, usize)> {
        let granted = self.lanes.iter().flat_map(|lane| lane.jobs.iter(Half::Granted));
        granted.filter(|job| needs.wants(job, Half::Granted)).filter_map(Job::delivery).collect()
    }

    /// Takes the first job that is needed, wherever it stands.
    pub(crate) fn take(&mut self, needs: &Needs) -> Option<Job> {
        let (lane, half) = self.find(needs)?;
        let job = self.lanes[lane].jobs.take_first(half, |job| needs.wants(job, half))?;
        self.count -= 1;
        Some(job)
    }

    /// In which lane, and in which half of it, there is a job that is needed.
    fn find(&self, needs: &Needs) -> Option<(usize, Half)> {
        self.lanes.iter().enumerate().find_map(|(at, lane)| {
            let has = |half: &Half| lane.jobs.iter(*half).any(|job| needs.wants(job, *half));
            Half::BOTH.into_iter().find(has).map(|half| (at, half))
        })
    }
}

#[cfg(all(test, not(threadbus_shuttle)))]
mod tests;
