//! Events that start when others are complete: `EventOptions::after` and `after_ok`.

mod common;

use common::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threadbus::{
    AnyEvent, CauseKind, EmitError, Event, EventBus, EventOptions, EventStatus, HandlerContext, HandlerError,
    HandlerFailure, HandlerOptions, Limit, OnFull, Payload, Priority, Retry, Runtime, Shutdown, WaitError,
};

payload!(Task { name: &'static str });
payload!(Step { ok: bool });
payload!(Outer);
payload!(Inner);

fn task(name: &'static str) -> Task {
    Task { name }
}

fn after(event: impl AsRef<AnyEvent>) -> EventOptions {
    EventOptions::new().after(event)
}

fn after_ok(event: impl AsRef<AnyEvent>) -> EventOptions {
    EventOptions::new().after_ok(event)
}

/// A parallel bus whose `Task` handlers log their names; `a` stands at the gate.
fn tasks(gate: &Gate) -> (EventBus, Log) {
    let (bus, log) = (parallel("tasks"), Log::new());
    let (gate, entries) = (gate.clone(), log.clone());
    bus.on(move |task: &Event<Task>| {
        if task.name == "a" {
            gate.wait();
        }
        entries.push(task.name);
    });
    (bus, log)
}

fn cause(event: impl AsRef<AnyEvent>) -> (CauseKind, threadbus::EventId) {
    match &*event.as_ref().errors()[0] {
        HandlerFailure::Cancelled { cause } => (cause.kind, cause.event),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_event_starts_when_all_that_it_comes_after_are_complete() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, log) = tasks(&gate);
    let (a, b) = (bus.emit(task("a")), bus.emit(task("b")));
    let c = bus.emit_with(task("c"), after(&a).after(&b));
    done(&b);
    linger();
    assert_eq!((c.status(), bus.pending()), (EventStatus::Pending, 0), "it is not queued");
    assert_eq!(log.count("c"), 0);
    gate.open();
    done(&c);
    assert_eq!(log.entries(), ["b", "a", "c"]);
    idle(&bus);
}

#[test]
fn what_is_complete_holds_nothing() {
    let gate = Gate::new();
    gate.open();
    let (bus, log) = tasks(&gate);
    let a = bus.emit(task("a"));
    done(&a);
    done(&bus.emit_with(task("b"), after(&a).after_ok(&a)));
    assert_eq!(log.entries(), ["a", "b"]);
}

#[test]
fn an_event_that_is_named_twice_counts_once() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, _log) = tasks(&gate);
    let a = bus.emit(task("a"));
    let b = bus.emit_with(task("b"), after(&a).after(&a).after_ok(&a).after(&a));
    gate.open();
    done(&b);
}

#[test]
fn a_chain_and_a_diamond_run_in_their_order() {
    let bus = parallel("chain");
    let log = Log::new();
    let entries = log.clone();
    bus.on(move |task: &Event<Task>| entries.push(task.name));
    bus.pause();
    let a = bus.emit(task("a"));
    let b = bus.emit_with(task("b"), after(&a));
    let c = bus.emit_with(task("c"), after(&a));
    let d = bus.emit_with(task("d"), after(&b).after_ok(&c));
    bus.resume();
    done(&d);
    let entries = log.entries();
    assert_eq!((entries[0].as_str(), entries[3].as_str(), entries.len()), ("a", "d", 4));
}

#[test]
fn what_comes_after_waits_for_the_children_too() {
    let bus = parallel("tree");
    let (gate, log) = (Gate::new(), Log::new());
    let _opener = gate.opener();
    bus.on(|outer: &Event<Outer>| drop(outer.bus().emit(Inner)));
    let inner = gate.clone();
    bus.on(move |_: &Event<Inner>| inner.wait());
    let entries = log.clone();
    bus.on(move |task: &Event<Task>| entries.push(task.name));
    let outer = bus.emit(Outer);
    let late = bus.emit_with(task("late"), after(&outer));
    linger();
    assert!(log.is_empty());
    gate.open();
    done(&late);
}

