//! FIRST: an event that is complete on the first value, by option or by `first()`. Losers stand at a gate that opens at the end.

mod common;

use common::{Gate, GateOpener, Log, PATIENCE, done, eventually, idle, payload, within};
use std::sync::mpsc::channel;
use std::time::Duration;
use threadbus::{
    CauseKind, EmitError, Event, EventBus, EventConcurrency, EventOptions, HandlerCompletion, HandlerConcurrency,
    HandlerFailure, HandlerOptions, HandlerResult, Payload, ResultError, ResultStatus, Retry, Runtime, Shutdown,
    WaitError,
};

payload!(Ask => String);
payload!(Number => i64);
payload!(Truth => bool);
payload!(Child => String);
payload!(Driver);

fn bus(name: &str, handlers: HandlerConcurrency) -> EventBus {
    let runtime = Runtime::builder().thread_name("first").build().expect("a runtime");
    EventBus::builder(name).handler_concurrency(handlers).runtime(&runtime).build().expect("a bus")
}

fn serial(name: &str) -> EventBus {
    bus(name, HandlerConcurrency::BusSerial)
}

fn parallel(name: &str) -> EventBus {
    bus(name, HandlerConcurrency::Parallel)
}

/// `first()` on an event that cannot have started: emitted on a bus that is paused, by a handler whose wait jumps the pause.
fn first_of<P: Payload>(bus: &EventBus, payload: P) -> (Event<P>, Result<Option<P::Output>, ResultError>) {
    let driver = EventBus::builder("Driver").runtime(&bus.runtime()).build().expect("a bus");
    let (bus, payload) = (bus.clone(), std::sync::Mutex::new(Some(payload)));
    let (sender, receiver) = channel();
    driver.on(move |_: &Event<Driver>| {
        let payload = common::lock(&payload).take();
        if let Some(payload) = payload {
            bus.pause();
            let event = bus.emit_with(payload, EventOptions::new().detached());
            let first = event.first();
            bus.resume();
            drop(sender.send((event, first)));
        }
    });
    driver.emit(Driver);
    receiver.recv_timeout(PATIENCE).expect("first() came back")
}

/// A handler that returns `value` at once.
fn says(bus: &EventBus, log: &Log, value: &'static str) {
    let log = log.clone();
    bus.on(move |_: &Event<Ask>| {
        log.push(value);
        value.to_owned()
    });
}

/// A handler that logs `{name}`, stands at `gate`, and logs `{name}_end`. Announces itself through the returned gate.
fn overstays(bus: &EventBus, log: &Log, gate: &Gate, name: &'static str) -> Gate {
    let started = Gate::new();
    bus.on({
        let (log, gate, started) = (log.clone(), gate.clone(), started.clone());
        move |_: &Event<Ask>| {
            log.push(name);
            started.open();
            gate.wait();
            log.push(format_args!("{name}_end"));
            name.to_owned()
        }
    });
    started
}

/// A handler that returns `value` once `after` is open.
fn says_after(bus: &EventBus, log: &Log, after: &Gate, value: &'static str) {
    let (log, after) = (log.clone(), after.clone());
    bus.on(move |_: &Event<Ask>| {
        after.wait();
        log.push(value);
        value.to_owned()
    });
}

fn gate() -> (Gate, GateOpener) {
    let gate = Gate::new();
    let opener = gate.opener();
    (gate, opener)
}

#[track_caller]
fn lost<T>(result: &HandlerResult<T>, ran: bool) {
    assert_eq!(result.status, ResultStatus::Error);
    match result.error.as_deref() {
        Some(HandlerFailure::Aborted { cause }) if ran => assert_eq!(cause.kind, CauseKind::LostFirst),
        Some(HandlerFailure::Cancelled { cause }) if !ran => assert_eq!(cause.kind, CauseKind::LostFirst),
        other => panic!("lost, and it {}: {other:?}", if ran { "ran" } else { "did not run" }),
    }
}

