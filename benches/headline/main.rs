//! What an event costs, as ratios to what one would write by hand: `cargo bench --bench headline`.
//!
//! Every floor is measured in the same process, in turns with the thing it is the floor of, so that the state of the machine cancels out.
//! Every group of figures has a process of its own: it inherits no warm pool, no fragmented heap and no leftover thread from the
//! one before, and can be pinned to one core before its first thread is made.
//!
//! - `--check`: exit code 1 if a target is missed, naming each one.
//! - `--only S1,S3`: only these. `allocations` and `switches` are the figures of `benches/gates.rs`.
//! - `--rounds N`: rounds of each figure (default 11; a figure to be quoted needs 9).
//! - `--idle`: processor time of ten idle buses over ten seconds, instead of the table.
//! - `--flat`: cost and memory from 1,000 to 10,000,000 events as CSV, for `benches/plot.py`, instead of the table.

mod crowd;
mod duration;
mod fan;
mod floor;
mod inline;
mod machine;
mod measure;
mod nested;
mod process;
mod round_trip;
mod stream;
mod table;

use machine::Mode::{self, Apart, Free, Pinned};
use measure::{Measured, Rounds};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

/// Figures that are measured together.
struct Group {
    name: &'static str,
    modes: &'static [Mode],
    by: By,
}

enum By {
    /// A process of this program.
    Timing(fn(&Rounds)),
    /// `benches/gates.rs`, once for all such groups.
    Counting,
}
use By::{Counting, Timing};

const fn group(name: &'static str, modes: &'static [Mode], by: By) -> Group {
    Group { name, modes, by }
}

static GROUPS: &[Group] = &[
    group("S1", &[Pinned, Free], Timing(stream::one_by_one)),
    group("S1b", &[Pinned, Apart, Free], Timing(stream::in_batches)),
    group("S2", &[Pinned, Apart, Free], Timing(round_trip::emit_and_wait)),
    group("S3", &[Pinned, Free], Timing(nested::children)),
    group("S4", &[Pinned, Free], Timing(fan::serial)),
    group("S5", &[Pinned, Free], Timing(fan::parallel)),
    group("S6", &[Free], Timing(fan::sleeping)),
    group("S7", &[Free], Timing(crowd::short_lived)),
    group("S8", &[Pinned, Free], Timing(crowd::in_company)),
    group("S9", &[Free], Counting),
    group("S10", &[Pinned, Free], Timing(crowd::handler_each)),
    group("S11", &[Free], Timing(fan::many_handlers)),
    group("S12", &[Pinned, Free], Timing(inline::emit_now)),
    group("allocations", &[Pinned, Free], Counting),
    group("switches", &[Pinned, Free], Counting),
];

/// Instead of the table.
static IDLE: Group = group("idle", &[Free], Timing(duration::idle));
static FLAT: Group = group("flat", &[Pinned], Timing(duration::flat));

/// Longer than any group takes: a bus that hangs is a missed target, not a benchmark that hangs.
const PATIENCE: Duration = Duration::from_secs(240);

struct Arguments {
    check: bool,
    only: Vec<String>,
    rounds: usize,
    /// `idle` or `flat`.
    instead: Option<&'static Group>,
    /// Set in the processes that measure.
    measure: Option<(String, Mode)>,
}

fn main() -> ExitCode {
    if std::env::args().len() == 1 {
        // From `cargo test --all-targets`; `cargo bench` gives at least `--bench`.
        eprintln!("a benchmark, no test: cargo bench --bench headline");
        return ExitCode::SUCCESS;
    }
    match arguments() {
        Ok(Arguments { measure: Some((name, mode)), rounds, .. }) => measure(&name, &Rounds { count: rounds, mode }),
        Ok(arguments) => report(&arguments),
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

/// Measures one group in this process, and prints its rounds.
fn measure(name: &str, rounds: &Rounds) -> ExitCode {
    let group = GROUPS.iter().chain([&IDLE, &FLAT]).find(|group| group.name == name);
    let Some(Group { by: Timing(measure), .. }) = group else { return ExitCode::from(2) };
    process::end_after(PATIENCE);
    machine::enter(rounds.mode);
    measure(rounds);
    ExitCode::SUCCESS
}

fn report(arguments: &Arguments) -> ExitCode {
    if let Some(flat) = arguments.instead.filter(|group| group.name == FLAT.name) {
        return measure(flat.name, &Rounds { count: arguments.rounds, mode: flat.modes[0] });
    }
    let all = arguments.instead.map_or(GROUPS, std::slice::from_ref);
    let mut counted: BTreeMap<&str, Measured> = BTreeMap::new();
    let mut missed = Vec::new();
    table::print_head();
    for group in all.iter().filter(|group| arguments.wants(group.name)) {
        for mode in group.modes.iter().filter(|mode| **mode != Apart || machine::has_two_cores()) {
            let timed;
            let measured = match group.by {
                Timing(_) => {
                    timed = process::measure_timing(group.name, *mode, arguments.rounds);
                    &timed
                }
                Counting => counted.entry(mode.name()).or_insert_with(|| process::measure_counting(*mode)),
            };
            missed.extend(table::print(group.name, *mode, measured));
        }
    }
    if !arguments.check {
        return ExitCode::SUCCESS;
    }
    missed.iter().for_each(|miss| eprintln!("missed: {miss}"));
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Arguments {
    fn wants(&self, group: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name.eq_ignore_ascii_case(group))
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments { check: false, only: Vec::new(), rounds: 11, instead: None, measure: None };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--bench" => {} // from cargo
            "--check" => parsed.check = true,
            "--idle" => parsed.instead = Some(&IDLE),
            "--flat" => parsed.instead = Some(&FLAT),
            "--only" => parsed.only = value()?.split(',').map(|name| name.trim().to_owned()).collect(),
            "--rounds" => {
                parsed.rounds = value()?.parse().ok().filter(|n| *n > 0).ok_or("--rounds needs a number from 1 on")?;
            }
            process::GROUP => {
                let name = value()?;
                parsed.measure = Some((name, Mode::named(&value()?).ok_or("no such mode")?));
            }
            other => return Err(format!("unknown: {other} (--check, --only S1,S3, --rounds N, --idle, --flat)")),
        }
    }
    let known = |name: &String| GROUPS.iter().any(|group| group.name.eq_ignore_ascii_case(name));
    if let Some(name) = parsed.only.iter().find(|name| !known(name)) {
        let all: Vec<_> = GROUPS.iter().map(|group| group.name).collect();
        return Err(format!("no figure {name}; there are {}", all.join(", ")));
    }
    Ok(parsed)
}
