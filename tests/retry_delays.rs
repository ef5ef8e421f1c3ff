//! Issue 6, and the retry lines of tasks.md and buffered.md: delays, precedence, and what cuts a retry short.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, lock, payload, warnings_naming, within};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use threadbus::{
    CauseKind, Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerContext, HandlerError,
    HandlerFailure, HandlerOptions, ResultError, Retry, Runtime, Shutdown, WaitError,
};

payload!(Work);
payload!(Other);
payload!(Buy => Result<u32, Declined>);

#[derive(Clone, Debug, PartialEq)]
struct Declined;

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

fn with(retry: Retry) -> HandlerOptions {
    HandlerOptions::new().retry(retry)
}

/// A bus with threads of its own, so that their stillness tells something.
fn alone(name: &str) -> EventBus {
    EventBus::builder(name).runtime(&Runtime::builder().build().unwrap()).build().unwrap()
}

/// A handler of `Work` that fails until call number `good`, and how often it was called.
fn failing(bus: &EventBus, options: HandlerOptions, good: usize) -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let of = Arc::clone(&calls);
    bus.on_with(options, move |_: &Event<Work>| {
        let call = of.fetch_add(1, SeqCst) + 1;
        if call < good { Err(format!("call {call}")) } else { Ok(()) }
    });
    calls
}

/// On a bus that is [`alone`]: waits until the first attempt has failed and the second is a long way off.
fn in_delay(bus: &EventBus, calls: &AtomicUsize) -> Event<Work> {
    let event = bus.emit(Work);
    eventually(|| calls.load(SeqCst) == 1 && bus.runtime().stats().busy == 0);
    event
}

fn aborted_by(event: &Event<Work>) -> CauseKind {
    match &*event.errors()[0].clone() {
        HandlerFailure::Aborted { cause } => cause.kind,
        other => panic!("not aborted but {other}"),
    }
}

#[test]
fn bf_051_the_last_error_of_all_attempts() {
    let bus = EventBus::new("Exhaust");
    let letters = Arc::new(Mutex::new(vec!["c", "b", "a"]));
    let left = Arc::clone(&letters);
    bus.on_with(with(Retry::attempts(3)), move |_: &Event<Work>| -> Result<(), &'static str> {
        Err(lock(&left).pop().unwrap())
    });
    let event = done(&bus.emit(Work));
    assert_eq!(event.errors().iter().map(ToString::to_string).collect::<Vec<_>>(), ["c"]);
    assert!(lock(&letters).is_empty());
}

#[test]
fn bf_053_a_business_failure_is_a_value() {
    let bus = EventBus::new("Business");
    let calls = AtomicUsize::new(0);
    bus.on_with(with(Retry::attempts(5)), move |_: &Event<Buy>| -> Result<Result<u32, Declined>, &'static str> {
        if calls.fetch_add(1, SeqCst) == 0 { Err("no connection") } else { Ok(Err(Declined)) }
    });
    let event = bus.emit(Buy);
    assert_eq!(event.result().unwrap(), Err(Declined));
    assert_eq!(event.results()[0].attempts, 2);
}

#[test]
fn bf_054_without_a_retry_there_is_one_attempt() {
    let bus = EventBus::new("None");
    let calls = failing(&bus, HandlerOptions::new(), usize::MAX);
    done(&bus.emit(Work));
    assert_eq!(calls.load(SeqCst), 1);
}

#[test]
fn bf_055_a_panic_is_tried_again() {
    payload!(Seven => u32);
    let bus = EventBus::new("Panics");
    bus.on_with(with(Retry::attempts(2)), |_: &Event<Seven>| {
        assert!(HandlerContext::current().unwrap().attempt() > 1, "the first attempt");
        7
    });
    assert_eq!(bus.emit(Seven).result().unwrap(), 7);
}

