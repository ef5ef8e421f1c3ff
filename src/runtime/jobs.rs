//! Jobs that no thread has taken yet. Buses take turns, by priority.
//!
//! Each bus has a *lane*, which stands where the best of its jobs belongs: lanes of a higher priority go first. Of equal ones a lane that gets
//! its first job after having been empty goes before those that have had a turn, so an idle bus does not wait behind a flood on another one. A lane
//! that has kept a thread for longer than a moment has had its turn: it goes to the back, and stays there until it is found empty, so that a bus
//! that empties and fills its lane again and again gets no more than its share. A priority that was passed over for long has a turn before the higher ones, so a flood of those keeps nobody's threads for good.
//! Inside a lane jobs go by the fairness of the bus.

use crate::event::{AnyEvent, Fairness, Priority};
use crate::rules::Lanes;
use crate::runtime::job::{Job, Lane, Needs};
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests")]

    use super::*;
    use crate::runtime::pool::Place;
    use crate::runtime::worker::Worker;
    use std::sync::{Arc, Mutex};

    /// Jobs that say which they were.
    struct Bench {
        jobs: Jobs,
        ran: Arc<Mutex<Vec<String>>>,
        worker: Arc<Worker>,
        now: Tick,
    }

    impl Bench {
        fn new() -> Self {
            Bench { jobs: Jobs::default(), ran: Arc::default(), worker: Worker::new(Place::Outside, None), now: 0 }
        }

        fn push(&mut self, lane: Lane, name: &str, granted: bool) {
            let (ran, name) = (Arc::clone(&self.ran), name.to_owned());
            self.jobs.push(Job::new(lane, move |_| ran.lock().unwrap().push(name)), granted, self.now);
        }

        fn push_at(&mut self, lane: Lane, level: u8, name: &str) {
            let (ran, name) = (Arc::clone(&self.ran), name.to_owned());
            let work = move |_: &Arc<Worker>| ran.lock().unwrap().push(name);
            self.jobs.push(Job::at(Priority::new(level).unwrap(), lane, work), false, self.now);
        }

        fn in_turn(&self) -> usize {
            self.jobs.rings.iter().map(|ring| ring.in_turn.len()).sum()
        }

        /// Each takes a whole turn.
        fn run(&mut self, count: usize) -> Vec<String> {
            self.run_for(count, Jobs::SHORT)
        }

        fn run_for(&mut self, count: usize, time: Tick) -> Vec<String> {
            for _ in 0..count {
                let (job, lane) = self.jobs.pop(self.now).unwrap();
                job.run(&self.worker);
                self.now += time;
                self.jobs.served(lane, time);
            }
            std::mem::take(&mut self.ran.lock().unwrap())
        }
    }

    #[test]
    fn lanes_take_turns_and_a_new_one_goes_first() {
        let mut bench = Bench::new();
        let (a, b, c) =
            (bench.jobs.open(Fairness::Strict), bench.jobs.open(Fairness::Strict), bench.jobs.open(Fairness::Strict));
        for n in 0..4 {
            bench.push(a, &format!("a{n}"), false);
            bench.push(b, &format!("b{n}"), false);
        }
        assert_eq!(bench.run(3), ["a0", "b0", "a1"]);
        bench.push(c, "c0", false);
        bench.push(c, "c1", false);
        assert_eq!(bench.run(7), ["c0", "b1", "a2", "c1", "b2", "a3", "b3"]);
        assert!(bench.jobs.pop(0).is_none());
        assert_eq!(bench.jobs.len(), 0);
    }

    #[test]
    fn lanes_go_by_the_best_of_their_jobs_and_jobs_by_the_lanes_fairness() {
        let mut bench = Bench::new();
        let (a, b, c) = (0, 1, 2);
        let lanes = [a, b, c].map(|_| bench.jobs.open(Fairness::Strict));
        for (lane, level, name) in [(a, 5, "a"), (b, 2, "b"), (c, 5, "c"), (b, 8, "B"), (a, 10, "A"), (c, 5, "d")] {
            bench.push_at(lanes[lane], level, name);
        }
        assert_eq!(bench.run(6), ["A", "B", "c", "a", "d", "b"]);
        assert!(bench.jobs.pop(0).is_none() && bench.jobs.len() == 0);
    }

    #[test]
    fn a_lane_shares_itself_by_its_weights() {
        let mut bench = Bench::new();
        let lane = bench.jobs.open(Fairness::Weighted { high: 3, normal: 2, low: 1 });
        for _ in 0..6 {
            [(1, "low"), (5, "normal"), (9, "high")]
                .into_iter()
                .for_each(|(level, name)| bench.push_at(lane, level, name));
        }
        let ran = bench.run(6);
        let of = |name| ran.iter().filter(|one| *one == name).count();
        assert_eq!([of("high"), of("normal"), of("low")], [3, 2, 1]);
    }

    #[test]
    fn a_flood_of_a_high_priority_keeps_nobody_for_good() {
        let mut bench = Bench::new();
        let lanes = [0; 3].map(|_| bench.jobs.open(Fairness::Strict));
        for _ in 0..20 {
            bench.push_at(lanes[1], 5, "normal");
            bench.push_at(lanes[2], 0, "low");
        }
        let mut ran = Vec::new();
        for _ in 0..100 {
            bench.push_at(lanes[0], 10, "flood");
            bench.push_at(lanes[0], 10, "flood");
            ran.extend(bench.run(1));
        }
        let of = |name| ran.iter().filter(|one| *one == name).count();
        assert!(of("normal") >= 9 && of("low") >= 9 && of("flood") >= 80, "{} {}", of("normal"), of("low"));
    }

    #[test]
    fn moving_up_and_down_leaves_no_place_behind() {
        let mut bench = Bench::new();
        let lanes = [0; 2].map(|_| bench.jobs.open(Fairness::Strict));
        for n in 0..2000 {
            bench.push_at(lanes[0], 5, "x");
            bench.push_at(lanes[n % 2], (n % 11) as u8, "y");
            bench.run(2);
            let places = bench.in_turn() + bench.jobs.rings.iter().map(|ring| ring.new.len()).sum::<usize>();
            assert!(places < 200, "{places} places of 2 lanes");
        }
        assert_eq!(bench.jobs.len(), 0);
    }

    #[test]
    fn a_lane_that_empties_and_fills_again_gets_no_more_than_its_share() {
        let mut bench = Bench::new();
        let (steady, comes_and_goes) = (bench.jobs.open(Fairness::Strict), bench.jobs.open(Fairness::Strict));
        for n in 0..20 {
            bench.push(steady, &n.to_string(), false);
        }
        let mut before = Vec::new();
        for _ in 0..10 {
            bench.push(comes_and_goes, "again", false);
            before.extend(bench.run(2));
        }
        assert_eq!(before.iter().filter(|name| *name == "again").count(), 10);
        assert_eq!(before.iter().filter(|name| *name != "again").count(), 10);
    }

    #[test]
    fn a_lane_with_little_to_do_goes_first_each_time() {
        let mut bench = Bench::new();
        let steady =
            [bench.jobs.open(Fairness::Strict), bench.jobs.open(Fairness::Strict), bench.jobs.open(Fairness::Strict)];
        let brief = bench.jobs.open(Fairness::Strict);
        for lane in steady {
            (0..40).for_each(|n| bench.push(lane, &n.to_string(), false));
        }
        bench.run(steady.len());
        for _ in 0..20 {
            bench.push(brief, "brief", false);
            assert_eq!(bench.run_for(1, Jobs::SHORT / 2), ["brief"]);
            bench.run(1);
        }
        // Not before everybody: the others get a turn after so many of its jobs.
        let (mut others, mut is_empty) = (0, true);
        for _ in 0..10 * (Jobs::AHEAD + 1) {
            if is_empty {
                bench.push(brief, "brief", false);
            }
            is_empty = bench.run_for(1, Jobs::SHORT / 2) == ["brief"];
            others += usize::from(!is_empty);
        }
        assert_eq!(others, 10);
    }

    #[test]
    fn what_comes_while_a_lane_is_served_stands_where_the_running_job_leaves_it() {
        for (so_far, in_all, first) in [(0, 0, true), (0, Jobs::SHORT, false), (Jobs::SHORT, Jobs::SHORT, false)] {
            let mut bench = Bench::new();
            let (steady, other) = (bench.jobs.open(Fairness::Strict), bench.jobs.open(Fairness::Strict));
            (0..3).for_each(|_| bench.push(steady, "steady", false));
            bench.run(1);
            bench.push(other, "running", false);
            let (_, lane) = bench.jobs.pop(bench.now).unwrap();
            bench.now += so_far;
            bench.push(other, "next", false);
            bench.jobs.served(lane, in_all);
            let expected = if first { ["next", "steady", "steady"] } else { ["steady", "next", "steady"] };
            assert_eq!(bench.run(3), expected, "{so_far} {in_all}");
            assert!(bench.jobs.pop(bench.now).is_none());
        }
    }

    #[test]
    fn lanes_of_buses_that_are_gone_are_used_again() {
        for beside in [false, true] {
            let mut bench = Bench::new();
            let busy = bench.jobs.open(Fairness::Strict);
            for _ in 0..1000 {
                if beside {
                    bench.push(busy, "busy", false);
                }
                let brief = bench.jobs.open(Fairness::Strict);
                bench.push(brief, "brief", false);
                bench.run(1 + usize::from(beside));
                bench.jobs.close(brief);
            }
            assert!(bench.jobs.lanes.len() < 4 * Jobs::AHEAD, "{} lanes, {beside}", bench.jobs.lanes.len());
            assert!(bench.in_turn() < 4 * Jobs::AHEAD, "{} stand in turn, {beside}", bench.in_turn());
        }
    }

    #[test]
    fn lanes_that_have_emptied_delay_nobody() {
        let mut bench = Bench::new();
        for _ in 0..1000 {
            let brief = bench.jobs.open(Fairness::Strict);
            bench.push(brief, "brief", false);
            bench.run(1);
        }
        let busy = bench.jobs.open(Fairness::Strict);
        for _ in 0..20 {
            bench.push(busy, "busy", false);
        }
        for _ in 0..200 {
            let brief = bench.jobs.open(Fairness::Strict);
            bench.push(brief, "brief", false);
        }
        let ran = bench.run(100);
        let busy = ran.iter().filter(|name| *name == "busy").count();
        assert!(busy >= 100 / (Jobs::AHEAD + 1), "{busy} of 100");
    }

    #[test]
    fn a_crowd_of_new_lanes_lets_the_others_go_on() {
        let mut bench = Bench::new();
        let steady = bench.jobs.open(Fairness::Strict);
        bench.push(steady, "first", false);
        bench.push(steady, "second", false);
        assert_eq!(bench.run(1), ["first"]);
        for _ in 0..100 {
            let lane = bench.jobs.open(Fairness::Strict);
            bench.push(lane, "new", false);
        }
        assert!(bench.run(Jobs::AHEAD + 1).contains(&"second".to_owned()));
    }

    #[test]
    fn what_is_granted_and_what_is_not_take_turns_in_a_lane() {
        let mut bench = Bench::new();
        let lane = bench.jobs.open(Fairness::Strict);
        for name in ["x", "y", "z"] {
            bench.push(lane, name, false);
        }
        for name in ["X", "Y"] {
            bench.push(lane, name, true);
        }
        assert_eq!(bench.run(5), ["X", "x", "Y", "y", "z"]);
    }

    #[test]
    fn what_a_bus_leaves_behind_is_still_run_and_its_lane_used_again() {
        let mut bench = Bench::new();
        let gone = bench.jobs.open(Fairness::Strict);
        bench.push(gone, "left", false);
        bench.jobs.close(gone);
        assert_ne!(bench.jobs.open(Fairness::Strict), gone, "it has a job");
        assert_eq!(bench.run(1), ["left"]);
        bench.push(Lane::SHARED, "other", false);
        bench.run(1);
        bench.push(Lane::SHARED, "other", false);
        bench.run(1);
        for _ in 0..1000 {
            let lane = bench.jobs.open(Fairness::Strict);
            bench.jobs.close(lane);
        }
        // Also where each had a job, and no turn comes for it again since there are new ones.
        for _ in 0..1000 {
            let lane = bench.jobs.open(Fairness::Strict);
            bench.push(lane, "short", false);
            bench.run(1);
            bench.jobs.close(lane);
        }
        assert!(bench.jobs.lanes.len() <= 4, "{}", bench.jobs.lanes.len());
    }

    #[test]
    fn only_what_is_needed_is_taken_out_of_turn() {
        let mut bench = Bench::new();
        let (a, b) = (bench.jobs.open(Fairness::Strict), bench.jobs.open(Fairness::Strict));
        bench.push(a, "a", false);
        bench.push(b, "b", true);
        assert!(!bench.jobs.has(&Needs::default()));
        assert!(bench.jobs.take(&Needs { all_holders: true, ..Needs::default() }).is_none(), "no event of any");
        bench.jobs.take(&Needs::bus(b)).unwrap().run(&bench.worker);
        assert_eq!(bench.run(1), ["b", "a"]);
        assert!(bench.jobs.pop(0).is_none());
    }
}
