//! How long one event on an idle bus takes beside a flood on another bus: `cargo bench --bench neighbours [-- --check]`.
//!
//! Each row is a kind of flood, with what one of its handlers takes: nobody takes a thread from a running handler, so that is added to the
//! bound of 5 ms. With `--check`, a row whose 95th percentile is beyond its bound fails: it is measured again first, twice at most, since
//! another program may have had the cores, and each time is printed.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use threadbus::{
    Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerOptions, Limit, Payload, Runtime,
};

struct Job;
impl Payload for Job {
    type Output = ();
}
struct Button;
impl Payload for Button {
    type Output = ();
}

const SAMPLES: usize = 100;
const MS: Duration = Duration::from_millis(1);
const BOUND: Duration = Duration::from_millis(5);

/// What a handler of the flood does.
#[derive(Clone, Copy)]
enum Work {
    Sleep(Duration),
    Compute(Duration),
}

impl Work {
    fn run(self) {
        match self {
            Work::Sleep(time) => std::thread::sleep(time),
            Work::Compute(time) => {
                let until = Instant::now() + time;
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            }
        }
    }

    fn time(self) -> Duration {
        match self {
            Work::Sleep(time) | Work::Compute(time) => time,
        }
    }
}

/// A flood, until it is over.
struct Flood {
    runtime: Runtime,
    over: Arc<AtomicBool>,
    buses: Vec<EventBus>,
}

impl Flood {
    fn on(threads: usize) -> Flood {
        let runtime = Runtime::builder().max_threads(threads).build().expect("a runtime");
        Flood { runtime, over: Arc::default(), buses: Vec::new() }
    }

    fn bus(&mut self, parallel: bool) -> EventBus {
        let builder = EventBus::builder("Flood").runtime(&self.runtime);
        let builder = match parallel {
            true => {
                builder.event_concurrency(EventConcurrency::Parallel).handler_concurrency(HandlerConcurrency::Parallel)
            }
            false => builder,
        };
        let bus = builder.build().expect("a bus");
        self.buses.push(bus.clone());
        bus
    }

    fn handler(&self, work: Work) -> impl Fn(&Event<Job>) + Send + Sync + 'static {
        let over = Arc::clone(&self.over);
        move |_| {
            if !over.load(SeqCst) {
                work.run();
            }
        }
    }

    /// Serial buses in a ring, each of whose handlers emits on the next one.
    fn ring(threads: usize, buses: usize, work: Work) -> Flood {
        let mut flood = Flood::on(threads);
        let ring: Vec<EventBus> = (0..buses).map(|_| flood.bus(false)).collect();
        for (at, bus) in ring.iter().enumerate() {
            let (handler, over) = (flood.handler(work), Arc::clone(&flood.over));
            let next = ring[(at + 1) % buses].downgrade();
            bus.on(move |job: &Event<Job>| {
                handler(job);
                if let Some(next) = next.upgrade().filter(|_| !over.load(SeqCst)) {
                    next.emit_with(Job, EventOptions::new().detached());
                }
            });
        }
        ring.iter().for_each(|bus| drop(bus.emit(Job)));
        flood
    }

    /// So many parallel events at once.
    fn parallel(threads: usize, events: usize, work: Work) -> Flood {
        let mut flood = Flood::on(threads);
        let bus = flood.bus(true);
        bus.on(flood.handler(work));
        (0..events).for_each(|_| drop(bus.emit(Job)));
        flood
    }

    /// One event with so many handlers.
    fn fan(threads: usize, handlers: usize, parallel: bool, work: Work) -> Flood {
        let mut flood = Flood::on(threads);
        let bus = flood.bus(parallel);
        (0..handlers).for_each(|_| drop(bus.on(flood.handler(work))));
        drop(bus.emit(Job));
        flood
    }

    /// Parallel events under one limit.
    fn limited(threads: usize, events: usize, places: usize, work: Work) -> Flood {
        let mut flood = Flood::on(threads);
        let bus = flood.bus(true);
        bus.on_with(HandlerOptions::new().limit(Limit::new(places)), flood.handler(work));
        (0..events).for_each(|_| drop(bus.emit(Job)));
        flood
    }

    fn is_on(&self) -> bool {
        self.buses.iter().any(|bus| !bus.is_idle())
    }

    fn end(self) {
        self.over.store(true, SeqCst);
        self.buses.iter().for_each(|bus| bus.wait_until_idle().expect("outside of handlers"));
    }
}

