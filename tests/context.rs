//! Conformance, section CTX: values that travel from the emitting thread to handlers, and on to their children.

mod common;

use common::{Gate, Log, done, eventually, idle, payload};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use threadbus::{
    Event, EventBus, EventConcurrency, HandlerConcurrency, HandlerContext, HandlerOptions, Payload, Retry, WaitError,
    context, scope,
};

payload!(Parent);
payload!(Child);
payload!(Other);
payload!(Beat);

#[derive(Debug, PartialEq)]
struct RequestId(&'static str);
#[derive(Debug, PartialEq)]
struct UserId(u32);

fn request() -> String {
    context::get::<RequestId>().map_or_else(|| "none".to_owned(), |id| id.0.to_owned())
}

/// Logs the request that handlers of `P` see, then runs `body`.
fn sees<P: Payload<Output = ()>>(
    bus: &EventBus,
    log: &Log,
    who: &'static str,
    body: impl Fn(&Event<P>) -> Result<(), WaitError> + Send + Sync + 'static,
) {
    let log = log.clone();
    bus.on(move |event: &Event<P>| -> Result<(), WaitError> {
        log.push(format_args!("{who} {}", request()));
        body(event)
    });
}

fn nothing<P: Payload>(_: &Event<P>) -> Result<(), WaitError> {
    Ok(())
}

#[test]
fn ctx_001_a_handler_reads_what_was_set_around_the_emit() {
    let bus = EventBus::new("Values");
    let log = Log::new();
    let logs = log.clone();
    bus.on(move |_: &Event<Parent>| {
        logs.push(format_args!("{} {}", request(), context::get::<UserId>().unwrap().0));
    });
    context::with(RequestId("r1"), || context::with(UserId(7), || done(&bus.emit(Parent))));
    assert_eq!(log.entries(), ["r1 7"]);
    assert!(context::get::<RequestId>().is_none() && context::get::<UserId>().is_none());
}

#[test]
fn ctx_001b_it_is_the_emit_that_counts_not_the_wait() {
    let bus = EventBus::new("Emit");
    let log = Log::new();
    sees::<Parent>(&bus, &log, "parent", nothing);
    let before = bus.emit(Parent);
    context::with(RequestId("late"), || done(&before));
    let emitted = context::with(RequestId("early"), || bus.emit(Parent));
    done(&emitted);
    assert_eq!(log.entries(), ["parent none", "parent early"]);
}

#[test]
fn ctx_002_and_so_do_handlers_of_its_children() {
    let bus = EventBus::new("Children");
    let log = Log::new();
    sees::<Parent>(&bus, &log, "parent", |event| event.bus().emit(Child).wait().map(drop));
    sees::<Child>(&bus, &log, "child", nothing);
    context::with(RequestId("r2"), || done(&bus.emit(Parent)));
    assert_eq!(log.entries(), ["parent r2", "child r2"]);
}

#[test]
fn ctx_002b_also_of_children_that_nobody_waits_for() {
    let bus = EventBus::new("Queued");
    let log = Log::new();
    sees::<Parent>(&bus, &log, "parent", |event| {
        event.bus().emit(Child);
        Ok(())
    });
    sees::<Child>(&bus, &log, "child", nothing);
    context::with(RequestId("r2"), || done(&bus.emit(Parent)));
    assert_eq!(log.entries(), ["parent r2", "child r2"]);
}

#[test]
fn ctx_003_two_emits_do_not_share() {
    let bus = EventBus::builder("Apart")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .unwrap();
    let (log, gate) = (Log::new(), Gate::new());
    let (logs, stands) = (log.clone(), gate.clone());
    bus.on(move |_: &Event<Parent>| {
        stands.wait();
        logs.push(request());
    });
    let events = ["A", "B"].map(|id| context::with(RequestId(id), || bus.emit(Parent)));
    gate.open();
    events.iter().for_each(|event| drop(done(event)));
    let mut seen = log.entries();
    seen.sort();
    assert_eq!(seen, ["A", "B"]);
}

#[test]
fn ctx_005_handlers_on_both_buses_see_it() {
    let (a, b) = (EventBus::new("A"), EventBus::new("B"));
    let log = Log::new();
    a.forward_all_to(&b);
    sees::<Parent>(&a, &log, "a", nothing);
    sees::<Parent>(&b, &log, "b", nothing);
    context::with(RequestId("r5"), || done(&a.emit(Parent)));
    let mut seen = log.entries();
    seen.sort();
    assert_eq!(seen, ["a r5", "b r5"]);
}

#[test]
fn ctx_006_a_child_that_sets_its_own_leaves_the_parents_alone() {
    let bus = EventBus::new("Own");
    let log = Log::new();
    let logs = log.clone();
    sees::<Parent>(&bus, &log, "before", move |event| {
        context::with(RequestId("parent"), || {
            event.bus().emit(Child).wait()?;
            logs.push(format_args!("after {}", request()));
            Ok(())
        })
    });
    let logs = log.clone();
    sees::<Child>(&bus, &log, "child", move |_| {
        context::with(RequestId("child"), || logs.push(format_args!("inside {}", request())));
        Ok(())
    });
    let parent = done(&bus.emit(Parent));
    assert!(parent.errors().is_empty());
    assert_eq!(log.entries(), ["before none", "child parent", "inside child", "after parent"]);
}

#[test]
fn ctx_007_the_parent_is_still_the_parent() {
    let bus = EventBus::new("Link");
    bus.on(|event: &Event<Parent>| {
        context::with(RequestId("r7"), || event.bus().emit(Child));
    });
    let parent = context::with(RequestId("r0"), || done(&bus.emit(Parent)));
    assert_eq!(bus.find::<Child>().first().unwrap().parent_id(), Some(parent.id()));
}

#[test]
fn ctx_008_both_at_once() {
    let bus = EventBus::new("Both");
    let log = Log::new();
    sees::<Parent>(&bus, &log, "parent", |event| event.bus().emit(Child).wait().map(drop));
    sees::<Child>(&bus, &log, "child", nothing);
    let parent = context::with(RequestId("r8"), || done(&bus.emit(Parent)));
    assert_eq!(log.entries(), ["parent r8", "child r8"]);
    assert_eq!(parent.children()[0].parent_id(), Some(parent.id()));
}

#[test]
fn the_innermost_value_counts_and_the_outer_one_comes_back() {
    context::with(RequestId("outer"), || {
        context::with(UserId(1), || {
            context::with(RequestId("inner"), || {
                assert_eq!((request().as_str(), context::get::<UserId>().as_deref()), ("inner", Some(&UserId(1))));
            });
            assert_eq!(request(), "outer");
        });
        assert!(context::get::<UserId>().is_none());
    });
    assert_eq!(request(), "none");
}

#[test]
fn a_panic_gives_the_outer_value_back() {
    context::with(RequestId("outer"), || {
        let body = || context::with(RequestId("inner"), || panic!("in the body"));
        assert!(std::panic::catch_unwind(body).is_err());
        assert_eq!(request(), "outer");
    });
    assert_eq!(request(), "none");
}

#[test]
fn a_handler_that_panics_inside_a_value_leaves_none_behind() {
    let runtime = threadbus::Runtime::builder().max_threads(1).build().unwrap();
    let bus = EventBus::builder("Clean").runtime(&runtime).build().unwrap();
    let log = Log::new();
    bus.on(|_: &Event<Parent>| context::with(RequestId("gone"), || panic!("in a handler")));
    sees::<Child>(&bus, &log, "child", nothing);
    done(&bus.emit(Parent));
    done(&bus.emit(Child));
    assert_eq!(log.entries(), ["child none"]);
}

#[test]
fn every_attempt_sees_the_same_values() {
    let bus = EventBus::new("Retry");
    let log = Log::new();
    let logs = log.clone();
    let options = HandlerOptions::new().retry(Retry::attempts(3));
    bus.on_with(options, move |_: &Event<Parent>| -> Result<(), &'static str> {
        logs.push(request());
        Err("again")
    });
    context::with(RequestId("r"), || done(&bus.emit(Parent)));
    assert_eq!(log.entries(), ["r", "r", "r"]);
}

