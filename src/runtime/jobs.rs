//! Jobs that no thread has taken yet. Buses take turns.
//!
//! Each bus has a *lane*. A lane that gets its first job after having been empty goes before those that have had a turn, so an idle bus does
//! not wait behind a flood on another one. A lane that has kept a thread for longer than a moment has had its turn: it goes to the back, and
//! stays there until it is found empty, so that a bus that empties and fills its lane again and again gets no more than its share.

use crate::event::AnyEvent;
use crate::runtime::drive::{Drive, Pumped, Work};
use crate::runtime::worker::Worker;
use crate::sys::clock::Tick;
use smallvec::SmallVec;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Whose turn a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane(usize);

impl Lane {
    /// Of what belongs to no bus.
    pub(crate) const SHARED: Lane = Lane(0);
}

pub(crate) enum Job {
    /// The loop of a bus.
    Loop(Arc<dyn Drive>),
    Work(Errand),
    /// Not for a thread of the pool: the bus's pump thread runs it.
    Pumped(Arc<dyn Drive>, Pumped),
}

pub(crate) struct Errand {
    lane: Lane,
    /// What it goes on with. A thread that waits for this event may run it when no other thread can.
    of: Option<Of>,
    work: Box<Work>,
}

struct Of {
    event: AnyEvent,
    /// `None`: it drives none.
    delivery: Option<usize>,
}

impl Job {
    pub(crate) fn new(lane: Lane, work: impl FnOnce(&Arc<Worker>) + Send + 'static) -> Job {
        Job::Work(Errand { lane, of: None, work: Box::new(work) })
    }

    /// One that goes on with an event.
    pub(crate) fn of(event: &AnyEvent, lane: Lane, work: Box<Work>) -> Job {
        Job::Work(Errand { lane, of: Some(Of { event: event.clone(), delivery: None }), work })
    }

    /// One that drives a delivery.
    pub(crate) fn drives(event: &AnyEvent, delivery: usize, lane: Lane, work: Box<Work>) -> Job {
        Job::Work(Errand { lane, of: Some(Of { event: event.clone(), delivery: Some(delivery) }), work })
    }

    pub(crate) fn run(self, worker: &Arc<Worker>) {
        match self {
            Job::Loop(bus) => bus.drive(worker),
            Job::Work(errand) => (errand.work)(worker),
            Job::Pumped(bus, work) => bus.keep(work),
        }
    }

    fn lane(&self) -> Lane {
        match self {
            Job::Loop(bus) | Job::Pumped(bus, _) => bus.lane(),
            Job::Work(errand) => errand.lane,
        }
    }
}

/// What a thread waits for, in terms of jobs: when no other thread can, it runs these itself, and no others.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Jobs that go on with these events, by stamp.
    pub(crate) events: HashSet<u64>,
    /// All jobs of these buses: what it waits for is in their order.
    pub(crate) buses: SmallVec<[Lane; 2]>,
    /// Jobs of these buses that hold a turn or a permit: what it waits for stands in line for that.
    pub(crate) holders: SmallVec<[Lane; 2]>,
    /// Such jobs of all buses.
    pub(crate) all_holders: bool,
    /// It cannot end before these have run, so they are run on the last of the stack.
    pub(crate) last_resort: bool,
    /// The wait can end with the news that no thread can ever run them.
    pub(crate) can_fail: bool,
}

impl Needs {
    /// What is done in the order of this bus.
    pub(crate) fn bus(lane: Lane) -> Needs {
        Needs { buses: SmallVec::from_slice(&[lane]), ..Needs::default() }
    }

    fn wants(&self, job: &Job, granted: bool) -> bool {
        let lane = job.lane();
        if self.buses.contains(&lane) {
            return true;
        }
        let Job::Work(Errand { of: Some(of), .. }) = job else { return false };
        self.events.contains(&of.event.head().stamp()) || granted && (self.all_holders || self.holders.contains(&lane))
    }
}

#[derive(Default)]
struct Waiting {
    /// Loops, and jobs whose turn or permit has come.
    granted: VecDeque<Job>,
    others: VecDeque<Job>,
    /// The last one taken was granted: if both have some, the next one is not.
    others_are_next: bool,
    stands: Stands,
    /// How many threads run jobs of it.
    serving: usize,
    /// When the first of these began.
    since: Tick,
    /// Its bus is gone.
    closed: bool,
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
    fn is_empty(&self) -> bool {
        self.granted.is_empty() && self.others.is_empty()
    }

    fn take(&mut self) -> Option<Job> {
        let job = match self.others_are_next {
            true => self.others.pop_front().or_else(|| self.granted.pop_front()),
            false => self.granted.pop_front().or_else(|| self.others.pop_front()),
        };
        self.others_are_next = !self.others_are_next;
        job
    }
}

pub(crate) struct Jobs {
    lanes: Vec<Waiting>,
    /// Lanes of buses that are gone.
    unused: Vec<usize>,
    new: VecDeque<usize>,
    in_turn: VecDeque<usize>,
    count: usize,
    /// How many new lanes have gone before the others, since one of these was served.
    ahead: usize,
}