#[test]
fn a_failure_ends_what_comes_after_it_only_if_it_must_succeed() {
    let bus = EventBus::new("steps");
    bus.on(|step: &Event<Step>| if step.ok { Ok(()) } else { Err("broken") });
    bus.pause();
    let failing = bus.emit(Step { ok: false });
    let anyway = bus.emit_with(Step { ok: true }, after(&failing));
    let never = bus.emit_with(Step { ok: true }, after_ok(&failing));
    let nor = bus.emit_with(Step { ok: true }, after_ok(&never));
    let last = bus.emit_with(Step { ok: true }, after(&nor));
    bus.resume();
    clean(&anyway);
    clean(&last);
    for event in [&never, &nor] {
        assert_eq!(event.wait().unwrap_err(), WaitError::Cancelled);
        assert_eq!(cause(event), (CauseKind::Prerequisite, failing.id()), "the first that failed");
    }
    let text = never.errors()[0].to_string();
    assert!(text.contains("failure of Step#") && text.contains("which it was to come after"), "{text}");
    idle(&bus);
    let metrics = bus.metrics();
    assert_eq!((metrics.held, metrics.queued, metrics.cancelled, metrics.emitted), (0, 0, 2, 5));
}

#[test]
fn what_failed_before_the_emit_ends_it_at_once() {
    let bus = EventBus::new("steps");
    bus.on(|step: &Event<Step>| if step.ok { Ok(()) } else { Err("broken") });
    let failing = bus.emit(Step { ok: false });
    done(&failing);
    let never = bus.emit_with(Step { ok: true }, after_ok(&failing));
    assert_eq!(never.status(), EventStatus::Completed);
    assert_eq!(cause(&never), (CauseKind::Prerequisite, failing.id()));
    idle(&bus);
}

#[test]
fn each_way_of_not_ending_well_counts() {
    let bus = EventBus::builder("ways").build().unwrap();
    bus.on(|_: &Event<Outer>| -> Result<(), HandlerError> { panic!("no") });
    bus.on(|_: &Event<Step>| {});
    let ran = Arc::new(AtomicUsize::new(0));
    let count = ran.clone();
    bus.on(move |_: &Event<Task>| assert!(count.fetch_add(1, Ordering::SeqCst) < usize::MAX));
    let panicked: AnyEvent = bus.emit(Outer).into();
    bus.pause();
    let cancelled: AnyEvent = bus.emit(Step { ok: true }).into();
    let timed_out: AnyEvent = bus.emit_with(Step { ok: true }, EventOptions::new().timeout(Duration::ZERO)).into();
    let closed = EventBus::new("closed");
    closed.shutdown(Shutdown::Now, ms(10));
    let refused: AnyEvent = closed.emit(Inner).into();
    let all = [&panicked, &cancelled, &timed_out, &refused];
    let never: Vec<_> = all.map(|event| bus.emit_with(task("x"), after_ok(event))).into();
    let anyway: Vec<_> = all.map(|event| bus.emit_with(task("x"), after(event))).into();
    cancelled.cancel();
    bus.resume();
    anyway.iter().for_each(|event| clean(event));
    for (event, failed) in never.iter().zip(all) {
        assert_eq!(event.wait().unwrap_err(), WaitError::Cancelled);
        assert_eq!(cause(event), (CauseKind::Prerequisite, failed.id()));
    }
    assert_eq!(ran.load(Ordering::SeqCst), 4);
}

#[test]
fn a_retry_that_succeeds_is_a_success() {
    let bus = EventBus::new("retry");
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    bus.on(move |_: &Event<Outer>| if count.fetch_add(1, Ordering::SeqCst) == 0 { Err("once") } else { Ok(()) });
    bus.on(|_: &Event<Inner>| {});
    let outer = bus.emit_with(Outer, EventOptions::new().retry(Retry::attempts(2).delay(ms(1))));
    clean(&bus.emit_with(Inner, after_ok(&outer)));
}

#[test]
fn the_losers_of_a_first_are_no_failure() {
    let bus = EventBus::new("first");
    bus.on(|_: &Event<Outer>| -> Result<Option<()>, HandlerError> { Err("no".into()) });
    bus.on(|_: &Event<Outer>| {});
    bus.on(|_: &Event<Inner>| {});
    let first = EventOptions::new().completion(threadbus::HandlerCompletion::First);
    let outer = bus.emit_with(Outer, first);
    clean(&bus.emit_with(Inner, after_ok(&outer)));
}

