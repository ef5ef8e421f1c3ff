//! Issue 6: `emit_after` and `emit_every`. Times are lower bounds only, or told apart by what else was due.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, lock, payload, warnings_naming, within};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use threadbus::{Event, EventBus, EventConcurrency, OnFull, Runtime, Scheduled, Shutdown, context};

payload!(Tick { n: usize });
payload!(Marker);

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Counts the ticks that a bus handles.
fn counting(bus: &EventBus) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let of = Arc::clone(&count);
    bus.on(move |_: &Event<Tick>| {
        of.fetch_add(1, SeqCst);
    });
    count
}

/// Returns when everything that was due within `delay` from now has been emitted and handled.
fn pass(bus: &EventBus, delay: Duration) {
    let gate = Gate::new();
    let passed = gate.clone();
    let marker = bus.on(move |_: &Event<Marker>| passed.open());
    bus.emit_after(delay, Marker);
    gate.wait();
    bus.off(&marker);
    idle(bus);
}

/// Counts how many of it are alive, as a payload.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);
impl Counted {
    fn new(alive: &Arc<AtomicUsize>) -> Counted {
        alive.fetch_add(1, SeqCst);
        Counted(Arc::clone(alive))
    }
}
impl Clone for Counted {
    fn clone(&self) -> Self {
        Counted::new(&self.0)
    }
}
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
impl threadbus::Payload for Counted {
    type Output = ();
}

#[test]
fn after_emits_once_and_not_before_its_time() {
    let bus = EventBus::new("After");
    let mut ticks = bus.subscribe::<Tick>();
    let start = Instant::now();
    let scheduled = bus.emit_after(20 * MS, Tick { n: 7 });
    let tick = ticks.recv_timeout(PATIENCE).unwrap();
    assert!(start.elapsed() >= 20 * MS);
    assert_eq!(tick.n, 7);
    done(&tick);
    assert!(!scheduled.cancel(), "it has fired for the last time");
    pass(&bus, 30 * MS);
    assert_eq!(ticks.try_iter().count(), 0);
}

#[test]
fn what_is_due_comes_in_the_order_of_its_time() {
    let bus = EventBus::new("Order");
    let log = Log::new();
    let to = log.clone();
    bus.on(move |tick: &Event<Tick>| to.push(tick.n));
    for n in [3, 1, 2] {
        bus.emit_after((n as u32) * 15 * MS, Tick { n });
    }
    bus.emit_after(Duration::ZERO, Tick { n: 0 });
    eventually(|| log.len() == 4);
    assert_eq!(log.entries(), ["0", "1", "2", "3"]);
}

#[test]
fn every_goes_on_until_it_is_cancelled() {
    let bus = EventBus::new("Every");
    let count = counting(&bus);
    let start = Instant::now();
    let scheduled = bus.emit_every(4 * MS, Tick { n: 1 });
    eventually(|| count.load(SeqCst) >= 5);
    assert!(start.elapsed() >= 20 * MS, "the first comes after one period");
    assert!(scheduled.cancel());
    assert!(!scheduled.clone().cancel());
    // One may have been on its way.
    pass(&bus, 10 * MS);
    let at_rest = count.load(SeqCst);
    pass(&bus, 20 * MS);
    assert_eq!(count.load(SeqCst), at_rest);
}

#[test]
fn missed_beats_are_left_out_and_nothing_piles_up() {
    let bus = EventBus::builder("Slow").queue_capacity(1, OnFull::Block).build().unwrap();
    let count = counting(&bus);
    bus.pause();
    bus.emit(Tick { n: 0 });
    let scheduled = bus.emit_every(2 * MS, Tick { n: 1 });
    let other = EventBus::new("Clock");
    pass(&other, 200 * MS);
    assert_eq!(bus.history_len(), 1, "the first beat waits for room");
    bus.resume();
    eventually(|| count.load(SeqCst) >= 3);
    scheduled.cancel();
    idle(&bus);
    // A hundred beats were missed; a burst would have made good for them at once.
    assert!(bus.history_len() < 60, "{}", bus.history_len());
}

#[test]
fn cancelling_before_the_time_drops_the_payload_here_and_now() {
    let alive = Arc::new(AtomicUsize::new(0));
    let bus = EventBus::new("Cancel");
    let once = bus.emit_after(HOUR, Counted::new(&alive));
    let again = bus.emit_every(HOUR, Counted::new(&alive));
    assert_eq!(alive.load(SeqCst), 2);
    assert!(once.cancel() && again.cancel());
    assert_eq!(alive.load(SeqCst), 0);
    assert!(!once.cancel() && !again.cancel());
    assert_eq!(bus.history_len(), 0);
}

