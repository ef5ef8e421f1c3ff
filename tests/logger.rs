//! The program's logger is the user's code: it may emit, wait, stand still, panic, register, end a bus. Nothing of that reaches those
//! who had something to say, and no program logs without end.

mod common;
#[path = "common/logger.rs"]
mod logger;

use common::{Gate, Log, PATIENCE, done, eventually, idle, lock, payload, within};
use log::LevelFilter::{Debug, Info, Trace};
use logger::Logger;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use threadbus::middleware::LogEvents;
use threadbus::*;

payload!(Job { n: u32 } => u32);
payload!(Line { text: String });
payload!(Child { n: u32 } => u32);
payload!(Slow => ());

const MS: Duration = Duration::from_millis(1);

fn options() -> EventOptions {
    EventOptions::new()
}

/// Handlers have 30 ms.
fn short(name: &str) -> EventBus {
    EventBus::builder(name)
        .handler_timeout(Some(30 * MS))
        .handler_slow_after(None)
        .event_slow_after(None)
        .build()
        .unwrap()
}

fn stands_at(gate: &Gate) -> impl Fn(&Event<Slow>) + Send + Sync + 'static {
    let gate = gate.clone();
    move |_| gate.wait()
}

fn line(text: &str) -> Line {
    Line { text: text.to_owned() }
}

struct Refuses;
impl Middleware for Refuses {
    fn on_emit(&self, _: &EventBus, _: &AnyEvent) -> Result<(), BoxError> {
        Err("no lines now".into())
    }
}

/// A payload whose `Drop` panics.
struct Bomb {
    _text: String,
}
impl Payload for Bomb {
    type Output = ();
    fn event_type() -> &'static str {
        "Bomb"
    }
}
impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb, on purpose");
    }
}

/// A bus that forgets its events at once, on the thread that ran them.
fn forgetful(name: &str) -> EventBus {
    EventBus::builder(name).max_history(Some(0)).build().unwrap()
}

fn throws_bombs(bus: &EventBus, count: usize) {
    for _ in 0..count {
        let event = bus.emit(Bomb { _text: String::new() });
        // It may be the last of it.
        drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(event))));
    }
}

// It emits.

#[test]
fn a_logger_that_emits_when_an_abandoned_worker_comes_back() {
    within(2 * PATIENCE, || {
        let panel = EventBus::new("panel");
        let shown = Log::new();
        let lines = shown.clone();
        panel.on(move |line: &Event<Line>| lines.push(&line.text));
        let to = panel.clone();
        let log = Logger::new(Info, move |_, text| drop(to.emit(line(text))));
        let bus = short("app");
        let gate = Gate::new();
        bus.on(stands_at(&gate));
        bus.on(|job: &Event<Job>| job.n);
        done(&bus.emit(Slow));
        log.says("is abandoned");
        // The panel's loop has gone, so that the next line needs the pool.
        idle(&panel);
        eventually(|| bus.runtime().stats().busy == 0);
        gate.open();
        log.says("is back");
        assert_eq!(done(&bus.emit(Job { n: 7 })).result().unwrap(), 7);
        eventually(|| bus.runtime().stats().abandoned == 0);
        eventually(|| shown.entries().iter().any(|text| text.contains("is back")));
        idle(&panel);
    });
}

#[test]
fn one_that_emits_on_the_bus_that_it_hears_of() {
    within(2 * PATIENCE, || {
        static BUS: OnceLock<EventBus> = OnceLock::new();
        // One thread, so that whatever keeps it is seen.
        let runtime = Runtime::builder().max_threads(1).hard_limit(4).build().unwrap();
        let builder = EventBus::builder("own").runtime(&runtime).middleware(LogEvents::new()).max_history(Some(0));
        let bus = BUS.get_or_init(|| builder.handler_timeout(Some(50 * MS)).build().unwrap());
        bus.on(|line: &Event<Line>| assert!(!line.text.is_empty()));
        let gate = Gate::new();
        bus.on(stands_at(&gate));
        bus.on(|job: &Event<Job>| if job.n == 1 { panic!("on purpose") } else { job.n });
        let log = Logger::new(Trace, |_, text| {
            let event = BUS.get().unwrap().emit(line(text));
            assert!(event.wait().is_err() || event.is_completed());
        });
        done(&bus.emit(Job { n: 0 }));
        done(&bus.emit(Job { n: 1 }));
        throws_bombs(bus, 3);
        done(&bus.emit(Slow));
        gate.open();
        log.says("is back");
        idle(bus);
        log.falls_silent();
        assert_eq!(log.naming("Line#"), [""; 0]);
        assert!(log.naming("succeeded").len() == 1 && !log.naming("panicked").is_empty(), "{:?}", log.heard());
    });
}