#[test]
fn a_held_event_takes_no_place_in_a_full_queue() {
    let bus = EventBus::builder("full").queue_capacity(1, OnFull::Reject).build().unwrap();
    let gate = Gate::new();
    let _opener = gate.opener();
    stands(&bus, &gate);
    bus.pause();
    let a = bus.emit(Outer);
    assert!(matches!(bus.try_emit(Outer).unwrap_err().error, EmitError::QueueFull { .. }));
    let held: Vec<_> = (0..50).map(|_| bus.emit_with(Outer, after(&a))).collect();
    assert_eq!((bus.pending(), bus.metrics().held), (1, 50));
    gate.open();
    bus.resume();
    held.iter().for_each(|event| clean(event));
    idle(&bus);

    fn stands(bus: &EventBus, gate: &Gate) {
        let gate = gate.clone();
        bus.on(move |_: &Event<Outer>| gate.wait());
    }
}

#[test]
fn a_released_event_goes_by_its_priority_and_behind_what_is_queued() {
    let bus = EventBus::new("priority");
    let log = Log::new();
    let entries = log.clone();
    bus.on(move |task: &Event<Task>| entries.push(task.name));
    bus.pause();
    let first = bus.emit(task("first"));
    let normal = bus.emit_with(task("normal"), after(&first));
    let urgent = bus.emit_with(task("urgent"), after(&first).priority(Priority::CRITICAL));
    bus.emit(task("queued"));
    bus.resume();
    done(&normal);
    done(&urgent);
    assert_eq!(log.entries(), ["first", "urgent", "queued", "normal"]);
}

#[test]
fn a_held_event_can_be_cancelled_and_so_can_what_it_comes_after() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, log) = tasks(&gate);
    let a = bus.emit(task("a"));
    let b = bus.emit_with(task("b"), after(&a));
    let c = bus.emit_with(task("c"), after(&b));
    assert!(b.cancel());
    done(&c);
    assert_eq!(b.wait().unwrap_err(), WaitError::Cancelled);
    assert!(!b.cancel(), "it is over");
    a.cancel();
    gate.open();
    idle(&bus);
    assert_eq!(log.count("b"), 0);
    assert_eq!((bus.pending(), bus.metrics().held), (0, 0));
}

#[test]
fn a_child_of_a_handler_that_is_given_up_does_not_start() {
    let (bus, gate) = (parallel("given up"), Gate::new());
    let _opener = gate.opener();
    let ran = Arc::new(AtomicUsize::new(0));
    let count = ran.clone();
    bus.on(move |_: &Event<Inner>| assert!(count.fetch_add(1, Ordering::SeqCst) < usize::MAX));
    let stand = gate.clone();
    bus.on(move |_: &Event<Task>| stand.wait());
    let before = bus.emit(task("x"));
    let (at, hold) = (Gate::new(), Gate::new());
    let _second = hold.opener();
    let (is_at, stays, awaited) = (at.clone(), hold.clone(), before.clone());
    bus.on(move |outer: &Event<Outer>| {
        outer.bus().emit_with(Inner, after(&awaited));
        is_at.open();
        stays.wait();
    });
    let outer = bus.emit(Outer);
    at.wait();
    outer.cancel();
    gate.open();
    hold.open();
    done(&before);
    idle(&bus);
    assert_eq!(ran.load(Ordering::SeqCst), 0);
}

