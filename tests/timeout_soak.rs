//! Timeouts by the thousand, handlers that ignore them, and buses that wait for each other without end.

mod common;

use common::{clean, done, eventually, idle, ms, payload, within, works_on};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use threadbus::{
    Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerContext, HandlerFailure, Runtime,
    WaitError,
};

payload!(Slow { n: usize });
payload!(Ping { depth: usize });
payload!(Pong { depth: usize });

fn runtime() -> Runtime {
    Runtime::builder().thread_name("soak").keep_alive(ms(200)).build().expect("a runtime")
}

fn is_timeout(event: &Event<Slow>) -> bool {
    matches!(event.results()[0].error.as_deref(), Some(HandlerFailure::TimedOut { .. }))
}

/// Ends when it is given up: asleep, or looking again and again.
fn cooperative(event: &Event<Slow>) -> Result<(), WaitError> {
    let context = HandlerContext::current().expect("inside of a handler");
    if !event.n.is_multiple_of(4) {
        return context.sleep(Duration::from_secs(3600));
    }
    loop {
        context.check()?;
        context.sleep(Duration::from_micros(100))?;
    }
}

/// Asserts that no thread is abandoned, that all buses work on and become idle, and that the runtime's threads leave; each step waits for
/// [`PATIENCE`](common::PATIENCE) at most.
#[track_caller]
fn comes_to_rest(runtime: &Runtime, buses: &[&EventBus]) {
    buses.iter().for_each(|bus| idle(bus));
    eventually(|| runtime.stats().abandoned == 0);
    for bus in buses {
        works_on(bus);
        idle(bus);
        assert!(bus.is_idle() && bus.pending() == 0);
    }
    eventually(|| runtime.stats().busy == 0);
    let stats = runtime.stats();
    assert_eq!((stats.abandoned, stats.waiting), (0, 0), "{stats:?}");
    eventually(|| runtime.stats().threads == 0);
}

#[test]
fn ten_thousand_timeouts_in_a_row_leave_nothing_behind() {
    within(Duration::from_secs(180), || {
        let runtime = runtime();
        let capped = || EventOptions::new().handler_timeout(ms(1));
        let serial = EventBus::builder("SoakSerial").runtime(&runtime).build().expect("a bus");
        serial.on(cooperative);
        for n in 0..1000 {
            assert!(is_timeout(&done(&serial.emit_with(Slow { n }, capped()))));
        }
        let queued: Vec<_> = (0..1000).map(|n| serial.emit_with(Slow { n }, capped())).collect();
        assert!(queued.iter().all(|event| is_timeout(&done(event))));
        let parallel =
            EventBus::builder("SoakParallel").runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
        let parallel = parallel.handler_concurrency(HandlerConcurrency::Parallel).build().expect("a bus");
        parallel.on(cooperative);
        for _ in 0..80 {
            let events: Vec<_> = (0..100).map(|n| parallel.emit_with(Slow { n }, capped())).collect();
            assert!(events.iter().all(|event| is_timeout(&done(event))));
        }
        comes_to_rest(&runtime, &[&serial, &parallel]);
    });
}

/// The timeout is that of a child another handler waits for, and sometimes that of the waiting handler.
#[test]
fn a_thousand_timeouts_below_a_wait_leave_nothing_behind() {
    within(Duration::from_secs(120), || {
        for handlers in [HandlerConcurrency::BusSerial, HandlerConcurrency::GlobalSerial, HandlerConcurrency::Parallel]
        {
            for events in [EventConcurrency::BusSerial, EventConcurrency::Parallel] {
                let runtime = runtime();
                let builder = EventBus::builder("SoakNested").runtime(&runtime).handler_concurrency(handlers);
                let bus = builder.event_concurrency(events).build().expect("a bus");
                bus.on(cooperative);
                bus.on(|ping: &Event<Ping>| {
                    let options = EventOptions::new();
                    let options = if ping.depth.is_multiple_of(2) { options.handler_timeout(ms(1)) } else { options };
                    ping.bus().emit_with(Slow { n: ping.depth }, options).wait().map(drop)
                });
                for _ in 0..5 {
                    let options = || EventOptions::new().handler_timeout(ms(100));
                    let pings: Vec<_> = (0..10).map(|depth| bus.emit_with(Ping { depth }, options())).collect();
                    for ping in &pings {
                        let ping = done(ping);
                        let below = ping.children().iter().filter_map(|child| child.downcast::<Slow>()).count();
                        assert!(below <= 1 && ping.descendants().iter().all(threadbus::AnyEvent::is_completed));
                    }
                }
                comes_to_rest(&runtime, &[&bus]);
            }
        }
    });
}

