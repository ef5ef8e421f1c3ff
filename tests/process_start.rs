//! Workers that start slowly, or not at all; how long a handler has then, and who is kept.
#![cfg(target_os = "linux")]

mod common;
mod workers;

use common::{done, eventually, ms, parallel};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use threadbus::process::{PoolBuilder, ProcessPool};
use threadbus::{EventBus, EventOptions, HandlerFailure, HandlerOptions, Retry};
use workers::{Do, act, failure, serve};

/// No test, but the workers' program.
#[test]
fn worker_main() {
    serve();
}

/// A worker that does so before it serves.
fn after(before: &str) -> PoolBuilder {
    // A shell in the worker's place, which becomes the worker.
    let program = std::env::current_exe().expect("it has a path");
    let line = format!("{before}; exec {} worker_main --exact --nocapture --test-threads=1", program.display());
    ProcessPool::builder().program("sh").args(["-c", &line]).max_processes(1)
}

fn bus(pool: &ProcessPool, options: HandlerOptions) -> EventBus {
    let bus = EventBus::new("isolated");
    bus.on_process_with::<Do>(options, pool);
    bus
}

#[test]
fn a_slow_start_costs_no_attempt_and_no_worker() {
    let pool = after("sleep 0.6").build().expect("it can be built");
    let bus = bus(&pool, HandlerOptions::new().timeout(ms(200)));
    assert_eq!(bus.emit(Do { what: "echo".to_owned(), number: 5 }).result().expect("a value"), "5");
    assert_eq!(pool.stats().started, 1);
}

#[test]
fn from_there_on_the_handlers_own_time_runs() {
    let pool = after("sleep 0.3").build().expect("it can be built");
    let bus = bus(&pool, HandlerOptions::new().timeout(ms(200)));
    let began = Instant::now();
    let event = done(&bus.emit(act("hang")));
    let took = began.elapsed();
    assert!(
        matches!(&*failure(&event), HandlerFailure::TimedOut { after, .. } if *after == ms(200)),
        "{:?}",
        event.errors()
    );
    assert!(took >= ms(500), "{took:?}");
    assert!(took < ms(5_000), "{took:?}");
    // And the next one, in a worker that is there: at once.
    assert_eq!(bus.emit(act("touch")).result().expect("a value"), "0");
    let event = done(&bus.emit(act("hang")));
    assert!(matches!(&*failure(&event), HandlerFailure::TimedOut { after, .. } if *after == ms(200)));
}

#[test]
fn the_events_own_time_does_not_wait_for_a_start_and_the_worker_is_kept() {
    let pool = after("sleep 0.5").build().expect("it can be built");
    let bus = bus(&pool, HandlerOptions::new());
    let event = bus.emit_with(act("touch"), EventOptions::new().timeout(ms(100)));
    assert!(matches!(&*failure(&event), HandlerFailure::Aborted { .. }), "{:?}", event.errors());
    assert!(pool.stats().live == 1, "it goes on starting");
    assert_eq!(bus.emit(act("touch")).result().expect("a value"), "0");
    assert_eq!(pool.stats().started, 1);
}

#[test]
fn a_cancelled_event_leaves_a_starting_worker_alone() {
    let pool = after("sleep 0.5").build().expect("it can be built");
    let bus = bus(&pool, HandlerOptions::new());
    let event = bus.emit(act("touch"));
    eventually(|| pool.stats().live == 1);
    event.cancel();
    assert_eq!(bus.emit(act("touch")).result().expect("a value"), "0");
    assert_eq!(pool.stats().started, 1);
}

fn why_not(pool: &ProcessPool) -> String {
    let bus = bus(pool, HandlerOptions::new());
    match &*failure(&bus.emit(act("touch"))) {
        HandlerFailure::WorkerStart(why) => why.clone(),
        other => panic!("{other}"),
    }
}

#[test]
fn one_that_dies_before_it_served_says_why() {
    let dies = |before: &str| why_not(&after(before).build().expect("it can be built"));
    let why = dies("echo no licence >&2; echo really >&2; exit 7");
    assert!(
        why.contains("exited with code 7 before it served: is `process::serve` the first line of its main?"),
        "{why}"
    );
    assert!(why.ends_with("; its last words: no licence | really"), "{why}");
    let trace = "echo \"thread 'main' panicked at src/main.rs:3:5:\nno licence found\nstack backtrace:\n  0: main\" >&2; exit 101";
    let why = dies(trace);
    assert!(why.contains("it panicked in `register`, or before `process::serve`"), "{why}");
    assert!(why.ends_with("its last words: thread 'main' panicked at src/main.rs:3:5: | no licence found"), "{why}");
    let why = dies("echo \"thread 'main' panicked at x.rs:1:1:\nunwrap of SetLoggerError(())\" >&2; exit 101");
    assert!(why.contains("a worker's logger is its pool's"), "{why}");
    let why = dies("kill -9 $$");
    assert!(why.contains("was killed by signal 9 (SIGKILL) before it served"), "{why}");
}

