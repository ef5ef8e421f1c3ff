//! What the tests of worker processes share: the events, what workers do with them, and a look at the system's processes.
//!
//! The worker program is the test program itself: a pool starts it with the name of the one test that is none, but the worker's `main`.
#![allow(dead_code, reason = "every test file uses its own part of this module")]

pub mod commands;
pub mod dir;

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use threadbus::process::{self, PoolBuilder, ProcessPool};
use threadbus::{Event, HandlerContext, HandlerError, HandlerFailure, Payload, ResultError, Retry, event};

/// What a worker is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Do {
    pub what: String,
    pub number: u64,
}
event!(Do => String);

pub fn act(what: &str) -> Do {
    Do { what: what.to_owned(), number: 0 }
}

/// No worker has a handler for it.
#[derive(Serialize, Deserialize)]
pub struct Unknown {}
event!(Unknown);

/// Cannot be JSON.
pub struct Opaque;
impl Payload for Opaque {
    type Output = ();
}

/// Its output cannot be JSON, since a key of a JSON object is text; a worker can answer it all the same.
#[derive(Serialize, Deserialize)]
pub struct OddOutput {}
event!(OddOutput => HashMap<Vec<u8>, u8>);

/// Of a type with options of its own. Its output: how often it was asked for.
#[derive(Serialize, Deserialize)]
pub struct Stubborn {
    pub fail: bool,
}
event!(Stubborn => u32, handler_timeout = Duration::from_millis(1), retry = Retry::attempts(3));

/// Written in a way that cannot be read (a 7), or not at all (an 8).
#[derive(Clone, Serialize, Deserialize)]
pub struct Cell {
    #[serde(serialize_with = "crooked")]
    pub n: u8,
}

fn crooked<S: serde::Serializer>(n: &u8, to: S) -> Result<S::Ok, S::Error> {
    match n {
        7 => to.serialize_str("seven"),
        8 => Err(serde::ser::Error::custom("no eights")),
        _ => to.serialize_u8(*n),
    }
}

/// Its output: two cells, the second as asked for.
#[derive(Clone, Serialize, Deserialize)]
pub struct Table {
    pub cells: Vec<Cell>,
    pub returns: u8,
}
event!(Table => Vec<Cell>);

/// An error whose text cannot be had.
#[derive(Debug)]
struct Unspeakable;
impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("on purpose")
    }
}
impl std::error::Error for Unspeakable {}

fn table(table: &Event<Table>) -> Vec<Cell> {
    vec![Cell { n: 0 }, Cell { n: table.returns }]
}

fn stubborn(event: &Event<Stubborn>) -> Result<u32, &'static str> {
    let asked = TOUCHED.fetch_add(1, Ordering::SeqCst) + 1;
    // Longer than its type allows.
    std::thread::sleep(Duration::from_millis(20));
    if event.fail { Err("once more") } else { Ok(asked) }
}

/// Asked for by `Do`'s handler.
#[derive(Serialize, Deserialize)]
pub struct Inner {}
event!(Inner => u32);

/// Handled, but without a value.
#[derive(Serialize, Deserialize)]
pub struct Silent {}
event!(Silent => u32);

pub static TOUCHED: AtomicU32 = AtomicU32::new(0);

/// A pool of this program as its own worker.
pub fn pool() -> PoolBuilder {
    ProcessPool::builder().args(["worker_main", "--exact", "--nocapture", "--test-threads=1"])
}

/// Returns at once, but in a worker.
pub fn serve() {
    process::serve(|worker| {
        worker
            .on(handle)
            .on(stubborn)
            .on(table)
            .on(|_: &Event<Inner>| 7)
            .on(|_: &Event<Silent>| None::<u32>)
            .on(|_: &Event<OddOutput>| HashMap::from([(vec![1], 1)]));
    });
}

