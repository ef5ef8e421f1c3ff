#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests")]

use super::*;
use crate::runtime::worker::{Activity, Worker};
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
        Bench { jobs: Jobs::default(), ran: Arc::default(), worker: Worker::new(Activity::Outside, None), now: 0 }
    }

    fn push(&mut self, lane: Lane, name: &str, half: Half) {
        let (ran, name) = (Arc::clone(&self.ran), name.to_owned());
        self.jobs.push(Job::new(lane, move |_| ran.lock().unwrap().push(name)), half, self.now);
    }

    fn push_at(&mut self, lane: Lane, level: u8, name: &str) {
        let (ran, name) = (Arc::clone(&self.ran), name.to_owned());
        let work = move |_: &Arc<Worker>| ran.lock().unwrap().push(name);
        self.jobs.push(Job::at(Priority::new(level).unwrap(), lane, work), Half::Others, self.now);
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
        bench.push(a, &format!("a{n}"), Half::Others);
        bench.push(b, &format!("b{n}"), Half::Others);
    }
    assert_eq!(bench.run(3), ["a0", "b0", "a1"]);
    bench.push(c, "c0", Half::Others);
    bench.push(c, "c1", Half::Others);
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
        [(1, "low"), (5, "normal"), (9, "high")].into_iter().for_each(|(level, name)| bench.push_at(lane, level, name));
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
        bench.push(steady, &n.to_string(), Half::Others);
    }
    let mut before = Vec::new();
    for _ in 0..10 {
        bench.push(comes_and_goes, "again", Half::Others);
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
        (0..40).for_each(|n| bench.push(lane, &n.to_string(), Half::Others));
    }
    bench.run(steady.len());
    for _ in 0..20 {
        bench.push(brief, "brief", Half::Others);
        assert_eq!(bench.run_for(1, Jobs::SHORT / 2), ["brief"]);
        bench.run(1);
    }
    // Not before everybody: the others get a turn after so many of its jobs.
    let (mut others, mut is_empty) = (0, true);
    for _ in 0..10 * (Jobs::AHEAD + 1) {
        if is_empty {
            bench.push(brief, "brief", Half::Others);
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
        (0..3).for_each(|_| bench.push(steady, "steady", Half::Others));
        bench.run(1);
        bench.push(other, "running", Half::Others);
        let (_, lane) = bench.jobs.pop(bench.now).unwrap();
        bench.now += so_far;
        bench.push(other, "next", Half::Others);
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
                bench.push(busy, "busy", Half::Others);
            }
            let brief = bench.jobs.open(Fairness::Strict);
            bench.push(brief, "brief", Half::Others);
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
        bench.push(brief, "brief", Half::Others);
        bench.run(1);
    }
    let busy = bench.jobs.open(Fairness::Strict);
    for _ in 0..20 {
        bench.push(busy, "busy", Half::Others);
    }
    for _ in 0..200 {
        let brief = bench.jobs.open(Fairness::Strict);
        bench.push(brief, "brief", Half::Others);
    }
    let ran = bench.run(100);
    let busy = ran.iter().filter(|name| *name == "busy").count();
    assert!(busy >= 100 / (Jobs::AHEAD + 1), "{busy} of 100");
}

#[test]
fn a_crowd_of_new_lanes_lets_the_others_go_on() {
    let mut bench = Bench::new();
    let steady = bench.jobs.open(Fairness::Strict);
    bench.push(steady, "first", Half::Others);
    bench.push(steady, "second", Half::Others);
    assert_eq!(bench.run(1), ["first"]);
    for _ in 0..100 {
        let lane = bench.jobs.open(Fairness::Strict);
        bench.push(lane, "new", Half::Others);
    }
    assert!(bench.run(Jobs::AHEAD + 1).contains(&"second".to_owned()));
}

#[test]
fn what_is_granted_and_what_is_not_take_turns_in_a_lane() {
    let mut bench = Bench::new();
    let lane = bench.jobs.open(Fairness::Strict);
    for name in ["x", "y", "z"] {
        bench.push(lane, name, Half::Others);
    }
    for name in ["X", "Y"] {
        bench.push(lane, name, Half::Granted);
    }
    assert_eq!(bench.run(5), ["X", "x", "Y", "y", "z"]);
}

#[test]
fn what_a_bus_leaves_behind_is_still_run_and_its_lane_used_again() {
    let mut bench = Bench::new();
    let gone = bench.jobs.open(Fairness::Strict);
    bench.push(gone, "left", Half::Others);
    bench.jobs.close(gone);
    assert_ne!(bench.jobs.open(Fairness::Strict), gone, "it has a job");
    assert_eq!(bench.run(1), ["left"]);
    bench.push(Lane::SHARED, "other", Half::Others);
    bench.run(1);
    bench.push(Lane::SHARED, "other", Half::Others);
    bench.run(1);
    for _ in 0..1000 {
        let lane = bench.jobs.open(Fairness::Strict);
        bench.jobs.close(lane);
    }
    // Also where each had a job, and no turn comes for it again since there are new ones.
    for _ in 0..1000 {
        let lane = bench.jobs.open(Fairness::Strict);
        bench.push(lane, "short", Half::Others);
        bench.run(1);
        bench.jobs.close(lane);
    }
    assert!(bench.jobs.lanes.len() <= 4, "{}", bench.jobs.lanes.len());
}

#[test]
fn only_what_is_needed_is_taken_out_of_turn() {
    let mut bench = Bench::new();
    let (a, b) = (bench.jobs.open(Fairness::Strict), bench.jobs.open(Fairness::Strict));
    bench.push(a, "a", Half::Others);
    bench.push(b, "b", Half::Granted);
    assert!(!bench.jobs.has(&Needs::default()));
    assert!(bench.jobs.take(&Needs { all_holders: true, ..Needs::default() }).is_none(), "no event of any");
    bench.jobs.take(&Needs::bus(b)).unwrap().run(&bench.worker);
    assert_eq!(bench.run(1), ["b", "a"]);
    assert!(bench.jobs.pop(0).is_none());
}
