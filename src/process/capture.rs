//! What a command writes, as it comes: the end of each stream is kept, and a callback gets the lines.

use super::command::Command;
use super::excerpt::{SHOWN, show};
use super::output::{Captured, OutputLine, Stream};
use super::text::{self, LONGEST_LINE, Lines};
use crate::sys::sync::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// The last bytes of a stream.
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

    /// The bytes kept, from the beginning of a character on, and how many came before them.
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

/// The ends of both streams for a failure's text, kept up to date while the command runs: the watch reads them when the handler's time is up.
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

/// Called with each line.
pub(crate) type OnLine<'l> = &'l mut dyn FnMut(OutputLine<'_>);

/// Takes what a command writes to its two streams, for the thread that runs it.
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

    /// The ends of both streams, for a failure's text.
    pub(crate) fn said(&self) -> Arc<Said> {
        Arc::clone(&self.said)
    }

    /// More of what the command has written.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let number = stream as usize;
        self.kept[number].push(bytes);
        self.said.ends[number].lock().push(bytes);
        if let Some(on_line) = &mut self.on_line {
            self.lines[number].push(bytes, |line| on_line(OutputLine::new(line, stream)));
        }
    }

    /// Hands on the last lines, which have no end.
    pub(crate) fn finish(&mut self) {
        if let Some(on_line) = &mut self.on_line {
            for (stream, lines) in Stream::BOTH.into_iter().zip(&mut self.lines) {
                lines.finish(|line| on_line(OutputLine::new(line, stream)));
            }
        }
    }

    /// What was kept of each stream, and how many bytes came before that.
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
