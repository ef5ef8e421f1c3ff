//! Conformance, section CORE: construction and defaults, who knows which bus, the life of an event, idle and stop.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, payload, stands, within};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use threadbus::{
    AnyEvent, BusId, CauseKind, EmitError, Event, EventBus, EventConcurrency, EventStatus, HandlerCompletion,
    HandlerConcurrency, HandlerFailure, HistoryPolicy, Payload, ResultStatus, Runtime, Shutdown, WaitError,
};

payload!(Job { n: usize });
payload!(Other { n: usize });
payload!(Greeting { text: String } => String);

/// A bus on a runtime of its own, where nobody else's buses are counted.
fn bus_on(runtime: &Runtime, name: &str) -> EventBus {
    EventBus::builder(name).runtime(runtime).build().unwrap()
}

/// Whether `runtime` lists a bus of that id.
fn lists(runtime: &Runtime, id: BusId) -> bool {
    runtime.buses().iter().filter_map(|weak| weak.upgrade()).any(|bus| bus.id() == id)
}

#[test]
fn core_001_defaults_of_a_new_bus() {
    let bus = EventBus::new("DefaultsBus");
    assert_eq!(bus.name(), "DefaultsBus");
    let options = bus.options();
    assert_eq!(options.max_history, Some(100));
    assert_eq!(options.history_policy, HistoryPolicy::DropOldest);
    assert_eq!(options.event_concurrency, EventConcurrency::BusSerial);
    assert_eq!(options.handler_concurrency, HandlerConcurrency::BusSerial);
    assert_eq!(options.handler_completion, HandlerCompletion::All);
    assert_eq!(options.handler_timeout, Some(Duration::from_secs(60)));
    assert_eq!(options.event_timeout, None);
    assert_eq!(options.handler_slow_after, Some(Duration::from_secs(30)));
    assert_eq!(options.event_slow_after, Some(Duration::from_secs(300)));
    assert_eq!(options.queue_capacity, None);
    assert!(!options.require_handler);
    assert_eq!(bus.history_len(), 0);
    assert!(lists(&Runtime::global(), bus.id()));
    assert!(bus.is_idle());
    within(PATIENCE, move || bus.wait_until_idle()).unwrap();
}

#[test]
fn core_002_given_options_read_back() {
    let bus = EventBus::builder("Given")
        .max_history(Some(500))
        .history_policy(HistoryPolicy::Reject)
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::EventSerial)
        .handler_completion(HandlerCompletion::First)
        .handler_timeout(Some(Duration::from_secs(30)))
        .event_timeout(Some(Duration::from_secs(31)))
        .build()
        .unwrap();
    let options = bus.options();
    assert_eq!(options.max_history, Some(500));
    assert_eq!(options.history_policy, HistoryPolicy::Reject);
    assert_eq!(options.event_concurrency, EventConcurrency::Parallel);
    assert_eq!(options.handler_concurrency, HandlerConcurrency::EventSerial);
    assert_eq!(options.handler_completion, HandlerCompletion::First);
    assert_eq!(options.handler_timeout, Some(Duration::from_secs(30)));
    assert_eq!(options.event_timeout, Some(Duration::from_secs(31)));
}

#[test]
fn core_003_unlimited_history_reads_back() {
    let bus = EventBus::builder("Unlimited").max_history(None).build().unwrap();
    assert_eq!(bus.options().max_history, None);
}

#[test]
fn core_004_disabled_timeouts_read_back() {
    let bus = EventBus::builder("Patient").handler_timeout(None).event_timeout(None).build().unwrap();
    assert_eq!(bus.options().handler_timeout, None);
    assert_eq!(bus.options().event_timeout, None);
}

#[test]
fn core_006_a_given_id_is_kept_and_ends_the_label() {
    let id = BusId("018f8e40-1234-7000-8000-000000001234".parse().unwrap());
    let bus = EventBus::builder("Labelled").id(id).build().unwrap();
    assert_eq!(bus.id(), id);
    assert_eq!(bus.label(), "Labelled#1234");
    assert_eq!(bus.downgrade().label(), "Labelled#1234");
}

