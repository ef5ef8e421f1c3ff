//! Conformance, telemetry.md: shared payloads, lag, chained handlers, rates.
#![cfg(not(threadbus_shuttle))]

mod common;

use common::{Gate, Gauge, Log, PATIENCE, done, eventually, idle, lock, parallel, payload, within};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use threadbus::{
    AnyEvent, Event, EventBus, Handler, HandlerError, HandlerOptions, OnLag, Payload, RecvError, Shutdown,
    Subscription, WaitError,
};

payload!(A { n: u32 });
payload!(B { n: u32 });
payload!(C);
payload!(Frame { lap: u32 });
payload!(LapComplete { lap: u32, frames: usize });

fn emit_all(bus: &EventBus, numbers: impl IntoIterator<Item = u32>) {
    for n in numbers {
        bus.emit(A { n });
    }
}

fn count(counter: &Arc<AtomicUsize>) -> impl Fn() + Send + Sync + 'static {
    let counter = Arc::clone(counter);
    move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn rc_01_a_payload_is_never_copied() {
    struct Big(Arc<AtomicUsize>);
    impl Clone for Big {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, Ordering::SeqCst);
            Big(Arc::clone(&self.0))
        }
    }
    impl Payload for Big {
        type Output = ();
    }
    let bus = EventBus::new("NoCopies");
    let clones = Arc::new(AtomicUsize::new(0));
    let mut subscriptions = [bus.subscribe::<Big>(), bus.subscribe::<Big>(), bus.subscribe::<Big>()];
    let event = bus.emit(Big(Arc::clone(&clones)));
    for subscription in &mut subscriptions {
        assert!(std::ptr::eq(subscription.recv().unwrap().payload(), event.payload()));
    }
    assert_eq!(clones.load(Ordering::SeqCst), 0);
}

#[test]
fn rc_02_other_types_do_not_call_a_handler() {
    let bus = EventBus::new("Filtered");
    let called = Arc::new(AtomicUsize::new(0));
    let calls = count(&called);
    bus.on(move |_: &Event<A>| calls());
    for n in 0..1000 {
        bus.emit(B { n });
    }
    idle(&bus);
    assert_eq!(called.load(Ordering::SeqCst), 0);
}

#[test]
fn rc_03_nobody_need_listen() {
    let bus = EventBus::new("Nobody");
    let event = done(&bus.emit(A { n: 1 }));
    assert!(event.results().is_empty());
}

/// The numbers read, and the lags between them.
fn read(subscription: &mut Subscription<Event<A>>) -> Vec<Result<u32, RecvError>> {
    std::iter::from_fn(|| match subscription.try_recv() {
        Err(RecvError::Empty) => None,
        answer => Some(answer.map(|a| a.n)),
    })
    .collect()
}

#[test]
fn rc_06_lag_is_told_once_and_summed_up() {
    let bus = EventBus::new("Lag");
    let mut subscription = bus.subscribe_bounded::<A>(4, OnLag::DropOldest);
    let mut received = 0;
    for round in 1..=2 {
        emit_all(&bus, 1..=6);
        let read = read(&mut subscription);
        assert_eq!(read, [Err(RecvError::Lagged(2)), Ok(3), Ok(4), Ok(5), Ok(6)]);
        received += read.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(subscription.lagged(), 2 * round);
    }
    assert_eq!(received, 8);
}

#[test]
fn rc_06b_lag_is_exact_while_the_reader_reads() {
    let bus = EventBus::new("Exact");
    let mut subscription = bus.subscribe_bounded::<A>(3, OnLag::DropOldest);
    emit_all(&bus, 1..=3);
    assert_eq!(subscription.recv().unwrap().n, 1);
    emit_all(&bus, 4..=5);
    assert_eq!(read(&mut subscription), [Err(RecvError::Lagged(1)), Ok(3), Ok(4), Ok(5)]);
    // Skipped over, where nobody asks; still counted.
    emit_all(&bus, 6..=10);
    assert_eq!(subscription.try_iter().map(|a| a.n).collect::<Vec<_>>(), [8, 9, 10]);
    assert_eq!(subscription.lagged(), 3);
}

