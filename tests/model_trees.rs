//! Cancelling more than a caller ends itself, under shuttle, where that is two events: the rest is doomed, and a worker ends it.
//! `RUSTFLAGS="--cfg threadbus_shuttle" cargo test --release --test model_trees`, with `THREADBUS_SCHEDULES` (default 2,000).
#![cfg(threadbus_shuttle)]

#[path = "common/schedules.rs"]
mod schedules;

use schedules::*;
use shuttle::sync::Mutex;
use shuttle::thread;
use std::collections::HashSet;
use std::sync::Arc;
use threadbus::*;

/// Which handler of which child has begun.
#[derive(Clone, Default)]
struct Begun(Arc<Mutex<HashSet<(u32, u32)>>>);

impl Begun {
    fn note(&self, child: u32, handler: u32) {
        self.0.lock().unwrap().insert((child, handler));
    }

    /// Two handlers on `bus`.
    fn on(bus: &EventBus) -> Begun {
        let begun = Begun::default();
        for handler in 0..2 {
            let notes = begun.clone();
            bus.on(move |child: &Event<Child>| {
                notes.note(child.0, handler);
                thread::yield_now();
                child.0
            });
        }
        begun
    }
}

/// The handlers that had not started when a cancel returned.
fn unstarted(children: &[AnyEvent]) -> Vec<(u32, u32)> {
    let of = |event: &AnyEvent| {
        let number = event.payload::<Child>().map_or(u32::MAX, |child| child.0);
        let queued = event.status() == EventStatus::Pending;
        let results = event.results().into_iter().enumerate();
        let pending = results.filter(|(_, result)| result.status == ResultStatus::Pending).map(|(at, _)| at as u32);
        let all = 0..if queued { 2 } else { 0 };
        all.chain(pending).map(|handler| (number, handler)).collect::<Vec<_>>()
    };
    children.iter().flat_map(of).collect()
}

/// A bus whose jobs emit so many children on `to`.
fn emits(runtime: &Runtime, to: &EventBus, count: u32) -> EventBus {
    let bus = bus(runtime, "emits");
    let to = to.downgrade();
    bus.on(move |job: &Event<Job>| {
        if let Some(to) = to.upgrade() {
            (0..count).for_each(|n| drop(to.emit(Child(n))));
        }
        job.0
    });
    bus
}

fn all_emitted(tree: &Event<Job>, count: usize) {
    until(|| {
        tree.children().len() == count && tree.results().iter().all(|result| result.status != ResultStatus::Started)
    });
}

/// The tree is whole; from when a cancel of it has returned nothing starts that had not.
fn nothing_starts(tree: &Event<Job>, begun: &Begun, count: usize) {
    all_emitted(tree, count);
    tree.cancel();
    let late = unstarted(&tree.children());
    let _ = tree.wait();
    let _ = tree.children().iter().map(AnyEvent::wait).count();
    let begun = begun.0.lock().unwrap();
    let late: Vec<_> = late.into_iter().filter(|of| begun.contains(of)).collect();
    assert!(late.is_empty(), "started after the cancel had returned: {late:?}");
}

#[test]
fn nothing_queued_starts_from_when_a_cancel_has_returned() {
    check(|| {
        let runtime = runtime();
        let leaves = bus(&runtime, "leaves");
        let begun = Begun::on(&leaves);
        let roots = emits(&runtime, &leaves, 5);
        let tree = roots.emit(Job(1));
        nothing_starts(&tree, &begun, 5);
        let after = leaves.emit(Child(9));
        assert_eq!(after.result().unwrap(), 9);
        settled(&tree);
        at_rest(&leaves);
        at_rest(&roots);
    });
}

#[test]
fn no_second_handler_starts_from_when_a_cancel_has_returned() {
    check(|| {
        let runtime = runtime();
        let leaves = EventBus::builder("leaves").runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
        let leaves = leaves.handler_concurrency(HandlerConcurrency::EventSerial).build().unwrap();
        let begun = Begun::on(&leaves);
        let roots = emits(&runtime, &leaves, 4);
        let tree = roots.emit(Job(1));
        nothing_starts(&tree, &begun, 4);
        settled(&tree);
        at_rest(&leaves);
        at_rest(&roots);
    });
}

#[test]
fn all_of_a_doomed_tree_ends_whoever_emits_below_it() {
    check(|| {
        let runtime = runtime();
        let leaves = bus(&runtime, "leaves");
        leaves.on(|child: &Event<Child>| child.0);
        let roots = emits(&runtime, &leaves, 4);
        let tree = roots.emit(Job(1));
        all_emitted(&tree, 4);
        let (late, on) = (tree.clone(), leaves.clone());
        let emitter = thread::spawn(move || {
            let below =
                |n| EventOptions::new().parent(AsRef::<AnyEvent>::as_ref(&late).clone()).correlation_id(format!("{n}"));
            [10, 11].map(|n| on.emit_with(Child(n), below(n)))
        });
        tree.cancel();
        let late = emitter.join().unwrap();
        let _ = tree.wait();
        for child in late {
            assert!(matches!(child.wait(), Ok(_) | Err(WaitError::Cancelled)));
            settled(&child);
        }
        settled(&tree);
        at_rest(&leaves);
        at_rest(&roots);
    });
}

#[test]
fn a_handler_that_waits_for_a_doomed_tree_comes_back() {
    check(|| {
        let runtime = Runtime::builder().max_threads(2).hard_limit(2).build().unwrap();
        let leaves = bus(&runtime, "leaves");
        let begun = Begun::on(&leaves);
        leaves.pause();
        let roots = emits(&runtime, &leaves, 4);
        let waits = bus(&runtime, "waits");
        let on = roots.downgrade();
        waits.on(move |_: &Event<Next>| {
            let Some(on) = on.upgrade() else { return };
            let tree = on.emit_with(Job(1), EventOptions::new().detached());
            all_emitted(&tree, 4);
            tree.cancel();
            let last = tree.children().pop().unwrap();
            assert!(matches!(last.wait(), Err(WaitError::Cancelled)));
            assert!(tree.wait().is_ok() && tree.is_completed());
        });
        let event = waits.emit(Next);
        event.wait().unwrap();
        assert!(event.errors().is_empty());
        assert!(begun.0.lock().unwrap().is_empty());
        leaves.resume();
        at_rest(&leaves);
        at_rest(&waits);
    });
}

#[test]
fn a_manual_bus_and_a_shutdown_beside_a_doomed_tree() {
    check(|| {
        let runtime = runtime();
        let leaves = EventBus::builder("leaves").runtime(&runtime).manual().build().unwrap();
        let begun = Begun::on(&leaves);
        let roots = emits(&runtime, &leaves, 5);
        let tree = roots.emit(Job(1));
        all_emitted(&tree, 5);
        let shuts = leaves.clone();
        let ender = thread::spawn(move || shuts.shutdown(Shutdown::Now, std::time::Duration::MAX));
        tree.cancel();
        leaves.run_pending();
        let _ = tree.wait();
        ender.join().unwrap();
        assert!(begun.0.lock().unwrap().is_empty());
        assert!(tree.children().iter().all(AnyEvent::is_completed));
        at_rest(&roots);
    });
}
