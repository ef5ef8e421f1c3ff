//! What workers log and print, in the log over here.

use super::link::Link;
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
    begun: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(level: Level, link: &Arc<Link>) -> Self {
        Lines { level, link: Arc::clone(link), begun: Vec::new() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.begun.len() >= LONGEST {
                self.finish();
            }
        }
    }

    /// What there is of a line, as one.
    pub(crate) fn finish(&mut self) {
        for piece in self.begun.chunks(LONGEST) {
            let line = String::from_utf8_lossy(piece);
            let line = line.trim_end_matches(['\n', '\r']);
            if !line.is_empty() {
                pass_on(&self.link, self.level, Cow::Borrowed(TARGET), line);
            }
        }
        self.begun.clear();
    }
}