#[test]
fn one_that_never_serves_is_found_by_its_start_timeout() {
    let pool = after("sleep 300").start_timeout(ms(100)).build().expect("it can be built");
    let began = Instant::now();
    let why = why_not(&pool);
    assert!(why.contains("did not serve within 100ms"), "{why}");
    assert!(began.elapsed() < ms(5_000));
    eventually(|| pool.stats().live == 0);
}

#[test]
fn what_does_not_start_is_started_less_and_less_often() {
    let pool = after("exit 3").build().expect("it can be built");
    let bus = bus(&pool, HandlerOptions::new().retry(Retry::attempts(4)));
    let began = Instant::now();
    let event = done(&bus.emit(act("touch")));
    assert!(matches!(&*failure(&event), HandlerFailure::WorkerStart(_)), "{:?}", event.errors());
    assert_eq!(pool.stats().started, 4);
    // After 0.1, 0.2 and 0.4 s.
    assert!(began.elapsed() >= ms(700), "{:?}", began.elapsed());
    // Who waits for that can be given up, and the pool can end.
    let event = bus.emit_with(act("touch"), EventOptions::new().timeout(ms(20)));
    assert!(matches!(&*failure(&event), HandlerFailure::Aborted { .. }), "{:?}", event.errors());
    assert_eq!(pool.stats().started, 4);
    assert!(pool.shutdown());
}

#[test]
fn some_are_there_before_they_are_needed_and_are_replaced() {
    let pool = workers::pool().min_processes(2).max_processes(3).idle_timeout(ms(20)).build().expect("it can be built");
    assert_eq!(pool.stats().live, 0);
    let bus = parallel("parallel");
    let info = bus.on_process::<Do>(&pool);
    eventually(|| pool.stats().idle == 2);
    let first = pool.pids();
    // Idle for longer than the others may be.
    std::thread::sleep(ms(100));
    assert_eq!(pool.pids(), first);
    assert_eq!(bus.emit(Do { what: "echo".to_owned(), number: 1 }).result().expect("a value"), "1");
    assert_eq!(pool.pids(), first);
    assert!(matches!(&*failure(&bus.emit(act("abort"))), HandlerFailure::Worker(_)));
    eventually(|| pool.stats().idle == 2 && pool.stats().started == 3);
    bus.off(&info);
    eventually(|| pool.stats().live == 0);
    let pool = after("exit 3").min_processes(1).build().expect("it can be built");
    let bus = self::bus(&pool, HandlerOptions::new());
    eventually(|| pool.stats().started >= 2);
    drop(bus);
    assert!(pool.shutdown());
}

#[test]
fn of_more_than_enough_that_are_idle_the_least_number_stays() {
    let pool = workers::pool().min_processes(2).max_processes(6).idle_timeout(ms(30)).build().expect("it can be built");
    let bus = parallel("parallel");
    bus.on_process::<Do>(&pool);
    let nap = || bus.emit(Do { what: "nap".to_owned(), number: 200 });
    let events: Vec<_> = (0..6).map(|_| nap()).collect();
    assert!(events.iter().all(|event| event.result().is_ok()));
    assert_eq!(pool.stats().started, 6);
    let all: BTreeSet<_> = pool.pids().into_iter().collect();
    eventually(|| pool.stats().live == 2);
    // A while longer than they may be idle.
    std::thread::sleep(ms(300));
    let left = pool.pids();
    assert!(left.len() == 2 && left.iter().all(|pid| all.contains(pid)), "{left:?} of {all:?}");
    assert_eq!(pool.stats().started, 6, "none was started again");
}

