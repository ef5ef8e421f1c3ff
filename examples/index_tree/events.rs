//! What travels on the bus. These events never become JSON, so `impl Payload` is all they need.

use std::io;
use std::path::Path;
use std::sync::Arc;
use threadbus::{Payload, WaitError};

/// The walker came across a regular file.
pub(crate) struct FileFound {
    pub(crate) path: Arc<Path>,
}

impl Payload for FileFound {
    type Output = FileStats;
}

/// A file is to be read.
pub(crate) struct FileRead {
    pub(crate) path: Arc<Path>,
}

impl Payload for FileRead {
    type Output = FileStats;
}

/// What one file holds, counted as `wc` does: lines are newline characters, words are runs between white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStats {
    pub(crate) lines: u64,
    pub(crate) words: u64,
    pub(crate) bytes: u64,
    pub(crate) hash: blake3::Hash,
}

/// Why a file is not in the index.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot be opened: {0}")]
    Open(#[source] io::Error),
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    #[error(transparent)]
    NotUtf8(#[from] NotUtf8),
    #[error("given up: {0}")]
    GivenUp(#[from] WaitError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not UTF-8 from byte {offset} on")]
pub(crate) struct NotUtf8 {
    pub(crate) offset: u64,
}

impl ReadError {
    /// The same words for all files that fail alike.
    pub(crate) fn reason(&self) -> String {
        match self {
            ReadError::Open(error) => format!("cannot be opened: {}", error.kind()),
            ReadError::Read(error) => format!("cannot be read: {}", error.kind()),
            ReadError::NotUtf8(_) => "not UTF-8".to_owned(),
            ReadError::GivenUp(_) => self.to_string(),
        }
    }
}