#[test]
fn core_009_new_buses_join_the_registry() {
    let runtime = Runtime::builder().build().unwrap();
    let first = bus_on(&runtime, "First");
    assert_eq!(runtime.buses().len(), 1);
    let (second, third) = (bus_on(&runtime, "Second"), bus_on(&runtime, "Third"));
    assert_eq!(runtime.buses().len(), 3);
    for bus in [&first, &second, &third] {
        assert!(lists(&runtime, bus.id()), "{} is missing", bus.label());
    }
}

#[test]
fn core_011_runtimes_are_separate_scopes_with_separate_global_locks() {
    let (a, b) = (Runtime::builder().build().unwrap(), Runtime::builder().build().unwrap());
    let build = |name, runtime| {
        let builder = EventBus::builder(name).runtime(runtime);
        builder.event_concurrency(EventConcurrency::GlobalSerial).build().unwrap()
    };
    let (a1, a2, b1) = (build("a1", &a), build("a2", &a), build("b1", &b));
    assert!(lists(&a, a1.id()) && lists(&a, a2.id()) && !lists(&a, b1.id()));
    assert!(lists(&b, b1.id()) && !lists(&b, a1.id()) && !lists(&b, a2.id()));
    let base = Runtime::global();
    assert!(![&a1, &a2, &b1].into_iter().any(|bus| lists(&base, bus.id())));

    let gate = Gate::new();
    let _opener = gate.opener();
    let (inside, held) = (Gate::new(), gate.clone());
    let entered = inside.clone();
    a1.on(move |_: &Event<Job>| {
        entered.open();
        held.wait();
    });
    let on_a1 = a1.emit(Job { n: 1 });
    inside.wait();
    let seen = gate.clone();
    a2.on(move |_: &Event<Job>| assert!(seen.is_open(), "a2 ran although a1 holds the lock of their runtime"));
    let on_a2 = a2.emit(Job { n: 2 });
    b1.on(|_: &Event<Job>| {});
    done(&b1.emit(Job { n: 3 }));
    assert_eq!(on_a2.status(), EventStatus::Pending);
    assert!(!on_a1.is_completed());
    gate.open();
    assert!(done(&on_a2).errors().is_empty());
}

#[test]
fn core_012_a_dropped_bus_is_not_retained() {
    let runtime = Runtime::builder().build().unwrap();
    let bus = bus_on(&runtime, "Dropped");
    let weak = bus.downgrade();
    assert!(weak.upgrade().is_some());
    bus.on(|_: &Event<Job>| {});
    done(&bus.emit(Job { n: 1 }));
    drop(bus);
    eventually(|| weak.upgrade().is_none());
    eventually(|| runtime.buses().iter().all(|listed| listed.upgrade().is_none()));
}

