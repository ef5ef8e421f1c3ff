//! A shutdown that drains waits for no retry's delay: no further attempt is made, and the last failure is the result.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, payload, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};
use threadbus::{
    BusBuilder, Event, EventBus, EventConcurrency, EventOptions, HandlerCompletion, HandlerConcurrency, HandlerContext,
    HandlerError, HandlerFailure, HandlerOptions, Limit, Retry, Runtime, Shutdown, ShutdownReport,
};

payload!(Job { n: u32 } => u32);
payload!(Outer => u32);

const HOUR: Duration = Duration::from_secs(3600);

fn hourly() -> HandlerOptions {
    HandlerOptions::new().retry(Retry::attempts(5).delay(HOUR))
}

fn attempt() -> u32 {
    HandlerContext::current().expect("inside of a handler").attempt()
}

fn fails(log: &Log) -> impl Fn(&Event<Job>) -> Result<u32, HandlerError> + use<> {
    let log = log.clone();
    move |job| {
        log.push(format_args!("{} attempt {}", job.n, attempt()));
        Err(format!("no {}", job.n).into())
    }
}

/// A bus with letters.
fn builder(name: &str) -> BusBuilder {
    EventBus::builder(name).dead_letters(10_000)
}

/// Drains in a fraction of the time it might take.
#[track_caller]
fn drains(bus: &EventBus) -> ShutdownReport {
    let bus = bus.clone();
    within(PATIENCE, move || {
        let began = Instant::now();
        let report = bus.shutdown(Shutdown::Drain, 2 * PATIENCE);
        assert!(began.elapsed() < PATIENCE);
        report
    })
}

/// The event's one failure is its handler's own, of the first attempt.
#[track_caller]
fn failed_once(event: &Event<Job>) {
    let event = done(event);
    let results = event.results();
    assert_eq!((results.len(), results[0].attempts), (1, 1), "{event}");
    assert_eq!(event.errors()[0].to_string(), format!("no {}", event.n));
}

#[test]
fn one_in_its_delay_fails_with_what_it_has_and_leaves_a_letter() {
    let bus = builder("One").build().unwrap();
    let log = Log::new();
    bus.on_with(hourly(), fails(&log));
    let event = bus.emit(Job { n: 1 });
    eventually(|| log.len() == 1);
    let report = drains(&bus);
    assert_eq!((report.completed, report.cancelled, report.abandoned), (1, 0, 0));
    failed_once(&event);
    let (metrics, letters) = (bus.metrics(), bus.dead_letters());
    assert_eq!((metrics.completed, metrics.cancelled, metrics.failed), (1, 0, 1), "{metrics:?}");
    assert_eq!((letters.len(), letters[0].attempts, letters[0].error.to_string()), (1, 1, "no 1".to_owned()));
    assert_eq!(log.entries(), ["1 attempt 1"]);
}

#[test]
fn who_fails_after_the_drain_began_is_not_tried_again_but_at_once() {
    let bus = builder("After")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::EventSerial)
        .build()
        .unwrap();
    let (log, gate, inside) = (Log::new(), Gate::new(), Arc::new(AtomicU32::new(0)));
    let _opener = gate.opener();
    type Inner = Box<dyn Fn(&Event<Job>) -> Result<u32, HandlerError> + Send + Sync>;
    let stands = |inner: Inner| {
        let (gate, inside) = (gate.clone(), Arc::clone(&inside));
        move |job: &Event<Job>| {
            if attempt() == 1 && job.n < 3 {
                inside.fetch_add(1, SeqCst);
                gate.wait();
            }
            inner(job)
        }
    };
    bus.on_with(hourly(), stands(Box::new(fails(&log))));
    // Without a delay there is nothing to wait for.
    let at_once = HandlerOptions::new().retry(Retry::attempts(3)).concurrency(HandlerConcurrency::Parallel);
    bus.on_with(at_once, stands(Box::new(|_| if attempt() < 3 { Err("not yet".into()) } else { Ok(3) })));
    let events: Vec<_> = (0..3).map(|n| bus.emit(Job { n })).collect();
    eventually(|| inside.load(SeqCst) >= 3);
    let draining = std::thread::spawn({
        let bus = bus.clone();
        move || drains(&bus)
    });
    eventually(|| bus.try_emit(Job { n: 9 }).is_err());
    gate.open();
    // A few were taken before it was closed.
    let completed = draining.join().unwrap().completed;
    assert!(completed >= 3);
    for event in events {
        let event = done(&event);
        assert_eq!(event.results().iter().map(|result| result.attempts).collect::<Vec<_>>(), [1, 3]);
        assert_eq!((event.errors().len(), event.results()[1].value), (1, Some(3)));
    }
    assert_eq!(bus.dead_letters().len(), completed);
}

