//! Programs on one thread, at the hard limit, and on a system that refuses threads: nothing hangs, nothing is lost.

mod common;

use common::{Gate, Gauge, Log, PATIENCE, clean, done, eventually, idle, linger, ms, payload, within, works_on};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threadbus::{
    Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerContext, HandlerFailure,
    HandlerOptions, Limit, ResultError, Runtime, RuntimeBuilder, Shutdown, WaitError,
};

payload!(Parent { n: usize } => usize);
payload!(Child { n: usize } => usize);
payload!(Level { left: usize } => usize);
payload!(Work);
payload!(Quick);

fn threads(max: usize) -> RuntimeBuilder {
    Runtime::builder().max_threads(max).thread_name("short").keep_alive(ms(100))
}

fn bus(runtime: &Runtime, name: &str, events: EventConcurrency, handlers: HandlerConcurrency) -> EventBus {
    let builder = EventBus::builder(name).event_concurrency(events).handler_concurrency(handlers);
    builder.runtime(runtime).handler_timeout(None).build().expect("a bus")
}

fn serial(runtime: &Runtime, name: &str) -> EventBus {
    bus(runtime, name, EventConcurrency::BusSerial, HandlerConcurrency::BusSerial)
}

fn parallel(runtime: &Runtime, name: &str) -> EventBus {
    bus(runtime, name, EventConcurrency::Parallel, HandlerConcurrency::Parallel)
}

fn kinds(runtime: &Runtime) -> [EventBus; 4] {
    [
        serial(runtime, "Serial"),
        parallel(runtime, "Parallel"),
        bus(runtime, "Global", EventConcurrency::GlobalSerial, HandlerConcurrency::GlobalSerial),
        bus(runtime, "Mixed", EventConcurrency::Parallel, HandlerConcurrency::BusSerial),
    ]
}

/// Each level waits for the next, which has a timeout of its own and so runs on another worker if `elsewhere`.
fn levels(bus: &EventBus, elsewhere: bool) {
    bus.on(move |level: &Event<Level>| -> Result<usize, WaitError> {
        if level.left == 0 {
            return Ok(0);
        }
        // The deeper, the earlier: nothing may run on the stack of the one above it.
        let cap = Duration::from_secs(60 + level.left as u64);
        let options = if elsewhere { EventOptions::new().handler_timeout(cap) } else { EventOptions::new() };
        let below = level.bus().emit_with(Level { left: level.left - 1 }, options).wait()?;
        Ok(1 + below.result().unwrap_or(1000))
    });
}

/// Asserts that all buses work on and become idle, and that the runtime's threads leave; each step waits for [`PATIENCE`] at most.
fn comes_to_rest(runtime: &Runtime, buses: &[EventBus]) {
    for bus in buses {
        works_on(bus);
        idle(bus);
    }
    eventually(|| runtime.stats().threads == 0);
    let stats = runtime.stats();
    assert_eq!((stats.busy, stats.waiting, stats.abandoned), (0, 0, 0), "{stats:?}");
}

#[test]
fn one_thread_runs_nested_waits() {
    let runtime = threads(1).build().expect("a runtime");
    let buses = kinds(&runtime);
    for bus in &buses {
        levels(bus, false);
        assert_eq!(done(&bus.emit(Level { left: 50 })).result().expect("all the way down"), 50);
    }
    comes_to_rest(&runtime, &buses);
}

/// A suspended handler does not count as a thread that runs user code, so the next one can run.
#[test]
fn one_thread_at_a_time_runs_nested_waits_on_other_workers() {
    let runtime = threads(1).hard_limit(100).build().expect("a runtime");
    let buses = kinds(&runtime);
    for bus in &buses {
        levels(bus, true);
        assert_eq!(done(&bus.emit(Level { left: 20 })).result().expect("all the way down"), 20);
    }
    comes_to_rest(&runtime, &buses);
}

