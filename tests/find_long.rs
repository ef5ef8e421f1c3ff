//! A find in a long history finds what a walk through it finds, whatever came, left and was found before.

#[path = "common/random.rs"]
mod random;

mod common;

use common::{PATIENCE, idle, payload, within};
use random::Random;
use std::thread;
use threadbus::{AnyEvent, Event, EventBus, EventId, EventOptions, EventStatus, Payload};
use uuid::Uuid;

payload!(Often { n: u64 });
payload!(Seldom { n: u64 });
payload!(Never);

/// Called as another one.
#[derive(Debug)]
struct Twin;
impl Payload for Twin {
    type Output = ();
    fn event_type() -> &'static str {
        "Seldom"
    }
}

fn ids(events: impl IntoIterator<Item = AnyEvent>) -> Vec<EventId> {
    events.into_iter().map(|event| event.id()).collect()
}

fn untyped<P: Payload>(events: Vec<Event<P>>) -> Vec<AnyEvent> {
    events.into_iter().map(|event| AsRef::<AnyEvent>::as_ref(&event).clone()).collect()
}

/// Newest first.
fn walk(bus: &EventBus, keep: impl Fn(&AnyEvent) -> bool) -> Vec<EventId> {
    ids(bus.history().into_iter().rev().filter(keep))
}

/// Every kind of find, against a walk.
fn agree(bus: &EventBus, below: &AnyEvent, seed: u64) {
    let is = |name: &'static str| move |event: &AnyEvent| event.event_type() == name;
    assert_eq!(ids(untyped(bus.find::<Often>().all())), walk(bus, |e| e.payload::<Often>().is_some()), "{seed}");
    assert_eq!(ids(untyped(bus.find::<Seldom>().all())), walk(bus, |e| e.payload::<Seldom>().is_some()), "{seed}");
    assert_eq!(ids(untyped(bus.find::<Twin>().all())), walk(bus, |e| e.payload::<Twin>().is_some()), "{seed}");
    assert!(bus.find::<Never>().first().is_none());
    for name in ["Often", "Seldom", "Json", "Never"] {
        assert_eq!(ids(bus.find_named(name).all()), walk(bus, is(name)), "{seed}: {name}");
        let first = bus.find_named(name).first().map(|event| event.id());
        assert_eq!(first, walk(bus, is(name)).first().copied());
    }
    assert_eq!(ids(bus.find_named("*").all()), walk(bus, |_| true));
    let child = |event: &AnyEvent| event.is_child_of(below);
    assert_eq!(ids(bus.find_named("*").child_of(below).all()), walk(bus, child), "{seed}: below {below}");
    let often = |event: &AnyEvent| child(event) && event.payload::<Often>().is_some();
    assert_eq!(ids(untyped(bus.find::<Often>().child_of(below).all())), walk(bus, often), "{seed}: below {below}");
    let complete = |event: &AnyEvent| event.is_completed() && event.wait().is_ok() && is("Seldom")(event);
    let found = bus.find_named("Seldom").status(EventStatus::Completed).all();
    assert_eq!(ids(found), walk(bus, complete));
}

