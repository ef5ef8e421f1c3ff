//! Rounds in turns with a floor, their way between processes, and what is made of them.

use crate::machine::Mode;
use std::collections::BTreeMap;
use std::time::Instant;

/// One round: nanoseconds (or another unit) per event of ours, and of the floor.
pub type Round = (f64, f64);
/// The rounds of each figure of a group.
pub type Measured = BTreeMap<String, Vec<Round>>;

pub struct Rounds {
    pub count: usize,
    pub mode: Mode,
}

impl Rounds {
    /// Measures both sides in turns, each first in every other round, after one round that does not count.
    pub fn in_turns(&self, figure: &str, mut ours: impl FnMut() -> f64, mut floor: impl FnMut() -> f64) {
        floor();
        ours();
        for round in 0..self.count {
            if round % 2 == 0 {
                let floor = floor();
                print_round(figure, (ours(), floor));
            } else {
                let ours = ours();
                print_round(figure, (ours, floor()));
            }
        }
    }
}

pub fn print_round(figure: &str, (ours, floor): Round) {
    println!("{figure}\t{ours}\t{floor}");
}

/// A figure that needs no floor.
pub fn print_value(figure: &str, value: f64) {
    print_round(figure, (value, 1.0));
}

pub fn parse(output: &str) -> Measured {
    let mut measured = Measured::new();
    for line in output.lines() {
        let mut parts = line.split('\t');
        let (Some(figure), Some(ours), Some(floor)) = (parts.next(), parts.next(), parts.next()) else { continue };
        if let (Ok(ours), Ok(floor)) = (ours.parse(), floor.parse()) {
            measured.entry(figure.to_owned()).or_default().push((ours, floor));
        }
    }
    measured
}

/// Nanoseconds that `body` takes for each of `count` things.
pub fn nanos_each(count: usize, body: impl FnOnce()) -> f64 {
    let start = Instant::now();
    body();
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Of values in any order: the one that `part` (0 to 1) of them do not exceed.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((part * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
}

/// The median of short pieces of a round, for what runs without a break: a piece in which another process had the core does not count.
pub fn median_piece(pieces: usize, piece: impl FnMut() -> f64) -> f64 {
    median(&std::iter::repeat_with(piece).take(pieces).collect::<Vec<_>>())
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}
