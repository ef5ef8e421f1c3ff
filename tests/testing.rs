//! `threadbus::testing`: one handler, one event, no bus running.

#[macro_use]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use threadbus::testing::{Harness, run};
use threadbus::*;

payload!(Ask { n: u32 } => u32);
payload!(Child { n: u32 } => u32);
payload!(Note { n: u32 });

type Anything = Result<(), Box<dyn std::error::Error>>;

#[test]
fn rc_031_the_value_and_the_captured_children_with_no_bus_running() {
    let handler = |ask: &Event<Ask>| {
        ask.bus().emit(Note { n: ask.n });
        ask.bus().emit(Child { n: ask.n + 1 });
        scope::emit(Note { n: ask.n + 2 });
        ask.n * 2
    };
    let ran = run(handler, Ask { n: 5 });
    assert_eq!(ran.value(), Some(10));
    assert_eq!(ran.emitted.iter().map(AnyEvent::event_type).collect::<Vec<_>>(), ["Note", "Child", "Note"]);
    assert_eq!(ran.emitted_as::<Note>().iter().map(|note| note.n).collect::<Vec<_>>(), [5, 7]);
    assert_eq!(ran.emitted_as::<Child>()[0].n, 6);
    assert!(ran.event.is_completed());
}

#[test]
fn every_kind_of_handler_and_of_outcome() {
    struct Own(u32);
    impl Handler<Ask> for Own {
        fn handle(&self, ask: &Event<Ask>) -> Result<Option<u32>, HandlerError> {
            Ok((ask.n > self.0).then_some(ask.n))
        }
    }
    fn plain(ask: &Event<Ask>) -> Result<u32, String> {
        Err(format!("no {}", ask.n))
    }
    assert_eq!(run(Own(1), Ask { n: 2 }).value(), Some(2));
    assert!(matches!(run(Arc::new(Own(2)), Ask { n: 2 }).outcome, Ok(None)));
    assert_eq!(run(plain, Ask { n: 2 }).outcome.unwrap_err().to_string(), "no 2");
    let panics = |_: &Event<Ask>| -> u32 { panic!("on purpose") };
    let failure = run(panics, Ask { n: 2 }).outcome.unwrap_err();
    assert!(matches!(&*failure, HandlerFailure::Panicked(text) if text.contains("on purpose")));
}

#[test]
fn answers_are_there_for_whoever_waits() -> Anything {
    let harness = Harness::new()
        .answer(|child: &Event<Child>| {
            child.bus().emit(Note { n: child.n });
            child.n * 10
        })
        .answer(|child: &Event<Child>| child.n * 100);
    let handler = |ask: &Event<Ask>| -> Result<u32, HandlerError> {
        let child = ask.bus().emit(Child { n: ask.n });
        Ok(child.result_list()?.into_iter().sum::<u32>())
    };
    for n in 1..4 {
        let ran = harness.run(handler, Ask { n });
        assert_eq!(ran.value(), Some(n * 110));
        assert_eq!(ran.emitted.len(), 1, "what an answer emits is the answer's");
        assert_eq!(ran.event.descendants().len(), 2);
    }
    assert!(run(handler, Ask { n: 1 }).outcome.is_err(), "without answers there is nobody");
    Ok(())
}

#[test]
fn a_handler_that_emits_its_own_type_runs_once() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let ran = run(
        move |ask: &Event<Ask>| {
            counted.fetch_add(1, Ordering::SeqCst);
            ask.bus().emit(Ask { n: ask.n + 1 });
            ask.n
        },
        Ask { n: 1 },
    );
    assert_eq!((ran.value(), runs.load(Ordering::SeqCst)), (Some(1), 1));
    assert_eq!(ran.emitted_as::<Ask>()[0].n, 2);
}

#[test]
fn options_of_the_handler_and_of_the_event() {
    let handler = |ask: &Event<Ask>| match HandlerContext::current().map(|context| context.attempt()) {
        Some(3) => Ok(ask.n),
        attempt => Err(format!("attempt {attempt:?}")),
    };
    let retry = Retry::attempts(3).delay(Duration::from_millis(1));
    let harness = Harness::new()
        .handler_options(HandlerOptions::new().name("flaky").retry(retry))
        .event_options(EventOptions::new().correlation_id("test-7"));
    let ran = harness.run(handler, Ask { n: 4 });
    assert_eq!(ran.value(), Some(4));
    assert_eq!(ran.event.correlation_id(), "test-7");
    assert_eq!(ran.event.results()[0].attempts, 3);
    assert_eq!(ran.event.results()[0].handler.name(), "flaky");
}

