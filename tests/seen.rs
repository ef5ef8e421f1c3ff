//! An id runs once on a bus, whoever gave it and whichever way it comes back; what was refused has not run, and may come again.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, lock, within};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use threadbus::{
    AnyEvent, BoxError, BusBuilder, BusId, EmitError, Event, EventBus, EventConcurrency, EventId, EventOptions,
    HandlerOptions, HistoryPolicy, Json, JsonError, Middleware, OnFull, Shutdown, WaitError, event,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    n: u32,
}
event!(Note => u32);

/// Remembers as little as can be.
fn forgetful(name: &str) -> BusBuilder {
    EventBus::builder(name).max_history(Some(1))
}

/// The numbers that ran there.
fn counting(bus: &EventBus) -> Log {
    let log = Log::new();
    let runs = log.clone();
    bus.on(move |note: &Event<Note>| {
        runs.push(note.n);
        note.n
    });
    log
}

/// So that nothing of before is in the history.
fn push_out(bus: &EventBus) {
    done(&bus.emit_json(&json!({ "event_type": "Other" })).unwrap());
    eventually(|| {
        idle(bus);
        bus.history_len() <= 1
    });
}

fn text(event: impl AsRef<AnyEvent>) -> Json {
    event.as_ref().to_json().unwrap()
}

/// It is a duplicate, in every way in which it can come.
#[track_caller]
fn is_known(bus: &EventBus, event: &Json) {
    let id: EventId = serde_json::from_value(event["event_id"].clone()).unwrap();
    let is_duplicate = |error: &EmitError| matches!(error, EmitError::DuplicateId { id: of, .. } if *of == id);
    for came in [bus.emit_json(event).unwrap(), bus.emit_json_str(&event.to_string()).unwrap()] {
        let waited = came.wait_timeout(PATIENCE);
        assert!(matches!(&waited, Err(WaitError::Rejected(error)) if is_duplicate(error)), "{waited:?}");
    }
    let refused = bus.try_emit_with(Note { n: 0 }, EventOptions::new().id(id)).unwrap_err();
    assert!(is_duplicate(&refused.error), "{}", refused.error);
}

#[test]
fn whichever_way_a_bus_gave_an_id_it_knows_it() {
    let bus = forgetful("Ways").build().unwrap();
    let runs = counting(&bus);
    bus.on_named("Outer", |outer| drop(outer.bus().emit(Note { n: 7 })));
    let kept = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&kept);
    bus.on_any(move |event| {
        if event.event_type() == "Note" {
            lock(&all).push(text(event));
        }
    });
    bus.emit(Note { n: 1 });
    bus.emit_with(Note { n: 2 }, EventOptions::new().correlation_id("c"));
    drop(bus.try_emit(Note { n: 3 }).unwrap());
    bus.emit_now(Note { n: 4 });
    bus.emit_json(&json!({ "event_type": "Note", "n": 5 })).unwrap();
    bus.emit_after(Duration::ZERO, Note { n: 6 });
    done(&bus.emit_json(&json!({ "event_type": "Outer" })).unwrap());
    eventually(|| runs.len() == 7);
    idle(&bus);
    push_out(&bus);
    let kept = lock(&kept).clone();
    assert_eq!(kept.len(), 7);
    kept.iter().for_each(|event| is_known(&bus, event));
    idle(&bus);
    assert_eq!(runs.len(), 7);
}

