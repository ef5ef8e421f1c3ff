//! TMO on one event: which timeout holds, what it leaves, and slow warnings. Trees of events are in `timeout_nested.rs`.
//! Handlers that must overstay stand at a gate that opens at the end of the test.

mod common;

use common::{Gate, Gauge, clean, done, eventually, idle, linger, lock, ms, payload, warnings_naming, works_on_beside};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use threadbus::{
    BusBuilder, CauseKind, Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerContext,
    HandlerFailure, HandlerOptions, HandlerResult, Payload, ResultStatus, Retry, Runtime, WaitError,
};

payload!(Ask => String);
payload!(Probe);

const MODES: [EventConcurrency; 3] =
    [EventConcurrency::GlobalSerial, EventConcurrency::BusSerial, EventConcurrency::Parallel];
const HANDLER_MODES: [HandlerConcurrency; 4] = [
    HandlerConcurrency::GlobalSerial,
    HandlerConcurrency::BusSerial,
    HandlerConcurrency::EventSerial,
    HandlerConcurrency::Parallel,
];

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A bus with a runtime of its own, without timeouts.
fn builder(name: &str) -> BusBuilder {
    let runtime = Runtime::builder().thread_name("timeout").build().expect("a runtime");
    EventBus::builder(name).runtime(&runtime).handler_timeout(None)
}

fn parallel(name: &str) -> EventBus {
    let builder = builder(name).event_concurrency(EventConcurrency::Parallel);
    builder.handler_concurrency(HandlerConcurrency::Parallel).build().expect("a bus")
}

fn serial(name: &str) -> EventBus {
    builder(name).build().expect("a bus")
}

fn says(value: &'static str) -> impl Fn(&Event<Ask>) -> String + Send + Sync {
    move |_| value.to_owned()
}

fn overstays(gate: &Gate) -> impl Fn(&Event<Ask>) -> String + Send + Sync + use<> {
    let gate = gate.clone();
    move |_| {
        gate.wait();
        "too late".to_owned()
    }
}

#[track_caller]
fn completed(result: &HandlerResult<String>, value: &str) {
    assert_eq!((result.status, result.value.as_deref()), (ResultStatus::Completed, Some(value)), "{:?}", result.error);
}

#[track_caller]
fn timed_out<T>(result: &HandlerResult<T>, cap: Duration) {
    assert_eq!(result.status, ResultStatus::Error);
    assert!(result.started_at.is_some() && result.completed_at > result.started_at);
    match result.error.as_deref() {
        Some(HandlerFailure::TimedOut { after, .. }) => assert_eq!(*after, cap),
        other => panic!("not timed out: {other:?}"),
    }
}

/// The word for how a result ended.
fn word<T>(result: &HandlerResult<T>) -> &'static str {
    match result.error.as_deref() {
        None if result.status == ResultStatus::Completed => "completed",
        Some(HandlerFailure::TimedOut { .. }) => "timed out",
        Some(HandlerFailure::Aborted { .. }) => "aborted",
        Some(HandlerFailure::Cancelled { .. }) => "cancelled",
        _ => "something else",
    }
}

/// Completed, though it may have been cancelled before any handler started.
#[track_caller]
fn over(event: &Event<Ask>) {
    eventually(|| event.is_completed());
}

fn words(event: &Event<Ask>) -> Vec<&'static str> {
    event.results().iter().map(word).collect()
}

#[test]
fn tmo_002_in_time_is_in_time() {
    let bus = builder("Tmo002").handler_timeout(Some(secs(5))).build().expect("a bus");
    bus.on(says("fast"));
    for timeout in [secs(5), Duration::MAX] {
        let event = done(&bus.emit_with(Ask, EventOptions::new().handler_timeout(timeout).timeout(timeout)));
        assert_eq!(event.result().expect("in time"), "fast");
    }
}

