//! Issue 6: a limit is lent to whatever its holder waits for, by whichever way that is.

mod common;

use common::{Gate, PATIENCE, done, eventually, idle, limited, lock, parallel, payload, within};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threadbus::{Event, EventBus, EventOptions, Limit, ResultError, Retry};

payload!(Outer => String);
payload!(Middle => String);
payload!(Inner => String);

#[test]
fn a_place_is_lent_over_an_event_that_is_nobodys_child() {
    within(PATIENCE, || {
        // Outer holds the place and waits for Middle; Middle waits for an Inner that somebody else emitted, which stands in line.
        let (bus, limit) = (parallel("Free"), Limit::new(1));
        let foreign: Arc<Mutex<Option<Event<Inner>>>> = Arc::default();
        bus.on_with(limited(&limit), |_: &Event<Inner>| "inner".to_owned());
        let awaited = Arc::clone(&foreign);
        bus.on(move |_: &Event<Middle>| {
            let inner = lock(&awaited).clone().unwrap();
            inner.result()
        });
        let (gate, started) = (Gate::new(), Gate::new());
        let (closed, at_it) = (gate.clone(), started.clone());
        bus.on_with(limited(&limit), move |outer: &Event<Outer>| -> Result<String, ResultError> {
            at_it.open();
            closed.wait();
            outer.bus().emit(Middle).result()
        });
        let outer = bus.emit(Outer);
        started.wait();
        *lock(&foreign) = Some(bus.emit(Inner));
        eventually(|| bus.pending() == 0);
        gate.open();
        assert_eq!(outer.result().unwrap(), "inner");
        idle(&bus);
    });
}

#[test]
fn a_place_is_lent_to_what_runs_on_another_thread_and_waits_in_order() {
    within(PATIENCE, || {
        let (bus, limit) = (parallel("Free"), Limit::new(1));
        bus.on_with(limited(&limit), |_: &Event<Inner>| "inner".to_owned());
        bus.on(|middle: &Event<Middle>| {
            let inner = middle.bus().emit(Inner);
            inner.wait_in_order()?.result()
        });
        bus.on_with(limited(&limit), |outer: &Event<Outer>| {
            // On another worker, since this may time out.
            outer.bus().emit(Middle).wait_timeout(PATIENCE)?.result()
        });
        assert_eq!(bus.emit(Outer).result().unwrap(), "inner");
    });
}

#[test]
fn many_chains_under_one_small_limit_all_end() {
    within(2 * PATIENCE, || {
        for bus in [parallel("Free"), EventBus::new("Serial")] {
            let limit = Limit::new(2);
            bus.on_with(limited(&limit).retry(Retry::attempts(2).delay(Duration::from_millis(2))), {
                let first = Mutex::new(true);
                move |_: &Event<Inner>| {
                    if std::mem::take(&mut *lock(&first)) { Err("once") } else { Ok("inner".to_owned()) }
                }
            });
            bus.on_with(limited(&limit), |middle: &Event<Middle>| middle.bus().emit(Inner).result());
            bus.on_with(limited(&limit), |outer: &Event<Outer>| {
                let (one, other) = (outer.bus().emit(Middle), outer.bus().emit(Middle));
                Ok::<_, ResultError>(one.result()? + &other.result()?)
            });
            let events: Vec<_> = (0..20).map(|_| bus.emit_with(Outer, EventOptions::new())).collect();
            for event in &events {
                assert_eq!(done(event).result().unwrap(), "innerinner");
            }
            idle(&bus);
        }
    });
}