#[test]
fn a_crowd_that_comes_back_does_not_run_again() {
    let bus =
        EventBus::builder("Crowd").max_history(Some(0)).event_concurrency(EventConcurrency::Parallel).build().unwrap();
    let runs = counting(&bus);
    let texts: Vec<String> = thread::scope(|scope| {
        // Events that are emitted at once change their ids on the way in.
        let emit = || (0..1000).map(|n| text(bus.emit(Note { n })).to_string()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(emit)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    idle(&bus);
    for text in &texts {
        let came = bus.emit_json_str(text).unwrap().wait_timeout(PATIENCE);
        assert!(matches!(came, Err(WaitError::Rejected(EmitError::DuplicateId { .. }))), "{came:?}");
    }
    assert_eq!(runs.len(), 4000);
}

/// Each bus's events go as text to the other, as between two processes.
fn bridge(from: &EventBus, to: &EventBus, passed: &Arc<AtomicUsize>) -> thread::JoinHandle<()> {
    let mut events = from.subscribe_any();
    let (to, passed) = (to.downgrade(), Arc::clone(passed));
    thread::spawn(move || {
        while let (Ok(event), Some(to)) = (events.recv(), to.upgrade()) {
            drop(to.emit_json_str(&text(&event).to_string()));
            passed.fetch_add(1, SeqCst);
        }
    })
}

#[test]
fn two_bridged_buses_run_each_event_once() {
    within(6 * PATIENCE, || {
        let [a, b] = ["A", "B"].map(EventBus::new);
        let (on_a, on_b) = (counting(&a), counting(&b));
        let passed = Arc::new(AtomicUsize::new(0));
        let bridges = [bridge(&a, &b, &passed), bridge(&b, &a, &passed)];
        (0..2000).for_each(|n| drop(a.emit(Note { n })));
        (2000..2500).for_each(|n| drop(b.emit(Note { n })));
        // Each goes over, and comes back once.
        eventually(|| passed.load(SeqCst) == 5000);
        let _ = (idle(&a), idle(&b));
        assert_eq!((on_a.len(), on_b.len(), passed.load(SeqCst)), (2500, 2500, 5000));
        drop((a, b));
        bridges.into_iter().for_each(|bridge| bridge.join().unwrap());
    });
}

#[test]
fn an_id_of_another_bus_of_the_process_is_new_here() {
    let [a, b] = ["A", "B"].map(|name| forgetful(name).build().unwrap());
    let (on_a, on_b) = (counting(&a), counting(&b));
    // Before and after ids of its own.
    for n in 0..50 {
        done(&b.emit(Note { n: 1000 + n }));
        let event = text(done(&a.emit(Note { n })));
        done(&b.emit(Note { n: 2000 + n }));
        done(&b.emit_json(&event).unwrap());
        push_out(&b);
        is_known(&b, &event);
        push_out(&a);
        is_known(&a, &event);
    }
    assert_eq!((on_a.len(), on_b.len()), (50, 150));
}

#[test]
fn a_bus_that_is_made_anew_has_seen_nothing() {
    let id = BusId(uuid::Uuid::from_u128(0x018f_8e40_1234_7000_8000_0000_0000_0abc));
    let make = || forgetful("Again").id(id).build().unwrap();
    let event = {
        let bus = make();
        text(done(&bus.emit(Note { n: 1 })))
    };
    eventually(|| forgetful("Again").id(id).build().is_ok());
    let bus = make();
    let runs = counting(&bus);
    done(&bus.emit_json(&event).unwrap());
    push_out(&bus);
    is_known(&bus, &event);
    assert_eq!(runs.entries(), ["1"]);
}

#[test]
fn what_waits_in_the_queue_is_the_answer_and_what_was_dropped_there_is_known() {
    let bus = EventBus::builder("Queue").queue_capacity(2, OnFull::DropOldest).max_history(Some(2)).build().unwrap();
    let runs = counting(&bus);
    bus.pause();
    let first = bus.emit(Note { n: 1 });
    assert_eq!(bus.emit_json(&text(&first)).unwrap().status(), first.status());
    (2..=4).for_each(|n| drop(bus.emit(Note { n })));
    assert_eq!(first.wait_timeout(PATIENCE).unwrap_err(), WaitError::Dropped);
    is_known(&bus, &text(&first));
    bus.resume();
    idle(&bus);
    is_known(&bus, &text(&first));
    assert_eq!(runs.entries(), ["3", "4"]);
}

struct Passes;
impl Middleware for Passes {}

#[derive(Default)]
struct Doorman(AtomicUsize);
impl Middleware for Doorman {
    fn on_emit(&self, _: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
        let is_first = event.event_type() == "Note" && self.0.fetch_add(1, SeqCst) == 0;
        if is_first { Err("not yet".into()) } else { Ok(()) }
    }
}

#[test]
fn what_was_refused_runs_when_it_comes_again() {
    type Make = fn(BusBuilder) -> BusBuilder;
    let cases: [(&str, Make); 6] = [
        ("queue", |b| b.queue_capacity(1, OnFull::Reject)),
        ("history", |b| b.history_policy(HistoryPolicy::Reject)),
        ("rate", |b| b.max_emit_rate(20.0, 1).queue_capacity(9, OnFull::Reject)),
        ("handler", |b| b.require_handler(true)),
        ("middleware", |b| b.middleware(Doorman::default())),
        ("queue, inline", |b| b.queue_capacity(1, OnFull::BlockFor(Duration::from_millis(1)))),
    ];
    for (name, make) in cases {
        for watched in [false, true] {
            let builder = make(forgetful(name));
            let bus = if watched { builder.middleware(Passes).build() } else { builder.build() }.unwrap();
            bus.on_named("Other", |_| {});
            let runs = if name == "handler" { Log::new() } else { counting(&bus) };
            bus.pause();
            if name != "handler" && name != "middleware" {
                bus.emit_json(&json!({ "event_type": "Other" })).unwrap();
            }
            let by_emit = bus.emit(Note { n: 1 });
            assert!(matches!(by_emit.wait(), Err(WaitError::Rejected(_))), "{name}: {by_emit:?}");
            let by_json = match name {
                "middleware" => None,
                _ => Some(bus.emit_json(&json!({ "event_type": "Note", "n": 2 })).unwrap()),
            };
            assert!(by_json.iter().all(|event| matches!(event.wait(), Err(WaitError::Rejected(_)))), "{name}");
            bus.resume();
            idle(&bus);
            let runs = if name == "handler" { counting(&bus) } else { runs };
            let texts: Vec<_> =
                [Some(by_emit.into()), by_json].into_iter().flatten().map(|event: AnyEvent| text(event)).collect();
            for event in &texts {
                eventually(|| bus.emit_json(event).unwrap().wait_timeout(PATIENCE).is_ok());
                eventually(|| {
                    drop(bus.emit_json(&json!({ "event_type": "Other" })));
                    idle(&bus);
                    bus.history().iter().all(|event| event.event_type() == "Other")
                });
                is_known(&bus, event);
            }
            assert_eq!(runs.len(), texts.len(), "{name}, watched: {watched}");
        }
    }
}

#[test]
fn what_a_given_up_handler_emits_in_vain_may_come_again() {
    let bus =
        EventBus::builder("Late").event_concurrency(EventConcurrency::Parallel).max_history(Some(1)).build().unwrap();
    let runs = counting(&bus);
    let (gate, late) = (Gate::new(), Arc::new(Mutex::new(None)));
    let _open = gate.opener();
    let (stands, kept) = (gate.clone(), Arc::clone(&late));
    bus.on_named_with("Slow", HandlerOptions::new().timeout(Duration::from_millis(5)), move |slow| {
        stands.wait();
        *lock(&kept) = Some(slow.bus().emit(Note { n: 1 }));
    });
    done(&bus.emit_json(&json!({ "event_type": "Slow" })).unwrap());
    gate.open();
    eventually(|| lock(&late).is_some());
    let late = lock(&late).clone().unwrap();
    assert_eq!(late.wait().unwrap_err(), WaitError::Rejected(EmitError::Aborted));
    done(&bus.emit_json(&text(&late)).unwrap());
    push_out(&bus);
    is_known(&bus, &text(&late));
    assert_eq!(runs.entries(), ["1"]);
}

#[test]
fn what_a_closed_bus_refused_runs_elsewhere_and_comes_home_by_forward() {
    let [closed, open] = ["Closed", "Open"].map(|name| forgetful(name).build().unwrap());
    let runs = counting(&open);
    closed.shutdown(Shutdown::Drain, PATIENCE);
    let refused = closed.emit(Note { n: 1 });
    let event = done(&open.emit_json(&text(&refused)).unwrap());
    open.forward(&event).unwrap();
    push_out(&open);
    is_known(&open, &text(&refused));
    assert_eq!(runs.entries(), ["1"]);
}

/// Sends what is about to come out, and home again, before it has come.
#[derive(Clone, Default)]
struct Echo(Arc<Mutex<Vec<Result<AnyEvent, JsonError>>>>);
impl Middleware for Echo {
    fn on_emit(&self, bus: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
        let came = bus.emit_json(&event.to_json()?);
        lock(&self.0).push(came);
        Ok(())
    }
}

#[test]
fn what_comes_back_before_it_has_come_runs_once() {
    let echo = Echo::default();
    let bus = forgetful("Echo").middleware(echo.clone()).build().unwrap();
    let runs = counting(&bus);
    let event = done(&bus.emit(Note { n: 1 }));
    idle(&bus);
    assert_eq!(runs.entries(), ["1"]);
    let echoes = std::mem::take(&mut *lock(&echo.0));
    let [Ok(echo)] = &echoes[..] else { panic!("{echoes:?}") };
    assert!(echo.id() == event.id() && matches!(echo.wait(), Err(WaitError::Rejected(EmitError::DuplicateId { .. }))));
}

#[test]
fn ids_of_the_future_and_of_all_kinds_run_once() {
    let bus = forgetful("Future").build().unwrap();
    let runs = counting(&bus);
    let ids = [
        "018f8e40-1234-7000-8000-000000001234",
        // The year 10889, and as late as can be.
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "00000000-0000-0000-0000-000000000001",
        "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    ];
    for (n, id) in ids.into_iter().enumerate() {
        let event = json!({ "event_type": "Note", "event_id": id, "n": n });
        done(&bus.emit_json(&event).unwrap());
        push_out(&bus);
        is_known(&bus, &event);
    }
    assert_eq!(runs.len(), ids.len());
}

#[test]
fn the_nil_id_is_no_id() {
    let bus = EventBus::new("Nil");
    counting(&bus);
    let nil = uuid::Uuid::nil().to_string();
    for field in ["event_id", "event_parent_id", "event_emitted_by_handler_id"] {
        let mut event = json!({ "event_type": "Note", "n": 1 });
        event[field] = json!(nil);
        for error in [bus.emit_json(&event).unwrap_err(), bus.emit_json_str(&event.to_string()).unwrap_err()] {
            assert_eq!(error.to_string(), format!("field {field}: the nil UUID is no id"));
        }
    }
    let refused = bus.try_emit_with(Note { n: 1 }, EventOptions::new().id(EventId(uuid::Uuid::nil()))).unwrap_err();
    assert!(matches!(&refused.error, EmitError::NilId { bus: of, .. } if of == bus.label()));
    assert_eq!(refused.to_string(), format!("the nil id is no event's, and was set for one on {}", bus.label()));
    assert_eq!(bus.history_len(), 0);
}

#[test]
fn a_redriven_letter_runs_however_long_its_id_is_known() {
    let bus = forgetful("Letters").dead_letters(10).build().unwrap();
    let tries = Arc::new(AtomicUsize::new(0));
    let tried = Arc::clone(&tries);
    bus.on(move |note: &Event<Note>| if tried.fetch_add(1, SeqCst) < 3 { Err("not yet") } else { Ok(note.n) });
    let own = text(done(&bus.emit(Note { n: 1 })));
    let other = json!({ "event_type": "Note", "event_id": "018f8e40-1234-7000-8000-000000001234", "n": 2 });
    done(&bus.emit_json(&other).unwrap());
    push_out(&bus);
    [own, other].iter().for_each(|event| is_known(&bus, event));
    assert_eq!((bus.dead_letters().len(), tries.load(SeqCst)), (2, 2));
    within(PATIENCE, move || {
        bus.redrive(10);
        assert_eq!((bus.dead_letters().len(), tries.load(SeqCst)), (1, 4));
        bus.redrive(10);
        assert_eq!((bus.dead_letters().len(), tries.load(SeqCst)), (0, 5));
    });
}

#[test]
fn what_was_cancelled_is_seen() {
    let bus = EventBus::builder("Cancelled").max_history(Some(1)).build().unwrap();
    let runs = counting(&bus);
    bus.pause();
    let event = bus.emit(Note { n: 1 });
    assert!(event.cancel());
    bus.resume();
    push_out(&bus);
    is_known(&bus, &text(&event));
    assert_eq!(runs.len(), 0);
}
