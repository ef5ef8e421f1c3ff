//! Beats of `emit_every` that come while the handlers of the one before are not through; and schedules with options of their own.

mod common;

use common::{Gate, PATIENCE, eventually, payload, warnings_naming, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use threadbus::*;

#[derive(Clone)]
struct Tick;
impl Payload for Tick {
    type Output = ();
}
payload!(Slow);
payload!(Last { n: usize } => usize);

const MS: Duration = Duration::from_millis(1);

fn emitted(bus: &EventBus) -> u64 {
    bus.metrics().emitted
}

/// So many beats pass, and some more where the machine is slow.
fn beats(count: u32) {
    thread::sleep(5 * MS * count);
}

/// The handler stands until the gate opens, from the first beat on.
fn stands_and_counts(bus: &EventBus) -> (Gate, Arc<AtomicUsize>) {
    let (gate, runs) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let (closed, count) = (gate.clone(), Arc::clone(&runs));
    bus.on(move |_: &Event<Tick>| {
        count.fetch_add(1, SeqCst);
        closed.wait();
    });
    (gate, runs)
}

#[test]
fn a_slow_handler_has_one_beat_and_then_goes_on() {
    for concurrency in [EventConcurrency::BusSerial, EventConcurrency::GlobalSerial, EventConcurrency::Parallel] {
        within(PATIENCE, move || {
            let runtime = Runtime::builder().build().unwrap();
            let builder = EventBus::builder("Slow").runtime(&runtime).event_concurrency(concurrency);
            let bus = builder.handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
            let (gate, runs) = stands_and_counts(&bus);
            let _open = gate.opener();
            let ticking = bus.emit_every(5 * MS, Tick);
            eventually(|| runs.load(SeqCst) == 1);
            beats(20);
            assert_eq!((emitted(&bus), bus.pending()), (1, 0), "{concurrency:?}");
            gate.open();
            eventually(|| runs.load(SeqCst) > 3);
            assert!(ticking.cancel());
        });
    }
}

#[test]
fn behind_other_events_and_on_a_paused_bus_one_waits() {
    within(PATIENCE, || {
        let bus = EventBus::new("Busy");
        let gate = Gate::new();
        let (closed, _open) = (gate.clone(), gate.opener());
        bus.on(move |_: &Event<Slow>| closed.wait());
        bus.emit(Slow);
        let ticking = bus.emit_every(5 * MS, Tick);
        eventually(|| emitted(&bus) == 2);
        beats(20);
        assert_eq!(emitted(&bus), 2);
        bus.pause();
        gate.open();
        beats(10);
        assert_eq!((emitted(&bus), bus.pending()), (2, 1));
        bus.resume();
        eventually(|| emitted(&bus) > 4);
        assert!(ticking.cancel());
    });
}

#[test]
fn a_manual_bus_that_nobody_pumps_has_one_beat() {
    within(PATIENCE, || {
        let bus = EventBus::builder("Window").manual().build().unwrap();
        let _ticking = bus.emit_every(5 * MS, Tick);
        eventually(|| bus.pending() == 1);
        beats(20);
        assert_eq!((bus.pending(), emitted(&bus)), (1, 1));
        bus.run_pending();
        eventually(|| bus.pending() == 1);
    });
}

#[test]
fn an_attempt_to_come_is_not_through_and_one_that_was_given_up_is() {
    within(PATIENCE, || {
        let bus = EventBus::new("Retries");
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        let retry = Retry::attempts(2).delay(Duration::from_secs(3600));
        bus.on_with(HandlerOptions::new().retry(retry), move |_: &Event<Tick>| {
            count.fetch_add(1, SeqCst);
            Err::<(), _>("again")
        });
        let ticking = bus.emit_every(5 * MS, Tick);
        eventually(|| runs.load(SeqCst) == 1);
        beats(20);
        assert_eq!((runs.load(SeqCst), emitted(&bus)), (1, 1));
        assert!(ticking.cancel());

        let bus = EventBus::builder("Overstays").handler_timeout(Some(20 * MS)).build().unwrap();
        let (gate, runs) = stands_and_counts(&bus);
        let _open = gate.opener();
        let ticking = bus.emit_every(5 * MS, Tick);
        eventually(|| runs.load(SeqCst) >= 3);
        assert!(ticking.cancel());
    });
}

#[test]
fn children_and_other_buses_do_not_count() {
    within(PATIENCE, || {
        let (bus, other) = (EventBus::new("Here"), EventBus::new("There"));
        let gate = Gate::new();
        let (closed, there, _open) = (gate.clone(), other.downgrade(), gate.opener());
        other.on(move |_: &Event<Slow>| closed.wait());
        bus.on(move |_: &Event<Tick>| there.upgrade().into_iter().for_each(|there| drop(there.emit(Slow))));
        let ticking = bus.emit_every(5 * MS, Tick);
        eventually(|| emitted(&bus) > 5);
        assert!(bus.history().iter().all(|tick| !tick.is_completed()), "their children stand");
        assert!(ticking.cancel());

        let (bus, other) = (EventBus::new("From"), EventBus::new("To"));
        let closed = gate.clone();
        other.on(move |_: &Event<Tick>| closed.wait());
        bus.forward_to::<Tick>(&other);
        let ticking = bus.emit_every(5 * MS, Tick);
        eventually(|| emitted(&bus) > 5);
        assert!(ticking.cancel());
    });
}

#[test]
fn who_wants_every_beat_has_them_queued() {
    within(PATIENCE, || {
        let bus = EventBus::new("All");
        let (gate, runs) = stands_and_counts(&bus);
        let _open = gate.opener();
        let ticking = bus.emit_every_with(5 * MS, Tick, EventOptions::new(), Overlap::Queue);
        eventually(|| bus.pending() > 5);
        assert!(ticking.cancel());
        let all = usize::try_from(emitted(&bus)).unwrap();
        gate.open();
        eventually(|| bus.is_idle());
        // One that was just emitted may have come after the look.
        assert!(runs.load(SeqCst) >= all);
    });
}

#[test]
fn every_beat_has_the_options() {
    within(PATIENCE, || {
        let bus = EventBus::new("Options");
        let warned = warnings_naming(bus.label());
        let (seen, ticks) = channel();
        bus.on(move |tick: &Event<Tick>| drop(seen.send((tick.priority(), tick.correlation_id().to_owned()))));
        let id = EventId(uuid::Uuid::from_u128(7));
        let options = EventOptions::new().priority(Priority::HIGH).correlation_id("beat").id(id);
        let ticking = bus.emit_every_with(5 * MS, Tick, options, Overlap::Skip);
        for _ in 0..3 {
            assert_eq!(ticks.recv_timeout(PATIENCE).unwrap(), (Priority::HIGH, "beat".to_owned()));
        }
        assert!(ticking.cancel());
        assert!(bus.event(id).is_none());
        eventually(|| warned().iter().any(|line| line.contains("left out")));
    });
}

#[test]
fn what_is_emitted_once_has_its_options() {
    within(PATIENCE, || {
        let bus = EventBus::new("Once");
        bus.on(|last: &Event<Last>| last.n);
        let mut seen = bus.subscribe::<Last>();
        let parent = bus.emit(Slow);
        let id = EventId(uuid::Uuid::from_u128(8));
        let options = EventOptions::new().priority(Priority::LOW).id(id).parent(&parent);
        bus.emit_after_with(5 * MS, Last { n: 3 }, options);
        let last = seen.recv_timeout(PATIENCE).unwrap();
        assert_eq!((last.id(), last.priority(), last.result().unwrap()), (id, Priority::LOW, 3));
        assert!(last.is_child_of(&parent));
        let cancelled = bus.emit_after_with(Duration::from_secs(3600), Last { n: 4 }, EventOptions::new());
        assert!(cancelled.cancel() && !cancelled.cancel());
    });
}
