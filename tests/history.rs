//! Conformance, section HIST: how long a bus remembers its events, and what happens to those it forgets.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, payload, warnings_naming, within};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use threadbus::{
    AnyEvent, EmitError, Event, EventBus, EventConcurrency, EventId, EventOptions, EventStatus, HistoryPolicy,
    Middleware, OnFull, Payload, WaitError,
};

payload!(Seq { n: usize } => usize);

/// The numbers of the events that `bus` remembers, in emit order.
fn remembered(bus: &EventBus) -> Vec<usize> {
    let number = |event: AnyEvent| event.payload::<Seq>().map(|seq| seq.n).unwrap();
    bus.history().into_iter().map(number).collect()
}

#[test]
fn hist_001_a_full_history_drops_the_oldest_completed() {
    let bus = EventBus::builder("Trim").max_history(Some(5)).build().unwrap();
    bus.on(|event: &Event<Seq>| event.n);
    for n in 0..10 {
        bus.emit(Seq { n });
    }
    idle(&bus);
    assert_eq!(remembered(&bus), [5, 6, 7, 8, 9]);
    assert_eq!(bus.history_len(), 5);
}

#[test]
fn hist_001b_a_running_event_outlives_completed_ones() {
    // Jumped and completed ones are newer than the parent that still runs: they go first.
    let bus = EventBus::builder("TrimRunning").max_history(Some(2)).build().unwrap();
    let weak = bus.downgrade();
    let log = Log::new();
    let seen = log.clone();
    bus.on(move |event: &Event<Seq>| {
        if event.n == 0 {
            let bus = weak.upgrade().unwrap();
            for n in 1..=3 {
                bus.emit(Seq { n }).wait().unwrap();
            }
            seen.push(format!("{:?}", remembered(&bus)));
        }
        event.n
    });
    done(&bus.emit(Seq { n: 0 }));
    assert_eq!(log.entries(), ["[0, 3]"]);
}

#[test]
fn hist_002_an_unlimited_history_keeps_everything() {
    let bus = EventBus::builder("Unlimited").max_history(None).build().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let counter = ran.clone();
    bus.on(move |event: &Event<Seq>| {
        counter.fetch_add(1, Ordering::SeqCst);
        event.n
    });
    for n in 0..150 {
        assert!(bus.try_emit(Seq { n }).is_ok(), "event {n} was refused");
    }
    idle(&bus);
    assert_eq!(remembered(&bus), (0..150).collect::<Vec<_>>());
    assert!(bus.history().iter().all(|event| event.status() == EventStatus::Completed));
    assert_eq!(ran.load(Ordering::SeqCst), 150);
}

#[test]
fn hist_003_a_full_history_may_refuse() {
    let bus = EventBus::builder("Reject").max_history(Some(2)).history_policy(HistoryPolicy::Reject).build().unwrap();
    let log = Log::new();
    let ran = log.clone();
    bus.on(move |event: &Event<Seq>| {
        ran.push(event.n);
        event.n
    });
    // Completed ones make room.
    for n in 0..5 {
        done(&bus.emit(Seq { n }));
    }
    assert_eq!(remembered(&bus), [3, 4]);
    bus.pause();
    let queued: Vec<_> = (5..7).map(|n| bus.emit(Seq { n })).collect();
    assert_eq!(remembered(&bus), [5, 6]);

    let full = EmitError::HistoryFull { bus: bus.label().to_owned(), limit: 2 };
    let refused = bus.try_emit(Seq { n: 7 }).unwrap_err();
    assert_eq!(refused.error, full);
    assert_eq!(refused.payload.n, 7, "it hands back what was not emitted");
    assert!(refused.to_string().contains("full (2)"), "{refused}");

    let event = bus.emit(Seq { n: 8 });
    assert!(event.is_completed(), "refused at once");
    assert_eq!(event.wait().unwrap_err(), WaitError::Rejected(full));
    assert_eq!((bus.history_len(), bus.pending()), (2, 2));
    queued[0].cancel();
    assert!(bus.try_emit(Seq { n: 9 }).is_ok(), "what was cancelled makes room as well");
    assert_eq!(remembered(&bus), [6, 9]);
    bus.resume();
    idle(&bus);
    assert_eq!(log.entries(), ["0", "1", "2", "3", "4", "6", "9"], "what was refused never runs");
}