#[test]
fn what_stands_behind_a_delay_runs_in_every_mode() {
    let events = [EventConcurrency::BusSerial, EventConcurrency::GlobalSerial, EventConcurrency::Parallel];
    let handlers = [
        HandlerConcurrency::EventSerial,
        HandlerConcurrency::BusSerial,
        HandlerConcurrency::GlobalSerial,
        HandlerConcurrency::Parallel,
    ];
    for event in events {
        for handler in handlers {
            let runtime = Runtime::builder().build().unwrap();
            let bus = builder("Modes")
                .runtime(&runtime)
                .event_concurrency(event)
                .handler_concurrency(handler)
                .build()
                .unwrap();
            let log = Log::new();
            bus.on_with(hourly(), fails(&log));
            bus.on(|job: &Event<Job>| 10 * job.n);
            bus.on_with(hourly(), fails(&log));
            let all: Vec<_> = (1..=4).map(|n| bus.emit(Job { n })).collect();
            eventually(|| !log.is_empty());
            assert_eq!(drains(&bus).completed, 4, "{event:?} {handler:?}");
            for job in all {
                let job = done(&job);
                assert_eq!((job.errors().len(), job.results()[1].value), (2, Some(10 * job.n)));
            }
            assert_eq!((log.len(), bus.dead_letters().len()), (8, 8), "{event:?} {handler:?}");
            assert!(log.entries().iter().all(|entry| entry.ends_with("attempt 1")));
            eventually(|| runtime.stats().busy == 0);
        }
    }
}

#[test]
fn whoever_stands_in_line_for_a_place_that_is_kept_over_a_delay_gets_it() {
    for events in [EventConcurrency::Parallel, EventConcurrency::BusSerial] {
        let bus = builder("Limits").event_concurrency(events).build().unwrap();
        let log = Log::new();
        bus.on_with(hourly().limit(Limit::new(1)), fails(&log));
        let all: Vec<_> = (0..20).map(|n| bus.emit(Job { n })).collect();
        eventually(|| log.len() == 1);
        assert_eq!(drains(&bus).completed, 20);
        all.iter().for_each(failed_once);
        assert_eq!(log.len(), 20);
    }
}

#[test]
fn attempts_that_timed_out_are_not_made_again_after_a_delay() {
    for gives_up in [false, true] {
        let bus = builder("TimedOut")
            .event_concurrency(EventConcurrency::Parallel)
            .handler_concurrency(HandlerConcurrency::EventSerial)
            .build()
            .unwrap();
        let (log, gate) = (Log::new(), Gate::new());
        let _opener = gate.opener();
        bus.on_with(hourly().timeout(Duration::from_millis(30)), {
            let (log, gate) = (log.clone(), gate.clone());
            move |job: &Event<Job>| {
                log.push(attempt());
                // Aborts in time, or stays for long.
                if gives_up {
                    HandlerContext::current().unwrap().sleep(HOUR)?
                } else {
                    gate.wait()
                }
                Ok::<_, HandlerError>(job.n)
            }
        });
        let event = bus.emit(Job { n: 1 });
        // One is in its delay, and the other one's time passes while the bus drains.
        eventually(|| bus.metrics().in_flight == 1 && log.len() == 1);
        let seen = Instant::now();
        eventually(|| seen.elapsed() > Duration::from_millis(100));
        let late = bus.emit(Job { n: 2 });
        eventually(|| log.len() == 2);
        let bus_there = bus.clone();
        let draining = std::thread::spawn(move || bus_there.shutdown(Shutdown::Drain, PATIENCE / 2));
        for event in [event, late] {
            let event = event.wait_timeout(PATIENCE / 4).expect("long before the drain's timeout");
            let errors = event.errors();
            assert!(matches!(*errors[0], HandlerFailure::TimedOut { .. }), "{errors:?}");
            assert_eq!(event.results()[0].attempts, 1);
        }
        gate.open();
        assert_eq!(draining.join().unwrap().completed, 2);
        assert_eq!((log.len(), bus.dead_letters().len(), bus.metrics().failed), (2, 2, 2));
    }
}