/// Asserts that the bus becomes idle, that a follow-up gets its value, and that no thread is abandoned once the losers, which stand at the gate,
/// have returned. Each waits for [`PATIENCE`] at most.
#[track_caller]
fn works_on_without_losers(bus: &EventBus, gate: &Gate) {
    idle(bus);
    bus.on(|_: &Event<Number>| 7);
    assert_eq!(done(&bus.emit(Number)).result().expect("the follow-up"), 7);
    gate.open();
    eventually(|| bus.runtime().stats().abandoned == 0);
}

#[test]
fn first_001_the_fast_one_of_two_parallel_handlers_wins() {
    let (bus, log) = (parallel("First001"), Log::new());
    let (gate, _opener) = gate();
    overstays(&bus, &log, &gate, "slow handler");
    says(&bus, &log, "fast handler");
    let (event, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("a winner").as_deref(), Some("fast handler"));
    assert!(event.is_completed());
    works_on_without_losers(&bus, &gate);
}

/// It has started, and ends with its first value all the same.
#[test]
fn first_001b_an_event_that_has_started_yields_its_first_value_and_gives_up_the_rest() {
    let (bus, log) = (parallel("First001b"), Log::new());
    let (gate, _opener) = gate();
    let (started, asked) = (overstays(&bus, &log, &gate, "slow"), Gate::new());
    says_after(&bus, &log, &asked, "fast");
    let event = bus.emit(Ask);
    started.wait();
    let first = within(PATIENCE, {
        let event = event.clone();
        move || {
            asked.open();
            event.first()
        }
    });
    assert_eq!(first.expect("a winner").as_deref(), Some("fast"));
    lost(&done(&event).results()[0], true);
    assert_eq!(log.count("slow_end"), 0);
    works_on_without_losers(&bus, &gate);
}

#[test]
fn first_002_the_loser_is_aborted_and_its_value_counts_for_nothing() {
    let (bus, log) = (parallel("First002"), Log::new());
    let (gate, _opener) = gate();
    let started = overstays(&bus, &log, &gate, "slow");
    says_after(&bus, &log, &started, "fast result");
    let (event, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("a winner").as_deref(), Some("fast result"));
    assert_eq!(log.count("slow_end"), 0);
    let results = event.results();
    lost(&results[0], true);
    assert_eq!((results[1].status, results[1].value.as_deref()), (ResultStatus::Completed, Some("fast result")));
    let ended = results[0].completed_at;
    works_on_without_losers(&bus, &gate);
    eventually(|| log.count("slow_end") == 1);
    lost(&event.results()[0], true);
    assert_eq!((event.results()[0].completed_at, &event.results()[0].value), (ended, &None));
}

#[test]
fn first_003_serial_handlers_after_the_winner_never_run() {
    let (bus, log) = (serial("First003"), Log::new());
    says(&bus, &log, "first");
    says(&bus, &log, "second");
    let (event, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("a winner").as_deref(), Some("first"));
    idle(&bus);
    assert_eq!(log.entries(), ["first"]);
    lost(&event.results()[1], false);
    works_on_without_losers(&bus, &Gate::new());
}

#[test]
fn first_004_no_value_is_not_a_win() {
    let (bus, log) = (serial("First004"), Log::new());
    bus.on(|_: &Event<Ask>| -> Option<String> { None });
    says(&bus, &log, "second handler has it");
    let (_, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("a winner").as_deref(), Some("second handler has it"));
}

