//! What `EventOptions::after` meets: limits, letters, batches, schedules, middlewares, small histories, and user code at odd moments.

mod common;

use common::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use threadbus::{
    AnyEvent, BoxError, EmitError, Event, EventBus, EventOptions, EventStatus, HandlerCompletion, HistoryPolicy, Limit,
    Middleware, OnFull, Payload, Retry, WaitError,
};

payload!(First);
payload!(Second);
payload!(Outer);

fn after(event: impl AsRef<AnyEvent>) -> EventOptions {
    EventOptions::new().after(event)
}

/// A parallel bus on which `First` stands at the gate, and `Second` is counted.
fn bus_at(gate: &Gate) -> (EventBus, Arc<AtomicUsize>) {
    let (bus, ran) = (parallel("meets"), Arc::new(AtomicUsize::new(0)));
    let (stand, count) = (gate.clone(), ran.clone());
    bus.on(move |_: &Event<First>| stand.wait());
    bus.on(move |_: &Event<Second>| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    (bus, ran)
}

#[test]
fn a_holder_of_a_place_that_waits_for_what_comes_after_one_in_its_own_line_is_told_or_goes_on() {
    let bus = parallel("limit");
    let limit = Limit::new(1);
    bus.on_with(limited(&limit), |_: &Event<First>| {});
    bus.on(|_: &Event<Second>| {});
    let told = Log::new();
    let words = told.clone();
    bus.on_with(limited(&limit), move |outer: &Event<Outer>| {
        let first = outer.bus().emit_with(First, EventOptions::new().detached());
        eventually(|| outer.bus().metrics().waiting > 0);
        let waited = outer.bus().emit_with(Second, after(&first)).wait();
        words.push(match waited {
            Ok(_) | Err(WaitError::Deadlock(_)) => "over".to_owned(),
            other => format!("{other:?}"),
        });
    });
    clean(&bus.emit(Outer));
    idle(&bus);
    assert_eq!(told.entries(), ["over"]);
}

#[test]
fn a_letter_that_is_redriven_does_not_release_again() {
    let bus = EventBus::builder("letters").dead_letters(10).build().unwrap();
    let (fails, ran) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
    let (left, count) = (fails.clone(), ran.clone());
    bus.on(move |_: &Event<First>| {
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            Err("not yet")
        } else {
            Ok(())
        }
    });
    bus.on(move |_: &Event<Second>| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let first = bus.emit(First);
    let anyway = bus.emit_with(Second, after(&first));
    let never = bus.emit_with(Second, EventOptions::new().after_ok(&first));
    done(&anyway);
    assert_eq!(never.wait().unwrap_err(), WaitError::Cancelled);
    bus.redrive(10);
    idle(&bus);
    assert_eq!(
        (ran.load(Ordering::SeqCst), bus.dead_letters().len()),
        (1, 0),
        "what was cancelled is no letter, and stays cancelled"
    );
}

#[test]
fn a_batch_of_held_events_is_done_when_they_are() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, ran) = bus_at(&gate);
    let first = bus.emit(First);
    let batch = bus.batch();
    for _ in 0..10 {
        batch.add(bus.emit_with(Second, after(&first)));
    }
    assert!(batch.wait_timeout(ms(20)).is_err());
    gate.open();
    batch.wait().unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 10);
}

#[test]
fn a_handler_may_wait_for_so_long_and_the_event_stays_held() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, ran) = bus_at(&gate);
    let held: Arc<Mutex<Option<Event<Second>>>> = Arc::default();
    let slot = held.clone();
    bus.on(move |_: &Event<Outer>| {
        let held = slot.lock().unwrap().clone().unwrap();
        assert!(matches!(held.wait_timeout(ms(20)), Err(WaitError::Timeout(_))));
    });
    let first = bus.emit(First);
    *held.lock().unwrap() = Some(bus.emit_with(Second, after(&first)));
    clean(&bus.emit(Outer));
    assert_eq!((ran.load(Ordering::SeqCst), bus.metrics().held), (0, 1));
    gate.open();
    idle(&bus);
    assert_eq!(ran.load(Ordering::SeqCst), 1);
}

#[test]
fn what_leaves_a_small_history_is_held_all_the_same() {
    for policy in [HistoryPolicy::DropOldest, HistoryPolicy::KeepUnfinished] {
        for size in [0, 1] {
            let gate = Gate::new();
            let _opener = gate.opener();
            let bus = EventBus::builder("small").max_history(Some(size)).history_policy(policy).build().unwrap();
            let stand = gate.clone();
            bus.on(move |_: &Event<First>| stand.wait());
            let ran = Arc::new(AtomicUsize::new(0));
            let count = ran.clone();
            bus.on(move |_: &Event<Second>| {
                count.fetch_add(1, Ordering::SeqCst);
            });
            let first = bus.emit(First);
            for _ in 0..20 {
                // Nobody keeps it but the bus.
                drop(bus.emit_with(Second, after(&first)));
            }
            gate.open();
            idle(&bus);
            assert_eq!(ran.load(Ordering::SeqCst), 20, "{policy:?}, {size}");
        }
    }
}

#[test]
fn a_middleware_sees_the_emit_at_once_and_the_start_later() {
    struct Notes(Log);
    impl Middleware for Notes {
        fn on_emit(&self, _: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
            self.0.push(format!("emit {}", event.event_type()));
            Ok(())
        }
        fn on_event_change(&self, _: &EventBus, event: &AnyEvent, status: EventStatus) {
            self.0.push(format!("{status:?} {}", event.event_type()));
        }
    }
    let notes = Log::new();
    let bus = EventBus::builder("watched").middleware(Notes(notes.clone())).build().unwrap();
    bus.on(|_: &Event<First>| {});
    bus.on(|_: &Event<Second>| {});
    bus.pause();
    let first = bus.emit(First);
    let second = bus.emit_with(Second, after(&first));
    assert_eq!(notes.count("emit Second"), 1);
    bus.resume();
    done(&second);
    idle(&bus);
    in_order(&notes, &["emit Second", "Completed First", "Started Second", "Completed Second"]);
}