#[test]
fn an_event_that_runs_on_the_emitting_thread_has_its_own_context() {
    let bus = EventBus::builder("Inline")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .unwrap();
    let log = Log::new();
    sees::<Parent>(&bus, &log, "parent", nothing);
    context::with(RequestId("now"), || {
        bus.emit_now(Parent);
        assert_eq!(request(), "now");
    });
    bus.emit_now(Parent);
    assert_eq!(log.entries(), ["parent now", "parent none"]);
}

#[test]
fn values_live_as_long_as_somebody_may_read_them() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let bus = EventBus::builder("Lives").max_history(Some(0)).build().unwrap();
    let event = context::with(Counted(Arc::clone(&dropped)), || bus.emit(Parent));
    done(&event);
    idle(&bus);
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    drop(event);
    // The worker that ran it lets go of it a moment after it is done.
    eventually(|| dropped.load(Ordering::SeqCst) == 1);
}

#[test]
fn threads_inherit_by_scope_spawn_only() {
    context::with(RequestId("r"), || {
        assert_eq!(thread::spawn(request).join().unwrap(), "none");
        assert_eq!(scope::spawn(request).join().unwrap(), "r");
    });
}

/// Given up already, on a thread that the handler has started: that has no values of its own.
#[test]
fn a_hook_reads_the_values_of_its_event_on_every_thread() {
    let bus = EventBus::new("Hooks");
    let (log, started, ended) = (Log::new(), Gate::new(), Gate::new());
    let (logs, at_work, over) = (log.clone(), started.clone(), ended.clone());
    bus.on(move |_: &Event<Parent>| {
        let context = HandlerContext::current().unwrap();
        let (early, inside, late) = (logs.clone(), logs.clone(), logs.clone());
        context.on_cancel(move || early.push(format_args!("early {}", request())));
        at_work.open();
        over.wait();
        context.on_cancel(move || inside.push(format_args!("inside {}", request())));
        let helper = thread::spawn(move || {
            context::with(RequestId("other"), || {
                context.on_cancel(move || late.push(format_args!("late {}", request())));
                assert_eq!(request(), "other");
            });
        });
        helper.join().unwrap();
        assert_eq!(request(), "r1");
        logs.push("back");
    });
    let event = context::with(RequestId("r1"), || bus.emit(Parent));
    started.wait();
    event.cancel();
    ended.open();
    eventually(|| log.len() == 4);
    let mut entries = log.entries();
    entries.sort();
    assert_eq!(entries, ["back", "early r1", "inside r1", "late r1"]);
}

