//! Nobody keeps a thread while others stand in line: buses, parallel events, deliveries and schedules take turns.

mod common;

use common::{Gate, Gauge, Log, PATIENCE, clean, done, eventually, idle, payload};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use threadbus::{
    Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerOptions, Limit, Retry, Runtime,
};

payload!(Job);
payload!(Other);
payload!(Numbered { n: usize });

/// Longer than a turn.
const LONG: Duration = Duration::from_millis(2);

fn threads(max: usize) -> Runtime {
    Runtime::builder().max_threads(max).build().expect("a runtime")
}

fn serial(runtime: &Runtime, name: &str) -> EventBus {
    EventBus::builder(name).runtime(runtime).build().expect("a bus")
}

fn parallel(runtime: &Runtime, name: &str) -> EventBus {
    let builder = EventBus::builder(name).runtime(runtime).event_concurrency(EventConcurrency::Parallel);
    builder.handler_concurrency(HandlerConcurrency::Parallel).build().expect("a bus")
}

/// Work that never ends by itself: how much of it was done.
#[derive(Default)]
struct Flood {
    runs: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Flood {
    fn parts(&self) -> (Arc<AtomicUsize>, Arc<AtomicBool>) {
        (Arc::clone(&self.runs), Arc::clone(&self.over))
    }

    /// Each event's handler emits the next one.
    fn on_itself(&self, bus: &EventBus) {
        let (runs, over) = self.parts();
        bus.on(move |job: &Event<Job>| {
            std::thread::sleep(LONG);
            runs.fetch_add(1, SeqCst);
            if !over.load(SeqCst) {
                job.bus().emit_with(Job, EventOptions::new().detached());
            }
        });
        bus.emit(Job);
        self.has_begun();
    }

    /// So many handlers or events, of which each takes longer than a turn.
    fn handler(&self) -> impl Fn(&Event<Job>) + Send + Sync + 'static {
        let (runs, over) = self.parts();
        move |_| {
            runs.fetch_add(1, SeqCst);
            if !over.load(SeqCst) {
                std::thread::sleep(LONG);
            }
        }
    }

    fn has_begun(&self) {
        eventually(|| self.runs.load(SeqCst) > 0);
    }

