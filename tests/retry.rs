//! Conformance, section RETRY: what is tried again, how often and how long after. Lines about semaphores are in limits.rs.

mod common;

use common::{Gate, done, lock, payload};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use threadbus::{
    Event, EventBus, EventOptions, Handler, HandlerError, HandlerFailure, HandlerOptions, ResultError, ResultStatus,
    Retry,
};

payload!(Work => String);
payload!(Pair { n: u32, text: String } => String);

const MS: Duration = Duration::from_millis(1);

#[derive(Debug, thiserror::Error)]
#[error("network: {0}")]
struct NetworkError(&'static str);
#[derive(Debug, thiserror::Error)]
#[error("validation: {0}")]
struct ValidationError(&'static str);
#[derive(Debug, thiserror::Error)]
#[error("type: {0}")]
struct TypeError(&'static str);

/// When each call came, in order.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<Instant>>>);

impl Calls {
    /// Which call this is, from 1.
    fn next(&self) -> usize {
        let mut calls = lock(&self.0);
        calls.push(Instant::now());
        calls.len()
    }

    fn count(&self) -> usize {
        lock(&self.0).len()
    }

    fn gaps(&self) -> Vec<Duration> {
        lock(&self.0).windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// A bus whose handler of `Work` runs `body` with the number of the call.
fn retried(
    retry: Option<Retry>,
    body: impl Fn(usize) -> Result<String, HandlerError> + Send + Sync + 'static,
) -> (EventBus, Calls) {
    let bus = EventBus::new("Retried");
    let calls = Calls::default();
    let of = calls.clone();
    let options = retry.map_or_else(HandlerOptions::new, |retry| HandlerOptions::new().retry(retry));
    bus.on_with(options, move |_: &Event<Work>| body(of.next()));
    (bus, calls)
}

fn failure_of(event: &Event<Work>) -> Arc<HandlerFailure> {
    match done(event).result() {
        Err(ResultError::Handler { failure, .. }) => failure,
        other => panic!("no failure but {other:?}"),
    }
}

#[test]
fn retry_001_a_first_success_is_the_end() {
    let (bus, calls) = retried(Some(Retry::attempts(3)), |_| Ok("ok".into()));
    assert_eq!(bus.emit(Work).result().unwrap(), "ok");
    assert_eq!(calls.count(), 1);
}

#[test]
fn retry_003_the_last_error_stands_after_all_attempts() {
    let (bus, calls) = retried(Some(Retry::attempts(3)), |call| Err(format!("always fails, {call}").into()));
    assert_eq!(failure_of(&bus.emit(Work)).to_string(), "always fails, 3");
    assert_eq!(calls.count(), 3);
}

#[test]
fn retry_004_one_attempt_is_the_default() {
    for retry in [None, Some(Retry::attempts(1))] {
        let (bus, calls) = retried(retry, |_| Err(NetworkError("down").into()));
        assert!(failure_of(&bus.emit(Work)).downcast_ref::<NetworkError>().is_some());
        assert_eq!(calls.count(), 1);
    }
}

#[test]
fn retry_005_no_attempts_are_one() {
    let (bus, calls) = retried(Some(Retry::attempts(0)), |_| Err("x".into()));
    failure_of(&bus.emit(Work));
    assert_eq!(calls.count(), 1);
}

#[test]
fn retry_006_a_delay_lies_between_attempts() {
    let (bus, calls) = retried(Some(Retry::attempts(3).delay(50 * MS)), |call| {
        if call < 3 { Err("not yet".into()) } else { Ok("ok".into()) }
    });
    assert_eq!(bus.emit(Work).result().unwrap(), "ok");
    assert!(calls.gaps().iter().all(|gap| *gap >= 50 * MS), "{:?}", calls.gaps());
}

#[test]
fn retry_007_delays_grow_by_their_factor() {
    let (bus, calls) = retried(Some(Retry::attempts(4).exponential(80 * MS, 2.0)), |call| {
        if call < 4 { Err("not yet".into()) } else { Ok("ok".into()) }
    });
    assert_eq!(bus.emit(Work).result().unwrap(), "ok");
    let gaps = calls.gaps();
    assert!(gaps[0] >= 80 * MS && gaps[1] >= 160 * MS && gaps[2] >= 320 * MS, "{gaps:?}");
    assert!(gaps.is_sorted_by(|a, b| a < b), "{gaps:?}");
}

fn network_only() -> Retry {
    Retry::attempts(3).only_if(|failure| failure.downcast_ref::<NetworkError>().is_some())
}

#[test]
fn retry_008_a_matching_error_is_tried_again() {
    let (bus, calls) =
        retried(Some(network_only()), |call| if call < 3 { Err(NetworkError("down").into()) } else { Ok("ok".into()) });
    assert_eq!(bus.emit(Work).result().unwrap(), "ok");
    assert_eq!(calls.count(), 3);
}

#[test]
fn retry_009_another_error_passes() {
    let (bus, calls) = retried(Some(network_only()), |_| Err(ValidationError("bad").into()));
    assert!(failure_of(&bus.emit(Work)).downcast_ref::<ValidationError>().is_some());
    assert_eq!(calls.count(), 1);
}

#[test]
fn retry_011_the_message_may_decide() {
    let by_text = || Retry::attempts(3).only_if(|failure| failure.to_string().to_lowercase().contains("network"));
    let (bus, calls) = retried(Some(by_text()), |_| Err("Network down".into()));
    failure_of(&bus.emit(Work));
    assert_eq!(calls.count(), 3);
    let (bus, calls) = retried(Some(by_text()), |_| Err("no such user".into()));
    failure_of(&bus.emit(Work));
    assert_eq!(calls.count(), 1);
}

#[test]
fn retry_012_type_and_message_together() {
    let retry = Retry::attempts(9).only_if(|failure| {
        failure.downcast_ref::<TypeError>().is_some()
            || failure.downcast_ref::<NetworkError>().is_some()
            || failure.to_string().contains("timeout")
    });
    let (bus, calls) = retried(Some(retry), |call| match call {
        1 => Err(TypeError("wrong").into()),
        2 => Err(NetworkError("down").into()),
        3 => Err("Connection timeout".into()),
        _ => Ok("ok".into()),
    });
    assert_eq!(bus.emit(Work).result().unwrap(), "ok");
    assert_eq!(calls.count(), 4);
}

#[test]
fn retry_013_one_of_two_types_and_an_exact_message() {
    let either = Retry::attempts(3).only_if(|failure| {
        failure.downcast_ref::<NetworkError>().is_some() || failure.downcast_ref::<TypeError>().is_some()
    });
    let exact = Retry::attempts(3).only_if(|failure| {
        matches!(failure, HandlerFailure::Failed(error) if error.to_string() == "validation: temporary failure")
    });
    let (bus, calls) = retried(Some(either), |call| match call {
        1 => Err(NetworkError("down").into()),
        2 => Err(TypeError("wrong").into()),
        _ => Ok("ok".into()),
    });
    bus.emit(Work).result().unwrap();
    assert_eq!(calls.count(), 3);
    let (bus, calls) = retried(Some(exact), |_| Err(ValidationError("temporary failure").into()));
    failure_of(&bus.emit(Work));
    assert_eq!(calls.count(), 3);
}

#[test]
fn retry_014_an_attempt_times_out() {
    let gate = Gate::new();
    let (closed, _open) = (gate.clone(), gate.opener());
    let (bus, calls) = retried(Some(Retry::attempts(1)), move |_| {
        closed.wait();
        Ok("late".into())
    });
    let event = bus.emit_with(Work, EventOptions::new().handler_timeout(50 * MS));
    assert!(matches!(*failure_of(&event), HandlerFailure::TimedOut { after, .. } if after == 50 * MS));
    assert_eq!((calls.count(), event.results()[0].attempts), (1, 1));
}

#[test]
fn retry_015_a_timeout_that_is_not_reached_changes_nothing() {
    let (bus, calls) = retried(Some(Retry::attempts(3)), |_| Ok("value".into()));
    let event = bus.emit_with(Work, EventOptions::new().handler_timeout(Duration::from_secs(5)));
    assert_eq!(event.result().unwrap(), "value");
    assert_eq!(calls.count(), 1);
}

#[test]
fn retry_016_timeouts_are_tried_again() {
    let gate = Gate::new();
    let (closed, _open) = (gate.clone(), gate.opener());
    let (bus, calls) = retried(Some(Retry::attempts(3)), move |call| {
        if call < 3 {
            closed.wait();
        }
        Ok("ok".into())
    });
    let event = bus.emit_with(Work, EventOptions::new().handler_timeout(60 * MS));
    assert_eq!(event.result().unwrap(), "ok");
    assert_eq!((calls.count(), event.results()[0].attempts), (3, 3));
}

#[test]
fn retry_022_a_handler_keeps_its_own_state() {
    struct Instance {
        value: u32,
        calls: Calls,
    }
    impl Handler<Work> for Instance {
        fn handle(&self, _: &Event<Work>) -> Result<Option<String>, HandlerError> {
            if self.calls.next() == 1 { Err("once".into()) } else { Ok(Some(self.value.to_string())) }
        }
    }
    let bus = EventBus::new("Instance");
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(2)), Instance { value: 42, calls: Calls::default() });
    assert_eq!(bus.emit(Work).result().unwrap(), "42");
}

#[test]
fn retry_023_a_plain_function_is_retried() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    fn plain(_: &Event<Work>) -> Result<String, &'static str> {
        if CALLS.fetch_add(1, SeqCst) == 0 { Err("once") } else { Ok("sync ok".into()) }
    }
    let bus = EventBus::new("Plain");
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(2)), plain);
    assert_eq!(bus.emit(Work).result().unwrap(), "sync ok");
    assert_eq!(CALLS.load(SeqCst), 2);
}