fn handle(event: &Event<Do>) -> Result<String, HandlerError> {
    let Do { what, number } = event.payload();
    Ok(match what.as_str() {
        "pid" => std::process::id().to_string(),
        "touch" => TOUCHED.fetch_add(1, Ordering::SeqCst).to_string(),
        "echo" => number.to_string(),
        "fail" => Err("boom")?,
        "fail for good" => Err(HandlerError::permanent("boom"))?,
        "panic" => panic!("oh dear"),
        "abort" => std::process::abort(),
        "kill" => {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
            "it survived".to_owned()
        }
        "exit" => std::process::exit(3),
        "hang" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        // A process of its own, by which everybody sees that it has begun.
        "hang with a child" => Command::new("sleep").arg("300").status()?.to_string(),
        // A shell in the worker's place does what std cannot without `unsafe`: it ignores SIGTERM.
        "ignore TERM" => {
            let shell = "trap '' TERM; while :; do sleep 1; done";
            std::process::Command::new("sh").args(["-c", shell]).status()?.to_string()
        }
        "nap" => {
            std::thread::sleep(Duration::from_millis(*number));
            "slept".to_owned()
        }
        "leak" => {
            let leaked = vec![1_u8; usize::try_from(*number)?].leak();
            leaked.len().to_string()
        }
        "terminate itself" => {
            let signal = rustix::process::Signal::TERM;
            rustix::process::kill_process(rustix::process::getpid(), signal)?;
            // Longer than the signal takes.
            std::thread::sleep(Duration::from_millis(100));
            "and went on".to_owned()
        }
        "background" => {
            let mut left_behind = Command::new("sleep");
            left_behind.arg("300").spawn()?.id().to_string()
        }
        "abort at ten" if number % 10 == 0 => std::process::abort(),
        "abort at ten" => (number * number).to_string(),
        "print" => {
            // Longer than any pipe, and without a line's end.
            print!("{}", "x".repeat(1 << 20));
            "printed".to_owned()
        }
        "print lines" => {
            println!("to the output");
            eprintln!("to the error output");
            "printed".to_owned()
        }
        "log" => {
            log::warn!(target: "app::decode", "number {number} is odd");
            "logged".to_owned()
        }
        "log anything" => {
            log::warn!(target: "app::a\nforged", "one\ntwo\u{1b}[31m{number}\u{202e}");
            println!("printed\u{1b}]0;title\u{7}\rover\u{2028}it");
            return Err("three\nfour\u{85}".into());
        }
        "unspeakable" => return Err(Unspeakable.into()),
        "large" => "x".repeat(usize::try_from(*number)?),
        "variable" => std::env::var("THREADBUS_OF_THE_POOL")?,
        "stdin" => std::io::read_to_string(std::io::stdin())?,
        "ask" => event.bus().emit(Inner {}).result()?.to_string(),
        "identity" => {
            let parent = event.parent_id().map(|id| id.to_string()).unwrap_or_default();
            let context = HandlerContext::current().ok_or("outside of a handler")?;
            let deadline = context.deadline().is_some();
            format!("{} {parent} {} {:?} {deadline}", event.id(), event.correlation_id(), event.path())
        }
        "run" => {
            let output = process::Command::new("sleep").arg(number.to_string()).run()?;
            format!("{:?}", output.code)
        }
        "niceness" => rustix::process::getpriority_process(None)?.to_string(),
        "grandchild" => {
            // Another program of this crate: it has the variable of the environment, and yet is no worker.
            let mut program = Command::new(std::env::current_exe()?);
            let output = program.args(["worker_main", "--exact", "--test-threads=1"]).output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.contains("1 passed").to_string()
        }
        other => Err(format!("{other}?"))?,
    })
}

/// The failure of the one handler of an event.
pub fn failure<P: Payload>(event: &Event<P>) -> std::sync::Arc<HandlerFailure>
where
    P::Output: std::fmt::Debug,
{
    match event.result() {
        Err(ResultError::Handler { failure, .. }) => failure,
        other => panic!("no failure: {other:?}"),
    }
}

/// Whether there is such a process, be it a zombie.
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether the process runs: a zombie that nobody has reaped yet does not.
pub fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _, _)| state != 'Z' && state != 'X')
}

/// Processes of this group that run.
pub fn group_members(group: u32) -> Vec<u32> {
    processes().into_iter().filter(|pid| stat(*pid).is_some_and(|(state, _, of)| of == group && state != 'Z')).collect()
}

/// Those that run with such a command line.
pub fn with_command_line(part: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(part)
    };
    processes().into_iter().filter(|pid| is_running(*pid) && has(pid)).collect()
}

/// Our children that nobody has reaped.
pub fn zombies() -> Vec<u32> {
    let of_ours = |pid: &u32| stat(*pid).is_some_and(|(state, parent, _)| state == 'Z' && parent == std::process::id());
    processes().into_iter().filter(of_ours).collect()
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("a Linux system");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// State, parent, group.
fn stat(pid: u32) -> Option<(char, u32, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may be anything.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The number that a command has written into this file, once it is there.
pub fn number_in(path: &Path) -> u32 {
    let mut number = None;
    crate::common::eventually(|| {
        number = std::fs::read_to_string(path).ok().and_then(|text| text.strip_suffix('\n')?.parse().ok());
        number.is_some()
    });
    number.expect("it is there")
}