#[test]
fn a_start_that_failed_is_a_letter_and_counts_like_any_other_failure() {
    let file = std::env::temp_dir().join(format!("threadbus-licence-{}", std::process::id()));
    let pool = after(&format!("[ -e {} ] || exit 3", file.display())).build().expect("it can be built");
    let bus = EventBus::builder("isolated").dead_letters(10).build().expect("it can be built");
    bus.on_process_with::<Do>(HandlerOptions::new().retry(Retry::attempts(2)), &pool);
    done(&bus.emit(Do { what: "echo".to_owned(), number: 7 }));
    let letters = bus.dead_letters();
    assert!(matches!(letters.as_slice(), [letter] if matches!(&*letter.error, HandlerFailure::WorkerStart(_))));
    let metrics = bus.metrics();
    assert_eq!((metrics.failed, metrics.retries), (1, 1));
    std::fs::write(&file, "").expect("a file");
    let report = bus.redrive(10);
    std::fs::remove_file(&file).expect("it is there");
    assert_eq!((report.succeeded, report.failed), (1, 0));
    assert!(bus.dead_letters().is_empty());
}

#[test]
fn starts_that_fail_together_count_once() {
    let pool = after("exit 3").max_processes(8).build().expect("it can be built");
    let bus = parallel("parallel");
    bus.on_process::<Do>(&pool);
    let events: Vec<_> = (0..8).map(|_| bus.emit(act("touch"))).collect();
    events.iter().for_each(|event| drop(done(event)));
    // Those that did not begin at once waited for 0.1 s, 0.2 s …, and not for the sum of all.
    let began = Instant::now();
    done(&bus.emit(act("touch")));
    assert!(began.elapsed() < ms(3_000), "{:?}", began.elapsed());
}

#[test]
fn no_limit_on_the_start_is_none_on_the_handler() {
    let pool = workers::pool().max_processes(1).start_timeout(Duration::MAX).build().expect("it can be built");
    let bus = bus(&pool, HandlerOptions::new().timeout(ms(100)));
    let event = done(&bus.emit(act("hang")));
    assert!(matches!(&*failure(&event), HandlerFailure::TimedOut { after, .. } if *after == ms(100)));
}

#[test]
fn a_worker_ends_when_it_has_done_enough() {
    let pool = workers::pool().max_processes(1).max_events(3).build().expect("it can be built");
    let bus = bus(&pool, HandlerOptions::new());
    let pids: Vec<_> = (0..7).map(|_| bus.emit(act("pid")).result().expect("a value")).collect();
    assert!(pids[0] == pids[2] && pids[2] != pids[3] && pids[3] == pids[5] && pids[5] != pids[6], "{pids:?}");
    assert_eq!((pool.stats().started, pool.stats().recycled), (3, 2));
}

#[test]
#[cfg(target_os = "linux")]
fn a_worker_ends_when_it_has_grown_too_large() {
    let pool = workers::pool().max_processes(1).max_memory(200 << 20).build().expect("it can be built");
    let bus = bus(&pool, HandlerOptions::new());
    let pid = |what: &str, number| {
        let answer = bus.emit(Do { what: what.to_owned(), number }).result().expect("a value");
        assert!(!answer.is_empty());
        bus.emit(act("pid")).result().expect("a value")
    };
    let first = pid("echo", 1);
    assert_eq!(pid("leak", 10 << 20), first);
    assert_ne!(pid("leak", 300 << 20), first);
    assert_eq!(pool.stats().recycled, 1);
}

#[test]
fn sigterm_from_somebody_else_lets_the_event_end() {
    let pool = workers::pool().max_processes(1).build().expect("it can be built");
    let bus = bus(&pool, HandlerOptions::new().timeout(ms(60_000)));
    // Its handler sends the signal to its own process, and goes on.
    assert_eq!(bus.emit(act("terminate itself")).result().expect("a value"), "and went on");
    eventually(|| pool.stats().live == 0);
    assert_eq!(bus.emit(Do { what: "echo".to_owned(), number: 2 }).result().expect("a value"), "2");
    assert_eq!(pool.stats().started, 2);
}

#[test]
fn options_that_cannot_be_name_themselves() {
    let error = |builder: PoolBuilder| builder.build().map(drop).expect_err("it cannot be built").to_string();
    let pool = ProcessPool::builder;
    assert_eq!(error(pool().max_events(0)), "invalid max_events: 0, must be at least 1");
    assert_eq!(error(pool().max_memory(0)), "invalid max_memory: 0 bytes, must be at least 1");
    assert_eq!(error(pool().start_timeout(Duration::ZERO)), "invalid start_timeout: 0ns, must be more");
    assert_eq!(
        error(pool().min_processes(3).max_processes(2)),
        "invalid min_processes: 3, must be at most max_processes, 2"
    );
}
