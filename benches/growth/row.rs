//! A row of the table: its points, what must hold between them, and how it is printed.
#![allow(dead_code, reason = "a vocabulary for all rows")]

/// How often each point of a row is measured, unless the row says otherwise.
const RUNS: usize = 5;

/// One line of the table.
pub struct Row {
    pub name: &'static str,
    /// What is measured, and of which unit it is: "an event in …".
    what: &'static str,
    /// The first is what the others are compared with.
    points: &'static [Point],
    unit: Unit,
    /// No later point is more than so many times the first one.
    times: Option<f64>,
    /// No point is more.
    most: Option<f64>,
    runs: usize,
}

/// What is measured at one number of things.
pub struct Point {
    at: &'static str,
    measure: fn() -> f64,
}

/// `at`: how many there are. `measure`: one run, in nanoseconds or whatever the row counts.
pub const fn point(at: &'static str, measure: fn() -> f64) -> Point {
    Point { at, measure }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Nanoseconds,
    /// Things, of which `what` says which.
    Each,
}

impl Row {
    pub const fn new(name: &'static str, what: &'static str, points: &'static [Point]) -> Row {
        Row { name, what, points, unit: Unit::Nanoseconds, times: None, most: None, runs: RUNS }
    }

    /// No later point may be more than so many times the first one.
    pub const fn times(self, times: f64) -> Row {
        Row { times: Some(times), ..self }
    }

    /// No point may be more.
    pub const fn at_most(self, most: f64) -> Row {
        Row { most: Some(most), ..self }
    }

    /// Its figures are no times.
    pub const fn counted(self) -> Row {
        Row { unit: Unit::Each, ..self }
    }

    /// How often each point is measured.
    pub const fn runs(self, runs: usize) -> Row {
        Row { runs, ..self }
    }

    /// The least of its runs for each point; the points take turns.
    pub fn measure(&self) -> Vec<f64> {
        let mut least = vec![f64::INFINITY; self.points.len()];
        for _ in 0..self.runs {
            for (least, point) in least.iter_mut().zip(self.points) {
                *least = least.min((point.measure)());
            }
        }
        least
    }

    /// Prints it; what it misses, if it does.
    pub fn judge(&self, figures: &[f64]) -> Option<String> {
        let Row { name, what, points, unit, times, most, .. } = self;
        if figures.len() != points.len() {
            println!("| {name} | {what} | not measured | | | | missed |");
            return Some(format!("{name}: not measured"));
        }
        let shown = |(point, figure): (&Point, &f64)| format!("{}: {}", point.at, unit.show(*figure));
        let mut cells = points.iter().zip(figures).map(shown);
        let first = cells.next().unwrap_or_default();
        let rest = cells.collect::<Vec<_>>().join("; ");
        let base = figures.first().copied().unwrap_or(f64::NAN);
        let ratio = figures.iter().skip(1).map(|figure| figure / base).fold(f64::NAN, f64::max);
        let worst = figures.iter().copied().fold(f64::NAN, f64::max);
        let must = [most.map(|most| format!("<= {}", unit.show(most))), times.map(|times| format!("x {times}"))];
        let must = must.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let misses = times.is_some_and(|times| ratio > times) || most.is_some_and(|most| worst > most);
        let verdict = if misses { "missed" } else { "" };
        println!("| {name} | {what} | {first} | {rest} | x {ratio:.2} | {must} | {verdict} |");
        misses.then(|| format!("{name}: {first}; {rest}; x {ratio:.2}, must be {must}"))
    }
}

impl Unit {
    fn show(self, figure: f64) -> String {
        match self {
            Unit::Each => format!("{figure:.1}"),
            Unit::Nanoseconds if figure < 1e3 => format!("{figure:.0} ns"),
            Unit::Nanoseconds if figure < 1e6 => format!("{:.2} µs", figure / 1e3),
            Unit::Nanoseconds if figure < 1e9 => format!("{:.2} ms", figure / 1e6),
            Unit::Nanoseconds => format!("{:.2} s", figure / 1e9),
        }
    }
}

pub fn print_head() {
    println!("| row | what | few | many | ratio | must | |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
}
