//! What workers log and print, on its way to the log of the pool's process.

use super::link::Link;
use crate::process::text;
use crate::sys::logging;
use log::Level;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

const TARGET: &str = "threadbus::worker";

/// A printed line that is longer is cut into pieces. In bytes.
const LONGEST: usize = 8 * 1024;

/// Hands a record of a worker's log to the logger's thread, so that the keeper does not wait for a slow logger. Drops what a worker says of an
/// event that a logger has emitted, which would never end. Returns the record's number.
pub(crate) fn pass_on(link: &Link, level: Level, target: Cow<'static, str>, text: &str) -> Option<u64> {
    let wanted = logging::takes(level) && !link.is_unlogged();
    wanted.then(|| logging::pass_on(level, target, format!("worker {}: {text}", link.pid)))
}

/// Takes bytes that a worker prints, and hands on their lines.
pub(crate) struct Lines {
    level: Level,
    link: Arc<Link>,
    lines: text::Lines,
    last: LastWords,
}

impl Lines {
    pub(crate) fn new(level: Level, link: &Arc<Link>) -> Self {
        Lines { level, link: Arc::clone(link), lines: text::Lines::new(LONGEST), last: LastWords::default() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let Lines { level, link, lines, last } = self;
        lines.push(bytes, |line| say(link, *level, line, last));
    }

    /// Hands on what there is of a last line without an end.
    pub(crate) fn finish(&mut self) {
        let Lines { level, link, lines, last } = self;
        lines.finish(|line| say(link, *level, line, last));
    }

    /// The lines that may say why the worker ended.
    pub(crate) fn last_words(&self) -> Vec<String> {
        self.last.lines()
    }
}

fn say(link: &Link, level: Level, line: &str, last: &mut LastWords) {
    if !line.is_empty() {
        pass_on(link, level, Cow::Borrowed(TARGET), line);
        last.hear(line);
    }
}

/// What a worker printed last: the last panic, if there was one, and else the last lines.
#[derive(Debug, Default)]
struct LastWords {
    lines: VecDeque<String>,
    /// Where the panic was, and its message.
    panic: Vec<String>,
    /// How many of the next lines belong to the panic; a trace may follow, of which nothing is kept.
    panic_goes_on: u32,
}

impl LastWords {
    fn hear(&mut self, line: &str) {
        const LINES: usize = 5;
        const LENGTH: usize = 300;
        let is_trace = ["stack backtrace:", "note: run with "].iter().any(|trace| line.starts_with(trace));
        let line: String = line.chars().take(LENGTH).collect();
        if line.contains("panicked at ") {
            self.panic = vec![line];
            self.panic_goes_on = 2;
        } else if self.panic_goes_on > 0 && !is_trace {
            self.panic.push(line);
            self.panic_goes_on -= 1;
        } else {
            self.panic_goes_on = 0;
            if self.lines.len() == LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(line);
        }
    }

    fn lines(&self) -> Vec<String> {
        if self.panic.is_empty() { self.lines.iter().cloned().collect() } else { self.panic.clone() }
    }
}
