//! What a command writes, as it comes: the end of each stream is kept, and a callback gets the lines.

use super::command::Command;
use super::excerpt::{SHOWN, show};
use super::output::{Captured, OutputLine};
use super::text::{self, LONGEST_LINE, Lines};
use crate::sys::sync::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// The last bytes of many.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: VecDeque<u8>,
    most: usize,
    lost: u64,
}

impl Tail {
    fn new(most: usize) -> Self {
        Tail { most, ..Tail::default() }
    }

    fn push(&mut self, bytes: &[u8]) {
        let fits = &bytes[bytes.len().saturating_sub(self.most)..];
        let too_many = (self.bytes.len() + fits.len()).saturating_sub(self.most);
        self.bytes.drain(..too_many);
        self.bytes.extend(fits);
        self.lost += (too_many + bytes.len() - fits.len()) as u64;
    }

    /// It, and how many bytes came before it. Begins with a whole character.
    fn take(&mut self) -> (Vec<u8>, u64) {
        let mut bytes = Vec::from(std::mem::take(&mut self.bytes));
        if self.lost > 0 {
            let cut = text::first_whole(&bytes);
            bytes.drain(..cut);
            self.lost += cut as u64;
        }
        (bytes, self.lost)
    }
}

/// What a failure shows of both streams, kept up to date while a command runs: the watch reads it when the handler's time is up.
pub(crate) struct Said {
    program: String,
    ends: [Mutex<Tail>; 2],
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waits for command {}", self.program)?;
        let [stdout, stderr] = [&self.ends[0], &self.ends[1]].map(|end| {
            let end = end.lock();
            let mut copy = Tail { bytes: end.bytes.clone(), most: end.most, lost: end.lost };
            drop(end);
            copy.take()
        });
        show(f, ", which", (&stdout.0, stdout.1), (&stderr.0, stderr.1))
    }
}

/// Who is told of each line.
pub(crate) type OnLine<'l> = &'l mut dyn FnMut(OutputLine<'_>);

/// Takes what a command writes to its two streams.
pub(crate) struct Capture<'l> {
    kept: [Tail; 2],
    lines: [Lines; 2],
    on_line: Option<OnLine<'l>>,
    said: Arc<Said>,
}

impl<'l> Capture<'l> {
    pub(crate) fn new(command: &Command, on_line: Option<OnLine<'l>>) -> Self {
        let said = Said {
            program: command.program.to_string_lossy().into_owned(),
            ends: [(); 2].map(|()| Mutex::new(Tail::new(SHOWN))),
        };
        Capture {
            kept: [(); 2].map(|()| Tail::new(command.max_capture)),
            lines: [(); 2].map(|()| Lines::new(LONGEST_LINE)),
            on_line,
            said: Arc::new(said),
        }
    }

    /// What a failure shows.
    pub(crate) fn said(&self) -> Arc<Said> {
        Arc::clone(&self.said)
    }

    /// `stream`: 0 is the output, 1 the error output.
    pub(crate) fn push(&mut self, stream: usize, bytes: &[u8]) {
        self.kept[stream].push(bytes);
        self.said.ends[stream].lock().push(bytes);
        if let Some(on_line) = &mut self.on_line {
            self.lines[stream].push(bytes, |line| on_line(OutputLine::new(line, stream == 1)));
        }
    }

    /// Lines that have no end.
    pub(crate) fn finish(&mut self) {
        if let Some(on_line) = &mut self.on_line {
            for (stream, lines) in self.lines.iter_mut().enumerate() {
                lines.finish(|line| on_line(OutputLine::new(line, stream == 1)));
            }
        }
    }

    /// Of each stream what was kept, and how much came before that.
    pub(crate) fn take(&mut self) -> [(Captured, u64); 2] {
        self.kept.each_mut().map(|tail| {
            let (bytes, lost) = tail.take();
            (bytes.into(), lost)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_last_bytes_and_counts_the_others() {
        for most in [0, 1, 5, 100] {
            for piece in [1, 3, 7, 64] {
                let all: Vec<u8> = (0..90).collect();
                let mut tail = Tail::new(most);
                all.chunks(piece).for_each(|bytes| tail.push(bytes));
                let (bytes, lost) = tail.take();
                assert_eq!(bytes, all[90_usize.saturating_sub(most)..], "{most} {piece}");
                assert_eq!(bytes.len() as u64 + lost, 90);
            }
        }
    }

    #[test]
    fn a_tail_begins_with_a_whole_character() {
        let mut tail = Tail::new(7);
        "世界世界".as_bytes().chunks(2).for_each(|bytes| tail.push(bytes));
        assert_eq!(tail.take(), ("世界".as_bytes().to_vec(), 6));
    }
}