/// Handlers of each bus wait for an event on the other, whose handlers do the same until `depth` is zero.
fn wait_for_each_other(events: EventConcurrency, handlers: HandlerConcurrency, rounds: usize, depth: usize) {
    let runtime = runtime();
    let [a, b] = ["SoakA", "SoakB"].map(|name| {
        let builder = EventBus::builder(name).runtime(&runtime).handler_concurrency(handlers);
        builder.event_concurrency(events).handler_timeout(None).build().expect("a bus")
    });
    let ran = Arc::new(AtomicUsize::new(0));
    for (bus, next) in [(&a, b.downgrade()), (&b, a.downgrade())] {
        let ran = Arc::clone(&ran);
        bus.on(move |ping: &Event<Ping>| -> Result<(), WaitError> {
            ran.fetch_add(1, Ordering::SeqCst);
            if ping.depth == 0 {
                return Ok(());
            }
            let next = next.upgrade().expect("it lives");
            next.emit(Ping { depth: ping.depth - 1 }).wait().map(drop)
        });
    }
    let emitters: Vec<_> = [&a, &b, &a, &b]
        .into_iter()
        .map(|bus| {
            let bus = bus.clone();
            thread::spawn(move || {
                for chunk in 0..rounds / 40 {
                    let events: Vec<_> = (0..10).map(|n| bus.emit(Ping { depth: 1 + (chunk + n) % depth })).collect();
                    events.iter().for_each(clean);
                }
            })
        })
        .collect();
    for emitter in emitters {
        assert!(emitter.join().is_ok(), "not every wait ended well: {events:?} events, {handlers:?} handlers");
    }
    assert!(ran.load(Ordering::SeqCst) >= 2 * rounds);
    comes_to_rest(&runtime, &[&a, &b]);
}

#[test]
fn two_serial_buses_wait_for_each_other_ten_thousand_times() {
    within(Duration::from_secs(180), || {
        wait_for_each_other(EventConcurrency::BusSerial, HandlerConcurrency::BusSerial, 10_000, 1);
    });
}

#[test]
fn two_buses_of_every_mode_wait_for_each_other() {
    use {EventConcurrency as E, HandlerConcurrency as H};
    within(Duration::from_secs(180), || {
        for events in [E::GlobalSerial, E::BusSerial, E::Parallel] {
            for handlers in [H::GlobalSerial, H::BusSerial, H::EventSerial, H::Parallel] {
                wait_for_each_other(events, handlers, 800, 6);
            }
        }
    });
}

/// As above, with a second event that a handler emits on its own bus and waits for in between.
#[test]
fn two_buses_wait_for_each_other_and_for_themselves() {
    within(Duration::from_secs(180), || {
        let runtime = runtime();
        let [a, b] = ["SoakC", "SoakD"].map(|name| EventBus::builder(name).runtime(&runtime).build().expect("a bus"));
        for (bus, next) in [(&a, b.downgrade()), (&b, a.downgrade())] {
            bus.on(move |ping: &Event<Ping>| -> Result<(), WaitError> {
                let next = next.upgrade().expect("it lives");
                let pongs = [ping.bus().emit(Pong { depth: ping.depth }), next.emit(Pong { depth: ping.depth })];
                for pong in pongs {
                    pong.wait()?;
                }
                Ok(())
            });
            bus.on(|pong: &Event<Pong>| -> Result<(), WaitError> {
                if pong.depth == 0 {
                    return Ok(());
                }
                pong.bus().emit(Ping { depth: pong.depth - 1 }).wait().map(drop)
            });
        }
        let emitters: Vec<_> = [&a, &b]
            .into_iter()
            .map(|bus| {
                let bus = bus.clone();
                thread::spawn(move || {
                    for _ in 0..50 {
                        let events: Vec<_> = (0..4).map(|depth| bus.emit(Ping { depth })).collect();
                        events.iter().for_each(clean);
                    }
                })
            })
            .collect();
        for emitter in emitters {
            emitter.join().expect("every wait ended well");
        }
        comes_to_rest(&runtime, &[&a, &b]);
    });
}