#[test]
fn one_that_emits_where_a_middleware_refuses_is_heard_once() {
    within(2 * PATIENCE, || {
        let panel = EventBus::builder("panel").middleware(Refuses).build().unwrap();
        let tries = Arc::new(AtomicUsize::new(0));
        let (to, count) = (panel.clone(), Arc::clone(&tries));
        let log = Logger::new(Trace, move |_, text| {
            count.fetch_add(1, SeqCst);
            assert!(to.emit(line(text)).wait().is_err());
        });
        // Refused outside, in a handler, and on a timer.
        assert!(panel.emit(line("outside")).wait().is_err());
        assert_eq!(log.naming("refused by a middleware").len(), 1, "before the emit returns");
        let bus = EventBus::new("app");
        let weak = panel.downgrade();
        bus.on(move |job: &Event<Job>| {
            assert!(weak.upgrade().unwrap().emit(line("inside")).wait().is_err());
            job.n
        });
        done(&bus.emit(Job { n: 1 }));
        panel.emit_after(MS, line("later"));
        log.says("a scheduled Line was refused");
        log.falls_silent();
        assert_eq!(log.naming("was refused by a middleware").len(), 3, "{:?}", log.heard());
        assert_eq!(tries.load(SeqCst), log.heard().len());
    });
}

/// A bus of each kind on which what a logger emits, and what comes of it, would have something to say for itself.
#[test]
fn the_mark_travels_with_what_a_logger_emits() {
    within(3 * PATIENCE, || {
        let runtime = Runtime::builder().thread_name("a marked one").build().unwrap();
        let builder = |name: &str| EventBus::builder(name).runtime(&runtime);
        let panel = builder("panel").middleware(LogEvents::new()).max_history(Some(2)).build().unwrap();
        let other = builder("other").middleware(LogEvents::new()).handler_timeout(Some(20 * MS)).build().unwrap();
        let refuses = builder("refuses").middleware(Refuses).build().unwrap();
        let (full, tracker) = (builder("full").queue_capacity(1, OnFull::DropOldest).build().unwrap(), Log::new());
        full.pause();
        let came = Log::new();
        let kids = came.clone();
        other.on(move |child: &Event<Child>| -> Result<u32, &'static str> {
            kids.push(child.n);
            match child.n {
                1 => panic!("on purpose"),
                2 => Err("on purpose"),
                3 => {
                    let context = HandlerContext::current().ok_or("outside")?;
                    let bus = child.bus().downgrade();
                    context.on_cancel(move || {
                        bus.upgrade().map(|bus| bus.emit(Child { n: 4 }));
                        panic!("in a hook, on purpose");
                    });
                    // Given up, and then back.
                    eventually(|| context.is_cancelled());
                    Ok(0)
                }
                5 => {
                    child.bus().emit_after(MS, Child { n: 6 });
                    Ok(0)
                }
                n => Ok(n),
            }
        });
        let (to, refusing, bounded) = (other.downgrade(), refuses.clone(), full.clone());
        let progress = tracker.clone();
        panel.on(move |line: &Event<Line>| {
            let other = to.upgrade().unwrap();
            for n in [1, 2, 3, 5] {
                let retry = Retry::attempts(2).delay(MS).only_if(move |_| n != 2 || panic!("in a filter, on purpose"));
                other.emit_with(Child { n }, options().retry(retry));
            }
            let elsewhere = (line.clone(), other.clone());
            thread::spawn(move || elsewhere.1.emit_with(Child { n: 7 }, options().parent(&elsewhere.0)))
                .join()
                .unwrap();
            refusing.emit(Child { n: 8 });
            bounded.emit(Child { n: 9 });
            bounded.emit(Child { n: 10 }).cancel();
            let told = progress.clone();
            let batch = other.batch();
            batch.on_progress(move |_| {
                told.push("told");
                panic!("in a tracker, on purpose");
            });
            batch.emit(Child { n: 11 });
            panic!("the panel, on purpose");
        });
        panel.forward_all_to(&other);
        let to = panel.clone();
        let first = AtomicBool::new(true);
        let log = Logger::new(Trace, move |_, text| {
            if first.swap(false, SeqCst) {
                to.emit_with(line(text), options().handler_timeout(500 * MS));
            }
        });
        // One record, and so one line.
        let closed = EventBus::new("closed");
        closed.shutdown(Shutdown::Now, PATIENCE);
        closed.subscribe::<Job>();
        eventually(|| ["1", "2", "3", "4", "5", "6", "7", "11"].iter().all(|n| came.count(n) > 0));
        eventually(|| !tracker.is_empty() && other.runtime().stats().abandoned == 0);
        idle(&panel);
        idle(&other);
        log.falls_silent();
        // Those of other tests may still be on their way.
        let of_these = ["Line", "Child", "a marked one", "on purpose", "panel#", "other#"];
        let heard: Vec<_> = of_these.iter().flat_map(|what| log.naming(what)).collect();
        assert_eq!(heard, [""; 0], "{heard:#?}");
        // Everything is said of what comes from elsewhere.
        done(&other.emit(Child { n: 1 }));
        assert!(log.naming("panicked").len() >= 2, "{:?}", log.heard());
    });
}

