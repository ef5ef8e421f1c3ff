//! What a thing costs among few of its kind and among many: `cargo bench --bench growth`.
//!
//! Each row has a process of its own, which measures its points in turns; of several runs of a point the least counts. Where threads sleep,
//! a figure is processor time. What must hold is a ratio between points, so that a loaded machine does not break it, and a bound where one
//! is promised.
//!
//! - `--check`: exit code 1 if a row misses what must hold, naming each with its figures. A row that misses is measured again first, twice
//!   at most, since another program may have had the cores.
//! - `--only find,cancel`: the rows whose names begin so.

mod after;
mod cancel;
mod history;
mod lines;
mod measure;
mod row;
mod waits;

use row::Row;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// In the order of the table.
static ROWS: &[&[Row]] = &[waits::ROWS, lines::ROWS, cancel::ROWS, history::ROWS, after::ROWS];

/// The argument that makes this program measure one row and print its figures.
const ROW: &str = "--row";
/// How often a row that misses is measured.
const TRIES: usize = 3;
/// Longer than a row takes: one that hangs is missed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Arguments {
    check: bool,
    only: Vec<String>,
    /// Set in the processes that measure.
    row: Option<String>,
}

fn main() -> ExitCode {
    if std::env::args().len() == 1 {
        // From `cargo test --all-targets`; `cargo bench` gives at least `--bench`.
        eprintln!("a benchmark, no test: cargo bench --bench growth");
        return ExitCode::SUCCESS;
    }
    match arguments() {
        Ok(Arguments { row: Some(name), .. }) => measure(&name),
        Ok(arguments) => report(&arguments),
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

/// Measures one row in this process, and prints a figure a line.
fn measure(name: &str) -> ExitCode {
    let Some(row) = rows().find(|row| row.name == name) else { return ExitCode::from(2) };
    measure::end_after(PATIENCE);
    row.measure().iter().for_each(|figure| println!("{figure}"));
    ExitCode::SUCCESS
}

fn report(arguments: &Arguments) -> ExitCode {
    row::print_head();
    let mut missed = Vec::new();
    for row in rows().filter(|row| arguments.wants(row.name)) {
        let tries = if arguments.check { TRIES } else { 1 };
        let misses = (0..tries).map(|_| row.judge(&measured_apart(row.name))).take_while(Option::is_some).flatten();
        let misses: Vec<String> = misses.collect();
        if misses.len() == tries {
            missed.extend(misses.into_iter().next_back());
        }
    }
    if !arguments.check {
        return ExitCode::SUCCESS;
    }
    missed.iter().for_each(|miss| eprintln!("missed: {miss}"));
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A row's figures, measured by a process of this program. Fewer than it has points if that fails.
fn measured_apart(row: &str) -> Vec<f64> {
    let mut program = Command::new(std::env::current_exe().expect("the path of this program"));
    match program.args([ROW, row]).stderr(Stdio::inherit()).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.parse().ok()).collect()
        }
        other => {
            let end = other.map_or_else(|error| error.to_string(), |output| output.status.to_string());
            eprintln!("{row}: {end}");
            Vec::new()
        }
    }
}

fn rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().copied().flatten()
}

impl Arguments {
    fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| row.starts_with(only.as_str()))
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments { check: false, only: Vec::new(), row: None };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--bench" => {} // from cargo
            "--check" => parsed.check = true,
            "--only" => parsed.only = value()?.split(',').map(|name| name.trim().to_owned()).collect(),
            ROW => parsed.row = Some(value()?),
            other => return Err(format!("unknown: {other} (--check, --only find,cancel)")),
        }
    }
    if let Some(name) = parsed.only.iter().find(|only| !rows().any(|row| row.name.starts_with(only.as_str()))) {
        let all: Vec<_> = rows().map(|row| row.name).collect();
        return Err(format!("no row {name}; there are {}", all.join(", ")));
    }
    Ok(parsed)
}
