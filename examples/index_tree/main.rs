//! Indexes a directory tree through the bus: lines, words and bytes by file type, duplicates by content, failures by reason.
//!
//! `cargo run --release --example index_tree -- [--json] [DIR]`
//!
//! ```text
//!  walk ──► FileFound ──► its handler emits FileRead and waits ──► its handler reads, counts, hashes ──► FileStats
//!   ▲          │               (it runs at once, ahead of the queue)         │                               │
//!   │          └───────── both are forwarded to the audit bus, which counts events by type                   │
//!   └── 512 files in flight at most ◄── the oldest is waited for and its FileStats go into the index ◄───────┘
//! ```
//!
//! - `events`: the two events, what they return and how reading fails.
//! - `pipeline`: the two buses and their handlers. Read this one first.
//! - `read`: one file in chunks; large ones go to rayon from inside the handler, small ones are hashed in place.
//! - `text`: counts, and UTF-8 checked over chunk borders. `walk`: the tree, one directory open at a time.
//! - `index`: what was learnt. `report`: how it is shown. `progress`, `args`: the command line's two sides.
//!
//! A file that cannot be read, or is not UTF-8, is a failed handler and no more: the run goes on and shows the reason. Memory holds
//! the files in flight, and per indexed file its hash and its path. Symlinks are not followed (but DIR itself may be one); hard links
//! count as copies. Ctrl-C lets what is in flight finish and reports what was indexed (exit code 130); a second one ends at once.
#![deny(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod args;
mod events;
mod index;
mod pipeline;
mod progress;
mod read;
mod report;
mod text;
mod walk;

use args::{Command, Request};
use events::FileFound;
use index::Index;
use pipeline::Pipeline;
use progress::{Progress, ProgressLine};
use report::Report;
use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use threadbus::{Event, WaitError};
use walk::{Found, Walk};

/// The walker holds back at this many files that are emitted and not yet in the index.
const IN_FLIGHT: usize = 512;
const USAGE: &str = "usage: index_tree [--json] [DIR]";

const FAILED: u8 = 1;
const BAD_ARGUMENTS: u8 = 2;
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    env_logger::init();
    let request = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Index(request)) => request,
        Ok(Command::Help) => {
            return print(|out| writeln!(out, "{USAGE}")).map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS);
        }
        Err(error) => {
            complain(format_args!("{error}\n{USAGE}"));
            return ExitCode::from(BAD_ARGUMENTS);
        }
    };
    run(&request).unwrap_or_else(|error| fail(&*error))
}

fn run(request: &Request) -> Result<ExitCode, Box<dyn Error>> {
    let interrupted = watch_for_ctrl_c()?;
    let report = index_tree(request, &interrupted)?;
    print(|out| if request.json { report.write_json(out) } else { report.write_tables(out) })?;
    Ok(if report.interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Walks the tree, keeps a bounded window of events in flight, and folds their results into the index in the order of emission.
fn index_tree(request: &Request, interrupted: &AtomicBool) -> Result<Report, Box<dyn Error>> {
    let started = Instant::now();
    let progress = Arc::new(Progress::default());
    let pipeline = Pipeline::new(&progress)?;
    let mut line = ProgressLine::new(progress);
    let mut index = Index::default();
    let mut in_flight = VecDeque::with_capacity(IN_FLIGHT);
    for found in Walk::new(&request.dir) {
        line.show();
        match found {
            Found::File(path) => in_flight.push_back(pipeline.emit(path)),
            Found::Other => index.skip(),
            Found::Unlisted { path, error } => index.unlisted(&path, &error),
        }
        if in_flight.len() == IN_FLIGHT {
            in_flight.pop_front().into_iter().for_each(|oldest| collect(&oldest, &mut index, &mut line));
        }
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    in_flight.iter().for_each(|event| collect(event, &mut index, &mut line));
    line.finish();
    let events = pipeline.finish();
    Ok(Report::new(&request.dir, index, events, started.elapsed(), interrupted.load(Ordering::Relaxed)))
}

/// Waits for a file to be through, with an eye on the progress line, and takes its result.
fn collect(event: &Event<FileFound>, index: &mut Index, line: &mut ProgressLine) {
    line.show();
    while let Err(WaitError::Timeout(_)) = event.wait_timeout(progress::PERIOD) {
        line.show();
    }
    match event.result() {
        Ok(stats) => index.add(&event.path, &stats),
        Err(error) => index.fail(&event.path, &error),
    }
}

/// The flag that the first Ctrl-C (or `SIGTERM`) sets; the second does not wait for anything.
fn watch_for_ctrl_c() -> Result<Arc<AtomicBool>, ctrlc::Error> {
    let flag = Arc::new(AtomicBool::new(false));
    let interrupted = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        if interrupted.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    })?;
    Ok(flag)
}

/// Writes to stdout. That its reader has gone (`| head`) is no failure.
fn print(body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match body(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn fail(error: &dyn Error) -> ExitCode {
    complain(format_args!("{error}"));
    ExitCode::from(FAILED)
}

/// Writes to stderr. When even that is closed, there is nobody left to tell.
fn complain(message: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "index_tree: {message}");
}