#[test]
fn rc_06c_what_is_read_and_what_is_lost_is_everything() {
    let bus = EventBus::builder("Sum").max_history(Some(0)).build().unwrap();
    let mut subscription = bus.subscribe_bounded::<A>(16, OnLag::DropOldest);
    let reader = thread::spawn(move || {
        let (mut read, mut lost, mut next) = (0, 0, 0);
        loop {
            match subscription.recv() {
                Ok(a) => {
                    assert_eq!(a.n, next);
                    read += 1;
                    next += 1;
                }
                Err(RecvError::Lagged(missed)) => {
                    lost += missed;
                    next += u32::try_from(missed).unwrap();
                }
                Err(_) => return (read, lost, subscription.lagged()),
            }
        }
    });
    emit_all(&bus, 0..20_000);
    bus.shutdown(Shutdown::Drain, PATIENCE);
    let (read, lost, lagged) = within(PATIENCE, move || reader.join().unwrap());
    assert_eq!((read + lost, lost), (20_000, lagged));
}

#[test]
fn rc_07_the_capacity_is_exact() {
    let bus = EventBus::new("Capacity");
    let mut subscription = bus.subscribe_bounded::<A>(100, OnLag::DropOldest);
    emit_all(&bus, 1..=100);
    assert_eq!((subscription.backlog(), subscription.lagged()), (100, 0));
    emit_all(&bus, 101..=101);
    assert_eq!(subscription.recv().err(), Some(RecvError::Lagged(1)));
    assert_eq!(subscription.recv().unwrap().n, 2);
}

#[test]
fn rc_08_after_a_lag_it_goes_on() {
    let bus = EventBus::new("GoesOn");
    let mut subscription = bus.subscribe_bounded::<A>(4, OnLag::DropOldest);
    emit_all(&bus, 1..=6);
    assert_eq!(read(&mut subscription).len(), 5);
    emit_all(&bus, 7..=7);
    assert_eq!(subscription.recv().unwrap().n, 7);
}

#[test]
fn rc_10_a_blocking_subscription_loses_nothing() {
    let bus = EventBus::new("Lossless");
    let mut subscription = bus.subscribe_bounded::<A>(4, OnLag::Block);
    let reader = thread::spawn(move || {
        let numbers: Vec<_> = (0..1000).map(|_| subscription.recv().unwrap().n).collect();
        (numbers, subscription.lagged())
    });
    within(PATIENCE, move || emit_all(&bus, 0..1000));
    assert_eq!(reader.join().unwrap(), ((0..1000).collect(), 0));
}

#[test]
fn rc_11_parallel_handlers_meet() {
    let bus = parallel("Meet");
    let barrier = Arc::new(Barrier::new(2));
    for _ in 0..2 {
        let barrier = Arc::clone(&barrier);
        bus.on(move |_: &Event<A>| {
            barrier.wait();
        });
    }
    done(&bus.emit(A { n: 1 }));
}

