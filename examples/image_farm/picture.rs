//! The Mandelbrot set: how long each point stays near, and a picture of that.

use std::io::{self, Write};
use std::ops::Range;

/// Points that have not escaped after this count as inside.
const PATIENCE: u16 = 1000;

/// A square of counts, row by row.
pub(crate) struct Picture {
    size: usize,
    counts: Vec<u16>,
}

impl Picture {
    pub(crate) fn new(size: usize) -> Self {
        Picture { size, counts: vec![0; size * size] }
    }

    /// All of it in this process.
    pub(crate) fn drawn_here(size: usize) -> Self {
        Picture { size, counts: rows(size, 0..size) }
    }

    /// Puts rows in, from this one on.
    pub(crate) fn set_rows(&mut self, first: usize, counts: &[u16]) {
        let start = first * self.size;
        if let Some(place) = self.counts.get_mut(start..start + counts.len()) {
            place.copy_from_slice(counts);
        }
    }

    pub(crate) fn differences(&self, other: &Picture) -> usize {
        self.counts.iter().zip(&other.counts).filter(|(a, b)| a != b).count()
    }

    /// As a portable pixmap.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "P6 {} {} 255", self.size, self.size)?;
        for count in &self.counts {
            out.write_all(&colour(*count))?;
        }
        Ok(())
    }
}

/// The counts of these rows of a square picture.
pub(crate) fn rows(size: usize, rows: Range<usize>) -> Vec<u16> {
    let scale = 2.6 / size as f64;
    let point = |column: usize, row: usize| (column as f64 * scale - 1.95, row as f64 * scale - 1.3);
    rows.flat_map(|row| (0..size).map(move |column| point(column, row))).map(|(x, y)| count(x, y)).collect()
}

fn count(x: f64, y: f64) -> u16 {
    let (mut a, mut b, mut steps) = (0.0, 0.0, 0);
    while a * a + b * b <= 4.0 && steps < PATIENCE {
        (a, b) = (a * a - b * b + x, 2.0 * a * b + y);
        steps += 1;
    }
    steps
}

/// Dark inside; outside the brighter the nearer.
fn colour(count: u16) -> [u8; 3] {
    if count >= PATIENCE {
        return [0, 0, 0];
    }
    let near = (f64::from(count).ln_1p() / f64::from(PATIENCE).ln_1p()).clamp(0.0, 1.0);
    [near * near * 255.0, near.sqrt() * 200.0, (1.0 - near) * 160.0 + 60.0].map(|part| part as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole() {
        let mut picture = Picture::new(30);
        for first in (0..30).step_by(7) {
            picture.set_rows(first, &rows(30, first..(first + 7).min(30)));
        }
        assert_eq!(picture.differences(&Picture::drawn_here(30)), 0);
        assert!(picture.counts.iter().any(|count| *count == PATIENCE));
    }

    #[test]
    fn a_file_has_three_bytes_a_pixel() -> io::Result<()> {
        let mut file = Vec::new();
        Picture::new(4).write(&mut file)?;
        assert_eq!(file.len(), "P6 4 4 255\n".len() + 3 * 16);
        Ok(())
    }
}
