//! What workers log and print, in the log over here.

use super::link::Link;
use crate::sys::logging;
use log::Level;
use std::borrow::Cow;
use std::collections::VecDeque;
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
    begun: Vec<u8>,
    last: LastWords,
}

impl Lines {
    pub(crate) fn new(level: Level, link: &Arc<Link>) -> Self {
        Lines { level, link: Arc::clone(link), begun: Vec::new(), last: LastWords::default() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.finish();
            }
            while self.begun.len() >= LONGEST {
                let rest = self.begun.split_off(whole_characters(&self.begun[..LONGEST]));
                self.say();
                self.begun = rest;
            }
        }
    }

    /// What there is of a line, as one, or as several.
    pub(crate) fn finish(&mut self) {
        while self.begun.len() > LONGEST {
            let rest = self.begun.split_off(whole_characters(&self.begun[..LONGEST]));
            self.say();
            self.begun = rest;
        }
        self.say();
    }

    /// For who asks why it ended.
    pub(crate) fn last_words(&self) -> Vec<String> {
        self.last.lines()
    }

    fn say(&mut self) {
        let line = String::from_utf8_lossy(&self.begun);
        let line = line.trim_end_matches(['\n', '\r']);
        if !line.is_empty() {
            pass_on(&self.link, self.level, Cow::Borrowed(TARGET), line);
            self.last.hear(line);
        }
        self.begun.clear();
    }
}

/// What somebody printed last: the last panic, if there was one, and else the last lines.
#[derive(Debug, Default)]
struct LastWords {
    lines: VecDeque<String>,
    /// Where it was, and its message.
    panic: Vec<String>,
    /// How many of the next lines belong to that; a trace may follow, of which nothing is kept.
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

/// How many of these bytes there are without a character that goes on behind them.
fn whole_characters(bytes: &[u8]) -> usize {
    /// The longest has four bytes.
    const BEGUN: usize = 3;
    let tail = bytes.iter().rev().take(BEGUN).position(|byte| *byte & 0xc0 != 0x80);
    match tail {
        Some(behind) if bytes[bytes.len() - 1 - behind] >= 0xc0 => {
            let first = bytes[bytes.len() - 1 - behind];
            let length = if first >= 0xf0 {
                4
            } else if first >= 0xe0 {
                3
            } else {
                2
            };
            if behind + 1 < length { bytes.len() - 1 - behind } else { bytes.len() }
        }
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::whole_characters;

    #[test]
    fn a_character_is_not_cut() {
        for (text, characters) in [("aß", 2), ("a世", 2), ("😀", 1), ("abc", 3)] {
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            assert_eq!(ends.len(), characters + 1);
            for cut in 0..=text.len() {
                let last = ends.iter().rev().find(|end| **end <= cut);
                assert_eq!(Some(&whole_characters(&text.as_bytes()[..cut])), last, "{text} at {cut}");
            }
        }
        // What is no UTF-8 is cut anywhere.
        assert_eq!(whole_characters(&[0x80; 10]), 10);
        assert_eq!(whole_characters(&[0xff, 0xff]), 1);
    }
}