#[test]
fn one_thread_takes_parallel_handlers_one_after_the_other() {
    let runtime = threads(1).build().expect("a runtime");
    let buses = kinds(&runtime);
    for bus in &buses {
        let inside = Gauge::new();
        for n in 0..20 {
            let inside = inside.clone();
            bus.on(move |_: &Event<Child>| {
                inside.enter();
                linger();
                inside.leave();
                n
            });
        }
        let options = || EventOptions::new().handler_concurrency(HandlerConcurrency::Parallel);
        let events: Vec<_> = (0..5).map(|n| bus.emit_with(Child { n }, options())).collect();
        for event in &events {
            assert_eq!(done(event).result_list().expect("all"), (0..20).collect::<Vec<_>>());
        }
        assert_eq!(inside.peak(), 1);
    }
    comes_to_rest(&runtime, &buses);
}

/// Fifty parents at once, each waiting for a child on another bus that must not run on its stack.
#[test]
fn one_thread_at_a_time_runs_many_waits_at_once() {
    for elsewhere in [false, true] {
        let runtime = threads(1).hard_limit(200).build().expect("a runtime");
        let buses = kinds(&runtime);
        let target = serial(&runtime, "Target");
        target.on(|child: &Event<Child>| child.n);
        for bus in &buses {
            let target = target.downgrade();
            bus.on(move |parent: &Event<Parent>| -> Result<usize, WaitError> {
                let options = EventOptions::new();
                let options = if elsewhere { options.handler_timeout(Duration::from_secs(60)) } else { options };
                let child = target.upgrade().expect("it lives").emit_with(Child { n: parent.n }, options);
                Ok(child.wait()?.result().unwrap_or(1000))
            });
        }
        let parents: Vec<_> = (0..50).flat_map(|n| buses.iter().map(move |bus| bus.emit(Parent { n }))).collect();
        for parent in &parents {
            assert_eq!(done(parent).result().expect("its child's"), parent.n);
        }
        comes_to_rest(&runtime, &buses);
    }
}

#[test]
fn one_thread_and_a_wait_that_gives_up() {
    let runtime = threads(1).build().expect("a runtime");
    let (bus, other, gate) = (serial(&runtime, "Bus"), serial(&runtime, "Other"), Gate::new());
    let _opener = gate.opener();
    other.on({
        let gate = gate.clone();
        move |_: &Event<Work>| -> Result<(), WaitError> {
            // Asleep it keeps the only place, so the waiting handler comes back when it is done.
            HandlerContext::current().expect("inside of a handler").sleep(ms(50))?;
            assert!(!gate.is_open());
            Ok(())
        }
    });
    bus.on({
        let other = other.downgrade();
        move |_: &Event<Parent>| {
            let work = other.upgrade().expect("it lives").emit(Work);
            usize::from(matches!(work.wait_timeout(ms(1)), Err(WaitError::Timeout(_)) | Ok(_)))
        }
    });
    assert_eq!(done(&bus.emit(Parent { n: 0 })).result().expect("it came back"), 1);
    comes_to_rest(&runtime, &[bus, other]);
}

#[test]
fn one_thread_survives_timeouts_in_a_row() {
    let runtime = threads(1).build().expect("a runtime");
    let buses = kinds(&runtime);
    for bus in &buses {
        bus.on(|_: &Event<Work>| HandlerContext::current().expect("inside").sleep(Duration::from_secs(3600)));
        let options = || EventOptions::new().handler_timeout(ms(2));
        let events: Vec<_> = (0..50).map(|_| bus.emit_with(Work, options())).collect();
        for event in &events {
            assert!(matches!(done(event).results()[0].error.as_deref(), Some(HandlerFailure::TimedOut { .. })));
        }
    }
    eventually(|| runtime.stats().abandoned == 0);
    comes_to_rest(&runtime, &buses);
}

