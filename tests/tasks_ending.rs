//! Conformance, tasks.md BF-90 to BF-93 and BF-151 to BF-156: state per thread, and how a bus ends.

mod common;

use common::{Gate, PATIENCE, clean, done, eventually, idle, payload, stands, within};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use threadbus::{
    CauseKind, EmitError, Event, EventBus, EventConcurrency, HandlerConcurrency, HandlerContext, HandlerError,
    HandlerFailure, HandlerOptions, Runtime, Shutdown, ShutdownReport, WaitError,
};

payload!(Job { n: usize });
payload!(Ask { n: usize } => usize);

const MS: Duration = Duration::from_millis(1);

fn two_workers(name: &str) -> EventBus {
    let runtime = Runtime::builder().max_threads(2).build().unwrap();
    EventBus::builder(name)
        .runtime(&runtime)
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .build()
        .unwrap()
}

/// State of one thread, not to be sent: counts how many were made and dropped.
struct State {
    seen: Rc<Cell<usize>>,
    drops: Arc<AtomicUsize>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.drops.fetch_add(1, SeqCst);
    }
}

/// A handler with a state per thread; how many were made and dropped.
fn with_local(bus: &EventBus) -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (inits, drops) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (made, dropped) = (Arc::clone(&inits), Arc::clone(&drops));
    bus.on(move |_: &Event<Ask>| {
        let init = || {
            made.fetch_add(1, SeqCst);
            State { seen: Rc::default(), drops: Arc::clone(&dropped) }
        };
        HandlerContext::current().unwrap().local(init, |state| {
            state.seen.set(state.seen.get() + 1);
            state.seen.get()
        })
    });
    (inits, drops)
}

#[test]
fn bf_090_state_is_made_once_per_thread() {
    let bus = two_workers("Bf090");
    let (inits, drops) = with_local(&bus);
    let events: Vec<_> = (0..100).map(|n| bus.emit(Ask { n })).collect();
    events.iter().for_each(clean);
    let made = inits.load(SeqCst);
    assert!((1..=2).contains(&made), "{made}");
    assert_eq!(drops.load(SeqCst), 0);
    // Each state counts from one on: as many ones as states.
    let firsts = events.iter().filter(|event| event.result().unwrap() == 1).count();
    assert_eq!(firsts, made);
}

#[test]
fn bf_092_a_shutdown_drops_what_threads_keep() {
    for mode in [Shutdown::Drain, Shutdown::Now] {
        let bus = two_workers("Bf092");
        let (inits, drops) = with_local(&bus);
        (0..50).map(|n| bus.emit(Ask { n })).for_each(|event| clean(&event));
        bus.shutdown(mode, PATIENCE);
        assert!(inits.load(SeqCst) >= 1);
        assert_eq!(drops.load(SeqCst), inits.load(SeqCst), "{mode:?}");
    }
}

#[test]
fn bf_093_a_handler_value_per_thread() {
    let bus = two_workers("Bf093");
    let made: Arc<AtomicUsize> = Arc::default();
    let count = Arc::clone(&made);
    bus.on_per_worker(HandlerOptions::new(), move || {
        count.fetch_add(1, SeqCst);
        let mut seen = 0;
        let alone = Rc::new(());
        Ok(move |_: &Event<Ask>| {
            seen += 1;
            Ok(Some(seen * Rc::strong_count(&alone)))
        })
    });
    let events: Vec<_> = (0..50).map(|n| bus.emit(Ask { n })).collect();
    events.iter().for_each(clean);
    let made = made.load(SeqCst);
    assert!((1..=2).contains(&made), "{made}");
    assert_eq!(events.iter().filter(|event| event.result().unwrap() == 1).count(), made);
}

#[test]
fn bf_093b_a_factory_that_fails_fails_that_event() {
    let bus = two_workers("Bf093b");
    let tries: Arc<AtomicUsize> = Arc::default();
    let count = Arc::clone(&tries);
    bus.on_per_worker(HandlerOptions::new(), move || {
        if count.fetch_add(1, SeqCst) == 0 {
            return Err(HandlerError::from("no connection"));
        }
        Ok(|ask: &Event<Ask>| Ok(Some(ask.n)))
    });
    let failed = done(&bus.emit(Ask { n: 0 }));
    assert!(matches!(&*failed.errors()[0], HandlerFailure::Failed(error) if error.to_string() == "no connection"));
    for n in 1..=10 {
        let event = bus.emit(Ask { n });
        clean(&event);
        assert_eq!(event.result().unwrap(), n);
    }
}