#[test]
fn a_tracker_reads_the_values_of_who_added_it() {
    for handlers in [HandlerConcurrency::BusSerial, HandlerConcurrency::Parallel] {
        let bus = EventBus::builder("Trackers").handler_concurrency(handlers).build().unwrap();
        let log = Log::new();
        bus.on(|_: &Event<Child>| {});
        let logs = log.clone();
        bus.on(move |parent: &Event<Parent>| -> Result<(), WaitError> {
            let (batch, logs) = (parent.bus().batch(), logs.clone());
            batch.on_progress(move |_| logs.push(request()));
            context::with(RequestId("inner"), || drop(batch.emit(Child)));
            context::without(|| drop(batch.emit(Child)));
            batch.wait().map(drop)
        });
        context::with(RequestId("r1"), || done(&bus.emit(Parent)));
        assert_eq!(log.entries(), ["r1", "r1"]);
        // One that was added outside of all requests reads none, whatever its events have.
        let (batch, logs) = (bus.batch(), log.clone());
        batch.on_progress(move |_| logs.push(request()));
        context::with(RequestId("r2"), || drop(batch.emit(Child)));
        batch.wait().unwrap();
        assert_eq!(log.entries()[2..], ["none"]);
    }
}

/// Not part of the handler on whose thread it happens to come.
#[test]
fn what_a_tracker_emits_has_no_parent() {
    let bus = EventBus::new("Apart");
    bus.on(|parent: &Event<Parent>| -> Result<(), WaitError> {
        let (batch, bus) = (parent.bus().batch(), parent.bus().downgrade());
        batch.on_progress(move |_| drop(bus.upgrade().map(|bus| bus.emit(Other))));
        batch.emit(Child);
        batch.wait().map(drop)
    });
    context::with(RequestId("r1"), || done(&bus.emit(Parent)));
    idle(&bus);
    let other = bus.find::<Other>().first().unwrap();
    assert_eq!(other.parent_id(), None);
}

#[test]
fn what_is_planned_keeps_the_values_unless_they_are_left_out() {
    let bus = EventBus::new("Beats");
    let log = Log::new();
    sees(&bus, &log, "beat", nothing::<Beat>);
    let period = std::time::Duration::from_millis(1);
    context::with(RequestId("r1"), || {
        let kept = bus.emit_every(period, Beat);
        eventually(|| log.count("beat r1") >= 3);
        kept.cancel();
        idle(&bus);
        assert_eq!(log.count("beat none"), 0);
        let left_out = context::without(|| bus.emit_every(period, Beat));
        let before = log.count("beat r1");
        eventually(|| log.count("beat none") >= 3);
        left_out.cancel();
        idle(&bus);
        assert_eq!(log.count("beat r1"), before);
        context::without(|| {
            context::with(UserId(7), || {
                assert_eq!((request(), context::get::<UserId>().unwrap().0), ("none".into(), 7))
            })
        });
        assert_eq!(request(), "r1");
    });
    assert!(
        std::panic::catch_unwind(|| context::with(RequestId("r1"), || context::without(|| panic!("on purpose"))))
            .is_err()
    );
    assert_eq!(request(), "none");
}
