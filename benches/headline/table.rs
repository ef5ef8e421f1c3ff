//! The table: every figure with its floor and its target.

use crate::machine::Mode;
use crate::measure::{Measured, Round, median, quantile};

/// One line of the table.
struct Row {
    figure: &'static str,
    what: &'static str,
    /// What it must not exceed.
    targets: &'static [(Mode, f64)],
}

const fn ratio(figure: &'static str, what: &'static str, targets: &'static [(Mode, f64)]) -> Row {
    Row { figure, what, targets }
}

use Mode::{Free, Pinned};

const ROWS: &[Row] = &[
    ratio("S1", "50,000 events, then idle; per event", &[(Pinned, 3.5)]),
    ratio("S1b", "the same in batches of 512", &[(Free, 1.75)]),
    ratio("S2", "emit().wait() from outside, median", &[(Free, 0.3), (Pinned, 1.15)]),
    ratio("S2 p99", "the same, 99th percentile", &[(Free, 3.0)]),
    ratio("S3", "child awaited inside a handler", &[(Pinned, 3.0)]),
    ratio("S4", "100 serial handlers; per event", &[(Free, 3.0)]),
    ratio("S4 waited", "the same, each event waited for", &[]),
];

pub fn print_head() {
    println!(
        "{:<10} {:<38} {:<6}  {:>7}  {:>15} {:>15}  {:>9} {:>9}  target",
        "", "", "", "ratio", "quartiles", "min..max", "ns", "floor ns"
    );
}

/// Prints the lines of a group; returns those that miss their target.
pub fn print_group(group: &str, mode: Mode, measured: &Measured) -> Vec<String> {
    let rows = ROWS.iter().filter(|row| row.figure.split(' ').next() == Some(group));
    rows.filter_map(|row| print_row(row, mode, measured.get(row.figure).map_or(&[][..], Vec::as_slice))).collect()
}

fn print_row(row: &Row, mode: Mode, rounds: &[Round]) -> Option<String> {
    let target = row.targets.iter().find(|(gated, _)| *gated == mode).map(|(_, most)| *most);
    let name = format!("{} ({})", row.figure, mode.name());
    if rounds.is_empty() {
        println!("{:<10} {:<38} {:<6}  not measured", row.figure, row.what, mode.name());
        return Some(format!("{name}: not measured"));
    }
    let values: Vec<f64> = rounds.iter().map(|(ours, floor)| ours / floor).collect();
    let value = median(&values);
    let spread = |from: f64, to: f64| format!("{:.2}..{:.2}", quantile(&values, from), quantile(&values, to));
    let side = |side: fn(&Round) -> f64| median(&rounds.iter().map(side).collect::<Vec<_>>());
    let missed = target.filter(|most| value > *most);
    let verdict = match (target, missed) {
        (None, _) => String::new(),
        (Some(most), None) => format!("<= {most}"),
        (Some(most), Some(_)) => format!("<= {most} MISSED"),
    };
    println!(
        "{:<10} {:<38} {:<6}  {value:>7.2}  {:>15} {:>15}  {:>9.0} {:>9.0}  {verdict}",
        row.figure,
        row.what,
        mode.name(),
        spread(0.25, 0.75),
        spread(0.0, 1.0),
        side(|round| round.0),
        side(|round| round.1),
    );
    missed.map(|most| format!("{name}: {value:.2}, target {most}"))
}