#[test]
fn tmo_002b_no_time_at_all() {
    let (bus, gate) = (serial("Tmo002b"), Gate::new());
    let _opener = gate.opener();
    bus.on(overstays(&gate));
    let event = done(&bus.emit_with(Ask, EventOptions::new().handler_timeout(Duration::ZERO)));
    assert_eq!(words(&event), ["timed out"]);
    let event = bus.emit_with(Ask, EventOptions::new().timeout(Duration::ZERO));
    over(&event);
    assert_eq!(words(&event), ["timed out"]);
    idle(&bus);
    assert_eq!(bus.runtime().stats().abandoned, 0, "nobody was called");
}

#[test]
fn tmo_003_a_handlers_own_timeout_is_not_relabelled_by_the_events() {
    let (bus, gate) = (parallel("Tmo003"), Gate::new());
    let _opener = gate.opener();
    bus.on_with(HandlerOptions::new().timeout(ms(50)), overstays(&gate));
    bus.on(overstays(&gate));
    let event = done(&bus.emit_with(Ask, EventOptions::new().timeout(ms(250))));
    let results = event.results();
    assert_eq!(results.len(), 2);
    timed_out(&results[0], ms(50));
    match results[1].error.as_deref() {
        Some(HandlerFailure::Aborted { cause }) => {
            assert_eq!((cause.kind, cause.event, cause.after), (CauseKind::EventTimeout, event.id(), Some(ms(250))));
        }
        other => panic!("{other:?}"),
    }
    works_on_beside(&bus, &gate);
}

#[test]
fn tmo_007_in_every_mode_a_handler_that_overstays_times_out() {
    for events in MODES {
        for handlers in HANDLER_MODES {
            let builder = builder("Tmo007").event_concurrency(events).handler_concurrency(handlers);
            let bus = builder.handler_timeout(Some(ms(50))).build().expect("a bus");
            let gate = Gate::new();
            let _opener = gate.opener();
            bus.on(overstays(&gate));
            let event = done(&bus.emit(Ask));
            timed_out(&event.results()[0], ms(50));
            assert!(event.result().is_err());
            works_on_beside(&bus, &gate);
        }
    }
}

#[test]
fn tmo_008_what_is_done_in_time_stays() {
    let (bus, gate) = (parallel("Tmo008"), Gate::new());
    let _opener = gate.opener();
    bus.on(says("fast"));
    bus.on(overstays(&gate));
    let event = done(&bus.emit_with(Ask, EventOptions::new().handler_timeout(ms(100))));
    completed(&event.results()[0], "fast");
    timed_out(&event.results()[1], ms(100));
    assert_eq!(event.errors().len(), 1);
    works_on_beside(&bus, &gate);
}

#[test]
fn tmo_009_the_events_cap_ends_all_that_run() {
    let (bus, gate, running) = (parallel("Tmo009"), Gate::new(), Gauge::new());
    let _opener = gate.opener();
    let both = Gate::new();
    for _ in 0..2 {
        let (gate, running, both) = (gate.clone(), running.clone(), both.clone());
        bus.on(move |_: &Event<Ask>| {
            if running.enter() == 2 {
                both.open();
            }
            gate.wait();
            String::new()
        });
    }
    let event = done(&bus.emit_with(Ask, EventOptions::new().timeout(ms(500))));
    assert!(both.is_open(), "both were running");
    assert_eq!(words(&event), ["aborted", "aborted"]);
    works_on_beside(&bus, &gate);
}

/// Emits until the warning is there; the handler stands at a gate meanwhile. Returns what names the handler.
fn slow_warnings(bus: &EventBus, name: &str, options: EventOptions, expected: usize) -> (Vec<String>, Event<Ask>) {
    let (gate, warnings) = (Gate::new(), warnings_naming(bus.label()));
    let _opener = gate.opener();
    let info = bus.on_with(HandlerOptions::new().name(name), overstays(&gate));
    let event = bus.emit_with(Ask, options);
    eventually(|| warnings().len() >= expected);
    linger();
    gate.open();
    done(&event);
    idle(bus);
    bus.off(&info);
    (warnings(), event)
}