#[test]
fn first_006_if_all_fail_so_does_first() {
    let bus = parallel("First006");
    for message in ["boom 1", "boom 2"] {
        bus.on(move |_: &Event<Ask>| -> Result<String, &'static str> { Err(message) });
    }
    let (_, first) = first_of(&bus, Ask);
    match first {
        Err(ResultError::Handler { failure, .. }) => assert!(failure.to_string().starts_with("boom "), "{failure}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn first_007_a_failure_does_not_win() {
    let bus = parallel("First007");
    bus.on(|_: &Event<Ask>| -> Result<String, &'static str> { Err("fast but fails") });
    bus.on(|event: &Event<Ask>| {
        eventually(|| event.results()[0].error.is_some());
        "slow success".to_owned()
    });
    let (event, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("a winner").as_deref(), Some("slow success"));
    let error = event.results()[0].error.clone().expect("it failed");
    assert_eq!(error.to_string(), "fast but fails");
}

#[test]
fn first_008_without_handlers_there_is_no_value() {
    let bus = serial("First008");
    let (_, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("no failure"), None);
    bus.on(|_: &Event<Ask>| -> Option<String> { None });
    let (_, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("no failure"), None);
}

/// There are no events without a bus; a refused one comes nearest.
#[test]
fn first_009_of_a_refused_event_says_why() {
    let bus = serial("First009");
    bus.shutdown(Shutdown::Now, PATIENCE);
    let first = bus.emit(Ask).first();
    assert!(matches!(first, Err(ResultError::Wait(WaitError::Rejected(EmitError::Closed { .. })))), "{first:?}");
}

/// Fails `failures` times, then returns `value`.
fn says_on_attempt(
    bus: &EventBus,
    retry: Retry,
    failures: u32,
    value: &'static str,
) -> impl Fn(&Event<Ask>) -> u32 + use<> {
    let info = bus.on_with(HandlerOptions::new().retry(retry), move |_: &Event<Ask>| -> Result<String, &'static str> {
        let context = threadbus::HandlerContext::current().ok_or("outside of a handler")?;
        if context.attempt() <= failures { Err("not yet") } else { Ok(value.to_owned()) }
    });
    move |event| event.results().iter().find(|r| r.handler.id() == info.id()).map_or(0, |r| r.attempts)
}

#[test]
fn first_010_a_handler_that_succeeds_after_retries_wins() {
    let bus = parallel("First010");
    let attempts = says_on_attempt(&bus, Retry::attempts(3), 2, "succeeded after retries");
    let (event, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("a winner").as_deref(), Some("succeeded after retries"));
    assert_eq!(attempts(&event), 3);
}

#[test]
fn first_011_a_loser_is_not_retried() {
    let (bus, log) = (parallel("First011"), Log::new());
    says(&bus, &log, "fast path");
    let attempts = says_on_attempt(&bus, Retry::attempts(5).delay(Duration::from_secs(3600)), 4, "slow");
    let (event, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("a winner").as_deref(), Some("fast path"));
    assert!(event.is_completed() && attempts(&event) <= 1);
    idle(&bus);
}

#[test]
fn first_012_a_loser_with_retries_and_a_timeout() {
    let (bus, log) = (parallel("First012"), Log::new());
    let (gate, _opener) = gate();
    says(&bus, &log, "fast_screenshot_data");
    let options = HandlerOptions::new().retry(Retry::attempts(3)).timeout(Duration::from_secs(15));
    bus.on_with(options, {
        let gate = gate.clone();
        move |_: &Event<Ask>| {
            gate.wait();
            "slow_screenshot_data".to_owned()
        }
    });
    let (_, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("a winner").as_deref(), Some("fast_screenshot_data"));
    assert_eq!(log.entries(), ["fast_screenshot_data"]);
    works_on_without_losers(&bus, &gate);
}

#[test]
fn first_013_the_fallback_wins_on_its_second_attempt() {
    let bus = parallel("First013");
    bus.on(|_: &Event<Ask>| -> Option<String> { None });
    let attempts = says_on_attempt(&bus, Retry::attempts(3), 1, "slow_screenshot_data");
    let (event, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("a winner").as_deref(), Some("slow_screenshot_data"));
    assert_eq!(attempts(&event), 2);
}

#[test]
fn first_014_one_handler_wins_against_nobody() {
    let bus = serial("First014");
    bus.on(|_: &Event<Number>| 42);
    let (_, first) = first_of(&bus, Number);
    assert_eq!(first.expect("a winner"), Some(42));
}

#[test]
fn first_015_what_is_skipped_completed_without_an_error() {
    let (bus, log) = (serial("First015"), Log::new());
    bus.on(|_: &Event<Ask>| -> Option<String> { None });
    says(&bus, &log, "winner");
    says(&bus, &log, "third");
    let (event, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("a winner").as_deref(), Some("winner"));
    assert_eq!(log.entries(), ["winner"]);
    let results = event.results();
    assert_eq!(results[0].status, ResultStatus::Completed);
    assert!(results[0].error.is_none() && results[0].value.is_none());
    assert_eq!(results[1].status, ResultStatus::Completed);
    lost(&results[2], false);
}

#[test]
fn first_016_empty_values_win_like_others() {
    fn wins<P: Payload<Output: PartialEq + std::fmt::Debug>>(payload: P, value: P::Output, other: P::Output) {
        let (bus, log) = (serial("First016"), Log::new());
        for value in [value.clone(), other] {
            let (log, value) = (log.clone(), std::sync::Mutex::new(value));
            bus.on(move |_: &Event<P>| {
                log.push("called");
                common::lock(&value).clone()
            });
        }
        let (_, first) = first_of(&bus, payload);
        assert_eq!(first.expect("a winner"), Some(value));
        assert_eq!(log.len(), 1);
    }
    wins(Number, 0, 1);
    wins(Ask, String::new(), "x".to_owned());
    wins(Truth, false, true);
}

/// A typed output may be an event. What has no value is a forward.
#[test]
fn first_017_a_forward_is_no_value() {
    let (bus, log) = (serial("First017"), Log::new());
    let target = EventBus::new("First017Target");
    bus.forward_to::<Ask>(&target);
    says(&bus, &log, "winner");
    says(&bus, &log, "third");
    let (event, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("a winner").as_deref(), Some("winner"));
    assert_eq!(log.entries(), ["winner"]);
    let results = event.results();
    assert!(results[0].handler.name().starts_with("forward to First017Target"));
    assert_eq!((results[0].status, &results[0].value), (ResultStatus::Completed, &None));
}

#[test]
fn first_018_what_a_loser_waits_for_ends_with_it() {
    let runtime = Runtime::builder().build().expect("a runtime");
    for events in [EventConcurrency::BusSerial, EventConcurrency::Parallel] {
        let builder = EventBus::builder("First018").handler_concurrency(HandlerConcurrency::Parallel);
        let bus = builder.event_concurrency(events).runtime(&runtime).build().expect("a bus");
        let (gate, _opener) = gate();
        let (child_started, log) = (Gate::new(), Log::new());
        bus.on({
            let (gate, child_started) = (gate.clone(), child_started.clone());
            move |_: &Event<Child>| {
                child_started.open();
                gate.wait();
                String::new()
            }
        });
        bus.on({
            let log = log.clone();
            move |event: &Event<Ask>| -> Result<String, WaitError> {
                let waited = event.bus().emit(Child).wait();
                log.push(format_args!("{:?}", waited.as_ref().map(drop)));
                waited.map(|_| String::new())
            }
        });
        says_after(&bus, &log, &child_started, "fast parent");
        let (event, first) = first_of(&bus, Ask);
        assert_eq!(first.expect("a winner").as_deref(), Some("fast parent"));
        done(&event);
        let child = event.children()[0].downcast::<Child>().expect("the loser's child");
        eventually(|| child.is_completed());
        assert!(!gate.is_open());
        lost(&child.results()[0], true);
        lost(&event.results()[0], true);
        works_on_without_losers(&bus, &gate);
    }
}

#[test]
fn first_020_as_an_option_of_the_event() {
    let (bus, log) = (parallel("First020"), Log::new());
    let (gate, _opener) = gate();
    overstays(&bus, &log, &gate, "slow handler");
    says(&bus, &log, "fast handler");
    let event = done(&bus.emit_with(Ask, EventOptions::new().completion(HandlerCompletion::First)));
    assert_eq!(event.first().expect("a winner").as_deref(), Some("fast handler"));
    works_on_without_losers(&bus, &gate);
}

fn first_by_default(name: &str) -> EventBus {
    EventBus::builder(name).handler_completion(HandlerCompletion::First).build().expect("a bus")
}

#[test]
fn first_021_as_the_default_of_a_bus() {
    let (bus, log) = (first_by_default("First021"), Log::new());
    says(&bus, &log, "first");
    says(&bus, &log, "second");
    let event = done(&bus.emit(Ask));
    idle(&bus);
    assert_eq!(log.entries(), ["first"]);
    let results = event.results();
    assert_eq!((results[0].status, results[0].value.as_deref()), (ResultStatus::Completed, Some("first")));
    lost(&results[1], false);
    assert_eq!(event.result().expect("a lost race is no failure"), "first");
    assert_eq!(event.result_list().expect("a lost race is no failure"), ["first"]);
}

#[test]
fn first_022_the_event_beats_the_bus() {
    let (bus, log) = (first_by_default("First022"), Log::new());
    says(&bus, &log, "first");
    says(&bus, &log, "second");
    let event = done(&bus.emit_with(Ask, EventOptions::new().completion(HandlerCompletion::All)));
    assert_eq!(log.entries(), ["first", "second"]);
    assert_eq!(event.result_list().expect("both"), ["first", "second"]);
}

#[test]
fn first_023_one_event_races_on_a_serial_bus() {
    let (bus, log) = (serial("First023"), Log::new());
    let (gate, _opener) = gate();
    let started = overstays(&bus, &log, &gate, "slow 1");
    says_after(&bus, &log, &started, "winner");
    overstays(&bus, &log, &gate, "slow 2");
    let options = EventOptions::new().handler_concurrency(HandlerConcurrency::Parallel);
    let event = done(&bus.emit_with(Ask, options.completion(HandlerCompletion::First)));
    assert!(!gate.is_open() && log.count("slow 1") == 1 && log.count("slow 1_end") == 0);
    let results = event.results();
    lost(&results[0], true);
    lost(&results[2], results[2].started_at.is_some());
    assert!(results[1].error.is_none());
    assert_eq!(event.select().allow_errors().one().expect("a winner").as_deref(), Some("winner"));
    works_on_without_losers(&bus, &gate);
}

#[test]
fn first_024_the_shortcut_races_on_a_bus_that_waits_for_all() {
    let (bus, log) = (parallel("First024"), Log::new());
    let (gate, _opener) = gate();
    says(&bus, &log, "fast");
    overstays(&bus, &log, &gate, "slow");
    let (event, first) = first_of(&bus, Ask);
    assert_eq!(first.expect("a winner").as_deref(), Some("fast"));
    let results = event.results();
    lost(&results[1], results[1].started_at.is_some());
    works_on_without_losers(&bus, &gate);
    let ended = log.count("slow_end");
    assert_eq!(ended, log.count("slow"), "it ended after the gate was opened, if it ran at all");
    // Without the shortcut the same bus waits for both.
    let both = EventOptions::new();
    assert_eq!(done(&bus.emit_with(Ask, both)).result_list().expect("both"), ["fast", "slow"]);
}

/// The race is on the bus the event was forwarded to.
#[test]
fn fwd_016_first_of_a_forwarded_event() {
    let (a, log) = (serial("Fwd016A"), Log::new());
    let builder = EventBus::builder("Fwd016B").handler_concurrency(HandlerConcurrency::Parallel).runtime(&a.runtime());
    let b = builder.handler_completion(HandlerCompletion::First).build().expect("a bus");
    let (gate, _opener) = gate();
    a.forward_all_to(&b);
    let slow_started = overstays(&b, &log, &gate, "slow");
    says_after(&b, &log, &slow_started, "fast");
    let (event, first) = first_of(&a, Ask);
    assert_eq!(first.expect("a winner").as_deref(), Some("fast"));
    assert_eq!((log.count("slow"), log.count("fast"), log.count("slow_end")), (1, 1, 0));
    done(&event);
    lost(&event.results()[1], true);
    works_on_without_losers(&b, &gate);
}

/// The losers of a hundred races are gone afterwards, and so are their permits.
#[test]
fn first_025_a_hundred_races_leave_nothing_behind() {
    let (bus, log) = (parallel("First025"), Log::new());
    bus.on(|_: &Event<Ask>| -> Result<String, WaitError> {
        let context = threadbus::HandlerContext::current().expect("inside of a handler");
        loop {
            context.sleep(Duration::from_secs(60))?;
        }
    });
    says(&bus, &log, "won");
    for _ in 0..100 {
        let event = done(&bus.emit_with(Ask, EventOptions::new().completion(HandlerCompletion::First)));
        assert_eq!(event.first().expect("a winner").as_deref(), Some("won"));
    }
    works_on_without_losers(&bus, &Gate::new());
}
