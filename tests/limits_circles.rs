//! Circles over a limit: a delivery keeps its serial bus's turn while it stands in line for a place. Told where they are, and only there.

mod common;

use common::{Gate, PATIENCE, done, eventually, idle, limited, lock, payload, stands_with, within};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use threadbus::{
    Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerOptions, Limit, Payload, ResultError,
    Runtime, WaitError,
};

payload!(Holder => String);
payload!(Ahead => String);
payload!(Behind => String);
payload!(Other => String);
payload!(Outer => String);
payload!(Middle => String);

struct Stage {
    runtime: Runtime,
    limit: Limit,
    /// Nothing but a limit keeps handlers here from running at the same time.
    free: EventBus,
}

impl Stage {
    fn new() -> Self {
        let runtime = Runtime::builder().build().unwrap();
        let free = EventBus::builder("Free").runtime(&runtime);
        let free = free.event_concurrency(EventConcurrency::Parallel);
        let free = free.handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
        Stage { runtime, limit: Limit::new(1), free }
    }

    fn bus(&self, name: &str, events: EventConcurrency) -> EventBus {
        EventBus::builder(name).runtime(&self.runtime).event_concurrency(events).build().unwrap()
    }

    /// Takes the place. When the gate opens it waits in order for what it then emits on `bus`.
    fn holder(&self, bus: &EventBus) -> (Event<Holder>, Gate) {
        let (gate, started) = (Gate::new(), Gate::new());
        let (closed, at_it, bus) = (gate.clone(), started.clone(), bus.clone());
        self.free.on_with(limited(&self.limit), move |_: &Event<Holder>| -> Result<String, ResultError> {
            at_it.open();
            closed.wait();
            bus.emit(Behind).wait_in_order()?.result()
        });
        let holder = self.free.emit(Holder);
        started.wait();
        (holder, gate)
    }

    /// The one handler that waits has parked, or was told a circle.
    fn parks<P: Payload>(&self, of: &Event<P>) {
        eventually(|| self.runtime.stats().waiting == 1 || of.results().iter().any(|result| result.error.is_some()));
    }
}

fn is_told(event: &Event<Holder>) {
    let failed = done(event).result().unwrap_err();
    let ResultError::Handler { failure, .. } = &failed else { panic!("{failed}") };
    let told = failure.downcast_ref::<ResultError>();
    assert!(matches!(told, Some(ResultError::Wait(WaitError::Deadlock(_)))), "{failed}");
}

#[test]
fn a_turn_kept_in_line_for_a_place_closes_a_circle() {
    within(PATIENCE, || {
        let stage = Stage::new();
        let bus = stage.bus("Serial", EventConcurrency::BusSerial);
        bus.on_with(limited(&stage.limit), |_: &Event<Ahead>| "ahead".to_owned());
        bus.on(|_: &Event<Behind>| "behind".to_owned());
        let (holder, gate) = stage.holder(&bus);
        let ahead = bus.emit(Ahead);
        gate.open();
        is_told(&holder);
        assert_eq!(ahead.result().unwrap(), "ahead");
        idle(&bus);
    });
}

#[test]
fn a_turn_kept_for_an_event_that_was_complete_before_closes_a_circle() {
    for events in [EventConcurrency::BusSerial, EventConcurrency::GlobalSerial] {
        within(PATIENCE, move || {
            let stage = Stage::new();
            // A global turn keeps all buses waiting.
            let bus = stage.bus("Serial", events);
            let another =
                if events == EventConcurrency::GlobalSerial { stage.bus("Another", events) } else { bus.clone() };
            stage.free.on(|_: &Event<Ahead>| "at first".to_owned());
            bus.on_with(limited(&stage.limit), |_: &Event<Ahead>| "ahead".to_owned());
            another.on(|_: &Event<Behind>| "behind".to_owned());
            let (holder, gate) = stage.holder(&another);
            let ahead = done(&stage.free.emit(Ahead));
            bus.forward(&ahead).unwrap();
            eventually(|| bus.pending() == 0);
            gate.open();
            is_told(&holder);
            [&bus, &another].into_iter().for_each(idle);
            assert_eq!(ahead.result_list().unwrap(), ["at first", "ahead"]);
        });
    }
}

#[test]
fn what_an_event_runs_on_another_bus_does_not_keep_the_turn() {
    within(PATIENCE, || {
        // The handler that waits is of the very event that keeps the turn, but on another bus; the place comes free.
        let stage = Stage::new();
        let [bus, another] = ["Serial", "Another"].map(|name| stage.bus(name, EventConcurrency::BusSerial));
        let (gate, started) = stands_with::<Other>(&stage.free, limited(&stage.limit), "gated".to_owned());
        let _open = gate.opener();
        bus.on_with(limited(&stage.limit), |_: &Event<Ahead>| "ahead".to_owned());
        bus.on(|_: &Event<Behind>| "behind".to_owned());
        let (forwarded, onto) = (Gate::new(), bus.clone());
        let closed = forwarded.clone();
        another.on(move |_: &Event<Ahead>| {
            closed.wait();
            onto.emit(Behind).wait_in_order()?.result()
        });
        stage.free.emit(Other);
        started.wait();
        let ahead = another.emit(Ahead);
        bus.forward(&ahead).unwrap();
        eventually(|| bus.pending() == 0);
        forwarded.open();
        stage.parks(&ahead);
        gate.open();
        assert_eq!(ahead.result_list().unwrap(), ["behind", "ahead"]);
    });
}