/// Each record of a `Drop` that panics makes an event whose `Drop` panics.
#[test]
fn one_that_emits_bombs_ends() {
    within(2 * PATIENCE, || {
        let panel = forgetful("panel");
        panel.on(|_: &Event<Bomb>| {});
        let to = panel.clone();
        let log = Logger::new(Info, move |_, _| throws_bombs(&to, 1));
        let bus = forgetful("app");
        bus.on(|_: &Event<Bomb>| {});
        throws_bombs(&bus, 5);
        idle(&bus);
        log.falls_silent();
        assert!(log.naming("Drop panicked").len() <= 5, "{:#?}", log.heard());
        // The event goes on the bus's thread or on the test's own; not all can have been on the latter.
        idle(&panel);
    });
}

/// Waits are no reason to say again and again that no thread is left.
#[test]
fn one_that_emits_where_no_thread_is_left() {
    within(3 * PATIENCE, || {
        let runtime = Runtime::builder().max_threads(1).hard_limit(1).build().unwrap();
        let bus = |name: &str| EventBus::builder(name).runtime(&runtime).build().unwrap();
        let (a, b, panel) = (bus("a"), bus("b"), bus("panel"));
        panel.on(|_: &Event<Line>| {});
        let to = panel.clone();
        let log = Logger::new(Debug, move |_, text| drop(to.emit(line(text))));
        let other = b.clone();
        b.on(|child: &Event<Child>| child.n);
        a.on(move |job: &Event<Job>| -> Result<u32, ResultError> {
            other.emit_with(Child { n: 0 }, options().detached());
            other.emit(Child { n: job.n }).wait_in_order()?.result()
        });
        assert_eq!(done(&a.emit(Job { n: 3 })).result().unwrap(), 3);
        idle(&panel);
        log.falls_silent();
        assert!(log.naming("no thread is left").len() <= 2, "{:?}", log.heard());
    });
}

// It stands still.

/// A logger that stands at a gate from its first record on.
fn stuck() -> (Logger, Gate, Gate) {
    let (stands, goes_on) = (Gate::new(), Gate::new());
    let (s, g) = (stands.clone(), goes_on.clone());
    let log = Logger::new(Info, move |_, _| {
        s.open();
        g.wait_for(2 * PATIENCE);
    });
    (log, stands, goes_on)
}