#[test]
fn tmo_011_a_slow_handler_is_warned_about_by_name() {
    let bus = builder("Tmo011").handler_slow_after(Some(ms(50))).event_slow_after(None).build().expect("a bus");
    let (warnings, event) = slow_warnings(&bus, "tortoise", EventOptions::new(), 1);
    assert_eq!(warnings.len(), 1, "once, and nothing about the event: {warnings:?}");
    let handler = event.results()[0].handler.label();
    let expected = format!("slow handler: {handler} on {event} still running after ");
    assert!(handler.starts_with("tortoise#") && warnings[0].starts_with(&expected), "{warnings:?}");
}

#[test]
fn tmo_012_the_handler_and_the_event_are_two_warnings() {
    let bus = builder("Tmo012").handler_slow_after(Some(ms(50))).event_slow_after(Some(ms(50))).build().expect("a bus");
    let (warnings, event) = slow_warnings(&bus, "snail", EventOptions::new(), 2);
    let of_event = format!("slow event: {event} on {} still running after ", bus.label());
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(warnings.iter().filter(|w| w.starts_with(&of_event) && w.contains("1 handlers")).count(), 1);
    assert_eq!(warnings.iter().filter(|w| w.starts_with("slow handler: snail#")).count(), 1);
}

/// An event is slow as a whole, whichever of its handlers runs then; and per event, whatever the bus says.
#[test]
fn tmo_012b_an_event_may_set_its_own_thresholds() {
    let bus = builder("Tmo012b").handler_slow_after(None).event_slow_after(None).build().expect("a bus");
    let (warnings, event) = slow_warnings(&bus, "sloth", EventOptions::new().slow_after(ms(50)), 1);
    assert!(warnings.len() == 1 && warnings[0].starts_with(&format!("slow event: {event} on ")), "{warnings:?}");
    let (warnings, _) = slow_warnings(&bus, "koala", EventOptions::new().handler_slow_after(ms(50)), 2);
    assert!(warnings.len() == 2 && warnings[1].starts_with("slow handler: koala#"), "{warnings:?}");
}

#[test]
fn tmo_013_nobody_is_warned_of_what_times_out_before() {
    let bus = builder("Tmo013").handler_slow_after(Some(ms(100))).event_slow_after(None).build().expect("a bus");
    let warnings = warnings_naming(bus.label());
    let slow = || warnings().iter().filter(|w| w.starts_with("slow handler")).count();
    for timeout in [ms(100), ms(50)] {
        let gate = Gate::new();
        let _opener = gate.opener();
        let info = bus.on_with(HandlerOptions::new().timeout(timeout), overstays(&gate));
        let event = done(&bus.emit(Ask));
        timed_out(&event.results()[0], timeout);
        assert_eq!(slow(), 0, "{:?}", warnings());
        bus.off(&info);
    }
    let (_, event) = slow_warnings(&bus, "armed", EventOptions::new().handler_timeout(secs(60)), 1);
    assert_eq!(slow(), 1, "armed when the timeout is later: {:?}", warnings());
    assert_eq!(words(&event), ["completed"]);
}

#[test]
fn tmo_014_modes_set_by_the_event_change_nothing_about_timeouts() {
    let builder = builder("Tmo014").event_concurrency(EventConcurrency::GlobalSerial);
    let bus = builder.handler_concurrency(HandlerConcurrency::GlobalSerial).build().expect("a bus");
    let gate = Gate::new();
    let _opener = gate.opener();
    bus.on(overstays(&gate));
    let options = EventOptions::new().concurrency(EventConcurrency::Parallel).handler_timeout(ms(50));
    let event = done(&bus.emit_with(Ask, options.handler_concurrency(HandlerConcurrency::Parallel)));
    timed_out(&event.results()[0], ms(50));
    works_on_beside(&bus, &gate);
}

#[test]
fn tmo_015_a_global_permit_passes_to_the_next_handler_at_the_timeout() {
    let (bus, gate) = (parallel("Tmo015"), Gate::new());
    let _opener = gate.opener();
    let options = || HandlerOptions::new().concurrency(HandlerConcurrency::GlobalSerial);
    bus.on_with(options(), overstays(&gate));
    bus.on_with(options(), says("fast"));
    let event = done(&bus.emit_with(Ask, EventOptions::new().handler_timeout(ms(50))));
    timed_out(&event.results()[0], ms(50));
    completed(&event.results()[1], "fast");
    works_on_beside(&bus, &gate);
}

