//! What workers log and print, in the log over here.

use super::link::Link;
use crate::process::text;
use crate::sys::logging;
use log::Level;
use std::borrow::Cow;
use std::sync::Arc;

const TARGET: &str = "threadbus::worker";

/// A longer line is cut into pieces.
const LONGEST: usize = 8 * 1024;

/// A record of a worker's log, under its own target, is handed over: whoever reads a worker's socket knows when to end it. Not what a worker
/// says of an event that a logger has emitted, which would never end. The record's number.
pub(crate) fn pass_on(link: &Link, level: Level, target: Cow<'static, str>, text: &str) -> Option<u64> {
    let wanted = logging::takes(level) && !link.is_unlogged();
    wanted.then(|| logging::pass_on(level, target, format!("worker {}: {text}", link.pid)))
}

/// Bytes come in, lines go to the log.
pub(crate) struct Lines {
    level: Level,
    link: Arc<Link>,
    lines: text::Lines,
}

impl Lines {
    pub(crate) fn new(level: Level, link: &Arc<Link>) -> Self {
        Lines { level, link: Arc::clone(link), lines: text::Lines::new(LONGEST) }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.lines.push(bytes, |line| say(&self.link, self.level, line));
    }

    /// What there is of a line, as one.
    pub(crate) fn finish(&mut self) {
        self.lines.finish(|line| say(&self.link, self.level, line));
    }
}

fn say(link: &Link, level: Level, line: &str) {
    if !line.is_empty() {
        pass_on(link, level, Cow::Borrowed(TARGET), line);
    }
}