#[track_caller]
fn is_closed(error: &EmitError, bus: &EventBus) {
    assert_eq!(*error, EmitError::Closed { bus: bus.label().to_owned() });
}

#[test]
fn bf_151_now_cancels_the_queue_and_ends_what_runs() {
    let bus = EventBus::new("Bf151");
    let started = Gate::new();
    let at_it = started.clone();
    bus.on(move |_: &Event<Job>| {
        at_it.open();
        HandlerContext::current().unwrap().sleep(Duration::MAX)
    });
    let events: Vec<_> = (0..10).map(|n| bus.emit(Job { n })).collect();
    started.wait();
    let waiters: Vec<_> = events
        .iter()
        .map(|event| {
            let event = event.clone();
            thread::spawn(move || event.wait_timeout(2 * PATIENCE).map(drop))
        })
        .collect();
    let report = within(PATIENCE, {
        let bus = bus.clone();
        move || bus.shutdown(Shutdown::Now, PATIENCE / 2)
    });
    assert_eq!((report.completed, report.cancelled, report.abandoned), (1, 9, 0));
    let waited: Vec<_> = waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect();
    assert_eq!(waited[0], Ok(()));
    assert_eq!(waited[1..], vec![Err(WaitError::Cancelled); 9]);
    let errors = events[0].errors();
    assert!(matches!(&*errors[0], HandlerFailure::Aborted { cause } if cause.kind == CauseKind::Shutdown));
}

#[test]
fn bf_152_a_closed_bus_refuses() {
    let bus = EventBus::new("Bf152");
    bus.on(|_: &Event<Job>| {});
    clean(&bus.emit(Job { n: 1 }));
    bus.shutdown(Shutdown::Drain, PATIENCE);
    let refused = bus.try_emit(Job { n: 2 }).unwrap_err();
    assert_eq!(refused.payload.n, 2);
    is_closed(&refused.error, &bus);
    for event in [bus.emit(Job { n: 3 }), bus.emit_now(Job { n: 4 })] {
        assert!(event.is_completed() && event.results().is_empty());
        let Err(WaitError::Rejected(error)) = event.wait() else { panic!("it was not refused") };
        is_closed(&error, &bus);
    }
}

#[test]
fn bf_153_a_second_shutdown_has_nothing_to_do() {
    let bus = EventBus::new("Bf153");
    bus.on(|_: &Event<Job>| {});
    clean(&bus.emit(Job { n: 1 }));
    bus.shutdown(Shutdown::Drain, PATIENCE);
    let again: Vec<_> = [Shutdown::Drain, Shutdown::Now]
        .map(|mode| {
            let bus = bus.clone();
            thread::spawn(move || within(PATIENCE / 2, move || bus.shutdown(mode, PATIENCE)))
        })
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    for ShutdownReport { completed, cancelled, abandoned, .. } in again {
        assert_eq!((completed, cancelled, abandoned), (0, 0, 0));
    }
}

/// Two at once on a bus that is still open.
#[test]
fn bf_153b_two_shutdowns_at_once() {
    let bus = EventBus::new("Bf153b");
    bus.on(|_: &Event<Job>| {});
    let events: Vec<_> = (0..100).map(|n| bus.emit(Job { n })).collect();
    let ended = [Shutdown::Drain, Shutdown::Drain].map(|mode| {
        let bus = bus.clone();
        thread::spawn(move || within(2 * PATIENCE, move || bus.shutdown(mode, PATIENCE)))
    });
    for thread in ended {
        assert_eq!(thread.join().unwrap().cancelled, 0);
    }
    events.iter().for_each(clean);
}