#[test]
fn retry_024_each_attempt_sees_the_same_event() {
    let bus = EventBus::new("Same");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&seen);
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(2)), move |pair: &Event<Pair>| {
        let mut seen = lock(&to);
        seen.push(pair.id());
        if seen.len() == 1 { Err("once") } else { Ok(format!("{}-{}", pair.n, pair.text)) }
    });
    assert_eq!(bus.emit(Pair { n: 1, text: "hello".into() }).result().unwrap(), "1-hello");
    let seen = lock(&seen);
    assert_eq!((seen.len(), seen[0]), (2, seen[1]));
}

#[test]
fn retry_039_a_handler_that_recovers_completes() {
    let (bus, calls) = retried(Some(Retry::attempts(3).delay(80 * MS)), |call| {
        if call < 3 { Err("not yet".into()) } else { Ok("handler ok".into()) }
    });
    let event = bus.emit(Work);
    assert_eq!(event.result().unwrap(), "handler ok");
    let results = event.results();
    assert_eq!(results.len(), 1, "one result, however often it was tried");
    assert_eq!((results[0].status, results[0].attempts), (ResultStatus::Completed, 3));
    assert!(event.errors().is_empty());
    assert!(calls.count() == 3 && calls.gaps().iter().all(|gap| *gap >= 80 * MS));
}

