//! What workers log and print, in the log over here.

use crate::sys::unwind;
use log::{Level, Record};

const TARGET: &str = "threadbus::worker";

/// A longer line is cut into pieces.
const LONGEST: usize = 8 * 1024;

/// A record of a worker's log, under its own target. The program's logger may panic; whoever reads a worker's socket must not.
pub(crate) fn pass_on(pid: u32, level: Level, target: &str, text: &str) {
    let _ = unwind::catch(|| {
        if level <= log::max_level() {
            log::logger()
                .log(&Record::builder().level(level).target(target).args(format_args!("worker {pid}: {text}")).build());
        }
    });
}

/// Bytes come in, lines go to the log.
pub(crate) struct Lines {
    level: Level,
    pid: u32,
    begun: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(level: Level, pid: u32) -> Self {
        Lines { level, pid, begun: Vec::new() }
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
                pass_on(self.pid, self.level, TARGET, line);
            }
        }
        self.begun.clear();
    }
}