/// Three threads emit without pause while the bus is shut down.
fn emit_against_a_shutdown(concurrency: EventConcurrency, handlers: HandlerConcurrency) {
    let bus = EventBus::builder("Bf154").event_concurrency(concurrency).handler_concurrency(handlers).build().unwrap();
    bus.on(|_: &Event<Job>| {});
    let emitted: Arc<AtomicUsize> = Arc::default();
    let emitters: Vec<_> = (0..3)
        .map(|_| {
            let (bus, emitted) = (bus.clone(), Arc::clone(&emitted));
            thread::spawn(move || {
                let (mut accepted, mut refused) = (Vec::new(), Vec::new());
                let start = Instant::now();
                while refused.len() < 5 && start.elapsed() < PATIENCE {
                    match bus.try_emit(Job { n: accepted.len() }) {
                        Ok(event) => accepted.push(event),
                        Err(error) => refused.push(error.error),
                    }
                    emitted.fetch_add(1, SeqCst);
                }
                (accepted, refused)
            })
        })
        .collect();
    eventually(|| emitted.load(SeqCst) >= 300);
    within(PATIENCE, {
        let bus = bus.clone();
        move || bus.shutdown(Shutdown::Now, PATIENCE / 2)
    });
    for emitter in emitters {
        let (accepted, refused) = emitter.join().unwrap();
        assert_eq!(refused.len(), 5, "closed while it emitted");
        refused.iter().for_each(|error| is_closed(error, &bus));
        for event in accepted {
            assert!(event.is_completed());
            let waited = event.wait_timeout(PATIENCE).map(drop);
            assert!(matches!(waited, Ok(()) | Err(WaitError::Cancelled)), "{waited:?}");
        }
    }
}

#[test]
fn bf_154_emitting_against_a_shutdown() {
    emit_against_a_shutdown(EventConcurrency::BusSerial, HandlerConcurrency::BusSerial);
    emit_against_a_shutdown(EventConcurrency::Parallel, HandlerConcurrency::Parallel);
}

/// The line at the handler permit, which parallel events enter without bound, gets long here.
#[test]
fn bf_154b_parallel_events_with_serial_handlers() {
    emit_against_a_shutdown(EventConcurrency::Parallel, HandlerConcurrency::BusSerial);
}

#[test]
fn bf_156_a_drain_ends_though_a_handler_does_not() {
    let bus = EventBus::new("Bf156");
    let (gate, started) = stands::<Job>(&bus);
    let _open = gate.opener();
    let event = bus.emit(Job { n: 1 });
    started.wait();
    let report = within(PATIENCE / 2, {
        let bus = bus.clone();
        move || bus.shutdown(Shutdown::Drain, 200 * MS)
    });
    assert_eq!((report.completed, report.cancelled, report.abandoned), (1, 0, 1));
    let errors = done(&event).errors();
    assert!(matches!(&*errors[0], HandlerFailure::Aborted { cause } if cause.kind == CauseKind::Shutdown));
    gate.open();
    idle(&bus);
}

#[test]
fn the_drain_of_a_runtime_finishes_what_its_buses_give_each_other() {
    let runtime = Runtime::builder().max_threads(2).build().unwrap();
    let [one, two] = ["One", "Two"].map(|name| EventBus::builder(name).runtime(&runtime).build().unwrap());
    let (gate, handled) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let _open = gate.opener();
    // From bus to bus until nothing is left; each is idle while the other has it.
    for (bus, next) in [(&one, two.downgrade()), (&two, one.downgrade())] {
        let (stands, handles) = (gate.clone(), Arc::clone(&handled));
        bus.on(move |job: &Event<Job>| {
            stands.wait();
            if let (Some(next), Some(n)) = (next.upgrade(), job.n.checked_sub(1)) {
                handles.fetch_add(1, SeqCst);
                next.emit(Job { n });
            }
        });
    }
    one.emit(Job { n: 9 });
    let ends = runtime.clone();
    let report = thread::scope(|scope| {
        let report = scope.spawn(move || ends.shutdown(Shutdown::Drain, PATIENCE));
        eventually(|| one.try_emit(Job { n: 0 }).is_err() && two.try_emit(Job { n: 0 }).is_err());
        gate.open();
        report.join().unwrap()
    });
    assert_eq!((report.cancelled, report.abandoned), (0, 0));
    // Without those that only asked whether it had begun.
    assert_eq!(handled.load(SeqCst), 9);
}
