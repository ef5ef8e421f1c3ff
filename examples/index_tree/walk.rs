//! The files of a tree, one directory open at a time, without following symlinks.

use std::fs::{DirEntry, ReadDir, read_dir};
use std::io;
use std::path::{Path, PathBuf};

pub(crate) enum Found {
    File(PathBuf),
    /// Neither a regular file nor a directory.
    Other,
    /// A directory, or an entry of one, that could not be looked at.
    Unlisted {
        path: PathBuf,
        error: io::Error,
    },
}

/// Directories wait in a stack, so depth costs no recursion; what cannot be listed is reported and passed over.
pub(crate) struct Walk {
    pending: Vec<PathBuf>,
    open: Option<(PathBuf, ReadDir)>,
}

impl Walk {
    pub(crate) fn new(root: &Path) -> Self {
        Walk { pending: vec![root.to_owned()], open: None }
    }

    /// `None` for a directory, which is visited later.
    fn classify(&mut self, entry: &DirEntry) -> Option<Found> {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                self.pending.push(entry.path());
                None
            }
            Ok(kind) if kind.is_file() => Some(Found::File(entry.path())),
            Ok(_) => Some(Found::Other),
            Err(error) => Some(Found::Unlisted { path: entry.path(), error }),
        }
    }
}

impl Iterator for Walk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let Some((path, entries)) = &mut self.open else {
                let path = self.pending.pop()?;
                match read_dir(&path) {
                    Ok(entries) => self.open = Some((path, entries)),
                    Err(error) => return Some(Found::Unlisted { path, error }),
                }
                continue;
            };
            match entries.next() {
                Some(Ok(entry)) => {
                    if let Some(found) = self.classify(&entry) {
                        return Some(found);
                    }
                }
                Some(Err(error)) => return Some(Found::Unlisted { path: path.clone(), error }),
                None => self.open = None,
            }
        }
    }
}
