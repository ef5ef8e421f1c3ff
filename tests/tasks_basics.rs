//! Conformance, tasks.md BF-01 to BF-14 and BF-60 to BF-74: emitting, running inline, results, history and waiting.

mod common;

use common::{Log, PATIENCE, clean, done, eventually, idle, lock, parallel, payload, stands, within};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use threadbus::{Event, EventBus, EventConcurrency, EventStatus, HandlerFailure, ResultError, Runtime, WaitError};

payload!(Job { n: usize });
payload!(Ask { n: usize } => usize);
payload!(Parent);
payload!(Asker => usize);

const MS: Duration = Duration::from_millis(1);

fn one_worker(name: &str) -> EventBus {
    let runtime = Runtime::builder().max_threads(1).build().unwrap();
    EventBus::builder(name).runtime(&runtime).build().unwrap()
}

fn keeping(name: &str, events: usize) -> EventBus {
    EventBus::builder(name).max_history(Some(events)).build().unwrap()
}

fn answers(bus: &EventBus) {
    bus.on(|ask: &Event<Ask>| ask.n * 2);
}

#[test]
fn bf_001_without_a_handler_an_event_completes_and_says_so() {
    let bus = EventBus::new("Bf001");
    let event = bus.emit(Ask { n: 1 });
    let error = within(PATIENCE, {
        let event = event.clone();
        move || event.result().unwrap_err()
    });
    assert!(matches!(&error, ResultError::NoHandler { event_type } if event_type == "Ask"), "{error:?}");
    assert!(error.to_string().contains("Ask"), "{error}");
    assert!(event.is_completed() && event.results().is_empty());
    idle(&bus);
    assert_eq!((bus.pending(), bus.metrics().queued), (0, 0));
}

#[test]
fn bf_002_ids_are_distinct_whoever_emits() {
    let bus = EventBus::new("Bf002");
    let threads: Vec<_> = (0..10)
        .map(|_| {
            let bus = bus.clone();
            thread::spawn(move || (0..1000).map(|n| bus.emit(Job { n }).id()).collect::<Vec<_>>())
        })
        .collect();
    let ids: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(ids.len(), 10_000);
    idle(&bus);
}

#[test]
fn bf_003_results_are_in_registration_order() {
    for bus in [EventBus::new("Bf003"), parallel("Bf003p")] {
        bus.on(|_: &Event<Ask>| 1);
        bus.on(|_: &Event<Ask>| 2);
        let event = done(&bus.emit(Ask { n: 0 }));
        assert_eq!(event.result_list().unwrap(), [1, 2]);
    }
}

#[test]
fn bf_007_another_bus_is_another_bus() {
    let (a, b, log) = (EventBus::new("A"), EventBus::new("B"), Log::new());
    for (bus, name) in [(&a, "a"), (&b, "b")] {
        let log = log.clone();
        bus.on(move |_: &Event<Job>| log.push(name));
    }
    clean(&a.emit(Job { n: 1 }));
    idle(&b);
    assert_eq!(log.entries(), ["a"]);
    assert!(b.history().is_empty());
}

#[test]
fn bf_010_inline_runs_on_the_emitting_thread() {
    for bus in [EventBus::new("Bf010"), parallel("Bf010p")] {
        let seen: Arc<Mutex<Vec<(ThreadId, usize)>>> = Arc::default();
        let to = Arc::clone(&seen);
        bus.on(move |ask: &Event<Ask>| {
            lock(&to).push((thread::current().id(), ask.bus().pending()));
            ask.n
        });
        let emitter = {
            let bus = bus.clone();
            thread::spawn(move || (thread::current().id(), bus.emit_now(Ask { n: 7 })))
        };
        let (thread, event) = emitter.join().unwrap();
        assert!(event.is_completed());
        assert_eq!(event.results()[0].value, Some(7));
        assert_eq!(*lock(&seen), [(thread, 0)], "on its thread, past the queue");
        assert_eq!(bus.pending(), 0);
    }
}

#[test]
fn bf_012_an_inline_handler_holds_no_lock() {
    let bus = parallel("Bf012");
    let (gate, started) = stands::<Job>(&bus);
    let _open = gate.opener();
    answers(&bus);
    let inline = {
        let bus = bus.clone();
        thread::spawn(move || bus.emit_now(Job { n: 1 }))
    };
    started.wait();
    let answer = within(PATIENCE / 2, {
        let bus = bus.clone();
        move || bus.emit(Ask { n: 2 }).result()
    });
    assert_eq!(answer.unwrap(), 4);
    assert!(!inline.is_finished(), "the inline handler is still at the gate");
    gate.open();
    clean(&inline.join().unwrap());
}

