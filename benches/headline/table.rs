//! The table: every figure with its floor and its target.

use crate::machine::Mode::{self, Apart, Free, Pinned};
use crate::measure::{Measured, Round, median, quantile};

/// One figure. The first word of its name is its group's.
struct Row {
    name: &'static str,
    what: &'static str,
    unit: Unit,
    /// What it must not exceed.
    targets: &'static [(Mode, f64)],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Of the floor.
    Floors,
    Kilobytes,
    Bytes,
    Milliseconds,
    Each,
}

const fn row(name: &'static str, what: &'static str, unit: Unit, targets: &'static [(Mode, f64)]) -> Row {
    Row { name, what, unit, targets }
}

const fn ratio(name: &'static str, what: &'static str, targets: &'static [(Mode, f64)]) -> Row {
    row(name, what, Unit::Floors, targets)
}

/// One in a thousand children: none is a child's, but some other thread of the process may have one.
const STRAY: f64 = 0.001;

/// S1 and S3 are gated where they repeat to a few percent. What has the same work on both sides, S8, too, but for the producers,
/// which meet only on several cores. S1b and S2 are about two threads on two cores, which is what `Free` is only if the scheduler likes.
const ROWS: &[Row] = &[
    ratio("S1", "50,000 events, then idle; per event", &[(Pinned, 3.5)]),
    ratio("S1b", "the same in batches of 512", &[(Apart, 1.75)]),
    ratio("S2", "emit().wait() from outside, median", &[(Apart, 0.3), (Pinned, 1.15)]),
    ratio("S2 p99", "the same, 99th percentile", &[(Apart, 3.0)]),
    ratio("S3", "child awaited inside a handler", &[(Pinned, 3.0)]),
    ratio("S4", "100 serial handlers; per event", &[(Free, 3.0)]),
    ratio("S4 waited", "the same, each event waited for", &[]),
    ratio("S5", "100 parallel handlers; per event", &[(Free, 5.0)]),
    ratio("S5 waited", "the same, each event waited for", &[]),
    ratio("S6", "100 parallel handlers of 5 ms, warm", &[(Free, 0.7)]),
    ratio("S7", "500 buses, 100 events each; per event", &[(Free, 1.2)]),
    row("S7 memory", "resident memory of an idle bus", Unit::Kilobytes, &[(Free, 20.0)]),
    ratio("S8 handlers", "S1 with 10,000 other handlers", &[(Pinned, 1.15)]),
    ratio("S8 history", "S1 with a history of 10,000", &[(Pinned, 1.15)]),
    ratio("S8 idle buses", "S1 with 500 idle buses", &[(Pinned, 1.15)]),
    ratio("S8 producers", "S1 with 8 producers", &[(Free, 1.5)]),
    row("S9", "live heap of a completed event", Unit::Bytes, &[(Free, 400.0)]),
    ratio("S10", "a handler for each event, two buses", &[(Free, 3.0)]),
    ratio("S10 waited", "the same, each event waited for", &[]),
    ratio("S11", "50,000 parallel handlers; per handler", &[(Free, 5.0)]),
    ratio("S12", "emit_now without timeouts; per event", &[(Free, 6.0)]),
    ratio("S12 manual", "emit and run_pending, one by one", &[(Free, 6.0)]),
    ratio("S12 frame", "the same, 1,000 events at a time", &[]),
    row("allocations S1", "allocations per event", Unit::Each, &[(Free, 1.1), (Pinned, 1.1)]),
    row("allocations S2", "the same, each waited for", Unit::Each, &[(Free, 1.1), (Pinned, 1.1)]),
    row("allocations boxed", "the same, with a result of 64 bytes", Unit::Each, &[(Free, 2.1), (Pinned, 2.1)]),
    row("allocations S3", "the same per awaited child", Unit::Each, &[(Free, 1.1), (Pinned, 1.1)]),
    row("switches S1", "voluntary context switches per event", Unit::Each, &[(Free, 0.05), (Pinned, 0.05)]),
    row("switches S2", "the same, each waited for", Unit::Each, &[(Free, 2.0), (Pinned, 2.0)]),
    row("switches boxed", "the same, with a result of 64 bytes", Unit::Each, &[(Free, 2.0), (Pinned, 2.0)]),
    row("switches S3", "the same per awaited child", Unit::Each, &[(Free, STRAY), (Pinned, STRAY)]),
    row("idle", "processor time of 10 idle buses in 10 s", Unit::Milliseconds, &[(Free, 10.0)]),
    row("idle switches", "voluntary context switches in that time", Unit::Each, &[]),
];

pub fn print_head() {
    println!(
        "{:<17} {:<39} {:<6} {:>8}  {:>15} {:>15} {:>10} {:>10}  target",
        "", "", "", "median", "quartiles", "min..max", "ns", "floor ns"
    );
}

/// Prints the figures that were measured together, of `group` or of all groups; returns those that miss their target.
pub fn print(group: &str, mode: Mode, measured: &Measured) -> Vec<String> {
    let rows = ROWS.iter().filter(|row| row.name.split(' ').next() == Some(group));
    rows.filter_map(|row| print_row(row, mode, measured.get(row.name).map_or(&[][..], Vec::as_slice))).collect()
}

fn print_row(row: &Row, mode: Mode, rounds: &[Round]) -> Option<String> {
    let Row { name, what, unit, targets } = row;
    let target = targets.iter().find(|(gated, _)| *gated == mode).map(|(_, most)| *most);
    if rounds.is_empty() {
        println!("{name:<17} {what:<39} {:<6} not measured", mode.name());
        return Some(format!("{name} ({}): not measured", mode.name()));
    }
    let values: Vec<f64> = rounds.iter().map(|(ours, floor)| ours / floor).collect();
    let value = median(&values);
    let spread = |from: f64, to: f64| match rounds.len() {
        1 => String::new(),
        _ => format!("{:.2}..{:.2}", quantile(&values, from), quantile(&values, to)),
    };
    let side = |side: fn(&Round) -> f64| match unit {
        Unit::Floors => format!("{:.0}", median(&rounds.iter().map(side).collect::<Vec<_>>())),
        _ => String::new(),
    };
    let missed = target.filter(|most| value > *most);
    let verdict = match (target, missed) {
        (None, _) => String::new(),
        (Some(most), None) => format!("<= {most}"),
        (Some(most), Some(_)) => format!("<= {most} MISSED"),
    };
    println!(
        "{name:<17} {what:<39} {:<6} {:>8}  {:>15} {:>15} {:>10} {:>10}  {verdict}",
        mode.name(),
        format!("{value:.2}{}", unit.sign()),
        spread(0.25, 0.75),
        spread(0.0, 1.0),
        side(|round| round.0),
        side(|round| round.1),
    );
    missed.map(|most| format!("{name} ({}): {value:.3}{}, target {most}", mode.name(), unit.sign()))
}

impl Unit {
    fn sign(self) -> &'static str {
        match self {
            Unit::Floors | Unit::Each => "",
            Unit::Kilobytes => " kB",
            Unit::Bytes => " B",
            Unit::Milliseconds => " ms",
        }
    }
}
