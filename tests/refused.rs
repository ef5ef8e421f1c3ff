//! Threads that the system refuses for a while, and then grants: nothing stays dead.
//!
//! Each test runs its body in a process of its own, as a user without other processes, so that the limit on threads has an effect.
#![cfg(target_os = "linux")]

mod common;

use common::{Gate, PATIENCE, clean, done, eventually, payload, warnings_naming, within};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use threadbus::{Event, EventBus, EventConcurrency, EventOptions, HandlerConcurrency, Runtime, Shutdown};

payload!(Job { n: usize } => usize);

const CHILD: &str = "THREADBUS_REFUSED";
const PASSED: &str = "the body has passed";

/// Runs `body` in a process that starts as this very test.
#[track_caller]
fn apart(test: &str, body: fn()) {
    if std::env::var_os(CHILD).is_some() {
        within(Duration::from_secs(20), body);
        eprintln!("{PASSED}");
        return;
    }
    let exe = std::env::current_exe().expect("a test is a file");
    let mut command = Command::new(exe);
    command.args(["--exact", test, "--nocapture"]).env(CHILD, "1");
    if nix::unistd::Uid::effective().is_root() {
        // The superuser has no such limit.
        command.uid(40_000 + std::process::id() % 20_000);
    }
    let output = within(Duration::from_secs(40), move || command.output().expect("a process"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(PASSED), "{:?}: {said}", output.status);
}

fn limit(threads: u64) {
    let (_, most) = getrlimit(Resource::RLIMIT_NPROC).expect("a limit");
    setrlimit(Resource::RLIMIT_NPROC, threads.min(most), most).expect("it may be lowered, and raised again");
}

fn refuse() {
    limit(1);
    assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "the limit has no effect");
}

fn grant() {
    limit(4000);
    std::thread::Builder::new().spawn(|| ()).expect("a thread").join().expect("no panic");
}

fn counting(bus: &EventBus) -> Arc<AtomicUsize> {
    let ran = Arc::new(AtomicUsize::new(0));
    let runs = Arc::clone(&ran);
    bus.on(move |job: &Event<Job>| {
        runs.fetch_add(1, SeqCst);
        job.n
    });
    ran
}

fn kinds(runtime: &Runtime) -> Vec<EventBus> {
    let kind = |name: &str, events| EventBus::builder(name).runtime(runtime).event_concurrency(events).build();
    let events = [EventConcurrency::BusSerial, EventConcurrency::GlobalSerial, EventConcurrency::Parallel];
    events.into_iter().map(|events| kind("Bus", events).expect("a bus")).collect()
}

#[test]
fn what_was_emitted_meanwhile_runs_when_somebody_looks() {
    apart("what_was_emitted_meanwhile_runs_when_somebody_looks", || {
        type Look = fn(&EventBus, &Event<Job>) -> bool;
        let looks: [Look; 4] = [
            |_, job| job.is_completed(),
            |bus, _| bus.is_idle(),
            |_, job| job.status() == threadbus::EventStatus::Completed,
            |bus, _| bus.pending() == 0 && bus.runtime().stats().threads > 0,
        ];
        for look in looks {
            for bus in kinds(&Runtime::builder().build().expect("a runtime")) {
                let ran = counting(&bus);
                refuse();
                let jobs: Vec<_> = (0..10).map(|n| bus.emit(Job { n })).collect();
                grant();
                eventually(|| look(&bus, &jobs[9]));
                jobs.iter().for_each(clean);
                assert_eq!(ran.load(SeqCst), 10);
            }
        }
    });
}

#[test]
fn what_was_emitted_meanwhile_runs_with_the_next_emit_on_any_bus() {
    apart("what_was_emitted_meanwhile_runs_with_the_next_emit_on_any_bus", || {
        for bus in kinds(&Runtime::builder().build().expect("a runtime")) {
            let ran = counting(&bus);
            refuse();
            drop(bus.emit(Job { n: 1 }));
            grant();
            let other = EventBus::new("Other");
            other.on(|job: &Event<Job>| job.n);
            drop(other.emit(Job { n: 2 }));
            // Nothing but this counter is looked at.
            eventually(|| ran.load(SeqCst) == 1);
            drop(bus.emit(Job { n: 3 }));
            eventually(|| ran.load(SeqCst) == 2);
        }
    });
}

