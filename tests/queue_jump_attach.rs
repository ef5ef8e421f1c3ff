//! QJ-015 with helper threads inside `HandlerContext::attach`, and what else such threads may do.

mod common;

use common::{Gate, Log, clean, in_order, logs, logs_around, payload};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use threadbus::{Event, EventBus, HandlerContext, WaitError};

payload!(Child);
payload!(Event1);
payload!(Event2);

#[test]
fn qj_015_two_waits_at_once_run_the_child_once() {
    let (bus, log, all_emitted) = (EventBus::new("Qj015"), Log::new(), Gate::new());
    logs::<Child>(&bus, &log, "child");
    logs::<Event2>(&bus, &log, "event2");
    logs_around::<Event1>(&bus, &log, "event1", {
        let (log, all_emitted) = (log.clone(), all_emitted.clone());
        move |event| {
            all_emitted.wait();
            let child = event.bus().emit(Child);
            let context = HandlerContext::current().expect("inside a handler");
            let together = Barrier::new(2);
            let wait = || {
                together.wait();
                let waited = context.attach(|| child.wait().map(drop));
                log.push("waited");
                waited
            };
            thread::scope(|scope| {
                let (one, two) = (scope.spawn(wait), scope.spawn(wait));
                one.join().expect("first waiter")?;
                two.join().expect("second waiter")
            })
        }
    });
    let first = bus.emit(Event1);
    let second = bus.emit(Event2);
    all_emitted.open();
    clean(&first);
    clean(&second);
    assert_eq!((log.count("waited"), log.count("child_start")), (2, 1));
    in_order(&log, &["child_end", "event1_end", "event2_start"]);
    assert!(log.position("child_end") < log.position("waited"));
}

/// Children of attached threads borrow the parent's turn one at a time, and know their parent.
#[test]
fn attached_threads_wait_for_children_of_their_own() {
    let bus = EventBus::new("Attached");
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    bus.on({
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        move |_: &Event<Child>| {
            most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            thread::yield_now();
            running.fetch_sub(1, SeqCst);
        }
    });
    bus.on(|event: &Event<Event1>| -> Result<(), WaitError> {
        let context = HandlerContext::current().expect("inside a handler");
        let bus = event.bus();
        thread::scope(|scope| {
            let work = || context.attach(|| (0..50).try_for_each(|_| bus.emit(Child).wait().map(drop)));
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
        })
    });
    let parent = bus.emit(Event1);
    clean(&parent);
    assert_eq!(parent.children().len(), 200);
    assert!(parent.children().iter().all(|child| child.parent_id() == Some(parent.id())));
    assert_eq!(most.load(SeqCst), 1, "children of one serial bus overlapped");
    assert!(HandlerContext::current().is_none());
}

/// Outside of `attach` a thread is outside; a panic inside leaves nothing behind.
#[test]
fn attach_ends_with_its_body() {
    let bus = EventBus::new("AttachEnds");
    bus.on(|_: &Event<Child>| {});
    bus.on(|event: &Event<Event1>| -> Result<(), WaitError> {
        let context = HandlerContext::current().expect("inside a handler");
        let bus = event.bus();
        thread::scope(|scope| {
            let helper = scope.spawn(|| {
                let panicked =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| context.attach(|| panic!("inside"))));
                assert!(panicked.is_err() && HandlerContext::current().is_none());
                assert!(bus.emit(Child).parent_id().is_none());
                context.attach(|| bus.emit(Child)).parent_id()
            });
            assert_eq!(helper.join().expect("it holds"), Some(event.id()));
        });
        Ok(())
    });
    clean(&bus.emit(Event1));
}
