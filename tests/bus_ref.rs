//! BUSREF: what `event.bus()` answers, inside of handlers and outside.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, payload};
use threadbus::{EmitError, Event, EventBus, HandlerContext, HistoryPolicy, OnFull, Shutdown, WaitError};

payload!(Outer);
payload!(Inner);
payload!(Holder);

/// Registers a handler of `Inner` that logs the label of the bus it finds in the event.
fn notes_bus(bus: &EventBus, log: &Log) {
    let log = log.clone();
    bus.on(move |event: &Event<Inner>| log.push(event.bus().label()));
}

#[test]
fn busref_001_inside_a_handler_it_is_the_bus_that_runs_it() {
    let (bus, log) = (EventBus::new("Main"), Log::new());
    notes_bus(&bus, &log);
    bus.on({
        let log = log.clone();
        move |event: &Event<Outer>| {
            assert_eq!(HandlerContext::current().map(|context| context.bus().id()), Some(event.bus().id()));
            log.push(event.bus().label());
            event.bus().emit(Inner).wait().map(drop)
        }
    });
    let event = done(&bus.emit(Outer));
    assert!(event.errors().is_empty(), "{:?}", event.errors());
    assert_eq!(log.entries(), [bus.label(), bus.label()]);
    assert_eq!(event.children().len(), 1);
}

/// There is one accessor here, so what counts is that it names the same bus everywhere.
#[test]
fn busref_002_it_is_the_same_bus_in_the_handler_on_a_child_and_outside() {
    let (bus, log) = (EventBus::new("Main"), Log::new());
    bus.on({
        let log = log.clone();
        move |event: &Event<Outer>| {
            log.push(event.bus().id());
            log.push(event.bus().emit(Inner).bus().id());
        }
    });
    let event = bus.emit(Outer);
    log.push(done(&event).bus().id());
    let id = bus.id().to_string();
    assert_eq!(log.entries(), [id.clone(), id.clone(), id]);
    event.bus().on(|_: &Event<Holder>| {});
    assert!(bus.has_handler::<Holder>(), "it is the bus itself, not a copy");
}

#[test]
fn busref_003_every_handler_sees_its_own_bus() {
    let [one, two] = ["One", "Two"].map(EventBus::new);
    let log = Log::new();
    notes_bus(&one, &log);
    notes_bus(&two, &log);
    done(&one.emit(Inner));
    done(&two.emit(Inner));
    assert_eq!(log.entries(), [one.label(), two.label()]);

    one.forward_to::<Inner>(&two);
    let event = done(&one.emit(Inner));
    assert_eq!(log.entries()[2..], [one.label(), two.label()], "also of one event on both");
    assert_eq!(event.bus().id(), one.id(), "outside: the first that took it");
}

#[test]
fn busref_005_nested_handlers_see_their_bus() {
    let [bus, other] = ["Main", "Other"].map(EventBus::new);
    let log = Log::new();
    notes_bus(&bus, &log);
    notes_bus(&other, &log);
    bus.on({
        let (log, other) = (log.clone(), other.downgrade());
        move |event: &Event<Outer>| -> Result<(), WaitError> {
            event.bus().emit(Inner).wait()?;
            log.push(event.bus().label());
            other.upgrade().expect("the other bus lives").emit(Inner).wait()?;
            log.push(event.bus().label());
            Ok(())
        }
    });
    let event = done(&bus.emit(Outer));
    assert!(event.errors().is_empty(), "{:?}", event.errors());
    let (main, other) = (bus.label(), other.label());
    assert_eq!(log.entries(), [main, main, other, main]);
}

/// An event that is not emitted does not exist here; one that no bus took is the nearest.
#[test]
fn busref_007_without_a_bus_it_is_a_closed_stand_in_and_set_after_emit() {
    let bus = EventBus::new("Main");
    let taken = bus.emit(Inner);
    assert_eq!(taken.bus().id(), bus.id());
    bus.shutdown(Shutdown::Drain, PATIENCE);
    let refused = bus.emit(Inner);
    let stand_in = refused.bus();
    assert_eq!(stand_in.name(), "Main");
    let again = stand_in.emit(Inner);
    assert!(matches!(again.wait(), Err(WaitError::Rejected(EmitError::Closed { .. }))), "{again:?}");
}

#[test]
fn busref_007b_the_stand_in_is_named_after_whoever_refused() {
    let named = |bus: threadbus::BusBuilder| {
        let bus = bus.build().unwrap();
        bus.pause();
        bus.emit(Outer);
        let refused = bus.emit(Inner);
        assert!(matches!(refused.wait(), Err(WaitError::Rejected(_))));
        let stand_in = refused.bus();
        assert!(stand_in.id() != bus.id() && stand_in.try_emit(Inner).is_err());
        stand_in.name().to_owned()
    };
    assert_eq!(named(EventBus::builder("Full").queue_capacity(1, OnFull::Reject)), "Full");
    let keeps_all = EventBus::builder("Keeps").max_history(Some(1)).history_policy(HistoryPolicy::Reject);
    assert_eq!(named(keeps_all), "Keeps");
    assert_eq!(named(EventBus::builder("Picky").require_handler(true)), "Picky");
}

#[test]
fn busref_010_when_the_bus_is_gone_emits_on_it_are_refused() {
    let gone = EventBus::new("Gone");
    let event = done(&gone.emit(Inner));
    let label = gone.downgrade();
    drop(gone);
    eventually(|| label.upgrade().is_none());

    let (bus, log) = (EventBus::new("Main"), Log::new());
    bus.on({
        let (log, event) = (log.clone(), event.clone());
        move |_: &Event<Outer>| {
            log.push(event.bus().name());
            log.push(match event.bus().try_emit(Inner) {
                Err(refused) if matches!(refused.error, EmitError::Closed { .. }) => "closed",
                Err(_) => "refused for another reason",
                Ok(_) => "taken",
            });
        }
    });
    // Until its thread has let go of it, it still drains, and takes what handlers emit.
    eventually(|| {
        assert!(done(&bus.emit(Outer)).errors().is_empty());
        log.entries()[log.len() - 2..] == ["Gone", "closed"]
    });
    let before = log.len();
    assert!(done(&bus.emit(Outer)).errors().is_empty());
    assert_eq!(log.entries()[before..], ["Gone", "closed"], "and so it stays");
    assert!(matches!(event.bus().emit(Inner).wait(), Err(WaitError::Rejected(EmitError::Closed { .. }))));
}

#[test]
fn busref_010b_a_dropped_bus_ends_only_after_what_is_queued() {
    let bus = EventBus::new("Dropped");
    let (log, gate) = (Log::new(), Gate::new());
    let _opener = gate.opener();
    notes_bus(&bus, &log);
    bus.on({
        let gate = gate.clone();
        move |_: &Event<Holder>| gate.wait()
    });
    let (label, weak) = (bus.label().to_owned(), bus.downgrade());
    bus.emit(Holder);
    let queued = bus.emit(Inner);
    drop(bus);
    gate.open();
    done(&queued);
    assert_eq!(log.entries(), [label]);
    eventually(|| weak.upgrade().is_none());
}
