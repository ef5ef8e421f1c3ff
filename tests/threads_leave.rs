//! Which threads of a runtime are still there: none to watch nothing, none after `Runtime::shutdown`, none of a runtime that is gone.
//! Linux: threads are counted by their names in `/proc`.
#![cfg(target_os = "linux")]

mod common;

use common::{Gate, PATIENCE, done, eventually, idle, lock, payload, stands, within};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use threadbus::{
    Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, HandlerContext, HandlerError, HandlerFailure,
    HandlerOptions, Limit, OnFull, Retry, Runtime, Shutdown, WaitError, forbid_blocking,
};

payload!(Job);
payload!(Other);

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// The name of a runtime, and what is done on a bus of it.
type Case = (&'static str, fn(&EventBus));

/// A runtime whose threads stay for ever if nobody sends them away, and can be told from all others.
fn runtime(name: &str) -> Runtime {
    assert!(name.len() <= 4, "the system cuts names at 15 bytes");
    Runtime::builder().thread_name(name).keep_alive(HOUR).build().unwrap()
}

fn bus(runtime: &Runtime) -> EventBus {
    EventBus::builder("bus").runtime(runtime).build().unwrap()
}

/// How many threads have a name that begins so.
fn named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|comm| comm.starts_with(name)).count()
}

fn watches(name: &str) -> usize {
    named(&format!("{name}-watch"))
}

/// Sooner than any thread leaves by itself.
fn at_once(gone: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !gone() {
        if start.elapsed() > Duration::from_secs(2) {
            return false;
        }
        thread::sleep(MS);
    }
    true
}

/// Runs one of them, with the watch told, and says whether the watch leaves though the runtime and its bus stay.
fn leaves_nothing_to_watch(name: &str, act: impl FnOnce(&EventBus)) {
    let runtime = runtime(name);
    let bus = bus(&runtime);
    act(&bus);
    // A thread has its name a little after its start.
    eventually(|| watches(name) == 1);
    eventually(|| watches(name) == 0);
    // And comes again.
    let scheduled = bus.emit_after(HOUR, Job);
    eventually(|| watches(name) == 1);
    scheduled.cancel();
}

#[test]
fn a_cancelled_timer_keeps_no_watch() {
    let each: [Case; 4] = [
        ("wca", |bus| assert!(bus.emit_after(HOUR, Job).cancel())),
        ("wcb", |bus| {
            let all: Vec<_> = (1..500).map(|n| bus.emit_after(HOUR * (n % 7 + 1), Job)).collect();
            assert!(all.iter().all(|scheduled| scheduled.cancel()));
        }),
        ("wcc", |bus| assert!(bus.emit_every(HOUR, Job).cancel())),
        ("wcd", |bus| {
            // What is far is left when what is near has fired.
            let far = bus.emit_after(HOUR, Job);
            let near = Gate::new();
            let fired = near.clone();
            bus.on(move |_: &Event<Job>| fired.open());
            bus.emit_after(5 * MS, Job);
            near.wait();
            assert!(far.cancel());
        }),
    ];
    thread::scope(|scope| {
        let _ = each.map(|(name, act)| scope.spawn(move || leaves_nothing_to_watch(name, act)));
    });
}

#[test]
fn what_has_ended_keeps_no_watch() {
    let each: [Case; 6] = [
        ("wea", |bus| {
            bus.on_with(HandlerOptions::new().timeout(HOUR), |_: &Event<Job>| {});
            done(&bus.emit(Job));
        }),
        ("web", |bus| {
            bus.on(|_: &Event<Job>| {});
            done(&bus.emit_with(Job, EventOptions::new().timeout(HOUR)));
        }),
        ("wec", |bus| {
            // On a thread of the user's.
            bus.on_with(HandlerOptions::new().timeout(HOUR), |_: &Event<Job>| {});
            done(&bus.emit_now(Job));
        }),
        ("wed", |bus| {
            let retry = Retry::attempts(2).delay(HOUR);
            let tried = Gate::new();
            let tries = tried.clone();
            bus.on_with(HandlerOptions::new().retry(retry), move |_: &Event<Job>| -> Result<(), HandlerError> {
                tries.open();
                Err("again".into())
            });
            let event = bus.emit(Job);
            tried.wait();
            eventually(|| event.is_completed() || event.cancel() || event.is_completed());
        }),
        ("wee", |bus| {
            // Parallel ones, each on a thread of its own.
            let options = EventOptions::new()
                .concurrency(EventConcurrency::Parallel)
                .handler_concurrency(HandlerConcurrency::Parallel)
                .handler_timeout(HOUR);
            bus.on(|_: &Event<Job>| {});
            (0..50).for_each(|_| drop(bus.emit_with(Job, options.clone())));
            idle(bus);
        }),
        ("wef", |bus| {
            let limit = Limit::new(1).acquire_timeout(HOUR);
            let gate = Gate::new();
            let opened = gate.clone();
            bus.on_with(HandlerOptions::new().limit(limit).no_timeout(), move |_: &Event<Job>| opened.wait());
            let options = EventOptions::new().concurrency(EventConcurrency::Parallel);
            let events: Vec<_> = (0..3).map(|_| bus.emit_with(Job, options.clone())).collect();
            gate.open();
            events.iter().for_each(|event| drop(done(event)));
        }),
    ];
    thread::scope(|scope| {
        let _ = each.map(|(name, act)| scope.spawn(move || leaves_nothing_to_watch(name, act)));
    });
}

