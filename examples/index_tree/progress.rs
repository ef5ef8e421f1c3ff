//! How far the run is: counted by the handlers, shown by the main thread.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The line is renewed no sooner than this after the last time.
pub(crate) const PERIOD: Duration = Duration::from_millis(200);

/// What the handlers have done so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    pub(crate) fn file_read(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn bytes_read(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// One line on a terminal, written over and over; elsewhere a line each time. Errors of stderr are nobody's concern.
pub(crate) struct ProgressLine {
    progress: Arc<Progress>,
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl ProgressLine {
    pub(crate) fn new(progress: Arc<Progress>) -> Self {
        ProgressLine { progress, started: Instant::now(), shown: None, terminal: io::stderr().is_terminal() }
    }

    /// Does nothing if it was shown a moment ago.
    pub(crate) fn show(&mut self) {
        let now = Instant::now();
        if self.shown.is_some_and(|shown| now.duration_since(shown) < PERIOD) {
            return;
        }
        self.shown = Some(now);
        let files = self.progress.files.load(Ordering::Relaxed);
        let mebibytes = self.progress.bytes.load(Ordering::Relaxed) >> 20;
        let seconds = now.duration_since(self.started).as_secs_f64();
        let (start, end) = if self.terminal { ("\r", "\x1b[K") } else { ("", "\n") };
        let _ = write!(io::stderr().lock(), "{start}{files} files, {mebibytes} MiB, {seconds:.1} s{end}");
    }

    /// Leaves the terminal's line to what comes next.
    pub(crate) fn finish(self) {
        if self.terminal && self.shown.is_some() {
            let _ = writeln!(io::stderr().lock());
        }
    }
}