/// How far away the deadline is, as the handlers of an event see it when they start.
fn deadlines(bus: &EventBus, handlers: &[HandlerOptions], options: EventOptions) -> Vec<Option<Duration>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let infos: Vec<_> = handlers
        .iter()
        .map(|handler| {
            let seen = Arc::clone(&seen);
            bus.on_with(handler.clone(), move |_: &Event<Probe>| {
                let deadline = HandlerContext::current().expect("inside of a handler").deadline();
                lock(&seen).push(deadline.map(|d| d.saturating_duration_since(Instant::now())));
            })
        })
        .collect();
    clean(&bus.emit_with(Probe, options));
    for info in infos {
        bus.off(&info);
    }
    lock(&seen).clone()
}

/// A deadline `cap` away, seen a moment later.
#[track_caller]
fn about(seen: Option<Duration>, cap: Duration) {
    let left = seen.expect("a deadline");
    assert!(left <= cap && left + secs(1) > cap, "{left:?} left of {cap:?}");
}

#[test]
fn tmo_026_what_the_event_says_beats_the_bus() {
    let bus = builder("Tmo026").handler_timeout(Some(secs(42))).build().expect("a bus");
    about(deadlines(&bus, &[HandlerOptions::new()], EventOptions::new())[0], secs(42));
    about(deadlines(&bus, &[HandlerOptions::new()], EventOptions::new().handler_timeout(secs(10)))[0], secs(10));
    assert_eq!(deadlines(&bus, &[HandlerOptions::new()], EventOptions::new().no_timeout()), [None]);
    let default = EventBus::new("Tmo026Default");
    about(deadlines(&default, &[HandlerOptions::new()], EventOptions::new())[0], secs(60));
}

#[test]
fn tmo_033_the_next_handler_runs_after_one_that_timed_out() {
    let (bus, gate) = (serial("Tmo033"), Gate::new());
    let _opener = gate.opener();
    bus.on(overstays(&gate));
    bus.on(says("fast"));
    let options = EventOptions::new().timeout(secs(10)).handler_timeout(ms(50));
    let event = done(&bus.emit_with(Ask, options));
    timed_out(&event.results()[0], ms(50));
    completed(&event.results()[1], "fast");
    works_on_beside(&bus, &gate);
}

#[test]
fn a_later_handlers_deadline_counts_though_it_comes_before_what_the_watch_was_told() {
    let (bus, gate) = (serial("Earlier"), Gate::new());
    let _opener = gate.opener();
    bus.on_with(HandlerOptions::new().timeout(secs(3600)), says("long"));
    bus.on(says("none"));
    bus.on_with(HandlerOptions::new().timeout(ms(50)), overstays(&gate));
    bus.on_with(HandlerOptions::new().timeout(secs(3600)), says("long"));
    let event = done(&bus.emit(Ask));
    assert_eq!(words(&event), ["completed", "completed", "timed out", "completed"]);
    timed_out(&event.results()[2], ms(50));
    works_on_beside(&bus, &gate);
}

#[test]
fn no_deadline_is_missed_while_the_watch_looks_at_handlers_that_follow_each_other() {
    let (bus, gate) = (serial("Looks"), Gate::new());
    let _opener = gate.opener();
    for n in 0..200 {
        // Ever earlier deadlines: the watch is told of each of them.
        bus.on_with(HandlerOptions::new().timeout(ms(60_000 - 100 * n)), says("quick"));
    }
    bus.on_with(HandlerOptions::new().timeout(ms(20)), overstays(&gate));
    for _ in 0..5 {
        let event = done(&bus.emit(Ask));
        let results = event.results();
        let (last, quick) = results.split_last().expect("one each");
        quick.iter().for_each(|result| completed(result, "quick"));
        timed_out(last, ms(20));
    }
    works_on_beside(&bus, &gate);
}