    /// How many of its handlers began while `body` ran.
    fn meanwhile(&self, body: impl FnOnce()) -> usize {
        let before = self.runs.load(SeqCst);
        body();
        self.runs.load(SeqCst) - before
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}

/// A single event on a bus that was idle. Few handlers of the flood come before it.
fn comes_soon(flood: &Flood, bus: &EventBus, threads: usize) {
    bus.on(|_: &Event<Other>| {});
    // While another program keeps this thread from its core the flood goes on, so the least of several is what counts.
    let least = (0..5).map(|_| flood.meanwhile(|| clean(&bus.emit(Other)))).min().unwrap_or(0);
    // What ran then, what was taken just before it, and what came beside it.
    assert!(least <= 3 * threads + 2, "{least} handlers of the flood came first, on {threads} threads");
}

#[test]
fn a_busy_serial_bus_leaves_the_only_thread_to_others() {
    let (runtime, flood) = (threads(1), Flood::default());
    let busy = serial(&runtime, "Busy");
    flood.on_itself(&busy);
    comes_soon(&flood, &serial(&runtime, "Idle"), 1);
    comes_soon(&flood, &parallel(&runtime, "Idle too"), 1);
}

#[test]
fn two_buses_that_keep_each_other_busy_leave_it_too() {
    let (runtime, flood) = (threads(1), Flood::default());
    let (a, b) = (serial(&runtime, "A"), serial(&runtime, "B"));
    for (here, there) in [(&a, &b), (&b, &a)] {
        let ((runs, over), there) = (flood.parts(), there.downgrade());
        here.on(move |_: &Event<Job>| {
            std::thread::sleep(LONG);
            runs.fetch_add(1, SeqCst);
            if let Some(there) = there.upgrade().filter(|_| !over.load(SeqCst)) {
                there.emit_with(Job, EventOptions::new().detached());
            }
        });
    }
    (0..2).for_each(|_| drop(a.emit(Job)));
    flood.has_begun();
    comes_soon(&flood, &parallel(&runtime, "Parallel"), 1);
    let retried = serial(&runtime, "Retried");
    let tries = AtomicUsize::new(0);
    let fails_once = move |_: &Event<Other>| match tries.fetch_add(1, SeqCst) {
        0 => Err("not yet"),
        _ => Ok(()),
    };
    retried.on_with(HandlerOptions::new().retry(Retry::attempts(2).delay(Duration::from_millis(1))), fails_once);
    clean(&retried.emit(Other));
    let (planned, fired) = (serial(&runtime, "Planned"), Gate::new());
    let opens = fired.clone();
    planned.on(move |_: &Event<Other>| opens.open());
    planned.emit_after(Duration::from_millis(1), Other);
    fired.wait();
}

#[test]
fn a_flood_of_parallel_events_leaves_its_threads_to_others() {
    for max in [1, 2, 8] {
        let (runtime, flood) = (threads(max), Flood::default());
        let busy = parallel(&runtime, "Busy");
        busy.on(flood.handler());
        (0..3000).for_each(|_| drop(busy.emit(Job)));
        flood.has_begun();
        comes_soon(&flood, &serial(&runtime, "Idle"), max);
        comes_soon(&flood, &parallel(&runtime, "Idle too"), max);
        flood.over.store(true, SeqCst);
        idle(&busy);
        assert_eq!(flood.runs.load(SeqCst), 3000);
    }
}

#[test]
fn one_event_with_many_handlers_leaves_its_thread_between_them() {
    let modes = [HandlerConcurrency::BusSerial, HandlerConcurrency::Parallel, HandlerConcurrency::EventSerial];
    for (mode, events) in
        modes.into_iter().flat_map(|m| [(m, EventConcurrency::BusSerial), (m, EventConcurrency::Parallel)])
    {
        let (runtime, flood, inside) = (threads(1), Flood::default(), Gauge::new());
        let builder = EventBus::builder("Busy").runtime(&runtime).handler_concurrency(mode);
        let busy = builder.event_concurrency(events).build().expect("a bus");
        for _ in 0..300 {
            let (handler, inside) = (flood.handler(), inside.clone());
            busy.on(move |job: &Event<Job>| {
                inside.enter();
                handler(job);
                inside.leave();
            });
        }
        let event = busy.emit(Job);
        let next = busy.emit(Job);
        flood.has_begun();
        comes_soon(&flood, &serial(&runtime, "Idle"), 1);
        assert!(!event.is_completed());
        flood.over.store(true, SeqCst);
        clean(&event);
        clean(&next);
        assert_eq!((flood.runs.load(SeqCst), inside.peak()), (600, 1), "{mode:?}");
        idle(&busy);
    }
}

/// What gives way keeps its turn: nothing of the bus comes between.
#[test]
fn an_event_that_gives_way_stays_the_one_that_runs() {
    let runtime = threads(1);
    let (busy, beside, log) = (serial(&runtime, "Busy"), serial(&runtime, "Beside"), Log::new());
    for handler in 0..4 {
        let log = log.clone();
        busy.on(move |event: &Event<Numbered>| {
            std::thread::sleep(LONG);
            log.push(format_args!("{}.{handler}", event.n));
        });
    }
    let log_beside = log.clone();
    beside.on(move |_: &Event<Other>| log_beside.push("beside"));
    let events: Vec<_> = (0..4).map(|n| busy.emit(Numbered { n })).collect();
    for _ in 0..8 {
        clean(&beside.emit(Other));
    }
    events.iter().for_each(clean);
    let own: Vec<String> = log.entries().into_iter().filter(|entry| entry != "beside").collect();
    let expected: Vec<String> = (0..4).flat_map(|n| (0..4).map(move |h| format!("{n}.{h}"))).collect();
    assert_eq!(own, expected);
    let first = log.position("beside");
    assert!(first < 8, "{:?}", log.entries());
}

/// Cancelled, timed out or shut down while it stands in line for a thread: like anywhere else.
#[test]
fn an_event_that_has_given_way_can_be_given_up() {
    let runtime = threads(1);
    let (busy, gate, held) = (serial(&runtime, "Busy"), Gate::new(), Gate::new());
    let _opener = gate.opener();
    for _ in 0..50 {
        let held = held.clone();
        busy.on(move |_: &Event<Job>| {
            held.open();
            std::thread::sleep(LONG);
        });
    }
    let keeper = serial(&runtime, "Keeper");
    let keeps = gate.clone();
    keeper.on(move |_: &Event<Other>| keeps.wait());
    let event = busy.emit(Job);
    held.wait();
    let kept = keeper.emit(Other);
    // Now the only thread is inside the keeper, and the event stands in line behind it.
    eventually(|| kept.started_at().is_some());
    assert!(event.cancel());
    gate.open();
    clean(&kept);
    assert!(done(&event).results().iter().any(|result| result.error.is_some()));
    clean(&busy.emit(Numbered { n: 1 }));
    idle(&busy);
}

#[test]
fn globally_serial_buses_take_turns_as_well() {
    let (runtime, flood) = (threads(1), Flood::default());
    let global = |name: &str| {
        let builder = EventBus::builder(name).runtime(&runtime).event_concurrency(EventConcurrency::GlobalSerial);
        builder.build().expect("a bus")
    };
    let busy = global("Busy");
    flood.on_itself(&busy);
    comes_soon(&flood, &global("Idle"), 1);
    comes_soon(&flood, &serial(&runtime, "Serial"), 1);
}

#[test]
fn what_a_limit_lets_in_one_after_another_leaves_its_threads_too() {
    let (runtime, flood) = (threads(2), Flood::default());
    let busy = parallel(&runtime, "Busy");
    busy.on_with(HandlerOptions::new().limit(Limit::new(2)), flood.handler());
    (0..1000).for_each(|_| drop(busy.emit(Job)));
    flood.has_begun();
    comes_soon(&flood, &serial(&runtime, "Idle"), 2);
    flood.over.store(true, SeqCst);
    idle(&busy);
    assert_eq!(flood.runs.load(SeqCst), 1000);
}

#[test]
fn schedules_fire_beside_a_flood() {
    let (runtime, flood) = (threads(2), Flood::default());
    let busy = parallel(&runtime, "Busy");
    busy.on(flood.handler());
    (0..3000).for_each(|_| drop(busy.emit(Job)));
    flood.has_begun();
    let (clock, fired) = (serial(&runtime, "Clock"), Gate::new());
    let opens = fired.clone();
    clock.on(move |_: &Event<Other>| opens.open());
    let before = flood.meanwhile(|| {
        clock.emit_after(Duration::ZERO, Other);
        fired.wait();
    });
    assert!(before < 100, "{before} handlers of the flood came first");
}

/// On one bus: its serial events do not wait until its parallel ones are through.
#[test]
fn serial_and_parallel_events_of_one_bus_take_turns() {
    let (runtime, flood) = (threads(1), Flood::default());
    let bus = serial(&runtime, "Both");
    bus.on(flood.handler());
    bus.on(|_: &Event<Other>| {});
    let free = || EventOptions::new().concurrency(EventConcurrency::Parallel);
    (0..1000).for_each(|_| drop(bus.emit_with(Job, free())));
    flood.has_begun();
    let before = flood.meanwhile(|| clean(&bus.emit(Other)));
    assert!(before < 20, "{before} parallel ones came first");
}

/// A crowd of buses with an event each now and then does not keep a busy one from its turns.
#[test]
fn a_crowd_of_small_buses_leaves_a_busy_one_its_share() {
    let (runtime, flood) = (threads(1), Flood::default());
    let busy = serial(&runtime, "Busy");
    flood.on_itself(&busy);
    let (quick, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let crowd: Vec<EventBus> = (0..50).map(|n| serial(&runtime, &format!("Small{n}"))).collect();
    for (at, bus) in crowd.iter().enumerate() {
        let next = crowd[(at + 1) % crowd.len()].downgrade();
        let (quick, over) = (Arc::clone(&quick), Arc::clone(&over));
        bus.on(move |_: &Event<Other>| {
            quick.fetch_add(1, SeqCst);
            if let Some(next) = next.upgrade().filter(|_| !over.load(SeqCst)) {
                next.emit_with(Other, EventOptions::new().detached());
            }
        });
    }
    crowd.iter().for_each(|bus| drop(bus.emit(Other)));
    let start = Instant::now();
    let (ran, went) = (flood.runs.load(SeqCst), quick.load(SeqCst));
    while flood.runs.load(SeqCst) < ran + 20 || quick.load(SeqCst) < went + 2000 {
        assert!(start.elapsed() < PATIENCE, "{} and {}", flood.runs.load(SeqCst) - ran, quick.load(SeqCst) - went);
        std::thread::sleep(LONG);
    }
    over.store(true, SeqCst);
    crowd.iter().for_each(idle);
}

/// Ten busy buses on two threads: each gets its share.
#[test]
fn busy_buses_get_equal_shares() {
    let runtime = threads(2);
    let floods: Vec<(EventBus, Flood)> = (0..10)
        .map(|n| {
            let (bus, flood) = (serial(&runtime, &format!("Busy{n}")), Flood::default());
            flood.on_itself(&bus);
            (bus, flood)
        })
        .collect();
    eventually(|| floods.iter().all(|(_, flood)| flood.runs.load(SeqCst) >= 20));
    let runs: Vec<usize> = floods.iter().map(|(_, flood)| flood.runs.load(SeqCst)).collect();
    let (least, most) = (runs.iter().min().unwrap(), runs.iter().max().unwrap());
    assert!(*most <= 3 * least + 20, "{runs:?}");
}