#[test]
fn retry_040_what_does_not_match_ends_it() {
    let (bus, calls) = retried(Some(network_only()), |_| Err(TypeError("wrong").into()));
    let event = bus.emit(Work);
    assert!(failure_of(&event).downcast_ref::<TypeError>().is_some());
    assert_eq!((calls.count(), event.results()[0].status), (1, ResultStatus::Error));

    let value_or_network = Retry::attempts(9).only_if(|failure| failure.downcast_ref::<TypeError>().is_none());
    let (bus, calls) = retried(Some(value_or_network), |call| match call {
        1 => Err(ValidationError("again").into()),
        2 => Err(NetworkError("again").into()),
        _ => Err(TypeError("stop").into()),
    });
    assert_eq!(failure_of(&bus.emit(Work)).to_string(), "type: stop");
    assert_eq!(calls.count(), 3);
}

#[test]
fn retry_041_a_method_of_a_shared_service() {
    struct Service {
        calls: Calls,
    }
    impl Service {
        fn serve(&self, _: &Event<Work>) -> Result<String, NetworkError> {
            if self.calls.next() < 3 { Err(NetworkError("down")) } else { Ok("handler ok".into()) }
        }
    }
    let service = Arc::new(Service { calls: Calls::default() });
    let bus = EventBus::new("Service");
    let bound = Arc::clone(&service);
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(3)), move |event: &Event<Work>| bound.serve(event));
    assert_eq!(bus.emit(Work).result().unwrap(), "handler ok");
    assert_eq!(service.calls.count(), 3);
}

#[test]
fn retry_044_the_attempts_cap_is_nearer_than_the_events() {
    let gate = Gate::new();
    let (closed, _open) = (gate.clone(), gate.opener());
    let (bus, _) = retried(None, move |_| {
        closed.wait();
        Ok("late".into())
    });
    let caps = EventOptions::new().handler_timeout(100 * MS).timeout(Duration::from_secs(5));
    let event = bus.emit_with(Work, caps);
    assert!(matches!(*failure_of(&event), HandlerFailure::TimedOut { .. }));
    let results = event.results();
    assert_eq!(results.len(), 1);
    assert!(results[0].started_at.is_some());
}

#[test]
fn retry_045_emitting_and_waiting_may_be_retried_as_a_whole() {
    payload!(Session => String);
    payload!(Navigate);
    payload!(Close);
    let bus = EventBus::new("Dispatch");
    let (tabs, others) = (Calls::default(), Calls::default());
    let of = tabs.clone();
    bus.on(move |_: &Event<Work>| if of.next() < 3 { Err("no tab") } else { Ok("tab".to_owned()) });
    let (navigated, closed) = (others.clone(), others.clone());
    bus.on(move |_: &Event<Navigate>| {
        navigated.next();
    });
    bus.on(move |_: &Event<Close>| {
        closed.next();
    });
    let options = HandlerOptions::new().retry(Retry::attempts(4));
    bus.on_with(options, |session: &Event<Session>| session.bus().emit(Work).result());

    done(&bus.emit(Navigate));
    let session = bus.emit(Session);
    assert_eq!(session.result().unwrap(), "tab");
    done(&bus.emit(Close));
    assert_eq!((tabs.count(), others.count()), (3, 2));
    // Each attempt emitted an event of its own; the last of them completed.
    let children = session.children();
    assert_eq!(children.iter().map(|child| child.errors().len()).collect::<Vec<_>>(), [1, 1, 0]);
}