#[test]
fn tmo_034_the_cap_of_a_serial_event() {
    let (bus, gate) = (serial("Tmo034"), Gate::new());
    let _opener = gate.opener();
    bus.on(says("first"));
    bus.on(overstays(&gate));
    bus.on(says("third"));
    let event = done(&bus.emit_with(Ask, EventOptions::new().timeout(ms(250))));
    let results = event.results();
    completed(&results[0], "first");
    assert_eq!(words(&event), ["completed", "aborted", "cancelled"]);
    assert!(results[2].started_at.is_none() && results[2].completed_at.is_some());
    assert!(event.completed_at() >= results[1].completed_at);
    works_on_beside(&bus, &gate);
}

/// The cap counts where a handler stands in line for a permit as well: its time is the event's, not the handler's.
#[test]
fn tmo_034b_the_cap_ends_what_stands_in_line() {
    for handlers in [HandlerConcurrency::BusSerial, HandlerConcurrency::GlobalSerial] {
        let builder = builder("Tmo034b").event_concurrency(EventConcurrency::Parallel);
        let bus = builder.handler_concurrency(handlers).build().expect("a bus");
        let (gate, held) = (Gate::new(), Gate::new());
        let _opener = gate.opener();
        bus.on({
            let (gate, held) = (gate.clone(), held.clone());
            move |_: &Event<Ask>| {
                held.open();
                gate.wait();
                "holder".to_owned()
            }
        });
        let holder = bus.emit(Ask);
        held.wait();
        let capped = bus.emit_with(Ask, EventOptions::new().timeout(ms(100)).handler_timeout(ms(1)));
        over(&capped);
        assert_eq!(capped.wait().map(drop), Err(WaitError::Cancelled));
        assert_eq!(words(&capped), ["cancelled"]);
        assert!(!holder.is_completed());
        gate.open();
        assert_eq!(done(&holder).result().expect("it held on"), "holder");
        idle(&bus);
        assert_eq!(done(&bus.emit(Ask)).result().expect("the permit is back"), "holder");
    }
}

#[test]
fn tmo_035_the_cap_of_a_parallel_event() {
    let (bus, gate) = (parallel("Tmo035"), Gate::new());
    let _opener = gate.opener();
    bus.on(overstays(&gate));
    bus.on(overstays(&gate));
    let event = done(&bus.emit_with(Ask, EventOptions::new().timeout(ms(150))));
    let words = words(&event);
    assert!(words.contains(&"aborted") && !words.contains(&"completed"), "{words:?}");
    works_on_beside(&bus, &gate);
}

#[test]
fn tmo_035b_the_cap_ends_a_retry_that_waits() {
    let bus = serial("Tmo035b");
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(3).delay(secs(3600))), |_: &Event<Ask>| {
        Err::<String, _>("not yet")
    });
    bus.on(says("never"));
    let event = done(&bus.emit_with(Ask, EventOptions::new().timeout(ms(100))));
    assert_eq!(words(&event), ["aborted", "cancelled"]);
    assert_eq!(event.results()[0].attempts, 1);
    works_on_beside(&bus, &Gate::new());
}