#[test]
fn an_ancestor_is_refused() {
    let bus = EventBus::new("ancestor");
    let errors = Arc::new(Mutex::new(Vec::new()));
    let found = errors.clone();
    bus.on(move |outer: &Event<Outer>| drop(outer.bus().emit(Inner)));
    bus.on(move |inner: &Event<Inner>| {
        let parent = inner.parent().unwrap();
        for before in [AnyEvent::clone(inner.as_ref()), parent] {
            let error = inner.bus().try_emit_with(task("x"), after(&before)).unwrap_err().error;
            found.lock().unwrap().push(error);
        }
        // A root event belongs to nothing.
        drop(inner.bus().emit_with(task("y"), after(inner).detached()));
    });
    bus.on(|_: &Event<Task>| {});
    clean(&bus.emit(Outer));
    idle(&bus);
    let errors = errors.lock().unwrap();
    assert_eq!(errors.len(), 2);
    for error in errors.iter() {
        assert!(matches!(error, EmitError::Circle { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("could never start on ancestor#") && text.contains("which it belongs to"), "{text}");
    }
}

#[test]
fn a_circle_over_another_held_event_is_refused() {
    let bus = parallel("circle");
    let errors = Arc::new(Mutex::new(Vec::new()));
    let found = errors.clone();
    bus.on(|_: &Event<Inner>| {});
    bus.on(move |outer: &Event<Outer>| {
        // It waits for this event, and a child of this event for it.
        let other = outer.bus().emit_with(Inner, after(outer).detached());
        let error = outer.bus().try_emit_with(Inner, after(&other)).unwrap_err().error;
        found.lock().unwrap().push(error.to_string());
    });
    clean(&bus.emit(Outer));
    idle(&bus);
    let errors = errors.lock().unwrap();
    assert!(errors[0].contains("comes after Inner#") && errors[0].contains("which comes after Outer#"), "{errors:?}");
}

#[test]
fn a_wait_inside_a_handler_runs_what_the_event_comes_after() {
    for in_order in [false, true] {
        let bus = EventBus::new("serial");
        let log = Log::new();
        let (entries, told) = (log.clone(), log.clone());
        bus.on(move |task: &Event<Task>| entries.push(task.name));
        bus.on(move |outer: &Event<Outer>| {
            let bus = outer.bus();
            let a = bus.emit(task("a"));
            let b = bus.emit_with(task("b"), after(&a));
            let c = bus.emit_with(task("c"), after(&b).after(&a));
            let waited = if in_order { c.wait_in_order() } else { c.wait() };
            told.push(match waited {
                Ok(_) => "waited",
                Err(WaitError::Deadlock(_)) => "deadlock",
                Err(_) => "other",
            });
        });
        clean(&bus.emit(Outer));
        idle(&bus);
        let expected = if in_order { ["deadlock", "a", "b", "c"] } else { ["a", "b", "c", "waited"] };
        assert_eq!(log.entries(), expected, "in order: {in_order}");
    }
}

#[test]
fn a_wait_sees_what_is_queued_below_an_event_that_it_comes_after() {
    // `Task` runs on another bus, and leaves a child on the serial one, whose turn the waiter has.
    let (serial, other) = (EventBus::new("serial"), parallel("other"));
    let (at, gate) = (Gate::new(), Gate::new());
    let _opener = gate.opener();
    let (stand, home) = (gate.clone(), serial.downgrade());
    other.on(move |_: &Event<Task>| {
        stand.wait();
        drop(home.upgrade().unwrap().emit(Inner));
    });
    serial.on(|_: &Event<Inner>| {});
    serial.on(|_: &Event<Step>| {});
    let (elsewhere, is_at) = (other.clone(), at.clone());
    serial.on(move |outer: &Event<Outer>| -> Result<(), HandlerError> {
        let a = elsewhere.emit_with(task("a"), EventOptions::new().detached());
        let b = outer.bus().emit_with(Step { ok: true }, after(&a));
        is_at.open();
        b.wait()?;
        Ok(())
    });
    let outer = serial.emit(Outer);
    at.wait();
    linger();
    gate.open();
    clean(&outer);
}

#[test]
fn a_wait_that_closes_a_circle_is_told() {
    let bus = parallel("circle");
    let (emitted, told) = (Gate::new(), Log::new());
    let held: Arc<Mutex<Option<Event<Inner>>>> = Arc::default();
    bus.on(|_: &Event<Inner>| {});
    let (ready, slot, words) = (emitted.clone(), held.clone(), told.clone());
    bus.on(move |_: &Event<Outer>| {
        ready.wait();
        let inner = slot.lock().unwrap().clone().unwrap();
        words.push(match inner.wait() {
            Err(WaitError::Deadlock(chain)) if chain.contains("which comes after Outer#") => "told".to_owned(),
            other => format!("{other:?}"),
        });
    });
    let outer = bus.emit(Outer);
    *held.lock().unwrap() = Some(bus.emit_with(Inner, after(&outer)));
    emitted.open();
    done(&outer);
    assert_eq!(told.entries(), ["told"]);
    idle(&bus);
}

#[test]
fn an_emit_that_closes_a_circle_wakes_the_wait_on_it() {
    // The waiter's event is what a child of the awaited one comes after, and that child comes late.
    let bus = parallel("late circle");
    let (waits, told) = (Gate::new(), Log::new());
    let awaited: Arc<Mutex<Option<Event<Outer>>>> = Arc::default();
    let waiter: Arc<Mutex<Option<Event<Task>>>> = Arc::default();
    bus.on(|_: &Event<Inner>| {});
    let (before, at) = (waiter.clone(), waits.clone());
    bus.on(move |outer: &Event<Outer>| {
        at.wait();
        linger();
        let before = before.lock().unwrap().clone().unwrap();
        drop(outer.bus().emit_with(Inner, after(&before)));
    });
    let (target, at, words) = (awaited.clone(), waits.clone(), told.clone());
    bus.on(move |_: &Event<Task>| {
        eventually(|| target.lock().unwrap().is_some());
        let target = target.lock().unwrap().clone().unwrap();
        at.open();
        words.push(match target.wait() {
            Err(WaitError::Deadlock(_)) => "told".to_owned(),
            other => format!("{other:?}"),
        });
    });
    let task = bus.emit(task("waits"));
    *waiter.lock().unwrap() = Some(task.clone());
    let outer = bus.emit(Outer);
    *awaited.lock().unwrap() = Some(outer.clone());
    done(&task);
    done(&outer);
    assert_eq!(told.entries(), ["told"]);
}

#[test]
fn a_manual_bus_holds_as_well() {
    let bus = EventBus::builder("manual").manual().build().unwrap();
    let log = Log::new();
    let entries = log.clone();
    bus.on(move |task: &Event<Task>| entries.push(task.name));
    let a = bus.emit(task("a"));
    let b = bus.emit_with(task("b"), after(&a));
    assert_eq!(bus.pending(), 1);
    bus.run_pending();
    bus.run_pending();
    assert_eq!((log.entries(), b.is_completed()), (vec!["a".to_owned(), "b".to_owned()], true));
}

#[test]
fn a_manual_bus_is_told_when_something_is_released_from_elsewhere() {
    let (ready, told) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let count = told.clone();
    let bus = EventBus::builder("manual")
        .manual()
        .on_ready(move || assert!(count.fetch_add(1, Ordering::SeqCst) < usize::MAX))
        .build()
        .unwrap();
    let other = parallel("other");
    let stand = ready.clone();
    other.on(move |_: &Event<Outer>| stand.wait());
    bus.on(|_: &Event<Inner>| {});
    let outer = other.emit(Outer);
    let held: Vec<_> = (0..3).map(|_| bus.emit_with(Inner, after(&outer))).collect();
    assert_eq!(told.load(Ordering::SeqCst), 0, "nothing is there to be run");
    ready.open();
    eventually(|| told.load(Ordering::SeqCst) > 0);
    eventually(|| {
        bus.run_pending();
        held.iter().all(|event| event.is_completed())
    });
}

#[test]
fn a_bus_without_handles_finishes_what_it_holds() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, log) = tasks(&gate);
    let a = bus.emit(task("a"));
    let b = bus.emit_with(task("b"), after(&a));
    drop(bus);
    gate.open();
    clean(&b);
    assert_eq!(log.entries(), ["a", "b"]);
}

