//! Replays a race's telemetry through the bus, in real time or faster, and tells what everybody saw and lost.
//!
//! `cargo run --release --example telemetry` makes a race up and replays it at 2,400 rows a second. Other uses:
//!
//! ```text
//! telemetry generate FILE.csv [--laps N]
//! telemetry replay FILE.csv [--rate ROWS_PER_SECOND] [--record FILE.csv]
//! ```
//!
//! ```text
//!  replay ──► Frame ──► its handler sums a lap up, emits Lap ──► its handler compares, emits Standing ──► its handler keeps the last
//!               │
//!               ├──► display, lossy: shows twenty times a second what is newest; the bus drops what it has no time for
//!               └──► recorder, lossless: writes every frame; the replay waits for it, should it fall behind
//! ```
//!
//! - `race`: the three events and the handlers that chain them. Read this one first.
//! - `watchers`: the two subscriptions. `csv`: rows in and out. `generate`: a race that never was. `args`: the command line.
//!
//! Handlers are awaited by nobody here: the replay only emits. At the end the bus is drained, the subscriptions end with it, and every
//! number is final. Exit code 1: a file could not be read or written, or the recorder lost a frame; 2: bad arguments.
#![deny(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod args;
mod csv;
mod generate;
mod race;
mod watchers;

use args::{Command, Replay};
use csv::Rows;
use race::{Frame, Race};
use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use threadbus::{EventBus, OnLag, Shutdown};
use watchers::Seen;

const FAILED: u8 = 1;
const BAD_ARGUMENTS: u8 = 2;

fn main() -> ExitCode {
    env_logger::init();
    let ran = match args::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => writeln!(io::stdout(), "{}", args::USAGE).map_err(Box::from).map(|()| true),
        Ok(Command::Generate { file, laps }) => generate_file(&file, laps).map(|()| true),
        Ok(Command::Replay(replay)) => run(&replay),
        Ok(Command::Demo) => demo(),
        Err(error) => {
            let _ = writeln!(io::stderr(), "telemetry: {error}\n{}", args::USAGE);
            return ExitCode::from(BAD_ARGUMENTS);
        }
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            let _ = writeln!(io::stderr(), "telemetry: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn generate_file(file: &std::path::Path, laps: u32) -> Result<(), Box<dyn Error>> {
    let mut out = BufWriter::new(File::create(file).map_err(|error| format!("{}: {error}", file.display()))?);
    let rows = generate::write_race(&mut out, laps)?;
    out.flush()?;
    writeln!(io::stderr(), "{}: {rows} rows, {laps} laps", file.display())?;
    Ok(())
}

/// A race in a temporary file, replayed.
fn demo() -> Result<bool, Box<dyn Error>> {
    let file = std::env::temp_dir().join(format!("threadbus-telemetry-{}.csv", std::process::id()));
    generate_file(&file, 4)?;
    let ran = run(&Replay { file: file.clone(), rate: args::DEFAULT_RATE, record: None });
    std::fs::remove_file(file)?;
    ran
}

/// False if something was lost that must not be.
fn run(replay: &Replay) -> Result<bool, Box<dyn Error>> {
    let rows = File::open(&replay.file).map_err(|error| format!("{}: {error}", replay.file.display()))?;
    let record: Box<dyn Write + Send> = match &replay.record {
        Some(file) => Box::new(File::create(file).map_err(|error| format!("{}: {error}", file.display()))?),
        None => Box::new(io::sink()),
    };
    // Nobody looks back: what is done need not be kept.
    let bus = EventBus::builder("telemetry").max_history(Some(0)).build()?;
    let race = Race::attach(&bus);
    let display = watchers::display(bus.subscribe_bounded::<Frame>(32, OnLag::DropOldest));
    let recorder = watchers::recorder(bus.subscribe_bounded::<Frame>(1024, OnLag::Block), record);

    let start = Instant::now();
    let replayed = emit_all(&bus, Rows::read(BufReader::new(rows)), replay.rate);
    let took = start.elapsed();
    // Everything handled, then the subscriptions end, and with them their threads.
    bus.shutdown(Shutdown::Drain, Duration::from_secs(30));
    let (display, recorder) = (display.finish()?, recorder.finish()??);
    let emitted = replayed?;
    report(&race, emitted, took, &display, &recorder)?;
    Ok(recorder.frames == emitted)
}

/// Emits every row when it is due by the clock; one that is late does not make the next ones late.
fn emit_all(
    bus: &EventBus,
    rows: impl Iterator<Item = Result<csv::Row, csv::RowError>>,
    rate: f64,
) -> Result<u64, csv::RowError> {
    let start = Instant::now();
    let mut emitted = 0;
    for row in rows {
        let due = start + Duration::from_secs_f64(emitted as f64 / rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        bus.emit(Frame(row?));
        emitted += 1;
    }
    Ok(emitted)
}

fn report(race: &Race, emitted: u64, took: Duration, display: &Seen, recorder: &Seen) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let rate = emitted as f64 / took.as_secs_f64().max(1e-9);
    writeln!(out, "replayed  {emitted:>7} rows in {:.1} s, {rate:.0} a second", took.as_secs_f64())?;
    let counts = race.counts();
    writeln!(out, "handled   {:>7} frames, {} laps, {} standings", counts.frames, counts.laps, counts.standings)?;
    for (name, seen) in [("display", display), ("recorder", recorder)] {
        writeln!(out, "{name:<9} {:>7} frames seen, {} lost", seen.frames, seen.lost)?;
    }
    if let Some(standing) = race.standing() {
        writeln!(out, "best lap  {:>7} in {:.3} s, mean {:.3} s", standing.best_lap, standing.best_s, standing.mean_s)?;
    }
    out.flush()
}