#[test]
fn a_forward_to_a_full_history_finds_room_where_something_has_completed() {
    let (source, bus) = (
        EventBus::new("Source"),
        EventBus::builder("RejectForwards").max_history(Some(1)).history_policy(HistoryPolicy::Reject).build().unwrap(),
    );
    let results = source.forward_to::<Seq>(&bus);
    bus.on(|event: &Event<Seq>| event.n);
    for n in 0..3 {
        assert!(done(&source.emit(Seq { n })).errors().is_empty());
    }
    bus.pause();
    source.emit(Seq { n: 3 });
    eventually(|| remembered(&bus) == [3]);
    let refused = source.emit(Seq { n: 4 });
    eventually(|| refused.is_completed());
    let error = refused.results().into_iter().find(|r| r.handler.id() == results.id()).unwrap().error.unwrap();
    assert!(error.to_string().contains("full (1)"), "{error}");
    bus.resume();
}

#[test]
fn unfinished_ones_can_be_kept_and_looked_up_while_they_run() {
    for parallel in [false, true] {
        let mut builder = EventBus::builder("Keep").max_history(Some(3)).history_policy(HistoryPolicy::KeepUnfinished);
        if parallel {
            builder = builder.event_concurrency(threadbus::EventConcurrency::Parallel);
        }
        let bus = builder.build().unwrap();
        let warned = warnings_naming(bus.label());
        let gate = Gate::new();
        let (held, _opener) = (gate.clone(), gate.opener());
        bus.on(move |event: &Event<Seq>| {
            held.wait();
            event.n
        });
        let events: Vec<_> = (0..200).map(|n| bus.emit(Seq { n })).collect();
        assert_eq!(bus.history_len(), 200);
        assert!(events.iter().all(|event| bus.event(event.id()).is_some()));
        gate.open();
        idle(&bus);
        assert_eq!(bus.history_len(), 3, "what has completed goes at once");
        if !parallel {
            assert_eq!(remembered(&bus), [197, 198, 199]);
        }
        assert!(warned().is_empty(), "{:?}", warned());
        for n in 200..300 {
            done(&bus.emit(Seq { n }));
        }
        assert_eq!(bus.history_len(), 3);
    }
}

#[test]
fn what_completed_elsewhere_leaves_one_by_one() {
    let (bus, other) = (
        EventBus::builder("KeepHere")
            .max_history(Some(2))
            .history_policy(HistoryPolicy::KeepUnfinished)
            .build()
            .unwrap(),
        EventBus::new("There"),
    );
    let gate = Gate::new();
    let (held, _opener) = (gate.clone(), gate.opener());
    other.on(move |event: &Event<Seq>| {
        held.wait();
        event.n
    });
    bus.forward_to::<Seq>(&other);
    let events: Vec<_> = (0..20).map(|n| bus.emit(Seq { n })).collect();
    idle(&bus);
    assert_eq!(bus.history_len(), 20, "they run on the other one");
    gate.open();
    events.iter().for_each(|event| drop(done(event)));
    // Two go for each that comes.
    for n in 20..60 {
        done(&bus.emit(Seq { n }));
    }
    assert!(bus.history_len() <= 3, "{}", bus.history_len());
}

#[test]
fn a_long_backlog_is_two_warnings_with_a_count() {
    let bus = EventBus::builder("Backlog").max_history(Some(10)).build().unwrap();
    let warned = warnings_naming(bus.label());
    bus.pause();
    // Now and then something completes, which is no reason to begin anew.
    for n in 0..1000 {
        let event = bus.emit(Seq { n });
        if n % 100 == 99 {
            event.cancel();
        }
    }
    eventually(|| !warned().is_empty());
    assert_eq!(warned().len(), 1, "{:?}", warned());
    for part in
        ["Seq#", "max_history 10", "HistoryPolicy::DropOldest", "HistoryPolicy::KeepUnfinished", "once a minute"]
    {
        assert!(warned()[0].contains(part), "{:?}", warned());
    }
    bus.shutdown(threadbus::Shutdown::Now, common::PATIENCE);
    eventually(|| warned().len() == 2);
    assert!(warned()[1].contains(" more left the full history"), "{:?}", warned());
    let told: u64 = warned()[1].split(' ').next().unwrap().parse().unwrap();
    assert!((900..=990).contains(&told), "{told}");
}