/// All threads there may be stand in handlers that were given up. What is emitted then waits, and nothing of it is lost.
#[test]
fn at_the_hard_limit_work_waits_for_a_thread_and_is_not_lost() {
    let runtime = threads(2).hard_limit(3).build().expect("a runtime");
    let (stuck, bus, gate) = (parallel(&runtime, "Stuck"), serial(&runtime, "Bus"), Gate::new());
    let _opener = gate.opener();
    let log = Log::new();
    stuck.on({
        let gate = gate.clone();
        move |_: &Event<Work>| gate.wait()
    });
    bus.on({
        let log = log.clone();
        move |child: &Event<Child>| {
            log.push(child.n);
            child.n
        }
    });
    let capped = || EventOptions::new().handler_timeout(ms(30));
    let works: Vec<_> = (0..3).map(|_| stuck.emit_with(Work, capped())).collect();
    for work in &works {
        assert!(matches!(done(work).results()[0].error.as_deref(), Some(HandlerFailure::TimedOut { .. })));
    }
    eventually(|| runtime.stats().abandoned == 3);
    let children: Vec<_> = (0..5).map(|n| bus.emit(Child { n })).collect();
    assert!(children[0].wait_timeout(ms(100)).is_err(), "no thread is left");
    assert!(runtime.stats().threads <= 3 && log.is_empty());
    // On a thread of the caller's own it runs, ahead of the queue.
    let now = within(PATIENCE, {
        let bus = bus.clone();
        move || bus.emit_now(Child { n: 9 })
    });
    assert_eq!(now.result().expect("it ran here"), 9);
    gate.open();
    for child in &children {
        assert_eq!(done(child).result().expect("it ran in the end"), child.n);
    }
    assert_eq!(log.entries(), ["9", "0", "1", "2", "3", "4"]);
    comes_to_rest(&runtime, &[stuck, bus]);
}

/// The child must not run on the stack of its parent, and there is no other thread: it runs there all the same, or the wait says so.
#[test]
fn at_the_hard_limit_a_wait_runs_here_or_says_that_there_is_no_thread() {
    for events in [EventConcurrency::BusSerial, EventConcurrency::Parallel] {
        for handlers in [HandlerConcurrency::BusSerial, HandlerConcurrency::Parallel] {
            let runtime = threads(1).hard_limit(1).build().expect("a runtime");
            let bus = bus(&runtime, "Bus", events, handlers);
            let log = Log::new();
            bus.on(|child: &Event<Child>| child.n);
            bus.on({
                let log = log.clone();
                move |parent: &Event<Parent>| {
                    let options = EventOptions::new().handler_timeout(Duration::from_secs(60));
                    let waited = parent.bus().emit_with(Child { n: parent.n }, options).wait();
                    log.push(match &waited {
                        Ok(_) => "ok".to_owned(),
                        Err(WaitError::NoThread(limit)) => format!("no thread ({limit})"),
                        Err(other) => format!("{other:?}"),
                    });
                    parent.n
                }
            });
            let parents: Vec<_> = (0..10).map(|n| bus.emit(Parent { n })).collect();
            for parent in &parents {
                assert_eq!(done(parent).result().expect("its own"), parent.n);
                let child = parent.children()[0].downcast::<Child>().expect("its child");
                assert_eq!(child.result().expect("it was not lost"), parent.n);
            }
            let entries = log.entries();
            assert!(entries.iter().all(|e| e == "ok" || e == "no thread (1)") && entries.len() == 10, "{entries:?}");
            comes_to_rest(&runtime, &[bus]);
        }
    }
}

#[test]
fn at_the_hard_limit_all_handlers_of_parallel_waits_end() {
    let runtime = threads(2).hard_limit(4).build().expect("a runtime");
    let buses = kinds(&runtime);
    for bus in &buses {
        levels(bus, true);
        let events: Vec<_> = (0..8).map(|left| bus.emit(Level { left })).collect();
        for event in &events {
            // Some of their waits may end with `NoThread`; then they fail, but they end, and so does what is below them.
            let below = done(event).descendants();
            assert!(below.iter().all(threadbus::AnyEvent::is_completed), "on {}", bus.label());
            for failure in event.errors() {
                assert!(matches!(failure.downcast_ref(), Some(WaitError::NoThread(_))), "{failure}");
            }
        }
    }
    comes_to_rest(&runtime, &buses);
}