#[test]
fn a_manual_bus_without_handles_ends_what_it_holds() {
    let (gate, other) = (Gate::new(), parallel("other"));
    let _opener = gate.opener();
    let stand = gate.clone();
    other.on(move |_: &Event<Outer>| stand.wait());
    let outer = other.emit(Outer);
    let bus = EventBus::builder("manual").manual().build().unwrap();
    let held = bus.emit_with(Inner, after(&outer));
    let weak = bus.downgrade();
    drop(bus);
    assert_eq!(held.wait().unwrap_err(), WaitError::Dropped);
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_shutdown_drains_or_ends_what_is_held() {
    for mode in [Shutdown::Drain, Shutdown::Now] {
        let gate = Gate::new();
        let _opener = gate.opener();
        let (bus, log) = tasks(&gate);
        let a = bus.emit(task("a"));
        let held: Vec<_> = (0..10).map(|_| bus.emit_with(task("b"), after(&a))).collect();
        if mode == Shutdown::Drain {
            gate.open();
        }
        let report = bus.shutdown(mode, if mode == Shutdown::Now { ms(1) } else { PATIENCE });
        let drained = mode == Shutdown::Drain;
        assert_eq!(log.count("b"), if drained { 10 } else { 0 });
        assert!(held.iter().all(|event| event.is_completed()), "{report:?}");
        gate.open();
    }
}

#[test]
fn a_forward_of_a_held_event_is_held_as_well() {
    let (gate, log) = (Gate::new(), Log::new());
    let _opener = gate.opener();
    let (first, second) = (parallel("first"), parallel("second"));
    for (bus, name) in [(&first, "first"), (&second, "second")] {
        let (stand, entries) = (gate.clone(), log.clone());
        bus.on(move |_: &Event<Outer>| stand.wait());
        bus.on(move |_: &Event<Inner>| entries.push(name));
    }
    let outer = first.emit(Outer);
    let inner = first.emit_with(Inner, after(&outer));
    second.forward(&inner).unwrap();
    linger();
    assert!(log.is_empty());
    assert_eq!(second.metrics().held, 1);
    gate.open();
    clean(&inner);
    assert_eq!(log.len(), 2);
    idle(&second);
}

#[test]
fn an_event_that_runs_now_waits_first() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, log) = tasks(&gate);
    let a = bus.emit(task("a"));
    let opener = gate.clone();
    let other = std::thread::spawn(move || {
        linger();
        opener.open();
    });
    let b = bus.emit_now_with(task("b"), after(&a));
    assert_eq!((b.is_completed(), log.entries()), (true, vec!["a".to_owned(), "b".to_owned()]));
    other.join().unwrap();
}