#[test]
fn a_runtime_that_drains_waits_for_no_delay_on_any_bus() {
    let runtime = Runtime::builder().build().unwrap();
    let log = Log::new();
    let buses: Vec<_> = (0..5).map(|n| builder(&format!("R{n}")).runtime(&runtime).build().unwrap()).collect();
    for bus in &buses {
        bus.on_with(hourly(), fails(&log));
    }
    // One more, whose last handle is gone: it finishes what it has in the background, and that is a delay.
    let background = builder("Background").runtime(&runtime).build().unwrap();
    background.on_with(hourly(), fails(&log));
    let mut all: Vec<_> = buses.iter().map(|bus| bus.emit(Job { n: 1 })).collect();
    all.push(background.emit(Job { n: 1 }));
    drop(background);
    eventually(|| log.len() == 6);
    let began = Instant::now();
    let report = within(PATIENCE, move || runtime.shutdown(Shutdown::Drain, 2 * PATIENCE));
    assert!(began.elapsed() < PATIENCE);
    assert_eq!((report.completed, report.cancelled), (6, 0));
    all.iter().for_each(failed_once);
}

#[test]
fn the_last_handle_is_no_shutdown_and_the_delay_goes_on() {
    let log = Log::new();
    let bus = builder("Last").build().unwrap();
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(3).delay(Duration::from_millis(20))), fails(&log));
    let event = bus.emit(Job { n: 1 });
    eventually(|| !log.is_empty());
    drop(bus);
    assert_eq!(done(&event).results()[0].attempts, 3);
    assert_eq!(log.len(), 3);
}

#[test]
fn a_manual_bus_drains_on_its_pump_thread_and_from_elsewhere() {
    for elsewhere in [false, true] {
        within(PATIENCE, move || {
            let bus = builder("Manual").manual().build().unwrap();
            let log = Log::new();
            bus.on_with(hourly(), fails(&log));
            bus.on(|job: &Event<Job>| job.n);
            let first = bus.emit(Job { n: 1 });
            bus.run_pending();
            assert_eq!(log.len(), 1);
            let second = bus.emit(Job { n: 2 });
            let report = if elsewhere {
                let there = bus.clone();
                let draining = std::thread::spawn(move || there.shutdown(Shutdown::Drain, 2 * PATIENCE));
                while !draining.is_finished() {
                    bus.run_pending();
                }
                draining.join().unwrap()
            } else {
                bus.shutdown(Shutdown::Drain, 2 * PATIENCE)
            };
            assert_eq!((report.completed, log.len()), (2, 2));
            for event in [first, second] {
                assert_eq!((event.errors().len(), event.results()[1].value), (1, Some(event.n)));
            }
        });
    }
}

#[test]
fn a_handler_that_waits_for_one_in_its_delay_comes_back() {
    for shared in [true, false] {
        let (outer, inner) = (builder("Outer").build().unwrap(), builder("Inner").build().unwrap());
        let inner = if shared { outer.clone() } else { inner };
        let log = Log::new();
        inner.on_with(hourly(), fails(&log));
        inner.on(|job: &Event<Job>| job.n);
        outer.on({
            let inner = inner.downgrade();
            move |_: &Event<Outer>| -> Result<u32, HandlerError> {
                let job = inner.upgrade().ok_or("gone")?.emit(Job { n: 4 }).wait()?;
                assert_eq!(job.errors().len(), 1);
                Ok(job.results()[1].value.unwrap_or(0))
            }
        });
        let event = outer.emit(Outer);
        eventually(|| log.len() == 1);
        if !shared {
            drains(&inner);
        }
        drains(&outer);
        assert_eq!(done(&event).result().unwrap(), 4);
    }
}