#[test]
fn bf_014_an_inline_failure_stays_in_the_event() {
    for bus in [EventBus::new("Bf014"), parallel("Bf014p")] {
        bus.on(|ask: &Event<Ask>| -> Result<usize, &'static str> {
            match ask.n {
                0 => Err("no zero"),
                _ => panic!("no {} either", ask.n),
            }
        });
        let failed = bus.emit_now(Ask { n: 0 });
        assert!(failed.is_completed());
        assert!(matches!(&*failed.errors()[0], HandlerFailure::Failed(error) if error.to_string() == "no zero"));
        let panicked = bus.emit_now(Ask { n: 1 });
        assert!(panicked.is_completed());
        assert!(matches!(&*panicked.errors()[0], HandlerFailure::Panicked(text) if text == "no 1 either"));
    }
}

#[test]
fn bf_060_a_result_is_read_as_often_as_one_likes() {
    let bus = EventBus::new("Bf060");
    answers(&bus);
    let event = done(&bus.emit(Ask { n: 21 }));
    for _ in 0..3 {
        assert_eq!(event.result().unwrap(), 42);
    }
}

#[test]
fn bf_062_listing_the_history_takes_nothing_out() {
    let bus = EventBus::new("Bf062");
    answers(&bus);
    let ids: Vec<_> = (0..5).map(|n| bus.emit(Ask { n }).id()).collect();
    idle(&bus);
    for _ in 0..2 {
        let listed: Vec<_> = bus.history().iter().map(|event| event.id()).collect();
        assert_eq!(listed, ids);
    }
}

#[test]
fn bf_063_the_history_keeps_the_newest() {
    let bus = keeping("Bf063", 100);
    answers(&bus);
    let events: Vec<_> = (0..250).map(|n| bus.emit(Ask { n })).collect();
    idle(&bus);
    assert!(events.iter().all(Event::is_completed));
    assert_eq!(bus.history_len(), 100);
    let listed: Vec<_> = bus.history().iter().map(|event| event.id()).collect();
    let newest: Vec<_> = events[150..].iter().map(Event::id).collect();
    assert_eq!(listed, newest);
}

#[test]
fn bf_064_a_handle_outlives_the_history() {
    let bus = keeping("Bf064", 3);
    answers(&bus);
    let events: Vec<_> = (0..10).map(|n| bus.emit(Ask { n })).collect();
    idle(&bus);
    assert_eq!(bus.history_len(), 3);
    for (n, event) in events.iter().enumerate() {
        assert_eq!(done(event).result().unwrap(), 2 * n);
    }
}

#[test]
fn bf_066_an_unknown_id_is_nothing() {
    let bus = EventBus::new("Bf066");
    answers(&bus);
    let known = done(&bus.emit(Ask { n: 1 })).id();
    let unknown = EventBus::new("Elsewhere").emit(Job { n: 1 }).id();
    assert!(bus.event(unknown).is_none() && bus.take(unknown).is_none());
    assert!(bus.event(known).is_some() && bus.take(known).is_some());
    assert!(bus.event(known).is_none() && bus.take(known).is_none(), "taken once");
}

#[test]
fn bf_067_what_is_pending_is_no_completed_result() {
    let bus = EventBus::new("Bf067");
    answers(&bus);
    let completed = done(&bus.emit(Ask { n: 1 }));
    idle(&bus);
    bus.pause();
    let pending = bus.emit(Ask { n: 2 });
    let listed = bus.find_named("*").status(EventStatus::Completed).all();
    assert_eq!(listed.iter().map(|event| event.id()).collect::<Vec<_>>(), [completed.id()]);
    assert_eq!(pending.status(), EventStatus::Pending);
    bus.resume();
    clean(&pending);
}

