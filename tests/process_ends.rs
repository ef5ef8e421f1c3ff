//! Ends of all kinds: BF-119 and what it means for commands, crash after crash, and what reaches the log meanwhile.
#![cfg(target_os = "linux")]

mod common;
mod workers;

use common::{done, eventually, parallel};
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use threadbus::HandlerFailure;
use threadbus::process::{Command, run_command};
use workers::{Do, act, failure, is_running, pool, with_command_line};

#[test]
fn worker_main() {
    workers::serve();
}

/// Set where this program is to be a parent that is killed.
const PARENT: &str = "THREADBUS_TEST_PARENT";

/// That parent: workers that are idle, busy, and busy with a command; commands that are meek and stubborn. Says so, and waits for its end.
#[test]
fn parent_main() {
    let Ok(mark) = std::env::var(PARENT) else { return };
    let bus = parallel("parallel");
    // A further filter, that fits no test, in the workers' command line.
    let pool = pool().args([&mark]).max_processes(3).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    bus.on(run_command);
    bus.emit(act("hang"));
    bus.emit(Do { what: "run".to_owned(), number: mark.parse().expect("a number") });
    eventually(|| pool.pids().len() == 2);
    done(&bus.emit(act("pid")));
    let sh = |script: String| Command::new("sh").args(["-c", &script]).kill_grace(Duration::from_millis(200));
    bus.emit(sh(format!("sleep {mark}; true")));
    bus.emit(sh(format!("trap '' TERM HUP; sleep {mark} & while :; do sleep 1; done")));
    // Shells and sleeps.
    eventually(|| with_command_line(&format!("sleep {mark}")).len() >= 5);
    // The test harness has begun a line.
    println!();
    for pid in pool.pids() {
        println!("worker {pid}");
    }
    println!("ready");
    std::io::stdout().flush().expect("somebody listens");
    if std::env::var_os("THREADBUS_TEST_ABORT").is_some() {
        std::process::abort();
    }
    std::thread::sleep(Duration::from_secs(60));
}

/// A parent program, ended at the latest with this; its workers; and by what its commands are known.
struct Parent {
    program: Child,
    workers: Vec<u32>,
    mark: String,
}

impl Drop for Parent {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn program(mark: &str) -> std::process::Command {
    let mut program = std::process::Command::new(std::env::current_exe().expect("it has one"));
    program.args(["parent_main", "--exact", "--nocapture", "--test-threads=1"]).env(PARENT, mark);
    program.stderr(Stdio::null());
    program
}

/// Seconds to sleep, and nobody else's.
fn mark(number: u32) -> String {
    format!("{number}{}", 1_000_000 + std::process::id())
}

fn parent(abort: bool) -> Parent {
    let mark = mark(u32::from(abort) + 1);
    let mut program = program(&mark);
    if abort {
        program.env("THREADBUS_TEST_ABORT", "1");
    }
    let mut program = program.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(program.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let mut workers = Vec::new();
    for line in lines.by_ref().take_while(|line| line != "ready") {
        workers.extend(line.strip_prefix("worker ").and_then(|pid| pid.parse::<u32>().ok()));
    }
    assert_eq!(workers.len(), 3);
    Parent { program, workers, mark }
}

fn nothing_is_left(Parent { workers, mark, .. }: &Parent) {
    let began = Instant::now();
    eventually(|| workers.iter().all(|pid| !is_running(*pid)) && with_command_line(mark).is_empty());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn bf_119_no_orphans_of_a_parent_that_is_killed() {
    let mut parent = parent(false);
    assert!(parent.workers.iter().all(|pid| is_running(*pid)));
    parent.program.kill().expect("it runs");
    parent.program.wait().expect("it ran");
    nothing_is_left(&parent);
}

#[test]
fn bf_119b_nor_of_one_that_crashes() {
    let mut parent = parent(true);
    parent.program.wait().expect("it ran");
    nothing_is_left(&parent);
}

/// Also while it starts them. `THREADBUS_ROUNDS` for more than four.
#[test]
fn bf_119c_nor_of_one_that_is_killed_at_any_moment() {
    let rounds = std::env::var("THREADBUS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4);
    for round in 0..rounds {
        let mark = mark(round + 10);
        let mut program = program(&mark).stdout(Stdio::null()).spawn().expect("it starts");
        // From before there is anything to after there is all.
        std::thread::sleep(Duration::from_millis(u64::from(round) * 37 % 170));
        program.kill().expect("it was not waited for");
        program.wait().expect("it ran");
        eventually(|| with_command_line(&mark).is_empty());
    }
}

#[test]
fn of_a_thousand_events_every_tenth_kills_its_process() {
    let bus = parallel("parallel");
    let pool = pool().max_processes(2).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    let all: Vec<_> = (0..1000).map(|number| bus.emit(Do { what: "abort at ten".to_owned(), number })).collect();
    for (number, event) in all.iter().enumerate() {
        let event = event.wait_timeout(Duration::from_secs(60)).expect("in time");
        match event.result() {
            Ok(square) => assert_eq!(square, (number * number).to_string()),
            Err(_) => {
                let why = failure(&event);
                assert!(matches!(&*why, HandlerFailure::Worker(why) if why.ends_with("signal 6 (SIGABRT)")), "{why}");
                assert_eq!(number % 10, 0);
            }
        }
        assert_eq!(event.errors().len(), usize::from(number % 10 == 0));
    }
    assert!(pool.stats().peak <= 2);
    assert!(pool.stats().started <= 102);
    assert!(pool.shutdown());
}

/// Keeps what is logged.
struct Kept(Mutex<Vec<(Level, String, String)>>);

static KEPT: Kept = Kept(Mutex::new(Vec::new()));

impl Log for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let entry = (record.level(), record.target().to_owned(), record.args().to_string());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    fn flush(&self) {}
}

fn logged(level: Level, target: &str, part: &str) -> bool {
    let kept = KEPT.0.lock().unwrap_or_else(PoisonError::into_inner);
    kept.iter().any(|(l, t, text)| *l == level && t == target && text.contains(part))
}

#[test]
fn what_workers_log_and_print_and_panic_with_is_in_the_log() {
    let bus = parallel("parallel");
    let pool = pool().max_processes(1).build().expect("it can be built");
    bus.on_process::<Do>(&pool);
    log::set_logger(&KEPT).expect("nobody else does");
    log::set_max_level(LevelFilter::Info);
    let pid = done(&bus.emit(act("pid"))).result().expect("a value");
    done(&bus.emit(Do { what: "log".to_owned(), number: 17 }));
    // Records come by the way of the answers, so they are there before them.
    assert!(logged(Level::Warn, "app::decode", &format!("worker {pid}: number 17 is odd")));
    done(&bus.emit(act("print lines")));
    done(&bus.emit(act("panic")));
    done(&bus.emit(act("print")));
    pool.shutdown();
    let from = |text: &str| format!("worker {pid}: {text}");
    // The test harness has begun that line.
    assert!(logged(Level::Info, "threadbus::worker", "to the output"));
    assert!(logged(Level::Warn, "threadbus::worker", &from("to the error output")));
    assert!(logged(Level::Warn, "threadbus::worker", "oh dear"));
    let kept = KEPT.0.lock().unwrap_or_else(PoisonError::into_inner);
    let printed: usize = kept.iter().map(|(_, _, text)| text.matches('x').count()).sum();
    assert!(printed >= 1 << 20, "{printed}");
}