#[test]
fn rc_12_one_consumer_one_at_a_time() {
    let bus = EventBus::new("Overlap");
    let (gauge, log) = (Gauge::new(), Log::new());
    let (inside, logs) = (gauge.clone(), log.clone());
    let thread = bus.subscribe::<A>().spawn("consumer", move |a| {
        inside.enter();
        logs.push(a.n);
        inside.leave();
    });
    emit_all(&bus, 0..100);
    drop(bus);
    thread.join().unwrap();
    assert_eq!(log.entries(), (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(gauge.peak(), 1);
}

#[test]
fn rc_13_consumers_do_not_wait_for_each_other() {
    let bus = EventBus::new("Independent");
    let gate = Gate::new();
    let _open = gate.opener();
    let stands = gate.clone();
    let stuck = bus.subscribe::<A>().spawn("stuck", move |_| stands.wait());
    let seen = Arc::new(AtomicUsize::new(0));
    let sees = count(&seen);
    let free = bus.subscribe::<A>().spawn("free", move |_| sees());
    emit_all(&bus, 0..10);
    eventually(|| seen.load(Ordering::SeqCst) == 10);
    assert!(!stuck.is_finished());
    gate.open();
    drop(bus);
    stuck.join().unwrap();
    free.join().unwrap();
}

#[test]
fn rc_14_a_handler_may_wait_for_what_its_child_does() {
    let bus = parallel("MidHandler");
    let gate = Gate::new();
    let (stands, opens) = (gate.clone(), gate.clone());
    bus.on(move |event: &Event<A>| {
        event.bus().emit(B { n: 1 });
        stands.wait();
    });
    bus.on(move |_: &Event<B>| opens.open());
    assert!(done(&bus.emit(A { n: 1 })).errors().is_empty());
}

#[test]
fn rc_15_frames_make_laps() {
    let bus = EventBus::new("Laps");
    let current = Mutex::new((0, 0));
    bus.on(move |frame: &Event<Frame>| {
        let mut current = lock(&current);
        if current.0 != 0 && current.0 != frame.lap {
            let (lap, frames) = *current;
            frame.bus().emit(LapComplete { lap, frames });
            current.1 = 0;
        }
        *current = (frame.lap, current.1 + 1);
    });
    let mut laps = bus.subscribe::<LapComplete>();
    let frames = [1, 1, 1, 2, 2, 3].map(|lap| bus.emit(Frame { lap }));
    idle(&bus);
    let read: Vec<_> = laps.try_iter().map(|lap| (lap.lap, lap.frames, lap.parent_id())).collect();
    assert_eq!(read, [(1, 3, Some(frames[3].id())), (2, 2, Some(frames[5].id()))]);
}

#[test]
fn rc_16_a_panic_is_one_handlers_own() {
    let bus = EventBus::new("Panics");
    let handled = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let [bad, good] = [count(&handled[0]), count(&handled[1])];
    bus.on(move |a: &Event<A>| {
        assert_ne!(a.n, 3);
        bad();
    });
    bus.on(move |_: &Event<A>| good());
    emit_all(&bus, 0..10);
    idle(&bus);
    assert_eq!(handled.map(|handled| handled.load(Ordering::SeqCst)), [9, 10]);
}

#[test]
fn rc_17_an_error_is_seen_where_it_belongs() {
    let bus = EventBus::new("Errors");
    bus.on(|_: &Event<A>| -> Result<(), &'static str> { Err("no") });
    bus.on(|_: &Event<A>| {});
    let event = done(&bus.emit(A { n: 1 }));
    let failed: Vec<_> = event.results().iter().map(|result| result.error.as_ref().map(ToString::to_string)).collect();
    assert_eq!(failed, [Some("no".to_owned()), None]);
    assert_eq!(event.errors().len(), 1);
}

#[test]
fn rc_18_an_idle_subscriber_ends_with_the_bus() {
    let bus = EventBus::new("Stops");
    let thread = bus.subscribe::<A>().spawn("idle", |_| {});
    bus.shutdown(Shutdown::Now, PATIENCE);
    within(PATIENCE, move || thread.join().unwrap());
}

#[test]
fn rc_19_drain_handles_all_and_now_what_it_has_begun() {
    let run = |mode| {
        let bus = EventBus::new("Ends");
        let (gate, began) = (Gate::new(), Gate::new());
        let handled = Arc::new(AtomicUsize::new(0));
        let (stands, begins, handles) = (gate.clone(), began.clone(), count(&handled));
        bus.on(move |_: &Event<A>| {
            begins.open();
            stands.wait();
            handles();
        });
        // A subscriber sees them all: they were emitted.
        let subscription = bus.subscribe::<A>();
        emit_all(&bus, 0..50);
        began.wait();
        let report = thread::scope(|scope| {
            let shutdown = scope.spawn(|| bus.shutdown(mode, PATIENCE));
            // Not before it has begun.
            eventually(|| bus.try_emit(B { n: 0 }).is_err());
            if mode == Shutdown::Now {
                eventually(|| bus.is_idle());
            }
            gate.open();
            shutdown.join().unwrap()
        });
        (report.completed, report.cancelled, handled.load(Ordering::SeqCst), subscription.count())
    };
    // What was emitted to see the doors close may count too.
    let (completed, cancelled, handled, seen) = run(Shutdown::Drain);
    assert!(completed >= 50 && cancelled == 0, "{completed} {cancelled}");
    assert_eq!((handled, seen), (50, 50));
    let (completed, cancelled, handled, seen) = run(Shutdown::Now);
    assert!(completed == 1 && cancelled >= 49, "{completed} {cancelled}");
    assert_eq!((handled, seen), (1, 50));
}

#[test]
fn rc_20_what_is_buffered_outlives_the_last_handle() {
    let bus = EventBus::new("Outlives");
    let mut subscription = bus.subscribe::<A>();
    emit_all(&bus, 1..=3);
    drop(bus);
    let read: Vec<_> = (0..4).map(|_| subscription.recv().map(|a| a.n)).collect();
    assert_eq!(read, [Ok(1), Ok(2), Ok(3), Err(RecvError::Closed)]);
}

struct LapDetector;
impl Handler<Frame> for LapDetector {
    fn handle(&self, _: &Event<Frame>) -> Result<Option<()>, HandlerError> {
        Ok(None)
    }
}

#[test]
fn rc_22_names() {
    let bus = EventBus::new("Names");
    bus.on(LapDetector);
    bus.on_with(HandlerOptions::new().name("lap"), LapDetector);
    let names: Vec<_> = bus.handlers().iter().map(|info| info.name().to_owned()).collect();
    assert_eq!(names, ["LapDetector", "lap"]);
}

/// Counts what it handles.
#[derive(Default)]
struct Counter(AtomicUsize);
impl Handler<A> for Counter {
    fn handle(&self, _: &Event<A>) -> Result<Option<()>, HandlerError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(None)
    }
}

#[test]
fn rc_23_state_may_be_kept_outside() {
    let bus = EventBus::new("Outside");
    let counter = Arc::new(Counter::default());
    let info = bus.on(Arc::clone(&counter));
    emit_all(&bus, 0..10);
    idle(&bus);
    assert_eq!(counter.0.load(Ordering::SeqCst), 10);
    assert!(info.is_registered());
}

#[test]
fn rc_24_the_same_handler_twice() {
    let bus = EventBus::new("Twice");
    let counter = Arc::new(Counter::default());
    let (first, second) = (bus.on(Arc::clone(&counter)), bus.on(Arc::clone(&counter)));
    assert_ne!(first.id(), second.id());
    done(&bus.emit(A { n: 1 }));
    assert_eq!(counter.0.load(Ordering::SeqCst), 2);
    assert!(bus.off(&first));
    done(&bus.emit(A { n: 2 }));
    assert_eq!(counter.0.load(Ordering::SeqCst), 3);
}

#[test]
fn rc_26_everything_in_emit_order() {
    let bus = EventBus::new("Debug");
    let mut all = bus.subscribe_any();
    bus.emit(A { n: 1 });
    bus.emit(B { n: 2 });
    bus.emit(A { n: 3 });
    let read: Vec<AnyEvent> = all.try_iter().collect();
    assert_eq!(read.iter().map(AnyEvent::event_type).collect::<Vec<_>>(), ["A", "B", "A"]);
    assert_eq!(read[0].downcast::<A>().unwrap().n, 1);
    assert_eq!(read[1].downcast::<B>().unwrap().n, 2);
    assert!(read[2].downcast::<B>().is_none());
}

#[test]
fn rc_27_several_kinds_by_one_subscription() {
    let bus = EventBus::new("Kinds");
    let mut all = bus.subscribe_any();
    bus.emit(A { n: 1 });
    bus.emit(B { n: 2 });
    bus.emit(C);
    bus.emit(B { n: 3 });
    bus.emit(A { n: 4 });
    let wanted = all.try_iter().filter(|event| event.is::<A>() || event.is::<C>());
    assert_eq!(wanted.map(|event| event.event_type().to_owned()).collect::<Vec<_>>(), ["A", "C", "A"]);
}

#[test]
fn rc_28_one_variant_of_an_enum() {
    enum Signal {
        Start,
        Stop,
        Reset,
    }
    impl Payload for Signal {
        type Output = ();
    }
    let bus = EventBus::new("Variants");
    let ran = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let [filtered, unfiltered] = [count(&ran[0]), count(&ran[1])];
    bus.on(move |signal: &Event<Signal>| {
        if let Signal::Stop = signal.payload() {
            filtered();
        }
    });
    bus.on(move |_: &Event<Signal>| unfiltered());
    for signal in [Signal::Start, Signal::Stop, Signal::Reset] {
        done(&bus.emit(signal));
    }
    assert_eq!(ran.map(|ran| ran.load(Ordering::SeqCst)), [1, 3]);
}

#[test]
fn rc_29_time_stamps_grow() {
    let bus = EventBus::new("Stamps");
    let times = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&times);
    bus.on(move |event: &Event<A>| lock(&keep).push(event.created_at()));
    emit_all(&bus, 0..2);
    idle(&bus);
    let times = lock(&times);
    assert!(times.len() == 2 && times[0] < times[1]);
}

#[test]
fn rc_33_several_publishers() {
    let bus = EventBus::new("Publishers");
    let mut subscription = bus.subscribe::<A>();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| emit_all(&bus, 0..10));
        }
    });
    idle(&bus);
    assert_eq!(subscription.try_iter().count(), 30);
}