#[test]
fn a_limit_and_a_timeout_begin_with_the_start() {
    let (gate, bus) = (Gate::new(), parallel("limited"));
    let _opener = gate.opener();
    let stand = gate.clone();
    bus.on(move |_: &Event<Outer>| stand.wait());
    let inside = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (inside.clone(), most.clone());
    bus.on_with(HandlerOptions::new().limit(Limit::new(1)), move |_: &Event<Inner>| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        linger();
        now.fetch_sub(1, Ordering::SeqCst);
    });
    let outer = bus.emit(Outer);
    let held: Vec<_> = (0..4).map(|_| bus.emit_with(Inner, after(&outer).timeout(Duration::from_secs(8)))).collect();
    gate.open();
    held.iter().for_each(|event| clean(event));
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[test]
fn one_comes_after_thousands_and_thousands_after_one() {
    let bus = parallel("many");
    let count = Arc::new(AtomicUsize::new(0));
    let ran = count.clone();
    bus.on(move |_: &Event<Inner>| assert!(ran.fetch_add(1, Ordering::SeqCst) < usize::MAX));
    bus.pause();
    let first = bus.emit(Inner);
    let middle: Vec<_> = (0..5_000).map(|_| bus.emit_with(Inner, after(&first))).collect();
    let last = bus.emit_with(Inner, middle.iter().fold(EventOptions::new(), |options, event| options.after_ok(event)));
    bus.resume();
    clean(&last);
    assert_eq!(count.load(Ordering::SeqCst), 5_002);
}

#[test]
fn a_long_chain_falls_without_recursion() {
    let bus = EventBus::builder("chain").manual().build().unwrap();
    bus.on(|step: &Event<Step>| if step.ok { Ok(()) } else { Err("broken") });
    let first = bus.emit(Step { ok: false });
    let mut last = first.clone();
    for _ in 0..50_000 {
        last = bus.emit_with(Step { ok: true }, after_ok(&last));
    }
    bus.run_pending();
    assert_eq!(last.wait().unwrap_err(), WaitError::Cancelled);
    assert_eq!(cause(&last), (CauseKind::Prerequisite, first.id()));
}

#[test]
fn a_type_that_says_after_of_all_its_events_is_ignored() {
    static BEFORE: Mutex<Option<AnyEvent>> = Mutex::new(None);
    struct Typed;
    impl Payload for Typed {
        type Output = ();
        fn options() -> EventOptions {
            BEFORE.lock().unwrap().as_ref().map_or_else(EventOptions::new, after)
        }
    }
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, _log) = tasks(&gate);
    *BEFORE.lock().unwrap() = Some(bus.emit(task("a")).into());
    bus.on(|_: &Event<Typed>| {});
    clean(&bus.emit(Typed));
}

#[test]
fn another_runtimes_events_are_waited_for_as_well() {
    let runtime = Runtime::builder().build().unwrap();
    let there = EventBus::builder("there").runtime(&runtime).build().unwrap();
    let (here, gate) = (EventBus::new("here"), Gate::new());
    let _opener = gate.opener();
    let stand = gate.clone();
    there.on(move |_: &Event<Outer>| stand.wait());
    here.on(|_: &Event<Inner>| {});
    let inner = here.emit_with(Inner, after(there.emit(Outer)));
    linger();
    assert_eq!(inner.status(), EventStatus::Pending);
    gate.open();
    clean(&inner);
    runtime.shutdown(Shutdown::Drain, PATIENCE);
}