#[test]
fn while_a_logger_stands_still_deadlines_pass_and_buses_go_on() {
    within(4 * PATIENCE, || {
        let (log, stands, goes_on) = stuck();
        let _opener = goes_on.opener();
        let (a, b) = (short("a"), short("b"));
        let gate = Gate::new();
        let _handlers = gate.opener();
        for bus in [&a, &b] {
            bus.on(stands_at(&gate));
            bus.on(|job: &Event<Job>| job.n);
        }
        let (slow, next) = (a.emit(Slow), a.emit(Job { n: 1 }));
        stands.wait();
        // The bus of the handler that was given up, the next deadline, a timer, a retry's delay.
        assert_eq!(done(&slow).errors().len(), 1);
        assert_eq!(done(&next).result().unwrap(), 1);
        let began = Instant::now();
        done(&b.emit(Slow));
        assert!(began.elapsed() < PATIENCE / 10, "{:?}", began.elapsed());
        let mut ticks = b.subscribe::<Job>();
        b.emit_after(MS, Job { n: 2 });
        assert_eq!(ticks.recv_timeout(PATIENCE).unwrap().n, 2);
        let tried = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&tried);
        a.on(move |_: &Event<Child>| if count.fetch_add(1, SeqCst) == 0 { Err("once") } else { Ok(0) });
        done(&a.emit_with(Child { n: 0 }, options().retry(Retry::attempts(2).delay(MS))));
        assert_eq!(tried.load(SeqCst), 2);
        // Those that were given up come back.
        gate.open();
        eventually(|| a.runtime().stats().abandoned == 0);
        assert_eq!(done(&a.emit(Job { n: 3 })).result().unwrap(), 3);
        idle(&a);
        idle(&b);
        assert_eq!(log.heard().len(), 1, "it still stands at the first");
        goes_on.open();
        eventually(|| log.naming("is back").len() >= 2 && log.naming("is abandoned").len() >= 2);
    });
}

#[test]
fn while_a_logger_stands_still_a_cancel_and_a_lost_first_go_through() {
    within(4 * PATIENCE, || {
        let (log, stands, goes_on) = stuck();
        let _opener = goes_on.opener();
        let bus = EventBus::new("app");
        let gate = Gate::new();
        let _handlers = gate.opener();
        let entered = Gate::new();
        let (e, g) = (entered.clone(), gate.clone());
        bus.on(move |_: &Event<Slow>| {
            e.open();
            g.wait();
        });
        bus.on(|job: &Event<Job>| job.n);
        let (slow, next) = (bus.emit(Slow), bus.emit(Job { n: 1 }));
        entered.wait();
        let began = Instant::now();
        assert!(slow.cancel());
        assert_eq!(
            done(&next).result().unwrap(),
            1,
            "the bus has a fresh thread, and the canceller is not asked for it"
        );
        stands.wait();
        let first = EventBus::builder("first").handler_concurrency(HandlerConcurrency::Parallel).build().unwrap();
        let started = Gate::new();
        let (s, g) = (started.clone(), gate.clone());
        first.on(move |job: &Event<Job>| {
            s.open();
            g.wait();
            job.n
        });
        first.on(move |_: &Event<Job>| {
            started.wait();
            5
        });
        assert_eq!(first.emit(Job { n: 1 }).first().unwrap(), Some(5));
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        gate.open();
        goes_on.open();
        log.says("is abandoned");
    });
}

#[test]
fn while_a_logger_stands_still_slow_warnings_and_drops_hold_nobody_up() {
    within(4 * PATIENCE, || {
        let (log, stands, goes_on) = stuck();
        let _opener = goes_on.opener();
        let bus = forgetful("bombs");
        bus.on(|_: &Event<Bomb>| {});
        bus.on(|job: &Event<Job>| job.n);
        throws_bombs(&bus, 50);
        assert_eq!(done(&bus.emit(Job { n: 1 })).result().unwrap(), 1);
        let slow =
            EventBus::builder("slow").handler_slow_after(Some(5 * MS)).handler_timeout(Some(60 * MS)).build().unwrap();
        let gate = Gate::new();
        let _handlers = gate.opener();
        slow.on(stands_at(&gate));
        done(&slow.emit(Slow));
        done(&slow.emit(Slow));
        stands.wait();
        goes_on.open();
        // One, at least: where the watch comes late it finds the handler given up already.
        log.says("slow handler");
    });
}

// It panics.