/// What nobody can end ends at once; what came before is read first, and what has a limit waits for it.
#[test]
fn a_handler_that_waits_for_somebody_else_ends_since_nobody_is_there() {
    let told = common::warnings_naming(" waits for an event that nobody emits on testing#");
    let ends = |handler: fn(&Event<Ask>) -> u32| {
        let before = told().len();
        let ran = common::within(common::PATIENCE, move || {
            let harness = Harness::new().answer(|child: &Event<Child>| child.n);
            harness.run(handler, Ask { n: 7 }).value()
        });
        (ran, told().len() > before)
    };
    assert_eq!(
        ends(|ask| u32::from(ask.bus().subscribe::<Note>().recv().err() == Some(RecvError::Closed))),
        (Some(1), true)
    );
    assert_eq!(ends(|ask| ask.bus().subscribe_any().map(|_| 1).sum()), (Some(0), true));
    assert_eq!(ends(|ask| u32::from(ask.bus().find::<Note>().future_forever().first().is_none())), (Some(1), true));
    assert!(told()[0].starts_with("tests/testing.rs:"), "{:?}", told());
    let completed = |ask: &Event<Ask>| {
        ask.bus().emit(Note { n: 1 });
        let completed = ask.bus().find::<Note>().status(EventStatus::Completed).future_forever().first();
        u32::from(completed.is_none())
    };
    assert_eq!(ends(completed), (Some(1), true));
    // What was emitted before is there.
    let emits = |ask: &Event<Ask>| {
        let mut notes = ask.bus().subscribe::<Note>();
        ask.bus().emit(Note { n: ask.n });
        notes.recv().map_or(0, |note| note.n) + notes.recv().map_or(0, |note| note.n)
    };
    assert_eq!(ends(emits).0, Some(7));
    // An answer that waits, and one whose child is waited for.
    let ran = common::within(common::PATIENCE, || {
        let waits = |child: &Event<Child>| u32::from(child.bus().subscribe_any().recv().is_err());
        Harness::new()
            .answer(waits)
            .run(|ask: &Event<Ask>| ask.bus().emit(Child { n: 1 }).result(), Ask { n: 1 })
            .value()
    });
    assert_eq!(ran, Some(1));
}

#[test]
fn a_handler_that_is_fed_by_a_thread_of_its_own_waits_with_a_limit() {
    let handler = |ask: &Event<Ask>| -> Result<u32, RecvError> {
        let (bus, mut notes) = (ask.bus(), ask.bus().subscribe::<Note>());
        let feeder = std::thread::spawn(move || drop(bus.emit(Note { n: 7 })));
        let note = notes.recv_timeout(common::PATIENCE).map(|note| note.n);
        drop(feeder.join());
        note
    };
    assert_eq!(common::within(common::PATIENCE, move || run(handler, Ask { n: 1 }).value()), Some(7));
    // On another bus there are others.
    let other = EventBus::new("other");
    let ran = common::within(common::PATIENCE, move || {
        let handler = move |ask: &Event<Ask>| {
            let mut children = other.subscribe::<Child>();
            let emitter = other.clone();
            let feeder = std::thread::spawn(move || drop(emitter.emit(Child { n: 3 })));
            let sum = ask.n + children.recv().map_or(0, |child| child.n);
            drop(feeder.join());
            sum
        };
        run(handler, Ask { n: 1 }).value()
    });
    assert_eq!(ran, Some(4));
}

#[test]
fn it_works_inside_of_a_handler_too_and_is_nobodys_child() -> Anything {
    let bus = EventBus::new("outer");
    bus.on(|child: &Event<Child>| {
        let ran = run(|ask: &Event<Ask>| ask.n + 1, Ask { n: child.n });
        assert!(ran.event.parent().is_none());
        ran.value().unwrap_or(0)
    });
    assert_eq!(bus.emit(Child { n: 1 }).result()?, 2);
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn no_thread_is_started() {
    common::in_a_process_of_its_own("no_thread_is_started", || {
        let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        let before = threads();
        let harness = Harness::new().answer(|child: &Event<Child>| child.n);
        for n in 0..10 {
            let handler = |ask: &Event<Ask>| ask.bus().emit(Child { n: ask.n }).result();
            assert_eq!(harness.run(handler, Ask { n }).value(), Some(n));
        }
        assert_eq!(threads(), before);
    });
}
