//! What the run has learnt: a plain table of the main thread, since results come back to it.

use crate::events::{FileStats, ReadError};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;
use threadbus::ResultError;

/// Of each reason for a failure, this many paths are kept.
const EXAMPLES: usize = 3;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) files: u64,
    pub(crate) lines: u64,
    pub(crate) words: u64,
    pub(crate) bytes: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.files += other.files;
        self.lines += other.lines;
        self.words += other.words;
        self.bytes += other.bytes;
    }
}

/// All files of one content.
#[derive(Debug)]
pub(crate) struct Copies {
    pub(crate) bytes: u64,
    pub(crate) first: Arc<Path>,
    pub(crate) others: Vec<Arc<Path>>,
}

/// All failures of one reason.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pub(crate) count: u64,
    /// `path: details`, the first few.
    pub(crate) examples: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By extension; empty for none.
    pub(crate) types: BTreeMap<String, Counts>,
    pub(crate) contents: HashMap<blake3::Hash, Copies>,
    pub(crate) failures: BTreeMap<String, Failures>,
    pub(crate) failed_files: u64,
    pub(crate) unlisted: u64,
    pub(crate) skipped: u64,
}

impl Index {
    pub(crate) fn add(&mut self, path: &Arc<Path>, stats: &FileStats) {
        let counts = Counts { files: 1, lines: stats.lines, words: stats.words, bytes: stats.bytes };
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        match self.types.get_mut(&*extension) {
            Some(total) => total.add(counts),
            None => drop(self.types.insert(extension.into_owned(), counts)),
        }
        self.contents
            .entry(stats.hash)
            .and_modify(|copies| copies.others.push(Arc::clone(path)))
            .or_insert_with(|| Copies { bytes: stats.bytes, first: Arc::clone(path), others: Vec::new() });
    }

    /// A file whose handler failed. The error names the handler; who reads the report wants to know what was wrong with the file.
    pub(crate) fn fail(&mut self, path: &Path, error: &ResultError) {
        self.failed_files += 1;
        let ResultError::Handler { failure, .. } = error else {
            return self.failure(error.to_string(), path, error);
        };
        match failure.downcast_ref::<ReadError>() {
            Some(error) => self.failure(error.reason(), path, error),
            None => self.failure(failure.to_string(), path, failure),
        }
    }

    /// A directory, or an entry of one, that could not be looked at.
    pub(crate) fn unlisted(&mut self, path: &Path, error: &io::Error) {
        self.unlisted += 1;
        self.failure(format!("cannot be listed: {}", error.kind()), path, error);
    }

    /// Something that is neither a file nor a directory.
    pub(crate) fn skip(&mut self) {
        self.skipped += 1;
    }

    fn failure(&mut self, reason: String, path: &Path, details: &dyn std::fmt::Display) {
        let failures = self.failures.entry(reason).or_default();
        failures.count += 1;
        if failures.examples.len() < EXAMPLES {
            failures.examples.push(format!("{}: {details}", path.display()));
        }
    }
}