#[test]
fn first_and_forwards_keep_their_rules() {
    let (here, there) = (builder("Here").build().unwrap(), builder("There").build().unwrap());
    let log = Log::new();
    // Whose last hope is in its delay has no value.
    here.on_with(hourly(), fails(&log));
    there.on_with(HandlerOptions::new().retry(Retry::attempts(2).delay(Duration::from_millis(300))), fails(&log));
    here.forward_all_to(&there);
    let event = here.emit_with(Job { n: 1 }, EventOptions::new().completion(HandlerCompletion::All));
    eventually(|| !log.is_empty());
    drains(&here);
    let event = done(&event);
    let attempts: Vec<u32> = event.results().iter().map(|result| result.attempts).collect();
    // The other bus does not drain, and waits.
    assert_eq!(attempts.iter().max(), Some(&2), "{attempts:?}");
    assert_eq!(event.results()[0].attempts, 1);
    let bus = builder("First").handler_completion(HandlerCompletion::First).build().unwrap();
    bus.on_with(hourly(), fails(&log));
    bus.on_with(hourly(), fails(&log));
    bus.on(|job: &Event<Job>| job.n);
    let event = bus.emit(Job { n: 5 });
    eventually(|| log.entries().iter().any(|entry| entry.starts_with("5 ")));
    drains(&bus);
    let event = done(&event);
    assert_eq!((event.errors().len(), event.results()[2].value), (2, Some(5)));
}

#[test]
fn a_handler_that_drains_its_own_bus_ends_the_delays_too() {
    let bus = builder("Own")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::EventSerial)
        .build()
        .unwrap();
    let log = Log::new();
    bus.on_with(hourly(), fails(&log));
    let delayed: Vec<_> = (0..3).map(|n| bus.emit(Job { n })).collect();
    eventually(|| log.len() == 3);
    bus.on(|outer: &Event<Outer>| {
        outer.bus().shutdown(Shutdown::Drain, HOUR);
        1
    });
    assert_eq!(done(&bus.emit(Outer)).result().unwrap(), 1);
    delayed.iter().for_each(failed_once);
    idle(&bus);
}

#[test]
fn thousands_in_their_delays_are_through_at_once() {
    let bus = builder("Thousands")
        .event_concurrency(EventConcurrency::Parallel)
        .handler_concurrency(HandlerConcurrency::EventSerial)
        .max_history(Some(10_000))
        .build()
        .unwrap();
    let log = Log::new();
    bus.on_with(hourly(), fails(&log));
    let all: Vec<_> = (0..3000).map(|n| bus.emit(Job { n })).collect();
    eventually(|| log.len() == 3000);
    assert_eq!(drains(&bus).completed, 3000);
    all.iter().for_each(failed_once);
    assert_eq!(bus.dead_letters().len(), 3000);
}

/// A delay keeps its event's last failure, and nothing of the ones before.
#[test]
fn what_failed_before_is_gone_with_the_next_delay_and_the_event() {
    #[derive(Debug)]
    struct Counted(Arc<AtomicU32>);
    impl std::fmt::Display for Counted {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("counted")
        }
    }
    impl std::error::Error for Counted {}
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    let bus = EventBus::new("Failures");
    let alive = Arc::new(AtomicU32::new(0));
    let most = Arc::new(AtomicU32::new(0));
    bus.on_with(HandlerOptions::new().retry(Retry::attempts(50).delay(Duration::from_micros(100))), {
        let (alive, most) = (Arc::clone(&alive), Arc::clone(&most));
        move |_: &Event<Job>| -> Result<u32, HandlerError> {
            most.fetch_max(alive.fetch_add(1, SeqCst), SeqCst);
            if attempt() == 50 {
                alive.fetch_sub(1, SeqCst);
                return Ok(1);
            }
            Err(Counted(Arc::clone(&alive)).into())
        }
    });
    assert_eq!(done(&bus.emit(Job { n: 1 })).result().unwrap(), 1);
    eventually(|| alive.load(SeqCst) == 0);
    assert!(most.load(SeqCst) <= 2, "{most:?}");
}
