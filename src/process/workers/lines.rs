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

/// How many lines are kept for who asks why it ended, and how much of each.
const LAST: usize = 5;
const LAST_LENGTH: usize = 300;

/// Bytes come in, lines go to the log.
pub(crate) struct Lines {
    level: Level,
    link: Arc<Link>,
    begun: Vec<u8>,
    last: VecDeque<String>,
}

impl Lines {
    pub(crate) fn new(level: Level, link: &Arc<Link>) -> Self {
        Lines { level, link: Arc::clone(link), begun: Vec::new(), last: VecDeque::new() }
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

    /// The last lines, oldest first.
    pub(crate) fn last(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }

    fn say(&mut self) {
        let line = String::from_utf8_lossy(&self.begun);
        let line = line.trim_end_matches(['\n', '\r']);
        if !line.is_empty() {
            pass_on(&self.link, self.level, Cow::Borrowed(TARGET), line);
            if self.last.len() == LAST {
                self.last.pop_front();
            }
            self.last.push_back(line.chars().take(LAST_LENGTH).collect());
        }
        self.begun.clear();
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
