//! How the frames kept time.

use std::io::{self, Write};
use std::time::{Duration, Instant};

pub(crate) struct Frames {
    budget: Duration,
    began: Instant,
    pumping: Instant,
    times: Vec<Duration>,
    /// How long the events of a frame took beyond the budget.
    overruns: Vec<Duration>,
    events: Vec<usize>,
    missed: u64,
    carried: u64,
}

impl Frames {
    pub(crate) fn new(budget: Duration) -> Frames {
        let (began, pumping) = (Instant::now(), Instant::now());
        let (times, overruns, events) = (Vec::new(), Vec::new(), Vec::new());
        Frames { budget, began, pumping, times, overruns, events, missed: 0, carried: 0 }
    }

    pub(crate) fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// From here on the budget counts: what the frame emits, it has emitted.
    pub(crate) fn pump(&mut self) {
        self.pumping = Instant::now();
    }

    /// `left`: events that the budget did not last for.
    pub(crate) fn end(&mut self, ran: usize, left: usize) {
        let now = Instant::now();
        self.times.push(now - self.began);
        self.overruns.push((now - self.pumping).saturating_sub(self.budget));
        self.events.push(ran);
        self.carried += u64::from(left > 0);
    }

    pub(crate) fn miss(&mut self) {
        self.missed += 1;
    }

    pub(crate) fn write(&self, out: &mut impl Write, took: Duration) -> io::Result<()> {
        let mut times = self.times.clone();
        times.sort_unstable();
        let mut events = self.events.clone();
        events.sort_unstable();
        let count = times.len();
        let total: usize = events.iter().sum();
        let rate = count as f64 / took.as_secs_f64();
        writeln!(out, "{count} ticks in {took:.2?} ({rate:.0} a second), {} missed", self.missed)?;
        let [p50, p99, worst] = [0.50, 0.99, 1.0].map(|part| at(&times, part).unwrap_or_default());
        writeln!(out, "frame time: p50 {p50:.1?}, p99 {p99:.1?}, worst {worst:.1?}")?;
        let mut overruns = self.overruns.clone();
        overruns.sort_unstable();
        let [p99, worst] = [0.99, 1.0].map(|part| at(&overruns, part).unwrap_or_default());
        writeln!(
            out,
            "budget {:.1?}: exceeded by {p99:.1?} at p99, by {worst:.1?} at worst; {} frames left events to the next",
            self.budget, self.carried
        )?;
        let [p50, most] = [0.50, 1.0].map(|part| at(&events, part).unwrap_or_default());
        let mean = total as f64 / count.max(1) as f64;
        writeln!(out, "events per frame: mean {mean:.1}, p50 {p50}, most {most}; {total} in all")
    }
}

/// Of sorted values, the one that so many are not above.
fn at<T: Copy>(sorted: &[T], part: f64) -> Option<T> {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_few_and_many() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|part| at(&hundred, part)), [Some(50), Some(99), Some(100)]);
        assert_eq!([0.5, 0.99, 1.0].map(|part| at(&[7], part)), [Some(7); 3]);
        assert_eq!(at::<u32>(&[], 0.5), None);
    }
}