/// It was given up, and its thread does not come back: nothing has to be told of it any more.
#[test]
fn a_handler_that_was_given_up_keeps_no_watch() {
    let gate = Gate::new();
    let _opener = gate.opener();
    let held = gate.clone();
    leaves_nothing_to_watch("wgu", move |bus| {
        let inside = Gate::new();
        let enters = inside.clone();
        bus.on_with(HandlerOptions::new().timeout(HOUR), move |_: &Event<Job>| {
            enters.open();
            held.wait_for(3 * PATIENCE);
        });
        let event = bus.emit(Job);
        inside.wait();
        eventually(|| watches("wgu") == 1);
        event.cancel();
        done(&event);
    });
}

/// The watch sweeps every three seconds; what still runs keeps its deadline.
#[test]
fn a_deadline_outlives_sweeps_of_the_watch() {
    let runtime = runtime("wds");
    let bus = bus(&runtime);
    // Its promise covers the next one's deadline, and is swept away meanwhile.
    bus.on_with(HandlerOptions::new().timeout(Duration::from_secs(4)), |_: &Event<Other>| {});
    bus.on_with(HandlerOptions::new().timeout(Duration::from_secs(5)), |_: &Event<Job>| {
        while HandlerContext::current().unwrap().sleep(HOUR).is_ok() {}
    });
    done(&bus.emit(Other));
    let start = Instant::now();
    let event = done(&bus.emit(Job));
    let took = start.elapsed();
    assert!(matches!(event.errors().first().map(|e| &**e), Some(HandlerFailure::TimedOut { .. })), "{took:?}");
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(8), "{took:?}");
}

/// One that starts after a lull is promised a look anew.
#[test]
fn a_handler_that_starts_after_a_sweep_is_watched() {
    let runtime = runtime("wsw");
    let bus = bus(&runtime);
    bus.on_with(HandlerOptions::new().timeout(40 * MS), |_: &Event<Other>| {});
    bus.on_with(HandlerOptions::new().timeout(50 * MS), |_: &Event<Job>| {
        while HandlerContext::current().unwrap().sleep(HOUR).is_ok() {}
    });
    for pause in [0, 20, 45, 3_500] {
        done(&bus.emit(Other));
        thread::sleep(pause * MS);
        let event = done(&bus.emit(Job));
        assert!(matches!(event.errors().first().map(|e| &**e), Some(HandlerFailure::TimedOut { .. })), "{pause} ms");
    }
}

#[test]
fn a_hundred_runtimes_that_are_gone_keep_no_thread() {
    for n in 0..100 {
        let runtime = runtime("hun");
        let bus = bus(&runtime);
        bus.on_with(HandlerOptions::new().timeout(HOUR), |_: &Event<Job>| {});
        done(&bus.emit(Job));
        if n % 2 == 0 {
            bus.emit_after(HOUR, Job).cancel();
        } else {
            // Nobody takes it back; it ends with its bus.
            bus.emit_after(HOUR, Job);
        }
        if n % 3 == 0 {
            drop(runtime);
            drop(bus);
        }
    }
    assert!(at_once(|| named("hun") == 0), "{} are left", named("hun"));
}

/// The last handle of all goes on a thread of the runtime itself: in a handler, with more events queued behind it, or with the bus.
#[test]
fn the_last_handle_may_go_on_a_thread_of_the_runtime() {
    for round in 0..30 {
        let runtime = runtime("lst");
        let bus = bus(&runtime);
        let gate = Gate::new();
        let opened = gate.clone();
        let last = Arc::new(Mutex::new(Some((runtime, bus.clone()))));
        let held = Arc::clone(&last);
        bus.on(move |_: &Event<Job>| {
            opened.wait();
            drop(lock(&held).take());
        });
        let events = [bus.emit(Job), bus.emit(Job)];
        if round % 3 == 0 {
            bus.emit_after(HOUR, Job);
        }
        drop(bus);
        gate.open();
        if round % 2 == 0 {
            events.iter().for_each(|event| drop(done(event)));
        }
    }
    assert!(at_once(|| named("lst") == 0), "{} are left", named("lst"));
}

