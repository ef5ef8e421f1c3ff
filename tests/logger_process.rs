//! The program's logger and worker processes: what they log and print comes by the log thread, so that their keepers keep their deadlines;
//! and of what a logger has emitted nothing is logged, there or here.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/logger.rs"]
mod logger;
mod workers;

use common::{Gate, PATIENCE, done, eventually, parallel, within};
use log::LevelFilter::{Debug, Info};
use logger::Logger;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use threadbus::{EventOptions, HandlerFailure, TreeStyle};
use workers::{Do, act, failure, pool};

#[test]
fn worker_main() {
    workers::serve();
}

/// A log panel in another process, which logs and prints itself.
#[test]
fn a_logger_that_emits_to_workers_that_log_is_heard_once_for_each() {
    within(6 * PATIENCE, || {
        let bus = parallel("parallel");
        let pool = pool().max_processes(2).build().expect("it can be built");
        bus.on_process::<Do>(&pool);
        let (to, count) = (bus.clone(), Arc::new(AtomicUsize::new(0)));
        let emitted = Arc::clone(&count);
        let log = Logger::new(Debug, move |_, _| {
            let which = emitted.fetch_add(1, SeqCst);
            to.emit(act(["log", "print lines", "panic", "log", "exit"][which % 5]));
        });
        // The harness of each worker prints as well, before it serves: before there is a request.
        for what in ["log", "print lines", "panic", "exit", "pid"] {
            // A process has to start for some of them, and for each that the logger ends.
            bus.emit(act(what)).wait_timeout(3 * PATIENCE).expect("it ends");
        }
        bus.wait_until_idle_timeout(2 * PATIENCE).expect("it ends");
        log.falls_silent();
        bus.wait_until_idle_timeout(2 * PATIENCE).expect("it ends");
        log.falls_silent();
        let heard = log.heard();
        assert!(heard.len() < 200, "{} records: {heard:#?}", heard.len());
        pool.shutdown();
    });
}

#[test]
fn while_a_logger_stands_still_workers_answer_and_are_ended_in_time() {
    within(4 * PATIENCE, || {
        let bus = parallel("parallel");
        let pool = pool().max_processes(2).kill_grace(Duration::from_millis(50)).build().expect("it can be built");
        bus.on_process::<Do>(&pool);
        done(&bus.emit(act("pid")));
        let (stands, goes_on) = (Gate::new(), Gate::new());
        let _opener = goes_on.opener();
        let (s, g) = (stands.clone(), goes_on.clone());
        let log = Logger::new(Info, move |_, _| {
            s.open();
            g.wait_for(2 * PATIENCE);
        });
        assert_eq!(done(&bus.emit(Do { what: "log".to_owned(), number: 17 })).result().expect("a value"), "logged");
        stands.wait();
        for _ in 0..3 {
            let began = Instant::now();
            done(&bus.emit(act("print"))).result().expect("a value");
            done(&bus.emit(act("print lines"))).result().expect("a value");
            assert!(began.elapsed() < PATIENCE / 5, "{:?}", began.elapsed());
        }
        // It ignores SIGTERM, so it is the keeper who ends it.
        let stubborn =
            bus.emit_with(act("ignore TERM"), EventOptions::new().handler_timeout(Duration::from_millis(300)));
        let stubborn = done(&stubborn);
        assert!(matches!(*failure(&stubborn), HandlerFailure::TimedOut { .. }));
        eventually(|| pool.stats().live <= 1);
        assert_eq!(done(&bus.emit(act("echo"))).result().expect("a value"), "0");
        assert_eq!(log.heard().len(), 1, "it still stands at the first");
        goes_on.open();
        log.says("to the error output");
        log.falls_silent();
        pool.shutdown();
    });
}

/// More than the queue takes: the keeper waits for a logger that is only slow.
#[test]
fn what_a_worker_prints_in_bulk_is_not_lost() {
    within(4 * PATIENCE, || {
        let bus = parallel("parallel");
        let pool = pool().max_processes(1).build().expect("it can be built");
        bus.on_process::<Do>(&pool);
        let log = Logger::new(Info, |_, _| std::thread::sleep(Duration::from_micros(50)));
        let pid = done(&bus.emit(act("pid"))).result().expect("a value");
        for _ in 0..4 {
            done(&bus.emit(act("print")));
        }
        pool.shutdown();
        let from = format!("worker {pid}: ");
        let printed: usize = log.naming(&from).iter().map(|text| text.matches('x').count()).sum();
        assert!(printed >= 4 << 20, "{printed}");
        assert_eq!(log.naming("records were dropped"), [""; 0]);
    });
}

#[test]
fn what_workers_say_stays_on_its_line() {
    within(4 * PATIENCE, || {
        let bus = parallel("parallel");
        let pool = pool().max_processes(1).build().expect("it can be built");
        bus.on_process::<Do>(&pool);
        let log = Logger::new(Info, |_, _| {});
        let event = done(&bus.emit(act("log anything")));
        assert_eq!(failure(&event).to_string(), "three\nfour\u{85}", "an error is what it is");
        assert_eq!(event.log_tree_with(&TreeStyle::new().width(1000)).trim_end_matches('\n').split('\n').count(), 2);
        log.says("one two [31m0");
        log.says("printed ]0;title  over it");
        let pid = done(&bus.emit(act("pid"))).result().expect("a value");
        assert_eq!(failure(&done(&bus.emit(act("unspeakable")))).to_string(), "its text panicked: on purpose");
        assert_eq!(done(&bus.emit(act("pid"))).result().expect("a value"), pid, "the worker lives on");
        pool.shutdown();
        for record in log.heard() {
            assert!(!record.chars().any(|c| c.is_control() || c == '\u{2028}' || c == '\u{202e}'), "{record:?}");
        }
    });
}
