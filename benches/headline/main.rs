//! What an event costs, as ratios to what one would write by hand: `cargo bench --bench headline`.
//!
//! Every floor is measured in the same process, in turns with the thing it is the floor of, so that the state of the
//! machine cancels out. Every group of figures has a process of its own: it inherits no warm pool, no fragmented heap and no leftover
//! thread from the one before, and can be pinned to one core before its first thread is made.
//!
//! - `--check`: exit code 1 if a target is missed, naming each one.
//! - `--only S1,S3`: only these.
//! - `--rounds N`: rounds of each figure (default 11, at least 1; a published figure needs 9).
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark"
)]

mod fan;
mod floor;
mod machine;
mod measure;
mod nested;
mod round_trip;
mod stream;
mod table;

use machine::Mode;
use measure::Rounds;
use std::process::ExitCode;
use std::time::Duration;

/// Figures that are measured in one process.
struct Group {
    name: &'static str,
    modes: &'static [Mode],
    measure: fn(&Rounds),
}

const GROUPS: &[Group] = &[
    Group { name: "S1", modes: &[Mode::Pinned, Mode::Free], measure: stream::one_by_one },
    Group { name: "S1b", modes: &[Mode::Pinned, Mode::Free], measure: stream::in_batches },
    Group { name: "S2", modes: &[Mode::Pinned, Mode::Free], measure: round_trip::emit_and_wait },
    Group { name: "S3", modes: &[Mode::Pinned, Mode::Free], measure: nested::children },
    Group { name: "S4", modes: &[Mode::Pinned, Mode::Free], measure: fan::serial },
];

/// Longer than any group takes: a bus that hangs is a missed target, not a benchmark that hangs.
const PATIENCE: Duration = Duration::from_secs(180);

struct Arguments {
    check: bool,
    only: Vec<String>,
    rounds: usize,
    /// Set in the processes that measure.
    group: Option<(String, Mode)>,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let rounds = Rounds { count: arguments.rounds };
    if let Some((name, mode)) = &arguments.group {
        let group = GROUPS.iter().find(|group| group.name == name).expect("a group of ours");
        machine::end_after(PATIENCE);
        machine::enter(*mode);
        (group.measure)(&rounds);
        return ExitCode::SUCCESS;
    }

    table::print_head();
    let mut missed = Vec::new();
    for group in GROUPS.iter().filter(|group| arguments.wants(group.name)) {
        for mode in group.modes {
            let measured = machine::measure_apart(group.name, *mode, rounds.count);
            missed.extend(table::print_group(group.name, *mode, &measured));
        }
    }
    if !arguments.check {
        return ExitCode::SUCCESS;
    }
    for miss in &missed {
        eprintln!("missed: {miss}");
    }
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Arguments {
    fn wants(&self, group: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name.eq_ignore_ascii_case(group))
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments { check: false, only: Vec::new(), rounds: 11, group: None };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--bench" => {} // from cargo
            "--check" => parsed.check = true,
            "--only" => parsed.only = value()?.split(',').map(|name| name.trim().to_owned()).collect(),
            "--rounds" => {
                parsed.rounds = value()?.parse().ok().filter(|n| *n > 0).ok_or("--rounds needs a number from 1 on")?;
            }
            machine::GROUP => {
                let name = value()?;
                parsed.group = Some((name, Mode::named(&value()?).ok_or("pinned or free")?));
            }
            other => return Err(format!("unknown: {other} (--check, --only S1,S3, --rounds N)")),
        }
    }
    for name in &parsed.only {
        if !GROUPS.iter().any(|group| group.name.eq_ignore_ascii_case(name)) {
            let known: Vec<_> = GROUPS.iter().map(|group| group.name).collect();
            return Err(format!("no figure {name}; there are {}", known.join(", ")));
        }
    }
    Ok(parsed)
}