#[test]
fn bf_056_each_handler_has_its_own_attempts() {
    let bus = EventBus::new("Each");
    let failing = failing(&bus, with(Retry::attempts(3)), usize::MAX);
    let good = Arc::new(AtomicUsize::new(0));
    let of = Arc::clone(&good);
    bus.on(move |_: &Event<Work>| {
        of.fetch_add(1, SeqCst);
    });
    let event = done(&bus.emit(Work));
    assert_eq!((failing.load(SeqCst), good.load(SeqCst)), (3, 1));
    assert_eq!(event.results().iter().map(|result| result.attempts).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn bj_021_delays_stop_growing_at_their_cap() {
    let bus = EventBus::new("Cap");
    let times = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&times);
    let retry = Retry::attempts(5).exponential(20 * MS, 2.0).max_delay(50 * MS);
    bus.on_with(with(retry), move |_: &Event<Work>| -> Result<(), &'static str> {
        lock(&to).push(Instant::now());
        Err("x")
    });
    done(&bus.emit(Work));
    let gaps: Vec<_> = lock(&times).windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps.len(), 4);
    for (gap, least) in gaps.iter().zip([20, 40, 50, 50]) {
        assert!(*gap >= least * MS, "{gaps:?}");
    }
}

#[test]
fn bj_022_jitter_never_makes_a_delay_shorter_than_its_share() {
    // The spread itself is tested where it is computed; here, that it is used: fifty at once do not come back together.
    let bus = EventBus::builder("Jitter")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .unwrap();
    let gaps = Arc::new(Mutex::new(Vec::new()));
    let (to, started) = (Arc::clone(&gaps), Instant::now());
    bus.on_with(with(Retry::attempts(2).delay(100 * MS).jitter(0.25)), move |_: &Event<Work>| {
        let second = HandlerContext::current().unwrap().attempt() == 2;
        if second {
            lock(&to).push(started.elapsed());
            return Ok(());
        }
        Err("once")
    });
    (0..50).for_each(|_| drop(bus.emit(Work)));
    idle(&bus);
    let gaps = lock(&gaps);
    assert_eq!(gaps.len(), 50);
    assert!(gaps.iter().all(|gap| *gap >= 75 * MS), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap != gaps[0]));
}

#[test]
fn bj_024_what_is_not_retryable_is_tried_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("validation")]
    struct Validation;
    let bus = EventBus::new("Validation");
    let calls = Arc::new(AtomicUsize::new(0));
    let of = Arc::clone(&calls);
    let retry = Retry::attempts(5).only_if(|failure| failure.downcast_ref::<Validation>().is_none());
    bus.on_with(with(retry), move |_: &Event<Work>| -> Result<(), Validation> {
        of.fetch_add(1, SeqCst);
        Err(Validation)
    });
    done(&bus.emit(Work));
    assert_eq!(calls.load(SeqCst), 1);
}

#[test]
fn bj_025_a_delay_occupies_no_thread() {
    within(PATIENCE, || {
        let runtime = Runtime::builder().max_threads(1).hard_limit(1).build().unwrap();
        let bus = EventBus::builder("Frees")
            .runtime(&runtime)
            .event_concurrency(EventConcurrency::Parallel)
            .handler_concurrency(HandlerConcurrency::Parallel)
            .build()
            .unwrap();
        let calls = failing(&bus, with(Retry::attempts(2).delay(LONG)), usize::MAX);
        bus.on(|_: &Event<Other>| {});
        let waiting = in_delay(&bus, &calls);
        done(&bus.emit(Other));
        assert!(!waiting.is_completed());
        waiting.cancel();
    });
}

#[test]
fn a_delay_keeps_the_events_place_on_a_serial_bus() {
    let bus = EventBus::new("Place");
    let log = Log::new();
    let to = log.clone();
    bus.on_with(with(Retry::attempts(3).delay(20 * MS)), move |_: &Event<Work>| {
        to.push("work");
        if to.len() < 3 { Err("again") } else { Ok(()) }
    });
    let to = log.clone();
    bus.on(move |_: &Event<Other>| to.push("other"));
    bus.emit(Work);
    bus.emit(Other);
    idle(&bus);
    assert_eq!(log.entries(), ["work", "work", "work", "other"]);
}