/// Defaults are asked for per bus, not copied to the event by the first one.
#[test]
fn tmo_039_an_event_takes_no_defaults_along_to_the_next_bus() {
    let first = builder("Tmo039A").handler_timeout(Some(secs(12))).event_timeout(Some(secs(34))).build();
    let second = builder("Tmo039B").handler_timeout(Some(secs(50))).event_timeout(Some(secs(56))).build();
    let (first, second) = (first.expect("a bus"), second.expect("a bus"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    for bus in [&first, &second] {
        let seen = Arc::clone(&seen);
        bus.on(move |_: &Event<Probe>| {
            let deadline = HandlerContext::current().expect("inside of a handler").deadline();
            lock(&seen).push(deadline.map(|d| d.saturating_duration_since(Instant::now())));
        });
    }
    let event = done(&first.emit(Probe));
    second.forward(&event).expect("taken");
    eventually(|| lock(&seen).len() == 2);
    about(lock(&seen)[0], secs(12));
    about(lock(&seen)[1], secs(50));
}

/// Event over handler over bus, field by field; and the event's cap is above all of them.
#[test]
fn tmo_040_the_nearest_handler_timeout_and_the_least_deadline() {
    let bus = builder("Tmo040").handler_timeout(Some(secs(20))).build().expect("a bus");
    let handlers = [HandlerOptions::new(), HandlerOptions::new().timeout(secs(12))];
    let none = EventOptions::new;
    let check = |options: EventOptions, expected: [u64; 2]| {
        let seen = deadlines(&bus, &handlers, options);
        about(seen[0], secs(expected[0]));
        about(seen[1], secs(expected[1]));
    };
    check(none(), [20, 12]);
    check(none().timeout(secs(100)), [20, 12]);
    check(none().timeout(secs(20)).handler_timeout(secs(5)), [5, 5]);
    check(none().timeout(secs(8)).handler_timeout(secs(200)), [8, 8]);
    check(none().timeout(secs(15)), [15, 12]);
    let unlimited = HandlerOptions::new().no_timeout();
    assert_eq!(deadlines(&bus, std::slice::from_ref(&unlimited), none()), [None]);
    about(deadlines(&bus, &[unlimited], none().timeout(secs(9)))[0], secs(9));
}

struct Typed;
impl Payload for Typed {
    type Output = ();
    fn options() -> EventOptions {
        EventOptions::new().handler_timeout(Duration::from_millis(50))
    }
    fn event_type() -> &'static str {
        "Typed"
    }
}

#[test]
fn tmo_040b_the_types_timeout_counts_as_the_events_and_emit_with_beats_it() {
    let (bus, gate) = (serial("Tmo040b"), Gate::new());
    let _opener = gate.opener();
    bus.on_with(HandlerOptions::new().timeout(secs(60)), {
        let gate = gate.clone();
        move |_: &Event<Typed>| gate.wait()
    });
    timed_out(&done(&bus.emit(Typed)).results()[0], ms(50));
    timed_out(&done(&bus.emit_with(Typed, EventOptions::new().handler_timeout(ms(80)))).results()[0], ms(80));
    works_on_beside(&bus, &gate);
}

/// A `handler_timeout` of the event or the handler replaces the bus's, in both directions.
#[test]
fn edge_009_the_bus_default_is_no_ceiling() {
    let bus = builder("Edge009").handler_timeout(Some(ms(50))).build().expect("a bus");
    let gate = Gate::new();
    let _opener = gate.opener();
    bus.on(overstays(&gate));
    timed_out(&done(&bus.emit(Ask)).results()[0], ms(50));
    timed_out(&done(&bus.emit_with(Ask, EventOptions::new().timeout(secs(10)))).results()[0], ms(50));
    let longer = bus.emit_with(Ask, EventOptions::new().handler_timeout(secs(60)));
    // The bus's default has long passed when another of its timeouts, begun later, has.
    let other = builder("Edge009b").handler_timeout(Some(ms(250))).build().expect("a bus");
    other.on(overstays(&gate));
    timed_out(&done(&other.emit(Ask)).results()[0], ms(250));
    assert!(!longer.is_completed());
    gate.open();
    completed(&done(&longer).results()[0], "too late");
}

#[test]
fn edge_010_each_handler_has_its_own_window_but_the_event_has_one_cap() {
    let (bus, gate) = (serial("Edge010"), Gate::new());
    let _opener = gate.opener();
    for _ in 0..3 {
        bus.on(overstays(&gate));
    }
    let start = Instant::now();
    let event = done(&bus.emit_with(Ask, EventOptions::new().handler_timeout(ms(60))));
    assert_eq!(words(&event), ["timed out"; 3]);
    assert!(start.elapsed() >= ms(180), "one after the other");
    for result in event.results() {
        timed_out(&result, ms(60));
    }
    let event = done(&bus.emit_with(Ask, EventOptions::new().handler_timeout(secs(10)).timeout(ms(100))));
    assert_eq!(words(&event), ["aborted", "cancelled", "cancelled"]);
    works_on_beside(&bus, &gate);
}
