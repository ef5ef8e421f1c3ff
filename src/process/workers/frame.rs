//! Frames on the socket between a pool and a worker: length, request, body.
//!
//! The length is that of the body. The request is the number of the one that this is about, 0 for none.

use crate::exact;
use serde::Serialize;
use std::io::{self, Write};

const HEADER: usize = 4 + 8;

/// How many bytes a worker may always send, however small the limit: for records, and for why there is no answer.
pub(crate) const LEAST: usize = 256 * 1024;

/// A body that is too long for a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) length: usize,
}

/// A frame as it goes over the socket, whose body is no longer than `max`: `head`, and what `tail` appends. `tail` gets the bytes that there
/// are, and how many there may be in all.
pub(crate) fn encode(
    request: u64,
    head: &impl Serialize,
    max: usize,
    tail: impl FnOnce(&mut Vec<u8>, usize) -> Result<(), exact::Error>,
) -> Result<Vec<u8>, exact::Error> {
    let most = max.min(u32::MAX as usize).saturating_add(HEADER);
    let mut frame = vec![0; HEADER];
    exact::append(&mut frame, head, most)?;
    tail(&mut frame, most)?;
    Ok(seal(frame, request))
}

/// A frame as it goes over the socket, with these bytes for its body.
pub(crate) fn of_bytes(request: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame.extend_from_slice(body);
    seal(frame, request)
}

fn seal(mut frame: Vec<u8>, request: u64) -> Vec<u8> {
    let length = (frame.len() - HEADER) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    number(&mut frame, request);
    frame
}

/// For [`encode`]: nothing comes behind the head.
pub(crate) fn no_tail(_: &mut Vec<u8>, _: usize) -> Result<(), exact::Error> {
    Ok(())
}

/// Sets which request the frame is about.
pub(crate) fn number(frame: &mut [u8], request: u64) {
    if let Some(place) = frame.get_mut(4..HEADER) {
        place.copy_from_slice(&request.to_be_bytes());
    }
}

/// Writes the frame, in one call where the system takes all of it. Blocks.
pub(crate) fn send(mut socket: impl Write, frame: &[u8]) -> io::Result<()> {
    socket.write_all(frame)
}

/// Takes bytes as they come from a socket, and gives frames.
#[derive(Debug)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    max: usize,
}

impl Frames {
    pub(crate) fn new(max: usize) -> Self {
        Frames { bytes: Vec::new(), max }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame: which request it is about, and its body. An error stays: nothing behind it can be read.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>, TooLong> {
        let Some((header, rest)) = self.bytes.split_at_checked(HEADER) else { return Ok(None) };
        let (Ok(length), Ok(request)) = (header[..4].try_into(), header[4..].try_into()) else { return Ok(None) };
        let length = u32::from_be_bytes(length) as usize;
        if length > self.max {
            return Err(TooLong { length });
        }
        if rest.len() < length {
            return Ok(None);
        }
        let body = rest[..length].to_vec();
        self.bytes.drain(..HEADER + length);
        if self.bytes.is_empty() {
            // The memory of one large frame is not kept.
            self.bytes.shrink_to(crate::process::child::CHUNK);
        }
        Ok(Some((u64::from_be_bytes(request), body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_they_came_in() {
        let text = |n: u64| "x".repeat(n as usize * 10);
        let sent: Vec<_> =
            (1..=3).map(|n| encode(n, &text(n), 100, no_tail).unwrap_or_default()).chain([of_bytes(4, b"")]).collect();
        for step in [1, 7, 1000] {
            let mut frames = Frames::new(100);
            let mut got = Vec::new();
            for bytes in sent.concat().chunks(step) {
                frames.push(bytes);
                while let Ok(Some(frame)) = frames.next() {
                    got.push((frame.0, frame.1.len()));
                }
            }
            assert_eq!(got, [(1, 12), (2, 22), (3, 32), (4, 0)]);
        }
    }

    #[test]
    fn what_is_too_long_is_refused_on_both_sides_before_it_is_there() {
        let tail = |bytes: &mut Vec<u8>, max| exact::append(bytes, "345", max);
        assert!(encode(1, &"12", 8, tail).is_err_and(|error| error.is_too_long()));
        assert!(encode(1, &"12", 3, no_tail).is_err_and(|error| error.is_too_long()));
        let frame = encode(1, &"12", 9, tail).unwrap_or_default();
        let mut frames = Frames::new(8);
        frames.push(&frame[..HEADER]);
        assert_eq!(frames.next(), Err(TooLong { length: 9 }));
    }
}