#[test]
fn after_a_shutdown_no_thread_is_left() {
    for (round, mode) in [Shutdown::Drain, Shutdown::Now].into_iter().cycle().take(40).enumerate() {
        let runtime = runtime("sdn");
        let buses = [bus(&runtime), bus(&runtime)];
        for bus in &buses {
            bus.on_with(HandlerOptions::new().timeout(HOUR), |_: &Event<Job>| {});
            // What is given up comes back at once.
            bus.on_with(HandlerOptions::new().timeout(5 * MS), |_: &Event<Other>| {
                drop(HandlerContext::current().unwrap().sleep(HOUR));
            });
            bus.emit_every(MS, Job);
            (0..20).for_each(|_| drop(bus.emit(Job)));
            bus.emit_with(Job, EventOptions::new().timeout(HOUR));
            bus.emit(Other);
            let options = EventOptions::new().concurrency(EventConcurrency::Parallel);
            (0..5).for_each(|_| drop(bus.emit_with(Job, options.clone())));
        }
        if round % 4 >= 2 {
            thread::sleep(MS * (round as u32 % 8));
        }
        runtime.shutdown(mode, PATIENCE);
        assert_eq!((named("sdn"), runtime.stats().threads), (0, 0), "round {round}: {:?}", runtime.stats());
    }
}

/// Values that threads of the pool keep are dropped before it returns.
#[test]
fn a_shutdown_waits_for_thread_local_values() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            thread::sleep(30 * MS);
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    thread_local! { static VALUE: Slow = const { Slow }; }
    let runtime = runtime("stl");
    let bus = bus(&runtime);
    bus.on(|_: &Event<Job>| VALUE.with(|_| ()));
    done(&bus.emit(Job));
    runtime.shutdown(Shutdown::Drain, PATIENCE);
    assert_eq!((DROPPED.load(SeqCst), named("stl")), (1, 0));

    // One that stays is waited for as long as was said.
    static STAYS: Gate2 = Gate2::new();
    struct Gate2(AtomicUsize);
    impl Gate2 {
        const fn new() -> Self {
            Gate2(AtomicUsize::new(0))
        }
    }
    struct Stuck;
    impl Drop for Stuck {
        fn drop(&mut self) {
            let start = Instant::now();
            while STAYS.0.load(SeqCst) == 0 && start.elapsed() < 2 * PATIENCE {
                thread::sleep(MS);
            }
        }
    }
    thread_local! { static STUCK: Stuck = const { Stuck }; }
    let bus = self::bus(&runtime);
    bus.on(|_: &Event<Job>| STUCK.with(|_| ()));
    done(&bus.emit(Job));
    let start = Instant::now();
    within(PATIENCE, {
        let runtime = runtime.clone();
        move || runtime.shutdown(Shutdown::Drain, 50 * MS)
    });
    assert!(start.elapsed() >= 50 * MS);
    assert_eq!(named("stl"), 1);
    STAYS.0.store(1, SeqCst);
    assert!(at_once(|| named("stl") == 0));
}

#[test]
fn a_handler_that_stays_is_all_that_is_left() {
    let runtime = runtime("sty");
    let bus = bus(&runtime);
    let (gate, inside) = (Gate::new(), Gate::new());
    let _opener = gate.opener();
    let (held, enters) = (gate.clone(), inside.clone());
    bus.on_with(HandlerOptions::new().timeout(HOUR), move |_: &Event<Job>| {
        enters.open();
        held.wait();
    });
    bus.on(|_: &Event<Other>| {});
    let options = || EventOptions::new().concurrency(EventConcurrency::Parallel);
    (0..5).for_each(|_| drop(bus.emit_with(Other, options())));
    let event = bus.emit(Job);
    inside.wait();
    let report = runtime.shutdown(Shutdown::Now, 200 * MS);
    assert_eq!(report.abandoned, 1, "{report:?}");
    assert!(event.is_completed());
    assert!(at_once(|| named("sty") == 1), "{} are left", named("sty"));
    // It leaves when it has returned, though others would wait for work.
    gate.open();
    assert!(at_once(|| named("sty") == 0), "{} are left", named("sty"));
    assert_eq!(runtime.shutdown(Shutdown::Now, PATIENCE).abandoned, 0);
}