#[test]
fn core_013_a_hundred_and_twenty_dropped_buses_leave_nothing() {
    struct Tracked(#[allow(dead_code, reason = "only its count matters")] Arc<()>);
    impl Payload for Tracked {
        type Output = ();
    }
    let runtime = Runtime::builder().build().unwrap();
    let alive = Arc::new(());
    let mut weak_buses = Vec::new();
    for n in 0..120 {
        let bus = EventBus::builder(&format!("GC{n}")).runtime(&runtime).max_history(Some(200)).build().unwrap();
        bus.on(|_: &Event<Tracked>| {});
        for _ in 0..200 {
            done(&bus.emit(Tracked(alive.clone())));
        }
        idle(&bus);
        assert_eq!(bus.history_len(), 200);
        weak_buses.push(bus.downgrade());
    }
    eventually(|| weak_buses.iter().all(|weak| weak.upgrade().is_none()));
    eventually(|| runtime.buses().is_empty());
    eventually(|| Arc::strong_count(&alive) == 1);
}

#[test]
fn core_016_a_name_of_a_dropped_bus_is_free_again() {
    let deleted = EventBus::new("GCFree");
    drop(deleted);
    assert_eq!(EventBus::new("GCFree").name(), "GCFree", "after a deleted one, and never assigned itself");
    let weak = EventBus::new("GCFree").downgrade();
    eventually(|| weak.upgrade().is_none());
    let bus = EventBus::new("GCFree");
    assert_eq!(bus.name(), "GCFree");
    assert!(weak.upgrade().is_none(), "a namesake does not revive the old bus");
}

#[test]
fn core_019_a_dead_bus_does_not_count_under_its_name() {
    let runtime = Runtime::builder().build().unwrap();
    drop(bus_on(&runtime, "GCDeadBus"));
    let bus = bus_on(&runtime, "GCDeadBus");
    eventually(|| {
        let live = runtime.buses().into_iter().filter_map(|weak| weak.upgrade());
        let ids: Vec<BusId> = live.filter(|live| live.name() == "GCDeadBus").map(|live| live.id()).collect();
        ids == [bus.id()]
    });
}

#[test]
fn core_020_buses_that_share_a_name_differ_by_label() {
    let buses: Vec<EventBus> = (0..3).map(|_| EventBus::new("Same")).collect();
    for bus in &buses {
        assert_eq!(bus.name(), "Same");
        let id = bus.id().to_string();
        assert_eq!(bus.label(), format!("Same#{}", &id[id.len() - 4..]));
    }
    assert!(buses[0].id() != buses[1].id() && buses[1].id() != buses[2].id() && buses[0].id() != buses[2].id());
}

#[test]
fn core_021_stop_abandons_what_is_pending() {
    let bus = EventBus::new("Stopped");
    let (gate, inside) = (Gate::new(), Gate::new());
    let _opener = gate.opener();
    let (held, entered) = (gate.clone(), inside.clone());
    bus.on_any(move |_| {
        entered.open();
        held.wait();
    });
    let events: Vec<_> = (0..5).map(|n| bus.emit(Job { n })).collect();
    inside.wait();
    let stopped = bus.clone();
    let report = within(PATIENCE, move || stopped.shutdown(Shutdown::Now, Duration::ZERO));
    assert_eq!((report.cancelled, report.abandoned), (4, 1));
    let running = done(&events[0]);
    let [result] = &running.results()[..] else { panic!("one handler, one result") };
    match result.error.as_deref() {
        Some(HandlerFailure::Aborted { cause }) => assert_eq!(cause.kind, CauseKind::Shutdown),
        other => panic!("expected Aborted, got {other:?}"),
    }
    for event in &events[1..] {
        assert_eq!(event.wait_timeout(PATIENCE).unwrap_err(), WaitError::Cancelled);
    }
    assert!(!gate.is_open());
    let refused = bus.emit(Job { n: 9 });
    assert!(refused.is_completed());
    let closed = EmitError::Closed { bus: bus.label().to_owned() };
    assert_eq!(refused.wait_timeout(PATIENCE).unwrap_err(), WaitError::Rejected(closed));
}

#[test]
fn core_022_stop_at_once_frees_the_name() {
    let runtime = Runtime::builder().build().unwrap();
    let bus = bus_on(&runtime, "Restarted");
    let (gate, inside) = stands::<Job>(&bus);
    let _opener = gate.opener();
    let running = bus.emit(Job { n: 1 });
    inside.wait();
    let stopped = bus.clone();
    within(PATIENCE, move || stopped.shutdown(Shutdown::Now, Duration::ZERO));
    assert!(!gate.is_open(), "it returned though the handler stands");
    done(&running);
    assert!(!lists(&runtime, bus.id()));

    let fresh = bus_on(&runtime, "Restarted");
    assert_eq!(fresh.name(), "Restarted");
    fresh.on(|event: &Event<Greeting>| event.text.to_uppercase());
    let greeted = done(&fresh.emit(Greeting { text: "again".into() }));
    assert_eq!(greeted.results()[0].value.as_deref(), Some("AGAIN"));
    let report = within(PATIENCE, move || fresh.shutdown(Shutdown::Drain, PATIENCE));
    assert_eq!((report.cancelled, report.abandoned), (0, 0));
}

#[test]
fn core_023_shutdown_clears_the_bus() {
    let runtime = Runtime::builder().build().unwrap();
    let bus = bus_on(&runtime, "Cleared");
    let info = bus.on(|_: &Event<Job>| {});
    let event = done(&bus.emit(Job { n: 1 }));
    assert_eq!((bus.handlers().len(), bus.history_len()), (1, 1));
    let stopped = bus.clone();
    within(PATIENCE, move || stopped.shutdown(Shutdown::Drain, PATIENCE));
    assert_eq!(bus.pending(), 0);
    assert!(bus.is_idle());
    assert!(!lists(&runtime, bus.id()));
    assert!(!bus.on(|_: &Event<Other>| {}).is_registered());
    assert!(bus.handlers().is_empty());
    assert!(!info.is_registered());
    assert_eq!(bus.history_len(), 0);
    assert_eq!(event.results().len(), 1, "handles work on");
}

#[test]
fn core_024_waiting_for_idle_gives_up_after_its_timeout() {
    let bus = EventBus::new("Idle");
    let gate = Gate::new();
    let _opener = gate.opener();
    let held = gate.clone();
    bus.on(move |_: &Event<Job>| held.wait());
    let event = bus.emit(Job { n: 1 });
    let (start, limit) = (Instant::now(), Duration::from_millis(50));
    assert_eq!(bus.wait_until_idle_timeout(limit).unwrap_err(), WaitError::Timeout(limit));
    assert!(start.elapsed() >= limit);
    assert!(!bus.is_idle());
    gate.open();
    let waiting = bus.clone();
    within(PATIENCE, move || waiting.wait_until_idle()).unwrap();
    assert!(bus.is_idle());
    assert!(event.is_completed());
}

#[test]
fn core_025_waiting_for_idle_leaves_a_running_handler_alone() {
    let bus = EventBus::new("Running");
    let (gate, inside) = (Gate::new(), Gate::new());
    let _opener = gate.opener();
    let (held, entered) = (gate.clone(), inside.clone());
    bus.on(move |_: &Event<Greeting>| {
        entered.open();
        held.wait();
        "finished".to_owned()
    });
    let event = bus.emit(Greeting { text: String::new() });
    inside.wait();
    assert!(bus.wait_until_idle_timeout(Duration::from_millis(10)).is_err());
    assert!(!event.is_completed());
    gate.open();
    done(&event);
    idle(&bus);
    assert_eq!(event.results()[0].value.as_deref(), Some("finished"));
}

#[test]
fn core_032_an_event_without_handlers_completes() {
    let bus = EventBus::new("Nobody");
    let event = bus.emit(Job { n: 1 });
    let waited = within(PATIENCE, move || event.wait_in_order()).unwrap();
    assert_eq!(waited.status(), EventStatus::Completed);
}

#[test]
fn core_033_emit_hands_back_the_event_before_it_starts() {
    let bus = EventBus::new("Handed");
    bus.pause();
    let event = bus.emit(Greeting { text: "hello".into() });
    assert_eq!(event.text, "hello");
    assert_eq!(event.event_type(), "Greeting");
    assert_eq!(bus.event(event.id()).map(|found| found.created_at()), Some(event.created_at()));
    assert_eq!(event.path(), [bus.label()]);
    assert_eq!(event.status(), EventStatus::Pending);
    assert_eq!((event.started_at(), event.completed_at()), (None, None));
    bus.resume();
    assert_eq!(done(&event).id(), event.id());
}

#[test]
fn core_034_status_is_started_inside_and_completed_after() {
    let bus = EventBus::new("Status");
    let log = Log::new();
    let seen = log.clone();
    bus.on(move |event: &Event<Job>| {
        seen.push(format!("{:?} {} {}", event.status(), event.started_at().is_some(), event.completed_at().is_some()))
    });
    let event = done(&bus.emit(Job { n: 1 }));
    assert_eq!(log.entries(), ["Started true false"]);
    assert_eq!(event.status(), EventStatus::Completed);
    assert!(event.created_at() < event.started_at().unwrap());
    assert!(event.started_at().unwrap() < event.completed_at().unwrap());
}

#[test]
fn core_035_without_handlers_both_timestamps_are_set() {
    let bus = EventBus::new("Unheard");
    let event = done(&bus.emit(Job { n: 1 }));
    assert_eq!(event.status(), EventStatus::Completed);
    assert!(event.results().is_empty());
    assert!(event.started_at().unwrap() <= event.completed_at().unwrap());
    assert_eq!(bus.history_len(), 1);
}

#[test]
fn core_037_two_batches_of_fifty() {
    let bus = EventBus::builder("Throughput").max_history(None).build().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    bus.on(move |_: &Event<Job>| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    for batch in 0..2 {
        let events: Vec<_> = (0..50).map(|n| bus.emit(Job { n: batch * 50 + n })).collect();
        for event in &events {
            done(event);
        }
    }
    assert_eq!(count.load(Ordering::SeqCst), 100);
    assert_eq!(bus.history_len(), 100);
    assert!(bus.history().iter().all(|event| event.status() == EventStatus::Completed));
}

#[test]
fn core_039_emit_returns_before_the_handler_and_wait_after_it() {
    let bus = EventBus::new("Order");
    let (log, gate) = (Log::new(), Gate::new());
    let _opener = gate.opener();
    let (inner, held) = (log.clone(), gate.clone());
    bus.on(move |_: &Event<Job>| {
        held.wait();
        inner.push("handler_done");
    });
    let event = bus.emit(Job { n: 1 });
    log.push("enqueue_done");
    gate.open();
    done(&event);
    log.push("wait_done");
    assert_eq!(log.entries(), ["enqueue_done", "handler_done", "wait_done"]);
    assert!(event.completed_at().is_some());
}

#[test]
fn core_040_events_of_two_types_awaited_together() {
    let bus = EventBus::new("TwoTypes");
    bus.on(|_: &Event<Job>| {});
    bus.on(|_: &Event<Other>| {});
    let (a, b, c) = (bus.emit(Job { n: 1 }), bus.emit(Other { n: 2 }), bus.emit(Job { n: 3 }));
    let waited: [AnyEvent; 3] = [done(&a).into(), done(&b).into(), done(&c).into()];
    for event in waited {
        assert!(event.completed_at().is_some());
        assert_eq!(event.results()[0].status, ResultStatus::Completed);
    }
}

payload!(Nested {
    rows: Vec<BTreeMap<String, Vec<u8>>>,
    lists: BTreeMap<String, Vec<Option<i32>>>,
    at: chrono::DateTime<chrono::Utc>,
    nothing: Option<String>,
} => u8);

#[test]
fn core_041_a_nested_payload_reads_back_unchanged() {
    let bus = EventBus::new("Nested");
    bus.on(|event: &Event<Nested>| event.rows[0]["deep"][1]);
    let at = chrono::DateTime::from_timestamp(1_735_787_045, 678_901_234).unwrap();
    let sent = Nested {
        rows: vec![BTreeMap::from([("deep".to_owned(), vec![1, 2, 3])])],
        lists: BTreeMap::from([("list".to_owned(), vec![Some(-1), None])]),
        at,
        nothing: None,
    };
    let event = done(&bus.emit(sent.clone()));
    assert_eq!(event.results()[0].value, Some(2));
    assert_eq!(event.rows, sent.rows);
    assert_eq!(event.lists, sent.lists);
    assert_eq!((event.at, &event.nothing), (at, &None));
}

#[test]
fn core_045_a_copy_of_a_pending_event_has_no_timestamps_yet() {
    let bus = EventBus::new("Copied");
    bus.pause();
    let event = bus.emit(Job { n: 1 });
    let copy = event.clone();
    assert_eq!((copy.started_at(), copy.completed_at()), (None, None));
    bus.resume();
    done(&event);
    assert_eq!(copy.completed_at(), event.completed_at(), "it is the same event");
    assert!(copy.completed_at().is_some());
}

#[test]
fn core_046_a_result_edited_later_does_not_touch_the_event() {
    let bus = EventBus::new("Edited");
    bus.on(|_: &Event<Job>| {});
    let event = done(&bus.emit(Job { n: 1 }));
    let started = event.started_at();
    let mut results = event.results();
    let original = results[0].started_at;
    assert!(original.is_some() && started <= original);
    results[0].started_at = chrono::DateTime::from_timestamp(1_577_836_800, 0);
    assert_eq!(event.started_at(), started);
    assert_eq!(event.results()[0].started_at, original);
}

#[test]
fn core_047_status_goes_from_pending_to_started_to_completed() {
    let bus = EventBus::new("Steps");
    let (gate, inside) = stands::<Job>(&bus);
    let _opener = gate.opener();
    bus.pause();
    let event = bus.emit(Job { n: 1 });
    assert_eq!(event.status(), EventStatus::Pending);
    bus.resume();
    inside.wait();
    assert_eq!(event.status(), EventStatus::Started);
    gate.open();
    assert_eq!(done(&event).status(), EventStatus::Completed);
}