// Rates. What must not be lost is checked in any case; how fast it is depends on the machine, and only the ignored tests measure it:
// `cargo test --release --test telemetry -- --ignored --test-threads=1`.

payload!(Row { n: usize, at: Instant });

/// Emits `total` rows, `per_second` of them, by the clock: a late one does not make the next ones late.
fn at_rate(bus: &EventBus, per_second: u32, total: usize) {
    let start = Instant::now();
    for n in 0..total {
        let due = start + Duration::from_secs(1) / per_second * u32::try_from(n).unwrap();
        thread::sleep(due.saturating_duration_since(Instant::now()));
        bus.emit(Row { n, at: Instant::now() });
    }
}

/// What a spawned consumer saw: how long each row took, in order.
fn consume(subscription: Subscription<Event<Row>>, work: Duration) -> impl FnOnce() -> Vec<Duration> {
    let (sender, latencies) = channel();
    let mut next = 0;
    let thread = subscription.spawn("consumer", move |row| {
        assert_eq!(row.n, next);
        next += 1;
        let _ = sender.send(row.at.elapsed());
        if !work.is_zero() {
            thread::sleep(work);
        }
    });
    move || {
        thread.join().unwrap();
        latencies.iter().collect()
    }
}

fn p99(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort();
    latencies[latencies.len() * 99 / 100 - 1]
}

