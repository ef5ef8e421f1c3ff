//! A history behaves the same however long it is: random programs beside a list that is walked from its front.

#[path = "common/random.rs"]
mod random;

mod common;

use common::{PATIENCE, idle, payload, within};
use random::Random;
use std::collections::HashSet;
use std::thread;
use threadbus::{AnyEvent, Event, EventBus, EventConcurrency, EventId, EventOptions, HistoryPolicy};
use uuid::Uuid;

payload!(Seq { n: u64 });

fn numbers(events: &[AnyEvent]) -> Vec<u64> {
    events.iter().filter_map(AnyEvent::payload::<Seq>).map(|seq| seq.n).collect()
}

/// Any way by which an event may get its id: mostly by the bus.
fn own_id(random: &mut Random, last: EventId, used: &mut HashSet<u128>) -> EventOptions {
    let some = u128::from(random.next()) << 64 | u128::from(random.next());
    let last = last.0.as_u128();
    let id = match random.below(12) {
        0 => some,
        1 => last.wrapping_add(1 + some % 1000),
        2 => last.wrapping_sub(1 + some % (1 << 90)),
        _ => return EventOptions::new(),
    };
    if used.insert(id) { EventOptions::new().id(EventId(Uuid::from_u128(id))) } else { EventOptions::new() }
}

/// What a history has to be: a list, and what is complete in it.
struct Naive {
    events: Vec<AnyEvent>,
    limit: usize,
    policy: HistoryPolicy,
}

impl Naive {
    fn drop_oldest_complete(&mut self) -> bool {
        let at = self.events.iter().position(AnyEvent::is_completed);
        at.map(|at| self.events.remove(at)).is_some()
    }

    /// `complete`: it ran before the emit returned.
    fn push(&mut self, event: AnyEvent, complete: bool) {
        let over = self.events.len() + 1 > self.limit;
        if over && !self.drop_oldest_complete() && self.policy == HistoryPolicy::DropOldest {
            // A full history of unfinished ones loses its oldest.
            if !self.events.is_empty() {
                self.events.remove(0);
            }
        }
        self.events.push(event);
        if self.policy == HistoryPolicy::KeepUnfinished {
            if over && self.events.len() > self.limit {
                let complete = self.events.iter().rev().skip(usize::from(complete)).any(AnyEvent::is_completed);
                if complete {
                    self.drop_oldest_complete();
                }
            }
            if complete {
                self.trim();
            }
        }
    }

    /// One of them has completed.
    fn trim(&mut self) {
        if self.policy == HistoryPolicy::KeepUnfinished && self.events.len() > self.limit {
            self.drop_oldest_complete();
        }
    }
}

fn program(seed: u64, policy: HistoryPolicy) {
    let mut random = Random::new(seed);
    let limit = [3, 40, 150][random.below(3) as usize];
    let bus = EventBus::builder("Long").max_history(Some(limit)).history_policy(policy).build().unwrap();
    bus.on(|_: &Event<Seq>| ());
    bus.pause();
    let mut naive = Naive { events: Vec::new(), limit, policy };
    let mut gone = Vec::new();
    let mut last = bus.emit_now(Seq { n: 0 });
    naive.push(AsRef::<AnyEvent>::as_ref(&last).clone(), true);
    let (unfinished, mut used) = (random.below(10), HashSet::new());
    for n in 0..600 {
        let at = random.below(naive.events.len().max(1) as u64) as usize;
        match random.below(16) {
            0..10 => {
                let options = own_id(&mut random, last.id(), &mut used);
                let now = random.below(10) >= unfinished;
                let event = match now {
                    true => bus.emit_now_with(Seq { n }, options),
                    false => bus.emit_with(Seq { n }, options),
                };
                naive.push(AsRef::<AnyEvent>::as_ref(&event).clone(), now);
                last = event;
            }
            10..14 if !naive.events.is_empty() => {
                let event = naive.events[at].clone();
                if event.cancel() {
                    naive.trim();
                }
            }
            14 if !naive.events.is_empty() => {
                let event = naive.events.remove(at);
                assert!(bus.take(event.id()).is_some_and(|taken| taken.id() == event.id()));
                gone.push(event.id());
            }
            _ => assert!(naive.events.iter().all(|e| bus.event(e.id()).is_some_and(|found| found.id() == e.id()))),
        }
        assert_eq!(numbers(&bus.history()), numbers(&naive.events), "seed {seed}, step {n}");
        assert_eq!(bus.history_len(), naive.events.len());
        assert!(gone.iter().all(|id| bus.event(*id).is_none()), "seed {seed}, step {n}");
    }
    bus.resume();
    idle(&bus);
}

#[test]
fn the_oldest_completed_leaves_wherever_it_is() {
    within(3 * PATIENCE, || (0..60).for_each(|seed| program(seed, HistoryPolicy::DropOldest)));
}

#[test]
fn what_is_unfinished_is_kept_wherever_it_is() {
    within(3 * PATIENCE, || (0..60).for_each(|seed| program(seed, HistoryPolicy::KeepUnfinished)));
}

/// Whoever sees an event complete may rely on it: the history has room for the next.
#[test]
fn an_event_that_is_seen_complete_makes_room_at_once() {
    within(3 * PATIENCE, || {
        for _ in 0..300 {
            let bus = EventBus::builder("Room").max_history(Some(3)).history_policy(HistoryPolicy::Reject);
            let bus = bus.event_concurrency(EventConcurrency::Parallel).build().unwrap();
            let (open, gate) = std::sync::mpsc::channel::<()>();
            let gate = std::sync::Mutex::new(gate);
            bus.on(move |event: &Event<Seq>| {
                if event.n == 1 {
                    let _ = gate.lock().unwrap().recv();
                }
            });
            bus.pause();
            let (_first, second) = (bus.emit(Seq { n: 0 }), bus.emit(Seq { n: 1 }));
            bus.emit_now(Seq { n: 2 });
            assert!(bus.try_emit(Seq { n: 3 }).is_ok());
            assert!(bus.try_emit(Seq { n: 4 }).is_err(), "there is room for three that are unfinished");
            thread::scope(|scope| {
                scope.spawn(|| second.cancel());
                while !second.is_completed() {
                    std::hint::spin_loop();
                }
                assert!(bus.try_emit(Seq { n: 5 }).is_ok());
            });
            drop(open);
            bus.resume();
            idle(&bus);
        }
    });
}