/// A stack of 64 TiB: the system refuses every thread of the pool.
#[test]
fn without_any_thread_nothing_hangs_and_nothing_is_lost() {
    let runtime = threads(4).stack_size(1 << 46).build().expect("a runtime");
    let buses = kinds(&runtime);
    for bus in &buses {
        bus.on(|child: &Event<Child>| child.n);
        bus.on(|parent: &Event<Parent>| -> Result<usize, WaitError> {
            Ok(parent.bus().emit(Child { n: parent.n }).wait()?.result().unwrap_or(1000))
        });
        let queued = bus.emit(Child { n: 1 });
        let gave_up = queued.wait_timeout(ms(50)).map(drop);
        assert!(matches!(gave_up, Err(WaitError::Timeout(_) | WaitError::NoThread(_)) | Ok(())), "{gave_up:?}");
        // Those that are just asked for count until they are refused.
        eventually(|| runtime.stats().threads == 0);
        // The calling thread is a thread as well.
        let now = within(PATIENCE, {
            let bus = bus.clone();
            move || (bus.emit_now(Child { n: 2 }).result().ok(), bus.emit_now(Parent { n: 3 }).result().ok())
        });
        assert_eq!(now, (Some(2), Some(3)));
        let report = within(PATIENCE, {
            let bus = bus.clone();
            move || bus.shutdown(Shutdown::Now, ms(100))
        });
        eventually(|| queued.is_completed());
        let ran = queued.results().iter().any(|result| result.started_at.is_some());
        assert_eq!((report.cancelled, report.abandoned), (usize::from(!ran), 0));
        assert!(ran || queued.wait().map(drop) == Err(WaitError::Cancelled));
    }
}

/// An unbounded wait outside of handlers, when no thread can ever come: it ends, with the value or with the reason.
#[test]
fn without_any_thread_a_wait_from_outside_ends() {
    let runtime = threads(4).stack_size(1 << 46).build().expect("a runtime");
    let bus = serial(&runtime, "Bus");
    bus.on(|child: &Event<Child>| child.n);
    let waited = within(PATIENCE, {
        let bus = bus.clone();
        move || bus.emit(Child { n: 1 }).wait().map(drop)
    });
    assert!(matches!(waited, Ok(()) | Err(WaitError::NoThread(_))), "{waited:?}");
}

const CHILD: &str = "THREADBUS_SHORT_OF_THREADS";

/// How many threads with stacks of `size` the system grants at once, up to 64.
fn granted(size: usize) -> usize {
    let gate = Gate::new();
    let _opener = gate.opener();
    let spawn = || {
        let gate = gate.clone();
        std::thread::Builder::new().stack_size(size).spawn(move || gate.wait())
    };
    let threads: Vec<_> = std::iter::repeat_with(spawn).map_while(Result::ok).take(64).collect();
    gate.open();
    threads.into_iter().map(|thread| thread.join().expect("no panic")).count()
}

/// What the child process runs: stacks of 256 MiB in an address space that has room for a few of them.
fn in_little_space() {
    let granted = granted(256 << 20);
    assert!((2..64).contains(&granted), "{granted} threads");
    let runtime =
        Runtime::builder().stack_size(256 << 20).max_threads(64).keep_alive(ms(50)).build().expect("a runtime");
    let buses = kinds(&runtime);
    for round in 0..5 {
        for bus in &buses {
            if round == 0 {
                levels(bus, true);
                for _ in 0..30 {
                    bus.on(|child: &Event<Child>| {
                        std::thread::sleep(ms(1));
                        child.n
                    });
                }
            }
            let parallel = || EventOptions::new().handler_concurrency(HandlerConcurrency::Parallel);
            let events: Vec<_> = (0..20).map(|n| bus.emit_with(Child { n }, parallel())).collect();
            let nested: Vec<_> = (0..10).map(|left| bus.emit(Level { left })).collect();
            for event in &events {
                assert_eq!(done(event).result_list().expect("all of them").len(), 30);
            }
            for event in &nested {
                assert!(done(event).descendants().iter().all(threadbus::AnyEvent::is_completed));
                for failure in event.errors() {
                    assert!(matches!(failure.downcast_ref(), Some(WaitError::NoThread(_))), "{failure}");
                }
            }
            idle(bus);
        }
        eventually(|| runtime.stats().threads == 0);
    }
    eprintln!("child: finished with {granted} threads");
}

