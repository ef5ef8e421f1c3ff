//! A race that never was: the same every time, and every lap a little different.

use crate::csv::{HEADER, Row};
use std::f64::consts::TAU;
use std::io::{self, Write};

const ROWS_PER_SECOND: f64 = 60.0;
const LAP_M: f64 = 4300.0;

/// Writes the header and all rows; returns how many there are.
pub(crate) fn write_race(out: &mut impl Write, laps: u32) -> io::Result<u64> {
    writeln!(out, "{HEADER}")?;
    let (mut rows, mut time_s) = (0, 0.0);
    for lap in 1..=laps {
        let mut distance_m = 0.0;
        while distance_m < LAP_M {
            let (speed_kmh, throttle) = drive(distance_m / LAP_M, lap);
            Row { time_s, lap, distance_m, speed_kmh, throttle }.write(out)?;
            time_s += 1.0 / ROWS_PER_SECOND;
            distance_m += speed_kmh / 3.6 / ROWS_PER_SECOND;
            rows += 1;
        }
    }
    Ok(rows)
}

/// Seven corners a lap, and a driver who needs three laps to warm up.
fn drive(around: f64, lap: u32) -> (f64, f64) {
    let corner = (around * 7.0 * TAU).sin();
    let warm = 1.0 - 0.05 / f64::from(lap) + 0.01 * (f64::from(lap) * 2.4).sin();
    ((195.0 + 95.0 * corner) * warm, (corner + 1.0) / 2.0)
}