#[test]
fn a_wait_asks_by_time() {
    apart("a_wait_asks_by_time", || {
        for bus in kinds(&Runtime::builder().build().expect("a runtime")) {
            counting(&bus);
            let gate = Gate::new();
            let grants = {
                let gate = gate.clone();
                std::thread::spawn(move || {
                    gate.wait();
                    std::thread::sleep(Duration::from_millis(50));
                    grant();
                })
            };
            refuse();
            let job = bus.emit(Job { n: 1 });
            gate.open();
            assert_eq!(done(&job).result().expect("it ran"), 1);
            grants.join().expect("no panic");
            let idle = bus.wait_until_idle_timeout(PATIENCE);
            assert!(idle.is_ok(), "{idle:?}");
        }
    });
}

/// There is a thread, and it is busy: the second one is asked for again though nobody does anything.
#[test]
fn a_second_thread_is_asked_for_by_time() {
    apart("a_second_thread_is_asked_for_by_time", || {
        let bus = EventBus::builder("Bus").event_concurrency(EventConcurrency::Parallel);
        let bus = bus.handler_concurrency(HandlerConcurrency::Parallel).build().expect("a bus");
        let (first, gate, ran) = (Gate::new(), Gate::new(), Gate::new());
        let _opener = gate.opener();
        let (begins, passes, runs) = (first.clone(), gate.clone(), ran.clone());
        bus.on(move |job: &Event<Job>| {
            if job.n == 0 {
                begins.open();
                passes.wait();
            } else {
                runs.open();
            }
            job.n
        });
        // With a time limit, so that the watch is there already.
        let held = bus.emit_with(Job { n: 0 }, EventOptions::new().timeout(Duration::from_secs(60)));
        first.wait();
        refuse();
        let next = bus.emit(Job { n: 1 });
        grant();
        ran.wait();
        gate.open();
        clean(&held);
        clean(&next);
    });
}

#[test]
fn a_shutdown_under_refusal_ends_and_counts_what_it_cancelled() {
    apart("a_shutdown_under_refusal_ends_and_counts_what_it_cancelled", || {
        for mode in [Shutdown::Now, Shutdown::Drain] {
            let runtime = Runtime::builder().build().expect("a runtime");
            for bus in kinds(&runtime) {
                counting(&bus);
                refuse();
                let jobs: Vec<_> = (0..10).map(|n| bus.emit(Job { n })).collect();
                let report = bus.shutdown(mode, Duration::from_millis(100));
                assert!(jobs.iter().all(Event::is_completed), "{mode:?}");
                assert_eq!(report.completed + report.cancelled, 10, "{mode:?} {report:?}");
                grant();
            }
            // The threads that are granted at last find nothing to do, and may be on their way to it still.
            eventually(|| {
                let stats = runtime.stats();
                (stats.busy, stats.waiting, stats.abandoned) == (0, 0, 0)
            });
        }
    });
}

#[test]
fn a_refusal_is_told_once_and_counts_nothing() {
    apart("a_refusal_is_told_once_and_counts_nothing", || {
        let warnings = warnings_naming("refuses another thread");
        let runtime = Runtime::builder().build().expect("a runtime");
        let buses = kinds(&runtime);
        buses.iter().for_each(|bus| drop(counting(bus)));
        refuse();
        let jobs: Vec<_> = (0..300).map(|n| buses[n % buses.len()].emit(Job { n })).collect();
        assert_eq!((runtime.stats().threads, runtime.stats().busy), (0, 0));
        grant();
        jobs.iter().for_each(clean);
        // The log has a thread of its own, which was refused as well.
        eventually(|| !warnings().is_empty());
        assert_eq!(warnings().len(), 1, "{:?}", warnings());
    });
}