#[test]
fn what_a_handler_waits_for_is_named() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, _log) = tasks(&gate);
    let held: Arc<Mutex<Option<AnyEvent>>> = Arc::default();
    let slot = held.clone();
    bus.on(move |_: &Event<Outer>| -> Result<(), HandlerError> {
        assert!(HandlerContext::current().is_some());
        slot.lock().unwrap().clone().unwrap().wait()?;
        Ok(())
    });
    let a = bus.emit(task("a"));
    *held.lock().unwrap() = Some(bus.emit_with(task("b"), after(&a)).into());
    let outer = bus.emit_with(Outer, EventOptions::new().handler_timeout(ms(60)));
    done(&outer);
    let text = outer.errors()[0].to_string();
    assert!(text.contains("which comes after Task#"), "{text}");
    gate.open();
}

#[test]
fn an_emit_beside_the_completion_of_what_it_comes_after_is_never_lost() {
    let bus = parallel("races");
    let ran = Arc::new(AtomicUsize::new(0));
    let count = ran.clone();
    bus.on(|_: &Event<Inner>| {});
    bus.on(move |_: &Event<Outer>| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    for _ in 0..2_000 {
        // The last two that it comes after complete beside each other and beside the emit.
        let (a, b) = (bus.emit(Inner), bus.emit(Inner));
        drop(bus.emit_with(Outer, after(&a).after_ok(&b)));
    }
    idle(&bus);
    assert_eq!(ran.load(Ordering::SeqCst), 2_000);
}

#[test]
fn a_failure_among_several_cancels_at_once_and_the_others_go_on() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, log) = tasks(&gate);
    bus.on(|step: &Event<Step>| if step.ok { Ok(()) } else { Err("broken") });
    let (a, failing) = (bus.emit(task("a")), bus.emit(Step { ok: false }));
    done(&failing);
    let never = bus.emit_with(task("never"), after_ok(&a).after_ok(&failing));
    let anyway = bus.emit_with(task("anyway"), after(&a).after(&failing));
    assert!(never.is_completed() && !anyway.is_completed(), "`a` stands at the gate");
    gate.open();
    done(&anyway);
    assert_eq!(log.count("never"), 0);
}

#[test]
fn what_is_cancelled_leaves_nothing_with_an_event_that_lives_on() {
    in_a_process_of_its_own("what_is_cancelled_leaves_nothing_with_an_event_that_lives_on", || {
        let gate = Gate::new();
        let _opener = gate.opener();
        let bus =
            EventBus::builder("service").max_history(Some(10)).history_policy(threadbus::HistoryPolicy::KeepUnfinished);
        let bus = bus.event_concurrency(threadbus::EventConcurrency::Parallel).build().unwrap();
        let stand = gate.clone();
        bus.on(move |_: &Event<Outer>| stand.wait());
        let service = bus.emit(Outer);
        let round = || {
            for _ in 0..10_000 {
                bus.emit_with(Inner, after(&service)).cancel();
            }
        };
        round();
        let before = held_bytes();
        (0..10).for_each(|_| round());
        let more = held_bytes().saturating_sub(before);
        assert!(more < 1_000_000, "{more} bytes for 100,000 that are gone");
    });
}

#[test]
fn a_bus_that_a_held_event_was_forwarded_to_ends_only_its_own_delivery() {
    let (gate, log) = (Gate::new(), Log::new());
    let _opener = gate.opener();
    let (first, second) = (parallel("first"), parallel("second"));
    for (bus, name) in [(&first, "first"), (&second, "second")] {
        let (stand, entries) = (gate.clone(), log.clone());
        bus.on(move |_: &Event<Outer>| stand.wait());
        bus.on(move |_: &Event<Inner>| entries.push(name));
    }
    let outer = first.emit(Outer);
    let inner = first.emit_with(Inner, after(&outer));
    second.forward(&inner).unwrap();
    second.shutdown(Shutdown::Now, PATIENCE);
    assert!(!inner.is_completed(), "it is held on the other bus");
    gate.open();
    done(&inner);
    assert_eq!(log.entries(), ["first"]);
    idle(&first);
}