#[test]
fn a_process_that_is_refused_threads_finishes_its_work() {
    if std::env::var_os(CHILD).is_some() {
        within(Duration::from_secs(50), in_little_space);
        return;
    }
    // `ulimit -u` does not bind root; the address space does, and thread stacks are most of it.
    let script =
        "ulimit -v 2600000; exec \"$0\" --exact a_process_that_is_refused_threads_finishes_its_work --nocapture";
    let exe = std::env::current_exe().expect("a test is a file");
    let output = within(Duration::from_secs(60), move || {
        Command::new("sh").arg("-c").arg(script).arg(exe).env(CHILD, "1").output().expect("a shell")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}{}", output.status, String::from_utf8_lossy(&output.stdout));
    assert!(said.contains("child: finished with"), "it ran: {said}");
}

/// The last thread runs an event on top of its own wait, since it needs that; what it waits for there is no wait of that event.
#[test]
fn what_runs_on_top_of_a_wait_does_not_wait_for_the_same() {
    let runtime = threads(2).hard_limit(2).build().expect("a runtime");
    let [outer, inner, top] = ["Outer", "Inner", "Top"].map(|name| parallel(&runtime, name));
    let (running, parked) = (Gate::new(), Gate::new());
    let _opener = parked.opener();
    top.on(|quick: &Event<Quick>| {
        // Whoever waits for this event looks again at what is emitted below it.
        for _ in 0..20 {
            quick.bus().emit(Child { n: 0 });
            linger();
        }
    });
    top.on(|child: &Event<Child>| child.n);
    inner.on({
        let (running, parked, top) = (running.clone(), parked.clone(), top.clone());
        move |_: &Event<Work>| {
            running.open();
            parked.wait();
            // With a time limit, so this thread runs nothing on top of its own wait.
            top.emit(Quick).wait_timeout(PATIENCE).map(drop)
        }
    });
    let work = inner.emit(Work);
    running.wait();
    outer.on({
        let work = work.clone();
        move |parent: &Event<Parent>| -> Result<usize, WaitError> {
            work.wait()?;
            Ok(parent.n)
        }
    });
    let parent = outer.emit(Parent { n: 7 });
    eventually(|| runtime.stats().waiting == 1);
    parked.open();
    clean(&done(&work));
    assert_eq!(done(&parent).result().expect("no circle"), 7);
    comes_to_rest(&runtime, &[outer, inner, top]);
}

/// At the hard limit, with one thread asleep in a call of ours that holds no place, and one in a wait with a lock in its hand: what wants
/// the lock does not run on top of that wait, whatever it stands in line for.
#[test]
fn at_the_hard_limit_nothing_runs_on_top_of_a_wait_that_does_not_need_it() {
    let limited = || HandlerOptions::new().limit(Limit::new(1));
    type Unrelated = fn(&Runtime) -> (EventBus, HandlerOptions);
    let kinds: [Unrelated; 4] = [
        |runtime| (parallel(runtime, "Parallel"), HandlerOptions::new()),
        |runtime| (serial(runtime, "Serial"), HandlerOptions::new()),
        |runtime| {
            let name = "Global";
            let (events, handlers) = (EventConcurrency::GlobalSerial, HandlerConcurrency::GlobalSerial);
            (bus(runtime, name, events, handlers), HandlerOptions::new())
        },
        |runtime| (parallel(runtime, "Limited"), HandlerOptions::new()),
    ];
    for (at, kind) in kinds.into_iter().enumerate() {
        let runtime = threads(2).hard_limit(2).build().expect("a runtime");
        let (app, slow) = (parallel(&runtime, "App"), serial(&runtime, "Slow"));
        let (unrelated, mut options) = kind(&runtime);
        if at == 3 {
            options = limited();
        }
        let (table, holds, goes_on) = (Arc::new(Mutex::new(0)), Gate::new(), Gate::new());
        let _opener = goes_on.opener();
        slow.on({
            let goes_on = goes_on.clone();
            move |_: &Event<Level>| {
                // Its thread does not count as busy meanwhile.
                let context = HandlerContext::current().expect("inside");
                while !goes_on.is_open() && context.sleep(ms(5)).is_ok() {}
                5
            }
        });
        app.on({
            let (table, holds, slow) = (Arc::clone(&table), holds.clone(), slow.downgrade());
            move |_: &Event<Parent>| -> Result<usize, ResultError> {
                let mut table = table.lock().expect("nobody panics");
                let level =
                    slow.upgrade().expect("it lives").emit_with(Level { left: 0 }, EventOptions::new().detached());
                eventually(|| level.started_at().is_some());
                holds.open();
                *table += level.result()?;
                Ok(*table)
            }
        });
        unrelated.on_with(options, {
            let table = Arc::clone(&table);
            move |_: &Event<Work>| *table.lock().expect("nobody panics") += 100
        });
        let parent = app.emit(Parent { n: 0 });
        holds.wait();
        let other: Vec<_> = (0..3).map(|_| unrelated.emit(Work)).collect();
        linger();
        assert!(other.iter().all(|event| !event.is_completed()));
        goes_on.open();
        assert_eq!(done(&parent).result().expect("nobody came between"), 5);
        other.iter().for_each(clean);
        assert_eq!(*table.lock().expect("nobody panics"), 305);
        comes_to_rest(&runtime, &[app, slow, unrelated]);
    }
}

/// As above, with a caller outside of the bus and a system that grants no thread: it runs what it waits for, and what goes before that.
#[test]
fn without_any_thread_a_caller_runs_what_it_waits_for_and_nothing_else() {
    let runtime = threads(4).stack_size(1 << 46).build().expect("a runtime");
    let (bus, other, log) = (serial(&runtime, "Bus"), serial(&runtime, "Other"), Log::new());
    let free = parallel(&runtime, "Free");
    for bus in [&bus, &other, &free] {
        let (log, label) = (log.clone(), bus.label().to_owned());
        bus.on(move |child: &Event<Child>| {
            log.push(format_args!("{} {}", label.split('#').next().unwrap_or_default(), child.n));
            child.n
        });
    }
    let unrelated = [other.emit(Child { n: 1 }), free.emit(Child { n: 1 })];
    let value = within(PATIENCE, {
        let bus = bus.clone();
        move || {
            let events: Vec<_> = (1..=3).map(|n| bus.emit(Child { n })).collect();
            events[1].wait().map(|event| event.result().ok()).ok().flatten()
        }
    });
    assert_eq!(value, Some(2));
    assert_eq!(log.entries(), ["Bus 1", "Bus 2"], "the third one comes after it, and the others are not its business");
    assert!(unrelated.iter().all(|event| !event.is_completed()));
    for bus in [bus, other, free] {
        bus.shutdown(Shutdown::Now, ms(100));
    }
}

/// A stack that is nearly used up, and no other thread: the wait is told. With a thread that may come back it sleeps until then.
#[test]
fn a_wait_on_a_stack_that_is_used_up_is_told_only_if_nobody_can_ever_come() {
    for comes_back in [false, true] {
        let most = if comes_back { 2 } else { 1 };
        let small = threads(most).hard_limit(most).stack_size(256 << 10);
        let runtime = small.build().expect("a runtime");
        let (bus, asleep, goes_on) = (serial(&runtime, "Bus"), serial(&runtime, "Asleep"), Gate::new());
        let _opener = goes_on.opener();
        asleep.on({
            let goes_on = goes_on.clone();
            move |_: &Event<Work>| {
                let context = HandlerContext::current().expect("inside");
                while !goes_on.is_open() && context.sleep(ms(5)).is_ok() {}
            }
        });
        let (log, deepest) = (Log::new(), Gauge::new());
        bus.on({
            let (log, deepest, goes_on) = (log.clone(), deepest.clone(), goes_on.clone());
            move |level: &Event<Level>| -> Result<usize, ResultError> {
                if level.left == 0 {
                    return Ok(0);
                }
                deepest.enter();
                if level.left == 197 {
                    // The first stack is used up by then.
                    let goes_on = goes_on.clone();
                    std::thread::spawn(move || {
                        std::thread::sleep(ms(100));
                        goes_on.open();
                    });
                }
                let waited = level.bus().emit(Level { left: level.left - 1 }).wait();
                if let Err(WaitError::NoThread(_)) = &waited {
                    log.push("no thread");
                }
                Ok(1 + waited?.result()?)
            }
        });
        let work = comes_back.then(|| asleep.emit(Work));
        eventually(|| work.as_ref().is_none_or(|work| work.started_at().is_some()));
        let value = done(&bus.emit(Level { left: 200 })).result();
        if !comes_back {
            assert!(value.is_err() && log.count("no thread") > 0, "{value:?}, {} levels", deepest.peak());
        }
        goes_on.open();
        work.iter().for_each(clean);
        comes_to_rest(&runtime, &[bus, asleep]);
    }
}
