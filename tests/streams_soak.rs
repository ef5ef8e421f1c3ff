//! Four producers, three subscriptions, a great many events: the same sequence for all, nothing lost, nothing left behind.
//!
//! Measures the whole process, so this file has one test. The memory is read from `/proc/self/status`, as in `core_soak.rs`.

mod common;

use common::{eventually, held_bytes, idle, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use threadbus::{Event, EventBus, OnLag, Payload, Subscription};

const PRODUCERS: usize = 4;
/// In total; a quarter of that where nothing is optimized.
const EVENTS: usize = if cfg!(debug_assertions) { 62_500 } else { 250_000 };
const ROUNDS: usize = 8;
/// An event takes more than this many bytes.
const LEAST: usize = 400;
const LIMIT: Duration = Duration::from_secs(300);

/// A payload that counts how many of its kind there are.
struct Sequence {
    producer: usize,
    n: usize,
    alive: Arc<AtomicUsize>,
}
impl Payload for Sequence {
    type Output = ();
}
impl Drop for Sequence {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Reads to the end: how many, and a number that depends on every one of them and on their order.
fn read(subscription: Subscription<Event<Sequence>>) -> (usize, u64) {
    let mut next = [0; PRODUCERS];
    let mut sum = 0_u64;
    for event in subscription {
        assert_eq!(event.n, next[event.producer], "producer {} in order", event.producer);
        next[event.producer] += 1;
        sum = sum.wrapping_mul(31).wrapping_add((event.n * PRODUCERS + event.producer) as u64);
    }
    (next.iter().sum(), sum)
}

/// One run: what the three saw.
fn round(alive: &Arc<AtomicUsize>, rest: Option<usize>) -> Vec<(usize, u64)> {
    let bus = EventBus::builder("Soak").max_history(Some(0)).build().expect("a bus");
    let handled = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&handled);
    bus.on(move |_: &Event<Sequence>| {
        counts.fetch_add(1, Ordering::Relaxed);
    });
    let subscriptions = match rest {
        // Two that keep up as they can, and one that holds the emitters to its pace.
        None => vec![bus.subscribe(), bus.subscribe(), bus.subscribe_bounded(1000, OnLag::Block)],
        Some(_) => vec![bus.subscribe(), bus.subscribe(), bus.subscribe()],
    };
    let start = |subscriptions: Vec<_>| -> Vec<_> {
        subscriptions.into_iter().map(|subscription| thread::spawn(move || read(subscription))).collect()
    };
    // Unread until everything is emitted, or read meanwhile.
    let (mut readers, mut unread) = (Vec::new(), Vec::new());
    if rest.is_some() {
        unread = subscriptions
    } else {
        readers = start(subscriptions)
    }
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let bus = &bus;
            scope.spawn(move || {
                for n in 0..EVENTS / PRODUCERS {
                    alive.fetch_add(1, Ordering::SeqCst);
                    bus.emit(Sequence { producer, n, alive: Arc::clone(alive) });
                }
            });
        }
    });
    if let Some(rest) = rest {
        idle(&bus);
        assert_eq!(alive.load(Ordering::SeqCst), EVENTS, "unread events stay");
        assert!(unread.iter().all(|subscription| subscription.backlog() == EVENTS));
        // Two are read to the end; the slowest of all still keeps every event.
        readers = start(unread.drain(1..).collect());
        drop(bus);
        let seen: Vec<_> = readers.drain(..).map(|reader| reader.join().expect("a reader")).collect();
        eventually(|| handled.load(Ordering::Relaxed) == EVENTS);
        assert_eq!(alive.load(Ordering::SeqCst), EVENTS);
        let mut slowest = unread.remove(0);
        for _ in 0..rest {
            slowest.recv().expect("an event");
        }
        eventually(|| alive.load(Ordering::SeqCst) == EVENTS - rest);
        drop(slowest);
        eventually(|| alive.load(Ordering::SeqCst) == 0);
        return seen;
    }
    drop(bus);
    let seen = readers.into_iter().map(|reader| reader.join().expect("a reader")).collect();
    eventually(|| alive.load(Ordering::SeqCst) == 0);
    seen
}

#[test]
fn four_producers_and_three_subscriptions_agree_and_leave_nothing_behind() {
    within(LIMIT, || {
        let alive = Arc::new(AtomicUsize::new(0));
        let mut held = Vec::new();
        for round_number in 0..ROUNDS {
            let rest = (round_number % 2 == 1).then_some(EVENTS / 2);
            let seen = round(&alive, rest);
            assert!(seen.iter().all(|one| *one == seen[0] && one.0 == EVENTS), "{seen:?}");
            held.push(held_bytes());
        }
        // The allocator keeps some of one round's memory for the next; of what all rounds took it is a small part.
        assert!(held.iter().all(|held| *held < EVENTS * LEAST / 4 * ROUNDS), "bytes held after each round: {held:?}");
    });
}