#[test]
fn dropping_the_handle_changes_nothing() {
    let bus = EventBus::new("Dropped");
    let count = counting(&bus);
    drop(bus.emit_after(5 * MS, Tick { n: 0 }));
    drop(bus.emit_every(5 * MS, Tick { n: 1 }));
    eventually(|| count.load(SeqCst) >= 3);
}

#[test]
fn a_schedule_does_not_keep_its_bus_and_ends_with_it() {
    let alive = Arc::new(AtomicUsize::new(0));
    let bus = EventBus::new("Weak");
    let once = bus.emit_after(HOUR, Counted::new(&alive));
    let again = bus.emit_every(HOUR, Counted::new(&alive));
    let weak = bus.downgrade();
    drop(bus);
    assert!(weak.upgrade().is_none());
    eventually(|| alive.load(SeqCst) == 0);
    assert!(!once.cancel() && !again.cancel());
}

#[test]
fn a_schedule_ends_with_a_shutdown() {
    for mode in [Shutdown::Drain, Shutdown::Now] {
        let alive = Arc::new(AtomicUsize::new(0));
        let bus = EventBus::new("Ends");
        let fired = bus.subscribe::<Counted>();
        let again = bus.emit_every(2 * MS, Counted::new(&alive));
        let once = bus.emit_after(HOUR, Counted::new(&alive));
        eventually(|| fired.backlog() > 1);
        bus.shutdown(mode, PATIENCE);
        drop(fired);
        assert!(!again.cancel() && !once.cancel());
        eventually(|| alive.load(SeqCst) == 0);
        let late = bus.emit_after(MS, Counted::new(&alive));
        assert!(!late.cancel());
        assert_eq!(alive.load(SeqCst), 0);
    }
}

#[test]
fn a_thousand_cost_no_thread() {
    let runtime = Runtime::builder().thread_name("thousand").build().unwrap();
    let bus = EventBus::builder("Thousand").runtime(&runtime).max_history(Some(0)).build().unwrap();
    let count = counting(&bus);
    let mut all: Vec<Scheduled> = (0..1000).map(|n| bus.emit_after(HOUR, Tick { n })).collect();
    assert_eq!(runtime.stats().threads, 0, "none at all while nothing is due");
    all.extend((0..1000).map(|n| bus.emit_every(10 * MS, Tick { n })));
    eventually(|| count.load(SeqCst) >= 3000);
    // One that emits, one that handles, and a few that were on their way between jobs.
    assert!(runtime.stats().peak_threads <= 6, "{:?}", runtime.stats());
    assert!(all[..1000].iter().all(Scheduled::cancel) && all[1000..].iter().all(Scheduled::cancel));
}

#[test]
fn a_full_queue_keeps_neither_the_watch_nor_the_only_thread() {
    within(PATIENCE, || {
        let runtime = Runtime::builder().max_threads(1).build().unwrap();
        let full = EventBus::builder("Full").runtime(&runtime).queue_capacity(1, OnFull::Block).build().unwrap();
        let other = EventBus::builder("Other").runtime(&runtime).build().unwrap();
        let (waiting, going) = (counting(&full), counting(&other));
        full.pause();
        full.emit(Tick { n: 0 });
        full.emit_after(MS, Tick { n: 1 });
        full.emit_after(MS, Tick { n: 2 });
        // The watch goes on: other schedules fire, and deadlines pass.
        other.emit_every(2 * MS, Tick { n: 0 });
        eventually(|| going.load(SeqCst) >= 5);
        let overdue = threadbus::EventOptions::new().handler_timeout(20 * MS);
        let gate = Gate::new();
        let (closed, _open) = (gate.clone(), gate.opener());
        other.on(move |_: &Event<Marker>| closed.wait());
        assert_eq!(done(&other.emit_with(Marker, overdue)).errors().len(), 1);
        assert_eq!((waiting.load(SeqCst), full.pending()), (0, 1));
        full.resume();
        eventually(|| waiting.load(SeqCst) == 3);
    });
}

#[test]
fn a_refusing_queue_refuses_and_the_beat_goes_on() {
    let warnings = warnings_naming("a scheduled Tick was refused");
    let before = warnings().len();
    let bus = EventBus::builder("Refusing").queue_capacity(1, OnFull::Reject).build().unwrap();
    let count = counting(&bus);
    bus.pause();
    bus.emit(Tick { n: 0 });
    let once = bus.emit_after(MS, Tick { n: 1 });
    bus.emit_every(2 * MS, Tick { n: 2 });
    eventually(|| warnings().len() > before);
    assert!(!once.cancel(), "refused is fired");
    assert_eq!(bus.history_len(), 1);
    bus.resume();
    eventually(|| count.load(SeqCst) >= 3);
}