#[test]
fn a_delay_lets_jumps_pass() {
    let bus = EventBus::new("Jumps");
    payload!(Asks);
    let calls = failing(&bus, with(Retry::attempts(2).delay(30 * MS)), 2);
    bus.on(|asks: &Event<Asks>| -> Result<(), WaitError> {
        asks.bus().emit(Work).wait()?;
        Ok(())
    });
    let asks = done(&bus.emit(Asks));
    assert!(asks.errors().is_empty() && asks.children()[0].errors().is_empty());
    assert_eq!(calls.load(SeqCst), 2);
}

#[test]
fn permanent_errors_are_never_tried_again() {
    let bus = EventBus::new("Permanent");
    let calls = Arc::new(AtomicUsize::new(0));
    let of = Arc::clone(&calls);
    bus.on_with(with(Retry::attempts(5).only_if(|_| true)), move |_: &Event<Work>| -> Result<(), HandlerError> {
        of.fetch_add(1, SeqCst);
        Err(HandlerError::permanent("no use"))
    });
    assert_eq!(done(&bus.emit(Work)).errors()[0].to_string(), "no use");
    assert_eq!(calls.load(SeqCst), 1);
}

#[test]
fn a_list_of_delays_repeats_its_last() {
    let bus = EventBus::new("List");
    let times = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&times);
    bus.on_with(with(Retry::attempts(4).delays([MS, 40 * MS])), move |_: &Event<Work>| -> Result<(), &'static str> {
        lock(&to).push(Instant::now());
        Err("x")
    });
    done(&bus.emit(Work));
    let gaps: Vec<_> = lock(&times).windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.len() == 3 && gaps[0] >= MS && gaps[1] >= 40 * MS && gaps[2] >= 40 * MS, "{gaps:?}");
}

#[test]
fn the_event_goes_before_the_handler_and_that_before_the_bus() {
    struct Typed;
    impl threadbus::Payload for Typed {
        type Output = ();
        fn options() -> EventOptions {
            EventOptions::new().retry(Retry::attempts(5))
        }
    }
    let bus = EventBus::builder("Layers").retry(Retry::attempts(2)).build().unwrap();
    fn fails<P: threadbus::Payload<Output = ()>>(_: &Event<P>) -> Result<(), &'static str> {
        Err("x")
    }
    bus.on(fails::<Work>);
    bus.on_with(with(Retry::attempts(3)), fails::<Work>);
    bus.on_with(with(Retry::attempts(3)), fails::<Typed>);
    let attempts = |results: Vec<threadbus::HandlerResult<()>>| results.iter().map(|r| r.attempts).collect::<Vec<_>>();
    assert_eq!(attempts(done(&bus.emit(Work)).results()), [2, 3]);
    let own = EventOptions::new().retry(Retry::attempts(4));
    assert_eq!(attempts(done(&bus.emit_with(Work, own.clone())).results()), [4, 4]);
    assert_eq!(attempts(done(&bus.emit(Typed)).results()), [5]);
    assert_eq!(attempts(done(&bus.emit_with(Typed, own)).results()), [4]);
}

#[test]
fn cancelling_cuts_a_delay_short() {
    let bus = alone("Cancel");
    let calls = failing(&bus, with(Retry::attempts(2).delay(LONG)), usize::MAX);
    bus.on(|_: &Event<Other>| {});
    let event = in_delay(&bus, &calls);
    let next = bus.emit(Other);
    assert!(event.cancel());
    assert!(done(&event).results()[0].attempts == 1);
    assert_eq!(aborted_by(&event), CauseKind::Cancelled);
    done(&next);
    idle(&bus);
}

#[test]
fn the_events_timeout_caps_all_attempts_and_delays() {
    let bus = EventBus::new("Capped");
    let calls = failing(&bus, with(Retry::attempts(2).delay(LONG)), usize::MAX);
    let event = bus.emit_with(Work, EventOptions::new().timeout(60 * MS));
    done(&event);
    assert_eq!(aborted_by(&event), CauseKind::EventTimeout);
    assert_eq!(calls.load(SeqCst), 1);
}