#[test]
fn bf_068_the_bound_holds_under_many_emitters() {
    for concurrency in [EventConcurrency::BusSerial, EventConcurrency::Parallel] {
        let bus = EventBus::builder("Bf068").event_concurrency(concurrency).max_history(Some(100)).build().unwrap();
        answers(&bus);
        let threads: Vec<_> = (0..5)
            .map(|_| {
                let bus = bus.clone();
                thread::spawn(move || (0..50).map(|n| bus.emit(Ask { n })).collect::<Vec<_>>())
            })
            .collect();
        let events: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        events.iter().for_each(clean);
        idle(&bus);
        assert_eq!((events.len(), bus.history_len()), (250, 100));
    }
}

#[test]
fn bf_069_reading_disturbs_nothing_that_runs() {
    within(2 * PATIENCE, || {
        let bus = parallel("Bf069");
        let (gate, started) = stands::<Job>(&bus);
        let _open = gate.opener();
        let events: Vec<_> = (0..50).map(|n| bus.emit(Job { n })).collect();
        started.wait();
        let readers: Vec<_> = (0..5)
            .map(|_| {
                let (bus, gate) = (bus.clone(), gate.clone());
                thread::spawn(move || {
                    for reading in 0..10 {
                        if reading == 5 {
                            gate.open();
                        }
                        assert_eq!(bus.history().len(), 50);
                        let (metrics, stats) = (bus.metrics(), bus.runtime().stats());
                        assert_eq!(metrics.emitted, 50);
                        assert!(stats.busy <= stats.max_threads);
                    }
                })
            })
            .collect();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        events.iter().for_each(clean);
    });
}

#[test]
fn bf_070_idle_includes_what_handlers_emitted() {
    for bus in [EventBus::new("Bf070"), parallel("Bf070p")] {
        let log = Log::new();
        let to = log.clone();
        bus.on(move |job: &Event<Job>| to.push(job.n));
        bus.on(|parent: &Event<Parent>| {
            for n in 1..=2 {
                parent.bus().emit(Job { n });
            }
        });
        let parent = bus.emit(Parent);
        idle(&bus);
        assert!(parent.is_completed());
        let children = parent.children();
        assert_eq!((children.len(), log.len()), (2, 2));
        assert!(children.iter().all(|child| child.is_completed()));
    }
}

#[test]
fn bf_071_a_batch_waits_for_its_own_events_only() {
    let bus = parallel("Bf071");
    let (gate, started) = stands::<Job>(&bus);
    let _open = gate.opener();
    answers(&bus);
    let other = {
        let bus = bus.clone();
        thread::spawn(move || bus.emit(Job { n: 1 })).join().unwrap()
    };
    started.wait();
    let batch = bus.batch();
    batch.extend((0..5).map(|n| Ask { n }));
    let progress = batch.wait_timeout(PATIENCE / 2).unwrap();
    assert_eq!((progress.completed, progress.total, progress.failed), (5, 5, 0));
    assert!(!other.is_completed());
    gate.open();
    clean(&other);
}

#[test]
fn bf_072_a_handler_cannot_wait_for_its_own_bus_to_be_idle() {
    let bus = one_worker("Bf072");
    let waited: Arc<Mutex<Option<Result<(), WaitError>>>> = Arc::default();
    let to = Arc::clone(&waited);
    bus.on(move |parent: &Event<Parent>| {
        let idle = parent.bus().wait_until_idle();
        *lock(&to) = Some(idle);
    });
    clean(&bus.emit(Parent));
    let waited = lock(&waited).take();
    assert!(matches!(waited, Some(Err(WaitError::Deadlock(_)))), "{waited:?}");
}

#[test]
fn bf_073_one_worker_is_enough_to_wait_for_a_child() {
    let bus = one_worker("Bf073");
    answers(&bus);
    bus.on(|asker: &Event<Asker>| asker.bus().emit(Ask { n: 4 }).result());
    let event = done(&bus.emit(Asker));
    assert_eq!(event.result().unwrap(), 8);
}

#[test]
fn bf_074_waiting_for_idle_gives_up_in_time() {
    let bus = EventBus::new("Bf074");
    let (gate, started) = stands::<Job>(&bus);
    let _open = gate.opener();
    let event = bus.emit(Job { n: 1 });
    started.wait();
    let start = Instant::now();
    assert_eq!(bus.wait_until_idle_timeout(100 * MS), Err(WaitError::Timeout(100 * MS)));
    let took = start.elapsed();
    assert!(took >= 100 * MS && took < PATIENCE / 2, "{took:?}");
    assert_eq!(event.status(), EventStatus::Started);
    gate.open();
    clean(&event);
    eventually(|| bus.is_idle());
}
