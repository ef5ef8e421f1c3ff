//! What a shutdown says: what was completed, what subscriptions have not read, and for whom it waits.

mod common;

use common::{Gate, Log, PATIENCE, done, eventually, idle, payload, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};
use threadbus::*;

payload!(Entry { n: usize });
payload!(Outer);

const MS: Duration = Duration::from_millis(1);

fn runtime() -> Runtime {
    Runtime::builder().build().unwrap()
}

fn bus(runtime: &Runtime, name: &str) -> EventBus {
    EventBus::builder(name).runtime(runtime).build().unwrap()
}

fn emit(bus: &EventBus, count: usize) {
    (0..count).for_each(|n| drop(bus.emit(Entry { n })));
}

/// Says when what it was moved into is dropped.
struct Says(Arc<AtomicBool>);
impl Drop for Says {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn what_is_drained_is_completed_on_all_buses() {
    within(PATIENCE, || {
        let runtime = runtime();
        let (one, two) = (bus(&runtime, "One"), bus(&runtime, "Two"));
        let parallel = EventBus::builder("Three").runtime(&runtime).event_concurrency(EventConcurrency::Parallel);
        let three = parallel.build().unwrap();
        let (gate, there) = (Gate::new(), two.downgrade());
        let closed = gate.clone();
        one.on(move |entry: &Event<Entry>| {
            closed.wait();
            if let Some(two) = there.upgrade() {
                two.emit(Entry { n: entry.n });
            }
        });
        two.on(|_: &Event<Entry>| {});
        let closed = gate.clone();
        three.on(move |entry: &Event<Entry>| assert!(entry.n < 10 || closed.wait_for(PATIENCE)));
        emit(&three, 10);
        idle(&three);
        emit(&one, 200);
        (10..60).for_each(|n| drop(three.emit(Entry { n })));
        // Nothing is over before the shutdown has begun.
        let opener = thread::spawn(move || {
            let mut let_in = 0;
            eventually(|| {
                let is_open = one.try_emit(Outer).is_ok();
                let_in += usize::from(is_open);
                !is_open
            });
            gate.open();
            let_in
        });
        let report = runtime.shutdown(Shutdown::Drain, PATIENCE);
        assert_eq!(report.completed, 450 + opener.join().unwrap(), "{report:?}");
        assert_eq!((report.cancelled, report.abandoned, report.unread), (0, 0, 0));
        assert_eq!(runtime.shutdown(Shutdown::Drain, PATIENCE), ShutdownReport::default(), "since it began");
    });
}

#[test]
fn a_spawned_subscription_has_read_everything_and_is_gone() {
    for (mode, count) in [(Shutdown::Drain, 1000), (Shutdown::Now, 300), (Shutdown::Drain, 1)] {
        within(PATIENCE, move || {
            let runtime = runtime();
            let bus = bus(&runtime, "Audit");
            let (lines, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
            let (written, file) = (Arc::clone(&lines), Says(Arc::clone(&closed)));
            bus.subscribe_any().spawn("audit", move |_| {
                let _ = &file;
                common::linger();
                written.fetch_add(1, SeqCst);
            });
            let bounded = Arc::new(AtomicUsize::new(0));
            let read = Arc::clone(&bounded);
            bus.subscribe_bounded::<Entry>(8, OnLag::Block).spawn("bounded", move |_| {
                read.fetch_add(1, SeqCst);
            });
            emit(&bus, count);
            let report = runtime.shutdown(mode, PATIENCE);
            assert_eq!((lines.load(SeqCst), bounded.load(SeqCst)), (count, count));
            assert!(closed.load(SeqCst), "what it writes to is closed");
            assert_eq!(report.unread, 0, "{report:?}");
        });
    }
}

#[test]
fn what_is_not_read_in_time_is_said_to_the_event() {
    within(2 * PATIENCE, || {
        let runtime = runtime();
        let bus = bus(&runtime, "Slow");
        let (gate, log) = (Gate::new(), Log::new());
        let (closed, read, _open) = (gate.clone(), log.clone(), gate.opener());
        let reader = bus.subscribe::<Entry>().spawn("slow", move |entry: Event<Entry>| {
            read.push(entry.n);
            closed.wait();
        });
        emit(&bus, 200);
        eventually(|| log.len() == 1);
        let began = Instant::now();
        let report = runtime.shutdown(Shutdown::Drain, 50 * MS);
        assert!(began.elapsed() >= 50 * MS);
        // The one it is at, and what it has in hand, among them.
        assert_eq!(report.unread, 200, "{report:?}");
        gate.open();
        reader.join().unwrap();
        assert_eq!(log.len(), 200);
        assert_eq!(runtime.shutdown(Shutdown::Drain, PATIENCE).unread, 0);
    });
}

#[test]
fn who_reads_and_shuts_down_does_not_wait_for_itself() {
    within(PATIENCE, || {
        let runtime = runtime();
        let bus = bus(&runtime, "Main loop");
        let (said, report) = channel();
        let others = Arc::new(AtomicUsize::new(0));
        let read = Arc::clone(&others);
        bus.subscribe::<Entry>().spawn("other", move |_| {
            common::linger();
            read.fetch_add(1, SeqCst);
        });
        let ends = runtime.clone();
        let gate = Gate::new();
        let full = gate.clone();
        bus.subscribe::<Entry>().spawn("main", move |entry: Event<Entry>| {
            full.wait();
            if entry.n == 0 {
                said.send(ends.shutdown(Shutdown::Drain, Duration::MAX)).unwrap();
            }
        });
        emit(&bus, 20);
        gate.open();
        let report = report.recv_timeout(PATIENCE).unwrap();
        assert_eq!((others.load(SeqCst), report.unread), (20, 20), "{report:?}");
    });
}

#[test]
fn what_the_caller_reads_itself_is_said_and_still_there() {
    within(PATIENCE, || {
        let runtime = runtime();
        let bus = bus(&runtime, "Laps");
        let (mut laps, mut all) = (bus.subscribe::<Entry>(), bus.subscribe_any());
        let latest = bus.subscribe_any_bounded(2, OnLag::DropOldest);
        emit(&bus, 100);
        assert_eq!(laps.recv().unwrap().n, 0);
        assert!(all.recv().is_ok() && all.recv().is_ok());
        let began = Instant::now();
        let report = runtime.shutdown(Shutdown::Drain, PATIENCE);
        assert!(began.elapsed() < PATIENCE / 2, "it waits for none of them");
        assert_eq!(report.unread, 99 + 98 + 2);
        assert_eq!((laps.count(), all.count(), latest.count()), (99, 98, 2));
        assert_eq!(runtime.shutdown(Shutdown::Drain, PATIENCE).unread, 0);
    });
}

#[test]
fn a_bus_says_so_without_waiting() {
    within(PATIENCE, || {
        let runtime = runtime();
        let (own, other) = (bus(&runtime, "Own"), bus(&runtime, "Other"));
        let gate = Gate::new();
        let (closed, _open) = (gate.clone(), gate.opener());
        own.subscribe_any().spawn("reader", move |_| closed.wait());
        let _elsewhere = other.subscribe_any();
        emit(&own, 10);
        emit(&other, 5);
        eventually(|| own.is_idle());
        let report = own.shutdown(Shutdown::Drain, PATIENCE);
        assert_eq!((report.completed, report.unread), (0, 10), "{report:?}");
        gate.open();
        assert_eq!(runtime.shutdown(Shutdown::Drain, PATIENCE).unread, 5);
    });
}

#[test]
fn a_reader_that_panics_or_is_closed_is_not_waited_for() {
    within(PATIENCE, || {
        let runtime = runtime();
        let bus = bus(&runtime, "Panics");
        let panics = bus.subscribe_any().spawn("panics", |_| panic!("on purpose"));
        let closed = bus.subscribe_any();
        let closer = closed.closer();
        let closed = closed.spawn("closed", |_| {});
        emit(&bus, 10);
        closer.close();
        assert!(panics.join().is_err() && closed.join().is_ok());
        assert_eq!(runtime.shutdown(Shutdown::Drain, PATIENCE).unread, 0);
    });
}

#[test]
fn readers_of_a_bus_that_is_gone_are_waited_for_as_well() {
    within(PATIENCE, || {
        let runtime = runtime();
        let bus = bus(&runtime, "Gone");
        let (gate, read) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
        let (closed, count) = (gate.clone(), Arc::clone(&read));
        bus.subscribe_any().spawn("reader", move |_| {
            closed.wait();
            count.fetch_add(1, SeqCst);
        });
        emit(&bus, 70);
        idle(&bus);
        drop(bus);
        let opener = thread::spawn(move || gate.open());
        assert_eq!(runtime.shutdown(Shutdown::Drain, PATIENCE).unread, 0);
        opener.join().unwrap();
        assert_eq!(read.load(SeqCst), 70);
    });
}

#[test]
fn a_handler_that_shuts_down_waits_for_no_reader() {
    within(PATIENCE, || {
        let runtime = runtime();
        let bus = bus(&runtime, "Inside");
        let gate = Gate::new();
        let (closed, _open) = (gate.clone(), gate.opener());
        bus.subscribe::<Entry>().spawn("reader", move |_| closed.wait());
        emit(&bus, 3);
        let (ends, (said, report)) = (runtime.clone(), channel());
        bus.on(move |_: &Event<Outer>| said.send(ends.shutdown(Shutdown::Drain, Duration::MAX)).unwrap());
        let outer = bus.emit(Outer);
        assert_eq!(report.recv_timeout(PATIENCE).unwrap().unread, 3);
        done(&outer);
    });
}