#[test]
fn bj_071_a_shutdown_cuts_a_delay_short() {
    for (mode, limit) in [(Shutdown::Drain, 100 * MS), (Shutdown::Now, PATIENCE)] {
        let bus = alone("Shut");
        let calls = failing(&bus, with(Retry::attempts(2).delay(LONG)), usize::MAX);
        let event = in_delay(&bus, &calls);
        let report = within(PATIENCE, move || bus.shutdown(mode, limit));
        // It had started, so it counts as completed, and its wait is good.
        assert_eq!((report.completed, report.cancelled, report.abandoned), (1, 0, 0));
        done(&event);
        match mode {
            // It waits for no delay: the last failure is the result.
            Shutdown::Drain => assert_eq!(event.errors()[0].to_string(), "call 1"),
            _ => assert_eq!(aborted_by(&event), CauseKind::Shutdown),
        }
    }
}

/// Tells when it is dropped, as a payload.
struct Held(#[allow(dead_code, reason = "dropped with the payload")] Arc<()>);
impl threadbus::Payload for Held {
    type Output = ();
}

#[test]
fn what_is_cut_short_in_a_delay_is_let_go() {
    let runtime = Runtime::builder().build().unwrap();
    let bus = EventBus::builder("Held").runtime(&runtime).max_history(Some(0)).build().unwrap();
    let alive = Arc::new(());
    let failed = Gate::new();
    let first = failed.clone();
    bus.on_with(with(Retry::attempts(2).delay(LONG)), move |_: &Event<Held>| -> Result<(), &'static str> {
        first.open();
        Err("x")
    });
    let event = bus.emit(Held(Arc::clone(&alive)));
    failed.wait();
    eventually(|| runtime.stats().busy == 0);
    event.cancel();
    drop(event);
    idle(&bus);
    eventually(|| Arc::strong_count(&alive) == 1);
}

#[test]
fn a_filter_that_panics_on_a_timeout_is_told() {
    let bus = EventBus::new("Told");
    let warnings = warnings_naming("on a timeout");
    let gate = Gate::new();
    let (closed, _open) = (gate.clone(), gate.opener());
    let retry = Retry::attempts(3).only_if(|_| panic!("on a timeout"));
    bus.on_with(with(retry), move |_: &Event<Work>| closed.wait());
    let event = done(&bus.emit_with(Work, EventOptions::new().handler_timeout(30 * MS)));
    assert_eq!(event.results()[0].attempts, 1);
    // Less than what the abandoned handler stays: when it returns it asks once more, and that is told.
    within(PATIENCE / 2, move || eventually(|| !warnings().is_empty()));
}

#[test]
fn a_filter_is_not_asked_about_what_was_given_up() {
    let bus = alone("Late");
    let (asked, gate) = (Arc::new(AtomicUsize::new(0)), Gate::new());
    let (count, closed) = (Arc::clone(&asked), gate.clone());
    let retry = Retry::attempts(3).only_if(move |_| {
        count.fetch_add(1, SeqCst);
        false
    });
    bus.on_with(with(retry), move |_: &Event<Work>| -> Result<(), &'static str> {
        closed.wait();
        Err("late")
    });
    done(&bus.emit_with(Work, EventOptions::new().handler_timeout(30 * MS)));
    assert_eq!(asked.load(SeqCst), 1);
    gate.open();
    eventually(|| bus.runtime().stats().abandoned == 0);
    assert_eq!(asked.load(SeqCst), 1);
}

#[test]
fn a_filter_that_panics_means_no_and_is_told() {
    let bus = EventBus::new("Filter");
    let warnings = warnings_naming("retry filter");
    let retry = || Retry::attempts(3).only_if(|_| panic!("in the filter"));
    let calls = failing(&bus, with(retry()).name("filtered"), usize::MAX);
    assert_eq!(done(&bus.emit(Work)).errors()[0].to_string(), "call 1");
    assert_eq!(calls.load(SeqCst), 1);
    assert!(warnings().iter().any(|warning| warning.contains("filtered#") && warning.contains("in the filter")));
}

#[test]
fn a_filter_cannot_wait() {
    let bus = EventBus::new("Blocks");
    let other = EventBus::new("Never");
    other.pause();
    let seen = Log::new();
    let (to, never) = (seen.clone(), other.emit(Other));
    failing(&bus, with(Retry::attempts(2).only_if(move |_| never.wait().map_err(|e| to.push(e)).is_ok())), usize::MAX);
    done(&bus.emit(Work));
    assert!(seen.entries()[0].starts_with("this wait can never end"), "{:?}", seen.entries());
}