#[test]
fn a_line_that_an_event_stands_in_on_another_bus_does_not_keep_the_turn() {
    within(PATIENCE, || {
        // It had its own line on this bus, and runs here; the place that it waits for elsewhere is the waiting handler's.
        let stage = Stage::new();
        let [bus, another] = ["Serial", "Another"].map(|name| stage.bus(name, EventConcurrency::BusSerial));
        let before = Limit::new(1);
        let (first, has_it) = stands_with::<Other>(&stage.free, limited(&before), "gated".to_owned());
        let (second, runs) = stands_with::<Ahead>(&bus, limited(&before), "gated".to_owned());
        let _open = (first.opener(), second.opener());
        another.on_with(limited(&stage.limit), |_: &Event<Ahead>| "elsewhere".to_owned());
        bus.on(|_: &Event<Behind>| "behind".to_owned());
        let (holder, gate) = stage.holder(&bus);
        stage.free.emit(Other);
        has_it.wait();
        let ahead = bus.emit(Ahead);
        another.forward(&ahead).unwrap();
        eventually(|| bus.pending() == 0 && another.pending() == 0);
        first.open();
        runs.wait();
        gate.open();
        stage.parks(&holder);
        second.open();
        assert_eq!(holder.result().unwrap(), "behind");
        assert_eq!(ahead.result_list().unwrap(), ["gated", "elsewhere"]);
    });
}

#[test]
fn what_stands_in_line_without_a_turn_keeps_nobody_waiting() {
    within(PATIENCE, || {
        // A handler lent it the turn in a wait, and was cancelled.
        let stage = Stage::new();
        let [bus, another] = ["Serial", "Another"].map(|name| stage.bus(name, EventConcurrency::BusSerial));
        let (busy, is_busy) = stands_with::<Other>(&bus, HandlerOptions::new(), "gated".to_owned());
        let _open = busy.opener();
        bus.on_with(limited(&stage.limit), |_: &Event<Ahead>| "ahead".to_owned());
        bus.on(|_: &Event<Behind>| "behind".to_owned());
        let foreign: Arc<Mutex<Option<Event<Ahead>>>> = Arc::default();
        let awaited = Arc::clone(&foreign);
        another.on(move |_: &Event<Middle>| {
            let ahead = lock(&awaited).clone().unwrap();
            ahead.wait_in_order()?.result()
        });
        let (emitted, waits) = (Gate::new(), Gate::new());
        let (has_emitted, closed) = (emitted.clone(), waits.clone());
        bus.on(move |outer: &Event<Outer>| {
            *lock(&foreign) = Some(outer.bus().emit_with(Ahead, EventOptions::new().detached()));
            let middle = another.emit(Middle);
            has_emitted.open();
            closed.wait();
            middle.result()
        });
        let (holder, gate) = stage.holder(&bus);
        let outer = bus.emit(Outer);
        emitted.wait();
        eventually(|| stage.runtime.stats().waiting == 1);
        waits.open();
        // What the one waits for in order, the other one has claimed; it stands in line.
        eventually(|| bus.pending() == 0 && stage.runtime.stats().waiting == 2);
        outer.cancel();
        eventually(|| stage.runtime.stats().waiting == 0);
        bus.emit(Other);
        is_busy.wait();
        gate.open();
        stage.parks(&holder);
        busy.open();
        assert_eq!(holder.result().unwrap(), "behind");
        idle(&bus);
    });
}

payload!(Left { first: bool });
payload!(Right { first: bool });

#[test]
fn a_circle_over_two_limits_with_two_places_each_is_told() {
    within(PATIENCE, || {
        let free = Stage::new().free;
        let (left, right) = (Limit::new(2), Limit::new(2));
        let all_hold = Arc::new(Barrier::new(4));
        let told = Arc::new(AtomicUsize::new(0));
        let count = move |told: &AtomicUsize, waited: Result<(), WaitError>| {
            told.fetch_add(usize::from(matches!(waited, Err(WaitError::Deadlock(_)))), Ordering::SeqCst);
        };
        let (meet, counter) = (Arc::clone(&all_hold), Arc::clone(&told));
        free.on_with(limited(&left), move |event: &Event<Left>| {
            if event.first {
                meet.wait();
                count(&counter, event.bus().emit(Right { first: false }).wait().map(drop));
            }
        });
        let (meet, counter) = (all_hold, Arc::clone(&told));
        free.on_with(limited(&right), move |event: &Event<Right>| {
            if event.first {
                meet.wait();
                count(&counter, event.bus().emit(Left { first: false }).wait().map(drop));
            }
        });
        for _ in 0..2 {
            free.emit(Left { first: true });
            free.emit(Right { first: true });
        }
        idle(&free);
        assert!(told.load(Ordering::SeqCst) >= 1);
    });
}