fn program(seed: u64, parents_by_json: bool) {
    let mut random = Random::new(seed);
    let limit = [None, Some(300), Some(700), Some(3000)][random.below(4) as usize];
    let bus = EventBus::builder("Long").max_history(limit).build().unwrap();
    let source = EventBus::builder("Source").max_history(Some(10)).build().unwrap();
    bus.pause();
    let mut some = vec![AsRef::<AnyEvent>::as_ref(&bus.emit(Often { n: 0 })).clone()];
    let one_in = 20 + random.below(200);
    for n in 0..2500 {
        let near = some[some.len() - 1 - random.below(some.len().min(40) as u64) as usize].clone();
        let options = EventOptions::new();
        let options = if random.one_in(3) { options.parent(near.clone()) } else { options };
        let options = match random.below(30) {
            0 => options.id(EventId(Uuid::from_u128(u128::from(random.next()) << 64 | u128::from(random.next())))),
            _ => options,
        };
        let event: AnyEvent = match random.below(12) {
            0 => AsRef::<AnyEvent>::as_ref(&bus.emit_with(Seldom { n }, options)).clone(),
            1 if random.one_in(5) => AsRef::<AnyEvent>::as_ref(&bus.emit_with(Twin, options)).clone(),
            2 => AsRef::<AnyEvent>::as_ref(&bus.emit_now_with(Often { n }, options)).clone(),
            3 => {
                let forwarded = source.emit_with(Often { n }, options);
                bus.forward(&forwarded).unwrap();
                AsRef::<AnyEvent>::as_ref(&forwarded).clone()
            }
            4 => {
                let mut json = serde_json::json!({ "event_type": "Json", "n": n });
                if parents_by_json {
                    json["event_parent_id"] = serde_json::json!(near.id().to_string());
                }
                bus.emit_json(&json).unwrap()
            }
            5 => {
                near.cancel();
                continue;
            }
            6 if random.one_in(4) => {
                bus.take(near.id());
                continue;
            }
            _ => AsRef::<AnyEvent>::as_ref(&bus.emit_with(Often { n }, options)).clone(),
        };
        some.push(event);
        if random.one_in(one_in) {
            let below = some[random.below(some.len() as u64) as usize].clone();
            agree(&bus, &below, seed);
        }
    }
    bus.resume();
    idle(&bus);
    agree(&bus, &some[0], seed);
}

#[test]
fn every_find_finds_what_a_walk_finds() {
    within(6 * PATIENCE, || (0..12).for_each(|seed| program(seed, false)));
}

/// From then on no parent knows all of its children.
#[test]
fn also_where_events_tell_of_parents_that_do_not_know_them() {
    common::in_a_process_of_its_own("also_where_events_tell_of_parents_that_do_not_know_them", || {
        (0..6).for_each(|seed| program(seed, true));
    });
}

/// Of more than a thousand children the oldest completed ones are let go of, and yet they are below their parent.
#[test]
fn children_that_their_parent_has_let_go_of() {
    within(3 * PATIENCE, || {
        let bus = EventBus::builder("Children").max_history(None).build().unwrap();
        bus.on(|_: &Event<Seldom>| ());
        for children in [10, 200, 300, 2500] {
            let parent = bus.emit_now(Often { n: children });
            let mut below: Vec<_> = (0..children)
                .map(|n| {
                    let options = EventOptions::new().parent(AsRef::<AnyEvent>::as_ref(&parent).clone());
                    bus.emit_now_with(Seldom { n }, options).id()
                })
                .collect();
            below.reverse();
            assert_eq!(ids(untyped(bus.find::<Seldom>().child_of(&parent).all())), below);
            assert!(bus.find::<Often>().child_of(&parent).first().is_none());
        }
    });
}

/// A history that nobody searches any more gives its catalogue up, and makes it again.
#[test]
fn finds_that_come_long_after_each_other_beside_emitters() {
    within(3 * PATIENCE, || {
        let bus = EventBus::builder("Beside").max_history(Some(400)).build().unwrap();
        thread::scope(|scope| {
            let emitter = scope.spawn(|| {
                for n in 0..20_000 {
                    if n % 50 == 0 {
                        bus.emit(Seldom { n });
                    } else {
                        bus.emit(Often { n });
                    }
                }
            });
            let mut newest = 0;
            while !emitter.is_finished() {
                if let Some(seldom) = bus.find::<Seldom>().first() {
                    assert!(seldom.n >= newest, "{} after {newest}", seldom.n);
                    newest = seldom.n;
                }
                assert!(bus.find::<Never>().first().is_none());
            }
        });
        idle(&bus);
        for _ in 0..3 {
            (0..3000).for_each(|n| drop(bus.emit(Often { n })));
            assert!(bus.find::<Seldom>().first().is_none());
            let last = bus.emit(Seldom { n: 0 });
            assert_eq!(bus.find::<Seldom>().first().map(|event| event.id()), Some(last.id()));
            idle(&bus);
        }
    });
}