#[test]
fn a_filter_sees_timeouts_too() {
    let bus = EventBus::new("Sees");
    let seen = Log::new();
    let (to, gate) = (seen.clone(), Gate::new());
    let (closed, _open) = (gate.clone(), gate.opener());
    let retry = Retry::attempts(9).only_if(move |failure| {
        to.push(failure);
        !matches!(failure, HandlerFailure::TimedOut { .. })
    });
    bus.on_with(with(retry), move |_: &Event<Work>| -> Result<(), &'static str> {
        if HandlerContext::current().unwrap().attempt() == 1 {
            return Err("first");
        }
        closed.wait();
        Ok(())
    });
    let event = done(&bus.emit_with(Work, EventOptions::new().handler_timeout(50 * MS)));
    assert_eq!(seen.entries(), ["first", "timed out after 50ms"]);
    assert_eq!(event.results()[0].attempts, 2);
    assert!(matches!(event.result(), Err(ResultError::Handler { .. })));
}

/// Whether the handler's own thread or the timer's job comes to the next attempt first, that one runs once, and under one turn.
#[test]
fn a_child_whose_delay_is_over_at_once_takes_one_turn() {
    let (bus, other) = (alone("Soon"), EventBus::new("Other"));
    let calls = Arc::new(AtomicUsize::new(0));
    let (of, to) = (Arc::clone(&calls), other.downgrade());
    // The child waits in its turn, so it gives up what it runs under, and takes it back.
    bus.on(move |_: &Event<Work>| -> Result<(), HandlerError> {
        if of.fetch_add(1, SeqCst).is_multiple_of(2) {
            return Err("the first attempt".into());
        }
        to.upgrade().ok_or("gone")?.emit(Other).wait_in_order()?;
        Ok(())
    });
    other.on(|_: &Event<Other>| ());
    bus.on(|_: &Event<Buy>| -> Result<Result<u32, Declined>, WaitError> {
        let bus = HandlerContext::current().unwrap().bus();
        let retry = Retry::attempts(2).delay(Duration::from_nanos(1));
        bus.emit_with(Work, EventOptions::new().retry(retry)).wait().map(|_| Ok(1))
    });
    for _ in 0..1000 {
        assert!(matches!(done(&bus.emit(Buy)).result(), Ok(Ok(1))));
    }
    assert_eq!(calls.load(SeqCst), 2000);
    idle(&bus);
}

/// The thread that runs an event on top of its handler leaves it when there is nothing to start, and somebody else comes after the delay.
#[test]
fn what_is_tried_again_under_a_handler_that_waits_goes_on() {
    const TIMEOUT: Duration = Duration::from_millis(5);
    for delay in [0, 5, 60] {
        for (now, mode) in [
            (false, EventConcurrency::BusSerial),
            (true, EventConcurrency::BusSerial),
            (true, EventConcurrency::Parallel),
        ] {
            let runtime = Runtime::builder().build().unwrap();
            let bus = EventBus::builder("Nested").runtime(&runtime).event_concurrency(mode).build().unwrap();
            bus.on(move |work: &Event<Work>| match now {
                true => drop(work.bus().emit_now(Other)),
                false => drop(work.bus().emit(Other).wait()),
            });
            let options = with(Retry::attempts(2).delay(delay * MS)).timeout(TIMEOUT);
            bus.on_with(options, move |_: &Event<Other>| {
                if HandlerContext::current().is_some_and(|context| context.attempt() == 1) {
                    // It stands until it was given up.
                    let context = HandlerContext::current();
                    eventually(|| context.as_ref().is_some_and(HandlerContext::is_cancelled));
                }
            });
            let event = done(&bus.emit(Work));
            let other = event.children().pop().expect("a child");
            let results = done(&other).results();
            assert_eq!((results.len(), results[0].attempts), (1, 2), "{delay} ms, now: {now}, {mode:?}");
            assert!(results[0].error.is_none(), "{delay} ms, now: {now}, {mode:?}: {:?}", results[0].error);
        }
    }
}