#[test]
fn user_code_runs_on_pool_threads_only() {
    #[derive(Debug)]
    struct Where(Arc<Mutex<Vec<String>>>);
    impl Where {
        fn note(&self) {
            lock(&self.0).push(std::thread::current().name().unwrap_or("?").to_owned());
        }
    }
    impl Clone for Where {
        fn clone(&self) -> Self {
            self.note();
            Where(Arc::clone(&self.0))
        }
    }
    impl Drop for Where {
        fn drop(&mut self) {
            self.note();
        }
    }
    impl threadbus::Payload for Where {
        type Output = ();
    }
    let runtime = Runtime::builder().thread_name("here").build().unwrap();
    let bus = EventBus::builder("Where").runtime(&runtime).max_history(Some(0)).build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    bus.emit_every(2 * MS, Where(Arc::clone(&seen)));
    bus.emit_after(2 * MS, Where(Arc::clone(&seen)));
    eventually(|| lock(&seen).len() >= 10);
    assert!(lock(&seen).iter().all(|name| name.starts_with("here-")), "{:?}", lock(&seen));
}

#[test]
fn a_clone_that_panics_costs_that_beat_only() {
    struct Fragile(Arc<AtomicUsize>);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert!(self.0.fetch_add(1, SeqCst) % 2 == 1, "every other one");
            Fragile(Arc::clone(&self.0))
        }
    }
    impl threadbus::Payload for Fragile {
        type Output = ();
    }
    let bus = EventBus::new("Fragile");
    let (cloned, handled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&handled);
    bus.on(move |_: &Event<Fragile>| {
        count.fetch_add(1, SeqCst);
    });
    bus.emit_every(2 * MS, Fragile(Arc::clone(&cloned)));
    eventually(|| handled.load(SeqCst) >= 3);
    assert!(cloned.load(SeqCst) >= 6);
}

#[test]
fn a_period_of_nothing_is_a_millisecond() {
    let bus = EventBus::new("Nothing");
    let warnings = warnings_naming(bus.label());
    let count = counting(&bus);
    let start = Instant::now();
    let scheduled = bus.emit_every(Duration::ZERO, Tick { n: 0 });
    eventually(|| count.load(SeqCst) >= 10);
    assert!(start.elapsed() >= 10 * MS);
    assert!(scheduled.cancel());
    assert!(warnings().iter().any(|warning| warning.contains("taken as 1ms")), "{:?}", warnings());
}

#[test]
fn endless_delays_never_pass() {
    let bus = EventBus::new("Endless");
    let once = bus.emit_after(Duration::MAX, Tick { n: 0 });
    let again = bus.emit_every(Duration::MAX, Tick { n: 0 });
    pass(&bus, 5 * MS);
    assert_eq!(bus.history_len(), 1);
    assert!(once.cancel() && again.cancel());
}

#[test]
fn in_a_handler_it_makes_roots_and_never_blocks() {
    let bus = EventBus::builder("Roots").event_concurrency(EventConcurrency::Parallel).build().unwrap();
    let children = Log::new();
    let to = children.clone();
    bus.on(move |tick: &Event<Tick>| {
        if tick.n < 3 {
            to.push(tick.parent_id().is_some());
            tick.bus().emit_after(MS, Tick { n: tick.n + 1 });
        }
    });
    let first = bus.emit(Tick { n: 0 });
    eventually(|| bus.history_len() == 4);
    assert!(done(&first).children().is_empty());
    assert_eq!(children.entries(), ["false"; 3]);
}

#[test]
fn the_context_of_the_call_travels() {
    let bus = EventBus::new("Context");
    let seen = Log::new();
    let to = seen.clone();
    bus.on(move |tick: &Event<Tick>| to.push(format_args!("{}:{:?}", tick.n, context::get::<u64>())));
    context::with(7_u64, || {
        bus.emit_after(MS, Tick { n: 1 });
        bus.emit_every(2 * MS, Tick { n: 2 })
    });
    bus.emit_after(3 * MS, Tick { n: 3 });
    eventually(|| ["1:Some(7)", "2:Some(7)", "3:None"].iter().all(|entry| seen.count(entry) > 0));
    assert_eq!(context::get::<u64>(), None);
}

#[test]
fn cancelled_from_many_threads_it_is_cancelled_once() {
    for _ in 0..50 {
        let bus = EventBus::new("Once");
        let count = counting(&bus);
        let scheduled = bus.emit_after(MS, Tick { n: 0 });
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let scheduled = scheduled.clone();
                std::thread::spawn(move || usize::from(scheduled.cancel()))
            })
            .collect();
        let cancelled: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(cancelled <= 1);
        pass(&bus, 2 * MS);
        assert_eq!(count.load(SeqCst) + cancelled, 1, "it fires, or somebody cancelled it");
    }
}