#[test]
fn a_logger_that_panics_always_is_survived() {
    within(4 * PATIENCE, || {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let log = Logger::new(Trace, move |_, _| {
            count.fetch_add(1, SeqCst);
            panic!("the log is full, on purpose");
        });
        let runtime = Runtime::builder().max_threads(2).hard_limit(2).build().unwrap();
        let builder = EventBus::builder("app").runtime(&runtime).handler_timeout(Some(30 * MS));
        let bus = builder.middleware(LogEvents::new()).max_history(Some(0)).build().unwrap();
        let gate = Gate::new();
        bus.on(stands_at(&gate));
        bus.on(|job: &Event<Job>| if job.n == 1 { panic!("on purpose") } else { job.n });
        bus.on(|_: &Event<Bomb>| {});
        let slow = bus.emit(Slow);
        let next = bus.emit(Job { n: 2 });
        assert_eq!(done(&next).result().unwrap(), 2);
        done(&slow);
        gate.open();
        eventually(|| runtime.stats().abandoned == 0);
        throws_bombs(&bus, 3);
        for n in 0..3 {
            done(&bus.emit(Job { n }));
        }
        let refusing = EventBus::builder("refuses").middleware(Refuses).build().unwrap();
        assert!(refusing.emit(line("no")).wait().is_err());
        bus.on_with(
            HandlerOptions::new().retry(Retry::attempts(3).only_if(|_| panic!("on purpose"))),
            |_: &Event<Child>| Err::<u32, _>("no"),
        );
        done(&bus.emit(Child { n: 0 }));
        idle(&bus);
        log.falls_silent();
        assert_eq!(log.naming("the log is full"), [""; 0], "its own panics are no news");
        assert_eq!(log.heard().len(), calls.load(SeqCst));
        assert_eq!(done(&bus.emit(Job { n: 4 })).result().unwrap(), 4);
        assert!(bus.shutdown(Shutdown::Drain, PATIENCE).abandoned == 0);
    });
}

#[test]
fn what_is_shown_may_panic() {
    /// Its name panics where a record wants it, and only there.
    struct Shy;
    static SHY: AtomicBool = AtomicBool::new(false);
    impl Payload for Shy {
        type Output = ();
        fn event_type() -> &'static str {
            if SHY.load(SeqCst) && thread::current().name() == Some("threadbus-log") {
                panic!("on purpose");
            }
            "Shy"
        }
    }
    within(2 * PATIENCE, || {
        let log = Logger::new(Info, |_, _| {});
        let bus = short("app");
        let gate = Gate::new();
        let g = gate.clone();
        bus.on(move |_: &Event<Shy>| g.wait());
        bus.on(|job: &Event<Job>| job.n);
        SHY.store(true, SeqCst);
        let shy = bus.emit(Shy);
        done(&bus.emit(Job { n: 1 }));
        done(&shy);
        SHY.store(false, SeqCst);
        gate.open();
        log.says("is back");
    });
}

// It does what else a program does.

/// Calls the logger at once, on the calling thread.
fn say_something() {
    let _ = Limit::new(0);
}

/// In a logger: what `act` returns, once.
fn in_logger<R: Send + 'static>(act: impl FnOnce() -> R + Send + 'static, speak: impl FnOnce()) -> R {
    let (act, result) = (Mutex::new(Some(act)), Arc::new(Mutex::new(None)));
    let into = Arc::clone(&result);
    let _log = Logger::new(Info, move |_, _| {
        let act = lock(&act).take();
        if let Some(act) = act {
            let result = act();
            *lock(&into) = Some(result);
        }
    });
    speak();
    eventually(|| lock(&result).is_some());
    lock(&result).take().unwrap()
}

/// Times out, so that the log thread has something to say.
fn time_out() {
    let bus = short("times out");
    let gate = Gate::new();
    let _opener = gate.opener();
    bus.on(stands_at(&gate));
    done(&bus.emit(Slow));
}

