//! `try_emit` waits for nothing: not for room in a queue, not for a token, not for the reader of a subscription.

mod common;

use common::{Gate, PATIENCE, done, idle, payload, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use threadbus::{EmitError, Event, EventBus, EventOptions, OnFull, OnLag, TryEmitError};

payload!(Job { n: usize });
payload!(Other);

const LONG: Duration = Duration::from_secs(3600);

/// The reason for which a job is refused, at once.
#[track_caller]
fn refusal(bus: &EventBus, n: usize) -> EmitError {
    let bus = bus.clone();
    let (plain, with) = within(PATIENCE, move || {
        (bus.try_emit(Job { n }).map(drop), bus.try_emit_with(Job { n }, EventOptions::new()).map(drop))
    });
    let (TryEmitError { payload, error }, with) = (plain.unwrap_err(), with.unwrap_err());
    assert_eq!((payload.n, with.payload.n, &with.error), (n, n, &error));
    error
}

#[test]
fn a_full_queue_and_a_rate_refuse_at_once() {
    for on_full in [OnFull::Block, OnFull::BlockFor(LONG), OnFull::Reject] {
        let bus = EventBus::builder("Queue").queue_capacity(2, on_full).build().unwrap();
        bus.pause();
        assert!(bus.try_emit(Job { n: 0 }).is_ok() && bus.try_emit(Job { n: 1 }).is_ok());
        assert!(matches!(refusal(&bus, 2), EmitError::QueueFull { capacity: 2, .. }), "{on_full:?}");
        assert_eq!(bus.metrics().rejected, 2);
        bus.resume();
        idle(&bus);
        assert!(bus.try_emit(Job { n: 3 }).is_ok(), "there is room again");

        let bus = EventBus::builder("Rate").max_emit_rate(1e-6, 1).queue_capacity(9, on_full).build().unwrap();
        assert!(bus.try_emit(Job { n: 0 }).is_ok());
        assert!(matches!(refusal(&bus, 1), EmitError::RateLimited { .. }), "{on_full:?}");
    }
    // Without a queue's capacity, a rate blocks.
    let bus = EventBus::builder("Rate").max_emit_rate(1e-6, 1).build().unwrap();
    assert!(bus.try_emit(Job { n: 0 }).is_ok());
    assert!(matches!(refusal(&bus, 1), EmitError::RateLimited { .. }));
}

#[test]
fn a_full_subscription_refuses_at_once_what_it_would_see() {
    for typed in [true, false] {
        let bus = EventBus::new("Reader");
        let (mut jobs, mut any) = (None, None);
        if typed {
            jobs = Some(bus.subscribe_bounded::<Job>(1, OnLag::Block));
        } else {
            any = Some(bus.subscribe_any_bounded(1, OnLag::Block));
        }
        assert!(bus.try_emit(Job { n: 0 }).is_ok());
        let error = refusal(&bus, 1);
        assert!(matches!(&error, EmitError::SubscriptionFull { bus: of, capacity: 1, .. } if of == bus.label()));
        assert_eq!(error.to_string(), format!("a subscription of {} is full (1)", bus.label()));
        assert_eq!(bus.try_emit(Other).is_ok(), typed, "one that cares for another type is not in the way");
        idle(&bus);
        assert_eq!((bus.history_len(), bus.metrics().rejected), (1 + usize::from(typed), 2 + u64::from(!typed)));
        // There is room when somebody has read, and when nobody reads any more.
        assert!(jobs.as_mut().is_none_or(|jobs| jobs.try_recv().is_ok()));
        assert!(any.as_mut().is_none_or(|any| any.try_recv().is_ok()));
        assert!(bus.try_emit(Job { n: 2 }).is_ok());
        refusal(&bus, 3);
        drop((jobs, any));
        assert!(bus.try_emit(Job { n: 4 }).is_ok());
    }
    // One that drops the oldest, and one without bound, are never in the way.
    let bus = EventBus::new("Lag");
    let _subscriptions = (bus.subscribe_bounded::<Job>(1, OnLag::DropOldest), bus.subscribe::<Job>());
    assert!((0..10).all(|n| bus.try_emit(Job { n }).is_ok()));
}

#[test]
fn nothing_is_dropped_or_run_for_what_is_refused() {
    for on_full in [OnFull::DropOldest, OnFull::RunInline] {
        let ran = Arc::new(AtomicUsize::new(0));
        let bus = EventBus::builder("Both").queue_capacity(1, on_full).build().unwrap();
        let count = Arc::clone(&ran);
        bus.on(move |_: &Event<Job>| _ = count.fetch_add(1, SeqCst));
        bus.pause();
        let first = bus.emit(Job { n: 0 });
        let mut jobs = bus.subscribe_bounded::<Other>(1, OnLag::Block);
        // These two mean the same as in `emit`.
        let second = bus.try_emit(Job { n: 1 }).unwrap();
        assert_eq!(ran.load(SeqCst), usize::from(on_full == OnFull::RunInline));
        assert_eq!(first.is_completed(), on_full == OnFull::DropOldest);
        let any = bus.subscribe_any_bounded(1, OnLag::Block);
        bus.resume();
        idle(&bus);
        bus.pause();
        let third = bus.try_emit(Job { n: 2 }).unwrap();
        // The queue is full and so is the subscription: the one in the queue stays.
        assert!(matches!(refusal(&bus, 3), EmitError::SubscriptionFull { .. }), "{on_full:?}");
        assert!(!third.is_completed());
        bus.resume();
        done(&third);
        idle(&bus);
        assert_eq!(ran.load(SeqCst), 2 + usize::from(on_full == OnFull::RunInline), "{on_full:?}");
        assert!(jobs.try_recv().is_err());
        drop((any, second));
    }
}

#[test]
fn the_thread_waits_again_afterwards() {
    let bus = EventBus::builder("After").queue_capacity(1, OnFull::Block).build().unwrap();
    bus.pause();
    bus.emit(Job { n: 0 });
    let (emitter, refused) = (bus.clone(), Gate::new());
    let tried = refused.clone();
    let thread = std::thread::spawn(move || {
        assert!(emitter.try_emit(Job { n: 1 }).is_err());
        tried.open();
        emitter.emit(Job { n: 2 }).wait().is_ok()
    });
    refused.wait();
    bus.resume();
    assert!(within(PATIENCE, move || thread.join().unwrap()), "it was refused, and did not wait");
}

/// What a `try_emit` throws out of the history is the program's to drop, and what that emits waits as every `emit` does.
#[test]
fn what_a_drop_emits_meanwhile_waits() {
    struct Told(EventBus, Gate);
    impl Drop for Told {
        fn drop(&mut self) {
            self.1.open();
            self.0.emit(Other);
        }
    }
    impl threadbus::Payload for Told {
        type Output = ();
    }
    within(PATIENCE, || {
        let full = EventBus::builder("Full").queue_capacity(1, OnFull::Block).build().unwrap();
        full.pause();
        full.emit(Other);
        let bus = EventBus::builder("History").max_history(Some(1)).build().unwrap();
        let drops = Gate::new();
        bus.emit(Told(full.clone(), drops.clone()));
        idle(&bus);
        let helper = {
            let full = full.clone();
            std::thread::spawn(move || {
                drops.wait();
                full.resume();
            })
        };
        assert!(bus.try_emit(Job { n: 0 }).is_ok());
        helper.join().unwrap();
        idle(&full);
        assert_eq!((full.metrics().emitted, full.metrics().rejected), (2, 0));
    });
}
