//! A wait in the `Drop` of something that a bus lets go of: on the bus's own worker it answers `Deadlock`, and elsewhere it is a wait like any other; the bus goes on.

#[macro_use]
mod common;

use common::{Gate, Log, PATIENCE, eventually, within};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use threadbus::*;

payload!(Plain);
payload!(Outer { deep: bool });

/// Waits for an event when it goes, in each of the ways, and says what it got.
struct Waits {
    bus: WeakBus,
    told: Log,
}

impl Drop for Waits {
    fn drop(&mut self) {
        let Some(bus) = self.bus.upgrade() else { return self.told.push("gone") };
        let name = |error: WaitError| match error {
            WaitError::Deadlock(_) => "deadlock".to_owned(),
            error => error.to_string(),
        };
        let waited = bus.emit(Plain).wait().map_or_else(name, |_| "waited".to_owned());
        let in_order = bus.emit(Plain).wait_in_order().map_or_else(name, |_| "waited".to_owned());
        let idle = bus.wait_until_idle().map_or_else(name, |()| "waited".to_owned());
        bus.emit_now(Plain);
        self.told.push(format!("{waited}, {in_order}, {idle}"));
    }
}

const BARRED: &str = "deadlock, deadlock, deadlock";

struct Guarded(#[expect(dead_code, reason = "dropped with it")] Waits);
impl Payload for Guarded {
    type Output = ();
}

struct Makes(Box<dyn Fn() -> Waits + Send + Sync>);
impl Payload for Makes {
    type Output = Arc<Waits>;
}

impl Makes {
    fn like(bus: &EventBus, told: &Log) -> Makes {
        let (bus, told) = (bus.downgrade(), told.clone());
        Makes(Box::new(move || Waits { bus: bus.clone(), told: told.clone() }))
    }
}

#[derive(Clone, Copy, Debug)]
enum What {
    Handler,
    Payload,
    Output,
    Context,
}

const ALL: [What; 4] = [What::Handler, What::Payload, What::Output, What::Context];

const MODES: [EventConcurrency; 3] =
    [EventConcurrency::BusSerial, EventConcurrency::Parallel, EventConcurrency::GlobalSerial];

fn build(concurrency: EventConcurrency, manual: bool) -> EventBus {
    let runtime = Runtime::builder().max_threads(1).build().unwrap();
    let builder = EventBus::builder("app").runtime(&runtime).event_concurrency(concurrency).max_history(Some(0));
    let bus = if manual { builder.manual() } else { builder }.build().unwrap();
    bus.on(|_: &Event<Plain>| {});
    bus
}

/// Emits something that `what` goes with, as soon as the event is over and nobody keeps it.
fn emit_guarded(bus: &EventBus, what: What, told: &Log, now: bool) {
    let waits = || Waits { bus: bus.downgrade(), told: told.clone() };
    let outer = || if now { bus.emit_now(Outer { deep: false }) } else { bus.emit(Outer { deep: false }) };
    match what {
        What::Handler => {
            let me = Arc::new(OnceLock::<HandlerInfo>::new());
            let (own, waits) = (Arc::clone(&me), waits());
            let info = bus.on(move |outer: &Event<Outer>| {
                let _ = &waits;
                if let Some(me) = own.get() {
                    outer.bus().off(me);
                }
            });
            let _ = me.set(info);
            outer();
        }
        What::Payload if now => drop(bus.emit_now(Guarded(waits()))),
        What::Payload => drop(bus.emit(Guarded(waits()))),
        What::Output => {
            let makes = Makes::like(bus, told);
            drop(if now { bus.emit_now(makes) } else { bus.emit(makes) });
        }
        What::Context => context::with(waits(), || drop(outer())),
    }
}

/// A bus that handles all that is emitted here, and a log for what is told.
fn handling(concurrency: EventConcurrency, manual: bool) -> (EventBus, Log) {
    let bus = build(concurrency, manual);
    bus.on(|makes: &Event<Makes>| Arc::new((makes.0)()));
    bus.on(|_: &Event<Guarded>| {});
    bus.on(|_: &Event<Outer>| {});
    (bus, Log::new())
}

fn goes_on(bus: &EventBus, told: &Log, what: What, why: &str) {
    let after = bus.emit(Plain);
    if bus.pending() > 0 {
        bus.run_pending();
    }
    after.wait_timeout(PATIENCE).unwrap_or_else(|error| panic!("{why} {what:?}: {error}, {:?}", told.entries()));
    bus.wait_until_idle_timeout(PATIENCE).unwrap_or_else(|error| panic!("{why} {what:?}: {error}"));
}

#[test]
fn on_a_worker_of_the_pool_it_is_told_and_the_bus_goes_on() {
    for concurrency in MODES {
        for what in ALL {
            within(PATIENCE, move || {
                let (bus, told) = handling(concurrency, false);
                bus.pause();
                emit_guarded(&bus, what, &told, false);
                bus.resume();
                eventually(|| told.len() == 1);
                assert_eq!(told.entries(), [BARRED], "{concurrency:?} {what:?}");
                goes_on(&bus, &told, what, "pool");
            });
        }
    }
}

#[test]
fn on_a_pump_thread_it_is_told_and_the_bus_goes_on() {
    for concurrency in MODES {
        for what in ALL {
            within(PATIENCE, move || {
                let (bus, told) = handling(concurrency, true);
                emit_guarded(&bus, what, &told, false);
                bus.run_pending();
                assert_eq!(told.entries(), [BARRED], "{concurrency:?} {what:?}");
                goes_on(&bus, &told, what, "pump");
            });
        }
    }
}

#[test]
fn what_runs_at_once_on_the_callers_thread_hangs_nobody() {
    for concurrency in MODES {
        for what in ALL {
            within(PATIENCE, move || {
                let (bus, told) = handling(concurrency, false);
                emit_guarded(&bus, what, &told, true);
                eventually(|| told.len() == 1);
                goes_on(&bus, &told, what, "emit_now");
            });
        }
    }
}

/// On top of a handler that waits: what goes between two handlers is not that handler's.
#[test]
fn on_top_of_a_wait_it_hangs_nobody() {
    for concurrency in MODES {
        for what in ALL {
            for straight in [true, false] {
                within(PATIENCE, move || {
                    let (bus, told) = (build(concurrency, false), Log::new());
                    bus.on(|makes: &Event<Makes>| Arc::new((makes.0)()));
                    bus.on(|_: &Event<Guarded>| {});
                    let seen = told.clone();
                    bus.on(move |outer: &Event<Outer>| -> Result<(), WaitError> {
                        if !outer.deep {
                            return Ok(());
                        }
                        let bus = outer.bus();
                        emit_guarded(&bus, what, &seen, false);
                        // Claims what was emitted before, too, as it is below this event.
                        let last = bus.emit(Plain);
                        let waited = if straight { last.wait() } else { last.wait_in_order() };
                        waited.map(drop).or(Ok(()))
                    });
                    bus.emit(Outer { deep: true });
                    eventually(|| told.len() == 1);
                    goes_on(&bus, &told, what, "on top");
                });
            }
        }
    }
}

/// A late value, a canceller's parent, and what failed before a delay.
#[test]
fn what_others_let_go_of_hangs_nobody() {
    within(PATIENCE, || {
        let (bus, told) = (build(EventConcurrency::BusSerial, false), Log::new());
        let (go, entered) = (Gate::new(), Gate::new());
        let (gone, inside) = (go.clone(), entered.clone());
        bus.on(move |makes: &Event<Makes>| {
            inside.open();
            gone.wait();
            Arc::new((makes.0)())
        });
        let late = bus.emit_with(Makes::like(&bus, &told), EventOptions::new().timeout(Duration::from_millis(20)));
        entered.wait();
        assert!(late.wait().is_ok());
        go.open();
        eventually(|| told.len() == 1);
        assert_eq!(told.entries(), [BARRED]);
        goes_on(&bus, &told, What::Output, "late");
    });
    within(PATIENCE, || {
        let (bus, told) = (build(EventConcurrency::BusSerial, false), Log::new());
        let entered = Gate::new();
        let inside = entered.clone();
        let slot = Arc::new(OnceLock::<Event<Outer>>::new());
        let child = Arc::clone(&slot);
        bus.on(move |guarded: &Event<Guarded>| {
            let _ = child.set(guarded.bus().emit(Outer { deep: false }));
        });
        bus.on(move |_: &Event<Outer>| {
            inside.open();
            loop {
                HandlerContext::current().unwrap().sleep(Duration::from_secs(1))?;
            }
            #[expect(unreachable_code, reason = "gives the type")]
            Ok::<(), WaitError>(())
        });
        bus.emit(Guarded(Waits { bus: bus.downgrade(), told: told.clone() }));
        entered.wait();
        slot.get().unwrap().cancel();
        drop(slot);
        eventually(|| told.len() == 1);
        goes_on(&bus, &told, What::Payload, "cancelled");
    });
}