/// Times of single events on an idle bus, in order; `timer`: planned, and counted from their time on.
fn times(flood: &Flood, timer: bool) -> Vec<Duration> {
    let idle = EventBus::builder("Idle").runtime(&flood.runtime).build().expect("a bus");
    let (tell, told) = std::sync::mpsc::channel();
    idle.on(move |_: &Event<Button>| {
        let _ = tell.send(Instant::now());
    });
    let mut times: Vec<Duration> = (0..SAMPLES)
        .map_while(|_| {
            let start = Instant::now();
            let delay = if timer { MS } else { Duration::ZERO };
            if timer {
                drop(idle.emit_after(delay, Button));
            } else {
                drop(idle.emit(Button));
            }
            let at = told.recv().expect("the handler lives");
            flood.is_on().then(|| at.saturating_duration_since(start + delay))
        })
        .collect();
    times.sort_unstable();
    times
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.len() == 1 {
        return ExitCode::SUCCESS; // from `cargo test --all-targets`
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let row = |name: &'static str, work: Work, start: Start| (name, work, start);
    let (sleep, compute, short) = (Work::Sleep(2 * MS), Work::Compute(MS), Work::Compute(20 * MS / 1000));
    let long = Work::Sleep(100 * MS);
    let rows = [
        row("nothing", Work::Sleep(Duration::ZERO), Box::new(|| Flood::parallel(2, 0, Work::Sleep(MS)))),
        row("a serial bus, 1 thread", sleep, Box::new(move || Flood::ring(1, 1, sleep))),
        row("two serial buses in turn, 1 thread", sleep, Box::new(move || Flood::ring(1, 2, sleep))),
        row("twenty serial buses, threads as cores", compute, Box::new(move || Flood::ring(cores, 20, compute))),
        row("3,000 parallel events that sleep, 512 threads", long, Box::new(move || Flood::parallel(512, 3000, long))),
        row("3,000 parallel events, 2 threads", sleep, Box::new(move || Flood::parallel(2, 3000, sleep))),
        row("parallel events, threads as cores", compute, Box::new(move || Flood::parallel(cores, 5000, compute))),
        row("short parallel events, 1 thread", short, Box::new(move || Flood::parallel(1, 100_000, short))),
        row("an event with 2,000 handlers, 1 thread", sleep, Box::new(move || Flood::fan(1, 2000, false, sleep))),
        row("2,000 parallel handlers, 2 threads", sleep, Box::new(move || Flood::fan(2, 2000, true, sleep))),
        row("3,000 events under a limit of 2, 2 threads", sleep, Box::new(move || Flood::limited(2, 3000, 2, sleep))),
    ];
    println!("| beside | one handler | event: median | p95 | worst | timer: median | p95 | worst | p95 may be | |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let check = arguments.iter().any(|argument| argument == "--check");
    let mut beyond = false;
    for (name, work, start) in rows {
        let tries = if check { 3 } else { 1 };
        beyond |= !(0..tries).any(|_| is_in_time(name, work, &start));
    }
    if check && beyond { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

type Start = Box<dyn Fn() -> Flood>;

/// Measures a row once and prints it.
fn is_in_time(name: &str, work: Work, start: &Start) -> bool {
    let mut cells = String::new();
    let (bound, mut met) = (BOUND + work.time(), true);
    for timer in [false, true] {
        let mut flood = start();
        if name == "nothing" {
            flood.buses.push(endless());
        }
        let times = times(&flood, timer);
        flood.end();
        let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
        let time = |share| at(share).map_or_else(|| "-".to_owned(), |time| format!("{time:.1?}"));
        cells.push_str(&format!(" {} | {} | {} |", time(50), time(95), time(100)));
        met &= at(95).is_some_and(|time| *time <= bound);
    }
    let verdict = if met { "" } else { "missed" };
    println!("| {name} | {:?} |{cells} {bound:?} | {verdict} |", work.time());
    met
}

/// A bus that is not idle until it is let go of: the row without a flood is measured to its end.
fn endless() -> EventBus {
    let bus = EventBus::builder("Endless").manual().build().expect("a bus");
    drop(bus.emit(Job));
    bus
}