impl Default for Jobs {
    fn default() -> Self {
        Jobs {
            lanes: vec![Waiting::default()],
            unused: Vec::new(),
            new: VecDeque::new(),
            in_turn: VecDeque::new(),
            count: 0,
            ahead: 0,
        }
    }
}

impl Jobs {
    /// So many new lanes go before the others at most: a crowd of buses with one event each does not keep the others from their turns.
    const AHEAD: usize = 8;
    /// A job that took less was no turn.
    const SHORT: Tick = if cfg!(threadbus_shuttle) { 0 } else { 500_000 };

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn open(&mut self) -> Lane {
        let at = self.unused.pop().unwrap_or_else(|| {
            self.lanes.push(Waiting::default());
            self.lanes.len() - 1
        });
        self.lanes[at].closed = false;
        Lane(at)
    }

    /// Its bus is gone. What is left in the lane is still run.
    pub(crate) fn close(&mut self, Lane(at): Lane) {
        let lane = &mut self.lanes[at];
        lane.closed = true;
        self.give_back_if_unused(at);
    }

    /// For the next bus, without the room that this one's longest queue took.
    fn give_back_if_unused(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        if lane.closed && lane.stands == Stands::Nowhere && lane.serving == 0 {
            *lane = Waiting { closed: true, ..Waiting::default() };
            self.unused.push(at);
        }
    }

    /// `granted`: it holds what others wait for.
    pub(crate) fn push(&mut self, job: Job, granted: bool, now: Tick) {
        let Lane(at) = job.lane();
        let lane = &mut self.lanes[at];
        if granted {
            lane.granted.push_back(job);
        } else {
            lane.others.push_back(job);
        }
        self.count += 1;
        if lane.stands == Stands::Nowhere {
            if lane.serving > 0 && now.saturating_sub(lane.since) >= Self::SHORT {
                self.stand_in_turn(at);
            } else {
                lane.stands = Stands::New;
                self.new.push_back(at);
            }
        }
    }

    /// The next job, and the lane to tell once it has run.
    pub(crate) fn pop(&mut self, now: Tick) -> Option<(Job, Lane)> {
        self.let_go();
        while self.count > 0 {
            let others_first = self.ahead >= Self::AHEAD && !self.in_turn.is_empty();
            let (at, from) = if !others_first && let Some(at) = self.new.pop_front() {
                (at, Stands::New)
            } else {
                (self.in_turn.pop_front()?, Stands::InTurn)
            };
            let lane = &mut self.lanes[at];
            if lane.stands != from {
                continue; // It stood among the new ones until it had had a turn.
            }
            lane.stands = Stands::Nowhere;
            let Some(job) = lane.take() else {
                self.give_back_if_unused(at);
                continue;
            };
            // Not for a lane that has emptied: those are many after a crowd, and whoever stands behind them has a turn first.
            self.ahead = if from == Stands::New { self.ahead + 1 } else { 0 };
            self.count -= 1;
            if lane.serving == 0 {
                lane.since = now;
            }
            lane.serving += 1;
            if !lane.is_empty() {
                self.stand_in_turn(at);
            }
            return Some((job, Lane(at)));
        }
        None
    }

    /// A job of this lane has kept a thread for so long, and does so no more.
    pub(crate) fn served(&mut self, Lane(at): Lane, worked: Tick) {
        let lane = &mut self.lanes[at];
        lane.serving -= 1;
        if worked >= Self::SHORT && lane.stands != Stands::InTurn {
            self.stand_in_turn(at);
        }
        self.give_back_if_unused(at);
    }

    /// At the back of those that have had a turn.
    fn stand_in_turn(&mut self, at: usize) {
        self.lanes[at].stands = Stands::InTurn;
        self.in_turn.push_back(at);
    }

    /// Lanes whose turn has come and that are empty stand in line no more: buses that come and go would pile up behind new ones.
    fn let_go(&mut self) {
        while let Some(&at) = self.in_turn.front()
            && self.lanes[at].is_empty()
        {
            self.in_turn.pop_front();
            self.lanes[at].stands = Stands::Nowhere;
            self.give_back_if_unused(at);
        }
    }

    pub(crate) fn has(&self, needs: &Needs) -> bool {
        self.position(needs).is_some()
    }

    /// The deliveries that granted jobs drive which are needed.
    pub(crate) fn granted_deliveries(&self, needs: &Needs) -> Vec<(AnyEvent, usize)> {
        let granted = self.lanes.iter().flat_map(|lane| &lane.granted).filter(|job| needs.wants(job, true));
        let delivery = |job: &Job| match job {
            Job::Work(Errand { of: Some(of), .. }) => Some((of.event.clone(), of.delivery?)),
            _ => None,
        };
        granted.filter_map(delivery).collect()
    }