#[test]
fn nothing_blocks_in_a_logger() {
    for speak in [say_something as fn(), time_out] {
        within(3 * PATIENCE, move || {
            let bus = EventBus::new("never");
            bus.pause();
            let (own, queued) = (bus.clone(), bus.emit(Slow));
            let (wait, find, now) = in_logger(
                move || {
                    let find = own.find::<Job>().past(false).future(PATIENCE * 9).first();
                    (queued.wait(), find.is_none(), own.emit_now(Job { n: 1 }))
                },
                speak,
            );
            assert!(matches!(wait, Err(WaitError::Deadlock(_))), "{wait:?}");
            assert!(find && !now.is_completed());
            bus.on(|job: &Event<Job>| job.n);
            bus.on(|_: &Event<Slow>| ());
            bus.resume();
            assert_eq!(done(&now).result().unwrap(), 1);
        });
    }
}

#[test]
fn a_logger_in_a_handler_is_apart_from_it() {
    within(3 * PATIENCE, || {
        let bus = EventBus::new("app");
        let panel = EventBus::new("panel");
        panel.on(|_: &Event<Line>| context::get::<u64>().map_or((), |id| assert_eq!(*id, 7)));
        let to = panel.clone();
        bus.on(move |job: &Event<Job>| {
            say_something();
            job.n
        });
        let own = bus.clone();
        let (inside, emitted, id) = in_logger(
            move || {
                // The bus is serial, and busy with the handler below.
                let now = own.emit_now(Slow);
                assert!(!now.is_completed());
                (HandlerContext::current().is_some(), to.emit(line("here")), context::get::<u64>().map(|id| *id))
            },
            {
                let bus = bus.clone();
                move || drop(done(&context::with(7u64, || bus.emit(Job { n: 1 }))))
            },
        );
        assert!(!inside && emitted.parent_id().is_none(), "it is nobody's child");
        assert_eq!(id, Some(7), "its context is the thread's");
        done(&emitted);
        idle(&bus);
    });
}

#[test]
fn a_logger_registers_and_ends_buses() {
    for speak in [say_something as fn(), time_out] {
        within(4 * PATIENCE, move || {
            let bus = EventBus::new("app");
            let (own, last) = (bus.clone(), EventBus::new("last"));
            last.emit(Job { n: 0 });
            in_logger(
                move || {
                    own.on(|job: &Event<Job>| job.n);
                    own.subscribe::<Job>();
                    drop(last);
                },
                speak,
            );
            assert_eq!(done(&bus.emit(Job { n: 5 })).result().unwrap(), 5);
            let own = bus.clone();
            in_logger(move || own.shutdown(Shutdown::Drain, PATIENCE), speak);
            assert!(bus.emit(Job { n: 6 }).wait().is_err());
            let runtime = Runtime::builder().max_threads(2).build().unwrap();
            let other = EventBus::builder("other").runtime(&runtime).build().unwrap();
            in_logger(move || runtime.shutdown(Shutdown::Now, PATIENCE), speak);
            assert!(other.emit(Job { n: 6 }).wait().is_err());
        });
    }
}

#[test]
fn a_logger_that_emits_on_a_manual_bus() {
    within(3 * PATIENCE, || {
        let called = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&called);
        let ready = move || {
            count.fetch_add(1, SeqCst);
            panic!("on purpose");
        };
        let ui = EventBus::builder("ui").manual().on_ready(ready).middleware(LogEvents::new()).build().unwrap();
        let shown = Log::new();
        let lines = shown.clone();
        ui.on(move |line: &Event<Line>| lines.push(&line.text));
        ui.on(|job: &Event<Job>| {
            say_something();
            if job.n == 1 { panic!("on purpose") } else { job.n }
        });
        let to = ui.clone();
        let log = Logger::new(Trace, move |_, text| {
            to.emit(line(text));
            assert_eq!(to.run_pending(), 0, "not on top of whatever has something to say");
        });
        let worker = short("app");
        let gate = Gate::new();
        worker.on(stands_at(&gate));
        done(&worker.emit(Slow));
        gate.open();
        log.says("is back");
        ui.emit(Job { n: 1 });
        ui.emit(Job { n: 2 });
        let until = Instant::now() + PATIENCE;
        let mut quiet = 0;
        while quiet < 20 && Instant::now() < until {
            quiet = if ui.run_pending() == 0 { quiet + 1 } else { 0 };
            thread::sleep(5 * MS);
        }
        assert_eq!(quiet, 20, "there is an end to it");
        assert_eq!(shown.len(), log.heard().len());
        assert_eq!(log.naming("Line#"), [""; 0]);
        assert!(called.load(SeqCst) > 0);
    });
}

