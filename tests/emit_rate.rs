//! Issue 6: `max_emit_rate`. The bucket itself is tested where it is; here, that emits meet it.

mod common;

use common::{Gate, PATIENCE, done, idle, payload, within};
use std::time::{Duration, Instant};
use threadbus::{EmitError, Event, EventBus, EventConcurrency, EventOptions, OnFull, OnLag, Priority, WaitError};

payload!(Job);

const MS: Duration = Duration::from_millis(1);
/// So slow that a token within a test would be a mistake.
const NEVER: f64 = 1e-6;

#[test]
fn above_the_rate_reject_refuses() {
    let bus = EventBus::builder("Reject").max_emit_rate(NEVER, 3).queue_capacity(100, OnFull::Reject).build().unwrap();
    let taken = (0..10).filter(|_| bus.try_emit(Job).is_ok()).count();
    assert_eq!(taken, 3, "the burst");
    let error = bus.try_emit(Job).unwrap_err().error;
    assert_eq!(error.to_string(), format!("events come too fast for {}", bus.label()));
    assert_eq!(error, EmitError::RateLimited { bus: bus.label().to_owned() });
    assert_eq!(bus.emit(Job).wait().unwrap_err(), WaitError::Rejected(error));
    idle(&bus);
    assert!(bus.try_emit(Job).is_err(), "an empty queue is no token");
    let metrics = bus.metrics();
    assert_eq!((metrics.emitted, metrics.rejected), (3, 10));
}

#[test]
fn block_waits_for_its_token() {
    within(PATIENCE, || {
        let bus = EventBus::builder("Block").max_emit_rate(50.0, 1).build().unwrap();
        let start = Instant::now();
        (0..4).for_each(|_| drop(bus.emit(Job)));
        // The first is free, the others come 20 ms apart.
        assert!(start.elapsed() >= 60 * MS);
        idle(&bus);
        assert_eq!(bus.history_len(), 4);
    });
}

#[test]
fn block_for_gives_up_when_no_token_comes_in_time() {
    let bus =
        EventBus::builder("For").max_emit_rate(NEVER, 1).queue_capacity(9, OnFull::BlockFor(50 * MS)).build().unwrap();
    bus.emit(Job);
    let start = Instant::now();
    let refused = bus.emit(Job).wait().map(drop);
    assert!(matches!(refused, Err(WaitError::Rejected(EmitError::RateLimited { .. }))), "{refused:?}");
    assert!(start.elapsed() >= 50 * MS);
}

/// Also where the queue is full as well.
#[test]
fn nobody_loses_a_place_to_an_arrival_above_the_rate() {
    for capacity in [2, 3, 9] {
        let bus = EventBus::builder("Drop").max_emit_rate(NEVER, 3).queue_capacity(capacity, OnFull::DropOldest);
        let bus = bus.build().unwrap();
        bus.pause();
        let events: Vec<_> = (0..3).map(|_| bus.emit(Job)).collect();
        let dropped = 3_usize.saturating_sub(capacity);
        assert!(events[..dropped].iter().all(|event| event.is_completed()), "{capacity}: for one that had its token");
        for _ in 0..5 {
            let late = bus.try_emit(Job).unwrap_err().error;
            assert!(matches!(late, EmitError::RateLimited { .. }), "{capacity}: {late}");
        }
        assert_eq!(bus.pending(), 3 - dropped, "{capacity}");
        assert!(!events[dropped..].iter().any(|event| event.is_completed()), "{capacity}");
        bus.resume();
        idle(&bus);
    }
}

#[test]
fn an_arrival_below_all_that_is_queued_keeps_no_token() {
    let bus = EventBus::builder("Below").max_emit_rate(NEVER, 2).queue_capacity(1, OnFull::DropOldest);
    let bus = bus.build().unwrap();
    bus.pause();
    bus.emit_with(Job, EventOptions::new().priority(Priority::HIGH));
    let low = || bus.try_emit_with(Job, EventOptions::new().priority(Priority::LOW));
    (0..5).for_each(|_| assert!(matches!(low().unwrap_err().error, EmitError::QueueFull { .. })));
    assert!(bus.try_emit_with(Job, EventOptions::new().priority(Priority::HIGH)).is_ok(), "the second token");
    bus.resume();
    idle(&bus);
}