    /// The first job that is needed, wherever it stands.
    pub(crate) fn take(&mut self, needs: &Needs) -> Option<Job> {
        let (lane, granted, at) = self.position(needs)?;
        self.count -= 1;
        let lane = &mut self.lanes[lane];
        if granted { lane.granted.remove(at) } else { lane.others.remove(at) }
    }

    fn position(&self, needs: &Needs) -> Option<(usize, bool, usize)> {
        self.lanes.iter().enumerate().find_map(|(lane, waiting)| {
            let find = |jobs: &VecDeque<Job>, granted| jobs.iter().position(|job| needs.wants(job, granted));
            let granted = find(&waiting.granted, true).map(|at| (lane, true, at));
            granted.or_else(|| find(&waiting.others, false).map(|at| (lane, false, at)))
        })
    }
}

#[cfg(all(test, not(threadbus_shuttle)))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests")]

    use super::*;
    use crate::runtime::pool::Place;
    use std::sync::Mutex;

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
        let (a, b, c) = (bench.jobs.open(), bench.jobs.open(), bench.jobs.open());
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
    fn a_lane_that_empties_and_fills_again_gets_no_more_than_its_share() {
        let mut bench = Bench::new();
        let (steady, comes_and_goes) = (bench.jobs.open(), bench.jobs.open());
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
        let steady = [bench.jobs.open(), bench.jobs.open(), bench.jobs.open()];
        let brief = bench.jobs.open();
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
            let (steady, other) = (bench.jobs.open(), bench.jobs.open());
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
            let busy = bench.jobs.open();
            for _ in 0..1000 {
                if beside {
                    bench.push(busy, "busy", false);
                }
                let brief = bench.jobs.open();
                bench.push(brief, "brief", false);
                bench.run(1 + usize::from(beside));
                bench.jobs.close(brief);
            }
            assert!(bench.jobs.lanes.len() < 4 * Jobs::AHEAD, "{} lanes, {beside}", bench.jobs.lanes.len());
            assert!(bench.jobs.in_turn.len() < 4 * Jobs::AHEAD, "{} stand in turn, {beside}", bench.jobs.in_turn.len());
        }
    }

    #[test]
    fn lanes_that_have_emptied_delay_nobody() {
        let mut bench = Bench::new();
        for _ in 0..1000 {
            let brief = bench.jobs.open();
            bench.push(brief, "brief", false);
            bench.run(1);
        }
        let busy = bench.jobs.open();
        for _ in 0..20 {
            bench.push(busy, "busy", false);
        }
        for _ in 0..200 {
            let brief = bench.jobs.open();
            bench.push(brief, "brief", false);
        }
        let ran = bench.run(100);
        let busy = ran.iter().filter(|name| *name == "busy").count();
        assert!(busy >= 100 / (Jobs::AHEAD + 1), "{busy} of 100");
    }

    #[test]
    fn a_crowd_of_new_lanes_lets_the_others_go_on() {
        let mut bench = Bench::new();
        let steady = bench.jobs.open();
        bench.push(steady, "first", false);
        bench.push(steady, "second", false);
        assert_eq!(bench.run(1), ["first"]);
        for _ in 0..100 {
            let lane = bench.jobs.open();
            bench.push(lane, "new", false);
        }
        assert!(bench.run(Jobs::AHEAD + 1).contains(&"second".to_owned()));
    }

    #[test]
    fn what_is_granted_and_what_is_not_take_turns_in_a_lane() {
        let mut bench = Bench::new();
        let lane = bench.jobs.open();
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
        let gone = bench.jobs.open();
        bench.push(gone, "left", false);
        bench.jobs.close(gone);
        assert_ne!(bench.jobs.open(), gone, "it has a job");
        assert_eq!(bench.run(1), ["left"]);
        bench.push(Lane::SHARED, "other", false);
        bench.run(1);
        bench.push(Lane::SHARED, "other", false);
        bench.run(1);
        for _ in 0..1000 {
            let lane = bench.jobs.open();
            bench.jobs.close(lane);
        }
        // Also where each had a job, and no turn comes for it again since there are new ones.
        for _ in 0..1000 {
            let lane = bench.jobs.open();
            bench.push(lane, "short", false);
            bench.run(1);
            bench.jobs.close(lane);
        }
        assert!(bench.jobs.lanes.len() <= 4, "{}", bench.jobs.lanes.len());
    }

    #[test]
    fn only_what_is_needed_is_taken_out_of_turn() {
        let mut bench = Bench::new();
        let (a, b) = (bench.jobs.open(), bench.jobs.open());
        bench.push(a, "a", false);
        bench.push(b, "b", true);
        assert!(!bench.jobs.has(&Needs::default()));
        assert!(bench.jobs.take(&Needs { all_holders: true, ..Needs::default() }).is_none(), "no event of any");
        bench.jobs.take(&Needs::bus(b)).unwrap().run(&bench.worker);
        assert_eq!(bench.run(1), ["b", "a"]);
        assert!(bench.jobs.pop(0).is_none());
    }
}