// What is handed over.

#[test]
fn what_does_not_fit_is_counted_and_said() {
    within(4 * PATIENCE, || {
        let (log, stands, goes_on) = stuck();
        let _opener = goes_on.opener();
        let bus = forgetful("bombs");
        bus.on(|_: &Event<Bomb>| {});
        throws_bombs(&bus, 1);
        idle(&bus);
        throws_bombs(&bus, 6000);
        idle(&bus);
        stands.wait();
        goes_on.open();
        log.says("records were dropped");
        log.falls_silent();
        let dropped: usize = log
            .naming("records were dropped")
            .iter()
            .map(|text| text.split(' ').next().unwrap().parse::<usize>().unwrap())
            .sum();
        let said = log.naming("Drop panicked").len();
        // Some go on the test's own thread, where it catches them by itself.
        assert!(said + dropped <= 6001 && said <= 4200 && dropped > 0, "{said} and {dropped}");
    });
}

#[test]
fn the_log_thread_is_there_only_while_there_is_something_to_say() {
    #[cfg(target_os = "linux")]
    within(3 * PATIENCE, || {
        let names = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let name =
                |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
            tasks.filter_map(name).filter(|name| name.starts_with("threadbus-log")).count()
        };
        let (log, stands, goes_on) = stuck();
        let _opener = goes_on.opener();
        time_out();
        time_out();
        stands.wait();
        assert_eq!(names(), 1);
        goes_on.open();
        eventually(|| log.naming("is abandoned").len() == 2);
        eventually(|| names() == 0);
    });
}

#[test]
fn a_shutdown_waits_for_the_log() {
    within(3 * PATIENCE, || {
        let log = Logger::new(Info, |_, _| thread::sleep(5 * MS));
        let bus = short("app");
        let gate = Gate::new();
        let _opener = gate.opener();
        bus.on(stands_at(&gate));
        let slow = bus.emit(Slow);
        eventually(|| slow.status() == EventStatus::Started);
        bus.shutdown(Shutdown::Now, 50 * MS);
        assert_eq!(log.naming("is abandoned").len(), 1, "{:?}", log.heard());
    });
}

/// In a process of its own: a thread that the system refuses must not be one of this one's other tests'.
#[test]
#[cfg(target_os = "linux")]
fn what_a_refused_log_thread_would_have_said_is_said_by_others() {
    const NAME: &str = "what_a_refused_log_thread_would_have_said_is_said_by_others";
    if std::env::var_os("THREADBUS_TEST_REFUSED").is_some() {
        return refused();
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args([NAME, "--exact", "--test-threads=1"]).env("THREADBUS_TEST_REFUSED", "1");
    let output = within(3 * PATIENCE, move || child.output().unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[cfg(target_os = "linux")]
fn refused() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let log = Logger::new(Info, |_, _| {});
    let (bus, other) = (forgetful("bombs"), EventBus::new("other"));
    bus.on(|_: &Event<Bomb>| {});
    other.on(|job: &Event<Job>| job.n);
    // A thread of the pool is there, and stays for ten seconds.
    done(&other.emit(Job { n: 0 }));
    let (_, most) = getrlimit(Resource::RLIMIT_AS).unwrap();
    let now = 1024 * common::process_status("VmSize:") as u64;
    setrlimit(Resource::RLIMIT_AS, now + (1 << 20), most).unwrap();
    assert!(thread::Builder::new().stack_size(2 << 20).spawn(|| ()).is_err(), "the limit has no effect");
    for _ in 0..20 {
        throws_bombs(&bus, 1);
    }
    idle(&bus);
    // The thread of the pool has said it between two jobs.
    log.says("Drop panicked");
    setrlimit(Resource::RLIMIT_AS, most, most).unwrap();
    throws_bombs(&bus, 5);
    idle(&bus);
    let said = log.naming("Drop panicked").len();
    done(&other.emit(Job { n: 1 }));
    eventually(|| log.naming("Drop panicked").len() >= said);
    assert_eq!(log.naming("were dropped"), [""; 0]);
}