#[test]
fn rc_36_a_replay_that_is_read_loses_nothing() {
    let bus = EventBus::builder("Replay").max_history(Some(0)).build().unwrap();
    let lossy = bus.subscribe_bounded::<Row>(10_000, OnLag::DropOldest);
    let seen = consume(lossy, Duration::ZERO);
    at_rate(&bus, 2400, 1200);
    drop(bus);
    assert_eq!(within(PATIENCE, move || seen().len()), 1200);
}

#[test]
fn rc_37_all_consumers_get_the_same() {
    let bus = EventBus::new("FanOut");
    let consumers = [(); 3].map(|()| consume(bus.subscribe::<Row>(), Duration::ZERO));
    at_rate(&bus, 600, 300);
    drop(bus);
    assert_eq!(consumers.map(|seen| seen().len()), [300; 3]);
}

#[test]
fn rc_38_a_reader_that_keeps_up_has_no_backlog_to_speak_of() {
    let bus = EventBus::new("Depth");
    let subscription = bus.subscribe_bounded::<Row>(10_000, OnLag::DropOldest);
    let mut deepest = 0;
    let reader = thread::spawn(move || {
        let mut subscription = subscription;
        while subscription.recv().is_ok() {
            deepest = deepest.max(subscription.backlog());
        }
        (deepest, subscription.lagged())
    });
    at_rate(&bus, 600, 300);
    drop(bus);
    let (deepest, lagged) = within(PATIENCE, move || reader.join().unwrap());
    assert!(deepest < 5000 && lagged == 0);
}

