//! One row of telemetry, as text and back.

use std::io::{self, BufRead, Write};
use std::str::FromStr;

pub(crate) const HEADER: &str = "time_s,lap,distance_m,speed_kmh,throttle";

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) time_s: f64,
    pub(crate) lap: u32,
    pub(crate) distance_m: f64,
    pub(crate) speed_kmh: f64,
    pub(crate) throttle: f64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("line {line}: {reason}")]
    Malformed { line: usize, reason: String },
    #[error("line {line}: {error}")]
    Unreadable { line: usize, error: io::Error },
}

impl Row {
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Row { time_s, lap, distance_m, speed_kmh, throttle } = self;
        writeln!(out, "{time_s:.3},{lap},{distance_m:.2},{speed_kmh:.2},{throttle:.2}")
    }

    fn parse(text: &str) -> Result<Row, String> {
        let mut fields = text.split(',');
        let row = Row {
            time_s: field(&mut fields, "time_s")?,
            lap: field(&mut fields, "lap")?,
            distance_m: field(&mut fields, "distance_m")?,
            speed_kmh: field(&mut fields, "speed_kmh")?,
            throttle: field(&mut fields, "throttle")?,
        };
        match fields.next() {
            None => Ok(row),
            Some(more) => Err(format!("{more:?} is one field too many")),
        }
    }
}

fn field<'a, T: FromStr>(fields: &mut impl Iterator<Item = &'a str>, name: &str) -> Result<T, String> {
    let text = fields.next().ok_or_else(|| format!("{name} is missing"))?;
    text.trim().parse().map_err(|_| format!("{name}: {text:?} is no number"))
}

/// The rows of a file, one line in memory at a time.
pub(crate) struct Rows<R> {
    lines: std::iter::Enumerate<io::Lines<R>>,
}

impl<R: BufRead> Rows<R> {
    pub(crate) fn read(file: R) -> Self {
        Rows { lines: file.lines().enumerate() }
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (at, text) = self.lines.next()?;
            let line = at + 1;
            return Some(match text {
                Ok(text) if text.trim().is_empty() || line == 1 && text.trim() == HEADER => continue,
                Ok(text) => Row::parse(&text).map_err(|reason| RowError::Malformed { line, reason }),
                Err(error) => Err(RowError::Unreadable { line, error }),
            });
        }
    }
}