#[test]
fn hist_004_size_zero_never_refuses_and_ends_empty() {
    let bus = EventBus::builder("Zero").max_history(Some(0)).history_policy(HistoryPolicy::Reject).build().unwrap();
    let (gate, inside) = (Gate::new(), Gate::new());
    let _opener = gate.opener();
    let (held, entered) = (gate.clone(), inside.clone());
    bus.on(move |event: &Event<Seq>| {
        entered.open();
        held.wait();
        event.n
    });
    let events: Vec<_> = (0..25).map(|n| bus.try_emit(Seq { n }).unwrap()).collect();
    inside.wait();
    assert_eq!(bus.pending(), 24);
    assert_eq!(bus.history_len(), 25, "unfinished ones are kept");
    gate.open();
    for (n, event) in events.iter().enumerate() {
        assert_eq!(done(event).results()[0].value, Some(n));
    }
    idle(&bus);
    assert_eq!((bus.history_len(), bus.pending()), (0, 0));
}

#[test]
fn hist_005_size_zero_keeps_what_is_in_flight() {
    let bus = EventBus::builder("InFlight").max_history(Some(0)).build().unwrap();
    let gate = Gate::new();
    let _opener = gate.opener();
    let held = gate.clone();
    bus.on(move |event: &Event<Seq>| {
        held.wait();
        event.n
    });
    let (first, second) = (bus.emit(Seq { n: 1 }), bus.emit(Seq { n: 2 }));
    assert!(bus.event(first.id()).is_some() && bus.event(second.id()).is_some());
    assert_eq!(remembered(&bus), [1, 2]);
    gate.open();
    done(&second);
    idle(&bus);
    assert_eq!(bus.history_len(), 0);
    assert!(bus.event(first.id()).is_none() && bus.event(second.id()).is_none());
}

#[test]
fn hist_007_with_nothing_completed_the_oldest_leaves_with_a_warning_and_still_runs() {
    let bus = EventBus::builder("EvictPending").max_history(Some(2)).build().unwrap();
    let log = Log::new();
    let (gate, inside) = (Gate::new(), Gate::new());
    let _opener = gate.opener();
    let (held, entered, ran) = (gate.clone(), inside.clone(), log.clone());
    bus.on(move |event: &Event<Seq>| {
        entered.open();
        held.wait();
        ran.push(event.n);
        event.n
    });
    let warned = warnings_naming(bus.label());
    let running = bus.emit(Seq { n: 0 });
    inside.wait();
    let queued: Vec<_> = (1..5).map(|n| bus.emit(Seq { n })).collect();
    assert_eq!(remembered(&bus), [3, 4]);
    assert!(bus.event(running.id()).is_none());
    let evicted = running.to_string();
    eventually(|| warned().iter().any(|message| message.contains(&evicted)));
    gate.open();
    for event in queued.iter().chain([&running]) {
        assert_eq!(done(event).results()[0].value, Some(event.n), "its handle and waiters work on");
    }
    idle(&bus);
    assert_eq!(log.entries(), ["0", "1", "2", "3", "4"]);
    assert_eq!(remembered(&bus), [3, 4]);
}

/// A payload that is counted while it lives.
struct Kept {
    n: u32,
    alive: Arc<AtomicUsize>,
}

impl Kept {
    fn new(n: u32, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Kept { n, alive: Arc::clone(alive) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Payload for Kept {
    type Output = ();
}

#[test]
fn what_left_the_history_early_lives_for_three_batches_more_at_most_and_none_when_idle() {
    let bus = EventBus::builder("backlog").max_history(Some(40)).handler_timeout(None).build().unwrap();
    let alive = Arc::new(AtomicUsize::new(0));
    let (first, last) = (Gate::new(), Gate::new());
    let _openers = (first.opener(), last.opener());
    let (before, after, count) = (first.clone(), last.clone(), Arc::clone(&alive));
    let peak = Arc::new(AtomicUsize::new(0));
    let highest = Arc::clone(&peak);
    bus.on(move |event: &Event<Kept>| match event.n {
        0 => before.wait(),
        999 => {
            highest.store(count.load(Ordering::SeqCst), Ordering::SeqCst);
            after.wait();
        }
        _ => {}
    });
    for n in 0..1000 {
        bus.emit(Kept::new(n, &alive));
    }
    assert_eq!(alive.load(Ordering::SeqCst), 1000, "each is in the history or in the queue");
    first.open();
    eventually(|| peak.load(Ordering::SeqCst) > 0);
    let kept = peak.load(Ordering::SeqCst);
    assert!((40..=40 + 3 * 32).contains(&kept), "{kept} are kept while the last one runs");
    last.open();
    idle(&bus);
    eventually(|| alive.load(Ordering::SeqCst) == 40);
    assert_eq!(bus.history_len(), 40);

    // Those who emit beside it free them; none is lost, and none is freed twice.
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (1..=5000).for_each(|n| drop(bus.emit(Kept::new(if n == 999 { 1 } else { n }, &alive)))));
        }
    });
    idle(&bus);
    eventually(|| alive.load(Ordering::SeqCst) == 40);
    drop(bus);
    eventually(|| alive.load(Ordering::SeqCst) == 0);
}

