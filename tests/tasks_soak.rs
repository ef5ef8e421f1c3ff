//! Everything a task queue has, at once, for a while: retries, limits, priorities, bounded queues, dead letters, schedules; and handlers that
//! wait for others on the next bus, finds and a subscription beside it. Memory, threads and open files stay as they are.
//!
//! `THREADBUS_SOAK_SECONDS=60 cargo test --release --test tasks_soak -- --nocapture`; without it, a few seconds, in which a process still
//! grows to the threads it needs at once: what it holds is then printed, and compared from half a minute on.

mod common;

use common::{payload, process_status};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use threadbus::{
    BusMetrics, Event, EventBus, EventConcurrency, EventOptions, Fairness, HandlerConcurrency, HandlerOptions, Limit,
    OnFull, Priority, Retry, Runtime, Shutdown, WaitError,
};

payload!(Job { n: u64 });
payload!(Beat { by: &'static str });
payload!(Nested { left: u32 } => u32);

const MS: Duration = Duration::from_millis(1);

fn length() -> Duration {
    let seconds = std::env::var("THREADBUS_SOAK_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    Duration::from_secs(seconds)
}

fn bus(runtime: &Runtime, name: &str, on_full: OnFull, events: EventConcurrency) -> EventBus {
    EventBus::builder(name)
        .runtime(runtime)
        .event_concurrency(events)
        .handler_concurrency(HandlerConcurrency::Parallel)
        .fairness(Fairness::Weighted { high: 6, normal: 3, low: 1 })
        .queue_capacity(64, on_full)
        .dead_letters(200)
        .handler_timeout(Some(20 * MS))
        .retry(Retry::attempts(2).exponential(MS, 2.0).jitter(0.5).max_delay(4 * MS))
        .build()
        .unwrap()
}

/// Fails, panics, overstays and dawdles, each by the event's number.
fn work(job: &Event<Job>) -> Result<(), &'static str> {
    match job.n % 97 {
        0 => Err("every 97th fails"),
        1 => panic!("the next one panics"),
        2 => {
            std::thread::sleep(25 * MS);
            Ok(())
        }
        3..=20 => {
            std::thread::sleep(MS / 5);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn check(bus: &EventBus, metrics: &BusMetrics, attempts: u64) {
    assert_eq!((metrics.queued, metrics.in_flight), (0, 0), "{}: {metrics:#?}", bus.label());
    assert_eq!(attempts, metrics.emitted + metrics.rejected, "{}: {metrics:#?}", bus.label());
    let ended = metrics.completed + metrics.cancelled + metrics.dropped;
    assert_eq!(metrics.emitted, ended, "{}: {metrics:#?}", bus.label());
    assert!(metrics.queue_time.p50 <= metrics.queue_time.p99 && metrics.queue_time.p99 <= metrics.queue_time.max);
    assert_eq!(bus.dead_letters().len(), metrics.dead_letters);
}

/// What the process holds at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    kilobytes: usize,
    threads: usize,
    files: usize,
}

impl Held {
    #[cfg(target_os = "linux")]
    fn now() -> Held {
        let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
        Held { kilobytes: process_status("RssAnon:"), threads: process_status("Threads:"), files }
    }

    #[cfg(not(target_os = "linux"))]
    fn now() -> Held {
        Held::default()
    }

    /// Of each number the middle one.
    fn median(of: &[Held]) -> Held {
        let middle = |number: fn(&Held) -> usize| {
            let mut sorted: Vec<usize> = of.iter().map(number).collect();
            sorted.sort_unstable();
            sorted[sorted.len() / 2]
        };
        Held { kilobytes: middle(|h| h.kilobytes), threads: middle(|h| h.threads), files: middle(|h| h.files) }
    }
}

/// What it holds in the last third is what it held in the first one, but for the very beginning.
fn check_flat(samples: &[Held]) {
    let third = samples.len() / 3;
    let (first, last) = (Held::median(&samples[third / 2..=third]), Held::median(&samples[2 * third..]));
    println!("held after the start: {first:?}, at the end: {last:?}, {} samples", samples.len());
    if length() < Duration::from_secs(30) {
        return;
    }
    assert!(last.kilobytes <= first.kilobytes + first.kilobytes / 4 + 16 * 1024, "{first:?}, then {last:?}");
    assert!(last.threads <= first.threads + 8, "{first:?}, then {last:?}");
    assert!(last.files <= first.files, "{first:?}, then {last:?}");
}

#[test]
fn nothing_is_lost_with_all_of_it_on() {
    // The panics on purpose would drown a panic of the test.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref() != Some(&"the next one panics") {
            tell(info);
        }
    }));
    let until = Instant::now() + length();
    let runtime = Runtime::builder().max_threads(16).build().unwrap();
    let shared = Limit::new(3);
    let buses = [
        bus(&runtime, "Drops", OnFull::DropOldest, EventConcurrency::Parallel),
        bus(&runtime, "Refuses", OnFull::Reject, EventConcurrency::BusSerial),
        bus(&runtime, "Waits", OnFull::BlockFor(5 * MS), EventConcurrency::Parallel),
        bus(&runtime, "Helps", OnFull::RunInline, EventConcurrency::Parallel),
    ];
    let beats = Arc::new(AtomicU64::new(0));
    let mut ticking = Vec::new();
    for (at, bus) in buses.iter().enumerate() {
        bus.on(work);
        let next = buses[(at + 1) % buses.len()].downgrade();
        bus.on(move |nested: &Event<Nested>| -> Result<u32, WaitError> {
            let Some(next) = next.upgrade().filter(|_| nested.left > 0) else { return Ok(0) };
            let below = next.emit(Nested { left: nested.left - 1 }).wait()?;
            Ok(below.result().unwrap_or(0) + 1)
        });
        bus.on_with(HandlerOptions::new().limit(shared.clone()), |job: &Event<Job>| {
            if job.n.is_multiple_of(31) { Err("its friend fails too") } else { Ok(()) }
        });
        let count = Arc::clone(&beats);
        bus.on(move |_: &Event<Beat>| {
            count.fetch_add(1, Relaxed);
        });
        ticking.push(bus.emit_every(10 * MS, Beat { by: "the clock" }));
    }
    let attempts: [AtomicU64; 4] = Default::default();
    let (over, seen, nested) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Two thousand samples at most, whatever the length.
            let pause = (length() / 2000).max(10 * MS);
            while !over.load(Relaxed) {
                samples.push(Held::now());
                std::thread::sleep(pause);
            }
        });
        scope.spawn(|| {
            let mut subscription = buses[1].subscribe::<Beat>();
            while !over.load(Relaxed) {
                seen.fetch_add(subscription.recv_timeout(10 * MS).is_ok().into(), Relaxed);
                drop(buses[2].find::<Beat>().past(true).future(MS).first());
            }
        });
        let producers: Vec<_> = (0..4u64)
            .map(|producer| {
                let (buses, attempts, nested) = (&buses, &attempts, &nested);
                scope.spawn(move || {
                    let mut n = producer;
                    while Instant::now() < until {
                        n += 4;
                        let at = (n / 4 % 4) as usize;
                        let priority = Priority::new((n % 11) as u8).unwrap();
                        let event = buses[at].emit_with(Job { n }, EventOptions::new().priority(priority));
                        attempts[at].fetch_add(1, Relaxed);
                        match n % 53 {
                            0 => drop(event.cancel()),
                            1 => drop(event.wait_timeout(MS)),
                            2 => {
                                let done = buses[at].emit_now(Nested { left: 6 }).wait();
                                nested.fetch_add(done.is_ok_and(|done| matches!(done.result(), Ok(6))).into(), Relaxed);
                            }
                            _ => {}
                        }
                        if n.is_multiple_of(509) {
                            buses[at].redrive(5);
                        }
                    }
                })
            })
            .collect();
        for producer in producers {
            producer.join().unwrap();
        }
        over.store(true, Relaxed);
    });
    check_flat(&samples);
    for schedule in ticking {
        schedule.cancel();
    }
    for (bus, attempts) in buses.iter().zip(&attempts) {
        bus.wait_until_idle_timeout(Duration::from_secs(30)).unwrap();
        // What the clock emitted is counted by the bus alone.
        let metrics = bus.metrics();
        let jobs = attempts.load(Relaxed);
        let all = metrics.emitted + metrics.rejected;
        assert!(all >= jobs, "{}: {jobs} jobs, {metrics:#?}", bus.label());
        check(bus, &metrics, all);
        assert!(metrics.retries > 0 && metrics.failed > 0 && metrics.recovered <= metrics.retries, "{metrics:#?}");
        let report = bus.redrive(usize::MAX);
        assert!(report.succeeded + report.failed <= 200);
    }
    let [beats, seen, nested] = [&*beats, &seen, &nested].map(|count| count.load(Relaxed));
    println!("{beats} beats, {seen} seen, {nested} nested to the end, {:#?}", buses.each_ref().map(EventBus::metrics));
    assert!(beats > 0 && seen > 0 && nested > 0, "{beats} beats, {seen} seen, {nested} nested to the end");
    assert!(buses[0].metrics().dropped > 0 && buses[1].metrics().rejected > 0 && buses[3].metrics().ran_inline > 0);
    runtime.shutdown(Shutdown::Drain, Duration::from_secs(30));
    let deadline = Instant::now() + Duration::from_secs(30);
    while runtime.stats().busy + runtime.stats().abandoned > 0 {
        assert!(Instant::now() < deadline, "{:?}", runtime.stats());
        std::thread::sleep(MS);
    }
}