/// Emitters race for the tokens and for the places: as many are taken as there are tokens, and each that is not taken leaves the queue alone.
#[test]
fn tokens_and_places_agree_under_a_race() {
    within(PATIENCE, || {
        for round in 0..50 {
            let tokens = 20 + round % 7;
            let bus = EventBus::builder("Race").max_emit_rate(NEVER, tokens).queue_capacity(5, OnFull::DropOldest);
            let bus = bus.build().unwrap();
            bus.pause();
            let taken: usize = std::thread::scope(|scope| {
                let emitters: Vec<_> =
                    (0..4).map(|_| scope.spawn(|| (0..20).filter(|_| bus.try_emit(Job).is_ok()).count())).collect();
                emitters.into_iter().map(|emitter| emitter.join().unwrap()).sum()
            });
            assert_eq!((taken, bus.pending()), (tokens, 5));
            bus.resume();
            idle(&bus);
        }
    });
}

#[test]
fn a_forward_above_the_rate_is_refused_by_name() {
    let target = EventBus::builder("Target").max_emit_rate(NEVER, 1).queue_capacity(9, OnFull::Reject).build().unwrap();
    let source = EventBus::new("Source");
    let (first, second) = (done(&source.emit(Job)), done(&source.emit(Job)));
    target.forward(&first).unwrap();
    assert!(matches!(target.forward(&second), Err(EmitError::RateLimited { .. })));
    idle(&target);
}

#[test]
fn run_inline_takes_no_token() {
    let bus = EventBus::builder("Inline")
        .max_emit_rate(NEVER, 1)
        .queue_capacity(9, OnFull::RunInline)
        .event_concurrency(EventConcurrency::Parallel)
        .build()
        .unwrap();
    bus.pause();
    assert!(!bus.emit(Job).is_completed());
    assert!(bus.emit(Job).is_completed() && bus.emit(Job).is_completed());
}

#[test]
fn what_is_refused_for_another_reason_takes_no_token() {
    let bus = EventBus::builder("Full").max_emit_rate(NEVER, 3).queue_capacity(1, OnFull::Reject).build().unwrap();
    bus.pause();
    let taken = (0..10).filter(|_| bus.try_emit(Job).is_ok()).count();
    assert_eq!(taken, 1);
    bus.resume();
    idle(&bus);
    assert!(bus.try_emit(Job).is_ok(), "two tokens are left");
}

#[test]
fn an_emit_that_waits_for_a_subscriber_takes_one_token() {
    within(PATIENCE, || {
        let bus = EventBus::builder("Room").max_emit_rate(NEVER, 2).build().unwrap();
        let mut full = bus.subscribe_bounded::<Job>(1, OnLag::Block);
        bus.emit(Job);
        let (returned, started) = (Gate::new(), Gate::new());
        let emitter = {
            let (bus, returned, started) = (bus.clone(), returned.clone(), started.clone());
            std::thread::spawn(move || {
                started.open();
                bus.emit(Job);
                returned.open();
            })
        };
        started.wait();
        assert!(!returned.wait_for(50 * MS), "there is a token and no room");
        full.recv().unwrap();
        returned.wait();
        emitter.join().unwrap();
    });
}

#[test]
fn handlers_are_exempt_and_take_no_token() {
    payload!(Parent);
    within(PATIENCE, || {
        let bus = EventBus::builder("Exempt").max_emit_rate(NEVER, 2).build().unwrap();
        bus.on(|parent: &Event<Parent>| (0..20).for_each(|_| drop(parent.bus().emit(Job))));
        assert_eq!(done(&bus.emit(Parent)).children().len(), 20);
        done(&bus.emit(Job));
    });
}