#[test]
fn a_runtime_is_used_again_after_a_shutdown() {
    let runtime = runtime("agn");
    for _ in 0..5 {
        let bus = bus(&runtime);
        bus.on_with(HandlerOptions::new().timeout(HOUR), |_: &Event<Job>| {});
        done(&bus.emit(Job));
        eventually(|| runtime.stats().idle == 1);
        // Threads stay for the next event, as before.
        thread::sleep(20 * MS);
        assert_eq!(runtime.stats().idle, 1);
        bus.emit_after(HOUR, Job);
        runtime.shutdown(Shutdown::Drain, PATIENCE);
        assert_eq!(named("agn"), 0);
    }
}

/// A bus that is built while another thread shuts down keeps its own threads, and delays nobody.
#[test]
fn a_shutdown_leaves_other_buses_their_threads() {
    let runtime = runtime("oth");
    let old = bus(&runtime);
    let (gate, inside) = stands::<Job>(&old);
    old.emit(Job);
    inside.wait();
    let shuts = runtime.clone();
    let shutdown = thread::spawn(move || shuts.shutdown(Shutdown::Drain, 3 * PATIENCE));
    eventually(|| old.emit(Other).is_completed());
    let new = bus(&runtime);
    let (stay, in_new) = (Gate::new(), Gate::new());
    let _opener = stay.opener();
    let (stays, enters) = (stay.clone(), in_new.clone());
    new.on_with(HandlerOptions::new().no_timeout(), move |_: &Event<Job>| {
        enters.open();
        stays.wait_for(3 * PATIENCE);
    });
    let event = new.emit(Job);
    in_new.wait();
    gate.open();
    // The thread that was there before may have been the one to run it: then it is waited for as well.
    stay.open();
    within(PATIENCE, move || shutdown.join().unwrap());
    done(&event);
    new.on(|_: &Event<Other>| {});
    done(&new.emit(Other));
    eventually(|| runtime.stats().idle > 0);
    thread::sleep(20 * MS);
    assert!(runtime.stats().idle > 0, "it keeps its threads");
}

/// Where it must not wait: in a handler of the runtime, in one that runs on the caller's thread, and where blocking is forbidden.
#[test]
fn a_shutdown_from_inside_does_not_wait_for_itself() {
    let runtime = runtime("ins");
    let each: [fn(&EventBus) -> Event<Job>; 2] = [|bus| bus.emit(Job), |bus| bus.emit_now(Job)];
    for emit in each {
        let bus = bus(&runtime);
        let inner = runtime.clone();
        bus.on_with(HandlerOptions::new().no_timeout(), move |_: &Event<Job>| {
            inner.shutdown(Shutdown::Drain, 10 * PATIENCE);
        });
        let event = within(PATIENCE, {
            let bus = bus.clone();
            move || done(&emit(&bus))
        });
        event.result().unwrap();
        drop(bus);
    }
    let bus = bus(&runtime);
    bus.on(|_: &Event<Job>| {});
    done(&bus.emit(Job));
    within(PATIENCE, {
        let runtime = runtime.clone();
        move || {
            let _forbidden = forbid_blocking();
            runtime.shutdown(Shutdown::Drain, 10 * PATIENCE)
        }
    });
    assert!(at_once(|| named("ins") == 0), "{} are left", named("ins"));
}

/// Two threads shut down, and both come back when nothing is left.
#[test]
fn two_shutdowns_at_once() {
    for _ in 0..30 {
        let runtime = runtime("2sd");
        let bus = bus(&runtime);
        bus.on(|_: &Event<Job>| {});
        (0..10).for_each(|_| drop(bus.emit(Job)));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| runtime.shutdown(Shutdown::Drain, PATIENCE));
            }
        });
        // One of them may have been about to start a thread, which leaves at once.
        assert!(at_once(|| named("2sd") == 0), "{:?}", runtime.stats());
    }
}

/// Emits that race a shutdown are refused or handled, and leave no thread.
#[test]
fn emits_against_a_shutdown() {
    for round in 0..30 {
        let runtime = runtime("eas");
        let full = EventBus::builder("full").runtime(&runtime).queue_capacity(2, OnFull::Block).build().unwrap();
        full.on_with(HandlerOptions::new().timeout(HOUR), |_: &Event<Job>| {});
        let emitters: Vec<_> = (0..2)
            .map(|_| {
                let bus = full.clone();
                thread::spawn(move || {
                    let mut handled = 0;
                    while !matches!(bus.emit(Job).wait(), Err(WaitError::Rejected(_))) {
                        handled += 1;
                    }
                    handled
                })
            })
            .collect();
        thread::sleep(MS * (round % 5));
        runtime.shutdown(Shutdown::Drain, PATIENCE);
        assert!(emitters.into_iter().all(|emitter| emitter.join().is_ok()));
        assert!(at_once(|| named("eas") == 0), "{:?}", runtime.stats());
    }
}