/// Emitters race; what the bus took first has the lower id, and runs and is seen first.
#[test]
fn history_runs_and_subscribers_are_in_the_order_of_ids() {
    type Emit = fn(&EventBus, usize) -> Event<Seq>;
    let plain: Emit = |bus, n| bus.emit(Seq { n });
    let with_options: Emit = |bus, n| bus.emit_with(Seq { n }, EventOptions::new().correlation_id("race"));
    let blocking: Emit = |bus, n| bus.emit(Seq { n });
    for (name, emit, capacity) in [("plain", plain, None), ("with", with_options, None), ("full", blocking, Some(3))] {
        within(PATIENCE, move || {
            let mut builder = EventBus::builder("Race").max_history(None);
            if let Some(capacity) = capacity {
                builder = builder.queue_capacity(capacity, OnFull::Block);
            }
            let bus = builder.build().unwrap();
            let mut seen = bus.subscribe_any();
            let ran = Arc::new(Mutex::new(Vec::new()));
            let runs = Arc::clone(&ran);
            bus.on(move |event: &Event<Seq>| {
                runs.lock().unwrap().push(event.id());
                event.n
            });
            thread::scope(|scope| {
                for at in 0..4 {
                    let bus = &bus;
                    scope.spawn(move || (0..1000).for_each(|n| drop(emit(bus, at * 1000 + n))));
                }
            });
            idle(&bus);
            let ids: Vec<_> = bus.history().iter().map(AnyEvent::id).collect();
            assert_eq!(ids.len(), 4000);
            assert!(ids.is_sorted(), "{name}");
            assert_eq!(*ran.lock().unwrap(), ids, "{name}");
            let seen: Vec<_> = std::iter::from_fn(|| seen.try_recv().ok()).map(|event| event.id()).collect();
            assert_eq!(seen, ids, "{name}");
            assert!(bus.history().is_sorted_by_key(AnyEvent::created_at), "{name}");
        });
    }
}

/// What runs on the emitting threads is no exception, nor is what handlers emit meanwhile.
#[test]
fn history_is_in_the_order_of_ids_when_handlers_emit_as_well() {
    payload!(Child { n: usize } => ());
    within(PATIENCE, || {
        let bus = EventBus::builder("Race").max_history(None).event_concurrency(EventConcurrency::Parallel);
        let bus = bus.build().unwrap();
        bus.on(|_: &Event<Child>| ());
        bus.on(|event: &Event<Seq>| {
            (0..3).for_each(|n| drop(event.bus().emit(Child { n })));
            event.n
        });
        thread::scope(|scope| {
            for at in 0..3 {
                let bus = &bus;
                scope.spawn(move || {
                    for n in 0..200 {
                        drop(if at == 0 { bus.emit_now(Seq { n }) } else { bus.emit(Seq { n }) });
                    }
                });
            }
        });
        idle(&bus);
        let events = bus.history();
        assert_eq!(events.len(), 3 * 200 * 4);
        assert!(events.is_sorted_by_key(AnyEvent::id));
        assert!(events.iter().flat_map(AnyEvent::children).all(|child| child.parent().unwrap().id() < child.id()));
    });
}

/// A middleware has seen the id before the bus takes the event.
#[test]
fn a_middleware_sees_the_id_that_an_event_keeps() {
    struct Notes(Arc<Mutex<Vec<EventId>>>);
    impl Middleware for Notes {
        fn on_emit(&self, _: &EventBus, event: &AnyEvent) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            self.0.lock().unwrap().push(event.id());
            Ok(())
        }
    }
    within(PATIENCE, || {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let bus = EventBus::builder("Asked").max_history(None).middleware(Notes(Arc::clone(&asked))).build().unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|n| drop(bus.emit(Seq { n }))));
            }
        });
        idle(&bus);
        let mut asked = asked.lock().unwrap().clone();
        let mut kept: Vec<_> = bus.history().iter().map(AnyEvent::id).collect();
        asked.sort_unstable();
        kept.sort_unstable();
        assert_eq!(asked, kept);
    });
}