#[test]
fn rc_40_a_slow_consumer_is_alone_with_it() {
    let bus = EventBus::new("Isolated");
    let slow = consume(bus.subscribe::<Row>(), Duration::from_millis(5));
    let fast = consume(bus.subscribe::<Row>(), Duration::ZERO);
    at_rate(&bus, 600, 200);
    drop(bus);
    assert_eq!((fast().len(), slow().len()), (200, 200));
}

#[test]
#[ignore = "measures time: alone, in release"]
fn rc_34_35_latency_at_60_and_120_a_second() {
    for (per_second, total, limit) in [(60, 600, 100), (120, 600, 150)] {
        let bus = EventBus::builder("Rate").max_history(Some(0)).build().unwrap();
        let seen = consume(bus.subscribe_bounded::<Row>(1000, OnLag::Block), Duration::ZERO);
        at_rate(&bus, per_second, total);
        drop(bus);
        let latencies = seen();
        assert_eq!(latencies.len(), total);
        let p99 = p99(latencies);
        assert!(p99 < Duration::from_millis(limit), "{per_second} a second: {p99:?}");
    }
}

#[test]
#[ignore = "measures time: alone, in release"]
fn rc_36b_five_seconds_of_replay() {
    let bus = EventBus::builder("Replay").max_history(Some(0)).build().unwrap();
    let lossy = bus.subscribe_bounded::<Row>(10_000, OnLag::DropOldest);
    let seen = consume(lossy, Duration::ZERO);
    let start = Instant::now();
    at_rate(&bus, 2400, 12_000);
    assert!(start.elapsed() < Duration::from_millis(5500));
    drop(bus);
    assert_eq!(seen().len(), 12_000);
}

#[test]
#[ignore = "measures time: alone, in release"]
fn rc_40b_the_fast_one_stays_fast() {
    let bus = EventBus::builder("Isolated").max_history(Some(0)).build().unwrap();
    let slow = consume(bus.subscribe::<Row>(), Duration::from_millis(50));
    let fast = consume(bus.subscribe::<Row>(), Duration::ZERO);
    at_rate(&bus, 60, 300);
    drop(bus);
    let p99 = p99(fast());
    assert!(p99 < Duration::from_millis(50), "{p99:?}");
    assert_eq!(slow().len(), 300);
}

/// A wait in a consumer's thread is an ordinary one.
#[test]
fn a_consumer_may_wait_for_what_it_emits() {
    let bus = EventBus::new("Waits");
    bus.on(|_: &Event<B>| {});
    let (sender, waited) = channel();
    let weak = bus.downgrade();
    let thread = bus.subscribe::<A>().spawn("waits", move |a| {
        let answer: Result<_, WaitError> =
            weak.upgrade().map_or(Err(WaitError::Cancelled), |bus| bus.emit(B { n: a.n }).wait());
        let _ = sender.send(answer.map(|b| (b.n, b.parent_id())));
    });
    bus.emit(A { n: 7 });
    assert_eq!(waited.recv_timeout(PATIENCE), Ok(Ok((7, None))));
    drop(bus);
    thread.join().unwrap();
}