#[test]
fn a_middleware_may_refuse_what_would_be_held() {
    struct Refuses;
    impl Middleware for Refuses {
        fn on_emit(&self, _: &EventBus, event: &AnyEvent) -> Result<(), BoxError> {
            if event.is::<Second>() { Err("closed on Sundays".into()) } else { Ok(()) }
        }
    }
    let gate = Gate::new();
    let _opener = gate.opener();
    let bus = EventBus::builder("refuses").middleware(Refuses).build().unwrap();
    let stand = gate.clone();
    bus.on(move |_: &Event<First>| stand.wait());
    let first = bus.emit(First);
    let refused = bus.try_emit_with(Second, after(&first)).unwrap_err().error;
    assert!(matches!(refused, EmitError::Refused { .. }));
    assert_eq!(bus.metrics().held, 0);
    gate.open();
    done(&first);
}

#[test]
fn first_asked_of_a_held_event_counts_when_it_starts() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let bus = parallel("first");
    let stand = gate.clone();
    bus.on(move |_: &Event<First>| stand.wait());
    struct Ask;
    impl Payload for Ask {
        type Output = u32;
    }
    let second = Gate::new();
    let _other = second.opener();
    let stays = second.clone();
    bus.on(|_: &Event<Ask>| 1);
    bus.on(move |_: &Event<Ask>| {
        stays.wait();
        2
    });
    let first = bus.emit(First);
    let ask = bus.emit_with(Ask, after(&first));
    let asked = ask.clone();
    let answer = std::thread::spawn(move || asked.first().unwrap());
    linger();
    gate.open();
    assert_eq!(answer.join().unwrap(), Some(1));
    done(&ask);
}

#[test]
fn handlers_are_those_that_are_there_at_the_start() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, ran) = bus_at(&gate);
    let first = bus.emit(First);
    let late = bus.emit_with(Outer, after(&first));
    let count = ran.clone();
    bus.on(move |_: &Event<Outer>| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    gate.open();
    done(&late);
    assert_eq!(ran.load(Ordering::SeqCst), 1);
}

#[test]
fn a_payload_that_emits_when_it_is_dropped_may_be_held() {
    struct Drops(EventBus, Arc<AtomicUsize>);
    impl Payload for Drops {
        type Output = ();
    }
    impl Drop for Drops {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
            drop(self.0.emit(Second));
        }
    }
    let gate = Gate::new();
    let _opener = gate.opener();
    let (other, ran) = bus_at(&gate);
    let bus = EventBus::builder("drops").max_history(Some(0)).build().unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    let first = other.emit(First);
    let held = bus.emit_with(Drops(other.clone(), dropped.clone()), after(&first));
    let run = bus.emit_with(Drops(other.clone(), dropped.clone()), after(&first));
    held.cancel();
    drop(held);
    gate.open();
    done(&run);
    drop(run);
    idle(&bus);
    drop(first);
    eventually(|| dropped.load(Ordering::SeqCst) == 2 && ran.load(Ordering::SeqCst) == 2);
}

#[test]
fn what_is_cancelled_in_a_hook_of_a_completion_falls_as_well() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, ran) = bus_at(&gate);
    let first = bus.emit(First);
    let second = bus.emit_with(Second, after(&first));
    let third = bus.emit_with(Second, EventOptions::new().after_ok(&second));
    let batch = bus.batch();
    batch.add(&first);
    let victim = second.clone();
    batch.on_progress(move |_| {
        victim.cancel();
    });
    gate.open();
    eventually(|| third.is_completed());
    idle(&bus);
    // The hook comes before the release or after it.
    assert!(ran.load(Ordering::SeqCst) <= 2);
}

#[test]
fn a_rate_is_asked_at_the_emit() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let bus = EventBus::builder("rate").max_emit_rate(0.01, 2).queue_capacity(10, OnFull::RunInline).build().unwrap();
    let stand = gate.clone();
    bus.on(move |_: &Event<First>| stand.wait());
    bus.on(|_: &Event<Second>| {});
    let first = bus.emit(First);
    let second = bus.emit_with(Second, after(&first));
    let third = bus.emit_with(Second, after(&first));
    assert!(
        matches!(third.wait().unwrap_err(), WaitError::Rejected(EmitError::RateLimited { .. })),
        "it does not run inline"
    );
    gate.open();
    clean(&second);
}

#[test]
fn retries_completion_modes_and_labels_are_its_own() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, _ran) = bus_at(&gate);
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    bus.on(move |_: &Event<Outer>| if count.fetch_add(1, Ordering::SeqCst) < 2 { Err("again") } else { Ok(()) });
    let first = bus.emit(First);
    let options = after(&first).retry(Retry::attempts(3)).completion(HandlerCompletion::First).label("main.c");
    let held = bus.emit_with(Outer, options);
    assert!(held.to_string().ends_with("(main.c)"));
    gate.open();
    clean(&held);
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

#[test]
fn a_schedule_holds_each_of_its_events() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let (bus, ran) = bus_at(&gate);
    let first = bus.emit(First);
    let _scheduled = bus.emit_after_with(ms(1), Second, after(&first));
    eventually(|| bus.metrics().held == 1);
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    gate.open();
    eventually(|| ran.load(Ordering::SeqCst) == 1);
}
