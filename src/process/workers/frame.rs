//! Frames on the socket between a pool and a worker: length, request, JSON.
//!
//! The length is that of the JSON. The request is the number of the one that this is about, 0 for none.

use serde::Serialize;
use std::io::{self, Write};

const HEADER: usize = 4 + 8;

/// What a worker may always send, however small the limit: records, and why there is no answer.
pub(crate) const LEAST: usize = 256 * 1024;

/// What was to be a frame is too long for one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) length: usize,
}

/// A frame as it goes over the socket, if it is not longer than this.
pub(crate) fn encode(request: u64, body: &impl Serialize, max: usize) -> Result<Vec<u8>, EncodeError> {
    let mut frame = vec![0; HEADER];
    serde_json::to_writer(&mut frame, body)?;
    let length = frame.len() - HEADER;
    let short = u32::try_from(length).ok().filter(|_| length <= max).ok_or(TooLong { length })?;
    frame[..4].copy_from_slice(&short.to_be_bytes());
    number(&mut frame, request);
    Ok(frame)
}

/// Makes it be about this request.
pub(crate) fn number(frame: &mut [u8], request: u64) {
    if let Some(place) = frame.get_mut(4..HEADER) {
        place.copy_from_slice(&request.to_be_bytes());
    }
}

#[derive(Debug)]
pub(crate) enum EncodeError {
    TooLong(TooLong),
    Json(serde_json::Error),
}

impl From<TooLong> for EncodeError {
    fn from(error: TooLong) -> Self {
        EncodeError::TooLong(error)
    }
}

impl From<serde_json::Error> for EncodeError {
    fn from(error: serde_json::Error) -> Self {
        EncodeError::Json(error)
    }
}

/// In one call where the system takes it all.
pub(crate) fn send(mut socket: impl Write, frame: &[u8]) -> io::Result<()> {
    socket.write_all(frame)
}

/// Bytes come in, frames go out.
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

    /// The next whole one: what it is about, and its JSON. An error stays: nothing behind it can be read.
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
            // What one large frame took is not kept.
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
        let sent: Vec<_> =
            (1..=3u64).map(|n| encode(n, &"x".repeat(n as usize * 10), 100).unwrap_or_default()).collect();
        for step in [1, 7, 1000] {
            let mut frames = Frames::new(100);
            let mut got = Vec::new();
            for bytes in sent.concat().chunks(step) {
                frames.push(bytes);
                while let Ok(Some(frame)) = frames.next() {
                    got.push((frame.0, frame.1.len()));
                }
            }
            assert_eq!(got, [(1, 12), (2, 22), (3, 32)]);
        }
    }

    #[test]
    fn what_is_too_long_is_refused_on_both_sides_before_it_is_there() {
        assert!(matches!(encode(1, &"12345", 6), Err(EncodeError::TooLong(TooLong { length: 7 }))));
        assert!(encode(1, &"12345", 7).is_ok());
        let mut frames = Frames::new(6);
        frames.push(&encode(1, &"12345", 7).unwrap_or_default()[..HEADER]);
        assert_eq!(frames.next(), Err(TooLong { length: 7 }));
    }
}
