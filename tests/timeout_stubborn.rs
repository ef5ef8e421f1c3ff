//! Handlers that ignore their timeouts, and what that costs others. A test binary of its own, since it takes the time.

mod common;

use common::{Gate, clean, done, eventually, idle, ms, payload};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use threadbus::{Event, EventBus, EventConcurrency, HandlerConcurrency, HandlerFailure, Runtime};

payload!(Stubborn);
payload!(Probe);

#[test]
fn two_hundred_stubborn_handlers_neither_delay_other_buses_nor_leave_threads() {
    const STUBBORN: usize = 200;
    let runtime = Runtime::builder().thread_name("stubborn").keep_alive(ms(200)).build().expect("a runtime");
    let builder = EventBus::builder("SoakStubborn").runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
    let builder = builder.handler_concurrency(HandlerConcurrency::Parallel);
    let stubborn = builder.handler_timeout(Some(ms(500))).build().expect("a bus");
    let other = EventBus::builder("SoakOther").runtime(&runtime).build().expect("a bus");
    let (gate, inside) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let _opener = gate.opener();
    stubborn.on({
        let (gate, inside) = (gate.clone(), Arc::clone(&inside));
        move |_: &Event<Stubborn>| {
            inside.fetch_add(1, Ordering::SeqCst);
            gate.wait();
        }
    });
    other.on(|_: &Event<Probe>| {});
    let mut delays = Vec::new();
    let mut probe = || {
        let start = Instant::now();
        clean(&other.emit(Probe));
        delays.push(start.elapsed());
    };
    probe();
    let start = Instant::now();
    let events: Vec<_> = (0..STUBBORN).map(|_| stubborn.emit(Stubborn)).collect();
    // Two seconds, in which they start, stand, and are given up.
    for _ in 0..20 {
        probe();
        thread::sleep(ms(95));
    }
    eventually(|| inside.load(Ordering::SeqCst) == STUBBORN);
    for event in &events {
        let event = done(event);
        assert!(matches!(event.results()[0].error.as_deref(), Some(HandlerFailure::TimedOut { .. })));
    }
    assert!(!gate.is_open() && runtime.stats().abandoned >= STUBBORN - 1);
    idle(&stubborn);
    probe();
    assert!(start.elapsed() >= ms(1900));
    gate.open();
    let opened = Instant::now();
    probe();
    delays.sort();
    assert!(delays.iter().all(|delay| *delay < ms(250)), "{delays:?}");
    eventually(|| runtime.stats().abandoned == 0);
    eventually(|| runtime.stats().threads == 0);
    assert!(opened.elapsed() < Duration::from_secs(5), "threads were there for {:?}", opened.elapsed());
    clean(&other.emit(Probe));
}
